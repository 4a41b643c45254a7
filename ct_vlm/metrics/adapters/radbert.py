"""Label reports with a text classifier of the RadBERT kind."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.metrics.functional.inputs import as_predicted_texts
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

MAX_LENGTH = 512
# CT-CLIP's classifier is an encoder with pooler and one linear layer; transformers has the same
# computation as a dense layer with tanh and an output layer in its classification head
_RENAMED = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}


class TextClassifierLabeler:
    """Find labels in reports with a RoBERTa classifier on disk, as CT-CLIP's text classifier does.

    A report is cut at 512 tokens; a label is set where its sigmoid is at least ``threshold``, each
    label by itself.

    Args:
        path: Folder saved by transformers' ``RobertaForSequenceClassification``, or the published
            ``RadBertClassifier.pth`` (then ``config_path`` is needed). Nothing is downloaded.
        config_path: Folder with ``config.json`` and the tokenizer; ``path`` by default.
        threshold: Least probability of a label.
        batch_size: Reports at a time.
        device: Where the model runs.
        label_names: Name of each output.

    Attributes:
        name: ``"radbert:"`` and the checkpoint's file name, put beside every score.

    Raises:
        CheckpointError: If the checkpoint cannot be read or does not fit.
        ConfigError: If the threshold is not a probability.

    Example:
        >>> from ct_vlm.metrics.adapters import TextClassifierLabeler
        >>> TextClassifierLabeler("no/such/folder")
        Traceback (most recent call last):
        ...
        ct_vlm.errors.CheckpointError: no/such/folder does not exist. ...

    References:
        [1] CT-CLIP, ``text_classifier/{classifier,infer}.py``, https://github.com/ibrahimethemhamamci/CT-CLIP.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        config_path: str | Path | None = None,
        threshold: float = 0.5,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
        label_names: Sequence[str] = CT_RATE_LABELS,
    ) -> None:
        if not 0 <= threshold <= 1:
            msg = f"Expected `threshold` from 0 to 1, but got {threshold}."
            raise ConfigError(msg, "Pass a probability.")
        self.threshold, self.batch_size = threshold, batch_size
        self.label_names = tuple(label_names)
        checkpoint = Path(path)
        if not checkpoint.exists():
            cause = f"{path} does not exist."
            raise CheckpointError(cause, "Pass the classifier's folder or .pth file; nothing is downloaded here.")
        self.model, self.tokenizer = _load(checkpoint, Path(config_path or path), len(self.label_names))
        self.model.to(device).eval()
        self.name = f"radbert:{checkpoint.name}"

    def __call__(self, texts: Sequence[str | None]) -> Tensor:
        """Label reports.

        Args:
            texts: Reports; ``None`` and NaN count as empty.

        Shape:
            - Output: ``(B, K)``, 0 or 1.
        """
        return (self.probabilities(texts) >= self.threshold).long()

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str | None]) -> Tensor:
        """Return the probability of each label.

        Args:
            texts: Reports; ``None`` and NaN count as empty.

        Shape:
            - Output: ``(B, K)``.
        """
        reports, _ = as_predicted_texts(texts)
        order = sorted(range(len(reports)), key=lambda row: len(reports[row]))
        found = torch.zeros(len(reports), len(self.label_names))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            inputs = self.tokenizer(
                [reports[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=MAX_LENGTH,
                return_tensors="pt",
            )
            device = self.model.device
            logits = self.model(
                input_ids=inputs["input_ids"].to(device), attention_mask=inputs["attention_mask"].to(device)
            ).logits
            found[rows] = logits.float().sigmoid().cpu()
        return found


def map_published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of ``RadBertClassifier.pth`` to those of transformers' classifier.

    Args:
        state: Weights with the encoder under ``model.`` (or ``bert.``, ``roberta.``) and the linear
            layer under ``classifier.``; a leading ``module.`` is dropped.

    Raises:
        CheckpointError: If a weight has no place.

    Example:
        >>> from ct_vlm.metrics.adapters.radbert import map_published_keys
        >>> sorted(map_published_keys({"model.pooler.dense.weight": 0, "classifier.weight": 1}))
        ['classifier.dense.weight', 'classifier.out_proj.weight']
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        owner, _, rest = key.removeprefix("module.").partition(".")
        if rest == "embeddings.position_ids":  # a constant that older transformers saved
            continue
        if owner == "classifier" and rest in {"weight", "bias"}:
            renamed[f"{_RENAMED['classifier']}.{rest}"] = value
        elif rest.startswith("pooler.dense."):
            renamed[rest.replace("pooler.dense", _RENAMED["pooler.dense"])] = value
        elif rest.startswith(("embeddings.", "encoder.")):
            renamed[f"roberta.{rest}"] = value
        else:
            cause = f"The checkpoint's weight {key!r} has no place in a RoBERTa classifier."
            raise CheckpointError(cause, "Pass RadBertClassifier.pth of CT-RATE, or a transformers folder.")
    return renamed


def _load(checkpoint: Path, config_path: Path, num_labels: int) -> tuple[Any, Any]:
    """Load a classifier and its tokenizer."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    if not (config_path / "config.json").is_file():
        cause = f"{config_path} holds no config.json."
        raise CheckpointError(cause, "Pass `config_path`, a folder with the encoder's config.json and tokenizer.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(config_path, local_files_only=True)
        if checkpoint.is_dir():
            model = RobertaForSequenceClassification.from_pretrained(checkpoint, local_files_only=True)
        else:
            config = RobertaConfig.from_pretrained(config_path, num_labels=num_labels, local_files_only=True)
            model = RobertaForSequenceClassification(config)
            model.load_state_dict(map_published_keys(_read_state(checkpoint)))
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        cause = f"The classifier {checkpoint} cannot be loaded: {error}"
        raise CheckpointError(cause, "Check that weights, config.json and tokenizer belong together.") from error
    if model.config.num_labels != num_labels:
        cause = f"{checkpoint} has {model.config.num_labels} outputs, but {num_labels} labels are named."
        raise CheckpointError(cause, "Pass the classifier's own labels as `label_names`, in its order.")
    return model, tokenizer


def _read_state(checkpoint: Path) -> Mapping[str, Tensor]:
    """Read a state dict, never code."""
    import pickle

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
        cause = f"{checkpoint} is no file of weights alone: {error}"
        raise CheckpointError(cause, "Save the model's state_dict and pass that file.") from error
    return state.get("model_state_dict", state.get("state_dict", state))
