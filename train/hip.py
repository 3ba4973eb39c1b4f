"""Trains `hip` (Zeng et al., MLMI 2017) on a cache: python train/hip.py --data FILE.h5 --run_dir DIR [--preset quick].

The same command resumes an interrupted training. The functions follow section 3 of the paper.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono train`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import training_parser
from tfsono.configs.hip import HIP, HipConfig
from tfsono.errors import UserError, run_command
from tfsono.sides import side_pairs
from tfsono.surroundings import parsed


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(training_parser(HIP, __doc__, mirrored=True), argv)
    from tfsono.models.hip import build
    from tfsono.training.fit import fit
    from tfsono.training.start import started

    with started(arguments, HIP, ("labels",)) as start:
        config, split = start.config, checked_split(start)
        data, excluded = batches(start.cache, config, split["train"])
        network = start.announce(start.built(build), sizes(config))
        run = start.open_run(split, initialise(network, start), excluded)
        fit(run, compiled(network, config), data, *validation(network, config, start.cache, split["validation"]))
        compare_tilings(run, start.cache, split["validation"])


def checked_split(start) -> dict[str, list[str]]:
    """Sec. 3.1: at random; here by subject.

    Refuses a cache without masks, and patches for which TensorFlow's CPU kernels compute wrong gradients.
    """
    from tfsono.training.start import check_validation_labels, has_gpu, split_by_subject

    cache, config, split = start.cache, start.config, split_by_subject(start)
    if not cache.labels:
        raise UserError(f"{cache.path}: hip learns from masks; the dataset has no labels/ folder with any")
    check_validation_labels(cache, split["validation"])
    if config.precision == "mixed_bfloat16" and config.patch[0] == 2 * config.stride and not has_gpu():
        # TensorFlow 2.21 with oneDNN: the error of such a layer's kernel gradient is as large as the gradient
        raise UserError(f"--precision mixed_bfloat16: a CPU gives wrong gradients for patches of {config.patch[0]} "
                        "voxels along x (2 at the lowest level); take another --patch, or float32")
    return split


def batches(cache, config: HipConfig, names: list[str]) -> tuple:
    """Sec. 3.2: random patches, a few batches from each version of each image in turn, standardised."""
    from tfsono.augment import Augmentation
    from tfsono.data.patches import Sampling, patch_dataset

    sampling = Sampling(patch=config.patch, batch=config.batch, patches_in_a_row=config.patches_in_a_row,
                        foreground_share=config.foreground_share, right_angles=config.right_angles, seed=config.seed,
                        exchanged_labels=side_pairs(config.label_names, first=1))
    augmentation = Augmentation(rotation_degrees=config.rotation_degrees, scaling=config.scaling,
                                mirror_share=config.mirror_share, intensity=config.intensity)

    def made(steps: range):
        dataset = patch_dataset(path=cache.path, system="hip", names=names, sampling=sampling,
                                augmentation=augmentation, steps=steps)
        return dataset.map(lambda image, label: (image, {head: label for head in config.heads}))

    return made, ()


def sizes(config: HipConfig):
    """The input of a step, then smaller ones with their options."""
    batch, patch = config.batch, config.patch
    yield "", (batch, *patch, 1)
    while batch > 1:
        batch //= 2
        yield f"--batch {batch}", (batch, *patch, 1)
    while max(patch) > config.stride:
        patch = tuple(max(side - config.stride, config.stride) for side in patch)
        yield f"--batch 1 --patch {','.join(map(str, patch))}", (1, *patch, 1)


def initialise(network, start) -> str:
    """Sec. 3.3: the encoder from C3D where there is a file, everything else from a Gaussian of deviation 0.01."""
    from tfsono.training.start import resumed

    before = resumed(start.run_dir)  # C3D's file may be gone
    if before or not start.config.c3d_weights:
        return before or "without transfer: no --c3d_weights was given"
    return transfer(network, start.config)


def transfer(network, config: HipConfig) -> str:
    """Sec. 2.2: conv1 to conv4b of C3D, or of another run of ours as a stand-in."""
    from tfsono.c3d import encoder_kernels, read_c3d, transfer_into
    from tfsono.models.hip import TRANSFERRED, build
    from tfsono.training.run import load_weights, read_run

    layers = {name: name for name in TRANSFERRED}
    if not Path(config.c3d_weights).is_dir():
        weights = read_c3d(config.c3d_weights, widths=config.widths)
        return str(transfer_into(network, encoder_kernels(weights, axes=config.c3d_axes), layers, weights))
    run = read_run(config.c3d_weights, HIP)
    source = build(run.config)
    path = load_weights(run, source)
    kernels = {name: source.get_layer(name).kernel.numpy() for name in TRANSFERRED}
    transfer_into(network, kernels, layers)
    return (f"with transfer from a stand-in, not from C3D: {', '.join(TRANSFERRED)}, "
            f"{sum(kernel.size for kernel in kernels.values()):,} weights of {path} (trained on {run.data['dataset']})")


def compiled(network, config: HipConfig):
    """Sec. 3.3 and Eq. 2: SGD with momentum, the rate halved every 3000 iterations, the weighted sum of the losses."""
    from tfsono.models.hip import losses
    from tfsono.training.optimizers import learning_rate, optimizer

    rate = learning_rate(config.learning_rate, config.schedule, config.halve_every, config.iterations)
    network.compile(optimizer(config.optimizer, rate, config.momentum), loss=losses(config),
                    loss_weights=config.head_weights, jit_compile=False)
    return network


def validation(network, config: HipConfig, cache, names: list[str]) -> tuple:
    """Mean foreground Dice of the held-out cases, by the same inference as at test (Sec. 3.4), not postprocessed.

    Over the labels that are in reference or prediction, as at test.
    """
    import numpy as np

    from tfsono.inference.hip import HipModule
    from tfsono.metrics.overlap import overlap_metrics
    from tfsono.models.hip import main_network
    from tfsono.report.comparison import comparison_image
    from tfsono.training.fit import Score
    from tfsono.training.start import schedule_of

    segmenter = HipModule.build(main_network(network), config)

    def validate() -> tuple:
        scores, image = [], None
        for name in names:
            case = cache.read(name)
            mask = segmenter(case.image, case.spacing_mm)["mask"].numpy()
            if image is None:
                image = comparison_image(case.image, (case.label, mask))
            scores += [overlap_metrics(mask == k, case.label == k)["dice"] for k in range(1, config.classes)]
        return float(np.mean([score for score in scores if score == score])), image

    return schedule_of(config, Score("validation_dice")), validate if names else None


def compare_tilings(run, cache, names: list[str]) -> None:
    """Whether `fast` gives the masks of the paper's tiles on the held-out cases; the run then predicts with it.

    Not compared where `--tiling` was given, which stays.
    """
    from tfsono.inference.hip import HipModule
    from tfsono.predict.sources import Options
    from tfsono.systems.hip import module_of, prepared
    from tfsono.training.tilings import TILING, agreement, write_compared

    if not names or (run.folder / TILING).exists() or run.settings.origins["tiling"][0] == "command line":
        return
    fast, paper = (prepared([run], Options(tiling=kind)) for kind in ("fast", "paper"))
    one = module_of(fast)
    other = HipModule.build(one.network, paper[0].config, one.postprocessing)
    dice = agreement(cache, names, one, other, run.config.classes)
    write_compared(run.folder, dice, fast[0].config.memory_gb)


if __name__ == "__main__":
    sys.exit(run_command(main))
