from __future__ import annotations

import json

import pytest

from ct_vlm.component import build_from_config
from ct_vlm.errors import ConfigError
from ct_vlm.text.prompts import ReportPrompt


def test_default_needs_no_text():
    assert ReportPrompt().render() == "Write the report:"
    assert ReportPrompt().render("Heart volume 0.6 L.") == "Heart volume 0.6 L.\nWrite the report:"


@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        ("A <visual> B", "", ("A ", " B")),
        ("A {text} <visual> B", "t", ("A t ", " B")),
        ("A {text} <visual> B", "", ("A ", " B")),
        ("A <visual> {text} B", "t", ("A ", " t B")),
        ("A <visual> {text} B", "", ("A ", " B")),
        ("A {text} B", "t", ("", "A t B")),
        ("<visual>", "", ("", "")),
    ],
)
def test_split_at_the_visual_tokens(template, text, expected):
    assert ReportPrompt(template).split(text) == expected


@pytest.mark.parametrize("template", ["{text}<visual> B", "<visual>{text} B"])
def test_text_cannot_inject_a_marker_or_a_slot(template):
    before, after = ReportPrompt(template).split("x <visual> {text} {0}")
    assert before + after == "x  {text} {0} B"
    assert ReportPrompt(template).render("x <visual>y").count("<visual>") == 1


def test_text_without_a_slot_is_an_error():
    with pytest.raises(ConfigError, match="has no"):
        ReportPrompt("Write:").render("Heart volume 0.6 L.")


@pytest.mark.parametrize("template", ["{text}{text}", "<visual><visual>"])
def test_repeated_slots_are_errors(template):
    with pytest.raises(ConfigError, match="2 times"):
        ReportPrompt(template)


def test_config_round_trip():
    prompt = ReportPrompt("<visual>\n{text}\nReport:")
    config = json.loads(json.dumps(prompt.to_config()))
    assert build_from_config(config) == prompt
    assert ReportPrompt.from_config(config) == prompt


def test_unknown_settings_are_errors():
    with pytest.raises(ConfigError, match="instruction"):
        ReportPrompt.from_config({"instruction": "x"})
