from __future__ import annotations

import pytest

from discern.base.errors import ConfigError
from discern.feed.augment import PhotoAugment, SmallImageAugment, describe_augment


@pytest.mark.parametrize(
    ("expected", "augment"),
    [
        ("none", None),
        ("shift up to 4 pixels (constant 0), mirror", SmallImageAugment()),
        (
            "shift up to 2 pixels (reflected)",
            SmallImageAugment(pad=2, flip=False, border="reflect"),
        ),
        ("none", SmallImageAugment(pad=0, flip=False)),
        (
            "crop 35% to 100% of the area, width / height 0.75 to 1.33, mirror",
            PhotoAugment(),
        ),
    ],
)
def test_augmentation_is_told_in_one_line(expected, augment):
    assert expected == describe_augment(augment)


@pytest.mark.parametrize(
    ("key", "build"),
    [
        ("pad", lambda: SmallImageAugment(pad=-1)),
        ("fill", lambda: SmallImageAugment(fill=256)),
        ("border", lambda: SmallImageAugment(border="wrap")),
        ("scale", lambda: PhotoAugment(scale=(0.0, 1.0))),
        ("scale", lambda: PhotoAugment(scale=(0.8, 0.4))),
        ("ratio", lambda: PhotoAugment(ratio=(2.0, 0.5))),
        ("tries", lambda: PhotoAugment(tries=-1)),
    ],
)
def test_bad_value_names_its_key(key, build):
    with pytest.raises(ConfigError) as caught:
        build()
    assert f"augment.{key}" == caught.value.where
