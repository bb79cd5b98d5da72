"""What single stages bring from outside the run: weights to begin with, images of their own."""

from __future__ import annotations

from pathlib import Path

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.track.run import open_run
from discern.track.run_folder import CHECKPOINTS
from discern.track.run_reference import CheckpointWish, split_reference
from discern.training.checkpoint_choice import choose_checkpoint, final_monitor
from discern.training.checkpoints import checkpoint_step
from discern.training.material import Material
from discern.training.starting_point import is_elsewhere
from discern.worker.data_scan import tell_problems
from discern.worker.plan import TrainingPlan

CHOICE = "start_from"


def find_starts(plan: TrainingPlan, root: Path, console: Console) -> None:
    """Choose the checkpoint or file of each stage that begins elsewhere; one chosen before stays.

    Raises ConfigError or RunError for what is not there.
    """
    chosen = plan.choices.setdefault(CHOICE, {})
    for name, stage in plan.config.stages.items():
        if name not in chosen and stage.start_from is not None and is_elsewhere(stage.start_from):
            path = _find(stage.start_from, root, f"stages.{name}.start_from", console)
            chosen[name] = str(path)


def chosen_starts(plan: TrainingPlan) -> dict[str, Path]:
    """Where each such stage begins, by the stage's name."""
    return {name: Path(path) for name, path in plan.choices.get(CHOICE, {}).items()}


def _find(wish: str, root: Path, where: str, console: Console) -> Path:
    path = Path(wish).expanduser().absolute()
    if path.is_file() or (path.is_dir() and checkpoint_step(path) is not None):
        return path
    if wish.endswith(".safetensors"):
        raise ConfigError("no such weights file", where=where, got=wish)
    name, checkpoint = split_reference(wish)
    run = open_run(name, root)
    monitor = final_monitor(run.record["config"]["stages"])
    found = choose_checkpoint(run.path / CHECKPOINTS, checkpoint or CheckpointWish("best"), monitor)
    if found.note is not None:
        console.warn(f"{where}: {found.note}")
    return found.path


def open_own_images(
    plan: TrainingPlan, material: Material, console: Console
) -> dict[str, Material]:
    """The images of each stage that predicts on a source of its own, seen as the run's are."""
    opened = {}
    for name, stage in plan.config.stages.items():
        if stage.source is None:
            continue
        request = DataRequest(train=stage.source, split=None, needs_labels=False,
                              on_bad_image=plan.config.data.on_bad_image)  # fmt: skip
        scanned = scan_data(request)
        tell_problems(scanned, console)
        manifest = scanned.manifest
        opened[name] = Material(
            manifest, open_source(manifest), material.preprocess, material.settings
        )
    return opened
