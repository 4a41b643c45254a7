import json

import pytest

from ct_vlm.evaluation import ReportTable

REPORTS = (
    "Heart size increased. No pleural effusion was observed.",
    "There are calcific plaques in the coronary arteries. Heart size is normal.",
    "A 5 mm nodule is seen in the right upper lobe.",
    "Bilateral pleural effusion is present.",
)
WRITTEN = (
    "Heart size increased. Pleural effusion was observed.",
    "Heart size is normal. No lymph nodes were seen.",
    "A 5 mm nodule is seen in the right upper lobe.",
    None,
)
IDS = ("valid_1_a_1", "valid_1_a_2", "valid_2_a_1", "valid_3_a_1")


@pytest.fixture
def references() -> ReportTable:
    return ReportTable(IDS, REPORTS, patients=("p1", "p1", "p2", "p3"), source="references.csv")


@pytest.fixture
def predictions() -> ReportTable:
    """Return one report with an invented label, one with a missed one, a right one and a missing one."""
    return ReportTable(IDS, WRITTEN, source="predictions.csv")


@pytest.fixture
def write(tmp_path):
    """Write a file of a given name and return its path."""

    def make(name: str, content: object) -> object:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return make
