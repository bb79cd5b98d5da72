"""Tracked figures in MLflow, for those who have it: `pip install 'discern[mlflow]'`."""

from __future__ import annotations

import re
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.track.run_writer import RunWriter
from discern.track.tracked_records import Artifact, Point, Record

# MLflow takes at most 1000 figures a call, and these signs in a name.
_BATCH: Final = 1000
_OTHER_SIGNS: Final = re.compile(r"[^\w\-. :/]")


class MlflowWriter:
    """Logs to the MLflow run that is active, else to a new one of this run's project and name.

    Where it stores is MLflow's own affair (`MLFLOW_TRACKING_URI`). Raises ConfigError if the
    library is not there, else what it raises.
    """

    def __init__(self, run: RunWriter) -> None:
        try:
            import mlflow
            from mlflow.entities import Metric
        except ImportError as error:
            raise ConfigError(
                "the writer 'mlflow' needs a library that is not installed",
                where="writers",
                got=str(error),
                hint="pip install 'discern[mlflow]'",
            ) from error
        self._folder = run.path
        self._metric: Any = Metric
        self._client: Any = mlflow.MlflowClient()
        active = mlflow.active_run()
        self._own = active is None
        if active is None:
            project = run.path.parent.name
            known = self._client.get_experiment_by_name(project)
            number = known.experiment_id if known else self._client.create_experiment(project)
            active = self._client.create_run(number, run_name=run.path.name)
        self._id: str = active.info.run_id

    def write(self, records: list[Record]) -> None:
        """Figures in batches; the files of artifacts as they are."""
        metrics = [
            self._metric(_OTHER_SIGNS.sub("_", r.name), r.value, int(r.time * 1000), r.step)
            for r in records
            if isinstance(r, Point)
        ]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._id, metrics=metrics[start : start + _BATCH])
        for record in records:
            if isinstance(record, Artifact):
                place = record.file.rpartition("/")[0]
                self._client.log_artifact(self._id, str(self._folder / record.file), place)

    def rewind(self, step: int) -> None:
        """Nothing can be taken back there: a tag of where the run went on."""
        self._client.set_tag(self._id, "resumed from step", str(step))

    def flush(self) -> None:
        """Every write is stored."""

    def close(self) -> None:
        """End the MLflow run, if it was begun here."""
        if self._own:
            self._client.set_terminated(self._id)
