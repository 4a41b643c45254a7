"""Where CT-RATE keeps its volumes and tables, with every variant seen in downloads."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

SPLITS = ("train", "valid")
_SPLIT_ALIASES = {"train": ("train",), "valid": ("validation", "valid")}
_NAME = re.compile(r"(?P<split>train|valid)_(?P<patient>[1-9][0-9]*)_(?P<scan>[a-z]+)_(?P<recon>[1-9][0-9]*)")
_TABLES = {
    "reports": ("radiology_text_reports", "{split}_reports.csv"),
    "labels": ("multi_abnormality_labels", "{split}_predicted_labels.csv"),
    "metadata": ("metadata", "{split}_metadata.csv"),
    "no_chest": ("metadata", "no_chest_{split}.txt"),
}


class VolumeName(NamedTuple):
    """A CT-RATE volume name taken apart, e.g. ``train_1_a_2``."""

    volume_id: str
    study_id: str
    patient_id: str
    split: str
    recon: int


def parse_volume_name(name: str) -> VolumeName | None:
    """Take a volume name apart; ``None`` if it is not of the form ``train_1_a_2[.nii[.gz]]``.

    Names with folders are refused too, so no table can point outside the data set.

    Example:
        >>> from ct_vlm.datasets.layout import parse_volume_name
        >>> parse_volume_name("train_1_a_2.nii.gz").study_id
        'train_1_a'
        >>> parse_volume_name("../train_1_a_2.nii.gz") is None
        True
    """
    stem = name.strip().removesuffix(".gz").removesuffix(".nii")
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    patient = f"{match['split']}_{match['patient']}"
    return VolumeName(stem, f"{patient}_{match['scan']}", patient, match["split"], int(match["recon"]))


class CTRateLayout:
    """Paths below a CT-RATE download.

    Args:
        root: The folder that holds ``dataset/``, or that folder itself.

    Raises:
        DatasetError: If the folder does not exist.

    Example:
        >>> from ct_vlm.datasets.layout import CTRateLayout
        >>> CTRateLayout(".").tables("reports", "valid")[0].parts[-2:]
        ('radiology_text_reports', 'validation_reports.csv')
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            cause = f"There is no folder `{self.root}`."
            raise DatasetError(cause, "Pass the folder that holds CT-RATE's `dataset/`.")
        inner = self.root / "dataset"
        self.base = inner if inner.is_dir() else self.root

    def tables(self, kind: str, split: str) -> list[Path]:
        """Return the places where a table may lie, most usual first.

        Args:
            kind: ``reports``, ``labels``, ``metadata`` or ``no_chest``.
            split: ``train`` or ``valid``; files of the latter may be called ``validation``.
        """
        folder, pattern = _TABLES[kind]
        names = [pattern.format(split=alias) for alias in _SPLIT_ALIASES[check_split(split)]]
        return [
            place
            for base in self._bases()
            for name in names
            for place in (base / folder / name, base / name, base / f"dataset_{folder}_{name}")
        ]

    def find_table(self, kind: str, split: str) -> Path | None:
        """Return the first table that exists."""
        return next((place for place in self.tables(kind, split) if place.is_file()), None)

    def require_table(self, kind: str, split: str) -> Path:
        """Return the first table that exists.

        Raises:
            DatasetError: If there is none, naming where it was looked for.
        """
        found = self.find_table(kind, split)
        if found is None:
            usual = self.tables(kind, split)[0]
            cause = f"No {kind} table of split {split!r} below `{self.root}`; the usual place is `{usual}`."
            raise DatasetError(cause, "Download it, or switch off what needs it (`text=None`, `labels=False`).")
        return found

    def volume_folder(self, split: str, version: str = "auto") -> tuple[Path, str]:
        """Return the folder of a split's volumes and its version, ``v1`` or ``v2``.

        Args:
            split: ``train`` or ``valid``.
            version: ``v1`` (raw values), ``v2`` (HU), or ``auto`` for v2 where it holds volumes.

        Raises:
            ConfigError: If the version is unknown.
            DatasetError: If there is no such folder.
        """
        if version not in {"auto", "v1", "v2"}:
            cause = f"Expected `version` to be 'auto', 'v1' or 'v2', but got {version!r}."
            raise ConfigError(cause, "Use 'auto' to prefer v2.")
        versions = ("v2", "v1") if version == "auto" else (version,)
        names = [
            (f"{alias}{'_fixed' if candidate == 'v2' else ''}", candidate)
            for candidate in versions
            for alias in reversed(_SPLIT_ALIASES[check_split(split)])
        ]
        found = [(base / name, kind) for name, kind in names for base in self._bases() if (base / name).is_dir()]
        if not found:
            cause = f"No volumes of split {split!r} (version {version}) below `{self.root}`."
            raise DatasetError(cause, f"Expected a folder such as `{self.base / (split + '_fixed')}`.")
        # a download that was only begun leaves an empty folder, which must not hide a full one
        return next((place for place in found if _holds_volumes(place[0])), found[0])

    def _bases(self) -> list[Path]:
        """Return the folders below which volumes and tables may lie."""
        return [self.base] if self.base == self.root else [self.base, self.root]


def check_split(split: str) -> str:
    """Return a split's name.

    Raises:
        ConfigError: If it is neither ``train`` nor ``valid``.
    """
    if split not in SPLITS:
        cause = f"Expected `split` to be 'train' or 'valid', but got {split!r}."
        raise ConfigError(cause, "CT-RATE has no test split: its 'valid' is everyone's test set.")
    return split


def expected_path(folder: Path, name: VolumeName) -> Path:
    """Return where a volume lies below its split's folder."""
    return folder / name.patient_id / name.study_id / f"{name.volume_id}.nii.gz"


def scan_volumes(folder: Path, depth: int = 3, unreadable: list[str] | None = None) -> Iterator[os.DirEntry[str]]:
    """Yield every NIfTI file up to three folders down (patient, scan, file), sorted by name.

    Args:
        folder: Where to start.
        depth: How far down to look.
        unreadable: Takes folders below that cannot be listed; ``None`` raises at the first.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if _is_folder(entry):
                if depth > 1:
                    yield from _scan_below(Path(entry.path), depth - 1, unreadable)
            elif entry.name.endswith((".nii.gz", ".nii")):
                yield entry


def _scan_below(folder: Path, depth: int, unreadable: list[str] | None) -> Iterator[os.DirEntry[str]]:
    """Yield the files of a folder; note one that cannot be listed where there is a list for it."""
    try:
        yield from scan_volumes(folder, depth, unreadable)
    except OSError as error:
        if unreadable is None:
            raise
        unreadable.append(f"{folder}: {error.strerror or error}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _holds_volumes(folder: Path) -> bool:
    """Tell whether a folder holds a volume; a folder that cannot be listed counts, so that its error shows."""
    try:
        return next(scan_volumes(folder), None) is not None
    except OSError:
        return True
