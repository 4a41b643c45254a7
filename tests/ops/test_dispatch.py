"""The choice of a backend: by argument, by environment, by what the inputs allow."""

from __future__ import annotations

import pytest
import torch

import ct_vlm.ops
from ct_vlm.errors import ConfigError
from ct_vlm.ops.dispatch import NAMES, Backend, choose, dispatch, explain, triton_usable


def make(name: str, reason: str | None = None) -> Backend:
    return Backend(name, lambda value: (name, value), lambda value: reason)


BACKENDS = [make("flash", "no GPU"), make("sdpa"), make("naive")]


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CT_VLM_OPS", raising=False)


def test_auto_takes_the_first_that_can_run() -> None:
    assert dispatch("op", BACKENDS, "auto", 3) == ("sdpa", 3)


def test_an_explicit_name_is_taken() -> None:
    assert dispatch("op", BACKENDS, "naive", 3) == ("naive", 3)


def test_an_explicit_name_that_cannot_run_says_why() -> None:
    with pytest.raises(ConfigError, match=r"`flash`, which cannot run these inputs of `op`: no GPU"):
        dispatch("op", BACKENDS, "flash", 3)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="Use one of: auto, flash, sdpa, naive"):
        dispatch("op", BACKENDS, "triton", 3)


def test_no_usable_backend_names_every_reason() -> None:
    with pytest.raises(ConfigError, match=r"flash: no GPU; naive: not today"):
        dispatch("op", [make("flash", "no GPU"), make("naive", "not today")], "auto", 3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("naive", "naive"),
        ("op=naive", "naive"),
        ("other=naive", "sdpa"),
        ("other=torch, op=naive", "naive"),
        ("naive,op=sdpa", "sdpa"),
        ("op=sdpa,naive", "sdpa"),
        ("op=auto,naive", "sdpa"),
        ("triton", "sdpa"),  # this op has no such backend: others may
        ("", "sdpa"),
    ],
)
def test_the_environment_replaces_auto(monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    monkeypatch.setenv("CT_VLM_OPS", value)
    assert choose("op", BACKENDS, "auto", 3).name == expected


def test_the_environment_does_not_replace_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_VLM_OPS", "naive")
    assert choose("op", BACKENDS, "sdpa", 3).name == "sdpa"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("op=tritn", "`tritn` is no backend"),
        ("op=triton", r"`CT_VLM_OPS` asks for `triton`, which `op` does not have"),
        ("op=flash", r"`CT_VLM_OPS` asks for `flash`, which cannot run .*no GPU"),
    ],
)
def test_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    monkeypatch.setenv("CT_VLM_OPS", value)
    with pytest.raises(ConfigError, match=message):
        choose("op", BACKENDS, "auto", 3)


def test_auto_never_takes_the_interpreter() -> None:
    backends = [make("triton"), make("naive")]
    assert choose("op", backends, "auto", torch.zeros(1)).name == "naive"
    assert choose("op", backends, "triton", torch.zeros(1)).name == "triton"


def test_triton_needs_a_known_device() -> None:
    assert "meta" in str(triton_usable("meta"))


def test_triton_on_the_cpu_is_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "TRITON_INTERPRET=1" in str(triton_usable("cpu"))


def test_an_interpreter_that_is_switched_on_too_late_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    import triton.language as tl

    # what Triton's library holds when it was imported without the variable: no interpreted function
    monkeypatch.setattr(tl, "sum", object())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_usable("cpu") == "TRITON_INTERPRET was set after triton was imported"


@pytest.mark.parametrize("op", ct_vlm.ops.list_ops())
def test_every_op_explains_itself(op: str) -> None:
    module = getattr(ct_vlm.ops, op)
    statuses = explain(op, "cpu")
    assert [status.name for status in statuses] == [backend.name for backend in module.BACKENDS]
    assert {status.name for status in statuses} <= set(NAMES)
    assert [status.chosen for status in statuses].count(True) == 1
    assert all(bool(status.reason) != status.chosen for status in statuses)
    assert "naive" in {status.name for status in statuses if status.available}


def test_an_unknown_op_is_named() -> None:
    with pytest.raises(ConfigError, match="no op `nothing`"):
        explain("nothing")
    with pytest.raises(AttributeError, match="nothing"):
        _ = ct_vlm.ops.nothing


def test_ops_are_attributes_of_the_package() -> None:
    assert set(ct_vlm.ops.list_ops()) <= set(dir(ct_vlm.ops))
