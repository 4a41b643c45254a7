"""One defect of a CT-RATE tree each, and the finding it must lead to."""

from __future__ import annotations

import gzip
import os
import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.datasets.audit import CODES, audit

if TYPE_CHECKING:
    from ct_vlm.datasets.audit import AuditReport


def run(tree: Any, **options: Any) -> AuditReport:
    return audit(tree.root, workers=0, progress=False, **options)


def shortened(tree: Any, keep: int) -> None:
    path = tree.volume("train_2_a_1")
    path.write_bytes(path.read_bytes()[:keep])


def move(tree: Any, source: Any, target: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def copy(tree: Any, source: Any, target: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def affine_of(rows: list[list[float]]) -> dict[str, Any]:
    return {"srow_x": rows[0], "srow_y": rows[1], "srow_z": rows[2], "sform_code": 1}


TURN = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]]) * [-10, -10, 10]
A = "train_2_a_1"

FILES: dict[str, Any] = {
    "tree.no_volumes": lambda t: [shutil.rmtree(t.base / name) for name in ("valid", "valid_fixed")],
    "tree.symlink_loop": lambda t: (t.base / "train_fixed/train_1/again").symlink_to(t.base / "train_fixed"),
    "tree.too_deep": lambda t: (t.base / "train_fixed/a/b/c/d/e/f/g").mkdir(parents=True),
    "tree.broken_link": lambda t: t.volume(A).with_name("train_2_a_2.nii.gz").symlink_to("nowhere.nii.gz"),
    "tree.special_file": lambda t: os.mkfifo(t.volume(A).with_name("train_2_a_2.nii.gz")),
    "tree.empty_file": lambda t: t.volume(A).write_bytes(b""),
    "tree.partial_download": lambda t: t.volume(A).with_suffix(".gz.incomplete").write_bytes(b"x"),
    "tree.unexpected_file": lambda t: t.volume(A).with_name("notes.txt").write_text("x"),
    "tree.bad_name": lambda t: copy(t, t.volume(A), t.volume(A).with_name("scan.nii.gz")),
    "tree.wrong_split": lambda t: copy(t, t.volume(A), t.base / "valid_fixed/train_2/train_2_a" / f"{A}.nii.gz"),
    "tree.wrong_nesting": lambda t: move(t, t.volume(A), t.base / "train_fixed" / f"{A}.nii.gz"),
    "tree.duplicate_volume": lambda t: copy(t, t.volume(A), t.base / "train_fixed/train_2" / f"{A}.nii.gz"),
    "tree.mixed_versions": lambda t: t.volume(A).unlink(),
    "tree.raw_in_fixed": lambda t: copy(t, t.volume(A, "v1"), t.volume(A)),
    "tree.split_folder_name": lambda t: (t.base / "valid_fixed").rename(t.base / "validation_fixed"),
    "tree.both_split_names": lambda t: copy(t, t.volume("valid_1_a_1"), t.base / "validation_fixed/valid_1/a.nii.gz"),
    "split.patient_in_both": lambda t: copy(t, t.volume(A), t.base / "valid_fixed/train_2/train_2_a" / f"{A}.nii.gz"),
    "split.same_content": lambda t: copy(t, t.volume(A), t.volume("valid_1_a_1")),
    "header.same_content": lambda t: copy(t, t.volume(A), t.volume("train_1_a_1")),
    "header.not_nifti": lambda t: t.volume(A).write_bytes(gzip.compress(b"<html>" * 200)),
    "header.damaged_gzip": lambda t: t.volume(A).write_bytes(t.volume(A).read_bytes()[:10] + b"\xff" * 900),
    "header.truncated": lambda t: shortened(t, 3000),
    "header.trailing_data": lambda t: t.volume(A).write_bytes(gzip.compress(t.content(t.volume(A)) + bytes(100))),
    "header.hostile_size": lambda t: t.patch(t.volume(A), dim=[3, 10_000, 10_000, 10_000, 1, 1, 1, 1]),
    "header.bad_dimensions": lambda t: t.patch(t.volume(A), dim=[3, 20, -18, 16, 1, 1, 1, 1]),
    "header.four_d": lambda t: t.save(t.volume(A), np.zeros((20, 18, 16, 2), np.int16)),
    "header.bad_offset": lambda t: t.patch(t.volume(A), vox_offset=np.nan),
    "header.bad_dtype": lambda t: t.patch(t.volume(A), datatype=128),
    "header.dtype": lambda t: t.save(t.volume(A), np.full((20, 18, 16), 1.5, np.float32)),
    "header.wrong_suffix": lambda t: t.volume(A).write_bytes(t.content(t.volume(A))),
    "header.no_affine": lambda t: t.patch(t.volume(A), sform_code=0, qform_code=0),
    "header.nan_affine": lambda t: t.patch(t.volume(A), srow_x=[np.nan] * 4),
    "header.degenerate_affine": lambda t: t.patch(t.volume(A), srow_x=[0] * 4),
    "header.non_axial": lambda t: t.patch(t.volume(A), **affine_of([[-10, 0, 0, 0], [0, 0, -10, 0], [0, -10, 0, 0]])),
    "header.orientation": lambda t: t.patch(t.volume(A), srow_x=[10, 0, 0, 0]),
    "header.oblique": lambda t: t.patch(t.volume(A), **affine_of([[*row, 0] for row in TURN])),
    "header.bad_spacing": lambda t: t.patch(t.volume(A), sform_code=0, qform_code=0, pixdim=[1, 0, 0, 0, 1, 1, 1, 1]),
    "header.implausible_spacing": lambda t: t.patch(t.volume(A), srow_z=[0, 0, 50, 0]),
    "header.implausible_size": lambda t: t.save(t.volume(A), np.ones((20, 18, 3), np.int16)),
    "header.spacing_mismatch": lambda t: t.patch(t.volume(A), srow_z=[0, 0, 8, 0]),
    "header.size_mismatch": lambda t: t.set_cell(t.metadata(), 3, "NumberofSlices", "17"),
    "header.scl_on_hu": lambda t: t.patch(t.volume(A), scl_slope=1, scl_inter=-1024),
    "header.bad_scl": lambda t: t.patch(t.volume(A), scl_slope=1, scl_inter=np.inf),
    "header.units": lambda t: t.patch(t.volume(A), xyzt_units=1),
}
TABLES: dict[str, Any] = {
    "table.missing": lambda t: t.labels().unlink(),
    "table.unreadable": lambda t: t.reports().write_bytes(b""),
    "table.encoding": lambda t: t.reports().write_bytes(t.reports().read_bytes().replace(b"Axial", b"Axi\xe4l")),
    "table.no_volume_column": lambda t: t.set_cell(t.labels(), 0, "VolumeName", "Name"),
    "table.missing_column": lambda t: t.drop_column(t.labels(), "Cardiomegaly"),
    "table.ragged_row": lambda t: t.metadata().write_bytes(
        t.metadata().read_bytes().replace(b'"[10.0, 10.0]"', b"[10.0, 10.0]")
    ),
    "table.blank_name": lambda t: t.set_cell(t.reports(), 3, "VolumeName", " "),
    "table.bad_name": lambda t: t.set_cell(t.reports(), 3, "VolumeName", "train_02_a_1.nii.gz"),
    "table.escaping_name": lambda t: t.set_cell(t.reports(), 3, "VolumeName", "../../train_2_a_1.nii.gz"),
    "table.wrong_split": lambda t: t.set_cell(t.reports(), 3, "VolumeName", "valid_9_a_1.nii.gz"),
    "table.duplicate_row": lambda t: t.edit(t.reports(), lambda rows: rows.append(rows[1])),
    "table.conflicting_rows": lambda t: t.edit(t.labels(), lambda rows: rows.append([rows[1][0], *["1"] * 18])),
    "table.row_without_file": lambda t: t.edit(
        t.reports(), lambda rows: rows.append(["train_7_a_1.nii.gz", *rows[1][1:]])
    ),
    "table.file_without_row": lambda t: t.edit(t.reports(), lambda rows: rows.pop()),
    "table.two_places": lambda t: (t.base / t.reports().name).write_text("VolumeName\n"),
    "table.mojibake": lambda t: t.set_cell(t.reports(), 3, "Findings_EN", "na\u00c3\u00afve"),
    "text.no_report": lambda t: [
        t.set_cell(t.reports("valid"), 1, column, text)
        for column, text in (("Findings_EN", ""), ("Impressions_EN", "nan"))
    ],
    "text.no_findings": lambda t: t.set_cell(t.reports("valid"), 1, "Findings_EN", "Not given."),
    "text.no_impressions": lambda t: t.set_cell(t.reports("valid"), 1, "Impressions_EN", "Not given."),
    "text.recons_differ": lambda t: t.set_cell(t.reports(), 2, "Findings_EN", "Something else."),
    "label.not_binary": lambda t: t.set_cell(t.labels("valid"), 1, "Cardiomegaly", "2"),
    "label.recons_differ": lambda t: t.set_cell(t.labels(), 2, "Cardiomegaly", "1"),
    "metadata.blank_spacing": lambda t: t.set_cell(t.metadata(), 3, "ZSpacing", "NaN"),
    "metadata.bad_spacing": lambda t: t.set_cell(t.metadata(), 3, "XYSpacing", "[0.0, 10.0]"),
    "metadata.implausible_spacing": lambda t: t.set_cell(t.metadata(), 3, "ZSpacing", "20"),
    "metadata.spacing_not_list": lambda t: t.set_cell(t.metadata(), 3, "XYSpacing", "10.0"),
    "metadata.blank_rescale": lambda t: t.set_cell(t.metadata(), 3, "RescaleSlope", ""),
    "metadata.bad_rescale": lambda t: t.set_cell(t.metadata(), 3, "RescaleSlope", "0"),
    "metadata.bad_orientation": lambda t: t.set_cell(t.metadata(), 3, "ImageOrientationPatient", "[1, 0, 0, 1, 0, 0]"),
    "metadata.non_axial": lambda t: t.set_cell(t.metadata(), 3, "ImageOrientationPatient", "[1, 0, 0, 0, 0, -1]"),
    "metadata.v1_without_row": lambda t: t.edit(t.metadata(), lambda rows: rows.pop()),
    "no_chest.bad_name": lambda t: t.no_chest().write_text("no volume\n"),
    "no_chest.listed": lambda t: t.no_chest().write_text(f"dataset/train/{A}.nii.gz\n"),
}


def flip_bit(path: Any) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # within the checksum
    path.write_bytes(bytes(content))


DEEP: dict[str, Any] = {
    "voxels.damaged": lambda t: flip_bit(t.volume(A)),
    "voxels.constant": lambda t: t.save(t.volume(A), np.full((20, 18, 16), -1000, np.int16)),
    "voxels.not_hu": lambda t: t.save(t.volume(A), nib.load(t.volume(A)).dataobj.get_unscaled() + np.int16(1024)),
}


@pytest.mark.parametrize("code", [*FILES, *TABLES, *DEEP])
def test_a_defect_is_found_with_its_severity_and_no_file_is_changed(ct_rate: Any, code: str) -> None:
    {**FILES, **TABLES, **DEEP}[code](ct_rate)
    pipes = [path for path in ct_rate.root.rglob("*") if path.is_fifo()]
    before = {} if pipes else ct_rate.digest()
    found = [finding for finding in run(ct_rate, deep=code in DEEP).findings if finding.code == code]
    assert found, f"{code} was not found"
    assert {finding.severity for finding in found} == {CODES[code].severity}
    assert pipes or ct_rate.digest() == before


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_tree_has_no_findings(ct_rate: Any, deep: bool) -> None:
    report = run(ct_rate, deep=deep)
    assert report.findings == []
    assert (report.headers, report.voxels) == (8, 8 if deep else 0)


def test_a_tree_of_phantoms_has_no_findings(tmp_path: Any) -> None:
    from ct_vlm.phantoms import write_ct_rate

    write_ct_rate(tmp_path / "sound", 3, shape=(32, 40, 40), workers=0, progress=False)
    report = audit(tmp_path / "sound", deep=True, workers=0, progress=False)
    assert report.findings == []
    assert report.voxels == 3


def test_every_defect_of_the_phantoms_is_found(tmp_path: Any) -> None:
    from ct_vlm.phantoms import DEFECTS, write_ct_rate

    manifest = write_ct_rate(tmp_path / "broken", 2, shape=(32, 40, 40), workers=0, progress=False, defects=True)
    report = audit(tmp_path / "broken", deep=True, workers=0, progress=False)
    expected = {
        "nan_zspacing": "metadata.blank_spacing", "nan_affine": "header.nan_affine", "non_axial": "header.non_axial",
        "head_ct": "no_chest.listed", "truncated_gz": "header.truncated", "row_without_file": "table.row_without_file",
        "file_without_row": "table.file_without_row", "four_d": "header.four_d", "empty_file": "tree.empty_file",
        "int32": "header.dtype", "not_given": "text.no_impressions", "nan_text": "text.no_report",
        "double_rescaled": "voxels.not_hu",
    }  # fmt: skip
    assert set(expected) == set(DEFECTS)
    for volume, defect in manifest.defects.items():
        named = [finding.code for finding in report.findings if volume in f"{finding.file} {finding.detail}"]
        assert expected[defect] in named, defect
    sound = {record.name for record in manifest.volumes if record.defect is None}
    assert not [finding for finding in report.findings if any(f"{name}." in finding.file for name in sound)]


def test_findings_name_the_file_the_line_and_the_value(ct_rate: Any) -> None:
    ct_rate.set_cell(ct_rate.reports(), 2, "Technique_EN", "Two\nlines.")
    ct_rate.set_cell(ct_rate.labels(), 3, "Lung nodule", "0.5")
    ct_rate.set_cell(ct_rate.reports(), 3, "Findings_EN", "")
    findings = {finding.code: finding for finding in run(ct_rate).findings}
    label, text = findings["label.not_binary"], findings["text.no_findings"]
    assert label.file == "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    assert (label.row, label.detail) == (4, "train_2_a_1, Lung nodule: '0.5'")
    assert text.row == 5  # the row above it covers two lines


def test_an_absent_column_is_one_finding_and_not_one_a_row(ct_rate: Any) -> None:
    ct_rate.drop_column(ct_rate.reports(), "Impressions_EN")
    ct_rate.drop_column(ct_rate.metadata(), "ZSpacing")
    assert [finding.code for finding in run(ct_rate).findings] == ["table.missing_column"] * 2


def test_what_is_absent_is_an_error_only_where_the_full_set_is_expected(ct_rate: Any) -> None:
    ct_rate.edit(ct_rate.reports(), lambda rows: rows.append(["train_7_a_1.nii.gz", *rows[1][1:]]))
    assert not run(ct_rate).has_errors
    full = run(ct_rate, expect="full")
    assert {f.code for f in full.findings if f.severity == "error"} == {
        "table.row_without_file",
        "count.fewer_than_published",
    }


def test_counts_stand_beside_the_published_ones(ct_rate: Any) -> None:
    counts = {(c.split, c.release, c.unit): (c.found, c.published) for c in run(ct_rate).counts}
    assert counts["train", "v2", "volumes"] == (3, 47_149)
    assert counts["train", "v2", "scans"] == (2, 24_128)
    assert counts["train", "v1", "patients"] == (2, 20_000)
    assert [counts["valid", "v2", unit] for unit in ("volumes", "scans", "patients")] == [
        (1, 3039),
        (1, 1564),
        (1, 1304),
    ]


def test_more_volumes_than_published_are_a_warning(ct_rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ct_vlm.datasets.audit import examine

    published = {"ct_rate": {"train": (("volumes", 2, ""),), "valid": (("volumes", 1, ""),)}}
    monkeypatch.setattr(examine, "PUBLISHED", published)
    codes = [(finding.code, finding.severity) for finding in run(ct_rate).findings]
    assert codes == [("count.more_than_published", "warning")] * 2  # one for each release


def test_raw_headers_of_v1_are_not_judged(ct_rate: Any) -> None:
    ct_rate.patch(ct_rate.volume(A, "v1"), srow_x=[np.nan] * 4, scl_slope=1, scl_inter=-7)
    assert run(ct_rate).findings == []


def test_v1_volumes_are_rescaled_by_their_row_before_they_are_judged(ct_rate: Any) -> None:
    ct_rate.set_cell(ct_rate.metadata(), 3, "RescaleIntercept", "0")
    found = [(f.code, f.file) for f in run(ct_rate, deep=True).findings]
    assert found == [("voxels.not_hu", "dataset/train/train_2/train_2_a/train_2_a_1.nii.gz")]
