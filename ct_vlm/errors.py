"""Errors that name cause and cure.

Every exception the library raises on bad input derives from :class:`CTVLMError`, so a caller can
catch one class and still read a message that says what is wrong, in which file, and what to do.
"""

from __future__ import annotations


class CTVLMError(Exception):
    """Base class of every error raised by ``ct_vlm``.

    Args:
        cause: What is wrong, naming the file, key or value.
        cure: What the user can do about it.

    Example:
        >>> from ct_vlm.errors import CTVLMError
        >>> str(CTVLMError("`spacing` has 2 entries.", "Pass three values in mm: D, H, W."))
        '`spacing` has 2 entries. Pass three values in mm: D, H, W.'
    """

    def __init__(self, cause: str, cure: str = "") -> None:
        self.cause = cause
        self.cure = cure
        super().__init__(f"{cause} {cure}".strip())


class ConfigError(CTVLMError, ValueError):
    """A configuration value is unknown, missing or of the wrong type."""


class ShapeError(CTVLMError, ValueError):
    """A tensor has the wrong rank, size or dtype."""


class CheckpointError(CTVLMError, RuntimeError):
    """A checkpoint cannot be read, or its keys do not match the model."""


class DatasetError(CTVLMError, ValueError):
    """A data tree, table or sample is missing or malformed."""


class VolumeError(CTVLMError, ValueError):
    """A volume file cannot be turned into a canonical array in HU."""


class VolumeReadError(VolumeError):
    """The file is not a readable NIfTI volume (wrong type, truncated, empty)."""


class VolumeGeometryError(VolumeError):
    """Dimensions, spacing or affine cannot be used (4-D, non-axial, zero spacing)."""


class HUError(VolumeError):
    """The values are not Hounsfield units (not rescaled, rescaled twice, normalised, NaN)."""


class MissingDependencyError(CTVLMError, ImportError):
    """An optional package is needed and not installed."""
