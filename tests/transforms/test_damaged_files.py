import gzip

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.errors import VolumeReadError
from ct_vlm.transforms.nifti import read_nifti


@pytest.fixture
def raw() -> bytes:
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    return nib.Nifti1Image(values, np.diag([-1, -1, 2, 1])).to_bytes()


def test_every_flipped_bit_is_refused_or_harmless(tmp_path, raw) -> None:
    data = gzip.compress(raw, 6, mtime=0)
    expected = np.frombuffer(raw[352:], np.int16)
    path, refused = tmp_path / "scan.nii.gz", 0
    for position in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            stored = read_nifti(path).stored
        except VolumeReadError:
            refused += 1
        else:  # bits that carry no data: the time in the gzip header, what fills the last byte
            assert np.array_equal(stored.T.ravel(), expected)
    assert refused > 0.95 * len(range(0, 8 * len(data), 5))


@pytest.mark.parametrize("offset", [0.0, -1.0, 348.0, 351.0, float("nan"), float("inf"), -1e30])
def test_data_inside_the_header_is_refused(tmp_path, raw, offset) -> None:
    header = bytearray(raw)
    header[108:112] = np.float32(offset).tobytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(VolumeReadError, match=r"header of .*scan.nii.gz. is damaged"):
        read_nifti(path)


@pytest.mark.parametrize("magic", [b"n+1V", b"ni1\0", b"n+2\0", b"\0\0\0\0"])
def test_only_the_whole_magic_counts(tmp_path, raw, magic) -> None:
    header = bytearray(raw)
    header[344:348] = magic
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(VolumeReadError, match="not a single-file NIfTI"):
        read_nifti(path)


def test_nifti_2_is_read(tmp_path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    nib.save(nib.Nifti2Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    assert np.array_equal(read_nifti(tmp_path / "scan.nii.gz").stored, values)
