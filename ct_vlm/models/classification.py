"""Encoder + classification head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.component import Component
from ct_vlm.models.inputs import check_levels, model_image

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import QueryClassificationHead


class ClassificationModel(Component):
    """Stage 2 of U-VLM: a volume to abnormality logits.

    Args:
        encoder: Encoder whose levels the head reads.
        head: Head that maps features to ``(B, K)`` logits.

    Shape:
        - Input: ``(B, C, D, H, W)``.
        - Output: ``(B, K)``.

    Raises:
        ConfigError: If the head is built for other levels than the encoder's.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.models import ClassificationModel
        >>> from ct_vlm.modules import QueryClassificationHead
        >>> encoder = ResidualUNetEncoder(features=(4, 8), blocks=(1, 1), strides=(1, 2))
        >>> ClassificationModel(encoder, QueryClassificationHead((4, 8)))(torch.zeros(2, 1, 6, 6, 6)).shape
        torch.Size([2, 18])
    """

    def __init__(self, encoder: Encoder, head: QueryClassificationHead) -> None:
        super().__init__()
        check_levels(encoder, head, "head")
        self.encoder = encoder
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        """Return label logits ``(B, K)``."""
        return self.head(self.encoder(model_image(image, self.encoder)))
