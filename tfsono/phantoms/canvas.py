"""A painted volume: scatter, reflection and loss of tissue, and windows of it in which single bodies are drawn.

Bodies are signed distances (`distance`), painted from the outside in: later ones cover earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfsono.phantoms.distance import Points, coverage
from tfsono.phantoms.sweep import Tissue
from tfsono.phantoms.ultrasound import SMALLEST_AMPLITUDE, amplitude

FAR_MM = np.float32(1e3)
# How far beyond a body its window reaches: its interface, its texture and a voxel's part of it.
MARGIN_MM = 2.0


class FleshLook(NamedTuple):
    """Levels of a head or a fetus: decibels below white, losses in dB a millimetre, the skin's reflectivity."""

    flesh_db: float
    skin_db: float
    brain_db: float
    bone_db: float
    bone_loss: float
    skull_loss: float
    skin_echo: float


def draw_flesh_look(rng: np.random.Generator, flesh_db, skin_db, brain_db, bone_loss, skull_loss, skin_echo
                    ) -> FleshLook:
    """Random levels between these bounds; that of the skin is added to that of the flesh."""
    flesh = rng.uniform(*flesh_db)
    return FleshLook(flesh, flesh + rng.uniform(*skin_db), brain_db=rng.uniform(*brain_db),
                     bone_db=rng.uniform(-11, -4), bone_loss=rng.uniform(*bone_loss),
                     skull_loss=rng.uniform(*skull_loss), skin_echo=rng.uniform(*skin_echo))


def check_grid(size, spacing_mm) -> None:
    """Raises ValueError for invalid sizes or spacings of a phantom."""
    if len(size) != 3 or min(size) < 8 or len(spacing_mm) != 3 or min(spacing_mm) <= 0:
        raise ValueError(f"size must be 3 sides of at least 8 voxels and spacing_mm 3 positive numbers: "
                         f"{size}, {spacing_mm}")


def check_weeks(weeks, lowest: float, highest: float) -> None:
    """Raises ValueError for an invalid range of gestational ages, or one outside of the anatomy's."""
    if len(weeks) != 2 or not lowest <= weeks[0] <= weeks[1] <= highest:
        raise ValueError(f"weeks must be 2 ages from {lowest} to {highest}, the lower first: {weeks}")


@dataclass(frozen=True)
class Canvas:
    """A grid of voxels and what is painted there, or a window of it: the arrays are then views of the whole.

    Attributes:
        axes: the voxel centres' coordinates along each axis, millimetres.
        voxel_mm: the mean side of a voxel.
        fields: random textures [X, Y, Z], about zero mean and unit deviation, broad to fine; none in a whole whose
            parts have their own.
        scatter: the amplitude of scattering.
        surface, loss, body: as in `sweep.Tissue`; `body` is the distance to the nearest interface, for its normal.
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    voxel_mm: float
    fields: tuple[np.ndarray, ...]
    scatter: np.ndarray
    surface: np.ndarray
    loss: np.ndarray
    body: np.ndarray

    @classmethod
    def blank(cls, axes, voxel_mm: float, fields: tuple[np.ndarray, ...] = ()) -> Canvas:
        """An empty canvas."""
        scatter, surface, loss = (np.zeros([axis.size for axis in axes], np.float32) for _ in range(3))
        return cls(axes=tuple(axes), voxel_mm=voxel_mm, fields=fields, scatter=scatter, surface=surface, loss=loss,
                   body=np.full(scatter.shape, FAR_MM))

    @property
    def points(self) -> Points:
        """The voxel centres, three arrays that broadcast to the window's shape."""
        return self.points_at((slice(None),) * 3)

    def points_at(self, place: tuple[slice, slice, slice]) -> Points:
        """The voxel centres of a part."""
        axes = (axis[part] for axis, part in zip(self.axes, place, strict=True))
        return tuple(np.meshgrid(*axes, indexing="ij", sparse=True))

    def place(self, low_mm, high_mm) -> tuple[slice, slice, slice] | None:
        """The part between two corners and `MARGIN_MM` around it; None if that is outside the volume."""
        margin = MARGIN_MM + self.voxel_mm
        ends = [np.searchsorted(axis, (low - margin, high + margin)).tolist()
                for axis, low, high in zip(self.axes, low_mm, high_mm, strict=True)]
        return None if any(low >= high for low, high in ends) else tuple(slice(*pair) for pair in ends)

    def window(self, low_mm, high_mm) -> Canvas | None:
        """The canvas of `place`, or None."""
        place = self.place(low_mm, high_mm)
        return None if place is None else self.part(place)

    def slabs(self, planes: int) -> Iterator[Canvas]:
        """The whole in windows of some planes along x, which fit in the processor's cache."""
        for first in range(0, self.axes[0].size, planes):
            yield self.part((slice(first, first + planes), slice(None), slice(None)))

    def part(self, place: tuple[slice, slice, slice]) -> Canvas:
        """The canvas of a part, in voxels."""
        axes = tuple(axis[part] for axis, part in zip(self.axes, place, strict=True))
        arrays = (array[place] for array in (self.scatter, self.surface, self.loss, self.body))
        return Canvas(axes, self.voxel_mm, tuple(field[place] for field in self.fields), *arrays)

    def cover(self, distance: np.ndarray, level_db) -> None:
        """Fills a body with tissue; removes the interfaces in it."""
        part = coverage(distance, self.voxel_mm)
        self.scatter[...] += part * (amplitude(level_db) - self.scatter)
        self.surface[...] *= 1 - part
        self.body[distance < 0] = FAR_MM

    def film(self, distance: np.ndarray, strength) -> None:
        """A smooth interface where the distance is 0."""
        width = np.float32(max(0.35, 0.7 * self.voxel_mm))
        echo = strength * np.exp(-np.square(distance / width))
        np.maximum(self.surface, np.where(echo > 0.01, echo, 0), out=self.surface)
        np.copyto(self.body, distance, where=np.abs(distance) < np.abs(self.body))

    def absorb(self, distance: np.ndarray, loss_db_mm: float, edge_mm: float = 0.0) -> None:
        """Adds to the loss of sound in a body; its edge is `edge_mm` wide or a voxel."""
        self.loss[...] += np.float32(loss_db_mm) * coverage(distance, max(edge_mm, self.voxel_mm))

    def tissue(self) -> Tissue:
        """The tissue for the probe; invalidates the canvas, as its amplitudes become decibels in place."""
        np.maximum(self.scatter, SMALLEST_AMPLITUDE, out=self.scatter)
        np.log10(self.scatter, out=self.scatter)
        np.multiply(self.scatter, np.float32(20), out=self.scatter)
        return Tissue(self.scatter, self.surface, self.loss, body=self.body)
