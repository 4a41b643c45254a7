from collections import Counter

import numpy as np
import pytest

from ct_vlm.datamodules import BalancedSampler, class_balanced_weights, make_loader
from ct_vlm.errors import CheckpointError, ConfigError, DatasetError


@pytest.fixture
def labels() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((600, 3)) < [0.5, 0.1, 0.01]).astype(float)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_have_mean_one_and_rise_with_rarity(labels, power) -> None:
    weights = class_balanced_weights(labels, power)
    assert weights.mean() == pytest.approx(1)
    common, rare = (weights[(labels == row).all(axis=1)] for row in ([1, 0, 0], [0, 0, 1]))
    if power == 0:
        assert np.ptp(weights) == pytest.approx(0)
    else:
        sizes = labels.sum(axis=0)
        assert rare[0] / common[0] == pytest.approx((sizes[0] / sizes[2]) ** power)


def test_classes_that_do_not_overlap_come_evenly_at_power_one() -> None:
    labels = np.zeros((100, 2))
    labels[:4, 0] = 1
    labels[4:20, 1] = 1
    sampler = BalancedSampler(class_balanced_weights(labels, 1.0))
    drawn = Counter(np.digitize(list(sampler), [4, 20]).tolist())
    assert all(abs(drawn[group] - 100 / 3) <= 1 for group in range(3))


def test_unknown_labels_count_as_absent() -> None:
    weights = class_balanced_weights([[np.nan, 1], [0, 1], [np.nan, np.nan]], 1.0)
    assert weights[0] == weights[1]


def test_every_sample_comes_as_often_as_its_weight_within_one(labels) -> None:
    weights = class_balanced_weights(labels, 1.0)
    counts = np.bincount(list(BalancedSampler(weights, seed=3)), minlength=len(weights))
    assert counts.sum() == len(weights)
    assert (np.abs(counts - weights) < 1).all()


def test_all_samples_come_over_epochs() -> None:
    sampler = BalancedSampler([0.1] * 10 + [5.0])
    seen = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        seen |= set(map(int, sampler))
    assert seen == set(range(11))


def test_processes_share_one_draw(labels) -> None:
    weights = class_balanced_weights(labels)[:7]
    whole = list(BalancedSampler(weights, seed=1))
    shards = [list(BalancedSampler(weights, seed=1, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [index for pair in zip(*shards, strict=True) for index in pair] == [*whole, whole[0]]


def test_a_resumed_epoch_goes_on_with_the_same_draw() -> None:
    def loader():
        return make_loader([{"x": n} for n in range(9)], batch_size=2, shuffle=True, seed=1, weights=range(9))

    whole = loader()
    batches = iter(whole)
    next(batches)
    state = whole.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert [batch["x"].tolist() for batch in resumed] == [batch["x"].tolist() for batch in batches]
    other = make_loader([{"x": n} for n in range(9)], batch_size=2, shuffle=True, seed=1)
    with pytest.raises(CheckpointError):
        make_loader([{"x": n} for n in range(9)], batch_size=2, shuffle=True, seed=1, weights=[1] * 9).load_state_dict(
            state
        )
    assert "weights" not in other.state_dict()


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [[1.0]]])
def test_bad_weights(weights) -> None:
    with pytest.raises(DatasetError):
        BalancedSampler(weights)


def test_bad_settings() -> None:
    with pytest.raises(ConfigError):
        class_balanced_weights([[1]], 2.0)
    with pytest.raises(DatasetError, match=r"\(N, K\)"):
        class_balanced_weights([1])
    with pytest.raises(DatasetError, match="2 weights for 3 samples"):
        make_loader([{"x": 0}] * 3, batch_size=1, shuffle=True, weights=[1, 1])
