"""Numbers of `femur`: joint segmentation and landmark localisation of the fetal femur (BRNDC-D), BHI 2019.

    python train/femur.py --data femur.h5 --run_dir runs/brndc --preset quick --variant brndc --roi_run runs/roi

What to expect with the paper's data (Tables 1 and 2, BRNDC-D): DSC 91.0 %, tips 3.7 and 4.3 mm, length 0.87 mm.
A variant is a column of those tables; `unet_roi`, the first stage, finds the region for the others. "The lineage" in a
note is the public code of the first author's group, of the same years.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfsono.config import Choices, check_rules, differs, one_of, ours, paper

NETWORKS = ("unet_roi", "unet_s", "unet_l", "brn", "brndc")


@dataclass(frozen=True)
class FemurConfig:
    """Every number of the system; sections and equations are the paper's."""

    # Data
    label_names: tuple[str, ...] = ours((), "foreground labels in the order of the classes; () uses the cache's")
    landmark_names: tuple[str, ...] = ours((), "landmarks in the order of the heatmaps; () uses the cache's")
    orientation: str = ours("LPS", "file order not stated; volumes are reoriented to these axes without resampling")
    spacing_mm: tuple[float, ...] = ours((), "the paper's volumes have 0.38 mm; () keeps each volume's own")
    test_cases: int = paper(20, "Sec. III-A: 20 of 50")
    validation_cases: int = ours(0, "the paper has none; above 0, the weights with the best score on them are kept too")

    # Phantoms, where there is no dataset
    phantom_cases: int = paper(50, "Sec. III-A")
    phantom_size: tuple[int, ...] = paper((416, 416, 284), "Sec. III-A")
    phantom_spacing_mm: tuple[float, ...] = paper((0.38, 0.38, 0.38), "Sec. III-A")
    phantom_weeks: tuple[float, ...] = paper((23.0, 31.0), "Sec. III-A: gestational ages")

    # Region of interest
    roi_run: str = ours("", "run folder of unet_roi; without one, boxes of the reference masks are used, and every "
                            "table says so")
    roi_margin: int = paper(30, "Sec. II-A: 30 voxels in each dimension, read as 30 on each side")
    roi_smallest_part: int = ours(20, "pixels; smaller components of a slice are ignored, since a single one inflates "
                                      "the box; 0 counts all, as the text does")
    roi_part: str = paper("all", "Sec. II-A: the boxes of all components are merged; or largest, that of the largest; "
                                  "or large, those with a tenth of its voxels or more")
    roi_every: int = paper(1, "Sec. II-A: every slice; 2 finds the region in every second slice, in half the time")
    roi_ratio: float = paper(0.65, "Sec. III-A: the region is rescaled")
    roi_widths: tuple[int, ...] = ours((64, 128, 256, 512, 1024), "basic U-net, 3x3 kernels; the figure with its "
                                                                  "widths is lost")
    roi_slices: int = paper(1, "Sec. II-A: each slice alone; 3: with its two neighbours as channels")
    roi_average_batches: int = ours(0, "option: before each record, unet_roi's averages become the mean of this many "
                                       "batches with the weights of that record; 0 keeps those of training")
    roi_passes: int = paper(1, "Sec. II-A; 2: the region is read a second time, in a box that holds the second stage's "
                               "own mask too, and so on; not by unet_l, which has none")
    roi_norm_at_test: str = ours("moving", "not stated; unet_roi's averages of training; or batch, the mean and "
                                           "variance of slice_batch slices spread over the volume, as in training")
    slice_batch: int = ours(8, "slices per step of unet_roi; not stated")
    slice_augmentation: str = ours("random", "not stated; slices are rotated, scaled and flipped within the limits of "
                                             "the region's augmentation; or none")
    roi_iterations: int = ours(19320, "not stated; about 20 epochs of all slices with bone and as many without")

    # Augmentation of the region
    augmentation: str = paper("versions", "Sec. III-A: 840 from 30: 28 versions of each; or random, or none")
    rotation_degrees: tuple[float, ...] = ours((10.0, 20.0), "in both directions, about a random axis; not stated")
    scales: tuple[float, ...] = ours((0.9, 1.1), "not stated; 4 rotations, 2 scales and none are 7, times 4 flips of x "
                                                 "and y: 28")

    flips: bool = paper(True, "Sec. III-A: flips of x and y; names that differ in left and right alone are exchanged")
    region_jitter: float = ours(0.0, "option: the second stage is trained in boxes of the reference, and tested in "
                                     "those of the first stage; above 0 its boxes are moved and scaled in training by "
                                     "up to this fraction of their sides, such as 0.2")

    # Network
    network: str = paper("brndc", "Sec. II-B; or unet_roi, unet_s, unet_l, brn")
    widths: tuple[int, ...] = ours((32, 64, 128, 256), "the figure is lost; these fit 12 GB at ratio 0.65 and not at 1")
    norm_momentum: float = ours(0.9, "not stated; the lineage")
    norm_epsilon: float = ours(1e-5, "not stated; the lineage")
    norm_at_test: str = ours("tile", "not stated; each volume's own mean and variance, as in training with a batch of "
                                     "1; or moving, the averages of training; unet_roi has roi_norm_at_test")
    initial_deviation: float = ours(0.01, "not stated; the lineage; 0 uses He's initialisation, as unet_roi does")
    head_deviation: float = ours(0.01, "of the Gaussian that initialises the last kernels; not stated; the lineage")
    recompute: bool = ours(False, "option: gradient checkpointing, less memory for more time; the same result")

    # Losses
    hybrid_loss: str = ours("corrected", "the lineage's Dice omits the softmax and has a mean in place of a sum; or "
                                         "lineage")
    dice_weight: float = paper(100.0, "Sec. II-C: theta")
    segmentation_weight: float = paper(1.0, "Eq. 2: alpha")
    heatmap_weight: float = paper(0.2, "Eq. 2: beta")
    centre_distance: bool = paper(True, "Eq. 1, of soft-argmax points, in diagonals of the region; false in the rows "
                                        "without it")
    centre_distance_weight: float = paper(0.5, "Eq. 2: gamma, inside beta's bracket")
    centre_distance_from_peak: float = ours(0.0, "option: Eq. 1 only for landmarks whose map exceeds this, such as "
                                                 "0.3: the centre of an untrained map is that of its noise; any number "
                                                 "from 0, which takes all")
    heatmap_sigma: float = ours(3.0, "voxels of the network's grid; not stated")
    soft_argmax_beta: float = ours(50.0, "of Eq. 1; a soft-argmax without temperature gives the middle of the region")

    # Adversarial refinement
    start_from: str = ours("", "run folder of a trained brndc to refine; without one, both stages are trained in this "
                               "run")
    discriminator_widths: tuple[int, ...] = ours((32, 64, 128, 128, 256, 256), "Sec. II-D: 6 layers; widths not stated")
    adversarial_weight: float = ours(1.0, "Eq. 3's weight in the sum is not given")
    discriminator_noise: float = ours(0.05, "deviation of the noise on both inputs; without it, reference masks are "
                                            "recognised by their exact 0 and 1; any number, 0 is off")
    adversarial_learning_rate: float = ours(1e-4, "not stated; the lineage")
    adversarial: bool = ours(False, "whether there is an adversarial stage: in brndc_d alone")
    adversarial_iterations: int = paper(4200, "Sec. III-A: 5 epochs of 840")

    # Optimisation; an epoch is 840 regions
    learning_rate: float = ours(1e-3, "not stated; the lineage")
    schedule: str = ours("constant", "not stated; or last_quarter: to zero within the last quarter of the steps before "
                                     "the adversarial stage")
    adam_beta_1: float = ours(0.5, "not stated; the lineage")
    iterations: int = paper(13440, "Sec. III-A: 16 epochs of 840, one region per step")
    record_every: int = ours(420, "steps between records (save, validate, log): half an epoch")
    early_stopping: int = ours(0, "option: stop after this many records without a better validation score; 0 is off")
    precision: str = ours("float32", "option: mixed_bfloat16 or mixed_float16")

    # Inference
    largest_component: bool = ours(True, "not stated; keep the largest component of the mask")
    fill_holes: bool = ours(True, "not stated")
    heatmap_decode: str = paper("argmax", "Sec. II-C: the point of highest intensity; or centroid, in 2 voxels around "
                                          "it, or wide_centroid, in 1.5 sigma. Of exact Gaussians of sigma 3 they miss "
                                          "by 0.48, 0.31 and 0.00 voxels (benchmarks/decoding.py)")
    tips_from_mask: bool = ours(False, "option, for two landmarks: where a heatmap is low or its point far from the "
                                       "end of the mask, that end takes its place")
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
        """All steps."""
        return self.branch_steps + (self.adversarial_iterations if self.adversarial else 0)

    def __post_init__(self):
        check_rules(self, _data_rules(self), _network_rules(self), _training_rules(self))


def _data_rules(config: FemurConfig):
    for name in ("phantom_size", "phantom_spacing_mm"):
        values = getattr(config, name)
        yield len(values) == 3 and min(values) > 0, name, "three positive numbers"
    yield (len(config.phantom_weeks) == 2 and 20 <= config.phantom_weeks[0] <= config.phantom_weeks[1] <= 40,
           "phantom_weeks", "two numbers from 20 to 40, the lowest and the highest")
    yield len(config.spacing_mm) in (0, 3) and all(config.spacing_mm), "spacing_mm", "three positive numbers or none"
    yield config.outside_factor > 1, "outside_factor", "above 1"
    yield config.test_cases >= 0 and config.validation_cases >= 0, "test_cases", "0 or more, as validation_cases"
    yield config.roi_margin >= 0, "roi_margin", "0 or more"
    yield config.roi_smallest_part >= 0, "roi_smallest_part", "0 or more"
    yield one_of(config, "roi_part", ("all", "largest", "large"))
    yield config.roi_every > 0, "roi_every", "1 or more"
    yield config.roi_slices > 0 and config.roi_slices % 2 == 1, "roi_slices", "an odd number, 1 or more"
    yield config.roi_average_batches >= 0, "roi_average_batches", "0 or more"
    yield 0 < config.roi_passes < 5, "roi_passes", "from 1 to 4"
    yield 0 < config.roi_ratio <= 1, "roi_ratio", "above 0 and up to 1"
    yield one_of(config, "augmentation", ("versions", "random", "none"))
    yield one_of(config, "slice_augmentation", ("random", "none"))
    yield 0 <= config.region_jitter < 0.5, "region_jitter", "at least 0 and under 0.5"
    yield all(0 < angle <= 180 for angle in config.rotation_degrees), "rotation_degrees", "above 0 and up to 180"
    yield all(0.5 <= scale <= 2 for scale in config.scales), "scales", "between 0.5 and 2"


def _network_rules(config: FemurConfig):
    yield one_of(config, "network", NETWORKS)
    yield len(config.widths) == 4 and min(config.widths) > 0, "widths", "four positive numbers, one per level"
    yield len(config.roi_widths) in (3, 4, 5) and min(config.roi_widths) > 0, "roi_widths", "three to five numbers"
    yield len(config.discriminator_widths) == 6, "discriminator_widths", "six numbers"
    yield one_of(config, "norm_at_test", ("tile", "moving"))
    yield one_of(config, "roi_norm_at_test", ("moving", "batch"))
    yield 0 < config.norm_momentum < 1, "norm_momentum", "between 0 and 1"
    yield one_of(config, "heatmap_decode", ("argmax", "centroid", "wide_centroid"))
    yield not config.adversarial or config.network == "brndc", "adversarial", "false: the stage is of brndc alone"
    yield (not config.start_from or config.adversarial, "start_from",
           "none: only the adversarial stage starts from a trained network")
    yield not (config.roi_run and config.network == "unet_roi"), "roi_run", "none: this is the first stage itself"


def _training_rules(config: FemurConfig):
    yield one_of(config, "hybrid_loss", ("corrected", "lineage"))
    yield one_of(config, "schedule", ("constant", "last_quarter"))
    yield one_of(config, "precision", ("float32", "mixed_bfloat16", "mixed_float16"))
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
        "roi_slices": differs(3, "paper: 1; neighbours tell bone from noise"),
        "roi_part": differs("large", "paper: all; after minutes of training there are false components and gaps"),
        "roi_passes": differs(2, "paper: 1; the second stage finds what the first one missed"),
        "roi_ratio": differs(1.0, "paper: 0.65; the volume is already coarse"),
        "roi_widths": differs((16, 32, 64, 128), "paper preset: 64 to 1024; two CPU cores"),
        "roi_norm_at_test": differs("batch", "paper preset: moving; after minutes of training its masks are better"),
        "roi_iterations": differs(1500, "paper preset: 19320; two CPU cores"),
        "widths": differs((8, 16, 32, 64), "paper preset: 32 to 256; two CPU cores"),
        "discriminator_widths": differs((8, 16, 32, 32, 64, 64), "paper preset: 32 to 256; two CPU cores"),
        "region_jitter": differs(0.1, "paper preset: 0; the boxes of the first stage are displaced after minutes"),
        "initial_deviation": differs(0.0, "paper preset: 0.01; He's: small weights grow too slowly here"),
        "centre_distance_weight": differs(0.05, "paper: 0.5; on flat maps it exceeds all other losses"),
        "iterations": differs(3000, "paper: 13440; minutes on two CPU cores"),
        "schedule": differs("last_quarter", "paper preset: constant; a short training ends better with a falling rate"),
        "adversarial_iterations": differs(600, "paper: 4200; minutes on two CPU cores"),
        "heatmap_decode": differs("wide_centroid", "paper: argmax; half a voxel is 0.8 mm here"),
        "tips_from_mask": differs(True, "paper preset: false; low heatmaps are common after minutes of training"),
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
        "centre_distance": differs(False, "paper: Eq. 1; this row has none"),
    },
    "brn": {
        "network": differs("brn", "paper: Tables 1 and 2, both branches without cross connections"),
        "centre_distance": differs(False, "paper: Eq. 1; this row has none"),
    },
    "brnd": {
        "network": differs("brn", "paper: Tables 1 and 2, both branches without cross connections"),
    },
    "brndc_d": {
        "adversarial": differs(True, "paper: Sec. II-D, the last row"),
    },
}

REMOVED = {"centre_distance_unit": "diagonal", "centre_distance_point": "soft_argmax",
           "generator_loss": "non_saturating", "jit_compile": False}
AT_TEST = ("roi_margin", "roi_smallest_part", "roi_part", "norm_at_test", "largest_component", "fill_holes",
           "heatmap_decode", "roi_every", "roi_passes", "roi_norm_at_test", "tips_from_mask")
ADDED = {"outside_factor": 2.0, "schedule": "constant", "centre_distance_from_peak": 0.0, "region_jitter": 0.0,
         "roi_every": 1, "roi_slices": 1, "roi_average_batches": 0, "roi_passes": 1, "roi_norm_at_test": "moving",
         "tips_from_mask": False}

FEMUR = Choices("femur", FemurConfig, PRESETS, VARIANTS, removed=REMOVED, added=ADDED, at_test=AT_TEST)
