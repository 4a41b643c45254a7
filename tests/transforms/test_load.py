"""`load_volume`: every rule and repair, and every named error."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.errors import (
    ConfigError,
    CTVLMError,
    DatasetError,
    HUError,
    VolumeGeometryError,
    VolumeReadError,
)
from ct_vlm.transforms import load_label_map, load_on_grid, load_volume

if TYPE_CHECKING:
    from pathlib import Path

Save = "Callable[..., Path]"
V1_ROW = {
    "RescaleSlope": "1",
    "RescaleIntercept": "-1024",
    "XYSpacing": "[4.0, 4.0]",
    "ZSpacing": "5.0",
    "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
}


def canonical(chest: np.ndarray) -> np.ndarray:
    """Return what loading should give: head first, then back, then left."""
    return chest.transpose(2, 1, 0)[::-1]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def patch_header(path: Path, offset: int, data: bytes) -> Path:
    """Overwrite bytes of a gzipped header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + len(data)] = data
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


def test_canonical_hu_and_spacing(chest: np.ndarray, save: Save) -> None:
    volume = load_volume(save(chest))
    np.testing.assert_array_equal(volume.array, canonical(chest))
    assert volume.array.dtype == np.int16
    assert volume.array.flags.c_contiguous
    assert volume.spacing == (5.0, 4.0, 4.0)
    assert volume.provenance.hu_source == "header"
    assert volume.provenance.axcodes == ("L", "P", "S")
    assert volume.provenance.repairs == ()


def test_affine_maps_voxels_to_the_same_place(chest: np.ndarray, save: Save) -> None:
    stored_affine = np.array([[-4.0, 0, 0, 31], [0, -4.0, 0, -7], [0, 0, 5.0, 12], [0, 0, 0, 1]])
    volume = load_volume(save(chest, affine=stored_affine))
    x, y, z = 3, 5, 2
    place = stored_affine @ [x, y, z, 1]
    d = chest.shape[2] - 1 - z
    np.testing.assert_allclose(volume.affine @ [d, y, x, 1], place, atol=1e-5)
    assert volume.array[d, y, x] == chest[x, y, z]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAI", "SPL", "ARS", "IPL"])
def test_every_stored_orientation_gives_the_same_volume(chest: np.ndarray, save: Save, codes: str) -> None:
    image = nib.Nifti1Image(chest, np.diag([-4.0, -4.0, 5.0, 1.0]))
    start = nib.orientations.io_orientation(image.affine)
    moved = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(codes))))
    volume = load_volume(save(np.asarray(moved.dataobj), affine=moved.affine))
    np.testing.assert_array_equal(volume.array, canonical(chest))
    np.testing.assert_allclose(volume.spacing, (5, 4, 4))
    assert volume.provenance.axcodes == tuple(codes)


def test_other_axcodes(chest: np.ndarray, save: Save) -> None:
    volume = load_volume(save(chest), axcodes=("S", "L", "P"))
    np.testing.assert_array_equal(volume.array, chest.transpose(2, 0, 1))
    with pytest.raises(ConfigError, match="each body axis once"):
        load_volume(save(chest), axcodes=("S", "I", "P"))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_stored_types(chest: np.ndarray, save: Save, dtype: Any, suffix: str) -> None:
    stored = (chest.astype(np.int32) + (1024 if np.dtype(dtype).kind == "u" else 0)).astype(dtype)
    path = save(stored, f"scan{suffix}", scl_slope=1, scl_inter=-1024 if np.dtype(dtype).kind == "u" else 0)
    if np.dtype(dtype).kind == "u":  # nibabel resets the scaling when it saves: set it in the bytes
        path = _set_scaling(path, 1.0, -1024.0)
    np.testing.assert_array_equal(load_volume(path).array, canonical(chest))


def _set_scaling(path: Path, slope: float, inter: float) -> Path:
    raw = path.read_bytes()
    packed = raw[:2] == b"\x1f\x8b"
    data = bytearray(gzip.decompress(raw) if packed else raw)
    data[112:120] = struct.pack("<ff", slope, inter)
    path.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    return path


def test_gzip_content_under_a_plain_suffix(chest: np.ndarray, save: Save, tmp_path: Path) -> None:
    other = tmp_path / "scan.nii"
    other.write_bytes(save(chest).read_bytes())
    np.testing.assert_array_equal(load_volume(other).array, canonical(chest))


def test_nifti2(chest: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(chest, np.diag([-4.0, -4.0, 5.0, 1.0])), tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(load_volume(tmp_path / "scan.nii.gz").array, canonical(chest))


@pytest.mark.parametrize("intercept", [-1024, -8192])
def test_v1_and_v2_twins_give_identical_hu(chest: np.ndarray, save: Save, intercept: int) -> None:
    name = "train_1/train_1_a/train_1_a_1.nii.gz"
    v2 = save(chest, f"train_fixed/{name}")
    v1 = save((chest.astype(int) - intercept).astype(np.int16), f"train/{name}", affine=np.diag([1.0, 1, 1, 1]))
    row = {**V1_ROW, "RescaleIntercept": str(intercept)}
    first, second = load_volume(v1, metadata=row), load_volume(v2, metadata=row)
    assert (first.provenance.hu_source, second.provenance.hu_source) == ("csv", "fixed")
    np.testing.assert_array_equal(first.array, second.array)
    assert first.spacing == second.spacing == (5.0, 4.0, 4.0)


def test_v1_padding_of_minus_8192_becomes_the_same_air_as_in_v2(chest: np.ndarray, save: Save) -> None:
    raw = (chest.astype(int) + 8192).astype(np.int16)
    raw[0], raw[:, 0] = 0, 0  # outside the field of view
    v1 = load_volume(save(raw, "train/a.nii.gz"), metadata={**V1_ROW, "RescaleIntercept": "-8192"})
    padded = chest.copy()
    padded[0], padded[:, 0] = -8192, -8192
    v2 = load_volume(save(padded, "train_fixed/a.nii.gz"))
    np.testing.assert_array_equal(v1.array, v2.array)
    assert v2.array.min() == -1024
    assert any("padding" in repair for repair in v2.provenance.repairs)


def test_metadata_from_a_table(chest: np.ndarray, save: Save, tmp_path: Path) -> None:
    table = tmp_path / "metadata.csv"
    table.write_text(
        "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing\n"
        'train_2_a_1.nii.gz,-8192,1,"[9, 9]",9\n'
        'train_1_a_1.nii.gz,-1024,1,"[0.341796875, 0.341796875]",1.5\n'
    )
    path = save((chest + 1024).astype(np.int16), "train/train_1_a_1.nii.gz")
    volume = load_volume(path, metadata=table)
    assert volume.spacing == (1.5, 0.341796875, 0.341796875)
    np.testing.assert_array_equal(volume.array, canonical(chest))
    with pytest.raises(DatasetError, match="metadata table"):
        load_volume(path, metadata=tmp_path / "absent.csv")


def test_prone_v1_scan_is_turned_by_its_cosines(chest: np.ndarray, save: Save) -> None:
    raw = (chest + 1024).astype(np.int16)[::-1, ::-1]
    row = {**V1_ROW, "ImageOrientationPatient": "[-1, 0, 0, 0, -1, 0]"}
    volume = load_volume(save(np.ascontiguousarray(raw), "train/a.nii.gz"), metadata=row)
    np.testing.assert_array_equal(volume.array, canonical(chest))


def test_sources_that_do_not_rescale(chest: np.ndarray, save: Save) -> None:
    path = _set_scaling(save(chest), 1.0, -1024.0)
    for source in ("none", "fixed"):
        np.testing.assert_array_equal(load_volume(path, source).array, canonical(chest))
    with pytest.raises(HUError, match="rescaled twice"):
        load_volume(path, "header")


@pytest.mark.parametrize("affine", [np.full((4, 4), np.nan), np.zeros((4, 4)), np.ones((4, 4))])
def test_degenerate_affine_is_rebuilt_with_the_signs_of_v2(chest: np.ndarray, save: Save, affine: np.ndarray) -> None:
    path = save(chest)
    rows = np.asarray(affine, "<f4")[:3].tobytes()
    patch_header(path, 280, rows)  # srow_x, srow_y, srow_z
    patch_header(path, 252, struct.pack("<hh", 0, 2))  # qform off, sform on
    volume = load_volume(path)
    np.testing.assert_array_equal(volume.array, canonical(chest))
    assert volume.spacing == (5.0, 4.0, 4.0)
    assert any("affine" in repair for repair in volume.provenance.repairs)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0)])
def test_no_orientation_or_a_broken_quaternion(chest: np.ndarray, save: Save, codes: tuple[int, int]) -> None:
    path = patch_header(save(chest), 252, struct.pack("<hh", *codes))
    patch_header(path, 256, struct.pack("<fff", 5.0, 5.0, 5.0))
    volume = load_volume(path)
    np.testing.assert_array_equal(volume.array, canonical(chest))
    assert any("axes taken as L, P, S" in repair for repair in volume.provenance.repairs)


def test_no_spacing_anywhere_is_an_error_unless_metadata_has_it(chest: np.ndarray, save: Save) -> None:
    path = patch_header(save(chest), 280, np.full((3, 4), np.nan, "<f4").tobytes())
    patch_header(path, 252, struct.pack("<hh", 0, 2))
    patch_header(path, 80, struct.pack("<fff", np.nan, np.nan, np.nan))
    with pytest.raises(VolumeGeometryError, match="no usable voxel spacing"):
        load_volume(path)
    row = {"XYSpacing": "[4, 4]", "ZSpacing": "5"}
    assert load_volume(path, metadata=row).spacing == (5.0, 4.0, 4.0)


def test_v1_without_zspacing(chest: np.ndarray, save: Save) -> None:
    path = save((chest + 1024).astype(np.int16), "train/a.nii.gz")
    with pytest.raises(VolumeGeometryError, match="ZSpacing"):
        load_volume(path, metadata={**V1_ROW, "ZSpacing": ""})


def test_v1_coronal(chest: np.ndarray, save: Save) -> None:
    path = save((chest + 1024).astype(np.int16), "train/a.nii.gz")
    with pytest.raises(VolumeGeometryError, match="not an axial scan"):
        load_volume(path, metadata={**V1_ROW, "ImageOrientationPatient": "[1, 0, 0, 0, 0, -1]"})


def test_oblique_takes_the_nearest_axes(chest: np.ndarray, save: Save) -> None:
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-4.0, -4.0, 5.0])
    volume = load_volume(save(chest, affine=affine))
    np.testing.assert_array_equal(volume.array, canonical(chest))
    np.testing.assert_allclose(volume.spacing, (5, 4, 4), rtol=1e-5)
    assert any("oblique by 12.0 degrees" in repair for repair in volume.provenance.repairs)


@pytest.mark.parametrize("depth", [1, 2])
def test_few_slices(save: Save, chest: np.ndarray, depth: int) -> None:
    volume = load_volume(save(np.ascontiguousarray(chest[:, :, 8 : 8 + depth])))
    assert volume.shape == (depth, 20, 24)


def test_two_dimensional_image_is_one_slice(save: Save, chest: np.ndarray) -> None:
    volume = load_volume(save(np.ascontiguousarray(chest[:, :, 8])))
    assert volume.shape == (1, 20, 24)
    assert any("one slice" in repair for repair in volume.provenance.repairs)


def test_trailing_axis_of_one_is_dropped(chest: np.ndarray, save: Save) -> None:
    volume = load_volume(save(chest[..., None]))
    np.testing.assert_array_equal(volume.array, canonical(chest))
    assert any("trailing" in repair for repair in volume.provenance.repairs)


def flip_byte(packed: bytes) -> bytes:
    """Change one byte in the middle of the compressed voxels."""
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 255]) + packed[middle + 1 :]


BYTE_DEFECTS = {
    "text": lambda packed: b"Findings: none.\n" * 40,
    "empty": lambda packed: b"",
    "empty gzip": lambda packed: gzip.compress(b""),
    "truncated gzip": lambda packed: packed[: len(packed) // 2],
    "last bytes gone": lambda packed: packed[:-6],
    "flipped byte": flip_byte,
    "truncated plain": lambda packed: gzip.decompress(packed)[:-100],
    "header alone": lambda packed: gzip.decompress(packed)[:348],
}
HEADER_DEFECTS = {
    "zero-sized": (42, struct.pack("<h", 0)),
    "negative size": (42, struct.pack("<h", -4)),
    "huge claim": (40, struct.pack("<hhhh", 3, 30000, 30000, 30000)),
    "claim beyond the file": (40, struct.pack("<hhhh", 3, 1000, 1000, 900)),
    "unknown type": (70, struct.pack("<h", 9999)),
    "rgb": (70, struct.pack("<hh", 128, 24)),
    "complex": (70, struct.pack("<hh", 32, 64)),
    "pair magic": (344, b"ni1\0"),
    "data far away": (108, struct.pack("<f", 1e9)),
    "infinite scale": (112, struct.pack("<ff", 1, np.inf)),
}


def broken(kind: str, chest: np.ndarray, save: Any) -> Path:
    """Return a file with one defect."""
    path = save(chest)
    if kind in BYTE_DEFECTS:
        path.write_bytes(BYTE_DEFECTS[kind](path.read_bytes()))
    else:
        patch_header(path, *HEADER_DEFECTS[kind])
    return path


@pytest.mark.parametrize("kind", [*BYTE_DEFECTS, *HEADER_DEFECTS])
def test_unreadable_files_are_named_errors_and_stay_untouched(kind: str, chest: np.ndarray, save: Save) -> None:
    path = broken(kind, chest, save)
    before = digest(path)
    with pytest.raises(VolumeReadError, match=r"scan\.nii\.gz") as caught:
        load_volume(path)
    assert caught.value.cure
    assert digest(path) == before
    assert [item.name for item in path.parent.iterdir()] == ["scan.nii.gz"]


@pytest.mark.parametrize("load", [load_volume, lambda path: load_on_grid(path, "phantom")], ids=["whole", "streamed"])
def test_a_gzip_bomb_is_decoded_no_further_than_its_header_asks(chest: np.ndarray, save: Save, load: Any) -> None:
    path = save(chest)
    bomb = gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**24))
    path.write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeReadError, match="goes on behind"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == bomb


def test_four_dimensions(chest: np.ndarray, save: Save) -> None:
    path = save(np.stack([chest, chest], axis=-1))
    before = digest(path)
    with pytest.raises(VolumeGeometryError, match="3-D"):
        load_volume(path)
    assert digest(path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: hu - 1024, "rescaled twice"),
        (lambda hu: hu - 8192, "rescaled twice"),
        (lambda hu: hu + 1024, "not rescaled"),
        (lambda hu: hu + 8192, "not rescaled"),
        (lambda hu: np.clip(hu, -1000, 1000) / 1000, "normalised"),
        (lambda hu: np.clip((hu + 1000) / 1200 * 255, 0, 255), "8-bit"),
        (lambda hu: hu * 0 + 7, "constant"),
        (lambda hu: hu * np.nan, "NaN or infinite values: all"),
        (lambda hu: np.where(hu > 300, np.nan, hu), r"NaN or infinite values: \d+ of"),
        (lambda hu: np.where(hu > 300, np.inf, hu), "NaN or infinite values"),
    ],
)
def test_values_that_are_no_hu(chest: np.ndarray, save: Save, change: Any, message: str) -> None:
    path = save(change(chest.astype(np.float32)).astype(np.float32))
    before = digest(path)
    with pytest.raises(HUError, match=message):
        load_volume(path)
    assert digest(path) == before


def test_values_wrong_in_the_file_itself_are_not_blamed_on_the_rule(chest: np.ndarray, save: Save) -> None:
    with pytest.raises(HUError, match=r"rescaled twice.*download it again"):
        load_volume(save(chest - 1024), "fixed")


@pytest.mark.filterwarnings("error")
def test_damaged_floats_give_errors_and_no_warnings(chest: np.ndarray, save: Save) -> None:
    signalling, huge = b"\x01\x00\xa0\x7f", np.float32(3e38).tobytes()
    path = save(chest.astype(np.float32))
    patch_header(path, 352, signalling)
    patch_header(path, 112, huge)  # the slope
    for load in (load_volume, lambda file: load_on_grid(file, "phantom")):
        with pytest.raises(HUError, match="NaN or infinite"):
            load(path)
    path = save(chest)
    patch_header(path, 280, signalling)
    assert any("affine" in repair for repair in load_volume(path).provenance.repairs)


def test_the_check_can_be_switched_off(chest: np.ndarray, save: Save) -> None:
    assert load_volume(save(chest + 1024), check=False).array.max() > 1000


def test_unknown_source_and_csv_without_metadata(chest: np.ndarray, save: Save) -> None:
    with pytest.raises(ConfigError, match="hu_source"):
        load_volume(save(chest), "guess")
    with pytest.raises(HUError, match="No RescaleSlope"):
        load_volume(save(chest), "csv")


def test_label_map_follows_the_volume(chest: np.ndarray, save: Save) -> None:
    labels = (chest < -500).astype(np.uint8)
    found, _ = load_label_map(save(labels))
    np.testing.assert_array_equal(found, canonical(labels))
    found, _ = load_label_map(save(labels.astype(np.float32)))
    np.testing.assert_array_equal(found, canonical(labels))
    with pytest.raises(CTVLMError, match="whole numbers"):
        load_label_map(save(labels * np.float32(0.5)))


def test_absent_file() -> None:
    with pytest.raises(VolumeReadError) as caught:
        load_volume("absent.nii.gz")
    assert "absent.nii.gz" in caught.value.cause
    assert caught.value.cure


@pytest.mark.parametrize("folder", ["valid_preprocessed", "train_fixed"])
def test_header_rescale_passed_over_is_suggested(chest: np.ndarray, save: Save, folder: str) -> None:
    path = save((chest + 1024).astype(np.int16), f"{folder}/scan.nii.gz")
    patch_header(path, 112, struct.pack("<ff", 1.0, -1024.0))  # scl_slope, scl_inter
    with pytest.raises(HUError, match=r'intercept -1024.*pass `hu_source="header"`'):
        load_volume(path)
    np.testing.assert_array_equal(load_volume(path, "header").array, canonical(chest))
