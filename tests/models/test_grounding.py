"""Grounded reports: what masks and slices a report rests on, and what is refused."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from ct_vlm.attributes import MaskProvenance, MaskSet, Organ, PatientAttributes
from ct_vlm.datasets import RadGenomeDataset
from ct_vlm.decoders import small_report_decoder, train_bpe_tokenizer
from ct_vlm.encoders import SliceEncoder
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.models import CallableSegmenter, FileSegmenter, VisionLanguageModel, generate_grounded
from ct_vlm.models.grounding import needs, reads, region_slices
from ct_vlm.models.mask_inputs import region_masks
from ct_vlm.modules import AttributeText, MaskDrivenVisualExtractor, R2TokenPooling
from ct_vlm.phantoms import write_radgenome
from ct_vlm.text import MEDREGION_REGIONS, RegionPrompts, region_scheme
from ct_vlm.transforms import CTPreset, Volume, load_label_map, load_volume
from ct_vlm.transforms.orientation import affine_from_spacing

SLICES = 12
VIT = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 7}
PRESET = CTPreset("small", size=(SLICES, 28, 28), windows=((-1000, 400),))
REPORTS = ["The lungs are clear.", "There is a small nodule on the right side of the heart."]


def build(regions=6, *, policy="region_argmax", masks=True, attributes=True, prompts=None, preset=PRESET):
    torch.manual_seed(0)
    encoder = SliceEncoder({**VIT, "image_size": 28}, (1,))
    decoder = small_report_decoder(train_bpe_tokenizer(REPORTS, 280), embed_dim=16, num_layers=1, num_heads=2)
    settings = {"num_slow": regions, "slow_grid": (2, 2), "policy": policy}
    connectors = [R2TokenPooling(encoder.level_dims, 16, **settings)]
    if masks:
        connectors.append(
            MaskDrivenVisualExtractor(encoder.level_dims, 16, regions, hidden_dim=4, spatial_grid=(2, 2, 2))
        )
    if attributes:
        connectors.append(AttributeText())
    return VisionLanguageModel(encoder, connectors, decoder, preset=preset, region_prompts=prompts).eval()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_radgenome(tmp_path_factory.mktemp("grounding") / "tree", 3, shape=(20, 36, 36), seed=2, workers=0)


@pytest.fixture(scope="module")
def scan(tree):
    return sorted((tree.root / "dataset/train_preprocessed").rglob("*.nii.gz"))[0]


@pytest.fixture(scope="module")
def segmenter(tree):
    return FileSegmenter(tree.root / "dataset/train_region_mask", kind="reference")


@pytest.fixture(scope="module")
def grounded(scan, segmenter):
    return generate_grounded(build(), scan, segmenter, max_new_tokens=3)


@pytest.mark.parametrize("axcodes", [("I", "P", "L"), ("S", "L", "P")])
@pytest.mark.parametrize("regions", ["six", "ten"])
@pytest.mark.parametrize("method", ["nearest", "majority"])
def test_masks_are_those_of_the_data_set(tree, segmenter, axcodes, regions, method):
    preset = CTPreset("turned", axcodes=axcodes, spacing=(20.0, 12.0, 12.0), size=(16, 30, 30))
    data = RadGenomeDataset(tree.root, regions=regions, preset=preset, mask_method=method)
    sample = data.samples[0]
    volume = load_volume(sample.path, axcodes=preset.axcodes)
    own = region_masks(
        volume, segmenter.segment(load_volume(sample.path)), region_scheme(regions), preset, method=method
    )
    np.testing.assert_array_equal(own.masks, data[0]["region_masks"].numpy())
    assert [bool(used) for used in own.used] == data[0]["region_mask_found"].tolist()


def test_every_part_says_what_it_rests_on(grounded, scan, tree):
    assert tuple(region.name for region in grounded.regions) == MEDREGION_REGIONS
    assert grounded.volume_id == "train_1_a_1"
    assert grounded.mask_provenance.kind == "reference"
    assert grounded.attributes.volume_ml("heart") > 0
    stored = nib.load(scan)
    for region in grounded.regions:
        assert region.is_present
        assert not region.is_fallback
        assert region.in_detail
        files = [tree.root / f"dataset/train_region_mask/seg_train_1_a_1/{name}.nii.gz" for name in region.masks]
        union = np.logical_or.reduce([np.asanyarray(nib.load(file).dataobj) > 0 for file in files])
        assert union[:, :, region.file_slice].any(), "the slice of the file shows the region"
        middle = stored.affine @ [0, 0, region.file_slice, 1]
        assert abs(middle[2] - region.position_mm) <= stored.header.get_zooms()[2]
        voxel_ml = np.prod(stored.header.get_zooms()) / 1000
        assert region.volume_ml == pytest.approx(union.sum() * voxel_ml)
        # most of the mask: no slice of the model's grid can show much more of it than the slice that was taken
        areas = union.sum(axis=(0, 1))
        assert areas[region.file_slice] >= 0.8 * areas.max()
    assert grounded["lung"].masks == ("lung", "pleura")


def test_it_goes_through_json(grounded):
    record = json.loads(json.dumps(grounded.to_dict()))
    assert record["report"] == grounded.report
    assert [region["mask_provenance"]["kind"] for region in record["regions"]] == ["reference"] * 6
    assert record["regions"][0]["file_slice"] == grounded["lung"].file_slice
    assert record["attributes"]["provenance"]["kind"] == "reference"


def test_the_report_is_that_of_the_batch(scan, segmenter, tree):
    """What `generate` writes equals what the data set's item gives."""
    model = build(attributes=False)
    item = RadGenomeDataset(tree.root, regions="six", preset=PRESET)[0]
    batch = {"image": item["image"][None], "region_masks": item["region_masks"][None]}
    expected = model.generate_batch(batch, max_new_tokens=6)[0]
    assert generate_grounded(model, scan, segmenter, max_new_tokens=6).report == expected
    assert model.generate(scan, masks=segmenter, max_new_tokens=6) == expected
    canonical = load_volume(scan)
    assert model.generate(canonical, masks=segmenter.segment(canonical), max_new_tokens=6) == expected


def test_masks_and_attributes_decide_what_the_decoder_reads(scan, segmenter):
    model, seen = build(), {}

    def generate(prompts, visual, **options):
        seen.update(prompts=prompts, tokens=visual.tokens)
        return ["text"] * len(prompts)

    model.decoder.generate = generate
    model.generate(scan, masks=segmenter)
    before = dict(seen)
    given = PatientAttributes((Organ("heart", None, 640.0),))
    model.generate(scan, masks=segmenter, attributes=given)
    assert "640" in seen["prompts"][0]
    assert before["prompts"] != seen["prompts"]
    torch.testing.assert_close(before["tokens"], seen["tokens"])
    masks = segmenter.segment(load_volume(scan))
    swapped = MaskSet(
        {name: masks[name][::-1] for name in masks.names}, affine=masks.affine, provenance=masks.provenance
    )
    model.generate(scan, masks=swapped, attributes=given)
    assert not torch.allclose(before["tokens"], seen["tokens"])


def test_region_prompts_give_each_region_its_text(scan, segmenter):
    model = build(prompts=RegionPrompts("six"), attributes=False)
    model.decoder.generate = lambda prompts, visual, **options: [f"About: {prompt.split()[2]}." for prompt in prompts]
    found = generate_grounded(model, scan, segmenter)
    assert [region.text for region in found.regions] == [f"About: {name.split()[0]}." for name in MEDREGION_REGIONS]
    assert found.report.startswith("Lung: About: lung.\nLarge airways: About: large.")


def test_a_report_without_parts_has_no_text_a_region(grounded):
    assert all(region.text is None for region in grounded.regions)


def test_regions_without_a_mask_or_with_an_empty_one_are_fallbacks(scan):
    def masks(volume):
        empty = np.zeros(volume.shape, bool)
        lung = empty.copy()
        lung[4:6, 8:20, 8:20] = True
        return {"LUNG": lung, "heart": empty}

    found = generate_grounded(build(attributes=False), scan, CallableSegmenter(masks, source="mine"), max_new_tokens=1)
    lung, heart, bone = found["lung"], found["heart and great vessels"], found["osseous structures"]
    assert (lung.masks, lung.is_present) == (("LUNG",), True)
    assert (heart.masks, heart.volume_ml, heart.is_fallback) == (("heart",), 0.0, True)
    assert (bone.masks, bone.volume_ml, bone.is_fallback) == ((), None, True)
    # six regions share twelve slices evenly where they have no mask of their own
    assert [region.slice_index for region in found.regions if region.is_fallback] == [3, 5, 7, 9, 11]
    assert found.mask_provenance == MaskProvenance("pseudo", "mine")


def test_slices_in_the_padding_have_no_place_in_the_file(scan, segmenter):
    preset = CTPreset("padded", spacing=(18.0, None, None), size=(60, 28, 28), windows=((-1000, 400),))
    found = generate_grounded(build(preset=preset, attributes=False), scan, lambda_segmenter(), max_new_tokens=1)
    assert found["lung"].file_slice is not None
    assert found["large airways"].file_slice is None, "the fallback lies beside the scan"


def lambda_segmenter():
    return CallableSegmenter(lambda volume: {"lung": volume.array < -500}, source="threshold")


def test_uniform_slices_are_told_from_those_of_regions(scan, segmenter):
    found = generate_grounded(build(policy="uniform"), scan, segmenter, max_new_tokens=1)
    chosen = build()
    same = generate_grounded(chosen, scan, segmenter, max_new_tokens=1)
    assert [region.slice_index for region in found.regions] == [region.slice_index for region in same.regions]
    assert {1, 3, 5, 7, 9, 11} >= {region.slice_index for region in found.regions if region.in_detail}
    assert not all(region.in_detail for region in found.regions)


def test_slices_of_a_batch_leave_padding_out():
    model = build(regions=3, attributes=False)
    masks = torch.zeros(2, 3, SLICES, 8, 8, dtype=torch.uint8)
    masks[:, 0, 2, 0, 0] = masks[:, 0, 7] = masks[1, 1, 4] = 1
    features = model.encode_image({"image": torch.rand(2, 1, SLICES, 28, 28)})
    features.padding_mask = torch.zeros(2, SLICES, dtype=torch.bool)
    features.padding_mask[0, 6:] = True
    found = region_slices(model, features, {"region_masks": masks})
    assert found.index[:, 0].tolist() == [2, 7]
    assert found.present.tolist() == [[True, False, False], [True, True, False]]
    assert found.in_detail.all()


def test_what_a_model_reads_and_needs():
    full = build()
    assert needs(full) == {"region_masks": "R2TokenPooling", "attributes": "AttributeText"}
    optional = VisionLanguageModel(full.encoder, [AttributeText(required=False)], full.decoder)
    assert (needs(optional), reads(optional)) == ({}, {"attributes"})


def test_models_that_need_masks_say_so(scan):
    with pytest.raises(ConfigError, match=r"needs more than the scan: .*`region_masks` \(R2TokenPooling\)"):
        build().generate(scan)


def test_models_that_read_no_masks_refuse_them(scan, segmenter):
    model = build(policy="uniform", masks=False, attributes=False)
    with pytest.raises(ConfigError, match="reads none: its connectors are R2TokenPooling"):
        model.generate(scan, masks=segmenter)


def test_masks_of_another_grid_are_refused(scan, segmenter):
    masks = segmenter.segment(load_volume(scan))
    moved = masks.affine.copy()
    moved[2, 3] += 40
    for wrong in (
        MaskSet({"lung": masks["lung"][1:]}, affine=masks.affine),
        MaskSet({"lung": masks["lung"]}, affine=moved),
    ):
        with pytest.raises(DatasetError, match="grid"):
            generate_grounded(build(), scan, wrong)


def test_masks_of_no_region_are_refused(scan):
    wrong = CallableSegmenter(lambda volume: {"lungs of a cat": volume.array < -500}, source="mine")
    with pytest.raises(DatasetError, match=r"no mask of lung, pleura.*it has lungs of a cat"):
        generate_grounded(build(), scan, wrong)


def test_regions_of_ones_own(scan, segmenter):
    model = build(regions=2)
    with pytest.raises(ConfigError, match="masks of 2 regions, and it is not known"):
        generate_grounded(model, scan, segmenter)
    own = {"chest": ["lung", "bone"], "rest": ["abdomen"]}
    found = generate_grounded(model, scan, segmenter, regions=own, max_new_tokens=1)
    assert found["chest"].masks == ("lung", "bone")
    with pytest.raises(ConfigError, match="2 regions, but `regions` names 6"):
        generate_grounded(model, scan, segmenter, regions="six")
    asked = build(prompts=RegionPrompts(["a", "b"]), regions=2)
    with pytest.raises(ConfigError, match="writes of the regions a, b"):
        generate_grounded(asked, scan, segmenter, regions=own)


def test_tensors_have_no_grid_for_masks(segmenter):
    with pytest.raises(ConfigError, match="the scan is a Tensor"):
        build().generate(torch.zeros(1, SLICES, 28, 28), masks=segmenter)


def test_a_model_without_a_preset_says_so(scan, segmenter):
    with pytest.raises(ConfigError, match="no preprocessing preset"):
        build(preset=None).generate(scan, masks=segmenter)


def test_training_mode_is_kept_and_volumes_without_a_file_work(segmenter):
    model = build(attributes=False).train()
    array = np.full((8, 20, 20), -900, np.int16)
    array[2:6, 5:15, 5:15] = 40
    volume = Volume(array, (30, 8, 8), affine_from_spacing((30, 8, 8), "IPL"))
    found = generate_grounded(model, volume, lambda_segmenter(), max_new_tokens=1)
    assert model.training
    assert found.volume_id == ""


def test_the_real_chest_is_grounded_where_its_lungs_are(shared_data):
    """Lungs of 4.55 L; the slice of the file shows most of them, to within what the model's grid can tell."""
    path = shared_data / "cip/chest_ct64.nii.gz"
    lung, _ = load_label_map(shared_data / "cip/chest_ct64_lung.nii.gz")
    segmenter = CallableSegmenter(lambda volume: {"lung": lung > 0}, kind="reference", source="cip")
    found = generate_grounded(build(attributes=False), path, segmenter, max_new_tokens=1)
    assert found["lung"].volume_ml == pytest.approx(4554, abs=1)
    stored = np.asanyarray(nib.load(shared_data / "cip/chest_ct64_lung.nii.gz").dataobj) > 0
    areas = stored.sum(axis=(0, 1))
    assert areas[found["lung"].file_slice] >= 0.95 * areas.max()
    assert sum(region.is_fallback for region in found.regions) == 5
