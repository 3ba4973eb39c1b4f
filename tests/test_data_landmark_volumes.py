"""Whole volumes: versions, one transform for image and points, mirrored sides, ignored voxels, restarts, bad input."""

from collections import Counter

import h5py
import numpy as np
import pytest
from scipy import ndimage

from small_caches import seal
from small_datasets import write_image, write_json
from tfsono.data.cache import Cache, CacheSettings
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.data.resampled import drawn_version
from tfsono.data.landmark_volumes import (
    WholeSampling,
    exchanged_pairs,
    sigma_voxels,
    transform_of,
    whole_dataset,
    whole_sources,
)
from tfsono.errors import UserError
from tfsono.geometry.resampling import resample_volume
from tfsono.volumes.landmarks import write_markups

SIZES = ((41, 27, 33), (25, 37, 29))
SPACINGS = ((0.5, 0.8, 0.6), (0.7, 0.5, 0.9))
NAMES = ("head", "hand_a", "hand_b", "front")
HANDS = ((1, 2),)
BRIGHTNESS = (1000, 2000, 3000, 4000)  # of the spot at each landmark


def points_of(size):
    """Four points of a body that has a left and a right, between the voxels, well inside."""
    x, y, z = (side // 2 for side in size)
    return np.array([[x + 0.3, y - 0.4, z + 7.2], [x - 6.2, y + 0.4, z - 0.3], [x + 6.7, y - 0.2, z + 0.1],
                     [x - 0.4, y + 6.6, z - 2.3]])


def write_bodies(root):
    """Two volumes of unequal odd sides: smooth tissue and a bright spot at each landmark."""
    (root / "landmarks").mkdir(parents=True)
    for number, (size, spacing) in enumerate(zip(SIZES, SPACINGS)):
        image = ndimage.gaussian_filter(np.random.default_rng(number).normal(0, 300, size), 2) + 100
        grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
        for point, brightness in zip(points_of(size), BRIGHTNESS):
            image += brightness * np.exp(-((grid - point) ** 2).sum(-1) / 6)
        name = f"body_{number}"
        write_image(root / "images" / f"{name}.nii.gz", image.astype(np.int16), spacing, (0, 0, 0))
        write_markups(root / "landmarks" / f"{name}.mrk.json", dict(zip(NAMES, points_of(size) * spacing)))
    write_json(root / "dataset.json", {"name": "bodies", "modality": "US", "labels": {}, "landmarks": list(NAMES)})
    return root


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    write_cache(open_dataset(write_bodies(root / "dataset")), root / "bodies.h5", CacheSettings("pose"),
                progress=lambda text: None)
    return root / "bodies.h5"


@pytest.fixture
def changed_path(cache_path, tmp_path):
    """A cache in which points of body_0 are changed."""
    def change(points):
        path = tmp_path / "changed.h5"
        path.write_bytes(cache_path.read_bytes())
        with h5py.File(path, "r+") as file:
            for number, point in points.items():
                file["cases"]["body_0"]["points_vox"][number] = point
            seal(file)
        return path

    return change


def sampling(**values):
    return WholeSampling(**{"ratio": 1.0, "stride": 8, "sigma_mm": 1.0, "augmentation": "none",
                            "rotation_degrees": 30.0, "seed": 3, "exchanged": HANDS, **values})


def sources_of(path, names=None, **values):
    with Cache(path, "pose") as cache:
        return whole_sources(cache, names or cache.names, sampling(**values))


def volumes(path, steps, names=None, **values):
    sources, _ = sources_of(path, names, **values)
    return [(image.numpy(), targets["heatmaps"].numpy())
            for image, targets in whole_dataset(path, "pose", sources, sampling(**values), steps)]


def gaussians(points, size, sigma):
    centres = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    return np.stack([np.exp(-((centres - point) ** 2).sum(-1) / (2 * sigma ** 2)) for point in points], axis=-1)


# ------------------------------------------------------------------------------------------------ versions


def test_a_hundred_cases_have_800_versions():
    chosen = sampling(augmentation="versions")
    assert chosen.versions == 8
    drawn = [drawn_version(step, 100, chosen.versions, 3) for step in range(1600)]
    assert set(Counter(drawn).values()) == {2} and len(set(drawn)) == 800
    assert Counter(drawn[:800]) == Counter(drawn[800:]) and drawn[:800] != drawn[800:]
    assert sampling(augmentation="random").versions == sampling().versions == 1
    assert sampling(augmentation="versions", flips=False).versions == 2
    assert sampling(augmentation="versions", rotation_degrees=0.0).versions == 4
    assert sampling(augmentation="versions", rotation_degrees=0.0, flips=False).versions == 1


def angle_and_flips(matrix, spacing, flips):
    """Degrees and axis of the rotation that is left of a map in millimetres after the flips."""
    rotation = np.diag(spacing) @ matrix @ np.diag(1 / np.array(spacing)) @ np.diag(flips)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    values, vectors = np.linalg.eig(rotation)
    return (np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))),
            np.real(vectors[:, np.argmin(abs(values - 1))]))


def test_the_8_versions_are_what_they_say():
    chosen, spacing = sampling(augmentation="versions"), SPACINGS[0]
    flips = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    for version in range(4):
        np.testing.assert_array_equal(transform_of(0, 0, version, spacing, chosen), np.diag(flips[version]))
    angles = [angle_and_flips(transform_of(0, 0, version, spacing, chosen), spacing, flips[version - 4])
              for version in range(4, 8)]
    assert all(0.1 < angle <= 30 for angle, _ in angles) and len({angle for angle, _ in angles}) == 4
    apart = np.abs(np.array([axis for _, axis in angles]) @ np.array([axis for _, axis in angles]).T) - np.eye(4)
    assert apart.max() < 0.9999  # no two versions share an axis


def test_a_versions_rotation_stays_from_epoch_to_epoch_and_differs_between_cases():
    chosen = sampling(augmentation="versions")
    one, later, other = (transform_of(step, case, 4, SPACINGS[0], chosen) for step, case in ((5, 0), (900, 0), (5, 1)))
    np.testing.assert_array_equal(one, later)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - transform_of(5, 0, 4, SPACINGS[0], sampling(augmentation="versions", seed=4))).max() > 1e-3


def test_random_transforms_mirror_every_axis_and_reach_far_in_every_direction():
    chosen = sampling(augmentation="random")
    matrices = np.array([transform_of(step, 0, 0, (1, 1, 1), chosen) for step in range(400)])
    signs = np.sign(np.einsum("nii->ni", matrices))  # up to 30 degrees the diagonal keeps the flips
    assert len({tuple(row) for row in signs}) == 8
    assert np.all(np.abs((signs < 0).mean(axis=0) - 0.5) < 0.1)
    found = [angle_and_flips(matrix, (1, 1, 1), row) for matrix, row in zip(matrices, signs)]
    angles = np.array([angle for angle, _ in found])
    assert 29 < angles.max() <= 30.0001 and angles.min() < 1
    axes = np.array([axis for angle, axis in found if angle > 1])
    assert np.all(np.abs((axes ** 2).mean(axis=0) - 1 / 3) < 0.06)  # of a uniform direction
    np.testing.assert_array_equal(transform_of(7, 0, 0, (1, 1, 1), sampling()), np.eye(3))


def test_without_flips_nothing_is_mirrored():
    for augmentation, count in (("versions", 2), ("random", 20)):
        chosen = sampling(augmentation=augmentation, flips=False)
        matrices = [transform_of(step, 0, step % chosen.versions, (1, 1, 1), chosen) for step in range(20)]
        assert all(np.linalg.det(matrix) == pytest.approx(1) and (np.diagonal(matrix) > 0).all() for matrix in matrices)
        assert len({matrix.tobytes() for matrix in matrices}) == count


# ------------------------------------------------------------------------------------------------ one volume


@pytest.mark.parametrize("ratio, stride", [(1.0, 8), (0.4, 16)])
def test_a_plain_volume_is_the_whole_volume_resampled_and_padded(cache_path, ratio, stride):
    for step, (image, maps) in enumerate(volumes(cache_path, range(2), ratio=ratio, stride=stride)):
        number, _ = drawn_version(step, 2, 1, 3)
        with Cache(cache_path, "pose") as cache:
            case = cache.read(f"body_{number}")
        size = tuple(int(side * ratio) for side in SIZES[number])
        inner = (0, *(slice(0, side) for side in size))
        expected = resample_volume(case.image, size)
        np.testing.assert_allclose(image[inner][..., 0], (expected - expected.mean()) / expected.std(), atol=1e-4)
        points = (points_of(SIZES[number]) + 0.5) * np.array(size) / SIZES[number] - 0.5
        sigma = 1.0 / (np.mean(SPACINGS[number]) / ratio)
        np.testing.assert_allclose(maps[inner], gaussians(points, size, sigma), atol=1e-4)
        outer = np.ones(image.shape[1:-1], bool)
        outer[inner[1:]] = False
        assert outer.any() and np.isnan(maps[0][outer]).all() and not image[0][outer].any()
        assert all(side % stride == 0 for side in image.shape[1:-1])
        assert image.dtype == maps.dtype == np.float32 and maps.shape == (*image.shape[:-1], 4)


def test_the_two_volumes_both_come(cache_path):
    assert len({image.shape for image, _ in volumes(cache_path, range(2))}) == 2
    sources, _ = sources_of(cache_path)
    assert whole_dataset(cache_path, "pose", sources, sampling(), range(5, 12)).cardinality().numpy() == 7


@pytest.mark.parametrize("augmentation, ratio", [("versions", 1.0), ("versions", 0.7), ("random", 1.0)])
def test_image_and_points_move_together(cache_path, augmentation, ratio):
    """SciPy resamples the whole native volume by the matrix drawn; Gaussians stand where its inverse takes the points,
    those of the hands exchanged in a mirror image."""
    chosen = sampling(augmentation=augmentation, ratio=ratio)
    sources, _ = sources_of(cache_path)
    found = volumes(cache_path, range(16), augmentation=augmentation, ratio=ratio)
    mirrored = 0
    with Cache(cache_path, "pose") as cache:
        for step, (image, maps) in enumerate(found):
            number, version = drawn_version(step, 2, chosen.versions, 3)
            source, case = sources[number], cache.read(f"body_{number}")
            size = tuple(int(side * ratio + 1e-3) for side in SIZES[number])
            rotation = transform_of(step, number, version, source.spacing_mm, chosen)
            matrix = rotation @ np.diag(np.array(SIZES[number]) / size)
            middle, new_middle = (np.array(SIZES[number]) - 1) / 2, (np.array(size) - 1) / 2
            offset = middle - matrix @ new_middle
            native = offset + np.einsum("ij,xyzj->xyzi", matrix, np.stack(
                np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1))
            inside = ((native >= -0.5) & (native <= np.array(SIZES[number]) - 0.5)).all(-1)
            inner = (0, *(slice(0, side) for side in size))
            counted = np.isfinite(maps[inner])
            assert np.mean(counted == inside[..., None]) > 0.999
            valid = counted.all(-1)
            expected = ndimage.affine_transform(case.image, matrix, offset, size, order=1, mode="nearest")
            expected = (expected - expected[valid].mean()) / expected[valid].std()
            np.testing.assert_allclose(image[inner][..., 0][valid], expected[valid], atol=2e-3)
            points = (points_of(SIZES[number]) - offset) @ np.linalg.inv(matrix).T
            if np.linalg.det(rotation) < 0:
                points, mirrored = points[[0, 2, 1, 3]], mirrored + 1
            sigma = ratio / np.mean(SPACINGS[number])
            np.testing.assert_allclose(maps[inner][valid], gaussians(points, size, sigma)[valid], atol=2e-4)
    assert 4 <= mirrored <= 13  # 12 of all 16 versions


def peaks_of(maps):
    """[K, 3]: the highest voxel of each map."""
    shape = maps.shape[1:-1]
    return np.stack([np.unravel_index(np.nanargmax(maps[0, ..., k]), shape) for k in range(maps.shape[-1])])


@pytest.mark.parametrize("augmentation", ["versions", "random"])
def test_sides_stay_sides_in_a_mirror(cache_path, augmentation):
    """A body keeps its handedness: seen from the front with its head up, hand_a is always on the same side. Where
    volumes are mirrored that is where the spot of hand_b lies; without the exchange handedness would be lost."""
    def handedness(points):
        head, one, other, front = points * 1.0
        return np.sign(np.linalg.det([head - front, other - one, front - (one + other) / 2]))

    reference = {handedness(points_of(size)) for size in SIZES}
    assert len(reference) == 1
    found = volumes(cache_path, range(16), augmentation=augmentation)
    assert {handedness(peaks_of(maps)) for _, maps in found} == reference
    lost = volumes(cache_path, range(16), augmentation=augmentation, exchanged=())
    assert len({handedness(peaks_of(maps)) for _, maps in lost}) == 2
    exchanged = 0
    for (image, maps), (_, unexchanged) in zip(found, lost, strict=True):
        at = [image[(0, *peak, 0)] for peak in peaks_of(maps)]
        assert at[0] < min(at[1:]) and at[3] > max(at[:3])  # those without a side stay themselves
        exchanged += at[1] > at[2]
        order = [0, 2, 1, 3] if at[1] > at[2] else [0, 1, 2, 3]
        np.testing.assert_array_equal(maps, unexchanged[..., order])
    assert exchanged == 12 if augmentation == "versions" else 4 <= exchanged <= 12


def test_a_volume_smaller_than_the_stride_is_padded_to_it(cache_path):
    for image, maps in volumes(cache_path, range(2), stride=64):
        assert image.shape[1:-1] == (64, 64, 64) and np.isfinite(maps[0, 0, 0, 0]).all()


def test_sigma_is_in_millimetres():
    assert sigma_voxels(2.5, (0.5, 0.5, 0.5), 0.4) == pytest.approx(2.0)  # spec: 2.0 voxels at R4, 2.5 at R5
    assert sigma_voxels(2.5, (0.5, 0.5, 0.5), 0.5) == pytest.approx(2.5)
    assert sigma_voxels(5.0, (1.0, 1.0, 1.0), 0.5) == pytest.approx(2.5)
    assert sigma_voxels(1.0, (0.5, 1.0, 1.5), 1.0) == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------ what is missing


def test_a_missing_landmark_does_not_count(changed_path):
    path = changed_path({1: np.nan})
    (_, maps), = volumes(path, range(1), ["body_0"])
    assert np.isnan(maps[..., 1]).all() and (np.nanmax(maps[..., [0, 2, 3]], axis=(0, 1, 2, 3)) > 0.6).all()
    # in a mirror image the hand that is missing is the other one
    for image, maps in volumes(path, range(8), ["body_0"], augmentation="versions", rotation_degrees=0.0):
        missing = np.isnan(maps).all(axis=(0, 1, 2, 3))
        at = image[(0, *peaks_of(np.nan_to_num(maps))[1 + missing[1]], 0)]
        assert missing.tolist() in ([False, True, False, False], [False, False, True, False])
        assert at == pytest.approx(image[0].max(), rel=0.5)


def test_a_landmark_outside_does_not_count(changed_path):
    path = changed_path({0: [-0.6, 13, 16], 3: [20, 26.6, 16]})
    (_, maps), = volumes(path, range(1), ["body_0"])
    assert np.isnan(maps).all(axis=(0, 1, 2, 3)).tolist() == [True, False, False, True]


def test_a_landmark_that_a_rotation_moves_out_is_ignored(changed_path):
    path = changed_path({0: [1, 1, 1], 3: [20, 13, 16]})  # in a corner, and in the middle
    found = volumes(path, range(40), ["body_0"], augmentation="random", flips=False, rotation_degrees=60.0)
    gone = np.array([np.isnan(maps).all(axis=(0, 1, 2, 3)) for _, maps in found])
    assert 15 < gone[:, 0].sum() < 40 and not gone[:, 3].any()
    for image, maps in found:
        assert np.isfinite(image).all()
        inside = np.isfinite(maps[0, :41, :27, :33, 3])
        assert 0.5 < inside.mean() <= 1 and not image[0, :41, :27, :33, 0][~inside].any()
        assert image[0, :41, :27, :33, 0][inside].mean() == pytest.approx(0, abs=1e-4)
        assert image[0, :41, :27, :33, 0][inside].std() == pytest.approx(1, abs=1e-3)


def test_cases_without_landmarks_are_excluded(changed_path):
    path = changed_path({number: np.nan for number in range(3)} | {3: [-9, 0, 0]})
    sources, excluded = sources_of(path)
    assert [source.name for source in sources] == ["body_1"] and excluded == ["body_0"]
    with pytest.raises(UserError, match="landmarks.*none among 1"):
        sources_of(path, ["body_0"])


def test_landmarks_are_needed(tmp_path):
    root = tmp_path / "dataset"
    write_image(root / "images" / "a.nii.gz", np.arange(729).reshape(9, 9, 9).astype(np.int16))
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    write_image(root / "labels" / "a.nii.gz", mask)
    write_json(root / "dataset.json", {"name": "none", "modality": "US", "labels": {"femur": 1}})
    write_cache(open_dataset(root), tmp_path / "none.h5", CacheSettings("pose"), progress=lambda text: None)
    with pytest.raises(UserError, match="heatmaps"):
        sources_of(tmp_path / "none.h5")


# ------------------------------------------------------------------------------------------------ pairs


def test_pairs_by_their_names():
    pairs = (("hand_b", "hand_a"), ("foot_a", "foot_b"))
    assert exchanged_pairs(NAMES, pairs) == ((2, 1),)
    assert exchanged_pairs(("1", "2"), pairs) == ()
    with pytest.raises(UserError, match="foot_b needs its mirror image foot_a .* --flips False"):
        exchanged_pairs((*NAMES, "foot_b"), pairs)
    with pytest.raises(UserError, match="left_eye needs its mirror image .* --flips False"):
        exchanged_pairs((*NAMES, "left_eye"), pairs)
    assert exchanged_pairs(("eye_left", "eye_right", "tectum", "Horn-R", "Horn-L"), (("eye_right", "eye_left"),)) == (
        (1, 0), (3, 4))


def test_pairs_are_checked(cache_path):
    for pairs in (((1, 2), (2, 3)), ((1, 1),), ((1, 2, 3),)):
        with pytest.raises(ValueError, match="pairs of different landmarks"):
            sampling(exchanged=pairs)
    with pytest.raises(ValueError, match="number the 4 landmarks"):
        sources_of(cache_path, exchanged=((3, 4),))


# ------------------------------------------------------------------------------------------------ seeds


@pytest.mark.parametrize("augmentation", ["versions", "random"])
def test_a_restart_gives_the_same_volumes(cache_path, augmentation):
    whole = volumes(cache_path, range(6), augmentation=augmentation, ratio=0.6)
    rest = volumes(cache_path, range(4, 6), augmentation=augmentation, ratio=0.6)
    for (image, maps), (image_again, maps_again) in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(maps, maps_again)


def test_another_seed_or_epoch_gives_other_volumes(cache_path):
    def first(steps, **values):
        found = volumes(cache_path, steps, augmentation="random", names=["body_0"], **values)
        return [image for image, _ in found]

    one, next_epoch = first(range(2))
    other, = first(range(1), seed=9)
    assert np.abs(one - next_epoch).max() > 0.1 and np.abs(one - other).max() > 0.1
