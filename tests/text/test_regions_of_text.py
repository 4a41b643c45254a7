from __future__ import annotations

import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.phantoms import describe_phantom, expected_location
from ct_vlm.text import (
    MEDREGION_REGIONS,
    RADGENOME_REGIONS,
    RADGENOME_TO_MEDREGION,
    find_places,
    find_region,
    merge_regions,
    split_regions,
    split_sentences,
)

SENTENCES = {
    "thyroid": [
        "A nodule in the right lobe of the thyroid.",
        "Thyroid gland is heterogeneous.",
        "Multinodular goiter.",
    ],
    "breast": ["Both breasts are symmetric.", "Left mastectomy.", "Silicone implants.", "Gynecomastia."],
    "esophagus": ["Sliding hiatal hernia.", "Esophageal wall is thick.", "Gastroesophageal reflux."],
    "heart": [
        "Coronary stents are seen.",
        "No pericardial effusion.",
        "Left ventricle is dilated.",
        "Stent in LAD.",
        "Myocardial thinning.",
        "Bypass.",
    ],
    "pleura": [
        "Right lung pleural effusion, 3 cm.",
        "Pneumothorax was not observed.",
        "Effusion on the left.",
        "Chest tube in the right hemithorax.",
    ],
    "trachea and bronchie": [
        "Carina is open.",
        "Mucus plug.",
        "Paratracheal air-filled diverticulum.",
        "Peribronchial thickening in the lower lobes.",
    ],
    "mediastinum": [
        "Lymph nodes up to 8 mm at the hila.",
        "Ectasia of the ascending aorta.",
        "Pulmonary artery is wide.",
        "Pneumomediastinum.",
        "Atheroma plaques.",
    ],
    "bone": [
        "Degenerative osteophytes.",
        "Old fracture of the 4. rib.",
        "Pectus excavatum.",
        "Compression of T12.",
        "Subcutaneous emphysema in the right chest wall.",
    ],
    "abdomen": [
        "Stones in the gallbladder.",
        "A cyst in the left lobe of the liver.",
        "Hepatic steatosis.",
        "Gallstones.",
        "Ascites.",
    ],
    "lung": [
        "Subpleural nodule of 4 mm.",
        "A nodule in the lower lobe beside the pleura.",
        "Bronchiectasis.",
        "No mass.",
        "Mosaic attenuation pattern (small airway disease?).",
        "Reticular densities at both bases.",
        "Left pneumonectomy.",
    ],
}


@pytest.mark.parametrize(("region", "sentence"), [(r, s) for r, texts in SENTENCES.items() for s in texts])
def test_sentences_are_about_their_region(region, sentence):
    assert find_region(sentence) == region


def test_sentences_about_nothing_have_no_region():
    assert find_region("It measures 5 mm.") is None


def test_reports_of_phantoms_are_split_as_they_were_written():
    """The phantoms' writer knows the region of each sentence; it does not use the lexicon."""
    pairs = [
        (region, sentence)
        for seed in range(60)
        for region, text in describe_phantom(seed, (32, 48, 48)).region_reports.items()
        for sentence in split_sentences(text)
    ]
    wrong = [(region, sentence) for region, sentence in pairs if find_region(sentence) != region]
    assert len(wrong) <= len(pairs) / 100, wrong


def test_places_of_phantoms_are_found():
    found, missed = 0, []
    for seed in range(60):
        facts = describe_phantom(seed, (32, 48, 48))
        sentences = split_sentences(facts.findings_text)
        for finding in facts.findings:
            if finding.lobe is not None and expected_location(finding) == {finding.lobe}:
                named = any(find_places(s).lobes == {finding.lobe} for s in sentences)
                found += named
                missed += [] if named else [(finding, sentences)]
    assert found > 20
    assert missed == []


@pytest.mark.parametrize(
    ("text", "sides", "lobes"),
    [
        ("Nodule in the right upper lobe.", {"right"}, {"right upper lobe"}),
        ("Upper lobe of the left lung.", {"left"}, {"left upper lobe"}),
        ("Right upper and lower lobes.", {"right"}, {"right upper lobe", "right lower lobe"}),
        ("In the middle lobe.", {"right"}, {"right middle lobe"}),
        ("In both lower lobes.", {"right", "left"}, {"right lower lobe", "left lower lobe"}),
        ("Lower lobes are affected.", {"right", "left"}, {"right lower lobe", "left lower lobe"}),
        ("At the apex of the left lung.", {"left"}, {"left upper lobe"}),
        ("Lingular atelectasis.", {"left"}, {"left upper lobe"}),
        (
            "Nodules in the right upper lobe and in the left lower lobe.",
            {"right", "left"},
            {"right upper lobe", "left lower lobe"},
        ),
        ("Right middle lobe, left lower lobe.", {"right", "left"}, {"right middle lobe", "left lower lobe"}),
        ("Left-sided pleural effusion.", {"left"}, set()),
        ("Bilateral effusion.", {"right", "left"}, set()),
        ("Left ventricle and right coronary artery.", set(), set()),
        ("Upright position, a cleft.", set(), set()),
    ],
)
def test_sides_and_lobes(text, sides, lobes):
    found = find_places(text)
    assert (found.sides, found.lobes) == (sides, lobes)
    assert found.finest == (lobes or sides)


def test_reports_are_split_by_either_scheme():
    report = (
        "Findings: Trachea is open. Heart size is normal. Both breasts are natural. Lungs are clear. It is normal. "
        "No pleural effusion. Impressions: Liver cyst."
    )
    ten = split_regions(report)
    assert ten == {
        "breast": "Both breasts are natural.",
        "heart": "Heart size is normal.",
        "lung": "Lungs are clear. It is normal.",
        "pleura": "No pleural effusion.",
        "trachea and bronchie": "Trachea is open.",
    }
    assert split_regions(report, "medregion") == {
        "lung": "Lungs are clear. It is normal. No pleural effusion.",
        "large airways": "Trachea is open.",
        "heart and great vessels": "Heart size is normal.",
        "other": "Both breasts are natural.",
    }
    assert split_regions(report, carry=False)["other"] == "It is normal."
    assert split_regions("") == {}
    assert split_regions("Impressions: Liver cyst.") == {"abdomen": "Liver cyst."}


def test_every_region_of_ten_has_one_of_six():
    assert set(RADGENOME_TO_MEDREGION) == set(RADGENOME_REGIONS)
    assert set(RADGENOME_TO_MEDREGION.values()) == {*MEDREGION_REGIONS, "other"}


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="'eight'"):
        split_regions("x", "eight")
    with pytest.raises(ConfigError, match="'large airways'"):
        merge_regions({"large airways": "Open."}, "radgenome")
    with pytest.raises(ConfigError, match="'knee'"):
        merge_regions({"knee": "Bent."}, "medregion")
