"""The score of landmarks by which best weights are chosen, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.training.validation import MEAN_RADIAL_ERROR, mean_radial_error

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
