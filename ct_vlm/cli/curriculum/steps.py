"""Steps of a curriculum that are no training of a task: what a `call` names. Each returns what it made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ct_vlm.cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.encoders import Encoder
    from ct_vlm.tasks import OptimizerConfig
    from ct_vlm.transforms import CTPreset

_FIRST_TEXT = 2**31 + 2 * 10**8
"""Trees of phantoms draw smaller seeds, so that no text is that of a volume."""


def existing(path: str) -> str:
    """Return a path, so that a plan names it in one place and later steps by the step's name.

    Args:
        path: File or folder.

    Raises:
        UsageError: If nothing is there.

    Example:
        >>> import tempfile
        >>> from ct_vlm.cli.curriculum.steps import existing
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     existing(folder) == folder
        True
    """
    if not Path(path).exists():
        cause = f"There is no `{path}`."
        raise UsageError(cause, "Set `path` of this step, e.g. `--set STEP.path=/where/it/is`.")
    return path


def write_phantoms(root: str, count: int, **options: Any) -> str:
    """Write phantoms in CT-RATE's layout.

    Args:
        root: Folder of the tree.
        count: Number of volumes.
        options: Further arguments of :func:`ct_vlm.phantoms.write_ct_rate`.

    Returns:
        The folder.
    """
    from ct_vlm.phantoms import write_ct_rate

    write_ct_rate(root, count, **options)
    return root


def save_slice_encoder(
    folder: str, checkpoint: str | None = None, *, size: Literal["tiny", "paper"] = "tiny", seed: int = 0
) -> str:
    """Save the slice encoder that every phase reads.

    Args:
        folder: Where to.
        checkpoint: Checkpoint of LeJEPA pretraining; None keeps random weights, which are a baseline.
        size: Size of an encoder with random weights.
        seed: Seed of those.

    Returns:
        The folder.
    """
    import torch

    from ct_vlm.models import ker_vljepa_encoder

    embedder: Encoder
    if checkpoint is None:
        torch.manual_seed(seed)
        embedder = ker_vljepa_encoder(size)
    else:
        from ct_vlm.cli.embed import load_embedder

        embedder = load_embedder(checkpoint)
    return str(embedder.save_pretrained(folder))


def embed_slices(
    root: str,
    encoder: str,
    folder: str,
    preset: str | Mapping[str, Any] | CTPreset,
    *,
    splits: Sequence[str] = ("train", "valid"),
    max_slices: int = 600,
    cache_dir: str | None = None,
    dtype: Literal["float16", "bfloat16", "float32"] = "float32",
    num_workers: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> str:
    """Embed every slice of a CT-RATE tree once, as ``ct-vlm embed`` does, with any preset.

    Args:
        root: Folder of the tree.
        encoder: Folder of :func:`save_slice_encoder`, or a checkpoint.
        folder: Where embeddings go.
        preset: Preprocessing, by name or as a dict.
        splits: Which splits.
        max_slices: Volumes with more are thinned out.
        cache_dir: Where preprocessed volumes are kept, e.g. by pretraining.
        dtype: Type that embeddings are stored in.
        num_workers: Reading processes.
        device: Where the encoder runs; ``auto`` is a GPU where there is one.
        progress: Show progress bars on a terminal.

    Returns:
        The folder.
    """
    from ct_vlm.cache import FeatureCache, model_identity, write_manifest
    from ct_vlm.cli.embed import load_embedder
    from ct_vlm.cli.generate import device_named
    from ct_vlm.datamodules import precompute
    from ct_vlm.datasets import CTRateDataset
    from ct_vlm.transforms import get_preset

    wanted = get_preset(preset)
    embedder = load_embedder(encoder)
    cache = FeatureCache(folder, model_identity(embedder), wanted.to_config(), dtype=dtype)
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_manifest(cache, folder, encoder=encoder, pooling=embedder.pooling, max_slices=max_slices)
    embedder = embedder.to(device_named(device))
    for split in splits:
        dataset = CTRateDataset(root, split, preset=wanted, text=None, labels=False, cache_dir=cache_dir)
        precompute(embedder, dataset, cache, wanted, num_workers=num_workers, progress=progress)
    return folder


def embed_texts(
    reports: str,
    language_model: str,
    folder: str,
    *,
    tokenizer: str | None = None,
    column: str = "Findings_EN",
    layer: int = 14,
    output_dim: int = 256,
    batch_size: int = 32,
    dtype: str | None = None,
    device: str = "auto",
    progress: bool = True,
) -> str:
    """Fit the whitening of an existing language model's layer on reports, and save what embeds texts by it.

    The folder is what ``TextTargetDataModule(embedder=...)`` takes. It holds the language model too, so that
    nothing else is needed to embed a text. Equal reports, e.g. of two reconstructions of a scan, count once.

    Args:
        reports: CSV of the training reports.
        language_model: Folder or hub id of a causal LM, e.g. of Llama-3.2-3B-Instruct.
        folder: Where to.
        tokenizer: Folder or hub id of its tokenizer; that of the language model unless given.
        column: Column of the reports.
        layer: Layer whose output is read; 1 is the first.
        output_dim: Directions kept.
        batch_size: Texts embedded at a time.
        dtype: Type of the language model's weights, such as ``bfloat16``; None keeps theirs.
        device: Where it runs; ``auto`` is a GPU where there is one.
        progress: Show a progress bar on a terminal.

    Returns:
        The folder.

    Raises:
        DatasetError: If the table has no such column.
        ConfigError: If there are too few different reports.

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: 22,773 training reports, layer 14 of Llama-3.2-3B, 256 directions.
    """
    import pandas as pd

    from ct_vlm.cli.generate import device_named
    from ct_vlm.decoders import CausalLMDecoder
    from ct_vlm.errors import DatasetError
    from ct_vlm.models import fit_text_whitening

    table = pd.read_csv(reports)
    if column not in table:
        cause = f"`{reports}` has no column `{column}`; it has {', '.join(map(str, table.columns))}."
        raise DatasetError(cause, "Name the reports' column with `column`.")
    texts = {text for text in table[column].dropna().astype(str) if text.strip()}
    decoder = CausalLMDecoder(language_model, tokenizer or language_model, dtype=dtype).to(device_named(device))
    # texts of one length need no padding
    found = fit_text_whitening(
        decoder,
        sorted(texts, key=lambda text: (len(text), text)),
        layer=layer,
        output_dim=output_dim,
        batch_size=batch_size,
        progress=progress,
    )
    return str(found.save_pretrained(folder))


def prepare_language(
    reports: str,
    folder: str,
    *,
    column: str = "Findings_EN",
    size: Literal["tiny", "paper"] = "tiny",
    vocab_size: int = 1000,
    steps: int = 300,
    batch_size: int = 16,
    lr: float = 3e-3,
    optimizer: Literal["adamw", "muon"] = "adamw",
    phantoms: int = 0,
    shape: Sequence[int] = (64, 64, 64),
    seed: int = 0,
    progress: bool = True,
) -> str:
    """Train a small language model on reports alone, and fit the whitening of its embeddings.

    It stands in for the pretrained language model of the paper where nothing may be downloaded.

    Args:
        reports: CSV of the training reports.
        folder: Gets ``lm`` (model and tokenizer) and ``embedder`` (:class:`ct_vlm.models.TextEmbedder`).
        column: Column of the reports.
        size: Architecture.
        vocab_size: Size of the tokenizer.
        steps: Optimizer steps.
        batch_size: Texts a step.
        lr: Peak learning rate.
        optimizer: With ``"muon"``, matrices train with Muon, which learns faster at this size.
        phantoms: Further phantoms, never drawn, whose reports and positive findings are learnt too.
        shape: Their grid, which stated sizes depend on.
        seed: Seed of weights and order.
        progress: Show a progress bar on a terminal.

    Returns:
        The folder.
    """
    import pandas as pd
    import torch

    from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
    from ct_vlm.models import TextEmbedder
    from ct_vlm.models.ker_vljepa import CONFIGS
    from ct_vlm.modules import PCAWhitening
    from ct_vlm.tasks import OptimizerConfig
    from ct_vlm.text import CT_RATE_LABELS, POSITIVE_TEMPLATES

    config = CONFIGS[size]
    texts = [text for text in pd.read_csv(reports)[column].dropna().astype(str) if text.strip()]
    phrases = [phrase for name in CT_RATE_LABELS for phrase in POSITIVE_TEMPLATES[name]]
    phrases += _texts_of_phantoms(phantoms, shape)
    torch.manual_seed(seed)
    decoder = CausalLMDecoder(config.language_model, train_bpe_tokenizer(sorted({*texts, *phrases}), vocab_size))
    training = OptimizerConfig(optimizer, lr, warmup_fraction=0.0 if optimizer == "adamw" else 0.05)
    _train_on_text(decoder, texts + phrases, steps, batch_size, training, progress=progress)
    lm = Path(folder) / "lm"
    decoder.lm.save_pretrained(lm)
    decoder.tokenizer.save_pretrained(lm)
    whitening = PCAWhitening(config.embed_dim, config.whitened_dim)
    embedder = TextEmbedder(decoder, whitening, config.whitening_layer)
    embedder.fit(sorted({*texts, *phrases}), progress=progress).save_pretrained(Path(folder) / "embedder")
    return folder


def _texts_of_phantoms(count: int, shape: Sequence[int]) -> list[str]:
    """Return the report and the positive findings of phantoms that no tree holds."""
    from ct_vlm.phantoms import describe_phantom
    from ct_vlm.text import positive_findings

    depth, height, width = shape
    texts = []
    for number in range(count):
        facts = describe_phantom(_FIRST_TEXT + number, (depth, height, width))
        texts += [facts.findings_text, positive_findings(facts.labels.tolist(), seed=number)]
    return texts


def _train_on_text(
    decoder: Any, texts: Sequence[str], steps: int, batch_size: int, training: OptimizerConfig, *, progress: bool
) -> None:
    """Train a decoder as a plain language model."""
    import torch
    from rich.progress import track

    built = training.build(decoder.named_parameters(), steps)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    decoder.train()
    for _ in track(range(steps), "Language model", disable=not progress, transient=True):
        chosen = [texts[int(i)] for i in torch.randint(len(texts), (batch_size,))]
        encoded = decoder.encode([""] * len(chosen), chosen, max_length=256)
        optimizer.zero_grad()
        decoder(**encoded.inputs()).loss.backward()
        optimizer.step()
        schedule.step()
    decoder.eval()
