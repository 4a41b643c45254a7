"""Packed regions give the loss and the gradients of regions on their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.studies.medregion.packing import PackedReportLightningModule
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.features import Features
from ct_vlm.models import medregion_ct
from ct_vlm.models.medregion_ct import CONFIGS
from ct_vlm.tasks import ReportLightningModule
from ct_vlm.text import MEDREGION_REGIONS

TEXTS = [
    {"lung": "A nodule of 12 mm in the left upper lobe.", "upper abdomen": "Normal.", "mediastinum": "No nodes."},
    {"osseous structures": "No fracture."},
    dict.fromkeys(MEDREGION_REGIONS, "Nothing of note."),
]


def batch() -> dict[str, object]:
    grid, generator = (4, 2, 2), torch.Generator().manual_seed(0)
    levels = [torch.randn(3, 16, 64, generator=generator) for _ in range(2)]
    masks = (torch.rand(3, 6, *(4, 8, 8), generator=generator) > 0.5).to(torch.uint8)
    attributes = ["Heart: 640 mL.", "Heart: 7 mL.", ""]
    return {
        "features": Features(levels, [grid, grid]),
        "region_masks": masks,
        "attributes": attributes,
        "region_reports": TEXTS,
    }


@pytest.mark.parametrize("options", [{}, {"mask_tokens": False, "attributes": False}])
def test_loss_and_gradients_are_those_of_single_regions(options):
    tokenizer = train_bpe_tokenizer([text for texts in TEXTS for text in texts.values()], 300)
    torch.manual_seed(0)
    model = medregion_ct(replace(CONFIGS["tiny"], num_slices=4), tokenizer=tokenizer, **options)
    tasks = [cls.from_model(model).eval() for cls in (ReportLightningModule, PackedReportLightningModule)]
    found = []
    for task in tasks:
        task.zero_grad()
        output = task(batch())
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}
        found.append((output.loss.detach(), int(output.num_targets), gradients))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][2].keys() == found[1][2].keys()
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], rtol=1e-3, atol=1e-6, msg=name)
