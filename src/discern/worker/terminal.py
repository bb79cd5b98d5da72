"""What a training shows while it runs: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from discern.base.console import Console
from discern.base.names import counted
from discern.data.head_spec import HeadSpec, is_plain, main_heads
from discern.training.callbacks import Callback, Progress
from discern.training.monitor import LAST_EPOCH
from discern.training.scores import KEPT_CLASSES

_REDRAW_S = 0.1
_MOST_RATES = 3

_SCORES = ("split", "count", "accuracy", "accuracy_low", "accuracy_high", "top5", "loss", "heads")
# Of a head beside others: where it stands, and the matrix, which is no line.
_OF_HEADS = ("side", "confusion")


def heads_text(heads: Sequence[HeadSpec]) -> str:
    """What is asked of an image: classes, or the heads with theirs."""
    if is_plain(heads):
        return counted(heads[0].width, "class", "classes")
    kinds = {"single": "classes", "multi": "labels"}
    told = (f"{h.name} ({h.width} {'made classes' if h.side else kinds[h.kind]})" for h in heads)
    return ", ".join(told)


def accuracy_name(heads: Sequence[HeadSpec]) -> str:
    """What the one accuracy of a network is, for people."""
    main = main_heads(heads)
    if len(main) > 1:
        return f"accuracy, mean of {len(main)} heads,"
    return "accuracy (all labels right)" if main[0].kind == "multi" else "accuracy"


def top5_words(metrics: dict[str, Any], heads: Sequence[HeadSpec]) -> str:
    """`top-5 0.9876, `; nothing where no head has more than five classes to miss."""
    if metrics["top5"] is None or max(head.width for head in main_heads(heads)) <= KEPT_CLASSES:
        return ""
    return f"top-5 {metrics['top5']:.4f}, "


def head_lines(metrics: dict[str, Any]) -> list[str]:
    """A line for each of several heads: its accuracy, its interval, further figures."""
    lines = []
    for name, own in metrics.get("heads", {}).items():
        side = ", a side head" if own.get("side") else ""
        line = (
            f"{name}: accuracy {own['accuracy']:.4f} on {own['count']} images (95 %: "
            f"{own['accuracy_low']:.4f} to {own['accuracy_high']:.4f}){side}"
        )
        further = further_figures({k: v for k, v in own.items() if k not in _OF_HEADS})
        lines.append(line if further is None else f"{line}; {further}")
    return lines


def further_figures(metrics: dict[str, Any]) -> str | None:
    """The figures that were asked for beside the scores that are always there."""
    asked = {name: value for name, value in metrics.items() if name not in _SCORES}
    told = ("not defined" if value is None else f"{value:.4f}" for value in asked.values())
    return ", ".join(f"{n} {v}" for n, v in zip(asked, told, strict=True)) or None


def clock_text(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def length_text(progress: Progress) -> str:
    """How long the stage is, in the unit that it was given in."""
    steps = counted(progress.batches, "step")
    if progress.seconds is not None:
        return f"{progress.seconds / 60:g} minutes in epochs of {steps}"
    if progress.stage_steps % max(1, progress.batches):
        return f"{counted(progress.stage_steps, 'step')} in epochs of {progress.batches}"
    return f"{counted(progress.epochs, 'epoch')} of {steps}"


def rates_text(rates: Sequence[tuple[float, float | None]]) -> str:
    """Each group's rate and momentum, equal ones once; the ends where there are many."""
    texts = []
    for name, values in (("lr", [lr for lr, _ in rates]), ("mom", [m for _, m in rates])):
        known = sorted({value for value in values if value is not None}, reverse=True)
        if len(known) > _MOST_RATES:
            texts.append(f"{name} {known[0]:.2g}..{known[-1]:.2g} in {len(values)} groups")
        elif known:
            texts.append(f"{name} " + "/".join(f"{value:.2g}" for value in known))
    return "  ".join(texts)


class EpochLines(Callback):
    """One line an epoch, and on a terminal a bar that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._stage_started = self._started
        self._stage_first = 0
        self._drawn = 0.0
        self._wide = 0

    def before_stage(self, progress: Progress) -> None:
        """Name the stage, and start its clock."""
        self._stage_started = time.monotonic()
        self._stage_first = progress.stage_step
        resumed = f", from step {progress.step}" if progress.stage_step else ""
        self.console.say(f"stage {progress.stage}: {length_text(progress)}{resumed}")

    def after_step(self, progress: Progress) -> None:
        """Redraw the bar, at most ten times a second."""
        if not self.console.live:
            return
        now = time.monotonic()
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        done = progress.stage_step / max(1, progress.stage_steps)
        filled = round(24 * done)
        readings = progress.readings
        parts = [
            f"{progress.stage} {progress.epoch + 1}/{progress.epochs}",
            self.console.paint("━" * filled, "cyan")
            + self.console.paint("━" * (24 - filled), "dim"),
            f"{100 * done:3.0f}%",
        ]
        if "train/loss" in readings:
            parts.append(f"loss {readings['train/loss']:.3f}")
            parts.append(f"{readings['time/images_per_s']:.0f} img/s")
            parts.append(f"data {100 * readings['time/data_share']:.0f}%")
        parts.append(f"left {self._left(progress, now)}")
        self._redraw("  ".join(parts))

    def _left(self, progress: Progress, now: float) -> str:
        steps = progress.stage_step - self._stage_first
        if steps < 1:
            return "?"
        pace = (now - self._stage_started) / steps
        return clock_text(pace * (progress.stage_steps - progress.stage_step))

    def _redraw(self, text: str) -> None:
        stream = self.console.stream
        stream.write("\r\x1b[K" + text)
        stream.flush()

    def after_epoch(self, progress: Progress) -> None:
        """One line with the epoch's figures."""
        if self.console.live:
            self._redraw("")
        figures = self._figures(progress)
        left = self._left(progress, time.monotonic())
        better = progress.best_step == progress.step and progress.monitor != LAST_EPOCH
        best = "  *" if better else ""
        width = len(str(progress.epochs))
        self.console.say(
            f"{progress.stage} {progress.epoch:>{width}}/{progress.epochs}  "
            + "  ".join(figures)
            + f"  left {left}{best}"
        )

    def _figures(self, progress: Progress) -> list[str]:
        readings = progress.readings
        names = {"train/loss": "loss {:.4f}", "train/accuracy": "acc {:.4f}",
                 "val/loss": "val loss {:.4f}", "val/accuracy": "val acc {:.4f}"}  # fmt: skip
        further = [name for name in readings if name.startswith("val/") and name not in names]
        names |= {name: f"val {name.removeprefix('val/')} {{:.4f}}" for name in further}
        figures = [form.format(readings[name]) for name, form in names.items() if name in readings]
        if progress.rates:
            figures.append(rates_text(progress.rates))
        if "time/images_per_s" in readings:
            figures.append(f"{readings['time/images_per_s']:.0f} img/s")
            batch, data, model = (readings[f"time/{n}_ms"] for n in ("batch", "data", "model"))
            figures.append(f"batch {batch:.3g} ms: data {data:.3g}, model {model:.3g}")
        return figures

    def after_stage(self, progress: Progress) -> None:
        """The stage's best epochs, which are the checkpoints that are kept."""
        if len(progress.top) < 2:
            return
        which = "last" if progress.monitor == LAST_EPOCH else "best"
        self.console.say(f"{which} checkpoints")
        for entry in progress.top:
            told = f"val acc {entry.accuracy:.4f}  val loss {entry.loss:.4f}"
            if progress.monitor not in ("accuracy", "loss", LAST_EPOCH):
                told = f"val {progress.monitor} {entry.value(progress.monitor):.4f}  {told}"
            self.console.say(f"  {entry.stage} epoch {entry.epoch}, step {entry.step}  {told}")
