from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from discern.base.errors import ConfigError
from discern.feed import color, warps
from discern.feed.auto_operations import (
    _INCREASING,
    AugMix,
    RandAugment,
    TrivialAugment,
    change_by_name,
)
from discern.feed.color_operations import (
    BrightnessContrast,
    BrightnessShift,
    ChannelShift,
    ChannelShuffle,
    Clahe,
    ColorDistortion,
    ColorJitter,
    Contrast,
    Gamma,
    Grey,
    HlsJitter,
    HsvShift,
    Jpeg,
    Lighting,
)
from discern.feed.draws import Draws
from discern.feed.operations import (
    Cutout,
    Mirror,
    OneOf,
    Perspective,
    RandomErasing,
    ShiftScaleRotate,
    apply_where,
)
from discern.feed.variates import beta, between, integer_between, normal, order, pick, shares


def images_of(count=1, side=32, channels=3, seed=0):
    """Smooth waves with a little noise, uint8 [N,C,H,W]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side] / side
    phase = random.random((count, channels, 1, 1)) * 6
    waves = 128 + 100 * np.sin(phase + 5 * rows + 3 * columns)
    noise = random.integers(-9, 9, (count, channels, side, side))
    return torch.from_numpy(np.clip(waves + noise, 0, 255).astype(np.uint8))


def evens(count, numbers, seed=0):
    """Keyed random numbers as a policy hands them over, float64 [N,R]."""
    return Draws(seed, 0).table(torch.arange(count), 5, numbers).numpy()


def row(*numbers):
    return np.array([numbers], dtype=np.float64)


# --- distributions


def test_distributions_have_their_moments():
    drawn = evens(20_000, 3)[:, 0]
    assert (0.0, 1.0) == pytest.approx(
        (np.mean([normal(v) for v in drawn]), np.std([normal(v) for v in drawn])), abs=0.02
    )
    for shape in (0.2, 1.0, 4.0):
        values = [beta(v, shape) for v in drawn[:4000]]
        variance = 1 / (4 * (2 * shape + 1))
        assert (0.5, variance) == pytest.approx((np.mean(values), np.var(values)), abs=0.015)
    ends = [between(0.0, -2, 6), between(1 - 2**-53, -2, 6)]
    assert [-2, 6] == pytest.approx(ends)
    assert {3, 4, 5} == {integer_between(v, 3, 5) for v in drawn[:100]}
    assert np.bincount([pick(v, (0, 1, 2, 3)) for v in drawn]) == pytest.approx(5000, rel=0.05)
    assert 24 == len({order(v, 4) for v in drawn[:1000]})


@pytest.mark.parametrize("shape", [0.3, 1.0, 2.5])
def test_shares_sum_to_one(shape):
    parts = np.array([shares(list(numbers), shape) for numbers in evens(3000, 3)])
    assert 1.0 == pytest.approx(parts.sum(1))
    assert (1 / 3,) * 3 == pytest.approx(parts.mean(0), abs=0.02)
    variance = (2 / 9) / (3 * shape + 1)
    assert (variance,) * 3 == pytest.approx(parts.var(0), rel=0.12)


@pytest.mark.parametrize("even", [0.0, 1.0 - 2.0**-53])
def test_smallest_and_largest_number_stay_finite(even):
    values = [normal(even), beta(even, 0.2), *shares([even] * 3, 1.0), *shares([even] * 3, 0.3)]
    assert np.isfinite(values).all()


# --- batches against torchvision's functionals


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (color.scale_brightnesses, F.adjust_brightness),
        (color.scale_contrasts, F.adjust_contrast),
        (color.scale_saturations, F.adjust_saturation),
    ],
)
def test_batched_colors_are_torchvisions(ours, theirs, channels):
    images = images_of(6, channels=channels)
    factors = torch.tensor([0.0, 0.31, 0.9, 1.0, 1.37, 2.0], dtype=torch.float64)
    expected = torch.stack(
        [theirs(image, float(f)) for image, f in zip(images, factors, strict=True)]
    )
    difference = (expected.int() - ours(images, factors).int()).abs()
    # torchvision multiplies and adds in one rounding: a value may come out one level apart.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


def test_grey_values_are_torchvisions():
    images = images_of(3)
    expected = F.rgb_to_grayscale(images, num_output_channels=3)
    assert (expected.int() - Grey().apply(images, np.empty((3, 0))).int()).abs().max() <= 1


def test_mirror_exchanges_left_and_right():
    images = images_of(2)
    assert torch.equal(F.horizontal_flip(images), Mirror().apply(images, np.empty((2, 0))))


@pytest.mark.parametrize(
    ("expected", "operation", "numbers"),
    [
        (0, ColorJitter(brightness=0.3, contrast=0.2, saturation=0.4, hue=0.1), (0.5,) * 5),
        (1, ColorDistortion(), (0.5,) * 5),
        (0, BrightnessShift(limit=63), (0.5,)),
        (0, Contrast(low=0.5, high=1.5), (0.5,)),
        (0, BrightnessContrast(), (0.5, 0.5)),
        (1, Lighting(sigma=0.1), (0.5, 0.5, 0.5)),
        (6, HlsJitter(hue=30, saturation=30, lightness=30), (0.5,) * 6),
        (6, HsvShift(), (0.5,) * 3),
        (0, ChannelShift(), (0.5,) * 3),
        (1, Gamma(), (0.5,)),
        (0, ShiftScaleRotate(), (0.5,) * 4),
    ],
)
def test_middle_numbers_leave_the_image(expected, operation, numbers):
    images = images_of()
    difference = images.int() - operation.apply(images, row(*numbers)).int()
    # Journeys through another color space round.
    assert difference.abs().max() <= expected


def test_brightness_shift_reaches_both_limits():
    images = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    out = BrightnessShift(limit=63).apply(images, np.array([[0.0], [1 - 2**-53]]))
    assert [37, 163] == out[:, 0, 0, 0].tolist()


@pytest.mark.feature("MX-40")
def test_color_jitter_moves_the_mean_within_its_bounds():
    images = torch.full((2000, 3, 2, 2), 100, dtype=torch.uint8)
    out = ColorJitter(brightness=0.4).apply(images, evens(2000, 5)).float().mean((1, 2, 3))
    assert 60.0 <= out.min() < 61.5
    assert 138.0 < out.max() <= 140.0
    assert 100.0 == pytest.approx(out.mean().item(), abs=1.5)


def test_color_jitter_runs_in_the_order_drawn():
    images = images_of(1)
    jitter = ColorJitter(brightness=0.5, contrast=0.5)
    brighter, flatter = torch.tensor([1.4]), torch.tensor([0.6])
    first = color.scale_contrasts(color.scale_brightnesses(images, brighter), flatter)
    last = color.scale_brightnesses(color.scale_contrasts(images, flatter), brighter)
    assert not torch.equal(first, last)
    for even, expected in ((0.2, first), (0.7, last)):
        made = jitter.apply(images, row(0.9, 0.1, 0.0, 0.0, even))
        assert (expected.int() - made.int()).abs().max() <= 1


@pytest.mark.feature("LA-16")
def test_color_distortion_has_four_orders():
    images = images_of(1)
    made = [
        ColorDistortion().apply(images, row(0.9, 0.9, 0.9, 0.9, even)).numpy().tobytes()
        for even in np.arange(0, 1, 1 / 16)
    ]
    assert 4 == len(set(made))
    fast = [
        ColorDistortion(fast=True).apply(images, row(0.9, 0.9, 0.9, 0.9, even)).numpy().tobytes()
        for even in np.arange(0, 1, 1 / 16)
    ]
    assert 2 == len(set(fast))


@pytest.mark.feature("MX-40")
def test_hls_amounts_lie_mostly_in_the_middle():
    jitter = HlsJitter(hue=180, saturation=255, lightness=100)
    levels = np.array([jitter.levels(numbers) for numbers in evens(20_000, 6)])
    assert (np.abs(levels).max(0) <= (180, 100, 255)).all()
    assert (np.abs(levels).max(0) >= (165, 90, 235)).all()
    # The mean of two even numbers weighted 1 and 4: its deviation is sqrt(17) / 5 of an even one.
    even = 2 * np.array([180, 100, 255]) / np.sqrt(12)
    assert even * np.sqrt(17) / 5 == pytest.approx(levels.std(0), rel=0.02)
    assert np.abs(levels.mean(0)).max() < 2


def test_hue_goes_round_the_circle():
    red = torch.tensor([250, 10, 20], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    assert torch.equal(color.shift_hls(red, 0, 0, 0), color.shift_hls(red, 180, 0, 0))
    green = color.shift_hls(red, 60, 0, 0)[:, 0, 0].tolist()
    assert 1 == int(np.argmax(green))


@pytest.mark.feature("MX-41")
def test_lighting_has_the_covariance_of_its_constants():
    values = np.array([55.46, 4.794, 1.148])
    vectors = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    sigma = 0.1
    expected = sigma**2 * vectors @ np.diag(values**2) @ vectors.T
    levels = Lighting(sigma=sigma).levels(evens(60_000, 3))
    assert np.allclose(0.0, levels.mean(0), atol=0.06)
    assert np.allclose(expected, np.cov(levels.T), atol=0.02 * expected.max())
    # The same levels arrive in the pixels, rounded down.
    images = torch.full((500, 3, 2, 2), 128, dtype=torch.uint8)
    made = Lighting(sigma=sigma).apply(images, evens(500, 3))
    assert np.array_equal(np.floor(128 + levels[:500].astype(np.float32)), made[:, :, 0, 0].numpy())


def test_grey_images_keep_out_of_color():
    images = images_of(2, channels=1)
    for operation in (Lighting(), HlsJitter(hue=90), HsvShift(), Grey(), ChannelShuffle()):
        assert torch.equal(images, operation.apply(images, evens(2, operation.draws)))
    jitter = ColorJitter(saturation=0.9, hue=0.5)
    assert torch.equal(images, jitter.apply(images, evens(2, 5)))


def test_channels_are_shuffled_and_moved():
    images = images_of(1)
    made = {
        tuple(
            next(k for k in range(3) if torch.equal(images[0, k], channel))
            for channel in ChannelShuffle().apply(images, row(even))[0]
        )
        for even in np.arange(0, 1, 1 / 12)
    }
    assert 6 == len(made)
    grey = torch.full((1, 3, 1, 1), 100, dtype=torch.uint8)
    moved = ChannelShift(limit=20).apply(grey, row(0.0, 0.5, 0.999))[0, :, 0, 0]
    assert [80, 100, 119] == moved.tolist()


def test_clahe_raises_a_flat_contrast():
    flat = (images_of(1, side=64).float() * 0.1 + 100).to(torch.uint8)
    for even in (0.0, 0.9):
        made = Clahe().apply(flat, row(even))
        assert made.float().std() > flat.float().std()


def test_jpeg_loses_more_at_lower_quality():
    images = images_of(1)
    loss = [
        (images.int() - Jpeg(low=q, high=q).apply(images, row(0.5)).int()).abs().float().mean()
        for q in (20, 60, 100)
    ]
    assert loss[0] > loss[1] > loss[2] > 0.0
    data = io.BytesIO()
    Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(data, "JPEG", quality=60)
    expected = np.asarray(Image.open(data)).astype(int)
    made = Jpeg(low=60, high=60).apply(images, row(0.5))[0].permute(1, 2, 0).numpy()
    assert np.abs(expected - made).mean() < 12


# --- shape


def test_shift_scale_rotate_moves_as_told():
    image = torch.zeros((1, 41, 41), dtype=torch.uint8)
    image[0, 20, 30] = 255
    still = {"right": 0.0, "down": 0.0, "scale": 1.0, "degrees": 0.0}
    for expected, change in (
        ((20, 34), {"right": 4 / 41}),
        ((16, 30), {"down": -4 / 41}),
        ((20, 29), {"scale": 0.9}),
        ((10, 20), {"degrees": 90.0}),
    ):
        made = warps.shift_scale_rotate(image, **(still | change))
        assert expected == divmod(int(made.argmax()), 41), change


def test_shift_scale_rotate_reflects_the_border():
    image = torch.arange(20, dtype=torch.uint8).repeat(20, 1)[None]
    made = warps.shift_scale_rotate(image, right=0.2, down=0.0, scale=1.0, degrees=0.0)
    assert [4, 3, 2, 1, 0, 1, 2] == made[0, 10, :7].tolist()


def test_perspective_draws_the_corners_inward():
    rows, columns = torch.meshgrid(torch.arange(50), torch.arange(50), indexing="ij")
    image = (rows + 2 * columns).to(torch.uint8)[None]
    made = warps.tilt(image, np.full((4, 2), 0.1))
    # A tenth of 49 from each corner, all alike: a zoom.
    assert 3 * 4.9 == pytest.approx(int(made[0, 0, 0]), abs=1.5)
    assert 3 * 44.1 == pytest.approx(int(made[0, -1, -1]), abs=1.5)
    assert torch.equal(image, warps.tilt(image, np.zeros((4, 2))))
    assert not (Perspective().apply(images_of(20) | 1, evens(20, 9)) == 0).any()


def test_cutout_holes_have_their_size():
    images = torch.full((200, 3, 40, 40), 200, dtype=torch.uint8)
    one = Cutout(holes=1, share=0.25, fill=7).apply(images, evens(200, 2))
    holes = (one[:, 0] == 7).sum((1, 2))
    assert 100 == holes.max()
    # A hole is cut off at the border: at a corner a quarter of it is left.
    assert holes.min() >= 25
    assert {7, 200} == set(one.unique().tolist())
    four = Cutout().apply(images, evens(200, 8))
    assert 300 < (four[:, 0] == 0).sum((1, 2)).float().mean() < 400


def test_erased_boxes_have_their_area_and_shape():
    images = torch.full((600, 1, 100, 100), 1, dtype=torch.uint8)
    erasing = RandomErasing(area=(0.1, 0.3), ratio=(0.5, 2.0), fill=0)
    made = erasing.apply(images, evens(600, erasing.draws))[:, 0] == 0
    tall, wide = made.any(2).sum(1).numpy(), made.any(1).sum(1).numpy()
    assert np.array_equal(tall * wide, made.sum((1, 2)).numpy())
    share = tall * wide / 1e4
    assert (0.1, 0.3) == pytest.approx((share.min(), share.max()), abs=0.006)
    assert (0.5, 2.0) == pytest.approx(((tall / wide).min(), (tall / wide).max()), abs=0.06)
    noise = RandomErasing(area=(0.3, 0.3)).apply(images, evens(600, 23))
    drawn = noise[noise != 1].float()
    assert 127.5 == pytest.approx(drawn.mean().item(), abs=2)
    assert 255 / np.sqrt(12) == pytest.approx(drawn.std().item(), abs=2)
    assert len(noise[0].unique()) > 100
    assert not torch.equal(noise[0], noise[1])


def test_one_of_takes_each_option_alike():
    options = (Mirror(), Grey(), ChannelShift(limit=0.0))
    images = images_of(1).repeat(3000, 1, 1, 1)[:, :, :4, :4]
    made = OneOf(options=options).apply(images, evens(3000, 4))
    kinds = [images[0].flip(-1), Grey().apply(images[:1], np.empty((1, 0)))[0], images[0]]
    counts = [(made == kind).flatten(1).all(1).sum().item() for kind in kinds]
    assert 3000 == sum(counts)
    assert np.array(counts) == pytest.approx(1000, rel=0.1)


# --- automatic policies


@pytest.mark.parametrize("number", range(40))
def test_trivial_augment_is_torchvisions(number):
    image = images_of(1, seed=3)[0]
    trivial = TrivialAugment()
    numbers = evens(40, 3, seed=9)[number]
    name, magnitude = trivial.choice(numbers)
    space = v2.TrivialAugmentWide._AUGMENTATION_SPACE
    magnitudes, signed = space[name][0](31, 32, 32), space[name][1]
    bin_ = int(numbers[1] * 31)
    expected = 0.0 if magnitudes is None else float(magnitudes[bin_])
    assert expected == pytest.approx(abs(magnitude) if signed else magnitude, abs=1e-6)
    theirs = v2.TrivialAugmentWide()
    expected = theirs._apply_image_or_video_transform(
        image, name, magnitude, interpolation=InterpolationMode.NEAREST, fill=theirs._fill
    )
    assert torch.equal(expected, trivial.apply(image[None], numbers[None])[0])


def test_trivial_augment_takes_every_change_and_both_signs():
    choices = [TrivialAugment().choice(numbers) for numbers in evens(7000, 3)]
    names = [name for name, _ in choices]
    assert 14 == len(set(names))
    assert 500 == pytest.approx(min(names.count(name) for name in set(names)), rel=0.2)
    angles = [magnitude for name, magnitude in choices if name == "Rotate"]
    assert (-135.0, 135.0) == (min(angles), max(angles))
    bits = {magnitude for name, magnitude in choices if name == "Posterize"}
    assert set(range(2, 9)) == bits
    shifts = [magnitude for name, magnitude in choices if name == "TranslateX"]
    assert (-32.0, 32.0) == (min(shifts), max(shifts))


@pytest.mark.parametrize(
    ("name", "magnitude", "theirs"),
    [
        ("Rotate", 30.0, lambda i: F.rotate(i, 30.0, fill=[0.0])),
        ("Solarize", 0.5, lambda i: F.solarize(i, 127.5)),
        ("Posterize", 3.0, lambda i: F.posterize(i, 3)),
        ("Equalize", 0.0, F.equalize),
        ("AutoContrast", 0.0, F.autocontrast),
        ("Sharpness", 0.5, lambda i: F.adjust_sharpness(i, 1.5)),
        ("Invert", 0.0, F.invert),
    ],
)
def test_named_change_is_torchvisions_functional(name, magnitude, theirs):
    image = images_of(1)[0]
    made = change_by_name(image, name, magnitude, interpolation="nearest", fill=0)
    assert torch.equal(theirs(image), made)


@pytest.mark.parametrize(
    ("expected", "name", "magnitude"),
    [((8, 12), "TranslateX", 4.0), ((11, 8), "TranslateY", 3.0), ((8, 4), "TranslateX", -4.0)],
)
def test_translation_moves_by_whole_pixels(expected, name, magnitude):
    image = torch.zeros((1, 20, 20), dtype=torch.uint8)
    image[0, 8, 8] = 255
    made = change_by_name(image, name, magnitude, interpolation="nearest", fill=0)
    assert expected == divmod(int(made.argmax()), 20)


def test_rand_augment_has_timms_arguments():
    import random

    from timm.data import auto_augment as timm

    assert list(_INCREASING) == timm._RAND_INCREASING_TRANSFORMS
    random.seed(0)
    for name in _INCREASING:
        for m in (0.0, 3.3, 9.0, 10.0):
            augment = RandAugment(n=1, m=m, deviation=0.0, probability=1.0)
            which = (list(_INCREASING).index(name) + 0.5) / len(_INCREASING)
            ours = {augment.choices(np.array([which, 0.0, 0.5, sign]))[0][1] for sign in (0.2, 0.8)}
            level = timm.LEVEL_TO_ARG[name]
            if level is None:
                theirs = {None}
            else:
                theirs = {level(m, {"translate_pct": 0.45})[0] for _ in range(50)}
                if name == "PosterizeIncreasing":
                    theirs = {max(1, bits) for bits in theirs}
            if None in theirs:
                assert theirs == ours
            else:
                assert sorted(theirs) == pytest.approx(sorted(ours)), (name, m)


def test_rand_augment_uses_timms_operations():
    from timm.data.auto_augment import NAME_TO_OP

    image = images_of(1)
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    augment = RandAugment(n=1, m=6.0, deviation=0.0, probability=1.0)
    for number, name in enumerate(_INCREASING):
        numbers = row((number + 0.5) / len(_INCREASING), 0.0, 0.5, 0.9)
        ((_, argument),) = augment.choices(numbers[0])
        arguments = () if argument is None else (argument,)
        warp = {"resample": Image.Resampling.BILINEAR, "fillcolor": (128,) * 3}
        geometric = name in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
        expected = NAME_TO_OP[name](picture, *arguments, **(warp if geometric else {}))
        made = augment.apply(image, numbers)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(expected), made), name


def test_rand_augment_does_its_share_of_changes():
    augment = RandAugment(n=3, m=9.0, probability=0.4)
    counts = [len(augment.choices(numbers)) for numbers in evens(3000, augment.draws)]
    assert 1.2 == pytest.approx(np.mean(counts), abs=0.06)


def test_augmix_mixes_between_the_image_and_its_chains():
    image = images_of(1)
    mix = AugMix(width=1, depth=1, severity=10)
    # Translated to the right by a sixth, share of the image 1, 0 and a half.
    link = (2.5 / 13, 5.5 / 10, 0.9)
    whole = mix.apply(image, row(1 - 2**-53, 0.5, 0.0, *link))
    assert torch.equal(image, whole)
    chain = mix.apply(image, row(0.0, 0.5, 0.0, *link))
    # 32 / 3 pixels, five ninths of them, whole ones: 5 columns to the right.
    assert torch.equal(image[..., :-5], chain[..., 5:])
    assert not chain[..., :5].any()
    half = mix.apply(image, row(0.5, 0.5, 0.0, *link))
    expected = (image.float() + chain.float()) / 2
    assert (expected - half.float()).abs().max() <= 1.0


def test_augmix_stays_near_the_image():
    images = images_of(40)
    mix = AugMix()
    made = mix.apply(images, evens(40, mix.draws))
    assert 0.0 < (made.int() - images.int()).abs().float().mean() < 40


# --- refusals


@pytest.mark.parametrize(
    ("key", "build"),
    [
        ("angle", lambda: ShiftScaleRotate(angle=-1.0)),
        ("scale", lambda: ShiftScaleRotate(scale=1.0)),
        ("perspective", lambda: Perspective(low=0.05, high=0.02)),
        ("holes", lambda: Cutout(holes=0)),
        ("area", lambda: RandomErasing(area=(0.0, 0.5))),
        ("ratio", lambda: RandomErasing(ratio=(2.0, 1.0))),
        ("fill", lambda: RandomErasing(fill=300)),
        ("options", lambda: OneOf(options=())),
        ("hue", lambda: ColorJitter(hue=0.6)),
        ("brightness", lambda: ColorJitter(brightness=-0.1)),
        ("quality", lambda: Jpeg(low=0)),
        ("gamma", lambda: Gamma(low=2.0, high=1.0)),
        ("clip", lambda: Clahe(clip=0.5)),
        ("sigma", lambda: Lighting(sigma=-1.0)),
        ("m", lambda: RandAugment(m=11.0)),
        ("severity", lambda: AugMix(severity=0)),
        ("alpha", lambda: AugMix(alpha=0.0)),
    ],
)
def test_bad_value_names_its_key(key, build):
    with pytest.raises(ConfigError) as caught:
        build()
    assert f"augment.{key}" == caught.value.where


class _Gives:
    """An operation of one's own that gives `changed` of what it gets."""

    draws, gentle = 0, False

    def __init__(self, changed):
        self.apply = lambda images, rows: changed(images)


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        (lambda images: images[:, :, :1], r"torch.uint8 \[2, 3, 1, 4\]"),
        (lambda images: images[:, :1], r"torch.uint8 \[2, 1, 4, 4\]"),
        (lambda images: images / 255, r"torch.float32 \[2, 3, 4, 4\]"),
        (lambda images: images.numpy(), "ndarray"),
    ],
)
@pytest.mark.parametrize("count", [2, 3])
def test_an_operation_that_gives_no_images_like_those_it_got_is_told(changed, got, count):
    images = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    chosen = np.arange(count) < 2
    with pytest.raises(ConfigError, match=f"_Gives.apply\n  got: +{got}"):
        apply_where(_Gives(changed), images, np.zeros((count, 0)), chosen)
