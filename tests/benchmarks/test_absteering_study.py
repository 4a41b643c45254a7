"""The study of AbSteering's stages, on the smallest sizes that have every step."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.studies.absteering.__main__ import main
from benchmarks.studies.absteering.pairs import list_pairs, retold_pairs
from benchmarks.studies.absteering.recipe import StandInRecipe, SteeringRecipe, StudyRecipe
from benchmarks.studies.absteering.scans import steered, with_other_videos, without_lists
from benchmarks.studies.absteering.scoring import pair_scores
from benchmarks.studies.absteering.standin import tiny_checkpoint
from benchmarks.studies.absteering.tower import GRID, draw_phantoms, evidence_scores
from benchmarks.studies.medregion.recipe import TrainRecipe
from ct_vlm.datamodules import FeatureDataset
from ct_vlm.datasets.preferences import Change, PreferencePair
from ct_vlm.datasets.steering import SteeredScan
from ct_vlm.encoders import VideoLMEncoder
from ct_vlm.models.absteering import CONFIGS
from ct_vlm.modules import PresenceHead
from ct_vlm.phantoms import SEGMENTATION_CLASSES, describe_phantom
from ct_vlm.phantoms.schema import FINDING_OFFSET
from ct_vlm.text import Abnormality, parse_cot, render_list
from ct_vlm.text.labels import CT_RATE_LABELS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SHAPE = (12, 64, 64)
STEP = TrainRecipe(steps=1, batch_size=2, lr=1e-3)
RECIPE = StudyRecipe(
    shape=SHAPE,
    stand_in=StandInRecipe(phantoms=2, checks=2, texts=8, vocab_size=300, tower=STEP, language=STEP, captions=STEP),
    steering=SteeringRecipe(train=6, held_out=6, scored=3, report=STEP, preference=STEP, max_new_tokens=4),
)


@pytest.mark.slow
def test_runs_from_phantoms_to_tables_and_is_read_when_asked_again(tmp_path, capsys):
    arguments = ["--backbones", "internvl", "--seeds", "0", "--out", str(tmp_path), "--no-progress"]
    arguments += ["--parts", "baseline", "cot_dpo_hard"]
    assert main(arguments, RECIPE) == 0
    plain, steered_row = json.loads((tmp_path / "absteering.json").read_text())
    assert "list/micro_f1" not in plain
    assert 0 <= steered_row["list/micro_f1"] <= 1
    assert plain["preferences"]["hard/own/accuracy"] == 0.5
    assert steered_row["preferences"]["hard/own/pairs"] == steered_row["preferences"]["hard/other/pairs"] > 0
    assert "| internvl | CoT + DPO, hard negatives | 0 |" in capsys.readouterr().out
    folder = tmp_path / "internvl" / "seed0" / "cot_dpo_hard"
    assert "written" in json.loads((folder / "records.json").read_text())[0]
    before = (folder / "scores.json").stat().st_mtime_ns
    assert main(arguments, RECIPE) == 0
    assert (folder / "scores.json").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def scans():
    """Six scans with made-up tokens."""
    items = []
    for number in range(6):
        facts = describe_phantom(number + 40, SHAPE)
        entries = [(name, text) for name, text in facts.region_reports.items() if name == "heart"]
        listed = "".join(f"(Heart: {text})" for _, text in entries) or "(None)"
        labels = torch.as_tensor(facts.labels)
        items.append(
            {"volume_id": f"a_{number}", "report": facts.findings_text, "abnormalities": listed, "labels": labels}
        )
    return FeatureDataset([torch.arange(6.0).view(6, 1, 1)], [(1, 1, 1)], items)


def test_targets_hold_list_and_report_and_the_baseline_knows_no_list(scans):
    for before, after in zip(scans.items, steered(scans).items, strict=True):
        text = parse_cot(after["report"])
        assert text.report == before["report"]
        assert text.list_text == before["abnormalities"]
    assert all("abnormalities" not in item for item in without_lists(scans).items)
    assert all("abnormalities" in item for item in scans.items)


def test_another_video_is_never_the_own_one(scans):
    other = with_other_videos(scans)
    assert other.items == scans.items
    assert not (other.levels[0] == scans.levels[0]).any()


def test_pairs_are_about_scans_with_something_to_confuse(scans):
    item = {
        "volume_id": "b",
        "report": "Left pleural effusion of 8 mm.",
        "abnormalities": "(Pleura: Left pleural effusion of 8 mm.)",
        "labels": torch.tensor([float(name == "Pleural effusion") for name in CT_RATE_LABELS]),
    }
    normal = {**item, "volume_id": "c", "report": "Lungs are clear.", "abnormalities": "(None)"}
    two = FeatureDataset([torch.zeros(2, 1, 1)], [(1, 1, 1)], [item, normal])
    pairs = list_pairs(two, "hard", 0)
    assert [pair.id for pair in pairs] == ["b"]
    assert "effusion" not in pairs[0].rejected


def test_retold_confusions_are_sentences_of_other_scans_and_nothing_else():
    pleura, heart = Abnormality("pleura", "Left pleural thickening."), Abnormality("heart", "The heart is enlarged.")
    told = Abnormality("pleura", "Right pleural effusion of 9 mm.")
    scans = [SteeredScan("a", (pleura, heart), ""), SteeredScan("b", (told,), "")]
    # no scan tells of what the heart's is confused with
    changes = (
        Change("heart", heart.text, "Pericardial effusion is seen.", "confusion"),
        Change("pleura", pleura.text, "Left pleural effusion.", "confusion"),
    )
    pair = PreferencePair("a", "List.", render_list(scans[0].abnormalities), "(wrong)", changes)
    lost = PreferencePair("a", "List.", "(true)", "(wrong)", changes[:1])
    found = retold_pairs([pair, lost], scans, 0)
    assert [p.changes for p in found] == [changes[1:]]
    assert found[0].chosen == pair.chosen
    assert found[0].rejected == render_list([told, heart])


def test_accuracy_is_what_was_gained_and_ties_count_half():
    reference = {"hard/own": torch.tensor([[-2.0, -4.0], [-4.0, -2.0], [-3.0, -3.0]])}
    policy = {"hard/own": torch.tensor([[-2.0, -3.0], [-3.0, -2.0], [-3.0, -3.0]])}
    found = pair_scores(policy, reference)
    assert found["hard/own/likelier"] == 0.5
    assert found["hard/own/accuracy"] == pytest.approx(0.5)
    assert pair_scores(policy, {"hard/own": policy["hard/own"] - torch.tensor([1.0, 0.0])})["hard/own/accuracy"] == 1
    assert pair_scores(policy, None)["hard/own/accuracy"] == 0.5


@pytest.mark.parametrize("backbone", ["qwen2_5_vl", "internvl"])
def test_the_evidence_of_a_tower_is_scored_by_what_lies_in_its_tokens_places(backbone, tmp_path):
    checkpoint = tiny_checkpoint(tmp_path, backbone, RECIPE.stand_in, SHAPE)
    assert tiny_checkpoint(tmp_path, backbone, RECIPE.stand_in, SHAPE) == checkpoint
    preset = CONFIGS["tiny"].preset[backbone]
    encoder = VideoLMEncoder(str(checkpoint), CONFIGS["tiny"].inputs[backbone])
    seen = draw_phantoms(tmp_path / "seen.npz", 3, SHAPE, progress=False)
    assert draw_phantoms(tmp_path / "seen.npz", 99, SHAPE, progress=False).impressions == seen.impressions
    image = seen.images(preset, torch.tensor([1]))
    assert image.shape[2:] == preset.size
    assert encoder(image).grids[-1] == GRID
    findings = seen.cells[:, FINDING_OFFSET - 1 :].flatten(2).any(2)
    assert (findings <= seen.labels.bool()).all()
    head = PresenceHead(encoder.level_dims, [-1], len(SEGMENTATION_CLASSES) - 1)
    assert evidence_scores(encoder, head, seen, preset, range(1, 3))["phantoms"] == 2
