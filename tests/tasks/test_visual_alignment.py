from __future__ import annotations

import json

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from ct_vlm.cli.predictions import save_predictions
from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.evaluation import ReportTable, score_probabilities
from ct_vlm.losses import imq_mmd, masked_bce, multiple_instance_loss, orthogonality_loss, text_keys
from ct_vlm.tasks import OptimizerConfig, VisualAlignmentLightningModule
from ct_vlm.tasks.visual_alignment import LOSSES, PHASE_2
from ct_vlm.text import CT_RATE_LABELS


@pytest.fixture
def task(ker_parts):
    def make(**options):
        options = {"num_labels": 2, **options}
        parts = (ker_parts.encoder(), ker_parts.visual(), ker_parts.jepa())
        return VisualAlignmentLightningModule(*parts, OptimizerConfig(lr=1e-2), **options)

    return make


def test_losses_are_those_of_their_functions_and_weighted_as_asked(task, ker_parts) -> None:
    weights = {"bce": 1.5, "mil": 1.0, "orthogonality": 2.0, "mmd": 0.5, "info_nce": 0.25}
    module = task(losses=weights, pos_weight=3.0).eval()
    batch = ker_parts.batch()
    found = module(batch)
    losses = module.compute_losses(found, batch)
    weight = torch.tensor([3.0, 3.0])
    wanted = {
        "bce": masked_bce(found.logits, batch["labels"], weight),
        "mil": multiple_instance_loss(found.region_logits, batch["labels"], weight),
        "orthogonality": orthogonality_loss(found.regions),
        "mmd": imq_mmd(found.embeddings, batch["condition_embeddings"], y_mask=batch["condition_mask"]),
        "info_nce": module.contrast(found.embedding, batch["text_embedding"], text_keys(batch["report"])),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value)
    torch.testing.assert_close(losses["loss"], sum(weights[name] * value for name, value in wanted.items()))
    assert set(wanted) == set(LOSSES)


def test_the_same_findings_in_other_words_are_no_negatives(task, ker_parts) -> None:
    module, batch = task(losses={"info_nce": 1.0}).eval(), ker_parts.batch()
    found = module(batch)
    apart = module.compute_losses(found, {**batch, "text_key": [str(row) for row in range(len(batch["report"]))]})
    together = module.compute_losses(found, {**batch, "text_key": ["same"] * len(batch["report"])})
    assert apart["info_nce"] > 0
    assert together["info_nce"].item() == pytest.approx(0.0, abs=1e-6)


def test_frozen_encoder_gets_no_gradient_and_every_other_part_does(task, ker_parts) -> None:
    module = task(losses=dict.fromkeys(LOSSES, 1.0))
    batch = ker_parts.batch()
    module.compute_losses(module(batch), batch)["loss"].backward()
    without = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}
    assert "encoder" in without
    trained = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("visual.zones.queries", "visual.predictor.linear.weight", "visual.calibrator.alpha"):
        assert part in trained
    assert {"classifier.weight", "jepa.mlp.0.weight", "contrast.log_temperature"} <= trained


def test_a_batch_without_what_a_loss_needs_is_named(task, ker_parts) -> None:
    batch = ker_parts.batch()
    module = task(losses=PHASE_2)
    for key in ("text_embedding", "condition_embeddings"):
        lacking = {k: v for k, v in batch.items() if k != key}
        with pytest.raises(DatasetError, match=key):
            module.compute_losses(module(lacking), lacking)
    with pytest.raises(ConfigError, match="contrast"):
        task(losses={"contrast": 1.0})


def test_validation_logs_both_estimates_of_mmd(task, ker_parts) -> None:
    module, batch = task(losses={"mmd": 1.0}).eval(), ker_parts.batch()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    logged = Trainer(accelerator="cpu", **options).validate(module, DataLoader([batch], batch_size=None), verbose=False)
    sets = (module(batch).embeddings, batch["condition_embeddings"], None, batch["condition_mask"])
    for name, estimator in (("val/mmd", "biased"), ("val/mmd_unbiased", "unbiased")):
        assert logged[0][name] == pytest.approx(imq_mmd(*sets, estimator=estimator).item(), rel=1e-5)
    assert logged[0]["val/loss"] == logged[0]["val/mmd"] > logged[0]["val/mmd_unbiased"]


def test_it_learns_labels_and_scores_them(task, ker_parts, tmp_path) -> None:
    torch.manual_seed(0)
    module = task()
    module.optimizer = OptimizerConfig(lr=5e-2)
    batch = ker_parts.batch()
    batch["labels"] = batch["labels"].nan_to_num()
    loader = DataLoader([batch], batch_size=None)
    trainer = Trainer(
        max_steps=25,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        check_val_every_n_epoch=25,
    )
    before = trainer.validate(module, loader, verbose=False)[0]
    trainer.fit(module, loader, loader)
    after = trainer.validate(module, loader, verbose=False)[0]
    assert after["val/bce"] < 0.5 * before["val/bce"]
    assert after["val/macro_f1"] > before["val/macro_f1"]


def test_predicted_probabilities_are_scored_at_held_out_thresholds(task, ker_parts, tmp_path) -> None:
    module, trainer = task(num_labels=18).eval(), Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    torch.manual_seed(0)
    truth = (torch.rand(8, 18) < 0.5).float()
    files, tables = [], []
    for split in ("train", "valid"):
        batch = ker_parts.batch()
        batch["volume_id"] = [f"{split}_{row}_a_1" for row in range(4)]
        batch["patient_id"] = [f"{split}_{row}" for row in range(4)]
        batch["labels"] = truth[:4] if split == "train" else truth[4:]
        written = trainer.predict(module, DataLoader([batch], batch_size=None))
        files.append(save_predictions(written, tmp_path / split))
        tables.append(ReportTable(tuple(batch["volume_id"]), labels=batch["labels"].numpy()))
        record = json.loads(files[-1].read_text().splitlines()[1])
        assert record["patient_id"] == f"{split}_1"
        assert record["Emphysema"] == pytest.approx(
            module(batch).logits.sigmoid()[1, CT_RATE_LABELS.index("Emphysema")].item(), abs=1e-6
        )
    found = score_probabilities(files[1], tables[1], files[0], tables[0])
    assert "calibrated" in found
    assert "oracle" not in found
    best = score_probabilities(files[1], tables[1], "oracle")
    assert best["oracle"]["macro_f1"] >= max(found["calibrated"]["macro_f1"], found["fixed"]["macro_f1"])
    with pytest.raises(DatasetError, match="oracle"):
        score_probabilities(files[1], tables[1], files[1], tables[1])


def test_config_and_checkpoint_round_trip(task, tmp_path, ker_parts) -> None:
    module = task(losses={"info_nce": 1.0}, symmetric=True)
    module.save_pretrained(tmp_path)
    loaded = Component.from_pretrained(tmp_path)
    assert loaded.losses == {"info_nce": 1.0}
    assert loaded.contrast.symmetric
    batch = ker_parts.batch()
    torch.testing.assert_close(loaded.eval()(batch).embedding, module.eval()(batch).embedding)


def test_head_of_another_width_is_refused(ker_parts) -> None:
    from ct_vlm.modules import JEPAHead

    with pytest.raises(ConfigError, match="width 5"):
        VisualAlignmentLightningModule(ker_parts.encoder(), ker_parts.visual(), JEPAHead(5, 6, hidden_dim=8))
