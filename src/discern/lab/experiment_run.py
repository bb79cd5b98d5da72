"""One experiment: what was planned, the run folder that it writes, and how it ends."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from discern.base.console import Console
from discern.base.errors import RunError
from discern.base.files import write_json, write_text
from discern.config.lazy import BaseConfigs, watch
from discern.config.lazy_record import FORMAT_VERSION, hyperparams_of, items_record, plain_values
from discern.config.yaml_text import dump_text
from discern.lab import monit, tracker
from discern.lab.project_file import Project
from discern.track.git_state import UNKNOWN, git_account, git_state
from discern.track.meter.system import meter_run
from discern.track.run import Run, RunWriter, create_run, open_run

CONFIGS_FILE: Final = "configs.json"
DIFF_FILE: Final = "source.diff"
SOURCE: Final = "source"
# Source files of a project beyond this are not copied: data lies among them.
_MOST_SOURCE_BYTES: Final = 10 << 20


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """What `create` was told. `records`: False on ranks beyond the first, and for evaluations."""

    uuid: str
    name: str
    python_file: Path | None
    comment: str
    tags: tuple[str, ...]
    writers: tuple[str, ...]
    screen: bool
    records: bool


class Experiment:
    """The experiment of this process; a context that ends its run as finished, failed, stopped.

    Without `with` the run ends with the process, by an error as failed, or with the next one.
    """

    def __init__(self, plan: ExperimentPlan, project: Project) -> None:
        self.plan = plan
        self.project = project
        self.console = Console(mute=not plan.screen)
        self.configs: BaseConfigs | Mapping[str, Any] | None = None
        self.models: dict[str, Any] = {}
        self.source: tuple[Run, int | None] | None = None
        self.start_step = 0
        self.writer: RunWriter | None = None
        self._error: BaseException | None = None
        self._hook = sys.excepthook

    def use(self, configs: BaseConfigs | Mapping[str, Any]) -> None:
        """Record these configs from now on."""
        self.configs = configs
        if isinstance(configs, BaseConfigs):
            watch(configs, self)

    def preparing(self, item: str) -> monit.Section:
        """A timed section around the computation of a config item."""
        return monit.section(f"Prepare {item}", is_silent=not self.plan.screen)

    def prepared(self, item: str) -> None:  # noqa: ARG002
        """Keep the record of the configs up to date."""
        self.write_configs()

    def load_from(self, run: str, checkpoint: int | None) -> None:
        """Begin with the models of another run. Raises RunError if there is none."""
        self.source = (open_run(run, self.project.runs_root), checkpoint)

    def saved(self) -> dict[str, Any]:
        """What checkpoints hold: the models, and the configs' item `optimizer` if it is in use."""
        found = dict(self.models)
        if found and isinstance(self.configs, BaseConfigs):
            optimizer = self.configs._lazy.values.get("optimizer")  # what is not used has no state
            if hasattr(optimizer, "state_dict"):
                found.setdefault("optimizer", optimizer)
        return found

    def begin(self) -> Self:
        """Make the run, load models, and send the tracker's figures to it. Raises DiscernError."""
        if self.plan.records:
            self._check_clean()
        if self.source is not None:
            self._load()
        if not self.plan.records:
            tracker.close_run()
            tracker.set_global_step(self.start_step)
            return self
        plan = self.plan
        root = self.project.runs_root
        try:
            self.writer = create_run(
                root,
                plan.name,
                name=plan.uuid,
                config_text=self._config_text(),
                record=self._record(),
            )
        except OSError as error:
            raise RunError(
                f"the run's folder cannot be made: {error}",
                where=root,
                hint="give a folder that you may write to: $DISCERN_RUNS, or experiments_path",
            ) from error
        try:
            self._copy_source(self.writer.path)
            self.write_configs()
            if self.project.system_meter:
                meter_run(self.writer)
            tracker.open_run(self.writer, plan.writers, self.start_step)
        except BaseException as error:
            self.writer.__exit__(type(error), error, error.__traceback__)
            raise
        self._hook, sys.excepthook = sys.excepthook, self._note_error
        atexit.register(self.end)
        self._announce()
        return self

    def end(self, error: BaseException | None = None) -> None:
        """End the run; a second call does nothing."""
        writer, self.writer = self.writer, None
        if writer is None:
            return
        atexit.unregister(self.end)
        if sys.excepthook == self._note_error:
            sys.excepthook = self._hook
        error = error or self._error
        try:
            tracker.save()  # what was added and not saved is not lost
            writer.update(metrics=dict(tracker.tracker.shown()), **self._chosen())
        finally:
            tracker.close_run()
            writer.__exit__(None if error is None else type(error), error, None)

    def write_configs(self) -> None:
        """Write `configs.json` anew: a record for each item."""
        if self.writer is not None and self.configs is not None:
            record = {"version": FORMAT_VERSION, "configs": items_record(self.configs)}
            write_json(self.writer.path / CONFIGS_FILE, record)

    def save_checkpoint(self) -> Path | None:
        """Save models and optimizers at the global step; gives the folder, None without a run."""
        models = self.saved()
        if self.writer is None or not models:
            return None
        from discern.lab.saved_models import save_models

        tracker_step = tracker.get_global_step()
        self.writer.flush(sync=True)
        return save_models(self.writer, tracker_step, models)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(error)

    def _note_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self._error = error
        self._hook(kind, error, trace)

    def _load(self) -> None:
        from discern.lab.saved_models import find_checkpoint, load_models

        run, wish = self.source or (None, None)
        if run is None:
            return
        checkpoint = find_checkpoint(run.path, wish, self.console.warn)
        models = self.saved()
        configs = self.configs
        saved = "optimizer" in checkpoint.state["parts"] and "optimizer" not in models
        if saved and isinstance(configs, BaseConfigs) and "optimizer" in configs._items:
            models["optimizer"] = configs.optimizer
        load_models(checkpoint, models, self.console.warn)
        self.start_step = checkpoint.step
        self.console.say(f"loaded step {checkpoint.step} of {run.id}")

    def _check_clean(self) -> None:
        if self.project.check_repo_dirty and git_state(Path.cwd())["dirty"]:
            raise RunError(
                "the repository has changes that are not committed",
                where=Path.cwd(),
                expected="a clean tree, as check_repo_dirty asks for",
                hint="commit, or set check_repo_dirty: false in .discern.yaml",
            )

    def _chosen(self) -> dict[str, Any]:
        """Fields of `run.json` that tell the configs as they are now."""
        records = [] if self.configs is None else items_record(self.configs)
        return {"config": plain_values(records), "hparams": hyperparams_of(records)}

    def _config_text(self) -> str:
        return dump_text(self._chosen()["config"]) if self.configs is not None else ""

    def _record(self) -> dict[str, Any]:
        plan = self.plan
        account = git_account(Path.cwd())
        source = None if self.source is None else self.source[0].id
        experiment = {
            "name": plan.name,
            "uuid": plan.uuid,
            "python_file": None if plan.python_file is None else str(plan.python_file),
            "comment": plan.comment,
            "notes": "",
            "tags": list(plan.tags),
            "writers": list(plan.writers),
            "commit_message": account["message"],
            "repo_remotes": account["remotes"],
            "start_step": self.start_step,
            "load_run": source,
        }
        return {"kind": "lab", "experiment": experiment, **self._chosen()}

    def _copy_source(self, folder: Path) -> None:
        """The script and the modules beside and below it that it has loaded; the whole diff."""
        write_text(folder / DIFF_FILE, git_account(Path.cwd())["diff"])
        script = self.plan.python_file
        if script is None or not script.is_file():
            return
        home, left = script.parent, _MOST_SOURCE_BYTES
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        files = {Path(name) for name in loaded if name and name.endswith(".py")} | {script}
        for file in sorted(files):
            installed = {"site-packages", "dist-packages"} & set(file.parts)
            if installed or not file.is_relative_to(home) or not file.is_file():
                continue
            left -= file.stat().st_size
            if left < 0:
                self.console.warn(f"{file.name} and what follows are not copied: over 10 MB")
                return
            write_text(folder / SOURCE / file.relative_to(home), file.read_text("utf-8", "replace"))

    def _announce(self) -> None:
        git = git_state(Path.cwd())
        mark = {True: "dirty", False: "clean", None: "no repository"}[git["dirty"]]
        commit = git["commit"] if git["commit"] == UNKNOWN else git["commit"][:10]
        self.console.say(f"{self.plan.name}: {self.plan.uuid}")
        self.console.say(f"  commit {commit} [{mark}]")
        for record in [] if self.configs is None else items_record(self.configs):
            if record["used"] or record["hyperparam"]:
                mark = " (hyper-parameter)" if record["hyperparam"] else ""
                value = " ".join(str(record["computed"] or record["value"]).split())
                self.console.say(f"  {record['name']} = {value:.60}{mark}")
