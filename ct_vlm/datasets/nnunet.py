"""Cases of a segmentation data set in nnU-Net's raw layout, with images there or in a CT-RATE tree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.datasets.index import IndexBuilder, IndexOptions
from ct_vlm.datasets.index_report import IndexReport
from ct_vlm.datasets.layout import CTRateLayout, VolumeName, parse_volume_name
from ct_vlm.datasets.sample import Sample
from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SPLITS = ("train", "valid", "all")


@dataclass(frozen=True)
class SegmentationCase:
    """One labelled volume.

    Args:
        sample: The image, as a CT-RATE index knows it.
        labels: Its label map.
        hu_source: HU rule of the image.
    """

    sample: Sample
    labels: Path
    hu_source: str


def find_root(root: str | Path) -> Path:
    """Return the folder that holds ``dataset.json``: the root, or ``segmentation`` below it.

    Raises:
        DatasetError: If neither does.
    """
    for folder in (Path(root), Path(root) / "segmentation"):
        if (folder / "dataset.json").is_file():
            return folder
    cause = f"No `dataset.json` in `{root}` or `{Path(root) / 'segmentation'}`."
    raise DatasetError(cause, "Pass a data set in nnU-Net's raw layout.")


def read_description(folder: Path) -> tuple[dict[str, int], str]:
    """Return label names with their ids, and the file ending, of a ``dataset.json``.

    Raises:
        DatasetError: If it is malformed.
    """
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        labels = {str(name): int(value) for name, value in description["labels"].items()}
        ending = str(description.get("file_ending", ".nii.gz"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"`{path}` cannot be used: {error!r}."
        raise DatasetError(cause, 'Give it `"labels": {name: id}` with one whole number a name.') from error
    if len(set(labels.values())) != len(labels) or min(labels.values(), default=0) < 0:
        cause = f"`{path}` gives labels ids that repeat or are negative: {labels}."
        raise DatasetError(cause, "Give every label its own id; 0 is background.")
    return labels, ending


def patient_of(case: str) -> str:
    """Return the patient of a case; cases that are not named as in CT-RATE are their own patient."""
    name = parse_volume_name(case)
    return case if name is None else name.patient_id


def find_cases(
    folder: Path,
    ending: str,
    *,
    split: str,
    images: str | Path | None,
    hu_source: str,
    version: str,
    patients: Collection[str] | None,
) -> tuple[list[SegmentationCase], IndexReport]:
    """Return the cases of a split that have an image, and a report of the others.

    Args:
        folder: Holds ``labelsTr`` and perhaps ``imagesTr``.
        ending: File ending of images and labels.
        split: ``train`` (CT-RATE's validation patients are kept out), ``valid`` (they alone) or ``all``.
        images: CT-RATE tree that holds images by name; the folder above ``folder`` unless given.
        hu_source: HU rule; ``auto`` asks layout and header.
        version: CT-RATE version of the images.
        patients: Keep these alone.

    Raises:
        ConfigError: If the split is unknown.
        DatasetError: If patients asked for belong to CT-RATE's validation split, or nothing is left.
    """
    if split not in SPLITS:
        cause = f"Expected `split` to be one of {', '.join(SPLITS)}, but got {split!r}."
        raise ConfigError(cause, "Use 'train' unless you evaluate.")
    _refuse_validation_patients(split, patients)
    report = IndexReport(str(folder), split, "segmentation")
    labels = _label_files(folder, ending)
    report.rows = len(labels)
    kept = _select(labels, split, patients, report)
    found = _images(folder, ending, kept, images, hu_source, version)
    report.files = len(found)
    report.rows_without_file.extend(case for case in kept if case not in found)
    cases = [SegmentationCase(found[case][0], labels[case], found[case][1]) for case in kept if case in found]
    report.samples = len(cases)
    return cases, report


def _refuse_validation_patients(split: str, patients: Collection[str] | None) -> None:
    """Raise if validation patients are asked for in training."""
    wrong = sorted(patient for patient in patients or () if split == "train" and patient.startswith("valid_"))
    if wrong:
        cause = f"{len(wrong)} patients of CT-RATE's validation split were asked for in training, e.g. {wrong[0]!r}."
        raise DatasetError(cause, 'They are everyone\'s test set: leave them out, or pass `split="all"` knowingly.')


def _label_files(folder: Path, ending: str) -> dict[str, Path]:
    """Return label maps by case."""
    files = [
        path for name in ("labelsTr", "labelsTs") if (folder / name).is_dir() for path in (folder / name).iterdir()
    ]
    cases = {path.name.removesuffix(ending): path for path in sorted(files, reverse=True) if path.name.endswith(ending)}
    if not cases:
        cause = f"`{folder / 'labelsTr'}` holds no label maps that end in {ending!r}."
        raise DatasetError(cause, "Check the folder and `file_ending` in `dataset.json`.")
    return dict(sorted(cases.items()))


def _select(labels: Mapping[str, Path], split: str, patients: Collection[str] | None, report: IndexReport) -> list[str]:
    """Return the cases of a split."""
    kept = []
    for case in labels:
        patient = patient_of(case)
        of_validation = patient.startswith("valid_")
        if split == "train" and of_validation:
            report.validation_patients.append(case)
        elif (split == "valid" and not of_validation) or (patients is not None and patient not in patients):
            report.other_patients.append(case)
        else:
            kept.append(case)
    return kept


def _images(
    folder: Path, ending: str, cases: list[str], images: str | Path | None, hu_source: str, version: str
) -> dict[str, tuple[Sample, str]]:
    """Return the image of each case with its HU rule, from ``imagesTr`` or from a CT-RATE tree."""
    found: dict[str, tuple[Sample, str]] = {}
    elsewhere = set()
    for case in cases:
        places = [folder / name / f"{case}_0000{ending}" for name in ("imagesTr", "imagesTs")]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            elsewhere.add(case)
            continue
        name = parse_volume_name(case) or VolumeName(case, case, case, "", 1)
        found[case] = (Sample(name, path), "header" if hu_source == "auto" else hu_source)
    if not elsewhere:
        return found
    root = folder.parent if images is None else Path(images)
    for part in sorted({name.split for name in map(parse_volume_name, elsewhere) if name is not None}):
        options = IndexOptions(text=None, labels=False, exclude_no_chest=False, hu_source=hu_source)
        samples, report = IndexBuilder(CTRateLayout(root), part, version, options).build(quiet=True)
        rule = {"v1": "csv", "v2": "fixed"}[report.version] if hu_source == "auto" else hu_source
        found.update({s.name.volume_id: (s, rule) for s in samples if s.name.volume_id in elsewhere})
    return found
