from __future__ import annotations

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import DeepSupervisionDiceCELoss, pool_labels


def reference(logits, target):
    """Soft Dice without background plus cross-entropy, written out in float64."""
    logits = logits.double()
    onehot = torch.nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1).double()
    probabilities = logits.softmax(1)
    overlap = (probabilities * onehot).sum((2, 3, 4))
    size = (probabilities + onehot).sum((2, 3, 4))
    dice = 1 - (2 * overlap + 1e-5) / (size + 1e-5)
    return dice[:, 1:].mean() - (onehot * logits.log_softmax(1)).sum(1).mean()


def test_value_equals_the_loss_written_out():
    logits, target = torch.randn(2, 4, 3, 5, 4), torch.randint(0, 4, (2, 3, 5, 4))
    torch.testing.assert_close(
        DeepSupervisionDiceCELoss()([logits], target).double(), reference(logits, target), atol=1e-5, rtol=1e-5
    )


def test_levels_weigh_half_of_the_one_before():
    target = torch.randint(0, 3, (1, 4, 4, 4))
    logits = [torch.randn(1, 3, 4, 4, 4), torch.randn(1, 3, 2, 2, 2)]
    single = DeepSupervisionDiceCELoss()
    parts = [single([x], target) for x in logits]
    torch.testing.assert_close(single(logits, target), (parts[0] + 0.5 * parts[1]) / 1.5)
    torch.testing.assert_close(DeepSupervisionDiceCELoss(drop_coarsest=True)(logits, target), parts[0])


def test_max_pooling_keeps_a_one_voxel_finding_that_nearest_loses():
    target = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    target[0, 1, 1, 1] = 30
    assert pool_labels(target, (2, 2, 2), "max").max() == 30
    assert pool_labels(target, (2, 2, 2), "nearest").max() == 0
    assert pool_labels(target, (4, 4, 4)).equal(target.long())


@pytest.mark.parametrize("size", [(3, 2, 5), (1, 1, 1)])
def test_odd_sizes_pool(size):
    assert pool_labels(torch.randint(0, 5, (2, 7, 5, 9)), size, "max").shape == (2, *size)


def test_gradients_flow_to_every_level():
    logits = [torch.randn(1, 3, 4, 4, 4, requires_grad=True), torch.randn(1, 3, 2, 2, 2, requires_grad=True)]
    DeepSupervisionDiceCELoss("max")(logits, torch.randint(0, 3, (1, 8, 8, 8))).backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in logits)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="label_pooling"):
        DeepSupervisionDiceCELoss("mean")
    with pytest.raises(ShapeError, match="label map"):
        pool_labels(torch.zeros(1, 1, 2, 2, 2), (1, 1, 1))
