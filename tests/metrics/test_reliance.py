from __future__ import annotations

import numpy as np
import pytest

from ct_vlm.errors import DatasetError
from ct_vlm.metrics import other_patient_permutation

COHORTS = [
    ["a", "b"],
    ["a", "a", "b", "b"],
    ["a", "b", "a", "c", "c", "a"],
    [f"p{i // 3}" for i in range(300)],
    list(range(50)),
    ["a"] * 5 + ["b", "c", "d", "e", "f"],
]


@pytest.mark.parametrize("patients", COHORTS, ids=len)
@pytest.mark.parametrize("seed", range(5))
def test_nobody_meets_their_own_volume_and_every_volume_is_used_once(patients, seed):
    partners = other_patient_permutation(patients, seed)
    assert sorted(partners) == list(range(len(patients)))
    assert all(patients[own] != patients[other] for own, other in enumerate(partners))


def test_seeds_decide():
    patients = [f"p{i // 2}" for i in range(100)]
    assert (other_patient_permutation(patients, 1) == other_patient_permutation(patients, 1)).all()
    assert len({tuple(other_patient_permutation(patients, seed)) for seed in range(10)}) == 10


@pytest.mark.parametrize("patients", [["a"], ["a", "a"], ["a", "a", "b"]])
def test_the_patient_with_too_many_samples_is_named(patients):
    with pytest.raises(DatasetError, match="Patient 'a'"):
        other_patient_permutation(patients)


def test_no_samples():
    assert other_patient_permutation([]).dtype == np.int64
