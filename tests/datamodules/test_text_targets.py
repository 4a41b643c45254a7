from __future__ import annotations

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from ct_vlm.datamodules import TextTargetDataModule
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.metrics import RuleLabeler
from ct_vlm.text import CT_RATE_LABELS, NORMAL_FINDINGS, POSITIVE_TEMPLATES

POSITIVE = [{"Cardiomegaly", "Emphysema", "Lung nodule", "Hiatal hernia"}, set()]


class Data(LightningDataModule):
    preset = "a preset"

    def _batches(self):
        labels = torch.tensor([[float(name in found) for name in CT_RATE_LABELS] for found in POSITIVE])
        return DataLoader([{"labels": labels, "volume_id": ["a", "b"], "report": ["Long.", "Text."]}], batch_size=None)

    train_dataloader = val_dataloader = test_dataloader = _batches

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "finished": True}


class Embedder:
    def __call__(self, texts):
        return torch.tensor([[float(len(text)), float(text.count(" "))] for text in texts])


class ReadsTexts(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list] = {"train": [], "val": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return self.weight.square()

    def validation_step(self, batch, batch_idx) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch, batch_idx) -> None:
        self.seen["test"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_training_and_validation_get_positive_findings_and_the_test_gets_reports(tmp_path) -> None:
    data, task = TextTargetDataModule(Data(), embedder=Embedder(), seed=3), ReadsTexts()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    host = Trainer(max_epochs=4, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    host.fit(task, data)
    host.test(task, data, verbose=False)
    labeler = RuleLabeler()
    for batch in task.seen["train"] + task.seen["val"]:
        assert batch["finished"]
        assert batch["full_report"] == ["Long.", "Text."]
        assert torch.equal(torch.as_tensor(labeler(batch["report"])).float(), batch["labels"])
        assert batch["report"][1] == NORMAL_FINDINGS
        torch.testing.assert_close(batch["text_embedding"], Embedder()(batch["report"]))
        assert torch.equal(batch["condition_mask"], batch["labels"] == 1)
        wanted = Embedder()([POSITIVE_TEMPLATES[name][0] for name in CT_RATE_LABELS])
        torch.testing.assert_close(batch["condition_embeddings"], wanted[None].expand(2, -1, -1))
    # another order each epoch, one text in all validations
    assert len({batch["report"][0] for batch in task.seen["train"]}) > 1
    assert len({batch["report"][0] for batch in task.seen["val"]}) == 1
    assert task.seen["test"][0]["report"] == ["Long.", "Text."]
    assert data.preset == "a preset"


def test_texts_depend_on_seed_volume_and_epoch_alone() -> None:
    batch = next(iter(Data().train_dataloader()))
    one, same, other = (TextTargetDataModule(Data(), seed=seed) for seed in (0, 0, 1))
    assert one.add_targets(batch, 2)["report"] == same.add_targets(batch, 2)["report"]
    texts = {data.add_targets(batch, epoch)["report"][0] for data in (one, other) for epoch in range(3)}
    assert len(texts) > 2
    assert "text_embedding" not in one.add_targets(batch, 0)


def test_reports_stay_where_they_are_asked_for_and_missing_keys_are_named() -> None:
    batch = next(iter(Data().train_dataloader()))
    data = TextTargetDataModule(Data(), "report", Embedder())
    found = data.add_targets(batch, 0)
    assert found["report"] == ["Long.", "Text."]
    torch.testing.assert_close(found["text_embedding"], Embedder()(["Long.", "Text."]))
    with pytest.raises(DatasetError, match="no `report`"):
        data.add_targets({"labels": batch["labels"]}, 0)
    with pytest.raises(ConfigError, match="positive_findings"):
        TextTargetDataModule(Data(), "positive")  # type: ignore[arg-type]


def test_the_reports_own_sentences_are_kept_on_request() -> None:
    calls = []
    labeler = RuleLabeler()

    def counted(sentences):
        calls.append(len(sentences))
        return labeler(sentences)

    report = "The trachea is open. The heart is enlarged. There is a nodule of 6 mm in the left lung. Liver is normal."
    labels = [[float(name in {"Cardiomegaly", "Lung nodule", "Emphysema"}) for name in CT_RATE_LABELS]] * 2
    batch = {"labels": torch.tensor(labels), "volume_id": ["a", "b"], "report": [report, report]}
    data = TextTargetDataModule(Data(), "positive_sentences", labeler=counted)
    found = [data.add_targets(batch, epoch) for epoch in range(3)]
    for texts in (batch["report"] for batch in found):
        for text in texts:
            assert "nodule of 6 mm" in text
            assert "heart is enlarged" in text
            assert any(sentence in text for sentence in POSITIVE_TEMPLATES["Emphysema"])
            assert "trachea" not in text
            assert "Liver" not in text
    assert len({text for batch in found for text in batch["report"]}) > 2
    assert calls == [4]
    without = TextTargetDataModule(Data(), "positive_sentences")
    assert without.add_targets(batch, 0)["report"] == found[0]["report"]


def test_texts_that_say_the_same_have_one_key() -> None:
    names = ["Cardiomegaly", "Emphysema", "Lung nodule"]
    labels = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, float("nan")]])
    batch = {"labels": labels, "volume_id": list("abcd"), "report": ["One.", "Two.", "Two.", ""]}
    found = TextTargetDataModule(Data(), label_names=names).add_targets(batch, 0)
    assert found["report"][0] != found["report"][1]
    assert found["text_key"] == ["Cardiomegaly/Emphysema"] * 2 + ["Emphysema", ""]
    whole = TextTargetDataModule(Data(), "report").add_targets(batch, 0)
    assert whole["text_key"] == batch["report"]
    mined = {**batch, "report": ["The heart is enlarged. Emphysema is seen."] * 4}
    data = TextTargetDataModule(Data(), "positive_sentences", label_names=names, labeler=_stated)
    first, second, third, _ = data.add_targets(mined, 0)["text_key"]
    assert first == second != third


def _stated(sentences):
    return [[float("heart" in text), float("Emphysema" in text), 0.0] for text in sentences]
