"""What data sets share that are split by patient."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Collection


class ByPatient:
    """A data set whose :attr:`samples` say which patient each is of."""

    samples: list[Any]

    def patient_ids(self) -> list[str]:
        """Return the patients of the index, sorted."""
        return sorted({sample.name.patient_id for sample in self.samples})

    def subset(self, patients: Collection[str], **changes: Any) -> Self:
        """Return the same data set with some of its patients; its report stays the whole one's.

        Args:
            patients: Patients to keep.
            **changes: New values of attributes, e.g. ``augment``.
        """
        part = copy.copy(self)
        for name, value in changes.items():
            setattr(part, name, value)
        part._keep(set(patients))
        return part

    def _keep(self, patients: Collection[str]) -> None:
        """Forget all other patients."""
        self.samples = [sample for sample in self.samples if sample.name.patient_id in patients]
