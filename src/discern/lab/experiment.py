"""Experiments: a run folder around a training loop of your own.

    experiment.create(name="mnist", writers={"sqlite"})
    experiment.calculate_configs(conf, {"learning_rate": 0.1}, ["set_seed"])
    experiment.add_pytorch_models(dict(model=conf.model))
    with experiment.start():
        conf.run()

The run is one of Discern's own: `<runs>/<name>/<uuid>/`, which `discern runs` lists and shows.
"""

from __future__ import annotations

import inspect
import json
import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError, RunError
from discern.base.files import atomic_file
from discern.base.rank_environment import started_ranks
from discern.config.lazy import BaseConfigs, compute, override
from discern.config.lazy_record import flat, given_again
from discern.lab import tracker
from discern.lab.experiment_bundle import read_bundle, write_bundle
from discern.lab.experiment_run import CONFIGS_FILE, Experiment, ExperimentPlan
from discern.lab.project_file import Project, find_project
from discern.lab.started_run import given_comment, given_configs
from discern.track.run import Run, open_run
from discern.track.run_folder import check_name
from discern.track.writers.names import check_writers

_PACKAGE: Final = Path(__file__).resolve().parents[1]
# LabML's names of writers that are called otherwise here.
_OTHER_NAMES: Final = {"file": "jsonl", "web": "web_api"}
_current: list[Experiment] = []
_settings: dict[str, Any] = {}


def create(
    *,
    name: str | None = None,
    uuid: str | None = None,
    python_file: str | None = None,
    comment: str = "",
    writers: Iterable[str] = (),
    ignore_callers: Iterable[str] = (),
    tags: Iterable[str] | None = None,
    disable_screen: bool = False,
) -> Experiment:
    """Begin a new experiment; one that still runs ends here, as finished.

    `name`: the script's, without it; its folder has `-` for what a folder's name cannot hold.
    `tags`: the words of the name, without any. `writers`: sqlite, tensorboard, jsonl (or file),
    csv, wandb, mlflow, an address, besides the run's own log;
    `screen` is always on, unless `disable_screen`, and so is the project file's `web_api`.
    `ignore_callers`: files that are not taken for the script. The tracker's step begins at 0.
    Raises ConfigError for a `uuid` that cannot name a folder, and for a writer that is not there.
    """
    end()
    script = _script(python_file, {str(Path(file).resolve()) for file in ignore_callers})
    title = name or (script.stem if script is not None else "experiment")
    rank = _settings.pop("rank", None)
    project = find_project()
    plan = ExperimentPlan(
        uuid=check_name(uuid, "uuid") if uuid else generate_uuid(),
        name=title,
        python_file=script,
        comment=comment or given_comment(),
        tags=tuple(tags) if tags is not None else tuple(w for w in title.split("_") if w),
        writers=_writer_names(writers, project),
        screen=not disable_screen,
        records=not _settings.pop("evaluates", False)
        and (started_ranks()[0] if rank is None else rank) == 0,
    )
    made = Experiment(plan, project)
    for text in project.without_effect:
        made.console.warn(f"{project.files[-1].name}: {text}")
    for pattern, kind in project.indicators:
        tracker.tracker.declare(pattern, kind)
    _current[:] = [made]
    tracker.set_global_step(None)
    return made


def evaluate(**words: Any) -> Experiment:
    """As `create`, for an experiment that records nothing: no run folder, no checkpoints."""
    _settings["evaluates"] = True
    return create(**words)


def distributed(rank: int, world_size: int) -> None:
    """Say, before `create`, which of several processes this is: rank 0 alone records.

    Under torchrun this is known without being said. Raises ConfigError for an impossible rank.
    """
    if not 0 <= rank < world_size:
        raise ConfigError("there is no such rank", got=rank, expected=f"0 to {world_size - 1}")
    _settings["rank"] = rank


def calculate_configs(
    configs: BaseConfigs | dict[str, Any],
    configs_override: Mapping[Any, Any] | None = None,
    run_order: Iterable[str | Sequence[str]] | None = None,
) -> None:
    """Record `configs`, override items (which makes them hyper-parameters), compute some at once.

    `run_order`: names, or groups of names, that are computed now, in this order: the seed first.
    All else is computed when it is first used. A dictionary serves as configs, too.
    """
    experiment = _open("calculate_configs")
    if isinstance(configs, BaseConfigs):
        experiment.use(configs)
        override(configs, {**(configs_override or {}), **given_configs()})
        compute(configs, run_order or ())
        return
    values = {**flat(configs), **flat(configs_override or {}), **flat(given_configs())}
    experiment.use(values)


def configs(*given: Any, **words: Any) -> None:
    """As `calculate_configs`."""
    calculate_configs(*given, **words)


def add_pytorch_models(*models: Mapping[str, Any], **named: Any) -> None:
    """What checkpoints save and load: modules, optimizers, schedules: all that has a state.

    The configs' item `optimizer`, once used, is saved with them.
    """
    for name, model in [pair for group in models for pair in group.items()] + [*named.items()]:
        if not callable(getattr(model, "state_dict", None)):
            raise ConfigError(
                f"'{name}' has no state to save",
                got=type(model).__name__,
                expected="something with state_dict and load_state_dict",
            )
        _open("add_pytorch_models").models[name] = model


add_model_savers: Final = add_pytorch_models


def add_sklearn_models(models: Mapping[str, Any]) -> None:
    """Fitted scikit-learn models that are arrays and numbers, to be saved and loaded, too."""
    from discern.lab.saved_models import FittedState

    add_pytorch_models({name: FittedState(model) for name, model in models.items()})


def load(run_uuid: str, checkpoint: int | None = None) -> None:
    """Begin, at `start`, with the models of another run, and go on from its step.

    `checkpoint`: a step, else the nearest earlier one; -1 the last. Raises RunError.
    """
    _open("load").load_from(run_uuid, checkpoint)


def load_models(names: Iterable[str], run_uuid: str, checkpoint: int | None = None) -> list[str]:
    """Load only the models called `names`, now; the step stays. Gives the names loaded."""
    experiment = _open("load_models")
    from discern.lab import saved_models

    wanted = list(names)
    unknown = [name for name in wanted if name not in experiment.saved()]
    if unknown:
        raise ConfigError(
            f"there is no model '{unknown[0]}' in this experiment",
            got=unknown[0],
            expected=", ".join(experiment.saved()) or "models added by add_pytorch_models",
        )
    run = _run(run_uuid)
    found = saved_models.find_checkpoint(run.path, checkpoint, experiment.console.warn)
    models = {name: experiment.saved()[name] for name in wanted}
    return saved_models.load_models(found, models, experiment.console.warn)


def load_configs(run_uuid: str, *, is_only_hyperparam: bool = True) -> dict[str, Any]:
    """The overrides that give an earlier run's settings again, for `calculate_configs`.

    Its hyper-parameters, or with `is_only_hyperparam` off all that was set. Raises RunError.
    """
    path = _run(run_uuid).path / CONFIGS_FILE
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise RunError("the run has no record of its configs", where=path) from error
    return given_again(record["configs"], only_hyperparams=is_only_hyperparam)


def start(run_uuid: str | None = None, checkpoint: int | None = None) -> Experiment:
    """Make the run folder, load models if asked, and record from now on; use it with `with`.

    Leaving the block ends the run: finished, interrupted (Ctrl-C) or failed, with the message.
    Raises RunError where uncommitted changes are refused or the checkpoint is not there.
    """
    experiment = _open("start")
    if experiment.writer is not None:
        raise RunError("this experiment has started", where=experiment.plan.uuid)
    if run_uuid is not None:
        experiment.load_from(run_uuid, checkpoint)
    return experiment.begin()


def record(
    *,
    name: str | None = None,
    exp_conf: dict[str, Any] | BaseConfigs | None = None,
    **words: Any,
) -> Experiment:
    """`create`, `configs` and `start` in one."""
    create(name=name, **words)
    if exp_conf is not None:
        calculate_configs(exp_conf)
    return start()


def end() -> None:
    """End the run that is being recorded, as finished."""
    if _current:
        _current[0].end()


def save_checkpoint() -> Path | None:
    """Save the models and optimizers at the global step; None where nothing is recorded."""
    return _open("save_checkpoint").save_checkpoint()


def save_numpy(name: str, array: Any) -> Path | None:
    """Save an array as `numpy/NAME.npy` of the run; None where nothing is recorded."""
    import numpy as np

    writer = _open("save_numpy").writer
    if writer is None:
        return None
    path = writer.path / "numpy" / f"{check_name(name, 'save_numpy')}.npy"
    with atomic_file(path) as stream:
        np.save(stream, np.asarray(array), allow_pickle=False)
    return path


def save_bundle(
    path: str | Path, *, checkpoint: int | None = None, data_files: Iterable[str | Path] = ()
) -> Path:
    """Save the run's records, one checkpoint and data files as one `.tar.gz`. Raises RunError."""
    experiment = _open("save_bundle")
    if experiment.writer is None:
        raise RunError("nothing is recorded", where="experiment.save_bundle")
    from discern.lab.saved_models import find_checkpoint

    run = experiment.writer.run
    found = find_checkpoint(run.path, checkpoint, experiment.console.warn)
    return write_bundle(Path(path), run, found.step, [Path(file) for file in data_files])


def load_bundle(path: str | Path) -> None:
    """Begin, at `start`, with the checkpoint of a bundle; its run is unpacked among the runs."""
    folder, step = read_bundle(Path(path), find_project().runs_root)
    _open("load_bundle").load_from(str(folder), step)


def get_uuid() -> str:
    """The identity of this experiment: the name of its run folder."""
    return _open("get_uuid").plan.uuid


def generate_uuid() -> str:
    """A new identity: 32 hex digits."""
    return uuids.uuid1().hex


def get_run() -> Run | None:
    """The run that is being recorded, as readers see it."""
    writer = _open("get_run").writer
    return None if writer is None else writer.run


def _open(call: str) -> Experiment:
    if not _current:
        raise RunError(
            "there is no experiment",
            where=f"experiment.{call}",
            hint="call experiment.create(name=...) first",
        )
    return _current[0]


def _writer_names(given: Iterable[str], project: Project) -> tuple[str, ...]:
    """The writers asked for, under our names, and the project's server. Raises ConfigError."""
    names = {_OTHER_NAMES.get(name, name) for name in given} - {"native", "screen"}
    if "web_api" in names and project.web_api is None:
        raise ConfigError(
            "the writer 'web_api' needs the address of a server",
            where="experiment.create",
            hint="give web_api: http://host:port/path in .discern.yaml, or the address itself",
        )
    names -= {"web_api"}
    names |= {project.web_api} if project.web_api else set()
    check_writers(sorted(names), where="experiment.create")
    return ("native", *sorted(names))


def _run(text: str) -> Run:
    return open_run(text, find_project().runs_root)


def _script(given: str | None, ignored: set[str]) -> Path | None:
    """The file of the first caller outside of this package; None in a notebook."""
    if given is not None:
        return Path(given).absolute()
    frame = inspect.currentframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        whole = path.resolve()
        if path.is_file() and _PACKAGE not in whole.parents and str(whole) not in ignored:
            return path.absolute()
        frame = frame.f_back
    return None
