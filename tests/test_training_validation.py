"""The score of landmarks by which best weights are chosen, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.training.validation import MEAN_RADIAL_ERROR, Watched, mean_radial_error

NAN = float("nan")
SIZE, SPACING = (5, 7, 9), (2.0, 1.0, 0.5)
DIAGONAL = np.sqrt(10 ** 2 + 7 ** 2 + 4.5 ** 2)


class Cases:
    """A cache of cases whose image holds their number, and their reference points."""

    path = "small.h5"

    def __init__(self, points):
        self.points = points

    def read(self, name):
        reference = self.points[name]
        return SimpleNamespace(image=np.full(SIZE, list(self.points).index(name)), spacing_mm=SPACING,
                               points_vox=None if reference is None else np.array(reference, float))


def predictions(*points):
    return lambda volume, spacing_mm: {"points_vox": np.array(points[int(volume.flat[0])], float)}


def test_the_mean_over_cases_of_the_mean_over_landmarks_in_millimetres():
    cache = Cases({"a": [[1, 2, 3], [0, 0, 0]], "b": [[1, 1, 1], [2, 2, 2]]})
    module = predictions([[2, 2, 3], [0, 3, 0]], [[1, 1, 1], [2, 2, 8]])
    assert mean_radial_error(module, cache, ["a", "b"])[0] == pytest.approx(np.mean([(2 + 3) / 2, (0 + 3) / 2]))
    assert MEAN_RADIAL_ERROR.less_is_better


def test_a_landmark_that_is_not_found_counts_as_the_volumes_diagonal():
    cache = Cases({"a": [[1, 2, 3], [0, 0, 0]]})
    assert mean_radial_error(predictions([[1, 2, 3], [NAN] * 3]), cache, ["a"])[0] == pytest.approx(DIAGONAL / 2)
    assert mean_radial_error(predictions([[NAN] * 3] * 2), cache, ["a"])[0] == pytest.approx(DIAGONAL)


def test_cases_without_a_reference_do_not_count():
    cache = Cases({"a": [[1, 2, 3], [NAN] * 3], "b": None, "c": [[NAN] * 3] * 2})
    module = predictions([[1, 3, 3], [NAN] * 3], None, [[0, 0, 0], [NAN] * 3])
    assert mean_radial_error(module, cache, ["a", "b", "c"])[0] == pytest.approx(1.0)
    with pytest.raises(UserError, match="landmark"):
        mean_radial_error(module, cache, ["b", "c"])


def test_a_remark_names_flat_maps_and_maps_that_coincide_in_most_predictions():
    """Points are in voxels of the volume, of which two are one of the maps'."""
    far, near = [[0, 0, 0], [40, 0, 0], [0, 30, 0]], [[0, 0, 0], [0, 1, 1], [0, 30, 0]]
    given = iter([(near, [0.9, 0.8, 0.2]), (near, [0.9, 0.25, 0.1]), (far, [0.1, 0.9, 0.9]),
                  (far, [0.9, 0.9, 0.29]), (far, [0.9, 0.2, 0.9])])
    watched = Watched(lambda volume, spacing_mm: dict(zip(("points_vox", "peaks"), map(np.array, next(given)))),
                      ("head", "left", "right"), ratio=0.5)
    for _ in range(3):
        found = watched(None, None)
    assert found["peaks"][0] == 0.1
    assert watched.remark() == "flat maps: right; maps that coincide: head and left"
    for _ in range(2):
        watched(None, None)
    assert watched.remark() == ""  # of those since the last remark


def test_many_flat_maps_are_counted():
    found = {"points_vox": 9 * np.eye(5, 3), "peaks": np.zeros(5)}  # the last two coincide, as flat maps may
    watched = Watched(lambda volume, spacing_mm: found, "abcde", 1.0)
    watched(None, None)
    assert watched.remark() == "flat maps: 5"
