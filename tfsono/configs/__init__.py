"""All numbers of the five systems: one frozen flat dataclass per paper, its presets and its variants.

    hip, femur, pose, face, head   `HipConfig` and `HIP`, and so on
"""
