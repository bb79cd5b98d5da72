"""A bar that counts, on a terminal only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from discern.base.console import Console


@contextlib.contextmanager
def counting_bar(console: Console, what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A callback (done, total) that draws a bar on a terminal; None elsewhere."""
    if not console.live:
        yield None
        return
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=RichConsole(file=console.stream),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield progress
