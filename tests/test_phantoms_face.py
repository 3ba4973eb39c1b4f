"""The face phantom: growth, proportions, skin and landmarks, both sides, what is seen, what lies before it, files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tfsono.configs.face import LANDMARKS, MIRRORED
from tfsono.data.layout import case_landmarks, open_dataset
from tfsono.errors import UserError
from tfsono.phantoms import face as face_module
from tfsono.phantoms import face_anatomy as anatomy
from tfsono.phantoms import face_flesh as flesh
from tfsono.phantoms.canvas import Canvas
from tfsono.phantoms.dataset import write_face_dataset
from tfsono.phantoms.face import FaceReference, face_phantom, face_reference
from tfsono.phantoms.view import SAGITTAL
from tfsono.volumes.image import read_volume
from tfsono.volumes.landmarks import points_to_vox

# Unequal sides, two of them odd: 130 x 119 x 136 mm.
SIZE, SPACING_MM = (45, 41, 48), (2.9, 2.9, 2.8)
LEFT_RIGHT = np.asarray([-1.0, 1.0, 1.0])
LEFT, BROW, RIGHT, NOSE, CHIN = range(5)


def painted(face, voxel_mm=2.0, half_mm=66, look=None) -> Canvas:
    """The head alone, without textures, on a cube of an odd number of voxels around the vault's middle."""
    axis = np.arange(-half_mm, half_mm + voxel_mm / 2, voxel_mm, dtype=np.float32)
    canvas = Canvas.blank((axis,) * 3, voxel_mm, (np.zeros((axis.size,) * 3, np.float32),) * 2)
    flesh.paint_face(canvas, face, look or flesh.FleshLook(-36, -30, -54, -8, 5.0, 3.0, 0.2))
    return canvas


@pytest.fixture(scope="module")
def faces():
    """120 faces of the default's ages, in their own frame."""
    rng = np.random.default_rng(4)
    return [anatomy.draw_face(rng, (20, 30)) for _ in range(120)]


def distance(face, first: int, second: int) -> float:
    return float(np.linalg.norm(face.points_mm[first] - face.points_mm[second]))


# --- growth and proportions


def test_heads_are_as_large_as_published():
    """Hadlock's biparietal diameter (1984, its outer to its inner edge): -3.08 + 0.41 w - 0.000061 w^3 centimetres."""
    for weeks in (18, 22, 26, 30, 34):
        face = anatomy.average_face(weeks)
        width, length, _ = 2 * face.vault_mm
        assert width == pytest.approx(10 * (-3.08 + 0.41 * weeks - 0.000061 * weeks**3), abs=5)
        assert width / length == pytest.approx(0.783)
        assert np.pi * (width + length) / 2 == pytest.approx(-114.8 + 15.6 * weeks - 0.002548 * weeks**3)


def test_eyes_are_as_far_apart_as_published():
    """By the same authors' other equations, from the biparietal diameter: 3.893 + 0.568 b and 2.854 + 0.203 b."""
    for weeks, eyes_mm, nasal_mm in ((20, 21.75, 6.3), (25, 26.6, 8.2), (30, 31.4, 10.1)):
        face = anatomy.average_face(weeks)
        orbit = 2 * face.globe_mm / anatomy.GLOBE
        biparietal = 10 * (-3.08 + 0.41 * weeks - 0.000061 * weeks**3)
        assert distance(face, LEFT, RIGHT) == pytest.approx(face.eyes_mm) == pytest.approx(eyes_mm, abs=0.1)
        assert face.eyes_mm + orbit == pytest.approx(3.893 + 0.568 * biparietal, rel=0.06)
        assert face.eyes_mm - orbit == pytest.approx(2.854 + 0.203 * biparietal, rel=0.10)
        assert face.nasal_mm == pytest.approx(nasal_mm, abs=0.1)


def test_later_faces_are_larger():
    found = [anatomy.average_face(weeks) for weeks in (16, 20, 24, 28, 32, 36)]
    for pair in combinations(range(5), 2):
        assert (np.diff([distance(face, *pair) for face in found]) > 0.5).all()
    assert (np.diff([face.vault_mm for face in found], axis=0) > 1.5).all()
    early, late = (face_reference(3, SIZE, SPACING_MM, (weeks, weeks))[1] for weeks in (20, 30))
    assert (early.weeks, late.weeks) == (20, 30)
    assert late.occipitofrontal_mm > 1.3 * early.occipitofrontal_mm
    assert late.distances_mm["left_eye", "right_eye"] > 1.3 * early.distances_mm["left_eye", "right_eye"]


def ratios(faces) -> dict[str, np.ndarray]:
    """The graph prior's: symmetric ones (c - d) / (c + d), and of two edges."""
    found = {}
    for name, far in (("brow", BROW), ("nose", NOSE), ("chin", CHIN)):
        pairs = np.asarray([(distance(face, LEFT, far), distance(face, RIGHT, far)) for face in faces])
        found[name] = (pairs[:, 0] - pairs[:, 1]) / pairs.sum(axis=1)
    eyes, nose, chin = (np.asarray([distance(face, *pair) for face in faces])
                        for pair in ((LEFT, RIGHT), (BROW, NOSE), (NOSE, CHIN)))
    return found | {"nose by eyes": nose / eyes, "chin by eyes": chin / eyes, "chin by nose": chin / nose}


def test_ratios_of_distances_vary_as_normal_distributions(faces):
    found = ratios(faces)
    for name in ("brow", "nose", "chin"):  # a few per cent of asymmetry, to neither side
        assert abs(found[name].mean()) < 0.003 and 0.004 < found[name].std() < 0.02, name
    for name, middle in (("nose by eyes", 0.74), ("chin by eyes", 0.90), ("chin by nose", 1.30)):
        assert found[name].mean() == pytest.approx(middle, abs=0.06), name
        assert 0.03 < found[name].std() / found[name].mean() < 0.12, name
    for name, values in found.items():
        assert abs(stats.skew(values)) < 0.6 and abs(stats.kurtosis(values)) < 1.2, name


def test_less_variety_makes_faces_alike():
    spreads = []
    for variety in (1.0, 0.5, 0.1):
        rng = np.random.default_rng(1)
        drawn = [anatomy.draw_face(rng, (25, 25), variety) for _ in range(40)]
        spreads.append(np.std(ratios(drawn)["chin by eyes"]))
    assert spreads[0] > 1.5 * spreads[1] > 1.5 * 3 * spreads[2] > 0
    assert len({face_reference(seed, SIZE, SPACING_MM, variety=0.1)[1].hands for seed in range(8)}) == 1


def test_ages_and_mouths_are_drawn_within_their_limits(faces):
    weeks = np.asarray([face.weeks for face in faces])
    assert 20 <= weeks.min() < 20.3 and 29.7 < weeks.max() <= 30
    assert min(face.open for face in faces) == 0 < np.median([face.open for face in faces]) < 0.05


# --- landmarks and skin


def test_landmarks_lie_on_the_skin_and_in_the_globes(faces):
    for face in [anatomy.average_face(24), *faces[:25]]:
        skin = anatomy.skin_mm(tuple(face.points_mm.T), face)
        np.testing.assert_allclose(skin[[BROW, NOSE, CHIN]], 0, atol=0.05)
        for eye in (LEFT, RIGHT):
            out = face.points_mm[eye] + np.outer(np.linspace(0, 1.5 * face.globe_mm, 16), (0, -1.0, 0))
            found = anatomy.skin_mm(tuple(out.T), face)
            assert found[-1] > 0  # before the lids
            assert (found[1:10] < 0).all()  # in the eye


def test_landmarks_lie_where_a_face_has_them(faces):
    """Left is +x, the back +y, up +z."""
    for face in faces:
        points = face.points_mm / face.eyes_mm
        between = 0.5 * (points[LEFT] + points[RIGHT])
        assert points[LEFT, 0] > 0.4 and points[RIGHT, 0] < -0.4
        assert (np.abs(points[[BROW, NOSE, CHIN], 0]) < 0.08).all()
        assert points[BROW, 2] > between[2] > points[NOSE, 2] > points[CHIN, 2] + 0.4
        assert points[NOSE, 1] < points[[BROW, CHIN], 1].min() and (points[[BROW, NOSE, CHIN], 1] < between[1]).all()


def test_nose_and_chin_are_the_extreme_points_of_the_profile(faces):
    """Against the profile's outline, found with parallel rays instead of one way outwards."""
    for face in (anatomy.average_face(26), faces[0], faces[1]):
        size, (nose, chin) = face.eyes_mm, face.points_mm[[NOSE, CHIN]]
        heights = np.arange(chin[2] - 0.4 * size, nose[2] + 0.3 * size, 0.3)
        depths = np.arange(nose[1] - 2, nose[1] + size, 0.1)
        grid = np.meshgrid(depths, heights, indexing="ij")
        inside = anatomy.skin_mm((np.full(grid[0].shape, nose[0]), *grid), face) < 0
        front = np.where(inside.any(axis=0), depths[inside.argmax(axis=0)], np.inf)
        assert front.min() == pytest.approx(nose[1], abs=0.12)
        assert abs(heights[front.argmin()] - nose[2]) < 0.06 * size
        way = np.asarray(anatomy.CHIN_TIP)
        low = np.abs(heights - chin[2]) < 0.25 * size
        reach = np.max((np.stack([front, heights], axis=-1) @ way[1:])[low & np.isfinite(front)])
        assert reach == pytest.approx(chin @ way, abs=0.04 * size)


def test_both_sides_are_drawn_alike():
    """An average face is painted mirror symmetric to the last voxel: nothing but handedness tells the sides."""
    face = anatomy.average_face(25)
    swapped = [LANDMARKS.index(dict(MIRRORED + tuple(pair[::-1] for pair in MIRRORED)).get(name, name))
               for name in LANDMARKS]
    np.testing.assert_allclose(face.points_mm[swapped] * LEFT_RIGHT, face.points_mm, atol=1e-9)
    canvas = painted(face)
    for name in ("scatter", "surface", "loss"):
        array = getattr(canvas, name)
        np.testing.assert_array_equal(array, array[::-1])
        assert not np.allclose(array, array[:, ::-1], rtol=0.1, atol=0.1 * array.max())  # front and back differ


def test_mirrored_deviations_give_the_mirror_image(faces):
    for face in faces[:5]:
        names = list(anatomy.ANCHORS)
        shifts = face.shifts * LEFT_RIGHT
        order = [names.index({"left": "right", "right": "left"}.get(name, name)) for name in names]
        mirrored = anatomy.with_landmarks(replace(face, shifts=shifts[order]))
        expected = face.points_mm[[RIGHT, BROW, LEFT, NOSE, CHIN]] * LEFT_RIGHT
        np.testing.assert_allclose(mirrored.points_mm, expected, atol=0.02)


def test_moving_keeps_the_shape(faces):
    face, turn = faces[2], np.asarray([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    moved = face.moved(turn, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(moved.at((0.3, 0.2, -0.5)), face.at((0.3, 0.2, -0.5)) @ turn + [1, 2, 3], atol=1e-9)
    np.testing.assert_allclose(moved.outline_mm(), face.outline_mm() @ turn + [1, 2, 3], atol=1e-9)
    places = np.random.default_rng(0).uniform(-60, 60, (50, 3))
    np.testing.assert_allclose(anatomy.skin_mm(tuple((places @ turn + [1, 2, 3]).T), moved),
                               anatomy.skin_mm(tuple(places.T), face), atol=1e-3)


def test_chin_and_chest_do_not_meet(faces):
    """The chin's tip is as far from the chest's own ellipsoid as the fillet that would draw it there."""
    for face in faces:
        middle, radii, axes = face.chest()
        level = np.linalg.norm((face.points_mm[CHIN] - middle) @ axes.T / radii)
        assert (level - 1) * radii.min() > 0.1 * face.eyes_mm
    assert np.ptp([face.flexion[0] for face in faces]) > 0.4  # the head is bent more and less


# --- what is painted


def test_globes_are_dark_in_bright_orbits():
    """Along lines from the globe's middle to the sides and backwards: fluid, then bone that takes sound away."""
    face = anatomy.average_face(26)
    canvas = painted(face, 1.0, 62)
    for eye in (LEFT, RIGHT):
        middle = np.rint(face.points_mm[eye] + 62).astype(int)
        assert canvas.scatter[tuple(middle + [0, 1, 0])] < 10 ** (-60 / 20)
        for way in np.asarray([(1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1), (0, 1, 0)]):
            reach = np.arange(int((2.7 if way[1] else 1.7) * face.globe_mm))[:, None]
            line = tuple((middle + [0, 1, 0] + reach * way).T)
            near, far = canvas.loss[line][:4], canvas.loss[line][4:]
            assert near.max() == 0 < 1 < far.max()
            assert canvas.scatter[line].max() > 10 ** (-18 / 20)
        ahead = tuple((middle - np.arange(int(1.2 * face.globe_mm))[:, None] * [0, 1, 0]).T)
        assert canvas.surface[ahead].max() > 0.25  # the lens
        assert canvas.loss[ahead].max() < 1  # the orbit is open in front


def test_nose_has_bone_above_and_none_in_its_tip():
    face = anatomy.average_face(26)
    canvas = painted(face, 1.0, 62)
    x, y, z = np.meshgrid(*canvas.axes, indexing="ij", sparse=True)
    brow, nose = face.points_mm[[BROW, NOSE]]
    middle = (np.abs(x) < 3) & (y < nose[1] + 12)
    bridge = canvas.loss[np.broadcast_to(middle & (z > nose[2] + 8) & (z < brow[2] - 3), canvas.loss.shape)]
    tip = canvas.loss[np.broadcast_to(middle & (np.abs(z - nose[2]) < 3) & (y < nose[1] + 5), canvas.loss.shape)]
    assert bridge.max() > 2 and tip.max() == 0
    without = flesh.FleshLook(-36, -30, -54, -8, 0.0, 0.0, 0.2)
    assert painted(face, 3.0, 60, without).loss.max() == 0


# --- the volume


@pytest.fixture(scope="module")
def phantom():
    return face_phantom(3, SIZE, SPACING_MM)


def test_the_promised_form_and_one_seed_is_one_volume(phantom):
    assert phantom.image.shape == SIZE and phantom.image.dtype == np.uint8
    assert phantom.points_vox.shape == (5, 3) and phantom.points_vox.dtype == np.float64
    assert isinstance(phantom.about, FaceReference) and 20 <= phantom.about.weeks <= 30
    again, other = (face_phantom(seed, SIZE, SPACING_MM) for seed in (3, 4))
    np.testing.assert_array_equal(again.image, phantom.image)
    points, about = face_reference(3, SIZE, SPACING_MM)
    np.testing.assert_array_equal(points, phantom.points_vox)
    assert about == phantom.about == again.about
    assert (other.image != phantom.image).mean() > 0.3
    assert not np.allclose(other.points_vox, phantom.points_vox, atol=1)


def test_the_reference_distances_are_those_of_its_points(phantom):
    points = dict(zip(LANDMARKS, phantom.points_vox * SPACING_MM, strict=True))
    assert list(phantom.about.distances_mm) == list(combinations(LANDMARKS, 2))
    for (first, second), millimetres in phantom.about.distances_mm.items():
        assert np.linalg.norm(points[first] - points[second]) == pytest.approx(millimetres)


def test_one_face_at_every_resolution():
    """Voxels that are painted in two parts each, and the parts themselves as voxels."""
    size, spacing_mm = np.asarray([43, 41, 45]), np.asarray([3.0, 2.9, 2.8])
    coarse, fine = face_phantom(7, size, spacing_mm), face_phantom(7, 2 * size, spacing_mm / 2)
    assert coarse.about == fine.about
    np.testing.assert_allclose(coarse.points_vox, (fine.points_vox + 0.5) / 2 - 0.5, atol=1e-6)
    grey = fine.image.astype(float).reshape(43, 2, 41, 2, 45, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(grey.ravel(), coarse.image.ravel())[0, 1] > 0.9  # the same scene, another speckle
    assert (fine.image > 0).mean() == pytest.approx((coarse.image > 0).mean(), abs=0.05)


@pytest.fixture(scope="module")
def references():
    """80 placed faces: points in millimetres [80, 5, 3] from the volume's corner, and what was drawn."""
    found = [face_reference(seed, SIZE, SPACING_MM) for seed in range(80)]
    return (np.stack([points for points, _ in found]) + 0.5) * SPACING_MM, [about for _, about in found]


def test_boxes_lie_in_the_volume_in_any_direction(references):
    points, abouts = references
    sides = np.asarray(SIZE) * SPACING_MM
    assert points.min() >= 15.6 and (points <= sides - 15.6).all()
    assert np.ptp(points.mean(axis=1), axis=0).min() > 25  # not always in the same place
    axes = np.asarray([about.axes for about in abouts])
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.broadcast_to(np.eye(3), axes.shape), atol=1e-9)
    for row in range(3):
        assert len({tuple(signs) for signs in axes[:, row] > 0}) == 8  # every octant
        assert np.abs(axes[:, row].mean(axis=0)).max() < 0.3


def test_left_is_the_fetuss_own(references):
    """Left, backwards and upwards by the landmarks are right-handed, whatever the direction."""
    points, abouts = references
    left = points[:, LEFT] - points[:, RIGHT]
    back = 0.5 * (points[:, LEFT] + points[:, RIGHT]) - points[:, NOSE]
    up = points[:, BROW] - points[:, CHIN]
    assert (np.linalg.det(np.stack([left, back, up], axis=1)) > 0).all()
    for found, row in ((left, 0), (up, 2)):
        cosine = np.sum(found * [about.axes[row] for about in abouts], axis=1) / np.linalg.norm(found, axis=1)
        assert (cosine > 0.95).all()


def test_other_grids_hold_the_boxes_too():
    for size, spacing_mm in (((128,) * 3, (1.3,) * 3), ((64,) * 3, (2.6,) * 3), ((67, 61, 55), (1.9, 2.1, 2.2))):
        for seed in range(3):
            points = face_reference(seed, size, spacing_mm)[0] * spacing_mm
            ends = (np.asarray(size) - 1) * spacing_mm
            assert points.min() >= 14 and (points <= ends - 14).all()


def test_a_face_lies_as_near_to_the_standard_view_as_requested():
    for degrees in (0, 50):
        angles = []
        for seed in range(10):
            points, about = face_reference(seed, SIZE, SPACING_MM, turn_degrees=degrees)
            cosine = (np.trace(np.asarray(about.axes) @ SAGITTAL.T) - 1) / 2
            angles.append(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
            if degrees == 0:  # it looks at the probe, its chin to one side, its left away
                depth = points[:, 1] * SPACING_MM[1]
                assert depth.argmin() == NOSE and points[BROW, 0] > points[NOSE, 0] > points[CHIN, 0]
                assert points[LEFT, 2] < points[BROW, 2] < points[RIGHT, 2]
        assert np.max(angles) <= degrees + 1e-3 and (degrees == 0 or np.max(angles) > 25)


def test_eyes_are_seen_dark_with_bright_rims_in_dark_fluid():
    """Means over three faces that look at the probe: the globe behind its lens, the orbit's rim, fluid, skin."""
    size, spacing_mm = (78, 70, 76), (1.6, 1.65, 1.6)
    globes, rims, fluids, skins = [], [], [], []
    for seed in (1, 2, 4):
        scene = face_module._draw(seed, size, spacing_mm, (25, 29), 1.0, 25)[0]
        image = face_phantom(seed, size, spacing_mm, (25, 29), turn_degrees=25).image.astype(float)
        middle, face = (np.asarray(size) - 1) / 2 * spacing_mm, scene.face
        places = np.stack(np.meshgrid(*(np.arange(side) * step for side, step in zip(size, spacing_mm, strict=True)),
                                      indexing="ij"), axis=-1) - middle
        for eye in (LEFT, RIGHT):
            offset = (places - face.points_mm[eye]) @ face.axes.T
            away, aside = np.linalg.norm(offset, axis=-1), np.hypot(offset[..., 0], offset[..., 2])
            globes.append(image[(away < 0.65 * face.globe_mm) & (offset[..., 1] > 0)].mean())
            around = (np.abs(aside - 0.29 * face.eyes_mm) < 1.2) & (np.abs(offset[..., 1]) < 2.5)
            rims.append(image[around].mean())
        skin = anatomy.skin_mm(tuple(np.moveaxis(places.astype(np.float32), -1, 0)), face)
        before = np.linalg.norm(places - face.points_mm[BROW], axis=-1) < 14
        fluids.append(image[before & (skin > 3.5)].mean())
        skins.append(image[before & (np.abs(skin) < 1)].mean())
    assert np.mean(rims) > 1.5 * np.mean(globes), (rims, globes)
    assert np.mean(skins) > 3 * np.mean(fluids), (skins, fluids)


def test_the_image_is_darker_behind_bones(monkeypatch):
    """The same scene with and without the bones' loss differs behind the face, not before it."""
    size, spacing_mm = (43, 41, 45), (2.9, 2.9, 2.9)
    reference = face_reference(2, size, spacing_mm, turn_degrees=0)[0]
    loud = face_phantom(2, size, spacing_mm, turn_degrees=0).image.astype(float)
    draw = face_module.draw_face_look
    monkeypatch.setattr(face_module, "draw_face_look",
                        lambda rng: draw(rng)._replace(bone_loss=0.0, skull_loss=0.0))
    clear = face_phantom(2, size, spacing_mm, turn_degrees=0).image.astype(float)
    change = clear - loud
    x, y, z = np.rint(reference.mean(axis=0)).astype(int)
    behind = change[x - 4: x + 5, y + 5: y + 15, z - 4: z + 5]
    before = change[:, : int(reference[NOSE, 1]) - 4]
    assert behind.mean() > 5 and np.abs(before).mean() < 0.2 * behind.mean()


# --- what lies before the face


def scenes(count=16):
    return [face_module._draw(seed, SIZE, SPACING_MM, (20, 30), 1.0, 180)[0] for seed in range(count)]


def test_hands_and_cord_lie_free_before_the_face():
    """Looked at anew with points along rods and courses, each against the skin and against what else there is."""
    hands, cords = [], []
    for scene in scenes():
        face, around = scene.face, scene.around
        solids = []
        for hand in around.hands:
            rods = [np.linspace(bone.start_mm, bone.end_mm, 7) for bone in hand]
            radii = [np.linspace(*bone.radii_mm, 7) for bone in hand]
            solids.append((np.concatenate(rods), np.concatenate(radii)))
            palm = hand[0].end_mm - face.at((0, 0, -0.4))
            assert palm @ face.axes[1] < 0.3 * face.eyes_mm  # in front of the face or next to it
        solids += [(cord.course_mm, np.full(len(cord.course_mm), cord.radius_mm)) for cord in around.cords]
        for places, radii in solids:
            assert (anatomy.skin_mm(tuple(places.T), face) - radii).min() > 0
            assert np.linalg.norm(places - face.at((0, -0.4, -0.4)), axis=1).min() < 3 * face.eyes_mm
        for (first, thick), (second, round_) in combinations(solids, 2):
            apart = np.linalg.norm(first[:, None] - second, axis=-1) - thick[:, None] - round_
            assert apart.min() > -0.6  # between the points of both
        hands.append(len(around.hands))
        cords.append(len(around.cords))
    assert set(hands) == set(cords) == {0, 1, 2}


def test_vessels_run_inside_the_cord():
    cord = next(scene.around.cords[0] for scene in scenes(6) if scene.around.cords)
    for course, radius in cord.vessels:
        off = np.linalg.norm(course - cord.course_mm, axis=1)
        assert (off + radius < cord.radius_mm).all() and (off > 0.3 * cord.radius_mm).all()


def test_head_and_fluid_lie_in_the_womb():
    for scene in scenes(6):
        womb, face = scene.around.womb, scene.face
        inside = np.linalg.norm((face.outline_mm() - womb.middle_mm) @ womb.axes.T / womb.radii_mm, axis=1)
        assert inside.max() < 1.02 and womb.yolk_mm is None


# --- bad input, files


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="size"):
        face_phantom(1, (4, 40, 40), (2, 2, 2))
    with pytest.raises(ValueError, match="weeks"):
        face_reference(1, SIZE, SPACING_MM, (30, 20))
    with pytest.raises(ValueError, match="weeks must be 2 ages from 16.0 to 36.0"):
        face_reference(1, SIZE, SPACING_MM, (12, 20))
    with pytest.raises(ValueError, match="turn_degrees must be from 0 to 180: 200"):
        face_reference(1, SIZE, SPACING_MM, turn_degrees=200)
    with pytest.raises(ValueError, match="variety must be above 0 and up to 1: 0"):
        face_reference(1, SIZE, SPACING_MM, variety=0)
    with pytest.raises(UserError, match="field of view must hold a face of .*; found 40 x 40 x 40 mm"):
        face_reference(1, (20, 20, 20), (2, 2, 2))


COARSE, COARSE_MM = (25, 24, 27), (4.9, 4.9, 4.8)


def write(root, cases=2, weeks=(20, 24), progress=lambda line: None):
    return write_face_dataset(root, cases, 5, COARSE, COARSE_MM, weeks, 180, 1, progress)


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write(tmp_path_factory.mktemp("faces"), cases=3)


def test_layout_is_read_as_it_was_written(dataset):
    entry = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert entry["labels"] == {} and entry["landmarks"] == list(LANDMARKS)
    assert entry["phantom"]["weeks"] == [20, 24] and entry["phantom"]["kind"] == "face"
    assert not (dataset / "labels").exists()
    opened = open_dataset(dataset)
    assert [case.name for case in opened.cases] == ["face_001", "face_002", "face_003"]
    assert opened.landmarks == LANDMARKS and opened.labels == {} and opened.notes == ()
    table = list(csv.DictReader((dataset / "faces.csv").read_text(encoding="utf-8").splitlines()))
    for number, (case, row) in enumerate(zip(opened.cases, table, strict=True)):
        seed = int(np.random.SeedSequence([5, number]).generate_state(1)[0])
        phantom = face_phantom(seed, COARSE, COARSE_MM, (20, 24))
        volume = read_volume(case.image)
        np.testing.assert_array_equal(volume.array, phantom.image)
        found = case_landmarks(case, volume)
        assert tuple(found) == LANDMARKS and case.label is None
        np.testing.assert_allclose(points_to_vox(np.stack(list(found.values())), volume), phantom.points_vox, atol=1e-4)
        eyes = np.linalg.norm((phantom.points_vox[LEFT] - phantom.points_vox[RIGHT]) * COARSE_MM)
        assert row["case"] == case.name and float(row["eyes_mm"]) == pytest.approx(eyes, abs=1e-3)
        assert float(row["weeks"]) == pytest.approx(phantom.about.weeks, abs=1e-3)
        assert (int(row["hands"]), int(row["cords"])) == (phantom.about.hands, phantom.about.cords)


def test_what_is_missing_is_written_again_and_more_may_follow(dataset, tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, cases=3, progress=stop)
    assert len((tmp_path / "faces.csv").read_text().splitlines()) == 2
    write(tmp_path, cases=2)
    (tmp_path / "landmarks" / "face_001.mrk.json").unlink()
    (tmp_path / "images" / "face_002.nii.gz").write_bytes(b"half")
    lines = []
    write(tmp_path, cases=3, progress=lines.append)
    assert len(lines) == 3  # none of the first two is whole, so no case exists already
    assert files(tmp_path) == files(dataset)
    write(tmp_path, cases=3, progress=lines.append)
    assert "3 of 3 cases exist" in lines[3] and len(lines) == 4
    with pytest.raises(UserError, match="weeks .* there"):
        write(tmp_path, cases=3, weeks=(20, 23))
    with pytest.raises(UserError, match="face_003"):
        write(tmp_path, cases=2)
    with pytest.raises(UserError, match="--cases"):
        write(tmp_path, cases=0)


def test_a_view_too_small_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="field of view"):
        write_face_dataset(tmp_path / "small", 1, 0, (20, 20, 20), (2, 2, 2), (20, 30), 180, 1, print)
    assert not (tmp_path / "small").exists()
