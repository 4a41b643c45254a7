"""The plan for CT-RATE with a real language model: every phase is built at the paper's size, without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI

from ct_vlm.cli.curriculum.plan import read_plan, resolve
from ct_vlm.cli.curriculum.steps import embed_texts, existing
from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.parts import import_parts
from ct_vlm.component import Component, import_object
from ct_vlm.datamodules import TextTargetDataModule
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.errors import DatasetError
from ct_vlm.models import fit_text_whitening
from ct_vlm.models.ker_vljepa import CONFIGS, GENERATION, ker_vljepa, ker_vljepa_visual

PLAN = Path(__file__).resolve().parents[2] / "examples" / "configs" / "ker_vljepa_ct_rate_curriculum.yaml"
PHASES = {phase.name: phase for phase in read_plan(PLAN)}
WORDS = ["".join(f"{a}{b}" for b in "aeiou") for a in "bcdfghklmn"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(["Effusion is seen.", *WORDS], 300)


@pytest.fixture(scope="module")
def build(tokenizer, tmp_path_factory):
    """Builds task, data and trainer of a phase as `ct-vlm fit` does, on the meta device."""
    import_parts()
    folder = tmp_path_factory.mktemp("plan")
    tokenizer.save_pretrained(folder / "tokenizer")

    def make(name):
        options = resolve(PHASES[name].options, {other: f"/nowhere/{other}" for other in [*PHASES, "out"]})
        options = {key: value for key, value in options.items() if not key.endswith(("init_from", "bridge_from"))}
        decoder = "model.init_args.decoder.init_args"
        if f"{decoder}.model" in options:
            options[f"{decoder}.model"] = CONFIGS["paper"].language_model
            options[f"{decoder}.tokenizer"] = str(folder / "tokenizer")
        options |= {"trainer.accelerator": "cpu", "trainer.default_root_dir": str(folder)}
        arguments = ["--config", PHASES[name].config]
        for key, value in options.items():
            arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        with torch.device("meta"):
            cli = LightningCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=None,
                run=False,
                args=arguments,
            )
        return cli.model, cli.datamodule, cli.trainer

    return make


def shapes(module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def test_the_plan_reads_and_names_steps_that_exist() -> None:
    trained = ["phase1", "phase2", "phase3_cold", "phase3", "phase4"]
    assert list(PHASES) == ["ct_rate", "llama", "ssl", "encoder", "embeddings", "texts", "start", *trained]
    assert all(callable(import_object(phase.call)) for phase in PHASES.values() if phase.call)
    for name in trained:
        options = PHASES[name].options
        assert options["data.init_args.embedder"] == "{texts}"
        assert options["data.init_args.data.init_args.data.init_args.root"] == "{ct_rate}"
    assert PHASES["phase3"].options["model.init_args.bridge_from"] == "{phase3_cold}"
    assert (PHASES["texts"].options["layer"], PHASES["texts"].options["output_dim"]) == (14, 256)


def test_the_slice_encoder_is_the_published_one(build) -> None:
    task, data, trainer = build("ssl")
    assert sum(p.numel() for p in task.encoder.parameters()) == 303_966_208
    assert (task.optimizer.lr, task.optimizer.final_factor, data.batch_size) == (3e-4, 0.1, 64)
    assert trainer.max_steps * task.optimizer.warmup_fraction == 5_000


@pytest.mark.parametrize(("name", "lr", "batch", "epochs"), [("phase1", 5e-5, 32, 20), ("phase2", 3e-5, 64, 30)])
def test_the_visual_phases_are_those_of_the_paper(build, name, lr, batch, epochs) -> None:
    task, data, trainer = build(name)
    with torch.device("meta"):
        want = shapes(ker_vljepa_visual("paper"))
    have = shapes(task)
    assert {key: have[key] for key in want} == want
    assert all(key.startswith("contrast.") for key in set(have) - set(want))
    assert (task.optimizer.lr, data.data.batch_size, trainer.max_epochs) == (lr, batch, epochs)
    assert data.text == "positive_findings"
    assert task.preset.size == data.preset.size == (None, 504, 504)
    if name == "phase1":
        assert task.to_config()["init_args"]["pos_weight"] == "balanced"
        assert task.losses == {"bce": 1.5, "mil": 1.0, "orthogonality": 1.0, "mmd": 0.5}


@pytest.mark.parametrize(
    ("name", "lr", "epochs", "text"),
    [("phase3", 2e-5, 50, "positive_findings"), ("phase4", 5e-7, 30, "report")],
)
def test_the_writing_phases_are_those_of_the_paper(build, tokenizer, name, lr, epochs, text) -> None:
    task, data, trainer = build(name)
    with torch.device("meta"):
        want = shapes(ker_vljepa("paper", tokenizer=tokenizer))
    have = shapes(task)
    assert {key: have[key] for key in want} == want
    own = {key.split(".")[0] for key in set(have) - set(want)}
    assert own == {"jepa", "token_classifier", "language_classifier"}
    assert (task.optimizer.lr, data.data.batch_size, trainer.max_epochs, data.text) == (lr, 8, epochs, text)
    assert task.generation == GENERATION
    trains = {key for key, p in task.named_parameters() if p.requires_grad}
    if name == "phase4":
        assert trains == {key for key in have if ".lora_" in key}
        assert len(trains) == 392
    else:
        assert not any(key.startswith(("encoder.", "connectors.0.zones.")) for key in trains)


@pytest.fixture(scope="module")
def language_model(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(0)
    decoder = CausalLMDecoder(CONFIGS["tiny"].language_model, tokenizer)
    decoder.lm.save_pretrained(folder)
    decoder.tokenizer.save_pretrained(folder)
    return str(folder)


def test_texts_are_embedded_by_a_language_model_that_exists(language_model, tmp_path) -> None:
    texts = [f"{a} {b}" for a in WORDS for b in WORDS[:4]]
    table = tmp_path / "reports.csv"
    rows = [*texts, *texts[:5], "", " "]
    table.write_text("VolumeName,Findings_EN\n" + "".join(f"v{i},{text}\n" for i, text in enumerate(rows)))
    folder = embed_texts(
        str(table), language_model, str(tmp_path / "texts"), layer=2, output_dim=8, device="cpu", progress=False
    )
    embedder = Component.from_pretrained(folder).eval()
    found = embedder(texts)
    torch.testing.assert_close(found.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(found.T), torch.eye(8), atol=1e-2, rtol=0)
    decoder = CausalLMDecoder(language_model, language_model)
    direct = fit_text_whitening(decoder, texts, layer=2, output_dim=8, progress=False)(texts)
    # directions have no sign of their own
    torch.testing.assert_close(found.abs(), direct.abs(), atol=1e-3, rtol=1e-3)
    data = TextTargetDataModule(LightningDataModule(), "report", folder)
    torch.testing.assert_close(data.add_targets({"report": texts[:2]})["text_embedding"], found[:2])


def test_what_is_not_there_is_named(language_model, tmp_path) -> None:
    table = tmp_path / "reports.csv"
    table.write_text("VolumeName,Text\nv,clear lungs\n")
    with pytest.raises(DatasetError, match=r"no column `Findings_EN`; it has VolumeName, Text"):
        embed_texts(str(table), language_model, str(tmp_path / "texts"))
    with pytest.raises(UsageError, match="PATH_OF_LLAMA"):
        existing(PHASES["llama"].options["path"])
