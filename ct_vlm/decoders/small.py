"""Builder of the small decoder that is trained from scratch."""

from __future__ import annotations

from typing import Any

from ct_vlm.decoders.causal_lm import CausalLMDecoder
from ct_vlm.decoders.tokenizer import load_tokenizer


def small_report_decoder(
    tokenizer: Any,
    *,
    num_layers: int = 8,
    embed_dim: int = 512,
    num_heads: int = 8,
    ffn_dim: int | None = None,
    dropout: float = 0.0,
    injection_gate: bool = False,
    max_length: int = 8192,
    hybrid_mask: bool = True,
    injection_layers: list[int] | None = None,
    gradient_checkpointing: bool = False,
) -> CausalLMDecoder:
    """Build U-VLM's decoder with random weights; the default sizes are the paper's.

    Args:
        tokenizer: A fast tokenizer, a path or hub id, or the dict of ``tokenizer_to_config``.
        num_layers: Number of decoder layers.
        embed_dim: Width E of tokens and hidden states.
        num_heads: Number of attention heads.
        ffn_dim: Width of the feed-forward network; None means ``4 * embed_dim``.
        dropout: Dropout of attention weights and residual branches.
        injection_gate: Whether a small network of the hidden state scales what is injected.
        max_length: Longest sequence of visual and text tokens together.
        hybrid_mask: Whether visual tokens attend to each other in both directions.
        injection_layers: Layers that may receive states; None allows every layer.
        gradient_checkpointing: Whether layers are recomputed in the backward pass.

    Example:
        >>> from ct_vlm.decoders import small_report_decoder, train_bpe_tokenizer
        >>> tokenizer = train_bpe_tokenizer(["clear lungs"], 270)
        >>> small_report_decoder(tokenizer, num_layers=2, embed_dim=32, num_heads=2).embed_dim
        32

    References:
        U-VLM, https://arxiv.org/abs/2603.00479.
    """
    config = {
        "model_type": "ct_vlm_report_decoder",
        "hidden_size": embed_dim,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "intermediate_size": ffn_dim,
        "dropout": dropout,
        "injection_gate": injection_gate,
        "max_position_embeddings": max_length,
    }
    return CausalLMDecoder(
        config,
        load_tokenizer(tokenizer),
        hybrid_mask=hybrid_mask,
        injection_layers=injection_layers,
        gradient_checkpointing=gradient_checkpointing,
    )
