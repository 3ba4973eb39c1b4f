"""Numbers of `face`: landmarks of the fetal face as boxes, 3D region proposal network with graph prior, ISBI 2020.

    python train/face.py --data face.h5 --run_dir runs/ig_rpn --preset quick --variant ig_rpn
    python evaluate/face.py --data face.h5 --runs runs/ig_rpn runs/rpn --out results

What to expect with the paper's data (Table 1): IG-RPN 63.77 % mean IoU, 4.38 mm; Faster R-CNN 62.87 %, 4.74 mm. A
variant is a training of Tables 1 and 2. The prior has no trained weights: a row with it and the row without are the
same run, and `evaluate` reports both.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfsono.config import Choices, check_rules, differs, one_of, ours, paper

METHODS = ("rpn", "ssd", "faster_rcnn", "heatmap")

# In the paper's order: the nodes 1 to 5 of its graph. Left and right are the fetus's own.
LANDMARKS = ("left_eye", "mid_eyebrow", "right_eye", "nose_tip", "chin")
MIRRORED = (("left_eye", "right_eye"),)
MIDLINE = ("mid_eyebrow", "nose_tip", "chin")  # in the plane of symmetry


@dataclass(frozen=True)
class FaceConfig:
    """Every number of the system; sections and equations are the paper's."""

    # Data
    landmark_names: tuple[str, ...] = ours((), "landmarks in the order of the classes; () uses the cache's")
    orientation: str = ours("LPS", "file order not stated; volumes are reoriented to these axes without resampling")
    spacing_mm: tuple[float, ...] = ours((), "the paper's volumes have 1.3 mm; () keeps each volume's own")
    test_cases: int = paper(32, "Sec. 3: 32 of 152, at random")
    validation_cases: int = ours(0, "the paper has none; above 0, the weights with the lowest error on them are kept "
                                    "too")

    # Phantoms, where there is no dataset
    phantom_cases: int = paper(152, "Sec. 3")
    phantom_size: tuple[int, ...] = ours((128, 128, 128), "the volumes' size is not stated")
    phantom_spacing_mm: tuple[float, ...] = paper((1.3, 1.3, 1.3), "Sec. 3")
    phantom_weeks: tuple[float, ...] = ours((20.0, 30.0), "gestational ages are not stated")
    phantom_variety: float = ours(1.0, "not stated; of faces and of what is in front of them; they are the more alike, "
                                       "the nearer to 0")
    phantom_rotation_degrees: float = ours(180.0, "not stated; largest rotation away from a standard view; 180 makes "
                                                  "all directions equally likely")

    reader_noise_mm: float = ours(0.0, "option for phantoms, whose landmarks are exact: deviation, along each axis, of "
                                       "noise on those of the training cases")

    # Augmentation
    augmentation: str = paper("random", "Sec. 3: rotation and flipping; or versions, or none")
    rotation_degrees: float = paper(25.0, "Sec. 3: between -25 and 25; about a random axis")
    flips: bool = paper(True, "Sec. 3: flipping; an odd number of mirrored axes swaps left and right landmarks")

    # Frame: an option, for faces in any direction. A first network finds the midline, by which the volume is rotated
    frame: str = ours("volume", "not stated; the network sees the volume as it lies; or face: rotated onto the mean "
                                "midline of the training cases, so that left is always on the same side")
    finder_run: str = ours("", "run folder of the network that finds the midline (--variant finder), for --frame face; "
                               "trained on the same cache and split")
    frame_margin_mm: float = ours(30.0, "of the frame's box around all landmarks of the training cases: the paper's "
                                        "larger boxes reach 16 mm beyond")
    midline_noise_mm: float = ours(3.0, "deviation along each axis of what training adds to the reference midline, as "
                                        "the finder errs; other values were not tried")
    ratio: float = ours(1.0, "not stated; voxels of the network's grid per voxel of the volume, along an axis; of "
                             "heatmaps alone")

    # Boxes and anchors, in voxels of the network's grid
    box_sides: tuple[float, ...] = paper((14.0, 24.0, 14.0, 24.0, 24.0), "Sec. 2.2: eyes 14, others 24; or one for all")
    anchor_sides: tuple[float, ...] = paper((13.0, 16.0, 20.0, 28.0), "Sec. 2.2: along each axis, 64 anchors per cell")
    anchor_positive: float = paper(0.5, "Sec. 3: positive above this IoU, and the best anchor of each target")
    anchor_negative: float = paper(0.25, "Sec. 3: negative below this IoU with every target")
    offset_deviations: tuple[float, ...] = ours((1.0, 1.0), "Eq. 1 as printed; divide the offsets of the centre and of "
                                                            "the size")

    # Network
    method: str = paper("rpn", "Sec. 2; Table 1: or ssd, faster_rcnn, heatmap")
    widths: tuple[int, ...] = ours((32, 64, 128, 256), "the figure is lost, except for a 32; doubled as in VGG")
    head_width: int = ours(256, "not stated; of the final feature map and of the network on it")
    norm_momentum: float = ours(0.9, "not stated; the lineage")
    norm_epsilon: float = ours(1e-5, "not stated; the lineage")
    norm_at_test: str = ours("tile", "not stated; the volume's own statistics, as in training; or moving, the averages "
                                     "of training")
    start_from: str = ours("", "run folder, or exported model, of the same network, whose weights are trained further; "
                               "without one they are random")
    initial_deviation: float = ours(0.01, "not stated; the lineage; 0 uses He's initialisation")
    head_deviation: float = ours(0.01, "of the Gaussian that initialises the last kernels; not stated; Faster R-CNN's")

    # Losses
    iou_balance: bool = paper(True, "Eq. 2 and 3: positives weighted by the IoU of their regressed boxes")
    iou_balance_power: float = paper(1.75, "Sec. 2.2: eta")
    max_positives: int = ours(128, "not stated; random sample per volume")
    negatives_per_positive: int = ours(3, "not stated")
    hard_negatives: float = ours(0.5, "not stated; fraction of the negatives that are those with the highest loss; the "
                                      "others are random")
    regression_weight: float = ours(1.0, "not stated; weight of the smooth L1 loss relative to the classification loss")

    # Faster R-CNN
    proposals: int = ours(128, "not stated; per volume")
    proposal_nms_iou_threshold: float = ours(0.3, "Faster R-CNN: 0.7, in 2D; in 3D one landmark would fill the "
                                                  "proposals: with 64 anchors a cell about 400 of an eye are left at "
                                                  "0.7, and 11 at 0.3")
    proposal_pool: int = ours(8000, "Faster R-CNN: 12000 in training, 6000 at test; top-k anchors before the "
                                    "suppression")
    proposal_deviations: tuple[float, ...] = ours((0.1, 0.2), "Faster R-CNN's; divide the offsets of its second stage; "
                                                              "() uses offset_deviations")
    roi_side: int = ours(7, "Faster R-CNN's; samples along each axis of a proposal")
    roi_width: int = ours(512, "not stated; of the two fully connected layers")

    # Heatmap regression
    heatmap_sigma_mm: float = ours(3.9, "not stated; 3 voxels of 1.3 mm")

    # Optimisation; an epoch is 120 volumes
    learning_rate: float = ours(1e-4, "not stated; Adam")
    schedule: str = ours("constant", "not stated; or cosine, to zero")
    iterations: int = ours(12000, "not stated; 100 epochs, batch 1")
    record_every: int = ours(120, "steps between records (save, validate, log): an epoch")
    early_stopping: int = ours(0, "option: stop after this many records without a lower validation error; 0 is off")
    precision: str = ours("float32", "option: mixed_bfloat16 or mixed_float16")

    # Inference
    nms_iou_threshold: float = ours(1.0, "not stated; non-maximum suppression within each landmark; 1 suppresses none: "
                                         "Sec. 2.3 takes \"the first two\" and names none")
    merge_iou_threshold: float = ours(0.0, "option: a candidate becomes the mean, weighted by the scores, of the "
                                           "landmark's boxes that overlap it by this IoU; 0 is off")
    clip_boxes: bool = ours(False, "not stated; clip candidates at the volume's border, which moves their centres "
                                   "inward")
    candidates: int = paper(2, "Sec. 2.3: per landmark; the prior chooses among them")
    top_k: int = ours(8, "candidates per landmark in the output, best first; for evaluation and `predict --candidates`")
    score_threshold: float = ours(0.05, "not stated; boxes with a lower score are dropped; a landmark without any is "
                                        "missing")
    use_prior: bool = paper(True, "Sec. 2.3; `evaluate` reports both")
    prior_in_prediction: str = ours("validated", "in `predict` and `export`: where it lowers the error of the run's "
                                                 "validation cases; or always, as in the paper, or never")
    prior_noise_mm: float = ours(0.0, "paper: fitted on reference landmarks; deviation of noise added to them, as "
                                      "predictions have")
    prior_weight: float = ours(0.0, "paper: Eq. 4, which uses no scores, at 0; above, the prior's weight against the "
                                    "scores, see `geometry.graph.choose_by_scores`; requires prior_noise_mm")
    heatmap_decode: str = ours("argmax", "not stated; the highest voxel; or centroid, around it. Of exact Gaussians of "
                                         "sigma 3 they miss by 0.48 and 0.31 voxels (benchmarks/decoding.py)")
    outside_factor: float = ours(2.0, "`predict` refuses volumes whose voxels are this many times smaller or larger "
                                      "than in training, unless spacing_mm resamples them; at half the voxel size "
                                      "the Dice of hip fell from 0.95 to 0.26")

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
        """Per cell."""
        return len(self.anchor_sides) ** 3

    @property
    def stride(self) -> int:
        """The product of the poolings: sides are padded to multiples of it."""
        return 2 ** (len(self.widths) - 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Voxels per cell of each feature map with anchors: the fused one, and in `ssd` the deepest too."""
        fused = self.stride // 2
        return (fused, self.stride) if self.method == "ssd" else (fused,)

    @property
    def final_deviations(self) -> tuple[float, ...]:
        """Of the offsets of the boxes that are predicted: in `faster_rcnn` those of the second stage."""
        second = self.proposal_deviations if self.method == "faster_rcnn" else ()
        return second or self.offset_deviations

    @property
    def boxes(self) -> bool:
        """Whether the network predicts boxes."""
        return self.method != "heatmap"

    @property
    def steps(self) -> int:
        """All steps."""
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
    yield 0 <= config.phantom_rotation_degrees <= 180, "phantom_rotation_degrees", "from 0 to 180"
    yield len(config.spacing_mm) in (0, 3) and all(config.spacing_mm), "spacing_mm", "three positive numbers or none"
    yield config.outside_factor > 1, "outside_factor", "above 1"
    yield config.test_cases >= 0 and config.validation_cases >= 0, "test_cases", "0 or more, as validation_cases"
    yield one_of(config, "augmentation", ("versions", "random", "none"))
    yield 0 <= config.rotation_degrees <= 180, "rotation_degrees", "from 0 to 180"
    yield one_of(config, "frame", ("volume", "face"))
    yield config.frame == "face" or not config.finder_run, "finder_run", "none: it is for --frame face"
    yield (config.frame == "volume" or (config.boxes and config.use_prior), "frame",
           "volume, for heatmaps and without the prior, whose training faces give the frame")
    yield (0.05 <= config.ratio <= 1 and (config.ratio == 1 or not config.boxes), "ratio",
           "1, of heatmaps from 0.05 to 1")


def _box_rules(config: FaceConfig):
    yield len(config.box_sides) > 0 and min(config.box_sides) > 0, "box_sides", "one positive number or more"
    yield (not config.landmarks or len(config.box_sides) in (1, config.landmarks), "box_sides",
           f"one number, or one for each of the {config.landmarks} landmarks")
    yield len(config.anchor_sides) > 0 and min(config.anchor_sides) > 0, "anchor_sides", "one positive number or more"
    yield (0 < config.anchor_negative <= config.anchor_positive < 1, "anchor_negative",
           "above 0 and not above anchor_positive, which is under 1")
    yield (len(config.offset_deviations) == 2 and min(config.offset_deviations) > 0, "offset_deviations",
           "two positive numbers")
    yield (len(config.proposal_deviations) in (0, 2) and all(config.proposal_deviations), "proposal_deviations",
           "two positive numbers or none")
    yield one_of(config, "method", METHODS)
    yield len(config.widths) in (3, 4) and min(config.widths) > 0, "widths", "three or four positive numbers"
    yield one_of(config, "norm_at_test", ("tile", "moving"))
    yield one_of(config, "heatmap_decode", ("argmax", "centroid"))
    for name in ("proposal_nms_iou_threshold", "nms_iou_threshold", "norm_momentum"):
        yield 0 < getattr(config, name) <= 1, name, "above 0 and up to 1"
    yield 0 <= config.score_threshold < 1, "score_threshold", "at least 0 and under 1"
    yield 0 <= config.merge_iou_threshold < 1, "merge_iou_threshold", "at least 0 and under 1"
    yield one_of(config, "prior_in_prediction", ("validated", "always", "never"))
    yield 0 <= config.hard_negatives <= 1, "hard_negatives", "from 0 to 1"
    yield 1 <= config.candidates <= config.top_k, "candidates", "from 1 to top_k"
    yield config.candidates <= 4, "candidates", "at most 4: the prior tries every combination"
    yield config.proposals <= config.proposal_pool, "proposals", "at most proposal_pool"


def _training_rules(config: FaceConfig):
    yield one_of(config, "schedule", ("constant", "cosine"))
    yield one_of(config, "precision", ("float32", "mixed_bfloat16", "mixed_float16"))
    for name in ("head_width", "max_positives", "negatives_per_positive", "proposals", "roi_side", "roi_width",
                 "heatmap_sigma_mm", "learning_rate", "iterations", "record_every"):
        yield getattr(config, name) > 0, name, "above 0"
    for name in ("prior_noise_mm", "prior_weight", "reader_noise_mm"):
        yield getattr(config, name) >= 0, name, "0 or more"
    yield config.regression_weight >= 0 and config.iou_balance_power >= 0, "regression_weight", "0 or more"
    yield (config.steps % config.record_every == 0, "record_every", f"a divisor of all {config.steps} steps")
    yield (config.early_stopping == 0 or config.validation_cases > 0, "early_stopping",
           "0, or validation_cases above 0: it needs cases to validate on")


HALF = 64  # voxels along a side, of twice the paper's size: faces, boxes and anchors have half as many

PRESETS = {
    "paper": {},
    "quick": {
        "phantom_size": differs((HALF, HALF, HALF), "paper preset: 128; voxels twice as large"),
        "phantom_spacing_mm": differs((2.6, 2.6, 2.6), "paper: 1.3; coarser"),
        "phantom_rotation_degrees": differs(45.0, "paper preset: 180; all directions take longer to learn"),
        "flips": differs(False, "paper: True; with mirror images, left and right take longer to learn"),
        "box_sides": differs((7.0, 12.0, 7.0, 12.0, 12.0), "paper: 14 and 24; the same in millimetres"),
        "anchor_sides": differs((6.5, 8.0, 10.0, 14.0), "paper: 13,16,20,28; the same in millimetres"),
        "offset_deviations": differs((0.15, 0.3), "paper preset: 1; Xu et al.'s: targets of positives are under 0.3, "
                                                  "where undivided a short training leaves boxes blunt"),
        "regression_weight": differs(0.2, "paper preset: 1; with divided offsets the smooth L1 loss is larger, and a "
                                          "short training then confuses landmarks"),
        "widths": differs((16, 32, 64), "paper preset: 32 to 256; one level less: a cell has the same millimetres"),
        "head_width": differs(32, "paper preset: 256; two CPU cores"),
        "initial_deviation": differs(0.0, "paper preset: 0.01; He's: small weights grow too slowly here"),
        "max_positives": differs(512, "paper preset: 128; all of them: a sample makes a short training noisy"),
        "roi_side": differs(5, "paper preset: 7; two CPU cores"),
        "roi_width": differs(128, "paper preset: 512; two CPU cores"),
        "heatmap_sigma_mm": differs(7.8, "paper preset: 3.9; the same in voxels"),
        "precision": differs("mixed_bfloat16", "paper preset: float32; two CPU cores"),
        "learning_rate": differs(1e-3, "paper preset: 1e-4; training is short"),
        "schedule": differs("cosine", "paper preset: constant; better after a short training"),
        "iterations": differs(600, "paper preset: 12000; minutes on two CPU cores"),
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
    "finder": {
        "method": differs("heatmap", "paper: none; finds the midline for --frame face"),
        "ratio": differs(0.5, "paper: none; enough for the midline, in an eighth of the time"),
        "rotation_degrees": differs(180.0, "paper: 25; all directions"),
        "heatmap_decode": differs("centroid", "paper: not stated; coarse voxels"),
    },
    "ig_rpn_canonical": {
        "frame": differs("face", "paper: not stated; rotated by the midline that a finder finds (--finder_run)")},
}

RENAMED = {"phantom_turn_degrees": "phantom_rotation_degrees", "most_positives": "max_positives",
           "proposal_nms": "proposal_nms_iou_threshold", "class_nms": "nms_iou_threshold", "listed": "top_k",
           "lowest_score": "score_threshold"}
REMOVED = {"jit_compile": False}
AT_TEST = ("norm_at_test", "heatmap_decode", "nms_iou_threshold", "merge_iou_threshold", "clip_boxes", "top_k",
           "score_threshold", "use_prior", "prior_in_prediction", "prior_noise_mm", "prior_weight")
ADDED = {"outside_factor": 2.0, "proposal_deviations": (), "merge_iou_threshold": 0.0, "reader_noise_mm": 0.0,
         "prior_in_prediction": "always", "frame": "volume", "finder_run": "", "frame_margin_mm": 30.0,
         "midline_noise_mm": 3.0, "ratio": 1.0, "start_from": ""}
# Fields that a run of --start_from must have in common with this one.
LIKE_ITS_START = ("method", "widths", "head_width", "roi_side", "roi_width", "anchor_sides", "offset_deviations",
                  "landmark_names")

FACE = Choices("face", FaceConfig, PRESETS, VARIANTS, renamed=RENAMED, removed=REMOVED, added=ADDED,
               at_test=AT_TEST)
