"""`ct-vlm audit`: exit codes, tables and outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ct_vlm.cli import main
from ct_vlm.datasets.audit import AuditReport

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A tree of one volume, which is empty."""
    scan = tmp_path / "data/dataset/valid_fixed/valid_1/valid_1_a/valid_1_a_1.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()
    return tmp_path / "data"


def test_errors_are_shown_with_their_cure_and_give_exit_code_1(broken: Path, capsys: Capture) -> None:
    assert main(["audit", str(broken)]) == 1
    shown = capsys.readouterr().out
    assert "error tree.empty_file (1): The file has zero bytes.\n" in shown
    assert "    dataset/valid_fixed/valid_1/valid_1_a/valid_1_a_1.nii.gz\n    cure: Download the file again" in shown
    assert "3,039" in shown


def test_a_tree_without_errors_gives_exit_code_0(broken: Path, capsys: Capture) -> None:
    next(broken.rglob("*.nii.gz")).unlink()
    assert main(["audit", str(broken)]) == 0
    assert "0 error" in capsys.readouterr().out
    assert main(["audit", str(broken), "--expect", "full"]) == 1


def test_only_the_first_findings_of_a_code_are_shown(broken: Path, capsys: Capture, tmp_path: Path) -> None:
    for number in range(2, 9):
        (broken / f"dataset/valid_fixed/valid_{number}_a_1.nii.gz").touch()
    json_file = tmp_path / "report.json"
    assert main(["audit", str(broken), "--show", "2", "--json", str(json_file)]) == 1
    shown = capsys.readouterr().out
    assert "error tree.empty_file (8)" in shown
    assert "and 6 more" in shown
    report = AuditReport.from_json(json.loads(json_file.read_text()))
    assert report.count_by_code()["tree.empty_file"] == 8


def test_reports_are_written_elsewhere_and_never_into_the_tree(broken: Path, capsys: Capture, tmp_path: Path) -> None:
    before = sorted(broken.rglob("*"))
    assert main(["audit", str(broken), "--html", str(tmp_path / "report.html")]) == 1
    assert "tree.empty_file" in (tmp_path / "report.html").read_text()
    for option, name in (("--html", "report.html"), ("--json", "dataset/report.json")):
        assert main(["audit", str(broken), option, str(broken / name)]) == 2
        assert "never writes" in capsys.readouterr().err
    assert main(["audit", str(broken), "--json", str(tmp_path / "absent/report.json")]) == 2
    assert sorted(broken.rglob("*")) == before


def test_deep_and_workers_are_passed_on(tree: Path, capsys: Capture) -> None:
    code = main(["audit", str(tree), "--deep", "--workers", "1", "--layout", "ct_rate", "--no-progress"])
    assert code == 0
    assert "4 headers and 4 volumes read" in capsys.readouterr().out


def test_what_is_no_data_set_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    assert main(["audit", str(tmp_path)]) == 1
    assert "Pass the folder that holds `dataset/`" in capsys.readouterr().err
    assert main(["audit"]) == 2


def test_help_loads_nothing_heavy() -> None:
    script = "import sys; from ct_vlm.cli import main; main(['audit', '--help']); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
