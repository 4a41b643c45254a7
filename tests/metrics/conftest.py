from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def golden():
    """Invented reports with the scores that outside implementations gave them."""
    return json.loads((FOLDER / "data" / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden_nlg():
    """Invented reports with the word-overlap scores that outside implementations gave them."""
    return json.loads((FOLDER / "golden" / "nlg.json").read_text(encoding="utf-8"))


@pytest.fixture
def needs_java():
    """Skip where no Java can be started."""
    if shutil.which("java") is None:
        pytest.skip("Java is not installed")


@pytest.fixture(scope="session")
def make_reports():
    """Return a maker of random reports, with the cases that tokenizers and scores treat differently."""
    words = [
        *["the", "heart", "is", "not", "a", "nodule", "effusion", "in", "lobe", "No", "Größe", "naïve"],
        *[".", ",", ";", "normal.", "5", "mm", "µm", "5.5"],
    ]
    words += ["12x8", "3-4", "(2", "1,5"]
    edges = [
        "",
        "effusion",
        "effusion effusion effusion",
        "No  effusion .\nSeen.",
        '"A" nodule, 5.5 mm; 3-4 cm?',
        "..",
        "é",
    ]

    def make(seed, count=30):
        rng = random.Random(seed)
        texts = [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(count)]
        return texts + rng.sample(edges, len(edges))

    return make
