"""Entries that several systems' manifests share, and manifests of the release before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfsono.training.run import Run


def about(runs: Sequence[Run], use: str) -> dict:
    """The first entries of every manifest: the system, its intended use, and the runs that it was made from."""
    first, *others = runs
    return {"system": first.settings.system, "use": use, "source": source_of(first),
            "together_with": [source_of(run) for run in others], "trained_on": trained_on(runs)}


def trained_on(runs: Sequence[Run]) -> dict | None:
    """The union of the runs' training data, and the factor from which an input is refused; None where one is unknown.
    """
    from tfsono.predict.ranges import joined

    records = [run.data.get("trained_on") for run in runs]
    return {**joined(records), "outside_factor": runs[0].config.outside_factor} if all(records) else None


def with_current_keys(manifest: dict) -> dict:
    """A manifest under the names of this version; the one before had "cleaning", and "picture" as input of `head`."""
    found = {"postprocessing" if key == "cleaning" else key: value for key, value in manifest.items()}
    found["input"] = {"image" if key == "picture" else key: value for key, value in manifest["input"].items()}
    return found


def source_of(run: Run) -> dict:
    """The run's name, settings, weights and data."""
    return {"run": run.folder.resolve().name, "preset": run.settings.preset, "variant": run.settings.variant,
            "weights": run.weights().name, "dataset": run.data.get("dataset", ""),
            "training_cases": len(run.split.get("train", ()))}


def labels_of(run: Run) -> dict[str, int]:
    """Name -> value in the dataset's masks, in the order of the network's classes from 1."""
    return {name: int(run.data["labels"][name]) for name in run.config.label_names}


def volume_input(orientation: str) -> dict:
    """The input of every system of volumes."""
    return {
        "volume": {"dtype": "float32", "shape": ["X", "Y", "Z"], "axes": "x,y,z", "orientation": orientation,
                   "values": "raw intensities; any size"},
        "spacing_mm": {"dtype": "float32", "shape": [3], "axes": "x,y,z", "values": "of the volume, millimetres"},
    }


def mask_output(labels: int) -> dict:
    """A mask of so many labels among the outputs of a system of volumes."""
    return {"dtype": "uint8", "shape": ["X", "Y", "Z"], "axes": "x,y,z", "labels": labels,
            "values": "0 background, k the k-th of `labels`; on the volume's own grid, before postprocessing"}


def landmark_outputs(landmarks: int) -> dict:
    """Landmarks among the outputs of a system of volumes."""
    return {
        "points_vox": {"dtype": "float32", "shape": [landmarks, 3], "axes": "x,y,z",
                       "values": "`landmarks`; indices of the volume's own voxel centres"},
        "peaks": {"dtype": "float32", "shape": [landmarks],
                  "values": "the heatmaps' highest values; they are trained to 1"},
    }
