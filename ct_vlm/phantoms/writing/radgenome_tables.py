"""The twelve CSV tables of RadGenome-ChestCT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.phantoms.facts import expected_location
from ct_vlm.phantoms.report.compose import finding_region
from ct_vlm.phantoms.schema import Finding
from ct_vlm.phantoms.streams import stream
from ct_vlm.phantoms.writing.radgenome_volume import BROKEN_REGION
from ct_vlm.phantoms.writing.tables import write_csv
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.places import find_places
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ct_vlm.phantoms.writing.manifest import VolumeRecord

COLUMNS: dict[str, tuple[str, ...]] = {
    "region_report": ("Volumename", "Anatomy", "Sentence"),
    "case_disorders": ("Volumename", "Disorders"),
    "vqa_abnormality": ("Volumename", "Anatomy", "Abnormality"),
    "vqa_location": ("Volumename", "Anatomy", "Abnormality"),
    "vqa_presence": ("Volumename", "Anatomy", "Finding", "Presence"),
    "vqa_size": ("Volumename", "Anatomy", "Abnormality", "Size"),
}
"""Table to its columns."""

Row = tuple[str, ...]


def write_radgenome_tables(root: Path, records: Sequence[VolumeRecord]) -> None:
    """Write the tables of both splits; files say "validation" where folders say "valid".

    CT-RATE's label tables, which RadGenome-ChestCT does not hold, go to ``labels`` beside ``dataset``.

    Args:
        root: Directory of the tree.
        records: Its volumes.
    """
    listed = [record for record in records if record.defect != "file_without_row"]
    for split, long in (("train", "train"), ("valid", "validation")):
        rows: dict[str, list[Row]] = {kind: [] for kind in COLUMNS}
        labels: list[Row] = []
        for record in listed:
            if record.split == split:
                file = f"{record.name}.nii.gz"
                labels.append((file, *(str(int(name in record.labels)) for name in CT_RATE_LABELS)))
                for kind, row in _rows(record):
                    rows[kind].append((file, *row))
        for kind, columns in COLUMNS.items():
            write_csv(root / f"dataset/radgenome_files/{long}_{kind}.csv", columns, rows[kind])
        columns = ("VolumeName", *CT_RATE_LABELS)
        write_csv(root / f"labels/{split}_predicted_labels.csv", columns, labels)


def anatomy_paths(finding: Finding) -> list[str]:
    """Return the anatomies of a finding as slash paths, down to lobes where the report names them.

    Args:
        finding: The fact.

    Example:
        >>> from ct_vlm.phantoms import Finding
        >>> from ct_vlm.phantoms.writing.radgenome_tables import anatomy_paths
        >>> anatomy_paths(Finding("Lung nodule", side="right", lobe="right upper lobe"))
        ['lung/lung/right lung/right lung upper lobe']
    """
    region = finding_region(finding)
    places = sorted(expected_location(finding)) if region == "lung" else []
    return _lung_paths(places) or [f"{region}/{region}"]


def _lung_paths(places: Iterable[str]) -> list[str]:
    """Return the paths of lobes ("left upper lobe") and sides ("left")."""
    paths = []
    for place in places:
        side, _, lobe = place.partition(" ")
        below = f"/{side} lung {lobe}" if lobe else ""
        paths.append(f"lung/lung/{side} lung{below}")
    return paths


def _rows(record: VolumeRecord) -> Iterator[tuple[str, Row]]:
    """Yield table and cells of every row about a volume."""
    for row in _report_rows(record):
        yield "region_report", row
    findings = [Finding(**{**facts, "bbox": None}) for facts in record.findings]
    if findings:
        yield "case_disorders", (", ".join(finding.label.lower() for finding in findings),)
    for finding in findings:
        name, paths = finding.label.lower(), anatomy_paths(finding)
        for path in dict.fromkeys([finding_region(finding), *paths]):
            yield "vqa_abnormality", (path, name)
        for path in paths:
            yield "vqa_location", (path, name)
            yield "vqa_presence", (path, name, "Yes.")
        if finding.size_mm is not None:
            yield "vqa_size", (paths[0], name, f"{finding.size_mm} mm")
    for row in _absences(record, sum(len(anatomy_paths(finding)) for finding in findings)):
        yield "vqa_presence", row


def _report_rows(record: VolumeRecord) -> list[Row]:
    """Return the whole report, the text of each region, and deeper levels that repeat parts of it."""
    rows: list[Row] = [("", record.findings_text)]
    for region, text in record.region_reports.items():
        is_broken = region == BROKEN_REGION
        name = region.capitalize() if is_broken and record.defect == "anatomy_casing" else region
        rows.append((name, "" if is_broken and record.defect == "nan_sentence" else text))
        rows.append((f"{name}/{region}", text))
        if is_broken and record.defect == "conflicting_rows":
            rows.append((name, "This sentence is about another scan."))
    below: dict[str, list[str]] = {}
    for sentence in split_sentences(record.region_reports.get("lung", "")):
        for path in _lung_paths(sorted(find_places(sentence).lobes)):
            below.setdefault(path, []).append(sentence)
    rows.extend((path, " ".join(sentences)) for path, sentences in below.items())
    return [row for row in rows for _ in range(2 if record.defect == "duplicate_rows" else 1)]


def _absences(record: VolumeRecord, present: int) -> list[Row]:
    """Return about as many absent findings as there are present ones."""
    absent = [label for label in CT_RATE_LABELS if label not in record.labels and label != "Medical material"]
    order = stream(record.seed, "absences", record.scan).permutation(len(absent))[: max(1, present)]
    regions = {label: finding_region(Finding(label)) for label in absent}
    return [(f"{regions[absent[i]]}/{regions[absent[i]]}", absent[i].lower(), "No.") for i in sorted(order.tolist())]
