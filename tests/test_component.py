"""The component contract: JSON configs, strict weights, no pickles."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule
from torch import Tensor, nn

from ct_vlm.component import CONFIG_NAME, WEIGHTS_NAME, Component, build_from_config, import_object
from ct_vlm.errors import CheckpointError, ConfigError


class Scale(Component):
    def __init__(self, dim: int, init: float = 1.0, *, names: tuple[str, ...] = ("a",)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class NamedScale(Scale):
    """A subclass of a subclass, with its own constructor."""

    def __init__(self, label: str, dim: int = 3) -> None:
        super().__init__(dim, init=2.0)
        self.label = label


class QuietScale(Scale):
    """A subclass without a constructor of its own."""


class Options(Component):
    def __init__(self, width: int = 2, **options: int) -> None:
        super().__init__()
        self.seen = options


class Pair(Component):
    def __init__(self, first: Component, rest: list[Component], by_name: dict[str, Component] | None = None) -> None:
        super().__init__()
        self.first = first
        self.rest = nn.ModuleList(rest)
        self.by_name = nn.ModuleDict(by_name or {})


class Sparse(Component):
    def __init__(self, parts: list[Component | None]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)


class Tied(Component):
    def __init__(self, vocabulary: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4)
        self.head = nn.Linear(4, vocabulary, bias=False)
        self.head.weight = self.embedding.weight


class Window:
    """Not a component, but it offers ``to_config`` and ``from_config``."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def to_config(self) -> dict:
        return {"class_path": f"{__name__}.Window", "init_args": {"low": self.low, "high": self.high}}

    @classmethod
    def from_config(cls, args: dict) -> Window:
        return cls(**args)


class Windowed(Component):
    def __init__(self, window: Window, folder: Path = Path("here")) -> None:
        super().__init__()
        self.window = window


class Opaque(Component):
    def __init__(self, function: object = None) -> None:
        super().__init__()


def round_trip(component: Component) -> Component:
    return Component.from_config(json.loads(json.dumps(component.to_config())))


def test_config_records_given_arguments_and_defaults() -> None:
    config = Scale(4, names=("x", "y")).to_config()
    assert config == {"class_path": f"{__name__}.Scale", "init_args": {"dim": 4, "init": 1.0, "names": ["x", "y"]}}


def test_config_is_json_and_rebuilds_an_equal_component() -> None:
    scale = Scale(4, 0.5)
    again = round_trip(scale)
    assert type(again) is Scale
    assert again.to_config() == scale.to_config()
    assert torch.equal(again.weight, scale.weight)


@pytest.mark.parametrize("component", [NamedScale("n", dim=2), QuietScale(2, init=3.0)], ids=lambda c: type(c).__name__)
def test_subclass_of_subclass_records_its_own_arguments(component: Component) -> None:
    again = round_trip(component)
    assert type(again) is type(component)
    assert again.to_config() == component.to_config()
    assert again.weight.shape == component.weight.shape
    assert torch.equal(again.weight, component.weight)


def test_outermost_constructor_wins() -> None:
    assert NamedScale("n").to_config()["init_args"] == {"label": "n", "dim": 3}


def test_keyword_arguments_are_recorded_flat() -> None:
    options = Options(3, depth=1, heads=2)
    assert options.to_config()["init_args"] == {"width": 3, "depth": 1, "heads": 2}
    assert round_trip(options).seen == {"depth": 1, "heads": 2}


def test_nested_components_lists_and_dicts_round_trip() -> None:
    pair = Pair(Scale(2), [Scale(3, 0.5), NamedScale("z")], {"left": Scale(1, 7.0)})
    again = round_trip(pair)
    assert again.to_config() == pair.to_config()
    assert [type(part) for part in again.rest] == [Scale, NamedScale]
    assert again.by_name["left"].weight.item() == 7.0
    assert set(again.state_dict()) == set(pair.state_dict())


def test_empty_containers_round_trip() -> None:
    pair = Pair(Scale(2), [], {})
    again = round_trip(pair)
    assert len(again.rest) == 0
    assert again.to_config() == pair.to_config()


def test_swapped_part_is_saved_as_it_is(tmp_path: Path) -> None:
    pair = Pair(Scale(2), [Scale(3)])
    pair.first = NamedScale("new", dim=5)
    pair.rest[0] = Scale(4, 0.25)
    again = Component.from_pretrained(pair.save_pretrained(tmp_path))
    assert type(again.first) is NamedScale
    assert again.first.weight.shape == (5,)
    assert again.rest[0].weight.tolist() == [0.25] * 4


def test_part_added_to_a_list_is_saved(tmp_path: Path) -> None:
    pair = Pair(Scale(2), [Scale(3)])
    pair.rest.append(Scale(6))
    assert len(Component.from_pretrained(pair.save_pretrained(tmp_path)).rest) == 2


def test_replaced_part_is_not_kept_alive_by_the_record() -> None:
    import gc
    import weakref

    pair = Pair(Scale(2), [])
    old = weakref.ref(pair.first)
    pair.first = Scale(2)
    gc.collect()
    assert old() is None


def test_component_stored_under_another_name_is_named() -> None:
    class Misplaced(Component):
        def __init__(self, part: Component) -> None:
            super().__init__()
            self.other = part

    with pytest.raises(ConfigError, match=r"`Misplaced`.*`part`"):
        Misplaced(Scale(2)).to_config()


def test_components_beside_none_in_a_list_are_read_from_the_attribute() -> None:
    parts = Sparse([Scale(2), None])
    parts.parts[0] = NamedScale("swapped")
    assert parts.to_config()["init_args"]["parts"][0]["class_path"].endswith("NamedScale")
    assert round_trip(parts).parts[1] is None


def test_pickled_component_keeps_its_config() -> None:
    pair = Pair(Scale(2), [Scale(3)])
    assert pickle.loads(pickle.dumps(pair)).to_config() == pair.to_config()


def test_objects_with_to_config_and_paths() -> None:
    again = round_trip(Windowed(Window(-1000.0, 400.0), Path("some") / "where"))
    assert (again.window.low, again.window.high) == (-1000.0, 400.0)
    assert again.to_config()["init_args"]["folder"] == str(Path("some") / "where")


@pytest.mark.parametrize(
    ("value", "where"),
    [(print, "Opaque.function"), ({"a": [1, object()]}, r"Opaque.function\['a'\]\[1\]"), (torch.zeros(2), "Tensor")],
)
def test_argument_that_json_cannot_hold_is_named(value: object, where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        Opaque(value).to_config()


def test_save_and_load_keep_weights_and_write_no_pickle(tmp_path: Path) -> None:
    scale = Scale(4)
    nn.init.normal_(scale.weight)
    folder = scale.save_pretrained(tmp_path / "new" / "folder")
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG_NAME, WEIGHTS_NAME]
    assert torch.equal(Scale.from_pretrained(str(folder)).weight, scale.weight)


def test_tied_weights_survive_saving(tmp_path: Path) -> None:
    tied = Tied()
    again = Tied.from_pretrained(tied.save_pretrained(tmp_path))
    assert again.head.weight is again.embedding.weight
    assert torch.equal(again.head.weight, tied.head.weight)


def test_saving_a_non_json_component_writes_nothing(tmp_path: Path) -> None:
    Scale(2, 0.5).save_pretrained(tmp_path)
    with pytest.raises(ConfigError):
        Opaque(print).save_pretrained(tmp_path)
    assert Scale.from_pretrained(tmp_path).weight.tolist() == [0.5, 0.5]


def _rewrite_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(weights, str(folder / WEIGHTS_NAME))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ({}, "weight"),
        ({"weight": torch.zeros(2), "extra": torch.zeros(1)}, "extra"),
        ({"weight": torch.zeros(3)}, "weight"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_keys_must_match(tmp_path: Path, weights: dict[str, Tensor], match: str) -> None:
    _rewrite_weights(Scale(2).save_pretrained(tmp_path), weights)
    with pytest.raises(CheckpointError, match=match):
        Scale.from_pretrained(tmp_path)


def test_truncated_weights_are_a_named_error(tmp_path: Path) -> None:
    file = Scale(2).save_pretrained(tmp_path) / WEIGHTS_NAME
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=WEIGHTS_NAME):
        Scale.from_pretrained(tmp_path)


@pytest.mark.parametrize("missing", [CONFIG_NAME, WEIGHTS_NAME])
def test_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    (Scale(2).save_pretrained(tmp_path) / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        Scale.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"class_path": 3}', '{"other": 1}'])
def test_broken_config_file_is_an_error_of_ours(tmp_path: Path, text: str) -> None:
    (Scale(2).save_pretrained(tmp_path) / CONFIG_NAME).write_text(text)
    with pytest.raises((CheckpointError, ConfigError)):
        Scale.from_pretrained(tmp_path)


@pytest.mark.parametrize("source", ["no/such/folder", "./absent", "plainname", Path("absent") / "folder"])
def test_absent_directory_is_an_error_that_names_it(source: str | Path) -> None:
    with pytest.raises(CheckpointError, match=str(source)):
        Component.from_pretrained(source)


def test_unreachable_hub_id_is_an_error_that_names_it() -> None:
    with pytest.raises(CheckpointError, match="owner/absent-model"):
        Component.from_pretrained("owner/absent-model")


def test_from_pretrained_on_the_wrong_class(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`Tied`.*Scale"):
        Tied.from_pretrained(Scale(2).save_pretrained(tmp_path))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"class_path": "ct_vlm.nowhere.Scale"}, "nowhere"),
        ({"class_path": "ct_vlm.component.Nothing"}, "Nothing"),
        ({"class_path": "Scale"}, "Scale"),
        ({"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}, "not a component"),
        ({"class_path": "ct_vlm.component.build_from_config"}, "not a component"),
        ({"class_path": f"{__name__}.Scale", "init_args": {"dimm": 3}}, "dim"),
        ({"class_path": f"{__name__}.Scale"}, "dim"),
        ({"class_path": f"{__name__}.Scale", "init_args": {"dim": 3}, "more": 1}, "more"),
        ({}, "class_path"),
    ],
)
def test_bad_configs_are_refused(config: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build_from_config(config)


def test_import_object_returns_the_object() -> None:
    assert import_object("ct_vlm.component.Component") is Component


def test_deepcopy_is_independent_and_keeps_the_config() -> None:
    pair = Pair(Scale(2), [Scale(3)])
    twin = copy.deepcopy(pair)
    twin.first = NamedScale("other")
    nn.init.zeros_(twin.rest[0].weight)
    assert type(pair.first) is Scale
    assert pair.rest[0].weight.tolist() == [1.0] * 3
    assert pair.to_config() == Pair(Scale(2), [Scale(3)]).to_config()
    assert twin.to_config()["init_args"]["first"]["class_path"].endswith("NamedScale")


def test_mutating_an_argument_later_does_not_change_the_config() -> None:
    names = ["a", "b"]
    scale = Scale(2, names=names)
    names.append("c")
    assert scale.to_config()["init_args"]["names"] == ["a", "b"]


def test_component_works_alone_and_inside_a_lightning_module() -> None:
    class Parent(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.part = Scale(2)

    assert torch.equal(Scale(2, 3.0)(torch.ones(2)), torch.full((2,), 3.0))
    assert [name for name, _ in Parent().named_parameters()] == ["part.weight"]


def test_freeze_stops_training() -> None:
    scale = Scale(2)
    scale.freeze()
    assert not scale.training
    assert not scale.weight.requires_grad


def test_old_files_stay_when_saving_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    folder = Scale(2, 0.5).save_pretrained(tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.torch, "save_model", full_disk)
    with pytest.raises(OSError, match="no space"):
        Scale(2, 9.0).save_pretrained(folder)
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG_NAME, WEIGHTS_NAME]
    monkeypatch.undo()
    assert Scale.from_pretrained(folder).weight.tolist() == [0.5, 0.5]


class Outer:
    class Inner(Scale):
        """A class within a class."""


class Many(Component):
    def __init__(self, *sizes: int, width: int = 1) -> None:
        super().__init__()


class Placed(Component):
    def __init__(self, size: int, /, width: int = 1) -> None:
        super().__init__()


def test_nested_class_round_trips() -> None:
    again = round_trip(Outer.Inner(3, 0.5))
    assert type(again) is Outer.Inner
    assert again.weight.tolist() == [0.5] * 3


def test_class_in_a_function_is_refused_when_the_config_is_made() -> None:
    class Local(Scale):
        pass

    with pytest.raises(ConfigError, match=r"Local.*Move the class to a module"):
        Local(2).to_config()


@pytest.mark.parametrize(("part", "name"), [(Many(1, 2), "sizes"), (Placed(1), "size")], ids=["args", "positional"])
def test_arguments_by_position_only_are_refused_when_the_config_is_made(part: Component, name: str) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` by position only"):
        part.to_config()


def test_unused_variable_arguments_round_trip() -> None:
    assert round_trip(Many(width=3)).to_config()["init_args"] == {"width": 3}


def test_record_that_does_not_fit_the_constructor_is_refused() -> None:
    scale = Scale(2)
    scale._init_args["other"] = 1
    with pytest.raises(ConfigError, match=r"`Scale`.*other"):
        scale.to_config()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (float("nan"), "Opaque.function.*nan"),
        ([1.0, float("inf")], r"Opaque.function\[1\].*inf"),
        ({1: "a"}, "key 1"),
        (Scale, "Opaque.function.*type"),
        (nn.ReLU, "Opaque.function.*type"),
    ],
)
def test_values_that_json_would_change_are_refused(value: object, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Opaque(value).to_config()


def test_numpy_scalars_become_numbers() -> None:
    config = Opaque([np.int64(3), np.float32(0.5), np.bool_(True)]).to_config()
    assert json.loads(json.dumps(config))["init_args"]["function"] == [3, 0.5, True]


def test_absent_class_of_a_script_says_to_move_it() -> None:
    with pytest.raises(ConfigError, match=r"__main__\.Gone.*move it to a module"):
        import_object("__main__.Gone")


def test_what_a_module_lacks_itself_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_module.py").write_text("import absent_package_of_mine")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="absent_package_of_mine"):
        import_object("needy_module.Outer.Inner")
