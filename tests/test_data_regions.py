"""Regions: boxes, versions, one transform for image, mask and points, ignored voxels, restarts, bad input."""

from collections import Counter

import h5py
import numpy as np
import pytest
from scipy import ndimage

from small_caches import seal
from small_datasets import write_image, write_json
from tfsono.augment import affine_matrix
from tfsono.data.cache import Cache, CacheSettings
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.data.regions import (
    RegionSampling,
    box_at,
    draw_region,
    region_dataset,
    region_of,
    region_sources,
    transform_of,
)
from tfsono.errors import UserError
from tfsono.geometry.regions import Box, enlarged, network_grid
from tfsono.geometry.resampling import resample_volume
from tfsono.volumes.landmarks import write_markups

SIZES = ((41, 27, 33), (25, 35, 29))
SPACINGS = ((0.5, 0.8, 0.6), (0.7, 0.5, 0.9))


def tips_of(size):
    """A point near each end along x of the bone of a volume of that size."""
    x, y, z = (side // 2 for side in size)
    return np.array([[x - 6.2, y + 0.4, z - 0.3], [x + 6.7, y - 0.2, z + 0.1]])


def write_bones(root):
    """Two volumes of unequal odd sides, with a bar that is bright, two bright tips, and smooth tissue around."""
    (root / "landmarks").mkdir(parents=True)
    for number, (size, spacing) in enumerate(zip(SIZES, SPACINGS)):
        image = ndimage.gaussian_filter(np.random.default_rng(number).normal(0, 300, size), 2) + 100
        mask, (x, y, z) = np.zeros(size, np.uint8), (side // 2 for side in size)
        mask[x - 7:x + 8, y - 2:y + 3, z - 1:z + 3] = 1
        image += 300.0 * mask
        grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
        for tip in tips_of(size):
            image += 2000 * np.exp(-((grid - tip) ** 2).sum(-1) / 4)
        name = f"bone_{number}"
        write_image(root / "images" / f"{name}.nii.gz", image.astype(np.int16), spacing, (0, 0, 0))
        write_image(root / "labels" / f"{name}.nii.gz", mask, spacing, (0, 0, 0))
        points = dict(zip(("proximal", "distal"), tips_of(size) * spacing))
        write_markups(root / "landmarks" / f"{name}.mrk.json", points)
    write_json(root / "dataset.json", {"name": "bones", "modality": "US", "labels": {"femur": 1},
                                       "landmarks": ["proximal", "distal"]})
    return root


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory):
    root = tmp_path_factory.mktemp("regions")
    write_cache(open_dataset(write_bones(root / "dataset")), root / "bones.h5", CacheSettings("femur"),
                progress=lambda text: None)
    return root / "bones.h5"


@pytest.fixture
def torn_path(cache_path, tmp_path):
    """A cache whose cases can lose labels and points."""
    def tear(labels=(), points=()):
        path = tmp_path / "torn.h5"
        path.write_bytes(cache_path.read_bytes())
        with h5py.File(path, "r+") as file:
            for name in labels:
                del file["cases"][name]["label"]
            for name in points:
                file["cases"][name]["points_vox"][...] = np.nan
            seal(file)
        return path

    return tear


def sampling(**values):
    return RegionSampling(**{"margin": 4, "ratio": 1.0, "stride": 8, "sigma": 1.5, "outputs": ("mask", "heatmaps"),
                             "augmentation": "none", "rotation_degrees": (10.0, 20.0), "scales": (0.9, 1.1),
                             "seed": 3, **values})


def sources_of(path, names=None, **values):
    with Cache(path, "femur") as cache:
        return region_sources(cache, names or cache.names, sampling(**values))


def regions(path, steps, names=None, **values):
    sources, _ = sources_of(path, names, **values)
    return [(image.numpy(), {key: target.numpy() for key, target in targets.items()})
            for image, targets in region_dataset(path, "femur", sources, sampling(**values), steps)]


def standardised(image):
    return (image - image.mean()) / image.std()


# ------------------------------------------------------------------------------------------------ versions


def test_thirty_cases_have_840_versions():
    chosen = sampling(augmentation="versions")
    assert chosen.versions == 28
    drawn = [region_of(step, 30, chosen) for step in range(2 * 840)]
    assert set(Counter(drawn).values()) == {2} and len(set(drawn)) == 840
    assert Counter(drawn[:840]) == Counter(drawn[840:]) and drawn[:840] != drawn[840:]
    assert sampling(augmentation="random").versions == sampling().versions == 1
    assert sampling(augmentation="versions", rotation_degrees=(), scales=()).versions == 4


def test_the_28_versions_are_what_they_say():
    spacing = np.array(SPACINGS[0])
    chosen = sampling(augmentation="versions")
    seen, axes = [], []
    for version in range(28):
        matrix = transform_of(0, 0, version, spacing, chosen)
        in_mm = np.diag(spacing) @ matrix @ np.diag(1 / spacing)
        flips = next(f for f in np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [-1, -1, 1]])[[version % 4]])
        unflipped = in_mm @ np.diag(flips)
        scale = 1 / np.cbrt(np.linalg.det(unflipped))
        rotation = unflipped * scale
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
        seen.append((round(angle, 3), round(scale, 6), *flips))
        if angle > 1:
            values, vectors = np.linalg.eig(rotation)
            axes.append(np.real(vectors[:, np.argmin(abs(values - 1))]))
    counts = Counter(seen)
    for flips in ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)):
        assert counts[(0, 1, *flips)] == counts[(0, 0.9, *flips)] == counts[(0, 1.1, *flips)] == 1
        assert counts[(10, 1, *flips)] == counts[(20, 1, *flips)] == 2
    apart = np.abs(np.array(axes) @ np.array(axes).T) - np.eye(16)
    assert apart.max() < 0.9999  # no two versions share an axis


def test_a_versions_axis_stays_from_epoch_to_epoch_and_differs_between_cases():
    chosen = sampling(augmentation="versions")
    one, later, other = (transform_of(step, case, 4, SPACINGS[0], chosen) for step, case in ((5, 0), (900, 0), (5, 1)))
    np.testing.assert_array_equal(one, later)
    assert np.abs(one - other).max() > 1e-3
    reseeded = transform_of(5, 0, 4, SPACINGS[0], sampling(augmentation="versions", seed=4))
    assert np.abs(one - reseeded).max() > 1e-3


def test_random_transforms_stay_within_their_limits_and_reach_far():
    chosen = sampling(augmentation="random")
    matrices = np.array([transform_of(step, 0, 0, (1, 1, 1), chosen) for step in range(300)])
    scales = 1 / np.cbrt(np.abs(np.linalg.det(matrices)))
    assert 0.9 <= scales.min() < 0.91 and 1.09 < scales.max() <= 1.1
    assert np.all(matrices[:, 2, 2] > 0) and 0.4 < np.mean(matrices[:, 0, 0] < 0) < 0.6
    assert 0.4 < np.mean(matrices[:, 1, 1] < 0) < 0.6
    signs = np.sign(matrices[:, [0, 1, 2], [0, 1, 2]])  # up to 20 degrees the diagonal keeps the flips
    rotations = matrices * scales[:, None, None] * signs[:, None, :]
    angles = np.degrees(np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert 19 < angles.max() <= 20.0001 and angles.min() < 1
    np.testing.assert_array_equal(transform_of(7, 0, 0, (1, 1, 1), sampling()), np.eye(3))


def test_without_flips_nothing_is_mirrored():
    assert sampling(augmentation="versions", flips=False).versions == 7
    for augmentation in ("versions", "random"):
        chosen = sampling(augmentation=augmentation, flips=False)
        matrices = [transform_of(step, 0, step % chosen.versions, (1, 1, 1), chosen) for step in range(28)]
        assert all((np.diagonal(matrix) > 0).all() for matrix in matrices)
        assert len({matrix.tobytes() for matrix in matrices}) == (7 if augmentation == "versions" else 28)


def test_a_given_transform_rotates_the_content_as_stated():
    # 90 degrees about z: content towards +x is towards +y afterwards; +y is looked up at +x of the window
    matrix = affine_matrix((0, 0, 3), 90, 1.0, (False, False, False), (1, 1, 1))
    np.testing.assert_allclose(matrix @ [0, 1, 0], [1, 0, 0], atol=1e-12)
    half = affine_matrix((0, 0, 1), 0, 2.0, (True, False, False), (1, 1, 1))
    np.testing.assert_allclose(half, np.diag([-0.5, 0.5, 0.5]))
    unequal = affine_matrix((0, 0, 1), 90, 1.0, (False, False, False), (0.5, 2.0, 1.0))
    np.testing.assert_allclose(unequal @ [0, 1, 0], [4, 0, 0], atol=1e-12)  # 2 mm are four voxels of x


# ------------------------------------------------------------------------------------------------ one region


@pytest.mark.parametrize("ratio", [1.0, 0.65])
def test_a_plain_region_is_the_box_of_the_reference_enlarged_and_resampled(cache_path, ratio):
    seen = set()
    for image, targets in regions(cache_path, range(2), ratio=ratio):
        for number, (size, (x, y, z)) in enumerate((s, (side // 2 for side in s)) for s in SIZES):
            box = enlarged(Box((x - 7, y - 2, z - 1), (x + 8, y + 3, z + 3)), 4, size)
            grid = network_grid(box, ratio, 8)
            if image.shape[1:-1] == grid.padded and number not in seen:
                seen.add(number)
                break
        with Cache(cache_path, "femur") as cache:
            case = cache.read(f"bone_{number}")
        inner = (0, *(slice(0, side) for side in grid.size), 0)
        expected = resample_volume(case.image[box.slices], grid.size)
        np.testing.assert_allclose(image[inner], standardised(expected), atol=1e-4)
        nearest = resample_volume(case.label[box.slices], grid.size, nearest=True)
        assert np.mean(targets["mask"][inner] == nearest) > 0.99
        # Gaussians at the exact places, by SciPy's definition of nothing: the formula, voxel by voxel
        centres = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)
        for k, point in enumerate((tips_of(SIZES[number]) - grid.offset) / grid.scale):
            gaussian = np.exp(-((centres - point) ** 2).sum(-1) / (2 * 1.5 ** 2))
            np.testing.assert_allclose(targets["heatmaps"][(*inner[:-1], k)], gaussian, atol=1e-4)
        outer = np.ones(grid.padded, bool)
        outer[inner[1:-1]] = False
        assert outer.any() and np.all(targets["mask"][0, ..., 0][outer] == -1)
        assert np.isnan(targets["heatmaps"][0][outer]).all() and not image[0][outer].any()
    assert seen == {0, 1}


def test_types_and_shapes(cache_path):
    (image, targets), = regions(cache_path, range(1))
    assert image.dtype == np.float32 and image.shape[0] == image.shape[-1] == 1
    assert targets["mask"].dtype == np.int8 and targets["mask"].shape == image.shape
    assert targets["heatmaps"].dtype == np.float32 and targets["heatmaps"].shape == (*image.shape[:-1], 2)
    assert all(side % 8 == 0 for side in image.shape[1:-1])
    sources, _ = sources_of(cache_path)
    dataset = region_dataset(cache_path, "femur", sources, sampling(), range(5, 12))
    assert dataset.cardinality().numpy() == 7
    for outputs in (("mask",), ("heatmaps",)):
        (_, targets), = regions(cache_path, range(1), outputs=outputs)
        assert tuple(targets) == outputs


@pytest.mark.parametrize("ratio", [1.0, 0.65])
@pytest.mark.parametrize("augmentation", ["versions", "random"])
def test_image_mask_and_points_move_together(cache_path, augmentation, ratio):
    """SciPy resamples the whole native volume by the matrix drawn; the bright tips are at the points."""
    chosen = sampling(augmentation=augmentation, ratio=ratio, seed=5)
    sources, _ = sources_of(cache_path, augmentation=augmentation, ratio=ratio)
    steps = range(0, 56, 5)
    found = regions(cache_path, range(0, 56), augmentation=augmentation, ratio=ratio, seed=5)
    with Cache(cache_path, "femur") as cache:
        for step in steps:
            image, targets = found[step]
            number, version = region_of(step, 2, chosen)
            source, case = sources[number], cache.read(sources[number].name)
            grid = network_grid(source.box, ratio, 8)
            matrix = transform_of(step, number, version, source.spacing_mm, chosen) @ np.diag(grid.scale)
            offset = source.box.middle - matrix @ ((np.array(grid.size) - 1) / 2)
            inner = (0, *(slice(0, side) for side in grid.size), 0)
            valid = targets["mask"][inner] >= 0
            native = offset + np.einsum("ij,xyzj->xyzi", matrix,
                                        np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1))
            inside = ((native >= -0.5) & (native <= np.array(case.image.shape) - 0.5)).all(-1)
            assert np.mean(valid == inside) > 0.999
            expected = ndimage.affine_transform(case.image, matrix, offset, grid.size, order=1, mode="nearest")
            expected = (expected - expected[valid].mean()) / expected[valid].std()
            np.testing.assert_allclose(image[inner][valid], expected[valid], atol=2e-3)
            nearest = ndimage.affine_transform(case.label, matrix, offset, grid.size, order=0, mode="nearest")
            assert np.mean((targets["mask"][inner] == nearest)[valid]) > 0.98  # ties may go either way
            for k in range(2):
                gaussian = targets["heatmaps"][(*inner[:-1], k)]
                assert not np.isnan(gaussian[valid]).any() and np.isnan(gaussian[~valid]).all()
                peak = np.unravel_index(np.nanargmax(gaussian), grid.size)
                around = tuple(slice(max(p - 2, 0), p + 3) for p in peak)
                bright = np.unravel_index(image[inner][around].argmax(), image[inner][around].shape)
                assert np.abs(np.array(bright) + [s.start for s in around] - peak).max() <= 1


def test_the_corners_of_a_rotated_region_hold_tissue(cache_path):
    # margins are small and the volumes are larger: these regions stay inside, though they are rotated
    for image, targets in regions(cache_path, range(28), names=["bone_0"], augmentation="versions", margin=2):
        size = (19, 9, 8)
        assert (targets["mask"][0, :19, :9, :8] >= 0).all() and image[0, :19, :9, :8].std() > 0.5
        assert np.count_nonzero(targets["mask"] >= 0) == np.prod(size)


def test_a_rotated_region_that_leaves_its_volume_is_marked(cache_path):
    beyond = 0
    for image, targets in regions(cache_path, range(28), names=["bone_1"], augmentation="versions", margin=99):
        inner = (0, slice(25), slice(35), slice(29), 0)
        out = targets["mask"][inner] == -1
        assert np.isnan(targets["heatmaps"][inner[:-1]][out]).all() and not image[inner][out].any()
        assert image[0][targets["mask"][0] >= 0].mean() == pytest.approx(0, abs=1e-4)
        assert image[0][targets["mask"][0] >= 0].std() == pytest.approx(1, abs=1e-3)
        beyond += out.any()
    assert beyond == 20  # 16 rotations and the 4 that shrink; the others show the volume itself, or less of it


def test_a_part_read_is_no_larger_than_needed(cache_path):
    sources, _ = sources_of(cache_path, ["bone_0"], margin=1)
    with Cache(cache_path, "femur") as cache:
        drawn = draw_region(cache, sources, 0, sampling(margin=1))
    assert drawn["image"].shape == drawn["label"].shape
    assert all(n <= side + 4 for n, side in zip(drawn["image"].shape, sources[0].box.sides))


# ------------------------------------------------------------------------------------------------ what is missing


def test_cases_are_used_for_what_they_have(torn_path):
    path = torn_path(labels=["bone_0"], points=["bone_1"])
    sources, excluded = sources_of(path)
    assert excluded == [] and [source.has_mask for source in sources] == [False, True]
    tips = tips_of(SIZES[0])  # x from 13.8 to 26.7: voxels 14 to 27
    assert sources[0].box == enlarged(Box((14, 13, 16), (28, 14, 17)), 4, SIZES[0]) and np.isfinite(tips).all()
    for image, targets in regions(path, range(2)):
        mask, maps = targets["mask"], targets["heatmaps"]
        assert np.isfinite(image).all()
        assert (mask == -1).all() != np.isnan(maps).all()
    only, excluded = sources_of(path, outputs=("mask",))
    assert [s.name for s in only] == ["bone_1"] and excluded == ["bone_0"]
    only, excluded = sources_of(path, outputs=("heatmaps",))
    assert [s.name for s in only] == ["bone_0"] and excluded == ["bone_1"]


def test_cases_with_neither_are_excluded(torn_path):
    path = torn_path(labels=["bone_1"], points=["bone_1"])
    sources, excluded = sources_of(path)
    assert [s.name for s in sources] == ["bone_0"] and excluded == ["bone_1"]
    with pytest.raises(UserError, match="mask or heatmaps.*none among 1"):
        sources_of(path, ["bone_1"])


def test_one_missing_landmark_is_nan_in_its_channel_alone(torn_path):
    path = torn_path()
    with h5py.File(path, "r+") as file:
        file["cases"]["bone_0"]["points_vox"][1] = np.nan
        seal(file)
    (_, targets), = regions(path, range(1), ["bone_0"], augmentation="random")
    assert np.isnan(targets["heatmaps"][..., 1]).all()
    assert np.nanmax(targets["heatmaps"][..., 0]) > 0.8 and (targets["mask"] == 1).any()


def test_a_landmark_beyond_its_volume_or_region_does_not_count(torn_path):
    path = torn_path()
    with h5py.File(path, "r+") as file:
        file["cases"]["bone_0"]["points_vox"][0] = [-0.6, 13, 16]  # outside the volume
        file["cases"]["bone_0"]["points_vox"][1] = [39, 13, 16]  # inside it, but the region ends at 31
        seal(file)
    (_, targets), = regions(path, range(1), ["bone_0"])
    assert np.isnan(targets["heatmaps"]).all() and (targets["mask"] == 1).any()
    (_, targets), = regions(path, range(1), ["bone_0"], margin=99)
    assert np.isnan(targets["heatmaps"][..., 0]).all() and np.nanmax(targets["heatmaps"][..., 1]) > 0.9


def test_heatmaps_need_landmarks(tmp_path):
    root = tmp_path / "dataset"
    write_image(root / "images" / "a.nii.gz", np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.int16))
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    write_image(root / "labels" / "a.nii.gz", mask)
    write_json(root / "dataset.json", {"name": "none", "modality": "US", "labels": {"femur": 1}})
    write_cache(open_dataset(root), tmp_path / "none.h5", CacheSettings("femur"), progress=lambda text: None)
    with pytest.raises(UserError, match="heatmaps"):
        sources_of(tmp_path / "none.h5")
    (image, targets), = regions(tmp_path / "none.h5", range(1), outputs=("mask",), augmentation="random")
    assert (targets["mask"] == 1).any() and image.shape == (1, 16, 16, 16, 1)


# ------------------------------------------------------------------------------------------------ seeds


@pytest.mark.parametrize("augmentation", ["versions", "random", "none"])
def test_a_restart_gives_the_same_regions(cache_path, augmentation):
    whole = regions(cache_path, range(6), augmentation=augmentation, ratio=0.65)
    rest = regions(cache_path, range(4, 6), augmentation=augmentation, ratio=0.65)
    for (image, targets), (image_again, targets_again) in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        for key, target in targets.items():
            np.testing.assert_array_equal(target, targets_again[key])


def test_another_seed_or_epoch_gives_other_regions(cache_path):
    def first(steps, **values):
        return [image for image, _ in regions(cache_path, steps, augmentation="random", names=["bone_0"], **values)]

    one, next_epoch = first(range(2))
    other, = first(range(1), seed=9)
    assert np.abs(one - next_epoch).max() > 0.1 and np.abs(one - other).max() > 0.1


# ------------------------------------------------------------------------------------------------ boxes, sides


def test_boxes_are_moved_and_scaled_on_request(cache_path):
    (source, _), _ = sources_of(cache_path)
    assert box_at(3, source, sampling()) == source.box == enlarged(source.reference, 4, source.shape)
    chosen = sampling(jitter=0.2, margin=0)
    boxes = [box_at(position, source, chosen) for position in range(300)]
    assert boxes == [box_at(position, source, chosen) for position in range(300)] and len(set(boxes)) > 100
    sides = np.array([box.sides for box in boxes]) / source.reference.sides
    moved = np.array([box.middle for box in boxes]) - source.reference.middle
    rounded = 1 / np.array(source.reference.sides)
    assert (abs(sides - 1) <= 0.2 + rounded).all() and np.ptp(sides[:, 0]) > 0.3
    assert (abs(moved) <= 0.2 * np.array(source.reference.sides) + 0.5).all() and np.ptp(moved[:, 0]) > 4
    for image, targets in regions(cache_path, range(4), jitter=0.2):
        assert image.shape == targets["mask"].shape and (targets["mask"] == 1).any()


def test_sides_are_exchanged_in_mirror_images_alone(cache_path):
    sources, _ = sources_of(cache_path)
    chosen = {"augmentation": "versions", "rotation_degrees": (), "scales": ()}
    with Cache(cache_path, "femur") as cache:
        for position in range(8):
            drawn, other = (draw_region(cache, sources, position, sampling(**chosen, **pairs))
                            for pairs in ({}, {"exchanged": ((0, 1),), "exchanged_labels": ((1, 2),)}))
            mirrored = np.linalg.det(drawn["matrix"]) < 0
            np.testing.assert_array_equal(other["points"], drawn["points"][::-1] if mirrored else drawn["points"])
            np.testing.assert_array_equal(other["label"], drawn["label"] * (2 if mirrored else 1))
            assert other["label"].dtype == np.uint8
