"""One image for `head`: the ellipse, its four points, BPD, OFD and HC with their uncertainty, and a preview.

    OUT/CASE.png                  the image with the prediction; check it before using the numbers
    OUT/CASE_mask.png             0 and 255 on the image's own pixels (segmentation)
    OUT/CASE_landmarks.mrk.json   points, axes and the ellipse in millimetres, for 3D Slicer (with a pixel size), and
    OUT/CASE_image.mha            the image with its pixel size, on which they lie
    OUT/landmarks.csv             one row per case: the points in pixels, in the columns of the public BPD/OFD table
    OUT/hc18.csv                  one row per case with a pixel size: the ellipse as the HC18 challenge takes it
    OUT/measurements.csv          one row per case

A wide border, as of a screen capture, is cut off before the network. An ensemble averages probabilities before the
ellipse is fitted, and points before they are measured. Undefined values are empty in the tables. No age is derived from
a measurement in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from tfsono.config import LAST_WITH_THEM
from tfsono.errors import UserError
from tfsono.export import MANIFEST, check_keys
from tfsono.files import write_bytes
from tfsono.geometry.ellipse import Ellipse, EllipseSearch, ellipse_of_points, ellipse_of_probabilities, head_of_mask
from tfsono.geometry.head_labels import DEFAULT_ORDER, LANDMARKS, EndOrder
from tfsono.manifest import COVERAGE, Intervals
from tfsono.metrics.growth import read_gestational_age
from tfsono.metrics.intervals import percent_of
from tfsono.predict import head_ages
from tfsono.predict.loop import Outputs
from tfsono.predict.pixel_sizes import PixelSizes, read_pixel_sizes
from tfsono.predict.prediction import FilePredictor, Prediction
from tfsono.predict.ranges import Ranges, ranges_of
from tfsono.predict.sources import Model, Options
from tfsono.predict.tables import MEASUREMENTS, read_table, rounded, write_table
from tfsono.report.overlay import Judgement, head_overlay
from tfsono.training.fingerprint import diameter_share
from tfsono.volumes.image import write_volume
from tfsono.volumes.image_2d import (
    NOT_ULTRASOUND, Image2D, is_image_2d_file, image_2d_name, read_image_2d, volume_of_image,
)
from tfsono.volumes.landmarks import write_markups
from tfsono.volumes.sector import sector_of
from tfsono.volumes.volume import Volume

LENGTHS = ("bpd", "ofd", "hc")
SPREADS = ("dropout", "members")
COLUMNS = (
    "case", *(f"{length}_{unit}" for unit in ("mm", "px") for length in LENGTHS), "pixel_size_mm", "cephalic_index",
    *(f"{length}_sd_{spread}_{unit}" for unit in ("mm", "px") for spread in SPREADS for length in LENGTHS),
    "samples", "samples_undefined", "members", "members_undefined", *head_ages.COLUMNS,
    "center_x_px", "center_y_px", "semi_major_px", "semi_minor_px", "angle_degrees", "cut_to_px", "flagged", "flags",
    "file")
POINT_COLUMNS = ("case", "image_name", *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"))
POINTS, CHALLENGE = "landmarks.csv", "hc18.csv"
CHALLENGE_COLUMNS = ("filename", "center_x_mm", "center_y_mm", "semi_axes_a_mm", "semi_axes_b_mm", "angle_rad")


def is_input(path: Path) -> bool:
    """Whether a file in a folder is an input, by its name: HC18 keeps annotations next to the images."""
    return is_image_2d_file(path) and not image_2d_name(path).endswith(("_Annotation", "_mask"))


def challenge_rows(rows: Iterable[Mapping]) -> list[dict]:
    """Rows of `hc18.csv` from those of `measurements.csv`: of every ellipse in millimetres, flagged or not.

    The long semi-axis is a, and the angle its direction from x (right) to y (down) in [0, pi), as in public submissions
    to the challenge; its own page does not say so.
    """
    found = []
    for row in rows:
        if row["hc_mm"] != "":
            size = float(row["pixel_size_mm"])
            lengths = (round(float(row[f"{key}_px"]) * size, 5) for key in ("center_x", "center_y", "semi_major",
                                                                            "semi_minor"))
            angle = round(float(np.radians(float(row["angle_degrees"])) % np.pi), 5)
            found.append(dict(zip(CHALLENGE_COLUMNS, (Path(row["file"]).name, *lengths, angle), strict=True)))
    return found


OUTPUTS = Outputs("image", is_input, image_2d_name, {MEASUREMENTS: COLUMNS, POINTS: POINT_COLUMNS},
                  lambda name: (f"{name}.png", f"{name}_mask.png", f"{name}_landmarks.mrk.json", f"{name}_image.mha"),
                  derived={CHALLENGE: (CHALLENGE_COLUMNS, challenge_rows)})


def write_derived(folder: Path) -> None:
    """Writes the tables of a folder that follow from its measurements.csv, once parts are merged."""
    rows = read_table(folder / MEASUREMENTS, COLUMNS)
    for name, (columns, rows_of) in OUTPUTS.derived.items():
        write_table(folder / name, columns, rows_of(rows))


INSIDE = 255  # the value of the head in a mask
CLINICAL = "not for clinical use"
CONVENTION = "outer to outer"  # where on the skull BPD and OFD begin and end
DOUBTFUL = "FLAGGED, not to be relied on"
# The entries of a manifest's "measuring"; `tfsono.systems.head.measuring_of` writes it.
MEASURING = ("part", "end_order", "threshold", "morphology_px", "area_px", "ransac_iterations",
             "ransac_points", "ransac_inlier_px", "axis_ratio", "dropout", "monte_carlo_samples", "seed")

# Limits beyond which a prediction is flagged; none is the paper's.
LEAST_OVERLAP = 0.95  # Dice of the mask and its ellipse
USUAL_RATIO = (0.65, 0.95)  # BPD over OFD
CURVE_POINTS = 36  # of the ellipse in Slicer, whose spline through them is closer than a thousandth of its length
LARGEST_SPREAD = 0.05  # standard deviation of a length, relative to the length


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

    Attributes:
      module: image [Y, X] float32 -> {"probability"} or {"points_px"}; `module.sample(image, seed)` with dropout.
      part: `segmentation` or `landmarks`.
      search: settings of the ellipse fit.
      seed: of the random trials of the fit.
      samples: the model's number of forward passes with dropout; 0 without dropout.
      order: which end of an axis is the first.
    """

    module: Callable
    part: str
    search: EllipseSearch
    seed: int
    samples: int
    order: EndOrder = DEFAULT_ORDER


@dataclass(frozen=True)
class Found:
    """The prediction for one image.

    Attributes:
      probability: [Y, X]; None for landmarks.
      points_px: [4, 2] (x, y); None where undefined.
      ellipse: None where undefined.
    """

    probability: np.ndarray | None
    points_px: np.ndarray | None
    ellipse: Ellipse | None

    def placed(self, sector: tuple[slice, slice], size_yx: tuple[int, int]) -> Found:
        """The prediction for the part of an image that is its `sector`, as one for the image of `size_yx`."""
        rows, columns = sector
        if (rows.stop - rows.start, columns.stop - columns.start) == size_yx:
            return self
        probability, ellipse, shift = None, None, np.array([columns.start, rows.start])
        if self.probability is not None:
            probability = np.zeros(size_yx, self.probability.dtype)
            probability[sector] = self.probability
        if self.ellipse is not None:
            ellipse = replace(self.ellipse, center_px=tuple(self.ellipse.center_px + shift))
        return Found(probability, None if self.points_px is None else self.points_px + shift, ellipse)

    def lengths(self) -> np.ndarray:
        """BPD, OFD, HC in pixels, NaN where undefined."""
        if self.ellipse is None:
            return np.full(3, np.nan)
        return np.array([2 * self.ellipse.semi_minor_px, 2 * self.ellipse.semi_major_px,
                         self.ellipse.circumference_px()])


@dataclass(frozen=True)
class Spread:
    """The spread of repeated predictions.

    Attributes:
      deviation_px: of BPD, OFD, HC; NaN with fewer than two defined predictions.
      count: number of predictions.
      undefined: number of these without an ellipse.
    """

    deviation_px: np.ndarray
    count: int
    undefined: int


class HeadPredictor(FilePredictor):
    """One or several models with their pre- and postprocessing."""

    def __init__(self, members: Sequence[Member], key: str, pixel_sizes: PixelSizes = PixelSizes(),
                 samples: int | None = None, ranges: Ranges = Ranges(), intervals: Intervals | None = None,
                 age_days: int | None = None):
        """Creates the predictor.

        Args:
          members: of one part; the first one's settings measure the ensemble's prediction.
          key: identifies all that a prediction depends on.
          pixel_sizes: from the command line.
          samples: forward passes with dropout; None: each member's own number, and none with `intervals`.
          ranges: what the models were trained on.
          intervals: of the lengths, by size; None where unknown.
          age_days: the known gestational age, for z-scores; None if unknown.
        """
        self.members, self.key, self.pixel_sizes = tuple(members), key, pixel_sizes
        self.samples = 0 if samples is None and intervals else samples
        self.ranges, self.intervals, self.age_days = ranges, intervals, age_days

    def of_file(self, path: Path, name: str = "case") -> Prediction:
        """The ellipse and points of one image, its mask where there is one, and its measurements."""
        image = read_image_2d(path)
        pixel_size_mm = self.pixel_sizes.of(Path(path), image.pixel_size_mm)
        sector = sector_of(image.pixels)
        shown = image.pixels[sector]
        outside = self.ranges.of_image(path, shown.shape[::-1], pixel_size_mm)
        within, members, dropout = self._measured(shown)
        length_px = within.lengths()[2]
        doubts = [*outside, *self.ranges.of_head(length_px * (pixel_size_mm or np.nan),
                                                 diameter_share(length_px, shown.shape)),
                  *doubts_of(within, shown, dropout, members, self.ranges),
                  *(note for note in image.notes if note.endswith(NOT_ULTRASOUND))]
        found = within.placed(sector, image.pixels.shape)
        row = measurement_row(name, path, found, pixel_size_mm, dropout=dropout, members=members)
        row |= judged(row, doubts, notes_of(image, pixel_size_mm, doubts), self.age_days)
        if shown.shape != image.pixels.shape:
            row["cut_to_px"] = f"x {sector[1].start} to {sector[1].stop}, y {sector[0].start} to {sector[0].stop}"
        half_mm = half_widths_mm(self.intervals, row)
        point_row = {"case": name, "image_name": Path(path).name, **dict.fromkeys(POINT_COLUMNS[2:], "")}
        if found.points_px is not None:
            point_row |= zip(POINT_COLUMNS[2:], (rounded(value, 3) for value in found.points_px.ravel()), strict=True)
        mask = None if found.probability is None else mask_of(found, self.members[0].search.threshold)
        points_mm, grid = points_mm_of(found, pixel_size_mm), volume_of_image(image, pixel_size_mm)
        return Prediction(
            image=grid, tables={MEASUREMENTS: [row], POINTS: [point_row]}, text=f"{name}: {line_of(row, half_mm)}",
            write=partial(_write_files, name=name, grid=grid, found=found, mask=mask, sector=sector, row=row,
                          half_mm=half_mm),
            mask=None if mask is None else replace(grid, array=levels(mask).T[:, :, None]),
            labels={} if mask is None else {"head": INSIDE},
            landmarks_vox=dict(zip(LANDMARKS, in_space(found.points_px), strict=True)),
            landmarks_mm=points_mm, ellipse=found.ellipse)

    def measure(self, pixels: np.ndarray) -> tuple[Found, Spread, Spread]:
        """The ensemble's prediction of uint8 [Y, X], and its spread over members and over dropout samples."""
        sector = sector_of(pixels)
        found, members, dropout = self._measured(pixels[sector])
        return found.placed(sector, pixels.shape), members, dropout

    def _measured(self, pixels: np.ndarray) -> tuple[Found, Spread, Spread]:
        """`measure` of an image without a border."""
        image, first = pixels.astype(np.float32), self.members[0]
        single, within, undefined, count = [], [], 0, 0
        for member in self.members:
            single.append(prediction_of(member, member.module(image)))
            samples = member.samples if self.samples is None else self.samples * bool(member.samples)
            found = [prediction_of(member, member.module.sample(image, np.int32(seed))) for seed in range(samples)]
            spread = spread_of(found)
            within.append(spread.deviation_px)
            undefined, count = undefined + spread.undefined, count + spread.count
        together = single[0] if len(single) == 1 else combined(first, single)
        # The mean of the members' variances; NaN if a member has none.
        dropout = Spread(np.sqrt(np.mean(np.square(within), axis=0)), count, undefined)
        return together, spread_of(single), dropout


def predictor_of(models: Iterable[Model], key: str, options: Options = Options()) -> HeadPredictor:
    """The predictor of one or several opened models.

    Args:
      models: one per member; opened after the options are checked, as that takes seconds.
      key: identifies all that a prediction depends on.
      options: of the prediction; see `read_pixel_sizes` and `ranges_of`.

    Raises:
      UserError: models of different parts, or an impossible option.
    """
    samples = options.samples
    if samples is not None and not 0 <= samples <= 1000:
        raise UserError(f"--samples {samples}: expected 0 to 1000")
    age_days = read_gestational_age(options.gestational_age)
    pixel_sizes = read_pixel_sizes(options.pixel_size_mm)
    models = list(models)
    members = [_member_of(model) for model in models]
    for model, member in zip(models, members, strict=True):
        if member.part != members[0].part:
            raise UserError(f"--ensemble_with {model.source}: predicts {member.part}, and {models[0].source} "
                            f"{members[0].part}; give models of one kind")
    return HeadPredictor(members, key, pixel_sizes=pixel_sizes, samples=samples, ranges=ranges_of(models, options),
                         intervals=intervals_of(models), age_days=age_days)


def intervals_of(models: Sequence[Model]) -> Intervals | None:
    """The intervals that all models have; None where they have none, or different ones."""
    first, *others = (model.manifest.get("intervals") for model in models)
    return first if all(other == first for other in others) else None


def _member_of(model: Model) -> Member:
    check_keys(model.source / MANIFEST, model.manifest, ("measuring",))
    measuring = model.manifest["measuring"]
    check_keys(model.source / MANIFEST, measuring, MEASURING)
    if measuring.get("denoise", "none") != "none":
        raise UserError(f"{model.source / MANIFEST}: was exported with denoise {measuring['denoise']}, which was "
                        f"removed; use {LAST_WITH_THEM}")
    search = EllipseSearch(
        measuring["threshold"], measuring["morphology_px"], tuple(measuring["area_px"]),
        iterations=measuring["ransac_iterations"], sample_points=measuring["ransac_points"],
        inlier_px=measuring["ransac_inlier_px"], axis_ratio=tuple(measuring["axis_ratio"]))
    directions = measuring["end_order"]
    return Member(
        module=model.module, part=measuring["part"], search=search, seed=measuring["seed"],
        samples=measuring["monte_carlo_samples"] if measuring["dropout"] else 0,
        order=EndOrder(tuple(directions["ofd_direction"]), tuple(directions["bpd_direction"])))


def prediction_of(member: Member, prediction: dict) -> Found:
    """A module's output as points and an ellipse."""
    if member.part == "landmarks":
        return found_points(prediction["points_px"].numpy())
    return found_mask(member, prediction["probability"].numpy())


def found_points(points_px: np.ndarray) -> Found:
    """Points [4, 2] and the ellipse through them."""
    return Found(None, np.asarray(points_px, np.float64), ellipse_of_points(points_px))


def found_mask(member: Member, probability: np.ndarray) -> Found:
    """A probability map [Y, X], its ellipse, and the ends of the ellipse's axes."""
    ellipse = ellipse_of_probabilities(probability, member.seed, member.search)
    return Found(probability, None if ellipse is None else member.order.ordered(ellipse.end_points()), ellipse)


def combined(first: Member, single: Sequence[Found]) -> Found:
    """The members' mean: of the maps, or of the points with their ends in the first member's order."""
    if first.part == "segmentation":
        return found_mask(first, np.mean([found.probability for found in single], axis=0))
    points = [single[0].points_px, *(aligned(found.points_px, single[0].points_px) for found in single[1:])]
    return found_points(np.mean(points, axis=0))


def aligned(points_px: np.ndarray, reference_px: np.ndarray) -> np.ndarray:
    """Points [4, 2] with the ends of each pair in the order that is closer to the reference points."""
    pairs = []
    for pair, other in ((points_px[:2], reference_px[:2]), (points_px[2:], reference_px[2:])):
        kept, exchanged = (np.linalg.norm(each - other, axis=-1).sum() for each in (pair, pair[::-1]))
        pairs.append(pair if kept <= exchanged else pair[::-1])
    return np.concatenate(pairs)


def spread_of(found: Sequence[Found]) -> Spread:
    """The standard deviation (n - 1) of the lengths over several predictions."""
    lengths = np.array([each.lengths() for each in found]).reshape(-1, 3)
    defined = lengths[np.isfinite(lengths).all(axis=1)]
    deviation = defined.std(axis=0, ddof=1) if len(defined) > 1 else np.full(3, np.nan)
    return Spread(deviation, len(lengths), len(lengths) - len(defined))


def doubts_of(found: Found, pixels: np.ndarray, dropout: Spread, members: Spread, ranges: Ranges) -> list[str]:
    """What speaks against the measurement of an image uint8 [Y, X] without a border."""
    doubts = [*ranges.of_appearance(pixels, found.ellipse), *_shape_flags(found, pixels.shape)]
    spreads = np.stack([dropout.deviation_px, members.deviation_px]) / found.lengths()
    if (spreads > LARGEST_SPREAD).any() or (found.ellipse is not None and dropout.undefined + members.undefined):
        doubts.append(f"uncertain: a deviation over {100 * LARGEST_SPREAD:.0f} %, or predictions without an ellipse")
    return doubts


def notes_of(image: Image2D, pixel_size_mm: float | None, doubts: Sequence[str] = ()) -> list[str]:
    """What is to be known of an image and its pixel size, besides the doubts; it speaks against no measurement."""
    notes = [] if pixel_size_mm else ["no pixel size"]
    in_file = image.pixel_size_mm
    if in_file and pixel_size_mm and abs(in_file / pixel_size_mm - 1) > 0.01:
        notes.append(f"the file says {in_file:.4g} mm per pixel")
    return [*notes, *(note for note in image.notes if note not in doubts)]


def judged(row: Mapping, doubts: Sequence[str], notes: Sequence[str], age_days: int | None) -> dict:
    """The columns that depend on the flags: these, and the ages and z-scores, which a doubt leaves empty."""
    known = {"flagged": int(bool(doubts)), "flags": "; ".join([*doubts, *notes])}
    if row["hc_px"] == "":
        return known | {"no_gestational_age": "undefined"}
    if row["hc_mm"] == "":
        return known | {"no_gestational_age": "no pixel size"}
    if doubts:
        return known | {"no_gestational_age": "flagged"}
    return (known | head_ages.ages(row["bpd_mm"], row["hc_mm"])
            | head_ages.growth(row["bpd_mm"], row["hc_mm"], age_days))


def _shape_flags(found: Found, size_yx: tuple[int, int]) -> list[str]:
    if found.ellipse is None:
        return ["undefined: no ellipse fits"]
    flags, (rows, columns) = [], size_yx
    x, y = found.ellipse.contour(360).T
    if min(x.min(), y.min()) < -0.5 or x.max() > columns - 0.5 or y.max() > rows - 0.5:
        flags.append("extends beyond the image")
    bpd, ofd, _ = found.lengths()
    if not USUAL_RATIO[0] <= bpd / ofd <= USUAL_RATIO[1]:
        flags.append("unusual shape")
    if found.probability is None:
        lengths = np.linalg.norm(found.points_px[1::2] - found.points_px[::2], axis=-1)
        return flags + ["BPD and OFD points exchanged"] * bool(lengths[0] < lengths[1])
    mask, inside = mask_of(found), found.ellipse.mask(size_yx)
    overlap = 2 * np.count_nonzero(mask & inside) / max(np.count_nonzero(mask) + np.count_nonzero(inside), 1)
    return flags + ["mask is not elliptical"] * bool(overlap < LEAST_OVERLAP)


def mask_of(found: Found, threshold: float = 0.5) -> np.ndarray:
    """The largest component of the mask with its holes filled, bool [Y, X]."""
    return head_of_mask(found.probability >= threshold, 0)


def measurement_row(name: str, path: Path, found: Found, pixel_size_mm: float | None, dropout: Spread,
                    members: Spread) -> dict:
    """The row of `measurements.csv` without the columns of `judged`; undefined and unknown values are empty."""
    row = dict.fromkeys(COLUMNS, "") | {
        "case": name, "pixel_size_mm": pixel_size_mm or "", "samples": dropout.count,
        "samples_undefined": dropout.undefined, "members": members.count, "members_undefined": members.undefined,
        "file": str(Path(path).resolve())}
    for unit, scale in (("px", 1.0), ("mm", pixel_size_mm)):
        if scale:
            row |= {f"{key}_{unit}": rounded(value * scale, 3)
                    for key, value in zip(LENGTHS, found.lengths(), strict=True)}
            for spread, values in zip(SPREADS, (dropout, members), strict=True):
                row |= {f"{key}_sd_{spread}_{unit}": rounded(value * scale, 3)
                        for key, value in zip(LENGTHS, values.deviation_px, strict=True)}
    if found.ellipse is None:
        return row
    ellipse = found.ellipse
    return row | {
        "cephalic_index": rounded(ellipse.semi_minor_px / ellipse.semi_major_px, 4),
        "center_x_px": rounded(ellipse.center_px[0], 3), "center_y_px": rounded(ellipse.center_px[1], 3),
        "semi_major_px": rounded(ellipse.semi_major_px, 3), "semi_minor_px": rounded(ellipse.semi_minor_px, 3),
        "angle_degrees": rounded(np.degrees(ellipse.angle_rad), 2)}


def line_of(row: Mapping, half_mm: Mapping[str, float] = MappingProxyType({})) -> str:
    """The line that is printed: lengths, age and flags; a doubt comes first."""
    lengths = lengths_of(row, half_mm)
    if not lengths:
        return f"undefined ({row['flags']})"
    age = head_ages.age_text(row) if row["hc_mm"] != "" and not row["flagged"] else ""
    intervals = f" ({100 * COVERAGE:.0f} % intervals)" * bool(half_mm)
    measured = ", ".join(f"{key.upper()} {text}" for key, text in lengths.items()) + intervals
    parts = [measured, age, head_ages.growth_text(row)]
    return (f"{DOUBTFUL}: " * row["flagged"] + "; ".join(filter(None, parts))
            + f" ({row['flags']})" * bool(row["flags"]))


def half_widths_mm(intervals: Intervals | None, row: dict) -> dict[str, float]:
    """Half the interval of each length in millimetres; {} without intervals, outside of the sizes
    they are for, and of a flagged measurement."""
    if not intervals or row["hc_mm"] == "" or row["flagged"]:
        return {}
    return {key: percent / 100 * row[f"{key}_mm"] for key, percent in percent_of(intervals, row["hc_mm"]).items()}


def lengths_of(row: Mapping, half_mm: Mapping[str, float] = MappingProxyType({})) -> dict[str, str]:
    """BPD, OFD and HC in words, in millimetres if the pixel size is known, else in pixels; {} where undefined.

    Args:
      row: of measurements.csv.
      half_mm: half the interval of each length in millimetres, where it is known.
    """
    unit = "mm" if row["hc_mm"] != "" else "px"
    if row[f"hc_{unit}"] == "":
        return {}
    around = {key: f"± {half:.1f} " for key, half in half_mm.items()}
    return {key: f"{row[f'{key}_{unit}']:.1f} {around.get(key, '')}{unit}" for key in LENGTHS}


def in_space(points_px: np.ndarray | None) -> np.ndarray:
    """Points (x, y) as [4, 3] with z = 0; NaN where undefined."""
    return np.full((len(LANDMARKS), 3), np.nan) if points_px is None else np.pad(points_px, ((0, 0), (0, 1)))


def points_mm_of(found: Found, pixel_size_mm: float | None) -> dict[str, np.ndarray]:
    """The points in millimetres by name; none where they or the pixel size are unknown."""
    if not pixel_size_mm or found.points_px is None:
        return {}
    return dict(zip(LANDMARKS, in_space(found.points_px * pixel_size_mm), strict=True))


def levels(mask: np.ndarray) -> np.ndarray:
    """A mask as it is written, 0 and `INSIDE`."""
    return mask.astype(np.uint8) * INSIDE


def _write_files(out_dir: Path, name: str, grid: Volume, found: Found, mask: np.ndarray | None,
                 sector: tuple[slice, slice], row: dict, half_mm: Mapping[str, float] = MappingProxyType({})) -> None:
    """Writes the case's files; removes those of an earlier prediction that this one does not have."""
    overlay, mask_path, markups, image = (out_dir / file for file in OUTPUTS.files(name))
    pixel_size_mm = row["pixel_size_mm"] or None
    points_mm = points_mm_of(found, pixel_size_mm)
    if mask is not None:
        _write_mask(mask_path, mask)
    else:
        mask_path.unlink(missing_ok=True)
    if points_mm:
        curve = in_space(found.ellipse.contour(CURVE_POINTS) * pixel_size_mm) if found.ellipse else ()
        write_markups(markups, points_mm, (LANDMARKS[:2], LANDMARKS[2:]), curves={"head circumference": curve})
        write_volume(image, grid.array, grid)
    else:
        markups.unlink(missing_ok=True)
        image.unlink(missing_ok=True)
    _write_overlay(overlay, name, grid, found=found, mask=mask, sector=sector, row=row, half_mm=half_mm)


def _write_overlay(path: Path, name: str, grid: Volume, found: Found, mask: np.ndarray | None,
                   sector: tuple[slice, slice], row: dict, half_mm: Mapping[str, float]) -> None:
    """The image without its border, with the prediction, values and flags."""
    lengths, shift = lengths_of(row, half_mm), np.array([sector[1].start, sector[0].start])
    ellipse = found.ellipse and replace(found.ellipse, center_px=tuple(found.ellipse.center_px - shift))
    age = head_ages.age_text(row) if lengths else ""
    texts = (age, head_ages.growth_text(row), f"BPD and OFD {CONVENTION}; {CLINICAL}")
    head_overlay(path, grid.array[:, :, 0].T[sector], None if mask is None else mask[sector], ellipse,
                 None if found.points_px is None else found.points_px - shift, values=lengths,
                 lines=[text for text in texts if text], title=name,
                 judgement=Judgement(row["flags"], bool(row["flagged"]), row["pixel_size_mm"] or None))


def _write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes 0 and 255."""
    write_bytes(path, cv2.imencode(".png", levels(mask))[1].tobytes())  # cv2 may not notice a full disk
