"""Numbers of `pose`: 16 landmarks of the whole fetus, refined on each test volume (FetusMap), MICCAI 2019.

    python train/pose.py --data pose.h5 --run_dir runs/land --preset quick --variant land_gcp
    python evaluate/pose.py --data pose.h5 --runs runs/land runs/gan --out results

What to expect with the paper's data (Tables 1 and 2): Land-R4 6.59 mm and 53.8 % AUC, SSLGCP 4.92 mm and 62.9 %. A
variant is a row of those tables without its refinement: SSL rows are the Land runs, refined while they are evaluated;
finder and land_canonical are ours, for bodies in any direction.
"The lineage" in a note is the public code of the first author's group, of the same years.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfsono.config import Choices, check_rules, differs, one_of, ours, paper

METHODS = ("land", "rnn", "gan")
HEATMAP_LOSSES = ("l2", "weighted_l2", "adaptive_wing")

# Joints in the paper's numbering. Its text has only the numbers; the names are inferred (specification).
LANDMARKS = ("head", "shoulder_b", "neck", "shoulder_a", "elbow_a", "wrist_a", "spine", "sacrum", "elbow_b", "wrist_b",
             "hip_a", "knee_a", "ankle_a", "hip_b", "knee_b", "ankle_b")
SEGMENTS = (("head", "neck"), ("neck", "shoulder_b"), ("shoulder_b", "elbow_b"), ("elbow_b", "wrist_b"),
            ("neck", "shoulder_a"), ("shoulder_a", "elbow_a"), ("elbow_a", "wrist_a"), ("neck", "spine"),
            ("spine", "sacrum"), ("sacrum", "hip_a"), ("hip_a", "knee_a"), ("knee_a", "ankle_a"), ("sacrum", "hip_b"),
            ("hip_b", "knee_b"), ("knee_b", "ankle_b"))
MIRRORED = (("shoulder_a", "shoulder_b"), ("elbow_a", "elbow_b"), ("wrist_a", "wrist_b"), ("hip_a", "hip_b"),
            ("knee_a", "knee_b"), ("ankle_a", "ankle_b"))
MIDLINE = ("head", "neck", "spine", "sacrum")
ROBUST = ("head", "shoulder_b", "neck", "shoulder_a", "elbow_a", "spine", "sacrum", "elbow_b", "hip_a", "hip_b")


@dataclass(frozen=True)
class PoseConfig:
    """Every number of the system; sections and equations are the paper's."""

    # Data
    landmark_names: tuple[str, ...] = ours((), "landmarks in the order of the heatmaps; () uses the cache's")
    orientation: str = ours("LPS", "file order not stated; volumes are reoriented to these axes without resampling")
    spacing_mm: tuple[float, ...] = ours((), "the paper's volumes have 0.5 mm; () keeps each volume's own")
    ratio: float = paper(0.5, "Sec. 3: 0.4, or 0.5 with checkpointing; the volume is rescaled")
    test_cases: int = paper(52, "Sec. 3: 52 of 152")
    validation_cases: int = ours(0, "the paper has none; above 0, the weights with the lowest error on them are kept "
                                    "too")

    # Phantoms, where there is no dataset
    phantom_cases: int = paper(152, "Sec. 3")
    phantom_size: tuple[int, ...] = paper((220, 205, 260), "Sec. 3: the average")
    phantom_spacing_mm: tuple[float, ...] = paper((0.5, 0.5, 0.5), "Sec. 3")
    phantom_weeks: tuple[float, ...] = paper((10.0, 14.0), "Sec. 3: gestational ages")
    phantom_variety: float = ours(1.0, "not stated; of the postures; the nearer to 0, the more alike they are")
    phantom_rotation_degrees: float = ours(180.0, "not stated; largest rotation away from a sagittal view; 180 makes "
                                                  "all directions equally likely")

    # Augmentation
    augmentation: str = paper("versions", "Sec. 3: 800 from 100: 8 versions of each; or random, or none")
    rotation_degrees: float = ours(30.0, "largest rotation, about a random axis; not stated")
    flips: bool = paper(True, "Sec. 3: flipping; an odd number of mirrored axes swaps left and right landmarks")

    # Frame: an option, for bodies in any direction. A first network finds the midline, by which the volume is rotated
    frame: str = ours("volume", "not stated; the network sees the volume as it lies; or body: rotated onto the mean "
                                "midline of the training cases, so that left is always on the same side")
    finder_run: str = ours("", "run folder of the network that finds the midline (--variant finder), for --frame body; "
                               "a copy is kept in this run")
    frame_margin_mm: float = ours(5.0, "of the frame's box around all landmarks of the training cases; with 12 mm the "
                                       "box of quick has twice the voxels")
    midline_noise_mm: float = ours(1.5, "deviation along each axis of what training adds to the reference midline, as "
                                        "the finder errs; other values were not tried")

    # Detector
    method: str = paper("land", "Table 1's rows; or rnn, gan")
    widths: tuple[int, ...] = ours((64, 128, 256, 512, 512), "the figure is lost; chosen by the memory and time that "
                                                             "the paper reports")
    norm_momentum: float = ours(0.9, "not stated; the lineage")
    norm_epsilon: float = ours(1e-5, "not stated; the lineage")
    norm_at_test: str = ours("tile", "not stated; the volume's own statistics, as in training with batch 1; or moving, "
                                     "the averages of training over single volumes")
    initial_deviation: float = ours(0.01, "not stated; the lineage; 0 uses He's initialisation")
    head_deviation: float = ours(0.01, "of the Gaussian that initialises the last kernel; not stated; the lineage")
    recompute: bool = paper(True, "Sec. 2.3: gradient checkpointing, at ratio 0.5")
    heatmap_sigma_mm: float = ours(2.5, "not stated; in millimetres, so that the ratios differ only in resolution")
    heatmap_loss: str = paper("l2", "Sec. 2.1; or weighted_l2, or adaptive_wing: L2 leaves the maps of hard landmarks "
                                    "flat for long (docs/results/pose.md)")

    # Refinement by recurrence over the joints
    rnn_hidden: int = ours(16, "not stated; channels of a joint's state")

    # Second stage: what rnn and gan add to a trained detector
    start_from: str = ours("", "run folder of a trained land; without one, everything is trained in this run, rnn in "
                               "one stage")
    second_iterations: int = ours(4000, "not stated; 5 epochs of 800; of the adversarial stage, and of rnn with "
                                        "start_from")

    # Adversarial refinement
    discriminator_widths: tuple[int, ...] = ours((32, 64, 128, 256), "not stated; kernels of side 4, stride 2")
    adversarial_share: float = ours(0.01, "not stated; the adversarial loss is scaled to this fraction of the L2 loss; "
                                          "any number, 0 trains on without it")
    adversarial_learning_rate: float = ours(1e-4, "not stated; the lineage")

    # Optimisation; an epoch is 800 volumes
    learning_rate: float = paper(1e-3, "Sec. 3: initial; here constant: no schedule is stated")
    adam_beta_1: float = paper(0.5, "Sec. 3: moment term")
    batch: int = ours(1, "not stated; volumes of a step; several are padded to the largest, and the padding is in the "
                         "batch's statistics as a volume's own is: for --strategy mirrored, one or more for each GPU")
    iterations: int = paper(16000, "Sec. 3: 20 epochs of 800, batch 1")
    record_every: int = ours(400, "steps between records (save, validate, log): half an epoch")
    early_stopping: int = ours(0, "option: stop after this many records without a lower validation error; 0 is off")
    precision: str = ours("float32", "option: mixed_bfloat16 or mixed_float16")

    # Refinement on a test volume (SSL)
    refine_atlases: int = paper(10, "Sec. 2.2: K")
    refine_iterations: int = paper(6, "Sec. 3")
    refine_learning_rate: float = paper(5e-4, "Sec. 3: initial")
    refine_norm: str = ours("batch", "not stated; the volume's own statistics, as norm_at_test; or moving, the "
                                     "averages of training are kept")
    refine_register: str = paper("robust", "Sec. 2.2: atlases are moved by ten robust landmarks; or midline: by head, "
                                           "neck, spine and sacrum, and a pair of sides costs its cheaper order")
    refine_declines: bool = ours(False, "option: a volume stays unrefined if its nearest atlas is farther than the "
                                        "mean error of the validation cases; needs validation cases")

    # Inference
    heatmap_decode: str = ours("wide_centroid", "not stated; in 1.5 sigma around the highest voxel; or centroid, in 2 "
                                                "voxels, or argmax, the voxel itself. Of exact Gaussians of sigma 2.5 "
                                                "they miss by 0.01, 0.22 and 0.48 voxels (benchmarks/decoding.py)")
    outside_factor: float = ours(2.0, "`predict` refuses volumes whose voxels are this many times smaller or larger "
                                      "than in training, unless spacing_mm resamples them; at half the voxel size "
                                      "the Dice of hip fell from 0.95 to 0.26")

    # Evaluation
    auc_limit_mm: float = ours(10.0, "not printed; derived from Tables 1 and 2 together")

    # The run
    seed: int = ours(0, "not stated")
    deterministic: bool = ours(True, "the same command gives the same weights")

    @property
    def landmarks(self) -> int:
        return len(self.landmark_names)

    @property
    def stride(self) -> int:
        """The product of the poolings: sides are padded to multiples of it."""
        return 2 ** (len(self.widths) - 1)

    @property
    def adversarial(self) -> bool:
        return self.method == "gan"

    @property
    def branch_steps(self) -> int:
        """Steps of the first stage: none where training starts from a trained detector."""
        return 0 if self.start_from else self.iterations

    @property
    def steps(self) -> int:
        """All steps."""
        return self.branch_steps + (self.second_iterations if self.adversarial or self.start_from else 0)

    def __post_init__(self):
        check_rules(self, _data_rules(self), _network_rules(self), _training_rules(self))


def _data_rules(config: PoseConfig):
    for name in ("phantom_size", "phantom_spacing_mm"):
        values = getattr(config, name)
        yield len(values) == 3 and min(values) > 0, name, "three positive numbers"
    yield (len(config.phantom_weeks) == 2 and 9 <= config.phantom_weeks[0] <= config.phantom_weeks[1] <= 15,
           "phantom_weeks", "two numbers from 9 to 15, the lowest and the highest")
    yield 0 < config.phantom_variety <= 1, "phantom_variety", "above 0 and up to 1"
    yield 0 <= config.phantom_rotation_degrees <= 180, "phantom_rotation_degrees", "from 0 to 180"
    yield len(config.spacing_mm) in (0, 3) and all(config.spacing_mm), "spacing_mm", "three positive numbers or none"
    yield config.outside_factor > 1, "outside_factor", "above 1"
    yield 0 < config.ratio <= 1, "ratio", "above 0 and up to 1"
    yield config.test_cases >= 0 and config.validation_cases >= 0, "test_cases", "0 or more, as validation_cases"
    yield one_of(config, "augmentation", ("versions", "random", "none"))
    yield 0 <= config.rotation_degrees <= 180, "rotation_degrees", "from 0 to 180"
    yield one_of(config, "frame", ("volume", "body"))
    yield config.frame == "body" or not config.finder_run, "finder_run", "none: it is for --frame body"


def _network_rules(config: PoseConfig):
    yield one_of(config, "method", METHODS)
    yield len(config.widths) in (3, 4, 5) and min(config.widths) > 0, "widths", "three to five positive numbers"
    yield len(config.discriminator_widths) == 4, "discriminator_widths", "four numbers"
    yield config.rnn_hidden > 0, "rnn_hidden", "above 0"
    yield one_of(config, "heatmap_loss", HEATMAP_LOSSES)
    yield one_of(config, "norm_at_test", ("tile", "moving"))
    yield 0 < config.norm_momentum < 1, "norm_momentum", "between 0 and 1"
    yield one_of(config, "heatmap_decode", ("argmax", "centroid", "wide_centroid"))
    yield (not config.start_from or config.method != "land", "start_from",
           "none: land is what rnn and gan start from")


def _training_rules(config: PoseConfig):
    yield one_of(config, "precision", ("float32", "mixed_bfloat16", "mixed_float16"))
    yield one_of(config, "refine_norm", ("moving", "batch"))
    yield one_of(config, "refine_register", ("robust", "midline"))
    for name in ("adversarial_share", "iterations", "second_iterations", "refine_iterations"):
        yield getattr(config, name) >= 0, name, "0 or more"
    for name in ("batch", "heatmap_sigma_mm", "learning_rate", "adversarial_learning_rate", "refine_learning_rate",
                 "refine_atlases", "record_every", "auc_limit_mm"):
        yield getattr(config, name) > 0, name, "above 0"
    yield 0 <= config.adam_beta_1 < 1, "adam_beta_1", "at least 0 and under 1"
    yield (config.steps > 0 and config.steps % config.record_every == 0, "record_every",
           f"a divisor of all {config.steps} steps")
    yield (config.early_stopping == 0 or config.validation_cases > 0, "early_stopping",
           "0, or validation_cases above 0: it needs cases to validate on")


PRESETS = {
    "paper": {},
    "quick": {
        "phantom_cases": differs(132, "paper: 152; 32 to test"),
        "test_cases": differs(32, "paper: 52; minutes on two CPU cores"),
        "phantom_size": differs((96, 80, 80), "paper: 220,205,260; a smaller field of view, coarser"),
        "phantom_spacing_mm": differs((1.0, 1.0, 1.0), "paper: 0.5; coarser"),
        "phantom_weeks": differs((12.5, 14.0), "paper: 10 to 14; larger bodies for larger voxels"),
        "phantom_rotation_degrees": differs(45.0, "paper preset: 180; all directions take longer to learn"),
        "widths": differs((16, 32, 64, 128), "paper preset: 64 to 512; two CPU cores"),
        "flips": differs(False, "paper: True; with mirror images, left and right take longer to learn"),
        "discriminator_widths": differs((8, 16, 32, 64), "paper preset: 32 to 256; two CPU cores"),
        "initial_deviation": differs(0.0, "paper preset: 0.01; He's: small weights grow too slowly here"),
        "heatmap_sigma_mm": differs(5.0, "paper preset: 2.5; the same in voxels"),
        "precision": differs("mixed_bfloat16", "paper preset: float32; two thirds of the time on two CPU cores"),
        "rnn_hidden": differs(4, "paper preset: 16; two CPU cores"),
        "iterations": differs(1000, "paper: 16000; minutes on two CPU cores"),
        "refine_learning_rate": differs(1e-4, "paper: 5e-4, too fast for a detector with its own statistics"),
        "second_iterations": differs(300, "paper preset: 4000; minutes on two CPU cores"),
        "record_every": differs(100, "paper preset: 400; a record at least every half minute"),
    },
}

R4 = {
    "ratio": differs(0.4, "paper: Table 1, R4: the highest without checkpointing"),
    "recompute": differs(False, "paper: Table 1, R4: without checkpointing"),
}

VARIANTS = {
    "land_gcp": {},
    "land_r4": R4,
    "rnn_gcp": {"method": differs("rnn", "paper: Table 1, recurrence over the joints")},
    "rnn_r4": {**R4, "method": differs("rnn", "paper: Table 1, recurrence over the joints")},
    "gan_gcp": {"method": differs("gan", "paper: Table 1, adversarial refinement")},
    "gan_r4": {**R4, "method": differs("gan", "paper: Table 1, adversarial refinement")},
    "finder": {
        "ratio": differs(0.25, "paper: 0.5; enough for the midline, in an eighth of the time"),
        "recompute": differs(False, "paper: with checkpointing; not needed at this ratio"),
        "augmentation": differs("random", "paper: 8 versions; another direction in every epoch"),
        "rotation_degrees": differs(180.0, "paper preset: 30; all directions"),
    },
    "land_canonical": {
        "frame": differs("body", "paper: not stated; rotated by the midline that a finder finds (--finder_run)"),
        "augmentation": differs("random", "paper: 8 versions; another error of the midline in every epoch"),
        "rotation_degrees": differs(10.0, "paper preset: 30; besides the midline's errors"),
    },
}

RENAMED = {"phantom_turn_degrees": "phantom_rotation_degrees"}
REMOVED = {"schedule": "constant", "jit_compile": False}
AT_TEST = ("norm_at_test", "heatmap_decode", "refine_atlases", "refine_iterations", "refine_learning_rate",
           "refine_norm", "refine_register", "refine_declines", "auc_limit_mm")
ADDED = {"outside_factor": 2.0, "frame": "volume", "finder_run": "", "frame_margin_mm": 5.0, "midline_noise_mm": 1.5,
         "refine_register": "robust", "heatmap_loss": "l2", "refine_declines": False,
         "batch": 1}

POSE = Choices("pose", PoseConfig, PRESETS, VARIANTS, renamed=RENAMED, removed=REMOVED, added=ADDED,
               at_test=AT_TEST)
