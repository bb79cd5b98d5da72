"""Model summaries among printed lines: those of Keras 2 and 3, torchinfo and torchsummary.

A table begins with a header that holds `Layer (type`, its sums begin with `Total params`.
"""

from __future__ import annotations

import re
from typing import Any, Final

_HEADER: Final = "Layer (type"
_TITLE: Final = re.compile(r'\s*Model: "(.*)"')
_SUM: Final = re.compile(r"\s*([A-Za-z/ -]+?)(?: \(([^)]*)\))?: ([\d,.]+)")
_LAYER: Final = re.compile(r"(.+?)(?:: (\d+(?:-\d+)*)| \(([^()]*)\)|-(\d+))?")
_TREE: Final = re.compile(r"[│├└─╰╭]")
_UNITS: Final = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
# A network of more layers than this is none that people print.
_MOST_ROWS: Final = 20_000
# Their line, our name, and whether it is that of all images of the batch that was shown.
_SIZES: Final = (
    ("Params size", "parameters", False),
    ("Forward/backward pass size", "activations", True),
)


class SummaryCollector:
    """Watches lines in order and gives each summary as it becomes whole."""

    def __init__(self) -> None:
        self._title: str | None = None
        self._header: str | None = None
        self._rows: list[str] = []
        self._sums: dict[str, tuple[str, str]] = {}

    @property
    def reading(self) -> bool:
        """True inside of a table."""
        return self._header is not None

    def read(self, line: str) -> dict[str, Any] | None:
        """Take one line; gives a summary (without format and version) that it completes."""
        if self._header is None:
            self._begin(line)
            return None
        if _HEADER in line:
            done = self.end()  # another table begins
            self._begin(line)
            return done
        told = _SUM.match(line)
        if told is not None and ("params" in told[1] or self._sums):
            self._sums[told[1].strip()] = (told[3], told[2] or "")
            return self.end() if told[1].startswith("Estimated Total") else None
        if not self._sums:
            self._rows.append(line)
            if len(self._rows) > _MOST_ROWS:
                self._forget()
        elif line.strip(" =_-─"):
            return self.end()  # something else: the sums are over
        return None

    def end(self) -> dict[str, Any] | None:
        """What stands when the lines end; None if no summary is whole."""
        found = self._summary() if "Total params" in self._sums else None
        self._forget()
        return found

    def _begin(self, line: str) -> None:
        title = _TITLE.match(line)
        if title is not None:
            self._title = title[1]
        elif _HEADER in line:
            self._header = line

    def _forget(self) -> None:
        self._title, self._header, self._rows, self._sums = None, None, [], {}

    def _summary(self) -> dict[str, Any]:
        header = self._header or ""
        if "depth-idx" in header:
            source = "torchinfo"
        elif self._title is not None or "┃" in header:
            source = "keras"
        else:
            source = "torchsummary"
        layers = [layer for cells in self._cells(header) for layer in _layer(cells, source)]
        title, images = self._title, 1
        if source == "torchinfo" and layers and layers[0]["parameters"] is None:
            first = layers.pop(0)  # the network itself
            title, images = first["kind"], (first["output"] or [1])[0] or 1
        total = self._count("Total params") or 0
        frozen = self._count("Non-trainable params") or 0
        trained = self._count("Trainable params")
        return {
            "source": source,
            "network": title,
            "input": None,
            "parameters": total,
            "trainable": total - frozen if trained is None else trained,
            "macs": self._macs(images),
            "layers": layers,
            "memory": self._memory(images, 1e6 if source == "torchinfo" else 1 << 20),
        }

    def _cells(self, header: str) -> list[list[str]]:
        """The rows as [layer, output shape, parameters]."""
        rows: list[list[str]] = []
        if "┃" in header:
            for line in self._rows:
                cells = [cell.strip() for cell in line.strip().strip("│").split("│")]
                if "│" not in line or len(cells) < 3:
                    continue
                if cells[2] or not rows:
                    rows.append(cells[:3])
                else:  # a cell too long for its column goes on below
                    rows[-1] = [a + b for a, b in zip(rows[-1], cells, strict=False)]
            return rows
        titles = [title.split(" (")[0] for title in re.split(r"\s{2,}", header.strip())]
        places = {title: place for place, title in enumerate(titles)}
        for line in self._rows:
            cells = re.split(r"\s{2,}", _TREE.sub(" ", line).strip())
            if len(cells) < len(titles) or set(cells[0]) <= set("=_-"):
                continue
            shape, count = (places.get(name, 0) for name in ("Output Shape", "Param #"))
            if shape and count:
                rows.append([cells[0], cells[shape], cells[count]])
        return rows

    def _count(self, name: str) -> int | None:
        told = self._sums.get(name)
        return None if told is None else int(float(told[0].replace(",", "")))

    def _macs(self, images: int) -> int | None:
        told = self._sums.get("Total mult-adds")
        if told is None:
            return None
        unit = told[1].removeprefix("Units.")[:1]
        return round(float(told[0].replace(",", "")) * _UNITS.get(unit, 1) / images)

    def _memory(self, images: int, megabyte: float) -> dict[str, int]:
        found = {}
        for name, own, shared in _SIZES:
            if name in self._sums:
                size = float(self._sums[name][0].replace(",", "")) * megabyte
                found[own] = round(size / (images if shared else 1))
        return found


def _layer(cells: list[str], source: str) -> list[dict[str, Any]]:
    named = _LAYER.fullmatch(cells[0])
    count = cells[2].replace(",", "")
    if named is None or not (count.isdecimal() or count == "--" or "recursive" in count):
        return []
    if source == "keras":
        name, kind = named[1], named[3] or ""
    else:
        name, kind = named[2] or named[4] or named[1], named[1].split(" (")[0]
    return [
        {
            "name": name,
            "kind": kind,
            "output": _shape(cells[1]),
            "parameters": int(count) if count.isdecimal() else None,
            "trainable": None,
            "macs": None,
        }
    ]


def _shape(text: str) -> list[int | None] | None:
    """The numbers of `(None, 26, 26, 32)`; -1 and None are open."""
    parts = [part.strip() for part in text.strip("[]() ").split(",") if part.strip()]
    if not parts or not all(part == "None" or part.lstrip("-").isdecimal() for part in parts):
        return None
    return [None if part == "None" or int(part) < 0 else int(part) for part in parts]
