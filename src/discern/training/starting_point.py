"""The weights that a stage begins with: the stage before's, an earlier one's, or from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError, RunError
from discern.models.classifier import Classifier
from discern.models.weights import WeightsReport, fit_weights, read_weights
from discern.training.checkpoints import checkpoint_step, read_checkpoint
from discern.training.ledger import Entry
from discern.training.monitor import Monitor
from discern.training.session import Session

OF_A_STAGE = "stage:"


def earlier_stage(wish: str, before: list[str], *, where: str) -> str | None:
    """The earlier stage whose best weights `wish` means; None for `last` and for other places.

    `before`: the stages that train before this one, in order. Raises ConfigError for one that is
    not among them.
    """
    if wish in ("best", "last") and not before:
        raise ConfigError("no stage trains before this one", where=where, got=wish)
    if wish == "best":
        return before[-1]
    if not wish.startswith(OF_A_STAGE):
        return None
    name = wish.removeprefix(OF_A_STAGE)
    if name not in before:
        raise ConfigError(
            "this stage does not train before", where=where, got=wish,
            expected=", ".join(OF_A_STAGE + one for one in before) or "no stage trains before",
        )  # fmt: skip
    return name


def is_elsewhere(wish: str | None) -> bool:
    """True if the weights come from outside the run: another run, a checkpoint, a file."""
    return not (wish is None or wish in ("best", "last") or wish.startswith(OF_A_STAGE))


def load_best(
    model: Classifier, session: Session, monitor: Monitor, stage: str | None = None
) -> Entry:
    """Load the best weights, of one stage or all; each damaged checkpoint passed over is named.

    Those of the moving average where there is one. Raises RunError when none is left.
    """
    ranked = session.ledger.ranked(monitor, stage=stage)
    for entry in ranked:
        path = session.store.path(entry.step)
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except RunError as error:
            session.recorder.warn(
                f"the best checkpoint is passed over: {error.what} ({error.where})"
            )
            continue
        model.load_state_dict(checkpoint.tensors.get("ema", checkpoint.tensors["model"]))
        return entry
    if not ranked:
        raise RunError(
            "nothing was evaluated, so no model can be chosen",
            where=session.store.folder,
            expected="a trainer that calls evaluate() and save(), as docs/parts.md says",
        )
    raise RunError("no checkpoint is left to keep", where=session.store.folder)


def load_elsewhere(model: Classifier, path: Path) -> WeightsReport:
    """Load a checkpoint folder or a weights file; a head of other classes is left as it is.

    Raises RunError for a damaged checkpoint, ModelError for weights of another network.
    """
    if checkpoint_step(path) is None:
        tensors = read_weights(path)
    else:
        groups = read_checkpoint(path).tensors
        tensors = {
            name.removeprefix("network."): tensor
            for name, tensor in groups.get("ema", groups["model"]).items()
        }
    return fit_weights(model.network, tensors, source=str(path), head_names=model.inner_head_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """Where a stage's weights come from: the best ones of an earlier `stage`, or a `path`.

    With neither, the model stays as it is: as the stage before has left it.
    """

    stage: str | None = None
    path: Path | None = None

    def load(self, model: Classifier, session: Session) -> dict[str, Any]:
        """Load the weights, tell what was not used, and give what identifies them.

        Raises RunError or ModelError as `load_best` and `load_elsewhere`.
        """
        if self.path is not None:
            report = load_elsewhere(model, self.path)
            for line in not_used_lines(report):
                session.recorder.warn(line)
            return {"path": str(self.path), "loaded": report.loaded}
        if self.stage is not None:
            entry = load_best(model, session, session.ledger.monitors[self.stage], self.stage)
            return {"stage": entry.stage, "epoch": entry.epoch, "step": entry.step}
        return {"step": session.progress.step}


def not_used_lines(report: WeightsReport) -> list[str]:
    """What people should know of weights that did not fit: nothing if all were used."""
    lines = []
    if report.unexpected:
        lines.append(f"not used of {report.source}: {', '.join(report.unexpected)}")
    if report.missing:
        lines.append(f"not in {report.source}, left as it was: {', '.join(report.missing)}")
    return lines
