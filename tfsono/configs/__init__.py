"""All numbers of the five systems: one frozen flat dataclass per paper, its presets and its variants."""
