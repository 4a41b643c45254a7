"""Parse the command line, call one command and turn errors into messages."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ct_vlm import __version__
from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import complain
from ct_vlm.cli.suggest import did_you_mean
from ct_vlm.errors import CTVLMError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = """\
Build, train and use 3D vision-language models that write chest-CT reports.

first minute:
  ct-vlm demo                                        phantoms -> three training stages -> reports -> scores
  ct-vlm generate --checkpoint DIR --volume CT.nii.gz   write the report of one scan"""
_EPILOG = """\
`ct-vlm COMMAND --help` shows a command's options; `--debug` shows full tracebacks.
exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 130 interrupted"""


class Command(NamedTuple):
    """Where a command lives and what the overview says of it.

    A command's module offers ``add_arguments(parser)`` and ``run(args) -> int``. A ``passthrough``
    command gets its arguments unparsed, as ``run(argv) -> int``. A command with ``user_code`` may
    import modules of the current folder, which a configuration or a checkpoint names.
    """

    module: str
    help: str
    passthrough: bool = False
    user_code: bool = False


COMMANDS = {
    "demo": Command("ct_vlm.cli.demo", "train, write reports and score them on phantoms; no download"),
    "phantoms": Command("ct_vlm.cli.phantoms", "write synthetic chest CTs with masks and reports"),
    "audit": Command("ct_vlm.cli.audit", "check a CT-RATE or RadGenome-ChestCT download; changes nothing"),
    "preprocess": Command("ct_vlm.cli.preprocess", "fill the cache of preprocessed volumes"),
    "embed": Command("ct_vlm.cli.embed", "write one embedding a slice for training without voxels", user_code=True),
    "shards": Command("ct_vlm.cli.shards", "write preprocessed volumes for reading from an object store"),
    "cache": Command("ct_vlm.cli.cache", "verify, clean or count a cache"),
    "fit": Command("ct_vlm.cli.trainer", "train a model described by a YAML file", passthrough=True, user_code=True),
    "curriculum": Command("ct_vlm.cli.curriculum", "train in phases that build on each other; resumes", user_code=True),
    "validate": Command("ct_vlm.cli.trainer", "run the validation split", passthrough=True, user_code=True),
    "test": Command("ct_vlm.cli.trainer", "run the test split", passthrough=True, user_code=True),
    "predict": Command("ct_vlm.cli.trainer", "write reports for a data module", passthrough=True, user_code=True),
    "generate": Command("ct_vlm.cli.generate", "write the report of one volume from a checkpoint", user_code=True),
    "evaluate": Command(
        "ct_vlm.cli.evaluate", "score report files, compare systems, write an HTML report", user_code=True
    ),
    "attributes": Command("ct_vlm.cli.attributes", "measure organs and lesions of a scan from its masks"),
    "video": Command("ct_vlm.cli.video", "write a scan as a film (MP4) and measure what that costs in HU"),
    "preferences": Command("ct_vlm.cli.preferences", "write pairs of true and wrong lists of abnormalities for DPO"),
    "list": Command("ct_vlm.cli.list_parts", "list components, models and presets"),
    "env": Command("ct_vlm.cli.env", "show versions, devices and optional packages"),
}


class _Parser(argparse.ArgumentParser):
    """An argument parser that answers a mistyped command or option with the nearest one."""

    def error(self, message: str) -> NoReturn:
        """Print the usage line, the message and a suggestion, then exit with code 2."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {message}\n{self._suggestion(message)}")

    def _suggestion(self, message: str) -> str:
        if not message.startswith("unrecognized arguments:"):
            return ""
        typed = message.split(": ", 1)[1].split(maxsplit=1)[0].split("=", maxsplit=1)[0]
        hint = did_you_mean(typed, list(self._option_string_actions))
        return f"{hint}\n" if hint else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ct-vlm``.

    Args:
        argv: Arguments without the program name; by default those of the process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong command line or configuration, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _dispatch(arguments)
    except SystemExit as stop:  # argparse ends so; a caller of `main` gets the code instead
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except CTVLMError as error:
        _report(error, debug=debug)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except OSError as error:  # a full disk or a folder without permission is no bug of ours
        _report(CTVLMError(str(error)), debug=debug)
        return EXIT_FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    """Import the named command's module and run it."""
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    if name and name not in COMMANDS:
        complain(f"error: no command `{name}`. {did_you_mean(name, list(COMMANDS))}".rstrip())
        complain(f"Commands: {', '.join(COMMANDS)}.")
        return EXIT_USAGE
    command = COMMANDS.get(name)
    if command is None or arguments[0] != name:
        parser = _overview()
        parser.parse_args(arguments)
        parser.print_help()
        return EXIT_OK
    if command.user_code:
        _see_current_folder()
    module = importlib.import_module(command.module)
    if command.passthrough:
        return int(module.run(arguments))
    parser = _Parser(
        prog=f"ct-vlm {name}",
        description=(module.__doc__ or command.help).strip(),
        epilog="`--debug` shows full tracebacks.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(arguments[1:])))


def _see_current_folder() -> None:
    """Let imports find modules of the current folder, last, so that none hides an installed package."""
    # `python -m` does so by itself, a console script does not
    folder = os.getcwd()  # noqa: PTH109 (`sys.path` holds strings)
    if not {"", folder} & set(sys.path):
        sys.path.append(folder)


def _overview() -> argparse.ArgumentParser:
    """Build the parser that only knows the commands' names and the version."""
    parser = _Parser(
        prog="ct-vlm",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=16),
    )
    parser.add_argument("--version", action="version", version=f"ct_vlm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    return parser


def _report(error: CTVLMError, *, debug: bool) -> None:
    """Print cause and cure on stderr, with the traceback on request."""
    if debug:
        traceback.print_exc()
    complain(f"error: {error.cause}")
    if error.cure:
        complain(error.cure)
