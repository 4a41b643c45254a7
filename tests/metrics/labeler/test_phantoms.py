from __future__ import annotations

import numpy as np

from ct_vlm.metrics import RuleLabeler
from ct_vlm.phantoms import describe_phantom


def test_agrees_with_the_facts_of_phantoms():
    """Phantom reports were worded without knowledge of the rules."""
    phantoms = [describe_phantom(seed) for seed in range(150)]
    found = RuleLabeler()([f"Findings: {p.findings_text} Impressions: {p.impressions_text}" for p in phantoms])
    truth = np.array([[float(value) for value in p.labels] for p in phantoms])
    assert truth.sum(axis=0).min() > 0
    np.testing.assert_array_equal(found, truth)
