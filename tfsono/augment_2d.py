"""Random transforms of a 2D image: image, mask and points together, then the image's grey levels.

Images are [Y, X], rows first; points are (x, y) indices of pixel centres. NumPy and OpenCV, which release the
interpreter's lock, so that threads share the work. Every function depends only on its arguments and the generator.

The geometry is head, Sec. "Data Augmentation" (rotation, scaling, shift, flip, elastic deformation). The displacement
field is Simard's (ICDAR 2003), in pixels of a frame of 512, so that every input size is deformed alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

REFERENCE_SIDE = 512
ATTEMPTS = 10
"""Draws of a transform; if landmarks leave the frame in all of them the image stays unchanged."""

CONVERGED = 0.02
"""Pixels: the accuracy of a point's place in the deformed image. A field that folds has none."""

WHITE = 255.0
LEAST_BLUR = 0.1  # pixels; a smaller one does nothing


@dataclass(frozen=True)
class Augmentation2D:
    """Strengths of the random transforms, 0 switches one off; a share is the fraction of images that get one.

    Attributes:
      geometric_share: images that are rotated, scaled and shifted.
      rotation_degrees: about the frame's middle, uniform up to this angle either way.
      scaling: isotropic, uniform in 1 - scaling to 1 + scaling.
      shift: along each axis, uniform up to this share of the frame's side either way.
      flip_share: images mirrored left to right.
      elastic_share: images deformed; 0 switches it off.
      elastic_alpha: strength of the deformation, and
      elastic_sigma: its smoothness, in pixels of a frame of 512: 30 and 5 displace by 1 pixel (standard deviation).
      intensity_share: images whose brightness, contrast and gamma change.
      brightness: added, uniform up to this share of white either way.
      contrast: factor about the image's mean, uniform in 1 - contrast to 1 + contrast.
      gamma: exponent, uniform in 1 - gamma to 1 + gamma.
      speckle: largest standard deviation of the logarithm of a factor, correlated over about two pixels.
      speckle_share: images with it.
      noise: largest standard deviation of white noise, as a share of white.
      noise_share: images with it.
      blur_sigma: largest standard deviation of a Gaussian blur, in pixels of a frame of 512.
      blur_share: images with it.
      shadow_share: images with an acoustic shadow; 0 switches it off.
    """

    geometric_share: float = 1.0
    rotation_degrees: float = 0.0
    scaling: float = 0.0
    shift: float = 0.0
    flip_share: float = 0.0
    elastic_share: float = 0.0
    elastic_alpha: float = 30.0
    elastic_sigma: float = 5.0
    intensity_share: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    speckle: float = 0.0
    speckle_share: float = 1.0
    noise: float = 0.0
    noise_share: float = 1.0
    blur_sigma: float = 0.0
    blur_share: float = 1.0
    shadow_share: float = 0.0

    @property
    def geometric(self) -> bool:
        """Whether image, mask and points move."""
        affine = self.geometric_share and (self.rotation_degrees or self.scaling or self.shift)
        return bool(affine or self.flip_share or self.elastic_share)


@dataclass(frozen=True)
class Sample:
    """An image in the network's frame.

    Attributes:
      image: uint8 or float32 grey levels 0..255, [Y, X]; 0 in the padding.
      mask: uint8 0/1 [Y, X].
      points_px: float32 [K, 2], NaN where missing.
      valid: boolean [Y, X], False in the padding.
    """

    image: np.ndarray
    mask: np.ndarray
    points_px: np.ndarray
    valid: np.ndarray


def augmented(sample: Sample, augmentation: Augmentation2D, order: Callable[[np.ndarray], np.ndarray],
              random: np.random.Generator) -> Sample:
    """A random version of a sample: moved, then with other grey levels, as float32.

    Args:
      sample: with an image uint8.
      augmentation: the strengths.
      order: brings points [K, 2], of which some may be NaN, into their canonical order, which a rotation or a flip may
        break.
      random: drawn from as often as needed.
    """
    if augmentation.geometric:
        sample = moved(sample, augmentation, random)
        points = sample.points_px
        if np.isfinite(points).any():  # or there is nothing to order
            points = np.asarray(order(points), np.float32)
        sample = Sample(sample.image, sample.mask, points, sample.valid)
    image = random_grey_levels(sample.image, sample.valid, augmentation, random)
    return Sample(image, sample.mask, sample.points_px, sample.valid)


# ------------------------------------------------------------------------------------------------ geometry


@dataclass(frozen=True)
class Warp:
    """Maps each pixel of the result to the source, at `matrix @ (x, y, 1) + bend[y, x]`.

    Attributes:
      matrix: [2, 3], from the result's (x, y) to the source's.
      bend: float32 [Y, X, 2], x and y, or None for an affine map.
    """

    matrix: np.ndarray
    bend: np.ndarray | None

    def sources(self, size_yx: tuple[int, int]) -> np.ndarray:
        """float32 [2, Y, X]: x and y of the source of every pixel."""
        rows, columns = (np.arange(n, dtype=np.float32) for n in size_yx)
        m = self.matrix.astype(np.float32)
        maps = np.empty((2, *size_yx), np.float32)
        for axis in range(2):
            np.add((m[axis, 1] * rows + m[axis, 2])[:, None], m[axis, 0] * columns[None, :], out=maps[axis])
            if self.bend is not None:
                maps[axis] += self.bend[..., axis]
        return maps

    def destinations(self, points_px: np.ndarray) -> np.ndarray | None:
        """Points [K, 2] of the source, mapped to the result; None where the field folds and has no unique inverse."""
        forward = cv2.invertAffineTransform(self.matrix.astype(np.float64))
        points = np.asarray(points_px, np.float64)
        places = _affine(forward, points)
        if self.bend is None:
            return places
        for _ in range(50):
            nearer = _affine(forward, points - _bend_at(self.bend, places))
            step = np.abs(nearer - places)
            places = nearer
            if not np.any(step > CONVERGED / 2):  # a missing point's step is NaN, and never larger
                return places
        return None


def moved(sample: Sample, augmentation: Augmentation2D, random: np.random.Generator) -> Sample:
    """The sample under a random transform that keeps every landmark inside the frame.

    After ten draws that lose a landmark the sample stays unchanged. The image is interpolated linearly, with its border
    repeated, the mask linearly and thresholded at a half.
    """
    size = sample.image.shape
    inside = _within(sample.points_px, size)
    for _ in range(ATTEMPTS):
        warp = random_warp(size, augmentation, random)
        points = warp.destinations(sample.points_px)
        if points is not None and _within(points, size)[inside].all():
            return warped(sample, warp, points)
    return sample


def random_warp(size_yx: tuple[int, int], augmentation: Augmentation2D, random: np.random.Generator) -> Warp:
    """Rotation and scaling about the frame's middle with a shift; a flip; a deformation: each with its probability."""
    used, flip, bent = random.random(3)
    rotate, grow, right, down = random.uniform(-1.0, 1.0, 4) * (used < augmentation.geometric_share)
    angle, scale = np.radians(rotate * augmentation.rotation_degrees), 1.0 + grow * augmentation.scaling
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    linear = np.array([[cosine, sine], [-sine, cosine]])
    if flip < augmentation.flip_share:
        linear[0] *= -1.0
    middle = (np.array(size_yx[::-1]) - 1.0) / 2
    shift = np.array([right, down]) * augmentation.shift * size_yx[::-1]
    matrix = np.column_stack([linear, middle - linear @ (middle + shift)])
    bend = random_bend(size_yx, augmentation, random) if bent < augmentation.elastic_share else None
    return Warp(matrix, bend)


def random_bend(size_yx: tuple[int, int], augmentation: Augmentation2D, random: np.random.Generator):
    """float32 [Y, X, 2]: smoothed noise with the deviation that alpha and sigma give at a frame of 512, rescaled.

    Uniform noise of -1..1 smoothed by a Gaussian of sigma has a deviation of sqrt(1/3) / (2 sqrt(pi) sigma).
    """
    ratio = max(size_yx) / REFERENCE_SIDE
    noise = random.random((*size_yx, 2), np.float32)
    noise -= 0.5
    sigma = augmentation.elastic_sigma
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma * ratio, borderType=cv2.BORDER_REFLECT_101)
    deviation = augmentation.elastic_alpha * ratio / (np.sqrt(12 * np.pi) * sigma)
    return smooth * np.float32(deviation / max(float(smooth.std()), 1e-6))


def warped(sample: Sample, warp: Warp, points_px: np.ndarray) -> Sample:
    """The sample resampled by `warp`, with the mapped points."""
    maps = warp.sources(sample.image.shape)
    rows, columns = (np.flatnonzero(sample.valid.any(axis=axis)) for axis in (1, 0))
    valid, near = True, []
    for at, used in zip(maps, (columns, rows), strict=True):
        valid = valid & (at >= used[0] - 0.5) & (at <= used[-1] + 0.5)
        # The padding must not bleed into the image's border.
        near.append(np.clip(at, np.float32(used[0]), np.float32(used[-1])))
    image = cv2.remap(sample.image, near[0], near[1], cv2.INTER_LINEAR)
    mask = cv2.remap(sample.mask * np.uint8(WHITE), near[0], near[1], cv2.INTER_LINEAR)
    image[~valid] = 0
    return Sample(image, ((mask >= 128) & valid).astype(np.uint8), points_px.astype(np.float32), valid)


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _bend_at(bend: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The field [Y, X, 2] at points [K, 2], bilinear, its border repeated; NaN at a missing point."""
    high = np.array(bend.shape[1::-1]) - 1
    at = np.clip(np.nan_to_num(points), 0, high)
    low = np.minimum(at.astype(int), np.maximum(high - 1, 0))
    part = at - low
    far = np.minimum(low + 1, high)
    upper = bend[low[:, 1], low[:, 0]] * (1 - part[:, :1]) + bend[low[:, 1], far[:, 0]] * part[:, :1]
    lower = bend[far[:, 1], low[:, 0]] * (1 - part[:, :1]) + bend[far[:, 1], far[:, 0]] * part[:, :1]
    found = upper * (1 - part[:, 1:]) + lower * part[:, 1:]
    return np.where(np.isfinite(points), found, np.nan)


def _within(points: np.ndarray, size_yx: tuple[int, int]) -> np.ndarray:
    """[K] boolean: in the frame, up to the outer edges of its pixels; False for a missing point."""
    high = np.array(size_yx[::-1]) - 0.5
    return ((points >= -0.5) & (points <= high)).all(axis=1)


# ------------------------------------------------------------------------------------------------ grey levels


def random_grey_levels(image: np.ndarray, valid: np.ndarray, augmentation: Augmentation2D,
                       random: np.random.Generator) -> np.ndarray:
    """The image uint8 [Y, X] with other contrast, speckle, shadow, blur, noise: float32 0..255, 0 in the padding."""
    shares = (augmentation.intensity_share, augmentation.speckle_share, augmentation.shadow_share,
              augmentation.blur_share, augmentation.noise_share)
    change, speckle, shadow, blur, noise = random.random(5) < shares
    result = _curve(image, valid, augmentation, random)[image] if change else image.astype(np.float32)
    if speckle and augmentation.speckle:
        result *= _speckle(image.shape, random.uniform(0, augmentation.speckle), random)
    if shadow:
        result *= random_shadow(image.shape, random)
    sigma = random.uniform(0, augmentation.blur_sigma) * max(image.shape) / REFERENCE_SIDE
    if blur and sigma > LEAST_BLUR:
        result = cv2.GaussianBlur(result, (0, 0), sigma)
    if noise and augmentation.noise:
        deviation = np.float32(random.uniform(0, augmentation.noise) * WHITE)
        result += deviation * random.standard_normal(image.shape, np.float32)
    return np.clip(result, 0.0, WHITE, out=result) * valid


def _curve(image: np.ndarray, valid: np.ndarray, augmentation: Augmentation2D,
           random: np.random.Generator) -> np.ndarray:
    """float32 [256]: the new value of each grey level by gamma, then contrast about the mean, then brightness."""
    bend, stretch, lift = random.uniform(-1.0, 1.0, 3)
    curve = WHITE * (np.arange(256) / WHITE) ** (1.0 + bend * augmentation.gamma)
    counts = np.bincount(image[valid], minlength=256)
    mean = counts @ curve / max(counts.sum(), 1)
    curve = (curve - mean) * (1.0 + stretch * augmentation.contrast) + mean
    return np.clip(curve + lift * augmentation.brightness * WHITE, 0.0, WHITE).astype(np.float32)


def _speckle(size_yx: tuple[int, int], deviation: float, random: np.random.Generator) -> np.ndarray:
    """A factor [Y, X] of mean about 1, whose logarithm is Gaussian noise correlated over about two pixels."""
    noise = cv2.GaussianBlur(random.standard_normal(size_yx, np.float32), (0, 0), 0.8)
    noise *= np.float32(deviation / max(float(noise.std()), 1e-6))
    return np.exp(noise - np.float32(deviation**2 / 2))


def random_shadow(size_yx: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A factor float32 [Y, X]: an acoustic shadow, a soft-edged wedge pointing away from a probe above the frame.

    4 to 14 degrees wide, 20 to 70 % of the brightness left, beginning at 10 to 60 % of the depth.
    """
    rows, columns = size_yx
    probe_x, probe_y = columns * random.uniform(0.3, 0.7), -rows * random.uniform(0.1, 0.6)
    aim_x, depth = columns * random.uniform(0.1, 0.9), random.uniform(0.1, 0.6) * rows
    width, left = np.radians(random.uniform(4, 14)), random.uniform(0.2, 0.7)
    down = np.arange(rows, dtype=np.float32)[:, None] - np.float32(probe_y)
    aside = np.arange(columns, dtype=np.float32)[None, :] - np.float32(probe_x)
    middle = (aim_x - probe_x) / (rows / 2 - probe_y)
    across = (aside / down - np.float32(middle)) / np.float32(np.tan(width / 2))
    begun = np.clip((np.arange(rows, dtype=np.float32)[:, None] - depth) / (0.1 * rows), 0.0, 1.0)
    return (1.0 - (1.0 - left) * begun * np.exp(-across**2)).astype(np.float32)
