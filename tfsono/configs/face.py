"""Numbers of `face`: landmarks of the fetal face as boxes, 3D region proposal network with graph prior, ISBI 2020.

    python train/face.py --data face.h5 --run_dir runs/ig_rpn --preset quick --variant ig_rpn
    python evaluate/face.py --data face.h5 --runs runs/ig_rpn runs/rpn --out results

What to expect with the paper's data (Table 1): IG-RPN 63.77 % mean IoU, 4.38 mm; Faster R-CNN 62.87 %, 4.74 mm. A
variant is a training of Tables 1 and 2: the prior trains nothing, so that a row with it and one without are the same
run, and `evaluate` gives both.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfsono.config import Choices, check_rules, differs, one_of, ours, paper

METHODS = ("rpn", "ssd", "faster_rcnn", "heatmap")

# In the paper's order: the nodes 1 to 5 of its graph. Left and right are the fetus's own.
LANDMARKS = ("left_eye", "mid_eyebrow", "right_eye", "nose_tip", "chin")
MIRRORED = (("left_eye", "right_eye"),)


@dataclass(frozen=True)
class FaceConfig:
    """Every number of the system; sections and equations are the paper's."""

    # Data
    landmark_names: tuple[str, ...] = ours((), "landmarks in the order of the classes; () takes the cache's")
    orientation: str = ours("LPS", "file order is not stated; volumes are turned to these axes, losslessly")
    spacing_mm: tuple[float, ...] = ours((), "the paper's volumes have 1.3 mm; () keeps each volume's own")
    test_cases: int = paper(32, "Sec. 3: 32 of 152, at random")
    validation_cases: int = ours(0, "the paper has none; with some, the best weights by their error are kept too")

    # Phantoms, where there is no dataset
    phantom_cases: int = paper(152, "Sec. 3")
    phantom_size: tuple[int, ...] = ours((128, 128, 128), "the volumes' size is not stated")
    phantom_spacing_mm: tuple[float, ...] = paper((1.3, 1.3, 1.3), "Sec. 3")
    phantom_weeks: tuple[float, ...] = ours((20.0, 30.0), "gestational ages are not stated")
    phantom_variety: float = ours(1.0, "not stated; of faces and of what lies before them; towards 0 ever more alike")
    phantom_turn_degrees: float = ours(180.0, "not stated; out of a standard view; 180 takes all directions alike")

    # Augmentation
    augmentation: str = paper("random", "Sec. 3: rotation and flipping; or versions, or none")
    rotation_degrees: float = paper(25.0, "Sec. 3: between -25 and 25; about a random axis")
    flips: bool = paper(True, "Sec. 3: flipping; an odd number of mirrored axes exchanges the sides")

    # Boxes and anchors, in voxels of the network's grid
    box_sides: tuple[float, ...] = paper((14.0, 24.0, 14.0, 24.0, 24.0), "Sec. 2.2: eyes 14, others 24; or one for all")
    anchor_sides: tuple[float, ...] = paper((13.0, 16.0, 20.0, 28.0), "Sec. 2.2: along each axis, 64 anchors of a cell")
    anchor_positive: float = paper(0.5, "Sec. 3: positive above this IoU, and the best of a target")
    anchor_negative: float = paper(0.25, "Sec. 3: negative below this IoU with every target")
    offset_deviations: tuple[float, ...] = ours((1.0, 1.0), "Eq. 1 as printed; of the centre's and the size's offsets")

    # Network
    method: str = paper("rpn", "Sec. 2; Table 1: or ssd, faster_rcnn, heatmap")
    widths: tuple[int, ...] = ours((32, 64, 128, 256), "in a lost figure, but for a 32; doubled as in VGG")
    head_width: int = ours(256, "not stated; of the final feature map and of the network on it")
    norm_momentum: float = ours(0.9, "not stated; the lineage")
    norm_epsilon: float = ours(1e-5, "not stated; the lineage")
    norm_at_test: str = ours("tile", "not stated; the volume's own statistics, as in training; or moving, its averages")
    initial_deviation: float = ours(0.01, "not stated; the lineage; 0 takes He's initialisation")
    head_deviation: float = ours(0.01, "of the Gaussian that the last kernels start from; not stated; Faster R-CNN's")

    # Losses
    iou_balance: bool = paper(True, "Eq. 2 and 3: positives weighted by the IoU of their regressed boxes")
    iou_balance_power: float = paper(1.75, "Sec. 2.2: eta")
    most_positives: int = ours(128, "not stated; sampled of a volume, at random")
    negatives_per_positive: int = ours(3, "not stated")
    hard_negatives: float = ours(0.5, "not stated; share of the negatives with the highest loss; the others are random")
    regression_weight: float = ours(1.0, "not stated; of the smooth L1 loss beside the classification's")

    # Faster R-CNN
    proposals: int = ours(128, "not stated; of a volume")
    proposal_nms: float = ours(0.7, "Faster R-CNN's; highest IoU of two proposals")
    proposal_pool: int = ours(2000, "Faster R-CNN's; the best anchors that proposals are chosen from")
    roi_side: int = ours(7, "Faster R-CNN's; samples along each axis of a proposal")
    roi_width: int = ours(512, "not stated; of the two fully connected layers")

    # Heatmap regression
    heatmap_sigma_mm: float = ours(3.9, "not stated; 3 voxels of 1.3 mm")

    # Optimisation; an epoch is 120 volumes
    learning_rate: float = ours(1e-4, "not stated; Adam")
    schedule: str = ours("constant", "not stated; or cosine, to zero")
    iterations: int = ours(12000, "not stated; 100 epochs, batch 1")
    record_every: int = ours(120, "an epoch; save and record so often")
    early_stopping: int = ours(0, "option: stop after this many records without a better score; 0 is off")
    precision: str = ours("float32", "option: mixed_bfloat16 or mixed_float16")
    jit_compile: bool = ours(False, "option: XLA; nine times slower than without for 3D convolutions on a CPU")

    # Inference
    class_nms: float = ours(0.3, "not stated; highest IoU of a landmark's candidates; 1 takes the best as they are")
    clip_boxes: bool = ours(False, "not stated; cut candidates at the volume's border, which moves their middle inward")
    candidates: int = paper(2, "Sec. 2.3: of each landmark, of which the prior chooses")
    listed: int = ours(8, "candidates that an answer lists, from the best on; evaluation and `predict --candidates`")
    lowest_score: float = ours(0.05, "not stated; what is less sure is no candidate: the landmark is missing then")
    use_prior: bool = paper(True, "Sec. 2.3; in `predict` and `export`; `evaluate` gives both")
    prior_noise_mm: float = ours(0.0, "paper: fitted on true landmarks; deviation of noise on them, as answers have")
    prior_weight: float = ours(0.0, "paper: Eq. 4, which knows no scores, at 0; above, the prior's weight against the "
                                    "scores, see `geometry.graph.choose_by_scores`; wants prior_noise_mm")
    heatmap_decode: str = ours("argmax", "not stated; the highest voxel; or centroid, between the voxels")

    # The run
    seed: int = ours(0, "not stated")
    deterministic: bool = ours(True, "the same command gives the same weights")

    @property
    def landmarks(self) -> int:
        return len(self.landmark_names)

    @property
    def sides(self) -> tuple[float, ...]:
        """The side of each landmark's box."""
        return self.box_sides * self.landmarks if len(self.box_sides) == 1 else self.box_sides

    @property
    def anchors(self) -> int:
        """Of a cell."""
        return len(self.anchor_sides) ** 3

    @property
    def stride(self) -> int:
        """The product of the poolings: sides are padded to multiples of it."""
        return 2 ** (len(self.widths) - 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Voxels in a cell of each map that has anchors: the fused one, and of `ssd` the deepest too."""
        fused = self.stride // 2
        return (fused, self.stride) if self.method == "ssd" else (fused,)

    @property
    def boxes(self) -> bool:
        """Whether the network answers with boxes."""
        return self.method != "heatmap"

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.iterations

    def __post_init__(self):
        check_rules(self, _data_rules(self), _box_rules(self), _training_rules(self))


def _data_rules(config: FaceConfig):
    for name in ("phantom_size", "phantom_spacing_mm"):
        values = getattr(config, name)
        yield len(values) == 3 and min(values) > 0, name, "three positive numbers"
    yield (len(config.phantom_weeks) == 2 and 16 <= config.phantom_weeks[0] <= config.phantom_weeks[1] <= 36,
           "phantom_weeks", "two numbers from 16 to 36, the lowest and the highest")
    yield 0 < config.phantom_variety <= 1, "phantom_variety", "above 0 and up to 1"
    yield 0 <= config.phantom_turn_degrees <= 180, "phantom_turn_degrees", "from 0 to 180"
    yield len(config.spacing_mm) in (0, 3), "spacing_mm", "three numbers or none"
    yield config.test_cases >= 0 and config.validation_cases >= 0, "test_cases", "0 or more, as validation_cases"
    yield one_of(config, "augmentation", "versions", "random", "none")
    yield 0 <= config.rotation_degrees <= 180, "rotation_degrees", "from 0 to 180"


def _box_rules(config: FaceConfig):
    yield len(config.box_sides) > 0 and min(config.box_sides) > 0, "box_sides", "one positive number or more"
    yield (not config.landmarks or len(config.box_sides) in (1, config.landmarks), "box_sides",
           f"one number, or one for each of the {config.landmarks} landmarks")
    yield len(config.anchor_sides) > 0 and min(config.anchor_sides) > 0, "anchor_sides", "one positive number or more"
    yield (0 < config.anchor_negative <= config.anchor_positive < 1, "anchor_negative",
           "above 0 and not above anchor_positive, which is under 1")
    yield (len(config.offset_deviations) == 2 and min(config.offset_deviations) > 0, "offset_deviations",
           "two positive numbers")
    yield one_of(config, "method", *METHODS)
    yield len(config.widths) in (3, 4) and min(config.widths) > 0, "widths", "three or four positive numbers"
    yield one_of(config, "norm_at_test", "tile", "moving")
    yield one_of(config, "heatmap_decode", "argmax", "centroid")
    for name in ("proposal_nms", "class_nms", "norm_momentum"):
        yield 0 < getattr(config, name) <= 1, name, "above 0 and up to 1"
    yield 0 <= config.lowest_score < 1, "lowest_score", "at least 0 and under 1"
    yield 0 <= config.hard_negatives <= 1, "hard_negatives", "from 0 to 1"
    yield 1 <= config.candidates <= config.listed, "candidates", "from 1 to listed"
    yield config.candidates <= 4, "candidates", "at most 4: the prior tries every combination"
    yield config.proposals <= config.proposal_pool, "proposals", "at most proposal_pool"


def _training_rules(config: FaceConfig):
    yield one_of(config, "schedule", "constant", "cosine")
    yield one_of(config, "precision", "float32", "mixed_bfloat16", "mixed_float16")
    for name in ("head_width", "most_positives", "negatives_per_positive", "proposals", "roi_side", "roi_width",
                 "heatmap_sigma_mm", "learning_rate", "iterations", "record_every"):
        yield getattr(config, name) > 0, name, "above 0"
    for name in ("prior_noise_mm", "prior_weight"):
        yield getattr(config, name) >= 0, name, "0 or more"
    yield config.regression_weight >= 0 and config.iou_balance_power >= 0, "regression_weight", "0 or more"
    yield (config.steps % config.record_every == 0, "record_every", f"a divisor of all {config.steps} steps")
    yield (config.early_stopping == 0 or config.validation_cases > 0, "early_stopping",
           "0, or validation_cases above 0: it needs cases to validate on")


HALF = 64  # voxels twice as large, so that a face, its boxes and its anchors have half as many

PRESETS = {
    "paper": {},
    "quick": {
        "phantom_size": differs((HALF, HALF, HALF), "paper preset: 128; voxels twice as large"),
        "phantom_spacing_mm": differs((2.6, 2.6, 2.6), "paper: 1.3; coarser"),
        "phantom_turn_degrees": differs(45.0, "paper preset: 180; handedness from any direction takes longer to learn"),
        "flips": differs(False, "paper: True; sides that mirror images mix up take longer to learn"),
        "box_sides": differs((7.0, 12.0, 7.0, 12.0, 12.0), "paper: 14 and 24; the same in millimetres"),
        "anchor_sides": differs((6.5, 8.0, 10.0, 14.0), "paper: 13,16,20,28; the same in millimetres"),
        "widths": differs((16, 32, 64), "paper preset: 32 to 256; a level less: a cell has the same millimetres"),
        "head_width": differs(32, "paper preset: 256; two CPU cores"),
        "initial_deviation": differs(0.0, "paper preset: 0.01; He's, as a short training has no time to grow"),
        "most_positives": differs(512, "paper preset: 128; all there are, as a short training is noisy else"),
        "roi_side": differs(5, "paper preset: 7; two CPU cores"),
        "roi_width": differs(128, "paper preset: 512; two CPU cores"),
        "heatmap_sigma_mm": differs(7.8, "paper preset: 3.9; as many voxels"),
        "precision": differs("mixed_bfloat16", "paper preset: float32; two CPU cores"),
        "learning_rate": differs(1e-3, "paper preset: 1e-4; a short training"),
        "schedule": differs("cosine", "paper preset: constant; a short training ends better"),
        "iterations": differs(600, "paper preset: 12000; minutes on two cores"),
    },
}

VARIANTS = {
    "ig_rpn": {},
    "rpn": {"iou_balance": differs(False, "paper: Table 2, without IoU-balance")},
    "ig_ssd": {"method": differs("ssd", "paper: Table 1")},
    "ssd": {"method": differs("ssd", "paper: Table 2"),
            "iou_balance": differs(False, "paper: Table 2, without IoU-balance")},
    "faster_rcnn": {"method": differs("faster_rcnn", "paper: Table 1"),
                    "iou_balance": differs(False, "paper: Table 1, Faster R-CNN has none")},
    "heatmap": {"method": differs("heatmap", "paper: Table 1, heat map point regression")},
}

FACE = Choices("face", FaceConfig, PRESETS, VARIANTS)
