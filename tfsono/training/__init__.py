"""A run: its folder, its record, its saved state, and its resumption.

    start         checks of cache, settings, machine and first weights; then the run folder
    run           the folder of a run
    record        the SHA-256 of its files, and how they are written
    fingerprint   what a run is trained on: spacing, size, intensities, sizes of labels
    log           what a training prints, as a file
    fit           the training loop: history, best and last weights, exact resumption
    checkpoint    the state of a training in one file
    adversarial   training against a discriminator
    detection     training a network of anchors
    averages      moving averages estimated with the final weights
    optimizers    optimizers and learning rates
    distribute    a training on several devices
    confidence    the probability that a landmark is right, fitted to the validation cases
    tilings       whether a faster tiling gives what the paper's gives
    validation    the score of landmarks that selects the best weights
"""
