"""Wrong lists of sentences as reports write them: never true, never denied, in the same place, in plain words."""

from __future__ import annotations

import re

import pytest

from ct_vlm.datasets.steering import AbnormalityBuilder
from ct_vlm.datasets.steering.sizes import scale_sizes, sizes_mm
from ct_vlm.datasets.steering.strategies import confusion_options, side_options, size_options
from ct_vlm.datasets.steering.truth import Truth, is_mentioned, is_stated
from ct_vlm.metrics import RuleLabeler
from ct_vlm.text import Abnormality, find_region
from ct_vlm.text.finding_phrases import FINDINGS

LABELER = RuleLabeler()
BUILD = AbnormalityBuilder()


def told(report, options=confusion_options):
    """Return every text that may stand in place of an entry."""
    entries = BUILD.from_report(report)
    truth = Truth(entries, report, (), LABELER)
    return {option.text for entry in entries for option in options(entry, truth)}


def told_of(text, region, options=confusion_options):
    """Return what may stand in place of one sentence."""
    entry = Abnormality(region, text)
    return {option.text for option in options(entry, Truth([entry], text, (), LABELER))}


@pytest.mark.parametrize(
    ("finding", "report"),
    [
        ("hepatomegaly", "Liver is larger than normal. There is hepatosteatosis."),
        (
            "steatosis",
            "Hepatomegaly is observed. Liver parenchyma density is decreased, consistent with fatty infiltration.",
        ),
        ("pleural thickening", "There is left pleural effusion. The left pleura is thickened."),
        ("pleural thickening", "Left pleural effusion is seen. Thickening of the left pleura is present."),
        ("pericardial thickening", "Heart size is increased. The pericardium is thickened."),
        ("kyphosis", "Scoliosis is observed. Thoracic kyphotic angulation is increased."),
        ("honeycombing", "Bronchiectasis in the lower lobes. Honeycomb pattern in both lower lobes."),
        (
            "mucus plug",
            "Peribronchial thickening is seen in the lower lobes. Bronchi are plugged, with mucoid impaction.",
        ),
        ("fracture", "Osteophytes at the vertebral corners. The T8 vertebra is fractured."),
        ("fracture", "Osteophytes at the vertebral corners. Collapse and loss of height in the T12 vertebra."),
        ("schmorl node", "Lytic lesions in T5 vertebra. Schmorl's nodes are seen in end plates."),
        ("ground glass opacity", "A 5 mm nodule in the right upper lobe. Crazy paving pattern in the left lower lobe."),
        ("ground glass opacity", "A 5 mm nodule in the right upper lobe. Frosted glass densities are seen."),
        ("air cyst", "Emphysematous changes in the upper lobes. Bullae and blebs in the apices."),
        ("gallbladder polyp", "Gallstones in the gallbladder. A polypoid lesion in the gallbladder wall."),
        ("solid lesion", "A 12 mm cyst is seen in liver. A solid mass of 3 cm in the left kidney."),
        ("bone island", "Sclerotic lesion in the T5 vertebra. Enostosis in the T6 vertebra."),
    ],
)
def test_what_is_told_in_other_words_is_not_put_in(finding, report):
    said = FINDINGS[finding].pattern
    assert not [text for text in told(report) if said.search(text) and text not in report]
    # one of its sentences takes it as soon as the other one does not tell of it
    alone = [told_of(sentence, find_region(sentence) or "") for sentence in re.split(r"(?<=\.) ", report)]
    assert any(said.search(text) for texts in alone for text in texts)


def test_signs_are_those_of_findings_and_may_be_denied():
    for finding in FINDINGS.values():
        assert finding.also
        for words in finding.said.values():
            assert is_mentioned(words, finding), (finding.name, words)
    thick = FINDINGS["pleural thickening"]
    assert not Truth([], "No thickening of the pleura was seen.", (), LABELER).names(thick)
    assert not Truth([], "Pleural effusion-thickening was not observed.", (), LABELER).names(thick)
    assert not Truth([], "A pleural effusion with a thickness of 8 mm.", (), LABELER).names(thick)
    assert Truth([], "Increased thickness of the pleura.", (), LABELER).names(thick)


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        (
            "Left pleural effusion measuring 2 cm, no pneumothorax.",
            "pleura",
            {"Left pleural thickening measuring 2 cm, no pneumothorax."},
        ),
        (
            "Left pleural effusion is present without pleural thickening.",
            "pleura",
            {"Left pneumothorax is present without pleural thickening."},
        ),
        ("Gallbladder wall thickened, no gallstone.", "abdomen", set()),
        ("Cortical cyst in right kidney, no solid lesion.", "abdomen", set()),
        ("Old rib fracture on the left, no lytic or sclerotic lesion.", "bone", set()),
        (
            "Osteophytes are seen in the vertebrae, no lytic lesion in the vertebral corpus.",
            "bone",
            {"Fractures are seen in the vertebrae, no lytic lesion in the vertebral corpus."},
        ),
        ("Pleural effusion on the right, no pleural effusion on the left.", "pleura", set()),
    ],
)
def test_what_is_denied_is_neither_replaced_nor_put_in(text, region, expected):
    assert told_of(text, region) == expected


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        (
            "Aortic calcifications are observed.",
            "mediastinum",
            {"Aortic mural thrombi are observed.", "Aortic intramural hematomas are observed."},
        ),
        (
            "Aortic wall calcification is seen.",
            "mediastinum",
            {f"Aortic {x} is seen." for x in ("mural thrombus", "intramural hematoma")},
        ),
        ("Coronary artery calcifications are observed.", "heart", {"Coronary artery metallic stents are observed."}),
        ("A 12 mm cortical cyst is seen.", "abdomen", {"A 12 mm cortical solid lesion is seen."}),
        ("Lobar consolidation.", "lung", {"Lobar atelectasis.", "Lobar ground glass opacity."}),
        ("Paraseptal emphysema is observed.", "lung", set()),
        ("Gastric hiatal hernia.", "esophagus", set()),
    ],
)
def test_words_of_place_stay(text, region, expected):
    assert told_of(text, region) == expected


def test_words_of_place_stay_in_the_phrase_that_they_belong_to():
    assert "An area of pulmonary atelectasis of 7 mm." in told_of("A solid pulmonary nodule of 7 mm.", "lung")
    assert "Area of pulmonary atelectasis of 7 mm." in told_of("Pulmonary nodule of 7 mm.", "lung")
    assert "Subsegmental consolidation in the left lower lobe." in told_of(
        "Linear subsegmental atelectasis in the left lower lobe.", "lung"
    )
    place = re.compile(
        r"(?:lob|segment|parenchym|pulmon|cortic|coronar|arter|aort|hil|apic|basal|pleur|gastr|hepat|para-?sept)\w*"
    )
    for finding in FINDINGS.values():
        assert not [kind for kind in finding.kinds if place.match(kind)], finding.name


@pytest.mark.parametrize(
    ("text", "region", "never"),
    [
        ("Esophageal hiatal hernia.", "esophagus", "mass"),
        ("Right breast has a 2 cm mass lesion.", "breast", "cyst lesion"),
        ("A cyst lesion of 2 cm in the breast.", "breast", "mass lesion"),
        ("Cystic nodule in the thyroid.", "thyroid", "cyst in"),
        ("There are millimetric nodules.", "lung", "consolidation|glass|atelecta|sequela"),
        ("Tree-in-bud nodules in the right lung.", "lung", "consolidation|glass|atelecta|sequela"),
        ("Fracture in the T12 vertebra with 40% height loss.", "bone", "Schmorl|[Oo]steophyte"),
        ("Lymph nodes with a short axis of 8 mm in the mediastinum.", "mediastinum", "[Cc]ystic|[Ss]oft"),
        ("Liver density has decreased in line with hepatosteatosis.", "abdomen", "hepatomegaly"),
        ("Pleural effusion of 35 mm and compressive atelectasis in the adjacent lung.", "pleura", "thorax|thickening"),
        ("Volume loss with subsegmental atelectasis.", "lung", "consolidation|glass"),
        ("Scoliosis with its opening facing left.", "bone", "[Kk]yphosis"),
        ("Fracture lines in the left 5th rib.", "bone", "lines"),
    ],
)
def test_the_words_around_do_not_give_the_swap_away(text, region, never):
    assert not [text for text in told_of(text, region) if re.search(never, text)]


def test_sizes_have_their_article_and_cm_a_decimal():
    assert told_of("A 16 mm nodule.", "lung", size_options) == {"An 8 mm nodule.", "A 32 mm nodule."}
    assert told_of("An 8 mm nodule.", "lung", size_options) == {"A 4 mm nodule.", "A 16 mm nodule."}
    assert scale_sizes("A 9 mm nodule.", 2.0) == "An 18 mm nodule."
    assert scale_sizes("A 55 mm mass.", 2.0) == "A 55 mm mass."
    assert scale_sizes("A nodule of 1 cm.", 0.5) == "A nodule of 0.5 cm."
    assert scale_sizes("A 3x2 cm mass.", 0.5) == "A 1.5x1 cm mass."
    assert scale_sizes("A nodule of 1.5 cm x 8 mm.", 2.0) == "A nodule of 3.0 cm x 16 mm."
    assert told("A nodule of 1 cm in the left lung. A nodule of 20 mm in the right lung.", size_options) == {
        "A nodule of 0.5 cm in the left lung.",
        "A nodule of 40 mm in the right lung.",
    }
    assert sizes_mm("Nodules of 6 mm and 1,5x1 cm, T12.") == [(6.0,), (15.0, 10.0)]


@pytest.mark.parametrize(
    "text",
    [
        "The ascending aorta measures 42 mm and is wider than normal.",
        "Main pulmonary artery is 34 mm and dilated.",
        "Enlarged lymph nodes of 12 mm.",
        "The aortic diameter is within normal limits, 32 mm.",
        "Nodules smaller than 4 mm.",
    ],
)
def test_sizes_that_words_judge_stay(text):
    assert scale_sizes(text, 0.5) == text
    assert scale_sizes(text, 2.0) == text


def test_sides_that_a_wider_statement_covers_are_not_free():
    assert told("Consolidation in all lobes. Consolidation in left lower lobe.", side_options) == set()
    assert told("Consolidation in the right lung. Consolidation in left lower lobe.", side_options) == set()
    assert told("Consolidation in left lower lobe.", side_options) == {"Consolidation in right lower lobe."}


def test_a_finding_is_stated_where_no_mention_of_it_is_denied():
    nodule = FINDINGS["nodule"]
    assert is_stated("No significant change in the nodule.", nodule)
    assert is_stated("Thin-walled air cyst of 12 mm.", FINDINGS["air cyst"])
    assert not is_stated("A nodule on the left, no nodule on the right.", nodule)
    assert not is_stated("Emphysema.", nodule)
