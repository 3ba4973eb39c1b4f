"""`pose` (FetusMap, MICCAI 2019): Tables 1 and 2 at both ratios.

The SSL rows are the Land runs, refined in the evaluation. All rows are measured with each volume's own statistics in
the normalisation, and with the averages of training.
"""

from __future__ import annotations

from tfsono.configs.pose import POSE
from tfsono.reproduction.plan import Evaluation, Ordering, Paper, Training

RATIOS = ("gcp", "r4")


def _after_land(name: str, method: str, ratio: str, *words: str) -> Training:
    """A training that starts from the detector of its ratio."""
    detector = f"land_{ratio}"
    return Training(f"{name}_{ratio}", ("--variant", f"{method}_{ratio}", "--start_from",
                                        "{runs}/" + detector + "_{seed}", *words), (detector,))


TRAININGS = tuple(training for ratio in RATIOS for training in (
    Training(f"land_{ratio}", ("--variant", f"land_{ratio}")),
    _after_land("rnn", "rnn", ratio), _after_land("gan", "gan", ratio)))
# The adversarial stage's steps and rate, without its loss.
CONTROLS = tuple(_after_land("more", "gan", ratio, "--adversarial_share", "0") for ratio in RATIOS)
ROWS = tuple(training.name for training in TRAININGS)
CONTROLLED = tuple(f"{name}_{ratio}" for ratio in RATIOS for name in ("land", "gan", "more"))
MRE, AUC = "mre_mm", "auc"
ORDERINGS = (
    Ordering("Table 1, mean distance", "LandGCP", "Land-R4", MRE, (5.35, 6.59)),
    Ordering("Table 1, mean distance", "Land-R4", "RNN-R4", MRE, (6.59, 11.14)),
    Ordering("Table 1, mean distance", "LandGCP", "RNNGCP", MRE, (5.35, 9.11)),
    Ordering("Table 1, mean distance", "GAN-R4", "Land-R4", MRE, (5.89, 6.59)),
    Ordering("Table 1, mean distance", "LandGCP", "GANGCP", MRE, (5.35, 5.69)),
    Ordering("Table 1, mean distance", "SSL-R4", "Land-R4", MRE, (5.47, 6.59)),
    Ordering("Table 1, mean distance", "SSLGCP", "LandGCP", MRE, (4.92, 5.35)),
    Ordering("Table 1, mean distance", "SSLGCP", "GANGCP", MRE, (4.92, 5.69)),
    Ordering("Table 1, mean distance", "SSLGCP", "SSL-R4", MRE, (4.92, 5.47)),
    Ordering("Table 2, mean AUC", "LandGCP", "Land-R4", AUC, (60.7, 53.8), higher=True),
    Ordering("Table 2, mean AUC", "SSL-R4", "Land-R4", AUC, (59.5, 53.8), higher=True),
    Ordering("Table 2, mean AUC", "SSLGCP", "LandGCP", AUC, (62.9, 60.7), higher=True),
    Ordering("Table 2, mean AUC", "SSLGCP", "SSL-R4", AUC, (62.9, 59.5), higher=True),
)
PAPER = Paper(
    choices=POSE,
    title="FetusMap: fetal pose estimation in 3D ultrasound (MICCAI 2019)",
    trainings=TRAININGS,
    evaluations=(Evaluation("own_statistics", ROWS, ("--refine",)),
                 Evaluation("moving_averages", ROWS, ("--refine", "--set", "norm_at_test=moving"))),
    orderings=ORDERINGS,
    export="land_gcp",
    controls=CONTROLS,
    of_controls=(Evaluation("controls", CONTROLLED),),
    names={"land_r4": "Land-R4", "land_gcp": "LandGCP", "rnn_r4": "RNN-R4", "rnn_gcp": "RNNGCP", "gan_r4": "GAN-R4",
           "gan_gcp": "GANGCP", "finder": "Finder", "land_canonical": "Land, canonical"},
    lengths=("iterations", "second_iterations", "record_every"))
