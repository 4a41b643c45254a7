"""Encoder + connectors + decoder: the one generic vision-language model."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.models.grounding import check_needs_nothing, generate_grounded
from ct_vlm.models.inputs import check_levels, floating_dtype, model_image, scan_geometry
from ct_vlm.models.regionwise import rows_to_learn, rows_to_write
from ct_vlm.text.prompts import ReportPrompt
from ct_vlm.text.region_reports import merge_region_reports
from ct_vlm.transforms import Volume, get_preset, load_on_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct_vlm.attributes import MaskSet
    from ct_vlm.decoders import Decoder
    from ct_vlm.decoders.base import DecoderOutput
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.encoders import Encoder
    from ct_vlm.features import Features
    from ct_vlm.models.segmenters import Segmenter
    from ct_vlm.modules import Connector
    from ct_vlm.text.region_prompts import RegionPrompts
    from ct_vlm.transforms import CTPreset

_log = logging.getLogger(__name__)


class VisionLanguageModel(Component):
    """A volume to its report: encoder, connectors and decoder behind one interface.

    The four published systems are configurations of this class.

    Args:
        encoder: Volume to features.
        connectors: Parts that turn features into visual context; their contexts are concatenated.
        decoder: Reads the context and writes text.
        prompt: Instruction that opens every text; a string or a :class:`~ct_vlm.text.ReportPrompt`.
        preset: Preprocessing of the volumes, by name or as an object; stored with the weights so
            that a checkpoint alone can read a scan.
        max_length: Longest training text (prompt and report) in tokens; longer reports are cut at
            their end. The decoder's own limit, less the visual tokens, holds in any case.
        region_prompts: Ask for one region after another instead of the whole report: trained on the
            batch's ``region_reports``, and the texts of all regions are merged to the report. Volumes
            are encoded once, whatever the number of regions. A batch with prompts of its own
            (questions) is answered by those.

    Shape:
        - Input: batch with ``image (B, C, D, H, W)`` and ``report`` (B strings), or
          ``region_reports`` (B dicts from region to text).
        - Output: :class:`~ct_vlm.decoders.base.DecoderOutput`.

    Raises:
        ConfigError: If there is no connector, or one is built for other levels than the encoder's.
    """

    def __init__(
        self,
        encoder: Encoder,
        connectors: Sequence[Connector],
        decoder: Decoder,
        prompt: ReportPrompt | str | None = None,
        preset: CTPreset | str | None = None,
        *,
        max_length: int | None = None,
        region_prompts: RegionPrompts | None = None,
    ) -> None:
        super().__init__()
        if len(connectors) == 0:
            cause = "Expected at least one connector, but got none."
            raise ConfigError(cause, "Pass e.g. `MultiLayerVisualInjection`.")
        for index, connector in enumerate(connectors):
            check_levels(encoder, connector, f"connectors.{index}")
        self.encoder = encoder
        self.connectors = nn.ModuleList(connectors)
        self.decoder = decoder
        self.prompt = ReportPrompt(prompt) if isinstance(prompt, str) else prompt or ReportPrompt()
        self.preset = None if preset is None else get_preset(preset)
        self.max_length, self.num_cut = max_length, 0
        self.region_prompts = region_prompts
        # names may mean other settings in a later version: the config keeps the resolved values,
        # where they are arguments (a subclass may have a constructor of its own)
        resolved = {"prompt": self.prompt, "preset": self.preset}
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})

    def encode_image(self, batch: Mapping[str, Any]) -> Features:
        """Return the encoder's features of a batch (or those the batch already carries).

        Integer HU are windowed by the model's preset; everything gets the dtype of the encoder.
        ``spacing`` and ``padding_mask`` of the batch go to encoders that take them.
        """
        features: Features | None = batch.get("features")
        if features is None:
            image = model_image(batch["image"], self.encoder, self.preset)
            return self.encoder(image, **scan_geometry(self.encoder, batch))
        dtype = floating_dtype(self.encoder)
        return features if dtype is None else replace(features, levels=[level.to(dtype) for level in features.levels])

    def visual_context(self, batch: Mapping[str, Any]) -> VisualContext:
        """Return what the decoder reads of a batch."""
        # connectors share what they work out of the same features in this pass
        features = replace(self.encode_image(batch), shared={})
        return VisualContext.concat([connector(features, batch) for connector in self.connectors])

    def prompts(self, batch: Mapping[str, Any], visual: VisualContext, size: int) -> tuple[list[str], VisualContext]:
        """Return one instruction a sample, and the context without the text they now hold.

        A batch's own prompts are kept; the decoder splices the context's text into those.
        """
        own = batch.get("prompt")
        if own is not None:
            return list(own), visual
        texts = visual.text or [""] * size
        return [self.prompt.render(text) for text in texts], replace(visual, text=None)

    def asks_regions(self, batch: Mapping[str, Any]) -> bool:
        """Tell whether a batch is asked region by region: the model does, and the batch has no prompts."""
        return self.region_prompts is not None and batch.get("prompt") is None

    def forward(self, batch: Mapping[str, Any]) -> DecoderOutput:
        """Return loss (and logits where the decoder gives them) of a batch's texts.

        With ``region_prompts`` a text is that of one region of one sample.
        """
        if self.region_prompts is not None and self.asks_regions(batch):
            # before the volumes are encoded: a batch that teaches nothing raises here
            rows = rows_to_learn(self.region_prompts, batch, draw=self.training)
            context = self.visual_context(batch)
            prompts, targets = rows.prompts(self.region_prompts, context.text), rows.targets or []
            visual = replace(context, text=None).select(rows.samples)
        else:
            targets = _reports(batch)
            prompts, visual = self.prompts(batch, self.visual_context(batch), len(targets))
        encoded = self._encode(prompts, targets, visual)
        device = next(self.parameters()).device
        return self.decoder(**encoded.to(device).inputs(), visual=visual)

    def _encode(self, prompts: list[str], reports: list[str], visual: VisualContext) -> EncodedText:
        """Encode prompts and reports, cut to what fits; say once that some were cut."""
        limit = self.text_limit(visual)
        # a decoder of one's own needs to know `max_length` only where there is a limit
        options: dict[str, Any] = {} if limit is None else {"max_length": limit}
        encoded = self.decoder.encode(prompts, reports, visual, **options)
        self.count_cut(encoded.num_cut, limit)
        return encoded

    def text_limit(self, visual: VisualContext) -> int | None:
        """Return how many tokens of text fit beside a context's visual tokens; None where nothing limits them.

        Args:
            visual: The context.
        """
        room = self.decoder.max_positions
        limits = [self.max_length, None if room is None else room - visual.num_tokens]
        return min((limit for limit in limits if limit is not None), default=None)

    def count_cut(self, number: int, limit: int | None) -> None:
        """Count texts that were cut, and say once that there are some.

        Args:
            number: How many of a batch.
            limit: Tokens of text that fit.
        """
        if number and not self.num_cut:
            _log.warning("Reports are cut to fit %s tokens of text; `num_cut` of the model counts them.", limit)
        self.num_cut += number

    @torch.no_grad()
    def generate_batch(self, batch: Mapping[str, Any], **generation: Any) -> list[str]:
        """Write one report a sample of a batch: with ``region_prompts`` the merged texts of regions.

        Args:
            batch: Needs ``image`` (or ``features``).
            generation: Options of the decoder's ``generate``.
        """
        if self.region_prompts is not None and self.asks_regions(batch):
            written = self.generate_regions(batch, **generation)
            return [merge_region_reports(texts, self.region_prompts.names, skip_blank=True) for texts in written]
        context = self.visual_context(batch)
        prompts, visual = self.prompts(batch, context, _batch_size(context, batch))
        return self.decoder.generate(prompts, visual, **generation)

    @torch.no_grad()
    def generate_regions(self, batch: Mapping[str, Any], **generation: Any) -> list[dict[str, str]]:
        """Write the text of every region of every sample of a batch.

        All texts are one decoder batch, unless ``region_prompts.max_texts`` divides it.

        Args:
            batch: Needs ``image`` (or ``features``).
            generation: Options of the decoder's ``generate``.

        Returns:
            Region to text, a dict a sample.

        Raises:
            ConfigError: If the model is not asked region by region.
        """
        asked = self.region_prompts
        if asked is None:
            msg = "The model writes whole reports: it has no `region_prompts`."
            raise ConfigError(msg, "Build it with `region_prompts=RegionPrompts(...)`.")
        context = self.visual_context(batch)
        size = _batch_size(context, batch)
        rows = rows_to_write(asked, size)
        prompts, visual = rows.prompts(asked, context.text), replace(context, text=None)
        step = asked.max_texts or len(rows)
        texts = [
            text
            for start in range(0, len(rows), step)
            for text in self.decoder.generate(
                prompts[start : start + step], visual.select(rows.samples[start : start + step]), **generation
            )
        ]
        written: list[dict[str, str]] = [{} for _ in range(size)]
        for sample, region, text in zip(rows.samples, rows.regions, texts, strict=True):
            written[sample][region] = text
        return written

    @torch.no_grad()
    def generate(
        self,
        volume: str | Path | Volume | Tensor,
        *,
        hu_source: str = "auto",
        masks: MaskSet | Segmenter | None = None,
        **generation: Any,
    ) -> str:
        """Write the report of one scan.

        Args:
            volume: A NIfTI file, a loaded :class:`~ct_vlm.transforms.Volume`, or a windowed tensor.
            hu_source: Where HU come from, see :func:`ct_vlm.transforms.load_volume`.
            masks: For models that read masks of regions; with them, the options of
                :func:`ct_vlm.models.generate_grounded` are understood too, which also tells what
                each part of the report rests on.
            generation: Options of the decoder's ``generate``.

        Shape:
            - volume (if a tensor): ``(C, D, H, W)`` or ``(1, C, D, H, W)``.

        Returns:
            The report.

        Raises:
            VolumeError: If the file cannot be turned into HU.
            ConfigError: If the model has no preset to read a file with, or needs masks that were not
                given, or reads none that were.
        """
        if masks is not None:
            return generate_grounded(self, volume, masks, hu_source=hu_source, **generation).report
        check_needs_nothing(self)
        training = self.training
        self.eval()
        try:
            return self.generate_batch({"image": self.read_image(volume, hu_source=hu_source)}, **generation)[0]
        finally:
            self.train(training)

    def read_image(self, volume: str | Path | Volume | Tensor, *, hu_source: str = "auto") -> Tensor:
        """Return a scan as the encoder wants it, ``(1, C, D, H, W)`` on the model's device."""
        device = next(self.parameters()).device
        if isinstance(volume, Tensor):
            image = (volume.unsqueeze(0) if volume.ndim == 4 else volume).to(device)
            return model_image(image, self.encoder, self.preset)
        if self.preset is None:
            msg = "The model has no preprocessing preset."
            raise ConfigError(msg, "Build it with `preset=...`, or pass a tensor.")
        if isinstance(volume, Volume):
            array = np.ascontiguousarray(self.preset.resample(volume))
        else:
            array = load_on_grid(volume, self.preset, hu_source).array
        return model_image(torch.from_numpy(array)[None, None].to(device), self.encoder, self.preset)


def _reports(batch: Mapping[str, Any]) -> list[str]:
    """Return the reports of a batch."""
    reports = batch.get("report")
    if reports is None:
        msg = "The batch holds no `report`."
        raise ShapeError(msg, "Use a dataset with report text, or call `generate`.")
    return list(reports)


def _batch_size(context: VisualContext, batch: Mapping[str, Any]) -> int:
    """Return the number of samples of a batch."""
    tensor = context.memory if context.tokens is None else context.tokens
    return tensor.shape[0] if tensor is not None else len(context.text or batch["image"])
