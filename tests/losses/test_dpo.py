"""The DPO loss against formulas in float64 and against TRL's trainer."""

from __future__ import annotations

import math

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import dpo_loss

LENGTHS = torch.tensor([[3, 5], [10, 2], [4, 4]])


def draw(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64) * 4 - 20
    return policy.to(dtype).requires_grad_(), reference.to(dtype)


def by_hand(policy, reference, beta, smoothing, length) -> float:
    total = 0.0
    for row in range(3):
        better, worse = (policy - reference)[row].tolist()
        counts = LENGTHS[row].tolist()
        if length == "mean":
            better, worse = better / counts[0], worse / counts[1]
        elif length == "sample":
            better, worse = (2 * value / sum(counts) for value in (better, worse))
        right = 1 / (1 + math.exp(-beta * (better - worse)))
        total -= (1 - smoothing) * math.log(right) + smoothing * math.log(1 - right)
    return total / 3


@pytest.mark.parametrize("length", ["sum", "mean", "sample"])
@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.5, 0.2)])
def test_equals_the_formula(length: str, beta: float, smoothing: float) -> None:
    policy, reference = draw()
    settings = {"beta": beta, "label_smoothing": smoothing, "length": length, "num_tokens": LENGTHS}
    result = dpo_loss(policy, reference, **settings)
    assert result.loss.item() == pytest.approx(by_hand(policy, reference, beta, smoothing, length), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: dpo_loss(x, reference, **settings).loss, policy)
    narrow = dpo_loss(policy.float(), reference.float(), **settings).loss
    torch.testing.assert_close(narrow.double(), result.loss, rtol=1e-5, atol=1e-6)


def test_rewards_say_who_won() -> None:
    reference = torch.zeros(3, 2)
    result = dpo_loss(torch.tensor([[1.0, -1.0], [2.0, 2.0], [-3.0, 1.0]]), reference, beta=0.5)
    assert result.chosen_rewards.tolist() == [0.5, 1.0, -1.5]
    assert result.rejected_rewards.tolist() == [-0.5, 1.0, 0.5]
    assert result.margins.tolist() == [1.0, 0.0, -2.0]
    assert result.accuracies.tolist() == [1.0, 0.5, 0.0]
    assert result.kl.item() == pytest.approx((1 + 1 + 4 + 4 + 9 + 1) / 12)


def test_a_policy_that_is_its_reference_stands_at_chance() -> None:
    policy, _ = draw()
    result = dpo_loss(policy, policy.detach())
    assert result.loss.item() == pytest.approx(math.log(2))
    assert result.kl.item() == 0
    grad = torch.autograd.grad(result.loss, policy)[0]
    # the better texts are pushed up, the worse ones down, by beta / 2 each
    torch.testing.assert_close(grad, torch.tensor([-0.05, 0.05], dtype=grad.dtype).expand(3, 2) / 3)


def test_extreme_margins_stay_finite() -> None:
    policy = torch.tensor([[-5e4, 0.0], [0.0, -5e4]], requires_grad=True)
    result = dpo_loss(policy, torch.zeros(2, 2), beta=1.0)
    result.loss.backward()
    assert result.loss.item() == pytest.approx(2.5e4)
    assert policy.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"beta": 0.0}, ConfigError),
        ({"beta": float("nan")}, ConfigError),
        ({"label_smoothing": 0.5}, ConfigError),
        ({"length": "words"}, ConfigError),
        ({"length": "mean"}, ShapeError),
        ({"num_tokens": torch.ones(2)}, ShapeError),
    ],
)
def test_what_cannot_be_right_is_refused(settings, error) -> None:
    policy, reference = draw()
    with pytest.raises(error):
        dpo_loss(policy, reference, **settings)


def test_shapes_and_gradients_of_the_reference_are_checked() -> None:
    policy, reference = draw()
    for wrong in (reference[:, 0], reference[:1]):
        with pytest.raises(ShapeError, match="log-probabilities"):
            dpo_loss(policy, wrong)
    with pytest.raises(ShapeError, match="gradients"):
        dpo_loss(policy, reference.requires_grad_())


@pytest.fixture(scope="module")
def trl_trainer(tmp_path_factory):
    """TRL's trainer with a tiny policy and another tiny model as its reference."""
    pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from ct_vlm.decoders import train_bpe_tokenizer

    tokenizer = train_bpe_tokenizer(["A nodule is seen.", "A mass is seen in the left lung."], 280)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    models = [
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes)) for _ in range(2)
    ]
    rows = {
        "prompt": ["Findings: ", "Report: "],
        "chosen": ["A nodule is seen.", "A mass."],
        "rejected": ["A mass is seen in the left lung.", "A nodule is seen."],
    }
    options = {"use_cpu": True, "report_to": "none", "bf16": False, "per_device_train_batch_size": 1, "beta": 0.3}
    arguments = DPOConfig(str(tmp_path_factory.mktemp("trl")), gradient_checkpointing=False, **options)
    return DPOTrainer(
        models[0], models[1], args=arguments, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer
    )


def sums(model, batch):
    """Log-probabilities of both texts of TRL's batch, and their tokens, from all logits in float64."""
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].double()
    picked = logits.log_softmax(-1).gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
    mask = batch["completion_mask"][:, 1:]
    # TRL stacks all better texts, then all worse ones
    return ((picked * mask).sum(1)).view(2, -1).T, mask.sum(1).view(2, -1).T


# for one pair, the last of these losses of TRL's is conservative DPO
@pytest.mark.parametrize(
    ("kind", "length", "smoothing"),
    [("sigmoid", "sum", 0.0), ("sigmoid_norm", "mean", 0.0), ("aot_unpaired", "sum", 0.2)],
)
def test_equals_trl_on_the_same_log_probabilities(trl_trainer, kind: str, length: str, smoothing: float) -> None:
    trl_trainer.loss_types, trl_trainer.label_smoothing = [kind], smoothing
    for batch in trl_trainer.get_train_dataloader():
        trl_trainer._metrics["train"].clear()
        theirs = trl_trainer._compute_loss(trl_trainer.model, dict(batch), return_outputs=False)
        with torch.no_grad():
            (policy, tokens), (reference, _) = (sums(m, batch) for m in (trl_trainer.model, trl_trainer.ref_model))
        settings = {"beta": 0.3, "label_smoothing": smoothing, "length": length, "num_tokens": tokens}
        ours = dpo_loss(policy, reference, **settings)
        assert ours.loss.item() == pytest.approx(theirs.item(), rel=1e-5)
        if length == "sum":
            shown = trl_trainer._metrics["train"]
            assert ours.margins.item() == pytest.approx(shown["rewards/margins"][0], rel=1e-4)
            assert ours.accuracies.item() == shown["rewards/accuracies"][0]
