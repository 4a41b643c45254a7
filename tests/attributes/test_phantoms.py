"""Phantoms, whose facts are known."""

from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.attributes import MaskProvenance, MaskSet, measure_attributes
from ct_vlm.phantoms import SEGMENTATION_CLASSES, describe_phantom, make_phantom

SHAPE = (80, 96, 110)
LABELS = ["Lung nodule", "Pleural effusion"]
NAMES = {name: value for value, name in enumerate(SEGMENTATION_CLASSES) if value}


def measure(seed, labels):
    phantom = make_phantom(seed, SHAPE, labels=labels)
    provenance = MaskProvenance("reference", "make_phantom", str(seed))
    masks = MaskSet.from_label_map(phantom.segmentation, NAMES, spacing=phantom.spacing, provenance=provenance)
    return measure_attributes(masks), phantom.spacing


@pytest.mark.parametrize("seed", range(6))
def test_nodules_and_effusions_are_those_of_the_facts(seed):
    found, spacing = measure(seed, LABELS)
    effusion, nodule = sorted(
        describe_phantom(seed, SHAPE, labels=LABELS).findings, key=lambda f: f.label, reverse=True
    )
    assert (nodule.label, effusion.label) == ("Lung nodule", "Pleural effusion")
    assert found.nodules.count == 1
    assert found.nodules.lesions[0].place == nodule.lobe
    # the report's size is rounded to whole millimetres
    assert abs(found.nodules.lesions[0].diameter_mm - nodule.size_mm) <= max(spacing) + 0.5
    sides = {"bilateral": ["right", "left"]}.get(effusion.side, [effusion.side])
    assert [fluid.side for fluid in found.effusions] == sides
    assert found.provenance.kind == "reference"


def test_organs_of_a_healthy_phantom():
    found, spacing = measure(0, [])
    assert (found.nodules.count, found.effusions, found.cysts) == (0, (), None)
    sides = [(organ.name, organ.side) for organ in found.organs]
    pairs = [(name, side) for name in ("lung", "kidney") for side in ("right", "left")]
    assert set(sides) == {*pairs, ("heart", None), ("liver", None)}
    assert found.volume_ml("lung", "right") > found.volume_ml("lung", "left") > 500
    label_map = make_phantom(0, SHAPE, labels=[]).segmentation
    kidneys = (label_map == NAMES["kidneys"]).sum() * np.prod(spacing) / 1000
    assert found.volume_ml("kidney") == pytest.approx(kidneys)
    # the field of view ends within the kidneys: they are flagged, the heart is not
    assert found.organ("kidney", "left").is_partial == bool((label_map[-1] == NAMES["kidneys"]).any())
    assert not found.organ("heart").is_partial
