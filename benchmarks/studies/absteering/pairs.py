"""Pairs of a true list and a wrong one: as the library makes them, and in words that phantoms use."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import numpy as np

from ct_vlm.datasets.preferences import PreferencePair
from ct_vlm.datasets.steering import HardNegatives, SteeredScan, make_pairs
from ct_vlm.metrics import RuleLabeler
from ct_vlm.text import Abnormality, parse_abnormalities, render_list
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.datamodules import FeatureDataset

Kind = Literal["hard", "random", "retold"]
_Meaning = tuple[str, tuple[int, ...]]

KINDS: tuple[Kind, ...] = ("hard", "random", "retold")
"""``hard``: confusions; ``random``: anything the patient has not; ``retold``: confusions in phantoms' words."""


def list_pairs(scans: FeatureDataset, kind: Kind, seed: int) -> list[PreferencePair]:
    """Return pairs of scans with an abnormality.

    Phantoms say few sentences. Many confusions are told in others, by which they can be known without a look at
    the video; ``retold`` ones cannot.

    Args:
        scans: With reports, lists and labels.
        kind: One of :data:`KINDS`.
        seed: Decides what is drawn.
    """
    known = [
        SteeredScan(
            item["volume_id"],
            parse_abnormalities(item["abnormalities"]),
            item["report"],
            frozenset(name for name, value in zip(CT_RATE_LABELS, item["labels"], strict=True) if value == 1),
        )
        for item in scans.items
    ]
    pairs = list(make_pairs(known, HardNegatives("random" if kind == "random" else "confusion", seed)))
    return retold_pairs(pairs, known, seed) if kind == "retold" else pairs


def retold_pairs(pairs: Sequence[PreferencePair], scans: Sequence[SteeredScan], seed: int) -> list[PreferencePair]:
    """Return pairs whose wrong entries are sentences that the same region of another scan is told with.

    An entry whose confusion no scan has stays true; pairs without a wrong entry are left out.

    Args:
        pairs: Of lists whose entries were replaced.
        scans: The scans.
        seed: Decides which sentence is taken.
    """
    told, labeler = _sentences(scans), RuleLabeler()
    true = {scan.id: scan.abnormalities for scan in scans}
    found = []
    for pair in pairs:
        rng = random.Random(f"{seed}/{pair.id}")  # noqa: S311  (no secret)
        entries, changed = list(true[pair.id]), []
        rows = np.asarray(labeler([change.new for change in pair.changes]))
        for change, row in zip(pair.changes, rows, strict=True):
            options = told.get((change.region, tuple(row)), ()) if row.any() else ()
            place = entries.index(Abnormality(change.region, change.old)) if options else -1
            if options:
                entries[place] = Abnormality(change.region, rng.choice(options))
                changed.append(change)
        if changed:
            found.append(PreferencePair(pair.id, pair.prompt, pair.chosen, render_list(entries), tuple(changed)))
    return found


def _sentences(scans: Sequence[SteeredScan]) -> dict[_Meaning, list[str]]:
    """Return the sentences of each region that state the same labels."""
    entries = sorted({entry for scan in scans for entry in scan.abnormalities})
    rows = np.asarray(RuleLabeler()([entry.text for entry in entries]))
    told: dict[_Meaning, list[str]] = {}
    for entry, row in zip(entries, rows, strict=True):
        told.setdefault((entry.region, tuple(row)), []).append(entry.text)
    return told
