"""Encoder + U-Net decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from monai.inferers.utils import sliding_window_inference

from ct_vlm.component import Component
from ct_vlm.models.inputs import check_levels, model_image

if TYPE_CHECKING:
    from torch import Tensor

    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import PatchSegmentationDecoder, UNetDecoder


class SegmentationModel(Component):
    """Stage 1 of U-VLM: a volume to a label map.

    Args:
        encoder: Encoder whose levels the decoder reads.
        decoder: U-Net decoder with deep supervision, or a patch-wise one for a slice encoder.

    Shape:
        - Input: ``(B, C, D, H, W)``.
        - Output: list of logits ``(B, K, D_l, H_l, W_l)``, fine to coarse.

    Raises:
        ConfigError: If the decoder is built for other levels than the encoder's.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.models import SegmentationModel
        >>> from ct_vlm.modules import UNetDecoder
        >>> encoder = ResidualUNetEncoder(features=(4, 8), blocks=(1, 1), strides=(1, 2))
        >>> model = SegmentationModel(encoder, UNetDecoder((4, 8), (1, 2), num_classes=3))
        >>> model.segment(torch.zeros(1, 1, 6, 6, 6)).shape
        torch.Size([1, 6, 6, 6])
    """

    def __init__(self, encoder: Encoder, decoder: UNetDecoder | PatchSegmentationDecoder) -> None:
        super().__init__()
        check_levels(encoder, decoder, "decoder")
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return logits of each level."""
        return self.decoder(self.encoder(model_image(image, self.encoder)))

    def full_logits(self, image: Tensor) -> Tensor:
        """Return logits at the input's resolution, ``(B, K, D, H, W)``."""
        finest = self(image)[0]
        if finest.shape[2:] == image.shape[2:]:
            return finest
        return F.interpolate(finest.float(), size=image.shape[2:], mode="trilinear", align_corners=False)

    @torch.no_grad()
    def segment(self, image: Tensor, roi_size: tuple[int, int, int] | None = None, *, overlap: float = 0.5) -> Tensor:
        """Return a label map.

        Args:
            image: Windowed volume.
            roi_size: Window of MONAI's sliding-window inference; the whole volume by default.
            overlap: Overlap of neighbouring windows.

        Shape:
            - image: ``(B, C, D, H, W)``.
            - Output: ``(B, D, H, W)``, int64.
        """
        if roi_size is None:
            return self.full_logits(image).argmax(1)
        logits = sliding_window_inference(
            image, roi_size, sw_batch_size=1, predictor=self.full_logits, overlap=overlap, mode="gaussian"
        )
        return logits.argmax(1)  # type: ignore[union-attr]
