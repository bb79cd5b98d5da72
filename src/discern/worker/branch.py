"""A new run that goes on from a checkpoint of another one, which stays as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from discern.base.console import Console
from discern.base.files import hash_json
from discern.track.run import Run, create_run, read_run
from discern.track.run_folder import CHECKPOINTS, INTERRUPTED
from discern.track.run_reference import CheckpointWish
from discern.training.checkpoint_choice import choose_checkpoint
from discern.training.checkpoints import checkpoint_step
from discern.training.monitor import Monitor

# What the new run has from the old one: all that a resume compares and rereads.
_TAKEN = (
    "images_hash", "layout", "split", "classes", "recipe", "config", "origins", "left_out",
    "choices", "device", "ranks",
)  # fmt: skip


def branch_run(run: Run, wish: CheckpointWish, monitor: Monitor, console: Console) -> Run:
    """Make the run `<name>-from-<step>-<n>` beside `run`; it is then resumed as any other.

    It begins with the checkpoints up to the wished one and the figures up to its step, so that its
    rates, rankings and curves go on from there; `parent` in its `run.json` names where it is from.
    """
    chosen = choose_checkpoint(run.path / CHECKPOINTS, wish, monitor)
    if chosen.note is not None:
        console.warn(chosen.note)
    writer = create_run(
        run.path.parent.parent,
        run.project,
        name_stem=f"{run.name}-from-{chosen.step}",
        request_hash=hash_json([run.request_hash, run.id, chosen.step]),
        config_text=run.config_text(),
        record={key: run.record[key] for key in _TAKEN if key in run.record}
        | {"parent": {"run": run.id, "path": str(run.path), "step": chosen.step}},
    )
    with writer:
        for path in sorted((run.path / CHECKPOINTS).iterdir()):
            step = checkpoint_step(path)
            if step is not None and step <= chosen.step:
                _copy_checkpoint(path, writer.path / CHECKPOINTS / path.name)
        for name, series in run.read_all().items():
            for step, time, value in zip(series.steps, series.times, series.values, strict=True):
                if step <= chosen.step:
                    writer.metrics.add(name, int(step), float(value), float(time))
        writer.log(f"branched from {run.id} at step {chosen.step}")
        writer.finish(INTERRUPTED, "made from a checkpoint of another run")
    branched = read_run(writer.path)
    console.say(f"branch   {run.id}, step {chosen.step}, goes on as {branched.id}")
    return branched


def _copy_checkpoint(source: Path, target: Path) -> None:
    """Its files are never changed, only deleted: a second name for them is enough."""
    target.parent.mkdir(exist_ok=True)
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
