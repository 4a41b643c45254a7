"""A small slice encoder that knows phantoms, trained once on phantoms of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader, Dataset

from ct_vlm.cli.demo.training import train_stage
from ct_vlm.encoders import SliceEncoder
from ct_vlm.files import write_json
from ct_vlm.metrics.functional import classifier_scores
from ct_vlm.modules import PatchSegmentationDecoder
from ct_vlm.phantoms import SEGMENTATION_CLASSES, make_phantom
from ct_vlm.phantoms.schema import FINDING_OFFSET
from ct_vlm.tasks import OptimizerConfig, SegmentationLightningModule
from ct_vlm.transforms import CTPreset, get_preset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.studies.medregion.recipe import PretrainRecipe, Shape

FIRST_SEED = 2**31
"""Trees of phantoms draw smaller seeds, so that no phantom of pretraining comes back."""


def study_preset(shape: Shape) -> CTPreset:
    """Return the preprocessing of the studies: three windows on the phantoms' own grid."""
    windows = get_preset("phantom").windows
    return CTPreset(name="study", size=shape, windows=windows, norm="unit", notes="Grid of the studies' phantoms.")


class SliceDraws(Dataset[dict[str, Any]]):
    """Looks at volumes, each of which shows some of their slices.

    Args:
        volumes: HU.
        segmentations: Label maps.
        slices: Slices a look.
        looks: How many; volumes are shuffled and used up before any comes again.
        preset: Windows the slices.
        seed: Decides volumes and slices.

    Shape:
        - volumes, segmentations: ``(N, D, H, W)``.
    """

    def __init__(
        self,
        volumes: NDArray[np.int16],
        segmentations: NDArray[np.uint8],
        preset: CTPreset,
        *,
        slices: int,
        looks: int,
        seed: int,
    ) -> None:
        self.volumes, self.segmentations, self.preset = volumes, segmentations, preset
        self.slices, self.seed = slices, seed
        rounds = -(-looks // len(volumes))
        rng = np.random.default_rng(seed)
        self.order = np.concatenate([rng.permutation(len(volumes)) for _ in range(rounds)])[:looks]

    def __len__(self) -> int:
        """Return the number of looks."""
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return some slices of a volume, in their order."""
        volume = self.order[index]
        drawn = np.random.default_rng((self.seed, index)).permutation(self.volumes.shape[1])
        chosen = np.sort(drawn[: self.slices])
        hu = torch.from_numpy(self.volumes[volume, chosen])
        return {
            "image": self.preset.window(hu[None, None])[0],
            "segmentation": torch.from_numpy(self.segmentations[volume, chosen]),
        }


def pretrained_encoder(out: Path, recipe: PretrainRecipe, shape: Shape, *, progress: bool) -> SliceEncoder:
    """Return the encoder of a folder, trained now if there is none; frozen.

    Args:
        out: Folder of weights and scores.
        recipe: Settings.
        shape: Grid of the phantoms.
        progress: Show a progress bar.
    """
    task = train_stage(
        lambda: _task(recipe),
        lambda: _data(recipe, shape),
        out,
        steps=recipe.steps,
        processes=1,
        progress=progress,
    )
    if not (out / "scores.json").is_file():
        scores = evidence_scores(task, recipe, shape)
        write_json(out / "scores.json", scores)
    config = task.encoder.to_config()["init_args"]
    encoder = SliceEncoder(**{**config, "frozen": True})
    encoder.load_state_dict(task.encoder.state_dict())
    return encoder.eval()


@torch.no_grad()
def evidence_scores(task: SegmentationLightningModule, recipe: PretrainRecipe, shape: Shape) -> dict[str, Any]:
    """Return how well single patches and mean tokens of slices tell a scan's findings, on unseen phantoms.

    The strongest evidence of a scan stands for the scan; nothing is fitted to these phantoms.

    Args:
        task: Trained task.
        recipe: Settings.
        shape: Grid of the phantoms.
    """
    task.eval()
    preset, first = study_preset(shape), FINDING_OFFSET - 1
    found: dict[str, list[torch.Tensor]] = {"patches": [], "slices": []}
    labels = []
    for seed in range(recipe.phantoms, recipe.phantoms + recipe.checks):
        phantom = make_phantom(FIRST_SEED + seed, shape)
        features = task.encoder(preset.window(torch.from_numpy(phantom.volume)[None, None]))
        if task.presence is not None and task.slice_presence is not None:
            found["patches"].append(task.presence(features)[0][..., first:].amax(1))
            found["slices"].append(task.slice_presence(features)[:, first:].flatten(2).amax(2))
        labels.append(torch.from_numpy(phantom.labels).float())
    known = torch.stack(labels)
    scores = {name: classifier_scores(torch.cat(rows).sigmoid(), known) for name, rows in found.items()}
    macro = {name: float(values["macro_auroc"]) for name, values in scores.items()}
    return {"phantoms": len(labels), "macro_auroc": macro}


def _task(recipe: PretrainRecipe) -> SegmentationLightningModule:
    """Return the untrained task: what each patch holds, and what each slice's mean token tells."""
    seed_everything(0, verbose=False)
    encoder = SliceEncoder(
        recipe.backbone, recipe.layers, 3, frozen=False, chunk_size=recipe.batch_size * recipe.slices
    )
    decoder = PatchSegmentationDecoder(encoder.level_dims, len(SEGMENTATION_CLASSES))
    return SegmentationLightningModule(
        encoder,
        decoder,
        OptimizerConfig("muon", lr=recipe.lr),
        presence_levels=(len(recipe.layers) - 1,),
        slice_grid=(1, 2),
        dice_weight=0.0,
    )


def _data(recipe: PretrainRecipe, shape: Shape) -> LightningDataModule:
    """Return the slices to learn from."""
    drawn = list(_phantoms(recipe.phantoms, shape))
    looks = SliceDraws(
        np.stack([hu for hu, _ in drawn]),
        np.stack([labels for _, labels in drawn]),
        study_preset(shape),
        slices=recipe.slices,
        looks=recipe.steps * recipe.batch_size,
        seed=0,
    )
    data = LightningDataModule()
    data.train_dataloader = lambda: DataLoader(looks, batch_size=recipe.batch_size)  # type: ignore[method-assign]
    return data


def _phantoms(count: int, shape: Shape) -> Iterator[tuple[NDArray[np.int16], NDArray[np.uint8]]]:
    for seed in range(count):
        phantom = make_phantom(FIRST_SEED + seed, shape)
        yield phantom.volume, phantom.segmentation
