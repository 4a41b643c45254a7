# %% [markdown]
# # Quickstart
#
# From nothing to a model that writes reports: phantoms (synthetic chest CTs), a look at one, the
# data module, a few training steps, a generated report and its scores. No download. The sizes here
# are tiny so that the notebook runs in a minute on a CPU; what it trains is a beginning, not a
# model. `ct-vlm demo` trains all three stages of U-VLM properly.

# %%
import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning import Trainer, seed_everything

from ct_vlm import (
    CTRateDataModule,
    OptimizerConfig,
    ReportLightningModule,
    load_volume,
    train_bpe_tokenizer,
    u_vlm,
    write_ct_rate,
)

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)
seed_everything(0, verbose=False)
root = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Phantoms
#
# `write_ct_rate` lays synthetic scans out exactly like a CT-RATE download: NIfTI volumes, report,
# label and metadata tables, and label maps of the training scans. `ct-vlm phantoms` does the same.

# %%
manifest = write_ct_rate(root / "phantoms", 24, workers=0, progress=False)
for path in sorted(p for p in (root / "phantoms").rglob("*") if p.is_file())[:4]:
    print(path.relative_to(root))
len(manifest.volumes)

# %% [markdown]
# ## One scan
#
# `load_volume` is the one door from a NIfTI file to Hounsfield units. The array is `(D, H, W)`: from
# head to foot, front to back, and the patient's right to left.

# %%
from ct_vlm.transforms import load_label_map

scan = sorted((root / "phantoms").rglob("train_*.nii.gz"))[0]
volume = load_volume(scan)
mask_file = next((root / "phantoms" / "segmentation").rglob(f"{scan.name.split('.')[0]}*.nii.gz"))
mask, _ = load_label_map(mask_file)

level = volume.shape[0] // 2
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for axis in axes:
    axis.imshow(volume.array[level], cmap="gray", vmin=-1000, vmax=400)
    axis.axis("off")
axes[1].imshow(np.ma.masked_equal(mask[level], 0), cmap="tab20", alpha=0.5, interpolation="nearest")
figure.suptitle(f"{scan.name}, slice {level}: patient's left is on the image's right")
plt.show()

# %% [markdown]
# ## Data
#
# CT-RATE's `valid` split is the test set; validation is carved from `train` by patient. Batches are
# plain dicts. Volumes travel as int16 HU and are windowed on the device, by the preset.

# %%
data = CTRateDataModule(root / "phantoms", preset="phantom", batch_size=4, val_fraction=0.2)
data.setup()
sample = data.datasets["train"][0]
print(data.datasets["train"].report)
print(sample["image"].shape, sample["image"].dtype)
print(sample["report"][:300])

# %% [markdown]
# ## Model and training
#
# `u_vlm("tiny")` is encoder + connectors + decoder; `ReportLightningModule` trains any such model.

# %%
tokenizer = train_bpe_tokenizer([s.report for s in data.datasets["train"].samples], vocab_size=600)
task = ReportLightningModule.from_model(
    u_vlm("tiny", tokenizer=tokenizer),
    OptimizerConfig(lr=2e-3),
    frozen=(),
    generation={"max_new_tokens": 32},
)
trainer = Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    num_sanity_val_steps=0,
)
trainer.fit(task, data)
{name: round(float(value), 3) for name, value in trainer.callback_metrics.items()}

# %% [markdown]
# ## A report
#
# A saved model holds its tokenizer and its preprocessing: a path is all it needs.

# %%
task.save_pretrained(root / "model")
again = ReportLightningModule.from_pretrained(root / "model")
unseen = sorted((root / "phantoms").rglob("valid_*.nii.gz"))[0]
print(again.generate(unseen, max_new_tokens=32))

# %% [markdown]
# ## Scores
#
# `test` writes a report for every scan of the test split and scores it, then scores it again
# against the reports of other patients. A model that does not look at the image scores about the same
# both times, as this one does after two epochs.

# %%
scores = trainer.test(task, data, verbose=False)[0]
{name: round(value, 3) for name, value in sorted(scores.items())}
