# %% [markdown]
# # Your own encoder and your own connector
#
# Parts are classes with one method. An encoder turns a windowed volume `(B, C, D, H, W)` into
# `Features`: token maps from fine to coarse. A connector turns features into a `VisualContext`: what
# the decoder reads. The two classes below are all the user code that a new architecture needs.

# %%
import logging
import tempfile
from pathlib import Path

import torch
from lightning import Trainer, seed_everything
from torch import nn

from ct_vlm import (
    Connector,
    CTRateDataModule,
    Encoder,
    Features,
    OptimizerConfig,
    ReportLightningModule,
    VisualContext,
    train_bpe_tokenizer,
    write_ct_rate,
)
from ct_vlm.decoders import small_report_decoder

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)
seed_everything(0, verbose=False)


# %%
class PatchEncoder(Encoder):
    def __init__(self, in_channels: int = 3, dim: int = 32, patch: int = 16) -> None:
        super().__init__()
        self.in_channels, self.level_dims = in_channels, (dim,)
        self.embed = nn.Conv3d(in_channels, dim, patch, stride=patch)

    def forward(self, image: torch.Tensor) -> Features:
        return Features.from_maps([self.embed(image)])


class QueryTokens(Connector):
    def __init__(self, dim: int, embed_dim: int, num_tokens: int = 8) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(num_tokens, dim))
        self.attention = nn.MultiheadAttention(dim, num_heads=4, batch_first=True)
        self.project = nn.Linear(dim, embed_dim)

    def forward(self, features: Features, batch: dict | None = None) -> VisualContext:  # noqa: ARG002
        tokens = features.levels[-1]  # (B, N, C)
        queries = self.queries.expand(len(tokens), -1, -1)
        return VisualContext(tokens=self.project(self.attention(queries, tokens, tokens)[0]))


# %% [markdown]
# ## Train it
#
# Put the parts where the published ones go. Everything else (data, decoder, training, generation,
# checkpoints) is the library's.

# %%
root = Path(tempfile.mkdtemp())
write_ct_rate(root / "phantoms", 12, workers=0, progress=False)
data = CTRateDataModule(root / "phantoms", preset="phantom", batch_size=4, val_fraction=0.0)
data.setup("fit")

tokenizer = train_bpe_tokenizer([s.report for s in data.datasets["train"].samples], vocab_size=500)
decoder = small_report_decoder(tokenizer, num_layers=2, embed_dim=64, num_heads=4, ffn_dim=128)
task = ReportLightningModule(
    PatchEncoder(),
    [QueryTokens(32, decoder.embed_dim)],
    decoder,
    preset="phantom",
    optimizer=OptimizerConfig(lr=3e-3),
    frozen=(),
)
trainer = Trainer(
    max_epochs=3,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(task, data)
float(trainer.callback_metrics["train/loss"])

# %% [markdown]
# ## Save it
#
# Constructor arguments become the JSON config, so your parts save and load without extra code. In
# another process the classes must be importable: keep them in a module of your project.

# %%
task.save_pretrained(root / "model")
again = ReportLightningModule.from_pretrained(root / "model")
print(again.to_config()["init_args"]["encoder"])
scan = sorted((root / "phantoms").rglob("valid_*.nii.gz"))[0]
report = again.generate(scan, max_new_tokens=16)
print(report)
print("same as before saving:", report == task.generate(scan, max_new_tokens=16))

# %% [markdown]
# ## Several connectors
#
# Connectors compose: their tokens are concatenated. Here the library's multi-layer injection feeds
# the decoder's layers from the same encoder, beside the query tokens.

# %%
from ct_vlm.modules import MultiLayerVisualInjection

both = ReportLightningModule(
    PatchEncoder(),
    [QueryTokens(32, 64), MultiLayerVisualInjection((32,), 64, num_layers=2, layers_per_stage=2)],
    small_report_decoder(tokenizer, num_layers=2, embed_dim=64, num_heads=4, ffn_dim=128),
    preset="phantom",
)
context = both.visual_context({"image": both.read_image(scan)})
context.tokens.shape, sorted(context.layer_states)
