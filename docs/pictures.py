"""The images of README.md and the tutorials, made again: `make pictures`.

    python docs/pictures.py build/pictures [SYSTEM ...]

Runs `tfsono demo` of each system in a folder of its own (phantoms with fixed seeds; what is there is kept), predicts
its test cases with the SavedModel, and writes what `tfsono predict` shows of the median one and, with all five systems,
the strip. The number of steps of a demo depends on the machine, so contents differ between two calls; the exit status
is 1 where an image has another size than the one in docs/pictures, or is not there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from PIL import Image

from tfsono.configs.pose import SEGMENTS
from tfsono.demo import demo
from tfsono.errors import run_command
from tfsono.files import read_json
from tfsono.metrics.overlap import overlap_metrics
from tfsono.predict.prediction import Prediction
from tfsono.predict.sources import Options
from tfsono.report.plots import PLANES, STYLE, Plane, own_style
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import NAMES
from tfsono.systems.commands import open_predictor
from tfsono.volumes.image import read_mask, reorient
from tfsono.volumes.image_2d import read_mask_2d
from tfsono.volumes.landmarks import points_to_vox, read_landmarks
from tfsono.volumes.volume import Volume

OURS = Path(__file__).parent / "pictures"
STRIP, QUALITY = "strip.jpg", 85
TITLES = {"hip": "hip\nfemur, MR", "femur": "femur\nfetal thigh, 3D US", "pose": "pose\nfetus, 3D US",
          "face": "face\nfetal face, 3D US", "head": "head\nfetal head, 2D US"}
COLOUR, REFERENCE = "#ff9a1f", "white"
SIDE, TOP, BOTTOM, GAP, LETTERS, DPI = 2.2, 0.6, 0.35, 0.06, 12.5, 110  # inches, points, dots per inch
MINUTES = 3.0  # of a demo's trainings
ALIKE_PX = 8  # sizes differ with versions and fonts


class Case(NamedTuple):
    """A prediction beside its reference, on one LPS grid.

    Attributes:
      image, mask, reference: [X, Y, Z]; the masks boolean, None without one.
      spacing_mm: [3].
      points, others: [K, 3] voxel indices, predicted and reference; empty without landmarks.
      names: of the points.
      sides: [K, 3] of boxes in voxels; empty without.
    """

    image: np.ndarray
    spacing_mm: np.ndarray
    mask: np.ndarray | None
    reference: np.ndarray | None
    points: np.ndarray
    others: np.ndarray
    names: tuple[str, ...]
    sides: np.ndarray

    @property
    def dice(self) -> float | None:
        """Of the masks, where there are two."""
        if self.mask is None or self.reference is None:
            return None
        return overlap_metrics(self.mask, self.reference)["dice"]

    @property
    def error_mm(self) -> float:
        """Mean of the points' distances; NaN without points."""
        return float(np.linalg.norm((self.points - self.others) * self.spacing_mm, axis=1).mean())


# --- demo and prediction


def median_case(name: str, folder: Path) -> tuple[str, Case, Prediction]:
    """Of a demo's test cases the one with the median Dice or, without masks, mean error; runs the demo if need be."""
    if not (folder / "predictions").is_dir():
        demo(name, folder, MINUTES)
    data, found = folder / "dataset", []
    sizes = str(data / "pixel_sizes.csv") if name == "head" else ""
    predictor = open_predictor(folder / "saved_model", Options(pixel_size_mm=sizes))
    for case in read_json(folder / "runs" / name / "split.json")["test"]:
        (path,) = (data / "images").glob(f"{case}.*")
        each = predictor.of_file(path, case)
        found.append((case, case_of(each, data, case), each))
    found.sort(key=lambda one: -one[1].error_mm if one[1].dice is None else one[1].dice)
    return found[len(found) // 2]


def case_of(found: Prediction, dataset: Path, case: str) -> Case:
    """A prediction beside the reference of its dataset, in LPS axes."""
    flat = found.image.array.shape[2] == 1
    grid = found.image if flat else reorient(found.image, "LPS")
    reference = reference_mask(dataset, case, found.image)
    mask = None if found.mask is None else upright(found.mask, flat)
    if reference is not None:
        reference = upright(reference, flat)
    marks = dataset / "landmarks" / f"{case}.mrk.json"
    others = read_landmarks(marks) if marks.is_file() else {}
    names = tuple(found.landmarks_mm) if others else ()
    points = points_to_vox(np.array([found.landmarks_mm[name] for name in names]).reshape(-1, 3), grid)
    known = points_to_vox(np.array([others[name] for name in names]).reshape(-1, 3), grid)
    spacing = np.array(grid.spacing_mm)
    sides = np.array([found.boxes_mm[name].size_mm / spacing for name in names if name in found.boxes_mm])
    return Case(grid.array, spacing, mask, reference, points, known, names, sides.reshape(-1, 3))


def reference_mask(dataset: Path, case: str, image: Volume) -> Volume | None:
    """The mask of a case on its image's grid."""
    for path in (dataset / "labels").glob(f"{case}.*"):
        if path.suffix == ".png":
            array = read_mask_2d(path, image.array.shape[1::-1]).T[..., None]
            return Volume(array, image.spacing_mm, image.origin_mm, image.direction)
        return read_mask(path, like=image)
    return None


def upright(mask: Volume, flat: bool) -> np.ndarray:
    """A mask in LPS axes; a 2D one as it is."""
    return (mask if flat else reorient(mask, "LPS")).array > 0


def score(case: Case) -> str:
    """In words: Dice of the masks, mean error of the points."""
    parts = [] if case.dice is None else [f"Dice {case.dice:.2f}"]
    return ", ".join([*parts, *([f"error {case.error_mm:.1f} mm"] if len(case.points) else [])])


# --- drawing


def cut_of(case: Case) -> tuple[Plane, np.ndarray]:
    """The plane in which the reference is widest, and the reference's middle."""
    where = np.argwhere(case.reference) if case.reference is not None else case.others
    middle = (where.min(axis=0) + where.max(axis=0)) / 2
    axis = 2 if case.image.shape[2] == 1 else int(np.argmin((where * case.spacing_mm).std(axis=0)))
    middle[axis] = where[:, axis].mean().round()
    (plane,) = (plane for plane in PLANES if plane.cut == axis)
    return plane, middle


def draw_image(axes: Axes, case: Case, plane: Plane, middle: np.ndarray) -> None:
    """The largest square of the slice, as near to the reference's middle as the border allows."""
    two = [plane.right, plane.side]
    spacing, shape = case.spacing_mm[two], np.array(case.image.shape)[two]
    low, high = np.percentile(case.image, (0.5, 99.7))
    axes.imshow(np.take(case.image, int(middle[plane.cut]), plane.cut).T, cmap="gray", vmin=low, vmax=high,
                aspect=spacing[1] / spacing[0], origin="lower", interpolation="bilinear")
    half = (shape * spacing).min() / 2 / spacing
    centre = np.clip(middle[two], half - 0.5, shape - half - 0.5)
    (left, below), (right, above) = centre - half, centre + half
    axes.set(xlim=(left, right), ylim=(below, above), xticks=(), yticks=())
    if plane.down:
        axes.invert_yaxis()


def draw_prediction(axes: Axes, case: Case, plane: Plane, middle: np.ndarray, found: Prediction) -> None:
    """Over the slice: mask and outline, points, boxes, skeleton or ellipse; the reference in white."""
    two, index = [plane.right, plane.side], int(middle[plane.cut])
    if case.mask is not None:
        axes.contourf(np.take(case.mask, index, plane.cut).T, levels=[0.5, 1], colors=COLOUR, alpha=0.55)
    if case.reference is not None:
        axes.contour(np.take(case.reference, index, plane.cut).T, levels=[0.5], colors=REFERENCE, linewidths=1.2)
    if found.ellipse is not None:
        each = found.ellipse
        axes.add_patch(Ellipse(each.center_px, 2 * each.semi_major_px, 2 * each.semi_minor_px, fill=False, lw=1.6,
                               angle=np.degrees(each.angle_rad), edgecolor=COLOUR))
    place = {name: point[two] for name, point in zip(case.names, case.points, strict=True)}
    bones = [(place[one], place[other]) for one, other in SEGMENTS if one in place and other in place]
    axes.add_collection(LineCollection(bones, colors=COLOUR, linewidths=1.6))
    for point, side in zip(case.points, case.sides, strict=False):
        low = (point - side / 2)[two]
        axes.add_patch(Rectangle(low, *side[two], fill=False, edgecolor=COLOUR, linewidth=1.2))
    axes.scatter(*case.others[:, two].T, s=26, facecolors="none", edgecolors=REFERENCE, linewidths=0.9, zorder=3)
    axes.scatter(*case.points[:, two].T, s=9, color=COLOUR, linewidths=0, zorder=4)


def write_strip(path: Path, cases: dict[str, tuple[Case, Prediction]]) -> None:
    """A column a system: the input, and below it the prediction."""
    width, height = len(cases) * (SIDE + GAP) + GAP, TOP + 2 * SIDE + GAP + BOTTOM
    with own_style(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        for number, (name, (case, found)) in enumerate(cases.items()):
            left, cut = GAP + number * (SIDE + GAP), cut_of(case)
            for row in range(2):
                below = BOTTOM + (1 - row) * (SIDE + GAP)
                axes = figure.add_axes((left / width, below / height, SIDE / width, SIDE / height))
                draw_image(axes, case, *cut)
                if row:
                    draw_prediction(axes, case, *cut, found)
                    axes.set_xlabel(score(case), fontsize=LETTERS, labelpad=3)
                else:
                    axes.set_title(TITLES[name], fontsize=LETTERS)
        figure.savefig(path, pil_kwargs={"quality": QUALITY})


# --- comparing


def alike(one: Path, other: Path) -> bool:
    """Whether both are there, with the same size but for a few pixels."""
    if not (one.is_file() and other.is_file()):
        return False
    with Image.open(one) as first, Image.open(other) as second:
        return bool(np.abs(np.subtract(first.size, second.size)).max() <= ALIKE_PX)


def main() -> int:
    prepare_tensorflow()
    folder, systems = Path(sys.argv[1]), sys.argv[2:] or list(NAMES)
    shown, written = {}, [f"{name}.jpg" for name in systems]
    for name in systems:
        title, case, found = median_case(name, folder / name)
        shown[name] = case, found
        found.write(folder / name / "predictions")
        with Image.open(folder / name / "predictions" / f"{title}.png") as preview:
            preview.convert("RGB").save(folder / f"{name}.jpg", quality=QUALITY)
    if set(systems) == set(NAMES):
        write_strip(folder / STRIP, {name: shown[name] for name in TITLES})
        written.append(STRIP)
    others = [name for name in written if not alike(folder / name, OURS / name)]
    print(f"wrote {', '.join(written)} into {folder}; look at them, and copy those that are better to {OURS}")
    if others:
        print(f"of another size than in {OURS}: {', '.join(others)}", file=sys.stderr)
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(run_command(main))
