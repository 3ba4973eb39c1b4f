"""One synthetic T1-weighted MR volume of a hip, with the mask of its proximal femur.

It stands in for the 20 unilateral hips of the hip paper (Sec. 3: T1-weighted, about 300x200x100 voxels):
marrow and fat bright, cortex dark, the acetabulum a thin joint space away from the head, muscles in
between, shading, partial volume and Rician noise. The anatomy is drawn in millimetres, so one seed gives
one person at every resolution.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfsono.phantoms import hip_bones, hip_tissue
from tfsono.phantoms.distance import Points, along, capsule, coverage, ellipsoid, length
from tfsono.phantoms.fields import Field, centers_mm, draw_field, rician, shading, slice_profile
from tfsono.phantoms.hip_bones import Bones
from tfsono.phantoms.hip_tissue import Tissue

# Signals in T1-weighted spin echo without fat suppression, subcutaneous fat = 1.
FAT, SKIN, FASCIA, FATTY_MARROW, RED_MARROW = 1.0, 0.4, 0.25, 0.95, 0.55
MUSCLE, FLUID, SYNOVIUM, LABRUM, CAPSULE, URINE, LIGAMENT = 0.33, 0.24, 0.5, 0.1, 0.13, 0.2, 0.12
# The side of the blocks that are computed one by one: their temporaries fit in the processor's cache, which is
# several times as fast, and bodies far from a block are not computed there.
BLOCK_SIDE = 50


class HipPhantom(NamedTuple):
    """An image [X, Y, Z] (x left, y posterior, z superior) in whole numbers, its mask, and what was drawn."""

    image: np.ndarray
    label: np.ndarray
    description: dict


class _Texture(NamedTuple):
    """The random fields of one person, in the order in which they are drawn."""

    surface: Field
    marrow: Field
    trabeculae: Field
    muscle: Field
    fat: Field


class _Contrast(NamedTuple):
    """Signal differences between scans and persons, and small findings in the femoral head and neck."""

    cortex: float
    cartilage: float
    red_marrow: float
    trabeculae: float
    bundles: float
    scar: float
    findings: tuple[tuple[np.ndarray, np.ndarray, float], ...]


class _Scene(NamedTuple):
    """The position of this person in the scanner, and everything that was drawn."""

    bones: Bones
    tissue: Tissue
    texture: _Texture
    contrast: _Contrast
    right: bool
    head_mm: np.ndarray
    rotation: np.ndarray
    voxel_mm: float


def hip_phantom(
    seed: int,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    *,
    bias: bool = True,
    noise: bool = True,
) -> HipPhantom:
    """A left or right hip drawn from `seed`.

    Args:
        seed: determines the person, the position and the noise; not the resolution.
        size: voxels along x, y, z. The field of view is `size * spacing_mm`, around one middle.
        spacing_mm: the voxel's sides.
        bias: whether the coil shades the image (up to 30 %).
        noise: whether Rician noise is added (signal-to-noise ratio of fatty marrow 8 to 25).

    Returns:
        float32 image, uint8 label (0 background, 1 femur with its cortex), a description for JSON.
    """
    if len(size) != 3 or min(size) < 1 or len(spacing_mm) != 3 or min(spacing_mm) <= 0:
        raise ValueError(
            f"size must be 3 positive integers and spacing_mm 3 positive numbers: {size}, {spacing_mm}"
        )
    person, scanner = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(2))
    scene = _draw_scene(person, float(np.mean(spacing_mm)))
    axes_mm = centers_mm(size, spacing_mm)
    image, distance = _paint(scene, axes_mm)
    label = _largest_component(distance < 0)
    amplitude, ratio, gain = scanner.uniform(0.08, 0.3), scanner.uniform(8, 25), scanner.uniform(400, 1200)
    shade = shading(scanner, axes_mm, amplitude)
    image = slice_profile(image, 0.08) * np.float32(gain)
    image = image * shade if bias else image
    sigma = gain * FATTY_MARROW / ratio if noise else 0.0
    image = rician(scanner, image, sigma) if noise else image
    description = _describe(scene, seed, size, spacing_mm)
    description |= {"bias": amplitude if bias else 0.0, "snr": ratio, "noise_sigma": sigma, "gain": gain}
    return HipPhantom(np.rint(image), label, description)


def _draw_scene(rng: np.random.Generator, voxel_mm: float) -> _Scene:
    bones = hip_bones.draw_bones(rng)
    tissue = hip_tissue.draw_tissue(rng, bones)
    right = bool(rng.integers(2))
    head = np.asarray([-14.0, -6.0, 17.0]) + rng.uniform(-7, 7, 3)
    angles = np.deg2rad(rng.normal(0, 4, 3).clip(-9, 9))
    texture = _Texture(
        surface=draw_field(rng, 9),
        marrow=draw_field(rng, 8),
        trabeculae=draw_field(rng, (1.1, 1.1, 2.2), cells=48),
        muscle=draw_field(rng, (2.5, 2.5, 14), cells=32),
        fat=draw_field(rng, (5, 5, 9)),
    )
    head[0] *= -1 if right else 1
    return _Scene(bones=bones, tissue=tissue, texture=texture, contrast=_draw_contrast(rng, bones), right=right,
                  head_mm=head, rotation=_rotation(angles), voxel_mm=voxel_mm)


def _draw_contrast(rng: np.random.Generator, bones: Bones) -> _Contrast:
    """Cysts, bone islands and bruises appear in about half of the hips; they do not change the mask."""
    findings = []
    for _ in range(rng.choice([0, 0, 0, 1, 2, 3])):
        place = hip_bones.unit(rng.normal(size=3)) * bones.head_radius_mm * rng.uniform(0.3, 0.95)
        place = place - bones.neck_axis * rng.choice([0.0, 0.5]) * bones.neck_length_mm
        findings.append((place, rng.uniform(2, 7, 3), rng.uniform(0.1, 0.6)))
    return _Contrast(
        cortex=rng.uniform(0.03, 0.12),
        cartilage=rng.uniform(0.4, 0.62),
        red_marrow=rng.uniform(0.2, 0.65),
        trabeculae=rng.uniform(0.025, 0.07),
        bundles=rng.uniform(0.05, 0.2),
        scar=rng.uniform(0.0, 0.2),
        findings=tuple(findings),
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] by three angles (radians) about x, y and z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _paint(scene: _Scene, axes_mm: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The noiseless image (fat = 1) and the femur's distance in millimetres, both [X, Y, Z]."""
    shape = tuple(axis.size for axis in axes_mm)
    image, distance = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for corner in product(*(range(0, side, BLOCK_SIDE) for side in shape)):
        block = tuple(slice(start, start + BLOCK_SIDE) for start in corner)
        axes = tuple(axis[part] for axis, part in zip(axes_mm, block, strict=True))
        fields = _Texture(*(field.sample(axes) for field in scene.texture))
        image[block], distance[block] = _paint_block(scene, _body_points(scene, axes), fields)
    return image, distance


def _body_points(scene: _Scene, axes: tuple[np.ndarray, ...]) -> Points:
    """Scanner millimetres to the body frame: shift, rotation, and for a right hip the mirror image."""
    shifted = np.meshgrid(
        *(axis - np.float32(value) for axis, value in zip(axes, scene.head_mm, strict=True)),
        indexing="ij",
        sparse=True,
    )
    u, v, w = (
        sum(np.float32(weight) * axis for weight, axis in zip(row, shifted, strict=True))
        for row in scene.rotation
    )
    return (-u if scene.right else u, v, w)


def _paint_block(scene: _Scene, points: Points, fields) -> tuple[np.ndarray, np.ndarray]:
    bones, contrast, voxel = scene.bones, scene.contrast, scene.voxel_mm
    uneven = np.float32(0.35) * fields.surface
    joint = hip_bones.head_and_neck(points, bones) + uneven
    femur = hip_bones.femur(points, bones) + uneven
    pelvis = hip_bones.pelvis(points, bones, femur)
    image = _soft_tissue(scene, points, fields)
    _joint_capsule(image, points, bones=bones, joint=joint, slack=fields.surface, voxel=voxel)
    marrow = _pelvic_marrow(contrast, fields)
    _bone(image, pelvis, cortex_mm=np.float32(bones.pelvis_cortex_mm), marrow=marrow, cortex=contrast.cortex,
          voxel=voxel)
    _joint_space(image, points, scene, femur)
    marrow = _femoral_marrow(points, scene, fields)
    _bone(image, femur, cortex_mm=hip_bones.cortex_mm(points, bones), marrow=marrow, cortex=contrast.cortex,
          voxel=voxel)
    return image, femur


def _cover(image: np.ndarray, part: np.ndarray, signal) -> None:
    """Blends in a tissue that fills `part` (0 to 1) of each voxel."""
    image += part * (np.float32(1) * signal - image)


def _soft_tissue(scene: _Scene, points: Points, fields) -> np.ndarray:
    tissue, voxel = scene.tissue, scene.voxel_mm
    outside = hip_tissue.skin(points, tissue)
    image = np.float32(FAT) - np.float32(0.13) * np.exp(-np.square(fields.muscle * np.float32(1 / 0.1)))
    image -= np.float32(0.05) * np.abs(fields.fat)
    distance, parting, signal = hip_tissue.muscle_layer(points, tissue, np.float32(0.9) * fields.fat)
    inside = np.maximum(distance, outside + np.float32(tissue.fat_mm))
    streaks = np.float32(0.035) * fields.muscle + np.float32(0.3) * np.maximum(
        fields.muscle - np.float32(1.7), 0
    )
    septum = np.float32(tissue.septum_mm / 2) * np.maximum(np.float32(1) + np.float32(0.5) * fields.fat, 0)
    _cover(image, coverage(inside, voxel) * coverage(septum - parting, voxel), signal + streaks)
    _cover(image, hip_tissue.septa(outside + np.float32(tissue.fat_mm - 0.5), 0.8, voxel), FASCIA)
    for inclusion in hip_tissue.within_reach(tissue.inclusions, points, margin_mm=3):
        _cover(image, coverage(inclusion.distance(points), voxel), inclusion.signal)
    cavity = hip_tissue.bladder(points, tissue)
    _cover(image, coverage(cavity, voxel), MUSCLE)
    _cover(image, coverage(cavity + np.float32(3), voxel), URINE)
    _cover(image, coverage(-outside - np.float32(1.6), voxel), SKIN)
    _cover(image, coverage(-outside, voxel), 0.0)
    return image


def _joint_capsule(
    image, points: Points, bones: Bones, joint: np.ndarray, slack: np.ndarray, voxel: float
) -> None:
    """The sac around head and neck: synovium and fat in a thin dark capsule that ends at the trochanters."""
    beyond = np.float32(14 * bones.scale) - along(points, bones.neck_axis) - np.float32(bones.neck_length_mm)
    sac = np.maximum(joint - np.maximum(np.float32(2.5) + np.float32(1.2) * slack, 0), beyond)
    _cover(image, coverage(sac - np.float32(0.9), voxel), CAPSULE)
    _cover(image, coverage(sac, voxel), SYNOVIUM)
    _cover(image, coverage(hip_bones.labrum(points, bones), voxel), LABRUM)


def _joint_space(image: np.ndarray, points: Points, scene: _Scene, femur: np.ndarray) -> None:
    """Cartilage on both sides of a film of fluid; in the fossa, fat and the ligament of the head."""
    bones, voxel = scene.bones, scene.voxel_mm
    gap = hip_bones.joint_space_mm(points, bones)
    under = along(points, bones.cup_axis) - np.float32(bones.cup_edge_mm + 2)
    fossa = hip_bones.acetabular_fossa(points, bones)
    _cover(image, coverage(np.maximum(fossa, under), voxel), 0.85)
    ligament = capsule(
        points, bones.fovea * bones.head_radius_mm, [-8.0, 2.0, -bones.head_radius_mm - 4], (2.2, 2.8)
    )
    _cover(image, coverage(ligament, voxel), LIGAMENT)
    space = np.maximum(femur - gap, under)
    _cover(image, coverage(np.maximum(space, -fossa), voxel), scene.contrast.cartilage)
    film = hip_tissue.septa(femur - np.float32(0.5) * gap, 0.5, voxel)
    _cover(image, film * coverage(np.maximum(space, -fossa), voxel), FLUID)


def _bone(
    image, distance: np.ndarray, cortex_mm: np.ndarray, marrow: np.ndarray, cortex: float, voxel: float
) -> None:
    _cover(image, coverage(distance, voxel), cortex)
    _cover(image, coverage(distance + cortex_mm, voxel), marrow)


def _pelvic_marrow(contrast: _Contrast, fields) -> np.ndarray:
    red = np.clip(np.float32(contrast.red_marrow) + np.float32(0.35) * fields.marrow, 0, 1)
    return (
        np.float32(FATTY_MARROW) - np.float32(FATTY_MARROW - RED_MARROW) * red - _trabeculae(contrast, fields)
    )


def _femoral_marrow(points: Points, scene: _Scene, fields) -> np.ndarray:
    """Fatty in head and greater trochanter, red patches between and below, darker load-bearing bundles."""
    bones, contrast = scene.bones, scene.contrast
    center = bones.base + 14 * bones.scale * bones.neck_axis - 12 * bones.scale * bones.shaft_up
    offset = tuple(
        (axis - np.float32(value)) * np.float32(1 / 30) for axis, value in zip(points, center, strict=True)
    )
    near = np.exp(-(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2))
    red = np.clip(near * (np.float32(contrast.red_marrow) + np.float32(0.6) * fields.marrow), 0, 1)
    bundle = capsule(points, [-2.0, 0.0, bones.head_radius_mm - 4], bones.base + [-14, 0, -14], (9, 4))
    dense = np.float32(contrast.bundles) * np.exp(-np.square(np.maximum(bundle, 0) * np.float32(1 / 4)))
    scar = along(points, bones.neck_axis) + np.float32(0.012) * (length(points) ** 2)
    dense += np.float32(contrast.scar) * np.exp(
        -np.square((scar - np.float32(0.3 * bones.head_radius_mm)) * np.float32(1 / 0.8))
    )
    fatty = np.float32(FATTY_MARROW) - np.float32(FATTY_MARROW - RED_MARROW) * red
    marrow = fatty - dense - _trabeculae(contrast, fields)
    for place, radii_mm, signal in contrast.findings:
        _cover(marrow, coverage(ellipsoid(points, place, radii_mm), 2.0), signal)
    return marrow


def _trabeculae(contrast: _Contrast, fields) -> np.ndarray:
    return np.float32(contrast.trabeculae) * fields.trabeculae.clip(-1, 3)


def _largest_component(mask: np.ndarray) -> np.ndarray:
    """The mask as uint8 without fragments that an oblique edge of the field of view may cut off a bone."""
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= 1:
        return mask.astype(np.uint8)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return (parts == sizes.argmax()).astype(np.uint8)


def _describe(scene: _Scene, seed: int, size, spacing_mm) -> dict:
    bones = scene.bones
    middle = [(count - 1) / 2 for count in size]
    head = [float(m + mm / step) for m, mm, step in zip(middle, scene.head_mm, spacing_mm, strict=True)]
    return {
        "seed": int(seed),
        "side": "right" if scene.right else "left",
        "head_center_vox": head,
        "head_radius_mm": float(bones.head_radius_mm),
        "neck_shaft_angle_deg": float(bones.neck_shaft_angle_deg),
        "version_deg": float(bones.version_deg),
        "neck_length_mm": float(bones.neck_length_mm),
        "cam_mm": float(bones.cam_mm),
        "alpha_deg": hip_bones.alpha_deg(bones),
        "joint_space_mm": float(bones.joint_mm),
        "joint_space_thinnest_mm": float(bones.joint_thin_mm),
        "fat_mm": float(scene.tissue.fat_mm),
    }
