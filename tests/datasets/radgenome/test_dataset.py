"""`RadGenomeDataset`: items, regions, flags, tables and the cache."""

from __future__ import annotations

import pickle
import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch

from ct_vlm.batch import Batch
from ct_vlm.datamodules import collate
from ct_vlm.datasets import EpochIndex, RadGenomeDataset
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS
from ct_vlm.transforms import CTPreset, FlipSafeAugmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct_vlm.phantoms import PhantomManifest

Open = Any


def stored(manifest: PhantomManifest, name: str, mask: str, level: str = "region") -> np.ndarray:
    """Return a stored L, P, S mask as foot, back, left."""
    path = manifest.root / f"dataset/{name.partition('_')[0]}_{level}_mask/seg_{name}/{mask}.nii.gz"
    return np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0)[::-1]


def test_items_have_the_keys_of_a_batch(sound: PhantomManifest, open_tree: Open) -> None:
    data = open_tree(sound, labels=[sound.root / f"labels/{s}_predicted_labels.csv" for s in ("train", "valid")])
    item = data[0]
    record = sound.volumes[0]
    assert set(item) <= set(Batch.__annotations__)
    assert item["image"].shape == (1, 24, 28, 32)
    assert item["image"].dtype == torch.int16
    assert item["region_masks"].shape == (10, 24, 28, 32)
    assert item["region_masks"].dtype == torch.uint8
    for key in ("region_present", "region_mask_found", "region_text_present"):
        assert item[key].shape == (10,)
        assert item[key].dtype == torch.bool
    assert item["region_reports"] == record.region_reports
    assert list(item["region_reports"]) == [r for r in RADGENOME_REGIONS if r in record.region_reports]
    assert item["report"] == " ".join(item["region_reports"].values())
    assert (item["volume_id"], item["study_id"], item["patient_id"]) == ("train_1_a_1", "train_1_a", "train_1")
    assert item["labels"].sum() == len(record.labels)
    assert set(data.record(0)) == set(item) - {
        "image", "spacing", "region_masks", "region_present", "region_mask_found", "slice_file_index",
        "slice_position_mm",
    }  # fmt: skip


def test_slices_and_masks_say_where_they_come_from(sound: PhantomManifest, open_tree: Open, tmp_path: Path) -> None:
    preset = CTPreset("padded", size=(30, 8, 8), spacing=(None, 20.0, 20.0))
    for _ in range(2):  # made, and read from the cache
        data = open_tree(sound, preset=preset, mask_kind="reference", cache_dir=tmp_path)
        item = data[0]
        assert item["region_names"] == list(RADGENOME_REGIONS)
        assert item["mask_provenance"]["kind"] == "reference"
        assert item["mask_provenance"]["source"].endswith("train_region_mask")
        # three slices of padding at either end; the file counts from the foot
        assert item["slice_file_index"].tolist() == [-1] * 3 + list(range(23, -1, -1)) + [-1] * 3
        steps = item["slice_position_mm"].diff()
        torch.testing.assert_close(steps, steps[:1].expand_as(steps))
        assert steps[0] == pytest.approx(-float(item["spacing"][0]))
    moved = open_tree(sound, augment=lambda item, seed: item)[0]
    assert not {"slice_file_index", "slice_position_mm"} & set(moved), "an augmentation may move slices"
    with pytest.raises(ConfigError, match="mask_kind"):
        open_tree(sound, mask_kind="drawn")
    assert not {"mask_provenance", "region_names"} & set(open_tree(sound, masks=False)[0])


def test_masks_are_the_stored_ones_and_may_overlap(sound: PhantomManifest, open_tree: Open) -> None:
    item = open_tree(sound)[1]
    for place, region in enumerate(RADGENOME_REGIONS):
        if item["region_mask_found"][place]:
            expected = stored(sound, item["volume_id"], region)
            np.testing.assert_array_equal(item["region_masks"][place].numpy(), expected)
            assert item["region_present"][place] == expected.any()
    mediastinum, esophagus = (item["region_masks"][RADGENOME_REGIONS.index(n)] for n in ("mediastinum", "esophagus"))
    assert (mediastinum & esophagus).any()


def test_text_and_mask_are_flagged_apart(sound: PhantomManifest, open_tree: Open) -> None:
    data = open_tree(sound)
    pairs = {
        (bool(item["region_text_present"][place]), bool(item["region_mask_found"][place]))
        for item in (data[index] for index in range(len(data)))
        for place in range(10)
    }
    assert pairs == {(True, True), (True, False), (False, True), (False, False)}
    for index in range(len(data)):
        item = data[index]
        assert not item["region_masks"][~item["region_mask_found"]].any()
        for place, region in enumerate(RADGENOME_REGIONS):
            assert item["region_text_present"][place] == (region in item["region_reports"])


def test_six_regions_are_unions(sound: PhantomManifest, open_tree: Open) -> None:
    ten, six = open_tree(sound)[0], open_tree(sound, regions="six")[0]
    assert open_tree(sound, regions="six").regions == MEDREGION_REGIONS
    place = RADGENOME_REGIONS.index
    union = ten["region_masks"][place("lung")] | ten["region_masks"][place("pleura")]
    assert torch.equal(six["region_masks"][0], union)
    texts = ten["region_reports"]
    assert six["region_reports"]["lung"] == f"{texts['lung']} {texts['pleura']}"
    assert "breast" not in six["report"].lower()


def test_any_mapping_of_regions_or_anatomies(sound: PhantomManifest, open_tree: Open) -> None:
    data = open_tree(sound, regions={"chest": ["lung", "heart", "others"], "b": "bone"})
    item, ten = data[0], open_tree(sound)[0]
    place = RADGENOME_REGIONS.index
    assert torch.equal(
        item["region_masks"][0], ten["region_masks"][place("lung")] | ten["region_masks"][place("heart")]
    )
    lobes = {"upper": ["left lung upper lobe", "right lung upper lobe"], "liver": ["liver"]}
    item = open_tree(sound, regions=lobes, mask_level="anatomy", missing_text="empty")[0]
    parts = [stored(sound, "train_1_a_1", name, "anatomy") for name in lobes["upper"]]
    np.testing.assert_array_equal(item["region_masks"][0].numpy(), parts[0] | parts[1])


def test_texts_of_lobes_come_from_the_rows_that_end_in_them(sound: PhantomManifest, open_tree: Open) -> None:
    names = ["right lung upper lobe", "right lung lower lobe", "left lung upper lobe", "left lung lower lobe"]
    data = open_tree(sound, regions={name: name for name in names}, mask_level="anatomy", missing_text="empty")
    found = 0
    for index in range(len(data)):
        item = data[index]
        record = next(v for v in sound.volumes if v.name == item["volume_id"])
        for text in item["region_reports"].values():
            assert text in record.region_reports["lung"] or all(
                part in record.region_reports["lung"] for part in text.split(". ")
            )
            found += 1
    assert found


def test_reports_in_other_forms(sound: PhantomManifest, open_tree: Open) -> None:
    record = sound.volumes[0]
    assert open_tree(sound, text="whole")[0]["report"] == record.findings_text
    titled = open_tree(sound, region_template="{Region}: {text}")[0]["report"]
    assert titled.startswith("Abdomen: ")
    assert "Trachea and bronchie: " in titled
    plain = open_tree(sound, text=None)[0]
    assert {"report", "region_reports", "region_text_present"}.isdisjoint(plain)
    assert "region_masks" in plain


def test_without_masks_no_mask_folder_is_needed(copied: PhantomManifest, open_tree: Open) -> None:
    shutil.rmtree(copied.root / "dataset/train_region_mask")
    item = open_tree(copied, masks=False)[0]
    assert {"region_masks", "region_present", "region_mask_found"}.isdisjoint(item)
    with pytest.raises(DatasetError, match=r"train_region_mask\.tar\.gz"):
        open_tree(copied)


def test_archives_that_were_not_unpacked_are_named(copied: PhantomManifest, open_tree: Open) -> None:
    base = copied.root / "dataset"
    shutil.rmtree(base / "train_anatomy_mask")
    for part in ("train_anatomy_mask.tar.gz.part-00", "train_anatomy_mask.tar.gz.part-01"):
        (base / part).write_bytes(b"part")
    with pytest.raises(DatasetError, match=r"part-00, train_anatomy_mask\.tar\.gz\.part-01"):
        open_tree(copied, regions={"liver": "liver"}, mask_level="anatomy")
    assert (base / "train_anatomy_mask.tar.gz.part-00").read_bytes() == b"part"


@pytest.mark.parametrize("place", ["radgenome_files", "dataset", "root"])
def test_tables_are_found_in_every_place(copied: PhantomManifest, open_tree: Open, place: str) -> None:
    usual = copied.root / "dataset/radgenome_files"
    if place == "radgenome_files":
        usual.rename(copied.root / "radgenome_files")
    else:
        target = copied.root / "dataset" if place == "dataset" else copied.root
        for file in list(usual.iterdir()):
            file.rename(target / file.name)
    assert len(open_tree(copied, "valid")) == 1


def test_inner_folder_is_accepted_and_pickles_are_left_alone(copied: PhantomManifest, open_tree: Open) -> None:
    trap = copied.root / "dataset/report_hierarchy_tree"
    trap.mkdir()
    (trap / "train_1_a_1.pkl").write_bytes(pickle.dumps(ValueError))
    assert len(RadGenomeDataset(copied.root / "dataset", preset=CTPreset("own"))) == len(open_tree(copied))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"regions": "eleven"}, "'ten', 'six'"),
        ({"regions": {"x": "lungs"}}, "Did you mean 'lung'"),
        ({"regions": {"x": []}}, "names no masks for 'x'"),
        ({"regions": {}}, "names no masks"),
        ({"regions": "six", "mask_level": "anatomy"}, "names regions"),
        ({"mask_level": "organ"}, "'region' or 'anatomy'"),
        ({"mask_mismatch": "ones"}, "error, resample, skip"),
        ({"missing_mask": "noise"}, "absent, error"),
        ({"mask_method": "linear"}, "nearest, majority"),
        ({"text": "findings"}, "regions, whole"),
        ({"region_template": "{name}"}, "cannot be filled in"),
        ({"region_template": "{region}"}, "leaves the text out"),
        ({"split": "test"}, "'train' or 'valid'"),
    ],
)
def test_bad_arguments_are_named(sound: PhantomManifest, open_tree: Open, arguments: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_tree(sound, **arguments)


def test_a_mistyped_anatomy_is_named(sound: PhantomManifest, open_tree: Open) -> None:
    with pytest.raises(DatasetError, match="Did you mean 'left lung upper lobe'"):
        open_tree(sound, regions={"x": "left upper lobe"}, mask_level="anatomy", missing_text="empty")


def test_patients_and_subsets(sound: PhantomManifest, open_tree: Open) -> None:
    data = open_tree(sound, exclude=["train_1_a_1.nii.gz"])
    assert data.report.excluded == ["train_1_a_1"]
    patients = data.patient_ids()
    part = data.subset(patients[:1])
    assert {part.sample(i).name.patient_id for i in range(len(part))} == {patients[0]}
    assert len(open_tree(sound, patients=patients[:1])) == len(part)


class TestCache:
    def test_a_second_reading_gives_the_same_without_the_files(
        self, copied: PhantomManifest, open_tree: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = copied.root / "cache"
        preset = CTPreset("small", size=(9, 10, 11))
        plain = open_tree(copied, preset=preset)[0]
        data = open_tree(copied, preset=preset, cache_dir=folder)
        first = data[0]
        monkeypatch.setattr("ct_vlm.datasets.radgenome.masks.load_label_map", None)
        second = data[0]
        for key, value in plain.items():
            for item in (first, second):
                assert torch.equal(item[key], value) if isinstance(value, torch.Tensor) else item[key] == value
        assert len(list(folder.rglob("*-masks-*.ctcache"))) == 1

    def test_other_regions_share_the_volume(self, copied: PhantomManifest, open_tree: Open) -> None:
        folder = copied.root / "cache"
        for regions in ("ten", "six"):
            open_tree(copied, regions=regions, cache_dir=folder)[0]
        files = list(folder.rglob("*.ctcache"))
        assert sum("-masks-" in file.name for file in files) == 2
        assert len(files) == 3

    def test_a_changed_or_new_mask_is_read_again(self, copied: PhantomManifest, open_tree: Open) -> None:
        data = open_tree(copied, cache_dir=copied.root / "cache")
        before = data[0]
        place = RADGENOME_REGIONS.index("bone")
        path = copied.root / "dataset/train_region_mask/seg_train_1_a_1/bone.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
        after = data[0]
        assert before["region_present"][place]
        assert not after["region_present"][place]
        assert after["region_mask_found"][place]
        path.unlink()
        assert not data[0]["region_mask_found"][place]


def test_batches_keep_the_flags(sound: PhantomManifest, open_tree: Open) -> None:
    data = open_tree(sound)
    batch = collate([data[0], data[1]])
    assert batch["region_masks"].shape == (2, 10, 24, 28, 32)
    for key in ("region_present", "region_mask_found", "region_text_present"):
        assert batch[key].dtype == torch.bool
        assert batch[key].shape == (2, 10)
    assert isinstance(batch["region_reports"], list)


def test_a_flip_exchanges_lateral_regions_and_their_flags(sound: PhantomManifest, open_tree: Open) -> None:
    flip = FlipSafeAugmentation(probability=0.0, flip_probability=1.0, lateral_regions=((0, 1),))
    arguments = {"regions": {"left lung": "left lung", "right lung": "right lung"}, "mask_level": "anatomy"}
    data = open_tree(sound, missing_text="empty", **arguments)
    flipped = open_tree(sound, missing_text="empty", augment=flip, **arguments)
    plain = data[0]
    plain["region_text_present"] = torch.tensor([True, False])
    result = flip(plain, 0)
    assert result["region_text_present"].tolist() == [False, True]
    item = flipped[EpochIndex(0, 1)]
    assert torch.equal(item["region_masks"][0], data[0]["region_masks"][1].flip(-1))


def test_a_region_that_an_augmentation_moves_out_is_not_present(sound: PhantomManifest, open_tree: Open) -> None:
    def crop(item: dict[str, Any], seed: int) -> dict[str, Any]:
        return {**item, "region_masks": item["region_masks"] * (torch.arange(24) < 2)[:, None, None]}

    plain, cropped = (open_tree(sound, augment=augment)[0] for augment in (None, crop))
    heart = RADGENOME_REGIONS.index("heart")
    assert plain["region_present"][heart]
    assert not cropped["region_present"][heart]
    assert cropped["region_mask_found"][heart]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """Record every folder that is listed."""
    import os

    listed: list[Path] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": (listed.append(path), real(path))[1])
    return lambda: listed


def test_trusting_the_tables_lists_nothing(sound: PhantomManifest, open_tree: Open, seen: Any) -> None:
    data = open_tree(sound, check_files=False)
    assert not [path for path in seen() if "preprocessed" in str(path) or "_mask" in str(path)]
    assert torch.equal(data[0]["region_masks"], open_tree(sound)[0]["region_masks"])
