# %% [markdown]
# # AbSteering: from a video language model to steered reports and preference pairs
#
# AbSteering shows a chest CT to a general video language model as a film. It is taught to list abnormalities by region
# before it writes the report (stage 1), then to prefer the true list to one with confusable abnormalities in their
# place (stage 2, DPO). This notebook goes all the way from a checkpoint on disk, in about a minute on one CPU core and
# without any download.
#
# **What stands in for what.** The checkpoint is a Qwen2.5-VL with the real classes, files and keys, but four small
# layers and random weights; scans are phantoms (synthetic chest CTs). Neither the tower nor the language model has
# seen anything before. A minute teaches the form of the answers and the preferences that wording gives away; it does
# not teach to read the film, and the last section measures just that. `docs/papers/absteering.md` tells of longer runs.

# %%
import importlib.util
import json
import logging
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import IPython.display
import matplotlib.pyplot as plt
import pandas as pd
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from transformers.utils import logging as transformers_logging

import ct_vlm
from ct_vlm.cache import FeatureCache, model_identity, write_manifest
from ct_vlm.datamodules import (
    CachedFeatureDataModule,
    CTRateDataModule,
    PreferenceDataModule,
    SteeredTargetDataModule,
    precompute,
)
from ct_vlm.datasets import write_preferences
from ct_vlm.datasets.steering import HardNegatives, make_pairs, read_scans
from ct_vlm.metrics import RuleLabeler
from ct_vlm.models import absteering, write_tiny_video_lm
from ct_vlm.phantoms import PhantomConfig, make_phantom, write_ct_rate
from ct_vlm.tasks import DPOLightningModule, OptimizerConfig, ReportLightningModule
from ct_vlm.tasks.list_scores import list_scores
from ct_vlm.text import CT_RATE_LABELS, STEERING_PROMPT, render_abnormalities, render_cot
from ct_vlm.transforms import film_error, hu_to_frames, load_volume, read_mp4, write_mp4

warnings.filterwarnings("ignore")
for name in ("lightning.pytorch", "lightning.fabric", "ct_vlm"):
    logging.getLogger(name).setLevel(logging.ERROR)
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
torch.set_num_threads(1)
pd.set_option("display.max_colwidth", None)
root = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A CT as film
#
# HU from -1000 to 200 become bytes, slices become frames. A real chest CT is shown if one lies beside the library, and
# a phantom otherwise.

# %%
scan = Path(ct_vlm.__file__).resolve().parents[2] / "shared" / "data" / "cip" / "chest_ct64.nii.gz"
is_real = scan.is_file()
hu = load_volume(scan, hu_source="fixed").array if is_real else make_phantom(3, (64, 96, 96)).volume
frames = hu_to_frames(hu)

figure, axes = plt.subplots(1, 6, figsize=(13, 2.6), layout="constrained")
for axis, number in zip(axes, range(4, len(frames), len(frames) // 6), strict=False):
    axis.imshow(frames[number], cmap="gray", vmin=0, vmax=255)
    axis.set_title(f"frame {number + 1}")
    axis.axis("off")
figure.suptitle(f"{'a real chest CT' if is_real else 'a phantom'}: {len(frames)} frames of {frames.shape[1:]}")
plt.show()

# %% [markdown]
# A step of 8 bits is 4.7 HU. The film in memory costs no more than that, nor does an MP4 without loss; a common setting
# of H.264 costs much more. `clipped` is the share of voxels outside the window, which no film brings back.

# %%
errors = {"8 bits in memory": film_error(hu, frames)}
if importlib.util.find_spec("av"):
    for crf in (0, 18):
        write_mp4(frames, root / f"{crf}.mp4", crf=crf, speed="veryfast")
        errors[f"MP4, crf {crf}"] = film_error(hu, read_mp4(root / f"{crf}.mp4"))
IPython.display.display(pd.DataFrame({name: error.to_dict() for name, error in errors.items()}).T.round(2))

# %% [markdown]
# ## Scans, and lists out of their reports
#
# 190 phantoms with six kinds of findings lie on disk as CT-RATE does. The list of a scan holds the sentences of its
# report that state something abnormal, each with its region; no language model is asked. To save time, the reports to
# write are the impressions alone. So lists go into a file of the published form, which serves in place of lists that
# would be made of the shorter texts.

# %%
SHOWN = ["Cardiomegaly", "Pericardial effusion", "Consolidation", "Lung nodule", "Lung opacity", "Atelectasis"]
config = PhantomConfig(normal_share=0.15, prevalence={name: 0.3 * (name in SHOWN) for name in CT_RATE_LABELS})
write_ct_rate(
    root / "scans",
    190,
    shape=(24, 64, 64),
    valid_fraction=10 / 190,
    second_scan=0.0,
    second_recon=0.0,
    masks=False,
    workers=0,
    progress=False,
    config=config,
)
scans = read_scans(root / "scans")
print(scans[0].report, render_abnormalities(scans[0].abnormalities), sep="\n\n")

truth = {scan.id: scan for scan in [*scans, *read_scans(root / "scans", "valid")]}
answers = {
    name: render_cot(scan.abnormalities, scan.report.partition("Impressions: ")[2]) for name, scan in truth.items()
}
published = [
    {"id": name, "messages": [{"content": STEERING_PROMPT}, {"content": text}]} for name, text in answers.items()
]
(root / "lists.json").write_text(json.dumps(published), encoding="utf-8")
print(f"\nAn answer to learn:\n\n{answers[scans[0].id]}")

# %% [markdown]
# ## Hard negatives
#
# A wrong list has a confusable abnormality of the same region in place of a true one; places, sizes and order stay, and
# what list, report or labels are known to say of the patient is not put in. Both texts end with the heading that comes
# next in an answer. Each pair says what was changed. The file has TRL's columns. `ct-vlm preferences` writes the same.

# %%
pairs = list(make_pairs(scans, HardNegatives("confusion", seed=0), answer="list_and_heading"))
write_preferences(pairs, root / "pairs.jsonl")
print(f"{len(pairs)} of {len(scans)} scans have an abnormality that can be confused\n")
print(pairs[0].chosen, pairs[0].rejected, sep="\n\nis preferred to\n\n")
changes = [change for pair in pairs[:3] for change in pair.changes]
IPython.display.display(
    pd.DataFrame([(change.region, change.old, change.new) for change in changes], columns=["region", "old", "new"])
)

# %% [markdown]
# ## The checkpoint on disk
#
# Files are those of transformers, as they are downloaded. `absteering` takes such a folder, and here freezes the tower.

# %%
words = [STEERING_PROMPT, *(answers[scan.id] for scan in scans), *(negative.rejected for negative in pairs)]
checkpoint = write_tiny_video_lm(root / "video_lm", "qwen2_5_vl", words)
print(*sorted(file.name for file in checkpoint.iterdir()), sep="\n")

seed_everything(0, verbose=False)
whole = absteering("tiny", backbone="qwen2_5_vl", model=str(checkpoint), vision="frozen", num_frames=6)
print("\ninstruction:", whole.prompt.template)

# %% [markdown]
# ## Visual tokens, once
#
# The tower is frozen, so its tokens never change: they are computed once, of six frames a scan, and both stages and all
# evaluation read them from disk. `ct-vlm embed` does the same on the command line. From here on the model has no tower.

# %%
preset, tokens = whole.preset, root / "tokens"
data = CTRateDataModule(root / "scans", preset, val_fraction=0.25, seed=0, text="impressions")
data.setup("fit")
data.setup("test")
cache = FeatureCache(tokens, model_identity(whole.encoder), preset.to_config(), dtype="float32")
write_manifest(cache, tokens, encoder="a tiny Qwen2.5-VL")
for name in ("train", "val", "test"):
    done = precompute(whole.encoder, data.datasets[name], cache, preset, batch_size=16, progress=False)
    print(f"{name}: {len(done.made)} scans")
stored = cache.load(done.made[0])
print(f"a scan is {tuple(stored.levels[0].shape)} numbers on a grid {stored.grids[0]} of time and place")
blank = whole.encoder(preset.window(torch.full((1, 1, *preset.size), -1000, dtype=torch.int16)))


def make_data(batch_size, eval_batch_size=32):
    """Return scans with lists as targets and tokens from disk in place of voxels."""
    source = CTRateDataModule(root / "scans", preset, val_fraction=0.25, text="impressions", check_files=False)
    cached = CachedFeatureDataModule(source, tokens, batch_size=batch_size, eval_batch_size=eval_batch_size)
    return SteeredTargetDataModule(cached, "cot", lists=root / "lists.json")


# %% [markdown]
# ## Stage 1: the list, then the report
#
# One target holds both. The model learns from 135 scans, batch by batch.

# %%
STEPS = 120
model = absteering("tiny", backbone="qwen2_5_vl", model=str(checkpoint), cached=True, num_frames=6)
first = ReportLightningModule.from_model(
    model,
    OptimizerConfig("muon", 8e-3),
    frozen=("encoder", "connectors"),
    generation={"max_new_tokens": 160},
)
quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
quiet |= {"accelerator": "cpu", "default_root_dir": root, "log_every_n_steps": 1, "gradient_clip_val": 5.0}


def fit(task, data, name, **options):
    """Train, and return what was logged by step."""
    logger = CSVLogger(root, name)
    Trainer(logger=logger, **quiet, **options).fit(task, data)
    task.eval()
    return pd.read_csv(Path(logger.log_dir, "metrics.csv")).groupby("step").first()


log = fit(first, make_data(6), "stage_1", max_steps=STEPS, limit_val_batches=0)
figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
axis.plot(log["train/loss"].dropna())
axis.set(xlabel="step", ylabel="loss a token", title="stage 1")
plt.show()

# %% [markdown]
# The first steps learn which words there are, the next ones the form of the answer. Written texts are split into list
# and report, and what cannot be read is counted. Scans are those of the test part, of other patients; `exact` asks for
# region and words, `region` for region and label.

# %%
batches = Trainer(logger=False, **quiet).predict(first, make_data(8))
records = [record for batch in batches for record in batch]
for record in records:
    record["abnormalities_reference"] = render_abnormalities(truth[record["volume_id"]].abnormalities)
parts = {"list": "abnormalities", "report": "prediction", "true list": "abnormalities_reference"}
for record in records[:2]:
    for name, key in parts.items():
        print(f"{name.upper()}\n{record[key]}\n")
print({name: round(value, 2) for name, value in list_scores(records, RuleLabeler(), None).items()})
print(len({record["abnormalities"] for record in records}), "different lists of", len(records), "scans")

# %% [markdown]
# The form is there, and the report follows the list. What is written fits any phantom, not this one: there are fewer
# lists than scans, and most entries are wrong.

# %% [markdown]
# ## Stage 2: preferences
#
# DPO raises the probability of true lists and lowers that of wrong ones, against stage 1, the reference. Both texts are
# read behind one pass over the film's tokens, and the reference's log-probabilities are computed once, so that one
# model is in memory. Pairs of the validation part are of other patients, and never trained on. Before the first step
# the model is its own reference: every margin is 0, and the accuracy ½ (dashed).

# %%
second = DPOLightningModule.from_model(
    model,
    OptimizerConfig("adamw", 4e-4),
    beta=0.1,
    ends=False,
    reference="precomputed",
    reference_dir=str(root / "reference"),
)
preferences = PreferenceDataModule(make_data(8), root / "pairs.jsonl")
preferences.setup("fit")


@torch.no_grad()
def log_probs(film):
    """Return log-probabilities of true and wrong lists of held-out pairs behind a film."""
    second.eval()
    found = []
    for batch in preferences.val_dataloader():
        own = batch["features"].levels[0]
        level = {"own": own, "blank": blank.levels[0].expand_as(own), "another": own.roll(1, 0)}[film]
        found.append(second.log_probs({**batch, "features": replace(batch["features"], levels=[level])}).log_probs)
    return torch.cat(found).double()


films = ("own", "blank", "another")
before = {film: log_probs(film) for film in films}
log = fit(
    second,
    preferences,
    "stage_2",
    max_steps=20,
    val_check_interval=5,
    check_val_every_n_epoch=None,
    num_sanity_val_steps=-1,
)
after = {film: log_probs(film) for film in films}

figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained")
for axis, name in zip(axes, ("accuracy", "margin"), strict=True):
    axis.plot(log[f"train/{name}"].dropna(), alpha=0.4, label="training batches")
    axis.plot(log[f"val/{name}"].dropna(), "o-", label="held-out pairs")
    axis.set(xlabel="step", title=name)
axes[0].axhline(0.5, color="black", ls="--", lw=0.8)
axes[0].legend()
plt.show()

# %% [markdown]
# ## Is the film read?
#
# An accuracy alone says nothing about the film. So held-out pairs were also scored behind a blank film (air, seen by
# the same tower) and behind another patient's, with stage 1 and with stage 2. `likelier` is the share of pairs whose
# true list has the higher probability, `accuracy` that of pairs whose true list has gained more than the wrong one.

# %%
rows = {}
for film in films:
    gained = after[film] - before[film]
    rows[film] = {
        "likelier, stage 1": (before[film][:, 0] > before[film][:, 1]).double().mean().item(),
        "likelier, stage 2": (after[film][:, 0] > after[film][:, 1]).double().mean().item(),
        "accuracy": (gained[:, 0] > gained[:, 1]).double().mean().item(),
        "margin": second.beta * (gained[:, 0] - gained[:, 1]).mean().item(),
        "mean change of log-probability": (after[film] - after["own"]).abs().mean().item(),
    }
IPython.display.display(pd.DataFrame(rows).T.round(2))
changed = (after["own"] != after["blank"]).double().mean().item()
print(f"{changed:.0%} of the log-probabilities are others behind the blank film")

figure, axis = plt.subplots(figsize=(4.4, 3.8), layout="constrained")
for column, name in enumerate(("true lists", "wrong lists")):
    axis.scatter(after["own"][:, column], after["blank"][:, column], s=14, label=name)
limits = [min(axis.get_xlim()[0], axis.get_ylim()[0]), 0]
axis.plot(limits, limits, color="black", ls="--", lw=0.8)
axis.set(xlabel="log-probability, own film", ylabel="log-probability, blank film")
axis.legend()
plt.show()

# %% [markdown]
# The film reaches both texts: a blank one changes their probabilities by much. But with another patient's film the
# accuracy is about what it is with the right one. So what was learnt here is which wordings occur, and nothing of this
# patient: a film that all agree on would have done. With a tower that sees something (a pretrained one, or the stand-in
# of the longer study) the same three rows show whether preferences come from the film.
