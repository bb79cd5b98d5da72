"""Which earlier run a request to train goes on with, as far as it says so itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.config.stage_lengths import LENGTHS
from discern.track.run import Run, find_unfinished, open_run
from discern.track.run_folder import TRAINING
from discern.track.run_reference import split_reference


def named_run(request: Request, root: Path) -> Run | None:
    """The run that `--resume` asks for, if it names one or there is no DATA to find it by."""
    wanted = request.arguments.get("resume")
    if wanted is None:
        return None
    if wanted:
        name, checkpoint = split_reference(wanted)
        run = open_run(name, root)
        if run.kind != TRAINING:
            raise ConfigError(
                "this run was not made by `discern train`",
                where=run.id,
                got=run.kind,
                hint="run its own program again; `discern runs show` tells which",
            )
        if checkpoint is None and run.status == "finished" and not _asks_for_length(request):
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


def _asks_for_length(request: Request) -> bool:
    keys = [key for _, key, _ in request.pairs]
    keys += [text.partition("=")[0].strip() for text in request.sets]
    return any(key.startswith("stages.") and key.rpartition(".")[2] in LENGTHS for key in keys)


def with_stored_config(request: Request, run: Run) -> Request:
    """The request as the run stored it, with the flags given now on top."""
    return replace(request, files=[str(run.path / "config.yaml"), *request.files])
