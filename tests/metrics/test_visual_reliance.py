from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.features import Features
from ct_vlm.metrics import other_patient_permutation, plot_reliance, visual_reliance
from ct_vlm.metrics.functional import MeanStatistics
from ct_vlm.metrics.reliance import ClinicalScorer
from ct_vlm.metrics.reliance_arms import MeanVolume, noise, zeroed

NAMES = tuple("abcdef")
COUNT = 24


class Letters:
    """A report names its labels by letters."""

    name = "letters"
    label_names = NAMES

    def __call__(self, texts):
        return np.array([[letter in text for letter in NAMES] for text in texts], dtype=int)


SCORER = ClinicalScorer(Letters())


def samples(dtype=torch.float32):
    """Volumes filled with a number that decides the labels; two volumes a patient."""
    items = []
    for i in range(COUNT):
        kind = (i // 2) % 6
        labels = torch.zeros(6)
        labels[kind] = 1
        image = torch.full((1, 2, 3, 4), float(kind + 1)).to(dtype)
        items.append({"image": image, "labels": labels, "patient_id": f"p{i // 2}", "volume_id": f"v{i}"})
    return items


def collate(items):
    batch = {key: [item[key] for item in items] for key in items[0]}
    return {key: torch.stack(v) if isinstance(v[0], torch.Tensor) else v for key, v in batch.items()}


def batches(size=5, **options):
    items = samples(**options)
    return [collate(items[start : start + size]) for start in range(0, COUNT, size)]


def sighted(batch):
    """Read the number; one that stands for nothing is taken for the first label."""
    values = [int(torch.round(image.float().mean()).item()) for image in batch["image"]]
    return [NAMES[value - 1] if 1 <= value <= 6 else "a" for value in values]


def blind(batch):
    return ["a"] * len(batch["image"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_a_model_that_reads_the_volume_relies_on_it(dtype):
    found = visual_reliance(sighted, batches(dtype=dtype), scorer=SCORER, n_resamples=200)
    assert found.arms["real"]["micro_f1"].value == 1
    for arm in ("zeroed", "mean", "other_patient"):
        reliance = found.reliance[arm]["micro_f1"]
        assert reliance.value > 0.5
        assert 0 < reliance.low <= reliance.value <= reliance.high
    assert found.reliance["zeroed"]["micro_f1"].value == pytest.approx(1 - found.arms["zeroed"]["micro_f1"].value)


def test_noise_keeps_what_mean_and_spread_say():
    """A model that reads the mean alone cannot be told from one that reads the volume by this arm."""
    found = visual_reliance(sighted, batches(), ["noise"], SCORER, n_resamples=20)
    assert found.reliance["noise"]["micro_f1"].value == 0


def test_a_model_that_ignores_the_volume_has_no_reliance():
    found = visual_reliance(blind, batches(), scorer=SCORER, n_resamples=100)
    for row in found.reliance.values():
        assert (row["micro_f1"].value, row["micro_f1"].low, row["micro_f1"].high) == (0, 0, 0)


def test_other_patients_bring_all_that_belongs_to_the_volume_and_leave_the_prompt():
    seen = []

    def model(batch):
        seen.extend(zip(batch["patient_id"], batch["image"].mean((1, 2, 3, 4)).tolist(), batch["spacing"], strict=True))
        return blind(batch)

    data = [{**b, "spacing": b["image"][:, 0, 0, 0, :3].clone()} for b in batches()]
    visual_reliance(model, data, ["other_patient"], SCORER, seeds=(0, 1), n_resamples=10)
    real, swapped = seen[:COUNT], seen[COUNT:]
    assert [p for p, *_ in real] == [f"p{i // 2}" for i in range(COUNT)]
    assert len(swapped) == 2 * COUNT
    assert all(value == spacing[0] for _, value, spacing in seen)
    assert sum(a[:2] != b[:2] for a, b in zip(real, swapped, strict=False)) > COUNT / 2


@pytest.mark.parametrize("size", [1, 7, 24])
def test_batch_size_changes_nothing(size):
    expected = visual_reliance(sighted, batches(5), scorer=SCORER, n_resamples=20)
    found = visual_reliance(sighted, batches(size), scorer=SCORER, n_resamples=20)
    assert found.reports == expected.reports
    assert found.to_dict() == expected.to_dict()


def test_a_loader_gives_what_a_list_gives():
    loader = torch.utils.data.DataLoader(samples(), batch_size=5, collate_fn=collate)
    expected = visual_reliance(sighted, batches(), scorer=SCORER, n_resamples=20)
    assert visual_reliance(sighted, loader, scorer=SCORER, n_resamples=20).reports == expected.reports


def test_a_loader_that_shuffles_is_refused():
    loader = torch.utils.data.DataLoader(samples(), batch_size=5, collate_fn=collate, shuffle=True)
    with pytest.raises(DatasetError, match="does not shuffle"):
        visual_reliance(sighted, loader, ["other_patient"], SCORER, n_resamples=20)


def test_cached_features_are_changed_in_token_space():
    data = []
    for batch in batches():
        tokens = batch.pop("image").flatten(1)[:, :8, None].expand(-1, 8, 3).clone()
        data.append({**batch, "features": Features([tokens, tokens[:, :1]], [(2, 2, 2), (1, 1, 1)])})

    def model(batch):
        fine, coarse = batch["features"].levels
        assert (fine.shape[1:], coarse.shape[1:]) == ((8, 3), (1, 3))
        return sighted({"image": fine})

    found = visual_reliance(model, data, scorer=SCORER, n_resamples=50)
    assert found.arms["real"]["micro_f1"].value == 1
    assert found.reliance["other_patient"]["micro_f1"].value > 0.5
    assert found.reliance["zeroed"]["micro_f1"].value > 0.5


def test_arms_have_the_values_they_promise():
    batch = {"image": torch.randint(-1000, 1000, (3, 1, 8, 16, 16), dtype=torch.int16)}
    assert (zeroed(batch, -1000)["image"] == -1000).all()
    drawn, again, other = noise(batch, 0, 5)["image"], noise(batch, 0, 5)["image"], noise(batch, 1, 5)["image"]
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    assert drawn.dtype == torch.int16
    for was, now in zip(batch["image"].float(), drawn.float(), strict=True):
        assert (now.mean().item(), now.std().item()) == pytest.approx((was.mean().item(), was.std().item()), abs=0.1)
    mean = MeanVolume()
    mean.add({"image": batch["image"][:2]})
    mean.add({"image": batch["image"][2:]})
    filled = mean.fill(batch)["image"]
    assert torch.equal(filled[0], filled[2])
    assert (filled[0] - batch["image"].double().mean(0)).abs().max() <= 0.5 + 1e-3


def test_volumes_of_different_sizes_have_one_mean_value():
    mean = MeanVolume()
    mean.add({"image": torch.zeros(1, 1, 2, 2, 2)})
    mean.add({"image": torch.full((1, 1, 3, 2, 2), 4.0)})
    assert (mean.fill({"image": torch.zeros(1, 1, 5, 2, 2)})["image"] == 2).all()


def test_a_scorer_of_ones_own():
    def length(reports, samples):
        return MeanStatistics({"length": np.array([float(len(r)) for r in reports])})

    found = visual_reliance(lambda b: ["x" * int(v.mean()) for v in b["image"]], batches(), ["zeroed"], length)
    assert found.arms["real"]["length"].value == 3.5
    assert found.reliance["zeroed"]["length"].value == 1
    assert found.scorer == "length"


def test_references_are_labelled_where_there_are_no_labels():
    data = [{**b, "report": sighted(b)} for b in batches()]
    for batch in data:
        del batch["labels"]
    assert visual_reliance(sighted, data, ["zeroed"], SCORER).arms["real"]["micro_f1"].value == 1
    for batch in data:
        del batch["report"]
    with pytest.raises(DatasetError, match="neither labels nor a reference"):
        visual_reliance(sighted, data, ["zeroed"], SCORER)


def test_results_can_be_printed_saved_and_drawn(tmp_path):
    found = visual_reliance(sighted, batches(), scorer=SCORER, n_resamples=50)
    text = str(found)
    assert "reliance = 1 - other_patient/real" in text
    assert "reliance = 1 - zeroed/real" in text
    saved = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert saved["arms"]["real"]["micro_f1"]["value"] == 1
    assert set(saved["seed_spread"]) == {"noise", "other_patient"}
    figure = plot_reliance(found, tmp_path / "reliance.png")
    assert (tmp_path / "reliance.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes[0].patches) == 5
    with pytest.raises(ConfigError, match="'bleu'"):
        plot_reliance(found, score="bleu")


def test_modules_are_evaluated_and_restored():
    class Model(torch.nn.Module):
        def generate_batch(self, batch, **options):
            assert not self.training
            assert not torch.is_grad_enabled()
            assert options == {"num_beams": 2}
            return sighted(batch)

    model = Model().train()
    visual_reliance(model, batches(), ["zeroed"], SCORER, n_resamples=10, generation={"num_beams": 2})
    assert model.training


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"arms": ["blank"]}, ConfigError, r"\['blank'\]"),
        ({"seeds": ()}, ConfigError, "No seeds"),
        ({"patients": ["a"]}, DatasetError, "24 samples, but got 1"),
        ({"patients": ["a"] * 20 + list("bcde")}, DatasetError, "Patient 'a' has 20"),
    ],
)
def test_wrong_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        visual_reliance(sighted, batches(), scorer=SCORER, n_resamples=10, **options)


def test_wrong_models_and_batches_are_refused():
    with pytest.raises(ShapeError, match="1 reports for 5 volumes"):
        visual_reliance(lambda b: ["a"], batches(), scorer=SCORER)
    with pytest.raises(ConfigError, match="generator"):
        visual_reliance(sighted, (b for b in batches()), scorer=SCORER)
    with pytest.raises(DatasetError, match=r"none of .*\['labels'"):
        visual_reliance(sighted, [{"labels": torch.zeros(2, 6), "patient_id": ["a", "b"]}], scorer=SCORER)


def test_a_model_that_is_never_right_has_no_defined_reliance():
    found = visual_reliance(lambda b: [""] * len(b["image"]), batches(), ["zeroed"], SCORER, n_resamples=20)
    assert found.to_dict()["reliance"]["zeroed"]["micro_f1"]["value"] is None
    assert found.arms["real"]["micro_f1"].value == 0


@pytest.mark.slow
def test_the_tiny_report_model_end_to_end():
    from ct_vlm.datamodules import VolumeDataModule
    from ct_vlm.decoders import train_bpe_tokenizer
    from ct_vlm.models import u_vlm
    from ct_vlm.tasks import ReportLightningModule

    texts = ["The heart size is normal.", "Pleural effusion on the left side."]
    items = []
    for i in range(4):
        image = torch.randint(-1000, 1000, (1, 8, 16, 16), dtype=torch.int16)
        items.append({"image": image, "report": texts[i % 2], "volume_id": f"v{i}", "patient_id": f"p{i}"})
    data = VolumeDataModule("phantom", batch_size=2)
    data.datasets = {"test": items}
    model = u_vlm("tiny", tokenizer=train_bpe_tokenizer(texts * 2, 300))
    task = ReportLightningModule.from_model(model, generation={"max_new_tokens": 4})
    found = visual_reliance(task, data, seeds=(0,), n_resamples=20)
    assert found.num_patients == 4
    assert {arm: [len(run) for run in runs] for arm, runs in found.reports.items()} == {
        arm: [4] for arm in ("real", "zeroed", "mean", "noise", "other_patient")
    }
    assert found.scorer == "labels (rules)"
    written = [text for batch in data.test_dataloader() for text in task.eval().generate_batch(batch)]
    assert found.reports["real"][0] == written
    # without sampling a model writes what it writes for the other patient's own volume
    order = other_patient_permutation([f"p{i}" for i in range(4)], seed=0)
    assert found.reports["other_patient"][0] == [written[i] for i in order]
