"""`head` (BPD and OFD in 2D ultrasound): seven networks in five folds, their ensembles, and four policies for labels.

The text prints no results; its orderings are what it says of the approaches. The landmark networks learn from the
ellipse of the masks where there are masks, as the segmentation networks do.
"""

from __future__ import annotations

from tfsono.configs.head import HEAD
from tfsono.reproduction.plan import Evaluation, Ordering, Paper, Training

FOLDS = 5
SEGMENTATION = ("unet", "attention_unet", "deeplabv3plus")
LANDMARKS = ("heatmap", "coordinate", "attention_pyramid", "transformer")
POLICY = "--landmark_policy"
POLICIES = ("drop", "repair", "keep")  # besides `ellipse`: compared in the first fold
ALL = ("--ensemble", "--samples", "0")
MRE, DSC = "mre_exchanged_mm", "dsc_percent"
ORDERINGS = (
    Ordering("Part A, approach 1: heatmaps are more robust than direct regression", "heatmap", "coordinate", MRE),
    Ordering("Part A, approach 3: attention and scales help", "attention_pyramid", "coordinate", MRE),
    Ordering("Part A, approach 4: tokens model the relations", "transformer", "coordinate", MRE),
    Ordering("Part B, approach 2: attention gates, better borders", "attention_unet", "unet", DSC, higher=True),
    Ordering("Part B, approach 3: several scales", "deeplabv3plus", "unet", DSC, higher=True),
)
PAPER = Paper(
    choices=HEAD,
    title="Fetal ultrasound biometry landmark detection: BPD and OFD",
    trainings=(*(Training(name, ("--variant", name), folds=FOLDS) for name in SEGMENTATION),
               *(Training(name, ("--variant", name, POLICY, "ellipse"), folds=FOLDS) for name in LANDMARKS),
               *(Training(f"heatmap_{policy}", ("--variant", "heatmap", POLICY, policy)) for policy in POLICIES)),
    evaluations=(Evaluation("segmentation", SEGMENTATION, ALL),
                 Evaluation("landmarks", LANDMARKS, ALL),
                 Evaluation("policies", ("heatmap_fold0", *(f"heatmap_{policy}" for policy in POLICIES)),
                            ("--samples", "0"))),  # the folds' out-of-fold cases: a line more, with that option
    orderings=ORDERINGS,
    export="unet",
    phantom=("--phantom_wrong_points", "0.37"),  # the public table's: without them three of the policies are one
    lengths=("landmark_iterations", "segmentation_iterations", "landmark_record_every", "segmentation_record_every"),
    short=("--test_cases", "12", "--input_size", "96,128", "--segmentation_iterations", "240",
           "--landmark_iterations", "240"))
