"""What views show: which slice, how much of it, in which values, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ct_vlm.component import build_from_config
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.transforms import SlabViews

PLAIN = {"gamma_probability": 0.0, "blur_probabilities": ()}


def slab(depth: int = 5, side: int = 60) -> np.ndarray:
    """Each slice has its number as HU."""
    return np.broadcast_to(np.arange(depth, dtype=np.int16)[:, None, None] * 100, (depth, side, side)).copy()


def test_defaults_are_the_papers_but_for_the_flip():
    views = SlabViews()(slab(8, 512), seed=0)
    assert views["global_views"].shape == (1, 2, 224, 224)
    assert views["local_views"].shape == (1, 8, 140, 140)
    assert views["global_views"].dtype == torch.int16
    assert SlabViews().config["flip_probability"] == 0


def test_global_views_show_the_middle_slice_and_local_ones_any():
    make = SlabViews(20, 10, num_local=6, **PLAIN)
    middle, others = set(), set()
    for seed in range(40):
        views = make(slab(), seed)
        middle |= set(views["global_views"].unique().tolist())
        others |= set(views["local_views"].unique().tolist())
    assert middle == {200}
    assert others == {0, 100, 200, 300, 400}


def test_crops_are_as_large_as_asked():
    # HU grow by one a column: the range that a view shows is the crop's width
    ramp = np.broadcast_to(np.arange(200, dtype=np.int16), (1, 200, 200)).copy()
    make = SlabViews(50, 50, num_global=1, num_local=1, ratio=(1.0, 1.0), **PLAIN)
    shares = {"global": [], "local": []}
    for seed in range(60):
        for kind, view in make(ramp, seed).items():
            row = view[0, 0, 25].float()
            width = float(row[-5] - row[5]) * 50 / 40
            shares[kind.removesuffix("_views")].append((width / 200) ** 2)
    assert 0.55 < min(shares["global"]) < 0.7 < 0.9 < max(shares["global"]) < 1.05
    assert 0.27 < min(shares["local"]) < 0.4 < 0.5 < max(shares["local"]) < 0.63


def test_same_seed_same_views_and_other_seeds_others():
    noise = np.random.default_rng(0).integers(-1000, 800, (5, 40, 40)).astype(np.int16)
    make = SlabViews(16, 8)
    first, again, other = make(noise, 3), make(noise, 3), make(noise, 4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["global_views"], other["global_views"])
    assert not torch.equal(first["global_views"][:, 0], first["global_views"][:, 1])


def test_resizing_is_antialiased():
    noise = np.random.default_rng(0).normal(0, 200, (1, 128, 128)).astype(np.int16)
    whole = {"global_scale": (1.0, 1.0), "ratio": (1.0, 1.0), "num_local": 0}
    view = SlabViews(16, 8, **whole, **PLAIN)(noise, 0)["global_views"].double()
    # a mean over 64 pixels and more, not one of them
    assert view.std() < 200 / 6


def test_sides_stay_unless_a_flip_is_asked_for():
    one_side = np.zeros((1, 32, 32), np.int16)
    one_side[..., :16] = 500
    settings = {"num_global": 1, "num_local": 0, "global_scale": (1.0, 1.0), "ratio": (1.0, 1.0), **PLAIN}
    kept = [SlabViews(32, 8, **settings)(one_side, seed)["global_views"][0, 0, 0, 0].item() for seed in range(30)]
    flips = SlabViews(32, 8, flip_probability=0.5, **settings)
    mixed = [flips(one_side, seed)["global_views"][0, 0, 0, 0].item() for seed in range(30)]
    assert set(kept) == {500}
    assert set(mixed) == {0, 500}


def test_gamma_keeps_the_ends_of_the_window_and_what_is_outside():
    values = np.array([-1024, -997, 0, 888, 2000], np.int16)
    image = np.broadcast_to(values, (1, 5, 5)).copy()
    settings = {"num_global": 1, "num_local": 0, "global_scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    make = SlabViews(5, 5, gamma_probability=1.0, gamma=(2.0, 2.0), blur_probabilities=(), **settings)
    expected = [-1024, -997, round(-997 + 1885 * (997 / 1885) ** 2), 888, 2000]
    assert make(image, 0)["global_views"][0, 0, 2].tolist() == expected


def test_blur_is_of_global_views_only_and_the_last_chance_goes_on():
    noise = np.random.default_rng(0).normal(0, 100, (1, 32, 32)).astype(np.int16)
    plain = {"global_scale": (1.0, 1.0), "local_scale": (1.0, 1.0), "ratio": (1.0, 1.0), "gamma_probability": 0.0}
    make = SlabViews(32, 32, num_global=3, num_local=1, blur_probabilities=(0.0, 1.0), blur_sigma=(1.0, 1.0), **plain)
    views = make(noise, 0)
    spread = views["global_views"].double().std((2, 3))[0].tolist()
    assert spread[0] == pytest.approx(float(noise.std()), rel=0.01)
    assert max(spread[1:]) < 0.6 * spread[0]
    assert views["local_views"].double().std().item() == pytest.approx(spread[0], rel=0.01)


def test_guided_crops_are_centred_on_findings_first():
    labels = np.zeros((3, 90, 90), np.uint8)
    labels[:, 5:85, 5:85] = 1
    labels[:, 70:72, 18:20] = 7
    settings = {"num_local": 5, "local_scale": (0.02, 0.03), "ratio": (1.0, 1.0), "finding_labels": (7,)}
    hits = {}
    for chance in (0.0, 1.0):
        make = SlabViews(16, 8, guidance_probability=chance, **settings)
        found = [make(slab(3, 90), seed, labels, num_labels=8)["local_labels"] for seed in range(20)]
        hits[chance] = float(torch.stack(found)[..., 6].mean())
    assert hits[1.0] == 1.0
    assert hits[0.0] < 0.3


def test_guidance_without_a_label_in_sight_is_random():
    views = SlabViews(16, 8, guidance_probability=1.0)(slab(), 0, np.zeros((5, 60, 60), np.uint8), num_labels=2)
    assert views["local_labels"].sum() == 0
    assert views["global_labels"].shape == (2, 2)


def test_labels_are_those_inside_the_crop():
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[0, :, :10] = 1
    labels[0, :, 30:] = 3
    whole = {"global_scale": (1.0, 1.0), "ratio": (1.0, 1.0), "num_local": 0}
    assert SlabViews(8, 8, **whole)(slab(1, 40), 0, labels, num_labels=3)["global_labels"].tolist() == [[1, 0, 1]] * 2


def test_span_is_as_thick_as_asked_and_covers_the_volume():
    make = SlabViews(slab_mm=12.0)
    spans = [make.span(20, 3.0, seed) for seed in range(200)]
    assert {span.stop - span.start for span in spans} == {4}
    assert {span.start for span in spans} == set(range(17))
    assert make.span(2, 1.0, 0) == slice(0, 2)
    assert make.span(9, 30.0, 0).stop - make.span(9, 30.0, 0).start == 1


def test_config_round_trip():
    make = SlabViews(16, 8, num_local=3, flip_probability=0.2, finding_labels=(4,))
    again = build_from_config(make.to_config())
    assert again.config == make.config
    with pytest.raises(ConfigError, match="sides"):
        SlabViews.from_config({"sides": 3})


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"flip_probability": 2.0}, "probabilities"),
        ({"num_global": 0}, "global view"),
        ({"gamma": (1.1, 0.9)}, "ranges"),
        ({"local_scale": (0.5, 1.5)}, "shares"),
        ({"window": (100.0, 0.0)}, "window"),
        ({"slab_mm": 0.0}, "slab_mm"),
    ],
)
def test_wrong_settings(settings, word):
    with pytest.raises(ConfigError, match=word):
        SlabViews(**settings)


def test_wrong_shapes():
    with pytest.raises(ShapeError, match="slab"):
        SlabViews()(np.zeros((4, 4), np.int16), 0)
    with pytest.raises(ShapeError, match="labels"):
        SlabViews()(slab(), 0, np.zeros((5, 4, 4), np.uint8))
