"""`prior_choice.json` of a run: whether the graph prior of `face` lowers the error of its validation cases.

    {"cases": 20, "mre_mm": {"without": 4.21, "with": 3.95}}

The prior is the paper's, and on other data than the paper's it may do harm; so `predict` and `export` use it where it
was seen to help.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict

from tfsono.errors import UserError
from tfsono.files import read_json, write_text
from tfsono.structure import check_structure
from tfsono.training.record import recorded
from tfsono.training.run import DAMAGED, Run
from tfsono.training.validation import mean_radial_error

CHOICE = "prior_choice.json"
OF_THE_PRIOR = ("prior_noise_mm", "prior_weight")
WITHOUT_EFFECT = ("prior_in_prediction", "use_prior", "top_k")  # on the measurement


Errors = TypedDict("Errors", {"without": float, "with": float})


class _Saved(TypedDict):
    """The content of the file."""

    cases: int
    mre_mm: Errors


class Choice(NamedTuple):
    """Whether the prior is used, and why."""

    used: bool
    reason: str


def keep_choice(run: Run, cache, open_modules: Callable) -> None:
    """Measures the run's validation cases without and with its prior, and writes the file of the run.

    Args:
      run: trained, with a prior.
      cache: of its cases.
      open_modules: run -> its modules without and with the prior.
    """
    names = run.split["validation"]
    if not names or (run.folder / CHOICE).exists():
        return
    errors = dict(zip(("without", "with"), (mean_radial_error(module, cache, names)[0] for module in open_modules(run)),
                      strict=True))
    with recorded(run.folder, CHOICE) as (path,):
        write_text(path, json.dumps({"cases": len(names), "mre_mm": errors}, indent=2) + "\n")
    print(f"graph prior: {'used' if errors['with'] < errors['without'] else 'not used'} in predictions; "
          f"{_words(errors, len(names))}")


def choice_of(runs: Sequence[Run]) -> Choice:
    """Whether the prior is used in predictions of runs, which share the first one's: where it helps each of them.

    Raises:
      UserError: settings of the prior that were not validated.
    """
    config, changed = runs[0].config, sorted(runs[0].settings.at_test.keys() - set(WITHOUT_EFFECT))
    if not (config.use_prior and config.boxes):
        return Choice(False, "the run has none")
    if config.prior_in_prediction != "validated":
        return Choice(config.prior_in_prediction == "always", f"prior_in_prediction is {config.prior_in_prediction}")
    if own := [name for name in changed if name in OF_THE_PRIOR]:
        raise UserError(f"--set {own[0]}: not validated with the run, so the prior would not be used; add "
                        "prior_in_prediction=always")
    if changed:
        return Choice(False, f"not validated with {changed[0]} set after the training")
    missing = [run.folder.name for run in runs if not (run.folder / CHOICE).exists()]
    if missing:
        return Choice(False, f"not validated: {missing[0]} had no validation cases")
    found = [_read(run.folder / CHOICE) for run in runs]
    used = all(one["mre_mm"]["with"] < one["mre_mm"]["without"] for one in found)
    return Choice(used, "; ".join(_words(one["mre_mm"], one["cases"]) for one in found))


def _words(errors: Errors, cases: int) -> str:
    return f"{errors['without']:.2f} mm without it and {errors['with']:.2f} mm with it on {cases} validation cases"


def _read(path) -> _Saved:
    found = read_json(path, DAMAGED)
    check_structure(found, _Saved, path)
    return found
