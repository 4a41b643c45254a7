"""Questions out of the tables: grouping, wording, policies, and items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch

from ct_vlm.datasets import RadGenomeVQA
from ct_vlm.datasets.radgenome import TASKS, TEMPLATES, RadGenomeLayout, RadGenomeReport, read_questions
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.transforms import FlipSafeAugmentation

if TYPE_CHECKING:
    from ct_vlm.phantoms import PhantomManifest

NAME = "train_1_a_1"
LOBE = "lung/lung/right lung/right lung upper lobe"


def write(manifest: PhantomManifest, kind: str, rows: list[list[str]]) -> None:
    path = manifest.root / f"dataset/radgenome_files/train_{kind}.csv"
    columns = pd.read_csv(path, nrows=0).columns
    pd.DataFrame([[f"{NAME}.nii.gz", *row] for row in rows], columns=columns).to_csv(path, index=False)


def ask(manifest: PhantomManifest, task: str) -> tuple[list[tuple[str, ...]], RadGenomeReport]:
    report = RadGenomeReport("", "train", "preprocessed")
    questions = read_questions(RadGenomeLayout(manifest.root), "train", task, report)
    return [question[2:] for question in questions], report


def test_rows_about_one_thing_make_one_question(copied: PhantomManifest) -> None:
    write(copied, "vqa_abnormality", [["lung", "nodule"], ["lung", "cyst"], ["heart", "effusion"], ["lung", "cyst"]])
    questions, report = ask(copied, "abnormality")
    assert questions == [("lung", "", "nodule, cyst"), ("heart", "", "effusion")]
    assert report.duplicate_rows == [NAME]
    write(copied, "vqa_location", [[LOBE, "nodule"], ["pleura/pleura", "effusion"], ["lung/lung/left lung", "nodule"]])
    assert ask(copied, "location")[0] == [
        ("whole", "nodule", "right lung upper lobe, left lung"),
        ("whole", "effusion", "pleura"),
    ]
    write(copied, "vqa_size", [[LOBE, "nodule", "6x4 mm"], [LOBE, "nodule", "2 cm"]])
    assert ask(copied, "size")[0] == [(LOBE, "nodule", "6x4 mm, 2 cm")]
    write(copied, "case_disorders", [["nodule, effusion"]])
    assert ask(copied, "disorder")[0] == [("whole", "", "nodule, effusion")]


def test_answers_that_cannot_be_used_are_left_out_and_listed(copied: PhantomManifest) -> None:
    rows = [["lung", "nodule", "Yes."], ["lung", "nodule", "No."], ["heart", "effusion", "maybe"], ["lung", "", "Yes."],
            ["pleura", "effusion", "No."]]  # fmt: skip
    write(copied, "vqa_presence", rows)
    questions, report = ask(copied, "presence")
    assert questions == [("pleura", "effusion", "No.")]
    assert report.conflicting_rows == [f"{NAME}: nodule in lung"]
    assert report.blank_sentences == [f"{NAME}: presence"] * 2
    assert report.rows == 5


def test_report_questions_are_the_top_level_rows(sound: PhantomManifest) -> None:
    questions = read_questions(RadGenomeLayout(sound.root), "train", "report")
    own = {question.anatomy: question.answer for question in questions if question.volume_id == NAME}
    assert own == sound.volumes[0].region_reports


def test_items_hold_question_answer_and_scan(sound: PhantomManifest, open_tree: Any) -> None:
    data = open_tree(sound)
    asked = RadGenomeVQA(data, ["presence", "size"])
    assert len(asked) == len(asked.questions) > 10
    item = asked[0]
    assert item["prompt"] == f"Is there {item['subject']} in the {item['anatomy'].rpartition('/')[2]}?"
    assert item["answer"] in {"Yes.", "No."}
    place = [sample.name.volume_id for sample in data.samples].index(item["volume_id"])
    assert torch.equal(item["region_masks"], data[place]["region_masks"])
    assert item["report"] == data[place]["report"]
    assert {asked.record(index)["task"] for index in range(len(asked))} == {"presence", "size"}
    assert asked.reports["presence"].samples + asked.reports["size"].samples == len(asked)


def test_answers_can_be_the_target(sound: PhantomManifest, open_tree: Any) -> None:
    asked = RadGenomeVQA(open_tree(sound, text=None), ["disorder"], answer_key="report", volumes=False)
    assert "image" not in asked[0]
    assert asked[0]["report"].split(", ")[0] in {label.lower() for v in sound.volumes for label in v.labels}


def test_templates_of_the_user(sound: PhantomManifest, open_tree: Any) -> None:
    wordings = ("Does the {region} show {subject}?", "{subject}: is it in the {region}?")
    data = open_tree(sound)
    asked = RadGenomeVQA(data, ["presence"], templates={"presence": wordings}, volumes=False)
    prompts = [asked[index]["prompt"] for index in range(len(asked))]
    assert {prompt.startswith("Does the") for prompt in prompts} == {True, False}
    assert prompts == [asked[index]["prompt"] for index in range(len(asked))]
    assert set(TEMPLATES) == set(TASKS)


def test_subsets_keep_to_their_patients(sound: PhantomManifest, open_tree: Any) -> None:
    asked = RadGenomeVQA(open_tree(sound), volumes=False)
    assert {asked[index]["task"] for index in range(len(asked))} == set(TASKS)
    patients = asked.patient_ids()
    part = asked.subset(patients[:1])
    assert 0 < len(part) < len(asked)
    assert {part[index]["patient_id"] for index in range(len(part))} == {patients[0]}
    assert part.reports["presence"].samples < asked.reports["presence"].samples


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"tasks": ["colour"]}, "Unknown tasks"),
        ({"tasks": []}, "No tasks"),
        ({"templates": {"presnce": "x"}}, "presnce"),
        ({"templates": {"size": "How large is {finding}?"}}, "cannot be filled in"),
    ],
)
def test_bad_arguments_are_named(sound: PhantomManifest, open_tree: Any, arguments: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        RadGenomeVQA(open_tree(sound), **arguments)


def test_mirrored_scans_are_refused(sound: PhantomManifest, open_tree: Any) -> None:
    flip = FlipSafeAugmentation(flip_probability=0.5)
    with pytest.raises(ConfigError, match="mirrors"):
        RadGenomeVQA(open_tree(sound, augment=flip), ["presence"])


def test_missing_tables_and_columns_are_named(copied: PhantomManifest, open_tree: Any) -> None:
    path = copied.root / "dataset/radgenome_files/train_vqa_size.csv"
    data = open_tree(copied)
    path.write_text(path.read_text().replace(",Size", ",size"))
    with pytest.raises(DatasetError, match=r"lacks the columns \['Size'\]"):
        RadGenomeVQA(data, ["size"])
    path.unlink()
    with pytest.raises(DatasetError, match="No vqa_size table"):
        RadGenomeVQA(data, ["size"])
