"""A place for an encoder that is not there: its features come from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ct_vlm.encoders.base import Encoder
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class AbsentEncoder(Encoder):
    """Stands where an encoder would, in a model that reads features from disk and never a volume.

    It has no weights. To read volumes later, put the real encoder in its place:
    ``model.encoder = VideoLMEncoder(...)``; the model is then saved with it.

    Args:
        level_dims: Channels of the levels that the features have.
        in_channels: Channels of the volumes that they were made of.

    Raises:
        ConfigError: If it is asked to encode a volume.

    Example:
        >>> from ct_vlm.encoders import AbsentEncoder
        >>> AbsentEncoder((128,)).level_dims
        (128,)
    """

    def __init__(self, level_dims: Sequence[int], in_channels: int = 3) -> None:
        super().__init__()
        self.level_dims, self.in_channels = tuple(level_dims), in_channels

    def forward(self, image: Tensor) -> NoReturn:  # noqa: ARG002
        """Refuse a volume."""
        msg = "The model was built without an encoder: it reads features from disk, not volumes."
        raise ConfigError(msg, "Set `model.encoder` to the encoder that made the features.")
