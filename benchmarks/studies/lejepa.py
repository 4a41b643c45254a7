"""Does LeJEPA learn on phantoms? ``python -m benchmarks.studies.lejepa --seeds 0 1 2 --out DIR``.

A slice encoder is trained on slab views without labels. Then linear probes on frozen embeddings of
slices, and of volumes (mean over slices), tell organs and findings of patients that neither saw. The
same probes read the encoder with its random weights and the principal components of the pixels.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# before numpy or torch is imported: a thread that waits for another one counts as work
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from lightning import Trainer, seed_everything  # noqa: E402
from torch import Tensor  # noqa: E402

from ct_vlm.datamodules import SlabDataModule  # noqa: E402
from ct_vlm.datasets import SlabDataset  # noqa: E402
from ct_vlm.encoders import SliceEncoder  # noqa: E402
from ct_vlm.files import write_json  # noqa: E402
from ct_vlm.metrics import EmbeddingStatistics  # noqa: E402
from ct_vlm.modules import SSLProjector  # noqa: E402
from ct_vlm.phantoms import make_phantom  # noqa: E402
from ct_vlm.phantoms.schema import FINDING_OFFSET, SEGMENTATION_CLASSES  # noqa: E402
from ct_vlm.tasks import LeJEPALightningModule, OptimizerConfig  # noqa: E402
from ct_vlm.transforms import CTPreset, SlabViews  # noqa: E402

PRESET = CTPreset("slices", windows=((-997, 888),), norm="affine", offset=142.39, scale=360.97)
TARGETS = ("slice organs", "slice findings", "volume findings")


@dataclass(frozen=True)
class Recipe:
    """Settings of the study; all are ours."""

    shape: tuple[int, int, int] = (32, 64, 64)
    train_patients: int = 120
    test_patients: int = 100
    width: int = 64
    depth: int = 2
    steps: int = 100
    batch_size: int = 64
    lr: float = 0.01
    optimizer: str = "muon"
    weight: float = 0.05
    num_directions: int = 256
    views: dict[str, Any] = field(
        default_factory=lambda: {
            "global_size": 48,
            "local_size": 32,
            "num_local": 4,
            "slab_mm": 30.0,
            "blur_probabilities": [],
        }
    )


@dataclass(frozen=True)
class Scans:
    """Phantoms with what a probe is asked."""

    items: list[dict[str, Tensor]]
    slice_labels: Tensor
    volume_labels: Tensor

    def windowed(self) -> Tensor:
        """Return the volumes as ``(B, 1, D, H, W)`` float."""
        return PRESET.window(torch.stack([item["image"] for item in self.items]))


def make_scans(seeds: Sequence[int], shape: tuple[int, int, int]) -> Scans:
    """Make phantoms; labels of slices say which classes have a voxel there."""
    items, of_slices, of_volumes = [], [], []
    for seed in seeds:
        phantom = make_phantom(seed, shape)
        items.append({"image": torch.from_numpy(phantom.volume)[None], "spacing": torch.tensor(phantom.spacing)})
        flat = torch.from_numpy(phantom.segmentation).flatten(1).long()
        of_slices.append(F.one_hot(flat, len(SEGMENTATION_CLASSES)).amax(1)[:, 1:].float())
        of_volumes.append(torch.from_numpy(phantom.labels).float())
    return Scans(items, torch.stack(of_slices), torch.stack(of_volumes))


def make_encoder(recipe: Recipe) -> SliceEncoder:
    """Return a small slice encoder with random weights."""
    sizes = {"patch_size": 8, "embed_dim": recipe.width, "depth": recipe.depth, "num_heads": recipe.width // 32}
    backbone = {"timm": "vit_tiny_patch16_224", "img_size": recipe.shape[1], "in_chans": 1, **sizes}
    return SliceEncoder(backbone, layers=(recipe.depth,), frozen=False, chunk_size=512)


def pretrain(encoder: SliceEncoder, scans: Scans, recipe: Recipe, seed: int, *, progress: bool) -> dict[str, float]:
    """Train an encoder in place; return what was logged last."""
    # batch norm: layer norms leave a model of this size at the saddle where all embeddings are equal
    projector = SSLProjector(recipe.width, 4 * recipe.width, recipe.width // 2, norm="batch")
    optimizer = OptimizerConfig(recipe.optimizer, recipe.lr, 0.04, warmup_fraction=0.1, final_factor=0.1)
    settings = {"num_directions": recipe.num_directions, "seed": seed}
    task = LeJEPALightningModule(encoder, projector, optimizer, weight=recipe.weight, sigreg=settings)
    data = SlabDataModule("", PRESET, batch_size=recipe.batch_size, seed=seed)
    # volumes in memory instead of a folder
    slabs = recipe.shape[0] // 2
    data.datasets["train"] = SlabDataset(scans.items, SlabViews(**recipe.views), slabs_per_volume=slabs, seed=seed)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=recipe.steps,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        limit_val_batches=0,
    )
    encoder.train()
    trainer.fit(task, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@torch.no_grad()
def embed(encoder: SliceEncoder, scans: Scans) -> Tensor:
    """Return the class token of each slice, ``(B, D, dim)``."""
    encoder.eval()
    return torch.cat([encoder.encode(part)[1][-1][:, :, 0] for part in scans.windowed().split(16)])


def pixel_components(train: Scans, test: Scans, count: int) -> tuple[Tensor, Tensor]:
    """Return the first principal components of the training slices, for both sets."""
    pixels = train.windowed()[:, 0].flatten(2)
    mean = pixels.flatten(0, 1).mean(0)
    centred = pixels.flatten(0, 1) - mean
    # q beyond what is kept and power iterations: exact to three digits of the spectrum
    basis = torch.svd_lowrank(centred, q=count + 16, niter=4)[2][:, :count]
    return (pixels - mean) @ basis, (test.windowed()[:, 0].flatten(2) - mean) @ basis


def probe(train: Tensor, labels: Tensor, test: Tensor, decay: float = 1e-3) -> Tensor:
    """Fit one logistic regression a label on standardised embeddings; return logits of the test set."""
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    x, weight = (train - mean) / std, torch.zeros(train.shape[1] + 1, labels.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        fit = F.binary_cross_entropy_with_logits(x @ weight[1:] + weight[0], labels, reduction="none").mean(0).sum()
        loss: Tensor = fit + decay * weight[1:].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return ((test - mean) / std @ weight[1:] + weight[0]).detach()


def auroc(logits: Tensor, labels: Tensor) -> float:
    """Return the mean area under the ROC curve over labels that both occur and are absent."""
    from sklearn.metrics import roc_auc_score

    columns = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    return float(np.mean([roc_auc_score(labels[:, k].numpy(), logits[:, k].numpy()) for k in columns]))


def score(train: Tensor, test: Tensor, scans: tuple[Scans, Scans]) -> dict[str, float]:
    """Return the macro AUROC of each target, and the effective rank of the test slices' embeddings."""
    organs = FINDING_OFFSET - 1
    slices = [part.slice_labels.flatten(0, 1) for part in scans]
    logits = probe(train.flatten(0, 1), slices[0], test.flatten(0, 1))
    whole = probe(train.mean(1), scans[0].volume_labels, test.mean(1), decay=1e-2)
    values = (
        auroc(logits[:, :organs], slices[1][:, :organs]),
        auroc(logits[:, organs:], slices[1][:, organs:]),
        auroc(whole, scans[1].volume_labels),
    )
    statistics = EmbeddingStatistics(test.shape[-1])
    statistics.update(test)
    rank = float(statistics.compute()["effective_rank"])
    return {**dict(zip(TARGETS, values, strict=True)), "effective rank": rank}


def run_seed(recipe: Recipe, seed: int, *, progress: bool = False) -> list[dict[str, Any]]:
    """Run everything for one seed: other phantoms, other weights, other views."""
    start = time.process_time()
    first = 100_000 * (seed + 1)
    train = make_scans(range(first, first + recipe.train_patients), recipe.shape)
    test = make_scans(range(first + 50_000, first + 50_000 + recipe.test_patients), recipe.shape)
    seed_everything(seed, verbose=False)
    encoder = make_encoder(recipe)
    found = {"pixel PCA": pixel_components(train, test, recipe.width)}
    found["random weights"] = (embed(encoder, train), embed(encoder, test))
    logged = pretrain(encoder, train, recipe, seed, progress=progress)
    found["LeJEPA"] = (embed(encoder, train), embed(encoder, test))
    rows: list[dict[str, Any]] = [
        {"embedding": name, "seed": seed, **score(*pair, (train, test))} for name, pair in found.items()
    ]
    rows[-1] |= {"logged": logged, "cpu seconds": time.process_time() - start}
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: mean over seeds, and the range of the seeds where there are several."""
    columns = (*TARGETS, "effective rank")
    lines = ["| embedding | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(row["embedding"] for row in rows):
        cells = []
        for column in columns:
            values = [row[column] for row in rows if row["embedding"] == name]
            digits = 1 if column == "effective rank" else 3
            spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, recipe: Recipe | None = None) -> int:
    """Run the study, write ``lejepa.json`` and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.lejepa", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where lejepa.json is written")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    args = parser.parse_args(arguments)
    settings = recipe or Recipe()
    logging.getLogger("lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        rows += run_seed(settings, seed, progress=not args.no_progress and sys.stderr.isatty())
        write_json(args.out / "lejepa.json", {"recipe": asdict(settings), "rows": rows})
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
