"""Preference training: the reference, what one step does, learning, resuming, handing over."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ct_vlm.callbacks import RNGState
from ct_vlm.datamodules import FeatureDataModule, FeatureDataset, PreferenceDataModule
from ct_vlm.datasets.preferences import PreferencePair, write_preferences
from ct_vlm.errors import CheckpointError, ConfigError, DatasetError
from ct_vlm.features import Features
from ct_vlm.tasks import DPOLightningModule, OptimizerConfig, ReportLightningModule, load_task

FINDINGS = ["Effusion is seen.", "A nodule is seen.", "No abnormality."]
DROPOUT = {"r": 2, "lora_dropout": 0.5, "init_lora_weights": True}
QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def make_task(ker_parts):
    """Makes tasks with the same weights; none of them is shared."""

    def make(task=DPOLightningModule, decoder=None, **options):
        torch.manual_seed(0)
        parts = ker_parts.encoder(), [ker_parts.visual()], ker_parts.decoder(**(decoder or {}))
        for name, parameter in parts[2].lm.named_parameters():
            # large enough for texts, and what is seen, to make a difference
            if parameter.ndim == 2 and "lora_" not in name:
                torch.nn.init.normal_(parameter, std=1.0 if "embed_tokens" in name else 0.3)
        if task is DPOLightningModule:
            options = {"optimizer": OptimizerConfig(lr=1e-2, schedule="constant"), **options}
        return task(*parts, "Findings:", **options)

    return make


def pairs_batch(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "features": Features([torch.randn(size, 9, 8, generator=generator)], [(9, 1, 1)]),
        "chosen": [FINDINGS[i % 3] for i in range(size)],
        "rejected": [FINDINGS[(i + 1) % 3] for i in range(size)],
        "volume_id": [f"v{i}" for i in range(size)],
    }


def a_step(task, batch, lr=0.05):
    """Take one step of gradient descent; return the loss."""
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=lr)
    loss = task.compare(batch)[1].loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("reference", ["weights", "adapters_off"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_at_the_start_the_policy_is_the_reference_to_the_last_bit(reference, checkpointing, make_task) -> None:
    options = {"lora": DROPOUT, "gradient_checkpointing": checkpointing}
    frozen = ("encoder", "connectors", "decoder.cross_attention")
    task = make_task(decoder=options, reference=reference, frozen=frozen).train()
    task.begin()
    policy, result = task.compare(pairs_batch())
    assert policy.log_probs.requires_grad
    assert result.margins.tolist() == [0.0] * 4
    assert result.kl.item() == 0.0
    assert result.loss.item() == pytest.approx(math.log(2))
    assert result.accuracies.tolist() == [0.5] * 4


def test_dropout_acts_only_where_it_is_asked_for(make_task) -> None:
    task = make_task(decoder={"lora": {**DROPOUT, "init_lora_weights": False}}, dropout=True).train()
    task.begin()
    assert task.compare(pairs_batch())[1].kl > 0
    task.dropout = False
    assert task.train().compare(pairs_batch())[1].kl == 0


@pytest.mark.parametrize("reference", ["weights", "adapters_off"])
def test_the_reference_stays_what_the_model_was(reference, make_task) -> None:
    frozen = ("encoder", "connectors", "decoder.cross_attention")
    task, batch = make_task(reference=reference, frozen=frozen).train(), pairs_batch()
    before = task.log_probs(batch).log_probs.detach()
    trains = {name for name, p in task.named_parameters() if p.requires_grad}
    task.begin()
    losses = [a_step(task, batch, lr=1.0) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert task.reference_log_probs(batch).equal(before)
    policy, result = task.compare(batch)
    assert not torch.allclose(policy.log_probs, before)
    assert result.kl > 0
    assert {name for name, p in task.named_parameters() if p.requires_grad} == trains
    assert len(trains) > 0


def test_a_reference_sees_with_its_own_connectors(make_task) -> None:
    task, batch = make_task(frozen=("encoder",)).train(), pairs_batch()
    before = task.log_probs(batch).log_probs.detach()
    task.begin()
    for _ in range(3):
        a_step(task, batch)
    with torch.no_grad():
        for parameter in task.connectors.parameters():
            parameter.add_(0.5)
    assert task.compare(batch)[1].kl > 1
    # connectors may round differently without gradients
    torch.testing.assert_close(task.reference_log_probs(batch), before, rtol=1e-5, atol=0)


def test_blank_visual_tokens_change_both_texts(make_task) -> None:
    task, batch = make_task().eval(), pairs_batch()
    blank = {**batch, "features": Features([torch.zeros(4, 9, 8)], [(9, 1, 1)])}
    with torch.no_grad():
        seen, unseen = (task.log_probs(item).log_probs for item in (batch, blank))
    assert ((seen - unseen).abs() > 1e-5).all()


def test_sharing_the_prompt_changes_nothing(make_task) -> None:
    batch, losses, grads = pairs_batch(), [], []
    for shared in (True, False):
        task = make_task(shared_prefix=shared).double()
        task.begin()
        a_step(task, batch)
        loss = task.compare(batch)[1].loss
        loss.backward()
        losses.append(loss.item())
        grads.append({name: p.grad for name, p in task.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(grads[0]) > 0
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-7)


def test_the_better_texts_own_loss_is_added_on_request(make_task) -> None:
    task, batch = make_task(sft_weight=0.5).train(), pairs_batch()
    task.begin()
    task.log, task.log_dict = (lambda *args, **kwargs: None), (lambda *args, **kwargs: None)
    policy, result = task.compare(batch)
    own = -(policy.log_probs / policy.num_tokens)[:, 0].mean()
    torch.testing.assert_close(task.training_step(batch, 0), result.loss + 0.5 * own)


def test_beginnings_of_texts_leave_the_end_out(make_task) -> None:
    whole, begun = (make_task(ends=ends).eval().log_probs(pairs_batch()) for ends in (True, False))
    assert (whole.num_tokens - begun.num_tokens).eq(1).all()
    assert (begun.log_probs > whole.log_probs).all()


@pytest.fixture
def pair_data(tmp_path):
    """Makes a data module of cached features that show which finding is true; held-out volumes are others."""
    generator = torch.Generator().manual_seed(1)
    shown = torch.randn(3, 9, 8, generator=generator) * 2
    kinds = torch.arange(36) % 3
    levels = shown[kinds] + 0.3 * torch.randn(36, 9, 8, generator=generator)
    items = [{"volume_id": f"v{i}", "patient_id": f"p{i}", "report": FINDINGS[kind]} for i, kind in enumerate(kinds)]
    pairs = [
        PreferencePair(f"v{i}", "Findings:", FINDINGS[kind], FINDINGS[(kind + step) % 3])
        for i, kind in enumerate(kinds.tolist())
        for step in (1, 2)
    ]
    write_preferences(pairs, tmp_path / "pairs.jsonl")

    def make(prompts="pairs", batch_size=12):
        parts = {"train": range(24), "val": range(24, 36), "test": range(24, 36), "predict": range(24, 36)}
        datasets = {
            name: FeatureDataset([levels[list(rows)]], [(9, 1, 1)], [items[row] for row in rows])
            for name, rows in parts.items()
        }
        return PreferenceDataModule(
            FeatureDataModule(datasets, batch_size=batch_size), tmp_path / "pairs.jsonl", prompts
        )

    return make


def fit(task, data, folder, steps, resume=None, **options):
    checkpoint = ModelCheckpoint(folder, save_last=True, save_top_k=0, every_n_train_steps=4)
    settings = {**QUIET, "max_steps": steps, "logger": False, "num_sanity_val_steps": 0, **options}
    trainer = Trainer(callbacks=[checkpoint, RNGState()], **settings)
    trainer.fit(task, datamodule=data, ckpt_path=resume)
    return trainer


FULL = {"decoder": {"lora": None}, "frozen": ("encoder",)}


def test_preferences_are_learned_and_hold_on_other_volumes(make_task, pair_data, tmp_path) -> None:
    task = make_task(**FULL, beta=0.5, optimizer=OptimizerConfig(lr=2e-2, schedule="constant"))
    seen = []
    task.on_validation_epoch_end = lambda: seen.append(task.val_means["accuracy"].compute().item())
    trainer = fit(task, pair_data(), tmp_path / "run", 12, num_sanity_val_steps=-1, check_val_every_n_epoch=3)
    assert seen[0] == 0.5, seen
    assert seen[-1] > 0.9, seen
    shown = trainer.callback_metrics
    assert shown["val/accuracy"].item() == pytest.approx(seen[-1])
    names = {"loss", "accuracy", "margin", "kl", "chosen_reward", "rejected_reward", "chosen_log_prob"}
    assert {f"train/{name}" for name in names} <= set(shown)
    assert shown["val/margin"] > 0
    assert shown["val/kl"] > 0


@pytest.mark.parametrize("reference", ["weights", "precomputed"])
def test_a_resumed_run_keeps_its_reference(reference, make_task, pair_data, tmp_path) -> None:
    options = {**FULL, "reference": reference}
    if reference == "precomputed":
        options["reference_dir"] = str(tmp_path / "reference")
    whole = fit(make_task(**options), pair_data(), tmp_path / "whole", 8, limit_val_batches=0).callback_metrics
    fit(make_task(**options), pair_data(), tmp_path / "run", 4, limit_val_batches=0)
    task = make_task(**options)
    last = tmp_path / "run" / "last.ckpt"
    resumed = fit(task, pair_data(), tmp_path / "run", 8, last, limit_val_batches=0).callback_metrics
    for name in ("train/loss", "train/margin", "train/kl"):
        assert resumed[name].item() == whole[name].item(), name
    # the checkpoint brings the reference to validation, too
    trainer = Trainer(**QUIET, logger=False)
    loaded = DPOLightningModule.load_from_checkpoint(last)
    found = trainer.validate(loaded, pair_data(), ckpt_path=last, verbose=False)[0]
    assert found["val/kl"] > 0


def test_precomputed_references_are_those_on_the_fly_and_computed_once(make_task, pair_data, tmp_path) -> None:
    folder = tmp_path / "reference"
    options = {**FULL, "reference": "precomputed", "reference_dir": str(folder)}
    stored = fit(make_task(**options), pair_data(), tmp_path / "a", 6).callback_metrics
    direct = fit(make_task(**FULL), pair_data(), tmp_path / "b", 6).callback_metrics
    for name in ("train/loss", "train/margin", "val/margin"):
        assert stored[name].item() == pytest.approx(direct[name].item(), rel=1e-3, abs=1e-6), name
    files = sorted(folder.rglob("*.json"))
    assert len(files) > 0
    # another β has the same reference
    other = make_task(**options, beta=0.3)
    asked = []
    log_probs = other.log_probs
    other.log_probs = lambda *args: asked.append(len(args)) or log_probs(*args)
    fit(other, pair_data(), tmp_path / "c", 2, limit_val_batches=0)
    assert len(asked) == 2
    assert sorted(folder.rglob("*.json")) == files
    # pairs that a stopped run did not get to are added
    files[0].unlink()
    again = fit(make_task(**options), pair_data(), tmp_path / "d", 6).callback_metrics
    assert again["train/loss"].item() == stored["train/loss"].item()
    assert len(sorted(folder.rglob("*.json"))) == len(files)


def test_another_model_has_another_reference(make_task, pair_data, tmp_path) -> None:
    options = {**FULL, "reference": "precomputed", "reference_dir": str(tmp_path / "reference")}
    fit(make_task(**options), pair_data(), tmp_path / "a", 1, limit_val_batches=0)
    task = make_task(**options)
    with torch.no_grad():
        next(task.decoder.lm.parameters()).add_(0.01)
    fit(task, pair_data(), tmp_path / "b", 1, limit_val_batches=0)
    assert len(list((tmp_path / "reference").iterdir())) == 2


def test_another_precision_has_another_reference(make_task, pair_data, tmp_path) -> None:
    options = {**FULL, "reference": "precomputed", "reference_dir": str(tmp_path / "reference")}
    for number, precision in enumerate(("32-true", "bf16-mixed")):
        fit(make_task(**options), pair_data(), tmp_path / str(number), 1, limit_val_batches=0, precision=precision)
    assert len(list((tmp_path / "reference").iterdir())) == 2


def test_stage_1_is_handed_over_and_is_the_reference(make_task, pair_data, tmp_path) -> None:
    first = make_task(
        ReportLightningModule, decoder={"lora": {"r": 2, "init_lora_weights": False}}, frozen=("encoder",)
    )
    trainer = Trainer(**QUIET, max_steps=2, logger=False, default_root_dir=tmp_path, limit_val_batches=0)
    trainer.fit(first, datamodule=pair_data().data)
    trainer.save_checkpoint(tmp_path / "1.ckpt")
    sources = {part: str(tmp_path / "1.ckpt") for part in ("encoder", "connectors.0", "decoder")}
    task, batch = make_task(init_from=sources), pairs_batch()
    expected = first.decoder.lm.state_dict()
    assert any("lora_B" in key and bool(value.any()) for key, value in expected.items())
    assert all(value.equal(expected[key]) for key, value in task.decoder.lm.state_dict().items())
    before = task.log_probs(batch).log_probs.detach()
    fit(task, pair_data(), tmp_path / "2", 4)
    assert task.reference_log_probs(batch).equal(before)
    # switching adapters off would lose stage 1
    task = make_task(
        init_from=sources, reference="adapters_off", frozen=("encoder", "connectors", "decoder.cross_attention")
    )
    with pytest.raises(ConfigError, match="earlier stage"):
        task.begin()


def test_a_checkpoint_writes_reports_and_is_handed_on(make_task, pair_data, tmp_path) -> None:
    task = make_task(generation={"max_new_tokens": 3})
    trainer = fit(task, pair_data(), tmp_path, 4)
    loaded = load_task(tmp_path / "last.ckpt")
    assert type(loaded) is DPOLightningModule
    assert all(value.equal(task.state_dict()[key]) for key, value in loaded.state_dict().items())
    scores = trainer.test(task, datamodule=pair_data(), verbose=False)[0]
    assert "test/micro_f1" in scores or any(name.startswith("test/") for name in scores)
    records = [record for batch in trainer.predict(task, datamodule=pair_data()) for record in batch]
    assert [record["volume_id"] for record in records] == [f"v{i}" for i in range(24, 36)]
    after = make_task(ReportLightningModule, init_from={"decoder": str(tmp_path / "last.ckpt")})
    assert all(value.equal(task.decoder.state_dict()[key]) for key, value in after.decoder.state_dict().items())


def test_without_a_reference_nothing_is_compared(make_task, pair_data) -> None:
    with pytest.raises(ConfigError, match="no reference"):
        Trainer(**QUIET, logger=False).validate(make_task(), datamodule=pair_data(), verbose=False)


def test_batches_without_pairs_are_named(make_task, pair_data, tmp_path) -> None:
    with pytest.raises(DatasetError, match="PreferenceDataModule"):
        fit(make_task(), pair_data().data, tmp_path, 1)
    task = make_task(reference="precomputed", reference_dir=str(tmp_path / "reference"))
    with pytest.raises(ConfigError, match="FeatureDataModule"):
        fit(task, pair_data().data, tmp_path, 1)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"beta": -1.0}, "beta"),
        ({"length": "words"}, "length"),
        ({"reference": "other"}, "reference"),
        ({"reference": "precomputed"}, "reference_dir"),
        ({"reference_dir": "folder"}, "reference_dir"),
    ],
)
def test_settings_are_checked_when_the_task_is_built(options, cause, make_task) -> None:
    with pytest.raises(ConfigError, match=cause):
        make_task(**options)


def test_adapters_are_no_reference_where_other_weights_train(make_task) -> None:
    for task in (make_task(reference="adapters_off"), make_task(reference="adapters_off", **FULL)):
        with pytest.raises(ConfigError, match="no reference where other weights train"):
            task.begin()


def test_the_reference_of_another_model_is_refused(make_task) -> None:
    task, other = make_task(), make_task(decoder={"lora": {"r": 3}})
    checkpoint: dict = {}
    task.begin()
    task.on_save_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match="lora"):
        other.on_load_checkpoint(copy.deepcopy(checkpoint))


@pytest.mark.parametrize("reference", ["weights", "adapters_off"])
def test_mixed_precision_keeps_policy_and_reference_apart(reference, make_task) -> None:
    # autocast keeps the weights that it has cast: those of the reference must not become the policy's
    frozen = ("encoder", "connectors", "decoder.cross_attention")
    task, batch = make_task(reference=reference, frozen=frozen).train(), pairs_batch()
    task.begin()
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.compare(batch)[1].loss
    loss.backward()
    grads = {name: p.grad for name, p in task.named_parameters() if "lora_B" in name}
    assert len(grads) > 0
    assert all(grad is not None and bool(grad.any()) for grad in grads.values())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = task.reference_log_probs(batch)
        for name, parameter in task.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
        result = task.compare(batch)[1]
        assert task.reference_log_probs(batch).equal(before)
    assert result.kl > 1
