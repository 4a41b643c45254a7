"""Any transformers causal LM as a decoder that reads visual tokens and injected layer states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from ct_vlm.decoders import sequence as seq
from ct_vlm.decoders.base import Decoder, DecoderOutput
from ct_vlm.decoders.branches import check_branches, log_probs_apart, log_probs_packed
from ct_vlm.decoders.cross_attention import check_adapters, memory_inputs
from ct_vlm.decoders.encoding import IGNORE_INDEX, encode_batch, splice_text
from ct_vlm.decoders.generation import evaluating, generation_config, seeded
from ct_vlm.decoders.head import mean_loss, target_loss
from ct_vlm.decoders.language_model import (
    add_lora,
    build_language_model,
    config_of,
    enable_checkpointing,
    find_layers,
    stop_tokens,
)
from ct_vlm.decoders.lora import lora_settings
from ct_vlm.decoders.placeholders import fill_placeholders, placeholder_layout, tokenizer_and_placeholder
from ct_vlm.decoders.tokenizer import load_tokenizer, tokenizer_to_config
from ct_vlm.decoders.validation import check_finite, check_layers, check_length, check_text, check_visual
from ct_vlm.decoders.visual_lm import make_visual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.component import Component
    from ct_vlm.decoders.branches import BranchLogProbs
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.features import VisualContext


class CausalLMDecoder(Decoder):
    """A transformers causal LM that reads visual tokens and injected layer states.

    Visual tokens take places of their own in the sequence: where the prompt has a ``<visual>``
    marker, else before the text. States of ``VisualContext.layer_states`` are added to the input of
    their decoder layer at those places, once, in the pass over the prompt. With ``cross_attention``,
    the output of its layers reads a memory (``VisualContext.memory``, else the visual tokens) at every
    position and in every decode step. The LM keeps its state-dict keys (under ``lm.``), its own
    ``generate`` and its attention; text without visual context gives what the LM alone gives.

    The loss projects only the rows that predict a target onto the vocabulary, and where the head is
    a plain product with its weight it never holds their logits all at once.

    The config that a checkpoint holds describes architecture, adapters and tokenizer completely:
    neither the path of the model nor that of the tokenizer is needed again.

    Args:
        model: Path or hub id of a causal LM, a config dict with ``model_type`` (random weights), or
            a ``PreTrainedModel`` (taken over, not copied).
        tokenizer: A fast tokenizer, a path or hub id, or the dict of ``tokenizer_to_config``.
        lora: Arguments of ``peft.LoraConfig``, or a name of ``LORA_PRESETS``; the rest of the LM is
            frozen then.
        hybrid_mask: Whether visual tokens attend to each other in both directions.
        injection_layers: Layers that may receive states; None allows every layer.
        cross_attention: Adapters such as :class:`ct_vlm.modules.CrossAttentionAdapters`, or any
            component that is a :class:`~ct_vlm.decoders.CrossAttention`; they are trained whatever is
            frozen in the LM.
        visual_placeholder: A special token such as ``<|visual_region|>``, which is added to tokenizer
            and LM if they lack it. Visual tokens then take the places of such tokens among the ids,
            as chat templates have it: :meth:`encode` writes one for each token of its ``visual`` in
            place of the ``<visual>`` marker, and prompts may hold them written out. It is never
            generated.
        gradient_checkpointing: Whether layers are recomputed in the backward pass.
        attn_implementation: Attention of the LM; None lets transformers choose.
        freeze_lm: Whether the LM's own weights are frozen (with ``lora`` they are anyway).
        dtype: Parameter dtype such as ``"bfloat16"``; None keeps that of the weights.
        stop_token_ids: Ids that end a text; None takes those of the model and the tokenizer.
        validate_finite: Whether ``forward`` checks visual tokens for NaN and infinity. It costs a
            host synchronisation a step, so it is for debugging; ``generate`` always checks.

    Shape:
        - input_ids, labels, attention_mask: ``(B, T)``.
        - visual tokens and layer states: ``(B, N, E)``.
        - logits: ``(B, T, V)``.

    Raises:
        ConfigError: If model, tokenizer, adapters and options do not fit together.
        CheckpointError: If a path or hub id holds no model.

    Example:
        >>> import torch
        >>> from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
        >>> from ct_vlm.features import VisualContext
        >>> config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        ...           "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> decoder = CausalLMDecoder(config, train_bpe_tokenizer(["clear lungs"], 270))
        >>> batch = decoder.encode(["Report:"], ["Clear lungs."])
        >>> visual = VisualContext(torch.randn(1, 3, 16), {0: torch.randn(1, 3, 16)})
        >>> decoder(**batch.inputs(), visual=visual).loss.ndim
        0
        >>> len(decoder.generate(["Report:"], visual, max_new_tokens=4))
        1

    References:
        U-VLM, https://arxiv.org/abs/2603.00479. Differs from the paper: in a pretrained LM, states
        are added before the layer's attention, as its inside is left alone; the small decoder adds
        them in between attention and feed-forward network, as the paper does. The paper's pretrained
        variant has no injection at all.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        lora: dict[str, Any] | str | None = None,
        hybrid_mask: bool = False,
        injection_layers: list[int] | None = None,
        cross_attention: Component | None = None,
        visual_placeholder: str | None = None,
        gradient_checkpointing: bool = False,
        attn_implementation: str | None = None,
        freeze_lm: bool = False,
        dtype: str | None = None,
        stop_token_ids: list[int] | None = None,
        validate_finite: bool = False,
    ) -> None:
        super().__init__()
        self.tokenizer, self.placeholder_id = tokenizer_and_placeholder(load_tokenizer(tokenizer), visual_placeholder)
        self.visual_placeholder, grow = visual_placeholder, visual_placeholder is not None
        self.lm = self._build(model, dtype=dtype, attn_implementation=attn_implementation, grow=grow)
        # transformers loads weights in evaluation mode, in which layers are never recomputed
        self.lm.train(self.training)
        layers = find_layers(self.lm)
        self.num_layers = len(layers)
        self.embed_dim = self.lm.get_input_embeddings().embedding_dim
        self.injection_layers = check_layers(injection_layers, self.num_layers)
        self.cross_attention = check_adapters(cross_attention, self.embed_dim, self.num_layers)
        self.stop_token_ids = stop_tokens(self.lm, self.tokenizer) if stop_token_ids is None else stop_token_ids
        self.validate_finite = validate_finite
        lora = None if lora is None else lora_settings(lora)
        self._record(config_of(self.lm), lora)
        if freeze_lm:
            self.lm.requires_grad_(False)
        if lora is not None:
            add_lora(self.lm, lora)
        make_visual(self.lm, layers, hybrid_mask=hybrid_mask, reads_memory=cross_attention is not None)
        if gradient_checkpointing:
            enable_checkpointing(self.lm)
        self._reset_generation_defaults()

    @property
    def max_positions(self) -> int | None:
        """Longest sequence of visual and text tokens together."""
        limit = getattr(self.lm.config.get_text_config(), "max_position_embeddings", None)
        return None if limit is None else int(limit)

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
        """Turn prompts (and target reports) into padded ids and labels.

        Args:
            prompts: One instruction a sample; a ``<visual>`` marker says where visual tokens go, a
                ``<text>`` marker where the text of ``visual`` goes.
            targets: One report a sample; an end-of-text token is appended.
            visual: Its ``text`` is spliced into the prompts; with ``visual_placeholder``, so is one
                placeholder for each of its tokens.
            loss_on: ``"target"`` takes the loss on the report alone, ``"all"`` on the prompt too.
            max_length: Longest text kept, in tokens (placeholders not counted); reports are cut at their
                end.
            padding_side: ``"right"`` for training, ``"left"`` for generation.

        Raises:
            ShapeError: If the numbers of prompts, targets and texts differ, or of placeholders and
                visual tokens, or a prompt is too long.
        """
        prompts = splice_text(prompts, None if visual is None else visual.text)
        if self.visual_placeholder is not None:
            count = 0 if visual is None else visual.num_tokens
            prompts = fill_placeholders(prompts, self.visual_placeholder, count)
            max_length = None if max_length is None else max_length + count
        return encode_batch(
            self.tokenizer, prompts, targets, loss_on=loss_on, max_length=max_length, padding_side=padding_side
        )

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        visual: VisualContext | None = None,
        attention_mask: Tensor | None = None,
        *,
        visual_position: Tensor | None = None,
        output_logits: bool | None = None,
    ) -> DecoderOutput:
        """Compute the loss or the logits of token ids given visual context.

        Args:
            input_ids: Text tokens; with ``visual_placeholder``, one for each visual token, else none.
            labels: Target ids, -100 where no loss is taken; aligned with ``input_ids``.
            visual: Visual tokens, layer states and memory; its ``text`` belongs into :meth:`encode`.
            attention_mask: 1 at text tokens, 0 at padding (either side); None means no padding.
            visual_position: Text index that the visual tokens go before; None means the first
                token. :meth:`encode` returns it. Placeholders make it meaningless.
            output_logits: Whether logits of all text positions are returned; None means only
                without labels.

        Raises:
            ShapeError: If shapes, widths or batch sizes do not fit together.
            ConfigError: If ``visual`` has states for a layer that receives none.
        """
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        check_text(input_ids, labels, attention_mask)
        layout, inputs = self._inputs(input_ids, visual, attention_mask, visual_position)
        wants_logits = labels is None if output_logits is None else output_logits
        if labels is None:
            rows = None if layout is None else _flat(layout.text_place, inputs["attention_mask"])
            logits = self.lm(**inputs, logit_rows=rows, use_cache=False).logits
            return DecoderOutput(logits=logits.view(*input_ids.shape, -1))
        labels = labels if layout is None else layout.spread(labels, IGNORE_INDEX)
        rows, targets = seq.label_rows(labels)
        count = torch.tensor(max(targets.numel(), 1), device=targets.device)
        if not wants_logits:
            return DecoderOutput(loss=target_loss(self.lm, inputs, rows, targets), num_targets=count)
        logits = self.lm(**inputs, use_cache=False).logits
        loss = mean_loss(logits.flatten(0, 1)[rows], targets)
        if layout is not None:
            logits = logits.gather(1, layout.text_place[..., None].expand(-1, -1, logits.shape[-1]))
        return DecoderOutput(loss=loss, logits=logits, num_targets=count)

    def branch_log_probs(
        self,
        prompts: Sequence[str],
        branches: Sequence[Sequence[str]],
        visual: VisualContext | None = None,
        *,
        max_length: int | None = None,
        ends: bool = True,
        shared: bool = True,
    ) -> BranchLogProbs:
        """Return the log-probabilities of several texts for each prompt, in one pass.

        Prompt and visual tokens are read once. Language models that cannot read texts side by side (with
        recurrent layers, positions that attention counts itself, a sliding window shorter than the
        sequence, attention without masks) read them one after another.

        Args:
            prompts: One instruction a sample.
            branches: The texts of each sample, equally many.
            visual: Visual tokens, layer states, memory and text, one row a prompt.
            max_length: Longest text kept, in tokens, as in :meth:`encode`.
            ends: Whether texts are whole: their end-of-text token counts then. It does not for beginnings
                of longer texts.
            shared: Whether prompts may be read once; False takes a pass a branch.

        Raises:
            ShapeError: If the numbers of texts differ, or shapes do not fit together.
        """
        check_branches(prompts, branches)
        options: dict[str, Any] = {"ends": ends, **({} if max_length is None else {"max_length": max_length})}
        found = log_probs_packed(self, prompts, branches, visual, **options) if shared else None
        return log_probs_apart(self, prompts, branches, visual, **options) if found is None else found

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        visual: VisualContext | None = None,
        *,
        max_new_tokens: int = 256,
        num_beams: int = 1,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        **options: Any,
    ) -> list[str]:
        """Write one text a prompt: greedy by default, with beams, or by sampling.

        Prompts may differ in length; every sample stops at its own end-of-text token. Keys and values
        are always kept between steps: transformers does so wherever a prompt is given as embeddings.

        Args:
            prompts: One instruction a sample, in the form that training used.
            visual: Visual tokens, layer states and text, one row a prompt.
            max_new_tokens: Upper bound of the number of new tokens.
            num_beams: Number of beams; 1 is no beam search.
            do_sample: Whether tokens are drawn rather than chosen.
            temperature: Divides the logits before sampling; 0 means greedy.
            top_p: Smallest probability mass that tokens are drawn from.
            top_k: Number of tokens drawn from; 0 means all.
            seed: Seed of the draws; the global random state is left as it was.
            options: Further fields of ``transformers.GenerationConfig``, such as
                ``repetition_penalty``, ``no_repeat_ngram_size`` or ``length_penalty``.

        Returns:
            The new text only, without special tokens.

        Raises:
            ShapeError: If ``visual`` and prompts differ in number, tokens are not finite, or the
                sequence is too long for the model.
            ConfigError: If an option is out of range.
        """
        check_finite(visual)
        if self.placeholder_id is not None:
            options["suppress_tokens"] = [*(options.get("suppress_tokens") or ()), self.placeholder_id]
        config = generation_config(
            self.stop_token_ids,
            self._pad_id(),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            num_beams=num_beams,
            do_sample=do_sample,
            top_p=top_p,
            top_k=top_k,
            **options,
        )
        text = self.encode(prompts, visual=visual, padding_side="left").to(self.lm.device)
        _, inputs = self._inputs(text.input_ids, visual, text.attention_mask, text.visual_position)
        if inputs["position_ids"].ndim == 2:
            # generate counts these itself, step by step
            inputs.pop("position_ids")
        check_length(inputs["inputs_embeds"].shape[1] + max_new_tokens, self.lm.config.get_text_config())
        with evaluating(self.lm), seeded(seed, self.lm.device):
            ids = self.lm.generate(**inputs, generation_config=config)
        return [str(t) for t in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _inputs(
        self, ids: Tensor, visual: VisualContext | None, attention_mask: Tensor, position: Tensor | None
    ) -> tuple[seq.Layout | None, dict[str, Any]]:
        """Build the LM's keyword arguments, with visual tokens spliced in."""
        embeds = self.lm.get_input_embeddings()(ids)
        inputs: dict[str, Any] = {}
        if visual is not None:
            memory_dim = None if self.cross_attention is None else self.cross_attention.memory_dim
            check_visual(visual, ids.shape[0], self.embed_dim, self.injection_layers, memory_dim)
            if self.validate_finite:
                check_finite(visual)
            inputs.update(memory_inputs(self.cross_attention, visual))
        layout = self._layout(ids, visual, attention_mask, position)
        if layout is not None and visual is not None and visual.tokens is not None:
            embeds = layout.merge(visual.tokens.to(embeds), embeds)
            attention_mask = layout.spread(attention_mask, 1)
            # only a block of its own has a length
            length = visual.num_tokens if self.placeholder_id is None else None
            inputs.update(visual_mask=layout.visual_mask, visual_length=length)
            if visual.layer_states:
                inputs["visual_layers"] = tuple(sorted(visual.layer_states))
                states = [visual.layer_states[layer].to(embeds) for layer in inputs["visual_layers"]]
                inputs["visual_states"] = torch.stack(states, dim=1)
        check_length(embeds.shape[1], self.lm.config.get_text_config())
        inputs.update(inputs_embeds=embeds, attention_mask=attention_mask)
        inputs["position_ids"] = self._positions(ids, attention_mask, visual)
        return layout, inputs

    def _build(self, model: Any, **options: Any) -> Any:
        """Return the language model."""
        return build_language_model(model, self.tokenizer, **options)

    def _positions(
        self,
        ids: Tensor,  # noqa: ARG002
        attention_mask: Tensor,
        visual: VisualContext | None,  # noqa: ARG002
    ) -> Tensor:
        """Return the position of every token: ``(B, S)``, or ``(3, B, S)`` where positions have three parts.

        Args:
            ids: Text tokens (with placeholders, the whole sequence).
            attention_mask: 1 at tokens of the whole sequence, visual ones included.
            visual: What the visual tokens come from.
        """
        return seq.positions_from_mask(attention_mask)

    def _layout(
        self, ids: Tensor, visual: VisualContext | None, attention_mask: Tensor, position: Tensor | None
    ) -> seq.Layout | None:
        """Return where visual tokens stand; None where there are none."""
        count = 0 if visual is None else visual.num_tokens
        if self.placeholder_id is not None:
            layout = placeholder_layout(ids, self.placeholder_id, count)
            return layout if count else None
        if visual is None or visual.tokens is None:
            return None
        return seq.make_layout(count, seq.first_token(attention_mask) if position is None else position, ids.shape[1])

    def _pad_id(self) -> int:
        """Return the id that fills texts that have ended."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else (self.stop_token_ids or [0])[0])

    def _record(self, model_config: dict[str, Any], lora: dict[str, Any] | None) -> None:
        """Replace paths, names and objects in the recorded arguments by what rebuilds them."""
        resolved = {
            "model": model_config,
            "lora": lora,
            "tokenizer": tokenizer_to_config(self.tokenizer),
            "stop_token_ids": list(self.stop_token_ids),
        }
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})

    def _reset_generation_defaults(self) -> None:
        """Drop decoding defaults shipped with the weights, so that arguments alone decide."""
        from transformers import GenerationConfig

        self.lm.generation_config = GenerationConfig(
            eos_token_id=list(self.stop_token_ids), pad_token_id=self._pad_id()
        )


def _flat(place: Tensor, mask: Tensor) -> Tensor:
    """Turn places in each sample's sequence into indices of the flattened batch."""
    offset = torch.arange(place.shape[0], device=place.device)[:, None] * mask.shape[1]
    return (place + offset).flatten()
