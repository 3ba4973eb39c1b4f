"""The manifest of a SavedModel: the same entries for every system; and manifests of the release before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfsono.training.run import Run


def described(runs: Sequence[Run], use: str, *, inputs: dict, output: dict, network: dict, postprocessing: dict,
              labels: dict[str, int] | None = None, landmarks: Sequence[str] = (),
              functions: dict | None = None) -> dict:
    """Every entry of a manifest but those that `export_module` adds: format, versions, date and files.

    Args:
      runs: what the SavedModel is made from.
      use: the intended use.
      inputs, output: name -> `array` of the function `serving_default`.
      network: settings of the network and of what prepares its input.
      postprocessing: what is done to the network's outputs: inside the graph, or with the outputs by the caller.
      labels: name -> value in the dataset's masks, in the order of the classes from 1.
      landmarks: names, in the order of the points.
      functions: the SavedModel's functions, and what each predicts.
    """
    first, *others = runs
    return {
        "system": first.settings.system, "use": use, "source": source_of(first),
        "together_with": [source_of(run) for run in others], "trained_on": trained_on(runs),
        "input": inputs, "output": output, "functions": functions or {"serving_default": "the prediction"},
        "labels": labels or {}, "landmarks": list(landmarks), "postprocessing": postprocessing, "network": network,
    }


def array(dtype: str, shape: Sequence, unit: str, axes: str, values: str) -> dict:
    """The description of an input or output.

    Args:
      dtype: by TensorFlow's name.
      shape: letters for sides that vary.
      unit: of its values; "1" for none.
      axes: of the image, in the order of the array's sides or of a point's coordinates; "" for neither.
      values: what they mean.
    """
    return {"dtype": dtype, "shape": list(shape), "unit": unit, "axes": axes, "values": values}


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
    volume = array("float32", ["X", "Y", "Z"], "intensity as in the file", "x,y,z", "raw intensities; any size")
    return {"volume": {**volume, "orientation": orientation},
            "spacing_mm": array("float32", [3], "mm", "x,y,z", "between the volume's voxel centres")}


def mask_output(labels: int) -> dict:
    """A mask of so many labels among the outputs of a system of volumes."""
    mask = array("uint8", ["X", "Y", "Z"], "class", "x,y,z",
                 "0 background, k the k-th of `labels`; on the volume's own grid, postprocessed")
    return {**mask, "labels": labels}


def mask_postprocessing(largest: bool, holes: bool) -> dict:
    """Of the mask of a system of volumes; the SavedModels of the release before have it still to do."""
    return {"in_graph": True, "largest_component": largest, "fill_holes": holes,
            "largest_component_is": "26-connected, of each label; of equal ones the first in array order",
            "fill_holes_is": "6-connected background that touches one label only and not the border"}


def landmark_outputs(landmarks: int, members: int = 1) -> dict:
    """Landmarks among the outputs of a system of volumes; of several members also theirs."""
    of_members = {
        "member_points_vox": array("float32", [members, landmarks, 3], "voxel", "x,y,z", "`points_vox` of each member"),
        "spread_mm": array("float32", [landmarks], "mm", "",
                           "standard deviation of the members' points, over one less than their number"),
    }
    return {
        "points_vox": array("float32", [landmarks, 3], "voxel", "x,y,z",
                            "`landmarks`; indices of the volume's own voxel centres"),
        "peaks": array("float32", [landmarks], "1", "", "the heatmaps' highest values; they are trained to 1"),
        "second_peaks": array("float32", [landmarks], "1", "",
                              "their highest values farther than three deviations of the targets from those"),
        "second_peak_mm": array("float32", [landmarks], "mm", "", "the distance between the two"),
        **(of_members if members > 1 else {}),
    }


def confidence_entry(runs: Sequence[Run]) -> dict:
    """The manifest's "confidence": of each run the model of `tfsono.training.confidence`; {} where one has none."""
    from tfsono.training.confidence import confidence_models

    models = confidence_models(runs)
    return {"confidence": models} if models else {}
