"""A small synthetic chest and a way to save it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LPS = np.diag([-4.0, -4.0, 5.0, 1.0])


def make_chest(shape: tuple[int, int, int] = (24, 20, 16)) -> np.ndarray:
    """Return HU in (x, y, z) order, x to the left, y to the back, z to the head: air, body, lungs, spine."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[x**2 + (y / 0.8) ** 2 < 0.9] = 40
    hu[((abs(x) - 0.45) / 0.3) ** 2 + (y / 0.5) ** 2 + (0.6 * z) ** 2 < 1] = -850
    hu[x**2 + (y - 0.55) ** 2 < 0.02] = 400
    noise = np.random.default_rng(0).normal(0, 8, shape)
    return np.maximum(np.rint(hu + noise), -1024).astype(np.int16)


@pytest.fixture
def chest() -> np.ndarray:
    return make_chest()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves an array as NIfTI and returns its path."""

    def write(array: np.ndarray, name: str = "scan.nii.gz", affine: Any = LPS, **header: Any) -> Path:
        image = nib.Nifti1Image(array, None if affine is None else np.asarray(affine, float))
        for field, value in header.items():
            image.header[field] = value
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        return path

    return write
