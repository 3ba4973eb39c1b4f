"""The swept probe against what was put in: speckle, pulse, shadow, angle of incidence, gain, sector, places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tfsono.phantoms import sweep as swept
from tfsono.phantoms import ultrasound
from tfsono.phantoms.sweep import Sweep, Tissue, envelope, ultrasound_volume

SIZE = (51, 64, 45)
SPACING = (0.9, 0.8, 0.7)
QUIET = {"noise_db": -np.inf, "clutter_db": -np.inf}
PSF_MM = (0.4, 0.9, 1.4)


def even(size=SIZE, level_db=-20.0) -> Tissue:
    """Tissue without structure, surfaces or loss."""
    return Tissue(np.full(size, level_db, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32))


def fine(size=SIZE, spacing=SPACING) -> Sweep:
    """A quiet sweep whose grid is finer than the pulse `PSF_MM`."""
    return replace(Sweep.over(size, spacing), samples=240, lines=121, frames=91, focal_mm=(30.0, 20.0), **QUIET)


def coordinates(size=SIZE, spacing=SPACING):
    return np.meshgrid(*(np.arange(n) * s for n, s in zip(size, spacing, strict=True)), indexing="ij", sparse=True)


def decibels(power) -> np.ndarray:
    return 10 * np.log10(power)


@pytest.fixture(scope="module")
def heard():
    """Envelopes of even tissue, independent of one another."""
    return [envelope(np.random.default_rng(seed), even(), fine(), SPACING, PSF_MM) for seed in range(3)]


# ---------------------------------------------------------------------------------------------------------- speckle


def test_speckle_is_fully_developed_at_every_depth(heard):
    for part in np.array_split(np.stack(heard), 4, axis=1):
        assert part.mean() / part.std() == pytest.approx(1.91, abs=0.1)
        assert decibels(np.square(part).mean()) == pytest.approx(-20, abs=0.25)


def test_borders_are_as_bright_as_the_middle():
    tissue, probe = even((9, 8, 7)), replace(fine((9, 8, 7)), samples=21, lines=19, frames=17)
    power = sum(np.square(envelope(np.random.default_rng(seed), tissue, probe, SPACING, PSF_MM)) for seed in range(300))
    shown = decibels(power / 300)
    assert np.abs(shown + 20).max() < 1.3  # 300 Rayleigh powers: 0.25 dB a point, times 5
    assert abs(shown[:, [0, -1]].mean() + 20) < 0.1 and abs(shown[:, :, [0, -1]].mean() + 20) < 0.1


@pytest.mark.parametrize("where", [0.5, 0.85])
def test_grain_is_as_long_as_the_pulse_is_wide(heard, where):
    probe = fine()
    depth = probe.depth_mm[1]
    middle = int(where * probe.samples)
    radius = where * depth
    widths = [PSF_MM[0]] + [
        width * np.sqrt(1 + ((radius - 0.5 * depth) / focal) ** 2)
        for width, focal in zip(PSF_MM[1:], (30.0, 20.0), strict=True)
    ]
    steps = [depth / 239] + [
        2 * angle / (count - 1) * (bend + radius)
        for angle, count, bend in zip(probe.half_angles, (121, 91), probe.bend_mm, strict=True)
    ]
    assert widths[0] < widths[1] < widths[2]
    power = np.stack([np.square(each) for each in heard])[:, middle - 12 : middle + 12]
    power = power - power.mean()
    for axis, (width, step) in enumerate(zip(widths, steps, strict=True), 1):
        assert correlation_length(power, axis) * step == pytest.approx(width, rel=0.1), axis


def correlation_length(power, axis) -> float:
    """The lag, in samples, where the power's autocorrelation has fallen to exp(-1/2): sigma, for a Gaussian pulse."""
    values = np.moveaxis(power, axis, 0)
    correlations = [1.0]
    while correlations[-1] > np.exp(-0.5):
        lag = len(correlations)
        correlations.append((values[lag:] * values[:-lag]).mean() / values.var())
    return np.interp(-np.exp(-0.5), -np.asarray(correlations), np.arange(len(correlations)))


def test_grain_in_the_volume_is_the_pulse_in_millimetres():
    size, spacing = (90, 84, 64), (0.35, 0.2, 0.5)
    probe = replace(Sweep.over(size, spacing), bend_mm=(400.0, 400.0), half_angles=(0.045, 0.045),
                    samples=170, lines=120, frames=90, focal_mm=(1e6, 1e6), **QUIET)
    shown = ultrasound_volume(np.random.default_rng(1), even(size), probe, spacing, 55, PSF_MM)
    power = 10 ** ((shown / 255 - 1) * 55 / 10)[6:-6, 6:-6, 6:-6]
    assert np.sqrt(power).mean() / np.sqrt(power).std() == pytest.approx(1.91, abs=0.1)
    for axis, width in ((0, PSF_MM[1]), (1, PSF_MM[0]), (2, PSF_MM[2])):
        assert correlation_length(power - power.mean(), axis) * spacing[axis] == pytest.approx(width, rel=0.12), axis


def test_looks_smooth_and_a_coarse_volume_averages():
    probe = fine()
    four = envelope(np.random.default_rng(0), even(), probe, SPACING, PSF_MM, looks=4)
    assert np.square(four).std() / np.square(four).mean() == pytest.approx(0.5, rel=0.05)
    deviations = []
    for factor in (1, 4):
        size, spacing = (np.asarray(SIZE) // factor, np.asarray(SPACING) * factor)
        shown = ultrasound_volume(np.random.default_rng(0), even(tuple(size)), fine(size, spacing), spacing)
        places = np.stack(np.broadcast_arrays(*coordinates(size, spacing)), axis=-1)
        deviations.append(shown[fine(size, spacing).holds(places)].std())
    assert deviations[1] < 0.6 * deviations[0]


def test_blur_by_depth_equals_weights_written_out():
    field = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)
    sigmas = np.asarray([0.0, 0.8, 2.5])
    for axis, order in ((1, 2), (2, 1)):
        blurred = field.copy()
        ultrasound.blur_by_depth(blurred, sigmas, axis, order)
        places = np.arange(field.shape[axis])
        for sample, sigma in enumerate(sigmas):
            lags = places[:, None] - places
            weights = np.exp(-0.5 * (lags / max(sigma, 1e-9)) ** 2) * (np.abs(lags) <= np.ceil(3.5 * sigma))
            weights /= (weights**order).sum(axis=1, keepdims=True) ** (1 / order)
            expected = np.moveaxis(np.tensordot(weights, field[sample], (1, axis - 1)), 0, axis - 1)
            np.testing.assert_allclose(blurred[sample], expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------- shadow and gain


def test_a_plate_dims_what_is_behind_it_by_what_it_takes():
    probe = fine()
    tissue = even()
    tissue.loss_db_mm[:, 20:25] = 5.0  # five voxels of 0.8 mm: 20 dB, and 1 / cosine more along slanted beams
    tissue.loss_db_mm[26:] = 0.0  # in one half only
    samples = int(40 / probe.frame.step_mm)
    plain, dimmed = (
        np.mean([np.square(envelope(np.random.default_rng(s), each, probe, SPACING, PSF_MM)) for s in range(2)], axis=0)
        for each in (even(), tissue)
    )
    ratio = decibels(dimmed[samples:].mean(axis=0) / plain[samples:].mean(axis=0))
    middle = ratio[:, 43:48].mean(axis=1)
    _, angle = probe.frame.axes()
    expected = -20 / np.cos(angle)  # the sound crosses a flat plate askew
    np.testing.assert_allclose(middle[5:50], expected[5:50], atol=0.6)
    np.testing.assert_allclose(middle[72:116], 0, atol=0.05)
    before = slice(0, int(14 / probe.frame.step_mm))
    np.testing.assert_allclose(dimmed[before], plain[before], rtol=1e-3)


def test_a_shadow_follows_its_beam():
    probe = fine()
    line, turn, sample = 22, 70, 80
    near, far = (np.stack(np.broadcast_arrays(*probe.points()))[:, at, line, turn] for at in (sample, 200))
    tissue = even()
    distance = np.sqrt(sum((axis - place) ** 2 for axis, place in zip(coordinates(), near, strict=True)))
    tissue.loss_db_mm[distance < 2.5] = 12
    shown = ultrasound_volume(np.random.default_rng(3), tissue, probe, SPACING, 60, PSF_MM, looks=4)
    index = np.rint(far / SPACING).astype(int)
    smooth = ndimage.uniform_filter(shown.astype(float), 3)
    below = tuple(np.rint([near[0] / SPACING[0], index[1], near[2] / SPACING[2]]).astype(int))
    assert smooth[tuple(index)] < 40  # 12 dB a millimetre over about 5 mm: below 60 dB
    assert smooth[below] > 120  # straight down there is no shadow, for the beams fan out
    assert np.linalg.norm(index - below) > 6


def test_the_sliders_of_time_gain():
    probe = replace(fine(), gain_db=(-10.0, 0.0, -20.0))
    power = np.mean([np.square(envelope(np.random.default_rng(s), even(), probe, SPACING, PSF_MM)) for s in range(3)],
                    axis=(0, 2, 3))
    for sample, gain_db in ((6, -9.5), (119, 0), (180, -10), (233, -19)):
        assert decibels(power[sample - 6 : sample + 7].mean()) == pytest.approx(-20 + gain_db, abs=0.7)


def test_noise_grows_with_depth_and_fluid_is_dark_without_it():
    silent = even(level_db=-np.inf)
    probe = fine()
    assert envelope(np.random.default_rng(0), silent, probe, SPACING, PSF_MM).max() == 0
    noisy = replace(probe, noise_db=-40.0, noise_db_mm=0.5)
    power = np.square(envelope(np.random.default_rng(0), silent, noisy, SPACING, PSF_MM)).mean(axis=(1, 2))
    away = (np.arange(240) - 239) * probe.frame.step_mm
    np.testing.assert_allclose(decibels(power), -40 + 0.5 * away, atol=0.5)


def test_clutter_hazes_fluid_behind_and_next_to_an_echo_but_not_before_it():
    tissue = even(level_db=-95.0)
    x, y, z = coordinates()
    tissue.scatter_db[(np.abs(x - 22) < 6) & (np.abs(y - 20) < 2) & (np.abs(z - 15) < 6)] = 0
    probe = replace(fine(), clutter_db=-20.0, clutter_mm=(8.0, 30.0))
    heard = envelope(np.random.default_rng(0), tissue, probe, SPACING, PSF_MM)
    step = probe.frame.step_mm
    at = {mm: np.square(heard[int(mm / step), 58:63, 43:48]).mean() for mm in (12, 20, 28, 40)}
    assert at[20] > 0.3 and at[12] < 1e-8 and at[40] < 1e-8
    assert -50 < decibels(at[28]) < -20
    aside = np.square(heard[int(20 / step), 88:92, 43:48]).mean()
    assert -45 < decibels(aside) < -20


# ---------------------------------------------------------------------------------------------------------- mirrors


def plane(degrees: float, axis: int, with_normal: bool):
    """A mirror through (22.5, 24, 14), a voxel centre, tilted towards x or z; no diffuse echoes."""
    tissue = even(level_db=-np.inf)
    normal = np.zeros(3)
    normal[[1, axis]] = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    distance = sum(n * (c - place) for n, c, place in zip(normal, coordinates(), (22.5, 24.0, 14.0), strict=True))
    surface = np.exp(-0.5 * (distance / 0.6) ** 2)
    tissue.surface[...] = np.where(surface > 0.02, 0.8 * surface, 0)
    normals = np.broadcast_to(-normal.astype(np.float16), (*SIZE, 3))
    return replace(tissue, normal=normals) if with_normal else replace(tissue, body=distance.astype(np.float32))


@pytest.mark.parametrize("with_normal", [True, False])
@pytest.mark.parametrize("degrees, axis", [(0, 0), (20, 0), (45, 0), (30, 2), (60, 2)])
def test_mirrors_shine_by_the_angle_of_incidence(degrees, axis, with_normal):
    probe = replace(fine(), position_mm=(22.5, -0.4, 14.0), lines=41, frames=31)
    heard = envelope(np.random.default_rng(0), plane(degrees, axis, with_normal), probe, SPACING, (0.4, 1e-3, 1e-3))
    beam = heard[:, 20, 15]
    # a single part of the complex echo: its power is the mirror's, 0.8^2, times 10^(-3.6 sin^2)
    expected = 20 * np.log10(0.8) + swept.GRAZING_DB * np.sin(np.deg2rad(degrees)) ** 2
    assert decibels(beam.max() ** 2) == pytest.approx(expected, abs=0.25)
    assert probe.depths[beam.argmax()] == pytest.approx(24.4, abs=0.15)


def test_a_mirror_one_voxel_thick_looks_like_the_pulse():
    tissue = plane(0, 0, with_normal=True)
    tissue.surface[...] = 0
    tissue.surface[:, 30] = 0.8  # at 24 mm
    probe = replace(fine(), position_mm=(22.5, -0.4, 14.0), lines=41, frames=31)
    heard = envelope(np.random.default_rng(0), tissue, probe, SPACING, (2.0, 1e-3, 1e-3))
    for lag in (-4, -2, 0, 2, 4):
        found = np.interp(24.4 + lag, probe.depths, heard[:, 20, 15])
        assert found == pytest.approx(0.8 * np.exp(-0.5 * (lag / 2) ** 2), rel=0.12), lag


def test_thin_mirrors_send_back_the_whole_pulse():
    reflectivity = np.zeros((40, 3), np.float32)
    reflectivity[11, 0], reflectivity[15, 0], reflectivity[0, 1] = 0.5, 1.0, 0.7
    echo = ultrasound.echo_of_surfaces(reflectivity, 2.0)
    lags = np.arange(40)[:, None] - np.arange(40)
    envelopes = np.exp(-0.5 * (lags / 2.0) ** 2) * (np.abs(lags) <= 7)
    np.testing.assert_allclose(echo, (envelopes[..., None] * reflectivity).max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(ultrasound.echo_of_surfaces(reflectivity, 0.0), reflectivity)


# ------------------------------------------------------------------------------------------------- the field of view


def test_beams_are_turns_of_a_plane_fan():
    """Each point of the grid, from rotation matrices; the next sample is in the direction of the sound."""
    probe = Sweep((5.0, -2.0, 9.0), (3.0, 43.0), (0.6, 0.4), (20.0, 12.0), 11, 9, 7, 20.0)
    points = np.stack(np.broadcast_arrays(*probe.points()), axis=-1)
    assert points.shape == (11, 9, 7, 3)
    for sample, line, frame in np.ndindex(11, 9, 7):
        angle, turn, depth = -0.6 + line * 0.15, -0.4 + frame * 0.8 / 6, 3 + 4 * sample
        beam = np.asarray([np.sin(angle), np.cos(angle), 0])
        in_plane = np.asarray([0, -20 + 12, 0]) + (20 + depth) * beam  # from the axis of the turning
        matrix = np.asarray([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
        expected = np.asarray([5, -2 - 12, 9]) + matrix @ in_plane
        np.testing.assert_allclose(points[sample, line, frame], expected, atol=1e-4)
        np.testing.assert_allclose(probe.directions(expected), matrix @ beam, atol=1e-5)
    np.testing.assert_allclose(np.stack(probe.places(*np.moveaxis(points, -1, 0))), np.indices((11, 9, 7)), atol=1e-4)
    assert probe.holds(points[1:-1, 1:-1, 1:-1]).all()
    middle = points[5, 4, 3]
    assert probe.holds(middle) and not probe.holds(middle + [0, 25, 0]) and not probe.holds(middle - [0, 21, 0])
    assert not probe.holds(middle + [40, 0, 0]) and not probe.holds(middle + [0, 0, 40])


def test_the_volume_is_black_outside_and_bright_inside():
    probe = Sweep.over(SIZE, SPACING)
    shown = ultrasound_volume(np.random.default_rng(0), even(level_db=-6.0), probe, SPACING, looks=3)
    assert shown.dtype == np.uint8 and shown.shape == SIZE
    inside = probe.holds(np.stack(np.broadcast_arrays(*coordinates()), axis=-1))
    assert 0.65 < inside.mean() < 0.95
    assert (shown[~inside] == 0).all() and (shown[inside] > 20).mean() > 0.999
    corners = [shown[i, 0, k] for i in (0, -1) for k in (0, -1)]
    assert not np.any(corners) and inside[25, :-1, 22].all()


@pytest.mark.parametrize("size, spacing", [(SIZE, SPACING), ((33, 41, 27), (1.4, 1.3, 1.1))])
def test_things_stay_where_they_are(size, spacing):
    """A small bright ball off every axis keeps its place in millimetres, at unequal sides and spacings."""
    center = np.asarray([29.0, 31.0, 10.0])
    tissue = even(size, -80.0)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(coordinates(size, spacing), center, strict=True)))
    tissue.scatter_db[distance < 4] = -5
    probe = replace(Sweep.over(size, spacing), **QUIET)
    shown = ultrasound_volume(np.random.default_rng(0), tissue, probe, spacing, 30.0, looks=8).astype(float)
    found = np.asarray(ndimage.center_of_mass(shown)) * spacing
    np.testing.assert_allclose(found, center, atol=0.35)


def test_the_seed_decides():
    probe = Sweep.over(SIZE, SPACING)
    first, again, other = (
        ultrasound_volume(np.random.default_rng(seed), even(), probe, SPACING) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.6


def test_the_input_is_left_as_it_was():
    tissue = plane(10, 0, with_normal=False)
    tissue.loss_db_mm[:, 30:] = 3
    before = [values.copy() for values in (tissue.scatter_db, tissue.surface, tissue.loss_db_mm, tissue.body)]
    ultrasound_volume(np.random.default_rng(1), tissue, Sweep.over(SIZE, SPACING), SPACING)
    for old, new in zip(before, (tissue.scatter_db, tissue.surface, tissue.loss_db_mm, tissue.body), strict=True):
        np.testing.assert_array_equal(old, new)


# -------------------------------------------------------------------------------------------------------- bad input


def test_tissue_that_does_not_fit_together_is_refused():
    random, probe = np.random.default_rng(0), Sweep.over(SIZE, SPACING)
    mirror = np.ones(SIZE, np.float32)
    for wrong, words in (
        (replace(even(), surface=mirror[1:]), "surface: must have the shape"),
        (replace(even(), normal=mirror), "normal: must have the shape"),
        (replace(even(), scatter_db=mirror[0]), "scatter_db"),
        (replace(even(), surface=mirror), "needs its normals"),
    ):
        with pytest.raises(ValueError, match=words):
            ultrasound_volume(random, wrong, probe, SPACING)


@pytest.mark.parametrize(
    "field, value", [("frames", 1), ("depth_mm", (5.0, 5.0)), ("half_angles", (0.5, 1.6)), ("bend_mm", (-1.0, 3.0))]
)
def test_impossible_sweeps_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(Sweep.over(SIZE, SPACING), **{field: value})
