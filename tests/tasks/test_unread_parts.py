"""Whatever the losses of a phase: what takes gradients gets some, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from ct_vlm.callbacks import NormCalibration
from ct_vlm.modules.unread import unread_names
from ct_vlm.tasks import AlignedReportLightningModule, OptimizerConfig, VisualAlignmentLightningModule
from ct_vlm.tasks.aligned_report import PHASE_3
from ct_vlm.tasks.visual_alignment import LOSSES, PHASE_1, PHASE_2

OPTIMIZER = OptimizerConfig(lr=1e-2, schedule="constant")


def alignment(parts, losses, **options):
    own = (parts.encoder(), parts.visual(), parts.jepa())
    return VisualAlignmentLightningModule(*own, OPTIMIZER, num_labels=2, losses=losses, **options)


def aligned(parts, losses, **options):
    own = (parts.encoder(), [parts.visual()], parts.decoder(), parts.jepa())
    return AlignedReportLightningModule(*own, optimizer=OPTIMIZER, num_labels=2, losses=losses, **options)


def names(module):
    trains = {name for name, p in module.named_parameters() if p.requires_grad}
    return trains, {name for name, p in module.named_parameters() if p.grad is not None}


def fitted(module, batch, folder, *, callbacks=(), **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    host = Trainer(
        accelerator="cpu",
        max_steps=2,
        default_root_dir=folder,
        enable_checkpointing=False,
        callbacks=list(callbacks),
        **quiet,
    )
    torch.manual_seed(0)
    host.fit(module, DataLoader([batch] * 4, batch_size=None), **options)
    return host


@pytest.mark.parametrize("losses", [*({name: 1.0} for name in LOSSES), PHASE_1, PHASE_2], ids="+".join)
def test_in_phases_1_and_2_what_takes_gradients_gets_some(losses, ker_parts) -> None:
    module, batch = alignment(ker_parts, losses), ker_parts.batch()
    module.compute_losses(module(batch), batch)["loss"].backward()
    trains, got = names(module)
    assert trains == got
    assert ("classifier.weight" in trains) == bool({"bce", "mil"} & set(losses))
    assert ("jepa.mlp.0.weight" in trains) == ("visual.calibrator.alpha" in trains)
    assert module.classifier.training


@pytest.mark.parametrize(
    "losses", [PHASE_3, {"lm": 1.0}, {"focal": 1.0}, {"jepa": 1.0}, {"lm": 1.0, "language_focal": 1.0}], ids="+".join
)
def test_in_phases_3_and_4_what_takes_gradients_gets_some(losses, ker_parts) -> None:
    module = aligned(ker_parts, losses)
    module.compute_losses(ker_parts.batch())["loss"].backward()
    trains, got = names(module)
    assert trains == got
    assert any(".lora_" in name for name in trains) == bool({"lm", "language_focal"} & set(losses))


def test_the_anchor_reads_what_its_pattern_names(ker_parts) -> None:
    module = aligned(ker_parts, {"lm": 1.0, "anchor": 1.0}, anchored=r"\.lora_|^token_classifier\.weight")
    assert "token_classifier.weight" in module.anchored_parameters()
    module.compute_losses(ker_parts.batch())["loss"].backward()
    trains, got = names(module)
    assert trains == got
    assert "token_classifier.bias" not in trains


def test_checkpoints_from_when_unread_parts_took_gradients_go_on(ker_parts, tmp_path) -> None:
    batch, now = ker_parts.batch(), alignment(ker_parts, PHASE_2)
    before = copy.deepcopy(now)
    weight = now.classifier.weight.clone()
    for parameter in before.classifier.parameters():
        parameter.requires_grad_(True)
    hosts = [fitted(module, batch, tmp_path) for module in (before, now)]
    for name, tensor in now.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]), name
    assert torch.equal(now.classifier.weight, weight)
    old, new = (host.optimizers[0].state_dict() for host in hosts)
    assert [group["params"] for group in old["param_groups"]] == [group["params"] for group in new["param_groups"]]
    hosts[0].save_checkpoint(tmp_path / "old.ckpt", weights_only=False)
    again = alignment(ker_parts, PHASE_2)
    host = fitted(again, batch, tmp_path, ckpt_path=tmp_path / "old.ckpt", weights_only=True)
    assert host.global_step == 2
    assert torch.equal(again.classifier.weight, weight)


def test_parts_go_from_task_to_task_and_frozen_ones_stay_frozen(ker_parts) -> None:
    first = alignment(ker_parts, {"bce": 1.0}, frozen=("encoder", "visual.calibrator"))
    assert not any(p.requires_grad for p in first.jepa.parameters())
    assert not any(name.startswith(("encoder", "visual.calibrator")) for name in unread_names(first))
    visual = copy.deepcopy(first.visual)
    second = VisualAlignmentLightningModule(first.encoder, visual, first.jepa, num_labels=2, losses=PHASE_2)
    assert all(p.requires_grad for part in (second.jepa, visual.predictor) for p in part.parameters())
    assert not visual.calibrator.alpha.requires_grad
    assert all(name.startswith("classifier.") for name in unread_names(second))


def test_a_scale_that_no_loss_reads_is_calibrated_all_the_same(ker_parts, tmp_path) -> None:
    module = alignment(ker_parts, {"bce": 1.0})
    with torch.no_grad():
        module.visual.calibrator.alpha.fill_(9.0)
    fitted(module, ker_parts.batch(), tmp_path, callbacks=[NormCalibration()])
    assert module.visual.calibrator.alpha.item() < 1.0
