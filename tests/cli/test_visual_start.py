"""The step of a curriculum that starts the visual side from slices and texts."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.cli.curriculum.steps import embed_slices, save_slice_encoder, write_phantoms
from ct_vlm.cli.curriculum.visual_start import start_visual
from ct_vlm.component import Component
from ct_vlm.datamodules import CTRateDataModule, SliceEmbeddingDataModule
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.errors import ConfigError
from ct_vlm.models.ker_vljepa import CONFIGS, ker_vljepa_encoder, ker_vljepa_preset, ker_vljepa_visual
from ct_vlm.tasks import VisualAlignmentLightningModule


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Phantoms, embeddings of their slices, and a language model with random weights."""
    folder = tmp_path_factory.mktemp("start")
    root = write_phantoms(str(folder / "phantoms"), 6, shape=(8, 32, 32), workers=0, masks=False, progress=False)
    encoder = save_slice_encoder(str(folder / "encoder"))
    preset = ker_vljepa_preset("tiny")
    embeddings = embed_slices(root, encoder, str(folder / "embeddings"), preset, progress=False)
    torch.manual_seed(0)
    words = [" ".join(f"{a}{b}" for b in "aeiou") for a in "bcdfghklmnprstvw"]
    decoder = CausalLMDecoder(CONFIGS["tiny"].language_model, train_bpe_tokenizer(words, 300))
    decoder.lm.save_pretrained(folder / "language" / "lm")
    decoder.tokenizer.save_pretrained(folder / "language" / "lm")
    return {"root": root, "embeddings": embeddings, "language": str(folder / "language"), "preset": preset}


def test_phase_1_starts_from_slices_and_texts(folders, tmp_path) -> None:
    start = start_visual(str(tmp_path / "start"), **folders, count=100)
    made = ker_vljepa_visual("tiny")
    parts = {f"visual.{name}": f"{start}#{name}" for name in ("zones", "predictor", "calibrator")}
    task = VisualAlignmentLightningModule(ker_vljepa_encoder("tiny"), made.visual, made.jepa, init_from=parts)
    # queries are principal directions of the training slices
    data = SliceEmbeddingDataModule(CTRateDataModule(folders["root"], preset=folders["preset"]), folders["embeddings"])
    data.setup("fit")
    dataset = data.datasets["train"]
    slices = torch.cat([dataset[row]["levels"][-1] for row in range(len(dataset))]).double()
    directions = torch.linalg.svd(slices - slices.mean(0))[2][:8]
    queries = task.visual.zones.queries.flatten(0, 1).detach().double()
    lengths = queries.norm(dim=1, keepdim=True)
    torch.testing.assert_close((queries / lengths @ directions.T).abs(), torch.eye(8).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(lengths[0, 0], slices.square().sum(1).mean().sqrt(), atol=0, rtol=0.05)
    # tokens are as long as texts
    words = CausalLMDecoder(f"{folders['language']}/lm", f"{folders['language']}/lm").lm.get_input_embeddings().weight
    torch.testing.assert_close(task.visual.calibrator.target_norm, words.norm(dim=1).mean().detach())
    saved = Component.from_pretrained(start)
    torch.testing.assert_close(saved.predictor.linear.weight, task.visual.predictor.linear.weight)
    # rows that texts do not vary along would not be orthonormal
    columns = saved.predictor.linear.weight.double()
    torch.testing.assert_close(columns.T @ columns, torch.eye(96).double(), atol=1e-4, rtol=0)


def test_a_language_model_that_was_not_trained_here_serves_too(folders, tmp_path) -> None:
    prepared = Component.from_pretrained(start_visual(str(tmp_path / "prepared"), **folders, count=100))
    other = {**folders, "language": f"{folders['language']}/lm"}
    existing = Component.from_pretrained(start_visual(str(tmp_path / "existing"), **other, count=100))
    for key, tensor in prepared.state_dict().items():
        torch.testing.assert_close(existing.state_dict()[key], tensor)


def test_embeddings_of_another_preset_are_refused(folders, tmp_path) -> None:
    with pytest.raises(ConfigError, match="was made with the preset"):
        start_visual(str(tmp_path / "start"), **{**folders, "preset": "phantom"})
