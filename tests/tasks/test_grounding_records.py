"""Records of `predict` say which slice and mask each region rests on, as `generate_grounded` does."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from lightning import Trainer

from ct_vlm.callbacks import ReportWriter
from ct_vlm.datamodules import RadGenomeDataModule
from ct_vlm.decoders import small_report_decoder, train_bpe_tokenizer
from ct_vlm.encoders import SliceEncoder
from ct_vlm.models import FileSegmenter, VisionLanguageModel, generate_grounded
from ct_vlm.modules import MaskDrivenVisualExtractor, R2TokenPooling
from ct_vlm.phantoms import write_radgenome
from ct_vlm.tasks import ReportLightningModule
from ct_vlm.tasks.grounding_records import grounding_records
from ct_vlm.text import MEDREGION_REGIONS, RegionPrompts
from ct_vlm.transforms import CTPreset

PRESET = CTPreset("small", size=(12, 28, 28), windows=((-1000, 400),))
VIT = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 7}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("records") / "tree"
    write_radgenome(root, 4, shape=(20, 32, 32), seed=2, valid_fraction=0.5, workers=0)
    return root


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    encoder = SliceEncoder({**VIT, "image_size": 28}, (1,))
    connectors = [
        R2TokenPooling(encoder.level_dims, 16, slow_grid=(2, 2)),
        MaskDrivenVisualExtractor(encoder.level_dims, 16, hidden_dim=4, spatial_grid=(2, 2, 2)),
    ]
    decoder = small_report_decoder(train_bpe_tokenizer(["clear lungs"], 270), embed_dim=16, num_layers=1, num_heads=2)
    model = VisionLanguageModel(encoder, connectors, decoder, preset=PRESET, region_prompts=RegionPrompts("six"))
    return ReportLightningModule.from_model(model, generation={"max_new_tokens": 2}).eval()


@pytest.fixture(scope="module")
def data(root):
    data = RadGenomeDataModule(root, "six", PRESET, mask_kind="reference", batch_size=2)
    data.setup("predict")
    return data


def test_predict_says_what_generate_says(task, data, root, tmp_path):
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[ReportWriter(tmp_path / "reports.csv")],
    )  # fmt: skip
    records = [record for batch in trainer.predict(task, data) for record in batch]
    assert len(records) == len(data.datasets["predict"])
    table = pd.read_csv(tmp_path / "reports.csv", keep_default_na=False).set_index("volume_id")
    segmenter = FileSegmenter(root / "dataset/valid_region_mask", kind="reference")
    for sample, record in zip(data.datasets["predict"].samples, records, strict=True):
        assert record["mask_provenance"]["kind"] == "reference"
        assert list(record["grounding"]) == list(MEDREGION_REGIONS)
        alone = generate_grounded(task, sample.path, segmenter)
        assert alone.report == record["prediction"]
        for region in alone.regions:
            found = record["grounding"][region.name]
            for key in ("slice_index", "file_slice", "is_present", "is_fallback", "in_detail"):
                assert found[key] == getattr(region, key)
            assert found["position_mm"] == pytest.approx(region.position_mm, abs=1e-3)
            assert found["mask_found"] == bool(region.masks)
        written = json.loads(table.loc[sample.name.volume_id, "grounding"])
        assert written == {"regions": record["grounding"], "mask_provenance": record["mask_provenance"]}


def test_the_volume_is_encoded_once(task, data, monkeypatch):
    batch = next(iter(data.predict_dataloader()))
    calls = []
    monkeypatch.setattr(task.encoder, "forward", lambda *a, f=task.encoder.forward, **k: calls.append(1) or f(*a, **k))
    task.predict_step(batch, 0)
    assert len(calls) == 1


def test_batches_that_know_less_say_less(task):
    masks = torch.zeros(1, 6, 12, 28, 28, dtype=torch.uint8)
    masks[0, 0, 3] = 1
    batch = {"image": torch.rand(1, 1, 12, 28, 28), "region_masks": masks}
    batch["features"] = task.encode_image(batch)
    (record,) = grounding_records(task, batch)
    assert record["grounding"]["0"] == {
        "slice_index": 3, "is_present": True, "is_fallback": False, "in_detail": True
    }  # fmt: skip
    assert "mask_provenance" not in record


def test_a_slice_in_the_padding_has_no_place_in_the_file(task):
    batch = {
        "image": torch.rand(1, 1, 12, 28, 28),
        "region_masks": torch.zeros(1, 6, 12, 28, 28, dtype=torch.uint8),
        "slice_file_index": torch.full((1, 12), -1),
    }
    batch["features"] = task.encode_image(batch)
    (record,) = grounding_records(task, batch)
    assert {region["file_slice"] for region in record["grounding"].values()} == {None}
    assert all(region["is_fallback"] for region in record["grounding"].values())
