"""Which run a `train` command goes on with, and what may differ then: longer stages, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.config.schema import RunConfig
from discern.config.stage_lengths import LENGTHS
from discern.data.images import Preprocess
from discern.track.run import Run, find_unfinished
from discern.track.run_folder import check_name
from discern.worker.plan import TrainingPlan


def same_request(request: Request, plan: TrainingPlan, root: Path) -> Run | None:
    """The unfinished run of an equal request, if there is one and it may be gone on with."""
    if request.arguments.get("fresh") or not plan.world.leads:
        return None
    found = find_unfinished(root, project_of(plan), plan.identity)
    name = plan.config.tracking.name
    found = [run for run in found if name is None or run.name == name]
    if not found and request.arguments.get("resume") is not None:
        raise ConfigError(
            "there is no unfinished run of this request",
            where=root / project_of(plan),
            hint="`discern runs list --status interrupted`; without --resume a new run starts",
        )
    return found[0] if found else None


def check_same(plan: TrainingPlan, run: Run) -> None:
    """Refuse to go on with other images or another config than the run's; stages may grow."""
    stored = run.record
    if stored["images_hash"] != plan.scanned.manifest.hash:
        raise ConfigError(
            "the images, labels or splits are not those that the run began with",
            where=run.id,
            got=plan.scanned.manifest.hash[:16],
            expected=stored["images_hash"][:16],
            hint="put the data back as it was, or start a new run with --fresh",
        )
    if stored["request_hash"] == plan.identity:
        return
    was, now = _as_today(stored["config"]), stored_config(plan, None)
    differing = [key for key in _differences(was, now) if not _may_change(key, was, now)]
    if differing:
        raise ConfigError(
            "a resumed run keeps its config; only stages may grow, and the ranks be others",
            where=run.id,
            got=", ".join(differing),
            hint="start a new run with --fresh",
        )
    for name, key, before, length in _lengths(plan, stored):
        if length is None:
            raise ConfigError(
                "a stage keeps the unit of its length on resume",
                where=f"{run.id}, stage {name}",
                expected=f"a number of {key}, at least {before}",
            )
        if length < before:
            raise ConfigError(
                f"the number of {key} may grow on resume, not shrink",
                where=f"{run.id}, stage {name}",
                got=length,
                expected=f"at least {before}",
            )


def _as_today(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config with the defaults of keys that came after it."""
    return RunConfig.model_validate(config).record()


def _lengths(
    plan: TrainingPlan, record: dict[str, Any]
) -> Iterator[tuple[str, str, float, float | None]]:
    """(stage, unit, length in the run's record, length asked for in that unit) of each stage."""
    was = _as_today(record["config"])["stages"]
    for name, stage in plan.config.stages.items():
        key = next(key for key in LENGTHS if was[name][key] is not None)
        yield name, key, was[name][key], getattr(stage, key)


def grown_lengths(plan: TrainingPlan, record: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(unit, length in the run's record, length asked for now) of each lengthened stage."""
    return [
        (key, before, now)
        for _, key, before, now in _lengths(plan, record)
        if now is not None and now > before
    ]


def changed(plan: TrainingPlan, record: dict[str, Any]) -> bool:
    """Whether the config differs from the run's record in what may change."""
    return bool(_differences(_as_today(record["config"]), stored_config(plan, None)))


# Names and places: the images are compared by content, threads never change a result's meaning.
_NOT_COMPARED = ("tracking", "workers", "threads", "source", "source_args", "val", "test", "root")


# What only says how much memory a pass takes.
_MEMORY_KEYS = ("compute.grad_checkpointing", "compute.eval_batch_size")


def _may_change(key: str, was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a resumed run may have another value here: it is told when it does."""
    lists = any("," in config["compute"]["device"] for config in (was, now))
    length = key.startswith("stages.") and key.rpartition(".")[2] in LENGTHS
    memory = key.endswith(".grad_accum_steps") or key in _MEMORY_KEYS
    return length or memory or key == "compute.nproc" or (key == "compute.device" and lists)


def _differences(one: Any, other: Any, prefix: str = "") -> list[str]:
    """The dotted keys in which two configs differ, names and places of files left out."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if key not in _NOT_COMPARED]
        return [
            found
            for key in keys
            for found in _differences(one.get(key), other.get(key), f"{prefix}.{key}".lstrip("."))
        ]
    return [] if one == other else [prefix]


def project_of(plan: TrainingPlan) -> str:
    """The project's name: the config's, else the data's base name."""
    given = plan.config.tracking.project
    return plan.scanned.name if given is None else check_name(given, "--project")


def stored_config(plan: TrainingPlan, preprocess: Preprocess | None) -> dict[str, Any]:
    """The config with every automatic choice in it, so that it makes the same run again."""
    record = plan.config.record()
    data = record["data"]
    for key in ("source", "val", "test", "root"):
        if data[key] is not None and Path(data[key]).exists():
            data[key] = str(Path(data[key]).resolve())
    if preprocess is not None:
        data.update(
            image_size=[preprocess.height, preprocess.width],
            channels=preprocess.channels,
            interpolation=preprocess.interpolation,
            crop_pct=preprocess.crop_pct,
            mean=list(preprocess.mean),
            std=list(preprocess.std),
        )
    record["compute"]["threads"] = plan.threads
    if not plan.world.alone:
        record["compute"]["nproc"] = plan.world.ranks
    if "precision" in plan.choices:
        record["compute"]["precision"] = plan.choices["precision"]["value"]
    return record
