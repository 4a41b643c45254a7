"""Report text: variants, truth, balance of normal and positive sentences, places read back."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.phantoms import (
    LOCATED_LABELS,
    PhantomConfig,
    PhantomFacts,
    describe_phantom,
    expected_location,
    find_location,
)
from ct_vlm.phantoms.report.normal import NORMAL, NORMAL_IMPRESSION
from ct_vlm.phantoms.report.positive import IMPRESSION, POSITIVE
from ct_vlm.text.labels import CT_RATE_LABELS

COUNT = 200
CONFIG = PhantomConfig(resolution_mm=5.0)


@functools.cache
def texts() -> tuple[PhantomFacts, ...]:
    return tuple(describe_phantom(seed, config=CONFIG) for seed in range(COUNT))


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=\.)\s+", text) if part]


def test_enough_wordings() -> None:
    assert set(POSITIVE) == set(IMPRESSION) == set(CT_RATE_LABELS)
    assert all(len(set(options)) >= 11 for options in POSITIVE.values())
    assert all(len(set(options)) >= 8 for options in NORMAL.values())
    assert len(set(NORMAL_IMPRESSION)) >= 8


@pytest.mark.parametrize("label", CT_RATE_LABELS)
def test_wordings_are_used(label: str) -> None:
    said = set()
    for seed in range(120):
        phantom = describe_phantom(seed, labels=[label], config=CONFIG)
        absent = set(sentences(describe_phantom(seed, labels=[], config=CONFIG).findings_text))
        new = [s for s in sentences(phantom.findings_text) if s not in absent]
        said.update(re.sub(r"\d+", "N", s) for s in new)
        assert new
    assert len(said) >= 11


def test_normal_sentences_outnumber_positive_ones() -> None:
    total = sum(len(sentences(p.findings_text)) for p in texts())
    positive = sum(len(p.findings) for p in texts())
    assert total - positive > 2 * positive


def test_length() -> None:
    words = [len(f"{p.findings_text} {p.impressions_text}".split()) for p in texts()]
    assert 60 <= np.median(words) <= 110


def test_impressions_are_one_to_four_sentences() -> None:
    counts = [len(sentences(p.impressions_text)) for p in texts()]
    assert min(counts) == 1
    assert max(counts) == 4
    assert all(p.impressions_text in NORMAL_IMPRESSION for p in texts() if not p.findings)


def test_slots_are_filled_and_sentences_well_formed() -> None:
    for phantom in texts():
        for sentence in sentences(f"{phantom.findings_text} {phantom.impressions_text}"):
            assert re.fullmatch(r"[A-Z0-9][^{}]*\.", sentence), sentence
            assert "None" not in sentence
            assert "  " not in sentence


def test_regions_share_out_the_findings_section() -> None:
    for phantom in texts():
        parts = sorted(s for text in phantom.region_reports.values() for s in sentences(text))
        assert parts == sorted(sentences(phantom.findings_text))


def test_labels_and_findings_agree() -> None:
    for phantom in texts():
        assert [f.label for f in phantom.findings] == [
            n for n, on in zip(CT_RATE_LABELS, phantom.labels, strict=True) if on
        ]


def test_stated_sizes_are_the_facts() -> None:
    for phantom in texts():
        stated = {int(number) for number in re.findall(r"(\d+) mm", phantom.findings_text + phantom.impressions_text)}
        assert stated <= {f.size_mm for f in phantom.findings}


def test_a_rule_labeler_reads_the_labels_back() -> None:
    labeler = pytest.importorskip("ct_vlm.metrics").RuleLabeler()
    truth = np.stack([p.labels for p in texts()])
    for field in ("findings_text", "impressions_text"):
        np.testing.assert_array_equal(labeler([getattr(p, field) for p in texts()]), truth)


def test_places_are_read_back_from_any_wording() -> None:
    for phantom in texts():
        report = f"{phantom.findings_text} {phantom.impressions_text}"
        for finding in phantom.findings:
            if finding.label in LOCATED_LABELS:
                assert find_location(phantom.findings_text, finding.label) == expected_location(finding)
                assert find_location(report, finding.label) == expected_location(finding)
        for label in set(CT_RATE_LABELS) - {f.label for f in phantom.findings}:
            assert find_location(report, label) == set(), (label, report)


@pytest.mark.parametrize(
    ("text", "label", "places"),
    [
        ("A 9 mm nodule in the left upper lobe.", "Lung nodule", {"left upper lobe"}),
        ("Nodule in the right lung middle lobe, stable.", "Lung nodule", {"right middle lobe"}),
        ("No nodule, mass or consolidation in the left lower lobe.", "Consolidation", set()),
        ("Pleural effusion on both sides.", "Pleural effusion", {"left", "right"}),
        ("Atelectasis in both lower lobes.", "Atelectasis", {"left lower lobe", "right lower lobe"}),
        ("Emphysema.", "Emphysema", set()),
        ("Left pleural effusion; nodule in the right upper lobe.", "Lung nodule", {"right upper lobe"}),
    ],
)
def test_find_location(text: str, label: str, places: set[str]) -> None:
    assert find_location(text, label) == places


def test_find_location_names_unknown_labels() -> None:
    with pytest.raises(ConfigError, match="Pneumonia"):
        find_location("", "Pneumonia")


def test_one_label_changes_only_its_sentences() -> None:
    for seed in range(20):
        without = describe_phantom(seed, labels=["Lung nodule"], config=CONFIG)
        with_effusion = describe_phantom(seed, labels=["Lung nodule", "Pleural effusion"], config=CONFIG)
        kept = {k: v for k, v in without.region_reports.items() if k != "pleura"}
        assert kept == {k: v for k, v in with_effusion.region_reports.items() if k != "pleura"}
