"""The femur phantom: growth curve, tips and mask, what tells the ends apart, poses, what is seen, files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from tfsono.data.layout import case_landmarks, open_dataset
from tfsono.audit.femur import judge_tips
from tfsono.errors import UserError
from tfsono.metrics.biometry import gestational_age_by_fl
from tfsono.phantoms import femur as femur_module
from tfsono.phantoms import femur_anatomy as anatomy
from tfsono.phantoms.dataset import write_femur_dataset
from tfsono.phantoms.femur import femur_phantom, femur_reference
from tfsono.volumes.image import read_volume
from tfsono.volumes.landmarks import points_to_vox

# 158 x 158 x 108 mm, as the paper's volumes; unequal odd sides.
SIZE, SPACING_MM = (79, 65, 53), (2.0, 2.43, 2.04)
SMALL, SMALL_MM = (45, 51, 35), (3.51, 3.1, 3.09)
SEEDS = range(31, 37)


@pytest.fixture(scope="module")
def phantoms():
    return [femur_phantom(seed, SIZE, SPACING_MM) for seed in SEEDS]


@pytest.fixture(scope="module")
def legs():
    """A femur of each of several seeds on a grid of its own frame, with the leg: (leg, points, distance)."""
    made = []
    for seed in range(5):
        leg = anatomy.draw_leg(np.random.default_rng(seed), (23, 31))
        axes = (np.arange(-half, half, 0.9, dtype=np.float32) for half in (19, 17, 38))
        points = tuple(np.meshgrid(*axes, indexing="ij"))
        made.append((leg, points, anatomy.femur(points, leg.femur)))
    return made


def mask_points_mm(mask, spacing_mm):
    return np.argwhere(mask) * np.asarray(spacing_mm)


def frame(phantom, spacing_mm):
    """What the mask and the tips alone tell: the axis, and how far the end's and the middle's centroids are off it."""
    points, tips = mask_points_mm(phantom.mask, spacing_mm), phantom.points_vox * spacing_mm
    axis = (tips[0] - tips[1]) / np.linalg.norm(tips[0] - tips[1])
    height = (points - tips[1]) @ axis / np.linalg.norm(tips[0] - tips[1])
    off = points - tips[1] - ((points - tips[1]) @ axis)[:, None] * axis
    return axis, height, off


# --- anatomy


def test_lengths_are_those_of_hadlocks_table():
    """Radiology 152 (1984), predicted femur lengths in centimetres by menstrual week."""
    table = {14: 1.4, 20: 3.3, 23: 4.1, 25: 4.6, 27: 5.1, 29: 5.6, 31: 6.0, 36: 7.0, 40: 7.7}
    for weeks, centimetres in table.items():
        assert anatomy.femur_length_mm(weeks) == pytest.approx(10 * centimetres, abs=0.8)
    for weeks in (23, 27, 31):  # the formula for the age was fitted apart from that for the length
        assert gestational_age_by_fl(anatomy.femur_length_mm(weeks)) == pytest.approx(weeks, abs=0.6)


def test_age_sets_length_and_thickness():
    rng = np.random.default_rng(0)
    bones = [anatomy.draw_leg(rng, (23, 31)).femur for _ in range(200)]
    weeks, lengths = (np.asarray([getattr(bone, name) for bone in bones]) for name in ("weeks", "length_mm"))
    assert 23 <= weeks.min() < 24 and 30 < weeks.max() <= 31
    apart = lengths / [anatomy.femur_length_mm(value) for value in weeks] - 1
    assert np.abs(apart).max() <= 0.0751 and 0.02 < apart.std() < 0.04
    assert np.corrcoef(weeks, [bone.shaft_mm for bone in bones])[0, 1] > 0.6
    fixed = [anatomy.draw_leg(rng, (25, 25)).femur.weeks for _ in range(3)]
    assert fixed == [25, 25, 25]


def test_tips_lie_on_the_bone_at_its_length_and_are_its_extremes(legs):
    for leg, points, distance in legs:
        tips = leg.femur.tips_mm
        assert np.linalg.norm(tips[0] - tips[1]) == pytest.approx(leg.femur.length_mm, rel=1e-9)
        assert anatomy.femur(tuple(tips.T.astype(np.float32)), leg.femur) == pytest.approx([0, 0], abs=0.1)
        axis = (tips[0] - tips[1]) / leg.femur.length_mm
        along = sum(part * step for part, step in zip(points, axis, strict=True))[distance < 0]
        assert along.max() == pytest.approx(tips[0] @ axis, abs=0.9)
        assert along.min() == pytest.approx(tips[1] @ axis, abs=0.9)


def test_bone_volume_is_that_of_its_voxels(legs):
    for leg, _, distance in legs:
        assert anatomy.volume_ml(leg.femur) == pytest.approx((distance < 0).sum() * 0.9**3 / 1000, rel=0.03)
        assert 1 < anatomy.volume_ml(leg.femur) < 7


def test_shaft_is_bowed_and_both_ends_flare(legs):
    for leg, (u, v, w), distance in legs:
        inside, size = distance < 0, leg.femur.length_mm
        parts = {name: inside & (np.abs(w / size - place) < 0.04)
                 for name, place in (("distal", -0.42), ("middle", 0.0), ("proximal", 0.40))}
        widths = {name: np.ptp(u[part]) for name, part in parts.items()}
        assert widths["middle"] < 0.75 * widths["distal"] and widths["middle"] < 0.75 * widths["proximal"]
        assert widths["middle"] == pytest.approx(2 * leg.femur.shaft_mm, abs=1.9)
        assert v[parts["middle"]].mean() == pytest.approx(leg.femur.bow_mm, abs=0.9)


def test_neck_is_medial_and_condyles_are_on_both_sides_behind(legs):
    for leg, (u, v, w), distance in legs:
        inside, size = distance < 0, leg.femur.length_mm
        top, bottom = inside & (w > 0.38 * size), inside & (w < -0.40 * size)
        assert u[top].max() > 1.4 * -u[top].min()
        assert u[bottom].max() == pytest.approx(-u[bottom].min(), abs=1)
        assert -v[bottom].min() > 1.2 * v[bottom].max() and v[bottom].mean() < v[top].mean()


def test_pelvis_lies_at_the_proximal_end_and_the_shin_at_the_distal(legs):
    for seed in range(5):
        leg = anatomy.draw_leg(np.random.default_rng(seed), (23, 31))
        axis = np.arange(-75, 75, 2.0, dtype=np.float32)
        points = tuple(np.meshgrid(axis, axis, axis, indexing="ij"))
        tips = leg.femur.tips_mm
        for body, own, other in ((anatomy.pelvis, 0, 1), (anatomy.shin_bones, 1, 0)):
            found = np.stack([part[body(points, leg) < 0] for part in points], axis=-1)
            away = [np.linalg.norm(found - tip, axis=1).min() for tip in tips]
            assert len(found) > 50 and away[own] < away[other] and away[own] < 0.4 * leg.femur.length_mm
    flesh = anatomy.thigh(legs[0][1], legs[0][0])
    assert flesh[legs[0][2] < 0].max() < -2  # the bone lies in the flesh


# --- the volume


def test_the_promised_form(phantoms):
    for phantom in phantoms:
        assert phantom.image.shape == phantom.mask.shape == SIZE
        assert phantom.image.dtype == phantom.mask.dtype == np.uint8
        assert set(np.unique(phantom.mask)) == {0, 1}
        assert phantom.points_vox.shape == (2, 3) and phantom.points_vox.dtype == np.float64
        assert 23 <= phantom.about.weeks <= 31


def test_one_seed_is_one_volume_and_another_seed_another(phantoms):
    again = femur_phantom(SEEDS[0], SIZE, SPACING_MM)
    np.testing.assert_array_equal(again.image, phantoms[0].image)
    np.testing.assert_array_equal(again.mask, phantoms[0].mask)
    np.testing.assert_array_equal(again.points_vox, phantoms[0].points_vox)
    assert again.about == phantoms[0].about != phantoms[1].about
    assert (again.image != phantoms[1].image).mean() > 0.3
    points, about = femur_reference(SEEDS[0], SIZE, SPACING_MM)
    np.testing.assert_array_equal(points, again.points_vox)
    assert about == again.about


def test_mask_tips_length_and_volume_agree(phantoms):
    for phantom in phantoms:
        tips_mm = phantom.points_vox * SPACING_MM
        assert np.linalg.norm(tips_mm[0] - tips_mm[1]) == pytest.approx(phantom.about.length_mm, rel=1e-9)
        assert ndimage.label(phantom.mask, np.ones((3, 3, 3)))[1] == 1
        volume_ml = phantom.mask.sum() * np.prod(SPACING_MM) / 1000
        assert volume_ml == pytest.approx(phantom.about.volume_ml, rel=0.06)
        assert judge_tips(phantom.mask, phantom.points_vox, SPACING_MM) == []
        axis, height, off = frame(phantom, SPACING_MM)
        points = mask_points_mm(phantom.mask, SPACING_MM)
        for tip, extreme in zip(tips_mm, (height.argmax(), height.argmin()), strict=True):
            assert abs((points[extreme] - tip) @ axis) < 1.2 * max(SPACING_MM)
            assert np.linalg.norm(points[extreme] - tip) < 2.2 * max(SPACING_MM)


def test_the_mask_tells_right_from_left_legs():
    """Medial (where the proximal end leans), anterior (where the shaft is bowed) and proximal: a hand's three axes."""
    fine_mm = (1.0, 1.0, 1.0)
    seen = set()
    for seed in range(6):
        scene = femur_module._draw(seed, SIZE, SPACING_MM, (23, 31))[0]
        axes = [np.arange(low - 9, high + 9, 1.0, dtype=np.float32) for low, high in zip(
            scene.tips_mm.min(axis=0), scene.tips_mm.max(axis=0), strict=True)]
        world = np.meshgrid(*axes, indexing="ij")
        shifted = [part - np.float32(value) for part, value in zip(world, scene.center_mm, strict=True)]
        points = tuple(sum(part * np.float32(weight) for part, weight in zip(shifted, row, strict=True))
                       for row in scene.rotation)
        tips = scene.tips_mm - [axis[0] for axis in axes]
        mask = anatomy.femur(points, scene.leg.femur) < 0
        axis, height, off = frame(femur_module.FemurPhantom(None, mask, tips, None), fine_mm)
        medial = off[height > 0.88].mean(axis=0)
        forward = off[np.abs(height - 0.5) < 0.05].mean(axis=0) - off[height < 0.1].mean(axis=0)
        assert (np.linalg.det([medial, forward, axis]) < 0) == scene.right
        seen.add(scene.right)
    assert seen == {True, False}


def test_one_leg_at_every_resolution():
    """Voxels three times as large: each has its centre in that of the middle one of 27."""
    size, spacing_mm = (26, 22, 18), np.asarray([6.09, 7.2, 6.0])
    coarse = femur_phantom(7, size, spacing_mm)
    fine = femur_phantom(7, 3 * np.asarray(size), spacing_mm / 3)
    assert coarse.about == fine.about
    np.testing.assert_allclose(coarse.points_vox, (fine.points_vox + 0.5) / 3 - 0.5, atol=1e-6)
    assert coarse.mask.sum() > 3 and (coarse.mask != fine.mask[1::3, 1::3, 1::3]).sum() <= 1
    grey = fine.image.astype(float).reshape(26, 3, 22, 3, 18, 3).mean(axis=(1, 3, 5))
    assert np.corrcoef(grey.ravel(), coarse.image.ravel())[0, 1] > 0.8  # the same scene, another speckle


def test_every_direction_and_both_sides_with_the_whole_bone_in_the_field_of_view():
    directions, rights = [], []
    around = np.random.default_rng(0).normal(size=(200, 3))
    for seed in range(60):
        scene, sweep, _ = femur_module._draw(seed, SIZE, SPACING_MM, (23, 31))
        points, about = femur_reference(seed, SIZE, SPACING_MM)
        assert about.right == scene.right
        tips = points * SPACING_MM
        ball = 0.1 * about.length_mm * around / np.linalg.norm(around, axis=1, keepdims=True)
        assert all(sweep.holds(tip + ball).all() for tip in tips)
        assert (points > 0).all() and (points < np.asarray(SIZE) - 1).all()
        np.testing.assert_allclose(scene.rotation @ scene.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(scene.rotation) == pytest.approx(-1 if scene.right else 1)
        directions.append((tips[0] - tips[1]) / about.length_mm)
        rights.append(about.right)
    directions = np.asarray(directions)
    assert 15 < sum(rights) < 45
    quadrants = {(x > 0, z > 0) for x, _, z in directions}
    assert len(quadrants) == 4 and (directions[:, 1] > 0.1).any() and (directions[:, 1] < -0.1).any()
    assert 0.5 < np.abs(directions[:, 1]).max() < 0.9 and np.median(np.abs(directions[:, 1])) < 0.45


def test_bone_is_bright_before_and_dark_behind(phantoms):
    """Medians of several volumes: what faces the probe, the thigh around it, what lies in the shadow."""
    bright, around, behind, aside = [], [], [], []
    for phantom in phantoms:
        mask, image = phantom.mask > 0, phantom.image.astype(float)
        first = mask & (np.cumsum(mask, axis=1) <= 2)
        _, height, _ = frame(phantom, SPACING_MM)
        middle = np.zeros(mask.shape, bool)
        middle[mask] = np.abs(height - 0.5) < 0.2
        bright.append(np.median(image[first & middle]))
        around.append(np.median(image[ndimage.binary_dilation(mask, iterations=4)
                                      & ~ndimage.binary_dilation(mask, iterations=2)]))
        last = np.argwhere(middle & ~np.roll(middle, -1, axis=1))
        below = last + [0, 3, 0]
        below = below[below[:, 1] < SIZE[1]]
        behind.append(np.median(image[tuple(below.T)]))
        above = np.argwhere(middle & ~np.roll(middle, 1, axis=1)) - [0, 3, 0]
        aside.append(np.median(image[tuple(above.T)]))
    assert np.median(bright) > 130 and np.min(np.subtract(bright, around)) > 30
    assert np.median(behind) < 0.7 * np.median(aside)


def test_tips_are_dimmer_than_the_shaft_and_some_are_lost(phantoms):
    parts = []
    for phantom in phantoms:
        points, grey = mask_points_mm(phantom.mask, SPACING_MM), phantom.image[phantom.mask > 0]
        away = [np.linalg.norm(points - tip, axis=1) for tip in phantom.points_vox * SPACING_MM]
        shaft = np.percentile(grey[np.minimum(*away) > 0.3 * phantom.about.length_mm], 80)
        parts += [np.percentile(grey[one < 7], 80) / shaft for one in away]
    assert np.median(parts) < 0.9 and min(parts) < 0.6 and max(parts) > 0.75


def test_tissue_has_distractors_and_fluid():
    """Femur alone in a painted scene: other bones as bright as it, at least a few millimetres from it."""
    scene = femur_module._draw(40, SIZE, SPACING_MM, (23, 31))[0]
    fields = tuple(femur_module.draw_field(np.random.default_rng(0), scale) for scale in (34, 9, 3.2))
    tissue, mask = femur_module._paint(scene, fields, SIZE, SPACING_MM)
    bones = tissue.loss_db_mm >= 0.9 * scene.look.bone_loss
    parts, count = ndimage.label(bones)
    own = np.unique(parts[(mask > 0) & bones])
    assert count >= 4 and own.size == 1
    assert (bones & (parts != own[0])).sum() > 0.5 * mask.sum()
    away = ndimage.distance_transform_edt(mask == 0, sampling=SPACING_MM)[bones & (mask == 0)]
    assert away[parts[bones & (mask == 0)] != own[0]].min() > 1.5
    assert 0.02 < (tissue.scatter_db < -70).mean() < 0.5 and np.isfinite(tissue.scatter_db).all()
    assert tissue.surface.max() <= 1 and tissue.surface[mask > 0].max() > 0.3


def test_bad_sizes_and_ages():
    with pytest.raises(ValueError, match="size"):
        femur_phantom(0, (40, 40), SPACING_MM)
    with pytest.raises(ValueError, match="spacing"):
        femur_phantom(0, SIZE, (1, 0, 1))
    with pytest.raises(ValueError, match="weeks"):
        femur_phantom(0, SIZE, SPACING_MM, (31, 23))
    with pytest.raises(UserError, match="must hold a femur of .* found 40 x 40 x 40 mm"):
        femur_phantom(0, (20, 20, 20), (2, 2, 2))


# --- files


def write(root, cases=2, seed=5, weeks=(23, 31), progress=lambda line: None):
    return write_femur_dataset(root, cases, seed, SMALL, SMALL_MM, weeks, progress)


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write(tmp_path_factory.mktemp("femurs"), cases=3)


def test_layout_is_read_as_it_was_written(dataset):
    entry = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert entry["labels"] == {"femur": 1} and entry["landmarks"] == ["proximal", "distal"]
    assert entry["phantom"]["weeks"] == [23, 31] and entry["units"] == "mm"
    opened = open_dataset(dataset)
    assert [case.name for case in opened.cases] == ["femur_001", "femur_002", "femur_003"]
    assert opened.landmarks == ("proximal", "distal")
    seeds = [int(np.random.SeedSequence([5, number]).generate_state(1)[0]) for number in range(3)]
    table = list(csv.DictReader((dataset / "femurs.csv").read_text(encoding="utf-8").splitlines()))
    for case, seed, row in zip(opened.cases, seeds, table, strict=True):
        phantom = femur_phantom(seed, SMALL, SMALL_MM)
        volume = read_volume(case.image)
        np.testing.assert_array_equal(volume.array, phantom.image)
        assert volume.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(case.label))).T, phantom.mask)
        points = case_landmarks(case, volume)
        found = points_to_vox(np.stack([points["proximal"], points["distal"]]), volume)
        np.testing.assert_allclose(found, phantom.points_vox, atol=1e-4)
        assert row["case"] == case.name and float(row["weeks"]) == pytest.approx(phantom.about.weeks, abs=1e-3)
        assert float(row["length_mm"]) == pytest.approx(phantom.about.length_mm, abs=1e-3)
        assert float(row["volume_ml"]) == pytest.approx(phantom.about.volume_ml, abs=1e-3)


def test_markups_hold_the_line_between_the_tips(dataset):
    markups = json.loads((dataset / "landmarks" / "femur_001.mrk.json").read_text(encoding="utf-8"))["markups"]
    assert [one["type"] for one in markups] == ["Fiducial", "Line"]
    assert all(one["coordinateSystem"] == "LPS" for one in markups)
    assert [point["label"] for point in markups[1]["controlPoints"]] == ["proximal", "distal"]


def test_what_is_missing_is_written_again_and_more_may_follow(dataset, tmp_path):
    whole = files(dataset)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, cases=3, progress=stop)
    assert "femurs.csv" in files(tmp_path) or "images/femur_001.nii.gz" in files(tmp_path)
    write(tmp_path, cases=2)
    assert len((tmp_path / "femurs.csv").read_text().splitlines()) == 3
    (tmp_path / "landmarks" / "femur_001.mrk.json").unlink()
    lines = []
    write(tmp_path, cases=3, progress=lines.append)
    assert "1 of 3 cases exist" in lines[0] and len(lines) == 3
    assert files(tmp_path) == whole
    with pytest.raises(UserError, match="weeks .* there"):
        write(tmp_path, cases=3, weeks=(23, 30))
    with pytest.raises(UserError, match="femur_003"):
        write(tmp_path, cases=2)


def test_a_finished_table_survives_a_stop_after_the_last_file(dataset, tmp_path):
    """Killed between the last case's image and the table: the next call completes the table."""
    write(tmp_path, cases=3)
    (tmp_path / "femurs.csv").unlink()
    write(tmp_path, cases=3)
    assert files(tmp_path) == files(dataset)


def test_nothing_is_made_where_nothing_can_be_drawn(tmp_path):
    with pytest.raises(UserError, match="field of view"):
        write_femur_dataset(tmp_path / "small", 1, 0, (20, 20, 20), (2, 2, 2), (23, 31), print)
    assert not (tmp_path / "small").exists()
    (tmp_path / "landmarks").mkdir()
    (tmp_path / "landmarks" / "mine.csv").write_text("mine")
    with pytest.raises(UserError, match="no dataset.json"):
        write(tmp_path)
