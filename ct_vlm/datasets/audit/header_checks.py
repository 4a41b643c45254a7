"""What a header and a file's length tell about size, type and scaling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ct_vlm.transforms.nifti import MAX_VOXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct_vlm.datasets.audit.headers import HeaderFacts

    Problem = tuple[str, str]

_MAX_DEFLATE_RATIO = 1100  # deflate cannot expand a byte to more than 1,032 bytes
_MAX_TRAILING = 2**16  # more is told from the random bytes at the end of a truncated file by decoding only


def check_size(facts: HeaderFacts) -> Iterator[Problem]:
    """Yield why the voxels that a header claims cannot be in the file; at most one problem.

    The length that gzip notes at its end is compared, so nothing is decoded.
    """
    dims = facts.dims
    claim = f"{' x '.join(map(str, dims))} voxels of {facts.dtype}, {facts.claimed_bytes:,} bytes"
    if any(count <= 0 for count in dims) or len(dims) < 2:
        yield "header.bad_dimensions", str(dims)
    elif math.prod(dims) > MAX_VOXELS or (facts.is_gzip and facts.claimed_bytes > facts.size * _MAX_DEFLATE_RATIO):
        yield "header.hostile_size", f"{claim} in a file of {facts.size:,}"
    elif any(count != 1 for count in dims[3:]):
        yield "header.four_d", str(dims)
    elif not facts.is_blocked:
        yield from _check_length(facts, facts.expected_bytes, claim)


def _check_length(facts: HeaderFacts, expected: int, claim: str) -> Iterator[Problem]:
    """Compare the length of the content with what the header calls for."""
    if not facts.is_gzip:
        if facts.length < expected:
            yield "header.truncated", f"{facts.length:,} bytes for {claim}"
        elif facts.length > expected:
            yield "header.trailing_data", f"{facts.length - expected:,} bytes more"
        return
    surplus = (facts.length - expected) % 2**32
    if surplus == 0:
        return
    if surplus <= _MAX_TRAILING:
        yield "header.trailing_data", f"{surplus:,} bytes more"
    else:
        yield "header.truncated", f"its end says {facts.length:,} bytes, its header {expected:,}"


def check_values(facts: HeaderFacts, *, stores_hu: bool) -> Iterator[Problem]:
    """Yield what is wrong with the stored type and the rescale.

    Args:
        facts: From :func:`ct_vlm.datasets.audit.headers.read_header`.
        stores_hu: Whether the release stores HU, to which no rescale may be applied.
    """
    if facts.dtype in {"unknown", "RGB"} or facts.dtype.startswith(("complex", "void", "float128", "longdouble")):
        yield "header.bad_dtype", facts.dtype
    elif facts.dtype != "int16":
        yield "header.dtype", facts.dtype
    is_unset = facts.slope == 0 or not math.isfinite(facts.slope)
    if not is_unset and not math.isfinite(facts.intercept):
        yield "header.bad_scl", f"slope {facts.slope:g}, intercept {facts.intercept:g}"
    elif stores_hu and not is_unset and (facts.slope, facts.intercept) != (1, 0):
        yield "header.scl_on_hu", f"slope {facts.slope:g}, intercept {facts.intercept:g}"
