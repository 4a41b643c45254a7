"""The study of LeJEPA at the least size, and its parts against known answers."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.studies.lejepa import Recipe, Scans, auroc, main, pixel_components, probe, table

LEAST = Recipe(
    shape=(4, 32, 32),
    train_patients=6,
    test_patients=6,
    width=32,
    depth=1,
    steps=2,
    batch_size=8,
    num_directions=16,
    views={"global_size": 24, "local_size": 16, "num_local": 1, "slab_mm": 30.0},
)


def test_study_writes_and_prints_one_row_an_embedding(tmp_path, capsys):
    assert main(["--seeds", "0", "--out", str(tmp_path), "--no-progress"], LEAST) == 0
    found = json.loads((tmp_path / "lejepa.json").read_text())
    assert [row["embedding"] for row in found["rows"]] == ["pixel PCA", "random weights", "LeJEPA"]
    assert all(0 <= row["slice organs"] <= 1 for row in found["rows"])
    assert found["rows"][2]["logged"]["train/loss"] > 0
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if line.startswith("| ")]) == 4


def test_probe_finds_a_direction_and_nothing_in_noise():
    x = torch.randn(600, 5)
    labels = torch.stack([x[:, 2] > 0, torch.rand(600) > 0.5], 1).float()
    logits = probe(x[:300], labels[:300], x[300:])
    assert auroc(logits[:, :1], labels[300:, :1]) > 0.98
    assert auroc(logits[:, 1:], labels[300:, 1:]) == pytest.approx(0.5, abs=0.1)


def test_labels_of_one_kind_are_left_out_of_the_mean():
    logits, labels = torch.tensor([[0.1, 0.0], [0.9, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    assert auroc(logits, labels) == 1.0


def test_components_are_those_of_the_decomposition():
    directions = torch.linalg.qr(torch.randn(64, 64))[0]
    pixels = (torch.randn(8, 5, 64) * torch.tensor([300.0, 200.0, 100.0, *[1.0] * 61])) @ directions
    items = [{"image": part.view(1, 5, 8, 8).round().short()} for part in pixels]
    scans = Scans(items, torch.zeros(8, 5, 1), torch.zeros(8, 1))
    train, test = pixel_components(scans, scans, 3)
    values = scans.windowed()[:, 0].flatten(0, 1).flatten(1)
    exact = torch.linalg.svdvals(values - values.mean(0))[:3]
    torch.testing.assert_close(train.flatten(0, 1).norm(dim=0), exact, rtol=1e-3, atol=0)
    torch.testing.assert_close(train, test)


def test_table_gives_mean_and_range():
    rows = [
        {"embedding": "a", "slice organs": v, "slice findings": v, "volume findings": v, "effective rank": 10 * v}
        for v in (0.5, 0.7)
    ]
    assert "| a | 0.600 (0.500-0.700)" in table(rows)
    assert "6.0 (5.0-7.0) |" in table(rows)
    assert "(" not in table(rows[:1]).splitlines()[2]
