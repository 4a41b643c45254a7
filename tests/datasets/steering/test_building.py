"""Lists of abnormalities out of reports: of phantoms by region and as one text, and of hand-made sentences."""

from __future__ import annotations

import pytest

from ct_vlm.datasets.steering import AbnormalityBuilder, AbnormalSentences
from ct_vlm.errors import ConfigError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.phantoms import describe_phantom
from ct_vlm.phantoms.report.compose import finding_region
from ct_vlm.text import STEERING_REGIONS

SEEDS = range(150)


@pytest.fixture(scope="module")
def phantoms():
    return [describe_phantom(seed) for seed in SEEDS]


def test_the_list_of_a_phantom_holds_each_finding_once_in_its_region(phantoms):
    build = AbnormalityBuilder()
    labeler = RuleLabeler()
    for phantom in phantoms:
        entries = build.from_regions(phantom.region_reports)
        assert sorted(region for region, _ in entries) == sorted(finding_region(f) for f in phantom.findings)
        assert (labeler(["\n".join(text for _, text in entries)])[0] == phantom.labels).all()
        order = [list(STEERING_REGIONS).index(region) for region, _ in entries]
        assert order == sorted(order)


def test_a_plain_report_gives_the_list_that_its_regions_give(phantoms):
    build = AbnormalityBuilder()
    for phantom in phantoms:
        report = f"Findings: {phantom.findings_text} Impressions: {phantom.impressions_text}"
        assert build.from_report(report) == build.from_regions(phantom.region_reports)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Gallstones are seen.", True),
        ("Degenerative osteophytes are seen at the vertebral corners.", True),
        ("The ascending aorta measures 42 mm and is wider than normal.", True),
        ("Diameter of the aorta increased.", True),
        ("Operated: sternal wires.", True),
        ("There may be a cyst in the liver.", True),
        ("No lytic lesion, but a compression fracture is seen.", True),
        ("Heart size is not increased.", False),
        ("No lytic lesion or fracture was seen.", False),
        ("Vertebral heights are preserved.", False),
        ("Thyroid gland is normal, no nodule.", False),
        ("Esophagus is within normal limits; without wall thickening.", False),
        ("Contrast material was not given.", False),
        ("", False),
    ],
)
def test_abnormal_sentences(sentence, expected):
    assert AbnormalSentences()([sentence]) == [expected]


def test_words_can_be_added_and_the_labeler_replaced():
    assert AbnormalSentences(extra=["pectus"])(["Pectus excavatum."]) == [True]
    assert AbnormalSentences(lambda texts: [[1.0] for _ in texts])(["Clear."]) == [True]
    assert AbnormalSentences()([]) == []


def test_sentences_of_no_region_go_where_the_lexicon_says():
    build = AbnormalityBuilder()
    other = "A nodule in the left lung. A lesion is seen. A rib fracture is seen."
    found = build.from_regions({"others": other, "lung": "A nodule in the left lung."})
    assert [tuple(entry) for entry in found] == [
        ("lung", "A nodule in the left lung."),
        ("bone", "A rib fracture is seen."),
    ]


def test_sentences_without_a_region_go_on_about_the_one_before():
    report = "In the lung window; A nodule is seen. Its largest diameter increased. Thyroid is normal. No lesion."
    found = [tuple(entry) for entry in AbnormalityBuilder().from_report(report)]
    assert found == [("lung", "A nodule is seen."), ("lung", "Its largest diameter increased.")]


@pytest.mark.parametrize("text", [None, float("nan"), "", "Not given."])
def test_a_missing_report_has_an_empty_list(text):
    assert AbnormalityBuilder().from_report(text) == ()


def test_regions_of_another_scheme_are_refused():
    with pytest.raises(ConfigError, match=r"'large airways'.*RadGenome"):
        AbnormalityBuilder().from_regions({"large airways": "Mucus."})
