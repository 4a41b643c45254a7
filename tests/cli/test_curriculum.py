from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.cli.curriculum.plan import read_plan
from ct_vlm.cli.main import main
from ct_vlm.tasks import load_task

if TYPE_CHECKING:
    from pathlib import Path

PARTS = """
from pathlib import Path

import torch
from lightning import LightningDataModule

from ct_vlm.datamodules import make_loader
from ct_vlm.tasks import OptimizerConfig, TrainingTask


class Fit(TrainingTask):
    def __init__(self, stop_at: int = -1, init_from: dict[str, str] | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.stop_at = stop_at
        self.set_training(OptimizerConfig(lr=0.05, schedule="constant"), init_from=init_from)

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == self.stop_at and not Path("again").exists():
            raise RuntimeError("power cut")
        return (self.layer(batch["x"]) - batch["y"]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/error", (self.layer(batch["x"]) - batch["y"]).abs().mean())


class Data(LightningDataModule):
    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        xs = torch.randn(12, 2, generator=generator)
        self.items = [{"x": x, "y": slope * x.sum(0, keepdim=True)} for x in xs]

    def train_dataloader(self):
        return make_loader(self.items, batch_size=2, shuffle=True, seed=1)

    def val_dataloader(self):
        return make_loader(self.items, batch_size=6)


def prepare(file: str, text: str) -> str:
    Path(file).write_text(text)
    return file
"""
FIT = """
seed_everything: 0
trainer: {max_epochs: 3, logger: false, enable_progress_bar: false, enable_model_summary: false, accelerator: cpu}
model: {class_path: curriculum_parts.Fit}
data: {class_path: curriculum_parts.Data}
"""
PLAN = """
options: {trainer.num_sanity_val_steps: 0}
phases:
  - name: first
    call: curriculum_parts.prepare
    options: {file: "{out}/made.txt", text: hello}
  - {name: second, config: fit.yaml, monitor: val/error, mode: min}
  - name: third
    config: fit.yaml
    save_every: 4
    options: {model.init_args.init_from: {layer: "{second}"}, data.init_args.slope: 2.0}
"""
STOPPED = """
phases:
  - name: only
    config: fit.yaml
    options:
      trainer.max_epochs: 6
      trainer.callbacks:
        - class_path: EarlyStopping
          init_args: {monitor: val/error, mode: min, patience: 2, min_delta: 100.0}
      model.init_args.stop_at: 14
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "curriculum_parts.py").write_text(PARTS)
    (tmp_path / "fit.yaml").write_text(FIT)
    (tmp_path / "plan.yaml").write_text(textwrap.dedent(PLAN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "curriculum_parts", raising=False)
    return tmp_path


def curriculum(*more: str, out: str = "run") -> int:
    return main(["curriculum", "--config", "plan.yaml", "--out", out, *more])


def weights(folder: Path, phase: str, file: str = "last.ckpt", out: str = "run") -> torch.Tensor:
    return load_task(folder / out / phase / "checkpoints" / file).layer.weight.detach()


def test_phases_build_on_each_other_and_finished_ones_are_skipped(folder: Path, capsys) -> None:
    assert curriculum("--until", "second") == 0
    assert (folder / "run" / "made.txt").read_text() == "hello"
    state = json.loads((folder / "run" / "curriculum.json").read_text())["phases"]
    assert list(state) == ["first", "second"]
    assert state["first"]["result"].endswith("made.txt")
    assert state["second"]["result"].endswith("best.ckpt")
    assert 0 < state["second"]["score"] < 2
    (folder / "run" / "made.txt").write_text("kept")
    best = weights(folder, "second", "best.ckpt")
    capsys.readouterr()
    assert curriculum("--set", "third.trainer.num_sanity_val_steps=1") == 0
    assert (folder / "run" / "made.txt").read_text() == "kept"
    shown = capsys.readouterr().out
    assert "phase 3 of 3: third" in shown
    assert "phase 2 of 3" not in shown
    assert "val/error" in shown
    assert not torch.equal(weights(folder, "third"), best)


def test_a_phase_starts_from_the_result_of_the_one_it_names(folder: Path) -> None:
    plan = (folder / "plan.yaml").read_text().replace("data.init_args.slope: 2.0", "trainer.max_steps: 0")
    (folder / "plan.yaml").write_text(plan.replace("    save_every: 4\n", ""))
    # without a step there is no checkpoint to hand on, which is an error and not a phase that is done
    assert curriculum() == 1
    assert list(json.loads((folder / "run" / "curriculum.json").read_text())["phases"]) == ["first", "second"]


def test_a_phase_that_was_cut_off_ends_as_if_it_had_not_been(folder: Path) -> None:
    assert curriculum(out="whole") == 0
    plan = folder / "plan.yaml"
    # the third phase has 18 steps in epochs of 6; its last checkpoint before the cut is that of step 8
    plan.write_text(plan.read_text().replace("slope: 2.0", "slope: 2.0, model.init_args.stop_at: 10"))
    with pytest.raises(RuntimeError, match="power cut"):
        curriculum(out="cut")
    assert "third" not in json.loads((folder / "cut" / "curriculum.json").read_text())["phases"]
    assert (folder / "cut" / "third" / "checkpoints" / "last.ckpt").is_file()
    (folder / "again").touch()
    assert curriculum(out="cut") == 0
    for out in ("whole", "cut"):
        last = torch.load(folder / out / "third" / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] == 18
    torch.testing.assert_close(weights(folder, "third", out="cut"), weights(folder, "third", out="whole"))


def test_a_stop_rule_outlives_a_cut_and_ends_its_phase(folder: Path, capsys) -> None:
    (folder / "plan.yaml").write_text(STOPPED)
    with pytest.raises(RuntimeError, match="power cut"):
        curriculum()
    (folder / "again").touch()
    assert curriculum() == 0
    last = folder / "run" / "only" / "checkpoints" / "last.ckpt"
    # epochs of 6 steps: the first is the best, and of the two that are tolerated one was before the cut
    state = torch.load(last, weights_only=True)
    assert state["global_step"] == 18
    (rule,) = (value for name, value in state["callbacks"].items() if name.startswith("EarlyStopping"))
    assert (rule["wait_count"], rule["stopped_epoch"]) == (2, 2)
    written = last.stat().st_mtime_ns
    capsys.readouterr()
    assert curriculum() == 0
    assert "phase 1" not in capsys.readouterr().out
    assert last.stat().st_mtime_ns == written
    assert sorted(path.name for path in (folder / "run" / "only").glob("start_*")) == ["start_1", "start_2"]


def test_other_settings_in_a_folder_of_a_run_are_refused(folder: Path, capsys) -> None:
    assert curriculum("--until", "first") == 0
    plan = folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("text: hello", "text: bye"))
    assert curriculum("--list") == 2
    assert "other settings" in capsys.readouterr().err
    (folder / "run" / "curriculum.json").write_text("{}")
    assert curriculum("--list") == 2
    assert "no state of a curriculum" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("monitor:", "monitr:", "Did you mean `monitor`"),
        ("fit.yaml", "fits.yaml", "names no file"),
        ('"{second}"', '"{seconds}"', "Did you mean `second`"),
        ("name: third", "name: second", "is taken"),
        ("mode: min", "mode: low", "mode 'low'"),
        ("    call: curriculum_parts.prepare\n", "", "either `config` or `call`"),
        ("phases:", "phase:", "no list of `phases`"),
        ("name: first", "name: a b", "has no `name`"),
    ],
)
def test_mistakes_in_the_plan_are_named_before_anything_runs(folder, capsys, old, new, message) -> None:
    plan = folder / "plan.yaml"
    assert old in plan.read_text()
    plan.write_text(plan.read_text().replace(old, new))
    assert curriculum() == 2
    assert message in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_wrong_options_are_named(folder: Path, capsys) -> None:
    assert curriculum("--until", "seconds") == 2
    assert "Did you mean `second`" in capsys.readouterr().err
    assert curriculum("--set", "trainer.max_epochs") == 2
    assert "OPTION=VALUE" in capsys.readouterr().err
    assert curriculum("--list", "--set", "scond.trainer.max_epochs=1") == 2
    assert "Did you mean `second`" in capsys.readouterr().err
    assert curriculum("--list") == 0
    assert capsys.readouterr().out.count("to do") == 3


def test_what_is_set_comes_before_what_phases_set(folder: Path) -> None:
    plan = folder / "plan.yaml"
    text = plan.read_text().replace("slope: 2.0}", "slope: 2.0, trainer.max_epochs: 4}\n    common: false")
    plan.write_text(text)

    def options(overrides: dict) -> list[dict]:
        return [phase.options for phase in read_plan(plan, overrides)]

    first, second, third = options({"trainer.max_epochs": 1, "data.init_args.slope": 5.0})
    assert first == {"file": "{out}/made.txt", "text": "hello"}
    assert second == {"trainer.num_sanity_val_steps": 0, "trainer.max_epochs": 1, "data.init_args.slope": 5.0}
    # `common: false` leaves out the file's options, not those of the command line
    assert third == {
        "model.init_args.init_from": {"layer": "{second}"},
        "trainer.max_epochs": 1,
        "data.init_args.slope": 5.0,
    }
    named = {"third.trainer.max_epochs": 2, "first.text": "bye", "trainer.max_epochs": 1}
    first, second, third = options(named)
    assert first["text"] == "bye"
    assert (second["trainer.max_epochs"], third["trainer.max_epochs"]) == (1, 2)
    # an option within a value that the phase gives as a whole is set after it
    third = options({"model.init_args.init_from.layer": "{first}", "model.init_args.init_from": {}})[2]
    assert list(third)[-2:] == ["model.init_args.init_from.layer", "model.init_args.init_from"]


def test_the_shipped_phases_take_what_is_set(repository: Path) -> None:
    phases = read_plan(repository / "examples/configs/ker_vljepa_curriculum.yaml", {"trainer.max_epochs": 1})
    trained = {phase.name: phase.options["trainer.max_epochs"] for phase in phases if phase.config}
    assert trained == dict.fromkeys(["ssl", "phase1", "phase2", "phase3_cold", "phase3", "phase4"], 1)


def test_phases_that_are_called_like_a_section_have_no_options_of_their_name(folder: Path) -> None:
    plan = folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("name: first", "name: data"))
    data, second, _ = read_plan(plan, {"data.init_args.slope": 5.0})
    assert "init_args.slope" not in data.options
    assert second.options["data.init_args.slope"] == 5.0
