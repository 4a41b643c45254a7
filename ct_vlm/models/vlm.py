"""Encoder + connectors + decoder: the one generic vision-language model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.text.prompts import ReportPrompt
from ct_vlm.transforms import Volume, get_preset, load_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct_vlm.decoders import Decoder
    from ct_vlm.decoders.base import DecoderOutput
    from ct_vlm.encoders import Encoder
    from ct_vlm.features import Features
    from ct_vlm.modules import Connector
    from ct_vlm.transforms import CTPreset


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

    Shape:
        - Input: batch with ``image (B, C, D, H, W)`` and ``report`` (B strings).
        - Output: :class:`~ct_vlm.decoders.base.DecoderOutput`.

    Raises:
        ConfigError: If there is no connector.
    """

    def __init__(
        self,
        encoder: Encoder,
        connectors: Sequence[Connector],
        decoder: Decoder,
        prompt: ReportPrompt | str | None = None,
        preset: CTPreset | str | None = None,
    ) -> None:
        super().__init__()
        if len(connectors) == 0:
            cause = "Expected at least one connector, but got none."
            raise ConfigError(cause, "Pass e.g. `MultiLayerVisualInjection`.")
        self.encoder = encoder
        self.connectors = nn.ModuleList(connectors)
        self.decoder = decoder
        self.prompt = ReportPrompt(prompt) if isinstance(prompt, str) else prompt or ReportPrompt()
        self.preset = None if preset is None else get_preset(preset)
        # names may mean other settings in a later version: the config keeps the resolved values,
        # where they are arguments (a subclass may have a constructor of its own)
        resolved = {"prompt": self.prompt, "preset": self.preset}
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})

    def encode_image(self, batch: Mapping[str, Any]) -> Features:
        """Return the encoder's features of a batch (or those the batch already carries)."""
        features: Features | None = batch.get("features")
        return self.encoder(batch["image"]) if features is None else features

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
        encoded = self.decoder.encode(prompts, list(reports), visual)
        device = next(self.parameters()).device
        return self.decoder(**encoded.to(device).inputs(), visual=visual)

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
            return (volume.unsqueeze(0) if volume.ndim == 4 else volume).to(device)
        if self.preset is None:
            msg = "The model has no preprocessing preset."
            raise ConfigError(msg, "Build it with `preset=...`, or pass a tensor.")
        if not isinstance(volume, Volume):
            volume = load_volume(volume, hu_source, axcodes=self.preset.axcodes)
        hu = torch.from_numpy(np.ascontiguousarray(self.preset.resample(volume)))[None, None]
        return self.preset.window(hu.to(device))
