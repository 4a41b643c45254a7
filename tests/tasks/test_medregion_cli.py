"""The two stages of MedRegion-CT and the rows of its ablation through the command line, from the shipped YAML files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from ct_vlm.cli.main import main
from ct_vlm.datasets.radgenome import measure_radgenome
from ct_vlm.phantoms import write_radgenome
from ct_vlm.tasks import load_task
from ct_vlm.text import MEDREGION_REGIONS, parse_region_reports

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"
STAGE_1, STAGE_2 = "medregion_ct_1_connector.yaml", "medregion_ct_2_report.yaml"
ABLATIONS = {
    "r2": ["R2TokenPooling"],
    "mask": ["R2TokenPooling", "MaskDrivenVisualExtractor"],
    "attributes": ["R2TokenPooling", "AttributeText"],
    "full": ["R2TokenPooling", "MaskDrivenVisualExtractor", "AttributeText"],
    "lita": ["R2TokenPooling"],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A small tree of phantoms in RadGenome-ChestCT's layout, with attributes."""
    root = tmp_path_factory.mktemp("medregion") / "tree"
    write_radgenome(root, 6, shape=(16, 24, 24), seed=2, valid_fraction=0.34, workers=0, progress=False)
    measure_radgenome(root, root.parent / "attributes", progress=False)
    return root


def run(command: str, configs: list[str], tree: Path, out: Path, *more: str) -> int:
    tokenizer = {
        "train_on": str(tree / "dataset/radgenome_files/train_region_report.csv"),
        "columns": ["Sentence"],
        "vocab_size": 400,
    }
    arguments = [
        command,
        *(part for config in configs for part in ("--config", str(CONFIGS / config))),
        *("--data.init_args.root", str(tree), "--data.init_args.cache_dir", str(tree.parent / "cache")),
        *("--data.init_args.batch_size", "2", "--data.init_args.val_fraction", "0.3"),
        *("--trainer.default_root_dir", str(out), "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.max_steps", "1", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"),
        *("--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "1"),
        *("--model.init_args.decoder.init_args.tokenizer", json.dumps(tokenizer)),
        *("--model.init_args.generation.max_new_tokens", "4"),
    ]
    return main([*arguments, *more])


def attributes(tree: Path) -> tuple[str, str]:
    return "--data.init_args.attributes", str(tree.parent / "attributes")


@pytest.fixture(scope="module")
def stages(tree, tmp_path_factory) -> list[Path]:
    """Checkpoints of the two stages, the second started from the first."""
    out = tmp_path_factory.mktemp("runs")
    assert run("fit", [STAGE_1], tree, out / "1") == 0
    one = next((out / "1").rglob("*.ckpt"))
    source = json.dumps({part: str(one) for part in ("encoder", "connectors.0", "decoder")})
    options = (*attributes(tree), "--model.init_args.init_from", source)
    assert run("fit", [STAGE_2], tree, out / "2", *options) == 0
    return [one, next((out / "2").rglob("*.ckpt"))]


def test_the_connector_goes_from_stage_to_stage_and_the_encoder_stays(stages):
    one, two = (load_task(path) for path in stages)
    assert one.region_prompts is None
    assert two.region_prompts.names == MEDREGION_REGIONS
    for key, value in two.encoder.state_dict().items():
        assert value.equal(one.encoder.state_dict()[key]), key
    before, after = one.connectors[0].state_dict(), two.connectors[0].state_dict()
    # one step of training apart, where random weights would be far apart
    assert all(0 < (after[key] - value).abs().max() < 0.01 for key, value in before.items())


def test_test_scores_whole_reports_and_regions(stages, tree, tmp_path, capsys):
    assert run("test", [STAGE_2], tree, tmp_path, *attributes(tree), "--ckpt_path", str(stages[1])) == 0
    shown = capsys.readouterr().out
    for name in ("test/micro_f1", "test/bleu_4", "test/region/lung/coverage", "test/regions/coverage"):
        assert name in shown


def test_predict_writes_the_text_of_every_region(stages, tree, tmp_path):
    table = tmp_path / "reports.csv"
    writer = json.dumps({"class_path": "ReportWriter", "init_args": {"path": str(table)}})
    options = (*attributes(tree), "--ckpt_path", str(stages[1]), "--trainer.callbacks+", writer)
    assert run("predict", [STAGE_2], tree, tmp_path, *options) == 0
    rows = pd.read_csv(table, keep_default_na=False)
    held_out = tree.glob("dataset/valid_preprocessed/*/*/*.nii.gz")
    assert sorted(rows.volume_id) == sorted(path.name.split(".")[0] for path in held_out)
    for _, row in rows.iterrows():
        texts = {name: row[f"region:{name}"] for name in MEDREGION_REGIONS}
        assert parse_region_reports(row.prediction) == {name: text for name, text in texts.items() if text.strip()}


@pytest.mark.slow
def test_questions_train_the_same_model(stages, tree, tmp_path):
    options = (*attributes(tree), "--data.init_args.tasks", '["presence"]')
    assert run("fit", [STAGE_2], tree, tmp_path, *options) == 0


# the full system is what the stages above are
@pytest.mark.parametrize(
    "name", ["lita", *(pytest.param(name, marks=pytest.mark.slow) for name in ("r2", "mask", "attributes", "full"))]
)
def test_every_row_of_the_ablation_builds_and_trains_a_step(name, tree, tmp_path):
    options = attributes(tree) if "AttributeText" in ABLATIONS[name] else ()
    files = [STAGE_2, f"medregion_ct_ablation_{name}.yaml"]
    assert run("fit", files, tree, tmp_path, *options) == 0
    task = load_task(next(tmp_path.rglob("*.ckpt")))
    assert [type(connector).__name__ for connector in task.connectors] == ABLATIONS[name]
    assert task.connectors[0].policy == ("uniform" if name == "lita" else "region_argmax")
    trained = {key.split(".")[0] for key, value in task.named_parameters() if value.requires_grad}
    assert trained == {"connectors", "decoder"}
    assert all(torch.isfinite(value).all() for value in task.state_dict().values())
