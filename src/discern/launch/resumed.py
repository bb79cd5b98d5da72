"""Which earlier run a request to train goes on with, as far as it says so itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.track.run import Run, find_unfinished, open_run


def named_run(request: Request, root: Path) -> Run | None:
    """The run that `--resume` asks for, if it names one or there is no DATA to find it by."""
    wanted = request.arguments.get("resume")
    if wanted is None:
        return None
    if wanted:
        run = open_run(wanted, root)
        if run.status == "finished" and not any("epochs" in pair[1] for pair in request.pairs):
            raise ConfigError(
                "this run is finished",
                where=run.id,
                hint="--resume RUN --epochs N trains it further; without --resume a new run starts",
            )
        return run
    if any(key == "data.source" for _, key, _ in request.pairs):
        return None
    unfinished = find_unfinished(root)
    if not unfinished:
        raise ConfigError(
            "there is no unfinished run to go on with", where=root, hint="`discern runs list`"
        )
    return unfinished[0]


def with_stored_config(request: Request, run: Run) -> Request:
    """The request as the run stored it, with the flags given now on top."""
    return replace(request, files=[str(run.path / "config.yaml"), *request.files])
