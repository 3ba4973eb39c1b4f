"""The surface of masks with known geometry, and its rendering."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tfsono.metrics.surface import boundary
from tfsono.report import surface as surfaces

SPACING = (0.6, 0.9, 1.7)


def ellipsoid(shape, centre_mm, radii_mm):
    grid = [np.arange(side) * step for side, step in zip(shape, SPACING, strict=True)]
    axes = np.meshgrid(*grid, indexing="ij")
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre_mm, radii_mm, strict=True)) <= 1


@pytest.fixture(scope="module")
def ball():
    mask = ellipsoid((57, 43, 25), (16.0, 19.0, 20.0), (12.0, 12.0, 12.0))
    return mask, surfaces.surface_nets(mask, SPACING)


def volume_of(surface):
    """The divergence theorem over both triangles of each quad."""
    a, b, c, d = (surface.points_mm[surface.quads[:, i]] for i in range(4))
    return sum(np.einsum("ni,ni->n", p, np.cross(q, r)).sum() for p, q, r in ((a, b, c), (a, c, d))) / 6


def test_the_surface_is_closed_and_of_one_piece(ball):
    _, surface = ball
    edges = Counter((int(q[i]), int(q[(i + 1) % 4])) for q in surface.quads for i in range(4))
    assert all(count == 1 and edges[(b, a)] == 1 for (a, b), count in edges.items())
    assert len(surface.points_mm) - len(edges) // 2 + len(surface.quads) == 2  # Euler, for a sphere


def test_the_surface_lies_on_the_ball(ball):
    mask, surface = ball
    radius = np.linalg.norm(surface.points_mm - (16.0, 19.0, 20.0), axis=1)
    assert abs(radius.mean() - 12.0) < 0.4 and radius.std() < 0.35
    assert volume_of(surface) == pytest.approx(mask.sum() * np.prod(SPACING), rel=0.03)
    outwards = (surface.points_mm - (16.0, 19.0, 20.0)) / radius[:, None]
    assert np.einsum("ni,ni->n", surfaces.point_normals(surface), outwards).min() > 0.7


def test_one_voxel_and_the_volumes_border():
    one = np.zeros((3, 5, 4), bool)
    one[0, 4, 2] = True
    surface = surfaces.surface_nets(one, SPACING, rounds=0)
    assert surface.points_mm.shape == (8, 3) and surface.quads.shape == (6, 4)
    np.testing.assert_allclose(surface.points_mm.mean(axis=0), (0, 4 * 0.9, 2 * 1.7), atol=1e-12)
    full = surfaces.surface_nets(np.ones((3, 5, 4), bool), SPACING, rounds=0)
    low, high = full.points_mm.min(axis=0), full.points_mm.max(axis=0)
    np.testing.assert_allclose(low, -0.5 * np.array(SPACING))
    np.testing.assert_allclose(high, (np.array((3, 5, 4)) - 0.5) * SPACING)
    # Corners and edges of a box are cut by surface nets: its volume is somewhat less than the voxels'.
    assert 0.8 < volume_of(full) / (60 * np.prod(SPACING)) <= 1


def test_an_empty_mask_has_no_surface():
    surface = surfaces.surface_nets(np.zeros((5, 3, 4), bool), SPACING)
    assert surface.points_mm.shape == (0, 3) and surface.quads.shape == (0, 4)


def test_every_point_finds_a_boundary_voxel():
    mask = np.random.default_rng(0).random((11, 7, 9)) < 0.4
    points = np.argwhere(boundary(mask))
    surface = surfaces.surface_nets(mask, SPACING)
    values = surfaces.point_values(surface, mask.shape, points, points[:, 0].astype(float))
    assert np.isfinite(values).all()
    # The value is a mean over the cube's voxels, so it lies between the cube's two x indices.
    assert (values >= surface.cells_vox[:, 0]).all() and (values <= surface.cells_vox[:, 0] + 1).all()


def test_smooth_values_keep_a_constant_and_even_out(ball):
    _, surface = ball
    ones = np.full(len(surface.points_mm), 3.0)
    np.testing.assert_allclose(surfaces.smooth_values(surface, ones), 3.0)
    noise = np.random.default_rng(0).normal(size=len(ones))
    assert surfaces.smooth_values(surface, noise).std() < 0.5


@pytest.mark.parametrize("view", surfaces.VIEWS, ids=lambda view: view.name)
def test_views_are_right_handed(view):
    np.testing.assert_array_equal(np.cross(view.right, view.up), view.towards)


@pytest.mark.parametrize("view", surfaces.VIEWS, ids=lambda view: view.name)
def test_a_ball_is_drawn_round(ball, view):
    _, surface = ball
    image = surfaces.render(surface, np.ones(len(surface.points_mm)), view, 0.2)
    seen = np.isfinite(image.value)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert len(rows) == pytest.approx(24 / 0.2, rel=0.08) and len(columns) == pytest.approx(
        24 / 0.2, rel=0.08
    )
    assert seen.sum() * 0.04 == pytest.approx(np.pi * 144, rel=0.06)
    inner = seen[rows[0] + 40 : rows[-1] - 40, columns[0] + 40 : columns[-1] - 40]
    assert inner.all(), "the surface has holes"


def test_what_is_nearer_hides_what_is_behind():
    """Two balls one behind the other along y, the anterior one smaller; their values differ."""
    front = ellipsoid((41, 71, 25), (12.0, 9.0, 20.0), (5.0, 5.0, 5.0))
    back = ellipsoid((41, 71, 25), (12.0, 40.0, 20.0), (10.0, 10.0, 10.0))
    surface = surfaces.surface_nets(front | back, SPACING)
    values = np.where(surface.points_mm[:, 1] < 20, 1.0, 2.0)
    views = {view.name: view for view in surfaces.VIEWS}
    anterior = surfaces.render(surface, values, views["anterior"], 0.3).value
    posterior = surfaces.render(surface, values, views["posterior"], 0.3).value
    middle = tuple(side // 2 for side in anterior.shape)
    assert anterior[middle] == pytest.approx(1.0)
    assert set(np.unique(anterior[np.isfinite(anterior)].round(9))) == {1.0, 2.0}
    assert set(np.unique(posterior[np.isfinite(posterior)].round(9))) == {2.0}


def test_up_and_right_in_the_rendering():
    """A knob to superior left of a ball is above right of it from anterior, above left from posterior."""
    body = ellipsoid((61, 43, 35), (15.0, 19.0, 20.0), (10.0, 10.0, 10.0))
    knob = ellipsoid((61, 43, 35), (27.0, 19.0, 44.0), (5.0, 5.0, 5.0))
    surface = surfaces.surface_nets(body | knob, SPACING)
    values = (surface.points_mm[:, 2] > 35).astype(float)
    for view, right in zip(surfaces.VIEWS[::2], (True, False), strict=True):
        image = surfaces.render(surface, values, view, 0.5).value
        row, column = (indices.mean() for indices in np.nonzero(image > 0.5))
        assert row < image.shape[0] / 2 and (column > image.shape[1] / 2) == right
