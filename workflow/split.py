"""Draws the split that all runs of a workflow share: python workflow/split.py SYSTEM FILE.h5 SPLIT.json [--FIELD VALUE]

The dataset's own split, where it has one; else at random by subject, seed 0, as the training scripts draw it. `head`
divides the training part into folds itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import choose
from tfsono.data.cache import Cache
from tfsono.data.splits import chosen_split
from tfsono.errors import run_command
from tfsono.files import write_text
from tfsono.reproduction.steps import as_values
from tfsono.systems import system


def main(argv: list[str] | None = None) -> None:
    name, data, out, *words = sys.argv[1:] if argv is None else argv
    values, choices = as_values(words), system(name).CHOICES
    config = choose(choices, values.pop("preset", "paper"), next(iter(choices.variants)), values).config
    with Cache(data, name) as cache:
        split = chosen_split(None, cache.split, cache.names, cache.subjects, test_cases=config.test_cases,
                             validation_cases=getattr(config, "validation_cases", 0), seed=0)
    write_text(out, json.dumps(split, indent=2) + "\n")
    print({part: len(names) for part, names in split.items()})


if __name__ == "__main__":
    sys.exit(run_command(main))
