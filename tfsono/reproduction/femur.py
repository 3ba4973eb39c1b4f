"""`femur` (BRNDC-D, BHI 2019): Tables 1 and 2 in the regions that the first stage finds, and in the reference boxes."""

from __future__ import annotations

from tfsono.configs.femur import FEMUR
from tfsono.reproduction.plan import Evaluation, Ordering, Paper, Training

FIRST = "unet_roi"  # the second stages of a seed share its first stage
REGION = ("--roi_run", "{runs}/unet_roi_{seed}")
ALONE = ("brndc", "brnd", "brn", "unet_s", "unet_l")
SECOND = (*ALONE, "brndc_d")
REFINED = ("--variant", "brndc_d", "--start_from", "{runs}/brndc_{seed}", *REGION)
CONTROLS = (  # the adversarial stage's steps and rates without its loss; twice the steps, and gradients of one size
    Training("brndc_more", (*REFINED, "--adversarial_weight", "0"), (FIRST, "brndc")),
    Training("unet_s_long", ("--variant", "unet_s", *REGION), (FIRST,), times=2),
    Training("brndc_long", ("--variant", "brndc", *REGION), (FIRST,), times=2),
    Training("brndc_balanced", ("--variant", "brndc", "--heatmap_weight", "1", *REGION), (FIRST,), times=2),
)
CONTROLLED = ("brndc", "brndc_d", "unet_s", *(training.name for training in CONTROLS))
DICE, VOLUME, LENGTH = "dice", "volume_error_ml", "length_abs_error_mm"
PROXIMAL, DISTAL = "error_proximal_mm", "error_distal_mm"
ORDERINGS = (
    Ordering("Table 1, DSC", "Unet-S", "Unet-ROI", DICE, (89.41, 87.30), higher=True),
    Ordering("Table 1, DSC", "BRN", "Unet-S", DICE, (90.03, 89.41), higher=True),
    Ordering("Table 1, DSC", "BRND", "BRN", DICE, (90.11, 90.03), higher=True),
    Ordering("Table 1, DSC", "BRNDC", "BRND", DICE, (90.76, 90.11), higher=True),
    Ordering("Table 1, DSC", "BRNDC-D", "BRNDC", DICE, (91.03, 90.76), higher=True),
    Ordering("Table 1, Verr", "BRND", "Unet-S", VOLUME, (1.89, 3.04)),
    Ordering("Table 1, Verr", "BRNDC-D", "Unet-S", VOLUME, (1.60, 3.04)),
    Ordering("Table 2, p1", "BRN", "Unet-L", PROXIMAL, (4.26, 4.32)),
    Ordering("Table 2, p2", "BRND", "Unet-L", DISTAL, (4.05, 4.57)),
    Ordering("Table 2, p1", "BRNDC", "BRND", PROXIMAL, (3.92, 4.19)),
    Ordering("Table 2, p2", "BRND", "BRNDC", DISTAL, (4.05, 4.28)),
    Ordering("Table 2, p1", "BRNDC-D", "BRNDC", PROXIMAL, (3.70, 3.92)),
    Ordering("Table 2, Lerr", "BRND", "BRN", LENGTH, (0.89, 0.96)),
    Ordering("Table 2, Lerr", "BRNDC-D", "Unet-L", LENGTH, (0.87, 1.05)),
)
PAPER = Paper(
    choices=FEMUR,
    title="Joint segmentation and landmark localization of fetal femur in ultrasound volumes (BHI 2019)",
    trainings=(Training(FIRST, ("--variant", FIRST)),
               *(Training(variant, ("--variant", variant, *REGION), (FIRST,)) for variant in ALONE),
               Training("brndc_d", REFINED, (FIRST, "brndc"))),
    evaluations=(Evaluation("found", (FIRST, *SECOND)), Evaluation("reference", SECOND, ("--region", "reference"))),
    orderings=ORDERINGS,
    export="brndc_d",
    controls=CONTROLS,
    of_controls=(Evaluation("controls", CONTROLLED), Evaluation("controls_reference", CONTROLLED,
                                                                ("--region", "reference"))),
    names={"unet_roi": "Unet-ROI", "unet_s": "Unet-S", "unet_l": "Unet-L", "brn": "BRN", "brnd": "BRND",
           "brndc": "BRNDC", "brndc_d": "BRNDC-D"},
    lengths=("iterations", "roi_iterations", "adversarial_iterations", "record_every"),
    phantom=("--cases", "66"),
    short=("--test_cases", "20", "--validation_cases", "16", "--iterations", "1800"))
