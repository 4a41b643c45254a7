from __future__ import annotations

import json

import numpy as np
import pytest

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics import GroundingCase, grounding_scores
from ct_vlm.phantoms import LOBES, SEGMENTATION_CLASSES, make_phantom
from ct_vlm.text import RADGENOME_REGIONS, swap_laterality
from ct_vlm.text.labels import CT_RATE_LABELS

LOCATED = ["Lung nodule", "Consolidation", "Lung opacity", "Pleural effusion"]


def box(*spans):
    mask = np.zeros((4, 4, 8), dtype=bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


PLACES = {
    "right upper lobe": box((0, 2), (0, 4), (0, 4)),
    "right lower lobe": box((2, 4), (0, 4), (0, 4)),
    "left upper lobe": box((0, 2), (0, 4), (4, 8)),
    "left lower lobe": box((2, 4), (0, 4), (4, 8)),
}
NODULE = {"Lung nodule": box((0, 1), (0, 1), (5, 7))}


def one(report, evidence=NODULE, places=PLACES, **options):
    return grounding_scores([GroundingCase(report, evidence, places, **options)])


@pytest.mark.parametrize(
    ("report", "share", "hit", "side", "lobe"),
    [
        ("A nodule in the left upper lobe.", 1, 1, 1, 1),
        ("A nodule in the left lower lobe.", 0, 0, 1, 0),
        ("A nodule in the right upper lobe.", 0, 0, 0, 0),
        ("A nodule in the left lung.", 1, 1, 1, None),
        ("Nodules in both lungs.", 1, 0, 0, None),
        ("A nodule is seen.", None, None, None, None),
    ],
)
def test_places_are_compared_with_the_evidence(report, share, hit, side, lobe):
    scores = one(report).scores
    assert (scores["mean_share"], scores["hit_rate"]) == (share, hit)
    assert (scores["side_accuracy"], scores["lobe_accuracy"]) == (side, lobe)
    assert scores["unplaced"] == (share is None)


def test_the_share_is_that_of_the_volume():
    evidence = {"Consolidation": box((1, 3), (0, 1), (0, 1)) | box((1, 2), (1, 3), (0, 1))}
    assert one("Consolidation in the right upper lobe.", evidence).scores["mean_share"] == 0.75
    assert one("Consolidation in the right upper and lower lobes.", evidence).scores["mean_share"] == 1


def test_denied_unfounded_and_missed_findings():
    found = one("No nodule in the left lung. Consolidation in the right lung.")
    assert (found.scores["num_statements"], found.scores["unfounded"], found.scores["missed"]) == (1, 1, 1)
    assert found.per_label["Lung nodule"]["missed"] == 1
    assert found.per_label["Consolidation"]["unfounded"] == 1
    empty = one("")
    assert (empty.scores["num_statements"], empty.scores["hit_rate"], empty.scores["missed"]) == (0, None, 1)


def test_evidence_outside_every_place_counts_as_in_the_nearest():
    places = {"right": box((0, 4), (0, 2), (0, 3)), "left": box((0, 4), (0, 2), (5, 8))}
    evidence = {"Pleural effusion": box((0, 4), (3, 4), (6, 7))}
    assert one("Left pleural effusion.", evidence, places).scores["hit_rate"] == 1
    # voxels twice as wide as deep: (3, 2) is nearer to the back of the right lung than to the left one
    near = {"Pleural effusion": box((0, 1), (3, 4), (3, 4))}
    assert one("Right pleural effusion.", near, places, spacing=(1.0, 1.0, 2.0)).scores["hit_rate"] == 1
    assert one("Left pleural effusion.", near, places, spacing=(1.0, 1.0, 2.0)).scores["hit_rate"] == 0


def test_regions_are_compared_where_their_masks_are_given():
    regions = {"lung": box((0, 4), (0, 2), (0, 8)), "heart": box((0, 4), (2, 4), (0, 8))}
    assert one("A nodule is seen.", regions=regions).scores["mean_region_share"] == 1
    assert one("A nodule is seen.").scores["mean_region_share"] is None
    assert set(regions) <= set(RADGENOME_REGIONS)


def phantom_case(seed):
    phantom = make_phantom(seed, (32, 40, 40), labels=LOCATED)
    classes = phantom.segmentation
    # the same patient without findings, which hide the lobes they lie in
    lobes = make_phantom(seed, (32, 40, 40), labels=[]).segmentation
    places = {lobe: lobes == SEGMENTATION_CLASSES.index(lobe) for lobe in LOBES}
    evidence = {
        label: classes == SEGMENTATION_CLASSES.index(label)
        for label in CT_RATE_LABELS
        if label in LOCATED and (classes == SEGMENTATION_CLASSES.index(label)).any()
    }
    return phantom, GroundingCase(phantom.findings_text, evidence, places, spacing=phantom.spacing)


@pytest.fixture(scope="module")
def phantoms():
    return [phantom_case(seed) for seed in range(8)]


def test_true_reports_of_phantoms_are_grounded(phantoms):
    scores = grounding_scores(case for _, case in phantoms).scores
    assert (scores["side_accuracy"], scores["lobe_accuracy"], scores["hit_rate"]) == (1, 1, 1)
    assert scores["mean_share"] > 0.99
    assert scores["num_placed"] == scores["num_statements"] > 20
    assert (scores["unfounded"], scores["missed"]) == (0, 0)


def test_findings_that_are_cut_out_of_their_lobe_fall_back_to_it(phantoms):
    """As with label maps in which a finding overwrites the organ."""
    cases = []
    for phantom, case in phantoms:
        places = {lobe: phantom.segmentation == SEGMENTATION_CLASSES.index(lobe) for lobe in LOBES}
        cases.append(GroundingCase(case.report, case.evidence, places, spacing=case.spacing))
    scores = grounding_scores(cases).scores
    assert scores["side_accuracy"] == 1
    assert scores["mean_share"] > 0.85


def test_mirrored_reports_are_not(phantoms):
    one_sided = [p for p, _ in phantoms]
    cases = [
        GroundingCase(swap_laterality(p.findings_text), c.evidence, c.places, spacing=c.spacing) for p, c in phantoms
    ]
    found = grounding_scores(cases)
    sides = [f.side for p in one_sided for f in p.findings]
    assert 0 < sum(side == "bilateral" for side in sides) < len(sides)
    truth = grounding_scores(case for _, case in phantoms)
    assert found.scores["hit_rate"] < 0.5 * truth.scores["hit_rate"]
    assert found.per_label["Lung nodule"]["hit_rate"] == 0
    assert found.per_label["Lung nodule"]["side_accuracy"] == 0


def test_other_patients_reports_hit_less(phantoms):
    reports = [p.findings_text for p, _ in phantoms]
    cases = [
        GroundingCase(reports[i - 1], c.evidence, c.places, spacing=c.spacing) for i, (_, c) in enumerate(phantoms)
    ]
    truth = grounding_scores(case for _, case in phantoms).scores
    assert grounding_scores(cases).scores["lobe_accuracy"] < 0.6 * truth["lobe_accuracy"]


def test_results_are_json():
    found = one("A nodule in the left upper lobe.", name="v1")
    saved = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert saved["statements"][0]["case"] == "v1"
    assert saved["statements"][0]["places"] == ["left upper lobe"]
    assert saved["labeler"] == "rules"


def test_malformed_cases_are_named():
    with pytest.raises(ShapeError, match="'v1' differ in shape"):
        GroundingCase("x", NODULE, {"left": np.ones((2, 2, 2), bool)}, name="v1")
    with pytest.raises(DatasetError, match="'Lung nodule' of case 'v1' is empty"):
        one("x", {"Lung nodule": np.zeros((4, 4, 8), bool)}, name="v1")
    with pytest.raises(DatasetError, match="'Gallstone' of case 0 is of no label"):
        one("x", {"Gallstone": box((0, 1), (0, 1), (0, 1))})
