# %% [markdown]
# # Evaluating report models
#
# Two systems write reports of the same scans: a linear model that reads the volume, and one that
# writes the most frequent training report every time. This notebook scores both, says how certain
# the scores are, and asks of the better one whether it looks at the image. The scans are phantoms
# (synthetic chest CTs), so nothing is downloaded; the calls are the same for any model and any files.

# %%
import csv
import json
import tempfile
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML

from ct_vlm.evaluation import Extras, Files, Settings, evaluate_files
from ct_vlm.metrics import RuleLabeler, TemplateWriter, frequent_report, plot_reliance, visual_reliance
from ct_vlm.metrics.functional import clinical_scores, fit_thresholds, nlg_scores, threshold_scores
from ct_vlm.phantoms import make_phantom

torch.set_num_threads(1)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Two systems
#
# A phantom has a volume, 18 labels and a report. 280 train the linear model, 80 calibrate its
# thresholds, 120 are for testing; every phantom is a patient of its own.

# %%
phantoms = [make_phantom(seed, (24, 40, 40)) for seed in range(480)]
train, calibration, test = phantoms[:280], phantoms[280:360], phantoms[360:]
names = [f"valid_{number + 1}_a_1" for number in range(len(test))]
HU_EDGES = [-1100, -960, -900, -780, -600, -350, -150, -20, 35, 80, 160, 400, 2500]


def describe(volume):
    """Return how much of each density there is in each of 4 x 4 x 4 cells of a volume."""
    volume = np.asarray(volume)
    cell = np.zeros(volume.shape, dtype=int)
    for axis, size in enumerate(volume.shape):
        shape = [-1 if other == axis else 1 for other in range(3)]
        cell = 4 * cell + (np.arange(size) * 4 // size).reshape(shape)
    bins = len(HU_EDGES) + 1
    counts = np.bincount((cell * bins + np.digitize(volume, HU_EDGES)).ravel(), minlength=64 * bins)
    return np.sqrt(counts / volume.size)


def labels_of(group):
    return np.stack([phantom.labels for phantom in group]).astype(float)


vectors = np.stack([describe(phantom.volume) for phantom in train])
centre, spread = vectors.mean(0), vectors.std(0) + 1e-3
rows, frequencies = (vectors - centre) / spread, labels_of(train).mean(0)
weights = rows.T @ np.linalg.solve(rows @ rows.T + 300 * np.eye(len(rows)), labels_of(train) - frequencies)


def probabilities(volumes):
    """Return the probability of each label: ridge regression on the description of a volume."""
    scaled = (np.stack([describe(volume) for volume in volumes]) - centre) / spread
    return np.clip(scaled @ weights + frequencies, 0, 1)


# %% [markdown]
# ## Thresholds
#
# Probabilities become labels at thresholds. These are fitted on the calibration split and then kept;
# fitting them on the test split is refused unless it is named what it is, `oracle`.

# %%
thresholds = fit_thresholds(
    probabilities([phantom.volume for phantom in calibration]), labels_of(calibration), split="calibration"
)
test_probabilities, true_labels = probabilities([phantom.volume for phantom in test]), labels_of(test)
scored = threshold_scores(test_probabilities, true_labels, thresholds)
upper = fit_thresholds(test_probabilities, true_labels, split="oracle")
{
    "fixed 0.5": round(scored["fixed"]["macro_f1"], 3),
    "calibrated": round(scored["scores"]["macro_f1"], 3),
    "oracle": round(threshold_scores(test_probabilities, true_labels, upper)["scores"]["macro_f1"], 3),
}

# %% [markdown]
# System A writes its labels as a report, with sentences of training reports. System B always writes
# the most frequent training report (no two of phantoms are alike, so here it is the first). Their
# reports go into files, as those of any model would.

# %%
train_reports = [phantom.findings_text for phantom in train]
writer = TemplateWriter.fit(train_reports, labels_of(train))


def write_reports(volumes):
    return writer.write(thresholds.apply(probabilities(volumes)))


def save(name, column, ids, texts):
    with (folder / name).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["VolumeName", column], *zip(ids, texts, strict=True)])
    return folder / name


truth = save("references.csv", "Findings_EN", names, [phantom.findings_text for phantom in test])
training = save("train.csv", "Findings_EN", [f"train_{i + 1}_a_1" for i in range(len(train))], train_reports)
system_a = save("linear.csv", "prediction", names, write_reports([phantom.volume for phantom in test]))
system_b = save("constant.csv", "prediction", names, frequent_report(train_reports, len(test)))

# %% [markdown]
# ## Scores, intervals, differences
#
# One call reads the files, scores both systems and compares them; `ct-vlm evaluate --predictions
# linear.csv --references references.csv --compare constant.csv --train-reports train.csv` is the same.
# Every value names its protocol and its labeler. Intervals draw whole patients; the difference draws
# the same patients for both systems, and its p-value comes from swapping systems patient by patient.

# %%
settings = Settings(protocol="vlm3d", metrics=["bleu", "rouge", "cider"], labeler="rules", n_resamples=500)
files = Files(system_a, truth, compare=system_b, train_reports=training)
study = evaluate_files(files, settings, Extras(regions="ten", n_permutations=300))
results = study.results
print(f"protocol {results['nlg']['protocol']}, labels by {results['clinical']['labeler']}")
for score in ("bleu_4", "rouge_l", "cider", "micro_f1", "macro_f1", "crg"):
    first, second = (found.scores["intervals"][score] for found in study.systems.values())
    difference, p_value = study.comparison["difference"][score], study.comparison["permutation"][score]
    cells = (f"{x['value']:.3f} [{x['low']:.3f}, {x['high']:.3f}]" for x in (first, second, difference))
    print(f"{score:10s}", *(f"{cell:24s}" for cell in cells), f"p = {p_value:.3f}")

# %% [markdown]
# Word overlap cannot tell the system that reads the volume from the one that does not; the labels of
# the reports can.
#
# ## Baselines and collapse
#
# Reports that need no image, or only the labels that system A found. The template repeats system A,
# because that is how system A writes; a language model must add something to it. System B has
# collapsed: one report, and label sets without entropy.

# %%
for name, row in results["baselines"].items():
    print(f"{name:22s} BLEU-4 {row['nlg']['bleu_4']:.3f}   micro F1 {row['clinical']['micro_f1']:.3f}")
for name, found in study.systems.items():
    collapse = found.scores["collapse"]
    keys = ("distinct_reports", "label_set_entropy", "reference_label_set_entropy")
    print(f"{name:10s}", {key: round(collapse[key], 2) for key in keys})

# %% [markdown]
# ## Does it look at the volume?
#
# `visual_reliance` shows the model blank volumes, the mean volume, noise, and the volumes of other
# patients. Reliance is 1 - score / real score: near 0 for a model that ignores the image, as
# system B does. The model may be any `ReportLightningModule`, or a function from batch to reports.

# %%
batches = [
    {
        "image": torch.from_numpy(np.stack([phantom.volume for phantom in test[start : start + 24]]))[:, None],
        "labels": torch.from_numpy(true_labels[start : start + 24]),
        "patient_id": names[start : start + 24],
    }
    for start in range(0, len(test), 24)
]
reads = visual_reliance(
    lambda batch: write_reports(batch["image"][:, 0].numpy()), batches, seeds=(0, 1), blank=-1000, n_resamples=300
)
ignores = visual_reliance(
    lambda batch: frequent_report(train_reports, len(batch["image"])), batches, ["other_patient"], seeds=(0,),
    n_resamples=20, scores=["crg"],
)  # fmt: skip
print("system A:", round(reads.reliance["other_patient"]["micro_f1"].value, 2))
print("system B:", round(ignores.reliance["other_patient"]["crg"].value, 2))
(folder / "reliance.json").write_text(json.dumps(reads.to_dict()), encoding="utf-8")
plot_reliance(reads, folder / "reliance.png", "micro_f1")
plt.imshow(plt.imread(folder / "reliance.png"))
plt.axis("off")
plt.show()

# %% [markdown]
# ## What word overlap cannot see
#
# Deny what is there, state what is not: BLEU hardly moves, no label is right any more.

# %%
true = ["No pleural effusion was seen. There are calcific plaques in the aortic arch and its branches."]
flipped = ["Pleural effusion was seen. There are no calcific plaques in the aortic arch and its branches."]
labeler = RuleLabeler()
bleu = nlg_scores(flipped, true, metrics=["bleu"])["bleu_4"]
f1 = clinical_scores(labeler(flipped), labeler(true))["micro_f1"]
print(f"BLEU-4 {bleu:.2f}, label F1 {f1:.2f}")
print(labeler.explain(flipped[0]))

# %% [markdown]
# ## The report
#
# `write` leaves all values as JSON, one row a report as CSV, and an HTML page that needs no other
# file: scores, labels, lengths, the reliance plot, the worst and best cases with the sentences that
# made their labels.

# %%
study = evaluate_files(
    Files(system_a, truth, compare=system_b, train_reports=training, reliance=folder / "reliance.json"),
    settings,
    Extras(regions="ten", n_permutations=100),
)
for path in study.write(folder / "evaluation", num_cases=3):
    print(path.name, f"{path.stat().st_size / 1024:.0f} kB")

# %%
page = escape((folder / "evaluation" / "report.html").read_text(encoding="utf-8"))
HTML(f'<div><iframe srcdoc="{page}" width="100%" height="700"></iframe></div>')
