"""Texts as whitened embeddings of a frozen language model: what visual embeddings are drawn to.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 8).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import torch
from rich.progress import track

from ct_vlm.component import Component
from ct_vlm.decoders.language_model import find_layers
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from ct_vlm.decoders import Decoder
    from ct_vlm.modules import PCAWhitening

_REMEMBERED = 65536


class TextEmbedder(Component):
    """Mean hidden state of one layer of a language model over a text's tokens, whitened.

    LoRA adapters of the language model are off while it embeds, so that a text's place does not move
    while they train. Embeddings of texts that were seen before are remembered.

    Args:
        decoder: A decoder around a transformers causal LM, e.g. :class:`ct_vlm.decoders.CausalLMDecoder`.
        whitening: Fitted by :meth:`fit`, or loaded.
        layer: Layer whose output is read; 1 is the first decoder layer.

    Shape:
        - Input: B strings.
        - Output: ``(B, k)``, k the directions of the whitening.

    Raises:
        ConfigError: If the language model has no such layer, or another width than the whitening.

    Example:
        >>> from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
        >>> from ct_vlm.models import TextEmbedder
        >>> from ct_vlm.modules import PCAWhitening
        >>> texts = ["clear lungs", "large effusion", "small nodule", "hernia"]
        >>> config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        ...           "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> decoder = CausalLMDecoder(config, train_bpe_tokenizer(texts, 280))
        >>> embedder = TextEmbedder(decoder, PCAWhitening(16, 2), layer=1).fit(texts, progress=False)
        >>> embedder(["large effusion"]).shape
        torch.Size([1, 2])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: layer 14 of Llama-3.2-3B, 256 directions. Inferred: the mean over
        tokens, and that layer 14 is the output of the fourteenth layer.
    """

    def __init__(self, decoder: Decoder, whitening: PCAWhitening, layer: int = 14) -> None:
        super().__init__()
        lm: Any = getattr(decoder, "lm", None)
        if lm is None or not 1 <= layer <= decoder.num_layers:
            cause = f"`{type(decoder).__name__}` has no layer {layer} to read."
            raise ConfigError(cause, f"Use a `CausalLMDecoder` and a layer from 1 to {decoder.num_layers}.")
        if whitening.input_dim != decoder.embed_dim:
            cause = f"The whitening takes width {whitening.input_dim}, but the LM has {decoder.embed_dim}."
            raise ConfigError(cause, "Build it with `input_dim` of the language model.")
        self.decoder, self.whitening, self.layer = decoder, whitening, layer
        self._remembered: dict[str, Tensor] = {}
        self.requires_grad_(False)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings before whitening, ``(B, E)``, in float32."""
        lm: Any = self.decoder.lm
        encoded = self.decoder.tokenizer(list(texts), padding=True, padding_side="right", return_tensors="pt")
        ids, mask = encoded["input_ids"].to(lm.device), encoded["attention_mask"].to(lm.device)
        with _output_of(find_layers(lm)[self.layer - 1]) as kept, _without_lora(lm), _evaluating(lm):
            lm(input_ids=ids, attention_mask=mask, use_cache=False)
        weight = mask[..., None].float()
        return (kept[0].float() * weight).sum(1) / weight.sum(1).clamp(min=1)

    @torch.no_grad()
    def embed_all(self, texts: Sequence[str], *, batch_size: int = 32, progress: bool = True) -> Tensor:
        """Return the embeddings of many texts before whitening, ``(M, E)``.

        Args:
            texts: Texts.
            batch_size: Texts embedded at a time.
            progress: Show a bar on a terminal.
        """
        starts = range(0, len(texts), batch_size)
        shown = track(starts, "Embedding texts", disable=not progress, transient=True)
        return torch.cat([self.embed(texts[start : start + batch_size]).cpu() for start in shown])

    def fit(self, texts: Sequence[str], *, batch_size: int = 32, progress: bool = True) -> Self:
        """Fit the whitening on the texts of the training data.

        Args:
            texts: Texts, each once.
            batch_size: Texts embedded at a time.
            progress: Show a bar on a terminal.
        """
        self.whitening.fit(self.embed_all(texts, batch_size=batch_size, progress=progress))
        self._remembered.clear()
        return self

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the whitened embeddings of texts."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        if unknown:
            if len(self._remembered) + len(unknown) > _REMEMBERED:
                self._remembered.clear()
                unknown = list(dict.fromkeys(texts))
            found = self.whitening.transform(self.embed(unknown).to(self.whitening.mean.device))
            self._remembered.update(zip(unknown, found, strict=True))
        return torch.stack([self._remembered[text] for text in texts])


@contextmanager
def _output_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what a layer returns."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    hook = layer.register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


@contextmanager
def _without_lora(lm: nn.Module) -> Iterator[None]:
    """Switch LoRA layers off that are on, and on again."""
    on = [m for m in lm.modules() if hasattr(m, "lora_A") and not getattr(m, "disable_adapters", True)]
    # peft freezes what it switches off, and trains what it switches on
    trains = [(p, p.requires_grad) for module in on for p in module.parameters()]
    for module in on:
        module.enable_adapters(False)  # type: ignore[operator]
    try:
        yield
    finally:
        for module in on:
            module.enable_adapters(True)  # type: ignore[operator]
        for parameter, wanted in trains:
            parameter.requires_grad_(wanted)


@contextmanager
def _evaluating(lm: nn.Module) -> Iterator[None]:
    """Run without dropout."""
    training = lm.training
    lm.eval()
    try:
        yield
    finally:
        lm.train(training)
