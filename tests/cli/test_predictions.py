"""Predicted records become JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.cli.predictions import save_predictions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "nesting", [[[{"id": "a"}, {"id": "ü"}]], [{"id": "a"}, {"id": "ü"}], [[[{"id": "a"}], [{"id": "ü"}]]]]
)
def test_records_are_flattened(tmp_path: Path, nesting: list) -> None:
    file = save_predictions(nesting, tmp_path / "new")
    assert file is not None
    assert [json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()] == ["a", "ü"]


def test_every_process_has_its_own_file(tmp_path: Path) -> None:
    files = [save_predictions([{"rank": rank}], tmp_path, rank, 2) for rank in range(2)]
    assert [json.loads(file.read_text())["rank"] for file in files if file] == [0, 1]


@pytest.mark.parametrize("predictions", [None, [], [torch.zeros(2)]])
def test_what_is_no_record_is_not_written(tmp_path: Path, capsys, predictions: object) -> None:
    assert save_predictions(predictions, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert "nothing was written" in capsys.readouterr().err
