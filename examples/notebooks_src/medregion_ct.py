# %% [markdown]
# # MedRegion-CT: what it looks at
#
# MedRegion-CT writes one text a region of the chest. It keeps one token of every slice, all tokens (coarsened) of the
# slices that show the regions best (R² pooling), and two tokens a region mask. This notebook shows what that selects
# on a phantom (a synthetic chest CT) and on a real scan, if one lies beside the library; without one, a second
# phantom stands in. No weights are downloaded: what is shown depends on masks and geometry, not on weights, and the
# texts at the end are those of an untrained model.

# %%
import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import IPython.display

import ct_vlm
from ct_vlm import MaskDrivenVisualExtractor, R2TokenPooling, SliceEncoder, load_volume, write_radgenome
from ct_vlm.attributes import MaskSet, render_attributes
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.evaluation import write_overlays
from ct_vlm.models import CallableSegmenter, FileSegmenter, generate_grounded, medregion_ct
from ct_vlm.models.mask_inputs import region_masks
from ct_vlm.ops.region_pool import mask_slice_counts, uniform_slices
from ct_vlm.text import MEDREGION_REGIONS, region_scheme
from ct_vlm.transforms import CTPreset, load_label_map

logging.getLogger("ct_vlm").setLevel(logging.ERROR)
torch.set_num_threads(1)
torch.manual_seed(0)
root = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Two scans and their masks
#
# The phantoms lie on disk as a RadGenome-ChestCT download does, with a mask file a region. A segmenter brings masks,
# and says who drew them: from files here.

# %%
write_radgenome(root / "tree", 2, shape=(48, 96, 96), seed=3, workers=0, progress=False)
base = root / "tree" / "dataset"
phantom_file, second_file = sorted(base.rglob("*_preprocessed/**/*.nii.gz"))[:2]


def files_of(scan):
    """Return the segmenter of a phantom: its masks are right by construction."""
    split = scan.name.split("_")[0]
    return FileSegmenter(base / f"{split}_region_mask", kind="reference")


# %% [markdown]
# The real scan is a chest CT of the Chest Imaging Platform with labels of lungs, airways and vessels. A function turns
# them into masks and adds what is dense enough for bone: any such function is a segmenter.

# %%
folder = Path(ct_vlm.__file__).resolve().parents[2] / "shared" / "data" / "cip"
is_real = (folder / "chest_ct64.nii.gz").is_file()


def cip_masks(volume):
    labels, _ = load_label_map(folder / "chest_ct64_cip_labels.nii.gz")
    region, kind = labels % 256, labels // 256
    return {"lung": region >= 9, "trachea and bronchie": kind == 2, "bone": volume.array > 250}


if is_real:
    second_file = folder / "chest_ct64.nii.gz"
    second_masks = CallableSegmenter(cip_masks, kind="pseudo", source="cip labels and a threshold")
else:
    second_masks = files_of(second_file)
scans = {"phantom": (phantom_file, files_of(phantom_file))}
scans["real scan" if is_real else "second phantom"] = (second_file, second_masks)
for name, (path, segmenter) in scans.items():
    volume = load_volume(path)
    masks = segmenter.segment(volume)
    spacing = tuple(round(size, 1) for size in volume.spacing)
    print(f"{name}: {volume.shape}, {spacing} mm; masks: {', '.join(masks.names)}; {masks.provenance.kind}")

# %% [markdown]
# ## What R² selects
#
# Masks go to the model's grid of 32 slices. For each region the slice with most of its voxels is kept in detail. A
# region without a mask gets the slice that uniform sampling would give it (hollow marks): it is never made up.

# %%
preset = CTPreset("notebook", size=(32, 126, 126), windows=((-1000.0, 400.0),))
scheme = region_scheme("six")
given, images = {}, {}
for name, (path, segmenter) in scans.items():
    volume = load_volume(path)
    given[name] = region_masks(volume, segmenter.segment(volume), scheme, preset)
    images[name] = preset.resample(volume)

encoder = SliceEncoder(
    {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
     "patch_size": 7, "image_size": 126}, (1, 2),
)  # fmt: skip
pooling = R2TokenPooling(num_slow=6, slow_grid=(9, 6))
features, chosen, batches = {}, {}, {}
for name in scans:
    batches[name] = {"region_masks": torch.from_numpy(given[name].masks)[None]}
    image = preset.window(torch.from_numpy(images[name])[None, None])
    with torch.no_grad():
        features[name] = encoder(image)
    chosen[name] = pooling.pool_features(features[name], batches[name])
    print(f"{name}: {tuple(chosen[name].tokens.shape)} tokens of {features[name].levels[-1].shape[1]}")

# %%
figure, rows = plt.subplots(1, 2, figsize=(13, 3.6), sharey=True, layout="constrained")
for axis, name in zip(rows, scans, strict=True):
    counts = mask_slice_counts(batches[name]["region_masks"])[0].float()
    for number, region in enumerate(MEDREGION_REGIONS):
        share = counts[number] / counts[number].max().clamp(min=1)
        (line,) = axis.plot(share, label=region)
        index, is_present = int(chosen[name].slice_index[0, number]), bool(chosen[name].present[0, number])
        axis.plot(index, share[index], "o", color=line.get_color(), fillstyle="full" if is_present else "none")
    for index in uniform_slices(32, 6).tolist():
        axis.axvline(index, color="0.8", lw=0.8, zorder=0)
    axis.set_title(f"{name}: voxels a slice, of the most (grey: uniform sampling)")
    axis.set_xlabel("slice, from the head")
rows[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# The selected slices with the outlines of their regions; the patient's left is on the image's right.

# %%
figure, grid = plt.subplots(2, 6, figsize=(15, 5.6), layout="constrained")
for row, name in zip(grid, scans, strict=True):
    for number, (axis, region) in enumerate(zip(row, MEDREGION_REGIONS, strict=True)):
        index = int(chosen[name].slice_index[0, number])
        axis.imshow(images[name][index], cmap="gray", vmin=-1000, vmax=400)
        mask = given[name].masks[number, index]
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=["#ffb000"], linewidths=1)
        axis.set_title(f"{region}\nslice {index}" + ("" if mask.any() else " (no mask)"), fontsize=8)
        axis.axis("off")
figure.suptitle(" above, ".join(scans) + " below")
plt.show()

# %% [markdown]
# ## What the mask extractor sees
#
# On R²-pooled features a mask is what it covers of the same 356 places: one of each slice (left), then a grid of 9 x 6
# in each of the six slices. Bright places feed the region's mask token, and the pattern feeds its spatial token.

# %%
figure, rows = plt.subplots(2, 1, figsize=(14, 5), layout="constrained")
for axis, name in zip(rows, scans, strict=True):
    cells = features[name].grids[-1][1:]
    covered = pooling.pool_masks(batches[name]["region_masks"], chosen[name], cells, 6)[0]
    axis.imshow(covered.sqrt(), aspect="auto", cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    for edge in range(6):
        axis.axvline(31.5 + 54 * edge, color="white", lw=0.8)
    axis.set_yticks(range(6), MEDREGION_REGIONS, fontsize=7)
    axis.set_title(f"{name}: square root of the share of each place that a mask covers", fontsize=9)
plt.show()

# %% [markdown]
# The same block of a region as a picture: its mask on the 9 x 6 grid of its own slice.

# %%
figure, grid = plt.subplots(2, 6, figsize=(13, 4.6), layout="constrained")
for row, name in zip(grid, scans, strict=True):
    covered = pooling.pool_masks(batches[name]["region_masks"], chosen[name], features[name].grids[-1][1:], 6)[0]
    for number, (axis, region) in enumerate(zip(row, MEDREGION_REGIONS, strict=True)):
        block = covered[number, 32 + 54 * number : 32 + 54 * (number + 1)].reshape(9, 6)
        axis.imshow(block, cmap="magma", vmin=0, vmax=1, aspect="auto")
        axis.set_title(region, fontsize=8)
        axis.axis("off")
plt.show()

extractor = MaskDrivenVisualExtractor(encoder.level_dims, 16, 6, hidden_dim=8, pooling=pooling, num_slices=32)
with torch.no_grad():
    for name in scans:
        found = extractor.extract(features[name], batches[name])
        print(f"{name}: tokens {tuple(found.tokens.shape)}, present {found.present[0].tolist()}")

# %% [markdown]
# ## A grounded report
#
# `generate_grounded` (or `ct-vlm generate --masks`) writes the report and says for each region which slice, in the
# model's grid and in the file, and which masks it rests on. Attributes are measured on the scan's own grid. The model
# is untrained, so only the grounding means something.

# %%
model = medregion_ct("tiny", tokenizer=train_bpe_tokenizer(["The lungs are clear. The heart is of normal size."], 280))
for name, (path, segmenter) in scans.items():
    volume = load_volume(path)
    masks: MaskSet = segmenter.segment(volume)
    report = generate_grounded(model, volume, masks, max_new_tokens=6)
    print(f"{name} ({report.mask_provenance.kind} masks)")
    for region in report.regions:
        size = "no mask" if region.volume_ml is None else f"{region.volume_ml:7.0f} mL"
        where = f"slice {region.slice_index:2d} = {region.file_slice} of the file, at {region.position_mm:7.1f} mm"
        print(f"  {region.name:24s} {size:>10s}  {where}{'  (fallback)' if region.is_fallback else ''}")
    print(" ", render_attributes(report.attributes)[:160], "...")
    pictures = write_overlays(report, volume, masks, root / name.replace(" ", "_"))
    IPython.display.display(IPython.display.Image(pictures[0], width=420))

# %% [markdown]
# Sizes are those on the scan's own grid: the lung labels of the real scan hold 4.55 L.

# %%
print({name: f"{given[name].volume_ml[0] / 1000:.2f} L" for name in scans})
