from __future__ import annotations

import pytest
import torch
from torch import nn

from ct_vlm.errors import CheckpointError
from ct_vlm.models import transfer, u_vlm_classification, u_vlm_segmentation


def test_encoder_moves_from_stage_to_stage_and_the_report_names_every_key():
    one, two = u_vlm_segmentation("tiny"), u_vlm_classification("tiny")
    report = transfer(one.encoder, two.encoder)
    assert sorted(report.moved) == sorted(one.encoder.state_dict())
    assert report.num_parameters == sum(p.numel() for p in one.encoder.parameters())
    for key, value in one.encoder.state_dict().items():
        assert two.encoder.state_dict()[key].equal(value)
    assert f"moved {len(report.moved)} tensors" in str(report)


@pytest.mark.parametrize("target", [nn.Linear(2, 4), nn.Linear(2, 3, bias=False), nn.Sequential(nn.Linear(2, 3))])
def test_parts_that_do_not_fit_are_refused_and_left_untouched(target):
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match="do not fit"):
        transfer(nn.Linear(2, 3), target)
    assert all(before[k].equal(v) for k, v in target.state_dict().items())


def test_transfer_copies_rather_than_shares():
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    transfer(source, target)
    with torch.no_grad():
        source.weight.zero_()
    assert target.weight.abs().sum() > 0
