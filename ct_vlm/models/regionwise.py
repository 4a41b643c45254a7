"""One volume, many texts: which region of which sample is asked for, and what is learnt of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import DatasetError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.text.region_prompts import RegionPrompts


@dataclass
class RegionRows:
    """Texts of a decoder batch, each about one region of one sample.

    Args:
        samples: Sample of the batch that each text is about.
        regions: Region that each text is about.
        targets: What is learnt; None in generation.
    """

    samples: list[int]
    regions: list[str]
    targets: list[str] | None = None

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.samples)

    def prompts(self, prompts: RegionPrompts, texts: Sequence[str] | None) -> list[str]:
        """Return the instruction of each text.

        Args:
            prompts: How regions are asked for.
            texts: Text of the visual context of each sample of the batch.
        """
        shown = [texts[sample] if texts else "" for sample in self.samples]
        return [prompts.render(region, text) for region, text in zip(self.regions, shown, strict=True)]


def rows_to_write(prompts: RegionPrompts, size: int) -> RegionRows:
    """Return a text for every region of every sample.

    Args:
        prompts: Names the regions.
        size: Samples of the batch.

    Example:
        >>> from ct_vlm.models.regionwise import rows_to_write
        >>> from ct_vlm.text import RegionPrompts
        >>> rows_to_write(RegionPrompts(["lung", "bone"]), 2).samples
        [0, 0, 1, 1]
    """
    names = prompts.names
    return RegionRows([i for i in range(size) for _ in names], [name for _ in range(size) for name in names])


def rows_to_learn(prompts: RegionPrompts, batch: Mapping[str, Any], *, draw: bool) -> RegionRows:
    """Return the regions that a batch teaches, in the order of samples and regions.

    Args:
        prompts: Names the regions and says what is learnt of those without a text.
        batch: Holds ``region_reports``, a dict a sample.
        draw: Whether only ``regions_per_sample`` of each sample are taken.

    Raises:
        ShapeError: If the batch has no ``region_reports``.
        DatasetError: If no region of any sample has a text.

    Example:
        >>> from ct_vlm.models.regionwise import rows_to_learn
        >>> from ct_vlm.text import RegionPrompts
        >>> rows_to_learn(RegionPrompts(["lung", "bone"]), {"region_reports": [{"bone": "No fracture."}]}, draw=False)
        RegionRows(samples=[0], regions=['bone'], targets=['No fracture.'])
    """
    reports = batch.get("region_reports")
    if reports is None:
        msg = "The model is trained region by region, but the batch holds no `region_reports`."
        raise ShapeError(msg, "Use a data set with texts of regions, e.g. `RadGenomeDataset`, or no `region_prompts`.")
    samples: list[int] = []
    regions: list[str] = []
    targets: list[str] = []
    for sample, texts in enumerate(reports):
        known = [(name, text) for name in prompts.names if (text := prompts.target(name, texts)) is not None]
        for name, text in _drawn(known, prompts.regions_per_sample if draw else None):
            samples.append(sample)
            regions.append(name)
            targets.append(text)
    if not samples:
        named = [str(name) for name in batch.get("volume_id") or ()]
        cause = f"No sample of the batch {named} has a text for any of the regions {list(prompts.names)}."
        raise DatasetError(cause, "Give model and data the same `regions`, or use `missing: normal`.")
    return RegionRows(samples, regions, targets)


def _drawn(known: list[tuple[str, str]], number: int | None) -> list[tuple[str, str]]:
    """Return so many of the entries by torch's generator, in their order."""
    if number is None or number >= len(known):
        return known
    return [known[place] for place in sorted(torch.randperm(len(known))[:number].tolist())]
