"""What a training script asks before it begins: do cache, settings, machine and first weights fit together?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from tfsono.config import Choices, Settings, differences
from tfsono.errors import UserError
from tfsono.training.run import load_weights, read_run

INITIALISATION = "initialisation.txt"  # in a run folder: where the first weights came from


def with_names(settings: Settings, cache, kinds: Iterable[str]) -> Settings:
    """The settings with the names that the cache has; others than it has are refused.

    Args:
      settings: with fields `label_names` or `landmark_names`.
      cache: open.
      kinds: `labels`, `landmarks`, or both.

    Raises:
      UserError: names were asked for that the cache has not, or not in this order.
    """
    for kind in kinds:
        name, found = f"{kind[:-1]}_names", tuple(getattr(cache, kind))
        asked = getattr(settings.config, name)
        if asked not in ((), found):
            raise UserError(f"--{name} {','.join(asked)}: {cache.path} has {','.join(found) or 'none'}; "
                            "leave the option out")
        settings = settings.replaced(f"the cache's {kind}", **{name: found})
    return settings


def check_grid(cache, system: str, config) -> None:
    """A cache of another spacing or orientation is something else than is asked.

    Raises:
      UserError: it is.
    """
    for name in ("orientation", "spacing_mm"):
        found, wanted = getattr(cache.settings, name), getattr(config, name)
        if found != wanted:
            raise UserError(f"{cache.path}: has {name} {found or 'native'}, the run asks for {wanted or 'native'}; "
                            f"run `tfsono cache {system}` again with --{name}")


def has_gpu() -> bool:
    """Whether TensorFlow sees one."""
    return bool(tf.config.list_physical_devices("GPU"))


def check_precision(precision: str) -> None:
    """What TensorFlow's CPU kernels cannot do.

    Raises:
      UserError: mixed_float16 without a GPU.
    """
    if precision == "mixed_float16" and not has_gpu():
        raise UserError("--precision mixed_float16: needs a GPU, found none; take mixed_bfloat16 or float32")


def goes_on(run_dir: Path) -> str:
    """How a run that goes on was begun, in words; "" of one that begins: the state of the first comes in a moment."""
    return initialisation_of(run_dir) if (run_dir / "state.h5").is_file() else ""


def initialisation_of(run_dir: Path) -> str:
    """Where the first weights of a run came from, in words."""
    return (run_dir / INITIALISATION).read_text(encoding="utf-8").strip()


def load_start(network: keras.Model, path: str, choices: Choices, config, alike: Iterable[str]) -> str:
    """Loads the weights of another run (`--start_from`), and says so in words.

    Args:
      network: that gets the weights.
      path: of the other run.
      choices: of the system.
      config: of this run.
      alike: fields in which the two must agree.

    Raises:
      UserError: not a run of the system, without weights, or other than this run in one of the fields.
    """
    start = read_run(path, choices)
    changed = [line for line in differences(start.config, config) if line.split(":")[0] in set(alike)]
    if changed:
        raise UserError(f"--start_from {path}: of another network or data ({'; '.join(changed)})")
    weights = load_weights(start, network)
    return f"from {weights}, after {start.config.steps} steps on {start.data['dataset']}"


def take_over(network: keras.Model, other: keras.Model) -> list[str]:
    """Gives a network the weights of another one's layers of the same names and shapes.

    Returns:
      The names of its layers that the other has not: they keep what they have.
    """
    kept, values = [], {variable.path: variable for variable in other.variables}
    for variable in network.variables:
        found = values.get(variable.path)
        if found is not None and found.shape == variable.shape:
            variable.assign(found)
        elif (layer := variable.path.split("/")[0]) not in kept:
            kept.append(layer)
    return kept
