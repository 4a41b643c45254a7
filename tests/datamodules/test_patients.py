"""Splits by patient."""

from __future__ import annotations

import pytest

from ct_vlm.datamodules import split_patients
from ct_vlm.errors import ConfigError

PATIENTS = [f"train_{number}" for number in range(200)]


def test_parts_cover_everyone_once() -> None:
    train, val = split_patients([*PATIENTS, *PATIENTS[:50]], 0.1)
    assert sorted(train + val) == sorted(PATIENTS)
    assert len(val) == 20


def test_seed_decides_and_order_does_not() -> None:
    assert split_patients(PATIENTS, 0.1, 1) == split_patients(PATIENTS[::-1], 0.1, 1)
    assert split_patients(PATIENTS, 0.1, 1) != split_patients(PATIENTS, 0.1, 2)


def test_a_new_patient_changes_little() -> None:
    before, after = (set(split_patients(names, 0.1)[1]) for names in (PATIENTS, [*PATIENTS, "train_999"]))
    assert len(before - after) <= 1


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_wrong_share(fraction: float) -> None:
    with pytest.raises(ConfigError, match="val_fraction"):
        split_patients(PATIENTS, fraction)


def test_small_groups() -> None:
    assert split_patients(["a"], 0) == (["a"], [])
    assert len(split_patients(["a", "b"], 0.01)[1]) == 1
    with pytest.raises(ConfigError, match="leaves none"):
        split_patients(["a"], 0.5)
