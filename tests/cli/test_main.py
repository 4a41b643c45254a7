"""Dispatch, exit codes and messages of `ct-vlm`."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from ct_vlm import __version__
from ct_vlm.cli import main
from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.main import COMMANDS
from ct_vlm.errors import CTVLMError, HUError


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch):
    """Let `ct-vlm env` run a given function, and return what it was called with."""

    def install(action, *, passthrough: bool = False) -> list:
        seen: list = []

        def run(args):
            seen.append(args)
            return action()

        def add_arguments(parser) -> None:
            parser.add_argument("--count", type=int, default=1)

        module = types.SimpleNamespace(__doc__="Fake.", add_arguments=add_arguments, run=run)
        monkeypatch.setitem(sys.modules, "ct_vlm.cli.env", module)
        monkeypatch.setitem(COMMANDS, "env", COMMANDS["env"]._replace(passthrough=passthrough))
        return seen

    return install


def raising(error: BaseException):
    def action():
        raise error

    return action


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    without = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == without
    assert all(f"  {name} " in without or f"  {name}\n" in without for name in COMMANDS)
    assert "exit codes" in without


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ct_vlm {__version__}\n"


def test_module_runs_as_a_program() -> None:
    ended = subprocess.run([sys.executable, "-m", "ct_vlm", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in ended.stdout


def test_mistyped_command_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genrate"]) == 2
    assert "Did you mean `generate`?" in capsys.readouterr().err


def test_unlike_command_gets_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qqq"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean" not in error
    assert all(name in error for name in COMMANDS)


def test_mistyped_option_gets_the_nearest_one(fake_command, capsys: pytest.CaptureFixture[str]) -> None:
    seen = fake_command(lambda: 0)
    assert main(["env", "--cuont", "3"]) == 2
    assert "Did you mean `--count`?" in capsys.readouterr().err
    assert seen == []


def test_options_reach_the_command_and_its_code_comes_back(fake_command) -> None:
    seen = fake_command(lambda: 7)
    assert main(["env", "--count", "3"]) == 7
    assert seen[0].count == 3


def test_passthrough_command_gets_raw_arguments(fake_command) -> None:
    seen = fake_command(lambda: 0, passthrough=True)
    assert main(["env", "--any=1", "--debug", "x"]) == 0
    assert seen == [["env", "--any=1", "x"]]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CTVLMError("The cause.", "The cure."), 1),
        (HUError("The cause.", "The cure."), 1),
        (UsageError("The cause.", "The cure."), 2),
        (OSError("The cause. The cure."), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_give_cause_and_cure_without_traceback(fake_command, capsys, error: Exception, code: int) -> None:
    fake_command(raising(error))
    assert main(["env"]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: The cause.")
    assert "The cure." in output.err
    assert "Traceback" not in output.err


def test_debug_shows_the_traceback(fake_command, capsys: pytest.CaptureFixture[str]) -> None:
    fake_command(raising(CTVLMError("The cause.", "The cure.")))
    assert main(["env", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_has_its_own_code(fake_command, capsys: pytest.CaptureFixture[str]) -> None:
    fake_command(raising(KeyboardInterrupt()))
    assert main(["env"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_bugs_keep_their_traceback(fake_command) -> None:
    fake_command(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["env"])


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.passthrough])
def test_every_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: ct-vlm {name}")
