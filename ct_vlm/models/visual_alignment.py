"""Everything visual of Ker-VLJEPA before a language model writes: zone tokens, labels and text embeddings.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (phases 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.models.vlm import VisionLanguageModel
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.encoders import Encoder
    from ct_vlm.modules import JEPAHead, ZonedVisualTokens
    from ct_vlm.transforms import CTPreset


@dataclass
class VisualAlignment:
    """What phases 1 and 2 supervise.

    Args:
        regions: Zone tokens, before the predictor.
        tokens: Tokens that a language model reads.
        logits: Label logits of the mean zone token.
        region_logits: Label logits of each zone token.
        embeddings: Predicted text embedding of each token.
        embedding: Predicted text embedding of the volume.

    Shape:
        - regions: ``(B, N, C)``; tokens: ``(B, N, E)``.
        - logits: ``(B, K)``; region_logits: ``(B, N, K)``.
        - embeddings: ``(B, N, F)``; embedding: ``(B, F)``.
    """

    regions: Tensor
    tokens: Tensor
    logits: Tensor
    region_logits: Tensor
    embeddings: Tensor
    embedding: Tensor


class VisualAlignmentModel(Component):
    """Slice features to zone tokens, label logits and predicted text embeddings; no language model.

    Args:
        encoder: Slice encoder; it is not run where a batch brings ``features``.
        visual: Zone attention, predictor and norm calibration.
        jepa: Predicts whitened text embeddings from the tokens.
        num_labels: Labels of the classifier.
        preset: Preprocessing of volumes.

    Shape:
        - Input: batch with ``image (B, C, D, H, W)`` or ``features``.
        - Output: :class:`VisualAlignment`.

    Raises:
        ConfigError: If the head reads another width than the tokens have.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.models import VisualAlignmentModel
        >>> from ct_vlm.modules import JEPAHead, VisualPredictor, ZoneConstrainedCrossAttention, ZonedVisualTokens
        >>> encoder = ResidualUNetEncoder(features=(8,), blocks=(1,), strides=(1,))
        >>> zones = ZoneConstrainedCrossAttention(8, num_zones=4, num_heads=2, hidden_dim=16, position="none")
        >>> visual = ZonedVisualTokens(zones, VisualPredictor(8, 12))
        >>> model = VisualAlignmentModel(encoder, visual, JEPAHead(12, 6, hidden_dim=8))
        >>> found = model({"image": torch.zeros(2, 1, 8, 4, 4)})
        >>> found.logits.shape, found.embeddings.shape
        (torch.Size([2, 18]), torch.Size([2, 4, 6]))

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308. Inferred: one linear classifier, over the mean zone token for
        the volume's labels and over each token for multiple instances.
    """

    def __init__(
        self,
        encoder: Encoder,
        visual: ZonedVisualTokens,
        jepa: JEPAHead,
        num_labels: int = 18,
        preset: CTPreset | str | None = None,
    ) -> None:
        super().__init__()
        if jepa.embed_dim != visual.predictor.embed_dim:
            cause = f"The JEPA head reads tokens of width {jepa.embed_dim}, but they have {visual.predictor.embed_dim}."
            raise ConfigError(cause, "Build it with the predictor's `embed_dim`.")
        self.encoder, self.visual, self.jepa = encoder, visual, jepa
        self.num_labels = num_labels
        self.classifier = nn.Linear(visual.zones.embed_dim, num_labels)
        self.preset = None if preset is None else get_preset(preset)
        self._init_args.update({"preset": self.preset} if "preset" in self._init_args else {})

    def forward(self, batch: Mapping[str, Any]) -> VisualAlignment:
        """Return tokens, logits and predicted embeddings of a batch."""
        # the one way in which a model of the library brings a batch to its encoder
        features = VisionLanguageModel.encode_image(cast("VisionLanguageModel", self), batch)
        regions = self.visual.zones.tokens(features, batch)
        tokens = self.visual.project(regions)
        return VisualAlignment(
            regions=regions,
            tokens=tokens,
            logits=self.classifier(regions.mean(1)),
            region_logits=self.classifier(regions),
            embeddings=self.jepa.per_token(tokens),
            embedding=self.jepa(tokens),
        )
