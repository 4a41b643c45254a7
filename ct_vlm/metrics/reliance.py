"""Controls that show whether a model reads the volume it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray


def other_patient_permutation(patient_ids: Sequence[Hashable], seed: int = 0) -> NDArray[np.int64]:
    """Give every sample the volume of another patient.

    A model that writes as well from another patient's volume as from the right one does not read
    volumes. Samples are put patient by patient in random order and shifted by a random step that is
    at least as long as the longest patient, so no sample meets its own patient and every volume is
    used once.

    Args:
        patient_ids: Patient of each sample.
        seed: Seed of the order and the step.

    Returns:
        For each sample the index of the sample whose volume it gets.

    Shape:
        - Output: ``(B,)``.

    Raises:
        DatasetError: If one patient has more than half of the samples: then there is no such order.

    Example:
        >>> from ct_vlm.metrics import other_patient_permutation
        >>> patients = ["a", "a", "b", "b", "c"]
        >>> partners = other_patient_permutation(patients, seed=0)
        >>> any(patients[own] == patients[other] for own, other in enumerate(partners))
        False
    """
    ids = list(patient_ids)
    groups: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(ids):
        groups.setdefault(patient, []).append(index)
    longest = max(map(len, groups.values()), default=0)
    if 2 * longest > len(ids):
        patient = max(groups, key=lambda key: len(groups[key]))
        cause = f"Patient {patient!r} has {longest} of {len(ids)} samples, so some would keep their own volume."
        raise DatasetError(cause, "Use samples of more patients, or fewer of that one.")
    if not ids:
        return np.empty(0, dtype=np.int64)
    rng = np.random.default_rng(seed)
    members = list(groups.values())
    order = np.concatenate([rng.permutation(members[position]) for position in rng.permutation(len(members))])
    step = int(rng.integers(longest, len(ids) - longest, endpoint=True))
    partners = np.empty(len(ids), dtype=np.int64)
    partners[order] = np.roll(order, -step)
    return partners
