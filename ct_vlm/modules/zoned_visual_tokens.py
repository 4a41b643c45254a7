"""The whole way from slice embeddings to tokens that a language model reads.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 1 to 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ct_vlm.errors import ConfigError
from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ct_vlm.features import Features
    from ct_vlm.modules.norm_calibrator import NormCalibrator
    from ct_vlm.modules.visual_predictor import VisualPredictor
    from ct_vlm.modules.zone_cross_attention import ZoneConstrainedCrossAttention


class ZonedVisualTokens(Connector):
    """Zone attention, predictor and norm calibration in a row.

    Args:
        zones: Slices to zone tokens.
        predictor: Zone tokens to the width of the language model.
        calibrator: To the length of its embeddings; None leaves them as they come.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` of ``(B, N, C)``.
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, Z * Q, E)``.

    Raises:
        ConfigError: If the parts' widths do not fit.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import (
        ...     NormCalibrator, VisualPredictor, ZoneConstrainedCrossAttention, ZonedVisualTokens)
        >>> zones = ZoneConstrainedCrossAttention(8, num_zones=4, num_heads=2, hidden_dim=16, position="none")
        >>> connector = ZonedVisualTokens(zones, VisualPredictor(8, 12), NormCalibrator(12, 1.0))
        >>> tokens = connector.eval()(Features([torch.randn(2, 9, 8)], [(9, 1, 1)])).tokens
        >>> tokens.shape, round(tokens.norm(dim=-1).mean().item(), 3)
        (torch.Size([2, 4, 12]), 1.0)

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308.
    """

    def __init__(
        self,
        zones: ZoneConstrainedCrossAttention,
        predictor: VisualPredictor,
        calibrator: NormCalibrator | None = None,
    ) -> None:
        super().__init__()
        widths = (zones.embed_dim, predictor.in_dim, predictor.embed_dim)
        wanted = predictor.embed_dim if calibrator is None else calibrator.embed_dim
        if widths[0] != widths[1] or widths[2] != wanted:
            cause = f"The parts do not fit: zones give {widths[0]}, the predictor maps {widths[1]} to {widths[2]}, "
            cause += f"and the calibrator expects {wanted}."
            raise ConfigError(cause, "Build them with the same widths.")
        self.zones, self.predictor, self.calibrator = zones, predictor, calibrator

    @property
    def needs(self) -> tuple[str, ...]:
        """What the zones need."""
        return self.zones.needs

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return the tokens that the language model reads."""
        return VisualContext(self.project(self.zones.tokens(features, batch)))

    def project(self, zone_tokens: Tensor) -> Tensor:
        """Map zone tokens, which losses may want for themselves, to those that the language model reads.

        Shape:
            - zone_tokens: ``(B, Z * Q, C)``.
            - Output: ``(B, Z * Q, E)``.
        """
        tokens = self.predictor(zone_tokens)
        return tokens if self.calibrator is None else self.calibrator(tokens)

    def init_from_text_(self, embeddings: Tensor) -> Self:
        """Initialise predictor and calibrator from a language model's input embeddings.

        Args:
            embeddings: ``(V, E)``.
        """
        self.predictor.init_from_text_(embeddings)
        if self.calibrator is not None:
            self.calibrator.set_target(embeddings)
        return self
