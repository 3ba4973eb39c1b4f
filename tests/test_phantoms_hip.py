"""The hip phantom: seeds, sound mask, anatomy in its ranges, tissues in order, one body at any resolution."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.phantoms import hip_bones
from tfsono.phantoms.fields import centers_mm
from tfsono.phantoms.hip import hip_phantom

SIZE, SPACING_MM = (61, 43, 37), (2.9, 2.7, 3.3)
SEEDS = range(11, 19)


@pytest.fixture(scope="module")
def phantoms():
    """Several hips at unequal odd sides and spacings."""
    return [hip_phantom(seed, SIZE, SPACING_MM) for seed in SEEDS]


@pytest.fixture(scope="module")
def clean():
    """One finer hip without shading and noise, and the same with each of them."""
    grid = ((91, 61, 81), (1.6, 1.6, 1.5))
    return {
        "grid": grid,
        "none": hip_phantom(21, *grid, bias=False, noise=False),
        "bias": hip_phantom(21, *grid, noise=False),
        "noise": hip_phantom(21, *grid, bias=False),
    }


def body_points(size, spacing_mm):
    return tuple(np.meshgrid(*centers_mm(size, spacing_mm), indexing="ij"))


def test_image_label_and_description_have_the_promised_form(phantoms):
    image, label, description = phantoms[0]
    assert image.shape == label.shape == SIZE
    assert image.dtype == np.float32 and label.dtype == np.uint8
    assert set(np.unique(label)) == {0, 1}
    assert np.isfinite(image).all() and image.min() >= 0 and image.max() < 2**15
    np.testing.assert_array_equal(image, np.rint(image))
    assert json.loads(json.dumps(description)) == description


def test_one_seed_is_one_volume_and_another_seed_another(phantoms):
    again = hip_phantom(SEEDS[0], SIZE, SPACING_MM)
    np.testing.assert_array_equal(again.image, phantoms[0].image)
    np.testing.assert_array_equal(again.label, phantoms[0].label)
    assert again.description == phantoms[0].description
    assert not np.array_equal(phantoms[1].image, phantoms[0].image)
    assert not np.array_equal(phantoms[1].label, phantoms[0].label)


def test_the_mask_is_one_body_without_holes(phantoms):
    for phantom in phantoms:
        assert ndimage.label(phantom.label)[1] == 1
        np.testing.assert_array_equal(ndimage.binary_fill_holes(phantom.label), phantom.label > 0)


def test_volume_head_and_sides_are_plausible(phantoms):
    for phantom in phantoms:
        volume_ml = phantom.label.sum() * np.prod(SPACING_MM) / 1000
        assert 60 < volume_ml < 260
        center = np.asarray(phantom.description["head_center_vox"])
        radius = phantom.description["head_radius_mm"]
        distance_mm = np.linalg.norm((np.argwhere(phantom.label >= 0) - center) * SPACING_MM, axis=1)
        inside = phantom.label.ravel()[distance_mm < radius - 6]
        assert inside.all() and inside.size > 50
        lateral = np.argwhere(phantom.label)[:, 0].mean() - center[0]
        assert (lateral > 0) == (phantom.description["side"] == "left")
    assert {phantom.description["side"] for phantom in phantoms} == {"left", "right"}


def test_drawn_anatomy_keeps_to_its_ranges():
    for seed in range(40):
        bones = hip_bones.draw_bones(np.random.default_rng(seed))
        assert 20 <= bones.head_radius_mm <= 27
        assert 115 <= bones.neck_shaft_angle_deg <= 145 and 0 <= bones.version_deg <= 35
        assert 1 <= bones.joint_thin_mm < bones.joint_mm <= 4
        between = np.rad2deg(np.arccos(-bones.neck_axis @ bones.shaft_up))
        assert between == pytest.approx(bones.neck_shaft_angle_deg, abs=1e-6)
        assert bones.neck_axis[0] < 0 < bones.neck_axis[2]  # medially and up, towards the head
        assert np.linalg.norm(bones.neck_axis) == pytest.approx(1)


def test_a_cam_bump_raises_the_alpha_angle():
    angles = {True: [], False: []}
    for seed in range(30):
        bones = hip_bones.draw_bones(np.random.default_rng(seed))
        angles[bones.cam_mm > 2].append(hip_bones.alpha_deg(bones))
    assert np.mean(angles[False]) < 55 < np.mean(angles[True])


def test_pelvis_and_femur_never_come_nearer_than_the_thin_joint_space():
    points = body_points((77, 75, 73), (1.4, 1.4, 1.4))
    for seed in range(4):
        bones = hip_bones.draw_bones(np.random.default_rng(seed))
        femur = hip_bones.femur(points, bones)
        pelvis = hip_bones.pelvis(points, bones, femur) < 0
        assert pelvis.sum() > 1000 and (femur[pelvis] >= bones.joint_thin_mm - 1e-3).all()
        gap = ndimage.distance_transform_edt(femur >= 0, sampling=1.4)[pelvis].min()
        assert gap < 4  # and yet it is a joint


def test_marrow_is_brighter_than_muscle_and_cortex_and_air_is_dark(clean):
    image, label, description = clean["none"]
    signal = image / description["gain"]
    depth_mm = ndimage.distance_transform_edt(label, sampling=clean["grid"][1])
    marrow, shell = signal[depth_mm > 8], signal[(depth_mm > 0) & (depth_mm < 1.8)]
    assert 0.6 < marrow.mean() < 1.0
    assert shell.mean() < 0.6 * marrow.mean()
    outside = signal[label == 0]
    muscle = (outside > 0.25) & (outside < 0.4)
    assert 0.15 < muscle.mean() < 0.7
    assert (outside > 0.8).mean() > 0.1 and (outside == 0).mean() > 0.01


def test_thick_cortex_at_the_shaft_thin_at_the_head():
    bones = hip_bones.draw_bones(np.random.default_rng(1))
    head = bones.neck_axis * bones.head_radius_mm
    shaft = bones.base - 80 * bones.shaft_up
    points = tuple(np.asarray(pair, np.float32) for pair in zip(head, shaft, strict=True))
    at_head, at_shaft = hip_bones.cortex_mm(points, bones)
    assert at_head < 1.5 and at_shaft > 3.5


def test_without_bias_and_noise_only_the_tissue_is_left(clean):
    plain = clean["none"].image
    np.testing.assert_array_equal(clean["bias"].label, clean["none"].label)
    tissue = plain > 50
    ratio = clean["bias"].image[tissue] / plain[tissue]
    amplitude = clean["bias"].description["bias"]
    assert 0.08 <= amplitude <= 0.3 and clean["none"].description["bias"] == 0
    assert np.abs(ratio - 1).max() <= amplitude + 0.02 and np.ptp(ratio) > 0.05
    assert clean["none"].description["noise_sigma"] == 0


def test_noise_is_rician(clean):
    sigma = clean["noise"].description["noise_sigma"]
    air = clean["noise"].image[clean["none"].image == 0]
    assert air.size > 1000 and air.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.03)
    bright = clean["none"].image > 5 * sigma
    change = (clean["noise"].image - clean["none"].image)[bright]
    assert change.size > 1000 and change.std() == pytest.approx(sigma, rel=0.03)
    assert 8 <= clean["noise"].description["snr"] <= 25


@pytest.mark.slow
def test_one_person_at_every_resolution():
    config = choose(HIP, "quick", "paper").config
    size, spacing_mm = config.phantom_size, config.phantom_spacing_mm
    for seed in (31, 32):
        fine_size, fine_mm = (151, 101, 100), (1.2, 1.2, 1.2)
        fine, coarse = hip_phantom(seed, fine_size, fine_mm), hip_phantom(seed, size, spacing_mm)
        assert fine.description["alpha_deg"] == coarse.description["alpha_deg"]
        nearest = [
            np.clip(np.rint(coarse_mm / step + (count - 1) / 2).astype(int), 0, count - 1)
            for coarse_mm, step, count in zip(
                centers_mm(size, spacing_mm), fine_mm, fine_size, strict=True
            )
        ]
        sampled = fine.label[np.ix_(*nearest)]
        dice = 2 * (sampled & coarse.label).sum() / (sampled.sum() + coarse.label.sum())
        assert dice > 0.97


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="size"):
        hip_phantom(1, (10, 0, 5), (1, 1, 1))
    with pytest.raises(ValueError, match="spacing_mm"):
        hip_phantom(1, (10, 9, 5), (1, -1, 1))
