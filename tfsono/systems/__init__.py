"""The five systems behind one face: `system(name)` is the only place where the name of a system chooses code.

    hip, femur, pose, face, head   the face of each: the same names with the same signatures
    commands                       `tfsono predict` and `tfsono export`, of any system
    runs                           run folders -> networks with their weights, and whether runs predict together
    manifest                       what the manifests of several systems say
    demo_words                     what a system adds to the commands of the demo

Each module loads without TensorFlow and Keras, so that a command line can ask it; what needs them is imported inside of
the functions. A face has

    CHOICES         the config with its presets and variants
    TAKES           `volumes` or `images`
    OPTIONS         the options of a prediction that it has and others have not
    TOGETHER        how several sources predict together: as `networks`, one network of several runs, or by their
                    `predictions`, each model on its own, runs and exports alike
    DEMO            words of the demo
    outputs()       what a prediction writes
    load_runs(...)  run folders -> the runs and one module; module_of: of runs that are read
    check_together  refuses runs that cannot predict together
    manifest_of     what a SavedModel of runs says
    predictor(...)  models, opened as it asks for them -> what predicts a file, the same for runs and exports
    write_phantoms  a dataset of phantoms
"""

from __future__ import annotations

from types import ModuleType

NAMES = ("hip", "femur", "pose", "face", "head")


def system(name: str) -> ModuleType:
    """The face of a system.

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
