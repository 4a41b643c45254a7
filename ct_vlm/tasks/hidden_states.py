"""Reading the last hidden states of a decoder's language model while it computes its loss."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


@dataclass
class LastHidden:
    """Hidden states of one forward pass, filled by :func:`last_hidden_states`.

    Args:
        states: After the last layer and its norm, ``(B, T, E)``.
        visual_mask: Where visual tokens stand, ``(B, T)``.
    """

    states: Tensor | None = None
    visual_mask: Tensor | None = None

    def visual_mean(self) -> Tensor:
        """Return the mean over visual positions, ``(B, E)``.

        Raises:
            ConfigError: If no pass was seen, or it had no visual tokens.
        """
        if self.states is None or self.visual_mask is None:
            cause = "The decoder's pass showed no hidden states at visual positions."
            raise ConfigError(cause, "Use `CausalLMDecoder` with a connector that gives visual tokens.")
        weight = self.visual_mask[:, : self.states.shape[1]].to(self.states.dtype)[..., None]
        return (self.states * weight).sum(1) / weight.sum(1).clamp(min=1)


@contextmanager
def last_hidden_states(decoder: nn.Module) -> Iterator[LastHidden]:
    """Record the last hidden states of every pass within the block; the last pass is kept.

    They keep their graph, so a loss on them trains what made them.

    Args:
        decoder: A decoder around a transformers causal LM.

    Raises:
        ConfigError: If the decoder has no such language model.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
        >>> from ct_vlm.features import VisualContext
        >>> from ct_vlm.tasks.hidden_states import last_hidden_states
        >>> config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        ...           "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> decoder = CausalLMDecoder(config, train_bpe_tokenizer(["clear lungs"], 270))
        >>> batch = decoder.encode(["Report:"], ["Clear lungs."])
        >>> with last_hidden_states(decoder) as hidden:
        ...     _ = decoder(**batch.inputs(), visual=VisualContext(torch.randn(1, 3, 16)))
        >>> hidden.visual_mean().shape
        torch.Size([1, 16])
    """
    lm: Any = getattr(decoder, "lm", None)
    if lm is None or not hasattr(lm, "get_decoder"):
        cause = f"`{type(decoder).__name__}` holds no transformers causal LM."
        raise ConfigError(cause, "Use `CausalLMDecoder`, or leave out the losses on hidden states.")
    found = LastHidden()

    def note_mask(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        found.visual_mask = kwargs.get("visual_mask")

    def note_states(_module: nn.Module, _args: Any, output: Any) -> None:
        found.states = output.last_hidden_state

    hooks = [
        lm.register_forward_pre_hook(note_mask, with_kwargs=True),
        lm.get_decoder().register_forward_hook(note_states),
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
