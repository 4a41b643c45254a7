"""What real trees suffer from: each an error that names it or a policy, and a finding of the audit."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.datasets.audit import audit
from ct_vlm.errors import CTVLMError, DatasetError, VolumeReadError
from ct_vlm.phantoms import RADGENOME_DEFECTS
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.phantoms import PhantomManifest

LUNG = RADGENOME_REGIONS.index("lung")
CODES = {
    "mask_shape": "mask.size_mismatch",
    "mask_affine": "mask.affine_mismatch",
    "empty_mask": "voxels.empty_mask",
    "mask_labels": "voxels.mask_values",
    "truncated_mask": "voxels.truncated",
    "missing_mask": "mask.missing_region",
    "missing_folder": "mask.no_regions",
    "mask_casing": "mask.unknown_name",
    "anatomy_casing": "anatomy.unknown_region",
    "nan_sentence": "anatomy.blank_sentence",
    "duplicate_rows": "table.duplicate_row",
    "conflicting_rows": "table.conflicting_rows",
    "row_without_file": "table.row_without_file",
    "file_without_row": "table.file_without_row",
}


@pytest.fixture(scope="session")
def findings(broken: PhantomManifest) -> set[tuple[str, str]]:
    """Code and volume of everything that a deep audit says."""
    report = audit(broken.root, deep=True, workers=0, progress=False)
    return {
        (found.code, name)
        for found in report.findings
        for name in broken.defects
        if name in f"{found.file.replace('/', ' ').replace('.', ' ')} {found.detail}".replace(":", " ").split()
        or f"seg_{name}" in found.file
    }


@pytest.mark.parametrize("defect", RADGENOME_DEFECTS)
def test_the_audit_reports_it(findings: set[tuple[str, str]], by_defect: Any, defect: str) -> None:
    codes = {code for code, name in findings if name == by_defect(defect)}
    assert CODES[defect] in codes or (defect == "truncated_mask" and "header.truncated" in codes)


@pytest.mark.parametrize(
    ("defect", "match"),
    [
        ("mask_shape", r"not on the grid of its volume .* its shape is \(23, 28, 32\) and the volume's \(24, 28, 32\)"),
        ("mask_affine", "corners lie up to 3.0 voxels elsewhere"),
        ("mask_labels", r"several labels \(0 to 2\)"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_the_file(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any, defect: str, match: str
) -> None:
    with pytest.raises(DatasetError, match=match) as caught:
        item_of(open_tree(broken), by_defect(defect))
    assert f"seg_{by_defect(defect)}/lung.nii.gz" in str(caught.value)
    assert "exclude" in caught.value.cure


def test_a_truncated_mask_is_an_error(broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any) -> None:
    with pytest.raises(VolumeReadError, match=f"seg_{by_defect('truncated_mask')}/lung.nii.gz"):
        item_of(open_tree(broken, mask_mismatch="skip"), by_defect("truncated_mask"))


@pytest.mark.parametrize("defect", ["mask_shape", "mask_affine"])
def test_a_mask_on_another_grid_can_be_left_out(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any, defect: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        item = item_of(open_tree(broken, mask_mismatch="skip"), by_defect(defect))
    assert "lung.nii.gz` is left out" in caplog.text
    assert not item["region_masks"][LUNG].any()
    assert (item["region_present"][LUNG], item["region_mask_found"][LUNG]) == (False, False)
    assert item["region_text_present"][LUNG]
    assert item["region_present"].sum() >= 6


def test_a_skipped_part_leaves_the_rest_of_a_union(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any
) -> None:
    name = by_defect("mask_shape")
    six = item_of(open_tree(broken, regions="six", mask_mismatch="skip"), name)
    pleura = item_of(open_tree(broken, mask_mismatch="skip"), name)["region_masks"][RADGENOME_REGIONS.index("pleura")]
    assert np.array_equal(six["region_masks"][0], pleura)
    assert six["region_mask_found"][0]


def test_a_mask_on_another_grid_can_be_resampled(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any
) -> None:
    data = open_tree(broken, mask_mismatch="resample")
    name = by_defect("mask_affine")
    item = item_of(data, name)
    path = broken.root / f"dataset/train_region_mask/seg_{name}/lung.nii.gz"
    stored = np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0)[::-1]
    # three voxels nearer to the head are three slices less in an array from head to foot
    np.testing.assert_array_equal(item["region_masks"][LUNG, :-3], stored[3:])
    assert not item["region_masks"][LUNG, -3:].any()
    name = by_defect("mask_shape")
    item = item_of(data, name)
    path = broken.root / f"dataset/train_region_mask/seg_{name}/lung.nii.gz"
    stored = np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0)[::-1]
    np.testing.assert_array_equal(item["region_masks"][LUNG, 1:], stored)


def test_resampling_needs_both_affines(copied: PhantomManifest, open_tree: Any, item_of: Any) -> None:
    path = copied.root / "dataset/train_region_mask/seg_train_1_a_1/lung.nii.gz"
    image = nib.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    content = bytearray(image.to_bytes())
    content[252:256] = (0).to_bytes(2, "little") + (2).to_bytes(2, "little")  # an sform of zeros
    content[280:328] = bytes(48)
    path.write_bytes(content)
    for mismatch, match in (("error", "the mask has no usable affine"), ("resample", "needs both affines")):
        with pytest.raises(DatasetError, match=match):
            item_of(open_tree(copied, mask_mismatch=mismatch), "train_1_a_1")


def test_an_empty_mask_is_normal(broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any) -> None:
    item = item_of(open_tree(broken), by_defect("empty_mask"))
    assert (item["region_present"][LUNG], item["region_mask_found"][LUNG]) == (False, True)
    assert not item["region_masks"][LUNG].any()


@pytest.mark.parametrize("defect", ["missing_mask", "missing_folder"])
def test_missing_masks_are_absent(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any, defect: str
) -> None:
    data = open_tree(broken)
    name = by_defect(defect)
    item = item_of(data, name)
    gone = [LUNG] if defect == "missing_mask" else list(range(10))
    assert not item["region_mask_found"][gone].any()
    assert not item["region_present"][gone].any()
    assert not item["region_masks"][gone].any()
    assert data.report.missing_masks == [f"{by_defect('missing_mask')}: lung"]
    assert data.report.missing_mask_folders == [by_defect("missing_folder")]


def test_missing_masks_can_be_an_error(broken: PhantomManifest, open_tree: Any, by_defect: Any) -> None:
    with pytest.raises(DatasetError, match="masks are missing") as caught:
        open_tree(broken, missing_mask="error")
    assert by_defect("missing_mask") in str(caught.value)
    broken_ones = [by_defect("missing_mask"), by_defect("missing_folder")]
    assert len(open_tree(broken, missing_mask="error", exclude=broken_ones)) > 0


def test_missing_masks_are_found_when_read_where_the_tables_were_trusted(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any
) -> None:
    data = open_tree(broken, missing_mask="error", check_files=False)
    assert item_of(data, "train_1_a_1")["region_present"][LUNG]
    with pytest.raises(DatasetError, match=f"1 masks are missing .*{by_defect('missing_mask')}: lung"):
        item_of(data, by_defect("missing_mask"))


def test_another_case_is_taken_and_listed(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any
) -> None:
    data = open_tree(broken)
    assert item_of(data, by_defect("mask_casing"))["region_present"][LUNG]
    item = item_of(data, by_defect("anatomy_casing"))
    record = next(v for v in broken.volumes if v.defect == "anatomy_casing")
    assert item["region_reports"] == record.region_reports
    assert sorted(data.report.odd_case) == sorted(
        [f"{by_defect('mask_casing')}: Lung.nii.gz", f"{by_defect('anatomy_casing')}: Lung"]
    )


def test_the_published_case_comes_first(copied: PhantomManifest, open_tree: Any, item_of: Any) -> None:
    folder = copied.root / "dataset/train_region_mask/seg_train_1_a_1"
    shutil.copy(folder / "bone.nii.gz", folder / "Lung.nii.gz")
    if len(list(folder.glob("?ung.nii.gz"))) == 1:
        pytest.skip("the file system does not tell cases apart")
    data = open_tree(copied)
    item = item_of(data, "train_1_a_1")
    assert not np.array_equal(item["region_masks"][LUNG], item["region_masks"][RADGENOME_REGIONS.index("bone")])
    assert data.report.odd_case == []


def test_a_blank_sentence_is_no_text(broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any) -> None:
    data = open_tree(broken)
    item = item_of(data, by_defect("nan_sentence"))
    assert "lung" not in item["region_reports"]
    assert not item["region_text_present"][LUNG]
    assert item["region_present"][LUNG]
    assert "nan" not in item["report"].lower().split()
    assert data.report.blank_sentences == [f"{by_defect('nan_sentence')}: lung"]


@pytest.mark.parametrize("defect", ["duplicate_rows", "conflicting_rows"])
def test_the_first_of_several_rows_counts(
    broken: PhantomManifest, open_tree: Any, item_of: Any, by_defect: Any, defect: str
) -> None:
    data = open_tree(broken)
    record = next(v for v in broken.volumes if v.defect == defect)
    assert item_of(data, record.name)["region_reports"] == record.region_reports
    assert data.report.duplicate_rows == [by_defect("duplicate_rows")]
    assert data.report.conflicting_rows == [f"{by_defect('conflicting_rows')}: lung"]


def test_what_only_the_table_or_the_disk_knows_is_left_out(
    broken: PhantomManifest, open_tree: Any, by_defect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = open_tree(broken)
    assert data.report.rows_without_file == [by_defect("row_without_file")]
    assert data.report.files_without_row == [by_defect("file_without_row")]
    assert "rows without file 1, files without row 1" in caplog.text
    assert len(open_tree(broken, text=None)) == len(data) + 1


def test_an_unknown_anatomy_is_left_out_and_listed(copied: PhantomManifest, open_tree: Any) -> None:
    path = copied.root / "dataset/radgenome_files/train_region_report.csv"
    path.write_text(path.read_text().replace("train_1_a_1.nii.gz,lung,", "train_1_a_1.nii.gz,knee,"))
    data = open_tree(copied)
    assert data.report.unknown_anatomies == ["train_1_a_1: knee"]
    assert "lung" not in data.samples[0].region_reports


def test_a_table_with_other_columns_is_named(copied: PhantomManifest, open_tree: Any) -> None:
    path = copied.root / "dataset/radgenome_files/train_region_report.csv"
    path.write_text(path.read_text().replace("Volumename,Anatomy,Sentence", "Volumename,anatomy,Sentence"))
    with pytest.raises(DatasetError, match=r"lacks the columns \['Anatomy'\]"):
        open_tree(copied)
    path.unlink()
    with pytest.raises(DatasetError, match="No region_report table"):
        open_tree(copied)


def rename_volume_column(manifest: PhantomManifest, name: str) -> None:
    for path in (manifest.root / "dataset/radgenome_files").glob("*.csv"):
        head, _, rows = path.read_text().partition("\n")
        path.write_text(f"{head.replace('Volumename', name)}\n{rows}")


def test_the_other_data_sets_volume_column_is_taken(copied: PhantomManifest, open_tree: Any) -> None:
    expected = [sample.region_reports for sample in open_tree(copied).samples]
    rename_volume_column(copied, "VolumeName")
    assert [sample.region_reports for sample in open_tree(copied).samples] == expected
    report = audit(copied.root, workers=0, progress=False)
    assert not [found for found in report.findings if found.code == "table.no_volume_column"]


def test_a_volume_column_of_another_case_is_named(copied: PhantomManifest, open_tree: Any) -> None:
    rename_volume_column(copied, "volumename")
    with pytest.raises(DatasetError, match=r"train_region_report.csv.*volumename"):
        open_tree(copied)
    report = audit(copied.root, workers=0, progress=False)
    named = [found.file for found in report.findings if found.code == "table.no_volume_column"]
    assert any(file.endswith("train_region_report.csv") for file in named)


def test_no_policy_makes_up_a_mask(broken: PhantomManifest, open_tree: Any, item_of: Any) -> None:
    """Whatever the policies, a mask that could not be used is zero and says so."""
    used = 0
    for mismatch in ("skip", "resample"):
        data = open_tree(broken, mask_mismatch=mismatch)
        for index in range(len(data)):
            try:
                item = data[index]
            except CTVLMError:
                continue
            used += 1
            assert not item["region_masks"][~item["region_mask_found"]].any()
            assert (item["region_masks"].flatten(1).float().mean(1) < 0.6).all()
    assert used > 20


def test_nothing_is_written_to_the_tree(broken: PhantomManifest, open_tree: Any) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in broken.root.rglob("*")}

    before = state()
    data = open_tree(broken, mask_mismatch="resample")
    data[0]
    assert state() == before
