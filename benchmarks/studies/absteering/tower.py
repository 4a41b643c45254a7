"""A tower that knows phantoms: each of its tokens learns what lies in its place of the volume.

General towers have seen billions of images; this one sees a few phantoms of its own, so it is told where things are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import seed_everything
from rich.progress import track

from benchmarks.studies.absteering.loop import train
from benchmarks.studies.medregion.encoder import FIRST_SEED
from ct_vlm.component import CONFIG_NAME
from ct_vlm.encoders import VideoLMEncoder
from ct_vlm.files import atomic_path, write_json
from ct_vlm.losses import balanced_presence_loss, cell_presence
from ct_vlm.metrics.functional import classifier_scores
from ct_vlm.models.absteering import CONFIGS
from ct_vlm.modules import PresenceHead
from ct_vlm.phantoms import SEGMENTATION_CLASSES, make_phantom
from ct_vlm.phantoms.schema import FINDING_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from benchmarks.studies.absteering.recipe import StandInRecipe
    from benchmarks.studies.medregion.recipe import Shape
    from ct_vlm.transforms import CTPreset

_CLASSES = len(SEGMENTATION_CLASSES)
_SLABS = 12
GRID = (6, 4, 4)
"""Grid of the visual tokens of both tiny models."""


@dataclass
class Seen:
    """Phantoms of the stand-in.

    Args:
        volumes: HU, averaged to the slabs of the finer model.
        cells: Classes in the place of each token.
        labels: Findings.
        impressions: What their reports conclude.

    Shape:
        - volumes: ``(N, D, H, W)``.
        - cells: ``(N, C, T', H', W')``.
        - labels: ``(N, K)``.
    """

    volumes: Tensor
    cells: Tensor
    labels: Tensor
    impressions: list[str]

    def __len__(self) -> int:
        """Return the number of phantoms."""
        return len(self.labels)

    def images(self, preset: CTPreset, rows: Tensor) -> Tensor:
        """Return windowed volumes ``(B, C, D, H, W)`` on a preset's grid.

        Args:
            preset: Of a model.
            rows: Which phantoms.
        """
        slabs = int((preset.size or (0,))[0] or 0)
        found = self.volumes[rows].float().reshape(len(rows), slabs, -1, *self.volumes.shape[2:]).mean(2)
        return preset.window(found.round().to(torch.int16)[:, None])

    def batches(self, preset: CTPreset, rows: range) -> Iterator[Tensor]:
        """Yield windowed volumes, a few at a time.

        Args:
            preset: Of a model.
            rows: Which phantoms.
        """
        for start in range(rows.start, rows.stop, 16):
            yield self.images(preset, torch.arange(start, min(start + 16, rows.stop)))


def draw_phantoms(file: Path, count: int, shape: Shape, *, progress: bool) -> Seen:
    """Return phantoms that no tree holds, read from a file if they are there.

    Args:
        file: Where they are kept.
        count: How many.
        shape: Grid of the phantoms: that of the models in plane, with a multiple of their slices.
        progress: Show a progress bar.
    """
    if not file.is_file():
        volumes, cells, labels, impressions = [], [], [], []
        for number in track(range(count), "Phantoms", disable=not progress, transient=True):
            phantom = make_phantom(FIRST_SEED + number, shape)
            volumes.append(phantom.volume.reshape(_SLABS, -1, *shape[1:]).mean(1).round().astype(np.int16))
            cells.append((cell_presence(torch.from_numpy(phantom.segmentation)[None], GRID, _CLASSES)[0] > 0).numpy())
            labels.append(phantom.labels)
            impressions.append(phantom.impressions_text)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path, path.open("wb") as opened:
            np.savez(opened, volumes=volumes, cells=cells, labels=labels, impressions=impressions)
    with np.load(file) as kept:
        tensors = [torch.from_numpy(kept[name]) for name in ("volumes", "cells", "labels")]
        return Seen(tensors[0], tensors[1], tensors[2].float(), kept["impressions"].tolist())


def pretrained_tower(
    out: Path, backbone: str, checkpoint: Path, seen: Seen, recipe: StandInRecipe, *, progress: bool
) -> VideoLMEncoder:
    """Return the tower of a folder, trained now if there is none; frozen.

    Args:
        out: Its folder, for weights and scores.
        backbone: Family.
        checkpoint: Model with random weights, in transformers' layout.
        seen: Phantoms; the first ones are learnt from, the others scored.
        recipe: Settings.
        progress: Show progress bars.
    """
    if not (out / CONFIG_NAME).is_file():
        seed_everything(0, verbose=False)
        inputs, preset = CONFIGS["tiny"].inputs[backbone], CONFIGS["tiny"].preset[backbone]
        encoder = VideoLMEncoder(str(checkpoint), inputs, vision="full")
        head = PresenceHead(encoder.level_dims, [len(encoder.level_dims) - 1], _CLASSES - 1)
        _train(encoder, head, seen, preset, recipe, progress=progress)
        scores = evidence_scores(encoder, head, seen, preset, range(recipe.phantoms, len(seen)))
        frozen = VideoLMEncoder(str(checkpoint), inputs)
        frozen.load_state_dict(encoder.state_dict())
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "scores.json", scores)
        frozen.save_pretrained(out)
    return VideoLMEncoder.from_pretrained(out).eval()


@torch.no_grad()
def evidence_scores(
    encoder: VideoLMEncoder, head: nn.Module, seen: Seen, preset: CTPreset, rows: range
) -> dict[str, Any]:
    """Return how well the strongest token tells a scan's findings, by a linear layer.

    Args:
        encoder: Trained tower.
        head: Its linear layer.
        seen: Phantoms.
        preset: Windows of the model.
        rows: Phantoms that neither has learnt from.
    """
    encoder.eval()
    found = [head(encoder(image))[0][..., FINDING_OFFSET - 1 :].amax(1) for image in seen.batches(preset, rows)]
    scores = classifier_scores(torch.cat(found).sigmoid(), seen.labels[list(rows)])
    return {"phantoms": len(rows), "macro_auroc": float(scores["macro_auroc"])}


def _train(
    encoder: VideoLMEncoder, head: nn.Module, seen: Seen, preset: CTPreset, recipe: StandInRecipe, *, progress: bool
) -> None:
    """Train tower and linear layer."""

    def loss(rows: Tensor) -> Tensor:
        features = encoder(seen.images(preset, rows))
        logits = head(features)[0].transpose(1, 2).unflatten(2, features.grids[-1])
        return balanced_presence_loss(logits, seen.cells[rows].to(logits))

    encoder.train()
    train({"encoder": encoder, "head": head}, loss, recipe.phantoms, recipe.tower, "Tower", progress=progress)
