import csv
import json

import pytest

from ct_vlm.cli import main

IDS = ("valid_1_a_1", "valid_1_a_2", "valid_2_a_1", "valid_3_a_1")
REPORTS = (
    "Heart size increased. No pleural effusion was observed.",
    "There are calcific plaques in the coronary arteries.",
    "A 5 mm nodule is seen in the right upper lobe.",
    "Bilateral pleural effusion is present.",
)
WRITTEN = ("Heart size increased. Pleural effusion was observed.", "Heart size is normal.", REPORTS[2], None)


@pytest.fixture
def files(tmp_path):
    """Write predictions of two systems and references, as CSV."""
    tables = {"ours": WRITTEN, "theirs": REPORTS[::-1], "references": REPORTS}
    for name, texts in tables.items():
        head = ["VolumeName", "Findings_EN" if name == "references" else "prediction"]
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([head, *zip(IDS, texts, strict=True)])
    return tmp_path


def evaluate(files, *more: str) -> int:
    common = ["--references", str(files / "references.csv"), "--out", str(files / "out"), "--metrics", "bleu,rouge"]
    return main(["evaluate", "--predictions", str(files / "ours.csv"), *common, "--resamples", "20", *more])


def test_scores_cases_and_page_are_written(files, capsys) -> None:
    assert evaluate(files) == 0
    found = json.loads((files / "out" / "metrics.json").read_text())
    assert found["nlg"]["missing_predictions"] == 1
    assert found["inputs"]["predictions"]["file"].endswith("ours.csv")
    assert len(found["inputs"]["references"]["sha256"]) == 64
    with (files / "out" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == list(IDS)
    assert rows[0]["invented"] == "Pleural effusion"
    assert "Worst cases" in (files / "out" / "report.html").read_text()
    printed = capsys.readouterr().out
    assert f"{found['clinical']['micro_f1']:.3f} [" in printed
    assert "4 reports of 3 patients, 1 missing; protocol vlm3d, labels rules against rules" in printed


def test_comparison_and_challenge_export(files, capsys) -> None:
    path = files / "complete.csv"
    path.write_text((files / "ours.csv").read_text().replace(f"{IDS[3]},", f"{IDS[3]},Normal."))
    more = ["--compare", str(files / "theirs.csv"), "--permutations", "10", "--export-vlm3d", str(files / "v.json")]
    assert main(["evaluate", "--predictions", str(path), "--references", str(files / "references.csv"), "--out",
                 str(files / "out"), "--metrics", "bleu", "--resamples", "20", *more]) == 0  # fmt: skip
    found = json.loads((files / "out" / "metrics.json").read_text())
    difference = found["comparison"]["difference"]["micro_f1"]["value"]
    assert difference == pytest.approx(found["clinical"]["micro_f1"] - found["compared"]["clinical"]["micro_f1"])
    assert len(json.loads((files / "v.json").read_text())["generated_reports"]) == 4
    assert "difference" in capsys.readouterr().out


def test_references_may_stand_in_the_file_of_the_predictions(tmp_path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("volume_id,prediction,reference\na,No nodule.,Heart size increased.\nb,Nodule.,Nodule.\n")
    out = tmp_path / "out"
    assert (
        main(["evaluate", "--predictions", str(path), "--out", str(out), "--metrics", "bleu", "--resamples", "0"]) == 0
    )
    assert json.loads((out / "metrics.json").read_text())["num_reports"] == 2


def test_no_references_is_an_error_with_a_cure(files, capsys) -> None:
    assert main(["evaluate", "--predictions", str(files / "ours.csv"), "--out", str(files / "out")]) == 1
    assert "--references" in capsys.readouterr().err
    assert not (files / "out").exists()


def test_a_reliance_study_gets_its_plot(files, capsys) -> None:
    study = files / "reliance.json"
    study.write_text(json.dumps({"real": 0.5, "other_patient": 0.1}))
    assert evaluate(files, "--reliance", str(study)) == 0
    assert "Visual reliance" in (files / "out" / "report.html").read_text()
    found = json.loads((files / "out" / "metrics.json").read_text())
    assert found["reliance"]["reliance"]["other_patient"]["score"]["value"] == pytest.approx(0.8)
    study.write_text("[]")
    assert evaluate(files, "--reliance", str(study)) == 1
    assert "no visual-reliance study" in capsys.readouterr().err


def test_input_files_stay_as_they_are(files) -> None:
    before = {path: path.read_bytes() for path in files.glob("*.csv")}
    assert evaluate(files) == 0
    assert before == {path: path.read_bytes() for path in files.glob("*.csv")}


def test_a_system_beside_itself_has_two_names(files, capsys) -> None:
    assert evaluate(files, "--compare", str(files / "ours.csv"), "--permutations", "0", "--scorers", "green") == 0
    printed = capsys.readouterr().out
    assert printed.count("4 reports of 3 patients") == 2
    assert "not computed: green: " in printed


def test_baselines_regions_and_probabilities_are_printed(files, capsys) -> None:
    from ct_vlm.text.labels import CT_RATE_LABELS

    train = files / "train.csv"
    train.write_text("VolumeName,Findings_EN\ntrain_1_a_1,Heart size increased.\ntrain_2_a_1,No nodule.\n")
    scores = files / "scores.csv"
    rows = [",".join(["VolumeName", *CT_RATE_LABELS]), *(",".join([name, *["0.7"] * 18]) for name in IDS)]
    scores.write_text("\n".join(rows))
    more = ["--train-reports", str(train), "--regions", "six", "--scores", str(scores), "--calibration", "oracle"]
    assert evaluate(files, *more) == 0
    printed = capsys.readouterr().out
    for expected in ("Baselines, to beat", "template (oracle)", "regions: mean micro F1", "fixed thresholds",
                     "oracle thresholds"):  # fmt: skip
        assert expected in printed
    assert "calibrated thresholds" not in printed


def test_a_table_with_semicolons_is_named(files, capsys) -> None:
    path = files / "excel.csv"
    path.write_text("id;prediction\na;x\n")
    assert main(["evaluate", "--predictions", str(path), "--references", str(files / "references.csv")]) == 1
    assert "separated by semicolons" in capsys.readouterr().err


def test_headings_of_regions_are_taken_out_on_request(files) -> None:
    texts = ["Lung: A nodule is seen.\nHeart: Heart size is normal.", "Lung: Lungs are clear."]
    with (files / "ours.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["VolumeName", "prediction"], *zip(IDS[1:3], texts, strict=True)])
    with (files / "references.csv").open("w", newline="") as stream:
        rows = zip(IDS[1:3], ("A nodule is seen. Heart size is normal.", "Lungs are clear."), strict=True)
        csv.writer(stream).writerows([["VolumeName", "Findings_EN"], *rows])
    scores = []
    for more in ((), ("--strip-region-headings",)):
        assert evaluate(files, "--metrics", "bleu", "--resamples", "0", *more) == 0
        scores.append(json.loads((files / "out" / "metrics.json").read_text())["nlg"]["bleu_1"])
    assert scores[0] < 0.9
    assert scores[1] == pytest.approx(1.0)
