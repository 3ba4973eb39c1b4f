"""Adversarial training: both stages step by step, against a hand-written loop; the record, the weights, the resume."""

import itertools

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.losses import joint
from tfsono.training.adversarial import (
    AdversarialSettings,
    AdversarialTrainer,
    StageRates,
    counted_voxels,
    discriminator_loss,
    generator_loss,
    image_and_maps,
    pairs,
)
from tfsono.training.fit import Schedule, fit
from tfsono.training.optimizers import learning_rate
from tfsono.training.run import load_weights, open_run, read_history
from tfsono.training.record import record_files
from wiring import eagerly

SIZE = (9, 7, 8)
SPLIT = {"train": ["a"], "validation": [], "test": ["b"]}
PARTS = ("adversarial_loss", "discriminator_loss", "discriminator_real", "discriminator_fake")


def network_of(seed=0):
    """A mask of two classes and two heatmaps, with batch normalisation, from hand."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((None, None, None, 1))
    x = layers.Conv3D(4, 3, padding="same", use_bias=False, name="features")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="features_norm")(x))
    outputs = {"mask": layers.Conv3D(2, 1, name="mask")(x), "heatmaps": layers.Conv3D(2, 1, name="maps")(x)}
    return keras.Model(image, outputs, name="tiny")


def discriminator_of(seed=1):
    keras.utils.set_random_seed(seed)
    pair = keras.Input((None, None, None, 3))
    x = layers.LeakyReLU(0.2)(layers.Conv3D(4, 4, strides=2, padding="same", name="first")(pair))
    x = layers.BatchNormalization(name="second_norm")(layers.Conv3D(4, 4, padding="same", use_bias=False,
                                                                   name="second")(x))
    x = layers.GlobalAveragePooling3D()(layers.LeakyReLU(0.2)(x))
    return keras.Model(pair, layers.Dense(1, name="judgement")(x), name="pair")


def trainer_of(branch_steps, weight=1.0, noise=0.05, real_label=1.0):
    settings = AdversarialSettings(branch_steps, weight, noise, real_label, seed=3)
    trainer = AdversarialTrainer(network_of(), discriminator_of(), adam(1e-3), settings)
    trainer.compile(adam(StageRates(1e-2, 1e-3, branch_steps)), **losses())
    return trainer


def adam(rate):
    return keras.optimizers.Adam(rate, beta_1=0.5, epsilon=1e-8)


def losses():
    return {"loss": {"mask": joint.mask_loss(), "heatmaps": joint.heatmap_loss()},
            "loss_weights": {"mask": 1.0, "heatmaps": 0.2}}


def region(step, padded=2):
    """One region of a step: a bright bar with two tips, and padding at the high end of z."""
    random = np.random.default_rng(step)
    mask = np.zeros((1, *SIZE, 1), np.int8)
    x, y = random.integers(2, 6, 2)
    mask[0, x - 1:x + 2, y - 1:y + 1, 1:5] = 1
    image = random.normal(0, 1, mask.shape).astype(np.float32) + 2 * mask
    maps = np.array(gaussian_maps(np.array([[[x, y, 1], [x, y, 4]]], np.float32), SIZE, 1.5))
    if padded:
        image[..., -padded:, :], mask[..., -padded:, :], maps[..., -padded:, :] = 0, -1, np.nan
    return image, {"mask": mask, "heatmaps": maps}


def batches(steps):
    """A dataset of a range of steps."""
    regions = [region(step) for step in steps]
    return tf.data.Dataset.from_tensor_slices((
        np.stack([image for image, _ in regions]),
        {name: np.stack([reference[name] for _, reference in regions]) for name in ("mask", "heatmaps")}))


def dataset_of(generator):
    """A dataset of what a generator of regions gives."""
    image, reference = region(0)
    return tf.data.Dataset.from_generator(generator, output_signature=(
        tf.TensorSpec(image.shape), {"mask": tf.TensorSpec(reference["mask"].shape, tf.int8),
                                     "heatmaps": tf.TensorSpec(reference["heatmaps"].shape)}))


def values(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def assert_same(one, other, **tolerance):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, **tolerance or {"rtol": 0, "atol": 0})


def moved(before, model):
    """How many of the trainable variables moved."""
    return sum(not np.array_equal(old, new) for old, new in zip(before, trainable(model), strict=True))


def trainable(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


# --- what the discriminator sees, and the losses


def test_the_losses_by_hand():
    of_real, of_fake = np.float32([[2.0], [-1.0]]), np.float32([[0.5], [-3.0]])
    real, fake = 1 / (1 + np.exp(-of_real)), 1 / (1 + np.exp(-of_fake))
    assert float(discriminator_loss(of_real, of_fake)) == pytest.approx(
        -np.log(real).mean() - np.log(1 - fake).mean(), rel=1e-5)
    smooth = -(0.9 * np.log(real) + 0.1 * np.log(1 - real)).mean() - np.log(1 - fake).mean()
    assert float(discriminator_loss(of_real, of_fake, 0.9)) == pytest.approx(smooth, rel=1e-5)
    assert float(generator_loss(of_fake)) == pytest.approx(-np.log(fake).mean(), rel=1e-5)


def test_the_generator_loss_has_a_gradient_while_the_discriminator_wins():
    logits = tf.constant([[-3.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = generator_loss(logits)
    gradient = tape.gradient(loss, logits).numpy()[0, 0]
    # log(1 - D) would have -sigma(-3) = -0.047
    assert gradient == pytest.approx(-1 / (1 + np.exp(-3)), rel=1e-4)


def test_the_pairs_by_hand():
    _, reference = region(0)
    random = np.random.default_rng(0)
    prediction = {"mask": random.normal(0, 2, (1, *SIZE, 3)).astype(np.float32),
                  "heatmaps": random.normal(0, 2, (1, *SIZE, 2)).astype(np.float32)}
    reference["mask"][0, 0, 0, 0] = 2  # another foreground class
    reference["heatmaps"][..., 1] = np.nan
    real, fake = (np.array(pair) for pair in pairs(reference, prediction))
    odds = np.exp(prediction["mask"])
    assert real.shape == fake.shape == (1, *SIZE, 3)
    assert fake[..., :6, 0] == pytest.approx((odds[..., 1:].sum(-1) / odds.sum(-1))[..., :6], rel=1e-4)
    assert real[0, 0, 0, 0, 0] == 1 and real[..., 0].sum() == (reference["mask"] > 0).sum()
    assert (real[..., :6, 1] == reference["heatmaps"][..., :6, 0]).all()
    assert (fake[..., :6, 1] == prediction["heatmaps"][..., :6, 0]).all()
    for pair in (real, fake, np.array(counted_voxels(reference))):
        assert not pair[..., 6:, :].any() and not pair[..., 2].any()  # the padding; the landmark that is not known
    reference["mask"][:] = -1
    real, fake = (np.array(pair) for pair in pairs(reference, prediction))
    assert not real[..., 0].any() and not fake[..., 0].any() and fake[..., 1].any()


def test_a_gradient_reaches_the_network_through_both_outputs():
    _, reference = region(0)
    prediction = {"mask": tf.zeros((1, *SIZE, 2)), "heatmaps": tf.zeros((1, *SIZE, 2))}
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        loss = generator_loss(discriminator_of()(pairs(reference, prediction)[1], training=False))
    for name, gradient in tape.gradient(loss, prediction).items():
        assert gradient.numpy().any(), name
        assert not gradient.numpy()[..., 6:, :].any()  # none in the padding


@pytest.mark.parametrize("changes", [{"noise": -1.0}, {"real_label": 0.0}, {"branch_steps": -1}, {"share": -0.01}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(UserError, match=f"{next(iter(changes))}: expected"):
        AdversarialSettings(**{"branch_steps": 1, **changes})


def test_the_rate_changes_with_the_stage():
    rate = StageRates(1e-3, 1e-4, 5)
    assert [float(rate(step)) for step in (0, 4, 5, 9)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert float(StageRates(1e-3, 1e-4, 0)(0)) == pytest.approx(1e-4)
    rate = StageRates(learning_rate(1e-3, "last_quarter", 0, 8), 1e-4, 8)
    assert [float(rate(step)) for step in (0, 6, 7, 8)] == pytest.approx([1e-3, 1e-3, 5e-4, 1e-4])


# --- the two stages


@eagerly()
def test_the_first_stage_is_plain_training():
    trainer, plain = trainer_of(4), network_of()
    judge = values(trainer.discriminator)
    plain.compile(adam(1e-2), **losses())
    own = trainer.fit(batches(range(4)), shuffle=False, verbose=0).history
    expected = plain.fit(batches(range(4)), shuffle=False, verbose=0).history
    assert_same(values(trainer.network), values(plain), rtol=1e-5, atol=1e-6)
    assert_same(values(trainer.discriminator), judge)
    assert int(trainer.steps) == 4 and not any(own[name][0] for name in PARTS)
    for name in ("loss", "mask_loss", "heatmaps_loss"):
        assert own[name] == pytest.approx(expected[name], rel=1e-5)


def test_the_second_stage_is_a_loop_written_by_hand():
    """The discriminator first, then the network with the discriminator as it is then; without noise."""
    trainer = trainer_of(0, weight=3.0, noise=0.0, real_label=0.9)
    trainer.fit(batches(range(3)), shuffle=False, verbose=0)
    network, judge, adams = network_of(), discriminator_of(), (adam(1e-3), adam(1e-3))
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    for step in range(3):
        image, reference = region(step)
        counted = np.concatenate([reference["mask"] >= 0, np.isfinite(reference["heatmaps"])], -1).astype(np.float32)
        real = np.nan_to_num(np.concatenate([reference["mask"] > 0, reference["heatmaps"]], -1)) * counted
        with tf.GradientTape() as tape:
            prediction = network(image, training=True)
            fake = counted * tf.concat([tf.nn.softmax(prediction["mask"])[..., 1:], prediction["heatmaps"]], -1)
            with tf.GradientTape() as inner:
                logits = judge(tf.concat([real, tf.stop_gradient(fake)], 0), training=True)
                d_loss = cross_entropy(tf.constant([[0.9]]), logits[:1]) + cross_entropy(tf.zeros((1, 1)), logits[1:])
            adams[1].apply(inner.gradient(d_loss, judge.trainable_variables), judge.trainable_variables)
            logits = judge(tf.concat([real, fake], 0), training=True)[1:]
            g_loss = cross_entropy(tf.ones((1, 1)), logits)
            loss = (joint.hybrid(reference["mask"], prediction["mask"])[0]
                    + 0.2 * joint.heatmap_loss()(reference["heatmaps"], prediction["heatmaps"])[0] + 3.0 * g_loss)
        adams[0].apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
    assert_same(values(trainer.network), values(network), rtol=1e-3, atol=1e-5)
    assert_same(values(trainer.discriminator), values(judge), rtol=1e-3, atol=1e-5)


def test_the_stages_follow_one_another_in_one_call():
    trainer = trainer_of(2)
    network, judge = trainable(trainer.network), trainable(trainer.discriminator)
    trainer.fit(batches(range(2)), shuffle=False, verbose=0)
    assert moved(network, trainer.network) == len(network) and moved(judge, trainer.discriminator) == 0
    rows = trainer.fit(batches(range(2, 5)), shuffle=False, verbose=0).history
    assert moved(judge, trainer.discriminator) == len(judge)
    assert int(trainer.steps) == int(trainer.optimizer.iterations) == 5
    assert int(trainer.discriminator_optimizer.iterations) == 3
    assert set(rows) == {"loss", "mask_loss", "heatmaps_loss", *PARTS}
    assert all(np.isfinite(values).all() for values in rows.values())
    assert 0 < rows["discriminator_real"][0] < 1 and 0 < rows["discriminator_fake"][0] < 1
    assert rows["loss"][0] == pytest.approx(
        rows["mask_loss"][0] + 0.2 * rows["heatmaps_loss"][0] + rows["adversarial_loss"][0], rel=1e-4)


@eagerly()
def test_without_weight_the_network_is_trained_as_alone():
    trainer, plain = trainer_of(0, weight=0.0), network_of()
    plain.compile(adam(1e-3), **losses())
    for model in (trainer, plain):
        model.fit(batches(range(3)), shuffle=False, verbose=0)
    assert_same(values(trainer.network), values(plain), rtol=1e-4, atol=1e-6)


def test_the_discriminator_learns_and_the_network_learns_to_deceive_it():
    network, judge = network_of(), discriminator_of()

    def last_record(rate_of_judge, weight, own_weights):
        """The last 20 of 60 steps: the network with its own losses weighted so, and the adversarial one."""
        trainer = AdversarialTrainer(network, judge, adam(rate_of_judge), AdversarialSettings(0, weight))
        trainer.compile(adam(1e-2 * weight), loss=losses()["loss"],
                        loss_weights={"mask": own_weights, "heatmaps": own_weights})
        rows = trainer.fit(batches(range(60)), shuffle=False, verbose=0, epochs=3, steps_per_epoch=20).history
        return {name: value[-1] for name, value in rows.items()}

    judged = last_record(1e-2, 0.0, 0.0)
    assert judged["discriminator_real"] - judged["discriminator_fake"] > 0.2
    deceived = last_record(0.0, 1.0, 0.0)
    assert deceived["discriminator_fake"] > judged["discriminator_fake"] + 0.1


@eagerly()
def test_a_case_is_used_for_what_it_has():
    """Both stages meet a case without a mask, one without a landmark, and one without any."""
    def cases():
        for missing in itertools.cycle(["mask", 1, slice(None)]):
            image, reference = region(0)
            if missing == "mask":
                reference["mask"][:] = -1
            else:
                reference["heatmaps"][..., missing] = np.nan
            yield image, reference

    trainer = trainer_of(3)
    start = trainable(trainer.network)
    rows = trainer.fit(dataset_of(cases), shuffle=False, verbose=0, steps_per_epoch=6).history
    assert all(np.isfinite(value).all() for value in (*rows.values(), *values(trainer)))
    assert moved(start, trainer.network) == len(start)


def test_padding_is_no_giveaway():
    """Two regions that differ in their padding alone give the discriminator the same."""
    image, reference = region(0)
    random = np.random.default_rng(0)
    predictions = [random.normal(0, 1, (1, *SIZE, 2)).astype(np.float32) for _ in range(2)]
    inside = np.broadcast_to(reference["mask"] >= 0, predictions[0].shape)
    predictions[1] = np.where(inside, predictions[0], predictions[1])
    trainer = trainer_of(0)
    seen = [trainer._noisy(pairs(reference, {"mask": a, "heatmaps": a})[1], 1, counted_voxels(reference)).numpy()
            for a in predictions]
    np.testing.assert_array_equal(*seen)
    assert not seen[0][..., 6:, :].any()
    plain = pairs(reference, {"mask": predictions[0], "heatmaps": predictions[0]})[1].numpy()
    assert (seen[0] - plain)[..., :6, :].std() == pytest.approx(0.05, rel=0.1)


@pytest.fixture
def policy():
    """Sets Keras's precision for the time of a test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def test_both_optimizers_scale_their_loss_in_half_precision(policy):
    policy("mixed_float16")
    network, judge = network_of(), discriminator_of()
    policy("float32")
    trainer = AdversarialTrainer(network, judge, adam(1e-3), AdversarialSettings(0))
    trainer.compile(adam(1e-3), **losses())
    for found in (trainer.optimizer, trainer.discriminator_optimizer):
        assert isinstance(found, keras.optimizers.LossScaleOptimizer)


def test_bfloat16_trains_both_networks(policy):
    policy("mixed_bfloat16")
    trainer = trainer_of(0)
    policy("float32")
    before = [trainable(model) for model in (trainer.network, trainer.discriminator)]
    rows = trainer.fit(batches(range(2)), shuffle=False, verbose=0).history
    assert all(np.isfinite(value).all() for value in rows.values())
    for start, model in zip(before, (trainer.network, trainer.discriminator), strict=True):
        assert moved(start, model) == len(start)
        assert all(variable.dtype == "float32" for variable in model.trainable_variables)


# --- a network of heatmaps alone, judged together with its image (pose)


def maps_network():
    return keras.Model((network := network_of()).input, {"heatmaps": network.output["heatmaps"]}, name="land")


def maps_trainer(branch_steps=0, share=0.01, noise=0.0):
    settings = AdversarialSettings(branch_steps, noise=noise, share=share, seed=3)
    trainer = AdversarialTrainer(maps_network(), discriminator_of(), adam(1e-3), settings, shown=image_and_maps)
    trainer.compile(adam(StageRates(1e-2, 1e-3, branch_steps)), loss={"heatmaps": joint.heatmap_error})
    return trainer


def maps_batches(steps):
    return batches(steps).map(lambda image, reference: (image, {"heatmaps": reference["heatmaps"]}))


def test_an_image_and_its_maps_by_hand():
    image, reference = region(0)
    reference["heatmaps"][..., 1] = np.nan
    prediction = {"heatmaps": np.random.default_rng(0).normal(0, 2, (1, *SIZE, 2)).astype(np.float32)}
    real, fake, counted = map(np.array, image_and_maps(image, {"heatmaps": reference["heatmaps"]}, prediction))
    for shown, maps in ((real, reference["heatmaps"]), (fake, prediction["heatmaps"])):
        assert shown.shape == (1, *SIZE, 3)
        np.testing.assert_array_equal(shown[..., :1], image)
        np.testing.assert_array_equal(shown[..., :6, 1], maps[..., :6, 0])
        assert not shown[..., 6:, 1].any() and not shown[..., 2].any()  # the padding; the landmark that is not known
    assert not counted[..., 0].any() and counted[..., :6, 1].all() and not counted[..., 6:, 1:].any()
    noisy = maps_trainer(noise=0.05)._noisy(real, 0, counted).numpy() - real
    assert not noisy[..., 0].any() and noisy[..., :6, 1].std() == pytest.approx(0.05, rel=0.15)


def test_the_adversarial_loss_is_a_share_of_the_networks_own_whatever_its_size():
    rows = maps_trainer(share=0.01).fit(maps_batches(range(3)), epochs=3, steps_per_epoch=1, shuffle=False,
                                        verbose=0).history
    assert set(rows) == {"loss", *PARTS}  # of one loss Keras records the sum alone
    for total, adversarial in zip(rows["loss"], rows["adversarial_loss"], strict=True):
        assert adversarial > 0 and np.isfinite(total)
    trainer = maps_trainer()
    image, reference = region(0)
    own = float(joint.heatmap_error(reference["heatmaps"], trainer.network(image, training=True)["heatmaps"])[0])
    assert rows["loss"][0] == pytest.approx(own * 1.01, rel=1e-5)


def test_the_share_is_a_loop_written_by_hand():
    """The weight is a number: no gradient goes through it, nor through the loss that it is made of."""
    trainer = maps_trainer(share=0.5)
    trainer.fit(maps_batches(range(3)), shuffle=False, verbose=0)
    network, judge, adams = maps_network(), discriminator_of(), (adam(1e-3), adam(1e-3))
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    for step in range(3):
        image, reference = region(step)
        counted = np.isfinite(reference["heatmaps"]).astype(np.float32)
        real = np.concatenate([image, np.nan_to_num(reference["heatmaps"])], -1)
        with tf.GradientTape(persistent=True) as tape:
            maps = network(image, training=True)["heatmaps"]
            fake = tf.concat([image, maps * counted], -1)
            with tf.GradientTape() as inner:
                logits = judge(tf.concat([real, tf.stop_gradient(fake)], 0), training=True)
                d_loss = cross_entropy(tf.ones((1, 1)), logits[:1]) + cross_entropy(tf.zeros((1, 1)), logits[1:])
            adams[1].apply(inner.gradient(d_loss, judge.trainable_variables), judge.trainable_variables)
            g_loss = cross_entropy(tf.ones((1, 1)), judge(tf.concat([real, fake], 0), training=True)[1:])
            own = 0.5 * tf.reduce_sum(((maps - real[..., 1:]) * counted) ** 2)
        weight = 0.5 * float(own) / float(g_loss)
        variables = network.trainable_variables
        gradients = [[0.0 if gradient is None else gradient for gradient in tape.gradient(part, variables)]
                     for part in (own, g_loss)]
        adams[0].apply([one + weight * other for one, other in zip(*gradients, strict=True)], variables)
    assert_same(values(trainer.network), values(network), rtol=1e-3, atol=1e-5)
    assert_same(values(trainer.discriminator), values(judge), rtol=1e-3, atol=1e-5)


def test_a_loss_of_nothing_gives_no_adversarial_one():
    """A case without any landmark: the share of 0 is 0, and everything stays finite."""
    image, reference = region(0)
    reference["heatmaps"][:] = np.nan
    trainer = maps_trainer()
    start = trainable(trainer.network)
    rows = trainer.fit(tf.data.Dataset.from_tensors((image, {"heatmaps": reference["heatmaps"]})), shuffle=False,
                       verbose=0).history
    assert rows["loss"][0] == 0 and np.isfinite(rows["adversarial_loss"][0])
    assert_same(start, trainable(trainer.network), rtol=0, atol=0)


@pytest.mark.slow
def test_both_stages_of_maps_alone_run_and_resume(tmp_path):
    states = []
    for folder, stop in (("whole", None), ("stopped", 3)):
        run = run_of(tmp_path / folder)
        if stop:
            with pytest.raises(Exception, match="Stopped"):
                fit(run, maps_trainer(1, noise=0.05), lambda steps: stopped_after(stop)(steps).map(
                    lambda image, reference: (image, {"heatmaps": reference["heatmaps"]})), Schedule(4, 2))
        fit(run, maps_trainer(1, noise=0.05), maps_batches, Schedule(4, 2))
        states.append(arrays(run.state))
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)


# --- the run


def run_of(folder):
    return open_run(folder, choose(HIP, "quick", "paper").replaced("test", label_names=("head",)), SPLIT, {})


def arrays(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None)
    return found


class Stopped(Exception):
    """Ends a run between two records."""


def stopped_after(steps):
    """Batches that break off after some steps, as a killed run does."""
    def interrupted(wanted):
        def regions():
            for step in wanted:
                if step == steps:
                    raise Stopped
                yield region(step)
        return dataset_of(regions)
    return interrupted


@pytest.fixture(scope="module")
@eagerly()
def whole(tmp_path_factory):
    """A run that was never stopped: records at 2, 4, 6 and 8; the second stage begins with step 3."""
    run, trainer = run_of(tmp_path_factory.mktemp("adversarial") / "whole"), trainer_of(3)
    fit(run, trainer, batches, Schedule(8, 2))
    return run, trainer


@eagerly()
@pytest.mark.parametrize("stopped", [3, 7])
def test_a_stopped_run_ends_with_the_weights_of_an_uninterrupted_one(whole, tmp_path, stopped):
    """Stopped in the first stage and in the second, between two records."""
    run = run_of(tmp_path / "run")
    with pytest.raises(Exception, match="Stopped"):
        fit(run, trainer_of(3), stopped_after(stopped), Schedule(8, 2))
    assert read_history(run.folder / "history.csv")[-1]["step"] == stopped - 1
    fit(run, trainer_of(3), batches, Schedule(8, 2))
    for name in ("last.weights.h5", "state.h5"):
        one, other = arrays(whole[0].folder / name), arrays(run.folder / name)
        assert one.keys() == other.keys() and len(one) > 5
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], err_msg=f"{name} {key}")
    rows = [read_history(folder / "history.csv") for folder in (whole[0].folder, run.folder)]
    for one, other in zip(*rows, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_the_record_and_the_state_of_both_stages(whole):
    run, trainer = whole
    rows = read_history(run.folder / "history.csv")
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-2, 1e-3, 1e-3, 1e-3])
    assert rows[0]["discriminator_loss"] == 0 < min(row["discriminator_loss"] for row in rows[1:])
    moments = [2 * len(model.trainable_variables) for model in (trainer.network, trainer.discriminator)]
    with h5py.File(run.state) as file:
        assert {name: len(file[name]) for name in file} == {
            "network": len(trainer.network.variables), "discriminator": len(trainer.discriminator.variables),
            "optimizer": moments[0] + 1,  # its count of the steps; the rate is a schedule
            "discriminator_optimizer": moments[1] + 2, "steps": 1}
        assert file["steps/0000"][()] == 8


@eagerly()
def test_the_weights_are_the_networks_alone(tmp_path):
    run, scores = run_of(tmp_path / "run"), iter([0.5, 0.9, 0.7])
    trainer = trainer_of(1)
    at = []

    def validate():
        at.append(values(trainer.network))
        return next(scores), np.zeros((8, 16, 3), np.uint8)

    fit(run, trainer, batches, Schedule(6, 2), validate)
    for which, expected in (("last", at[2]), ("best", at[1])):
        fresh = network_of(seed=9)
        load_weights(run, fresh, which)
        assert_same(values(fresh), expected)
    plain = network_of()
    plain.compile(adam(1e-3), **losses())
    fit(run_of(tmp_path / "plain"), plain, batches, Schedule(2, 2))
    assert arrays(run.weights("last")).keys() == arrays(tmp_path / "plain" / "last.weights.h5").keys()


@eagerly()
def test_a_plain_run_is_not_resumed_as_an_adversarial_one(tmp_path):
    plain = network_of()
    plain.compile(adam(1e-3), **losses())
    fit(run_of(tmp_path / "run"), plain, batches, Schedule(2, 2))
    (tmp_path / "run" / "finished.json").unlink()
    record_files(tmp_path / "run")
    with pytest.raises(UserError, match="another network"):
        fit(run_of(tmp_path / "run"), trainer_of(1), batches, Schedule(4, 2))


def test_the_noise_of_two_steps_or_two_draws_is_not_the_same():
    trainer, counted = trainer_of(0), counted_voxels(region(0)[1])
    pair = np.zeros((1, *SIZE, 3), np.float32)
    drawn = []
    for step, draw in itertools.product((0, 1), (0, 1)):
        trainer.steps.assign(step)
        drawn.append(trainer._noisy(pair, draw, counted).numpy()[..., :6, :].ravel())
    for one, other in itertools.combinations(drawn, 2):
        assert np.abs(np.corrcoef(one, other)[0, 1]) < 0.15
    np.testing.assert_array_equal(trainer._noisy(pair, 1, counted).numpy()[..., :6, :].ravel(), drawn[-1])


def test_a_share_of_0_switches_the_adversarial_loss_off():
    """As a weight of 0 does, with which a network is trained as alone."""
    values = tf.constant(2.0), tf.constant(3.0)
    found = [float(maps_trainer(share=share)._weight(*values)) for share in (0.0, 0.3, None)]
    assert found == pytest.approx([0, 0.2, 1])
