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
        ("Calibration of the pulmonary artery is 34 mm and increased.", True),
        ("The pulmonary trunk is 36 mm and above normal.", True),
        ("Pulmonary trunk 36 mm and above normal", True),
        ("Aortic diameter is above the normal limits.", True),
        ("Aortic diameter is not above normal.", False),
        ("Calibration of the pulmonary artery is 24 mm and normal.", False),
        ("Calibration of the pulmonary artery is not increased.", False),
        ("Volume loss in the right upper lobe.", True),
        ("Reticular densities at both bases.", True),
        ("Right hemidiaphragm is elevated.", True),
        ("Right hemidiaphragm is not elevated.", False),
        ("Compression in T12 vertebra.", True),
        ("No compression of the vertebrae was seen.", False),
        ("Coronary bypass.", True),
        ("Trachea is deviated.", True),
        ("Trachea is in the midline, no deviation.", False),
        ("Liver and spleen densities are normal.", False),
        ("No free fluid in the abdomen.", False),
        ("", False),
    ],
)
def test_abnormal_sentences(sentence, expected):
    assert AbnormalSentences()([sentence]) == [expected]


def test_words_can_be_added_and_the_labeler_replaced():
    assert AbnormalSentences(extra=["dextrocardia"])(["Dextrocardia."]) == [True]
    assert AbnormalSentences()(["Dextrocardia."]) == [False]
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


PLACED = [
    (
        "There is scoliosis. Gallstones are seen.",
        [("bone", "There is scoliosis."), ("abdomen", "Gallstones are seen.")],
    ),
    ("Heart size is normal. Pectus excavatum deformity", [("bone", "Pectus excavatum deformity")]),
    (
        "Liver is normal. Left mastectomy. Stent in LAD.",
        [("heart", "Stent in LAD."), ("breast", "Left mastectomy.")],
    ),
    (
        "Trachea is open. Mosaic attenuation pattern is present (small airway disease?).",
        [("lung", "Mosaic attenuation pattern is present (small airway disease?).")],
    ),
    (
        "Lungs are clear. Subcutaneous emphysema in the right chest wall.",
        [("bone", "Subcutaneous emphysema in the right chest wall.")],
    ),
    (
        "Mediastinal lymphadenopathies; some calcified.",
        [("mediastinum", "Mediastinal lymphadenopathies; some calcified.")],
    ),
    (
        "Patchy consolidations are seen; findings are compatible with Covid-19 pneumonia.",
        [("lung", "Patchy consolidations are seen; findings are compatible with Covid-19 pneumonia.")],
    ),
    ("A cavity in the left lung; tuberculosis?", [("lung", "A cavity in the left lung; tuberculosis?")]),
    ("In both kidneys; cysts of 2 cm are seen.", [("abdomen", "In both kidneys; cysts of 2 cm are seen.")]),
    (
        "Effusion on the left; Liver cyst (2 cm; simple); no fracture.",
        [("pleura", "Effusion on the left"), ("abdomen", "Liver cyst (2 cm; simple)")],
    ),
    ("Air in the esophagus. Some of it is due to stenosis.", [("esophagus", "Some of it is due to stenosis.")]),
    ("Thyroid is enlarged; No lesion.", [("thyroid", "Thyroid is enlarged")]),
]


@pytest.mark.parametrize(("report", "expected"), PLACED)
def test_sentences_are_placed_and_kept_whole(report, expected):
    built = AbnormalityBuilder().read_report(report)
    assert [tuple(entry) for entry in built.entries] == expected
    assert built.unplaced == ()


def test_sentences_that_do_not_point_back_are_returned_without_a_region():
    build = AbnormalityBuilder()
    built = build.read_report("Esophagus is dilated. Diverticulum 15 mm. Its wall is thickened. No lesion.")
    assert [tuple(entry) for entry in built.entries] == [("esophagus", "Esophagus is dilated.")]
    assert built.unplaced == ("Diverticulum 15 mm.", "Its wall is thickened.")
    regions = {"others": "A cyst is seen. A clip is seen.", "lung": "A cyst is seen."}
    built = build.read_regions(regions)
    assert [tuple(entry) for entry in built.entries] == [("lung", "A cyst is seen.")]
    assert built.unplaced == ("A clip is seen.",)


@pytest.mark.parametrize("text", [None, float("nan"), "", "Not given."])
def test_a_missing_report_has_an_empty_list(text):
    assert AbnormalityBuilder().from_report(text) == ()


def test_regions_of_another_scheme_are_refused():
    with pytest.raises(ConfigError, match=r"'large airways'.*RadGenome"):
        AbnormalityBuilder().from_regions({"large airways": "Mucus."})
