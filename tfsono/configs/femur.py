"""Numbers of `femur`: joint segmentation and landmark localisation of the fetal femur (BRNDC-D), BHI 2019.

    python train/femur.py --data femur.h5 --run_dir runs/brndc --preset quick --variant brndc --roi_run runs/roi

What to expect with the paper's data (Tables 1 and 2, BRNDC-D): DSC 91.0 %, tips 3.7 and 4.3 mm, length 0.87 mm.
A variant is a column of those tables; `unet_roi`, the first stage, finds where the others look. "The lineage" in a note
is the public code of the first author's group, of the same years.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfsono.config import Choices, check_rules, differs, one_of, ours, paper

NETWORKS = ("unet_roi", "unet_s", "unet_l", "brn", "brndc")


@dataclass(frozen=True)
class FemurConfig:
    """Every number of the system; sections and equations are the paper's."""

    # Data
    label_names: tuple[str, ...] = ours((), "foreground labels in the order of the classes; () takes the cache's")
    landmark_names: tuple[str, ...] = ours((), "landmarks in the order of the heatmaps; () takes the cache's")
    orientation: str = ours("LPS", "file order is not stated; volumes are turned to these axes, losslessly")
    spacing_mm: tuple[float, ...] = ours((), "the paper's volumes have 0.38 mm; () keeps each volume's own")
    test_cases: int = paper(20, "Sec. III-A: 20 of 50")
    validation_cases: int = ours(0, "the paper has none; with some, the best weights by their score are kept too")

    # Phantoms, where there is no dataset
    phantom_cases: int = paper(50, "Sec. III-A")
    phantom_size: tuple[int, ...] = paper((416, 416, 284), "Sec. III-A")
    phantom_spacing_mm: tuple[float, ...] = paper((0.38, 0.38, 0.38), "Sec. III-A")
    phantom_weeks: tuple[float, ...] = paper((23.0, 31.0), "Sec. III-A: gestational ages")

    # Region of interest
    roi_run: str = ours("", "run folder of unet_roi; without, the true boxes are used and every table says so")
    roi_margin: int = paper(30, "Sec. II-A: 30 voxels on each dimension, read as 30 on each side")
    roi_smallest_part: int = ours(20, "pixels: smaller parts of a slice do not count, or one of them inflates the box; "
                                      "0 counts all, as the text")
    roi_part: str = paper("all", "Sec. II-A: the boxes of all parts are merged; or largest, that of the largest")
    roi_ratio: float = paper(0.65, "Sec. III-A: the region is rescaled")
    roi_widths: tuple[int, ...] = ours((64, 128, 256, 512, 1024), "basic U-net, 3x3 kernels; widths in a lost figure")
    slice_batch: int = ours(8, "slices in a step of unet_roi; not stated")
    slice_augmentation: str = ours("random", "not stated; each slice turned, scaled and flipped within the region's "
                                             "limits; or none")
    roi_iterations: int = ours(19320, "not stated; about 20 epochs of all slices with bone and as many without")

    # Augmentation of the region
    augmentation: str = paper("versions", "Sec. III-A: 840 from 30: 28 versions of each; or random, or none")
    rotation_degrees: tuple[float, ...] = ours((10.0, 20.0), "either way, about a random axis; not stated")
    scales: tuple[float, ...] = ours((0.9, 1.1), "not stated; with rotations and none 7, times 4 flips of x and y: 28")

    flips: bool = paper(True, "Sec. III-A: flipping, of x and y; false where landmarks tell right from left")

    # Network
    network: str = paper("brndc", "Sec. II-B; or unet_roi, unet_s, unet_l, brn")
    widths: tuple[int, ...] = ours((32, 64, 128, 256), "in a lost figure; these fit 12 GB at 0.65 and not at 1")
    norm_momentum: float = ours(0.9, "not stated; the lineage")
    norm_epsilon: float = ours(1e-5, "not stated; the lineage")
    norm_at_test: str = ours("tile", "not stated; a volume's own mean and variance, as in training with a batch "
                                     "of 1; or moving, the averages of training; unet_roi takes these always")
    initial_deviation: float = ours(0.01, "not stated; the lineage; 0 takes He's initialisation, as unet_roi always")
    head_deviation: float = ours(0.01, "of the Gaussian that the last kernels start from; not stated; the lineage")
    recompute: bool = ours(False, "option: gradient checkpointing, less memory for more time; the same result")

    # Losses
    hybrid_loss: str = ours("corrected", "the lineage's Dice has no softmax and a mean for a sum; or lineage")
    dice_weight: float = paper(100.0, "Sec. II-C: theta")
    segmentation_weight: float = paper(1.0, "Eq. 2: alpha")
    heatmap_weight: float = paper(0.2, "Eq. 2: beta")
    centre_distance: bool = paper(True, "Eq. 1; false in the rows without it")
    centre_distance_weight: float = paper(0.5, "Eq. 2: gamma, inside beta's bracket")
    heatmap_sigma: float = ours(3.0, "voxels of the network's grid; not stated")
    centre_distance_unit: str = ours("diagonal", "of the region; in voxels, as Eq. 1, no gradient is left; or voxel")
    centre_distance_point: str = ours("soft_argmax", "Eq. 1's highest voxel has no gradient; or argmax")
    soft_argmax_beta: float = ours(50.0, "a soft-argmax without temperature gives the middle of the region")

    # Adversarial refinement
    start_from: str = ours("", "run folder of a trained brndc to refine; without, both stages are trained in this run")
    discriminator_widths: tuple[int, ...] = ours((32, 64, 128, 128, 256, 256), "Sec. II-D: 6 layers; widths not stated")
    adversarial_weight: float = ours(1.0, "Eq. 3's weight in the sum is not given")
    generator_loss: str = ours("non_saturating", "Eq. 3 prints 1 - log D, its equal but for a constant; or saturating")
    discriminator_noise: float = ours(0.05, "deviation, on both inputs, or exact truths are told from soft answers")
    adversarial_learning_rate: float = ours(1e-4, "not stated; the lineage")
    adversarial: bool = ours(False, "whether the stage is there: in brndc_d alone")
    adversarial_iterations: int = paper(4200, "Sec. III-A: 5 epochs of 840")

    # Optimisation; an epoch is 840 regions
    learning_rate: float = ours(1e-3, "not stated; the lineage")
    adam_beta_1: float = ours(0.5, "not stated; the lineage")
    iterations: int = paper(13440, "Sec. III-A: 16 epochs of 840, one region a step")
    record_every: int = ours(420, "half an epoch; save and record so often")
    early_stopping: int = ours(0, "option: stop after this many records without a better score; 0 is off")
    precision: str = ours("float32", "option: mixed_bfloat16 or mixed_float16")
    jit_compile: bool = ours(False, "option: XLA; nine times slower than without for 3D convolutions on a CPU")

    # Inference
    largest_component: bool = ours(True, "not stated; keep the largest part of the mask")
    fill_holes: bool = ours(True, "not stated")
    heatmap_decode: str = paper("argmax", "Sec. II-C: the point of highest intensity; or centroid, between the voxels")

    # The run
    seed: int = ours(0, "not stated")
    deterministic: bool = ours(True, "the same command gives the same weights")

    @property
    def classes(self) -> int:
        """The background and the labels."""
        return len(self.label_names) + 1

    @property
    def landmarks(self) -> int:
        return len(self.landmark_names)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The network's outputs: `mask` (logits) and `heatmaps`."""
        return {"unet_roi": ("mask",), "unet_s": ("mask",), "unet_l": ("heatmaps",)}.get(self.network,
                                                                                         ("mask", "heatmaps"))

    @property
    def stride(self) -> int:
        """The product of the poolings: sides are padded to multiples of it."""
        return 2 ** (len(self.roi_widths if self.network == "unet_roi" else self.widths) - 1)

    @property
    def branch_steps(self) -> int:
        """Steps before the adversarial stage: none where a trained network is refined."""
        if self.network == "unet_roi":
            return self.roi_iterations
        return 0 if self.start_from else self.iterations

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.branch_steps + (self.adversarial_iterations if self.adversarial else 0)

    def __post_init__(self):
        check_rules(self, _data_rules(self), _network_rules(self), _training_rules(self))


def _data_rules(config: FemurConfig):
    for name in ("phantom_size", "phantom_spacing_mm"):
        values = getattr(config, name)
        yield len(values) == 3 and min(values) > 0, name, "three positive numbers"
    yield (len(config.phantom_weeks) == 2 and 20 <= config.phantom_weeks[0] <= config.phantom_weeks[1] <= 40,
           "phantom_weeks", "two numbers from 20 to 40, the lowest and the highest")
    yield len(config.spacing_mm) in (0, 3), "spacing_mm", "three numbers or none"
    yield config.test_cases >= 0 and config.validation_cases >= 0, "test_cases", "0 or more, as validation_cases"
    yield config.roi_margin >= 0, "roi_margin", "0 or more"
    yield config.roi_smallest_part >= 0, "roi_smallest_part", "0 or more"
    yield one_of(config, "roi_part", "all", "largest")
    yield 0 < config.roi_ratio <= 1, "roi_ratio", "above 0 and up to 1"
    yield one_of(config, "augmentation", "versions", "random", "none")
    yield one_of(config, "slice_augmentation", "random", "none")
    yield all(0 < angle <= 180 for angle in config.rotation_degrees), "rotation_degrees", "above 0 and up to 180"
    yield all(0.5 <= scale <= 2 for scale in config.scales), "scales", "between 0.5 and 2"


def _network_rules(config: FemurConfig):
    yield one_of(config, "network", *NETWORKS)
    yield len(config.widths) == 4 and min(config.widths) > 0, "widths", "four positive numbers, one a level"
    yield len(config.roi_widths) in (3, 4, 5) and min(config.roi_widths) > 0, "roi_widths", "three to five numbers"
    yield len(config.discriminator_widths) == 6, "discriminator_widths", "six numbers"
    yield one_of(config, "norm_at_test", "tile", "moving")
    yield 0 < config.norm_momentum < 1, "norm_momentum", "between 0 and 1"
    yield one_of(config, "heatmap_decode", "argmax", "centroid")
    yield not config.adversarial or config.network == "brndc", "adversarial", "false: the stage is of brndc alone"
    yield (not config.start_from or config.adversarial, "start_from",
           "none: only the adversarial stage starts from a trained network")
    yield not (config.roi_run and config.network == "unet_roi"), "roi_run", "none: this is the first stage itself"


def _training_rules(config: FemurConfig):
    yield one_of(config, "hybrid_loss", "corrected", "lineage")
    yield one_of(config, "centre_distance_unit", "diagonal", "voxel")
    yield one_of(config, "centre_distance_point", "soft_argmax", "argmax")
    yield one_of(config, "generator_loss", "non_saturating", "saturating")
    yield one_of(config, "precision", "float32", "mixed_bfloat16", "mixed_float16")
    for name in ("dice_weight", "segmentation_weight", "heatmap_weight", "centre_distance_weight", "adversarial_weight",
                 "discriminator_noise", "iterations", "adversarial_iterations"):
        yield getattr(config, name) >= 0, name, "0 or more"
    for name in ("heatmap_sigma", "soft_argmax_beta", "learning_rate", "adversarial_learning_rate", "slice_batch",
                 "record_every", "roi_iterations"):
        yield getattr(config, name) > 0, name, "above 0"
    yield 0 <= config.adam_beta_1 < 1, "adam_beta_1", "at least 0 and under 1"
    yield (config.steps > 0 and config.steps % config.record_every == 0, "record_every",
           f"a divisor of all {config.steps} steps")
    yield (config.early_stopping == 0 or config.validation_cases > 0, "early_stopping",
           "0, or validation_cases above 0: it needs cases to validate on")


PRESETS = {
    "paper": {},
    "quick": {
        "phantom_size": differs((104, 104, 71), "paper: 416,416,284; the same field of view, coarser"),
        "phantom_spacing_mm": differs((1.52, 1.52, 1.52), "paper: 0.38; the same field of view, coarser"),
        "roi_margin": differs(8, "paper: 30; about as many millimetres"),
        "roi_smallest_part": differs(3, "paper preset: 20; coarser pixels"),
        "roi_part": differs("largest", "paper: all; a training of minutes finds false parts"),
        "roi_ratio": differs(1.0, "paper: 0.65; the volume is coarse already"),
        "roi_widths": differs((8, 16, 32, 64), "paper preset: 64 to 1024; two CPU cores"),
        "roi_iterations": differs(1500, "paper preset: 19320; two CPU cores"),
        "widths": differs((8, 16, 32, 64), "paper preset: 32 to 256; two CPU cores"),
        "discriminator_widths": differs((8, 16, 32, 32, 64, 64), "paper preset: 32 to 256; two CPU cores"),
        "initial_deviation": differs(0.0, "paper preset: 0.01; He's, as a short training has no time to grow"),
        "centre_distance_weight": differs(0.05, "paper: 0.5; of flat maps it is above all else, and they learn later"),
        "iterations": differs(1800, "paper: 13440; minutes on two cores"),
        "adversarial_iterations": differs(600, "paper: 4200; a third of the others, as there"),
        "record_every": differs(60, "paper preset: 420; a record every half minute"),
    },
}

VARIANTS = {
    "brndc": {},
    "unet_roi": {
        "network": differs("unet_roi", "paper: the first stage, Sec. II-A"),
    },
    "unet_s": {
        "network": differs("unet_s", "paper: Table 1, the segmentation branch alone"),
    },
    "unet_l": {
        "network": differs("unet_l", "paper: Table 2, the localisation branch alone"),
        "centre_distance": differs(False, "paper: Eq. 1; this row is without"),
    },
    "brn": {
        "network": differs("brn", "paper: Tables 1 and 2, both branches without cross connections"),
        "centre_distance": differs(False, "paper: Eq. 1; this row is without"),
    },
    "brnd": {
        "network": differs("brn", "paper: Tables 1 and 2, both branches without cross connections"),
    },
    "brndc_d": {
        "adversarial": differs(True, "paper: Sec. II-D, the last row"),
    },
}

FEMUR = Choices("femur", FemurConfig, PRESETS, VARIANTS)
