"""Optimizers and learning rates that several papers share."""

from __future__ import annotations

import keras

from tfsono.training.distribute import clipped_together, replicas


def learning_rate(start: float, schedule: str, halve_every: int, iterations: int):
    """`halving`: halved every `halve_every` steps; `cosine`: to zero over all iterations; `last_quarter`: in those."""
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(start, iterations)
    if schedule == "last_quarter":
        return LastQuarter(start, iterations)
    return keras.optimizers.schedules.ExponentialDecay(start, halve_every, 0.5, staircase=True)


class LastQuarter(keras.optimizers.schedules.LearningRateSchedule):
    """Constant in three quarters of the iterations, then to zero by half a cosine."""

    def __init__(self, start: float, iterations: int):
        self.start, self.iterations = start, iterations
        self.fall = keras.optimizers.schedules.CosineDecay(start, max(iterations - iterations * 3 // 4, 1))

    def __call__(self, step):
        return self.fall(keras.ops.maximum(step - self.iterations * 3 // 4, 0))

    def get_config(self):
        return {"start": self.start, "iterations": self.iterations}


def cosine_restarts(start: float, smallest: float, first_cycle: int, factor: float):
    """Cosine annealing with warm restarts (Loshchilov and Hutter, ICLR 2017, Eq. 5).

    Args:
      start: the rate at the beginning of every cycle.
      smallest: the rate at its end (eta_min).
      first_cycle: steps of the first cycle (T0).
      factor: of each cycle's length to the one before (Tmult).
    """
    return keras.optimizers.schedules.CosineDecayRestarts(start, first_cycle, float(factor), 1.0, smallest / start)


def optimizer(name: str, rate, momentum: float = 0.9, weight_decay: float = 0.0,
              gradient_clip: float = 0.0, beta_1: float = 0.9) -> keras.optimizers.Optimizer:
    """`sgd` with momentum, `adam` or `adamw`; their small epsilon does not drown small gradients.

    Args:
      name: one of the three.
      rate: a number or a schedule.
      momentum: of `sgd`.
      weight_decay: of `adamw` alone, decoupled: every weight shrinks by the rate times this (Loshchilov and Hutter,
        ICLR 2019).
      gradient_clip: the largest norm of all gradients together; 0 does not clip.
      beta_1: of `adam` and `adamw`, the decay of the mean gradient.
    """
    clip = gradient_clip / replicas() or None
    together = clipped_together if clip and replicas() > 1 else lambda kind: kind
    if name == "sgd":
        return together(keras.optimizers.SGD)(rate, momentum=momentum, global_clipnorm=clip)
    if name == "adamw":
        return together(keras.optimizers.AdamW)(rate, weight_decay=weight_decay, beta_1=beta_1, epsilon=1e-8,
                                                global_clipnorm=clip)
    return together(keras.optimizers.Adam)(rate, beta_1=beta_1, epsilon=1e-8, global_clipnorm=clip)
