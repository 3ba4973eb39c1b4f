"""Trains `hip` (Zeng et al., MLMI 2017) on a cache: python train/hip.py --data FILE.h5 --run_dir DIR [--preset quick].

The same command goes on where it stopped. The functions follow section 3 of the paper.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import settings_from, training_parser
from tfsono.configs.hip import HIP, HipConfig
from tfsono.errors import UserError, run_command
from tfsono.files import write_text


def main(argv: list[str] | None = None) -> None:
    arguments = training_parser(HIP, __doc__).parse_args(argv)
    settings = settings_from(arguments, HIP)

    from tfsono.data.cache import Cache  # after --help, which must not wait for TensorFlow
    from tfsono.data.splits import chosen_split
    from tfsono.models.hip import build
    from tfsono.training.fit import Schedule, fit, set_seed
    from tfsono.training.run import open_run
    from tfsono.training.start import with_names

    with Cache(arguments.data, "hip") as cache:
        settings = with_names(settings, cache, ("labels",))
        config = settings.config
        split = chosen_split(arguments.split, cache.split, cache.names, cache.subjects, config.test_cases,
                             config.validation_cases, config.seed)  # Sec. 3.1: at random; here by subject
        check_cache(cache, config)
        check_patch(config)
        set_seed(config.seed, config.deterministic)
        network = build(config)
        report = initialise(network, config, Path(arguments.run_dir))
        data = {"dataset": cache.name, "labels": cache.labels, "cases": cache.names}
        run = open_run(arguments.run_dir, settings, split, data)  # after all that may refuse: no half-made folder
        print(f"{run.summary()}; {config.classes} classes")
        print(report)
        write_text(run.folder / "transfer.txt", f"{report}\n")
        compile_network(network, config)
        validate = validation(network, config, cache, split["validation"]) if split["validation"] else None
        fit(run, network, patches(arguments.data, config, split["train"]),
            Schedule(config.iterations, config.record_every, config.early_stopping), validate)


def check_cache(cache, config: HipConfig) -> None:
    """A cache without masks teaches nothing; one of another spacing or orientation, something else than is asked."""
    from tfsono.training.start import check_grid

    if not cache.labels:
        raise UserError(f"{cache.path}: hip learns from masks; the dataset has no labels/ folder with any")
    check_grid(cache, "hip", config)


def check_patch(config: HipConfig) -> None:
    """What TensorFlow's CPU kernels cannot do, or do wrongly without a word."""
    from tfsono.training.start import check_precision, has_gpu

    check_precision(config.precision)
    if config.precision == "mixed_bfloat16" and config.patch[0] == 2 * config.stride and not has_gpu():
        # seen on TensorFlow 2.21 with oneDNN: the kernel's gradient of such a layer is wrong by its own size
        raise UserError(f"--precision mixed_bfloat16: a CPU gives wrong gradients for patches of {config.patch[0]} "
                        "voxels along x (2 at the lowest level); take another --patch, or float32")


def patches(path: str, config: HipConfig, names: list[str]):
    """Sec. 3.2: random patches, a few batches from each version of each image in turn, zero mean and unit variance."""
    from tfsono.augment import Augmentation
    from tfsono.data.patches import Sampling, patch_dataset

    sampling = Sampling(config.patch, config.batch, config.patches_in_a_row, config.foreground_share,
                        config.right_angles, config.seed)
    augmentation = Augmentation(config.rotation_degrees, config.scaling, config.mirror_share, config.intensity)

    def batches(steps: range):
        dataset = patch_dataset(path, "hip", names, sampling, augmentation, steps)
        return dataset.map(lambda image, label: (image, {head: label for head in config.heads}))

    return batches


def initialise(network, config: HipConfig, run_dir: Path) -> str:
    """Sec. 3.3: the encoder from C3D where there is a file, everything else from a Gaussian of deviation 0.01."""
    if (run_dir / "state.h5").is_file():  # the run goes on: its state comes in a moment, the file may be gone
        return (run_dir / "transfer.txt").read_text(encoding="utf-8").strip()
    return transfer(network, config) if config.c3d_weights else "without transfer: no --c3d_weights was given"


def transfer(network, config: HipConfig) -> str:
    """Sec. 2.2: conv1 to conv4b of C3D, or of another run of ours as a stand-in."""
    from tfsono.c3d import encoder_kernels, read_c3d, transfer_into
    from tfsono.models.hip import TRANSFERRED, build
    from tfsono.training.run import load_weights, read_run

    layers = {name: name for name in TRANSFERRED}
    if not Path(config.c3d_weights).is_dir():
        weights = read_c3d(config.c3d_weights, widths=config.widths)
        return str(transfer_into(network, encoder_kernels(weights, time_axis=config.c3d_time_axis), layers, weights))
    run = read_run(config.c3d_weights, HIP)
    source = build(run.config)
    path = load_weights(run, source)
    kernels = {name: source.get_layer(name).kernel.numpy() for name in TRANSFERRED}
    transfer_into(network, kernels, layers)
    return (f"with transfer from a stand-in, not from C3D: {', '.join(TRANSFERRED)}, "
            f"{sum(kernel.size for kernel in kernels.values()):,} weights of {path} (trained on {run.data['dataset']})")


def compile_network(network, config: HipConfig) -> None:
    """Sec. 3.3 and Eq. 2: SGD with momentum, the rate halved every 3000 iterations, the weighted sum of the losses."""
    from tfsono.models.hip import losses
    from tfsono.training.optimizers import learning_rate, optimizer

    rate = learning_rate(config.learning_rate, config.schedule, config.halve_every, config.iterations)
    network.compile(optimizer(config.optimizer, rate, config.momentum), loss=losses(config),
                    loss_weights=config.head_weights, jit_compile=config.jit_compile)


def validation(network, config: HipConfig, cache, names: list[str]):
    """Mean foreground Dice of the held-out cases, through the same inference as at test (Sec. 3.4), before clean-up."""
    import numpy as np

    from tfsono.inference.hip import HipModule
    from tfsono.metrics.overlap import overlap_metrics
    from tfsono.models.hip import main_network

    segmenter = HipModule.build(main_network(network), config)

    def validate() -> float:
        scores = []
        for name in names:
            case = cache.read(name)
            mask = segmenter(case.image, case.spacing_mm)["mask"].numpy()
            scores += [overlap_metrics(mask == k, case.label == k)["dice"] for k in range(1, config.classes)]
        return float(np.mean(scores))

    return validate


if __name__ == "__main__":
    sys.exit(run_command(main))
