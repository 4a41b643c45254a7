"""Training on all regions of a scan in one sequence, so that what they share is read once.

Prompts of different regions begin with the same tokens: the visual ones, a patient's attributes, the
first words of the instruction. They are laid out once, followed by what each region has of its own.
No region sees another, and positions count on from the shared part in each: the loss is that of
:class:`~ct_vlm.tasks.ReportLightningModule`, which lays everything out for each region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from ct_vlm.decoders.base import DecoderOutput
from ct_vlm.decoders.encoding import IGNORE_INDEX
from ct_vlm.decoders.head import target_loss
from ct_vlm.decoders.sequence import label_rows
from ct_vlm.models.regionwise import rows_to_learn
from ct_vlm.tasks import ReportLightningModule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ct_vlm.decoders import CausalLMDecoder

_PADDING = -1


@dataclass
class _Packed:
    """One scan's sequence: token ids, labels, the place of each token in its own text, and whose it is."""

    ids: Tensor
    labels: Tensor
    positions: Tensor
    owners: Tensor


class PackedReportLightningModule(ReportLightningModule):
    """The report task, with the regions of a scan packed into one sequence in training.

    The decoder has to be causal, without hybrid mask and states in its layers.
    """

    def forward(self, batch: Mapping[str, Any]) -> DecoderOutput:
        """Return the mean loss over the texts of all regions."""
        if self.region_prompts is None or not self.asks_regions(batch):
            return super().forward(batch)
        rows = rows_to_learn(self.region_prompts, batch, draw=self.training)
        context = self.visual_context(batch)
        tokens: Any = context.tokens
        decoder: Any = self.decoder
        encoded = decoder.encode(rows.prompts(self.region_prompts, context.text), rows.targets)
        texts = [
            (ids[mask.bool()], labels[mask.bool()])
            for ids, mask, labels in zip(encoded.input_ids, encoded.attention_mask, encoded.labels, strict=True)
        ]
        start = int(encoded.visual_position[0])
        samples = sorted(set(rows.samples))
        packed = [
            _pack([text for text, sample in zip(texts, rows.samples, strict=True) if sample == wanted], start, tokens)
            for wanted in samples
        ]
        return _loss(decoder, packed, tokens[samples], start)


def _pack(texts: Sequence[tuple[Tensor, Tensor]], start: int, tokens: Tensor) -> _Packed:
    """Lay out the texts of one scan; visual tokens get id 0 and are filled in later."""
    shared = _shared_length([ids for ids, _ in texts])
    first, count = texts[0][0], tokens.shape[1]
    visual = first.new_zeros(count)
    ids = [torch.cat([first[:start], visual, first[start:shared]])]
    labels = [torch.full((shared + count,), IGNORE_INDEX)]
    positions, owners = [torch.arange(shared + count)], [torch.zeros(shared + count, dtype=torch.long)]
    for number, (text, target) in enumerate(texts, start=1):
        own = len(text) - shared
        ids.append(text[shared:])
        labels.append(target[shared:])
        positions.append(torch.arange(own) + shared + count)
        owners.append(torch.full((own,), number))
    return _Packed(torch.cat(ids), torch.cat(labels), torch.cat(positions), torch.cat(owners))


def _shared_length(texts: Sequence[Tensor]) -> int:
    """Return how many first tokens all texts share; one is left to each, which predicts its first word."""
    if len(texts) == 1:
        return 1
    length = min(len(text) for text in texts)
    rows = torch.stack([text[:length] for text in texts])
    differs = (rows != rows[:1]).any(0)
    return int(differs.to(torch.int8).argmax()) if bool(differs.any()) else length - 1


def _loss(decoder: CausalLMDecoder, packed: Sequence[_Packed], tokens: Tensor, start: int) -> DecoderOutput:
    """Run the language model over the packed sequences."""
    ids = pad_sequence([item.ids for item in packed], batch_first=True)
    labels = pad_sequence([item.labels for item in packed], batch_first=True, padding_value=IGNORE_INDEX)
    positions = pad_sequence([item.positions for item in packed], batch_first=True)
    owners = pad_sequence([item.owners for item in packed], batch_first=True, padding_value=_PADDING)
    embeds = decoder.lm.get_input_embeddings()(ids)
    end = start + tokens.shape[1]
    embeds = torch.cat([embeds[:, :start], tokens.to(embeds), embeds[:, end:]], dim=1)
    places = torch.arange(ids.shape[1])
    sees = (owners[:, None] == owners[..., None]) | ((owners[:, None] == 0) & (owners[..., None] > 0))
    mask = (sees & (places[None] <= places[:, None]))[:, None]
    rows, targets = label_rows(labels)
    inputs = {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}
    return DecoderOutput(loss=target_loss(decoder.lm, inputs, rows, targets), num_targets=torch.tensor(len(targets)))
