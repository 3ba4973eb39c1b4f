"""From what a dataset is to the settings of its trainings: docs/planning.md has the rules, and what chose each.

    facts                          what is read of a cache: sizes, spacings, labels, landmarks, subjects
    draft                          settings with a reason each, and what the rules of all systems share
    hip, femur, pose, face, head   the rules of each system: facts and voxels of a step -> settings
    page                           a plan as text and as JSON

Nothing here needs TensorFlow. `tfsono.plan` measures steps on the machine, and completes the settings by them.
"""
