"""Numbers of `hip`: Zeng et al., 3D U-net with Multi-level Deep Supervision, MLMI 2017.

    python train/hip.py --data hip.h5 --run_dir runs/hip --preset paper --c3d_weights FILE

What to expect with the paper's data and the public C3D file (Table 1): Dice 0.987, mean surface distance 0.22 mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfsono.config import MOST_VOXELS, Choices, check_rules, differs, one_of, ours, paper
from tfsono.sides import side_pairs


@dataclass(frozen=True)
class HipConfig:
    """Every number of the system; sections and equations are the paper's."""

    # Data
    label_names: tuple[str, ...] = ours((), "foreground labels in the order of the classes; () uses the cache's")
    orientation: str = ours("LPS", "file order not stated; volumes are reoriented to these axes without resampling")
    spacing_mm: tuple[float, ...] = ours((), "not stated; () keeps each volume's own, x,y,z resamples to it")
    test_cases: int = paper(10, "Sec. 3.1: 10 of 20")
    validation_cases: int = ours(0, "the paper has none; above 0, the weights with the best Dice on them are kept too")

    # Phantoms, where there is no dataset
    phantom_cases: int = paper(20, "Sec. 3.1")
    phantom_size: tuple[int, ...] = paper((300, 200, 100), "Sec. 3.2: about this size")
    phantom_spacing_mm: tuple[float, ...] = ours((0.6, 0.6, 1.2), "not stated; a field of view of 180x120x120 mm")

    # Patches
    patch: tuple[int, ...] = paper((64, 64, 64), "Sec. 3.2")
    batch: int = paper(2, "Sec. 3.2")
    patches_in_a_row: int = paper(10, "Sec. 3.2: n = 5 batches of 2 from one image, then the next image")
    foreground_share: float = ours(0.5, "sampling rule not stated; fraction of the patches that are drawn so that they "
                                        "contain foreground, the others anywhere; any number from 0 to 1")
    right_angles: bool = paper(True, "Sec. 3.1: 0, 90, 180, 270 degrees about z, with and without a flip of y: 8 "
                                     "versions")
    rotation_degrees: float = ours(0.0, "option: random rotation about each axis up to this angle; not in the paper")
    scaling: float = ours(0.0, "option: random scaling by up to this fraction; not in the paper")
    mirror_share: float = ours(0.0, "option: random flip of x with this probability; not in the paper")
    intensity: float = ours(0.0, "option: random gamma, bias field and noise of this strength; not in the paper")

    # Network
    architecture: str = ours("ds_u3", "Fig. 1 is missing; the depth of 3D U-Net agrees with C3D's widths; or lineage4")
    widths: tuple[int, ...] = ours((64, 128, 256, 512), "not stated; those of C3D's groups 1 to 4, whose kernels are "
                                                        "transferred")
    lower_widths: tuple[int, ...] = ours((64, 32), "deconvolutions of LowerCls; not stated")
    middle_widths: tuple[int, ...] = ours((32,), "deconvolution of MidCls; not stated")
    deep_supervision: bool = paper(True, "Sec. 2.1; false: UpperCls alone")
    norm_momentum: float = ours(0.9, "not stated; the co-author's code of the same months")
    norm_epsilon: float = ours(1e-5, "not stated; the co-author's code of the same months")
    norm_at_test: str = ours("tile", "not stated; each tile's own mean and variance, as 3D U-Net, which this paper "
                                     "extends, recommends for small batches; or moving, the averages of training")
    initial_deviation: float = paper(0.01, "Sec. 3.3: Gaussian, mean 0; 0 uses He's initialisation instead")
    recompute: bool = ours(False, "option: gradient checkpointing, less memory for more time; the same result")

    # Transfer
    c3d_weights: str = ours("", "Sec. 2.2 transfers C3D; a file from pretrained/README.md, or a run folder as a "
                                "substitute")
    c3d_axes: str = ours("hwt", "not stated; the axes of C3D's clips that become x, y, z: rows, columns, time; or wht: "
                                "columns, rows, time, as images are shown")

    # Loss
    loss: str = paper("cross_entropy", "Eq. 1, as a mean: a sum diverges at this rate; or cross_entropy_dice")
    branch_weights: tuple[float, ...] = paper((0.33, 0.67, 1.0), "Sec. 3.3: lower, middle, upper")
    weight_decay: float = paper(0.005, "Sec. 3.3, the lambda of Eq. 2; the gradient is 0.005 w, of kernels only")

    # Optimisation
    optimizer: str = paper("sgd", "Sec. 3.3; or adam")
    momentum: float = paper(0.9, "Sec. 3.3")
    learning_rate: float = paper(1e-3, "Sec. 3.3")
    schedule: str = paper("halving", "Sec. 3.3: halved every `halve_every` iterations; or cosine")
    halve_every: int = paper(3000, "Sec. 3.3")
    iterations: int = paper(14000, "Sec. 3.3")
    record_every: int = ours(400, "iterations between records (save, validate, log): one epoch of Sec. 3.2, 80 images "
                                  "times n = 5")
    early_stopping: int = ours(0, "option: stop after this many records without a better validation Dice; 0 is off")
    precision: str = ours("float32", "option: mixed_bfloat16 or mixed_float16")

    # Inference
    tiling: str = ours("paper", "overlap not stated; the co-author's rule: 432 tiles; or half, fast, whole")
    tile_weighting: str = paper("uniform", "Sec. 3.4: the average of the overlapping patches; or gaussian")
    tile_batch: int = ours(2, "tiles per forward pass; not stated")
    memory_gb: float = ours(0.0, "memory that `fast` may take; 0: 12 on a GPU, else half of the machine's, at most 12")
    mirror_at_test: bool = ours(False, "option: average with the prediction for the volume mirrored in x; train with "
                                       "mirror_share")
    largest_component: bool = paper(True, "Sec. 3.4: remove isolated small volumes")
    fill_holes: bool = paper(True, "Sec. 3.4: remove internal holes")
    outside_factor: float = ours(2.0, "`predict` refuses volumes whose voxels are this many times smaller or larger "
                                      "than in training, unless spacing_mm resamples them; at half the voxel size "
                                      "the Dice of hip fell from 0.95 to 0.26")

    # The run
    seed: int = ours(0, "not stated")
    deterministic: bool = ours(True, "the same command gives the same weights")

    @property
    def classes(self) -> int:
        """The background and the labels."""
        return len(self.label_names) + 1

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.iterations

    @property
    def stride(self) -> int:
        """The product of the poolings: sides of a patch are multiples of it."""
        return 8 if self.architecture == "ds_u3" else 16

    @property
    def reach(self) -> int:
        """A voxel's probabilities depend on no input voxel farther away than this, along an axis.

        Each 3x3x3 convolution adds its stride s, each pooling s at the high end, and each deconvolution to stride s
        2 s at the low and s at the high end: the sum of one end is that of the other.
        """
        return 55 if self.architecture == "ds_u3" else 104

    @property
    def heads(self) -> tuple[str, ...]:
        """The classifiers, from the coarsest to the main one; `branch_weights` has this order."""
        if not self.deep_supervision:
            return ("upper",)
        return ("lower", "middle", "upper") if self.architecture == "ds_u3" else ("lower", "middle", "near", "upper")

    @property
    def head_weights(self) -> dict[str, float]:
        """The weight of each classifier's loss (Eq. 2)."""
        return dict(zip(self.heads, self.branch_weights[-len(self.heads):], strict=True))

    def __post_init__(self):
        check_rules(self, _rules(self))


def _rules(config: HipConfig):
    return (
        (len(config.patch) == 3 and all(n > 0 and n % config.stride == 0 for n in config.patch),
         "patch", f"three positive multiples of {config.stride}, the product of the poolings"),
        (len(config.widths) == 4, "widths", "four numbers, one per level"),
        (len(config.lower_widths) == 2, "lower_widths", "two numbers"),
        (len(config.middle_widths) == 1, "middle_widths", "one number"),
        (len(config.branch_weights) >= len(config.heads), "branch_weights",
         f"one for each of {', '.join(config.heads)}"),
        (len(config.phantom_size) == 3 and min(config.phantom_size) > 0, "phantom_size", "three positive numbers"),
        (len(config.phantom_spacing_mm) == 3 and min(config.phantom_spacing_mm) > 0, "phantom_spacing_mm",
         "three positive numbers"),
        (len(config.spacing_mm) in (0, 3) and all(config.spacing_mm), "spacing_mm",
         "three positive numbers or none"),
        (not (config.mirror_at_test and side_pairs(config.label_names)), "mirror_at_test",
         "false: labels name left and right, which a mirror image exchanges"),
        (config.outside_factor > 1, "outside_factor", "above 1"),
        (config.batch > 0 and config.patches_in_a_row > 0, "batch", "positive, as patches_in_a_row"),
        (config.batch * math.prod(config.patch) <= MOST_VOXELS, "batch",
         f"at most {MOST_VOXELS} voxels in all patches"),
        (config.tile_batch > 0, "tile_batch", "above 0"),
        (config.memory_gb >= 0, "memory_gb", "at least 0"),
        (config.halve_every > 0, "halve_every", "above 0"),
        (config.learning_rate > 0, "learning_rate", "above 0"),
        (config.momentum < 1, "momentum", "at least 0 and under 1"),
        (0 < config.norm_momentum < 1, "norm_momentum", "between 0 and 1"),
        (config.mirror_share <= 1, "mirror_share", "between 0 and 1"),
        (0 <= config.foreground_share <= 1, "foreground_share", "between 0 and 1"),
        (0 <= config.scaling < 0.5, "scaling", "at least 0 and under 0.5"),
        one_of(config, "c3d_axes", ("hwt", "wht")),
        one_of(config, "architecture", ("ds_u3", "lineage4")),
        one_of(config, "norm_at_test", ("tile", "moving")),
        one_of(config, "loss", ("cross_entropy", "cross_entropy_dice")),
        one_of(config, "optimizer", ("sgd", "adam")),
        one_of(config, "schedule", ("halving", "cosine")),
        one_of(config, "precision", ("float32", "mixed_bfloat16", "mixed_float16")),
        one_of(config, "tiling", ("paper", "half", "fast", "whole")),
        one_of(config, "tile_weighting", ("uniform", "gaussian")),
        (config.record_every > 0 and config.iterations % config.record_every == 0, "iterations",
         f"a multiple of record_every ({config.record_every})"),
        (config.early_stopping == 0 or config.validation_cases > 0, "early_stopping",
         "0, or validation_cases above 0: it needs cases to validate on"),
    )


PRESETS = {
    "paper": {},
    "quick": {
        "phantom_size": differs((75, 51, 49), "paper: 300,200,100; the same field of view, coarser"),
        "phantom_spacing_mm": differs((2.4, 2.4, 2.4), "paper preset: 0.6,0.6,1.2; the same field of view, coarser"),
        "patch": differs((32, 32, 32), "paper: 64,64,64; smaller volumes, two CPU cores"),
        "widths": differs((16, 32, 64, 128), "paper: C3D's 64,128,256,512; two CPU cores"),
        "lower_widths": differs((16, 8), "paper preset: 64,32; two CPU cores"),
        "middle_widths": differs((8,), "paper preset: 32; two CPU cores"),
        "learning_rate": differs(5e-2, "paper: 0.001; there are 23 times fewer iterations"),
        "halve_every": differs(129, "paper: 3000; the same fraction of the iterations"),
        "iterations": differs(600, "paper: 14000; minutes on two CPU cores"),
        "record_every": differs(50, "paper preset: 400; a record every few seconds"),
        "tiling": differs("half", "paper preset: the 432-tile rule; half overlap is several times faster"),
    },
}

VARIANTS = {
    "paper": {},
    "no_deep_supervision": {
        "deep_supervision": differs(False, "paper: three classifiers; the ablation without the two branches"),
    },
    "lineage4": {
        "architecture": differs("lineage4", "paper: not stated; four poolings, as in the co-author's code"),
        "branch_weights": differs((0.3, 0.6, 0.9, 1.0), "paper: 0.33, 0.67, 1.0; one more branch, as in that code"),
    },
    "tuned": {
        "optimizer": differs("adam", "paper: SGD; converges in a tenth of the iterations"),
        "learning_rate": differs(2e-3, "paper: 0.001; found on real MR"),
        "schedule": differs("cosine", "paper: halved every 3000; falls to zero within a short training"),
        "loss": differs("cross_entropy_dice", "paper: cross-entropy; small structures count as much as large ones"),
        "initial_deviation": differs(0.0, "paper: Gaussian 0.01; He's initialisation preserves the variance"),
        "weight_decay": differs(0.0, "paper: 0.005; L2 weight decay does not work well with Adam"),
        "right_angles": differs(False, "paper: 8 versions; patients are not scanned upside down"),
        "rotation_degrees": differs(15.0, "paper: none; positions of patients vary this much"),
        "scaling": differs(0.15, "paper: none; sizes of patients vary this much"),
        "intensity": differs(0.1, "paper: none; scanners differ"),
        "patches_in_a_row": differs(1, "paper: 10; every patch of a batch comes from another image"),
        "norm_at_test": differs("moving", "paper preset: tile; better by 0.005 Dice on hippocampi, worse in noise"),
        "tile_weighting": differs("gaussian", "paper: uniform; predictions are best in the middle of a tile"),
        "tiling": differs("half", "paper preset: the 432-tile rule; the same result, faster"),
    },
}
VARIANTS["tuned_no_deep_supervision"] = {**VARIANTS["tuned"], **VARIANTS["no_deep_supervision"]}

REMOVED = {"c3d_time_axis": "z", "jit_compile": False}
AT_TEST = ("norm_at_test", "tiling", "memory_gb", "tile_weighting", "tile_batch", "mirror_at_test", "largest_component",
           "fill_holes")
ADDED = {"outside_factor": 2.0, "c3d_axes": "hwt", "memory_gb": 0.0}

HIP = Choices("hip", HipConfig, PRESETS, VARIANTS, removed=REMOVED, added=ADDED, at_test=AT_TEST)
