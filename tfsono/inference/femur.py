"""`femur` from a raw volume to the region, the mask and the landmarks on its own grid, in one graph.

The first stage segments every slice, and the box around its mask is enlarged (Sec. II-A). This region is rescaled,
standardised and padded, the second stage predicts its mask and landmarks, these are resampled to the volume's grid, and
the mask is postprocessed there. With more passes the region is read again, in a box that holds the second stage's mask
too: its mask alone may have less of the bone than the first stage's. The ends of the mask are a second opinion on two
landmarks (`mask_ends`).
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import tensorflow as tf

from tfsono.geometry.heatmaps import decoded
from tfsono.inference.components import Postprocessing, postprocessed
from tfsono.inference.mask_ends import second_opinion
from tfsono.inference.peaks import member_outputs, peak_outputs
from tfsono.inference.resample import at_spacing, padded, resample_linear, resampled_arg_max, rescaled_size
from tfsono.layers.standardise import standardise

PART_SIDE = 128  # voxels: the grid on which the connected parts of a volume are found
LARGE = 0.1  # share of the largest part's voxels from which a part counts: fragments of a bone that a shadow divides
VOLUME = tf.TensorSpec([None, None, None], tf.float32, "volume")
SPACING_MM = tf.TensorSpec([3], tf.float32, "spacing_mm")
BOX = tf.TensorSpec([6], tf.int32, "box")


@dataclass(frozen=True)
class RegionFinder:
    """The first stage: slices along z -> voxels of bone.

    Attributes:
      network: standardised slices [B, X, Y, channels] -> {"mask": logits [B, X, Y, classes]}; the channels are the
        slice and its neighbours along z.
      stride: sides are padded to multiples of it.
      batch: slices in one pass.
      smallest_part: smaller parts of a slice, in pixels, are excluded; 0 excludes none.
      part: of the volume: `all` the parts of its slices, as the paper merges their boxes, the `largest` alone, or the
        `large` ones, which have at least a tenth of the largest one's voxels.
      every: the box is found in every slice, as in the paper, or in every second one, and so on.
    """

    network: keras.Model
    stride: int
    batch: int
    smallest_part: int
    part: str = "all"
    every: int = 1


@dataclass(frozen=True)
class RegionReader:
    """The second stage: a region -> its mask and its landmarks.

    Attributes:
      network: standardised regions [B, X, Y, Z, 1] -> {"mask": logits, "heatmaps": [B, X, Y, Z, K]}, or one of the two.
      stride: sides are padded to multiples of it.
      margin: voxels by which the box is enlarged on each side.
      ratio: by which the region is rescaled.
      decode: how a heatmap becomes a point: `argmax`, `centroid` or `wide_centroid`.
      sigma: of the Gaussian targets of training, in voxels of the network's grid, for `wide_centroid`.
      passes: how often the region is read; from the second time on its box holds the mask found before too.
      from_mask: whether doubtful landmarks are taken from the ends of the mask.
    """

    network: keras.Model
    stride: int
    margin: int
    ratio: float
    decode: str
    sigma: float = 0.0
    passes: int = 1
    from_mask: bool = False


class SliceModule(tf.Module):
    """The first stage alone: a raw volume -> the mask of its slices, and the box around its large parts."""

    def __init__(self, finder: RegionFinder, spacing_mm: tuple[float, ...] = (),
                 postprocessing: Postprocessing | None = None):
        """`spacing_mm`: of the network's training; () for each volume's own. `postprocessing`: of the mask alone."""
        super().__init__(name="slice_module")
        self.postprocessing = postprocessing
        self.finder = finder
        self.network = finder.network  # so that its variables are tracked
        self.spacing_mm = tuple(spacing_mm)

    @tf.function(input_signature=[VOLUME, SPACING_MM], autograph=False)
    def __call__(self, volume, spacing_mm):
        """{"mask": [X, Y, Z] uint8, "box": [6] int32, first and last + 1 voxel of each axis, "found": boolean}.

        Where nothing is found the box is the whole volume.
        """
        native = tf.shape(volume)
        mask = slice_mask(self.finder, at_spacing(volume, spacing_mm, self.spacing_mm), 1)
        box, found = box_of_mask(self.finder, mask[:, :, ::self.finder.every], tf.shape(mask)[2])
        return {"mask": postprocessed(nearest(mask, native), self.postprocessing),
                "box": box_on(box, tf.shape(mask), native), "found": found}


class FemurModule(tf.Module):
    """A raw volume of any size and its spacing -> box, mask and landmarks."""

    def __init__(self, reader: RegionReader, finder: RegionFinder | None, spacing_mm: tuple[float, ...] = (),
                 postprocessing: Postprocessing | None = None):
        """Takes the parts.

        Args:
          reader: the second stage.
          finder: the first stage; None takes the whole volume.
          spacing_mm: of the networks' training; () for each volume's own.
          postprocessing: of the mask; None for the arg-max itself.
        """
        super().__init__(name="femur_module")
        self.postprocessing = postprocessing
        self.reader, self.finder = reader, finder
        self.networks = [reader.network] + ([finder.network] if finder else [])  # so that their variables are tracked
        self.spacing_mm = tuple(spacing_mm)

    @tf.function(input_signature=[VOLUME, SPACING_MM], autograph=False)
    def __call__(self, volume, spacing_mm):
        """The prediction on the grid of a `volume` [X, Y, Z] float32, raw intensities, any size.

        Returns:
          "box": [6] int32, first and last + 1 voxel of each axis, before it is enlarged, of the last pass; the whole
          volume where nothing was found; "found": boolean; and, by the network's outputs, "mask": [X, Y, Z] uint8,
          "points_vox": [K, 3] float32, `peak_outputs` of the heatmaps and of an ensemble `member_outputs`. With a mask
          and two landmarks also "ends_vox" [2, 3] and "doubtful" [2] of `second_opinion`.
        """
        native = tf.shape(volume)
        volume = at_spacing(volume, spacing_mm, self.spacing_mm)
        size = tf.shape(volume)
        box, found = tf.concat([tf.zeros(3, tf.int32), size], 0), tf.constant(False)
        if self.finder:
            box, found = box_of_mask(self.finder, slice_mask(self.finder, volume, self.finder.every), size[2])
        voxel_mm = on_grid(spacing_mm, native, size)
        held = self._read(volume, box, voxel_mm)
        for _ in range(self.reader.passes - 1 if "mask" in held else 0):
            again, some = box_of_voxels(largest_part(held["mask"] > 0))
            both = tf.concat([tf.minimum(box[:3], again[:3]), tf.maximum(box[3:], again[3:])], 0)
            box = tf.where(some, tf.where(found, both, again), box)
            held = self._read(volume, box, voxel_mm)
        return {**self._native(held, size, native, spacing_mm), "box": box_on(box, size, native), "found": found}

    @tf.function(input_signature=[VOLUME, SPACING_MM, BOX], autograph=False)
    def predict_in(self, volume, spacing_mm, box):
        """As `__call__`, in a given box: [6] int32, first and last + 1 voxel, before it is enlarged."""
        native = tf.shape(volume)
        volume = at_spacing(volume, spacing_mm, self.spacing_mm)
        size = tf.shape(volume)
        found = self._read(volume, box_on(box, native, size), on_grid(spacing_mm, native, size))
        found = self._native(found, size, native, spacing_mm)
        return {**found, "box": tf.convert_to_tensor(box), "found": tf.constant(True)}

    def _read(self, volume, box, voxel_mm):
        """The second stage in a box of the volume, of voxels [3], enlarged and clipped at its border."""
        reader, size = self.reader, tf.shape(volume)
        start = tf.maximum(box[:3] - reader.margin, 0)
        extent = tf.minimum(box[3:] + reader.margin, size) - start
        region = tf.slice(volume, start, extent)
        scaled = rescaled_size(extent, reader.ratio)
        image, valid = padded(resample_linear(region, scaled), reader.stride)
        prediction = reader.network(standardise(image, valid), training=False)
        found = {}
        if "mask" in prediction:
            probabilities = tf.nn.softmax(tf.cast(prediction["mask"][0], tf.float32))
            inner = resampled_arg_max(probabilities[:scaled[0], :scaled[1], :scaled[2]], extent)
            found["mask"] = tf.pad(inner, tf.stack([start, size - start - extent], 1))
        if "heatmaps" in prediction:
            found |= self._landmarks(prediction, start, extent, scaled, voxel_mm)
        return found

    def _landmarks(self, prediction: dict, start, extent, scaled, voxel_mm) -> dict:
        """The landmarks of the region of `extent` voxels from `start`, which the network has on a grid `scaled`."""
        reader = self.reader
        step = tf.cast(extent, tf.float32) / tf.cast(scaled, tf.float32)

        def inside(maps):
            return tf.cast(maps, tf.float32)[:, :scaled[0], :scaled[1], :scaled[2]]

        def points(maps):
            return (decoded(maps, reader.decode, reader.sigma) + 0.5) * step - 0.5 + tf.cast(start, tf.float32)

        maps, cell_mm = inside(prediction["heatmaps"]), voxel_mm * step
        found = {"points_vox": points(maps)[0], **peak_outputs(maps, cell_mm, reader.sigma * tf.reduce_mean(cell_mm))}
        if "member_heatmaps" in prediction:
            found |= member_outputs(points(inside(prediction["member_heatmaps"][0])), voxel_mm)
        return found

    def _native(self, found: dict, size, native, spacing_mm) -> dict:
        """A prediction on the network's grid, resampled to the volume's own; and the second opinion."""
        held = dict(found)
        if "mask" in held:
            held["mask"] = postprocessed(nearest(held["mask"], native), self.postprocessing)
        for points in [name for name in ("points_vox", "member_points_vox") if name in held]:
            held[points] = (held[points] + 0.5) * on_grid(1.0, native, size) - 0.5
        if "mask" in held and "points_vox" in held and held["points_vox"].shape[0] == 2:
            opinion = second_opinion(held["mask"], held["points_vox"], held["peaks"], spacing_mm)
            if self.reader.from_mask:
                held["points_vox"] = tf.where(opinion["doubtful"][:, None], opinion["ends_vox"], held["points_vox"])
            held |= opinion
        return held


def on_grid(spacing_mm, size, new_size):
    """The voxels [3] of a grid of `new_size` over the extent of one of `size` with `spacing_mm`."""
    return spacing_mm * tf.cast(size, tf.float32) / tf.cast(new_size, tf.float32)


def nearest(mask, size):
    """A mask [X, Y, Z] resampled to another grid over the same extent, nearest neighbour."""
    for axis in range(3):
        count, new = tf.shape(mask)[axis], size[axis]
        place = (tf.range(new, dtype=tf.float64) + 0.5) * tf.cast(count, tf.float64) / tf.cast(new, tf.float64)
        mask = tf.gather(mask, tf.clip_by_value(tf.cast(tf.floor(place), tf.int32), 0, count - 1), axis=axis)
    return mask


def box_on(box, size, new_size):
    """A box [6] of one grid on another one over the same extent, rounded outwards."""
    ratio = tf.tile(tf.cast(new_size, tf.float64) / tf.cast(size, tf.float64), [2])
    ends = tf.cast(box, tf.float64) * ratio
    start = tf.cast(tf.floor(ends[:3] + 1e-6), tf.int32)
    return tf.concat([start, tf.minimum(tf.cast(tf.math.ceil(ends[3:] - 1e-6), tf.int32), new_size)], 0)


def slice_mask(finder: RegionFinder, volume, every: int):
    """The first stage's mask [X, Y, Z / every] uint8 of every so many slices along z.

    A batch's slices are spread over the volume, for networks that normalise them by the batch's statistics.
    """
    size, channels = tf.shape(volume), finder.network.input.shape[-1]
    slices = tf.transpose(volume, [2, 0, 1])
    beyond = tf.stack([[0, 0], [0, -size[0] % finder.stride], [0, -size[1] % finder.stride], [0, 0]])
    places = tf.range(0, size[2], every)
    batches = -(-tf.size(places) // finder.batch)

    def prediction(batch):
        near = places[batch::batches, None] + tf.range(channels) - channels // 2
        part = tf.gather(slices, tf.clip_by_value(near, 0, size[2] - 1))
        part = tf.transpose(part, [0, 2, 3, 1])
        image, valid = tf.pad(part, beyond), tf.pad(tf.ones_like(part), beyond)
        logits = finder.network(standardise(image, valid), training=False)["mask"]
        return tf.cast(tf.argmax(logits, -1, tf.int32), tf.uint8)[:, :size[0], :size[1]]

    held = tf.TensorArray(tf.uint8, batches, infer_shape=False, element_shape=[None, None, None])
    _, held = tf.while_loop(
        lambda index, _: index < batches,
        lambda index, held: (index + 1, held.write(index, prediction(index))), (0, held), parallel_iterations=1)
    number = tf.range(tf.size(places))
    order = tf.argsort(number % batches, stable=True)  # of the slices, by batch
    return tf.transpose(tf.gather(held.concat(), tf.argsort(order)), [1, 2, 0])


def large_parts(voxels, smallest: int):
    """The voxels [X, Y, Z] whose 8-connected part of their slice along z has `smallest` pixels or more.

    `smallest` steps of a maximum filter spread every pixel's number over its part. A smaller part then holds a single
    number; in a larger one every pixel has a number that many share, or that meets another.
    """
    if smallest < 2:
        return voxels
    box, _ = box_of_voxels(voxels)  # usually a small part of the volume
    start, end = box[:3], tf.shape(voxels) - box[3:]
    inner = tf.slice(voxels, start, box[3:] - start)
    return tf.pad(_large_parts(inner, smallest), tf.stack([start, end], 1))


def _large_parts(voxels, smallest: int):
    slices = tf.transpose(voxels, [2, 0, 1])[..., None]
    count, rows, columns = tf.unstack(tf.shape(slices)[:3])
    inside = tf.cast(slices, tf.float32)
    # Exact in float32: a slice has fewer than 2^24 pixels.
    numbers = tf.reshape(tf.range(1, rows * columns + 1, dtype=tf.float32), [1, rows, columns, 1]) * inside
    numbers = tf.while_loop(lambda step, _: step < smallest,
                            lambda step, held: (step + 1, tf.nn.max_pool2d(held, 3, 1, "SAME") * inside),
                            (0, numbers))[1]
    lowest = -tf.nn.max_pool2d(tf.where(slices, -numbers, -tf.float32.max), 3, 1, "SAME")
    meets = slices & ((tf.nn.max_pool2d(numbers, 3, 1, "SAME") != numbers) | (lowest != numbers))
    # One number for every part of every slice; 0 outside.
    width = rows * columns + 1
    index = tf.cast(numbers[..., 0], tf.int32) + width * tf.range(count)[:, None, None]
    flat = tf.reshape(index, [-1])
    pixels = tf.math.unsorted_segment_sum(tf.ones_like(flat), flat, count * width)
    met = tf.math.unsorted_segment_max(tf.cast(tf.reshape(meets, [-1]), tf.int32), flat, count * width)
    kept = tf.reshape((tf.gather(pixels, flat) >= smallest) | (tf.gather(met, flat) > 0), tf.shape(index))
    return tf.transpose(slices[..., 0] & kept, [1, 2, 0])


def counted_voxels(finder: RegionFinder, mask):
    """The voxels [X, Y, Z] of the first stage's mask that the box encloses."""
    voxels = large_parts(mask > 0, finder.smallest_part)
    if finder.part == "all":
        return voxels
    return largest_part(voxels, 1.0 if finder.part == "largest" else LARGE)


def box_of_mask(finder: RegionFinder, mask, slices):
    """The box [6] of a volume of so many slices, and whether anything was found, by the mask of each `every`-th slice.

    It reaches up to the next slice without bone.
    """
    box, found = box_of_voxels(counted_voxels(finder, mask))
    start = tf.maximum((box[2] - 1) * finder.every + 1, 0)
    stop = tf.minimum(box[5] * finder.every, slices)
    return tf.concat([box[:2], [start], box[3:5], [stop]], 0), found


def largest_part(voxels, share: float = 1.0):
    """The voxels [X, Y, Z] of the largest 26-connected part, or of all with a share of it.

    Parts are found on a grid of at most `PART_SIDE` voxels a side, on which close ones merge: a maximum filter spreads
    every voxel's number until nothing changes, which takes as many steps as a part is long.
    """
    factor = -(-tf.reduce_max(tf.shape(voxels)) // PART_SIDE)
    size = -(-tf.shape(voxels) // factor)
    padded = tf.pad(voxels, tf.stack([tf.zeros(3, tf.int32), size * factor - tf.shape(voxels)], 1))
    counts = tf.cast(padded, tf.int32)
    for axis in range(3):  # sums over the cells of the coarser grid
        shape = tf.shape(counts)
        counts = tf.reduce_sum(tf.reshape(counts, tf.concat(
            [shape[:axis], [shape[axis] // factor, factor], shape[axis + 1:]], 0)), axis + 1)
    inside = tf.cast(counts > 0, tf.float32)[None, ..., None]
    numbers = tf.reshape(tf.range(1, tf.size(inside) + 1, dtype=tf.float32), tf.shape(inside)) * inside  # < 2^24
    _, numbers = tf.while_loop(
        lambda before, now: tf.reduce_any(before != now),
        lambda before, now: (now, tf.nn.max_pool3d(now, 3, 1, "SAME") * inside),
        (tf.zeros_like(numbers), numbers))
    numbers = tf.cast(numbers[0, ..., 0], tf.int32)
    sums = tf.math.unsorted_segment_sum(tf.reshape(counts, [-1]), tf.reshape(numbers, [-1]), tf.size(numbers) + 1)
    if share < 1:
        large = tf.cast(sums, tf.float32) >= share * tf.cast(tf.reduce_max(sums), tf.float32)
        kept = tf.gather(large, numbers) & (counts > 0)
    else:
        kept = (numbers == tf.argmax(sums, output_type=tf.int32)) & (counts > 0)
    for axis in range(3):
        kept = tf.repeat(kept, factor, axis=axis)
    return voxels & kept[:tf.shape(voxels)[0], :tf.shape(voxels)[1], :tf.shape(voxels)[2]]


def box_of_voxels(voxels):
    """The bounding box [6] int32, first and last + 1 of each axis, and whether there is any voxel; without one, all."""
    size, ends = tf.shape(voxels), []
    for axis in range(3):
        held = tf.cast(tf.where(tf.reduce_any(voxels, axis=[a for a in range(3) if a != axis]))[:, 0], tf.int32)
        empty = tf.equal(tf.size(held), 0)
        held = tf.cond(empty, lambda axis=axis: tf.stack([0, size[axis] - 1]), lambda held=held: held)
        ends.append((tf.reduce_min(held), tf.reduce_max(held) + 1))
    return tf.stack([start for start, _ in ends] + [stop for _, stop in ends]), tf.reduce_any(voxels)
