from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError
from ct_vlm.losses import balanced_presence_loss, cell_presence


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 3, 1), (4, 6, 5)])
def test_presence_equals_a_loop_over_voxels(size):
    target = torch.randint(0, 5, (2, 4, 7, 5))
    expected = torch.zeros(2, 4, *size)
    for b in range(2):
        for d in range(4):
            for h in range(7):
                for w in range(5):
                    cell = (d * size[0] // 4, h * size[1] // 7, w * size[2] // 5)
                    if (label := int(target[b, d, h, w])) > 0:
                        expected[(b, label - 1, *cell)] = 1
    assert cell_presence(target, size, 5).equal(expected)


def test_divisible_sizes_equal_max_pooling_of_one_hot():
    target = torch.randint(0, 6, (2, 8, 4, 6))
    onehot = F.one_hot(target, 6).movedim(-1, 1)[:, 1:].float()
    assert cell_presence(target, (4, 2, 3), 6).equal(F.max_pool3d(onehot, 2))


def test_background_alone_gives_no_presence():
    assert cell_presence(torch.zeros(1, 4, 4, 4, dtype=torch.uint8), (2, 2, 2), 3).sum() == 0


def test_grid_finer_than_the_map_is_refused():
    with pytest.raises(ShapeError, match="no smaller"):
        cell_presence(torch.zeros(1, 2, 2, 2, dtype=torch.long), (4, 2, 2), 3)


def test_rare_positives_weigh_as_much_as_many_negatives():
    logits, target = torch.zeros(1, 1, 1, 1, 1000), torch.zeros(1, 1, 1, 1, 1000)
    target[..., 0] = 1
    logits.requires_grad_()
    balanced_presence_loss(logits, target).backward()
    gradient = logits.grad.flatten()
    torch.testing.assert_close(gradient[0], -gradient[1:].sum())


def test_class_without_a_positive_counts_its_negatives_only():
    value = balanced_presence_loss(torch.zeros(1, 1, 1, 1, 4), torch.zeros(1, 1, 1, 1, 4))
    torch.testing.assert_close(value, torch.tensor(2.0).log())
