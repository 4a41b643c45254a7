"""`ct-vlm list`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ct_vlm.cli import main
from ct_vlm.cli.parts import PART_PACKAGES, import_parts, list_parts
from ct_vlm.component import import_object
from ct_vlm.models import MODELS
from ct_vlm.transforms import list_presets

if TYPE_CHECKING:
    import pytest


def test_json_lists_components_models_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"ResidualUNetEncoder", "MultiLayerVisualInjection"} <= {part["name"] for part in found["components"]}
    assert [model["name"] for model in found["models"]] == sorted(MODELS)
    assert [preset["name"] for preset in found["presets"]] == list_presets()


def test_one_kind_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "presets", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["presets"]


def test_tables_name_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(part.name in text for part in list_parts())
    assert all(name in text for name in (*MODELS, *list_presets()))


def test_unknown_kind_is_a_usage_error() -> None:
    assert main(["list", "modelz"]) == 2


def test_parts_are_public_documented_and_importable() -> None:
    parts = list_parts()
    assert {part.package for part in parts} <= set(PART_PACKAGES)
    assert [part.name for part in parts if not part.summary or part.name.startswith("_")] == []
    for part in parts:
        assert import_object(part.path).__name__ == part.name


def test_short_names_are_unique() -> None:
    names = [part.name for part in list_parts()]
    assert sorted(names) == sorted(set(names))


def test_no_module_of_the_library_is_missing_here() -> None:
    assert import_parts() == {}
