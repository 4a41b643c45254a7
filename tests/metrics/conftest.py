from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden():
    """Invented reports with the scores that outside implementations gave them."""
    return json.loads((Path(__file__).parent / "data" / "golden.json").read_text(encoding="utf-8"))
