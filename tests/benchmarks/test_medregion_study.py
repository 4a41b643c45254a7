"""The studies of MedRegion-CT's parts, on the smallest sizes that have every step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks.studies.medregion.__main__ import main
from benchmarks.studies.medregion.encoder import SliceDraws, study_preset
from benchmarks.studies.medregion.lesions import LESION_HU, PLACEMENTS, lesion_scan
from benchmarks.studies.medregion.recipe import (
    AblationRecipe,
    PretrainRecipe,
    SelectionRecipe,
    StudyRecipe,
    TrainRecipe,
)
from benchmarks.studies.medregion.scans import CoarseEncoder
from benchmarks.studies.medregion.selection import POLICIES
from benchmarks.studies.medregion.training import teachable
from ct_vlm.datamodules import FeatureDataset
from ct_vlm.encoders import SliceEncoder
from ct_vlm.modules import R2TokenPooling
from ct_vlm.phantoms import make_phantom
from ct_vlm.text.regions import MEDREGION_REGIONS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SHAPE = (8, 24, 24)
STEP = TrainRecipe(steps=1, batch_size=2, lr=1e-3)
RECIPE = StudyRecipe(
    shape=SHAPE,
    encoder=PretrainRecipe(phantoms=2, checks=2, steps=1, batch_size=1, slices=2),
    selection=SelectionRecipe(train=4, held_out=4, epochs=1, batch_size=2),
    ablation=AblationRecipe(
        train=3,
        held_out=3,
        texts=4,
        language=STEP,
        impression=STEP,
        connector=STEP,
        report=STEP,
        longer=STEP,
        vocab_size=300,
        max_new_tokens=4,
    ),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


def test_ablations_run_from_phantoms_to_a_table_and_are_read_when_asked_again(out, capsys):
    arguments = ["ablations", "--seeds", "0", "--out", str(out), "--parts", "R² + mask", "--no-progress"]
    assert main(arguments, RECIPE) == 0
    rows = json.loads((out / "ablations.json").read_text())
    assert [row["parts"] for row in rows] == ["R² + mask"]
    assert rows[0]["scans"] == 3
    assert 0 <= rows[0]["micro_f1"] <= 1
    assert "shuffled_micro_f1" in rows[0]
    assert "| R² + mask |" in capsys.readouterr().out
    run = out / "seed0" / "R²_+_mask"
    records = json.loads((run / "records.json").read_text())
    assert set(records[0]["region_reports"]) == set(MEDREGION_REGIONS)
    before = (run / "scores.json").stat().st_mtime_ns
    assert main(arguments, RECIPE) == 0
    assert (run / "scores.json").stat().st_mtime_ns == before


def test_texts_of_normal_regions_are_thinned_and_findings_kept():
    texts = {"lung": "A 9 mm nodule in the left upper lobe.", "upper abdomen": "The liver is normal."}
    scans = FeatureDataset([torch.zeros(40, 1, 1)], [(1, 1, 1)], [{"region_reports": texts} for _ in range(40)])
    kept = [item["region_reports"] for item in teachable(scans, 0.4, seed=0).items]
    assert all("lung" in item for item in kept)
    assert 8 < sum("upper abdomen" in item for item in kept) < 24
    normal = FeatureDataset([torch.zeros(1, 1, 1)], [(1, 1, 1)], [{"region_reports": {"lung": "Lungs are clear."}}])
    assert len(teachable(normal, 0.0, seed=0)) == 0


def test_coarse_features_pool_to_the_same_tokens():
    encoder = SliceEncoder(RECIPE.encoder.backbone, (1, 2), 3).eval()
    image, pooling = torch.rand(1, 3, 4, 48, 48), R2TokenPooling(num_slow=2, slow_grid=(2, 2), policy="uniform")
    with torch.no_grad():
        fine, coarse = encoder(image), CoarseEncoder(encoder)(image)
    assert coarse.grids == [(4, 4, 4)] * 2
    torch.testing.assert_close(pooling.pool_features(coarse).tokens, pooling.pool_features(fine).tokens)


def test_selection_scores_every_policy_at_one_number_of_tokens(out, capsys):
    assert main(["selection", "--seeds", "0", "--out", str(out), "--no-progress"], RECIPE) == 0
    rows = json.loads((out / "selection.json").read_text())
    assert [(row["placement"], row["policy"]) for row in rows] == [(p, q) for p in PLACEMENTS for q in POLICIES]
    assert {row["tokens"] for row in rows} == {SHAPE[0] + 96}
    assert capsys.readouterr().out.count("|\n") >= len(rows) + 2


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_lesion_changes_its_region_alone_and_touches_the_slice_it_should(placement):
    shape, recipe = (32, 48, 48), SelectionRecipe(share=1.0)
    for seed in range(6):
        scan = lesion_scan(seed, shape, placement, recipe)
        changed = make_phantom(seed, shape, labels=[]).volume != scan.volume
        assert changed.any()
        assert not changed[scan.masks[scan.region] == 0].any()
        mean = scan.volume[changed].mean()
        assert abs(mean - LESION_HU[MEDREGION_REGIONS[scan.region]]) < 30
        if placement == PLACEMENTS[0]:
            pooling = R2TokenPooling(**POLICIES["region_argmax"])
            tokens = torch.zeros(1, 32, 16, 1)
            kept = pooling.pool(tokens, (4, 4), region_masks=torch.from_numpy(scan.masks)[None]).slice_index[0]
            near = np.flatnonzero(changed.any((1, 2)))
            assert np.abs(near - int(kept[scan.region])).min() <= 1


def test_both_placements_share_anatomy_and_region():
    a, b = (lesion_scan(3, (32, 48, 48), placement, SelectionRecipe(share=1.0)) for placement in PLACEMENTS)
    assert a.region == b.region
    assert np.array_equal(a.masks, b.masks)


def test_a_share_of_scans_has_no_lesion():
    scan = lesion_scan(1, SHAPE, PLACEMENTS[0], SelectionRecipe(share=0.0))
    assert scan.region == -1
    assert np.array_equal(scan.volume, make_phantom(1, SHAPE, labels=[]).volume)


def test_looks_use_every_volume_before_any_comes_again():
    volumes = np.arange(3, dtype=np.int16)[:, None, None, None] * np.ones((3, *SHAPE), np.int16)
    labels = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None], volumes.shape)
    looks = SliceDraws(volumes, labels.copy(), study_preset(SHAPE), slices=3, looks=6, seed=0)
    assert sorted(looks.order[:3]) == sorted(looks.order[3:]) == [0, 1, 2]
    chosen = looks[4]["segmentation"][:, 0, 0].tolist()
    assert len(chosen) == 3
    assert chosen == sorted(set(chosen))
    assert looks[4]["image"].shape == (3, 3, *SHAPE[1:])
