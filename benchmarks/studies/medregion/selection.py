"""Does it pay to keep the slices that R² pooling chooses? A probe on pooled tokens of a frozen encoder.

Every policy gives as many tokens; only the slices that are kept in detail differ. The probe has to
tell in which of six regions a lesion lies, if there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning.pytorch import seed_everything
from rich.progress import track
from torch import Tensor, nn

from benchmarks.studies.medregion.encoder import study_preset
from benchmarks.studies.medregion.lesions import PLACEMENTS, lesion_scan
from ct_vlm.metrics.functional import classifier_scores
from ct_vlm.modules import R2TokenPooling
from ct_vlm.text.regions import MEDREGION_REGIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.studies.medregion.recipe import SelectionRecipe, Shape
    from ct_vlm.encoders import SliceEncoder

_COUNT = len(MEDREGION_REGIONS)
POLICIES: dict[str, dict[str, Any]] = {
    "region_argmax": {"num_slow": 6, "slow_grid": (4, 4), "policy": "region_argmax"},
    "uniform": {"num_slow": 6, "slow_grid": (4, 4), "policy": "uniform"},
    "uniform, fewer and finer": {"num_slow": 4, "slow_grid": (4, 6), "policy": "uniform"},
}
"""Ways to choose slices, all of D + 96 tokens: R², as many uniform slices, and LITA's fewer slices."""


class TokenProbe(nn.Module):
    """Score every token for every region and keep the strongest, smoothly.

    Args:
        num_tokens: Tokens of a scan; each place has a bias of its own.
        dim: Width of a token.
        hidden: Width of the probe.

    Shape:
        - Input: ``(B, N, dim)``.
        - Output: logits ``(B, R)``.
    """

    def __init__(self, num_tokens: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, hidden)
        self.place = nn.Parameter(torch.zeros(num_tokens, hidden))
        self.out = nn.Linear(hidden, _COUNT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return one logit a region."""
        scores: Tensor = self.out(F.gelu(self.inner(self.norm(tokens)) + self.place))
        return scores.logsumexp(1) - torch.tensor(float(tokens.shape[1])).log()


def run_selection(
    encoder: SliceEncoder, shape: Shape, recipe: SelectionRecipe, seed: int, *, progress: bool
) -> list[dict[str, Any]]:
    """Return the scores of every policy and placement for one seed.

    Args:
        encoder: Frozen encoder.
        shape: Grid of the phantoms.
        recipe: Settings.
        seed: Seed of phantoms and probe.
        progress: Show progress bars.
    """
    rows = []
    for placement in PLACEMENTS:
        tokens, regions = _pooled_tokens(encoder, shape, placement, recipe, seed, progress=progress)
        target = F.one_hot(regions + 1, _COUNT + 1)[:, 1:].float()
        for policy, pooled in tokens.items():
            logits = _probe(pooled, target, recipe, seed)
            scores = _score(logits, regions[recipe.train :])
            rows.append({"seed": seed, "placement": placement, "policy": policy, "tokens": pooled.shape[1], **scores})
    return rows


@torch.no_grad()
def _pooled_tokens(
    encoder: SliceEncoder, shape: Shape, placement: str, recipe: SelectionRecipe, seed: int, *, progress: bool
) -> tuple[Mapping[str, Tensor], Tensor]:
    """Return the pooled tokens of every policy, all levels side by side, and each scan's region."""
    preset = study_preset(shape)
    poolings = {name: R2TokenPooling(**options) for name, options in POLICIES.items()}
    kept: dict[str, list[Tensor]] = {name: [] for name in poolings}
    regions = []
    count = recipe.train + recipe.held_out
    for index in track(range(count), f"Phantoms, {placement}", disable=not progress, transient=True):
        scan = lesion_scan((seed + 1) * 10**7 + index, shape, placement, recipe)
        features = encoder(preset.window(torch.from_numpy(scan.volume)[None, None]))
        batch = {"region_masks": torch.from_numpy(scan.masks)[None]}
        for name, pooling in poolings.items():
            levels = [pooling.pool_features(features, batch, level).tokens for level in range(len(features.levels))]
            kept[name].append(torch.cat(levels, dim=-1).half())
        regions.append(scan.region)
    return {name: torch.cat(tokens) for name, tokens in kept.items()}, torch.tensor(regions)


def _probe(tokens: Tensor, target: Tensor, recipe: SelectionRecipe, seed: int) -> Tensor:
    """Train a probe and return its logits of the held-out scans."""
    seed_everything(seed, verbose=False)
    known, seen = tokens[: recipe.train], target[: recipe.train]
    mean, std = known.float().mean((0, 1)), known.float().std((0, 1)) + 1e-6
    probe = TokenProbe(tokens.shape[1], tokens.shape[2], recipe.hidden)
    steps = recipe.epochs * (recipe.train // recipe.batch_size)
    optimizer = torch.optim.AdamW(probe.parameters(), recipe.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=max(steps, 2))
    for _ in range(recipe.epochs):
        for rows in torch.randperm(recipe.train).split(recipe.batch_size)[: recipe.train // recipe.batch_size]:
            loss = F.binary_cross_entropy_with_logits(probe((known[rows].float() - mean) / std), seen[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return torch.cat([probe((part.float() - mean) / std) for part in tokens[recipe.train :].split(64)])


def _score(logits: Tensor, regions: Tensor) -> dict[str, Any]:
    """Return how well regions are told, and whether the right one is the most likely where there is a lesion."""
    target = F.one_hot(regions + 1, _COUNT + 1)[:, 1:].float()
    scores = classifier_scores(logits.sigmoid(), target, MEDREGION_REGIONS)
    there = regions >= 0
    right = (logits[there].argmax(1) == regions[there]).float().mean()
    per_region = {
        name: float((logits[regions == index].argmax(1) == index).float().mean())
        for index, name in enumerate(MEDREGION_REGIONS)
        if bool((regions == index).any())
    }
    return {"macro_auroc": float(scores["macro_auroc"]), "right_region": float(right), "per_region": per_region}
