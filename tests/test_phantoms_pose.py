"""The fetus phantom: growth, proportions, joints, handedness, what is seen of it, how its poses vary, files."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tfsono.configs.pose import LANDMARKS, MIRRORED, ROBUST, SEGMENTS
from tfsono.data.layout import case_landmarks, open_dataset
from tfsono.errors import UserError
from tfsono.phantoms import pose as fetus_module
from tfsono.phantoms import pose_flesh as flesh
from tfsono.phantoms import pose_skeleton as skeleton
from tfsono.phantoms import womb
from tfsono.phantoms.canvas import Canvas
from tfsono.phantoms.dataset import write_pose_dataset
from tfsono.phantoms.pose import fetus_phantom, fetus_reference
from tfsono.phantoms.pose_skeleton import Bend, Build, Posture
from tfsono.phantoms.fields import centers_mm
from tfsono.phantoms.sweep import Sweep
from tfsono.volumes.image import read_volume
from tfsono.volumes.landmarks import points_to_vox

# The paper's field of view, 110 x 102 x 130 mm; unequal sides, one of them odd.
SIZE, SPACING_MM = (46, 41, 52), (2.4, 2.5, 2.5)
STRAIGHT = Posture((0, 0, 0), (0, 0, 0), (Bend(0.6, 1.2, 0, 0.2),) * 2, (Bend(0.3, 0.2, 0, 0.2),) * 2)
LEFT_RIGHT = np.asarray([-1.0, 1.0, 1.0])


def degrees(*values) -> Bend:
    return Bend(*np.deg2rad(values))


def exchanged(points: np.ndarray) -> np.ndarray:
    """The points with both sides' names exchanged."""
    names = dict(MIRRORED) | {right: left for left, right in MIRRORED}
    return points[[LANDMARKS.index(names.get(name, name)) for name in LANDMARKS]]


def painted(fetus, voxel_mm=1.0, half_mm=48, look=None) -> Canvas:
    """The fetus alone, without textures, on a cube of an odd number of voxels around the neck."""
    axis = np.arange(-half_mm, half_mm + voxel_mm / 2, voxel_mm, dtype=np.float32)
    fields = (np.zeros((axis.size,) * 3, np.float32),) * 2
    canvas = Canvas.blank((axis,) * 3, voxel_mm, fields)
    flesh.paint_fetus(canvas, fetus, look or flesh.FleshLook(-36, -30, -58, -8, 5.0, 2.0, 0.2))
    return canvas


@pytest.fixture(scope="module")
def library():
    """120 posed fetuses of the paper's ages, placed: points in millimetres [120, 16, 3]."""
    return np.stack([fetus_reference(seed, SIZE, SPACING_MM)[0] * SPACING_MM for seed in range(120)])


@pytest.fixture(scope="module")
def fetuses():
    rng = np.random.default_rng(8)
    return [skeleton.draw_fetus(rng, skeleton.draw_build(rng, (10, 14))) for _ in range(60)]


# --- growth and proportions


def test_lengths_are_those_of_robinsons_table():
    """British Journal of Obstetrics and Gynaecology 82 (1975): measured means and standard deviations by week."""
    table = {10: (33.0, 3.6), 11: (46.7, 3.05), 12: (58.3, 4.7), 13: (72.5, 2.1), 14: (79.6, 3.9)}
    for weeks, (millimetres, deviation) in table.items():
        assert abs(skeleton.crown_rump_mm(weeks) - millimetres) < 2.5 * deviation
    days = 8.052 * np.sqrt(1.037 * skeleton.crown_rump_mm(12.3)) + 23.73
    assert days == pytest.approx(7 * 12.3)


def test_age_sets_the_size():
    rng = np.random.default_rng(0)
    builds = [skeleton.draw_build(rng, (10, 14)) for _ in range(300)]
    weeks = np.asarray([build.weeks for build in builds])
    apart = [build.crown_rump_mm / skeleton.crown_rump_mm(build.weeks) - 1 for build in builds]
    assert 10 <= weeks.min() < 10.1 and 13.9 < weeks.max() <= 14
    assert np.abs(apart).max() <= 0.0801 and 0.03 < np.std(apart) < 0.045
    assert skeleton.draw_build(rng, (12, 12)).weeks == 12
    for weeks, shaft_mm in ((12, 7.2), (14, 14.0)):  # Hadlock 1984: -3.91 + 0.427 w - 0.0034 w^2 centimetres
        first, last, *_ = flesh.BONES["thigh"]
        thigh = Build(weeks, skeleton.crown_rump_mm(weeks)).thigh_mm
        assert (last - first) * thigh == pytest.approx(shaft_mm, abs=0.8)


def test_the_stretched_body_is_as_long_as_the_crown_rump_length():
    build = Build(12.0, 54.0)
    legs = (Bend(1.57, 0.9, 0, 0.2),) * 2  # out of the way, as they would be measured otherwise
    fetus = skeleton.pose(build, STRAIGHT._replace(legs=legs))
    canvas = painted(fetus, 0.8)
    trunk = np.abs(canvas.axes[0]) < 12
    solid = canvas.scatter[trunk][:, np.abs(canvas.axes[1]) < 14] > 1e-3
    along = canvas.axes[2][solid.any(axis=(0, 1))]
    assert along[-1] - along[0] + 0.8 == pytest.approx(54, rel=0.04)
    assert along[-1] == pytest.approx(fetus.at("head")[2] + 0.19 * 54, abs=1.0)


def test_segments_have_the_lengths_that_the_age_gives(fetuses):
    for fetus in fetuses:
        def length(first, second, fetus=fetus):
            return np.linalg.norm(fetus.at(first) - fetus.at(second))
        thigh, size = fetus.build.thigh_mm, fetus.build.crown_rump_mm
        for side in "ab":
            assert length(f"hip_{side}", f"knee_{side}") == pytest.approx(thigh)
            assert length(f"knee_{side}", f"ankle_{side}") == pytest.approx(0.90 * thigh)
            assert length(f"shoulder_{side}", f"elbow_{side}") == pytest.approx(0.98 * thigh)
            assert length(f"elbow_{side}", f"wrist_{side}") == pytest.approx(0.86 * thigh)
        assert length("head", "neck") == pytest.approx(np.hypot(0.045, 0.205) * size)
        assert 0.2 * size < length("neck", "spine") < 0.24 * size  # a curled back's chords are shorter
        places = fetus.spine_mm(np.asarray([0, 0.5, 1]))
        np.testing.assert_allclose(places, [fetus.at(name) for name in ("neck", "spine", "sacrum")])


def test_proportions_are_those_of_real_fetuses(fetuses):
    """55 fetuses in MR (20 to 38 weeks), in radii of the brain; heads are a little larger at 12 weeks."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("TFSONO_DATA", default)) / "landmark_layouts/fetal_body_mr_keraudren/data_simple.npy"
    if not path.is_file():
        pytest.skip(f"needs the fetal body layouts of shared data, {path}; set TFSONO_DATA to its folder")
    layouts = np.load(path, allow_pickle=False).reshape(55, 6, 4)
    parts = {"heart": 1, "liver": 3, "eyes": 4, "neck": 5}
    real = {name: layouts[:, row, :3] / layouts[:, :1, 3] for name, row in parts.items()}
    ours = {name: [] for name in parts}
    for fetus in fetuses:
        radii = fetus.bodies()["head"].radii_mm - flesh.SKULL_DEPTH * fetus.build.crown_rump_mm
        organs = {"heart": fetus.next_to("neck", fetus.chest, flesh.HEART), "neck": fetus.at("neck"),
                  "liver": fetus.next_to("sacrum", fetus.pelvis, (0, -0.105, 0.165)),
                  "eyes": fetus.next_to("head", fetus.head, np.asarray(flesh.EYE) * [0, 1, 1])}
        for name, found in ours.items():
            found.append((organs[name] - fetus.at("head")) / np.cbrt(np.prod(radii)))
    ours = {name: np.asarray(found) for name, found in ours.items()}
    away = {name: (np.linalg.norm(real[name], axis=1), np.median(np.linalg.norm(ours[name], axis=1))) for name in parts}
    for name in ("heart", "liver", "eyes", "neck"):
        assert away[name][0].min() < away[name][1] < away[name][0].max(), name
    for name in ("heart", "liver"):
        assert away[name][1] == pytest.approx(np.median(away[name][0]), rel=0.15)
    for first, second in (("heart", "liver"), ("eyes", "neck"), ("eyes", "heart"), ("neck", "heart")):
        angles = [angle(found[first], found[second]) for found in (real, ours)]
        assert angles[0].min() - 5 < np.median(angles[1]) < angles[0].max() + 5, (first, second)


def angle(first, second):
    cosine = np.sum(first * second, -1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


# --- joints, limits, sides


def test_limbs_of_a_plain_posture_lie_where_they_should():
    """Hanging arms with elbows at right angles point forwards; knees bend backwards, thighs at 90 degrees forwards."""
    hanging = Posture((0, 0, 0), (0, 0, 0), (degrees(0, 0, 0, 90),) * 2, (degrees(90, 0, 0, 90),) * 2)
    fetus = skeleton.pose(Build(12, 100.0), hanging)
    for side in "ab":
        np.testing.assert_allclose(unit(fetus, f"shoulder_{side}", f"elbow_{side}"), [0, 0, -1], atol=1e-12)
        np.testing.assert_allclose(unit(fetus, f"elbow_{side}", f"wrist_{side}"), [0, -1, 0], atol=1e-12)
        np.testing.assert_allclose(unit(fetus, f"hip_{side}", f"knee_{side}"), [0, -1, 0], atol=1e-12)
        np.testing.assert_allclose(unit(fetus, f"knee_{side}", f"ankle_{side}"), [0, 0, -1], atol=1e-12)
    toes = fetus.tips_mm[2:] - [fetus.at("ankle_a"), fetus.at("ankle_b")]
    assert (toes[:, 1] < 0).all()  # forwards, too
    np.testing.assert_allclose(fetus.at("sacrum"), [0, 0, -47], atol=1e-12)
    inwards = skeleton.pose(fetus.build, hanging._replace(arms=(degrees(0, 0, 90, 90),) * 2,
                                                          legs=(degrees(90, 0, 90, 90),) * 2))
    for side, way in (("a", -1), ("b", 1)):  # to the middle: side A, the left, is at +x
        np.testing.assert_allclose(unit(inwards, f"elbow_{side}", f"wrist_{side}"), [way, 0, 0], atol=1e-12)
        np.testing.assert_allclose(unit(inwards, f"knee_{side}", f"ankle_{side}"), [way, 0, 0], atol=1e-12)
    aside = skeleton.pose(fetus.build, hanging._replace(arms=(degrees(90, 90, 0, 0),) * 2))
    np.testing.assert_allclose(unit(aside, "shoulder_a", "elbow_a"), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(unit(aside, "elbow_b", "wrist_b"), [-1, 0, 0], atol=1e-12)


def unit(fetus, first, second):
    step = fetus.at(second) - fetus.at(first)
    return step / np.linalg.norm(step)


def test_head_nods_and_back_curls_to_the_front():
    straight, bent = (skeleton.pose(Build(12, 100.0), STRAIGHT._replace(head=head, back=back)) for head, back in
                      (((0, 0, 0), (0, 0, 0)), (np.deg2rad((20, 0, 0)), np.deg2rad((50, 0, 0)))))
    for name in ("head", "sacrum", "hip_a"):  # forwards is -y
        assert bent.at(name)[1] < straight.at(name)[1] - 5
    rotated = skeleton.pose(Build(12, 100.0), STRAIGHT._replace(head=np.deg2rad((0, 30, 0))))
    assert rotated.head[1] @ [0, 1, 0] == pytest.approx(np.cos(np.deg2rad(30))) and rotated.head[2] @ [0, 0, 1] == 1


def test_joint_angles_stay_within_their_limits_and_vary():
    rng = np.random.default_rng(3)
    drawn = [skeleton.draw_posture(rng) for _ in range(400)]
    for part, limits in (("head", skeleton.HEAD_LIMITS), ("back", skeleton.BACK_LIMITS)):
        found = np.rad2deg([getattr(posture, part) for posture in drawn])
        low, high = np.asarray(limits, float).T
        assert (found >= low - 1e-9).all() and (found <= high + 1e-9).all()
        assert (np.ptp(found, axis=0) > 0.7 * (high - low)).all()
    for part, limits in (("arms", skeleton.ARM_LIMITS), ("legs", skeleton.LEG_LIMITS)):
        found = np.rad2deg([getattr(posture, part) for posture in drawn])  # [draws, sides, angles]
        low, high = np.asarray(limits, float).T
        assert (found >= low - 1e-9).all() and (found <= high + 1e-9).all()
        assert (np.ptp(found, axis=0) > 0.45 * (high - low)).all()
        np.testing.assert_allclose(found[:, 0].mean(axis=0), found[:, 1].mean(axis=0), atol=5)  # no side is favoured


def test_limbs_do_not_go_through_the_body_or_one_another(fetuses):
    """Looked at anew with balls of half the radii along each limb, against the bodies' own equations."""
    for fetus in fetuses:
        assert skeleton.clearance_mm(fetus) >= 0
        balls = {}
        for segment in fetus.segments():
            part = np.linspace(0.6 if segment.name in ("thigh", "upper_arm") else 0, 1, 12)[:, None]
            places = segment.start_mm + part * (segment.end_mm - segment.start_mm)
            radius = np.full_like(part, 0.5 * segment.radii_mm[1])
            balls.setdefault(segment.limb, []).append(np.hstack([places, radius]))
        balls = {limb: np.concatenate(found) for limb, found in balls.items()}
        for limb, found in balls.items():
            for middle, radii, axes in fetus.bodies().values():
                assert (np.linalg.norm((found[:, :3] - middle) @ axes.T / radii, axis=1) > 1).all()
            for other in [name for name in balls if name > limb]:
                apart = np.linalg.norm(found[:, None, :3] - balls[other][None, :, :3], axis=-1)
                assert (apart > found[:, None, 3] + balls[other][None, :, 3]).all()


def test_self_contact_is_seen():
    build = Build(12, 54.0)
    assert skeleton.clearance_mm(skeleton.pose(build, STRAIGHT)) > 0
    crossed = STRAIGHT._replace(legs=(degrees(90, 0, 45, 90),) * 2)
    through = STRAIGHT._replace(arms=(degrees(10, 0, 80, 100), STRAIGHT.arms[1]))
    for posture in (crossed, through):
        assert skeleton.clearance_mm(skeleton.pose(build, posture)) < 0


def test_exchanged_angles_are_the_mirror_image():
    rng = np.random.default_rng(5)
    for _ in range(5):
        posture = skeleton.draw_posture(rng)
        (nod, turn, tilt), (curl, lean, twist) = posture.head, posture.back
        other = Posture((nod, -turn, -tilt), (curl, -lean, -twist), posture.arms[::-1], posture.legs[::-1])
        first, second = (skeleton.pose(Build(12, 60.0), one) for one in (posture, other))
        np.testing.assert_allclose(exchanged(second.points_mm), first.points_mm * LEFT_RIGHT, atol=1e-9)


def test_both_sides_are_drawn_alike():
    """A symmetric posture is painted mirror symmetric to the last voxel: nothing but handedness tells the sides."""
    canvas = painted(skeleton.pose(Build(12, 54.0), STRAIGHT), 1.5, 45)
    for name in ("scatter", "surface", "loss"):
        array = getattr(canvas, name)
        np.testing.assert_allclose(array, array[::-1], rtol=1e-3, atol=1e-4 * array.max())
        assert not np.allclose(array, array[:, ::-1], rtol=0.1, atol=0.1 * array.max())  # front and back differ


def test_side_a_is_the_left_one(library):
    """Left, forwards and upwards by the trunk, and the face: a right-handed turn from left to back is up."""
    places = dict(zip(LANDMARKS, np.moveaxis(library, 1, 0), strict=True))
    left = places["hip_a"] - places["hip_b"] + places["shoulder_a"] - places["shoulder_b"]
    forwards = 0.5 * (places["hip_a"] + places["hip_b"]) - places["sacrum"]
    up = places["spine"] - places["sacrum"]
    assert (np.linalg.det(np.stack([left, -forwards, up], axis=1)) > 0).all()


# --- the canvas


def blank(size=(9, 7, 5), voxel_mm=1.0) -> Canvas:
    axes = tuple((np.arange(side) * voxel_mm).astype(np.float32) for side in size)
    return Canvas.blank(axes, voxel_mm, (np.zeros(size, np.float32),) * 2)


def test_a_window_is_a_view_with_a_margin():
    canvas = blank((20, 15, 11))
    part = canvas.window((8, 6, 5), (9, 7, 5))
    assert [axis.tolist() for axis in part.axes] == [[5, 6, 7, 8, 9, 10, 11], [3, 4, 5, 6, 7, 8, 9], [2, 3, 4, 5, 6, 7]]
    part.scatter[...] = 1
    assert canvas.scatter.sum() == part.scatter.size == 7 * 7 * 6 and canvas.scatter[5, 3, 2] == 1
    assert canvas.window((30, 6, 5), (40, 7, 5)) is None and canvas.window((-9, 0, 0), (-4, 9, 9)) is None
    planes = [slab.axes[0].tolist() for slab in canvas.slabs(8)]
    assert sum(planes, []) == list(range(20)) and [len(row) for row in planes] == [8, 8, 4]


def test_paint_covers_what_was_there():
    canvas = blank()
    depth = canvas.points[0] - np.float32(4) + 0 * canvas.points[1] + 0 * canvas.points[2]  # the body lies below x = 4
    canvas.film(depth + 2, 0.5)
    assert canvas.surface[2].min() == canvas.surface.max() == 0.5 and canvas.body[2, 0, 0] == 0
    canvas.cover(depth, -20.0)
    np.testing.assert_allclose(canvas.scatter[:, 3, 2], [0.1] * 4 + [0.05] + [0] * 4, atol=1e-6)
    assert canvas.surface[:4].max() == 0 and canvas.body[:4].min() > 100
    canvas.absorb(depth, 3.0)
    canvas.absorb(depth, 1.0)
    np.testing.assert_allclose(canvas.loss[:, 0, 0], [4] * 4 + [2] + [0] * 4, atol=1e-5)
    canvas.absorb(depth, 4.0, 4.0)  # an edge of four voxels
    np.testing.assert_allclose(canvas.loss[:, 0, 0], [8, 8, 8, 7, 4, 1, 0, 0, 0], atol=1e-5)
    tissue = canvas.tissue()
    np.testing.assert_allclose(tissue.scatter_db[[0, 4], 1, 1], [-20, 20 * np.log10(0.05)], atol=1e-4)
    assert tissue.scatter_db[8].max() < -100


# --- the volume


@pytest.fixture(scope="module")
def phantom():
    return fetus_phantom(3, SIZE, SPACING_MM)


def test_the_promised_form_and_one_seed_is_one_volume(phantom):
    assert phantom.image.shape == SIZE and phantom.image.dtype == np.uint8
    assert phantom.points_vox.shape == (16, 3) and phantom.points_vox.dtype == np.float64
    assert 10 <= phantom.weeks <= 14
    again, other = (fetus_phantom(seed, SIZE, SPACING_MM) for seed in (3, 4))
    np.testing.assert_array_equal(again.image, phantom.image)
    np.testing.assert_array_equal(again.points_vox, phantom.points_vox)
    points, about = fetus_reference(3, SIZE, SPACING_MM)
    np.testing.assert_array_equal(points, phantom.points_vox)
    assert (about.weeks, about.crown_rump_mm) == phantom[2:]
    assert (other.image != phantom.image).mean() > 0.3
    assert not np.allclose(other.points_vox, phantom.points_vox, atol=1)


def test_one_fetus_at_every_resolution():
    """Voxels three times as large: each has its centre in that of the middle one of 27."""
    size, spacing_mm = np.asarray([33, 31, 39]), np.asarray([3.3, 3.25, 3.2])
    coarse, fine = fetus_phantom(7, size, spacing_mm, (13, 14)), fetus_phantom(7, 3 * size, spacing_mm / 3, (13, 14))
    assert coarse[2:] == fine[2:]
    np.testing.assert_allclose(coarse.points_vox, (fine.points_vox + 0.5) / 3 - 0.5, atol=1e-6)
    grey = fine.image.astype(float).reshape(33, 3, 31, 3, 39, 3).mean(axis=(1, 3, 5))
    assert np.corrcoef(grey.ravel(), coarse.image.ravel())[0, 1] > 0.75  # the same scene, another speckle


def test_the_whole_fetus_lies_in_the_volume_in_any_direction(library):
    voxels = library / SPACING_MM
    assert (voxels >= 2).all() and (voxels <= np.asarray(SIZE) - 3).all()
    ups = library[:, LANDMARKS.index("neck")] - library[:, LANDMARKS.index("sacrum")]
    ups /= np.linalg.norm(ups, axis=1, keepdims=True)
    lefts = library[:, LANDMARKS.index("hip_a")] - library[:, LANDMARKS.index("hip_b")]
    for directions in (ups, lefts):
        assert len({tuple(row) for row in directions > 0}) == 8  # every octant
    assert np.abs(ups.mean(axis=0)).max() < 0.2
    sweep = fetus_module._draw(5, SIZE, SPACING_MM, (10, 14), 180, 1)[1]
    outline = fetus_module._draw(5, SIZE, SPACING_MM, (10, 14), 180, 1)[0].fetus.outline_mm()
    assert isinstance(sweep, Sweep) and sweep.holds(outline + (np.asarray(SIZE) - 1) / 2 * SPACING_MM).all()


def test_flesh_is_seen_in_dark_fluid():
    """The vault of the skull is bright; what is fluid in the scene, off its borders, is nearly black."""
    size, spacing_mm = (44, 41, 52), (2.5, 2.5, 2.5)
    skulls, fluids, mothers = [], [], []
    for seed in range(3):
        scene = fetus_module._draw(seed, size, spacing_mm, (13, 14), 180, 1)[0]
        image = fetus_phantom(seed, size, spacing_mm, (13, 14)).image.astype(float)
        canvas = Canvas.blank(centers_mm(size, spacing_mm), 2.5, (np.zeros(size, np.float32),) * 2)
        womb.paint_womb(canvas, scene.womb, scene.tissue)
        fluid = canvas.scatter < 1e-3
        mothers.append(np.median(image[(image > 0) & ~ndimage.binary_dilation(fluid, iterations=6)]))
        flesh.paint_fetus(canvas, scene.fetus, scene.flesh)
        fluid = ndimage.binary_erosion(canvas.scatter < 1e-3, iterations=2)
        fluids.append(np.mean(image[fluid & (image > 0)]))
        places = np.stack(np.meshgrid(*canvas.axes, indexing="ij"), axis=-1)
        middle, radii, axes = scene.fetus.bodies()["head"]
        level = np.linalg.norm((places - middle) @ axes.T / radii, axis=-1)
        skulls.append(np.median(image[(np.abs(level - 0.88) < 0.06) & ((places - middle) @ axes[2] > 0)]))
    assert np.min(np.divide(skulls, fluids)) > 6 and np.median(skulls) > 100
    assert np.max(np.divide(fluids, mothers)) < 0.3


def test_bones_echo_and_cast_shadows():
    """Each shaft takes sound away along its ossified part, and what lies behind the skull is darker for it."""
    fetus = skeleton.pose(Build(13.5, 75.0), STRAIGHT)
    canvas = painted(fetus, 1.0, 62)
    bone, soft = 10 ** (-8 / 20), 10 ** (-30 / 20)
    for segment in fetus.segments():
        if segment.name in ("thigh", "upper_arm"):
            middle = np.rint(0.5 * (segment.start_mm + segment.end_mm) + 62).astype(int)
            around = tuple(slice(place - 1, place + 2) for place in middle)
            assert canvas.scatter[around].max() > 0.8 * bone and canvas.loss[around].max() > 3
            cartilage = np.rint(segment.start_mm + 0.98 * (segment.end_mm - segment.start_mm) + 62).astype(int)
            assert canvas.loss[tuple(cartilage)] < 0.5 * canvas.loss[around].max()
    crown = np.rint(fetus.at("head") + 62).astype(int)
    column = canvas.scatter[crown[0] + 3, crown[1]]
    assert column[crown[2] + 8: crown[2] + 16].max() > 2 * soft  # the skull above the brain
    without = flesh.FleshLook(-36, -30, -58, -8, 0.0, 0.0, 0.2)
    assert painted(fetus, 2.0, 62, without).loss.max() == 0 < painted(fetus, 2.0, 62).loss.max()


def test_the_image_is_darker_behind_bones(monkeypatch):
    """The same scene with and without the bones' loss differs behind the fetus, not before it."""
    size, spacing_mm = (37, 34, 43), (3.0, 3.0, 3.0)
    scene = fetus_module._draw(2, size, spacing_mm, (13, 14), 180, 1)[0]
    loud = fetus_phantom(2, size, spacing_mm, (13, 14)).image.astype(float)
    draw = fetus_module._draw_flesh_look
    monkeypatch.setattr(fetus_module, "_draw_flesh_look",
                        lambda rng: draw(rng)._replace(bone_loss=0.0, skull_loss=0.0))
    clear = fetus_phantom(2, size, spacing_mm, (13, 14)).image.astype(float)
    change = clear - loud
    head = np.rint(scene.fetus.at("head") / 3 + (np.asarray(size) - 1) / 2).astype(int)
    behind = change[head[0] - 2: head[0] + 3, head[1] + 7:, head[2] - 2: head[2] + 3]
    before = change[:, : max(2, int((scene.fetus.outline_mm()[:, 1].min()) / 3 + 16) - 3)]
    assert behind.mean() > 3 and np.abs(before).mean() < 0.2 * behind.mean()


# --- the womb


def test_smallest_ellipsoid_holds_all_points_and_is_small():
    rng = np.random.default_rng(1)
    sphere = rng.normal(size=(200, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    turn = Rotation.from_rotvec([0.4, -1.1, 0.8]).as_matrix()
    points = sphere * [7, 3, 2] @ turn + [4, -5, 6]
    middle, radii, axes = womb.smallest_ellipsoid(points, 1e-3)
    assert np.linalg.norm((points - middle) @ axes.T / radii, axis=1).max() <= 1 + 1e-9
    np.testing.assert_allclose(sorted(radii), [2, 3, 7], rtol=0.05)
    np.testing.assert_allclose(middle, [4, -5, 6], atol=0.15)


def test_the_fetus_lies_in_the_cavity_and_the_cord_joins_navel_and_placenta():
    for seed in range(6):
        scene = fetus_module._draw(seed, SIZE, SPACING_MM, (10, 14), 180, 1)[0]
        inside = (scene.fetus.outline_mm() - scene.womb.middle_mm) @ scene.womb.axes.T / scene.womb.radii_mm
        assert np.linalg.norm(inside, axis=1).max() < 1
        np.testing.assert_allclose(scene.womb.cord_mm[0], flesh.navel_mm(scene.fetus), atol=1e-9)
        cord = (scene.womb.cord_mm - scene.womb.middle_mm) @ scene.womb.axes.T / scene.womb.radii_mm
        assert np.linalg.norm(cord, axis=1).max() < 1.1
        off = np.linalg.norm(scene.womb.cord_mm[-1] - scene.womb.placenta_mm)
        assert off == pytest.approx(0.8 * scene.womb.placenta_thick_mm, rel=1e-6)


# --- a library of poses


def aligned(atlas: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The atlas moved rigidly onto the pose by the robust landmarks (scipy's own least squares)."""
    rows = [LANDMARKS.index(name) for name in ROBUST]
    middles = atlas[rows].mean(axis=0), pose[rows].mean(axis=0)
    turn = Rotation.align_vectors(pose[rows] - middles[1], atlas[rows] - middles[0])[0]
    return turn.apply(atlas - middles[0]) + middles[1]


def test_poses_vary_much_and_a_library_of_100_covers_new_ones(library):
    """The nearest of 100 is well within a limb's length (9 mm on average), any one of them is not."""
    nearest, usual = [], []
    for pose in library[100:]:
        costs = [np.linalg.norm(aligned(atlas, pose) - pose, axis=1).mean() for atlas in library[:100]]
        nearest.append(min(costs))
        usual.append(np.median(costs))
    assert np.mean(nearest) < 3.5 and np.mean(usual) > 6
    wrists = np.stack([aligned(atlas, library[0])[LANDMARKS.index("wrist_a")] for atlas in library])
    assert np.linalg.norm(wrists.std(axis=0)) > 6


def test_less_variety_makes_postures_alike():
    """The deviation of a joint over bodies of one size, moved onto one another."""
    spreads = []
    for variety in (1.0, 0.5, 0.1):
        rng = np.random.default_rng(0)
        build = skeleton.draw_build(rng, (12, 12))
        points = np.stack([skeleton.draw_fetus(rng, build, variety).points_mm for _ in range(60)])
        spreads.append(np.sqrt(points.var(axis=0).sum(axis=-1)).mean())
    assert spreads[0] > 1.4 * spreads[1] > 1.4 * 2 * spreads[2] > 0


def test_a_fetus_lies_as_near_to_a_sagittal_view_as_requested():
    for degrees in (0, 60):
        tilts = []  # of hips and back; the posture itself bends a body too
        for seed in range(12):
            points, _ = fetus_reference(seed, SIZE, SPACING_MM, turn_degrees=degrees)
            of = dict(zip(LANDMARKS, points * SPACING_MM, strict=True))
            for axis, away in (((0, 0, 1), of["hip_b"] - of["hip_a"]), ((1, 0, 0), of["spine"] - of["sacrum"])):
                tilts.append(np.degrees(np.arccos(away @ axis / np.linalg.norm(away))))
        assert np.max(tilts[::2]) < degrees + 25 and np.max(tilts[1::2]) < degrees + 50, degrees
    assert np.max(tilts[::2]) > 25


# --- bad input, files


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="size"):
        fetus_phantom(1, (4, 40, 40), (2, 2, 2))
    with pytest.raises(ValueError, match="weeks"):
        fetus_reference(1, SIZE, SPACING_MM, (14, 10))
    with pytest.raises(ValueError, match="weeks"):
        fetus_reference(1, SIZE, SPACING_MM, (10, 20))
    with pytest.raises(ValueError, match="turn_degrees must be from 0 to 180: 200"):
        fetus_reference(1, SIZE, SPACING_MM, turn_degrees=200)
    with pytest.raises(ValueError, match="variety must be above 0 and up to 1: 0"):
        fetus_reference(1, SIZE, SPACING_MM, variety=0)
    with pytest.raises(UserError, match="field of view must hold a fetus of .*; found 40 x 40 x 40 mm"):
        fetus_reference(1, (20, 20, 20), (2, 2, 2))


COARSE, COARSE_MM = (23, 21, 26), (4.8, 4.9, 5.0)


def write(root, cases=2, weeks=(10, 14), progress=lambda line: None):
    return write_pose_dataset(root, cases, 5, COARSE, COARSE_MM, weeks, 180, 1, progress)


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write(tmp_path_factory.mktemp("fetuses"), cases=3)


def test_layout_is_read_as_it_was_written(dataset):
    entry = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert entry["labels"] == {} and entry["landmarks"] == list(LANDMARKS)
    assert entry["phantom"]["weeks"] == [10, 14] and not (dataset / "labels").exists()
    opened = open_dataset(dataset)
    assert [case.name for case in opened.cases] == ["fetus_001", "fetus_002", "fetus_003"]
    assert opened.landmarks == LANDMARKS and opened.labels == {} and opened.notes == ()
    table = list(csv.DictReader((dataset / "fetuses.csv").read_text(encoding="utf-8").splitlines()))
    for number, (case, row) in enumerate(zip(opened.cases, table, strict=True)):
        seed = int(np.random.SeedSequence([5, number]).generate_state(1)[0])
        phantom = fetus_phantom(seed, COARSE, COARSE_MM)
        volume = read_volume(case.image)
        np.testing.assert_array_equal(volume.array, phantom.image)
        found = case_landmarks(case, volume)
        assert tuple(found) == LANDMARKS and case.label is None
        np.testing.assert_allclose(points_to_vox(np.stack(list(found.values())), volume), phantom.points_vox, atol=1e-4)
        assert row["case"] == case.name and float(row["weeks"]) == pytest.approx(phantom.weeks, abs=1e-3)
        assert float(row["crown_rump_mm"]) == pytest.approx(phantom.crown_rump_mm, abs=1e-3)


def test_markups_hold_the_skeletons_lines(dataset):
    markups = json.loads((dataset / "landmarks" / "fetus_001.mrk.json").read_text(encoding="utf-8"))["markups"]
    assert [one["type"] for one in markups] == ["Fiducial"] + ["Line"] * 15
    lines = {tuple(point["label"] for point in one["controlPoints"]) for one in markups[1:]}
    assert lines == set(SEGMENTS)


def test_what_is_missing_is_written_again_and_more_may_follow(dataset, tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, cases=3, progress=stop)
    write(tmp_path, cases=2)
    assert len((tmp_path / "fetuses.csv").read_text().splitlines()) == 3
    (tmp_path / "landmarks" / "fetus_001.mrk.json").unlink()
    (tmp_path / "images" / "fetus_002.nii.gz").write_bytes(b"half")
    lines = []
    write(tmp_path, cases=3, progress=lines.append)
    assert len(lines) == 3  # none of the first two is whole, so no case exists already
    assert files(tmp_path) == files(dataset)
    write(tmp_path, cases=3, progress=lines.append)
    assert "3 of 3 cases exist" in lines[3] and len(lines) == 4
    with pytest.raises(UserError, match="weeks .* there"):
        write(tmp_path, cases=3, weeks=(10, 13))
    with pytest.raises(UserError, match="fetus_003"):
        write(tmp_path, cases=2)
    with pytest.raises(UserError, match="--cases"):
        write(tmp_path, cases=0)


def test_a_view_too_small_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="field of view"):
        write_pose_dataset(tmp_path / "small", 1, 0, (20, 20, 20), (2, 2, 2), (12, 14), 180, 1, print)
    assert not (tmp_path / "small").exists()


def test_moving_keeps_the_shape():
    fetus = skeleton.pose(Build(12, 54.0), STRAIGHT)
    turn = Rotation.from_rotvec([-0.9, 0.3, 1.4]).as_matrix()
    moved = fetus.moved(turn, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(flesh.navel_mm(moved), flesh.navel_mm(fetus) @ turn + [1, 2, 3], atol=1e-9)
    np.testing.assert_allclose(moved.outline_mm()[:14], fetus.outline_mm()[:14] @ turn + [1, 2, 3], atol=1e-9)
    assert skeleton.clearance_mm(moved) == pytest.approx(skeleton.clearance_mm(fetus), abs=1e-3)
    smaller = replace(fetus.build, girth=0.8)
    assert smaller.radii_mm("thigh")[0] == pytest.approx(0.8 * fetus.build.radii_mm("thigh")[0])
