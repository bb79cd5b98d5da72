"""Tracked figures in Weights & Biases, for those who have it: `pip install 'discern[wandb]'`."""

from __future__ import annotations

from typing import Any

from discern.base.errors import ConfigError
from discern.track.run_writer import RunWriter
from discern.track.tracked_records import Artifact, Distribution, Point, Record


class WandbWriter:
    """Logs to the W&B run that is open, else to a new one with this run's project and name.

    Where it sends to is W&B's own affair (`WANDB_MODE`, `WANDB_API_KEY`). Raises ConfigError if the
    library is not there, else what it raises.
    """

    def __init__(self, run: RunWriter) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "the writer 'wandb' needs a library that is not installed",
                where="writers",
                got=str(error),
                hint="pip install 'discern[wandb]'",
            ) from error
        self._wandb: Any = wandb
        self._own = wandb.run is None
        self._run: Any = wandb.run or wandb.init(
            project=run.path.parent.name, name=run.path.name, dir=str(run.path)
        )
        # W&B drops what is logged at an earlier step than before; against an axis of its own not.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, records: list[Record]) -> None:
        """One call a step, with all figures of the step."""
        steps: dict[int, dict[str, Any]] = {}
        for record in records:
            values = steps.setdefault(record.step, {"step": record.step})
            if isinstance(record, Point):
                values[record.name] = record.value
            elif isinstance(record, Distribution):
                values[record.name] = self._wandb.Histogram(record.values)
            elif isinstance(record, Artifact) and record.kind == "text":
                values[record.name] = self._wandb.Html(f"<pre>{_escaped(record.content)}</pre>")
        for values in steps.values():
            if len(values) > 1:
                self._run.log(values)

    def rewind(self, step: int) -> None:
        """Nothing can be taken back there: a mark of where the run went on."""
        self._run.log({"step": step, "resumed": step})

    def flush(self) -> None:
        """W&B sends when it likes."""

    def close(self) -> None:
        """End the W&B run, if it was begun here."""
        if self._own:
            self._run.finish()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
