"""Training a joint network against a discriminator that sees its mask and heatmaps together (`femur`, Sec. II-D).

The first stage is plain training. In the second each step moves the discriminator once and the network once: the
discriminator to tell the network's mask and maps from the true ones, the network to be taken for true besides its own
losses (Eq. 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import tensorflow as tf

from tfsono.errors import UserError

GENERATOR_LOSSES = ("non_saturating", "saturating")
REAL_NOISE, FAKE_NOISE, NOISE_DRAWS = 0, 1, 2  # draws of noise in a step


@dataclass(frozen=True)
class AdversarialSettings:
    """How the second stage goes.

    Attributes:
      branch_steps: steps of the first stage, without a discriminator.
      weight: of the adversarial loss beside the network's own.
      generator_loss: `non_saturating`, -log D(fake), as Eq. 3 prints it but for a constant; or `saturating`,
        log(1 - D(fake)), whose slope vanishes while the discriminator wins.
      noise: deviation of the Gaussian noise on both of the discriminator's inputs: true masks are exactly 0 or 1, and
        without it the discriminator need look at nothing else.
      real_label: what the discriminator is to say of the truth: 1, or 0.9 for one-sided label smoothing.
      seed: of the noise, together with the step.
    """

    branch_steps: int
    weight: float = 1.0
    generator_loss: str = "non_saturating"
    noise: float = 0.05
    real_label: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for holds, name, rule in ((self.branch_steps >= 0, "branch_steps", "0 or more"),
                                  (self.generator_loss in GENERATOR_LOSSES, "generator_loss",
                                   " or ".join(GENERATOR_LOSSES)),
                                  (self.noise >= 0, "noise", "0 or more"),
                                  (0.5 < self.real_label <= 1, "real_label", "above 0.5 and up to 1")):
            if not holds:
                raise UserError(f"{name}: expected {rule}, found {getattr(self, name)}")


def stage_rates(first: float, second: float, branch_steps: int):
    """The learning rate of the network: `first` in the first `branch_steps` steps, `second` after them."""
    if not branch_steps:
        return second
    return keras.optimizers.schedules.PiecewiseConstantDecay([branch_steps - 1], [first, second])


class AdversarialTrainer(keras.Model):
    """A network and its discriminator, trained by `fit`; compiled with the network's optimizer, losses and weights.

        trainer = AdversarialTrainer(network, discriminator, discriminator_optimizer, settings)
        trainer.compile(optimizer, loss={"mask": ..., "heatmaps": ...}, loss_weights={"mask": ..., "heatmaps": ...})

    It answers as the network does, and what `training.checkpoint` writes as its weights are the network's alone. In one
    step of the second stage the network runs once: the discriminator is moved first, on what the network said, and then
    judges the same answer for the network's own step.

    The discriminator sees the truth and the answer in one batch, so that its batch normalisation has one mean for both;
    with one region a step, a mean for each would take away the very thing by which they differ.

    The logs are `loss` (with the adversarial part), `mask_loss`, `heatmaps_loss`, `adversarial_loss`, unweighted, and
    `discriminator_loss`, `discriminator_real`, `discriminator_fake`: the probabilities it gives to be true. They are 0
    in the first stage. Both stages stand in one `tf.cond`, which `MirroredStrategy` does not take.
    """

    def __init__(self, network: keras.Model, discriminator: keras.Model,
                 discriminator_optimizer: keras.optimizers.Optimizer, settings: AdversarialSettings):
        """
        Args:
          network: functional, [B, X, Y, Z, 1] -> {"mask": [B, X, Y, Z, C] logits, "heatmaps": [B, X, Y, Z, K]}.
          discriminator: [B, X, Y, Z, 1 + K] -> logit [B, 1].
          discriminator_optimizer: its own, of its own learning rate.
          settings: of the second stage.
        """
        super().__init__(name=network.name, dtype=network.dtype_policy)  # by which Keras knows whether to scale a loss
        self.network, self.discriminator, self.settings = network, discriminator, settings
        if discriminator.dtype_policy.name == "mixed_float16":  # as Keras does with the network's, in `compile`
            discriminator_optimizer = keras.optimizers.LossScaleOptimizer(discriminator_optimizer)
        self.discriminator_optimizer = discriminator_optimizer
        discriminator_optimizer.build(discriminator.trainable_variables)
        self.steps = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="steps")
        self.parts = {name: keras.metrics.Mean(name) for name in (
            "adversarial_loss", "discriminator_loss", "discriminator_real", "discriminator_fake")}
        self.built = True

    @property
    def input(self):
        return self.network.input

    @property
    def output(self):
        return self.network.output

    @property
    def trainable_variables(self):
        """What the compiled optimizer moves: the network's alone. The discriminator has its own optimizer."""
        return self.network.trainable_variables

    def training_state(self) -> dict[str, list]:
        """Every variable that training changes, by whose it is."""
        return {"network": self.network.variables, "optimizer": self.optimizer.variables,
                "discriminator": self.discriminator.variables,
                "discriminator_optimizer": self.discriminator_optimizer.variables, "steps": [self.steps]}

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def train_step(self, data):
        image, truth = data
        if self.settings.branch_steps:
            tf.cond(self.steps < self.settings.branch_steps, lambda: self._branch_step(image, truth),
                    lambda: self._adversarial_step(image, truth))
        else:
            self._adversarial_step(image, truth)
        self.steps.assign_add(1)
        return self.get_metrics_result()

    def _branch_step(self, image, truth) -> None:
        """One step on the network's own losses."""
        with tf.GradientTape() as tape:
            loss = self._own_loss(image, truth, self.network(image, training=True))
            scaled = self.optimizer.scale_loss(loss)
        self._move(tape, scaled, loss)

    def _adversarial_step(self, image, truth) -> None:
        """One step of the discriminator, then one of the network on its own losses and the adversarial one."""
        with tf.GradientTape() as tape:
            answer = self.network(image, training=True)
            loss = self._own_loss(image, truth, answer)
            real, fake = pairs(truth, answer)
            real, fake = self._noisy(real, REAL_NOISE, truth), self._noisy(fake, FAKE_NOISE, truth)
            self._discriminator_step(real, tf.stop_gradient(fake))
            _, logits = self._judge(real, fake)
            adversarial = generator_loss(logits, self.settings.generator_loss)
            loss = loss + self.settings.weight * adversarial
            scaled = self.optimizer.scale_loss(loss)
        self._move(tape, scaled, loss)
        self.parts["adversarial_loss"].update_state(adversarial)

    def _own_loss(self, image, truth, answer):
        return self.compute_loss(image, truth, answer, training=True)

    def _move(self, tape, scaled, loss) -> None:
        """Moves the network down the scaled loss, and records the loss."""
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)

    def _discriminator_step(self, real, fake) -> None:
        with tf.GradientTape() as tape:
            of_real, of_fake = self._judge(real, fake)
            loss = discriminator_loss(of_real, of_fake, self.settings.real_label)
            scaled = self.discriminator_optimizer.scale_loss(loss)
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(scaled, variables), variables)
        for name, value in (("loss", loss), ("real", tf.sigmoid(of_real)), ("fake", tf.sigmoid(of_fake))):
            self.parts[f"discriminator_{name}"].update_state(value)

    def _judge(self, real, fake):
        """The discriminator's logits [B, 1] of the truth and of the answer, from one batch."""
        logits = tf.cast(self.discriminator(tf.concat([real, fake], 0), training=True), tf.float32)
        return tf.split(logits, 2)

    def _noisy(self, pair, draw: int, truth):
        """Noise where a voxel counts; a pure function of the seed, the step and the draw, so that a run resumes."""
        if not self.settings.noise:
            return pair
        seed = tf.stack([tf.cast(self.settings.seed, tf.int64), NOISE_DRAWS * tf.convert_to_tensor(self.steps) + draw])
        return pair + self.settings.noise * tf.random.stateless_normal(tf.shape(pair), seed) * counted_voxels(truth)


def counted_voxels(truth):
    """1 where a voxel counts, of the mask and of each landmark: [B, X, Y, Z, 1 + K] float32."""
    return tf.concat([tf.cast(truth["mask"] >= 0, tf.float32),
                      tf.cast(tf.math.is_finite(truth["heatmaps"]), tf.float32)], -1)


def pairs(truth, answer):
    """What the discriminator is shown: the true foreground and maps, and the answer's; each [B, X, Y, Z, 1 + K].

    The answer is the probability of any foreground, not a label, through which no gradient would come. Where a voxel
    does not count both are 0, and so are the mask or the map of a landmark that is not known: neither padding nor a gap
    in the truth tells the two apart.
    """
    counted = counted_voxels(truth)
    maps = tf.where(tf.math.is_finite(truth["heatmaps"]), truth["heatmaps"], 0)
    real = tf.concat([tf.cast(truth["mask"] > 0, tf.float32), tf.cast(maps, tf.float32)], -1)
    foreground = 1 - tf.nn.softmax(tf.cast(answer["mask"], tf.float32))[..., :1]
    fake = tf.concat([foreground, tf.cast(answer["heatmaps"], tf.float32)], -1)
    return real * counted, fake * counted


def discriminator_loss(of_real, of_fake, real_label: float = 1.0):
    """-log D(real) - log(1 - D(fake)) (Eq. 3, whose second term has its logarithm and its 1 exchanged), from logits."""
    return (tf.reduce_mean(real_label * tf.nn.softplus(-of_real) + (1 - real_label) * tf.nn.softplus(of_real))
            + tf.reduce_mean(tf.nn.softplus(of_fake)))


def generator_loss(of_fake, kind: str):
    """-log D(fake), or with `saturating` log(1 - D(fake)), from logits."""
    return tf.reduce_mean(tf.nn.softplus(-of_fake) if kind == "non_saturating" else -tf.nn.softplus(of_fake))
