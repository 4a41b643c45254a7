"""U-VLM's small decoder, trained from scratch, as a transformers causal LM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward

from ct_vlm.decoders.injection import add_visual_states, states_of_layer
from ct_vlm.decoders.report_config import ReportDecoderConfig
from ct_vlm.ops.prefix_attention import PrefixLayout, prefix_attention


def rotary_angles(position_ids: Tensor, head_dim: int, theta: float = 10_000.0) -> Tensor:
    """Return the angle of every pair of channels at every position, in float32.

    Shape:
        - position_ids: ``(B, S)``.
        - Output: ``(B, S, head_dim / 2)``.
    """
    exponents = torch.arange(0, head_dim, 2, device=position_ids.device, dtype=torch.float32) / head_dim
    return position_ids[..., None].float() * theta**-exponents


def rotate(heads: Tensor, angles: Tensor) -> Tensor:
    """Turn channel ``i`` and channel ``i + head_dim / 2`` together by one angle.

    Both halves of a pair turn by the same angle, so norms are kept and the product of a query and a
    key depends on their distance alone.

    Shape:
        - heads: ``(B, heads, S, head_dim)``.
        - angles: ``(B, S, head_dim / 2)``.
        - Output: ``(B, heads, S, head_dim)``.
    """
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = heads.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(heads.dtype)


class ReportAttention(nn.Module):
    """Multi-head self-attention with biases and rotary positions."""

    def __init__(self, config: ReportDecoderConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.num_key_value_groups = 1
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden: Tensor,
        angles: Tensor,
        attention_mask: Tensor | None,
        past_key_values: Any = None,
        prefix: PrefixLayout | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend over ``(B, S, E)`` and what the cache holds; by the layout if there is one."""
        query, key, value = (self._heads(proj(hidden)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        query, key = rotate(query, angles), rotate(key, angles)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        if prefix is not None:
            mixed = prefix_attention(query, key, value, prefix, scale=self.scaling)
            return self.o_proj(mixed.transpose(1, 2).flatten(2))
        name = self.config._attn_implementation
        attend = eager_attention_forward if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        dropout = self.config.dropout if self.training else 0.0
        mixed, _ = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)
        return self.o_proj(mixed.flatten(2))

    def _heads(self, hidden: Tensor) -> Tensor:
        """Split channels into heads: ``(B, S, E)`` to ``(B, heads, S, head_dim)``."""
        return hidden.unflatten(2, (-1, self.head_dim)).transpose(1, 2)


class ReportDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm layer; visual states come in between self-attention and the feed-forward network."""

    def __init__(self, config: ReportDecoderConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        width = config.hidden_size
        self.attn_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.self_attn = ReportAttention(config, layer_idx)
        self.ffn_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.dropout)
        inner = config.gate_hidden_size
        # the activation between the gate's two layers is inferred
        gate = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width), nn.Sigmoid())
        self.gate = gate if config.injection_gate else None

    def forward(
        self,
        hidden: Tensor,
        angles: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        visual_states: Tensor | None = None,
        visual_index: Tensor | None = None,
        visual_layers: tuple[int, ...] = (),
        **kwargs: Any,
    ) -> Tensor:
        """Run the layer on hidden states ``(B, S, E)``."""
        mixed = self.self_attn(self.attn_norm(hidden), angles, attention_mask, past_key_values, **kwargs)
        hidden = hidden + self.dropout(mixed)
        if visual_states is not None and visual_index is not None:
            states = states_of_layer(visual_states, visual_layers, self.layer_idx)
            hidden = hidden if states is None else self._inject(hidden, states, visual_index)
        inner = nn.functional.gelu(self.fc1(self.ffn_norm(hidden)))
        return hidden + self.dropout(self.fc2(inner))

    def _inject(self, hidden: Tensor, states: Tensor, visual_index: Tensor) -> Tensor:
        """Add the states at the visual positions, scaled by the gate if there is one."""
        added = add_visual_states(hidden, states, visual_index)
        return added if self.gate is None else hidden + self.gate(hidden) * (added - hidden)


class ReportDecoderPreTrainedModel(PreTrainedModel):
    """Initialisation and capabilities."""

    config: ReportDecoderConfig
    config_class = ReportDecoderConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ReportDecoderLayer"]  # noqa: RUF012, declared by the base
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    injects_visual_states = True

    @property
    def attends_by_layout(self) -> bool:
        """Whether ``prefix`` is taken in place of a dense hybrid mask: not with other attention than SDPA's.

        Dropout of attention weights is left to PyTorch's attention.
        """
        return self.config._attn_implementation == "sdpa" and not (self.training and self.config.dropout)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights from a normal distribution; biases start at 0, norms at 1."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)


class ReportDecoderModel(ReportDecoderPreTrainedModel):
    """Embedding, layers and final norm."""

    def __init__(self, config: ReportDecoderConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([ReportDecoderLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        prefix: PrefixLayout | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Return the hidden states after the final norm, and the cache.

        With ``prefix``, the places of visual tokens and padding, attention takes the hybrid mask.
        """
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if self.gradient_checkpointing and self.training:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = torch.arange(seen, seen + hidden.shape[1], device=hidden.device)[None]
        mask = None
        if prefix is None:
            mask = create_causal_mask(
                config=self.config,
                inputs_embeds=hidden,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
            )
        head_dim = self.config.hidden_size // self.config.num_attention_heads
        angles = rotary_angles(position_ids, head_dim, self.config.rope_theta)
        for layer in self.layers:
            options = {"past_key_values": past_key_values, "prefix": prefix, **kwargs}
            hidden = layer(hidden, angles, attention_mask=mask, **options)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=past_key_values)


class ReportDecoderForCausalLM(ReportDecoderPreTrainedModel, GenerationMixin):
    """The small decoder of U-VLM: pre-norm, rotary positions, GELU, tied output head.

    ``visual_states``, ``visual_index`` and ``visual_layers`` are added after the self-attention
    residual and before the feed-forward network of their layer, which is the paper's place; in any
    other language model, :class:`ct_vlm.decoders.CausalLMDecoder` adds them before the layer. As text
    reads visual positions through attention alone, states of the last layer reach no text here.

    Args:
        config: Sizes.

    References:
        U-VLM, https://arxiv.org/abs/2603.00479. Differs from the released code: the rotary
        embedding is a rotation, attention runs through SDPA and generation keeps a cache.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012, declared by the base

    def __init__(self, config: ReportDecoderConfig) -> None:
        super().__init__(config)
        self.model = ReportDecoderModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return logits (of the last ``logits_to_keep`` positions; 0 means all), and the loss."""
        output = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(output.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=output.past_key_values)


AutoConfig.register(ReportDecoderConfig.model_type, ReportDecoderConfig, exist_ok=True)
AutoModelForCausalLM.register(ReportDecoderConfig, ReportDecoderForCausalLM, exist_ok=True)
