"""Rows say which code ran; settings whose times mean nothing are refused."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import torch

from benchmarks import environment
from benchmarks.environment import check_comparable, cores, describe, load
from ct_vlm.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch) -> None:
    for name in ("TRITON_INTERPRET", "CT_VLM_OPS"):
        monkeypatch.delenv(name, raising=False)


def test_plain_settings_are_accepted(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert check_comparable(CPU, torch.float32) is None
    assert check_comparable(CPU, torch.float64) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_cpus_is_refused(dtype) -> None:
    with pytest.raises(ConfigError, match=f"{str(dtype)[6:]} on a CPU"):
        check_comparable(CPU, dtype)


@pytest.mark.parametrize(("variable", "value"), [("TRITON_INTERPRET", "1"), ("CT_VLM_OPS", "naive")])
def test_variables_that_replace_what_runs_are_refused(monkeypatch, variable, value) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"`{variable}` is set"):
        check_comparable(CPU, torch.float32)


def test_absent_gpu_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        check_comparable(torch.device("cuda"), torch.float32)


def test_machine_is_described() -> None:
    found = describe(CPU)
    assert found.date.endswith("+00:00")
    assert (found.device, found.torch, found.threads) == ("cpu", torch.__version__, 1)
    assert found.processor
    assert load() >= 0
    assert cores() >= 1


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_changed_code_is_marked(tmp_path, monkeypatch) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert describe(CPU).revision == ""
    (tmp_path / "ct_vlm").mkdir()
    (tmp_path / "ct_vlm" / "a.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    clean = describe(CPU).revision
    assert len(clean) == 12
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "cpu.csv").write_text("")
    (tmp_path / "README.md").write_text("")
    assert describe(CPU).revision == clean
    (tmp_path / "ct_vlm" / "a.py").write_text("a = 2\n")
    assert describe(CPU).revision == f"{clean}-dirty"
