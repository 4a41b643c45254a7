"""What reading a damaged file may end in: a clear error, or what an independent reader finds in it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import nibabel as nib
import numpy as np

from ct_vlm.errors import CTVLMError
from ct_vlm.transforms import load_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.fuzz.mutations import Case
    from ct_vlm.transforms import Volume

Outcome = Literal["refused", "read", "wrong", "crash"]


def judge(path: Path, case: Case) -> tuple[Outcome, str]:
    """Read a damaged file and say how that ended.

    ``refused`` is one of this library's errors, with a cause that names the file and with a cure;
    ``read`` a volume that equals what nibabel and the standard library find in the same bytes;
    ``wrong`` a volume that does not, or an error without cause and cure; ``crash`` anything else.

    Args:
        path: Where the case was written.
        case: The case.
    """
    try:
        volume = load_volume(path, "header", check=False)
    except CTVLMError as error:
        if path.name in str(error) and error.cure:
            return "refused", type(error).__name__
        return "wrong", f"an error without file or cure: {error}"
    except Exception as error:  # that is what is looked for
        return "crash", f"{type(error).__name__}: {error}"
    return _compare(volume, case)


def _compare(volume: Volume, case: Case) -> tuple[Outcome, str]:
    """Hold a volume against an independent reading of the same bytes."""
    if case.raw is None:
        return "wrong", "read from a file that the standard library cannot decompress"
    try:
        expected = _independent(case.raw, volume)
    except Exception as error:  # nibabel refuses: then so must we
        return "wrong", f"read, but nibabel says {type(error).__name__}: {error}"
    if expected.shape != volume.array.shape:
        return "wrong", f"shape {volume.array.shape}, nibabel has {expected.shape}"
    difference = np.abs(expected - volume.array.astype(np.float64)).max(initial=0)
    return ("read", "") if difference <= 0.5 else ("wrong", f"differs by {difference:g} HU from nibabel")


def _independent(raw: bytes, volume: Volume) -> NDArray[np.float64]:
    """Return HU by nibabel, in the orientation of the volume."""
    kind = nib.Nifti1Image if int.from_bytes(raw[:4], "little") == 348 or raw[:4] == b"\0\0\1\x5c" else nib.Nifti2Image
    image = kind.from_stream(io.BytesIO(raw))
    stored = np.asanyarray(image.dataobj.get_unscaled())
    stored = stored.reshape((*stored.shape, 1, 1)[:3] if stored.ndim < 3 else stored.shape[:3])
    with np.errstate(all="ignore"):
        values = stored.astype(np.float64) * image.dataobj.slope + image.dataobj.inter
    values = np.clip(values, -32768, 32767)
    # below every tissue and the noise of air lies padding
    values = np.where(np.rint(values) < -1200, -1024.0, values)
    # unchecked: nibabel drops an sform of unknown code, which is no reason to turn the volume
    header = kind.header_class(raw[: kind.header_class.sizeof_hdr], check=False)
    if any("rebuilt" in repair for repair in volume.provenance.repairs):
        zooms = [abs(float(zoom)) for zoom in (*header.get_zooms()[:3], 1.0, 1.0)[:3]]
        affine = np.diag([-zooms[0], -zooms[1], zooms[2], 1.0])
    else:
        affine = header.get_best_affine()
    start = nib.orientations.io_orientation(affine)
    turn = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(volume.axcodes))
    return np.asarray(nib.orientations.apply_orientation(np.rint(values), turn))
