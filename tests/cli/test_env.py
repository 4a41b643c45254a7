"""`ct-vlm env`."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import torch

from ct_vlm.cli import env, main
from ct_vlm.ops import list_ops

if TYPE_CHECKING:
    import pytest


def test_json_holds_versions_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["system"]["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__.startswith(
        found["packages"]["torch"]
    )
    assert found["devices"]["CUDA devices"] == "none visible" or torch.cuda.is_available()
    assert set(found["optional packages"]) == set(env.OPTIONAL)


def test_tables_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*env.REQUIRED, *env.OPTIONAL))
    assert all(name in text for name in list_ops())


def test_every_op_has_one_chosen_backend_and_reasons_for_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    ops = json.loads(capsys.readouterr().out)["ops"]
    assert list(ops) == list_ops()
    for backends in ops.values():
        assert [entry["chosen"] for entry in backends.values()].count(True) == 1
        assert all(entry["chosen"] or entry["reason"] for entry in backends.values())


def test_an_override_that_cannot_run_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CT_VLM_OPS", "zone_attention=torch")
    assert main(["env", "--json"]) == 0
    backends = json.loads(capsys.readouterr().out)["ops"]["zone_attention"]
    assert not any(entry["chosen"] for entry in backends.values())
    assert "`CT_VLM_OPS` asks for `torch`" in backends["naive"]["reason"]


def test_absent_packages_say_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(env, "version", lambda name: None)
    found = env.collect()
    assert set(found["packages"].values()) == {"MISSING: reinstall ct_vlm"}
    assert all(text.startswith("absent: ") for text in found["optional packages"].values())


def test_every_required_package_is_a_declared_dependency(repository) -> None:
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    declared = " ".join(project["dependencies"])
    assert [name for name in env.REQUIRED if name not in declared and name != "numpy"] == []
