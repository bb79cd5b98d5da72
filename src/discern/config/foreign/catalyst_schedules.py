"""Catalyst's scheduler_params as schedules here: the same rate in every epoch.

torch's schedulers step once an epoch; those without an equal here are written out as multiples.
"""

from __future__ import annotations

import math
from typing import Any, Final

from discern.config.foreign.reading import Part


def read_schedule(part: Part, stage: str, epochs: int, lr: float) -> None:
    """The schedule of a stage of `epochs` epochs and the optimizer's rate `lr`."""
    key = f"stages.{stage}.schedule"
    name = part.value.get("scheduler")
    if name is None:
        part.reading.put(key, "constant", part.source("scheduler"), None, "no scheduler")
        part.close()
        return
    given: dict[str, Any] = dict(part.value)
    write = _WRITERS.get(name)
    if write is None:
        part.refuse("scheduler", "no schedule here has its form")
    elif name == "OneCycleLRWithWarmup":
        _read_one_cycle(part, stage)
    else:
        schedule = write(given, epochs, lr)
        if schedule is None:
            part.refuse("scheduler", "an argument that it needs is not given")
        else:
            part.put("scheduler", key, schedule)
            for used in _USED[name]:
                part.join(used, f"{key}")
    if name != "OneCycleLRWithWarmup" and part.value.get("last_epoch", -1) == -1:
        part.leave("last_epoch", "from the start")
    part.leave("verbose", "the rate is always shown")
    part.close()


def _multistep(given: dict[str, Any], epochs: int, lr: float) -> dict[str, Any] | None:  # noqa: ARG001
    if not _numbers(given.get("milestones")):
        return None
    return _spec("multistep", milestones=given["milestones"], gamma=given.get("gamma", 0.1))


def _step(given: dict[str, Any], epochs: int, lr: float) -> dict[str, Any] | None:  # noqa: ARG001
    if not _numbers([given.get("step_size")]):
        return None
    return _spec("step", every=given["step_size"], gamma=given.get("gamma", 0.1))


def _exponential(given: dict[str, Any], epochs: int, lr: float) -> dict[str, Any] | None:  # noqa: ARG001
    if not _numbers([given.get("gamma")]):
        return None
    return _spec("step", every=1, gamma=given["gamma"])  # once an epoch, as torch steps


def _cosine(given: dict[str, Any], epochs: int, lr: float) -> dict[str, Any] | None:
    """eta_min + (lr - eta_min) (1 + cos(pi epoch / T_max)) / 2, epoch by epoch."""
    if not _numbers([given.get("T_max"), given.get("eta_min", 0.0), epochs]) or not given["T_max"]:
        return None
    final = given.get("eta_min", 0.0) / lr
    return _spec(
        "per_epoch",
        factors=[
            round(final + (1 - final) * (1 + math.cos(math.pi * epoch / given["T_max"])) / 2, 12)
            for epoch in range(epochs)
        ],
    )


def _read_one_cycle(part: Part, stage: str) -> None:
    """Catalyst's own: up to lr_range[0], down to lr_range[1], then on to lr_range[2] if given."""
    rates, steps = part.value.get("lr_range"), part.number("num_steps", 0.0)
    known = isinstance(rates, list) and all(isinstance(rate, int | float) for rate in rates)
    if not isinstance(rates, list) or not known or not 2 <= len(rates) <= 3 or not steps:
        part.refuse("scheduler", "lr_range of two or three rates, and num_steps, are needed")
        return
    peak = float(rates[0])
    shares = {}
    for ours, name in (("rise", "warmup"), ("fall", "decay")):
        usual = part.number(f"{name}_steps", 0.0) / steps
        shares[ours] = part.number(f"{name}_fraction", usual)
    arguments = {"rise": shares["rise"], "low": rates[1] / peak, "fall": shares["fall"]}
    arguments["begin"] = part.number("init_lr", 0.0 if shares["rise"] else peak) / peak
    if len(rates) == 3:
        arguments["final"] = rates[2] / peak
    part.put("scheduler", f"stages.{stage}.schedule", _spec("one_cycle_warmup", **arguments))
    part.put("lr_range", f"stages.{stage}.lr", peak, "its first rate is the peak")
    part.leave("num_steps", "the stage's own length")
    for name in ("init_lr", "warmup_steps", "warmup_fraction", "decay_steps", "decay_fraction"):
        part.join(name, f"stages.{stage}.schedule")
    part.refuse("momentum_range", "momentum stays as the optimizer has it")


def _numbers(values: Any) -> bool:
    """Whether these are numbers, and some."""
    if not isinstance(values, list) or not values:
        return False
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _spec(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments}


_WRITERS: Final[dict[str, Any]] = {
    "MultiStepLR": _multistep,
    "StepLR": _step,
    "ExponentialLR": _exponential,
    "CosineAnnealingLR": _cosine,
    "OneCycleLRWithWarmup": _read_one_cycle,
}
_USED: Final = {
    "MultiStepLR": ("milestones", "gamma"),
    "StepLR": ("step_size", "gamma"),
    "ExponentialLR": ("gamma",),
    "CosineAnnealingLR": ("T_max", "eta_min"),
}
