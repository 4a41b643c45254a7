"""The reference's weights and its log-probabilities on disk."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import CheckpointError, DatasetError
from ct_vlm.tasks import reference_store
from ct_vlm.tasks.reference import StartWeights
from ct_vlm.tasks.reference_store import ReferenceStore, digest


def test_weights_come_back_whatever_happens_inside() -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    start, first = StartWeights(model), model.weight.detach().clone()
    assert set(start.weights) == {"weight"}
    with torch.no_grad():
        model.weight.add_(1)
        model.bias.add_(1)
    now, bias = model.weight.detach().clone(), model.bias.clone()
    seen = []

    def ask() -> None:
        with start.in_place(model):
            seen.extend([model.weight.clone(), model.bias.clone()])
            msg = "inside"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="inside"):
        ask()
    assert seen[0].equal(first)
    # what does not train is everybody's
    assert seen[1].equal(bias)
    assert model.weight.equal(now)
    assert start.weights["weight"].equal(first)


def test_gradients_of_the_policy_do_not_see_the_swap() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    start, x = StartWeights(model), torch.tensor([[1.0, 2.0]])
    with torch.no_grad():
        model.weight.fill_(3.0)
    loss = (model(x) ** 2).sum()
    with start.in_place(model):
        assert not model(x).requires_grad
    loss.backward()
    torch.testing.assert_close(model.weight.grad, 2 * 9.0 * x)


def test_weights_follow_the_models_type() -> None:
    model = torch.nn.Linear(2, 2)
    start = StartWeights(model)
    with start.in_place(model.double()):
        assert model.weight.dtype == torch.float64


def test_a_copy_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="weight"):
        StartWeights(torch.nn.Linear(2, 2), {"weight": torch.zeros(3, 2)})
    with pytest.raises(CheckpointError, match="other"):
        StartWeights(torch.nn.Linear(2, 2), {"other": torch.zeros(1)})


def test_numbers_come_back_to_the_last_bit(tmp_path) -> None:
    values = {f"pair {i}": tuple(torch.randn(2, dtype=torch.float64).mul(100).tolist()) for i in range(20)}
    store = ReferenceStore(tmp_path, "model")
    store.add(values)
    store.flush()
    assert dict(zip(values, ReferenceStore(tmp_path, "model").get(list(values)), strict=True)) == values
    assert "pair 1" in store
    assert "pair 20" not in store
    assert len(ReferenceStore(tmp_path, "another model")) == 0


def test_files_are_written_from_time_to_time_and_by_several(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_store, "_FLUSH", 2)
    one, other = ReferenceStore(tmp_path, "model"), ReferenceStore(tmp_path, "model")
    one.add({"a": (1.0, 2.0)})
    assert not list(tmp_path.rglob("*.json"))
    one.add({"b": (3.0, 4.0)})
    other.add({"c": (5.0, 6.0)})
    other.flush()
    other.flush()
    assert len(list(tmp_path.rglob("*.json"))) == 2
    one.read()
    assert one.get(["c", "a"]) == [(5.0, 6.0), (1.0, 2.0)]
    # what a killed process leaves behind is no entry
    (one.folder / ".tmp-x.json").write_text("{")
    assert len(ReferenceStore(tmp_path, "model")) == 3


def test_missing_pairs_and_broken_files_are_named(tmp_path) -> None:
    store = ReferenceStore(tmp_path, "model")
    with pytest.raises(DatasetError, match="2 pairs are not in"):
        store.get(["a", "b"])
    store.add({"a": (1.0, 2.0)})
    store.flush()
    file = next(tmp_path.rglob("*.json"))
    for text in ("{", "[1]", '{"a": [1]}', '{"a": ["x", 2]}'):
        file.write_text(text)
        with pytest.raises(DatasetError, match=file.name):
            ReferenceStore(tmp_path, "model")


def test_digests_depend_on_every_part() -> None:
    assert digest("a", ["b"]) == digest("a", ["b"])
    assert len({digest(*parts) for parts in (("a", "b"), ("ab",), ("a", None), ("b", "a"))}) == 4
