"""Every op's file keeps the contract, and names that do not exist are refused."""

from __future__ import annotations

import pytest
import torch

from benchmarks.aims import AIMS, OURS, reached
from benchmarks.environment import ROOT
from benchmarks.registry import load_op, op_names
from ct_vlm.errors import ConfigError


@pytest.mark.parametrize("name", op_names())
def test_op_keeps_the_contract(name) -> None:
    op = load_op(name)
    everyone = {*op.providers, *op.missing}
    names = [case["name"] for case in op.cases]
    assert len(set(names)) == len(names) > 0
    assert {op.baseline, op.reference, OURS} <= everyone
    assert op.reference in op.providers
    assert not {*op.providers} & {*op.missing}
    assert {*op.forward_only} <= {*op.providers, *names}
    assert all({"flops", "bytes"} <= set(op.floor(case, torch.float32)) for case in op.cases)
    assert (ROOT / op.tests).exists()


def test_reserved_names_are_read_and_others_have_defaults(fake_op) -> None:
    assert (fake_op.name, fake_op.tests, fake_op.missing) == ("fake", "tests/fake", {"library": "not installed"})
    assert fake_op.shrink is None
    assert load_op("sigreg").tests == "tests/ops/sigreg"
    assert load_op("sigreg").forward_only == {}


def test_cases_are_selected_by_name(fake_op) -> None:
    assert [case["name"] for case in fake_op.select(None)] == ["small", "decode"]
    assert [case["name"] for case in fake_op.select("decode")] == ["decode"]
    with pytest.raises(ConfigError, match=r"no case `large`.*small, decode"):
        fake_op.select("large")


def test_unknown_op_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"`nothing`.*zone_attention"):
        load_op("nothing")


@pytest.mark.parametrize("aim", AIMS, ids=str)
def test_aims_name_what_is_timed(aim) -> None:
    op = load_op(aim.op)
    assert aim.case in [case["name"] for case in op.cases]
    assert aim.against in {*op.providers, *op.missing}
    assert aim.mode == "forward" or op.gradients


def test_aims_are_ratios_of_two_rows(case_rows) -> None:
    aim = AIMS[0]._replace(op="fake", case="small", against="exact", mode="forward", quantity="time")
    assert reached(aim, case_rows) == 4
    assert reached(aim._replace(quantity="memory"), case_rows) == 32
    assert reached(aim._replace(mode="full"), case_rows) == 4
    assert reached(aim._replace(against="peer"), case_rows) is None
    assert reached(aim._replace(case="other"), case_rows) is None
