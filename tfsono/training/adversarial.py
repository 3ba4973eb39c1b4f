"""Training a network against a discriminator of its predictions (`femur`, Sec. II-D; `pose`, Sec. 3).

The first stage is plain training. In the second each step updates the discriminator, which learns to tell the network's
prediction from the reference, and then the network, by its own losses and by deceiving the discriminator (femur's Eq.
3). A function gives the discriminator's inputs: a mask and heatmaps (`mask_and_maps`), or an image and heatmaps
(`image_and_maps`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from tfsono.errors import UserError

REAL_NOISE, FAKE_NOISE, NOISE_DRAWS = 0, 1, 2  # draws of noise in a step
SMALLEST = 1e-12  # an adversarial loss to divide by


@dataclass(frozen=True)
class AdversarialSettings:
    """The numbers of the two stages.

    Attributes:
      branch_steps: steps of the first stage, without a discriminator.
      weight: of the adversarial loss relative to the network's own; ignored with a `share`. 0 switches it off.
      noise: deviation of the Gaussian noise on both of the discriminator's inputs: reference masks are exactly 0 or 1,
        by which alone it could tell them apart.
      real_label: the discriminator's target for the reference: 1, or 0.9 for one-sided label smoothing.
      seed: of the noise, together with the step.
      share: the weight is set in every step so that the adversarial loss is this share of the network's own; it has no
        gradient. 0 switches the loss off, None uses `weight`.
    """

    branch_steps: int
    weight: float = 1.0
    noise: float = 0.05
    real_label: float = 1.0
    seed: int = 0
    share: float | None = None

    def __post_init__(self):
        for holds, name, rule in ((self.branch_steps >= 0, "branch_steps", "0 or more"),
                                  (self.noise >= 0, "noise", "0 or more"),
                                  (self.share is None or self.share >= 0, "share", "0 or more"),
                                  (0.5 < self.real_label <= 1, "real_label", "above 0.5 and up to 1")):
            if not holds:
                raise UserError(f"{name}: expected {rule}, found {getattr(self, name)}")


class StageRates(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of the network: `first` in the first `branch_steps` steps, `second` after them.

    `first` may be a schedule; `second` is a number.
    """

    def __init__(self, first: float | keras.optimizers.schedules.LearningRateSchedule, second: float,
                 branch_steps: int):
        self.first, self.second, self.branch_steps = first, second, branch_steps

    def __call__(self, step):
        first = self.first(step) if callable(self.first) else self.first
        return keras.ops.where(step < self.branch_steps, first, self.second)

    def get_config(self):
        return {"first": self.first, "second": self.second, "branch_steps": self.branch_steps}


class AdversarialTrainer(keras.Model):
    """A network and its discriminator, trained by `fit`; compiled with the network's optimizer, losses and weights.

        trainer = AdversarialTrainer(network, discriminator, discriminator_optimizer, settings, shown=image_and_maps)
        trainer.compile(optimizer, loss={"heatmaps": ...})

    It predicts as the network does, and `training.checkpoint` writes the network's weights alone. In a step of the
    second stage the network runs once: its prediction updates the discriminator, which then judges the same prediction
    for the network's own update.

    The discriminator gets the reference and the prediction in one batch, so that its batch normalisation has one mean
    for both; with one region a step, separate means would remove the very difference between them.

    The logs are `loss` (with the adversarial part), each of the network's own, `adversarial_loss`, unweighted,
    `discriminator_loss`, and its mean probabilities of being the reference, `discriminator_real` and
    `discriminator_fake`. The last four are 0 in the first stage. Both stages are in one `tf.cond`, which
    `MirroredStrategy` does not support.
    """

    def __init__(self, network: keras.Model, discriminator: keras.Model,
                 discriminator_optimizer: keras.optimizers.Optimizer, settings: AdversarialSettings,
                 shown: Callable | None = None):
        """
        Args:
          network: functional, [B, X, Y, Z, 1] -> a dictionary for `shown` and the compiled losses.
          discriminator: [B, X, Y, Z, channels of `shown`] -> logit [B, 1].
          discriminator_optimizer: with its own learning rate.
          settings: of the two stages.
          shown: (image, reference, prediction) -> the discriminator's inputs for the reference and for the prediction,
            and 1 where they count (only these voxels get noise), each [B, X, Y, Z, channels]. None takes
            `mask_and_maps`.
        """
        super().__init__(name=network.name, dtype=network.dtype_policy)  # Keras scales the loss by it
        self.network, self.discriminator, self.settings = network, discriminator, settings
        self.shown = shown or mask_and_maps
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
        """The network's alone, for the compiled optimizer. The discriminator has its own."""
        return self.network.trainable_variables

    def training_state(self) -> dict[str, list]:
        """Every variable that training changes, by its owner."""
        return {"network": self.network.variables, "optimizer": self.optimizer.variables,
                "discriminator": self.discriminator.variables,
                "discriminator_optimizer": self.discriminator_optimizer.variables, "steps": [self.steps]}

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def train_step(self, data):
        image, reference, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.settings.branch_steps:
            tf.cond(self.steps < self.settings.branch_steps, lambda: self._branch_step(image, reference),
                    lambda: self._adversarial_step(image, reference))
        else:
            self._adversarial_step(image, reference)
        self.steps.assign_add(1)
        return self.get_metrics_result()

    def _branch_step(self, image, reference) -> None:
        """One step by the network's own losses."""
        with tf.GradientTape() as tape:
            loss = self._own_loss(image, reference, self.network(image, training=True))
            scaled = self.optimizer.scale_loss(loss)
        self._update(tape, scaled, loss)

    def _adversarial_step(self, image, reference) -> None:
        """One step of the discriminator, then one of the network by its own losses and the adversarial one."""
        with tf.GradientTape() as tape:
            prediction = self.network(image, training=True)
            loss = self._own_loss(image, reference, prediction)
            real, fake, counted = self.shown(image, reference, prediction)
            real, fake = self._noisy(real, REAL_NOISE, counted), self._noisy(fake, FAKE_NOISE, counted)
            self._discriminator_step(real, tf.stop_gradient(fake))
            _, logits = self._judge(real, fake)
            adversarial = generator_loss(logits)
            loss = loss + self._weight(loss, adversarial) * adversarial
            scaled = self.optimizer.scale_loss(loss)
        self._update(tape, scaled, loss)
        self.parts["adversarial_loss"].update_state(adversarial)

    def _weight(self, loss, adversarial):
        """The weight of the adversarial loss."""
        if self.settings.share is None:
            return self.settings.weight
        loss = tf.cast(loss, tf.float32)
        return tf.stop_gradient(self.settings.share * loss / tf.maximum(adversarial, SMALLEST))

    def _own_loss(self, image, reference, prediction):
        return self.compute_loss(image, reference, prediction, training=True)

    def _update(self, tape, scaled, loss) -> None:
        """Updates the network by the gradient of the scaled loss, and records the loss."""
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
        """The discriminator's logits [B, 1] of the reference and of the prediction, from one batch."""
        logits = tf.cast(self.discriminator(tf.concat([real, fake], 0), training=True), tf.float32)
        return tf.split(logits, 2)

    def _noisy(self, pair, draw: int, counted):
        """Noise where a voxel counts; a function of the seed, the step and the draw, so that a run resumes exactly."""
        if not self.settings.noise:
            return pair
        seed = tf.stack([tf.cast(self.settings.seed, tf.int64), NOISE_DRAWS * tf.convert_to_tensor(self.steps) + draw])
        return pair + self.settings.noise * tf.random.stateless_normal(tf.shape(pair), seed) * counted


def mask_and_maps(image, reference, prediction):
    """The inputs of D_pair (`femur`): foreground and maps of the reference, of the prediction, and where they count.

    Each is [B, X, Y, Z, 1 + K]; see `pairs`. The image is not an input.
    """
    return *pairs(reference, prediction), counted_voxels(reference)


def image_and_maps(image, reference, prediction):
    """The inputs of `pose`'s discriminator: the volume with the reference maps, with the predicted ones, what counts.

    Each is [B, X, Y, Z, 1 + K]. The volume is the same in both, and gets no noise. Where a voxel does not count, and in
    all of the map of an unknown landmark, both maps are 0.
    """
    image, counted = tf.cast(image, tf.float32), known_voxels(reference)
    maps = reference_maps(reference), predicted_maps(prediction)
    real, fake = (tf.concat([image, each * counted], -1) for each in maps)
    return real, fake, tf.concat([tf.zeros_like(image), counted], -1)


def known_voxels(reference):
    """1 where a voxel of a landmark's map counts: [B, X, Y, Z, K] float32."""
    return tf.cast(tf.math.is_finite(reference["heatmaps"]), tf.float32)


def reference_maps(reference):
    """The reference heatmaps, 0 where they do not count: [B, X, Y, Z, K] float32."""
    return tf.cast(tf.where(tf.math.is_finite(reference["heatmaps"]), reference["heatmaps"], 0), tf.float32)


def predicted_maps(prediction):
    """The network's heatmaps: [B, X, Y, Z, K] float32."""
    return tf.cast(prediction["heatmaps"], tf.float32)


def counted_voxels(reference):
    """1 where a voxel counts, of the mask and of each landmark: [B, X, Y, Z, 1 + K] float32."""
    return tf.concat([tf.cast(reference["mask"] >= 0, tf.float32), known_voxels(reference)], -1)


def pairs(reference, prediction):
    """The foreground and maps of the reference, and of the prediction; each [B, X, Y, Z, 1 + K].

    The predicted foreground is a probability, not a label, which would have no gradient. Where a voxel does not count
    both are 0, and so are a missing mask and the map of an unknown landmark: neither padding nor gaps in the reference
    distinguish the two.
    """
    counted = counted_voxels(reference)
    real = tf.concat([tf.cast(reference["mask"] > 0, tf.float32), reference_maps(reference)], -1)
    foreground = 1 - tf.nn.softmax(tf.cast(prediction["mask"], tf.float32))[..., :1]
    fake = tf.concat([foreground, predicted_maps(prediction)], -1)
    return real * counted, fake * counted


def discriminator_loss(of_real, of_fake, real_label: float = 1.0):
    """-log D(real) - log(1 - D(fake)) (Eq. 3, where the second term exchanges logarithm and 1), from logits."""
    return (tf.reduce_mean(real_label * tf.nn.softplus(-of_real) + (1 - real_label) * tf.nn.softplus(of_real))
            + tf.reduce_mean(tf.nn.softplus(of_fake)))


def generator_loss(of_fake):
    """-log D(fake), from logits: Eq. 3 up to a constant; log(1 - D) would have no gradient while D wins."""
    return tf.reduce_mean(tf.nn.softplus(-of_fake))
