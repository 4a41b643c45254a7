"""Geometry and length of headers, against nibabel and by hand."""

from __future__ import annotations

from itertools import permutations, product
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.datasets.audit.geometry_checks import axes_of, check_geometry
from ct_vlm.datasets.audit.header_checks import check_size
from ct_vlm.datasets.audit.headers import HeaderFacts, read_header
from ct_vlm.transforms.orientation import axcodes_of, spacing_of

if TYPE_CHECKING:
    from pathlib import Path

CT = HeaderFacts(
    size=40_000_000, is_gzip=True, is_blocked=False, crc=1, length=352 + 512 * 512 * 300 * 2, dims=(512, 512, 300),
    dtype="int16", item_size=2, zooms=(0.7, 0.7, 1.5), affine=((-0.7, 0, 0, 9), (0, -0.7, 0, 9), (0, 0, 1.5, 9)),
    slope=1.0, intercept=0.0, offset=352, units=2,
)  # fmt: skip


def test_every_aligned_orientation_is_named_as_nibabel_names_it() -> None:
    for order, signs in product(permutations(range(3)), product((-1, 1), repeat=3)):
        matrix = np.zeros((3, 4))
        for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
            matrix[row, column] = sign * (0.5 + column)
        axes = axes_of(CT._replace(affine=tuple(map(tuple, matrix.tolist()))))
        full = np.vstack([matrix, [0, 0, 0, 1]])
        assert axes is not None
        assert (axes.codes, axes.spacing, axes.degrees) == (axcodes_of(full), spacing_of(full), 0)


def test_turned_grids_give_their_angle() -> None:
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    axes = axes_of(CT._replace(affine=((-c, s, 0, 0), (-s, -c, 0, 0), (0, 0, 2, 0))))
    assert axes is not None
    assert axes.codes == ("L", "P", "S")
    assert axes.degrees == pytest.approx(12)
    assert axes.spacing == pytest.approx((1, 1, 2))


def test_a_usual_ct_has_no_problem() -> None:
    assert [*check_geometry(CT), *check_size(CT)] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"dims": (512, 512, 5)}, "header.implausible_size"),
        ({"dims": (512, 512, 30)}, "header.implausible_spacing"),
        ({"dims": (8192, 512, 300)}, "header.implausible_size"),
        ({"affine": ((-0.0007, 0, 0, 0), (0, -0.0007, 0, 0), (0, 0, 0.0015, 0))}, "header.degenerate_affine"),
        ({"affine": ((-700, 0, 0, 0), (0, -700, 0, 0), (0, 0, 1500, 0))}, "header.bad_spacing"),
        ({"affine": None, "zooms": (0.7, 0.7, float("nan"))}, "header.bad_spacing"),
        ({"affine": ((-0.7, 0, 0, 0), (0, -0.7, -0.7, 0), (0, 0, 0, 0))}, "header.degenerate_affine"),
    ],
)
def test_implausible_geometry(change: dict[str, object], code: str) -> None:
    assert code in [found for found, _ in check_geometry(CT._replace(**change))]


def test_the_length_at_the_end_counts_modulo_4_gib() -> None:
    large = CT._replace(dims=(2048, 2048, 511), item_size=2, size=2**32)
    assert list(check_size(large._replace(length=large.expected_bytes % 2**32))) == []
    wide = CT._replace(dims=(1024, 1024, 1024), item_size=8, size=2**32)
    assert wide.expected_bytes > 2**32
    assert list(check_size(wide._replace(length=wide.expected_bytes % 2**32))) == []
    assert [code for code, _ in check_size(wide._replace(length=2**31))] == ["header.truncated"]


def test_uncompressed_files_are_judged_by_their_size() -> None:
    plain = CT._replace(is_gzip=False, length=CT.expected_bytes, size=CT.expected_bytes)
    assert list(check_size(plain)) == []
    for surplus, code in ((-1, "header.truncated"), (1, "header.trailing_data")):
        assert [found for found, _ in check_size(plain._replace(length=plain.length + surplus))] == [code]


def test_headers_agree_with_nibabel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, dtype in enumerate((np.int16, np.uint8, np.float32, np.int32, np.float64)):
        affine = np.vstack([rng.normal(size=(3, 4)), [0, 0, 0, 1]])
        path = tmp_path / f"{number}.nii.gz"
        nib.save(nib.Nifti1Image(np.ones((3, 4, 5), dtype), affine), path)
        image, facts = nib.load(path), read_header(path)
        assert isinstance(facts, HeaderFacts)
        assert facts.dims == image.shape
        assert facts.dtype == np.dtype(dtype).name
        np.testing.assert_array_equal(facts.affine, image.affine[:3])
        assert facts.size == path.stat().st_size
