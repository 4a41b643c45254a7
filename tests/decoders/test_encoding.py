from __future__ import annotations

import pytest

from ct_vlm.decoders.encoding import encode_batch, splice_text
from ct_vlm.errors import ConfigError, ShapeError

PROMPTS = ["Report:", "Please write a report:"]
TARGETS = ["Clear lungs. No nodule.", "A nodule."]


def words(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_labels_are_the_target_and_its_end_only(tokenizer):
    batch = encode_batch(tokenizer, PROMPTS, TARGETS)
    for row, (prompt, target) in enumerate(zip(PROMPTS, TARGETS, strict=True)):
        text = [tokenizer.bos_token_id, *words(tokenizer, prompt)]
        expected = [*words(tokenizer, target), tokenizer.eos_token_id]
        length = len(text) + len(expected)
        assert batch.input_ids[row, :length].tolist() == text + expected
        assert batch.labels[row].tolist() == [-100] * len(text) + expected + [-100] * (batch.labels.shape[1] - length)
        assert batch.attention_mask[row].sum() == length
        assert batch.attention_mask[row, :length].all()


def test_loss_on_all_leaves_padding_out(tokenizer):
    batch = encode_batch(tokenizer, PROMPTS, TARGETS, loss_on="all")
    assert ((batch.labels == -100) == (batch.attention_mask == 0)).all()


@pytest.mark.parametrize("prompt", ["<visual>Report:", "Report:", "<visual> <text> Report:"])
def test_a_marker_inside_a_text_is_dropped(tokenizer, prompt):
    (spliced,) = splice_text([prompt], ["Age <visual>61."])
    assert spliced == splice_text([prompt], ["Age 61."])[0]
    assert encode_batch(tokenizer, [spliced]).visual_position.tolist() == [1]


def test_left_padding_keeps_rows_and_moves_the_visual_position(tokenizer):
    right = encode_batch(tokenizer, PROMPTS)
    left = encode_batch(tokenizer, PROMPTS, padding_side="left")
    width = right.input_ids.shape[1]
    for row in range(2):
        length = int(right.attention_mask[row].sum())
        assert left.input_ids[row, width - length :].tolist() == right.input_ids[row, :length].tolist()
        assert left.visual_position[row] == right.visual_position[row] + width - length
    assert left.labels is None


def test_marker_places_visual_tokens_and_adds_no_token(tokenizer):
    batch = encode_batch(tokenizer, ["Image: <visual> Report:", "<visual>"])
    head = [tokenizer.bos_token_id, *words(tokenizer, "Image: ")]
    assert batch.visual_position.tolist() == [len(head), 1]
    assert batch.input_ids[0].tolist() == head + words(tokenizer, " Report:")


def test_a_prompt_has_the_same_ids_with_and_without_a_target(tokenizer):
    alone, with_target = encode_batch(tokenizer, PROMPTS[:1]), encode_batch(tokenizer, PROMPTS[:1], TARGETS[:1])
    length = alone.input_ids.shape[1]
    assert with_target.input_ids[0, :length].tolist() == alone.input_ids[0].tolist()


def test_max_length_cuts_the_target_and_its_end(tokenizer):
    batch = encode_batch(tokenizer, PROMPTS[:1], TARGETS[:1], max_length=10)
    assert batch.input_ids.shape == (1, 10)
    assert tokenizer.eos_token_id not in batch.input_ids
    with pytest.raises(ShapeError, match="`max_length` is 3"):
        encode_batch(tokenizer, PROMPTS, TARGETS, max_length=3)


def test_begin_of_text_is_not_doubled(tokenizer):
    batch = encode_batch(tokenizer, ["<bos>Report:"])
    assert batch.input_ids[0].tolist() == [tokenizer.bos_token_id, *words(tokenizer, "Report:")]


def test_empty_prompts_give_one_padding_token(tokenizer):
    plain = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>")
    batch = encode_batch(plain, ["", ""])
    assert batch.input_ids.shape == (2, 1)
    assert not batch.attention_mask.any()


def test_moving_a_batch_keeps_every_field(tokenizer):
    batch = encode_batch(tokenizer, PROMPTS, TARGETS)
    moved = batch.to("meta").inputs()
    assert set(moved) == {"input_ids", "attention_mask", "labels", "visual_position"}
    assert all(value.is_meta and value.shape == batch.inputs()[name].shape for name, value in moved.items())
    assert encode_batch(tokenizer, PROMPTS).to("meta").labels is None


def test_splice_text():
    assert splice_text(["A <text> B", "C", "<visual>D"], ["x", "y", "z"]) == ["A x B", "y\nC", "<visual>z\nD"]
    assert splice_text(["A <text>B"], None) == ["A B"]


def test_named_errors(tokenizer):
    with pytest.raises(ShapeError, match="1 targets and 2 prompts"):
        encode_batch(tokenizer, PROMPTS, TARGETS[:1])
    with pytest.raises(ShapeError, match="empty list"):
        encode_batch(tokenizer, [])
    with pytest.raises(ShapeError, match="1 texts and 2 prompts"):
        splice_text(PROMPTS, ["x"])
    with pytest.raises(ConfigError, match="twice"):
        encode_batch(tokenizer, ["<visual> and <visual>"])
    plain = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ConfigError, match="no end-of-text token"):
        encode_batch(plain, PROMPTS, TARGETS)
