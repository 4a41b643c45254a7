from __future__ import annotations

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.losses import cosine_prediction_loss, focal_loss, masked_bce
from ct_vlm.tasks import AlignedReportLightningModule, OptimizerConfig
from ct_vlm.tasks.aligned_report import LOSSES, PHASE_4
from ct_vlm.tasks.hidden_states import last_hidden_states


@pytest.fixture
def task(ker_parts):
    def make(**options):
        lora = options.pop("lora", {"r": 2})
        parts = (ker_parts.encoder(), [ker_parts.visual()], ker_parts.decoder(lora=lora), ker_parts.jepa())
        options = {"num_labels": 2, "optimizer": OptimizerConfig(lr=1e-2, schedule="constant"), **options}
        return AlignedReportLightningModule(*parts, **options)

    return make


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(default_root_dir=folder, **{**quiet, "enable_checkpointing": False, **options})


def test_losses_are_those_of_their_functions_and_weighted_as_asked(task, ker_parts) -> None:
    weights = {"lm": 1.0, "focal": 0.5, "jepa": 0.7, "language_bce": 3.0, "language_focal": 2.0, "anchor": 9.0}
    module, batch = task(losses=weights).eval(), ker_parts.batch()
    module.anchor_penalty()
    with torch.no_grad():
        for parameter in module.anchored_parameters().values():
            parameter.add_(0.01)
    losses = module.compute_losses(batch)
    with last_hidden_states(module.decoder) as hidden:
        lm = module(batch).loss
    tokens = module.visual_context(batch).tokens
    states = module.language_classifier(hidden.visual_mean())
    count = sum(p.numel() for p in module.anchored_parameters().values())
    wanted = {
        "lm": lm,
        "focal": focal_loss(module.token_classifier(tokens.mean(1)), batch["labels"]),
        "jepa": cosine_prediction_loss(module.jepa(tokens), batch["text_embedding"]),
        "language_bce": masked_bce(states, batch["labels"]),
        "language_focal": focal_loss(states, batch["labels"]),
        "anchor": torch.tensor(count * 1e-4),
    }
    assert set(wanted) == set(LOSSES)
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["loss"], sum(weights[n] * v for n, v in wanted.items()), rtol=1e-4, atol=1e-5)


def test_hidden_states_are_those_of_the_visual_positions(task, ker_parts) -> None:
    module, batch = task().eval(), ker_parts.batch()
    seen = []
    hook = module.decoder.lm.get_output_embeddings().register_forward_pre_hook(
        lambda _, args: seen.append(args[0]), prepend=True
    )
    context = module.visual_context(batch)
    encoded = module.decoder.encode(["Report: "] * 4, batch["report"])
    with last_hidden_states(module.decoder) as hidden:
        module.decoder(**encoded.inputs(), visual=context, output_logits=True)
    hook.remove()
    mask = hidden.visual_mask
    assert mask.sum(1).tolist() == [4] * 4
    for row in range(4):
        torch.testing.assert_close(hidden.visual_mean()[row], seen[0][row][mask[row]].mean(0))
    assert not module.decoder.lm.get_decoder()._forward_hooks


def test_phase_4_trains_lora_alone(task, ker_parts) -> None:
    frozen = ["encoder", "connectors", "decoder.cross_attention", "jepa", "token_classifier", "language_classifier"]
    module = task(losses=PHASE_4, frozen=frozen)
    module.compute_losses(ker_parts.batch())["loss"].backward()
    trained = {name for name, p in module.named_parameters() if p.grad is not None}
    assert trained
    assert all(".lora_" in name for name in trained)


def test_phase_3_reaches_predictor_adapters_and_lora_but_not_the_zones(task, ker_parts) -> None:
    module = task(frozen=["encoder", "connectors.0.zones"])
    batch = ker_parts.batch()
    module.compute_losses(batch)["loss"].backward()
    trained = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert "connectors.0.predictor.linear.weight" in trained
    assert any(".lora_B." in name for name in trained)
    for layer in ("0", "1"):
        assert f"decoder.cross_attention.adapters.{layer}.query.weight" in trained
        assert f"decoder.cross_attention.projectors.{layer}.weight" in trained
    assert not any(".zones." in name or name.startswith("encoder") for name in trained)


def test_anchors_are_taken_at_the_start_and_survive_a_restart(task, ker_parts, tmp_path) -> None:
    loader = DataLoader([ker_parts.batch()] * 6, batch_size=None)
    module = task(losses={"lm": 1.0, "anchor": 0.1})
    start = {name: p.detach().clone() for name, p in module.anchored_parameters().items()}
    saver = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0, every_n_train_steps=3)
    trainer(tmp_path, max_steps=3, callbacks=[saver], enable_checkpointing=True).fit(module, loader)
    assert any(not torch.equal(start[name], p) for name, p in module.anchored_parameters().items())
    again = task(losses={"lm": 1.0, "anchor": 0.1})
    trainer(tmp_path, max_steps=5).fit(again, loader, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    for name, anchor in again.anchor_penalty().anchors.items():
        torch.testing.assert_close(anchor, start[name], rtol=0, atol=0)


class _Samples(Dataset):
    def __init__(self, parts) -> None:
        self.batches = [parts.batch(2) for _ in range(3)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        return self.batches[index]


def first(items):
    return items[0]


def test_fisher_is_computed_from_the_first_samples(task, ker_parts, tmp_path) -> None:
    samples = _Samples(ker_parts)
    module = task(losses={"lm": 1.0, "anchor": 1.0}, fisher_samples=2)
    twin = task(losses={"lm": 1.0, "anchor": 1.0})
    twin.load_state_dict(module.state_dict())
    trainer(tmp_path, max_steps=1).fit(module, DataLoader(samples, batch_size=1, collate_fn=first))
    held = twin.eval().anchored_parameters()
    squares = {name: torch.zeros_like(p) for name, p in held.items()}
    for sample in samples.batches[:2]:
        output = twin(sample)
        gradients = torch.autograd.grad(output.loss * output.num_targets, list(held.values()))
        for name, gradient in zip(held, gradients, strict=True):
            squares[name] += gradient.square() / 2
    for name, found in module.anchor_penalty().fisher.items():
        torch.testing.assert_close(found, squares[name], rtol=1e-4, atol=1e-8)


def test_parts_come_from_phase_2_and_the_language_side_over_the_bridge(task, tmp_path) -> None:
    older, newer = task(), task()
    saver = {"weights_only": True}
    for name, module in (("older", older), ("newer", newer)):
        host = trainer(tmp_path)
        host.strategy.connect(module)
        host.save_checkpoint(tmp_path / f"{name}.ckpt", **saver)
    source = str(tmp_path / "newer.ckpt")
    module = task(
        init_from={"connectors.0": source, "jepa": source}, bridge_from=str(tmp_path / "older.ckpt"), losses={"lm": 1.0}
    )
    assert torch.equal(module.connectors[0].zones.queries, newer.connectors[0].zones.queries)
    for key, tensor in module.decoder.state_dict().items():
        if "lora_" in key or key.startswith("cross_attention"):
            assert torch.equal(tensor, older.decoder.state_dict()[key]), key
    config = module.to_config()["init_args"]
    assert config["bridge_from"] is config["init_from"] is None


def test_missing_parts_and_keys_are_named(task, ker_parts) -> None:
    batch = ker_parts.batch()
    with pytest.raises(ConfigError, match="`jepa` needs a head"):
        AlignedReportLightningModule(ker_parts.encoder(), [ker_parts.visual()], ker_parts.decoder())
    for key, losses in (("labels", {"focal": 1.0}), ("text_embedding", {"jepa": 1.0}), ("report", {"lm": 1.0})):
        with pytest.raises(DatasetError, match=key):
            task(losses=losses).compute_losses({k: v for k, v in batch.items() if k != key})


def test_config_round_trips_and_reports_are_written(task, ker_parts, tmp_path) -> None:
    module = task(losses={"lm": 1.0, "anchor": 5.0}, fisher_samples=3)
    module.save_pretrained(tmp_path)
    loaded = Component.from_pretrained(tmp_path)
    assert (loaded.losses, loaded.fisher_samples, loaded.anchored) == (module.losses, 3, module.anchored)
    batch = ker_parts.batch(2)
    texts = [m.eval().generate_batch(batch, max_new_tokens=5) for m in (module, loaded)]
    assert texts[0] == texts[1]
