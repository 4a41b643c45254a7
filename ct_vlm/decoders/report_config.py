"""Config of the small report decoder."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig


class ReportDecoderConfig(PreTrainedConfig):
    """Sizes of :class:`ct_vlm.decoders.ReportDecoderForCausalLM`; the defaults are U-VLM's.

    Args:
        vocab_size: Number of tokens; 151,669 are those of the Qwen3 tokenizer.
        hidden_size: Width E.
        num_hidden_layers: Number of layers.
        num_attention_heads: Number of attention heads.
        intermediate_size: Width of the feed-forward network; None means ``4 * hidden_size``.
        rope_theta: Base of the rotary position embedding.
        layer_norm_eps: Epsilon of the layer norms (inferred: PyTorch's default).
        initializer_range: Standard deviation of the initial weights.
        dropout: Dropout of attention weights and of both residual branches.
        injection_gate: Whether a small network of the hidden state scales what is injected.
        gate_hidden_size: Width inside that network; None means a quarter of ``hidden_size``.
        max_position_embeddings: Longest sequence.
        use_cache: Whether keys and values are returned by default.
        tie_word_embeddings: Whether the output head shares the embedding's weights.
        kwargs: Further fields of ``PreTrainedConfig``, such as token ids.

    Raises:
        ValueError: If heads do not divide the width evenly (transformers configs raise built-in errors).

    References:
        U-VLM, https://arxiv.org/abs/2603.00479.
    """

    model_type = "ct_vlm_report_decoder"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    def __init__(
        self,
        vocab_size: int = 151_669,
        hidden_size: int = 512,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 8,
        intermediate_size: int | None = None,
        rope_theta: float = 10_000.0,
        layer_norm_eps: float = 1e-5,
        initializer_range: float = 0.02,
        dropout: float = 0.0,
        injection_gate: bool = False,
        gate_hidden_size: int | None = None,
        max_position_embeddings: int = 8192,
        use_cache: bool = True,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        if hidden_size % num_attention_heads or (hidden_size // num_attention_heads) % 2:
            msg = (
                "Expected `num_attention_heads` to divide `hidden_size` into heads of even width, "
                f"but got {num_attention_heads} and {hidden_size}."
            )
            raise ValueError(msg)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = 4 * hidden_size if intermediate_size is None else intermediate_size
        self.rope_theta = rope_theta
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.dropout = dropout
        self.injection_gate = injection_gate
        self.gate_hidden_size = max(1, hidden_size // 4) if gate_hidden_size is None else gate_hidden_size
        self.max_position_embeddings = max_position_embeddings
        self.use_cache = use_cache
        super().__init__(**{**kwargs, "tie_word_embeddings": tie_word_embeddings})
