"""A source of one's own: images and labels that a class or function in the user's file gives.

Owns the contract (`OwnSource`) and its opening. DATA is then `package.module:name` or
`./my_file.py:name`; the arguments are those of the config key `data.source_args`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.data.listing import SPLIT_FOLDERS, Listing
from discern.data.manifest import NO_SPLIT, Locations
from discern.data.pixel_arrays import OwnImages, Pixels

_SPLIT_NAMES = "train, val, test or None"


class OwnSource(Protocol):
    """What the class, or the function's result, must have.

    `labels`: the class name of each image, None where unlabeled. Optional besides: `split` (train,
    val, test or None for each image), `classes` (class names in label order) and
    `name(position)`, what to call an image in messages. Read by several threads at once.
    """

    @property
    def labels(self) -> Any: ...

    def read(self, position: int) -> bytes | Pixels:
        """Image number `position`: a file's bytes, or pixels uint8 (uint16) [H, W, C]."""
        ...


def is_own_source(text: str) -> bool:
    """True for `package.module:name` and `./my_file.py:name` that no file or folder is called."""
    module = text.rpartition(":")[0]
    named = module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    return is_import_path(text) and named and not Path(text).exists()


def check_own_source(text: str, arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """What `text` names; `arguments` fit its signature. Raises ConfigError."""
    where = f"data '{text}'"
    target: Callable[..., Any] = open_import_path(text, where=where)
    check_arguments(target, dict(arguments), where=where)
    return target


def list_own_source(text: str, arguments: Mapping[str, Any]) -> Listing:
    """The images of a source of one's own. Raises ConfigError, or DataError for a broken one."""
    source = check_own_source(text, arguments)(**arguments)
    if not hasattr(source, "labels") or not callable(getattr(source, "read", None)):
        raise DataError(
            "not a source of images",
            where=text,
            got=type(source).__name__,
            expected="an object with `labels` and `read(position)`",
        )
    labels = [None if label is None else str(label) for label in source.labels]
    classes = getattr(source, "classes", None)
    container = str(Path(text))
    count = len(labels)
    named: Callable[[int], object] = getattr(source, "name", "image {}".format)
    locations = Locations(
        np.array([str(named(position)) for position in range(count)], dtype=np.str_),
        np.zeros(count, dtype=np.int32),
        np.arange(count, dtype=np.int64),
        np.ones(count, dtype=np.int64),
        (container,),
    )
    return Listing(
        locations=locations,
        labels=labels,
        classes=None if classes is None else tuple(map(str, classes)),
        split=_split_codes(getattr(source, "split", None), count, text),
        root=Path(),
        layout=f"images of {text}",
        name=text.rpartition(":")[2],
        arrays={container: OwnImages(source.read, count, container)},
    )


def _split_codes(split: Any, count: int, text: str) -> NDArray[np.int8]:
    if split is None:
        return np.full(count, NO_SPLIT, dtype=np.int8)
    names = list(split)
    unknown = {str(name) for name in names if name is not None and name not in SPLIT_FOLDERS}
    if unknown or len(names) != count:
        raise DataError(
            "`split` names a split for each image",
            where=text,
            got=", ".join(sorted(unknown)) or f"{len(names)} names for {count} images",
            expected=_SPLIT_NAMES,
        )
    codes = [NO_SPLIT if name is None else SPLIT_FOLDERS[name] for name in names]
    return np.array(codes, dtype=np.int8)
