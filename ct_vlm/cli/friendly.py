"""Turn the configuration parser's nested messages into one sentence with a suggestion."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.suggest import did_you_mean
from ct_vlm.component import import_object
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_UNION_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value( type)?:|Expected a (<class 'NoneType'>|path but)"
)
_STRAY = re.compile(r"does not accept option '([^']+)'|unrecognized arguments: -*([^\s=]+)")
_BLOCK_KEYS = ("class_path", "init_args", "dict_kwargs")


def explain(message: str, class_names: Sequence[str], options: Sequence[str] = ()) -> UsageError:
    """Turn a parser message into an error that names the key, the class and the nearest name.

    Args:
        message: What the configuration parser said.
        class_names: Short names of the classes that a configuration may use.
        options: Names of the subcommand's options, such as ``trainer.max_epochs``.

    Returns:
        The error, to be raised.

    Example:
        >>> text = 'Parser key "model": Expected a dot import path string: UNett'
        >>> str(explain(text, ["UNet"]))
        '`model`: no class `UNett`. Did you mean `UNet`?'
    """
    key = ".".join(_KEY.findall(message))
    where = f"`{key}`: " if key else ""
    classes = _CLASS.findall(message)
    owner = classes[-1] if classes else ""
    if unknown := re.search(r"Option '([^']+)' is not accepted", message):
        return _unknown_argument(where, owner, unknown[1])
    if stray := _STRAY.search(message):
        typed = next(name for name in stray.groups() if name)
        return UsageError(f"{where}no option `{typed}`.", did_you_mean(typed, options))
    if missing_class := re.search(r"Expected a dot import path string: (\S+)", message):
        name = missing_class[1]
        hint = did_you_mean(name.rpartition(".")[2], class_names) or "Run `ct-vlm list components` for the known ones."
        return UsageError(f"{where}no class `{name}`.", hint)
    if required := re.search(r"the following arguments are required: (.+)", message):
        subject = f"`{owner}` needs" if owner else "missing:"
        return UsageError(f"{where}{subject} `{required[1].strip()}`.", "Add it under `init_args`, or as an option.")
    return UsageError(f"{where}{_innermost(message)}", "Run with `--debug` for the parser's full message.")


def _unknown_argument(where: str, owner: str, typed: str) -> UsageError:
    """Name the class that refused an argument, and the arguments it takes."""
    first = typed.split(".", maxsplit=1)[0]
    known = [*_argument_names(owner), *(_BLOCK_KEYS if "." in typed else ())]
    hint = did_you_mean(first, known)
    short = owner.rpartition(".")[2]
    subject = f"`{short}` has no argument" if short else "no option"
    cure = " ".join(part for part in (hint, f"Known: {', '.join(known)}." if known else "") if part)
    return UsageError(f"{where}{subject} `{first}`.", cure)


def _argument_names(class_path: str) -> list[str]:
    try:
        target = import_object(class_path)
    except ConfigError:
        return []
    hidden = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, parameter in inspect.signature(target).parameters.items() if parameter.kind not in hidden]


def _innermost(message: str) -> str:
    """Return the most indented lines that say something."""
    lines = [line for line in message.splitlines() if line.strip() and not _UNION_NOISE.search(line)]
    if not lines:
        return message.strip()
    deepest = max(len(line) - len(line.lstrip()) for line in lines)
    kept = [line.strip(" -") for line in lines if len(line) - len(line.lstrip()) == deepest]
    return " ".join(_KEY.sub("", line).lstrip(": ") for line in kept)
