from __future__ import annotations

import json

import pytest

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics import region_scores
from ct_vlm.metrics.functional import clinical_scores, nlg_scores
from ct_vlm.phantoms import describe_phantom

TRUE = [
    {"heart": "Heart size is normal.", "lung": "A nodule is seen in the right lung.", "breast": "Breasts are natural."},
    {"heart": "Heart size increased.", "lung": "Lungs are clear."},
    {"lung": "Consolidation is seen."},
]
SAID = [
    {"heart": "Heart size is normal.", "lung": "Lungs are clear."},
    {"lung": "A nodule is seen."},
    {"lung": "Consolidation is seen.", "bone": "Old rib fracture."},
]


def test_coverage_and_invented_regions():
    regions = region_scores(SAID, TRUE).regions
    assert (regions["heart"]["num_references"], regions["heart"]["coverage"], regions["heart"]["invented"]) == (
        2,
        0.5,
        0,
    )
    assert (regions["lung"]["coverage"], regions["lung"]["invented"]) == (1, 0)
    assert (regions["breast"]["coverage"], regions["breast"]["invented"]) == (0, None)
    assert (regions["bone"]["num_references"], regions["bone"]["coverage"], regions["bone"]["invented"]) == (0, None, 1)
    assert "abdomen" not in regions


def test_labels_and_words_of_a_region_are_those_of_its_texts():
    lung = region_scores(SAID, TRUE).regions["lung"]
    said, true = [item["lung"] for item in SAID], [item["lung"] for item in TRUE]
    assert (lung["micro_precision"], lung["micro_recall"], lung["support"]) == (0.5, 0.5, 2)
    expected = nlg_scores(said, true, metrics=["bleu", "rouge"])
    assert all(lung[key] == pytest.approx(expected[key]) for key in ("bleu_1", "bleu_4", "rouge_l"))


def test_a_region_that_is_left_out_counts_as_empty():
    heart = region_scores(SAID, TRUE).regions["heart"]
    expected = nlg_scores(
        ["Heart size is normal.", None], ["Heart size is normal.", "Heart size increased."], metrics=["rouge"]
    )
    assert heart["rouge_l"] == pytest.approx(expected["rouge_l"]) == pytest.approx(0.5)
    assert heart["micro_recall"] == 0


def test_a_finding_in_the_wrong_region_is_wrong_in_both():
    found = region_scores([{"pleura": "A nodule is seen."}], [{"lung": "A nodule is seen."}]).regions
    assert found["pleura"]["micro_precision"] == 0
    assert found["lung"]["micro_recall"] == 0


def test_six_regions_are_merged_from_ten():
    found = region_scores(SAID, TRUE, "medregion")
    assert set(found.regions) == {"lung", "heart and great vessels", "osseous structures", "other"}
    assert found.regions["heart and great vessels"]["coverage"] == 0.5


def test_whole_reports_are_split_and_said_to_be():
    whole = [" ".join(item.values()) for item in TRUE]
    found = region_scores(whole, TRUE)
    assert found.source == "mixed"
    assert all(scores["rouge_l"] == 1 for scores in found.regions.values())
    assert region_scores(whole, whole).source == "inferred"
    assert region_scores(SAID, TRUE).source == "given"


def test_phantoms_split_by_the_lexicon_score_nearly_as_those_split_by_their_writer():
    facts = [describe_phantom(seed, (32, 48, 48)) for seed in range(20)]
    found = region_scores([f.findings_text for f in facts], [f.region_reports for f in facts])
    assert min(scores["rouge_l"] for scores in found.regions.values() if scores["num_references"]) > 0.95
    assert found.mean["coverage"] > 0.99


def test_missing_reports_count():
    found = region_scores([None, *SAID[1:]], TRUE)
    assert found.regions["lung"]["coverage"] == pytest.approx(2 / 3)
    assert (found.num_samples, found.labeler, found.protocol) == (3, "rules", "vlm3d")


def test_means_are_over_regions_that_have_the_score():
    found = region_scores(SAID, TRUE)
    known = [r["coverage"] for name, r in found.regions.items() if name != "other" and r["coverage"] is not None]
    assert found.mean["coverage"] == pytest.approx(sum(known) / len(known))
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_region_holding_everything_gives_the_scores_of_whole_texts():
    said, true = ["A nodule is seen.", "Normal lungs."], ["A nodule is seen.", "Emphysema."]
    found = region_scores([{"lung": text} for text in said], [{"lung": text} for text in true]).regions["lung"]
    from ct_vlm.metrics import RuleLabeler

    expected = clinical_scores(RuleLabeler()(said), RuleLabeler()(true))
    assert found["micro_f1"] == expected["micro_f1"]


def test_malformed_items_are_named():
    with pytest.raises(DatasetError, match=r"`predictions` is neither .* row 1: 5"):
        region_scores(["a", 5], ["a", "b"])
    with pytest.raises(DatasetError, match=r"`references` is neither .* row 0: None"):
        region_scores(["a"], [None])
    with pytest.raises(ShapeError, match="1 and 2"):
        region_scores(["a"], ["a", "b"])
    with pytest.raises(ConfigError, match="'knee'"):
        region_scores([{"knee": "Bent."}], ["a"])


def test_regions_of_ones_own_need_texts_by_region():
    scores = region_scores(
        [{"left side": "Clear."}], [{"left side": "Clear.", "right side": "Clear."}], ["left side", "right side"]
    )
    assert scores.scheme == "given"
    assert scores.regions["left side"]["bleu_1"] == pytest.approx(1.0)
    assert scores.regions["right side"]["coverage"] == 0.0
    with pytest.raises(DatasetError, match="none of the regions"):
        region_scores([{"lung": "Clear."}], [{"left side": "Clear."}], ["left side"])
    with pytest.raises(DatasetError, match="named scheme"):
        region_scores(["Clear."], [{"left side": "Clear."}], ["left side"])
