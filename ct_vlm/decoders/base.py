"""The contract of a decoder: token ids and visual context in, loss, logits or text out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.component import Component

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.decoders.branches import BranchLogProbs
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.features import VisualContext


@dataclass
class DecoderOutput:
    """What :meth:`Decoder.forward` returns.

    Args:
        loss: Mean cross-entropy over the target tokens; None without labels.
        logits: Next-token logits at the text positions, aligned with ``input_ids``; None where
            only the loss was asked for.
        num_targets: Number of tokens the loss is the mean of.

    Shape:
        - loss: scalar.
        - logits: ``(B, T, V)``, V the vocabulary size.
        - num_targets: scalar.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    num_targets: Tensor | None = None


class Decoder(Component, ABC):
    """Base of every decoder.

    A subclass sets the three attributes and implements the three methods.

    Attributes:
        embed_dim: Width E of a visual token that the decoder reads.
        num_layers: Number of decoder layers, each a possible target of ``layer_states``.
        tokenizer: A ``transformers`` fast tokenizer.
    """

    embed_dim: int
    num_layers: int
    tokenizer: Any

    @property
    def max_positions(self) -> int | None:
        """Longest sequence of visual and text tokens together; None where nothing limits it.

        A decoder that names a limit takes ``max_length`` in :meth:`encode`.
        """
        return None

    @abstractmethod
    def encode(
        self, prompts: Sequence[str], targets: Sequence[str] | None = None, visual: VisualContext | None = None
    ) -> EncodedText:
        """Turn prompts (and target reports) into padded ids and labels.

        Args:
            prompts: One instruction a sample.
            targets: One report a sample; its tokens are what the loss is taken on.
            visual: Its ``text`` is spliced into the prompts.
        """

    @abstractmethod
    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        visual: VisualContext | None = None,
        attention_mask: Tensor | None = None,
    ) -> DecoderOutput:
        """Compute the loss or the logits of token ids given visual context.

        Args:
            input_ids: Text tokens; placeholders for visual tokens only where the decoder knows them.
            labels: Target ids, -100 where no loss is taken; aligned with ``input_ids`` (not
                shifted).
            visual: Visual tokens, per-layer states and memory.
            attention_mask: 1 at text tokens, 0 at padding.

        Shape:
            - input_ids, labels, attention_mask: ``(B, T)``.
        """

    def branch_log_probs(
        self,
        prompts: Sequence[str],
        branches: Sequence[Sequence[str]],
        visual: VisualContext | None = None,
        *,
        max_length: int | None = None,
        ends: bool = True,
        shared: bool = True,  # noqa: ARG002  (for decoders that can)
    ) -> BranchLogProbs:
        """Return the log-probabilities of several texts for each prompt, e.g. a better and a worse one.

        Here they come from :meth:`forward`, a pass for each text of each prompt; a decoder that can
        read the prompt once for all of its texts does so.

        Args:
            prompts: One instruction a sample.
            branches: The texts of each sample, equally many.
            visual: Visual context, one row a prompt.
            max_length: Longest text kept, in tokens, as in :meth:`encode`; for decoders that take it.
            ends: Whether texts are whole: their end-of-text token counts then. It does not for beginnings
                of longer texts.
            shared: Whether prompts may be read once for all of their texts.

        Raises:
            ShapeError: If the numbers of texts differ.
        """
        from ct_vlm.decoders.branches import check_branches, log_probs_by_loss

        check_branches(prompts, branches)
        limit = {} if max_length is None else {"max_length": max_length}
        return log_probs_by_loss(self, prompts, branches, visual, ends=ends, **limit)

    @abstractmethod
    def generate(
        self, prompts: Sequence[str], visual: VisualContext | None = None, *, max_new_tokens: int = 256, **options: Any
    ) -> list[str]:
        """Write one text a prompt.

        Args:
            prompts: One instruction a sample.
            visual: Visual tokens, per-layer states, memory and text.
            max_new_tokens: Upper bound of the number of new tokens.
            options: Decoding options such as ``num_beams`` or ``do_sample``.

        Returns:
            The new text only, one string a prompt.
        """
