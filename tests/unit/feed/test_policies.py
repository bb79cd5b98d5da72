from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from discern.base.errors import ConfigError
from discern.feed.augment import (
    PhotoAugment,
    Policy,
    SmallImageAugment,
    Step,
    apply_policy,
    describe_augment,
)
from discern.feed.batch import FeedOptions
from discern.feed.draws import Draws
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.operations import Mirror, OneOf
from discern.feed.policies import (
    OPERATIONS,
    POLICY_NAMES,
    PolicyContext,
    listed_policy,
    named_policy,
)
from discern.feed.resident import ResidentFeed

PHOTOS = PolicyContext(small=False, crop=PhotoAugment())
SMALL = PolicyContext(small=True, crop=SmallImageAugment(pad=2))
# Every operation that a config can name, twice: once always done, once in some images.
ARGUMENTS = {
    "color_jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
    "hls_jitter": {"hue": 30, "saturation": 40, "lightness": 40},
}
EVERYTHING = listed_policy(
    [
        {"name": name, "probability": chance, **ARGUMENTS.get(name, {})}
        for name in sorted(OPERATIONS)
        for chance in (0.4, 1.0)
    ]
)


def pixels_of(count, side=24, channels=3, seed=0):
    """Smooth color gradients with noise on them, uint8 [N,H,W,C]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side] / side
    waves = random.random((count, 1, 1, channels)) * 6
    base = 128 + 90 * np.sin(waves + 4 * rows[None, :, :, None] + 3 * columns[None, :, :, None])
    noise = random.integers(-20, 20, (count, side, side, channels))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


def images_of(policy, pixels, positions, *, batch, order, seed=5, epoch=2):
    """Each position's image, made in batches of `batch` in the given order."""
    made = {}
    draws = Draws(seed, epoch)
    for begin in range(0, len(order), batch):
        part = order[begin : begin + batch]
        rows = policy.table(draws, torch.from_numpy(positions[part]))
        for place, image in zip(part, apply_policy(pixels[part], policy, rows), strict=True):
            made[int(place)] = image
    return np.stack([made[place] for place in range(len(pixels))])


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("policy", ["everything", *POLICY_NAMES])
def test_batches_and_their_order_never_change_an_image(policy, channels):
    policy = EVERYTHING if policy == "everything" else named_policy(policy, PHOTOS)
    pixels = pixels_of(9, channels=channels)
    positions = np.array([3, 1, 4, 15, 92, 65, 35, 89, 7])
    given = np.arange(9)
    expected = images_of(policy, pixels, positions, batch=9, order=given)
    for batch, order in (
        (1, given),
        (2, given[::-1]),
        (4, np.random.default_rng(1).permutation(9)),
    ):
        made = images_of(policy, pixels, positions, batch=batch, order=order)
        assert np.array_equal(expected, made), batch


@pytest.mark.parametrize("name", [name for name in POLICY_NAMES if name != "none"])
def test_seed_epoch_and_position_change_the_images(name):
    policy = named_policy(name, PHOTOS)
    if not policy.steps:
        pytest.skip("this one only frames")
    pixels = np.repeat(pixels_of(1), 8, axis=0)
    positions, order = np.arange(8), np.arange(8)

    def made(**key):
        return images_of(policy, pixels, positions, batch=8, order=order, **key)

    base = made()
    assert len(np.unique(base.reshape(8, -1), axis=0)) > 1
    assert not np.array_equal(base, made(seed=6))
    assert not np.array_equal(base, made(epoch=3))
    assert np.array_equal(base, made())


@pytest.mark.parametrize("side", [1, 2, 5])
def test_tiny_images_pass_every_operation(side):
    pixels = pixels_of(6, side=side)
    rows = EVERYTHING.table(Draws(0, 0), torch.arange(6))
    out = apply_policy(pixels, EVERYTHING, rows)
    assert (pixels.shape, np.uint8) == (out.shape, out.dtype)


def fed(source, augment, preprocess, *, workers, batch):
    """Each position's image as the feed of photos delivers it in epoch 3."""
    count = len(source)
    positions = np.arange(count)[::-1] if batch % 2 else np.arange(count)
    options = FeedOptions(batch_size=batch, training=True, seed=7, augment=augment)
    threads = LoaderThreads(workers=workers)
    made = {}
    with LoaderFeed(
        source, np.zeros(count, np.int64), positions.copy(), preprocess, options, threads=threads
    ) as feed:
        for batch_ in feed.epoch(3):
            made |= dict(zip(batch_.positions.tolist(), batch_.images.clone(), strict=True))
    return torch.stack([made[position] for position in range(count)])


@pytest.mark.parametrize("name", ["everything", *POLICY_NAMES])
def test_workers_and_batches_never_change_an_image(color, array_source, name):
    policy = EVERYTHING if name == "everything" else named_policy(name, PHOTOS)
    photos = []
    for number in range(10):
        data = io.BytesIO()
        pixels = pixels_of(1, side=60 + 5 * number, seed=number)[0]
        Image.fromarray(pixels[: 50 + number]).save(data, "JPEG", quality=90)
        photos.append(data.getvalue())
    source = array_source(photos)
    expected = fed(source, policy, color, workers=0, batch=10)
    for workers, batch in ((2, 3), (4, 4), (2, 1)):
        assert torch.equal(expected, fed(source, policy, color, workers=workers, batch=batch))


def test_one_image_and_a_batch_of_one_agree():
    pixels = pixels_of(1)
    rows = EVERYTHING.table(Draws(0, 0), torch.tensor([11]))
    expected = apply_policy(pixels, EVERYTHING, rows)[0]
    assert np.array_equal(expected, apply_policy(pixels[0], EVERYTHING, rows[0]))


def test_the_given_pixels_stay_as_they_are():
    pixels = pixels_of(3)
    before = pixels.copy()
    apply_policy(pixels, EVERYTHING, EVERYTHING.table(Draws(0, 0), torch.arange(3)))
    assert np.array_equal(before, pixels)


def test_a_step_is_done_to_its_share_of_the_images():
    policy = Policy(name="own", steps=(Step(operation=Mirror(), probability=0.3),))
    pixels = np.tile(np.arange(4, dtype=np.uint8)[None, None, :, None], (4000, 1, 1, 1))
    out = apply_policy(pixels, policy, policy.table(Draws(0, 0), torch.arange(4000)))
    assert 0.3 == pytest.approx((out[:, 0, 0, 0] == 3).mean(), abs=0.03)


def test_four_names_hold_what_they_say():
    steps = {
        name: [type(step.operation).__name__ for step in named_policy(name, PHOTOS).steps]
        for name in ("none", "flip_random", "color_distortion", "both")
    }
    assert {
        "none": [],
        "flip_random": ["Mirror"],
        "color_distortion": ["ColorDistortion"],
        "both": ["Mirror", "ColorDistortion"],
    } == steps


def test_mirror_is_left_out_where_it_is_not_allowed():
    context = PolicyContext(small=True, crop=SmallImageAugment(), flip=False)
    for name in POLICY_NAMES:
        record = json.dumps(named_policy(name, context).record())
        assert '"mirror"' not in record
        assert '"flip": true' not in record


@pytest.mark.feature("LA-14")
def test_cifar_preset_has_the_values_of_its_source(color):
    policy = named_policy("cifar", SMALL)
    record = policy.record()
    expected = {"name": "small_image_augment", "pad": 4, "flip": False, "border": "constant"}
    assert expected.items() <= record["framing"].items()
    assert [
        {"name": "mirror", "probability": 0.5},
        {"name": "brightness_shift", "limit": 63.0, "probability": 1.0},
        {"name": "contrast", "low": 0.2, "high": 1.8, "probability": 1.0},
    ] == record["steps"]
    assert record["evaluation"]["per_image"] is True
    assert policy.evaluation.adapt(color).per_image
    assert [] == named_policy("cifar_fast", SMALL).record()["steps"]


@pytest.mark.feature("LA-14")
def test_cifar_preset_feeds_images_of_mean_zero_and_deviation_one(settings):
    policy = named_policy("cifar", SMALL)
    pixels = settings.random_pixels(12)
    options = FeedOptions(batch_size=4, training=True, augment=policy)
    adapted = policy.evaluation.adapt(replace(settings, height=8, width=10))
    feed = ResidentFeed(pixels, np.zeros(12, np.int64), np.arange(12), adapted, options)
    for batch in feed.epoch(0):
        values = batch.images.double().flatten(1)
        assert (0.0,) * len(values) == pytest.approx(values.mean(1).tolist(), abs=1e-5)
        assert (1.0,) * len(values) == pytest.approx(values.std(1, correction=0).tolist(), abs=1e-4)


@pytest.mark.feature("LA-15")
def test_vgg_preset_has_the_values_of_its_source(color):
    policy = named_policy("vgg", PHOTOS)
    record = policy.record()
    assert {"name": "short_side_crop", "low": 256, "high": 512, "network": 0} == record["framing"]
    assert [{"name": "mirror", "probability": 0.5}] == record["steps"]
    adapted = policy.evaluation.adapt(color)
    assert (123.68, 116.78, 103.94) == pytest.approx([255 * one for one in adapted.mean])
    assert (1.0, 1.0, 1.0) == pytest.approx([255 * one for one in adapted.std])
    assert (224 / 256, "crop") == (adapted.crop_pct, adapted.fit)


@pytest.mark.feature("LA-16")
def test_inception_preset_has_the_values_of_its_source(color):
    policy = named_policy("inception", PHOTOS)
    record = policy.record()
    assert [0.05, 1.0] == record["framing"]["scale"]
    assert [0.75, 1.33] == record["framing"]["ratio"]
    assert 4 == len(record["framing"]["interpolations"])
    distortion = {
        "name": "color_distortion",
        "fast": False,
        "brightness": 32 / 255,
        "contrast": [0.5, 1.5],
        "saturation": [0.5, 1.5],
        "hue": 0.2,
        "probability": 1.0,
    }
    assert [{"name": "mirror", "probability": 0.5}, distortion] == record["steps"]
    adapted = policy.evaluation.adapt(color)
    # (v - 0.5) / 0.5 brings 0..1 to -1..1.
    assert ((0.5,) * 3, (0.5,) * 3) == (adapted.mean, adapted.std)
    assert named_policy("inception_fast", PHOTOS).record()["steps"][1]["fast"] is True


@pytest.mark.feature("CA-35")
def test_heavy_preset_has_the_values_of_its_source():
    record = named_policy("heavy", PHOTOS).record()
    assert {0.5} == {step["probability"] for step in record["steps"]}
    expected = [
        ("cutout", {"holes": 4, "share": 0.25}),
        ("shift_scale_rotate", {"shift": 0.1, "scale": 0.1, "angle": 15.0}),
        ("perspective", {"low": 0.02, "high": 0.05}),
        ("one_of", {}),
        ("brightness_contrast", {"brightness": 0.5, "contrast": 0.5}),
        ("gamma", {}),
        ("clahe", {}),
        ("jpeg", {"low": 50}),
    ]
    assert [name for name, _ in expected] == [step["name"] for step in record["steps"]]
    for (_, values), step in zip(expected, record["steps"], strict=True):
        assert values.items() <= step.items()
    options = [option["name"] for option in record["steps"][3]["options"]]
    assert ["hsv_shift", "grey", "channel_shift", "channel_shuffle"] == options
    assert {"name": "whole", "fit": "pad"} == record["framing"]


@pytest.mark.feature("MX-44")
def test_imagenet_preset_has_the_values_of_its_source(color):
    policy = named_policy("imagenet", PHOTOS)
    record = policy.record()
    framing = {
        "random_resized_crop": True,
        "min_random_area": 0.08,
        "min_random_aspect_ratio": 3 / 4,
        "max_random_aspect_ratio": 4 / 3,
        "random_mirror": True,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "pca_noise": 0.1,
    }
    assert framing.items() <= record["framing"].items()
    adapted = policy.evaluation.adapt(color)
    assert (123.68, 116.779, 103.939) == pytest.approx([255 * one for one in adapted.mean])
    assert (58.393, 57.12, 57.375) == pytest.approx([255 * one for one in adapted.std])
    text = describe_augment(policy)
    assert "min_random_area 0.08" in text
    assert "lighting (sigma 0.1)" in text
    assert {"none", "light", "standard", "heavy", "imagenet"} <= set(POLICY_NAMES)


@pytest.mark.feature("MX-76")
def test_strong_steps_end_in_the_last_epochs():
    policy = named_policy("trivialaugment", PHOTOS)
    options = FeedOptions(batch_size=4, training=True, augment=policy, close_from=8)
    assert policy == options.policy(7)
    for epoch in (8, 9):
        closed = options.policy(epoch)
        assert ["Mirror"] == [type(step.operation).__name__ for step in closed.steps]
        assert policy.framing == closed.framing
        assert "trivial" not in describe_augment(closed)


def test_records_are_json_and_name_every_setting():
    for name in POLICY_NAMES:
        record = named_policy(name, PHOTOS).record()
        assert record == json.loads(json.dumps(record))
        assert name == record["name"]


def test_listed_policy_builds_from_its_own_record():
    record = EVERYTHING.record()
    rebuilt = listed_policy(record["steps"], framing={"name": "photo", "scale": [0.2, 1.0]})
    assert EVERYTHING.steps == rebuilt.steps
    assert PhotoAugment(scale=(0.2, 1.0)) == rebuilt.framing


def test_operation_of_another_module_is_opened():
    policy = listed_policy([{"name": "discern.feed.operations:Mirror", "probability": 0.2}])
    assert (Step(operation=Mirror(), probability=0.2),) == policy.steps


def test_a_choice_among_steps_builds_from_its_own_record():
    heavy = named_policy("heavy", PHOTOS)
    rebuilt = listed_policy(heavy.record()["steps"])
    assert heavy.steps == rebuilt.steps
    assert any(isinstance(step.operation, OneOf) for step in rebuilt.steps)


@pytest.mark.parametrize(
    ("expected", "build"),
    [
        ("no list of options", lambda: listed_policy([{"name": "one_of", "options": "grey"}])),
        (
            "options[1]",
            lambda: listed_policy(
                [{"name": "one_of", "options": [{"name": "grey"}, {"name": "miror"}]}]
            ),
        ),
        ("did you mean 'imagenet'", lambda: named_policy("imagenett", PHOTOS)),
        ("did you mean 'mirror'", lambda: listed_policy([{"name": "miror"}])),
        ("augment.steps[0]", lambda: listed_policy([{"name": "jpeg", "quality": 3}])),
        ("augment.steps[1]", lambda: listed_policy([{"name": "mirror"}, {}])),
        ("augment.probability", lambda: listed_policy([{"name": "grey", "probability": 2}])),
        ("argument 'probability'", lambda: listed_policy([{"name": "grey", "probability": "x"}])),
        ("argument 'low'", lambda: listed_policy([{"name": "jpeg", "low": "x"}])),
        ("augment.framing", lambda: listed_policy([], framing={"name": "photos"})),
    ],
)
def test_unknown_names_and_values_are_told(expected, build):
    with pytest.raises(ConfigError) as caught:
        build()
    assert expected in str(caught.value)


def test_small_images_keep_what_their_preset_crops():
    names = {name: type(named_policy(name, SMALL).framing).__name__ for name in POLICY_NAMES}
    assert "NoneType" == names["heavy"] == names["none"] == names["both"]
    assert "SmallImageAugment" == names["cifar"] == names["light"] == names["trivialaugment"]
    assert ("BoxCrop", "PhotoAugment") == (names["inception"], names["inception_fast"])
    assert 224 == named_policy("vgg", SMALL).framing.network


def test_presets_take_the_arguments_of_their_operation():
    rand = named_policy("randaugment", PHOTOS, {"n": 3, "m": 5}).steps[-1].operation
    assert (3, 5, 0.5) == (rand.n, rand.m, rand.probability)
    erasing = named_policy("random_erasing", PHOTOS, {"area": [0.1, 0.2]}).steps[-1].operation
    assert (0.1, 0.2) == erasing.area
    flags = {"random_crop": 1, "max_random_h": 36, "rotate_list": [0, 90]}
    policy = named_policy("mxnet", PHOTOS, flags)
    assert (True, (0, 90)) == (policy.framing.random_crop, policy.framing.rotate_list)
    assert 36 == policy.steps[0].operation.hue


@pytest.mark.parametrize(
    ("expected", "name", "arguments"),
    [
        ("did you mean 'random_crop'", "mxnet", {"random_crops": True}),
        ("argument 'm' is of another kind", "randaugment", {"m": "nine"}),
        ("argument 'area' is of another kind", "random_erasing", {"area": 0.2}),
        ("argument 'area' is of another kind", "random_erasing", {"area": ["a", "b"]}),
        ("argument 'random_mirror' is of another kind", "mxnet", {"random_mirror": 2}),
        ("argument 'resize' is of another kind", "mxnet", {"resize": True}),
        ("expected: no arguments", "light", {"n": 2}),
        ("augment.m", "randaugment", {"m": 11}),
    ],
)
def test_wrong_arguments_of_a_preset_are_told(expected, name, arguments):
    with pytest.raises(ConfigError) as caught:
        named_policy(name, PHOTOS, arguments)
    assert expected in " ".join(str(caught.value).split())
