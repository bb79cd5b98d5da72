"""The files of a review: its queue of suspect labels, and what is known of all its images.

Owns their columns and their reading. `images.parquet` has one row an image, `queue.csv` and
`queue.parquet` one a suspect, the likeliest mistake first; decisions are written into the last two
columns of `queue.csv`, in any spreadsheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.table_files import Table, read_table

VERSION: Final = 1
QUEUE_FILE: Final = "queue.csv"
IMAGES_FILE: Final = "images.parquet"
RECORD_FILE: Final = "review.json"
ACTIONS: Final = ("accept", "relabel", "drop", "keep")
DECISION: Final = "decision"
NEW_LABEL: Final = "new_label"
QUEUE_COLUMNS: Final = (
    "rank", "id", "path", "split", "label", "suggested", "score", "reasons", "probability",
    "suggested_probability", "loss", "neighbors", "copies", DECISION, NEW_LABEL,
)  # fmt: skip
# What joins the values of one cell.
JOINED: Final = "; "
_FORMULA_GUARD: Final = "'"
_FORMULA_STARTS: Final = "=+-@"
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One suspect label. `suggested` None: nothing likelier than the label is known.

    `score`, 0 to 1: how much the signals leave to other classes; `probability` and
    `suggested_probability`: out of fold; `neighbors`: the nearest images' weight on the label, None
    where it was not asked; `copies`: ids of images of equal bytes and label, decided with it.
    """

    rank: int
    id: str
    path: str
    split: str | None
    label: str
    suggested: str | None
    score: float
    reasons: tuple[str, ...]
    probability: float
    suggested_probability: float
    loss: float
    neighbors: float | None
    copies: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: getattr(self, name) for name in QUEUE_COLUMNS[:-2]}
        return values | {"reasons": list(self.reasons), "copies": list(self.copies)}


def queue_columns(rows: Sequence[QueueRow], *, joined: bool) -> dict[str, list[Any]]:
    """The queue as columns; lists are one text each if `joined`. The last two are to be filled."""
    records = [row.record() for row in rows]
    columns = {name: [record[name] for record in records] for name in QUEUE_COLUMNS[:-2]}
    if joined:
        for name in ("reasons", "copies"):
            columns[name] = [JOINED.join(cell) for cell in columns[name]]
        columns |= {DECISION: [None] * len(rows), NEW_LABEL: [None] * len(rows)}
    return columns


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """What a review knows of one image; `rank` and `suggested` None outside the queue."""

    id: str
    path: str
    label: str | None
    rank: int | None
    suggested: str | None
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """All images of a review by id, with the label column and its classes."""

    folder: Path
    head: str
    classes: tuple[str, ...]
    images: Mapping[str, ReviewedImage]

    def find(self, names: Sequence[str]) -> list[ReviewedImage]:
        """The images that are meant: ids, paths, ranks of the queue, ranges of ranks as 1-20.

        Raises DataError for the ones that are not there.
        """
        by_rank = {image.rank: image for image in self.images.values() if image.rank is not None}
        by_path = {image.path: image for image in self.images.values()}
        found: list[ReviewedImage] = []
        unknown: list[str] = []
        for name in names:
            if name in self.images:
                found.append(self.images[name])
                continue
            if name in by_path:
                found.append(by_path[name])
                continue
            ranks = _ranks(name)
            if ranks is None or any(rank not in by_rank for rank in ranks):
                unknown.append(name)
                continue
            found += [by_rank[rank] for rank in ranks]
        if unknown:
            raise DataError(
                f"{len(unknown)} names are no images of this review",
                where=self.folder,
                got=", ".join(unknown[:_SHOWN]),
                expected=f"ids, paths, or ranks 1 to {len(by_rank)} as in {QUEUE_FILE}",
                hint=did_you_mean(unknown[0], list(by_path)[:10_000]),
            )
        return found

    def class_named(self, name: str, *, new: bool) -> str:
        """`name`, if it is a class or may be a new one. Raises DataError."""
        if name in self.classes or (new and name):
            return name
        raise DataError(
            "no such class",
            where=f"label column '{self.head}'",
            got=name or "nothing",
            expected=", ".join(self.classes[:20]),
            hint=did_you_mean(name, self.classes) or "--new-classes adds it",
        )


def _ranks(name: str) -> list[int] | None:
    first, dash, last = name.removeprefix("#").partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        return None
    return list(range(int(first), int(last if dash else first) + 1)) or None


def read_review(folder: Path | str) -> Review:
    """The review in `folder`. Raises ConfigError where there is none, DataError for a bad one."""
    import json

    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "there is no review", where=folder, expected=f"{RECORD_FILE}, {IMAGES_FILE}",
            hint=f"discern review DATA --out {folder}",
        ) from None  # fmt: skip
    except ValueError as error:
        raise DataError("the review's record is damaged", where=folder, got=str(error)) from error
    if record.get("version") != VERSION:
        raise DataError(
            "the review was written by another version of Discern",
            where=folder, got=record.get("version"), expected=VERSION,
        )  # fmt: skip
    table = read_table(folder / IMAGES_FILE)
    names = ("id", "path", "label", "rank", "suggested", "copies")
    try:
        rows = zip(*(table.columns[name] for name in names), strict=True)
        images = {
            str(name): ReviewedImage(
                str(name), str(path), label, rank, suggested, tuple(copies or ())
            )
            for name, path, label, rank, suggested, copies in rows
        }
        return Review(folder, str(record["head"]), tuple(record["classes"]), images)
    except (KeyError, TypeError) as error:
        raise DataError("the review is damaged", where=folder, got=repr(error)) from error


@dataclass(frozen=True, slots=True)
class Said:
    """What a row of an edited queue says: the image, the action, the class of `relabel`."""

    image: ReviewedImage
    action: str
    new: str | None = None


def read_decided(path: Path | str, review: Review) -> list[Said]:
    """The decisions in an edited queue (CSV, TSV, JSONL or Parquet); blank cells decide nothing.

    Images are found by id, else by path: spreadsheets make numbers of some ids. Raises DataError
    for unknown images, actions, classes, and for two decisions on one image.
    """
    path = Path(path)
    table = read_table(path)
    columns = {name.strip(): [_plain(v) for v in values] for name, values in table.columns.items()}
    if DECISION not in columns or not {"id", "path"} & set(columns):
        raise DataError(
            "the table is no edited queue",
            where=path,
            got=", ".join(columns),
            expected=f"columns id or path, {DECISION}, and for other classes {NEW_LABEL}",
        )
    blank = [""] * table.rows
    said: dict[str, Said] = {}
    by_path = {image.path: image for image in review.images.values()}
    unknown = []
    wanted = ("id", "path", DECISION, NEW_LABEL)
    cells = zip(*(columns.get(name, blank) for name in wanted), strict=True)
    for number, (name, place, action, new) in enumerate(cells, 2):
        if not action and not new:
            continue
        image = review.images.get(name) or by_path.get(place)
        if image is None:
            unknown.append(name or place)
            continue
        one = Said(image, _action(action.lower(), new, f"{path}, row {number}"), new or None)
        if said.setdefault(image.id, one) != one:
            raise DataError(
                "two rows decide differently on one image", where=f"{path}, row {number}",
                got=f"{one.action} {image.path}", expected=said[image.id].action,
            )  # fmt: skip
    if unknown:
        raise DataError(
            f"{len(unknown)} rows name no image of this review",
            where=path,
            got=", ".join(unknown[:_SHOWN]),
            expected=f"ids or paths as in {review.folder / QUEUE_FILE}",
        )
    return list(said.values())


def _plain(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    # The apostrophe that keeps spreadsheets from running a cell as a formula.
    guarded = text.startswith(_FORMULA_GUARD) and text[1:2] in _FORMULA_STARTS
    return text[1:] if guarded and len(text) > 1 else text


def _action(action: str, new: str, where: str) -> str:
    if action == "" and new:
        return "relabel"
    if action not in ACTIONS or (action == "relabel") != bool(new):
        raise DataError(
            "the row says no decision",
            where=where,
            got=f"{DECISION} {action or 'blank'}, {NEW_LABEL} {new or 'blank'}",
            expected=f"{', '.join(ACTIONS)}; {NEW_LABEL} with relabel only",
            hint=did_you_mean(action, ACTIONS),
        )
    return action


def images_table(images: Sequence[ReviewedImage]) -> Table:
    """The rows of `images.parquet`."""
    names = ("id", "path", "label", "rank", "suggested")
    columns: dict[str, list[Any]] = {n: [getattr(one, n) for one in images] for n in names}
    return Table(columns | {"copies": [list(one.copies) for one in images]})
