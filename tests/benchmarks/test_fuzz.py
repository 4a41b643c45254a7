import numpy as np

from benchmarks.fuzz.__main__ import FAILURES, fuzz, main
from benchmarks.fuzz.mutations import MUTATIONS, Case, make_case
from benchmarks.fuzz.verdict import judge
from benchmarks.fuzz.worker import healthy, results


def test_every_kind_of_damage_ends_well(tmp_path) -> None:
    found = list(results(tmp_path, 0, 20 * len(MUTATIONS), seed=7))
    assert {record["kind"] for record in found} == {mutation.__name__ for mutation in MUTATIONS}
    assert [record for record in found if record["outcome"] in FAILURES] == []
    assert {record["outcome"] for record in found} == {"refused", "read"}


def test_cases_depend_on_seed_and_number() -> None:
    scan = healthy()
    assert make_case(5, 1, scan) == make_case(5, 1, scan) != make_case(5, 2, scan)


def test_the_healthy_file_is_read(tmp_path) -> None:
    scan = healthy()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(scan.raw)
    assert judge(path, Case("none", scan.raw, scan.raw)) == ("read", "")


def test_a_wrong_volume_is_seen(tmp_path) -> None:
    scan = healthy()
    other = bytearray(scan.raw)
    other[-2:] = np.int16(900).tobytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(scan.raw)
    outcome, detail = judge(path, Case("none", scan.raw, bytes(other)))
    assert outcome == "wrong"
    assert "differs" in detail
    assert judge(path, Case("none", scan.raw, None))[0] == "wrong"


def test_a_process_that_dies_is_counted_and_replaced(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("benchmarks.fuzz.__main__.sys.executable", "false")
    found = fuzz(2, 0, 10.0)
    assert [record["outcome"] for record in found] == ["crash", "crash"]


def test_command_line(capsys) -> None:
    assert main(["--files", "33"]) == 0
    assert "33 files, 0 failures" in capsys.readouterr().out
