"""What a curriculum consists of: phases in order, each with its configuration and what it takes from others."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\{([\w-]+)\}")
_NAME = re.compile(r"[\w-]+")
_RESERVED = ("out", "here")
_SECTIONS = ("trainer", "model", "data")
"""What dotted options of ``ct-vlm fit`` begin with."""


@dataclass(frozen=True)
class Phase:
    """One phase: a training run (``config``) or the call of a function (``call``).

    Args:
        name: Also the name of its folder, and how later phases refer to its result.
        config: YAML file of ``ct-vlm fit``.
        call: Import path of a function; it runs again if it did not finish.
        options: Dotted name of an option (or argument of the function) to its value.
        monitor: Metric whose best checkpoint is the result; the last one without it.
        mode: ``max`` if higher is better.
        save_every: Steps from one resumable checkpoint to the next; each epoch unless given.
        common: Whether it also takes the ``options`` that the file gives for all training phases.
    """

    name: str
    config: str | None = None
    call: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    monitor: str | None = None
    mode: Literal["max", "min"] = "max"
    save_every: int | None = None
    common: bool = True

    def digest(self) -> str:
        """Return a digest of everything that decides what the phase does, beside the library."""
        text = "" if self.config is None else Path(self.config).read_text(encoding="utf-8")
        values = {**asdict(self), "config": text}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]

    def references(self) -> set[str]:
        """Return the names in braces that its options refer to."""
        return set(_REFERENCE.findall(json.dumps(self.options)))


def read_plan(file: Path, overrides: Mapping[str, Any] | None = None) -> list[Phase]:
    """Read the phases of a curriculum.

    Args:
        file: YAML file with ``phases`` and, optionally, ``options`` for all training phases.
        overrides: Options from the command line, which replace those of the file: of one phase where
            the name begins with it (``phase1.trainer.max_epochs``), else of every training phase,
            with ``common`` or without. A phase called ``trainer``, ``model`` or ``data`` has no such names.

    Raises:
        UsageError: If the file cannot be read, a phase is malformed or refers to none before it, or an
            override names no phase.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        cause = f"Cannot read `{file}`: {error}."
        raise UsageError(cause, "Name a YAML file with `phases`.") from error
    if not isinstance(values, dict) or not isinstance(values.get("phases"), list) or not values["phases"]:
        cause = f"`{file}` holds no list of `phases`."
        raise UsageError(cause, "See examples/configs/ker_vljepa_curriculum.yaml.")
    _check_keys(values, ("phases", "options"), f"`{file}`")
    common = values.get("options") or {}
    phases = [_phase(entry, number, file, common) for number, entry in enumerate(values["phases"], start=1)]
    phases = _overridden(phases, overrides or {})
    _check_references(phases)
    return phases


def resolve(value: Any, names: Mapping[str, str]) -> Any:
    """Put results in place of names in braces, in strings at any depth.

    Args:
        value: JSON value.
        names: Name to what stands for it.

    Example:
        >>> from ct_vlm.cli.curriculum.plan import resolve
        >>> resolve({"visual": "{phase1}#visual", "n": 3}, {"phase1": "runs/phase1/last.ckpt"})
        {'visual': 'runs/phase1/last.ckpt#visual', 'n': 3}
    """
    if isinstance(value, dict):
        return {key: resolve(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, names) for item in value]
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: names.get(found[1], found[0]), value)
    return value


def _phase(entry: Any, number: int, file: Path, common: Mapping[str, Any]) -> Phase:
    where = f"Phase {number} of `{file}`"
    if not isinstance(entry, dict) or not _NAME.fullmatch(str(entry.get("name", ""))):
        cause = f"{where} has no `name` of letters, digits, `_` and `-`."
        raise UsageError(cause, "Give every phase a name.")
    _check_keys(entry, tuple(Phase.__dataclass_fields__), where)
    if ("config" in entry) == ("call" in entry):
        cause = f"{where} ({entry['name']}) needs either `config` or `call`."
        raise UsageError(cause, "Name a YAML file of `ct-vlm fit`, or a function.")
    values = {key: value for key, value in entry.items() if value is not None}
    if "config" in values:
        path = Path(values["config"])
        values["config"] = str(path if path.is_absolute() else file.parent / path)
        if not Path(values["config"]).is_file():
            cause = f"{where} ({entry['name']}) names no file: `{values['config']}`."
            raise UsageError(cause, "Paths are relative to the curriculum's file.")
        shared = common if values.get("common", True) else {}
        values["options"] = {**shared, **values.get("options", {})}
    if values.get("mode", "max") not in ("max", "min"):
        cause = f"{where} has mode {values['mode']!r}."
        raise UsageError(cause, "Use 'max' or 'min'.")
    return Phase(**values)


def _overridden(phases: list[Phase], overrides: Mapping[str, Any]) -> list[Phase]:
    """Replace options of phases; what names a phase counts more than what does not."""
    names = [phase.name for phase in phases if phase.name not in _SECTIONS]
    general: dict[str, Any] = {}
    named: dict[str, dict[str, Any]] = {name: {} for name in names}
    for option, value in overrides.items():
        first, dot, rest = option.partition(".")
        if first in named and rest:
            named[first][rest] = value
        elif not dot or first in _SECTIONS:
            general[option] = value
        else:
            cause = f"`{option}` begins with neither a phase nor `trainer`, `model` or `data`."
            raise UsageError(cause, did_you_mean(first, [*names, *_SECTIONS]) or f"Phases are: {', '.join(names)}.")
    found = []
    for phase in phases:
        wanted = {**(general if phase.config else {}), **named.get(phase.name, {})}
        # last: an option within one that the phase sets as a whole must come after it
        kept = {option: value for option, value in phase.options.items() if option not in wanted}
        found.append(replace(phase, options={**kept, **wanted}))
    return found


def _check_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in values:
        if key not in names:
            cause = f"{where} has no key `{key}`."
            raise UsageError(cause, did_you_mean(str(key), names) or f"Keys are: {', '.join(names)}.")


def _check_references(phases: list[Phase]) -> None:
    before: list[str] = []
    for phase in phases:
        if phase.name in before or phase.name in _RESERVED:
            cause = f"The name `{phase.name}` is taken."
            raise UsageError(cause, "Give every phase a name of its own.")
        for name in sorted(phase.references() - set(before) - set(_RESERVED)):
            cause = f"Phase `{phase.name}` refers to `{name}`, which no phase before it is called."
            raise UsageError(cause, did_you_mean(name, before) or f"Phases before it: {', '.join(before) or 'none'}.")
        before.append(phase.name)
