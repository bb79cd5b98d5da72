"""Built-in sets as folders of PNG files: which file each image becomes, and writing them.

    train/CLASS/NNNNN.png and test/CLASS/NNNNN.png

NNNNN is the image's number in its original file or files, from 00000. CLASS is the class's name
with `/` as `_` (T-shirt_top). PNG loses nothing: the pixels are the original ones. digits has no
given split: of each class every fifth image, in the original order, is test.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.files import write_json
from discern.data.catalog import CatalogData
from discern.data.sources import in_threads
from discern.data.whole_folders import empty_folder

IRIS_FILE: Final = "iris.csv"
IRIS_COLUMNS: Final = (
    "sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm", "species",
)  # fmt: skip
_EVERY: Final = 5
# Images between two marks that a killed writer's successor goes on from: about 2 s of work, and
# one sync of the disk.
_BLOCK: Final = 10_000
_STEP: Final = 250
_MARK: Final = ".written.json"


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """Relative file names of a set's images; `parts`: where each lies, (split, number in it)."""

    names: list[str]
    parts: list[tuple[str, int]]
    counts: dict[str, int]


def folder_layout(data: CatalogData) -> FolderLayout:
    """The files that `data` becomes, split by split in the original order."""
    folders = [name.replace("/", "_") for name in data.classes]
    names, parts = [], []
    counts: dict[str, int] = {}
    for part, targets in data.targets.items():
        tests = _every_fifth(targets, len(folders)) if part == "all" else None
        for number, target in enumerate(targets.tolist()):
            split = part if tests is None else ("test" if tests[number] else "train")
            names.append(f"{split}/{folders[target]}/{number:05d}.png")
            parts.append((part, number))
            counts[split] = counts.get(split, 0) + 1
    return FolderLayout(names, parts, dict(sorted(counts.items(), key=lambda item: -item[1])))


def _every_fifth(targets: NDArray[np.int64], classes: int) -> NDArray[np.bool_]:
    chosen = np.zeros(len(targets), dtype=bool)
    for target in range(classes):
        chosen[np.flatnonzero(targets == target)[_EVERY - 1 :: _EVERY]] = True
    return chosen


def is_written(layout: FolderLayout, folder: Path) -> bool:
    """True if `folder` holds exactly the files of `layout`; their contents are not looked at."""
    found = {
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    }
    return found == set(layout.names)


def write_layout(
    data: CatalogData,
    layout: FolderLayout,
    folder: Path,
    *,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the PNG files below `folder`, going on after what is marked as written there.

    Gives how many images were there already. `progress`: (images, of how many).
    """
    mark = folder / _MARK
    total = len(layout.names)
    key = _content_key(data, layout)
    first = _marked(mark, key)
    if not first:
        empty_folder(folder)  # what lies there may be of another set
    for name in sorted({name.rpartition("/")[0] for name in layout.names}):
        (folder / name).mkdir(parents=True, exist_ok=True)

    def write(step: int) -> int:
        places = range(start + step * _STEP, min(start + (step + 1) * _STEP, stop))
        for place in places:
            part, number = layout.parts[place]
            _write_png(folder / layout.names[place], data.pixels[part][number])
        return len(places)

    done = first
    for start in range(first, total, _BLOCK):
        stop = min(start + _BLOCK, total)
        for count in in_threads(write, -(-(stop - start) // _STEP), threads):
            done += count
            if progress is not None:
                progress(done, total)
        if stop < total:
            os.sync()
            write_json(mark, {"content": key, "images": stop})
    mark.unlink(missing_ok=True)
    return first


def _marked(mark: Path, key: str) -> int:
    """How many images a killed writer of the same content had written."""
    try:
        value = json.loads(mark.read_bytes())
    except (FileNotFoundError, ValueError):
        return 0
    same = isinstance(value, dict) and value.get("content") == key
    return int(value["images"]) if same else 0


def _content_key(data: CatalogData, layout: FolderLayout) -> str:
    digest = hashlib.sha256("\n".join(layout.names).encode())
    for pixels in data.pixels.values():
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG")
    with open(path, "wb") as file:
        file.write(stream.getbuffer())


def write_iris(folder: Path) -> int:
    """Write the 150 rows of the iris table that comes with scikit-learn; gives their number."""
    from sklearn.datasets import load_iris

    bunch = load_iris()
    lines = [",".join(IRIS_COLUMNS)]
    for values, target in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True):
        lines.append(",".join([*map(str, values), str(bunch.target_names[target])]))
    (folder / IRIS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1
