"""Cells of the metadata table as they are found."""

from __future__ import annotations

import math

import pytest

from ct_vlm.errors import DatasetError
from ct_vlm.transforms import ScanMetadata
from ct_vlm.transforms.metadata import volume_id


def test_quoted_lists_and_blank_cells() -> None:
    row = {
        "XYSpacing": "[0.341796875, 0.341796875]",
        "ZSpacing": "1.5",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "",
    }
    metadata = ScanMetadata.from_row(row)
    assert metadata.spacing == (0.341796875, 0.341796875, 1.5)
    assert metadata.slope is None
    assert metadata.intercept == -1024
    assert metadata.orientation is None


def test_nan_cells_and_single_numbers() -> None:
    metadata = ScanMetadata.from_row(
        {"XYSpacing": 0.7, "ZSpacing": math.nan, "RescaleSlope": 1, "RescaleIntercept": -8192.0}
    )
    assert metadata.spacing[:2] == (0.7, 0.7)
    assert math.isnan(metadata.spacing[2])


@pytest.mark.parametrize(
    "row",
    [
        {"ZSpacing": "thick"},
        {"XYSpacing": "__import__('os').getcwd()"},
        {"XYSpacing": "[1, 'a']"},
        {"RescaleSlope": "inf"},
        {"ImageOrientationPatient": "[1, 0, 0]"},
        {"XYSpacing": "[]"},
    ],
)
def test_malformed_cells(row: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match=next(iter(row))):
        ScanMetadata.from_row(row)


@pytest.mark.parametrize(
    "name", ["train_1_a_1", "train_1_a_1.nii.gz", "a/b/train_1_a_1.nii", r"a\train_1_a_1.nii.gz", " train_1_a_1\n"]
)
def test_volume_id(name: str) -> None:
    assert volume_id(name) == "train_1_a_1"
