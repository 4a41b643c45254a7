"""The classifier labeler against CT-CLIP's computation, written out here."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.metrics import ClinicalEfficacy
from ct_vlm.metrics.adapters import TextClassifierLabeler
from ct_vlm.metrics.adapters.radbert import map_published_keys

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["heart size is increased .", "no nodule", "", "lung is clear and the heart is normal . " * 80]


class PublishedClassifier(nn.Module):
    """Encoder, its pooler's output, one linear layer."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.model = RobertaModel(config, add_pooling_layer=True)
        self.classifier = nn.Linear(config.hidden_size, 18)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.model(**inputs).pooler_output)


@pytest.fixture
def published(config: RobertaConfig, checkpoint: Path, tmp_path: Path) -> tuple[PublishedClassifier, Path]:
    torch.manual_seed(1)
    module = PublishedClassifier(config).eval()
    file = tmp_path / "RadBertClassifier.pth"
    torch.save(module.state_dict(), file)
    return module, file


@torch.inference_mode()
def test_published_weights_give_the_published_computation(
    published: tuple[PublishedClassifier, Path], checkpoint: Path
) -> None:
    module, file = published
    labeler = TextClassifierLabeler(file, config_path=checkpoint, batch_size=3)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=512, return_tensors="pt")
    expected = module(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).sigmoid()
    assert inputs["input_ids"].shape[1] == 512
    torch.testing.assert_close(labeler.probabilities(TEXTS), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(labeler(TEXTS), (expected >= 0.5).long())
    assert labeler.name == "radbert:RadBertClassifier.pth"


def test_a_threshold_is_reached_by_equality(checkpoint: Path) -> None:
    labeler = TextClassifierLabeler(checkpoint)
    labeler.threshold = labeler.probabilities(TEXTS)[0, 3].item()
    assert labeler(TEXTS)[0, 3] == 1


def test_batches_do_not_change_labels(checkpoint: Path) -> None:
    one, many = (TextClassifierLabeler(checkpoint, batch_size=size).probabilities(TEXTS) for size in (1, 4))
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)
    assert TextClassifierLabeler(checkpoint)([]).shape == (0, 18)


def test_it_labels_for_the_clinical_metric(checkpoint: Path) -> None:
    labeler = TextClassifierLabeler(checkpoint)
    efficacy = ClinicalEfficacy(labeler=labeler)
    efficacy.update(TEXTS[:2], labeler(TEXTS[:2]))
    scores = efficacy.compute()
    assert scores["labeler"] == f"radbert:{checkpoint.name}"
    assert scores["micro_f1"] == 1.0


def test_prefixes_of_saved_weights_are_dropped() -> None:
    state = {"module.bert.encoder.layer.0.x": torch.zeros(1), "module.bert.embeddings.position_ids": torch.zeros(1)}
    assert list(map_published_keys(state)) == ["roberta.encoder.layer.0.x"]


def test_what_does_not_fit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        TextClassifierLabeler(tmp_path / "none")
    with pytest.raises(CheckpointError, match="18 outputs, but 2 labels"):
        TextClassifierLabeler(checkpoint, label_names=["a", "b"])
    with pytest.raises(ConfigError, match="from 0 to 1"):
        TextClassifierLabeler(checkpoint, threshold=2.0)
    with pytest.raises(CheckpointError, match="no place"):
        map_published_keys({"lm_head.weight": torch.zeros(1)})
    broken = tmp_path / "weights.pth"
    broken.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        TextClassifierLabeler(broken)
    shutil.copytree(checkpoint, tmp_path / "config")
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        TextClassifierLabeler(broken, config_path=tmp_path / "config")
