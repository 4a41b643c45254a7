"""Zones that region masks give: from a configuration file, over a data set's batches and a scan's files."""

from __future__ import annotations

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from ct_vlm.datasets import RadGenomeDataset
from ct_vlm.decoders import small_report_decoder, train_bpe_tokenizer
from ct_vlm.encoders import SliceEmbedder, SliceEncoder
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.models import FileSegmenter, VisionLanguageModel
from ct_vlm.models.grounding import model_regions, needs
from ct_vlm.modules.base import Connector
from ct_vlm.phantoms import write_radgenome
from ct_vlm.text import MEDREGION_REGIONS
from ct_vlm.transforms import CTPreset

YAML = """
connector:
  class_path: ZonedVisualTokens
  init_args:
    zones:
      class_path: ZoneConstrainedCrossAttention
      init_args:
        {embed_dim: 8, num_zones: 6, num_heads: 2, hidden_dim: 16, zones: masks, empty_zones: learned, num_layers: 0}
    predictor: {class_path: VisualPredictor, init_args: {in_dim: 8, embed_dim: 16}}
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_radgenome(tmp_path_factory.mktemp("zones") / "tree", 2, shape=(20, 28, 28), seed=2, workers=0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    parser = ArgumentParser()
    parser.add_subclass_arguments(Connector, "connector")
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes  # renamed in jsonargparse 4.49
    connector = build(parser.parse_object(yaml.safe_load(YAML))).connector
    vit = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 7}
    encoder = SliceEmbedder(SliceEncoder({**vit, "image_size": 28}, (1,)), max_slices=10)
    decoder = small_report_decoder(train_bpe_tokenizer(["clear lungs"], 270), embed_dim=16, num_layers=1, num_heads=2)
    preset = CTPreset("zones", size=(12, 28, 28), windows=((-1000, 400),))
    return VisionLanguageModel(encoder, [connector], decoder, preset=preset).eval()


def test_each_token_is_what_its_region_shows(model, tree) -> None:
    item = RadGenomeDataset(tree.root, regions="six", preset=model.preset)[0]
    batch = {"image": item["image"][None], "region_masks": item["region_masks"][None], "spacing": item["spacing"][None]}
    zones, features = model.connectors[0].zones, model.encode_image(batch)
    assert features.grids == [(10, 1, 1)]
    weights = zones.attention(features, batch)[0]
    shown = batch["region_masks"][0].flatten(2).any(2).float()
    for region in range(6):
        cells = torch.nn.functional.adaptive_avg_pool1d(shown[region][None], 10)[0] > 0
        assert torch.equal(weights[region] > 0, cells)
    assert 0 < (weights > 0).sum(1).min() < 10
    without = {**batch, "region_masks": batch["region_masks"].clone()}
    without["region_masks"][0, 2] = 0
    before, after = (zones.gather(features, part)[0] for part in (batch, without))
    assert (before - after).abs().amax(1).nonzero().flatten().tolist() == [2]
    torch.testing.assert_close(after[2], zones.empty_tokens[2, 0])


def test_a_scan_is_written_about_with_its_masks_and_not_without(model, tree) -> None:
    scan = sorted((tree.root / "dataset/train_preprocessed").rglob("*.nii.gz"))[0]
    segmenter = FileSegmenter(tree.root / "dataset/train_region_mask", kind="reference")
    item = RadGenomeDataset(tree.root, regions="six", preset=model.preset)[0]
    batch = {key: item[key][None] for key in ("image", "region_masks", "spacing")}
    assert model.generate(scan, masks=segmenter, max_new_tokens=4) == model.generate_batch(batch, max_new_tokens=4)[0]
    assert needs(model) == {"region_masks": "ZonedVisualTokens"}
    assert model_regions(model).names == MEDREGION_REGIONS
    with pytest.raises(ConfigError, match="needs more than the scan"):
        model.generate(scan)
    with pytest.raises(ShapeError, match="region_masks"):
        model.generate_batch({key: batch[key] for key in ("image", "spacing")})
