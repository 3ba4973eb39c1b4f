"""Batch normalisation with its gradient, of Keras and of `tfsono`, compared with a 3x3x3 convolution.

    python benchmarks/normalisation.py [--sides 64 64 64] [--channels 16] [--precision mixed_bfloat16]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow

RUNS = 8


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/normalisation.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs=3, default=[64, 64, 64])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args(argv)

    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    import keras
    import tensorflow as tf

    from tfsono.layers.batch_normalization import BatchNormalization
    from tfsono.layers.precision import made_in

    with made_in(arguments.precision):
        layers = {"keras": keras.layers.BatchNormalization(),
                  "tfsono": BatchNormalization(),
                  "convolution": keras.layers.Conv3D(arguments.channels, 3, padding="same", use_bias=False)}
    shape = (1, *arguments.sides, arguments.channels)
    kind = layers["tfsono"].compute_dtype
    x, weight = (tf.cast(tf.random.stateless_normal(shape, (0, seed)), kind) for seed in (1, 2))
    found = {}
    for name, layer in layers.items():
        layer.build(shape)
        call = tf.function(lambda layer=layer: gradient(layer, x, weight))
        call()
        found[name] = min(seconds(call) for _ in range(RUNS))
        print(f"{name}: {found[name]:.4f} s, the fastest of {RUNS}")
    print(f"{shape}, {kind}, {os.cpu_count()} cores: "
          f"Keras's takes {found['keras'] / found['tfsono']:.1f} times as long")


def gradient(layer, x, weight):
    """Of a weighted sum of the layer's output in training, with respect to its input and its weights."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(weight * layer(x, training=True))
    return tape.gradient(total, [x, *(variable.value for variable in layer.trainable_variables)])


def seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
