"""How far faster predictions are from the plain one at the papers' widths: folding, bfloat16, and the SavedModel.

    python benchmarks/agreement.py hip|femur|pose|face|head [--variant tuned] [--norm_at_test moving] [--side 64]
                                   [--preset quick] [--pairs 5]

Random weights and statistics, noise as the image; of each output of the bare network the largest and the mean
difference, as shares of the largest value that the plain float32 network gives. A random network is worse than a
trained one: nothing was learned that would keep an error small. Then the module is saved, loaded and called: its
outputs must be those of the module before, in every bit. `--pairs` instead times the plain and the folded network in
turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inference import randomise, timed
from benchmarks.inference_landmarks import NAMES, volume_of
from tfsono.config import choose
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import NAMES as SYSTEMS
from tfsono.systems import system


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/agreement.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--preset", choices=("paper", "quick"), default="paper")
    parser.add_argument("--pairs", type=int, default=0, help="of calls of the plain and the folded network")
    parser.add_argument("--variant", default="", help="a variant of the system; without, its first")
    parser.add_argument("--norm_at_test", default="", help="tile or moving; without, the preset's (not head)")
    parser.add_argument("--side", type=int, default=64, help="of the noise and of the volume (not head)")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    choices = system(arguments.system).CHOICES
    values = {"norm_at_test": arguments.norm_at_test} if arguments.norm_at_test else {}
    config = choose(choices, arguments.preset, arguments.variant or next(iter(choices.variants)), values).config
    config = with_names(arguments.system, config)
    if arguments.pairs:
        time_pairs(arguments.system, config, arguments.side, arguments.pairs)
    else:
        compare(arguments.system, config, arguments.side)


def with_names(name: str, config):
    """The config with the labels and landmarks that a cache would give."""
    if name in ("hip", "femur"):
        config = dataclasses.replace(config, label_names=("femur",))
    return dataclasses.replace(config, landmark_names=NAMES[name]) if name in NAMES else config


def compare(name: str, config, side: int) -> None:
    from tfsono.bare_networks import outputs_of
    from tfsono.layers.folding import folded

    network = built(name, dataclasses.replace(config, precision="float32"))
    half = built(name, dataclasses.replace(config, precision="mixed_bfloat16"))
    half.set_weights(network.get_weights())
    image = noise_for(network, side)
    kind = "" if name == "head" else f", norm_at_test {config.norm_at_test}"
    print(f"{name}, {network.name}, {network.count_params()} parameters{kind}, noise of {image.shape}", flush=True)
    plain = outputs_of(network, image)
    quick = folded(network)
    rows = {"float32, folded": quick} if quick is not network else {}
    rows |= {"bfloat16": half, "bfloat16, folded": folded(half)} if rows else {"bfloat16": half}
    for words, one in rows.items():
        report(words, outputs_of(one, image), plain)
    of_savedmodel(module_of(name, quick, config), volume_of((side,) * 3))


def noise_for(network, side: int):
    """A standard normal image; of `side` where the network has no sides of its own."""
    import numpy as np

    sides = [one or side for one in network.input.shape[1:-1]]
    return np.random.default_rng(1).normal(size=(1, *sides, network.input.shape[-1])).astype("float32")


def time_pairs(name: str, config, side: int, pairs: int) -> None:
    """Prints the median seconds of both, and of the folded one's share of the plain one's time."""
    import numpy as np
    import tensorflow as tf

    from tfsono.layers.folding import folded

    network = built(name, config)
    image = tf.constant(noise_for(network, side))
    calls = [tf.function(lambda image, one=one: one(image, training=False)) for one in (network, folded(network))]
    for call in calls:
        call(image)  # traces
    seconds = np.array([[timed(lambda: call(image)) for call in calls] for _ in range(pairs)])
    plain, quick = np.median(seconds, 0)
    print(f"{name}, {network.name}, {config.precision}, {tuple(image.shape)}: plain {plain:.3f} s, folded {quick:.3f}, "
          f"share {np.median(seconds[:, 1] / seconds[:, 0]):.2f}")


def built(name: str, config):
    """The network of a config with random weights and statistics."""
    import keras

    from tfsono.models import face, femur, head, hip, pose

    keras.utils.set_random_seed(0)
    network = {"hip": lambda config: hip.build(config, apart=True), "femur": femur.build, "pose": pose.build,
               "face": face.build, "head": head.build}[name](config)
    randomise(network)
    return network


def report(words: str, found: dict, plain: dict) -> None:
    """Prints the differences of each output."""
    import numpy as np

    for output, value in plain.items():
        apart, most = np.abs(found[output] - value), np.abs(value).max()
        print(f"  {words}: {output}: largest difference {apart.max() / most:.1e}, mean {apart.mean() / most:.1e} "
              f"of the largest value {most:.3g}", flush=True)


def module_of(name: str, network, config):
    """The module of a system around a network, as `predict` has it; femur without a first stage, face without prior."""
    from tfsono.inference.components import Postprocessing
    from tfsono.inference.face import FaceModule
    from tfsono.inference.femur import FemurModule, RegionFinder, RegionReader, SliceModule
    from tfsono.inference.head import head_module
    from tfsono.inference.hip import HipModule
    from tfsono.inference.pose import PoseModule
    from tfsono.models.hip import main_network
    from tfsono.systems import face, pose

    if name == "hip":
        return HipModule.build(main_network(network), config, Postprocessing(config.classes))
    if name == "head":
        return head_module(network, config)
    if name == "pose":
        return PoseModule(pose.reader_of(network, config))
    if name == "face":
        return FaceModule(face.reader_of(network, config), None)
    if config.network == "unet_roi":
        return SliceModule(RegionFinder(network, config.stride, config.slice_batch, config.roi_smallest_part))
    reader = RegionReader(network, config.stride, margin=config.roi_margin, ratio=config.roi_ratio,
                          decode=config.heatmap_decode, sigma=config.heatmap_sigma)
    return FemurModule(reader, None, config.spacing_mm, Postprocessing(config.classes))


def of_savedmodel(module, volume) -> None:
    """Saves, loads and calls a module, and prints which of its outputs differ in a bit."""
    import numpy as np
    import tensorflow as tf

    given = [volume[:, :, 0]] if len(module.__call__.input_signature) == 1 else [volume, np.ones(3, "float32")]
    before = module(*given)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        tf.saved_model.save(module, folder, signatures={"serving_default": module.__call__})
        after = tf.saved_model.load(folder)(*given)
        seconds = time.perf_counter() - began
    differ = [name for name, value in before.items()
              if not np.array_equal(value.numpy(), after[name].numpy(), equal_nan=value.dtype.is_floating)]
    print(f"  SavedModel of the module, saved, loaded and called in {seconds:.0f} s: "
          f"{len(before)} outputs, other than the module's in a bit: {', '.join(differ) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
