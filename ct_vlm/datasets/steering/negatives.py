"""Wrong lists of abnormalities that are hard to tell from the true one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ct_vlm.datasets.preferences import Change
from ct_vlm.datasets.steering.strategies import REPLACING, Options, Strategy, insertion_place, random_options
from ct_vlm.datasets.steering.truth import Truth
from ct_vlm.errors import ConfigError
from ct_vlm.metrics.labeler import RuleLabeler
from ct_vlm.text.abnormality_lists import STEERING_REGIONS, Abnormality, render_abnormalities

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

Fallback = Literal["none", "insertion"]

_ORDER = tuple(STEERING_REGIONS)


@dataclass(frozen=True)
class Negative:
    """A wrong list.

    Args:
        text: The list as text.
        entries: Its entries.
        changes: What was changed.
    """

    text: str
    entries: tuple[Abnormality, ...]
    changes: tuple[Change, ...]


class HardNegatives:
    """Make wrong lists out of true ones.

    ============= ==========================================================================
    strategy      what is wrong
    ============= ==========================================================================
    ``confusion`` a finding is replaced by one of its region that it is taken for; place, size,
                  number and all other words stay, but for adjectives of its kind ("calcified")
    ``side``      left and right are exchanged, where the other side exists
    ``size``      sizes are halved or doubled, unless the entry judges them ("enlarged")
    ``omission``  an entry is left out
    ``insertion`` an entry about something that the patient has not is put in
    ``random``    an entry is replaced by one about anything that the patient has not
    ============= ==========================================================================

    What is true of the patient is not told as a mistake as far as list, report and labels tell it:
    what the labeler finds there, and what wide lists of words may mean without being denied, is never
    put in. A true finding that none of them tells of can still be. A finding that the entry
    denies anywhere is not replaced. Of the confusions, only those count that the labeler reads as that
    swap and nothing else. Which one is drawn depends on seed, key and epoch alone.

    Args:
        strategy: One of the above.
        seed: Decides what is drawn.
        max_changes: How many entries are changed at most; None changes each that can be
            (``omission`` and ``insertion`` then change one).
        fallback: What happens if no entry can be changed so, as in the list of a normal scan:
            ``"none"`` makes no negative, ``"insertion"`` puts an entry in.
        labeler: Sentences to rows of 0 and 1, with ``label_names``; the rule labeler by default.

    Raises:
        ConfigError: If a choice is unknown or ``max_changes`` is below 1.

    Example:
        >>> from ct_vlm.datasets.steering import HardNegatives
        >>> make = HardNegatives("confusion", seed=1)
        >>> negative = make([("pleura", "Left pleural effusion of 8 mm.")], "Heart size is normal.", key="a_1")
        >>> negative.text
        '(Pleura: Left pleural thickening of 8 mm.)'
        >>> negative.changes[0].old, negative.changes[0].strategy
        ('Left pleural effusion of 8 mm.', 'confusion')
        >>> make([], key="a_2") is None
        True

    References:
        AbSteering, arXiv 2603.12469: confusions within a region, with regions, template and places
        kept. Inferred: the table of confusions, all entries changed, and what normal scans get. Differs
        from the paper: a table and the labeler in place of a language model. The other strategies
        are not the paper's.
    """

    def __init__(
        self,
        strategy: Strategy = "confusion",
        seed: int = 0,
        *,
        max_changes: int | None = None,
        fallback: Fallback = "none",
        labeler: Callable[[Sequence[str]], Any] | None = None,
    ) -> None:
        for name, value, known in (("strategy", strategy, Strategy), ("fallback", fallback, Fallback)):
            if value not in get_args(known):
                cause = f"Unknown {name} {value!r}."
                raise ConfigError(cause, f"Choose from: {', '.join(get_args(known))}.")
        if max_changes is not None and max_changes < 1:
            cause = f"`max_changes` is {max_changes}."
            raise ConfigError(cause, "Use 1 or more, or None for every entry that can be changed.")
        self.strategy, self.seed, self.max_changes, self.fallback = strategy, seed, max_changes, fallback
        self._labeler = RuleLabeler() if labeler is None else labeler

    def __call__(
        self,
        abnormalities: Iterable[tuple[str, str]],
        report: str = "",
        *,
        key: str,
        epoch: int = 0,
        labels: Collection[str] = (),
    ) -> Negative | None:
        """Return a wrong list, or None if none can be made.

        Args:
            abnormalities: The true list.
            report: The patient's report; what it states is not told as a mistake.
            key: Name of the sample.
            epoch: Another one may get another negative.
            labels: Names of labels that are known to be positive.

        Raises:
            ConfigError: If a region is unknown.
        """
        entries = [Abnormality(*entry) for entry in abnormalities]
        render_abnormalities(entries)  # names an unknown region
        rng = random.Random(f"{self.seed}/{key}/{epoch}/{self.strategy}")  # noqa: S311  (no secret)
        truth = Truth(entries, report, labels, self._labeler)
        if self.strategy == "insertion":
            return _inserted(entries, truth, rng, self.max_changes or 1)
        limit = self.max_changes or (1 if self.strategy == "omission" else len(entries))
        negative = _replaced(entries, truth, rng, self.strategy, limit)
        if negative is None and self.fallback == "insertion":
            return _inserted(entries, truth, rng, 1)
        return negative


def _replaced(
    entries: list[Abnormality], truth: Truth, rng: random.Random, strategy: Strategy, limit: int
) -> Negative | None:
    """Change up to ``limit`` entries, each to something that the list does not hold."""
    wrong: list[Abnormality | None] = list(entries)
    changes: dict[int, Change] = {}
    order = list(range(len(entries)))
    rng.shuffle(order)
    for index in order:
        if len(changes) == limit:
            break
        entry = entries[index]
        options = _absent(REPLACING[strategy](entry, truth), wrong)
        if options:
            wrong[index] = drawn = rng.choice(options)
            new = drawn or Abnormality(entry.region, "")
            changes[index] = Change(new.region, entry.text, new.text, strategy)
    return _negative([entry for entry in wrong if entry is not None], [changes[index] for index in sorted(changes)])


def _inserted(entries: list[Abnormality], truth: Truth, rng: random.Random, count: int) -> Negative | None:
    """Put entries in where their regions belong."""
    wrong: list[Abnormality] = list(entries)
    changes: list[Change] = []
    for _ in range(count):
        options = _absent(random_options(truth), wrong)
        drawn = rng.choice(options) if options else None
        if drawn is not None:
            wrong.insert(insertion_place(wrong, drawn.region, _ORDER), drawn)
            changes.append(Change(drawn.region, "", drawn.text, "insertion"))
    return _negative(wrong, changes)


def _absent(options: Iterable[Abnormality | None], present: Sequence[Abnormality | None]) -> Options:
    """Return the options that are not in the list yet."""
    return [option for option in options if option is None or option not in present]


def _negative(entries: Sequence[Abnormality], changes: Sequence[Change]) -> Negative | None:
    """Return the negative, or None if nothing was changed."""
    return Negative(render_abnormalities(entries), tuple(entries), tuple(changes)) if changes else None
