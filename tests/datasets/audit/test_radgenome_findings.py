"""One defect of a RadGenome-ChestCT tree each, and the finding it must lead to."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from ct_vlm.datasets.audit import CODES, AuditReport, audit
from ct_vlm.text.regions import RADGENOME_REGIONS

A = "train_1_a_1"
SHAPE = (20, 18, 16)


def run(tree: Any, **options: Any) -> AuditReport:
    return audit(tree.root, workers=0, progress=False, **options)


FILES: dict[str, Any] = {
    "tree.packed_archive": lambda t: (t.base / "train_anatomy_mask.tar.gz.part-00").write_bytes(b"x"),
    "tree.wrong_nesting": lambda t: t.volume(A).parent.rename(t.volume(A).parent.with_name("train_1_a")),
    "mask.no_folder": lambda t: shutil.rmtree(t.base / "train_region_mask"),
    "mask.no_regions": lambda t: shutil.rmtree(t.mask(A).parent),
    "mask.missing_region": lambda t: t.mask(A, "breast").unlink(),
    "mask.without_volume": lambda t: shutil.copytree(t.mask(A).parent, t.mask("train_9_a_1").parent),
    "mask.bad_folder_name": lambda t: (t.base / "train_region_mask/train_1_a_1").mkdir(),
    "mask.unknown_name": lambda t: shutil.copy(t.mask(A), t.mask(A, "trachea and bronchi")),
    "mask.size_mismatch": lambda t: t.save(t.mask(A), np.ones((20, 18, 17), np.uint8)),
    "mask.affine_mismatch": lambda t: t.patch(t.mask(A), srow_z=[0, 0, 10, 30]),
    "header.truncated": lambda t: t.mask(A).write_bytes(t.mask(A).read_bytes()[:-4]),
    "header.scl_on_hu": lambda t: t.patch(t.volume(A), scl_slope=1, scl_inter=-1024),
}
TABLES: dict[str, Any] = {
    "table.missing": lambda t: t.table("vqa_size").unlink(),
    "table.two_places": lambda t: (
        shutil.copytree(t.base / "radgenome_files", t.root / "radgenome_files")
        and t.set_cell(t.table("vqa_size"), 1, "Size", "7 mm")
    ),
    "table.row_without_file": lambda t: shutil.rmtree(t.volume(A).parent),
    "table.file_without_row": lambda t: t.edit(t.table("region_report"), lambda rows: rows.__delitem__(slice(1, 5))),
    "table.duplicate_row": lambda t: t.edit(t.table("vqa_presence"), lambda rows: rows.append(rows[1])),
    "anatomy.bad_path": lambda t: t.set_cell(t.table("region_report"), 2, "Anatomy", "lung//right lung"),
    "anatomy.unknown_region": lambda t: t.set_cell(t.table("vqa_location"), 1, "Anatomy", "knee/knee"),
    "anatomy.no_region_report": lambda t: t.set_cell(t.table("region_report"), 1, "Anatomy", "lung/lung"),
    "anatomy.blank_sentence": lambda t: t.set_cell(t.table("region_report"), 1, "Sentence", "  "),
    "vqa.bad_presence": lambda t: t.set_cell(t.table("vqa_presence"), 1, "Presence", "yes"),
    "vqa.bad_size": lambda t: t.set_cell(t.table("vqa_size"), 1, "Size", "large"),
}
DEEP: dict[str, Any] = {
    "voxels.empty_mask": lambda t: t.save(t.mask(A), np.zeros(SHAPE, np.uint8)),
    "voxels.mask_values": lambda t: t.save(t.mask(A), np.full(SHAPE, 3, np.uint8)),
}


@pytest.mark.parametrize("code", [*FILES, *TABLES, *DEEP])
def test_a_defect_is_found_with_its_severity_and_no_file_is_changed(radgenome: Any, code: str) -> None:
    {**FILES, **TABLES, **DEEP}[code](radgenome)
    before = radgenome.digest()
    found = [finding for finding in run(radgenome, deep=code in DEEP).findings if finding.code == code]
    assert found, f"{code} was not found"
    assert {finding.severity for finding in found} == {CODES[code].severity}
    assert radgenome.digest() == before


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_tree_has_no_findings(radgenome: Any, deep: bool) -> None:
    report = run(radgenome, deep=deep)
    assert report.layout == "radgenome"
    assert report.findings == []
    assert report.regions == dict.fromkeys(RADGENOME_REGIONS, 3)
    assert len(report.tables) == 12
    assert (report.headers, report.voxels) == (33, 33 if deep else 0)


def test_tables_are_found_below_the_root_too(radgenome: Any) -> None:
    (radgenome.base / "radgenome_files").rename(radgenome.root / "radgenome_files")
    report = run(radgenome)
    assert report.findings == []
    assert "radgenome_files/train_vqa_size.csv" in report.tables


def test_tables_may_say_valid_as_folders_do(radgenome: Any) -> None:
    for table in sorted((radgenome.base / "radgenome_files").glob("validation_*")):
        table.rename(table.with_name(table.name.replace("validation", "valid")))
    assert run(radgenome).findings == []


def test_equal_copies_of_a_table_are_no_finding(radgenome: Any) -> None:
    shutil.copytree(radgenome.base / "radgenome_files", radgenome.root / "radgenome_files")
    assert run(radgenome).findings == []


def test_a_mask_may_state_the_same_grid_by_another_rounding(radgenome: Any) -> None:
    radgenome.patch(radgenome.mask(A), srow_z=[0, 0, 10.0001, 0.01])
    assert run(radgenome).findings == []


def test_the_usual_axes_are_those_of_most_volumes(radgenome: Any) -> None:
    for name in radgenome.NAMES:
        for path in [radgenome.volume(name), *radgenome.mask(name).parent.iterdir()]:
            radgenome.patch(path, srow_x=[10, 0, 0, 0])
    assert run(radgenome).findings == []
    radgenome.patch(radgenome.volume("valid_1_a_1"), srow_x=[-10, 0, 0, 0])
    found = {finding.code: finding.detail for finding in run(radgenome).findings}
    assert found["header.orientation"] == "axes L, P, S, usual R, P, S"


def test_missing_regions_are_named(radgenome: Any) -> None:
    for region in ("thyroid", "breast"):
        radgenome.mask(A, region).unlink()
    (finding,) = run(radgenome).findings
    assert (finding.code, finding.severity, finding.detail) == ("mask.missing_region", "info", "breast, thyroid")


def test_both_data_sets_may_share_a_root(radgenome: Any) -> None:
    (radgenome.base / "valid_fixed").mkdir()
    assert run(radgenome).layout == "ct_rate+radgenome"
    assert run(radgenome, layout="radgenome").layout == "radgenome"
