"""The plan of a training before it runs: epochs, time, memory, disk; and a budget that it fits.

An assembler. A budget shortens every stage's epochs by the same share; the choice is stored in the
run and reread on resume, so that the schedule is always that of the same total.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.compute.memory import in_words
from discern.compute.world import World
from discern.config.schema import RunConfig
from discern.models.catalogue import BuiltModel
from discern.training.material import Material
from discern.training.stages import Training, probe_precision
from discern.worker.plan import TrainingPlan
from discern.worker.stage_probe import StageNeed, probe_stages

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
# Share of a budget that is planned for: probes of a few steps miss slower moments, saving and
# reading; what is over is better unused than overdrawn.
_PLANNED_SHARE = 0.85
# Final scores, report and bundle beside the weights: pictures, tables, event files.
_REPORT_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class TimePlan:
    """What the stages need, as they are planned. `budget_s`: None without one."""

    needs: tuple[StageNeed, ...]
    weights_bytes: int
    budget_s: float | None = None

    @property
    def seconds(self) -> float:
        """Of all stages' training and evaluations."""
        return sum(need.seconds for need in self.needs)

    @property
    def disk_bytes(self) -> int:
        """Checkpoints kept at once at most, report and bundle."""
        kept = max(need.kept * need.checkpoint_bytes for need in self.needs)
        return kept + self.weights_bytes + _REPORT_BYTES

    def record(self) -> dict[str, Any]:
        """As JSON values: what `--dry-run --json` prints."""
        stages = [
            {
                "name": need.name,
                "epochs": need.epochs,
                "steps": need.steps,
                "seconds": round(need.seconds, 3),
                "memory_bytes": need.peak_bytes,
                "checkpoint_bytes": need.checkpoint_bytes,
                **({"rank_memory_bytes": list(need.rank_peaks)} if need.rank_peaks else {}),
            }
            for need in self.needs
        ]
        return {
            "run": None,
            "status": "planned",
            "stages": stages,
            "seconds": round(self.seconds, 3),
            "memory_bytes": max(need.peak_bytes for need in self.needs),
            "disk_bytes": self.disk_bytes,
            "budget_seconds": self.budget_s,
        }

    def lines(self) -> list[str]:
        """For people: a line a stage, and the sum."""
        told = [
            f"plan     {need.name}: {counted(need.epochs, 'epoch')}, "
            f"{counted(need.steps, 'step')}, {duration(need.seconds)}, "
            f"peak memory {_peaks(need)}"
            for need in self.needs
        ]
        budget = "" if self.budget_s is None else f" of a budget of {duration(self.budget_s)}"
        disk = f"disk {in_words(self.disk_bytes)} for checkpoints, report and model"
        return [*told, f"plan     in all {duration(self.seconds)}{budget}; {disk}"]


def _peaks(need: StageNeed) -> str:
    """The peak, or that of each rank."""
    if len(need.rank_peaks) < 2:
        return in_words(need.peak_bytes)
    each = (f"{in_words(peak)} on rank {rank}" for rank, peak in enumerate(need.rank_peaks))
    return ", ".join(each)


def of_all_ranks(world: World, needs: Sequence[StageNeed]) -> list[StageNeed]:
    """The same needs on every rank: of the slowest one in each, and every rank's peak."""
    if world.alone:
        return list(needs)
    own = [[need.step_s, need.evaluation_s, need.steps, need.peak_bytes] for need in needs]
    told = [json.loads(one) for one in world.gather(json.dumps(own).encode())]
    joined = []
    for place, need in enumerate(needs):
        steps_s, evaluations_s, steps, peaks = zip(*(one[place] for one in told), strict=True)
        joined.append(
            replace(
                need,
                step_s=max(steps_s),
                evaluation_s=max(evaluations_s),
                steps=min(steps),
                epochs=min(need.epochs, -(-min(steps) // need.batches)),
                peak_bytes=max(peaks),
                rank_peaks=tuple(peaks),
            )
        )
    return joined


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def budget_seconds(text: str) -> float:
    """Seconds of `90s`, `20m`, `1.5h`, or a bare number of seconds. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", text.strip())
    seconds = 0.0 if found is None else float(found[1]) * _UNITS[found[2] or ""]
    if seconds <= 0:
        raise ConfigError(
            "not a length of time", where="compute.budget", got=text, expected="90s, 20m or 1.5h"
        )
    return seconds


def fit_epochs(needs: Sequence[StageNeed], seconds: float) -> dict[str, int]:
    """Epochs of each stage, shortened by one share, so that all last at most `seconds`.

    No stage gets less than one epoch, or more than it has. Raises ConfigError if even one epoch of
    each takes longer.
    """
    fixed = sum(need.seconds for need in needs if not need.in_epochs)
    free = [need for need in needs if need.in_epochs]
    least = fixed + sum(need.epoch_s for need in free)
    if least > seconds:
        raise ConfigError(
            "the budget is too small for one epoch of each stage",
            where="compute.budget",
            got=f"{max(seconds, 0.0):.1f} s are left for training",
            expected=f"at least {least:.1f} s",
            hint="a smaller network, image size (--img-size) or --epoch-size takes less",
        )

    def fits(share: float) -> bool:
        taken = sum(_shortened(need, share) * need.epoch_s for need in free)
        return fixed + taken <= seconds

    low, high = (1.0, 1.0) if fits(1.0) else (0.0, 1.0)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return {need.name: _shortened(need, low) for need in free}


def _shortened(need: StageNeed, share: float) -> int:
    return max(1, int(need.epochs * share + 1e-4))


def plan_time(
    plan: TrainingPlan, parts: tuple[BuiltModel, Material, frozenset[str]], started: float
) -> tuple[TrainingPlan, TimePlan]:
    """Probe every stage; gives the plan with epochs that fit the budget, and what it needs.

    All ranks measure at once, in the steps that they share: the slowest one's time counts.
    `started`: the command's own start on the monotonic clock: what has passed counts. Raises
    ConfigError.
    """
    built, material, on_features = parts
    device, world = plan.device.torch_device, plan.world
    if "precision" not in plan.choices and world.leads:
        value, reason = probe_precision(plan.config, built.model, material, device)
        plan.choices["precision"] = {"value": value, "reason": reason}
    plan.choices.update(world.tell(plan.choices))
    training = Training(
        config=plan.config,
        model=built.model,
        material=material,
        device=device,
        precision=plan.choices["precision"]["value"],
        on_features=on_features,
        world=world,
    )
    needs = of_all_ranks(world, probe_stages(training))
    weights = sum(t.nbytes for t in built.model.state_dict().values())
    budget = plan.config.compute.budget
    if budget is None:
        return plan, TimePlan(tuple(needs), weights)
    seconds = budget_seconds(budget)
    left = world.tell(_PLANNED_SHARE * (seconds - (time.monotonic() - started)))
    epochs = fit_epochs(needs, left)
    plan.choices["budget"] = {"seconds": seconds, "epochs": epochs, "asked": _epochs(plan.config)}
    fitted = tuple(need.of_epochs(epochs.get(need.name, need.epochs)) for need in needs)
    return apply_budget(plan), TimePlan(fitted, weights, seconds)


def apply_budget(plan: TrainingPlan) -> TrainingPlan:
    """The plan with the epochs that a budget left, if one was fitted. See `fitted`."""
    chosen = plan.choices.get("budget")
    if chosen is None:
        return plan
    config = fitted(plan.config, chosen)
    return replace(plan, resolved=replace(plan.resolved, config=config))


def fitted(config: RunConfig, chosen: dict[str, Any]) -> RunConfig:
    """The config with the epochs of the stored choice `chosen`.

    Raises ConfigError when other epochs are asked for than those that were fitted to the budget.
    """
    asked = _epochs(config)
    if asked not in (chosen.get("asked", asked), {**asked, **chosen["epochs"]}):
        raise ConfigError(
            "a run that was fitted to a budget keeps its length",
            where="stages.*.epochs",
            got=asked,
            expected=chosen["asked"],
            hint="start a new run with --fresh, or from its weights: stages.*.start_from",
        )
    return shortened(config, chosen["epochs"])


def _epochs(config: RunConfig) -> dict[str, int]:
    """The epochs of each stage that has its length in epochs."""
    return {name: s.epochs for name, s in config.stages.items() if s.epochs is not None}


def shortened(config: RunConfig, epochs: dict[str, int]) -> RunConfig:
    """The config with other epochs; warm-up and gentle last epochs shrink with them."""
    stages = {}
    for name, stage in config.stages.items():
        if name not in epochs or stage.epochs is None:
            stages[name] = stage
            continue
        count = min(stage.epochs, epochs[name])
        share = count / stage.epochs
        changes = {
            "epochs": count,
            "warmup_epochs": stage.warmup_epochs * share,
            "close_aug": int(stage.close_aug * share),
        }
        stages[name] = stage.model_copy(update=changes)
    return config.model_copy(update={"stages": stages})
