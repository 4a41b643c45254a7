"""Hard negatives: what is changed is what is said, nothing else changes, and nothing true is told as a mistake."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ct_vlm.datasets.steering import AbnormalityBuilder, HardNegatives
from ct_vlm.datasets.steering.truth import Truth
from ct_vlm.errors import ConfigError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.phantoms import describe_phantom
from ct_vlm.text import CT_RATE_LABELS, STEERING_REGIONS, find_places, parse_abnormalities, render_abnormalities
from ct_vlm.text.finding_phrases import FINDINGS

STRATEGIES = ("confusion", "side", "size", "omission", "insertion", "random")
LABELER = RuleLabeler()
PLACE = re.compile(
    r"\b(?:lobar|(?:sub-?)?segmental|pulmonary|parenchymal|pleuro-?parenchymal|para-?septal|apical|apex|basal|bases"
    r"|hilar|paratracheal|subcarinal|prevascular|cortical|coronary|arter(?:y|ies|ial)|aort(?:a|ic)|arch)\b"
)
EFFUSION = [("pleura", "Left pleural effusion of 8 mm.")]


def stated(text):
    return {name for name, value in zip(CT_RATE_LABELS, LABELER([text])[0], strict=True) if value}


def lists(seeds):
    build = AbnormalityBuilder()
    for seed in seeds:
        phantom = describe_phantom(seed)
        yield f"s{seed}", build.from_regions(phantom.region_reports), phantom


def apply(entries, changes):
    """Apply changes to the true list, as a reader of the record would."""
    texts = [text for _, text in entries]
    for change in changes:
        if change.old and change.new:
            texts[texts.index(change.old)] = change.new
        elif change.old:
            texts.remove(change.old)
    return sorted([*texts, *(change.new for change in changes if not change.old)])


def check_common(strategy, entries, negative):
    """What holds for every negative."""
    assert parse_abnormalities(negative.text) == negative.entries
    assert negative.text != render_abnormalities(entries)
    assert apply(entries, negative.changes) == sorted(text for _, text in negative.entries)
    assert {change.strategy for change in negative.changes} == {strategy}
    assert all(change.region in STEERING_REGIONS for change in negative.changes)


def check_confusion(entries, negative, phantom):
    truth = {name for name, value in zip(CT_RATE_LABELS, phantom.labels, strict=True) if value}
    assert [region for region, _ in negative.entries] == [region for region, _ in entries]
    for change in negative.changes:
        lost, gained = stated(change.old) - stated(change.new), stated(change.new) - stated(change.old)
        assert len(lost) == 1
        assert len(gained) <= 1
        assert not gained & truth
        assert find_places(change.old) == find_places(change.new)
        assert re.findall(r"\d+", change.old) == re.findall(r"\d+", change.new)
        assert sorted(PLACE.findall(change.old.lower())) == sorted(PLACE.findall(change.new.lower()))
        assert re.search(r"\ba [aeiou]|\ban [^aeiou]", change.new, re.IGNORECASE) is None
        assert change.old[:1].isupper() == change.new[:1].isupper()


def check_side(entries, negative, phantom):
    places = {(label, place) for _, text in entries for label in stated(text) for place in find_places(text).finest}
    for change in negative.changes:
        assert stated(change.old) == stated(change.new)
        found = {(label, place) for label in stated(change.new) for place in find_places(change.new).finest}
        assert found
        assert not found & places
        assert "left middle lobe" not in change.new


def check_size(entries, negative, phantom):
    for change in negative.changes:
        # "an 8 mm" becomes "a 16 mm"
        old, new = (re.sub(r"(?:\b([Aa])n? )?\d+", r"\1 #", text) for text in (change.old, change.new))
        assert old == new
        old, new = (int(re.search(r"\d+(?= mm)", text).group()) for text in (change.old, change.new))
        assert new in {2 * old, round(old / 2)}
        assert not re.search(rf"\b{new} mm", phantom.findings_text)


def check_omission(entries, negative, phantom):
    whole, left = (stated("\n".join(text for _, text in part)) for part in (entries, negative.entries))
    assert left < whole
    assert len(entries) - len(negative.entries) == len(negative.changes) == 1


def check_insertion(entries, negative, phantom):
    truth = {name for name, value in zip(CT_RATE_LABELS, phantom.labels, strict=True) if value}
    for change in negative.changes:
        assert len(stated(change.new)) == 1
        assert not stated(change.new) & truth
    order = [list(STEERING_REGIONS).index(region) for region, _ in negative.entries]
    assert order == sorted(order) or negative.changes[0].old


CHECKS = {
    "confusion": check_confusion,
    "side": check_side,
    "size": check_size,
    "omission": check_omission,
    "insertion": check_insertion,
    "random": check_insertion,
}


def check_strategy(strategy, seeds):
    """Check every negative of phantoms, and return of how many lists one was made."""
    make = HardNegatives(strategy, seed=3)
    made = abnormal = 0
    for key, entries, phantom in lists(seeds):
        report = f"Findings: {phantom.findings_text} Impressions: {phantom.impressions_text}"
        negative = make(entries, report, key=key)
        abnormal += bool(entries)
        if negative is None:
            assert strategy in {"side", "size", "confusion"} or not entries
            continue
        made += 1
        check_common(strategy, entries, negative)
        CHECKS[strategy](entries, negative, phantom)
    return made, abnormal


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_negatives_of_phantoms(strategy):
    made, abnormal = check_strategy(strategy, range(30))
    assert made >= {"side": 0.6, "size": 0.6}.get(strategy, 0.95) * abnormal


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_negatives_of_thousands_of_phantoms(strategy):
    made, abnormal = check_strategy(strategy, range(1000, 2500))
    assert made >= {"side": 0.6, "size": 0.6}.get(strategy, 0.95) * abnormal


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_negatives_depend_on_seed_key_and_epoch_alone(strategy):
    cases = [(key, entries) for key, entries, _ in lists(range(8)) if entries]

    def run(seed, epoch):
        make = HardNegatives(strategy, seed=seed)
        return [make(entries, key=key, epoch=epoch) for key, entries in cases]

    assert run(0, 0) == run(0, 0)
    assert run(0, 0) != run(1, 0) or strategy == "side"
    assert run(0, 0) != run(0, 1) or strategy == "side"


def test_nothing_true_is_put_in():
    swaps = {"pleural thickening", "pneumothorax"}

    def found(report="", labels=(), entries=EFFUSION):
        made = [HardNegatives(seed=seed)(entries, report, key="a", labels=labels) for seed in range(12)]
        return {name for name in swaps for negative in made if negative and name in negative.text}

    assert found() == swaps
    assert found("Pneumothorax on the right.") == {"pleural thickening"}
    assert found("No pneumothorax was seen. Pleural thickening is seen.") == {"pneumothorax"}
    assert found(entries=[*EFFUSION, ("pleura", "Pleural thickening.")]) <= {"pneumothorax", "pleural thickening"}
    assert found("Pneumothorax and pleural thickening.") == set()
    makes = [HardNegatives(seed=seed) for seed in range(20)]
    known = [
        make([("lung", "A nodule.")], key="a", labels=["Consolidation", "Atelectasis", "Lung opacity"])
        for make in makes
    ]
    assert {negative.text for negative in known} == {"(Lung: A sequela fibrotic band.)"}


def test_the_other_side_must_exist_and_be_free():
    make = HardNegatives("side")
    assert make(EFFUSION, key="a").text == "(Pleura: Right pleural effusion of 8 mm.)"
    assert make(EFFUSION, "Effusion on the right.", key="a") is None
    rib = [("bone", "A fracture of the left 6th rib.")]
    assert make(rib, "Effusion on the right.", key="a").text == "(Bone: A fracture of the right 6th rib.)"
    assert make(rib, "Ribs on the right are deformed.", key="a") is None
    assert make([("pleura", "Bilateral pleural effusion.")], key="a") is None
    assert make([("lung", "A nodule in the right middle lobe.")], key="a") is None
    assert make([("heart", "Plaques in the left anterior descending artery.")], key="a") is None
    assert make([("abdomen", "A cyst in the left kidney.")], key="a") is None


def test_sizes_are_halved_or_doubled_in_their_own_form():
    def found(text, report=""):
        made = [HardNegatives("size", seed=seed)([("lung", text)], report, key="a") for seed in range(12)]
        return {negative.entries[0].text for negative in made if negative}

    assert found("A 12x8 mm nodule.") == {"A 6x4 mm nodule.", "A 24x16 mm nodule."}
    assert found("A 1,5 cm nodule.") == {"A 0,8 cm nodule.", "A 3,0 cm nodule."}
    assert found("A 3 mm nodule.") == {"A 6 mm nodule."}
    assert found("A 70 mm mass.") == {"A 35 mm mass."}
    assert found("A 12 mm nodule.", "Another one of 24 mm.") == {"A 6 mm nodule."}
    assert found("A nodule in segment 4.") == set()


def test_what_others_state_too_is_not_left_out():
    twice = [("lung", "A nodule in the left lung."), ("lung", "A nodule in the right lung.")]
    assert HardNegatives("omission")(twice, key="a") is None
    negative = HardNegatives("omission", max_changes=2)([*twice, ("bone", "A rib fracture.")], key="a")
    assert [change.old for change in negative.changes] == ["A rib fracture."]
    assert HardNegatives("omission")(EFFUSION, key="a").text == "(None)"


def test_normal_scans_and_limits():
    assert HardNegatives()([], key="a") is None
    inserted = HardNegatives(fallback="insertion")([], key="a")
    assert [change.strategy for change in inserted.changes] == ["insertion"]
    assert len(inserted.entries) == 1
    entries = [*EFFUSION, ("heart", "Cardiomegaly."), ("lung", "Emphysema.")]
    assert len(HardNegatives(max_changes=2)(entries, key="a").changes) == 2
    assert len(HardNegatives()(entries, key="a").changes) == 3
    assert len(HardNegatives("insertion", max_changes=2)(entries, key="a").changes) == 2


def test_unknown_choices_are_refused():
    for arguments in ({"strategy": "swap"}, {"fallback": "skip"}, {"max_changes": 0}):
        with pytest.raises(ConfigError):
            HardNegatives(**arguments)
    with pytest.raises(ConfigError, match="brain"):
        HardNegatives()([("brain", "Bleeding.")], key="a")


def test_truth_reads_hyphens_and_denials():
    truth = Truth([], "Pleuro-parenchymal sequelae. No ground-glass opacity. Mucus plugs.", (), LABELER)
    assert truth.names(FINDINGS["sequela"])
    assert truth.names(FINDINGS["mucus plug"])
    assert not truth.names(FINDINGS["nodule"])
    assert not truth.names(replace(FINDINGS["pneumothorax"], label=None))
