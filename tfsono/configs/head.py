"""Numbers of `head`: BPD and OFD in 2D ultrasound, the README of the public repository V15hnu24/originmedical.

    python train/head.py --data head.h5 --run_dir runs/head --preset quick --variant unet

The text prints no results. "The source" in a note is that repository's code or configuration, where the text is silent.
A variant is a network with its own loss; the first one, `paper`, is the U-Net, and the last ones change how points come
from features. Sizes of images are (rows, columns);
lengths that the text or the source gives in pixels are for an image whose longer side is 512.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfsono.config import Choices, check_rules, differs, one_of, ours, paper

LANDMARK_NETWORKS = ("heatmap", "coordinate", "attention_pyramid", "transformer")
SEGMENTATION_NETWORKS = ("unet", "attention_unet", "deeplabv3plus")
NETWORKS = LANDMARK_NETWORKS + SEGMENTATION_NETWORKS


@dataclass(frozen=True)
class HeadConfig:
    """Every number of the system; the headings in the notes are the text's."""

    # Data
    test_cases: int = ours(100, "not stated; held out by examination before the folds are made")
    folds: int = paper(5, "Training Strategy: 5-fold stratified; here grouped by examination, stratified by head size")
    fold: int = ours(0, "this fold validates, the others train; with 1 fold all cases train, and none validates")
    fold_is: str = ours("validation", "what the fold is for; or test: it is tested, beside the test cases, and nothing "
                                      "validates; such folds together test every case")
    landmark_policy: str = ours("drop", "37 % of the public points are wrong; or keep, repair, ellipse")
    outline: str = ours("official", "HC18's masks extend beyond the ellipse of its official HC: they are shrunk by the "
                                    "difference, where the HC is known; or as_drawn")

    # Phantoms, where there is no dataset
    phantom_cases: int = ours(120, "the text has 624 images; enough to train a network")
    phantom_size: tuple[int, ...] = ours((540, 800), "rows, columns: as HC18's images")
    phantom_pixel_size_mm: tuple[float, ...] = ours((0.052, 0.326), "smallest and largest of HC18")
    phantom_wrong_points: float = ours(0.0, "share of the rows of landmarks.csv that do not fit their head; above 0 "
                                            "the names BPD and OFD are exchanged, as in the public table, where 0.37 "
                                            "are wrong")

    # Preprocessing: after CLAHE and letterbox each image gets zero mean and unit deviation over its own pixels
    input_size: tuple[int, ...] = ours((512, 512), "rows, columns, letterboxed; not stated; the source's config")
    clahe_clip: float = ours(2.0, "Preprocessing Strategy names CLAHE without numbers; the source; 0 is off")
    clahe_tiles: int = ours(8, "tiles along each side; the source")

    # Augmentation
    geometric_share: float = ours(0.5, "probability of rotation, scaling and shift; the source's p")
    rotation_degrees: float = ours(20.0, "in both directions; the source's medium strength")
    scaling: float = ours(0.15, "fraction, up and down; the source's medium strength")
    shift: float = ours(0.1, "fraction of the side, in both directions; the source's medium strength")
    flip_share: float = ours(0.5, "probability of a flip from left to right; the source")
    elastic_share: float = ours(0.2, "probability of an elastic deformation; the source")
    elastic_alpha: float = ours(30.0, "displacement before smoothing, pixels of a 512 frame; the source")
    elastic_sigma: float = ours(5.0, "its smoothing, pixels of a 512 frame; the source")
    intensity_share: float = ours(0.5, "probability of a change of grey levels; the source's p")
    brightness: float = ours(0.2, "fraction of the full range, up and down; the source")
    contrast: float = ours(0.2, "fraction, up and down; the source")
    gamma: float = ours(0.2, "exponent 1 +- this; the source's config; its code has 0.1")
    speckle: float = ours(0.1, "largest deviation of multiplicative noise; not in the source; ultrasound has it")
    speckle_share: float = ours(0.2, "its probability")
    noise: float = ours(0.02, "largest deviation of additive noise, fraction of the range; the source has no number")
    noise_share: float = ours(0.3, "its probability; the source")
    blur_sigma: float = ours(1.0, "largest Gaussian blur, pixels of a 512 frame; the source draws one of three blurs")
    blur_share: float = ours(0.3, "its probability; the source")
    shadow_share: float = ours(0.2, "probability of an acoustic shadow; the source")

    # Network
    network: str = paper("unet", "Segmentation, approach 1; each of the seven is a variant")
    backbone: str = paper("imagenet", "approaches 1 and 2: ResNet50, EfficientNet-B3; or small, a residual one of ours")
    backbone_weights: str = ours("", "ImageNet weights, a Keras Applications file without top; the text uses them")
    start_from: str = ours("", "run folder, or exported model, of the same network, whose weights are trained further; "
                               "without one they start as the text says")
    backbone_widths: tuple[int, ...] = ours((16, 32, 64, 96, 128), "of the small backbone, at 1/2 to 1/32")
    dropout: float = ours(0.3, "Training Strategy: regularisation; the source's number; also for Monte Carlo dropout")
    norm_momentum: float = ours(0.99, "of the layers around a backbone, and of the U-Nets; Keras's own")
    heatmap_widths: tuple[int, ...] = ours((512, 256, 128, 64), "of the decoder's upsampling stages; the source")
    head_widths: tuple[int, ...] = ours((512, 256), "fully connected layers before the coordinates; the source")
    points_from: str = ours("mean", "what coordinate and attention_pyramid regress points from: the mean of the "
                                    "features; or grid, all of their cells; or maps, each one's mean place")
    grid_channels: int = ours(32, "of each cell of grid, at 1/32")
    dense_norm: str = ours("batch", "after each fully connected layer; or none")
    pyramid_channels: int = ours(256, "of each level of the pyramid; the source")
    pyramid_fused: int = ours(512, "of the fused levels; the source")
    attention_reduction: int = ours(16, "bottleneck of the channel attention; the source, as CBAM")
    transformer_size: tuple[int, ...] = ours((224, 224), "the image is resized to it; ViT's own, not in the source")
    transformer_patch: int = ours(16, "side of a patch; ViT-B/16, which the source's config names")
    transformer_stem: str = ours("patches", "how patches become tokens: by one convolution of their size, as ViT; or "
                                            "convolutions, of stride 2 each (Xiao et al., NeurIPS 2021)")
    transformer_width: int = ours(384, "ViT-S; the source has no such network")
    transformer_depth: int = ours(8, "not in the source")
    transformer_heads: int = ours(6, "64 channels each, as ViT")
    unet_widths: tuple[int, ...] = ours((64, 128, 256, 512, 1024), "approach 1 says classic U-Net")
    aspp_channels: int = ours(256, "DeepLabV3+'s own")
    aspp_rates: tuple[int, ...] = ours((6, 12, 18), "DeepLabV3+'s own at output stride 16; the source doubles them")
    aspp_dropout: float = ours(0.5, "DeepLabV3+'s implementations")
    low_level_channels: int = ours(48, "DeepLabV3+'s own")

    # Losses
    heatmap_loss: str = paper("mse", "Landmark Detection, approach 1; or adaptive_wing")
    heatmap_weight: float = ours(1.0, "the source")
    heatmap_sigma: float = ours(2.0, "of the Gaussian targets in cells of the map, 4 pixels wide; the source")
    coordinate_loss: str = paper("smooth_l1", "Loss Functions: MSE/Smooth L1, Wing; or wing, mse")
    coordinate_weight: float = ours(1.0, "the only loss where the text names no other")
    smooth_l1_beta: float = ours(0.01, "fraction of the longer side, 5 pixels of 512; Keras's 1 would make it an L2 "
                                       "loss")
    wing_width: float = ours(10.0, "pixels of a 512 frame; the source")
    wing_curvature: float = ours(2.0, "pixels of a 512 frame; the source")
    soft_argmax_beta: float = ours(50.0, "a soft-argmax without temperature gives the middle of the image")
    geometric_weight: float = ours(0.0, "Loss Functions: perpendicular BPD and OFD; only in variants that set it")
    relation_weight: float = ours(0.0, "common centre and plausible ratio of the two; only in variants that set it")
    dice_weight: float = paper(1.0, "Segmentation, approach 1: Dice + BCE")
    cross_entropy_weight: float = paper(1.0, "Segmentation, approach 1: Dice + BCE")
    focal_weight: float = ours(0.0, "Loss Functions: Focal; only in variants that set it")
    focal_dice_weight: float = ours(0.0, "Segmentation, approach 2; only in variants that set it")
    boundary_weight: float = ours(0.0, "Loss Functions: Boundary, as Kervadec; 0 is off. 0.01 added 0.006 Dice (-0.003 "
                                       "to +0.017, 3 seeds) in short trainings on phantoms (benchmarks/option.py)")
    focal_alpha: float = ours(0.25, "the source")
    focal_gamma: float = ours(2.0, "the source")
    focal_dice_gamma: float = ours(4 / 3, "(1 - Dice)^(1/gamma); the focal Tversky loss's own")

    # Optimisation; an epoch is 499 images, four fifths of the text's 624, in whole batches
    optimizer: str = ours("adamw", "not stated; the source")
    learning_rate: float = ours(1e-4, "not stated; the source")
    weight_decay: float = ours(1e-5, "Training Strategy names it; decoupled; the source's number")
    gradient_clip: float = ours(1.0, "largest global norm of the gradients; the source; 0 is off")
    schedule: str = paper("cosine_restarts", "Training Strategy: cosine annealing with warm restarts; or cosine")
    restart_records: int = ours(10, "T0: records until the first restart; epochs in preset paper; the source")
    restart_factor: float = ours(2.0, "Tmult: length of each cycle relative to the one before; the source")
    smallest_learning_rate: float = ours(1e-7, "eta_min; the source")
    landmark_batch: int = paper(16, "Usage: --batch_size 16")
    segmentation_batch: int = paper(8, "Usage: --batch_size 8")
    landmark_iterations: int = paper(3100, "Usage: --epochs 100; 31 batches of 16 per epoch")
    segmentation_iterations: int = paper(9300, "Usage: --epochs 150; 62 batches of 8 per epoch")
    landmark_record_every: int = ours(31, "steps between records (save, validate, log): an epoch")
    segmentation_record_every: int = ours(62, "steps between records (save, validate, log): an epoch")
    landmark_early_stopping: int = ours(20, "records without a better validation score; the source; 0 is off")
    segmentation_early_stopping: int = ours(25, "records without a better validation score; the source; 0 is off")
    precision: str = ours("float32", "Training Strategy: mixed precision, without saying which; or mixed_bfloat16, "
                                     "mixed_float16")

    # From the network's output to measurements
    heatmap_decode: str = paper("argmax", "approach 1; or centroid, soft_argmax, finer than the cells of the map")
    threshold: float = ours(0.5, "of the probability; not stated")
    morphology_px: int = ours(5, "side of the opening and closing, pixels of a 512 frame; approach 4 without numbers")
    area_px: tuple[float, ...] = ours((5000.0, 150000.0), "smallest and largest head in a 512 frame; the source")
    ransac_iterations: int = ours(200, "approach 4 names RANSAC without numbers")
    ransac_points: int = ours(8, "points per trial; the source has 50, of which too many can be outliers")
    ransac_inlier_px: float = ours(2.0, "distance of an inlier, pixels of a 512 frame")
    axis_ratio: tuple[float, ...] = ours((0.4, 1.0), "smallest and largest ratio of the short to the long axis of a "
                                                     "head")
    monte_carlo_samples: int = ours(10, "forward passes with dropout on, for the uncertainty; any number, 0 is off")
    outside_factor: float = ours(2.0, "`predict` refuses images whose field of view in millimetres is this many times "
                                      "smaller or larger than in training; a pixel size in a wrong unit, for example")

    # The run
    seed: int = ours(42, "the source")
    deterministic: bool = ours(True, "the same command gives the same weights")

    @property
    def part(self) -> str:
        """`landmarks` (the text's Part A) or `segmentation` (Part B)."""
        return "landmarks" if self.network in LANDMARK_NETWORKS else "segmentation"

    @property
    def output(self) -> str:
        """The name of the network's only output: `heatmaps`, `points` or `mask`."""
        if self.part == "segmentation":
            return "mask"
        return "heatmaps" if self.network == "heatmap" else "points"

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of a heatmap, whose cells are 4 pixels wide."""
        return self.input_size[0] // 4, self.input_size[1] // 4

    @property
    def batch(self) -> int:
        """Images per step, of this network's part."""
        return self.landmark_batch if self.part == "landmarks" else self.segmentation_batch

    @property
    def steps(self) -> int:
        """All steps, of this network's part."""
        return self.landmark_iterations if self.part == "landmarks" else self.segmentation_iterations

    @property
    def record_every(self) -> int:
        """Steps between two records, of this network's part."""
        return self.landmark_record_every if self.part == "landmarks" else self.segmentation_record_every

    @property
    def early_stopping(self) -> int:
        """Records without a better score before training stops, of this network's part; 0 never stops early."""
        return self.landmark_early_stopping if self.part == "landmarks" else self.segmentation_early_stopping

    def __post_init__(self):
        check_rules(self, _data_rules(self), _network_rules(self), _training_rules(self), _measurement_rules(self))


def _range(config: HeadConfig, name: str, low: float, high: float):
    """A rule: the field is between two numbers, inclusive."""
    return low <= getattr(config, name) <= high, name, f"between {low:g} and {high:g}"


def _positive(config: HeadConfig, names: tuple[str, ...]):
    """Rules: these fields, numbers or tuples of numbers, are above 0."""
    for name in names:
        value = getattr(config, name)
        yield min(value, default=0) > 0 if isinstance(value, tuple) else value > 0, name, "above 0"


def _data_rules(config: HeadConfig):
    yield config.folds >= 1, "folds", "at least 1"
    yield 0 <= config.fold < config.folds, "fold", f"0 to {config.folds - 1}"
    yield config.test_cases >= 0, "test_cases", "0 or more"
    yield one_of(config, "fold_is", ("validation", "test"))
    yield len(config.phantom_size) == 2, "phantom_size", "two numbers, rows and columns"
    smallest_largest = len(config.phantom_pixel_size_mm) == 2 and sorted(config.phantom_pixel_size_mm)
    yield (bool(smallest_largest) and tuple(smallest_largest) == config.phantom_pixel_size_mm,
           "phantom_pixel_size_mm", "two numbers, the smallest and the largest")
    yield _range(config, "phantom_wrong_points", 0, 1)
    yield from _positive(config, ("phantom_cases", "phantom_size", "phantom_pixel_size_mm", "clahe_tiles"))
    yield (len(config.input_size) == 2 and all(n > 0 and n % 32 == 0 for n in config.input_size), "input_size",
           "rows and columns, positive multiples of 32")
    yield config.clahe_clip >= 0, "clahe_clip", "0 or more"
    yield config.outside_factor > 1, "outside_factor", "above 1"
    yield one_of(config, "landmark_policy", ("drop", "keep", "repair", "ellipse"))
    yield one_of(config, "outline", ("official", "as_drawn"))
    for name in ("geometric_share", "flip_share", "elastic_share", "intensity_share", "speckle_share", "noise_share",
                 "blur_share", "shadow_share"):
        yield _range(config, name, 0, 1)
    for name in ("scaling", "shift", "brightness", "contrast", "gamma"):
        yield _range(config, name, 0, 0.5)
    yield _range(config, "rotation_degrees", 0, 180)
    for name in ("elastic_alpha", "speckle", "noise", "blur_sigma"):
        yield getattr(config, name) >= 0, name, "0 or more"
    yield from _positive(config, ("elastic_sigma",))


def _network_rules(config: HeadConfig):
    yield one_of(config, "network", NETWORKS)
    yield one_of(config, "backbone", ("imagenet", "small"))
    yield one_of(config, "points_from", ("mean", "grid", "maps"))
    yield one_of(config, "dense_norm", ("batch", "none"))
    yield one_of(config, "transformer_stem", ("patches", "convolutions"))
    patch = config.transformer_patch
    yield (config.transformer_stem == "patches" or patch & (patch - 1) == 0, "transformer_stem",
           f"patches: the side of a patch, {patch}, is no power of 2")
    yield (not config.backbone_weights or config.backbone == "imagenet" and config.network not in
           ("unet", "attention_unet", "transformer"), "backbone_weights",
           "none: this network has no ImageNet backbone")
    yield not (config.start_from and config.backbone_weights), "start_from", "none, or no backbone_weights"
    for name, length in (("backbone_widths", 5), ("head_widths", 2), ("transformer_size", 2)):
        yield len(getattr(config, name)) == length, name, f"{length} numbers"
    yield len(config.unet_widths) in (3, 4, 5, 6), "unet_widths", "three to six numbers, one per level"
    yield len(config.heatmap_widths) in (3, 4), "heatmap_widths", "three or four numbers, one per upsampling stage"
    yield from _positive(config, ("backbone_widths", "head_widths", "unet_widths", "heatmap_widths", "aspp_rates",
                         "transformer_size", "pyramid_channels", "pyramid_fused", "attention_reduction",
                         "transformer_depth", "transformer_patch", "transformer_heads", "aspp_channels",
                         "low_level_channels", "grid_channels"))
    yield (all(n % config.transformer_patch == 0 for n in config.transformer_size), "transformer_size",
           f"multiples of transformer_patch ({config.transformer_patch})")
    yield (config.transformer_width > 0 and config.transformer_width % config.transformer_heads == 0,
           "transformer_width", f"a multiple of transformer_heads ({config.transformer_heads})")
    yield config.transformer_depth <= 100, "transformer_depth", "at most 100"
    for name in ("dropout", "aspp_dropout"):
        yield 0 <= getattr(config, name) < 1, name, "at least 0 and under 1"
    yield 0 < config.norm_momentum < 1, "norm_momentum", "between 0 and 1"


def _training_rules(config: HeadConfig):
    yield one_of(config, "heatmap_loss", ("mse", "adaptive_wing"))
    yield one_of(config, "coordinate_loss", ("smooth_l1", "wing", "mse"))
    weights = ("heatmap_weight", "coordinate_weight", "geometric_weight", "relation_weight", "dice_weight",
               "cross_entropy_weight", "focal_weight", "focal_dice_weight", "boundary_weight", "weight_decay",
               "gradient_clip", "smallest_learning_rate", "landmark_early_stopping", "segmentation_early_stopping")
    for name in weights:
        yield getattr(config, name) >= 0, name, "0 or more"
    yield (config.dice_weight + config.cross_entropy_weight + config.focal_weight + config.focal_dice_weight > 0,
           "dice_weight", "a loss of the mask above 0: the boundary loss does not train alone")
    yield from _positive(config, ("heatmap_sigma", "smooth_l1_beta", "wing_width", "wing_curvature",
                         "soft_argmax_beta", "focal_dice_gamma", "learning_rate", "restart_records",
                         "landmark_batch", "segmentation_batch", "landmark_record_every",
                         "segmentation_record_every"))
    yield _range(config, "focal_alpha", 0, 1)
    yield config.focal_gamma >= 0, "focal_gamma", "0 or more"
    yield config.restart_factor >= 1, "restart_factor", "1 or more"
    yield one_of(config, "optimizer", ("adamw", "adam", "sgd"))
    yield one_of(config, "schedule", ("cosine_restarts", "cosine"))
    yield one_of(config, "precision", ("float32", "mixed_bfloat16", "mixed_float16"))
    for part in ("landmark", "segmentation"):
        iterations, every = getattr(config, f"{part}_iterations"), getattr(config, f"{part}_record_every")
        yield (iterations > 0 and iterations % every == 0, f"{part}_iterations",
               f"a positive multiple of {part}_record_every ({every})")


def _measurement_rules(config: HeadConfig):
    yield one_of(config, "heatmap_decode", ("argmax", "centroid", "soft_argmax"))
    yield 0 < config.threshold < 1, "threshold", "between 0 and 1"
    yield config.morphology_px >= 0, "morphology_px", "0 or more"
    yield config.ransac_points >= 5, "ransac_points", "at least 5: fewer fix no ellipse"
    yield from _positive(config, ("ransac_iterations", "ransac_inlier_px"))
    yield (len(config.area_px) == 2 and 0 <= config.area_px[0] < config.area_px[1], "area_px",
           "two numbers, the smallest and the largest")
    yield (len(config.axis_ratio) == 2 and 0 < config.axis_ratio[0] < config.axis_ratio[1] <= 1, "axis_ratio",
           "two numbers up to 1, the smallest and the largest")
    yield config.monte_carlo_samples >= 0, "monte_carlo_samples", "0 or more"


PRESETS = {
    "paper": {},
    "quick": {
        "phantom_cases": differs(60, "paper preset: 120; seconds"),
        "phantom_size": differs((270, 400), "paper preset: 540,800; the same field of view, coarser"),
        "phantom_pixel_size_mm": differs((0.104, 0.652), "paper preset: 0.052,0.326; the same field of view, coarser"),
        "input_size": differs((192, 256), "paper preset: 512,512; two CPU cores, a ninth of HC18's 540x800 pixels"),
        "backbone": differs("small", "paper: ResNet50 and EfficientNet-B3; two CPU cores"),
        "heatmap_widths": differs((96, 64, 48), "paper preset: 512,256,128,64; three upsampling stages reach 1/4"),
        "heatmap_sigma": differs(1.5, "paper preset: 2; a map of 48x64 cells"),
        "heatmap_decode": differs("centroid", "paper: argmax; a cell of the map is 12 pixels of an HC18 image wide"),
        "head_widths": differs((128, 64), "paper preset: 512,256; two CPU cores"),
        "pyramid_channels": differs(48, "paper preset: 256; two CPU cores"),
        "pyramid_fused": differs(128, "paper preset: 512; two CPU cores"),
        "attention_reduction": differs(8, "paper preset: 16, which would leave 3 of 48 channels"),
        "transformer_size": differs((192, 256), "paper preset: 224,224; without resizing"),
        "transformer_width": differs(128, "paper preset: 384; two CPU cores"),
        "transformer_depth": differs(6, "paper preset: 8; two CPU cores"),
        "transformer_heads": differs(4, "paper preset: 6; 32 channels each"),
        "unet_widths": differs((16, 32, 64, 96, 128), "paper preset: 64 to 1024; two CPU cores"),
        "norm_momentum": differs(0.9, "paper preset: 0.99; the averages must follow a short training"),
        "aspp_channels": differs(64, "paper preset: 256; two CPU cores"),
        "aspp_rates": differs((2, 4, 6), "paper preset: 6,12,18; a map of 12x16 cells instead of 32x32"),
        "low_level_channels": differs(24, "paper preset: 48; two CPU cores"),
        "learning_rate": differs(1e-3, "paper preset: 0.0001, for pretrained backbones"),
        "smallest_learning_rate": differs(1e-6, "paper preset: 1e-7; the learning rate is ten times as high"),
        "landmark_batch": differs(8, "paper: 16; two CPU cores"),
        "landmark_iterations": differs(1800, "paper: 100 epochs, 3100 steps of 16; 37 epochs of 390 images"),
        "segmentation_iterations": differs(1800, "paper: 150 epochs, 9300 steps; 37 epochs of 390 images"),
        "landmark_record_every": differs(60, "paper preset: 31; 30 records, the first restart after 10 of them"),
        "segmentation_record_every": differs(60, "paper preset: 62; 30 records, the first restart after 10 of them"),
        "landmark_early_stopping": differs(0, "paper preset: 20; the second cycle ends where training does"),
        "segmentation_early_stopping": differs(0, "paper preset: 25; the second cycle ends where training does"),
    },
}

# Heads that keep what a mean over the image, a normalisation by batches of 8 and dropout take away: the size.
GRID = {
    "points_from": differs("grid", "paper: fully connected layers; without the mean before them"),
    "dense_norm": differs("none", "paper: not stated; our heads of its networks have batch normalisation"),
    "dropout": differs(0.0, "paper: Training Strategy, dropout; before a regression it changes sizes"),
}
MAPS = {
    "points_from": differs("maps", "paper: fully connected layers; the mean place of a map for each landmark instead"),
    "dropout": differs(0.0, "paper: Training Strategy, dropout; before a regression it changes sizes"),
}

VARIANTS = {
    "paper": {},
    "heatmap": {
        "network": differs("heatmap", "paper: landmark detection, approach 1"),
        "coordinate_loss": differs("mse", "paper: MSE on heatmaps; the source adds one on the decoded coordinates"),
        "coordinate_weight": differs(0.5, "paper: not stated; the source"),
        "geometric_weight": differs(0.1, "paper: Loss Functions names it without a weight; the source"),
    },
    "coordinate": {
        "network": differs("coordinate", "paper: landmark detection, approach 2, with smooth L1"),
    },
    "attention_pyramid": {
        "network": differs("attention_pyramid", "paper: landmark detection, approach 3; ResNet50, not the source's 34"),
        "coordinate_loss": differs("wing", "paper: approach 3, Wing loss"),
    },
    "transformer": {
        "network": differs("transformer", "paper: landmark detection, approach 4, with smooth L1"),
        "geometric_weight": differs(0.1, "paper: approach 4 adds relationship constraints without a weight"),
        "relation_weight": differs(0.1, "paper: approach 4 adds relationship constraints without a weight"),
    },
    "unet": {},
    "attention_unet": {
        "network": differs("attention_unet", "paper: segmentation, approach 2"),
        "dice_weight": differs(0.0, "paper: approach 2, focal Dice loss"),
        "cross_entropy_weight": differs(0.0, "paper: approach 2, focal Dice loss"),
        "focal_dice_weight": differs(1.0, "paper: approach 2, focal Dice loss"),
    },
    "deeplabv3plus": {
        "network": differs("deeplabv3plus", "paper: segmentation, approach 3"),
        "cross_entropy_weight": differs(0.0, "paper: approach 3, Dice + Focal"),
        "focal_weight": differs(1.0, "paper: approach 3, Dice + Focal"),
    },
    "coordinate_grid": {
        "network": differs("coordinate", "paper: approach 2, its head as `points_from` and `dense_norm` say"),
        **GRID,
    },
    "coordinate_maps": {
        "network": differs("coordinate", "paper: approach 2, its head as `points_from` says"),
        **MAPS,
    },
    "attention_pyramid_grid": {
        "network": differs("attention_pyramid", "paper: approach 3, its head as `points_from` and `dense_norm` say"),
        "coordinate_loss": differs("wing", "paper: approach 3, Wing loss"),
        **GRID,
    },
    "attention_pyramid_maps": {
        "network": differs("attention_pyramid", "paper: approach 3, its head as `points_from` says"),
        "coordinate_loss": differs("wing", "paper: approach 3, Wing loss"),
        **MAPS,
    },
    "transformer_stem": {
        "network": differs("transformer", "paper: approach 4, its tokens as `transformer_stem` says"),
        "transformer_stem": differs("convolutions", "paper: a vision transformer; few images"),
        "dropout": differs(0.0, "paper: Training Strategy, dropout; before a regression it changes sizes"),
        "geometric_weight": differs(0.1, "paper: approach 4 adds relationship constraints without a weight"),
        "relation_weight": differs(0.1, "paper: approach 4 adds relationship constraints without a weight"),
    },
}

REMOVED = {"end_order": "learned", "denoise": "none", "standardisation": "picture", "jit_compile": False}
AT_TEST = ("heatmap_decode", "threshold", "morphology_px", "area_px", "ransac_iterations", "ransac_points",
           "ransac_inlier_px", "axis_ratio", "monte_carlo_samples")
ADDED = {"outside_factor": 2.0, "fold_is": "validation", "points_from": "mean", "grid_channels": 32,
         "dense_norm": "batch", "transformer_stem": "patches", "start_from": "", "phantom_wrong_points": 0.0}
# Fields that a run of --start_from must have in common with this one.
LIKE_ITS_START = ("network", "backbone", "input_size", "backbone_widths", "heatmap_widths", "head_widths",
                  "points_from", "grid_channels", "dense_norm", "pyramid_channels", "pyramid_fused",
                  "attention_reduction", "transformer_size", "transformer_patch", "transformer_stem",
                  "transformer_width", "transformer_depth", "transformer_heads", "unet_widths", "aspp_channels",
                  "aspp_rates", "low_level_channels")

HEAD = Choices("head", HeadConfig, PRESETS, VARIANTS, removed=REMOVED, added=ADDED, at_test=AT_TEST)
