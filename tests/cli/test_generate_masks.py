"""`ct-vlm generate --masks`: a MedRegion-CT, phantoms with masks, and what can be wrong with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from ct_vlm.attributes import PatientAttributes
from ct_vlm.cli import main
from ct_vlm.text import MEDREGION_REGIONS

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ["--max-new-tokens", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Path:
    """An untrained MedRegion-CT that is smaller than tiny, saved."""
    import torch

    from ct_vlm.decoders import train_bpe_tokenizer
    from ct_vlm.models import medregion_ct
    from ct_vlm.models.medregion_ct import CONFIGS

    torch.manual_seed(0)
    tiny = CONFIGS["tiny"]
    small = replace(
        tiny,
        backbone={
            **tiny.backbone,
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 16,
        },
        layers=(1, 2),
        hidden_dim=8,
        language_model={**tiny.language_model, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
    )
    model = medregion_ct(small, tokenizer=train_bpe_tokenizer(["The heart is of normal size."] * 4, vocab_size=300))
    return model.save_pretrained(tmp_path_factory.mktemp("system"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    from ct_vlm.phantoms import write_radgenome

    root = tmp_path_factory.mktemp("regions") / "tree"
    write_radgenome(root, 3, shape=(20, 32, 32), seed=1, workers=0)
    return root / "dataset"


@pytest.fixture(scope="module")
def scan(tree: Path) -> Path:
    return sorted((tree / "train_preprocessed").rglob("*.nii.gz"))[0]


@pytest.fixture
def generate(system: Path, scan: Path):
    return lambda *options: main(
        ["generate", "--checkpoint", str(system), "--volume", str(scan), *SHORT, *map(str, options)]
    )


def test_report_regions_and_pictures(generate, tree: Path, tmp_path: Path, capsys) -> None:
    masks = tree / "train_region_mask"
    before = {path: path.read_bytes() for path in (masks / "seg_train_1_a_1").iterdir()}
    out, overlay = tmp_path / "r.json", tmp_path / "pictures"
    assert generate("--masks", masks, "--mask-kind", "reference", "--out", out, "--overlay", overlay) == 0
    record = json.loads(out.read_text())
    assert capsys.readouterr().out == record["report"] + "\n"
    assert [region["name"] for region in record["regions"]] == list(MEDREGION_REGIONS)
    for region in record["regions"]:
        assert region["is_present"]
        assert region["in_detail"]
        assert 0 <= region["file_slice"] < 20
        assert region["mask_provenance"]["kind"] == "reference"
        assert region["mask_provenance"]["source"].endswith("seg_train_1_a_1")
    assert record["attributes"]["organs"]
    assert record["volume"]["hu_provenance"]["hu_source"] == "fixed"
    pictures = sorted(path.name for path in overlay.iterdir())
    assert pictures[0] == "train_1_a_1_01_lung.png"
    assert len(pictures) == 6
    assert {path: path.read_bytes() for path in before} == before


def test_masks_may_be_the_folder_of_the_volume_or_a_label_map(generate, tree: Path, tmp_path: Path) -> None:
    folder = tree / "train_region_mask" / "seg_train_1_a_1"
    heart = nib.load(folder / "heart.nii.gz")
    labels = np.asanyarray(heart.dataobj).astype(np.uint8) * 7
    nib.save(nib.Nifti1Image(labels, heart.affine), tmp_path / "labels.nii.gz")
    (tmp_path / "names.json").write_text('{"7": "heart"}')
    files = {
        "whole": ["--masks", folder],
        "map": ["--masks", tmp_path / "labels.nii.gz", "--mask-labels", tmp_path / "names.json"],
    }
    hearts = []
    for name, options in files.items():
        out = tmp_path / f"{name}.json"
        assert generate(*options, "--out", out) == 0
        regions = {region["name"]: region for region in json.loads(out.read_text())["regions"]}
        hearts.append(regions["heart and great vessels"])
    for key in ("slice_index", "file_slice", "position_mm", "volume_ml", "masks"):
        assert hearts[0][key] == hearts[1][key]
    assert hearts[1]["mask_provenance"]["kind"] == "pseudo"


def test_given_attributes_take_the_place_of_measured_ones(generate, tree: Path, tmp_path: Path) -> None:
    PatientAttributes(volume_id="from elsewhere").save(tmp_path / "a.json")
    out = tmp_path / "r.json"
    masks = ["--masks", tree / "train_region_mask", "--out", out]
    assert generate(*masks, "--attributes", tmp_path / "a.json") == 0
    assert json.loads(out.read_text())["attributes"]["volume_id"] == "from elsewhere"


def test_regions_of_a_file(generate, tree: Path, tmp_path: Path) -> None:
    mapping = {name: ["lung", "heart"] for name in MEDREGION_REGIONS}
    (tmp_path / "regions.json").write_text(json.dumps(mapping))
    out = tmp_path / "r.json"
    assert generate("--masks", tree / "train_region_mask", "--regions", tmp_path / "regions.json", "--out", out) == 0
    assert all(region["masks"] == ["lung", "heart"] for region in json.loads(out.read_text())["regions"])


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        ([], 1, "needs more than the scan"),
        (["--overlay", "here"], 2, "`--overlay` is about masks"),
        (["--mask-kind", "reference"], 2, "`--mask-kind` is about masks"),
        (["--masks", "absent"], 1, "no masks of `train_1_a_1`"),
        (["--masks", "MASKS", "--regions", "seven"], 2, "--regions seven"),
        (["--masks", "MASKS", "--regions", "LIST"], 2, "no mapping"),
        (["--masks", "MASKS", "--regions", "ten"], 1, "names 10"),
        (["--masks", "MASKS", "--attributes", "LIST"], 1, "no patient attributes"),
        (["--masks", "MASKS", "--overlay", "LIST"], 2, "is a file"),
        (["--masks", "EMPTY"], 1, "no masks of"),
        (["--masks", "OTHERS"], 1, "but 1 others"),
        (["--masks", "CUT"], 1, "grid"),
    ],
)
def test_wrong_options(
    generate, tree: Path, tmp_path: Path, capsys, options: list[str], code: int, expected: str
) -> None:
    masks = tree / "train_region_mask"
    places = {"MASKS": masks, "LIST": tmp_path / "list.json"}
    places["LIST"].write_text("[1]")
    for name in ("EMPTY", "OTHERS", "CUT"):
        places[name] = tmp_path / name
        places[name].mkdir()
    lung = masks / "seg_train_1_a_1" / "lung.nii.gz"
    shutil.copy(lung, places["OTHERS"] / "spleen.nii.gz")
    image = nib.load(lung)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[1:], image.affine), places["CUT"] / "lung.nii.gz")
    assert generate(*(places.get(option, option) for option in options)) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert expected in output.err


def test_a_model_that_reads_no_masks_refuses_them(checkpoint: Path, scan: Path, tree: Path, capsys) -> None:
    options = ["--checkpoint", str(checkpoint), "--volume", str(scan), *SHORT]
    assert main(["generate", *options, "--masks", str(tree / "train_region_mask")]) == 1
    assert "reads none" in capsys.readouterr().err
