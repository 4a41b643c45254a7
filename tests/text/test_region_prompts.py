"""Instructions of a model that is asked region by region."""

from __future__ import annotations

import pytest

from ct_vlm.errors import ConfigError
from ct_vlm.text import MEDREGION_REGIONS, RADGENOME_REGIONS, RegionPrompts


def test_named_sets_and_names_of_ones_own():
    assert RegionPrompts().names == MEDREGION_REGIONS
    assert RegionPrompts("ten").names == RADGENOME_REGIONS
    assert RegionPrompts(["left lung", "right lung"]).names == ("left lung", "right lung")


def test_text_and_visual_tokens_keep_their_place():
    prompts = RegionPrompts(["lung"], template="<visual>{text} {Region} ({region}):")
    assert prompts.render("lung", "Volume 4 L.") == "<visual>Volume 4 L. Lung (lung):"
    assert prompts.render("lung") == "<visual>Lung (lung):"


def test_other_braces_stay_as_they_are():
    assert RegionPrompts(["lung"], template="{json} {region}").render("lung") == "{json} lung"


@pytest.mark.parametrize(("missing", "expected"), [("skip", None), ("normal", "Bone is fine.")])
@pytest.mark.parametrize("reports", [{}, {"bone": "  "}])
def test_what_is_learnt_of_a_region_that_is_not_mentioned(missing, expected, reports):
    prompts = RegionPrompts(["bone"], missing=missing, normal="{Region} is fine.")
    assert prompts.target("bone", reports) == expected
    assert prompts.target("bone", {"bone": "Fracture."}) == "Fracture."


def test_config_round_trip():
    prompts = RegionPrompts("six", missing="normal", regions_per_sample=2, max_texts=4)
    config = prompts.to_config()
    assert config["init_args"]["regions"] == list(MEDREGION_REGIONS)
    assert RegionPrompts.from_config(config) == prompts
    with pytest.raises(ConfigError, match="Unknown settings"):
        RegionPrompts.from_config({"region": "six"})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"regions": "seven"}, "'six', 'ten'"),
        ({"regions": []}, "empty"),
        ({"regions": ["a", "A"]}, "named twice"),
        ({"missing": "guess"}, "missing"),
        ({"regions_per_sample": 0}, "regions_per_sample"),
        ({"max_texts": 0}, "max_texts"),
        ({"template": "Describe it."}, "same words"),
        ({"template": "{text} {text} {region}"}, "occurs 2 times"),
    ],
)
def test_what_cannot_work_is_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        RegionPrompts(**settings)
