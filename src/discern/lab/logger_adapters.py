"""Figures of other libraries' loops, in a run folder: Lightning, Keras, or any function.

Each adapter makes a run at its first figure and ends it with the training. None of them loads the
library it is for.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from discern.track.plain_values import to_plain
from discern.track.run import RunWriter, create_run, runs_root
from discern.track.run_folder import FAILED, FINISHED, INTERRUPTED
from discern.track.tracker import Tracker
from discern.track.writers.names import open_outlet

__all__ = ["KerasCallback", "LightningLogger", "RunLogger", "log_function"]


class RunLogger:
    """A run of its own, for figures from anywhere: `log(step, {"loss": 0.25})`, then `finish()`.

    `project` and `name` as those of `discern train`; `root`: the folder of runs.
    """

    def __init__(
        self,
        project: str = "other",
        name: str | None = None,
        root: Path | str | None = None,
        writers: Iterable[str] = ("native",),
    ) -> None:
        self._project = project
        self._name = name
        self._root = runs_root(None if root is None else str(root))
        self._writers = tuple(writers)
        self._tracker = Tracker()
        self._run: RunWriter | None = None

    @property
    def run(self) -> RunWriter:
        """The run, made now if it is not there. Raises ConfigError, RunError."""
        if self._run is None:
            self._run = create_run(
                self._root, self._project, name=self._name, name_stem="run", exist_ok=True
            )
            self._tracker.write_to(open_outlet(self._run, self._writers))
        return self._run

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        """Store figures at `step`; what is no number is left out and said in the run's log."""
        run = self.run
        kept = {name: value for name, value in figures.items() if _is_number(value)}
        left_out = sorted(set(figures) - set(kept))
        if left_out:
            run.log(f"step {step}: no numbers, left out: {', '.join(left_out)}")
        self._tracker.save(step, kept)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Store the settings of the training in the run's record."""
        plain = {str(name): _plain(value) for name, value in values.items()}
        before = self.run.record.get("hparams") or {}
        self.run.update(hparams={**before, **plain})

    def finish(self, status: str = FINISHED, reason: str = "done") -> None:
        """End the run as finished, failed or interrupted; a second call does nothing."""
        if self._run is not None:
            self._run.finish(status, reason)


class LightningLogger:
    """`Trainer(logger=LightningLogger("my-project"))`: has what Lightning asks of a logger."""

    def __init__(self, project: str = "lightning", name: str | None = None, **options: Any) -> None:
        self._logger = RunLogger(project, name, **options)

    @property
    def name(self) -> str:
        """The project."""
        return self._logger.run.path.parent.name

    @property
    def version(self) -> str:
        """The run's name."""
        return self._logger.run.path.name

    @property
    def root_dir(self) -> str:
        """The project's folder."""
        return str(self._logger.run.path.parent)

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self._logger.run.path)

    @property
    def save_dir(self) -> str:
        """The folder of all runs."""
        return str(self._logger.run.path.parent.parent)

    @property
    def group_separator(self) -> str:
        """Between a stage's name and a metric's."""
        return "/"

    @property
    def experiment(self) -> RunWriter:
        """The run."""
        return self._logger.run

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Store figures."""
        self._logger.log(0 if step is None else step, metrics)

    def log_hyperparams(self, params: Any, *arguments: Any, **named: Any) -> None:  # noqa: ARG002
        """Store settings: a mapping or a namespace."""
        self._logger.settings(vars(params) if isinstance(params, Namespace) else params)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Nothing: the graph of a foreign model is not kept."""

    def save(self) -> None:
        """Bring all into the files."""
        self._logger.run.flush()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Nothing: Lightning's checkpoints stay where Lightning puts them."""

    def finalize(self, status: str) -> None:
        """End the run by Lightning's word for how it went."""
        words = {"success": FINISHED, "finished": FINISHED, "failed": FAILED}
        self._logger.finish(words.get(status, INTERRUPTED), f"Lightning: {status}")


class KerasCallback:
    """`model.fit(..., callbacks=[KerasCallback("my-project")])`: figures of each epoch.

    `every_batches`: those of batches too, each so many. Steps are batches since the beginning;
    epochs, from 1, where the loop tells no batches.
    """

    def __init__(
        self,
        project: str = "keras",
        name: str | None = None,
        every_batches: int = 0,
        **options: Any,
    ) -> None:
        self._logger = RunLogger(project, name, **options)
        self._every = every_batches
        self._batches = 0
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_params(self, params: dict[str, Any]) -> None:
        """Keras tells epochs, steps and the like: they are stored as settings."""
        self.params = params
        self._logger.settings(params or {})

    def set_model(self, model: Any) -> None:
        """Keras tells the model."""
        self.model = model

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Count, and store figures of the batch if asked."""
        self._batches += 1
        if self._every and not self._batches % self._every:
            figures = {f"batch/{name}": value for name, value in (logs or {}).items()}
            self._logger.log(self._batches, figures)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Store the figures of the epoch, and which it was."""
        step = self._batches or epoch + 1
        self._logger.log(step, {**(logs or {}), "epoch": epoch + 1})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """End the run."""
        self._logger.finish()

    def __getattr__(self, name: str) -> Any:
        """Keras calls many hooks; those that are not here do nothing."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(name)


def log_function(
    project: str = "other", name: str | None = None, **options: Any
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Two plain functions: `log(step, loss=0.25)`, also with a mapping, and `finish()`."""
    logger = RunLogger(project, name, **options)

    def log(step: int, figures: Mapping[str, Any] | None = None, **named: Any) -> None:
        logger.log(step, {**(figures or {}), **named})

    return log, logger.finish


def _nothing(*arguments: Any, **named: Any) -> None:
    """A hook that nothing is done at."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "shape", None) in ((), (1,))


def _plain(value: Any) -> Any:
    try:
        return to_plain(value)
    except TypeError:
        return str(value)
