"""Inference of `hip` and of a plain U-Net: seconds, peak memory, and how far faster settings are from the slow ones.

    python benchmarks/inference.py hip [--tiling fast] [--precision mixed_bfloat16] [--norm_at_test moving]
                                       [--operations 8]
    python benchmarks/inference.py agree [--tiling fast] [--size 128 96 100]
    python benchmarks/inference.py unet [--precision mixed_bfloat16]

`hip`: a volume of 300x200x100 at the paper's widths; weights and statistics are random, as they change no time. Run
it in a fresh process, for its memory. `agree`: Dice between a tiling and the paper's of such a network. `unet`: a U-Net
of 16 to 256 channels (8.1 M parameters) on 192x128x96 in windows of 64^3 at half overlap, the same weights in tfsono
and in PyTorch under MONAI (extra `benchmarks`), in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow

CHANNELS = (16, 32, 64, 128, 256)
VOLUME, WINDOW = (192, 128, 96), (64, 64, 64)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/inference.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hip", "agree", "unet"))
    parser.add_argument("--tiling", default="fast", help="hip, agree")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--norm_at_test", default="tile", help="hip, agree: tile or moving")
    parser.add_argument("--memory_gb", type=float, default=0.0, help="hip, agree")
    parser.add_argument("--size", type=int, nargs=3, default=(300, 200, 100), help="hip, agree")
    parser.add_argument("--runs", type=int, default=1, help="hip, unet: of each")
    parser.add_argument("--operations", type=int, default=0, help="hip: print so many of the slowest operations")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    {"hip": time_hip, "agree": agreement, "unet": compare_unet}[arguments.what](arguments)


# --- hip


def config_of(arguments):
    from tfsono.config import choose
    from tfsono.configs.hip import HIP

    config = choose(HIP, "paper", "paper", {"precision": arguments.precision, "tiling": arguments.tiling,
                                            "norm_at_test": arguments.norm_at_test}).config
    return dataclasses.replace(config, label_names=("femur",), initial_deviation=0.0, memory_gb=arguments.memory_gb)


def network_of(config):
    """A network of He's weights with random statistics, folded where they are the moving ones."""
    import keras

    from tfsono.layers.folding import folded
    from tfsono.models import hip

    keras.utils.set_random_seed(0)
    network = hip.build(config, apart=True)
    randomise(network)
    return hip.main_network(folded(network))


def randomise(network) -> None:
    """Random statistics, scales and offsets of every normalisation."""
    import keras
    import numpy as np

    random = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights([random.uniform(0.8, 1.2, n), random.normal(0, 0.1, n), random.normal(0, 0.1, n),
                               random.uniform(0.8, 1.2, n)])


def time_hip(arguments) -> None:
    """Seconds of the inference, of the postprocessing of a real mask and of the found one, and the peak of memory.

    The mask of random weights is noise, whose components take far longer than those of a mask of bones.
    """
    import tensorflow as tf

    from benchmarks.inference_landmarks import operation_seconds
    from tfsono.inference.components import Postprocessing, postprocessed
    from tfsono.inference.hip import HipModule
    from tfsono.phantoms.hip import hip_phantom

    config = config_of(arguments)
    module = HipModule.build(network_of(config), config)
    phantom = hip_phantom(0, tuple(arguments.size), config.phantom_spacing_mm)
    image, mask = tf.constant(phantom.image, tf.float32), tf.constant(phantom.label, tf.uint8)
    spacing = tf.constant(config.phantom_spacing_mm)
    after = tf.function(lambda mask: postprocessed(mask, Postprocessing(config.classes)), autograph=False)
    module(image[:64, :64, :64], spacing), after(tf.ones_like(mask[:64, :64, :64]))  # traces
    base = peak_gib()
    seconds = [timed(lambda: module(image, spacing)) for _ in range(arguments.runs)]
    peak, found = peak_gib(), module(image, spacing)["mask"]
    print(f"{tuple(arguments.size)}, {config.tiling}, {config.norm_at_test}, {config.precision}, {module.tiling}: "
          f"{' '.join(f'{one:.1f}' for one in seconds)} s, peak {peak:.2f} GiB, before {base:.2f}; postprocessing of "
          f"the reference mask {timed(lambda: after(mask)):.2f} s, of this mask of noise "
          f"{timed(lambda: after(found)):.2f} s", flush=True)
    if arguments.operations:
        total = operation_seconds(lambda: module(image, spacing))
        for operation, spent in total.most_common(arguments.operations):
            print(f"    {spent:8.2f} s  {operation}")


def peak_gib() -> float:
    """The most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def agreement(arguments) -> None:
    """Dice between the masks of a tiling and of the paper's tiles, not postprocessed."""
    import tensorflow as tf

    from tfsono.inference.hip import HipModule
    from tfsono.metrics.overlap import overlap_metrics
    from tfsono.phantoms.hip import hip_phantom

    config = config_of(arguments)
    network = network_of(config)
    image = tf.constant(hip_phantom(0, tuple(arguments.size), config.phantom_spacing_mm).image, tf.float32)
    modules = [HipModule.build(network, dataclasses.replace(config, tiling=kind)) for kind in ("paper", config.tiling)]
    one, other = (module.probabilities(image).numpy() for module in modules)
    dice = overlap_metrics(one[..., 1] > 0.5, other[..., 1] > 0.5)["dice"]
    print(f"{arguments.size}, {config.tiling} and paper, {config.norm_at_test}, {config.precision}: Dice {dice:.5f}, "
          f"mean difference of the probabilities {abs(one - other).mean():.5f}")


# --- the U-Net in two frameworks


def compare_unet(arguments) -> None:
    """Ours and MONAI's, in turns."""
    import numpy as np
    import tensorflow as tf

    volume = np.random.default_rng(0).normal(size=VOLUME).astype(np.float32)
    network = keras_unet(arguments.precision)
    plain = windows_of(network, (WINDOW, "half"))
    theirs = monai_of(network, arguments.precision)
    from tfsono.layers.folding import folded

    inference = folded(network)
    calls = {"MONAI": lambda: theirs(volume), "windows, not folded": lambda: plain(tf.constant(volume)),
             "windows": None, "own tiles": None}
    half, fast = windows_of(inference, (WINDOW, "half")), windows_of(inference, (WINDOW, "fast"))
    calls |= {"windows": lambda: half(tf.constant(volume)), "own tiles": lambda: fast(tf.constant(volume))}
    found = {name: np.asarray(call()) for name, call in calls.items()}
    seconds = {name: [] for name in calls}
    for _ in range(arguments.runs):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    print(f"{network.count_params()} parameters, {arguments.precision}")
    for name, each in seconds.items():
        ratio = np.median(np.divide(each, seconds["MONAI"]))
        print(f"  {name}: {np.median(each):.2f} s, {ratio:.2f} of MONAI; largest difference of a logit "
              f"{abs(found[name] - found['MONAI']).max():.3f}")


def keras_unet(precision: str):
    """The U-Net of `CHANNELS`, volumes -> two logits, with random statistics."""
    import keras

    from tfsono.layers.blocks import BlockStyle, convolution, pooling
    from tfsono.layers.precision import made_in

    keras.utils.set_random_seed(0)
    style = BlockStyle(0.0, 0.0, 0.9, 1e-5)
    with made_in(precision):
        x = image = keras.Input((None, None, None, 1))
        skips = []
        for level, channels in enumerate(CHANNELS):
            x = convolution(convolution(x, channels, style, f"enc{level}a"), channels, style, f"enc{level}b")
            skips.append(x)
            x = pooling(x, f"pool{level}") if level < len(CHANNELS) - 1 else x
        for level, channels in reversed([*enumerate(CHANNELS[:-1])]):
            x = keras.layers.Conv3DTranspose(channels, 4, 2, padding="same", name=f"up{level}")(x)
            x = keras.layers.Concatenate()([x, skips[level]])
            x = convolution(convolution(x, channels, style, f"dec{level}a"), channels, style, f"dec{level}b")
        network = keras.Model(image, keras.layers.Conv3D(2, 1, name="logits", dtype="float32")(x))
    randomise(network)
    return network


def windows_of(network, tiles):
    """A graph: volume -> logits, in windows at half overlap (`half`), or in our own tiles with margins (`fast`)."""
    import tensorflow as tf

    from tfsono.inference.sliding_window import Tiling, sliding_window, tile_and_starts

    patch, kind = tiles
    # each convolution adds its stride, a pooling 1/2 and a deconvolution 3/2 of the coarser one's, as HipConfig.reach
    reach = 2 * (1 + 2 + 4 + 8 + 16) + 2 * (1 + 2 + 4 + 8) + 15 + 15
    tiling = Tiling(patch, kind, multiple=16, margin=-(-reach // 16) * 16 if kind == "fast" else None)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32)])
    def predict(volume):
        tile, starts = tile_and_starts(tiling, tf.shape(volume))
        return sliding_window(lambda tiles, valid: network(tiles, training=False), volume, tile=tile, starts=starts,
                              classes=2, margin=tiling.margin)

    return predict


def monai_of(network, precision: str):
    """The same network in PyTorch, channels last, all of it in `precision`, under MONAI's sliding window."""
    import torch
    from monai.inferers import sliding_window_inference

    kind = torch.bfloat16 if precision == "mixed_bfloat16" else torch.float32
    model = torch_unet(network).eval().to(kind).to(memory_format=torch.channels_last_3d)

    def predict(volume):
        with torch.inference_mode():
            given = torch.from_numpy(volume)[None, None].to(kind)
            found = sliding_window_inference(given, WINDOW, sw_batch_size=1, predictor=model, overlap=0.5)
            return found[0].permute(1, 2, 3, 0).float().numpy()

    return predict


def torch_unet(network):
    """The PyTorch module of `keras_unet`, with its weights."""
    import torch
    from torch import nn

    def weights(name):
        return [torch.tensor(value) for value in network.get_layer(name).get_weights()]

    def block(name):
        parts = []
        for part in "ab":
            (kernel,) = weights(name + part)
            norm = nn.BatchNorm3d(kernel.shape[-1], eps=1e-5)
            convolution = nn.Conv3d(*kernel.shape[-2:], 3, padding=1, bias=False)
            convolution.weight.data = kernel.permute(4, 3, 0, 1, 2).contiguous()
            for target, value in zip((norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var),
                                     weights(f"{name}{part}_norm"), strict=True):
                target.copy_(value)
            parts += [convolution, norm, nn.ReLU(inplace=True)]
        return nn.Sequential(*parts)

    def up(name):
        kernel, bias = weights(name)
        found = nn.ConvTranspose3d(kernel.shape[-1], kernel.shape[-2], 4, 2, 1)
        found.weight.data, found.bias.data = kernel.permute(4, 3, 0, 1, 2).contiguous(), bias
        return found

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            levels = range(len(CHANNELS))
            self.encoder = nn.ModuleList(block(f"enc{level}") for level in levels)
            self.up = nn.ModuleList(up(f"up{level}") for level in levels[:-1])
            self.decoder = nn.ModuleList(block(f"dec{level}") for level in levels[:-1])
            kernel, bias = weights("logits")
            self.logits = nn.Conv3d(*kernel.shape[-2:], 1)
            self.logits.weight.data, self.logits.bias.data = kernel.permute(4, 3, 0, 1, 2).contiguous(), bias

        def forward(self, x):
            skips = []
            for level, layer in enumerate(self.encoder):
                x = layer(nn.functional.max_pool3d(x, 2) if level else x)
                skips.append(x)
            for level in reversed(range(len(self.up))):
                x = self.decoder[level](torch.cat([self.up[level](x), skips[level]], 1))
            return self.logits(x)

    return UNet()


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
