"""The verb `report`: score a finished run's model again, in full, and write its report anew."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from discern.base.console import Console
from discern.base.errors import RunError
from discern.config.request import Request
from discern.config.schema import DataConfig, RunConfig
from discern.data.scan import ScannedData
from discern.track.run import open_run, runs_root
from discern.worker.data_scan import (
    CHOOSE_ON_TEST,
    left_out_words,
    reported_apart,
    scan_as_trained,
)
from discern.worker.evaluation import evaluated, evaluation_warnings, tell_evaluation
from discern.worker.evaluation_parts import evaluation_parts
from discern.worker.open_model import OpenedModel
from discern.worker.report_content import (
    CHOSEN_ON_TEST,
    evaluation_content,
    run_commands,
    run_curves,
    run_environment,
    write_any_report,
)
from discern.worker.scored_data import with_model_classes


def report_verb(request: Request, console: Console) -> int:
    """Do one `report` request."""
    console.emit(report_request(request, console))
    return 0


def report_request(request: Request, console: Console) -> dict[str, Any]:
    """Write `report/` of the run; gives the object of `--json`.

    The images of the reported split, read and split as the run did, are scored by its model as its
    bundle is now. Raises RunError for a run that is not finished.
    """
    given = request.arguments
    run = open_run(given["run"], runs_root(given.get("runs")))
    if not run.record.get("metrics"):
        raise RunError("the run has no final scores", where=run.id, got=run.status,
                       hint="go on with it: the same `discern train` again")  # fmt: skip
    data = RunConfig.model_validate(run.record["config"]).data
    folder = run.path / "report"
    asked = Request(
        verb="eval",
        arguments={
            **given, "model": str(run.path), "split": "test",
            "data": reported_apart(data.val, data.test) or data.source, "out": str(folder),
        },
        pairs=[("run", "data.root", data.root)] * (data.root is not None) + list(request.pairs),
    )  # fmt: skip
    started = time.monotonic()
    done, metrics = evaluated(asked, console, partial(_scan_as_trained, data))
    seconds = time.monotonic() - started
    parts = evaluation_parts(done, console)
    opened = replace(done.scoring.opened, name=run.id)
    chosen = (CHOSEN_ON_TEST,) if data.val == CHOOSE_ON_TEST else ()
    warnings = (*chosen, *evaluation_warnings(asked, done))
    content = replace(
        evaluation_content(
            opened, done.material, done.tables, metrics,
            left_out=left_out_words(done.scanned.problems), warnings=warnings, parts=parts,
        ),
        curves=run_curves(run.read_all()),
        val_metrics=run.record.get("val_metrics"),
        config_text=run.config_text(),
        environment=run_environment(run.record),
        commands=run_commands(run.id),
    )  # fmt: skip
    write_any_report(folder, content)
    tell_evaluation(done.tables, metrics, parts, seconds, console)
    console.say(f"report   {folder}/index.html")
    return {
        "run": run.id, "status": run.status, "metrics": metrics, **parts,
        "val_metrics": run.record.get("val_metrics"), "model": str(run.path / "model"),
        "report": str(folder),
    }  # fmt: skip


def _scan_as_trained(
    data: DataConfig, request: Request, opened: OpenedModel, console: Console
) -> tuple[ScannedData, str]:
    """The images of the run's config, of all its sources, with the splits that it trained with."""
    del request  # the run's config names the images
    scanned = scan_as_trained(data, console)
    return with_model_classes(scanned, opened, console), "test"
