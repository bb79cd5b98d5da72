"""What a check of images can find, and the report of one: records, words, the quarantine list.

Owns the kinds of findings, how grave each is, and what to do about it. Finding them: `check`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import write_text
from discern.data.images import Pixels
from discern.data.listing import Listing
from discern.data.manifest import Manifest

SEVERITIES: Final = ("error", "warning", "note")
# Kinds of an image that no training can use.
UNREADABLE: Final = (
    "missing", "zero-bytes", "truncated", "corrupt", "wrong-extension", "huge",
)  # fmt: skip
QUARANTINE_COLUMNS: Final = ("path", "kind", "reason")
_SUMMARY_LINES: Final = 25
_SHOWN_PATHS: Final = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding: its usual severity, a title, and what to do about it."""

    severity: str
    title: str
    hint: str


# Worst first: the order of summary and page.
KINDS: Final = {
    "missing": Kind("error", "listed, but not there", "mend the table or bring the files"),
    "zero-bytes": Kind("error", "empty files", "fetch them again"),
    "truncated": Kind("error", "cut off", "fetch them again"),
    "corrupt": Kind("error", "damaged", "fetch them again, or leave them out"),
    "huge": Kind("error", "too many pixels", "make them smaller; they are never decoded"),
    "wrong-extension": Kind(
        "error", "not what the name says", "convert what is no image; rename the others"
    ),
    "leakage": Kind(
        "error", "the same image in two splits", "leave the train copy out, or split anew"
    ),
    "label-conflict": Kind(
        "error", "the same image with different labels", "decide on one label, or leave all out"
    ),
    "class-mismatch": Kind(
        "error", "splits with different classes", "give every class images in every split"
    ),
    "empty-class": Kind("error", "class folders without images", "add images or remove the folder"),
    "one-class": Kind("error", "nothing to tell apart", "give each class a folder of its own"),
    "damaged": Kind(
        "warning", "readable, but damaged", "look at them; parts may be grey or shifted"
    ),
    "link": Kind("warning", "links that lead nowhere or in a circle", "mend or remove them"),
    "skipped-line": Kind("warning", "lines of a list that say nothing", "mend the list"),
    "small-class": Kind("warning", "classes with few images", "add images or join classes"),
    "class-imbalance": Kind(
        "warning", "classes of very different size", "weigh classes or draw them evenly"
    ),
    "case-twin": Kind(
        "warning", "class names that differ only in case or spaces", "is it one class?"
    ),
    "exact-duplicate": Kind("warning", "the same bytes more than once", "keep one of each"),
    "label-runs": Kind(
        "warning", "the list is ordered by label",
        "Discern shuffles; tools that read it in order learn badly: shuffle the list",
    ),
    "unlabeled": Kind("warning", "images without a class", "label them or leave them out"),
    "tiny": Kind("warning", "very small images", "they are enlarged; look whether they are icons"),
    "blank": Kind("warning", "nothing on them", "leave them out, unless blank is a class"),
    "ignored-file": Kind(
        "warning", "image files left out for their names or types", "rename or convert them"
    ),
    "near-duplicate": Kind(
        "note", "nearly the same picture more than once", "keep such groups in one split"
    ),
    "grey-among-color": Kind(
        "note", "grey images among colored ones", "they are read as RGB; is it chance?"
    ),
    "aspect-outlier": Kind(
        "note", "much longer or wider than the others", "a crop keeps less than a third of them"
    ),
    "odd-mode": Kind("note", "unusual pixel formats", "Discern converts them; others may not"),
    "exif-rotated": Kind("note", "stored turned", "Discern turns them upright; others may not"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `rows`: places of the images in the check; `paths`: their names."""

    kind: str
    severity: str
    text: str
    rows: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].hint

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "paths": list(self.paths),
            "text": self.text,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that are one. `how`: exact (bytes), near (perceptual hash) or embedding."""

    how: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRows:
    """What is known of each of N images, in the order they were listed.

    `labels` and `splits`: None where there is none. `sizes`: int32 [N, 2], height and width, 0 if
    unreadable; `bytes`: int64 [N].
    """

    paths: list[str]
    labels: list[str | None]
    splits: list[str | None]
    sizes: NDArray[np.int32]
    bytes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The outcome of a check.

    `class_counts`: images per class, per split ("all" where there are no splits). `read`: the
    pixels of image k, for the page; raises DataError.
    """

    source: str
    layout: str
    images: ImageRows
    class_counts: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    groups: tuple[DuplicateGroup, ...]
    notes: tuple[str, ...]
    seconds: float
    read: Callable[[int], Pixels] | None = field(default=None, compare=False, repr=False)

    @property
    def files(self) -> int:
        """How many images were listed."""
        return len(self.images.paths)

    @property
    def classes(self) -> dict[str, int]:
        """Images per class; those that cannot be read count, too."""
        totals: dict[str, int] = {}
        for row in self.class_counts.values():
            for name, number in row.items():
                totals[name] = totals.get(name, 0) + number
        return totals

    @property
    def unreadable(self) -> int:
        """How many of them cannot be decoded."""
        return int((self.images.sizes[:, 0] == 0).sum())

    def of_kind(self, kind: str) -> list[Finding]:
        """The findings of one kind, worst first."""
        found = [finding for finding in self.findings if finding.kind == kind]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))

    def kinds(self) -> list[str]:
        """The kinds found, worst first: by the gravest finding of each, then as in KINDS."""
        order = list(KINDS)
        worst: dict[str, int] = {}
        for finding in self.findings:
            rank = SEVERITIES.index(finding.severity)
            worst[finding.kind] = min(rank, worst.get(finding.kind, rank))
        return sorted(worst, key=lambda kind: (worst[kind], order.index(kind)))

    def count(self, severity: str) -> int:
        """How many findings are of `severity`."""
        return sum(finding.severity == severity for finding in self.findings)

    def passes(self, *, strict: bool) -> bool:
        """Whether the data is good enough: always, or with `strict` without errors and warnings."""
        return not strict or self.count("error") + self.count("warning") == 0

    def record(self) -> dict[str, Any]:
        """The JSON object of `discern data check --json`; paths as the data names them."""
        problems = [
            {"kind": f.kind, "path": path, "text": f.text, "severity": f.severity}
            for f in self.findings
            for path in f.paths or (self.source,)
        ]
        groups = [
            {"how": group.how, "paths": [self.images.paths[row] for row in group.rows]}
            for group in self.groups
        ]
        return {
            "source": self.source,
            "layout": self.layout,
            "files": self.files,
            "images": self.files - self.unreadable,
            "classes": self.classes,
            "class_counts": self.class_counts,
            "unreadable": self.unreadable,
            "counts": {kind: len(self.of_kind(kind)) for kind in self.kinds()},
            "severities": {severity: self.count(severity) for severity in SEVERITIES},
            "problems": problems,
            "duplicates": groups,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }

    def summary_lines(self) -> list[str]:
        """At most 25 lines of plain text: worst first, up to 5 paths of a kind."""
        classes = f"{len(self.classes):,} classes" if len(self.classes) != 1 else "1 class"
        read = self.files - self.unreadable
        counts = f"{self.files:,} files, {read:,} images read, {classes}"
        lines = [f"{counts} ({self.layout}) in {self.seconds:.1f} s"]
        kinds = self.kinds()
        if not kinds:
            return [*lines, "nothing found"]
        # A line for each kind is kept free; paths take what is left, the worst kinds first.
        left = _SUMMARY_LINES - len(lines) - len(kinds) - 1
        for kind in kinds:
            found = self.of_kind(kind)
            lines.append(_kind_line(kind, found))
            told = [line for finding in found for line in _finding_lines(finding)]
            # An image met in many groups of a kind is shown once.
            told = list(dict.fromkeys(told))
            room = min(_SHOWN_PATHS, left)
            shown = told if len(told) <= room else told[: max(room - 1, 0)]
            lines += shown
            if len(shown) < len(told) and room:
                lines.append(f"    and {len(told) - len(shown):,} more")
                left -= 1
            left -= len(shown)
        totals = ((self.count(severity), severity) for severity in SEVERITIES)
        words = (f"{number:,} {name}{'s' * (number != 1)}" for number, name in totals if number)
        return [*lines, ", ".join(words)]

    def quarantine(self) -> list[tuple[str, str, str]]:
        """(path, kind, reason) of each image to leave out, once, in the order listed.

        Out go: what cannot be read or is damaged; all images of a label conflict of equal bytes;
        all but one of equal bytes; of the same picture in two splits the one that is learned from.
        What is scored stays rather than what is trained on.
        """
        out: dict[int, tuple[str, str]] = {}
        for kind in (*UNREADABLE, "damaged"):
            for finding in self.of_kind(kind):
                if kind == "damaged" or finding.severity == "error":
                    out.update(dict.fromkeys(finding.rows, (kind, finding.text)))
        for finding in self.of_kind("label-conflict"):
            if finding.severity == "error":
                for row in finding.rows:
                    out.setdefault(row, (finding.kind, finding.text))
        for finding in self.of_kind("exact-duplicate"):
            rows = [row for row in finding.rows if row not in out]
            kept = min(rows, key=self._dispensable, default=-1)
            for row in rows:
                if row != kept:
                    out[row] = (finding.kind, f"same bytes as {self.images.paths[kept]}")
        for finding in self.of_kind("leakage"):
            rows = [row for row in finding.rows if row not in out]
            most = min((self._dispensable(row)[0] for row in rows), default=0)
            for row in rows:
                if self._dispensable(row)[0] > most:
                    out[row] = (finding.kind, finding.text)
        return [(self.images.paths[row], *out[row]) for row in sorted(out)]

    def _dispensable(self, row: int) -> tuple[int, int]:
        """Images of test are kept first, then of val; then the one listed first."""
        order = {"test": 0, "val": 1}
        return order.get(self.images.splits[row] or "", 2), row

    def write_quarantine(self, path: Path) -> int:
        """Write the quarantine list as CSV (path, kind, reason); gives the number of images."""
        rows = self.quarantine()
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([QUARANTINE_COLUMNS, *rows])
        write_text(path, stream.getvalue())
        return len(rows)


def _kind_line(kind: str, found: list[Finding]) -> str:
    images = len({row for finding in found for row in finding.rows})
    number = f"{len(found):,}" if images <= len(found) else f"{len(found):,} ({images:,} images)"
    return f"{found[0].severity:<8} {kind:<17} {number}: {KINDS[kind].title}; {KINDS[kind].hint}"


def _finding_lines(finding: Finding) -> Iterable[str]:
    if not finding.paths:
        yield f"    {finding.text}"
    elif len(finding.paths) == 1:
        yield f"    {finding.paths[0]}: {finding.text}"
    else:
        more = f" and {len(finding.paths) - 3} more" if len(finding.paths) > 3 else ""
        yield f"    {', '.join(finding.paths[:3])}{more}: {finding.text}"


def rows_to_keep(
    described: Manifest | Listing, left_out: Mapping[str, str]
) -> tuple[NDArray[np.int64], list[str]]:
    """(rows of `described` that are not in a quarantine list, names of the list that match none).

    An image is meant by its path, by its path from the root of the file system, or, inside of one
    of several containers, by `container:path`.
    """
    where = described.locations
    met: set[str] = set()
    keep = []
    for row, (path, container) in enumerate(
        zip(where.paths.tolist(), where.containers.tolist(), strict=True)
    ):
        names = {path}
        if container >= 0:
            place = Path(where.container_names[container])
            names |= {f"{place.name}:{path}", f"{described.root / place}:{path}"}
        else:
            names.add(str(described.root / path))
        hit = names & left_out.keys()
        met |= hit
        if not hit:
            keep.append(row)
    return np.array(keep, dtype=np.int64), [name for name in left_out if name not in met]


def read_quarantine(path: Path) -> dict[str, str]:
    """The images to leave out, path -> kind, of a list that `write_quarantine` wrote.

    Raises DataError for a file that is not such a list.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the quarantine list cannot be read: {error}", where=path) from error
    if not rows or tuple(rows[0]) != QUARANTINE_COLUMNS:
        raise DataError(
            "not a quarantine list", where=path,
            got=", ".join(rows[0]) if rows else "an empty file",
            expected=", ".join(QUARANTINE_COLUMNS),
            hint="`discern data check DATA` writes one",
        )  # fmt: skip
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(QUARANTINE_COLUMNS):
            raise DataError(
                "a row of the quarantine list is damaged", where=f"{path}, line {number}",
                got=f"{len(row)} cells", expected=f"{len(QUARANTINE_COLUMNS)}",
            )  # fmt: skip
    return {row[0]: row[1] for row in rows[1:]}
