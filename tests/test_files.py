"""Atomic writing: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ct_vlm.files import atomic_path, write_json


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_exception_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_exception_without_an_old_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.json"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["scan.nii.gz", "weights.safetensors", "plain"])
def test_temporary_name_keeps_the_suffixes(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.suffixes == Path(name).suffixes
        assert temporary.parent == tmp_path


def test_version_like_dots_in_a_name_are_harmless(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "run.v1.2.json") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "run.v1.2.json").read_text() == "x"


def test_file_gets_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    with atomic_path(tmp_path / "ours") as temporary:
        temporary.write_text("")
    assert (tmp_path / "ours").stat().st_mode == ordinary.stat().st_mode


def test_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    script = (
        "import os, signal, sys\n"
        "from ct_vlm.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    ended = subprocess.run([sys.executable, "-c", script, str(target)], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_absent_folder_raises_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "absent" / "a.json"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("name", ["Akciğer", "caf\udce9", 'a "quote"\n'])
def test_json_is_read_back_as_it_was(tmp_path: Path, name: str) -> None:
    target = tmp_path / "new" / "folder" / "a.json"
    write_json(target, {name: [1, None]})
    assert json.loads(target.read_text(encoding="utf-8")) == {name: [1, None]}


def test_values_that_are_no_json_leave_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, [1])
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(target, [object()])
    assert json.loads(target.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [target]
