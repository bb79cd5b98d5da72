"""The soup of a run: the mean of its last stage's best checkpoints, if that scores higher."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from discern.base.errors import RunError
from discern.base.names import counted
from discern.training.checkpoints import read_checkpoint
from discern.training.ledger import Entry
from discern.training.monitor import Monitor
from discern.training.soup import Score, State, greedy_soup
from discern.training.stages import Training
from discern.training.trainer import Session


def keep_soup(
    training: Training,
    session: Session,
    best: Entry,
    count: int,
    monitor: Monitor,
    evaluate: Callable[[], Mapping[str, float]],
) -> dict[str, Any]:
    """Load the soup of the stage's `count` best checkpoints if it beats the `best` one alone.

    The model must hold the best one's weights. `evaluate` gives the figures of the model's weights
    of the moment on the images that it is chosen by, that of `monitor` among them. Gives the
    choice's record: `kept`, `steps` of the checkpoints in it, and both sides' figures.
    """
    states, steps = _candidates(training, session, best, count, monitor)
    figures: list[Mapping[str, float]] = []
    training.world.tell(len(states))

    def score(state: State) -> Score:
        training.model.load_state_dict(state)
        training.world.spread_(list(training.model.state_dict().values()))
        figures.append(evaluate())
        return _rank(figures[-1], monitor)

    soup = greedy_soup(states, score)
    known = monitor.name in figures[0]
    if not known:
        session.recorder.warn(f"no soup: '{monitor.name}' is not computed for one")
    kept = soup.better and known
    training.model.load_state_dict(soup.state if kept else states[0])
    reached = next(f for f in reversed(figures) if _rank(f, monitor) == soup.score)
    return {
        "asked": count,
        "tried": steps,
        "kept": kept,
        "steps": [steps[member] for member in soup.members],
        "monitor": monitor.name,
        "figures": plain_figures(reached),
        "best_alone": plain_figures(figures[0]),
    }


def follow_soup(training: Training, evaluate: Callable[[], Mapping[str, float]]) -> None:
    """What the other ranks do beside `keep_soup`: score their part of the images each time."""
    for _ in range(int(training.world.tell(None))):
        training.world.spread_(list(training.model.state_dict().values()))
        evaluate()


def plain_figures(figures: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON values: None for what is not a number."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _rank(figures: Mapping[str, float], monitor: Monitor) -> Score:
    """The order in which checkpoints are kept: the monitor's figure, then the loss."""
    loss = figures["loss"] if math.isfinite(figures["loss"]) else math.inf
    return monitor.merit(figures.get(monitor.name, math.nan)), -loss, figures["accuracy"]


def _candidates(
    training: Training, session: Session, best: Entry, count: int, monitor: Monitor
) -> tuple[list[State], list[int]]:
    """(weights, steps) of the best checkpoint and the next ones of its stage that there are."""
    states = [
        {
            name: tensor.detach().cpu().clone()
            for name, tensor in training.model.state_dict().items()
        }
    ]
    steps = [best.step]
    for entry in session.ledger.ranked(monitor):
        path = session.store.path(entry.step)
        if len(steps) == count:
            break
        if entry.step in steps or entry.stage != best.stage or not path.exists():
            continue
        try:
            tensors = read_checkpoint(path).tensors
        except RunError as error:
            session.recorder.warn(f"left out of the soup: {error.what} ({error.where})")
            continue
        states.append(tensors.get("ema", tensors["model"]))
        steps.append(entry.step)
    return states, steps


def soup_line(record: Mapping[str, Any]) -> str:
    """What the terminal shows of the choice."""
    name = record["monitor"]
    reached, alone = (
        "none" if value is None else f"{value:.4f}"
        for value in (record["figures"].get(name), record["best_alone"].get(name))
    )
    told = f"{name} {reached} against {alone} of the best alone"
    steps = ", ".join(map(str, record["steps"]))
    if record["kept"]:
        return f"soup     kept: the mean of steps {steps} scores {told}"
    tried = counted(len(record["tried"]), "checkpoint")
    return f"soup     not kept: of {tried} no mean scores higher ({told})"
