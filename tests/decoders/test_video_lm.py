"""The language half of video language models against the whole models of transformers."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.decoders import VideoLMDecoder, train_bpe_tokenizer
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.video_lm.families import FAMILIES, family_of
from ct_vlm.video_lm.tiny import tiny_config

SENTENCES = ["List the abnormalities by region.", "A nodule of 4 mm lies in the right lung.", "Findings?"] * 3
# wide weights make logits differ enough for texts to be varied
WIDE = {"initializer_range": 0.3, "num_hidden_layers": 3}
GRIDS = {"qwen2_5_vl": (3, 2, 4), "qwen3_vl": (3, 2, 4), "internvl": (3, 4, 4)}
PROMPTS = ["List the abnormalities by region.", "Findings?"]


@pytest.fixture(scope="module", params=list(FAMILIES))
def backbone(request):
    return request.param


@pytest.fixture(scope="module")
def folder(backbone, tmp_path_factory):
    return write_tiny_video_lm(tmp_path_factory.mktemp(backbone), backbone, SENTENCES, vocab_size=300, text_config=WIDE)


@pytest.fixture(scope="module")
def whole(folder):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder).eval()


@pytest.fixture
def decoder(folder):
    return VideoLMDecoder(str(folder)).eval()


def frames(backbone):
    """Random inputs of the model's tower for two films, as its own processor names them."""
    generator = torch.Generator().manual_seed(1)
    steps, rows, columns = GRIDS[backbone]
    if backbone == "internvl":
        return {"pixel_values": torch.randn(2 * steps, 3, 64, 64, generator=generator)}
    grid = torch.tensor([[steps, 2 * rows, 2 * columns]] * 2)
    pixels = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 8 * 8, generator=generator)
    return {"pixel_values_videos": pixels, "video_grid_thw": grid}


@pytest.fixture(scope="module")
def visual(backbone, whole):
    """What the whole model's tower makes of the frames, as a context."""
    with torch.no_grad():
        if backbone == "internvl":
            tokens = whole.get_image_features(**frames(backbone)).pooler_output
            return VisualContext(tokens.reshape(2, -1, tokens.shape[-1]), grid=GRIDS[backbone])
        found = whole.get_video_features(**frames(backbone), return_dict=True)
    states = getattr(found, "deepstack_features", None) or []
    states = {layer: torch.cat(list(level)).view(2, -1, 128) for layer, level in enumerate(states, start=1)}
    return VisualContext(torch.stack(list(found.pooler_output)), states, grid=GRIDS[backbone])


def own_inputs(decoder, backbone, texts):
    """Keyword arguments of the whole model for texts that hold placeholders."""
    ids, mask = texts.input_ids, texts.attention_mask
    inputs = {"input_ids": ids, "attention_mask": mask, **frames(backbone)}
    if decoder.family.rotary:
        inputs["mm_token_type_ids"] = (ids == decoder.placeholder_id).int() * 2
    return inputs


def merged_inputs(whole, inputs, visual):
    """Embeddings with the tokens of films in place: transformers 5.17 mixes up the frames of films between beams."""
    embeddings = whole.get_input_embeddings()(inputs["input_ids"])
    places = (inputs["input_ids"] == whole.config.image_token_id)[..., None]
    merged = embeddings.masked_scatter(places, visual.tokens)
    return {"inputs_embeds": merged, "attention_mask": inputs["attention_mask"]}


class TestLikeTransformers:
    @torch.no_grad()
    def test_logits_of_ragged_prompts_and_answers_are_those_of_the_whole_model(
        self, backbone, decoder, whole, visual
    ) -> None:
        texts = decoder.encode(PROMPTS, ["A nodule.", "Clear lungs, no effusion."], visual)
        assert 0 in texts.attention_mask
        expected = whole(**own_inputs(decoder, backbone, texts)).logits
        inputs = {**texts.inputs(), "labels": None}
        found = decoder(**inputs, visual=visual).logits
        real = texts.attention_mask.bool()
        assert torch.equal(found[real], expected[real])
        loss = decoder(**texts.inputs(), visual=visual).loss
        rows = expected[:, :-1].flatten(0, 1)
        reference = torch.nn.functional.cross_entropy(rows, texts.labels[:, 1:].flatten())
        torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-5)

    @torch.no_grad()
    def test_greedy_texts_and_beams_are_those_of_the_whole_model(self, backbone, decoder, whole, visual) -> None:
        texts = decoder.encode(PROMPTS, None, visual, padding_side="left")
        for beams in (1, 2):
            options = {"max_new_tokens": 8, "num_beams": beams, "suppress_tokens": [decoder.placeholder_id]}
            options |= {"eos_token_id": decoder.stop_token_ids, "pad_token_id": decoder.tokenizer.pad_token_id}
            inputs, start = own_inputs(decoder, backbone, texts), texts.input_ids.shape[1]
            if backbone == "internvl" and beams > 1:
                inputs, start = merged_inputs(whole, inputs, visual), 0
            ids = whole.generate(**inputs, do_sample=False, **options)
            expected = decoder.tokenizer.batch_decode(ids[:, start:], skip_special_tokens=True)
            found = decoder.generate(PROMPTS, visual, max_new_tokens=8, num_beams=beams)
            assert found == expected
            assert all(len(text) > 2 for text in found)

    @torch.no_grad()
    def test_a_text_that_is_written_step_by_step_is_the_one_that_a_forward_pass_prefers(self, decoder, visual) -> None:
        prompt, one = PROMPTS[1], visual.select([1])
        start = decoder.encode([prompt], None, one)
        ids = start.input_ids
        for _ in range(5):
            logits = decoder(ids, visual=one).logits[0, -1]
            logits[decoder.placeholder_id] = -torch.inf
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
        text = decoder.tokenizer.decode(ids[0, start.input_ids.shape[1] :], skip_special_tokens=True)
        assert decoder.generate([prompt], one, max_new_tokens=5) == [text]

    @torch.no_grad()
    def test_prompts_without_a_video_are_ordinary_texts(self, decoder, whole) -> None:
        texts = decoder.encode(["Findings?"])
        expected = whole(input_ids=texts.input_ids, attention_mask=texts.attention_mask).logits
        torch.testing.assert_close(decoder(texts.input_ids).logits, expected)
        assert isinstance(decoder.generate(["Findings?"], max_new_tokens=3)[0], str)


class TestPrompts:
    def test_films_are_written_as_the_processors_write_them(self) -> None:
        from transformers.models.internvl.processing_internvl import InternVLProcessor
        from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

        family = FAMILIES["internvl"]
        names = {"start_image_token": family.opening, "end_image_token": family.closing}
        names |= {"image_token": family.placeholder, "image_seq_length": 4}
        frames = {"pixel_values_videos": torch.zeros(1, 3, 3, 8, 8)}
        expected = InternVLProcessor.replace_video_token(SimpleNamespace(**names), frames, 0)
        assert family.write_video((3, 2, 2), 1.0) == expected

        family = FAMILIES["qwen3_vl"]
        names = {"vision_start_token": family.opening, "vision_end_token": family.closing}
        names |= {"video_token": family.placeholder}
        processor = SimpleNamespace(**names, video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2))
        processor._calculate_timestamps = lambda *a: Qwen3VLProcessor._calculate_timestamps(processor, *a)
        metadata = SimpleNamespace(fps=4, frames_indices=[0, 1, 2, 3, 4, 5])
        film = {"video_grid_thw": torch.tensor([[3, 4, 4]]), "video_metadata": [metadata]}
        assert family.write_video((3, 2, 2), 0.5) == Qwen3VLProcessor.replace_video_token(processor, film, 0)

    def test_the_published_template_of_qwen_is_used_as_it_is(self, folder, backbone, visual) -> None:
        # what the public tokenizer's template makes of one film and one text (shortened to that case)
        template = (
            "{% for message in messages %}{% if loop.first %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
            "<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
            "{% if content['type'] == 'video' %}" + FAMILIES[backbone].chat_video + "{% else %}{{ content['text'] }}"
            "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
        decoder = VideoLMDecoder(str(folder), chat_template=template)
        one = visual.select([0])
        ids = decoder.encode(["Findings?"], ["Clear."], one).input_ids[0]
        film = decoder.family.write_video(visual.grid, 1.0)
        system = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
        asked = f"{system}{film}Findings?<|im_end|>\n<|im_start|>assistant\n"
        expected = [*decoder.tokenizer(asked)["input_ids"], *decoder.tokenizer("Clear.")["input_ids"][1:]]
        assert ids.tolist() == [*expected, decoder.tokenizer.eos_token_id]


class TestWhatTheVideoDoes:
    @torch.no_grad()
    def test_without_the_video_the_logits_are_others(self, decoder, visual) -> None:
        texts = decoder.encode(PROMPTS, ["Clear.", "Clear."], visual)
        blank = VisualContext(torch.zeros_like(visual.tokens), grid=visual.grid)
        seen, unseen = (decoder(**texts.inputs(), visual=v).loss for v in (visual, blank))
        assert abs(float(seen - unseen)) > 1e-3

    @torch.no_grad()
    def test_states_of_intermediate_layers_are_read(self, backbone, decoder, visual) -> None:
        if backbone != "qwen3_vl":
            assert not visual.layer_states
            return
        texts = decoder.encode(PROMPTS, ["Clear.", "Clear."], visual)
        without = VisualContext(visual.tokens, grid=visual.grid)
        assert not torch.equal(
            decoder(**texts.inputs(), visual=visual).loss, decoder(**texts.inputs(), visual=without).loss
        )

    def test_the_grid_decides_qwens_positions(self, backbone, decoder, visual) -> None:
        steps, rows, columns = visual.grid
        turned = VisualContext(visual.tokens, visual.layer_states, grid=(steps, columns, rows))
        texts = decoder.encode(PROMPTS, None, visual)
        first, second = (decoder._positions(texts.input_ids, texts.attention_mask, v) for v in (visual, turned))
        assert (first.ndim == 3) == decoder.family.rotary
        assert torch.equal(first, second) == (not decoder.family.rotary or rows == columns)

    def test_a_marker_says_where_the_video_stands(self, decoder, visual) -> None:
        one = visual.select([0])
        text = decoder.tokenizer.decode(decoder.encode(["Scan: <visual> End"], None, one).input_ids[0])
        opening = decoder.family.opening
        assert text.index("Scan:") < text.index(opening) < text.index(" End")
        before = decoder.tokenizer.decode(decoder.encode(["Scan: End"], None, one).input_ids[0])
        assert before.index(opening) < before.index("Scan:")


class TestBranches:
    @pytest.mark.parametrize("steps", [2, 24])
    @torch.no_grad()
    def test_texts_behind_one_film_have_the_log_probabilities_they_have_alone(self, folder, steps) -> None:
        # in 24 steps, a film's times reach past the positions of a short prompt behind it
        decoder = VideoLMDecoder(str(folder), dtype="float64").eval()
        visual = VisualContext(torch.randn(2, steps * 4, 128, dtype=torch.float64), grid=(steps, 2, 2))
        texts = [["Clear.", "A nodule lies in the right lung."]] * 2
        together, apart = (decoder.branch_log_probs(PROMPTS, texts, visual, shared=s) for s in (True, False))
        torch.testing.assert_close(together.log_probs, apart.log_probs, rtol=1e-9, atol=1e-9)
        blank = VisualContext(torch.zeros_like(visual.tokens), grid=visual.grid)
        unseen = decoder.branch_log_probs(PROMPTS, texts, blank).log_probs
        assert (unseen - together.log_probs).abs().min() > 1e-4


class TestKeepingAndTraining:
    @torch.no_grad()
    def test_copies_configs_and_checkpoints_write_the_same_without_path_or_hub(self, decoder, visual, tmp_path) -> None:
        texts = decoder.encode(PROMPTS, ["Clear.", "A nodule."], visual)
        expected = decoder(**texts.inputs(), visual=visual).loss
        again = Component.from_pretrained(decoder.save_pretrained(tmp_path / "kept")).eval()
        assert str(tmp_path.parent) not in (tmp_path / "kept" / "config.json").read_text()
        assert torch.equal(again(**texts.inputs(), visual=visual).loss, expected)
        assert (
            again.encode(PROMPTS, None, visual).input_ids.tolist()
            == decoder.encode(PROMPTS, None, visual).input_ids.tolist()
        )
        assert torch.equal(copy.deepcopy(decoder)(**texts.inputs(), visual=visual).loss, expected)
        assert again.to_config() == decoder.to_config()

    def test_adapters_sit_on_the_language_model_alone_and_learn_with_recomputed_layers(self, folder, visual) -> None:
        gradients = []
        for again in (False, True):
            torch.manual_seed(0)
            lora = {"r": 2, "lora_alpha": 4, "init_lora_weights": False}
            decoder = VideoLMDecoder(str(folder), lora=lora, gradient_checkpointing=again)
            trained = [name for name, p in decoder.named_parameters() if p.requires_grad]
            assert trained
            assert all("lora_" in name and "language_model" in name for name in trained)
            runs = []
            decoder.lm.model.language_model.layers[0].input_layernorm.register_forward_hook(
                lambda *_, runs=runs: runs.append(1)
            )
            tokens = visual.tokens.clone().requires_grad_()
            context = VisualContext(tokens, visual.layer_states, grid=visual.grid)
            texts = decoder.encode(PROMPTS, ["Clear.", "A nodule."], context)
            decoder(**texts.inputs(), visual=context).loss.backward()
            assert len(runs) == 1 + again
            gradients.append([tokens.grad, *(p.grad for p in decoder.parameters() if p.requires_grad)])
        for plain, recomputed in zip(*gradients, strict=True):
            assert plain.abs().sum() > 0
            torch.testing.assert_close(plain, recomputed)

    @torch.no_grad()
    def test_half_precision_stays_near(self, folder, decoder, visual) -> None:
        half = VideoLMDecoder(str(folder), dtype="bfloat16").eval()
        texts = decoder.encode(PROMPTS, ["Clear.", "A nodule."], visual)
        assert half.lm.dtype == torch.bfloat16
        expected = decoder(**texts.inputs(), visual=visual).loss
        assert abs(half(**texts.inputs(), visual=visual).loss.float() / expected - 1) < 0.05
        assert len(half.generate(PROMPTS, visual, max_new_tokens=3)) == 2


class TestWhatIsRefused:
    def test_a_tokenizer_of_another_checkpoint(self, folder) -> None:
        other = train_bpe_tokenizer(["completely different text"], vocab_size=261)
        with pytest.raises(ConfigError, match="tokenizer that belongs"):
            VideoLMDecoder(str(folder), other)

    def test_tokens_without_a_grid(self, decoder, visual) -> None:
        with pytest.raises(ShapeError, match="by their grid"):
            decoder.encode(PROMPTS, None, VisualContext(visual.tokens))

    def test_a_template_that_writes_no_video(self, folder, visual) -> None:
        template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
        with pytest.raises(ConfigError, match="chat template"):
            VideoLMDecoder(str(folder), chat_template=template).encode(PROMPTS, None, visual)

    def test_two_videos(self, decoder, visual) -> None:
        with pytest.raises(ConfigError, match="twice"):
            decoder.encode(["<visual><visual>"], None, visual.select([0]))

    @pytest.mark.parametrize("model", [{"model_type": "llama"}, {}])
    def test_other_models(self, model) -> None:
        with pytest.raises(ConfigError, match="no known family"):
            family_of(model)

    def test_objects_without_a_tokenizer_and_impossible_times(self) -> None:
        with pytest.raises(ConfigError, match="no tokenizer"):
            VideoLMDecoder(tiny_config("internvl"))
        with pytest.raises(ConfigError, match="seconds_per_grid"):
            VideoLMDecoder(tiny_config("internvl"), train_bpe_tokenizer(["a"], 260), seconds_per_grid=0.0)
