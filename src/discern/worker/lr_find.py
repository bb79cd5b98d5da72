"""The verb `lr-find`: the first stage trained under a rising rate, and the rate that this tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.progress_bar import counting_bar
from discern.base.seeds import derive_seed
from discern.compute.device import seed_everything
from discern.config.request import Request
from discern.config.schema import StageConfig
from discern.models.classifier import train_mode
from discern.training.lr_finder import (
    FIRST_RATE,
    LAST_RATE,
    RULE,
    RateCurve,
    RateSweep,
    find_rate,
    sweep_steps,
)
from discern.training.stage_parts import peak_rate
from discern.training.stages import (
    Training,
    check_stages,
    plan_stage,
    probe_precision,
    stage_state,
)
from discern.training.validation import HeadFeeds
from discern.worker.plan import (
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
    plan_training,
)
from discern.workflows.lr_curve import write_curve

# A linear sweep from almost 0 spends its steps around its end: ten times the stage's own rate.
_LINEAR_TIMES = 10.0
FROM_STAGE = "stage"  # `--from stage`: the sweep begins at the stage's own rate
_ENDS = {
    "end": "all steps done",
    "diverged": "the loss diverged",
    "nonfinite": "the loss was not finite",
}


def lr_find_verb(request: Request, console: Console) -> int:
    """Sweep the rate, write curve and table, say which rate to take."""
    plan = plan_training(request, console)
    built = build_network(plan)
    material = make_material(plan, built, choose_preprocess(plan, built), flip=allow_flip(plan))
    check_stages(plan.config, built.model, material)
    device = plan.device.torch_device
    precision, reason = probe_precision(plan.config, built.model, material, device)
    training = Training(
        config=plan.config,
        model=built.model,
        material=material,
        device=device,
        precision=precision,
    )
    name, stage = next(iter(plan.config.training_stages.items()))
    console.say(f"model    {built.name}, stage {name}, {stage.optimizer.name}")
    console.say(f"compute  {plan.device}, {precision} ({reason})")
    # The very batches, draws and random states that this stage would begin with.
    seed_everything(derive_seed(plan.config.seed, "stage", 0))
    parts = plan_stage(training, name, stage, 0)
    feeds = HeadFeeds(feed=parts.val_feed, side_feed=parts.side_feed)
    with parts.feed, feeds, counting_bar(console, "raising the rate") as progress:
        sweep = asked_sweep(request.arguments, stage, parts.feed.batches)
        curve = find_rate(
            stage_state(training, stage, parts, 0, 0),
            parts.feed,
            parts.rules,
            base_rate=peak_rate(stage).lr,
            sweep=sweep,
            train_mode=lambda: train_mode(training.model),
            progress=progress,
        )
    _tell(curve, sweep, stage, name, Path(request.arguments["out"]), console)
    return 0


def asked_sweep(arguments: dict[str, Any], stage: StageConfig, batches: int) -> RateSweep:
    """The sweep that `--from`, `--to`, `--steps` and `--scale` ask for; None is their default."""
    first, last = arguments["first"], arguments["last"]
    steps, scale = arguments["steps"], arguments["scale"]
    if first is None:
        first = FIRST_RATE
    if last is None:
        last = _LINEAR_TIMES * peak_rate(stage).lr if scale == "linear" else LAST_RATE
    return RateSweep(
        first=peak_rate(stage).lr if first == FROM_STAGE else first,
        last=last,
        steps=sweep_steps(batches) if steps is None else steps,
        scale=scale,
    )


def _tell(
    curve: RateCurve,
    sweep: RateSweep,
    stage: StageConfig,
    name: str,
    out: Path,
    console: Console,
) -> None:
    picture, table = write_curve(curve, out)
    console.say(
        f"sweep    {len(curve.rates)} of {sweep.steps} steps, {curve.rates[0]:.2g} to "
        f"{curve.rates[-1]:.2g}: {_ENDS[curve.stopped]}"
    )
    rate = curve.suggestion
    if rate is None:
        console.warn("the loss falls at no rate, so there is none to suggest: look at the curve")
    else:
        others = ", ".join(
            f"{rule} {value:.2g}"
            for rule, value in curve.suggestions().items()
            if rule != RULE and value is not None
        )
        now = peak_rate(stage).lr
        console.result(f"suggest  --lr {rate:.2g} (now {now:g}); other rules: {others}")
    console.say(f"wrote    {picture}, {table}")
    console.emit(
        {
            **curve.record(),
            "stage": name,
            "stage_rate": peak_rate(stage).lr,
            "steps": sweep.steps,
            "curve": str(picture),
            "table": str(table),
        }
    )
