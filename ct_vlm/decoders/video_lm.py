"""The language half of a video language model as a decoder.

Paper: AbSteering, https://arxiv.org/abs/2603.12469 (Qwen2.5-VL and InternVL3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.decoders.causal_lm import CausalLMDecoder
from ct_vlm.decoders.encoding import splice_text
from ct_vlm.decoders.language_model import fit_vocabulary, token_settings
from ct_vlm.decoders.tokenizer import load_tokenizer
from ct_vlm.decoders.video_prompts import chat_prompts, chat_tokenizer
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.video_lm.families import family_of
from ct_vlm.video_lm.loading import load_half

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.component import Component
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.features import VisualContext


class VideoLMDecoder(CausalLMDecoder):
    """The language half of Qwen2.5-VL, Qwen3-VL or InternVL, as transformers implements them.

    It is a :class:`~ct_vlm.decoders.CausalLMDecoder` whose prompts go through the model's chat template,
    with one placeholder a visual token, written as the model's own processor writes a video. Qwen's
    positions have three parts, which the model's own function works out of the tokens' grid
    (``VisualContext.grid``). Logits and texts are those of the whole model in transformers.

    Args:
        model: Path or hub id of a video language model, a config dict with ``model_type`` (random
            weights), or the model itself, whose language half is taken over.
        tokenizer: A fast tokenizer, a path or hub id, or the dict of ``tokenizer_to_config``; None takes
            that of the model's path. Special tokens of the family are added where they are missing.
        lora: Arguments of ``peft.LoraConfig``, or a name of ``LORA_PRESETS``; the rest is frozen then.
        seconds_per_grid: Time between two steps of the tokens' grid, e.g. 1.0 for two frames a step at two
            frames a second.
        chat_template: A Jinja template in place of the tokenizer's; a tokenizer without one gets a plain
            one.
        injection_layers: As in :class:`~ct_vlm.decoders.CausalLMDecoder`, like all that follow. Qwen3-VL
            gets its intermediate visual states this way.
        cross_attention: Adapters through which layers read a memory.
        gradient_checkpointing: Whether layers are recomputed in the backward pass.
        attn_implementation: Attention of the LM.
        freeze_lm: Whether the LM's own weights are frozen (with ``lora`` they are anyway).
        dtype: Parameter dtype such as ``"bfloat16"``.
        stop_token_ids: Ids that end a text.
        validate_finite: Whether ``forward`` checks visual tokens for NaN and infinity.

    Shape:
        - input_ids, labels, attention_mask: ``(B, T)``, placeholders included.
        - visual tokens and layer states: ``(B, N, E)`` on a grid of N places.
        - logits: ``(B, T, V)``.

    Raises:
        ConfigError: If it is no video language model, or model, tokenizer and options do not fit.
        CheckpointError: If a path or hub id holds no model.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders import VideoLMDecoder, train_bpe_tokenizer
        >>> from ct_vlm.features import VisualContext
        >>> from ct_vlm.video_lm.tiny import tiny_config
        >>> decoder = VideoLMDecoder(tiny_config("qwen2_5_vl"), train_bpe_tokenizer(["clear lungs"], 270))
        >>> visual = VisualContext(torch.randn(1, 4, 128), grid=(1, 2, 2))
        >>> batch = decoder.encode(["Findings?"], ["Clear lungs."], visual)
        >>> decoder(**batch.inputs(), visual=visual).loss.ndim
        0

    References:
        AbSteering, arXiv 2603.12469: Qwen2.5-VL-7B and InternVL3-8B, adapters on the language model only.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        lora: dict[str, Any] | str | None = None,
        seconds_per_grid: float = 1.0,
        chat_template: str | None = None,
        injection_layers: list[int] | None = None,
        cross_attention: Component | None = None,
        gradient_checkpointing: bool = False,
        attn_implementation: str | None = None,
        freeze_lm: bool = False,
        dtype: str | None = None,
        stop_token_ids: list[int] | None = None,
        validate_finite: bool = False,
    ) -> None:
        if not seconds_per_grid > 0:
            cause = f"Expected `seconds_per_grid` above 0, but got {seconds_per_grid}."
            raise ConfigError(cause, "Pass the time between two steps of visual tokens.")
        family = family_of(model)
        if tokenizer is None:
            tokenizer = _own_tokenizer(model)
        super().__init__(
            model,
            chat_tokenizer(load_tokenizer(tokenizer), family, chat_template),
            lora=lora,
            injection_layers=injection_layers,
            cross_attention=cross_attention,
            visual_placeholder=family.placeholder,
            gradient_checkpointing=gradient_checkpointing,
            attn_implementation=attn_implementation,
            freeze_lm=freeze_lm,
            dtype=dtype,
            stop_token_ids=stop_token_ids,
            validate_finite=validate_finite,
        )
        self.family, self.seconds_per_grid = family, seconds_per_grid

    def encode(
        self,
        prompts: Sequence[str],
        targets: Sequence[str] | None = None,
        visual: VisualContext | None = None,
        *,
        loss_on: Literal["target", "all"] = "target",
        max_length: int | None = None,
        padding_side: Literal["left", "right"] = "right",
    ) -> EncodedText:
        """Turn prompts (and target reports) into padded ids and labels, through the chat template.

        Args:
            prompts: What the user says, one a sample; a ``<visual>`` marker says where the video stands,
                which else comes first, a ``<text>`` marker where the text of ``visual`` goes.
            targets: What the assistant answers; an end-of-text token is appended.
            visual: Its ``text`` is spliced into the prompts, its ``grid`` says how the video is written.
            loss_on: ``"target"`` takes the loss on the answer alone, ``"all"`` on the prompt too.
            max_length: Longest text kept, in tokens (placeholders not counted).
            padding_side: ``"right"`` for training, ``"left"`` for generation.

        Raises:
            ShapeError: If numbers differ, visual tokens have no grid, or a prompt is too long.
            ConfigError: If the chat template writes no video.
        """
        prompts = splice_text(prompts, None if visual is None else visual.text)
        grid = None if visual is None or visual.tokens is None else _grid(visual)
        prompts = chat_prompts(self.tokenizer, self.family, prompts, grid, self.seconds_per_grid)
        return super().encode(
            prompts,
            targets,
            None if visual is None else replace(visual, text=None),
            loss_on=loss_on,
            max_length=max_length,
            padding_side=padding_side,
        )

    def _build(self, model: Any, *, grow: bool = False, **options: Any) -> Any:
        """Return the model without the half that sees, with the placeholder's id in its config."""
        family, text = family_of(model), token_settings(self.tokenizer)
        lm = load_half(model, "language", **options, **text)
        fit_vocabulary(lm, self.tokenizer, grow=grow and isinstance(model, dict))
        own = getattr(lm.config, family.id_name)
        if isinstance(model, dict):
            for name, token in family.token_ids.items():
                setattr(lm.config, name, self.tokenizer.convert_tokens_to_ids(token))
        elif own != self.placeholder_id:
            cause = f"`{family.placeholder}` has the id {self.placeholder_id} in the tokenizer, but {own} in the model."
            raise ConfigError(cause, "Use the tokenizer that belongs to the checkpoint.")
        return lm

    def _positions(self, ids: Tensor, attention_mask: Tensor, visual: VisualContext | None) -> Tensor:
        """Return positions; of three parts where the family has such, by the model's own function."""
        if not self.family.rotary or visual is None or visual.tokens is None:
            return super()._positions(ids, attention_mask, visual)
        import torch

        steps, rows, columns = _grid(visual)
        merged = self.lm.config.vision_config.spatial_merge_size
        grids = torch.tensor([[steps, rows * merged, columns * merged]] * ids.shape[0])
        times = {"second_per_grid_ts": [self.seconds_per_grid] * ids.shape[0]} if self.family.timed else {}
        # it reads single values, each of which would wait for a device
        host = ids.cpu()
        positions, _ = self.lm.model.get_rope_index(
            host,
            mm_token_type_ids=host.eq(self.placeholder_id or 0).int() * 2,
            video_grid_thw=grids,
            attention_mask=attention_mask.cpu(),
            **times,
        )
        return positions.to(ids.device)


def _own_tokenizer(model: Any) -> str:
    """Return the path that the tokenizer of a model lies at."""
    if isinstance(model, dict) or hasattr(model, "config"):
        msg = "A model that is given as an object or a config brings no tokenizer."
        raise ConfigError(msg, "Pass `tokenizer`: a path or hub id, or what `train_bpe_tokenizer` returns.")
    return str(model)


def _grid(visual: VisualContext) -> tuple[int, int, int]:
    """Return the grid of visual tokens."""
    if visual.grid is None:
        msg = "A video language model writes and places visual tokens by their grid, but they have none."
        raise ShapeError(msg, "Use the connector `VideoTokens`, or pass `VisualContext(tokens, grid=(T, H, W))`.")
    return visual.grid
