"""Which data set lies below a folder, where its volumes are, and how many were published."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ct_vlm.datasets.layout import SPLITS, CTRateLayout
from ct_vlm.errors import ConfigError, DatasetError

LAYOUTS = ("ct_rate", "radgenome")
SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation")}
"""Split to the names that folders and tables give it; the data sets prefer the first."""
_SUFFIXES = {"ct_rate": {"v2": "_fixed", "v1": ""}, "radgenome": {"preprocessed": "_preprocessed"}}
_RADGENOME_ONLY = ("train_region_mask", "valid_region_mask", "radgenome_files")
_TABLE_KINDS = ("reports", "labels", "metadata", "no_chest")

PUBLISHED: dict[str, dict[str, tuple[tuple[str, int, str], ...]]] = {
    "ct_rate": {
        "train": (
            ("volumes", 47_149, "reconstructions: the rows of train_reports.csv"),
            ("scans", 24_128, "one report each"),
            ("patients", 20_000, "of 21,304 in all"),
        ),
        "valid": (
            ("volumes", 3_039, "reconstructions: what CT-CLIP and others evaluate on"),
            ("scans", 1_564, "one report each; often mistaken for the number of patients"),
            ("patients", 1_304, "often mistaken for the number of scans"),
        ),
    },
    "radgenome": {
        "train": (
            ("volumes", 24_128, "one reconstruction of each CT-RATE scan"),
            ("scans", 24_128, "as many as volumes"),
            ("patients", 20_000, "inferred: those of CT-RATE"),
        ),
        "valid": (
            ("volumes", 1_564, "one reconstruction of each CT-RATE scan"),
            ("scans", 1_564, "as many as volumes"),
            ("patients", 1_304, "inferred: those of CT-RATE"),
        ),
    },
}
"""Layout and split to unit, published number, and what it counts."""


class VolumeFolder(NamedTuple):
    """A folder that holds one release of one split."""

    path: Path
    split: str
    release: str


def detect_layouts(root: str | Path, layout: str = "auto") -> list[str]:
    """Return the layouts of the data sets below a folder.

    Args:
        root: Folder of a download.
        layout: ``ct_rate``, ``radgenome``, or ``auto`` to look.

    Raises:
        ConfigError: If the layout is unknown.
        DatasetError: If the folder does not exist or holds neither data set.

    Example:
        >>> import pathlib, tempfile
        >>> from ct_vlm.datasets.audit.layouts import detect_layouts
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pathlib.Path(folder, "dataset", "train_fixed").mkdir(parents=True)
        ...     detect_layouts(folder)
        ['ct_rate']
    """
    if layout not in {"auto", *LAYOUTS}:
        cause = f"Expected `layout` to be 'auto', 'ct_rate' or 'radgenome', but got {layout!r}."
        raise ConfigError(cause, "Use 'auto' to look at the folders.")
    paths = CTRateLayout(root)
    if layout != "auto":
        return [layout]
    tables = (place for kind in _TABLE_KINDS for split in SPLITS for place in paths.tables(kind, split))
    marks = (base / name for base in bases(root) for name in _RADGENOME_ONLY)
    found = []
    if volume_folders(root, "ct_rate") or any(map(is_file, tables)):
        found.append("ct_rate")
    if volume_folders(root, "radgenome") or any(map(is_folder, marks)):
        found.append("radgenome")
    if not found:
        cause = f"`{root}` holds no folders or tables of CT-RATE or RadGenome-ChestCT."
        raise DatasetError(cause, "Pass the folder that holds `dataset/`, or that folder itself.")
    return found


def bases(root: str | Path) -> list[Path]:
    """Return the folders below which volumes and tables may lie, the usual one first."""
    inner = Path(root) / "dataset"
    return [inner, Path(root)] if is_folder(inner) else [Path(root)]


def volume_folders(root: str | Path, layout: str) -> list[VolumeFolder]:
    """Return the folders of volumes that exist, by split and release, the preferred name first."""
    return [
        VolumeFolder(base / f"{name}{suffix}", split, release)
        for split in SPLITS
        for release, suffix in _SUFFIXES[layout].items()
        for name in SPLIT_NAMES[split]
        for base in bases(root)
        if is_folder(base / f"{name}{suffix}")
    ]


def is_folder(path: Path) -> bool:
    """Tell whether a folder exists; one that may not be looked at does not (`Path.is_dir` would raise)."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Tell whether a file exists; one that may not be looked at does not (`Path.is_file` would raise)."""
    return os.path.isfile(path)  # noqa: PTH113
