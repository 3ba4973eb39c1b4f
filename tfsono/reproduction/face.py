"""`face` (IG-RPN, ISBI 2020): Tables 1 and 2. Rows with and without the prior share a run."""

from __future__ import annotations

from tfsono.configs.face import FACE
from tfsono.reproduction.plan import Evaluation, Ordering, Paper, Training

VARIANTS = ("ig_rpn", "rpn", "ig_ssd", "ssd", "faster_rcnn", "heatmap")
MRE, IOU, HIT = "mre_mm", "mean_iou", "hit_50"
ORDERINGS = (
    Ordering("Table 1, d-mean", "IG-RPN", "Faster R-CNN", MRE, (4.38, 4.74)),
    Ordering("Table 1, d-mean", "IG-RPN", "IG-SSD", MRE, (4.38, 5.21)),
    Ordering("Table 1, d-mean", "IG-RPN", "Heatmap", MRE, (4.38, 5.30)),
    Ordering("Table 1, d-mean", "Faster R-CNN", "IG-SSD", MRE, (4.74, 5.21)),
    Ordering("Table 1, mIoU", "IG-RPN", "Faster R-CNN", IOU, (63.77, 62.87), higher=True),
    Ordering("Table 1, mIoU", "IG-RPN", "IG-SSD", IOU, (63.77, 61.46), higher=True),
    Ordering("Table 2, d-mean", "I-SSD", "SSD", MRE, (5.38, 5.42)),
    Ordering("Table 2, d-mean", "G-SSD", "SSD", MRE, (5.28, 5.42)),
    Ordering("Table 2, d-mean", "IG-SSD", "SSD", MRE, (5.21, 5.42)),
    Ordering("Table 2, d-mean", "I-RPN", "RPN", MRE, (4.43, 4.77)),
    Ordering("Table 2, d-mean", "G-RPN", "RPN", MRE, (4.52, 4.77)),
    Ordering("Table 2, d-mean", "IG-RPN", "RPN", MRE, (4.38, 4.77)),
    Ordering("Table 2, d-mean", "IG-RPN", "I-RPN", MRE, (4.38, 4.43)),
    Ordering("Table 2, d-mean", "RPN", "SSD", MRE, (4.77, 5.42)),
    Ordering("Table 2, AP50", "I-RPN", "RPN", HIT, (81.87, 78.12), higher=True),
    Ordering("Table 2, AP50", "IG-RPN", "RPN", HIT, (82.50, 78.12), higher=True),
)
PAPER = Paper(
    choices=FACE,
    title="Region proposal network with graph prior and IoU-balance loss for landmark detection in 3D ultrasound "
          "(ISBI 2020)",
    trainings=tuple(Training(variant, ("--variant", variant)) for variant in VARIANTS),
    evaluations=(Evaluation("tables", VARIANTS),),
    orderings=ORDERINGS,
    export="ig_rpn",
    names={"rpn": "RPN", "ig_rpn": "I-RPN", "ssd": "SSD", "ig_ssd": "I-SSD", "faster_rcnn": "Faster R-CNN",
           "heatmap": "Heatmap", "finder": "Finder", "ig_rpn_canonical": "I-RPN, canonical"})
