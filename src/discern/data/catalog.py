"""The built-in data sets: found in a folder, or downloaded; read from their original files.

digits comes with scikit-learn; synthetic is made here, to try things without any data. mnist and
fashion-mnist are four idx files each, cifar10 and cifar100 an archive or folder of python batches
or of the binary version.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import cache_folder
from discern.base.names import did_you_mean
from discern.data.cifar_files import (
    CIFAR10_CLASSES,
    CIFAR100_CLASSES,
    batch_arrays,
    read_batch,
    read_binary,
)
from discern.data.download import RemoteFile, fetch_all
from discern.data.idx_files import read_idx

OWN_SETS: Final = ("digits", "synthetic")  # those that need no files
BUILT_IN: Final = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "synthetic")

_MNIST_MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
_FASHION_MIRRORS: Final = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
_CIFAR_MIRRORS: Final = ("https://www.cs.toronto.edu/~kriz",)
_IDX_NAMES: Final = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# The sums that the sets' authors and the common loaders publish.
_IDX_SUMS: Final = {
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
_FASHION_CLASSES: Final = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
# The largest of the original files, CIFAR-100's train, has 155 MB: beyond twice that, a bomb.
_LARGEST_MEMBER: Final = 320 << 20
_DIGITS: Final = tuple(str(digit) for digit in range(10))

Progress = Callable[[int, int], None]
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class CatalogData:
    """A built-in set: pixels uint8 [N, H, W, C] and targets int64 [N] by split, and class names.

    digits has no given split: its only part is called `all`.
    """

    name: str
    classes: tuple[str, ...]
    pixels: dict[str, NDArray[np.uint8]]
    targets: dict[str, NDArray[np.int64]]
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cifar:
    """What differs between CIFAR-10 and CIFAR-100."""

    archive: RemoteFile
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    names_key: str
    label_key: str
    binary_archive: str
    binary_folder: str
    binary_train: tuple[str, ...]
    binary_test: str
    binary_names: str
    label_bytes: int
    classes: tuple[str, ...]


_CIFARS: Final = {
    "cifar10": _Cifar(
        archive=RemoteFile(
            "cifar-10-python.tar.gz", _CIFAR_MIRRORS, "c58f30108f718f92721af3b95e74349a"
        ),
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        names_key="label_names",
        label_key="labels",
        binary_archive="cifar-10-binary.tar.gz",
        binary_folder="cifar-10-batches-bin",
        binary_train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        binary_test="test_batch.bin",
        binary_names="batches.meta.txt",
        label_bytes=1,
        classes=CIFAR10_CLASSES,
    ),
    "cifar100": _Cifar(
        archive=RemoteFile(
            "cifar-100-python.tar.gz", _CIFAR_MIRRORS, "eb9058c3a382ffc7106e4002c42a8d85"
        ),
        folder="cifar-100-python",
        train=("train",),
        test="test",
        meta="meta",
        names_key="fine_label_names",
        label_key="fine_labels",
        binary_archive="cifar-100-binary.tar.gz",
        binary_folder="cifar-100-binary",
        binary_train=("train.bin",),
        binary_test="test.bin",
        binary_names="fine_label_names.txt",
        label_bytes=2,
        classes=CIFAR100_CLASSES,
    ),
}


def read_catalog(name: str, root: str | None, progress: Progress | None = None) -> CatalogData:
    """The built-in set `name`, from the folder `root`, else from the cache or a download.

    Raises DataError if there is no such set, or its files are missing in `root`, damaged, or
    cannot be downloaded.
    """
    if name not in BUILT_IN:
        raise DataError(
            "there is no such built-in set", got=name, expected=", ".join(BUILT_IN),
            hint=did_you_mean(name, BUILT_IN),
        )  # fmt: skip
    if name == "digits":
        return _digits()
    if name == "synthetic":
        return _synthetic()
    if name in _IDX_SUMS:
        return _idx_set(name, root, progress)
    return _cifar_set(name, root, progress)


def _digits() -> CatalogData:
    table = _digit_table()
    # The values are 0 to 16: counts of ink in 4 x 4 cells.
    pixels = np.rint(table[:, :-1] * (255.0 / 16.0)).astype(np.uint8).reshape(-1, 8, 8, 1)
    targets = table[:, -1].astype(np.int64)
    return CatalogData("digits", _DIGITS, {"all": pixels}, {"all": targets}, "built-in digits")


def _digit_table() -> NDArray[np.float64]:
    """[1797, 65]: 64 values an image and its digit, from the file that scikit-learn brings.

    Its import would take two seconds, more than a small training.
    """
    found = find_spec("sklearn")
    package = None if found is None or found.origin is None else Path(found.origin).parent
    file = None if package is None else package / "datasets" / "data" / "digits.csv.gz"
    if file is None or not file.is_file():  # a version that keeps it elsewhere
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return np.column_stack([bunch.data, bunch.target])
    return np.loadtxt(file, delimiter=",")


def _synthetic() -> CatalogData:
    """256 images to learn from, as Lambda's synthetic inputter has, and 64 to be scored on.

    Noise around a color for each of 10 classes, 32 x 32 pixels: the same at every call.
    """
    generator = np.random.default_rng(0)
    colors = generator.integers(64, 192, (10, 1, 1, 3))
    pixels, targets = {}, {}
    for split, count in (("train", 256), ("test", 64)):
        targets[split] = np.arange(count, dtype=np.int64) % 10
        noise = generator.normal(0.0, 40.0, (count, 32, 32, 3))
        pixels[split] = np.clip(colors[targets[split]] + noise, 0, 255).astype(np.uint8)
    return CatalogData("synthetic", _DIGITS, pixels, targets, "synthetic images")


def _idx_set(name: str, root: str | None, progress: Progress | None) -> CatalogData:
    if root is None:
        mirrors = _MNIST_MIRRORS if name == "mnist" else _FASHION_MIRRORS
        pairs = zip(_IDX_NAMES, _IDX_SUMS[name], strict=True)
        wanted = [RemoteFile(file, mirrors, md5) for file, md5 in pairs]
        paths = fetch_all(wanted, cache_folder("data", name), progress=progress)
    else:
        paths = _find_idx(Path(root), name)
    arrays = [read_idx(path) for path in paths]
    pixels, targets = {}, {}
    for split, images, labels, path in (
        ("train", arrays[0], arrays[1], paths[0]),
        ("test", arrays[2], arrays[3], paths[2]),
    ):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(
                "images and labels do not belong together", where=path,
                got=f"images {list(images.shape)}, labels {list(labels.shape)}",
            )  # fmt: skip
        pixels[split] = images[:, :, :, None]
        targets[split] = labels.astype(np.int64)
    classes = _DIGITS if name == "mnist" else _FASHION_CLASSES
    for split, numbers in targets.items():
        _check_labels(numbers, classes, f"{name}/{split}")
    return CatalogData(name, classes, pixels, targets, f"built-in {name}, four idx files")


def _folders(root: Path, name: str) -> list[Path]:
    """Where the files of `name` may lie in `root`: there, or in a folder of that name."""
    names = (name, name.replace("-", "_"), name.replace("-", ""))
    return [root, *(root / inner for inner in names)]


def _find_idx(root: Path, name: str) -> list[Path]:
    best: list[Path] = []
    for folder in _folders(root, name):
        forms = [(folder / file.removesuffix(".gz"), folder / file) for file in _IDX_NAMES]
        chosen = [next((path for path in form if path.is_file()), None) for form in forms]
        there = [path for path in chosen if path is not None]
        if len(there) == len(_IDX_NAMES):
            return there
        best = max(best, there, key=len)
    present = {path.name.removesuffix(".gz") for path in best}
    lacking = [file for file in _IDX_NAMES if file.removesuffix(".gz") not in present]
    raise _missing(name, best[0].parent if best else root, lacking)


def _missing(name: str, root: Path, files: Sequence[str]) -> DataError:
    near = sorted(path.name for path in root.glob("*")) if root.is_dir() else []
    named = name.replace("-", "")
    images = [
        entry
        for entry in near
        if entry.endswith((".tar", ".tar.gz", ".tgz"))
        and entry.replace("-", "").replace("_", "").startswith(named)
    ]
    hint = f"leave --root out to download {name}"
    if images:
        hint = f"an archive of class folders is DATA itself: discern train {root / images[0]}"
    return DataError(
        f"the files of {name} are not there",
        where=root,
        got=", ".join(near[:10]) or ("an empty folder" if root.is_dir() else "no such folder"),
        expected=", ".join(files),
        hint=hint,
    )


def _cifar_set(name: str, root: str | None, progress: Progress | None) -> CatalogData:
    kind = _CIFARS[name]
    if root is None:
        folder = cache_folder("data", name)
        fetch_all([kind.archive], folder, progress=progress)
    else:
        folder = Path(root)
    for place in _folders(folder, name):
        for files, binary in _cifar_files(place, kind):
            return _read_cifar(name, kind, files, binary=binary)
    raise _missing(name, folder, (kind.archive.name, kind.binary_archive))


def _cifar_files(place: Path, kind: _Cifar) -> Iterator[tuple[dict[str, bytes], bool]]:
    """(contents by file name, binary version or not) of each form that lies in `place`."""
    for folder, archive, wanted, binary in (
        (kind.folder, kind.archive.name, (*kind.train, kind.test, kind.meta), False),
        (
            kind.binary_folder,
            kind.binary_archive,
            (*kind.binary_train, kind.binary_test, kind.binary_names),
            True,
        ),
    ):
        for inside in (place / folder, place):
            if all((inside / file).is_file() for file in wanted[:-1]):
                there = [file for file in wanted if (inside / file).is_file()]
                yield {file: (inside / file).read_bytes() for file in there}, binary
        if (place / archive).is_file():
            yield _read_archive(place / archive, wanted), binary


def _read_archive(path: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The wanted members, by their last name, read in memory. Raises DataError."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in wanted or not member.isreg():
                    continue
                if member.size > _LARGEST_MEMBER:
                    raise DataError(
                        "a file in the archive is too large", where=path,
                        got=f"{member.name}: {member.size} bytes",
                        expected=f"at most {_LARGEST_MEMBER}",
                    )  # fmt: skip
                content = archive.extractfile(member)
                if content is not None:
                    found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"the archive cannot be read: {error}", where=path) from error
    missing = [name for name in wanted[:-1] if name not in found]
    if missing:
        raise DataError("files are missing in the archive", where=path, got=", ".join(missing))
    return found


def _read_cifar(name: str, kind: _Cifar, files: dict[str, bytes], *, binary: bool) -> CatalogData:
    def part(names: Sequence[str]) -> Part:
        parts = []
        for file in names:
            if binary:
                parts.append(read_binary(files[file], file, kind.label_bytes))
            else:
                parts.append(batch_arrays(read_batch(files[file], file), file, kind.label_key))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    train = part(kind.binary_train if binary else kind.train)
    test = part((kind.binary_test,) if binary else (kind.test,))
    classes = _cifar_classes(kind, files, binary=binary)
    _check_labels(train[1], classes, f"{name}/train")
    _check_labels(test[1], classes, f"{name}/test")
    form = "binary version" if binary else "python batches"
    return CatalogData(
        name,
        classes,
        {"train": train[0], "test": test[0]},
        {"train": train[1], "test": test[1]},
        f"built-in {name}, {form}",
    )


def _cifar_classes(kind: _Cifar, files: dict[str, bytes], *, binary: bool) -> tuple[str, ...]:
    file = kind.binary_names if binary else kind.meta
    if file not in files:
        return kind.classes
    if binary:
        lines = files[file].decode("latin1").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    names = read_batch(files[file], file).get(kind.names_key)
    if not isinstance(names, list):
        raise DataError("the class names cannot be read", where=file, expected=kind.names_key)
    return tuple(n.decode("latin1") if isinstance(n, bytes) else str(n) for n in names)


def _check_labels(labels: NDArray[np.int64], classes: tuple[str, ...], where: str) -> None:
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        raise DataError(
            "a label is out of range", where=where, got=f"{labels.min()} to {labels.max()}",
            expected=f"0 to {len(classes) - 1}",
        )  # fmt: skip
