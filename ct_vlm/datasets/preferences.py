"""Pairs of a better and a worse answer, in files that TRL reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Form = Literal["plain", "conversational"]
"""How a file writes its texts: as strings, or as chat messages with a role."""

_ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


@dataclass(frozen=True)
class Change:
    """What tells a wrong list of abnormalities from the true one, at one place.

    Args:
        region: Region of the entry.
        old: Abnormality before; "" for one that was put in.
        new: Abnormality after; "" for one that was left out.
        strategy: What kind of change it is, e.g. ``"confusion"``.
    """

    region: str
    old: str
    new: str
    strategy: str


@dataclass(frozen=True)
class PreferencePair:
    """A better and a worse answer to one prompt about one volume.

    Args:
        id: Volume. Several pairs may be about one.
        prompt: Instruction.
        chosen: The better answer.
        rejected: The worse one.
        changes: What was changed to make the worse one, where it is known.

    Raises:
        DatasetError: If a text is blank or both answers are the same.

    Example:
        >>> from ct_vlm.datasets.preferences import PreferencePair
        >>> pair = PreferencePair("a_1", "List the abnormalities.", "(Lung: A nodule.)", "(Lung: A mass.)")
        >>> PreferencePair.from_row(pair.to_row("conversational")) == pair
        True
    """

    id: str
    prompt: str
    chosen: str
    rejected: str
    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        """Check the texts."""
        blank = [name for name in ("id", *_ROLES) if not str(getattr(self, name)).strip()]
        if blank:
            cause = f"The pair of {self.id!r} has no text for {', '.join(map(repr, blank))}."
            raise DatasetError(cause, "Leave such a pair out, or correct the file.")
        if self.chosen == self.rejected:
            cause = f"The pair of {self.id!r} has the same text as `chosen` and `rejected`: {self.chosen[:60]!r}."
            raise DatasetError(cause, "Leave such a pair out; nothing can be learned from it.")

    def to_row(self, form: Form = "conversational") -> dict[str, Any]:
        """Return the pair as JSON values, with TRL's columns prompt, chosen and rejected.

        Args:
            form: ``"plain"`` for strings, ``"conversational"`` for lists of one message each.

        Raises:
            ConfigError: If ``form`` is unknown.
        """
        check_form(form)
        texts = {name: getattr(self, name) for name in _ROLES}
        if form == "conversational":
            texts = {name: [{"role": role, "content": texts[name]}] for name, role in _ROLES.items()}
        return {"id": self.id, **texts, "changes": [asdict(change) for change in self.changes]}

    @classmethod
    def from_row(cls, row: Any) -> PreferencePair:
        """Return the pair of a row in either form.

        Args:
            row: ``id``, ``prompt``, ``chosen``, ``rejected`` and optionally ``changes``; more
                columns are not looked at.

        Raises:
            DatasetError: If a column is absent or malformed.
        """
        if not isinstance(row, dict):
            cause = f"Expected an object with the columns id, {', '.join(_ROLES)}, but got {str(row)[:60]!r}."
            raise DatasetError(cause, "Write the file with `write_preferences`.")
        texts = {name: _text(row, name, role) for name, role in _ROLES.items()}
        name = row.get("id")
        if not isinstance(name, str):
            cause = f"`id` is {name!r}, not the name of a volume."
            raise DatasetError(cause, "Add a column `id` with the name of each pair's volume.")
        return cls(id=name, **texts, changes=_changes(row.get("changes")))


def write_preferences(pairs: Iterable[PreferencePair], path: str | Path, form: Form = "conversational") -> int:
    """Write pairs as JSON lines; a file that exists is replaced only when all are written.

    Args:
        pairs: The pairs.
        path: The file; ``datasets`` and TRL recognise ``.jsonl``.
        form: ``"plain"`` for strings, ``"conversational"`` for messages.

    Returns:
        How many pairs were written.

    Raises:
        ConfigError: If ``form`` is unknown.
    """
    check_form(form)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(pair.to_row(form), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_preferences(path: str | Path) -> list[PreferencePair]:
    r"""Read pairs of either form from JSON lines.

    Args:
        path: The file.

    Raises:
        DatasetError: If the file cannot be read or is empty, a line is malformed, or two lines are
            the same pair.

    Example:
        >>> import tempfile, pathlib
        >>> from ct_vlm.datasets.preferences import PreferencePair, read_preferences, write_preferences
        >>> pair = PreferencePair("a_1", "List the abnormalities.", "(Lung: A nodule.)", "(Lung: A mass.)")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "pairs.jsonl")
        ...     _ = write_preferences([pair], file, "plain")
        ...     read_preferences(file) == [pair]
        True
    """
    pairs: list[PreferencePair] = []
    lines: dict[tuple[str, str, str, str], int] = {}
    for number, row in _rows(Path(path)):
        try:
            pair = PreferencePair.from_row(row)
        except DatasetError as error:
            cause = f"Line {number} of `{path}`: {error.cause}"
            raise DatasetError(cause, error.cure) from error
        before = lines.setdefault((pair.id, pair.prompt, pair.chosen, pair.rejected), number)
        if before != number:
            cause = f"Lines {before} and {number} of `{path}` are the same pair, of {pair.id!r}."
            raise DatasetError(cause, "Delete one of them.")
        pairs.append(pair)
    if not pairs:
        cause = f"`{path}` holds no pairs."
        raise DatasetError(cause, "Write it with `ct-vlm preferences`.")
    return pairs


def check_form(form: str) -> None:
    """Raise unless a form is known.

    Args:
        form: ``"plain"`` or ``"conversational"``.

    Raises:
        ConfigError: If it is neither.
    """
    if form not in get_args(Form):
        cause = f"Unknown form of preference files {form!r}."
        raise ConfigError(cause, f"Choose from: {', '.join(get_args(Form))}.")


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and content of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json.loads(line)
    except json.JSONDecodeError as error:
        cause = f"Line {number} of `{path}` is no JSON: {error.msg}."
        raise DatasetError(cause, "The file should hold one JSON object a line.") from error
    except (OSError, UnicodeDecodeError) as error:
        cause = f"Cannot read the pairs `{path}`: {error}."
        raise DatasetError(cause, "Check the path; the file should be JSON lines in UTF-8.") from error


def _text(row: dict[str, Any], name: str, role: str) -> str:
    """Return the text of a column: a string, or a list of one message of its role."""
    value = row.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and value[0].get("role") == role:
        content = value[0].get("content")
        if isinstance(content, str):
            return content
    cause = f"`{name}` is neither text nor one message of the {role}: {str(value)[:80]!r}."
    raise DatasetError(cause, f'Write a string, or [{{"role": "{role}", "content": "..."}}].')


def _changes(value: Any) -> tuple[Change, ...]:
    """Return the changes of a row."""
    if value is None:
        return ()
    try:
        changes = tuple(Change(**item) for item in value)
    except TypeError as error:
        cause = f"`changes` is malformed: {str(value)[:80]!r}."
        raise DatasetError(cause, "Each change has region, old, new and strategy; or leave the column out.") from error
    if not all(isinstance(text, str) for change in changes for text in asdict(change).values()):
        cause = f"`changes` holds something else than text: {str(value)[:80]!r}."
        raise DatasetError(cause, "Each change has region, old, new and strategy; or leave the column out.")
    return changes
