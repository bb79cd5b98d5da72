"""What is packed into which files: the options, and the groups of images that they ask for.

Owns `PackOptions` and its checks, the groups (a split, a chunk), their names, and the label values
that travel with an image. Pure: nothing is read or written here.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.base.files import hash_json
from discern.base.names import did_you_mean
from discern.data.image_lists import divide_rows
from discern.data.manifest import MISSING, NO_SPLIT, SPLITS, Head, Manifest
from discern.data.record_files import LIST_SUFFIX, ListRow

FORMATS: Final = ("shards", "rec", "folder")
ENCODINGS: Final = ("jpg", "png")
ON_BAD_IMAGE: Final = ("error", "skip")
# Color as im2rec's `--color`: as the file says, grey, RGB.
KEEP_COLOR, GREY, RGB = -1, 0, 1
# Raised with every change of the bytes that equal options give: it is part of a pack's request.
_REVISION: Final = 1
_LONGEST_SIDE: Final = 65_500  # what the JPEG format holds, less a margin
_BASE_NAME: Final = "data"
_QUALITY: Final = 95  # im2rec's
_COMPRESS_LEVEL: Final = 6  # zlib's and Pillow's


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How images are packed. Raises ConfigError for a value that is unknown or out of range.

    `format`: shards, rec or folder. `name`: base name of the files; None for the split's.
    `resize`: short side, `max_size`: longest side, both in pixels; both enlarge, too.
    `center_crop`: the middle square, taken first. `encoding`: jpg or png; None keeps JPEG and WebP
    as jpg and makes png of all else. `quality`: of jpg, 1 to 100. `compress_level`: of png, 0 to 9.
    `color`: 1 RGB, 0 grey, -1 as the file. `clear_exif`: False keeps the EXIF block of images that
    are encoded anew, turned upright. `pass_through`: the bytes as they are; None where no option
    asks for a change. `pack_label`: all labels into a record, not the first only; None where
    there are several. `chunks`,
    `train_ratio`, `test_ratio`, `shuffle`, `seed`: as im2rec (0 to 1; the rest is val).
    `shard_bytes`, `shard_images`: a shard ends before it grows beyond either. `on_bad_image`: error
    or skip. `workers`: threads; None for one per core.
    """

    format: str = "shards"
    name: str | None = None
    resize: int | None = None
    max_size: int | None = None
    center_crop: bool = False
    encoding: str | None = None
    quality: int = _QUALITY
    compress_level: int = _COMPRESS_LEVEL
    color: int = KEEP_COLOR
    clear_exif: bool = True
    pass_through: bool | None = None
    pack_label: bool | None = None
    chunks: int = 1
    train_ratio: float = 1.0
    test_ratio: float = 0.0
    shuffle: bool = False
    seed: int = 100
    shard_bytes: int = 256 << 20
    shard_images: int | None = None
    on_bad_image: str = "error"
    workers: int | None = None

    def __post_init__(self) -> None:
        _check_name("format", self.format, FORMATS)
        _check_name("on_bad_image", self.on_bad_image, ON_BAD_IMAGE)
        if self.encoding is not None:
            _check_name("encoding", self.encoding, ENCODINGS)
        for key, low, high in (
            ("resize", 1, _LONGEST_SIDE), ("max_size", 1, _LONGEST_SIDE), ("quality", 1, 100),
            ("compress_level", 0, 9), ("color", -1, 1), ("chunks", 1, None), ("workers", 1, None),
            ("train_ratio", 0, 1), ("test_ratio", 0, 1), ("shard_bytes", 1, None),
            ("shard_images", 1, None),
        ):  # fmt: skip
            _check_range(key, getattr(self, key), low, high)
        if self.train_ratio + self.test_ratio > 1.0 and self.test_ratio > 0.0:
            raise ConfigError(
                "train_ratio and test_ratio are more than all images",
                got=f"{self.train_ratio} + {self.test_ratio}",
                expected="a sum of at most 1",
            )
        if self.format == "folder" and self.chunks > 1:
            raise ConfigError("only shards and records are cut into chunks", got=self.format)
        if self.resize is not None and self.max_size is not None:
            raise ConfigError(
                "resize sets the short side and max_size the longest: give one of them",
                got=f"resize {self.resize}, max_size {self.max_size}",
            )
        if self.name is not None and (not self.name or set(self.name) & set('/\\\0<>:"|?*')):
            raise ConfigError("not a name for files", where="name", got=repr(self.name))
        if self.pass_through and self._changes():
            raise ConfigError(
                "pass_through leaves every byte as it is",
                got="pass_through with " + ", ".join(self._changes()),
                expected="one or the other",
            )

    @property
    def unchanged(self) -> bool:
        """Whether the images' bytes are packed as they are."""
        return not self._changes() if self.pass_through is None else self.pass_through

    def _changes(self) -> list[str]:
        """The options given that need every image encoded anew."""
        asked = {
            "resize": self.resize is not None,
            "max_size": self.max_size is not None,
            "center_crop": self.center_crop,
            "encoding": self.encoding is not None,
            "color": self.color != KEEP_COLOR,
            "quality": self.quality != _QUALITY,
            "compress_level": self.compress_level != _COMPRESS_LEVEL,
        }
        return [key for key, wanted in asked.items() if wanted]


@dataclass(frozen=True, slots=True)
class Group:
    """Images that go into files of one name: `rows` of the manifest, in the order of packing."""

    name: str
    split: str | None
    rows: NDArray[np.int64]


def plan_groups(manifest: Manifest, options: PackOptions) -> tuple[Group, ...]:
    """The groups, in the order in which they are packed; empty ones are left out.

    With ratios, names and counts are im2rec's: `_test`, then `_val`, then `_train`, `_<chunk>`
    before them. Raises ConfigError for ratios given to images that have splits already.
    """
    ratios = options.train_ratio < 1.0
    codes = sorted({int(code) for code in manifest.split}, key=lambda code: (code < 0, code))
    if ratios and codes != [NO_SPLIT]:
        raise ConfigError(
            "the images have splits already",
            got=f"train_ratio {options.train_ratio}",
            expected="no ratios: each split is packed into files of its own",
        )
    groups: list[Group] = []
    for code in codes:
        rows = np.flatnonzero(manifest.split == code).astype(np.int64)
        if options.shuffle:
            # im2rec's own shuffle: Python's generator, the whole list, before it is cut.
            order = rows.tolist()
            random.Random(options.seed).shuffle(order)  # noqa: S311
            rows = np.array(order, dtype=np.int64)
        listed = [ListRow(row, (), "") for row in rows.tolist()]
        lists = divide_rows(listed, options.train_ratio, options.test_ratio, options.chunks)
        for ending, part in lists.items():
            number, _, drawn = ending.removesuffix(LIST_SUFFIX).rpartition("_")
            if drawn not in SPLITS:
                number, drawn = ending.removesuffix(LIST_SUFFIX), ""
            split = drawn or (SPLITS[code] if code != NO_SPLIT else None)
            chosen = np.array([row.id for row in part], dtype=np.int64)
            groups.append(Group(_file_name(options, number, split), split, chosen))
    return tuple(group for group in groups if len(group.rows))


def _file_name(options: PackOptions, number: str, split: str | None) -> str:
    """`data_0_train` as im2rec; folders, and shards without name or chunks, are called `train`."""
    if split and (options.format == "folder" or (options.format == "shards" and not number)):
        plain = options.name is None or options.format == "folder"
        return split if plain else f"{options.name}-{split}"
    return f"{options.name or _BASE_NAME}{number}" + (f"_{split}" if split else "")


def request_hash(manifest: Manifest, options: PackOptions) -> str:
    """SHA-256 of all that decides the bytes: images, names, labels, options.

    Threads do not; nor does what is done about bad images, since none is ever packed.
    """
    free = ("workers", "on_bad_image")
    chosen = {key: value for key, value in asdict(options).items() if key not in free}
    paths = [origin_path(path, manifest.root) for path in manifest.locations.paths.tolist()]
    numbers = None if manifest.numbers is None else manifest.numbers.tolist()
    return hash_json(
        {
            "revision": _REVISION,
            "manifest": manifest.hash,
            "paths": paths,
            "numbers": numbers,
            "options": chosen,
        }
    )


def origin_path(path: str, root: Path) -> str:
    """Where an image came from, without the folders of this machine."""
    place = PurePath(path)
    if not place.is_absolute():
        return path
    if place.is_relative_to(root):
        return place.relative_to(root).as_posix()
    return "/".join(place.parts[-2:])


def head_record(head: Head) -> dict[str, Any]:
    """What `dataset.json` says of a label column."""
    return {"name": head.name, "kind": head.kind, "classes": list(head.classes)}


def label_value(heads: tuple[Head, ...], row: int) -> Any:
    """The labels of an image as a JSON value: a class number or None; for several, a list."""
    values = [_head_value(head, row) for head in heads]
    return values[0] if len(heads) == 1 and heads[0].kind == "single" else values


def _head_value(head: Head, row: int) -> Any:
    if head.kind == "single":
        number = int(head.targets[row])
        return None if number == MISSING else number
    values = head.targets[row].tolist()
    if all(value != value for value in values):
        return None
    return [None if value != value else value for value in values]


def kept_heads(heads: tuple[Head, ...], options: PackOptions) -> tuple[Head, ...]:
    """The label columns that the format can hold: records without `pack_label` keep one number.

    Of a head with several labels an image that number is whether it has the first class.
    """
    if options.format != "rec" or options.pack_label is not False:
        return heads
    first = heads[0]
    if first.kind == "single":
        return (first,)
    values = np.nan_to_num(first.targets[:, 0], nan=MISSING).astype(np.int64)
    return (Head(first.classes[0], "single", ("0", "1"), values),)


def label_vector(heads: tuple[Head, ...], row: int) -> tuple[float, ...]:
    """The labels of an image in a row of numbers: -1 for a missing class, NaN in a multi head."""
    numbers: list[float] = []
    for head in heads:
        numbers += [float(value) for value in np.atleast_1d(head.targets[row])]
    return tuple(numbers)


def _check_name(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"unknown {key}", got=value, expected=", ".join(known), hint=did_you_mean(value, known)
        )


def _check_range(key: str, value: float | None, low: int, high: int | None) -> None:
    if value is None:
        return
    if not value >= low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{key} is out of range", got=value, expected=expected)
