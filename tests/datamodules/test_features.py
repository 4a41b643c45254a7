from __future__ import annotations

import pytest
import torch

from ct_vlm.datamodules import FeatureDataModule, FeatureDataset, VolumeDataModule, encode_features
from ct_vlm.encoders import Encoder, ResidualUNetEncoder
from ct_vlm.errors import DatasetError
from ct_vlm.features import Features


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        torch.manual_seed(int(index))
        image = torch.randint(-1000, 1000, (1, 8, 8, 8), dtype=torch.int16)
        return {"image": image, "report": f"report {int(index)}", "labels": torch.tensor([float(index)])}


@pytest.fixture
def encoder():
    return ResidualUNetEncoder(3, features=(4, 6), blocks=(1, 1), strides=(1, 2))


@pytest.fixture
def data():
    module = VolumeDataModule("phantom")
    module.datasets = {"train": Items()}
    return module


def test_cached_features_equal_those_of_the_encoder(encoder, data):
    cached = encode_features(encoder, data, "train", dtype=torch.float32, batch_size=2, progress=False)
    module = FeatureDataModule({"train": cached, "val": cached}, batch_size=3)
    batch = next(iter(module.val_dataloader()))
    images = torch.stack([Items()[i]["image"] for i in range(3)])
    expected = encoder.eval()(data.preset.window(images))
    for have, want in zip(batch["features"].levels, expected.levels, strict=True):
        torch.testing.assert_close(have, want, atol=1e-5, rtol=1e-5)
    assert batch["report"] == ["report 0", "report 1", "report 2"]
    assert batch["labels"].flatten().tolist() == [0, 1, 2]
    assert "image" not in batch


def test_half_precision_storage_is_close(encoder, data):
    exact = encode_features(encoder, data, "train", dtype=torch.float32, progress=False)
    half = encode_features(encoder, data, "train", progress=False)
    assert half.levels[0].dtype is torch.float16
    # half precision has 11 bits of mantissa
    torch.testing.assert_close(half.levels[1].float(), exact.levels[1], atol=2e-3, rtol=1e-3)


def test_levels_that_are_not_wanted_take_no_memory(encoder, data):
    cached = encode_features(encoder, data, "train", levels=(-1,), progress=False)
    assert cached.levels[0].numel() == 0
    assert cached.levels[1].shape == (5, 64, 6)


def test_encoding_leaves_the_encoder_as_it_was(encoder, data):
    encoder.train()
    encode_features(encoder, data, "train", progress=False)
    assert encoder.training
    assert all(p.grad is None and p.requires_grad for p in encoder.parameters())


def test_training_batches_are_a_function_of_seed(encoder, data):
    cached = encode_features(encoder, data, "train", progress=False)
    modules = [FeatureDataModule({"train": cached}, batch_size=2, seed=seed) for seed in (1, 1, 2)]
    order = [[text for batch in module.train_dataloader() for text in batch["report"]] for module in modules]
    assert order[0] == order[1] != order[2]
    assert sorted(order[0]) == [f"report {i}" for i in range(5)]


def test_selected_samples_keep_their_features_and_take_new_values(encoder, data):
    dataset = encode_features(encoder, data, "train", progress=False)
    before = [dict(item) for item in dataset.items]
    chosen = dataset.select([3, 1], report=["x", "y"])
    assert [item["report"] for item in chosen.items] == ["x", "y"]
    for new, old in zip(chosen.levels, dataset.levels, strict=True):
        torch.testing.assert_close(new, old[[3, 1]])
    assert dataset.items[3].get("report") == before[3].get("report")
    with pytest.raises(ValueError, match="shorter"):
        dataset.select([0, 1], report=["only one"])


def test_numbers_must_agree():
    with pytest.raises(DatasetError, match="2 samples"):
        FeatureDataset([torch.zeros(3, 8, 4)], [(2, 2, 2)], [{}, {}])


class SliceMeans(Encoder):
    """One token a slice, with the slices' places and padding."""

    def __init__(self):
        super().__init__()
        self.in_channels, self.level_dims = 3, (3,)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, image):
        means = self.scale * image.mean((3, 4)).transpose(1, 2)
        size, depth = means.shape[:2]
        position = torch.arange(depth, dtype=torch.float32).expand(size, -1) + means[:, :1, 0]
        return Features([means], [(depth, 1, 1)], position, position > 5)


def test_slice_positions_and_padding_stay_with_their_samples(data):
    encoder = SliceMeans()
    cached = encode_features(encoder, data, "train", batch_size=2, progress=False)
    batch = next(iter(FeatureDataModule({"val": cached}, batch_size=5).val_dataloader()))
    expected = encoder(data.preset.window(torch.stack([Items()[i]["image"] for i in range(5)])))
    torch.testing.assert_close(batch["features"].slice_position_mm, expected.slice_position_mm)
    assert batch["features"].padding_mask.equal(expected.padding_mask)
    assert expected.padding_mask.any()
    assert "slice_position_mm" not in batch


def test_volumes_of_other_grids_are_refused(encoder, data):
    class Growing(Items):
        def __getitem__(self, index):
            return {"image": torch.zeros(1, 8, 8, 8 + 8 * (int(index) > 2), dtype=torch.int16)}

    data.datasets = {"train": Growing()}
    with pytest.raises(DatasetError, match=r"'?train'?.*\(8, 8, 8\).*\(8, 8, 16\)"):
        encode_features(encoder, data, "train", batch_size=1, progress=False)
