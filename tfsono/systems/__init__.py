"""One interface for the five systems: `system(name)` is the only place where the name of a system chooses code.

    hip, femur, pose, face, head   the module of each system: the same names with the same signatures
    commands                       `tfsono predict` and `tfsono export`, of any system
    runs                           run folders -> networks with their weights; ensembles; copies of runs in runs
    first_weights                  the first weights of a training
    manifest                       entries that several systems' manifests share; reading those of the release before

Each module loads without TensorFlow and Keras, so that the command line can use it; what needs them is imported inside
the functions. The module of a system has

    CHOICES         the config with its presets and variants
    TAKES           `volumes` or `images`
    OPTIONS         options of a prediction that only this system has
    TOGETHER        how an ensemble is formed: of `networks`, as one network of several runs, or of `predictions`,
                    each model on its own, be it a run or an export
    PAPER           the runs, evaluations and orderings of the paper (`tfsono.reproduction`)
    outputs()       the files of a prediction
    load_runs(...)  run folders -> the runs and one module; module_of: of runs that are read
    check_together  refuses runs that cannot form an ensemble
    manifest_of     the manifest of the runs' SavedModel
    bare_networks   the networks of a module, for ONNX; AROUND: what stands around them
    predictor(...)  models, opened when they are iterated -> the predictor of a file, the same for runs and exports
    draft           the settings that a plan proposes for such data
    write_phantoms  writes a dataset of phantoms
"""

from __future__ import annotations

from types import ModuleType

NAMES = ("hip", "femur", "pose", "face", "head")


def system(name: str) -> ModuleType:
    """The module of a system.

    Raises:
      ValueError: there is no such system.
    """
    if name == "hip":
        from tfsono.systems import hip as one
    elif name == "femur":
        from tfsono.systems import femur as one
    elif name == "pose":
        from tfsono.systems import pose as one
    elif name == "face":
        from tfsono.systems import face as one
    elif name == "head":
        from tfsono.systems import head as one
    else:
        raise ValueError(f"system: expected {', '.join(NAMES)}, found {name!r}")
    return one
