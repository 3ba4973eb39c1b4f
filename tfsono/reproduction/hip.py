"""`hip` (deeply supervised 3D U-net, MLMI 2017): Tables 1 and 2, and the network without deep supervision.

C3D's weights are a file of the user's; without it a run on simple shapes stands in for them, and the rows say so.
"""

from __future__ import annotations

from tfsono.configs.hip import HIP
from tfsono.reproduction.plan import Evaluation, Ordering, Paper, StandIn, Training

PLACE, WITH, WITHOUT = "Table 2", "with transfer", "without transfer"
CLAIM = "Sec. 4: deep supervision helps"
ORDERINGS = (
    Ordering(f"{PLACE}, mean", WITH, WITHOUT, "assd_mm", (0.22, 0.67)),
    Ordering(f"{PLACE}, Hausdorff", WITH, WITHOUT, "hausdorff_mm", (6.4, 12.4)),
    Ordering(f"{PLACE}, DICE", WITH, WITHOUT, "dice", (0.987, 0.975), higher=True),
    Ordering(f"{PLACE}, precision", WITH, WITHOUT, "precision", (0.991, 0.985), higher=True),
    Ordering(f"{PLACE}, recall", WITH, WITHOUT, "recall", (0.982, 0.964), higher=True),
    Ordering(f"{CLAIM}, DICE", "paper", "no_deep_supervision", "dice", higher=True),
    Ordering(f"{CLAIM}, mean", "paper", "no_deep_supervision", "assd_mm"),
)
PAPER = Paper(
    choices=HIP,
    title="3D U-net with multi-level deep supervision: segmentation of proximal femur in 3D MR images (MLMI 2017)",
    trainings=(Training("without_transfer", ()),
               Training("with_transfer", ("--c3d_weights", "{c3d}")),
               Training("no_deep_supervision", ("--variant", "no_deep_supervision"))),
    evaluations=(Evaluation("tables", ("without_transfer", "with_transfer")),
                 Evaluation("deep_supervision", ("without_transfer", "no_deep_supervision"))),
    orderings=ORDERINGS,
    export="with_transfer",
    stand_in=StandIn(("--cases", "60", "--seed", "1"),
                     ("--variant", "tuned", "--iterations", "400", "--seed", "9")))
