"""The LeJEPA task: its loss by hand, its logs, its checkpoints, and that it does not collapse."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from ct_vlm.component import Component
from ct_vlm.datamodules import SlabDataModule, make_loader
from ct_vlm.datasets import SlabDataset
from ct_vlm.encoders import SliceEncoder, lejepa_vit
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import LeJEPALoss
from ct_vlm.modules.ssl_projector import SSLProjector
from ct_vlm.phantoms import make_phantom
from ct_vlm.tasks import LEJEPA_OPTIMIZER, LeJEPALightningModule, load_task
from ct_vlm.transforms import CTPreset, SlabViews

BACKBONE = {
    "timm": "vit_tiny_patch16_224",
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "in_chans": 1,
}
SIGREG = {"num_directions": 64}
STATISTICS = ("effective_rank", "mean_cosine", "mean_std", "min_std")


def encoder(**settings) -> SliceEncoder:
    return SliceEncoder(BACKBONE, layers=(2,), **{"frozen": False, "chunk_size": 64, **settings})


def task(**settings) -> LeJEPALightningModule:
    return LeJEPALightningModule(encoder(), SSLProjector(24, 32, 8), sigreg=SIGREG, **settings)


def views(batch: int = 6, **extra) -> dict:
    return {"global_views": torch.rand(batch, 1, 2, 32, 32), "local_views": torch.rand(batch, 1, 3, 16, 16), **extra}


def trainer(path, **settings) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **settings},
    )


def slabs(count: int, slabs_per_volume: int = 4) -> SlabDataset:
    phantoms = [make_phantom(seed, (8, 32, 32)) for seed in range(count)]
    items = [{"image": torch.from_numpy(p.volume)[None], "spacing": torch.tensor(p.spacing)} for p in phantoms]
    return SlabDataset(items, SlabViews(32, 16, num_local=2), slabs_per_volume=slabs_per_volume)


def batches_of(*batches: dict) -> DataLoader:
    return DataLoader(batches, batch_size=None)


def loader(dataset: SlabDataset, batch_size: int, *, shuffle: bool = False) -> DataLoader:
    window = SlabDataModule("unused", CTPreset("p", windows=((-997.0, 888.0),))).on_after_batch_transfer
    batches = make_loader(dataset, batch_size=batch_size, shuffle=shuffle, drop_last=shuffle)
    return batches_of(*(window(batch, 0) for batch in batches))


def test_loss_is_the_formula_on_class_tokens():
    module, batch = task(weight=0.3), views()
    model = module.encoder.backbone.model
    tokens = [model(batch["global_views"][:, :, v]) for v in range(2)] + [
        model(batch["local_views"][:, :, v]) for v in range(3)
    ]
    projections = torch.stack([module.projector(token) for token in tokens])
    expected = LeJEPALoss(0.3, 2, SIGREG)(projections, step=9)
    found = module.losses(batch, step=9)
    torch.testing.assert_close(found["loss"], expected.loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["invariance"], expected.invariance, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_all_parameters():
    module = task()
    module.losses(views())["loss"].backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_global_views_alone_are_enough():
    batch = views()
    del batch["local_views"]
    assert task().losses(batch)["loss"].isfinite()


def test_training_logs_losses_and_statistics(tmp_path):
    dataset = slabs(4)
    fit = trainer(tmp_path, max_epochs=1, log_every_n_steps=1)
    fit.fit(task(), loader(dataset, 8, shuffle=True), loader(dataset, 8))
    logged = {name: float(value) for name, value in fit.callback_metrics.items()}
    places = [f"{place}/{name}" for place in ("embedding", "projection") for name in STATISTICS]
    expected = {f"{part}/{name}" for part in ("train", "val") for name in ("loss", "invariance", "sigreg", *places)}
    assert set(logged) == expected
    # all 16 validation slabs count, not a mean over batches of 8
    assert 1 < logged["val/embedding/effective_rank"] < 16


def patterns(batch: int) -> dict:
    """Views that show the same four by four fields of grey."""
    pattern = torch.rand(batch, 1, 4, 4)
    large, small = (nn.functional.interpolate(pattern, scale_factor=factor)[:, :, None] for factor in (8, 4))
    return {"global_views": large.expand(-1, -1, 2, -1, -1), "local_views": small.expand(-1, -1, 3, -1, -1)}


def test_training_spreads_the_embeddings():
    # batch norm: from embeddings that hardly differ, a layer norm's way leads over the saddle at zero
    projector = SSLProjector(24, 32, 8, norm="batch")
    module, batch = LeJEPALightningModule(encoder(), projector, weight=0.5, sigreg=SIGREG), patterns(24)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    values = []
    for step in range(30):
        optimizer.zero_grad()
        losses = module.losses(batch, step)
        losses["loss"].backward()
        optimizer.step()
        values.append(losses["sigreg"].item())
    # equal embeddings give 0.4 a sample
    assert values[0] > 7
    assert values[-1] < 3


def test_checkpoint_rebuilds_task_and_encoder(tmp_path):
    module = task(num_labels=3)
    batch = views(global_labels=torch.ones(6, 2, 3), local_labels=torch.zeros(6, 3, 3))
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(module, batches_of(batch))
    fit.save_checkpoint(tmp_path / "ssl.ckpt")
    again = load_task(tmp_path / "ssl.ckpt")
    assert isinstance(again, LeJEPALightningModule)
    image = torch.rand(1, 1, 3, 32, 32)
    module.eval()
    torch.testing.assert_close(again.eval()(image), module(image))
    rebuilt = Component.from_config(module.to_config())
    assert rebuilt.optimizer == LEJEPA_OPTIMIZER
    next_stage = LeJEPALightningModule(
        encoder(), SSLProjector(24, 32, 8), init_from={"encoder": str(tmp_path / "ssl.ckpt")}
    )
    torch.testing.assert_close(next_stage.eval()(image), module(image))


def test_auxiliary_head_is_balanced_cross_entropy_of_both_kinds():
    module = task(num_labels=3, aux_weight=0.5, aux_pos_weight=15.0)
    nn.init.zeros_(module.aux_head.weight)
    nn.init.zeros_(module.aux_head.bias)
    batch = views(global_labels=torch.ones(6, 2, 3), local_labels=torch.zeros(6, 3, 3))
    found = module.losses(batch)
    # ln 2 for negatives, 15 ln 2 for positives
    assert found["aux"].item() == pytest.approx(0.6931 * (15 + 1) / 2, rel=1e-3)
    plain = found["loss"] - 0.5 * found["aux"]
    torch.testing.assert_close(plain, 0.02 * found["sigreg"] + 0.98 * found["invariance"])


def test_predictions_are_embeddings_of_slices(tmp_path):
    batch = {"image": torch.rand(2, 1, 5, 32, 32), "volume_id": ["a", "b"]}
    found = trainer(tmp_path).predict(task(), batches_of(batch))[0]
    assert found["embeddings"].shape == (2, 5, 24)
    assert found["volume_id"] == ["a", "b"]


def test_papers_settings():
    module = LeJEPALightningModule(lejepa_vit("tiny"))
    assert (module.projector.in_dim, module.projector.out_dim) == (96, 124)
    assert (module.loss.weight, module.loss.sigreg.num_directions) == (0.02, 1024)
    built = LEJEPA_OPTIMIZER.build(module.named_parameters(), 50_000)
    settings = built["optimizer"].param_groups[0]
    assert (settings["initial_lr"], settings["weight_decay"], settings["eps"]) == (3e-4, 0.04, 1e-6)
    rates = [3e-4 * LEJEPA_OPTIMIZER.factor(step, 50_000) for step in (4_999, 49_999)]
    assert rates == pytest.approx([3e-4, 3e-5], rel=1e-3)


def test_wrong_use():
    with pytest.raises(ConfigError, match="frozen"):
        LeJEPALightningModule(encoder(frozen=True))
    with pytest.raises(ConfigError, match="reads 5 channels"):
        LeJEPALightningModule(encoder(), SSLProjector(5))
    with pytest.raises(ShapeError, match="global_views"):
        task().losses({"image": torch.zeros(1)})
    with pytest.raises(ConfigError, match="3 labels a view, but got none"):
        task(num_labels=3).losses(views())
    tokenless = {**BACKBONE, "class_token": False, "global_pool": "avg"}
    with pytest.raises(ConfigError, match="class token"):
        LeJEPALightningModule(SliceEncoder(tokenless, layers=(2,), frozen=False))(torch.zeros(1, 1, 1, 32, 32))
