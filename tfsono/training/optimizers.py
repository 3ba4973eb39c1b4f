"""Optimizers and learning rates that several papers share."""

from __future__ import annotations

import keras


def learning_rate(start: float, schedule: str, halve_every: int, iterations: int):
    """`halving`: half of it after every `halve_every` steps; `cosine`: to zero over all iterations."""
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(start, iterations)
    return keras.optimizers.schedules.ExponentialDecay(start, halve_every, 0.5, staircase=True)


def optimizer(name: str, rate, momentum: float) -> keras.optimizers.Optimizer:
    """`sgd` with momentum, or `adam` with an epsilon that does not drown small gradients."""
    if name == "sgd":
        return keras.optimizers.SGD(rate, momentum=momentum)
    return keras.optimizers.Adam(rate, epsilon=1e-8)
