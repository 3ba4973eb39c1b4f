"""Datasets of one to six public volumes each, for which nothing was tuned, for `tfsono plan hip`.

    python benchmarks/untuned.py SAMPLES OUT        then: tfsono plan hip OUT/spleen

SAMPLES has the test volumes of three repositories on GitHub: `ivadomed` those of ivadomed/data-testing (a spleen of
MSD Task09, spinal cords of spine-generic), `sct` of spinalcordtoolbox/sct_testing_data, `tptbox_vertebra` of
Hendrik-code/TPTBox.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

SPLEEN, UNF, VERTEBRA = "ivadomed/ct_scan", "ivadomed", "tptbox_vertebra"
CASES = {  # dataset -> case -> image, mask
    "spleen": {"spleen2": (f"{SPLEEN}/sub-spleen2/ct/sub-spleen2_ct.nii.gz",
                           f"{SPLEEN}/derivatives/labels/sub-spleen2/ct/sub-spleen2_ct_seg-manual.nii.gz")},
    "cord": {**{f"unf01_{kind}": (f"{UNF}/sub-unf01/anat/sub-unf01_{kind}.nii.gz",
                                  f"{UNF}/derivatives/labels/sub-unf01/anat/sub-unf01_{kind}_seg-manual.nii.gz")
                for kind in ("T1w", "T2w", "T2star")},
             "sct_t2": ("sct/t2/t2.nii.gz", "sct/t2/t2_seg-manual.nii.gz"),
             "sct_t1": ("sct/t1/t1w.nii.gz", "sct/t1/t1w_seg-manual.nii.gz"),
             "sct_t2s": ("sct/t2s/t2s.nii.gz", "sct/t2s/t2s_seg.nii.gz")},
    "vertebra": {"ct": (f"{VERTEBRA}/sample_ct/sub-ct_label-22_ct.nii.gz",
                        f"{VERTEBRA}/sample_ct/sub-ct_seg-vert_label-22_msk.nii.gz"),
                 "mri": (f"{VERTEBRA}/sample_mri/sub-mri_label-6_T2w.nii.gz",
                         f"{VERTEBRA}/sample_mri/sub-mri_seg-vert_label-6_msk.nii.gz")},
}
SUBJECTS = {"cord": {f"unf01_{kind}": "unf01" for kind in ("T1w", "T2w", "T2star")}}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/untuned.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(argv)
    for dataset, cases in CASES.items():
        folder = arguments.out / dataset
        for case, files in cases.items():
            for kind, file in zip(("images", "labels"), files, strict=True):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(arguments.samples / file, folder / kind / f"{case}.nii.gz")
        (folder / "dataset.json").write_text(json.dumps({"subjects": SUBJECTS.get(dataset, {})}), encoding="utf-8")
        print(folder)


if __name__ == "__main__":
    main()
