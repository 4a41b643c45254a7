"""One embedding a slice: the class token of a slice encoder.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (slice embeddings of a frozen encoder).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from ct_vlm.encoders.base import Encoder, check_image
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.encoders.slice_encoder import SliceEncoder


class SliceEmbedder(Encoder):
    """Class tokens (or mean patch tokens) of a slice encoder's last level, one a slice.

    Patch tokens are dropped a few slices at a time: a volume of 600 slices of 504 x 504 pixels has 0.8
    million of them, of which nothing is kept.

    Args:
        encoder: Slice encoder; its last layer is taken.
        pooling: ``"class"`` token, or ``"mean"`` over patch tokens for models without one.
        max_slices: Volumes with more slices are thinned out to so many, evenly, before they are encoded;
            None keeps all.

    Shape:
        - Input: ``(B, C, D, H, W)``; spacing ``(B, 3)`` in mm; padding mask ``(B, D)``.
        - Output: one level ``(B, S, dim)`` on the grid ``(S, 1, 1)``, S at most ``max_slices``.

    Raises:
        ConfigError: If the encoder has no class token, or options are unknown.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import SliceEmbedder, lejepa_vit
        >>> embedder = SliceEmbedder(lejepa_vit("tiny", frozen=True), max_slices=4)
        >>> features = embedder(torch.rand(1, 1, 5, 64, 64), spacing=torch.ones(1, 3))
        >>> features.levels[0].shape, features.slice_position_mm.tolist()
        (torch.Size([1, 4, 96]), [[0.0, 1.0, 3.0, 4.0]])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: at most 600 slices a volume, class tokens of width 1024. How
        longer volumes are thinned out is inferred.
    """

    def __init__(
        self, encoder: SliceEncoder, *, pooling: Literal["class", "mean"] = "class", max_slices: int | None = 600
    ) -> None:
        super().__init__()
        if pooling not in ("class", "mean"):
            cause = f"Expected `pooling` to be 'class' or 'mean', but got {pooling!r}."
            raise ConfigError(cause, "Choose one of them.")
        self.encoder, self.pooling, self.max_slices = encoder, pooling, max_slices
        self.in_channels, self.level_dims = encoder.in_channels, (encoder.level_dims[-1],)

    def forward(self, image: Tensor, spacing: Tensor | None = None, padding_mask: Tensor | None = None) -> Features:
        """Embed every slice.

        Args:
            image: Windowed volume.
            spacing: Voxel size; gives the slices' positions in mm from the first.
            padding_mask: True where a slice is padding; its embedding is 0.
        """
        check_image(image, self.in_channels)
        chosen = uniform_slices(image.shape[2], self.max_slices)
        position = None if spacing is None else chosen.to(spacing.device) * spacing[:, :1]
        if len(chosen) < image.shape[2]:
            image = image[:, :, chosen.to(image.device)]
            padding_mask = None if padding_mask is None else padding_mask[:, chosen.to(padding_mask.device)]
        step = max(1, self.encoder.chunk_size // image.shape[0])
        parts = []
        for start in range(0, len(chosen), step):
            mask = None if padding_mask is None else padding_mask[:, start : start + step]
            parts.append(self._embed(image[:, :, start : start + step], mask))
        return Features([torch.cat(parts, 1)], [(len(chosen), 1, 1)], position, padding_mask)

    def _embed(self, image: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return the embeddings of a few slices, ``(B, S, dim)``."""
        if padding_mask is not None and bool(padding_mask.all()):
            weight = next(self.encoder.parameters())
            return weight.new_zeros(image.shape[0], image.shape[2], self.level_dims[0])
        features, prefix = self.encoder.encode(image, padding_mask=padding_mask)
        if self.pooling == "mean":
            return features.levels[-1].unflatten(1, (image.shape[2], -1)).mean(2)
        if prefix[-1].shape[2] == 0:
            cause = f"`{type(self.encoder.backbone.model).__name__}` has no class token."
            raise ConfigError(cause, 'Pass `pooling="mean"`, or an encoder with one, such as `lejepa_vit`.')
        return prefix[-1][:, :, 0]


def uniform_slices(count: int, most: int | None = 600) -> Tensor:
    """Return which of ``count`` slices are kept so that there are at most ``most``, evenly spread.

    Slice ``(i * (count - 1)) / (most - 1)``, rounded, so that the first and the last stay.

    Args:
        count: Slices of a volume.
        most: None keeps all.

    Shape:
        - Output: ``(min(count, most),)``, ascending.

    Raises:
        ConfigError: If ``most`` is below 2.

    Example:
        >>> from ct_vlm.encoders.slice_embedder import uniform_slices
        >>> uniform_slices(7, 4).tolist()
        [0, 2, 4, 6]
    """
    if most is not None and most < 2:
        cause = f"Expected at least 2 slices to be kept, but got {most}."
        raise ConfigError(cause, "The paper keeps up to 600.")
    if most is None or count <= most:
        return torch.arange(count)
    return (torch.arange(most) * (count - 1) * 2 + most - 1) // (2 * (most - 1))
