"""Visual tokens in the place of volumes, so that studies of visual reliance change the tokens themselves.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (Table IX: zeroed, random and shuffled visual tokens).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ct_vlm.errors import ConfigError
from ct_vlm.features import Features, VisualContext
from ct_vlm.metrics.reliance_arms import map_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ct_vlm.models.vlm import VisionLanguageModel


class TokenReader(nn.Module):
    """A report model from its visual tokens on.

    :func:`ct_vlm.metrics.visual_reliance` changes what a batch holds: volumes, or an encoder's features. What
    follows them (places of slices, zones, biases) still tells volumes from nothing. With the model's own
    visual tokens in the batch, an arm changes all that the decoder sees of a patient.

    Args:
        model: Writes from visual tokens alone; states of layers and memory of their own are refused.

    Raises:
        ConfigError: If the model asks region by region, or a batch's context holds more than tokens and text.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders import small_report_decoder, train_bpe_tokenizer
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.models import TokenReader, VisionLanguageModel
        >>> from ct_vlm.modules import VisualPredictor, ZoneConstrainedCrossAttention, ZonedVisualTokens
        >>> encoder = ResidualUNetEncoder(features=(8,), blocks=(1,), strides=(1,))
        >>> zones = ZoneConstrainedCrossAttention(8, num_zones=2, num_heads=2, hidden_dim=8, position="none")
        >>> decoder = small_report_decoder(train_bpe_tokenizer(["clear"], 260), embed_dim=8, num_layers=1, num_heads=2)
        >>> connector = ZonedVisualTokens(zones, VisualPredictor(8, 8))
        >>> reader = TokenReader(VisionLanguageModel(encoder, [connector], decoder))
        >>> batch = reader.tokens([{"image": torch.zeros(3, 1, 4, 4, 4), "report": ["a", "b", "c"]}])[0]
        >>> batch["features"].levels[0].shape, len(reader.generate_batch(batch, max_new_tokens=2))
        (torch.Size([3, 2, 8]), 3)

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, changes visual tokens; the scale of its random tokens is not said.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        if model.region_prompts is not None:
            cause = "The model asks region by region."
            raise ConfigError(cause, "Study it with its volumes or features: `visual_reliance(model, ...)`.")
        self.model = model

    @torch.no_grad()
    def tokens(self, batches: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return batches with visual tokens as ``features`` in the place of volumes.

        Volumes of any sizes have equally many tokens, so that they can change places in a batch.

        Args:
            batches: What the model takes, e.g. a loader.
        """
        training = self.model.training
        self.model.eval()
        try:
            return [self._tokens(batch) for batch in batches]
        finally:
            self.model.train(training)

    def generate_batch(self, batch: Mapping[str, Any], **generation: Any) -> list[str]:
        """Write one report a sample.

        Args:
            batch: Of :meth:`tokens`.
            generation: Options of the decoder's ``generate``, in place of the task's.
        """
        visual = VisualContext(tokens=batch["features"].levels[0])
        defaults: dict[str, Any] = getattr(self.model, "generation", {})
        return self.model.decoder.generate(list(batch["prompt"]), visual, **{**defaults, **generation})

    def _tokens(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        moved = map_tensors(dict(batch), lambda tensor: tensor.to(device))
        context = self.model.visual_context(moved)
        tokens = context.tokens
        if tokens is None or context.layer_states or context.memory is not None:
            cause = "The decoder sees more of a volume than visual tokens, or none."
            raise ConfigError(cause, "Study the model with its volumes or features: `visual_reliance(model, ...)`.")
        prompts, _ = self.model.prompts(moved, context, len(tokens))
        kept = {key: value for key, value in batch.items() if key not in ("image", "features")}
        return {**kept, "prompt": prompts, "features": Features([tokens], [(tokens.shape[1], 1, 1)])}
