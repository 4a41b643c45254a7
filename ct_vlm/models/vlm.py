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
from ct_vlm.models.inputs import check_levels, floating_dtype, model_image
from ct_vlm.text.prompts import ReportPrompt
from ct_vlm.transforms import Volume, get_preset, load_on_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct_vlm.decoders import Decoder
    from ct_vlm.decoders.base import DecoderOutput
    from ct_vlm.decoders.encoding import EncodedText
    from ct_vlm.encoders import Encoder
    from ct_vlm.features import Features
    from ct_vlm.modules import Connector
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

    Shape:
        - Input: batch with ``image (B, C, D, H, W)`` and ``report`` (B strings).
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
        # names may mean other settings in a later version: the config keeps the resolved values,
        # where they are arguments (a subclass may have a constructor of its own)
        resolved = {"prompt": self.prompt, "preset": self.preset}
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})

    def encode_image(self, batch: Mapping[str, Any]) -> Features:
        """Return the encoder's features of a batch (or those the batch already carries).

        Integer HU are windowed by the model's preset; everything gets the dtype of the encoder.
        """
        features: Features | None = batch.get("features")
        if features is None:
            return self.encoder(model_image(batch["image"], self.encoder, self.preset))
        dtype = floating_dtype(self.encoder)
        return features if dtype is None else replace(features, levels=[level.to(dtype) for level in features.levels])

    def visual_context(self, batch: Mapping[str, Any]) -> VisualContext:
        """Return what the decoder reads of a batch."""
        features = self.encode_image(batch)
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

    def forward(self, batch: Mapping[str, Any]) -> DecoderOutput:
        """Return loss (and logits where the decoder gives them) of a batch's reports."""
        reports = batch.get("report")
        if reports is None:
            msg = "The batch holds no `report`."
            raise ShapeError(msg, "Use a dataset with report text, or call `generate`.")
        prompts, visual = self.prompts(batch, self.visual_context(batch), len(reports))
        encoded = self._encode(prompts, list(reports), visual)
        device = next(self.parameters()).device
        return self.decoder(**encoded.to(device).inputs(), visual=visual)

    def _encode(self, prompts: list[str], reports: list[str], visual: VisualContext) -> EncodedText:
        """Encode prompts and reports, cut to what fits; say once that some were cut."""
        room = self.decoder.max_positions
        limits = [self.max_length, None if room is None else room - visual.num_tokens]
        known = [limit for limit in limits if limit is not None]
        # a decoder of one's own needs to know `max_length` only where there is a limit
        options: dict[str, Any] = {"max_length": min(known)} if known else {}
        encoded = self.decoder.encode(prompts, reports, visual, **options)
        if encoded.num_cut and not self.num_cut:
            _log.warning("Reports are cut to fit %d tokens of text; `num_cut` of the model counts them.", min(known))
        self.num_cut += encoded.num_cut
        return encoded

    @torch.no_grad()
    def generate_batch(self, batch: Mapping[str, Any], **generation: Any) -> list[str]:
        """Write one report a sample of a batch.

        Args:
            batch: Needs ``image`` (or ``features``).
            generation: Options of the decoder's ``generate``.
        """
        context = self.visual_context(batch)
        size = context.tokens.shape[0] if context.tokens is not None else len(context.text or batch["image"])
        prompts, visual = self.prompts(batch, context, size)
        return self.decoder.generate(prompts, visual, **generation)

    @torch.no_grad()
    def generate(self, volume: str | Path | Volume | Tensor, *, hu_source: str = "auto", **generation: Any) -> str:
        """Write the report of one scan.

        Args:
            volume: A NIfTI file, a loaded :class:`~ct_vlm.transforms.Volume`, or a windowed tensor.
            hu_source: Where HU come from, see :func:`ct_vlm.transforms.load_volume`.
            generation: Options of the decoder's ``generate``.

        Shape:
            - volume (if a tensor): ``(C, D, H, W)`` or ``(1, C, D, H, W)``.

        Returns:
            The report.

        Raises:
            VolumeError: If the file cannot be turned into HU.
            ConfigError: If the model has no preset to read a file with.
        """
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
