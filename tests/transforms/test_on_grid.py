"""`load_on_grid`: one pass over a file's slices against `load_volume`, a float64 reference and the named errors."""

from __future__ import annotations

import gzip
import itertools
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ct_vlm.errors import HUError, ShapeError, VolumeGeometryError, VolumeReadError
from ct_vlm.transforms import CTPreset, get_preset, load_on_grid, load_volume

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SCANS = ["cip/chest_ct64", "totalsegmentator/example_ct_sm", "totalsegmentator/aorta_report/ct_cropped"]
AXCODES = [codes for order in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*order)]
SIZE = CTPreset("size", size=(9, 33, 13))
SPACING = CTPreset("spacing", spacing=(3.0, 5.0, 3.1), size=(31, 12, 40), pad_hu=-1000)


def stored_as(chest: np.ndarray, codes: tuple[str, ...]) -> nib.Nifti1Image:
    """Return the chest with its stored axes in another order and direction."""
    image = nib.Nifti1Image(chest, np.diag([-4.0, -4.0, 5.0, 1.0]))
    start = nib.orientations.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))


def exact(array: np.ndarray, resized: tuple[int, ...]) -> np.ndarray:
    """Return trilinear values at the target voxels' centres in float64, by scipy."""
    grids = [
        np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
        for have, want in zip(array.shape, resized, strict=True)
    ]
    points = np.stack(np.meshgrid(*grids, indexing="ij"))
    return ndimage.map_coordinates(array.astype(np.float64), points, order=1, mode="nearest")


def reference(path: Path, preset: CTPreset, **options: Any) -> np.ndarray:
    """Return the preset's result in float64, by the formulas of its documentation."""
    volume = load_volume(path, axcodes=preset.axcodes, **options)
    lengths = [
        max(1, int(n * have / want + 1e-6)) if want else n
        for n, have, want in zip(volume.shape, volume.spacing, preset.spacing or (None,) * 3, strict=True)
    ]
    if preset.spacing is None and preset.size is not None:
        lengths = [want or n for n, want in zip(lengths, preset.size, strict=True)]
    values = exact(volume.array, tuple(lengths))
    for axis, have in enumerate(values.shape):
        want = (preset.size or values.shape)[axis] or have
        cut = (have - want) // 2 if preset.crop_pad == "center" else 0
        values = np.take(values, range(max(cut, 0), max(cut, 0) + min(have, want)), axis=axis)
        front = (want - values.shape[axis]) // 2 if preset.crop_pad == "center" else 0
        edges = [(0, 0)] * 3
        edges[axis] = (front, want - values.shape[axis] - front)
        values = np.pad(values, edges, constant_values=preset.pad_hu)
    return values


@pytest.mark.parametrize("codes", AXCODES, ids="".join)
def test_every_stored_order_and_flip(chest: np.ndarray, save: Any, codes: tuple[str, ...]) -> None:
    image = stored_as(chest, codes)
    path = save(np.asarray(image.dataobj), affine=image.affine)
    for preset in (SIZE, SPACING):
        found = load_on_grid(path, preset)
        assert np.abs(found.array - reference(path, preset)).max() <= 0.57
        one_shot = preset.resample(load_volume(path))
        assert np.abs(found.array.astype(int) - one_shot).max() <= 1
        assert found.array.flags.c_contiguous
        assert found.provenance.axcodes == codes


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 1, 5), (6, 5, 1), (1, 1, 7), (7, 1, 1), (1, 7, 1)], ids=str)
def test_axes_of_one_voxel_in_every_order(chest: np.ndarray, save: Any, shape: tuple[int, ...]) -> None:
    for codes in AXCODES[::5]:
        image = stored_as(chest[tuple(slice(n) for n in shape)], codes)
        path = save(np.asarray(image.dataobj), affine=image.affine)
        volume = load_volume(path, check=False)
        for preset in (CTPreset("1", size=(3, 4, 5)), CTPreset("2", size=(2, 3, 1)), CTPreset("3", spacing=(9, 3, 3))):
            found = load_on_grid(path, preset, check=False)
            assert np.abs(found.array.astype(int) - preset.resample(volume)).max() <= 1


@pytest.mark.parametrize("axcodes", AXCODES[::5], ids="".join)
@pytest.mark.parametrize("interpolation", ["linear", "antialias", "area"])
def test_every_wanted_order(chest: np.ndarray, save: Any, axcodes: Any, interpolation: Any) -> None:
    preset = CTPreset("x", axcodes=axcodes, size=(7, 30, 11), interpolation=interpolation)
    path = save(chest)
    volume = load_volume(path, axcodes=axcodes)
    found = load_on_grid(path, preset)
    assert np.abs(found.array.astype(int) - preset.resample(volume)).max() <= 1
    assert found.axcodes == axcodes


@pytest.mark.parametrize(
    "preset",
    [
        CTPreset("nothing"),
        CTPreset("same", size=(16, 20, 24)),
        CTPreset("depth alone", size=(9, 20, 24)),
        CTPreset("depth alone, filtered", size=(3, 20, 24), interpolation="antialias"),
        CTPreset("plane alone", size=(16, 33, 11)),
        CTPreset("one voxel", size=(1, 1, 1)),
        CTPreset("up and down", size=(40, 7, 31)),
        CTPreset("crop at the end", spacing=(2.0, 2.0, 2.0), size=(10, 21, 60), crop_pad="end"),
        CTPreset("crop alone", spacing=(5.0, 4.0, 4.0), size=(10, 12, 30)),
        CTPreset("pad alone", spacing=(5.0, 4.0, 4.0), size=(20, 25, 30), pad_hu=-7),
        CTPreset("kept slices", size=(None, 12, 12)),
        CTPreset("box", size=(8, 8, 8), foreground_hu=-900),
        CTPreset("box alone", foreground_hu=200),
        CTPreset("area", size=(5, 7, 9), interpolation="area"),
    ],
    ids=lambda preset: preset.name,
)
def test_geometries(chest: np.ndarray, save: Any, preset: CTPreset) -> None:
    path = save(chest)
    volume = load_volume(path)
    found = load_on_grid(path, preset)
    assert np.abs(found.array.astype(int) - preset.resample(volume)).max() <= 1
    np.testing.assert_allclose(found.spacing, preset.resampled_spacing(volume))
    assert found.array.flags.c_contiguous
    if preset.interpolation == "linear" and preset.foreground_hu is None:
        assert np.abs(found.array - reference(path, preset)).max() <= 0.57


@pytest.mark.parametrize("name", ["reg2rg", "radgenome", "medregion", "phantom"])
def test_published_presets_from_a_smooth_field(save: Any, name: str) -> None:
    preset = get_preset(name)
    x, y, z = np.meshgrid(np.arange(24), np.arange(20), np.arange(16), indexing="ij")
    path = save((30 * x - 11 * y + 7 * z - 400).astype(np.int16), affine=np.diag([-9.0, -9.0, 9.0, 1.0]))
    found = load_on_grid(path, preset, check=False)
    one_shot = preset.resample(load_volume(path, axcodes=preset.axcodes, check=False))
    assert np.abs(found.array.astype(int) - one_shot).max() <= 1


def test_affine_says_where_voxels_lie(save: Any) -> None:
    x, y, z = np.meshgrid(np.arange(24), np.arange(20), np.arange(16), indexing="ij")
    affine = np.array([[-4.0, 0, 0, 31], [0, -4.0, 0, -7], [0, 0, 5.0, 12], [0, 0, 0, 1]])
    place = affine @ np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    for axis in range(3):  # a field that holds its own millimetres along one body axis
        path = save((8 * place[axis]).round().reshape(x.shape).astype(np.int16), affine=affine)
        for preset in (SIZE, SPACING, CTPreset("box", size=(8, 8, 8), foreground_hu=-400)):
            found = load_on_grid(path, preset, check=False)
            index = np.array([found.array.shape[0] // 2, found.array.shape[1] // 2, found.array.shape[2] // 2])
            assert found.array[tuple(index)] / 8 == pytest.approx((found.affine @ [*index, 1])[axis], abs=0.2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64, ">i2", ">f4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_stored_types_and_scales(chest: np.ndarray, tmp_path: Path, dtype: Any, suffix: str) -> None:
    slope, inter = (16.0, -1024.0) if np.dtype(dtype) == np.uint8 else (0.5, -1024.0)
    stored = np.clip(np.rint((chest - inter) / slope), 0, 255 if dtype is np.uint8 else 8000).astype(dtype)
    order = ">" if np.dtype(dtype).byteorder == ">" else "<"
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    data = bytearray(nib.Nifti1Image(stored, np.diag([-4.0, -4.0, 5.0, 1.0]), header).to_bytes())
    assert struct.unpack(f"{order}i", data[:4]) == (348,)
    data[112:120] = struct.pack(f"{order}ff", slope, inter)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(bytes(data)) if suffix.endswith("gz") else bytes(data))
    found = load_on_grid(path, SIZE)
    np.testing.assert_allclose(found.array, reference(path, SIZE), atol=0.57)
    assert (found.provenance.slope, found.provenance.intercept) == (slope, inter)


@pytest.mark.parametrize("shape", [(24, 20, 1), (1, 20, 16), (24, 1, 1), (2, 3, 2)])
def test_single_slices_rows_and_columns(save: Any, shape: tuple[int, int, int]) -> None:
    stored = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    path = save(stored)
    for preset in (CTPreset("x", size=(3, 4, 5)), CTPreset("y", size=(1, 30, 2))):
        found = load_on_grid(path, preset, check=False)
        assert np.abs(found.array - reference(path, preset, check=False)).max() <= 0.57


@pytest.mark.parametrize("order", ["LPS", "SRA"])
def test_crop_of_a_much_finer_grid(chest: np.ndarray, save: Any, order: str) -> None:
    image = stored_as(chest[:8, :9, :10], tuple(order))
    path = save(np.asarray(image.dataobj), affine=image.affine)
    for preset in (
        CTPreset("fine", spacing=(0.5, 0.25, 0.25), size=(20, 30, 21)),
        CTPreset("fine in one axis", spacing=(5.0, 0.2, 4.0), size=(9, 15, 8), crop_pad="end"),
    ):
        found = load_on_grid(path, preset, check=False)
        assert np.abs(found.array - reference(path, preset, check=False)).max() <= 0.57


def test_absurd_spacing_takes_no_absurd_memory(chest: np.ndarray, save: Any) -> None:
    path = save(chest, affine=np.diag([-99.0, -99.0, 99.0, 1.0]))
    tracemalloc.start()
    found = load_on_grid(path, CTPreset("x", spacing=(0.01, 0.01, 0.01), size=(16, 64, 64)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    middle = load_volume(path).array[7:9, 9:11, 11:13].mean()  # a millimetre around the corner of eight voxels
    np.testing.assert_allclose(found.array, middle, atol=1)
    assert peak < 2**24
    with pytest.raises(VolumeGeometryError, match="Check its spacing"):
        load_on_grid(path, CTPreset("x", spacing=(0.01, 0.01, 0.01)))


def test_v1_scale_from_the_metadata(chest: np.ndarray, save: Any) -> None:
    path = save((chest + 8192).astype(np.int16), "train/a.nii.gz", affine=np.eye(4))
    row = {"RescaleSlope": "1", "RescaleIntercept": "-8192", "XYSpacing": "[4.0, 4.0]", "ZSpacing": "5.0"}
    found = load_on_grid(path, SPACING, metadata=row)
    assert np.abs(found.array - reference(path, SPACING, metadata=row)).max() <= 0.57
    assert found.provenance == load_volume(path, metadata=row).provenance


@pytest.mark.parametrize("late", [False, True])
def test_padding_is_set_to_air_wherever_it_shows(chest: np.ndarray, save: Any, late: bool) -> None:
    stored = chest.copy()
    stored[3, 4, 1] = -1150  # noise below air, before padding shows
    stored[0, :, 12 if late else 0 :] = -2000
    path = save(stored)
    volume, found = load_volume(path), load_on_grid(path, CTPreset("same", size=(16, 20, 24)))
    np.testing.assert_array_equal(found.array, volume.array)
    assert found.provenance == volume.provenance
    assert found.array.min() == -1024


def test_noise_below_air_without_padding_is_kept(chest: np.ndarray, save: Any) -> None:
    stored = chest.copy()
    stored[3, 4, 1] = -1150
    assert load_on_grid(save(stored), CTPreset("same")).array.min() == -1150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: hu - 1024, "rescaled twice"),
        (lambda hu: hu + 1024, "not rescaled"),
        (lambda hu: hu * 0 + 7, "constant"),
        (lambda hu: np.where(hu > 300, np.nan, hu), r"NaN or infinite values: \d+ of"),
    ],
)
def test_values_that_are_no_hu_are_refused_in_the_same_words(
    chest: np.ndarray, save: Any, change: Any, message: str
) -> None:
    path = save(change(chest.astype(np.float32)).astype(np.float32))
    with pytest.raises(HUError, match=message) as streamed:
        load_on_grid(path, SIZE)
    with pytest.raises(HUError) as whole:
        load_volume(path)
    assert str(streamed.value) == str(whole.value)


def test_header_rescale_passed_over_is_suggested(chest: np.ndarray, save: Any) -> None:
    path = save((chest + 1024).astype(np.int16), "train_fixed/scan.nii")
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", 1.0, -1024.0)
    path.write_bytes(bytes(data))
    with pytest.raises(HUError, match=r'pass `hu_source="header"`'):
        load_on_grid(path, SIZE)


DEFECTS = {
    "truncated": lambda packed: packed[: len(packed) // 2],
    "checksum gone": lambda packed: packed[:-6],
    "wrong checksum": lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:],
    "garbage behind": lambda packed: packed + b"garbage",
    "goes on": lambda packed: gzip.compress(gzip.decompress(packed) + bytes(2**21)),
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_damaged_files(chest: np.ndarray, save: Any, kind: str) -> None:
    path = save(chest)
    path.write_bytes(DEFECTS[kind](path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(VolumeReadError, match=r"scan\.nii\.gz"):
        load_on_grid(path, SIZE)
    assert path.read_bytes() == before


def test_memory_is_used_again(chest: np.ndarray, save: Any) -> None:
    path = save(chest)
    for preset in (SPACING, CTPreset("box", size=(8, 8, 8), foreground_hu=-900)):
        expected = load_on_grid(path, preset).array
        memory = np.full(expected.shape, 99, np.int16)
        assert load_on_grid(path, preset, out=memory).array is memory
        np.testing.assert_array_equal(memory, expected)
        for wrong in (memory[1:], memory.astype(np.int32), memory.transpose(2, 1, 0)):
            with pytest.raises(ShapeError, match="out"):
                load_on_grid(path, preset, out=wrong)


PEAK = """
import sys
from ct_vlm.transforms import CTPreset, load_on_grid

def peak():
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM"))

preset = CTPreset("x", size=(60, 256, 256))
load_on_grid(sys.argv[1], CTPreset("x", size=(8, 8, 8)))  # imports and buffers that stay
before = peak()
array = load_on_grid(sys.argv[1], preset).array
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak memory that Linux keeps")
def test_peak_memory_is_the_result_and_a_few_slices(save: Any) -> None:
    chest = np.tile(np.array([-1000, -850, 40, 300], np.int16), (384, 384, 45))
    path = save(chest, "large.nii.gz")
    script = [sys.executable, "-c", PEAK, str(path)]
    used = int(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    result, stored = 60 * 256 * 256 * 2, chest.nbytes
    assert used < 1.6 * result
    assert used < 0.5 * stored


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the real CTs of `{DATA}`")
def test_real_scans(name: str) -> None:
    path = DATA / f"{name}.nii.gz"
    clip = CTPreset("x", axcodes=("S", "L", "P"), spacing=(3.0, 1.5, 1.5), size=(60, 120, 120))
    for preset in (clip, get_preset("radgenome"), CTPreset("x", spacing=(3.0, 3.0, 3.0))):
        found = load_on_grid(path, preset)
        one_shot = preset.resample(load_volume(path, axcodes=preset.axcodes))
        assert np.abs(found.array.astype(int) - one_shot).max() <= 1
    volume = load_volume(path)
    inside = [np.percentile(array, (5, 50, 95)) for array in (volume.array, found.array)]
    np.testing.assert_allclose(*inside, atol=40)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the real CTs of `{DATA}`")
def test_left_lung_of_a_real_scan_lies_at_larger_w() -> None:
    preset = CTPreset("x", size=(40, 50, 60))
    found = load_on_grid(DATA / "cip" / "chest_ct64.nii.gz", preset)
    labels = load_on_grid(DATA / "cip" / "chest_ct64_lung.nii.gz", preset, check=False).array > 0
    place = np.argwhere(labels & (found.array < -500))
    world = (found.affine @ np.c_[place, np.ones(len(place))].T)[0]  # RAS: left is negative
    assert np.corrcoef(place[:, 2], world)[0, 1] < -0.99
