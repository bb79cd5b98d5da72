"""The figures on printed lines: MLSteam's grammar, `key=value`, and the usual trainers' lines.

    Train step=10 loss=0.818 acc=0.95                            Train_loss, Train_acc at 10
    step: 200, loss: 0.31                                        loss at 200
    Epoch 2/5 / 938/938 [===] - 2s - loss: 0.3 - val_loss: 0.2   Keras: at epoch 2, whole epochs
    Epoch 1:  40%|##  | 40/100 [00:01, v_num=0, loss=0.3]        bars: at (epoch - first) x 100 + 40
    Train: 1 [  50/100 ( 50%)]  Loss: 6.91 (6.93)                timm: Train_Loss at 150: the first
    Test: [  48/48]  Loss: 0.9 (1.0)  Acc@1: 75.0 (78.1)         evaluations: the mean, per epoch
    Train Epoch: 1 [640/60000 (1%)] Loss: 1.5                    PyTorch's examples
    {'loss': 0.5, 'epoch': 0.35}                                 counted, with the series `epoch`

Values are taken as printed (98 % is 98); `9840/10000` is the quotient. A line without a step, a
bar or an epoch counts only if it names a usual metric; it stands at the epoch told last, else it is
counted. Numbers with a unit, times of day, versions and addresses are no figures.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from discern.track.printed.axes import COUNT, PrintedPoint, SeriesAxes

_NUMBER: Final = (
    r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|(?i:nan|inf(?:inity)?))(?![\w:]|\.\d|-\d)"
)
_PAIR: Final = re.compile(
    r"(?<![\w.@/\\?&-])['\"]?([A-Za-z_][\w.@/-]*)['\"]? ?([=:])(\s*)(?:tensor\()?"
    rf"({_NUMBER})(?:/(\d+)(?![\w.]))?"
)
_AVERAGED: Final = re.compile(
    rf"(?<![\w.@/-])([A-Za-z_][\w.@/-]*):?\s+({_NUMBER})\s*\(\s*({_NUMBER})\s*\)"
)
_STARRED: Final = re.compile(rf"([A-Za-z_]\w*@\d+)\s+({_NUMBER})")
_MLSTEAM: Final = re.compile(
    rf"(?:^|[\s:\]])(Validation|Training|Train|Test)\s+(Step|Iter|Epoch)=({_NUMBER})(?=[\s,]|$)",
    re.IGNORECASE,
)
# What makes a line worth the search above.
_AXIS: Final = re.compile(r"(?:[sS]tep|[iI]ter|[eE]poch|STEP|ITER|EPOCH)=")
_IS_NUMBER: Final = re.compile(_NUMBER)
_EPOCH: Final = re.compile(r"\b[Ee]poch['\"]?\s*[:=#]?\s*\[?\s*(\d+)(?![\w.])(?:\s*/\s*(\d+))?")
_GROUP: Final = re.compile(
    r"\s*[*\[]?\s*(train|training|val|valid|validation|test|testing|eval|evaluation)\b(?!\w*[=.])",
    re.IGNORECASE,
)
_TIMM: Final = re.compile(r"Train: (\d+) \[")
_PLACE: Final = re.compile(r"\[\s*(\d+)/(\d+)|\b(\d+)/(\d+) \[|\d%[|\s].{0,200}?\b(\d+)/(\d+)\b")
_KERAS: Final = re.compile(r"\s*(\d+)/(\d+)\s")
# Rich's bars (Lightning) have no percent sign.
_RICH: Final = re.compile(r"[━╸╺] *(\d+)/(\d+)\s")

_STEP_NAMES: Final = frozenset({"step", "global_step", "iter", "iteration", "iters", "it"})
_NO_METRICS: Final = frozenset(
    {"v_num", "eta", "pid", "rank", "seed", "version", "port", "epochs", "steps", "total", "line"}
    | {"batch", "https", "http", "train", "test", "val", "valid", "validation"}
)
_METRIC_WORD: Final = re.compile(
    r"loss|acc|err|auc|f1|prec|recall|mae|mse|iou|map\b|top-?\d|lr\b|learning_rate|perplex|ppl"
    r"|bleu|rouge|score|reward|dice|kappa|mcc|@\d",
    re.IGNORECASE,
)
_EVALUATIONS: Final = ("Val", "Test", "Eval")


class _Pair(NamedTuple):
    name: str
    value: float
    text: str


class MetricReader:
    """Reads one stream's lines in order, and remembers the epoch that they told.

    `axes` is shared by the streams of one program.
    """

    def __init__(self, axes: SeriesAxes) -> None:
        self._axes = axes
        self._epoch: int | None = None
        self._first_epoch = 1
        self._place = (0, 0)
        self._before_bar = 0

    def read(self, line: str) -> list[PrintedPoint]:
        """The figures on `line`, printable text without its end."""
        said = _MLSTEAM.search(line) if _AXIS.search(line) else None
        if said is not None:
            return self._mlsteam(said, line[said.end() :])
        epoch = _EPOCH.search(line) if "poch" in line else _TIMM.search(line)
        if epoch is not None:
            self._note_epoch(int(epoch[1]))
        pairs = _pairs(line)
        figures = [p for p in pairs if not _tells_place(p)]
        if not figures:
            return []
        match = _GROUP.match(line)
        group = "" if match is None else match[1].capitalize()
        axis = self._axis(line, pairs, group, tells_epoch=epoch is not None)
        if axis is None:
            return []
        prefix = f"{group}_" if group else ""
        return self._points(axis[0], axis[1], [(prefix + p.name, p.value) for p in figures])

    def _mlsteam(self, said: re.Match[str], rest: str) -> list[PrintedPoint]:
        group, axis, text = said[1].capitalize(), said[2].lower(), said[3]
        figures = [(f"{group}_{name}", value) for name, value in _words(rest)]
        step, broken = _whole(text), f"{group}_{axis}"
        if step is None or broken in self._axes.axes:
            # 1.66 epochs: counted, with the broken places as a series of their own.
            return self._points(COUNT, 0, [(broken, float(text)), *figures])
        return self._points(axis, step, figures)

    def _axis(
        self, line: str, pairs: list[_Pair], group: str, *, tells_epoch: bool
    ) -> tuple[str, int] | None:
        """The axis and the place on it of a line's figures; None for a line that does not count."""
        for pair in pairs:
            if pair.name.lower() in _STEP_NAMES:
                step = _whole(pair.text)
                return (COUNT, 0) if step is None else ("step", step)
        keras = _KERAS.match(line)
        found = None if keras is not None else (_PLACE.search(line) or _RICH.search(line))
        place = keras or found
        if place is not None:
            done, total = (int(text) for text in place.groups() if text is not None)
            if keras is not None or group.startswith(_EVALUATIONS):
                # Until the end these are means over a part.
                return self._at_epoch() if done >= total else None
            return "step", self._bar_step(done, total)
        if tells_epoch or any(_METRIC_WORD.search(pair.name) for pair in pairs):
            return self._at_epoch()
        return None

    def _at_epoch(self) -> tuple[str, int]:
        return (COUNT, 0) if self._epoch is None else ("epoch", self._epoch)

    def _bar_step(self, done: int, total: int) -> int:
        if self._epoch is not None:
            return max(self._epoch - self._first_epoch, 0) * total + done
        before, of = self._place
        if done < before:
            self._before_bar += of  # the bar has begun anew: another epoch
        self._place = (done, total)
        return self._before_bar + done

    def _note_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        if epoch == 0:
            self._first_epoch = 0

    def _points(self, axis: str, step: int, figures: list[tuple[str, float]]) -> list[PrintedPoint]:
        placed = (self._axes.place(name, axis, step, value) for name, value in figures)
        return [point for point in placed if point is not None]


def _pairs(line: str) -> list[_Pair]:
    """The named numbers on a line in order; of those told twice in one form the first."""
    found: dict[str, _Pair] = {}
    evaluates = line.lstrip().startswith(_EVALUATIONS)
    if "(" in line:
        for name, now, mean in _AVERAGED.findall(line):
            text = mean if evaluates else now
            found.setdefault(name, _Pair(name, float(text), text))
    for name, sign, space, text, of in _PAIR.findall(line):
        if name.lower() in _NO_METRICS or name in found:
            continue
        if sign == ":" and not space and not _METRIC_WORD.search(name):
            continue  # addresses, places in files
        value = float(text)
        if of:
            if not int(of) or name.lower() == "epoch":
                continue
            value /= int(of)
        found[name] = _Pair(name, value, text)
    if "@" in line:
        for name, text in _STARRED.findall(line):
            found.setdefault(name, _Pair(name, float(text), text))
    return list(found.values())


def _tells_place(pair: _Pair) -> bool:
    name = pair.name.lower()
    return name in _STEP_NAMES or (name == "epoch" and _whole(pair.text) is not None)


def _words(rest: str) -> list[tuple[str, float]]:
    """The figures behind an axis: any words without blanks, `name=number`."""
    found = []
    for word in rest.replace(",", " ").split():
        name, sign, text = word.rpartition("=")
        if sign and name and _IS_NUMBER.fullmatch(text):
            found.append((name, float(text)))
    return found


def _whole(text: str) -> int | None:
    """The whole number that `text` tells and the log can hold; None for another one."""
    number = float(text)
    if not 0 <= number < 2**63 or number != int(number):
        return None
    return int(text) if text.isdecimal() else int(number)
