"""From folders and tables of RadGenome-ChestCT to a list of samples and a report of everything left out."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.index import warn_of
from ct_vlm.datasets.index_files import drop_names, list_volumes, match_names
from ct_vlm.datasets.radgenome.layout import expected_volume, masks_of
from ct_vlm.datasets.radgenome.masks import find_masks
from ct_vlm.datasets.radgenome.report import RadGenomeReport
from ct_vlm.datasets.radgenome.texts import WHOLE, RegionTexts
from ct_vlm.datasets.sample import Sample
from ct_vlm.datasets.tables import parse_labels, read_table
from ct_vlm.errors import DatasetError
from ct_vlm.text.region_scheme import RegionScheme, region_scheme
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from ct_vlm.datasets.layout import VolumeName
    from ct_vlm.datasets.radgenome.layout import RadGenomeLayout

RARE = ("breast", "thyroid")
"""Regions that most scans have no mask of."""


@dataclass(frozen=True)
class RegionSample(Sample):
    """One scan of RadGenome-ChestCT, as the index knows it.

    Args:
        region_reports: Text of each region that has one, in the order of the regions.
    """

    region_reports: Mapping[str, str] = field(default_factory=dict)


@dataclass
class RadGenomeOptions:
    """What an index should hold; the arguments of :class:`ct_vlm.datasets.RadGenomeDataset`."""

    scheme: RegionScheme = field(default_factory=region_scheme)
    masks: bool = True
    text: str | None = "regions"
    region_template: str = "{text}"
    missing_text: str = "exclude"
    missing_mask: str = "absent"
    labels: Sequence[str | Path] = ()
    patients: Collection[str] | None = None
    exclude: Collection[str] = ()
    check_files: bool = True


class RadGenomeIndex:
    """Joins the files and tables of one split.

    Args:
        layout: Where things are.
        split: ``train`` or ``valid``.
        options: What is wanted.
    """

    def __init__(self, layout: RadGenomeLayout, split: str, options: RadGenomeOptions) -> None:
        self.layout = layout
        self.split = split
        self.options = options
        self.folder = layout.volume_folder(split)
        self.mask_folder = layout.mask_folder(split, options.scheme.level) if options.masks else None
        self.report = RadGenomeReport(str(layout.root), split, "preprocessed")

    def build(self) -> tuple[list[RegionSample], RadGenomeReport]:
        """Return the samples in order of their names, and the report.

        Raises:
            DatasetError: If a table is missing or malformed, or masks are missing that must not be.
        """
        options, report = self.options, self.report
        files = list_volumes(self.folder, self.split, report) if options.check_files else None
        texts = None if options.text is None else self._texts()
        if texts is None and files is None:
            cause = "An index needs a table or the files, but `text` and `check_files` are off."
            raise DatasetError(cause, "Leave `check_files=True`.")
        names = match_names(texts, files, self.split, report)
        names = drop_names(names, report, options.patients, options.exclude)
        if self.mask_folder is not None and options.check_files:
            self._check_masks(names, self.mask_folder)
        labels = self._labels()
        samples = []
        for name in names:
            path = expected_volume(self.folder, name) if files is None else files[name.volume_id]
            sample = self._sample(name, path, texts, labels)
            if sample is not None:
                samples.append(sample)
        report.samples = len(samples)
        warn_of(report)
        return samples, report

    def _texts(self) -> dict[str, dict[str, str]]:
        """Return every listed volume with the texts it has."""
        path = self.layout.require_table("region_report", self.split)
        self.report.tables["region_report"] = str(path)
        table = read_table(path)
        self.report.rows = len(table)
        texts = RegionTexts(self.options.scheme, self.report).read(table, path)
        return {str(name): texts.get(str(name), {}) for name in table.index.unique()}

    def _labels(self) -> dict[str, tuple[float, ...]] | None:
        """Return the labels of each volume out of CT-RATE's tables."""
        if not self.options.labels:
            return None
        labels: dict[str, tuple[float, ...]] = {}
        for path in self.options.labels:
            labels.update(parse_labels(read_table(path), path))
        self.report.tables["labels"] = ", ".join(map(str, self.options.labels))
        return labels

    def _sample(
        self,
        name: VolumeName,
        path: Path,
        texts: dict[str, dict[str, str]] | None,
        labels: dict[str, tuple[float, ...]] | None,
    ) -> RegionSample | None:
        """Return a volume with its texts and labels, or ``None`` if it lacks the text."""
        key, options = name.volume_id, self.options
        arguments: dict[str, Any] = {"name": name, "path": path}
        if texts is not None:
            regions = region_texts(texts[key], options.scheme)
            report = texts[key].get(WHOLE, "") if options.text == WHOLE else merged(regions, options.region_template)
            if not report:
                self.report.missing_text.append(key)
                if options.missing_text == "exclude":
                    return None
            arguments |= {"report": report, "region_reports": regions}
        if labels is not None and key not in labels:
            self.report.missing_labels.append(key)
        return RegionSample(**arguments, labels=None if labels is None else labels.get(key))

    def _check_masks(self, names: Sequence[VolumeName], folder: Path) -> None:
        """List missing masks; raise if there must be none, or if a name is that of no mask at all."""
        scheme, report = self.options.scheme, self.report
        wanted = tuple(dict.fromkeys(m for index in range(len(scheme.names)) for m in scheme.masked(index)))
        seen: set[str] = set()
        lacking: list[str] = []
        for name in names:
            masks = find_masks(masks_of(folder, name.volume_id), wanted)
            seen |= set(masks)
            odd = [f.name for m, f in masks.items() if not f.name.startswith(f"{m}.")]
            report.odd_case.extend(f"{name.volume_id}: {file}" for file in odd)
            missing = [member for member in wanted if member not in masks and member not in RARE]
            if not masks and not masks_of(folder, name.volume_id).is_dir():
                report.missing_mask_folders.append(name.volume_id)
            elif missing:
                report.missing_masks.append(f"{name.volume_id}: {', '.join(missing)}")
            lacking.extend(f"{name.volume_id}: {member}" for member in missing)
        if names and scheme.level == "anatomy":
            _check_known(wanted, seen, masks_of(folder, names[0].volume_id))
        if lacking and self.options.missing_mask == "error":
            raise _missing(lacking, folder)


def region_texts(members: Mapping[str, str], scheme: RegionScheme) -> dict[str, str]:
    """Return the text of each region that has one: its members' texts, one after the other.

    Args:
        members: Text of regions or anatomies as published.
        scheme: The regions that are wanted.

    Example:
        >>> from ct_vlm.datasets.radgenome import region_scheme
        >>> from ct_vlm.datasets.radgenome.index import region_texts
        >>> region_texts({"pleura": "No effusion.", "lung": "Clear."}, region_scheme("six"))
        {'lung': 'Clear. No effusion.'}
    """
    joined = {
        name: " ".join(members[member] for member in parts if member in members)
        for name, parts in zip(scheme.names, scheme.members, strict=True)
    }
    return {name: text for name, text in joined.items() if text}


def merged(regions: Mapping[str, str], template: str) -> str:
    """Return one report of the texts of regions, in their order.

    Args:
        regions: Region to text.
        template: Form of each; fields ``{text}``, ``{region}`` and ``{Region}`` (capitalised).

    Example:
        >>> from ct_vlm.datasets.radgenome.index import merged
        >>> merged({"lung": "Clear.", "bone": "No fracture."}, "{Region}: {text}")
        'Lung: Clear. Bone: No fracture.'
    """
    return " ".join(
        template.format(region=name, Region=name[:1].upper() + name[1:], text=text) for name, text in regions.items()
    )


def require_masks(found: Collection[str], members: Iterable[Sequence[str]], volume_id: str, folder: str | Path) -> None:
    """Raise if a volume lacks a mask other than those that most scans lack.

    Args:
        found: Regions or anatomies that have a file.
        members: Those that should.
        volume_id: The volume.
        folder: Where masks lie.

    Raises:
        DatasetError: If one is missing.
    """
    wanted = dict.fromkeys(member for part in members for member in part)
    lacking = [f"{volume_id}: {member}" for member in wanted if member not in found and member not in RARE]
    if lacking:
        raise _missing(lacking, folder)


def _missing(lacking: Sequence[str], folder: str | Path) -> DatasetError:
    """Return the error about missing masks."""
    cause = f"{len(lacking)} masks are missing below `{folder}`, e.g. {'; '.join(lacking[:3])}."
    return DatasetError(cause, 'Restore them, list the volumes in `exclude`, or pass `missing_mask="absent"`.')


def _check_known(wanted: Sequence[str], seen: set[str], example: Path) -> None:
    """Raise if no volume has a mask of some anatomy: its name is mistyped."""
    unknown = [member for member in wanted if member not in seen and member not in RADGENOME_REGIONS]
    if unknown:
        known = sorted(file.name.removesuffix(".gz").removesuffix(".nii") for file in example.glob("*.nii*"))
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        cause = f"No volume has a mask of {', '.join(map(repr, unknown))}."
        raise DatasetError(cause, f"{hint}`{example}` holds {len(known)} masks, e.g. {', '.join(known[:5])}.")
