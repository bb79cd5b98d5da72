"""Pixels and labels in array files: `.npz`, and idx or CIFAR files that are named directly.

Owns which files belong together and what the arrays in a `.npz` may be called. Nothing is ever
unpickled. See `idx_files`, `cifar_files` and `catalog` for the original formats.

Axes: N images, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.catalog import CatalogData, Progress, read_catalog
from discern.data.cifar_files import batch_arrays, read_batch, read_binary
from discern.data.idx_files import read_idx
from discern.data.label_columns import LABEL, LabelColumn
from discern.data.listing import Listing
from discern.data.manifest import NO_SPLIT, SPLITS, Locations
from discern.data.pixel_arrays import Pixels

NPZ_SUFFIX: Final = ".npz"
# Names of (images, labels) in a .npz, the first pair that is there counts; {} is a split's name.
_SPLIT_NAMES: Final = (
    ("x_{}", "y_{}"), ("{}_x", "{}_y"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}"),
)  # fmt: skip
_WHOLE_NAMES: Final = (
    ("images", "labels"), ("x", "y"), ("data", "targets"), ("data", "target"), ("data", "labels"),
)  # fmt: skip
_SPELLINGS: Final = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_CLASS_NAMES: Final = ("classes", "class_names", "label_names")
# As many as a network is built for (`data.channels`).
_MOST_CHANNELS: Final = 1024
# Of the machine's memory, arrays may take up this share.
_MEMORY_SHARE: Final = 0.5
_IDX_IMAGES: Final = re.compile(r"(.+)-images[-.]idx3-ubyte(\.gz)?$")
_IDX_SPLITS: Final = {"train": 0, "val": 1, "valid": 1, "test": 2, "t10k": 2}
_CIFAR_ARCHIVES: Final = re.compile(r"cifar-(100?)-(?:python|binary)\.tar\.gz$")
_CIFAR_FILES: Final = {
    "cifar10": ("data_batch_1", "test_batch"),
    "cifar100": ("train", "test", "meta"),
}
_CIFAR_BATCH: Final = re.compile(r"(data_batch_[1-5]|test_batch)(\.bin)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPart:
    """Images of one split: `pixels` [N, H, W, C], `labels` one an image or float32 [N, K]."""

    name: str
    split: int
    pixels: Pixels
    labels: NDArray[Any] | None


def list_arrays(
    parts: Sequence[ArrayPart],
    column: LabelColumn,
    *,
    root: Path,
    layout: str,
    name: str,
    notes: tuple[str, ...] = (),
) -> Listing:
    """The images of arrays in memory, part after part."""
    counts = [len(part.pixels) for part in parts]
    offsets = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    names = tuple(part.name for part in parts)
    return Listing(
        locations=Locations(
            np.array([f"{offset:05d}" for offset in offsets], dtype=np.str_),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            offsets,
            np.ones(sum(counts), dtype=np.int64),
            names,
        ),
        heads=(column,),
        split=np.repeat(np.array([part.split for part in parts], dtype=np.int8), counts),
        root=root,
        layout=layout,
        name=name,
        notes=notes,
        arrays=dict(zip(names, (part.pixels for part in parts), strict=True)),
    )


def _label_column(
    parts: Sequence[ArrayPart], classes: tuple[str, ...] | None = None
) -> LabelColumn:
    several = [part.labels.shape[1] for part in parts if part.labels is not None and _is_hot(part)]
    if several:
        count = several[0]
        if any(part.labels is None or part.labels.shape[1:] != (count,) for part in parts):
            raise DataError(
                "the labels of the splits differ in shape",
                where=", ".join(part.name for part in parts),
                expected=f"[N, {count}] for each",
            )
        if classes is not None and len(classes) != count:
            raise _class_count(parts, f"{count} columns of labels", classes)
        targets = np.concatenate([np.asarray(part.labels, dtype=np.float32) for part in parts])
        names = classes or tuple(str(number) for number in range(count))
        return LabelColumn(name=LABEL, kind="multi", classes=names, targets=targets, ordered=True)
    labels = [label for part in parts for label in _texts(part)]
    if classes is None:
        numeric = all(label is None or label.lstrip("-").isdigit() for label in labels)
        return LabelColumn.of_labels(labels, numeric=numeric)
    known = set(classes)
    texts: list[str | None] = []
    for label in labels:
        if label is None or label in known:
            texts.append(label)
        elif label.isdigit() and int(label) < len(classes):
            texts.append(classes[int(label)])
        else:
            raise _class_count(parts, f"label {label}", classes)
    return LabelColumn.of_labels(texts, classes=classes)


def _is_hot(part: ArrayPart) -> bool:
    return part.labels is not None and part.labels.ndim == 2


def _class_count(parts: Sequence[ArrayPart], got: str, classes: tuple[str, ...]) -> DataError:
    return DataError(
        "the labels do not fit the class names",
        where=", ".join(part.name for part in parts),
        got=got,
        expected=f"{len(classes)} classes: {', '.join(classes[:20])}",
    )


def _texts(part: ArrayPart) -> list[str | None]:
    if part.labels is None:
        return [None] * len(part.pixels)
    return [str(label) for label in part.labels.tolist()]


def list_catalog(data: CatalogData, *, root: Path, prefix: str, name: str) -> Listing:
    """A built-in set's arrays as a listing; `prefix` stands before a split in container names."""
    codes = {split: code for code, split in enumerate(SPLITS)}
    parts = [
        ArrayPart(
            name=f"{prefix}{split}",
            split=codes.get(split, NO_SPLIT),
            pixels=pixels,
            labels=data.targets[split],
        )
        for split, pixels in data.pixels.items()
    ]
    column = LabelColumn(
        classes=data.classes,
        targets=np.concatenate([data.targets[split] for split in data.pixels]),
        ordered=True,
    )
    return list_arrays(parts, column, root=root, layout=data.layout, name=name)


# ---- .npz ----


def list_npz(path: Path) -> Listing:
    """The images in a `.npz`: `x_train, y_train, x_test, y_test`, or `images, labels`, or alike.

    uint8 or uint16 [N, H, W] or [N, H, W, C] (or [N, C, H, W]); labels [N], or [N, K] of 0 and 1
    for several an image; `classes`, if there, names them. Raises DataError.
    """
    arrays = _read_npz(path)
    folded = {name.casefold(): name for name in arrays}
    pairs = _find_pairs(folded)
    if not pairs:
        raise DataError(
            "the arrays in the file are not called as images and labels are",
            where=path,
            got=", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()),
            expected=_accepted_names(),
        )
    place = path.absolute()
    parts = []
    every = [arrays[folded[images]] for _, images, _ in pairs]
    deep = any(one.dtype.kind in "ui" and one.size and one.max() > 255 for one in every)
    for split, images, labels in pairs:
        pixels = _pixels(arrays[folded[images]], images, path, deep=deep)
        given = folded.get(labels)
        answers = None if given is None else _labels(arrays[given], len(pixels), labels, path)
        container = f"{place}#{folded[images]}"
        parts.append(ArrayPart(name=container, split=split, pixels=pixels, labels=answers))
    key = next((folded[name] for name in _CLASS_NAMES if name in folded), None)
    classes = None if key is None else tuple(str(name) for name in arrays[key].tolist())
    used = {folded[name] for _, *names in pairs for name in names if name in folded} | {key}
    other = [name for name in arrays if name not in used]
    notes = (f"arrays that were left out: {', '.join(other)}",) if other else ()
    shown = ", ".join(f"{folded[i]} and {folded.get(t, 'no labels')}" for _, i, t in pairs)
    column = _label_column(parts, classes)
    return list_arrays(
        parts, column, root=place.parent, layout=f"arrays {shown}", name=path.stem, notes=notes
    )


def _accepted_names() -> str:
    splits = [f"{a.format('train')} with {b.format('train')}" for a, b in _SPLIT_NAMES]
    whole = [f"{a} with {b}" for a, b in _WHOLE_NAMES]
    return f"{', '.join(splits)} (also val, test); or {', '.join(whole)}; and classes"


def _find_pairs(folded: dict[str, str]) -> list[tuple[int, str, str]]:
    """(split code, name of the images, name of the labels), all in lower case."""
    found = []
    for code, split in enumerate(SPLITS):
        names = [
            (code, images.format(word), labels.format(word))
            for word in _SPELLINGS[split]
            for images, labels in _SPLIT_NAMES
            if images.format(word) in folded
        ]
        found += names[:1]
    if found:
        return found
    whole = [(NO_SPLIT, images, labels) for images, labels in _WHOLE_NAMES if images in folded]
    labeled = [pair for pair in whole if pair[2] in folded]
    return (labeled or whole)[:1]


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    limit = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _MEMORY_SHARE)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > limit:
            raise DataError(
                "the arrays do not fit into memory", where=path,
                got=f"{size / 1e9:.1f} GB when decompressed", expected=f"{limit / 1e9:.1f} GB",
            )  # fmt: skip
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        pickled = "pickle" in str(error)
        raise DataError(
            "an array of Python objects is not read: it could run code"
            if pickled
            else "the file of arrays cannot be read",
            where=path,
            got=str(error),
            expected="arrays of numbers, saved by numpy.savez",
        ) from error


def _pixels(array: NDArray[Any], name: str, path: Path, *, deep: bool) -> Pixels:
    where = f"{path}: {name}"
    whole = array.dtype.kind in "ui"
    if not whole or (array.size and not 0 <= array.min() <= array.max() <= 65535):
        raise DataError(
            "the pixels are not whole numbers from 0 to 255, or to 65535",
            where=where,
            got=f"{array.dtype} from {array.min():g} to {array.max():g}"
            if array.size and array.dtype.kind in "uifb"
            else str(array.dtype),
            expected="uint8 or uint16",
            hint="save (255 * images).round().astype('uint8') for values from 0 to 1",
        )
    if array.ndim == 3:
        array = array[:, :, :, None]
    elif array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] < min(array.shape[2:]):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[3] > _MOST_CHANNELS or not array.size:
        raise DataError(
            "the array has no shape of images",
            where=where,
            got=str(list(array.shape)),
            expected="[N, H, W], [N, H, W, C] or [N, C, H, W], C at most 1024",
        )
    return np.ascontiguousarray(array, dtype=np.uint16 if deep and array.itemsize > 1 else np.uint8)


def _labels(array: NDArray[Any], count: int, name: str, path: Path) -> NDArray[Any]:
    where = f"{path}: {name}"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != count:
        raise DataError(
            "images and labels do not belong together", where=where,
            got=str(list(array.shape)), expected=f"[{count}], or [{count}, K] of 0 and 1",
        )  # fmt: skip
    if array.ndim == 2:
        if array.dtype.kind not in "uifb" or not np.isin(array[~np.isnan(array)], (0, 1)).all():
            raise DataError(
                "labels in several columns are not 0 and 1", where=where, got=str(array.dtype),
            )  # fmt: skip
        return array.astype(np.float32)
    if array.dtype.kind == "f" and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "uiUb":
        raise DataError(
            "the labels are neither whole numbers nor names", where=where, got=str(array.dtype)
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


# ---- original files, named directly ----


def is_array_file(path: Path) -> bool:
    """True if the name is that of an idx file, a CIFAR batch or archive, or a `.npz`."""
    name = path.name
    return (
        name.lower().endswith(NPZ_SUFFIX)
        or "idx3-ubyte" in name
        or "idx1-ubyte" in name
        or _CIFAR_ARCHIVES.match(name) is not None
        or _CIFAR_BATCH.match(name) is not None
    )


def list_array_file(path: Path, progress: Progress | None = None) -> Listing:
    """The images of an idx file with its labels, a CIFAR batch or archive, or a `.npz`."""
    archive = _CIFAR_ARCHIVES.match(path.name)
    if path.name.lower().endswith(NPZ_SUFFIX):
        return list_npz(path)
    if archive is not None:
        return _list_cifar(f"cifar{archive[1]}", path.parent, path, progress)
    if _CIFAR_BATCH.match(path.name):
        data = path.read_bytes()
        if path.name.endswith(".bin"):
            pixels, targets = read_binary(data, path.name, 1)
        else:
            pixels, targets = batch_arrays(read_batch(data, path.name), path.name, "labels")
        place = path.absolute()
        part = ArrayPart(name=f"{place}#all", split=NO_SPLIT, pixels=pixels, labels=targets)
        column = _label_column([part])
        return list_arrays(
            [part], column, root=place.parent, layout="a CIFAR-10 batch", name=path.stem
        )
    found = _IDX_IMAGES.match(path.name)
    if found is None:
        raise DataError(
            "the file is not the one of the images", where=path,
            expected="a name such as train-images-idx3-ubyte, labels beside it",
        )  # fmt: skip
    return _list_idx([(path, NO_SPLIT)], path)


def _list_idx(files: Sequence[tuple[Path, int]], named: Path) -> Listing:
    parts = []
    for path, split in files:
        labels = _idx_labels(path)
        images, targets = read_idx(path), read_idx(labels)
        if images.ndim != 3 or targets.ndim != 1 or len(images) != len(targets):
            raise DataError(
                "images and labels do not belong together", where=path,
                got=f"images {list(images.shape)}, labels {list(targets.shape)}",
            )  # fmt: skip
        container = f"{named.absolute()}#{path.name}"
        parts.append(
            ArrayPart(name=container, split=split, pixels=images[..., None], labels=targets)
        )
    layout = f"idx files {', '.join(path.name for path, _ in files)}"
    root = named.absolute() if named.is_dir() else named.absolute().parent
    name = named.absolute().name.split(".")[0]
    return list_arrays(parts, _label_column(parts), root=root, layout=layout, name=name)


def _idx_labels(images: Path) -> Path:
    plain = images.name.replace("-images", "-labels").replace("idx3", "idx1").removesuffix(".gz")
    for name in (plain, f"{plain}.gz"):
        if images.with_name(name).is_file():
            return images.with_name(name)
    raise DataError("the labels of the idx file are not beside it", where=images, expected=plain)


def list_array_folder(folder: Path, progress: Progress | None = None) -> Listing | None:
    """The images of a folder of idx files, or of CIFAR's original files; None for other folders."""
    names = {entry.name for entry in folder.iterdir() if entry.is_file()}
    files = []
    for name in sorted(names):
        found = _IDX_IMAGES.match(name)
        if found is not None and not (found[2] and name.removesuffix(".gz") in names):
            code = _IDX_SPLITS.get(found[1].casefold(), NO_SPLIT)
            files.append((folder / name, code))
    if files:
        return _list_idx(sorted(files, key=lambda item: item[1]), folder)
    for name, needed in _CIFAR_FILES.items():
        if names.issuperset(needed) or names.issuperset(f"{n}.bin" for n in needed[:2]):
            return _list_cifar(name, folder, folder, progress)
    return None


def _list_cifar(name: str, root: Path, named: Path, progress: Progress | None) -> Listing:
    data = read_catalog(name, str(root), progress)
    place = named.absolute()
    parent = place if place.is_dir() else place.parent
    return list_catalog(data, root=parent, prefix=f"{place}#", name=name)
