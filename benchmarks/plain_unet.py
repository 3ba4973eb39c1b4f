"""A plain U-Net on a cached dataset, written without tfsono's networks, training or augmentation: a baseline.

    python benchmarks/plain_unet.py --data hippocampus.h5 --split runs/tuned/split.json --steps 1300
"""

import argparse
import json
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation


def block(x, channels, norm):
    for _ in range(2):
        x = keras.layers.Conv3D(channels, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x) if norm == "batch" else keras.layers.GroupNormalization(-1)(x)
        x = keras.layers.ReLU()(x)
    return x


def unet(classes, channels, norm):
    x = image = keras.Input((None, None, None, 1))
    skips = []
    for n in channels[:-1]:
        skips.append(block(x, n, norm))
        x = keras.layers.MaxPooling3D()(skips[-1])
    x = block(x, channels[-1], norm)
    for n, skip in zip(channels[-2::-1], skips[::-1], strict=True):
        x = block(keras.layers.Concatenate()([keras.layers.Conv3DTranspose(n, 2, 2)(x), skip]), n, norm)
    return keras.Model(image, keras.layers.Conv3D(classes, 1, dtype="float32")(x))


def moved(image, mask, size, rng, train):
    """Rotated and scaled about the middle, into `size`; without `train` only centred."""
    matrix = np.eye(3)
    if train:
        matrix = Rotation.from_euler("xyz", rng.uniform(-10, 10, 3), degrees=True).as_matrix() * rng.uniform(0.9, 1.1)
    offset = (np.array(image.shape) - 1) / 2 - matrix @ ((np.array(size) - 1) / 2)
    if not train:
        offset = np.round(offset)
    x = affine_transform(image, matrix, offset, size, order=1, mode="constant", cval=0.0)
    return x.astype("float32")[..., None], affine_transform(mask, matrix, offset, size, order=0).astype("int32")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--test_on", default="test")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--norm", choices=("batch", "instance"), default="batch")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--channels", type=int, nargs="+", default=(16, 32, 64, 128))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)
    split, size = json.loads(Path(options.split).read_text(encoding="utf-8")), (48, 64, 48)
    cases = {}
    with h5py.File(options.data) as file:
        for name in split["train"] + split[options.test_on]:
            image, mask = (file["cases"][name][k][:] for k in ("image", "label"))
            cases[name] = ((image - image.mean()) / image.std(), mask)
    classes = 1 + max(int(mask.max()) for _, mask in cases.values())

    def batches():
        rng = np.random.default_rng(options.seed)
        while True:
            chosen = rng.choice(split["train"], options.batch, replace=False)
            x, y = zip(*(moved(*cases[n], size, rng, True) for n in chosen), strict=True)
            yield np.stack(x), np.stack(y)

    def loss(reference, logits):
        reference = tf.cast(reference, tf.int32)
        p, t = tf.nn.softmax(logits), tf.one_hot(reference, classes)
        entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(reference, logits))
        both = 2 * tf.reduce_sum(p * t, (0, 1, 2, 3))
        return entropy + 1 - tf.reduce_mean(both[1:] / tf.reduce_sum(p + t, (0, 1, 2, 3))[1:])

    network = unet(classes, options.channels, options.norm)
    network.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, options.steps)), loss)
    shapes = (tf.TensorSpec((None, *size, 1)), tf.TensorSpec((None, *size), tf.int32))
    data = tf.data.Dataset.from_generator(batches, output_signature=shapes).prefetch(4)
    start = time.perf_counter()
    for done in range(0, options.steps, 100):
        history = network.fit(data, steps_per_epoch=min(100, options.steps - done), verbose=0)
        print(f"{done + 100} steps, {time.perf_counter() - start:.0f} s, {history.history['loss'][-1]:.4f}", flush=True)
    dice = []
    for name in split[options.test_on]:
        x, y = moved(*cases[name], size, None, False)
        found = network.predict_on_batch(x[None])[0].argmax(-1)
        dice.append([2 * ((found == k) & (y == k)).sum() / ((found == k).sum() + (y == k).sum())
                     for k in range(1, classes)])
    dice = np.array(dice)
    print(f"Dice {dice.mean():.4f} (standard error {dice.mean(1).std(ddof=1) / len(dice) ** 0.5:.4f}), "
          f"labels {dice.mean(0).round(4)}, {len(dice)} cases, seed {options.seed}")


if __name__ == "__main__":
    main()
