"""What the manifests of several systems say: where a model came from, what it is given, what it answers."""

from __future__ import annotations

from tfsono.training.run import Run


def source_of(run: Run) -> dict:
    """The run's name, settings, weights and data."""
    return {"run": run.folder.resolve().name, "preset": run.settings.preset, "variant": run.settings.variant,
            "weights": run.weights().name, "dataset": run.data.get("dataset", ""),
            "training_cases": len(run.split.get("train", ()))}


def volume_input(orientation: str) -> dict:
    """The input of every system of volumes."""
    return {
        "volume": {"dtype": "float32", "shape": ["X", "Y", "Z"], "axes": "x,y,z", "orientation": orientation,
                   "values": "raw intensities; any size"},
        "spacing_mm": {"dtype": "float32", "shape": [3], "axes": "x,y,z", "values": "of the volume, millimetres"},
    }


def mask_output() -> dict:
    """A mask among the outputs of a system of volumes."""
    return {"dtype": "uint8", "shape": ["X", "Y", "Z"], "axes": "x,y,z",
            "values": "0 background, k the k-th of `labels`; on the volume's own grid, not cleaned"}


def landmark_outputs(landmarks: int) -> dict:
    """Landmarks among the outputs of a system of volumes."""
    return {
        "points_vox": {"dtype": "float32", "shape": [landmarks, 3], "axes": "x,y,z",
                       "values": "`landmarks`; indices of the volume's own voxel centres"},
        "peaks": {"dtype": "float32", "shape": [landmarks],
                  "values": "the heatmaps' highest values; 1 is what was learned"},
    }
