"""The verb `report`: score a finished run's model again, in full, and write its report anew."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from discern.base.console import Console
from discern.base.errors import ConfigError, RunError
from discern.config.request import Request
from discern.track.run import open_run, runs_root
from discern.worker.evaluation import evaluated, tell_evaluation
from discern.worker.evaluation_parts import evaluation_parts
from discern.worker.report_content import evaluation_content, run_curves, write_any_report
from discern.workflows.report import ReportContent


def report_verb(request: Request, console: Console) -> int:
    """Do one `report` request."""
    console.emit(report_request(request, console))
    return 0


def report_request(request: Request, console: Console) -> dict[str, Any]:
    """Write `report/` of the run; gives the object of `--json`.

    The images of the reported split are scored by the run's model as its bundle is now. Raises
    RunError for a run that is not finished, ConfigError for one whose splits are of several
    sources.
    """
    given = request.arguments
    run = open_run(given["run"], runs_root(given.get("runs")))
    if not run.record.get("metrics"):
        raise RunError("the run has no final scores", where=run.id, got=run.status,
                       hint="go on with it: the same `discern train` again")  # fmt: skip
    data = run.record["config"]["data"]
    if data.get("val") or data.get("test"):
        raise ConfigError(
            "the run's splits are of several sources", where=run.id,
            hint="discern eval RUN DATA --out DIR reports on one of them",
        )  # fmt: skip
    folder = run.path / "report"
    asked = Request(
        verb="eval",
        arguments={
            **given, "model": str(run.path), "data": data["source"], "split": "test",
            "out": str(folder),
        },
        pairs=[("run", f"data.{key}", data[key]) for key in ("root",) if data.get(key)]
        + list(request.pairs),
    )  # fmt: skip
    started = time.monotonic()
    done, metrics = evaluated(asked, console)
    seconds = time.monotonic() - started
    parts = evaluation_parts(done, console)
    opened = replace(done.scoring.opened, name=run.id)
    content = evaluation_content(opened, done.material, done.tables, metrics, parts=parts)
    curves = run_curves(run.read_all())
    if isinstance(content, ReportContent):
        content = replace(
            content,
            curves=curves,
            val_metrics=run.record.get("val_metrics"),
            config_text=run.config_text(),
        )
    write_any_report(folder, content)
    tell_evaluation(done.tables, metrics, parts, seconds, console)
    console.say(f"report   {folder}/index.html")
    return {
        "run": run.id, "status": run.status, "metrics": metrics, **parts,
        "val_metrics": run.record.get("val_metrics"), "model": str(run.path / "model"),
        "report": str(folder),
    }  # fmt: skip
