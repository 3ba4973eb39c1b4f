"""The first weights of a training: those of another run or of an exported model (`--start_from`), or random ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.config import Choices
from tfsono.errors import UserError, printable
from tfsono.export import MANIFEST, read_manifest
from tfsono.predict.sources import is_exported
from tfsono.systems.runs import check_first
from tfsono.training.run import check_finite, read_run
from tfsono.training.start import load_start, resumed

if TYPE_CHECKING:
    import keras

    from tfsono.training.start import Start

VARIABLES = "variables/variables"


def first_weights(network: keras.Model, start: Start, choices: Choices, split: Mapping[str, list[str]],
                  alike: Iterable[str]) -> str:
    """Loads the weights of `--start_from`, unless the run is resumed; reports their origin in one line.

    Args:
      network: of the training, with random weights.
      start: of the training.
      choices: of the system.
      split: of the training; none of its test cases may have been trained on, as far as that is known.
      alike: fields that must be equal in the other run.

    Raises:
      UserError: neither a run nor an exported model of this system, or one of another network.
    """
    before, source = resumed(start.run_dir), start.config.start_from
    if before or not source:
        return before or "all weights initialised at random"
    if is_exported(source):
        return _load_exported(network, Path(source), choices)
    check_first(read_run(source, choices), split, "--start_from")
    return load_start(network, source, choices, start.config, alike)


def _load_exported(network: keras.Model, folder: Path, choices: Choices) -> str:
    """The weights of a SavedModel of one network."""
    import tensorflow as tf

    from tfsono.inference.half_weights import HalfWeights
    from tfsono.layers.folding import folded, unfold

    manifest = read_manifest(folder)
    if manifest["system"] != choices.system or manifest.get("together_with"):
        found = "an ensemble" if manifest["system"] == choices.system else f"a model of {manifest['system']}"
        raise UserError(f"--start_from {folder}: expected one network of {choices.system}; found {printable(found)}; "
                        "give another folder")
    inside = folded(network, startable=True, names=manifest.get("folded", []))
    halved = HalfWeights(inside) if manifest.get("network", {}).get("weights") == "float16" else None
    saved = tf.train.Checkpoint(networks=[halved]) if halved else tf.train.Checkpoint(network=inside)
    try:
        saved.read(str(folder / VARIABLES)).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        tf.get_logger().setLevel("ERROR")  # it would print a line for each variable, after ours
        reason = printable(str(error).splitlines()[0])[:80] if str(error) else type(error).__name__
        raise UserError(f"--start_from {folder}: its network is another one than that of the options ({reason}); give "
                        f"the preset, variant and sizes that {MANIFEST} and its card name") from None
    if halved:
        halved.restore(inside)
    unfold(inside)
    check_finite(folder / VARIABLES, network.variables)
    of = manifest.get("source", {}).get("dataset") or "unnamed data"
    return printable(f"from the exported model {folder}, trained on {of}; its cases are not known: none may be tested")
