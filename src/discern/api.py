"""The Python API: the verbs of the command line as functions, run in this process.

Config goes by the flags' names (`epochs=5`), by sections (`data={"channels": 1}`), or by files
(`config="my.yaml"`). Every failure is a DiscernError that tells what, where, got and expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discern.base.console import Console
from discern.base.errors import ConfigError, RunError
from discern.base.names import did_you_mean
from discern.cli.flags import flags_of
from discern.config.request import Request
from discern.track.run import open_run, runs_root

if TYPE_CHECKING:
    from discern.data.feature_files import FeatureTable
    from discern.data.scan import ScannedData
    from discern.exporting.predictor import Predictions, Predictor
    from discern.track.metrics_read import Series
    from discern.workflows.explanation import Explanation

PathLike = str | Path
_SECTIONS = ("data", "model", "stages", "defaults", "compute", "tracking")
_QUIET = Console(quiet=True)


class TrainedRun:
    """A run and what it left: scores, curves, the model bundle, the report."""

    def __init__(self, path: PathLike) -> None:
        self._run = open_run(str(path), Path(path).parent)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._run.path

    @property
    def id(self) -> str:
        """PROJECT/NAME."""
        return self._run.id

    @property
    def status(self) -> str:
        """running, finished, interrupted, failed or lost."""
        return open_run(str(self.path), self.path.parent).status

    def metrics(self) -> dict[str, Any]:
        """The final scores on the reported split, as fractions. Raises RunError before the end."""
        scores = self._run.record.get("metrics")
        if not scores:
            raise RunError("the run has no final scores", where=self.id, got=self.status)
        return dict(scores)

    @property
    def best(self) -> dict[str, Any]:
        """The kept checkpoint: its step and its scores on the images that it was chosen by."""
        best = self._run.record.get("best")
        if not best:
            raise RunError("the run has kept no checkpoint yet", where=self.id, got=self.status)
        return dict(best)

    def curves(self) -> dict[str, Series]:
        """Every recorded series by name."""
        from discern.track.metrics_read import read_all

        return read_all(self.path)

    def model(self) -> Predictor:
        """The kept model, ready to predict."""
        return load(self.path / "model")

    def __repr__(self) -> str:
        return f"TrainedRun({self.id!r}, {self.status})"


def train(
    data: PathLike,
    /,
    *,
    val: PathLike | None = None,
    test: PathLike | None = None,
    model: str | None = None,
    config: PathLike | Iterable[PathLike] | None = None,
    runs: PathLike | None = None,
    resume: str | None = None,
    fresh: bool = False,
    console: Console = _QUIET,
    **settings: Any,
) -> TrainedRun:
    """Train a classifier on `data`; an unfinished run of the same request is gone on with.

    `settings` are flags by name (`epochs=5`, `lr=0.1`) or config sections. Raises DiscernError.
    """
    from discern.launch.ranks import ranks_of, start_ranks
    from discern.worker.train import train as do_train

    given = {"val": val, "test": test, "model": model, **settings}
    files = [config] if isinstance(config, (str, Path)) else list(config or [])
    request = Request(
        verb="train",
        arguments={
            "runs": None if runs is None else str(runs),
            "resume": resume,
            "fresh": fresh,
            "exist_ok": False,
        },
        files=[str(name) for name in files],
        pairs=[("data", "data.source", str(data)), *setting_pairs(given, "train")],
        quiet=console.quiet,
        debug=console.debug,
    )
    ranks = ranks_of(request)
    done = start_ranks(request, ranks).result() if ranks > 1 else do_train(request, console)
    if done is None:
        raise RunError(
            "discern.train itself is one of several ranks here",
            where="discern.train",
            hint="call it in one process with nproc=N: it starts the ranks",
        )
    return TrainedRun(done["path"])


def kfold(
    data: PathLike,
    /,
    *,
    folds: int | None = None,
    bundle: str | None = None,
    model: str | None = None,
    config: PathLike | Iterable[PathLike] | None = None,
    runs: PathLike | None = None,
    fresh: bool = False,
    console: Console = _QUIET,
    **settings: Any,
) -> dict[str, Any]:
    """Train a model for each fold, scored on the fold left out; gives what `--json` prints.

    `folds`: how many, default 5 or those of the data's fold column. `bundle`: `ensemble` or `soup`
    joins all models into one. `settings` as for `train`. The runs are child processes; an
    unfinished cross-validation of the same request is gone on with. Raises DiscernError.
    """
    from discern.worker.kfold import kfold as do_kfold

    if bundle not in (None, "ensemble", "soup"):
        raise ConfigError("no such bundle", where="bundle", got=bundle, expected="ensemble, soup")
    files = [config] if isinstance(config, (str, Path)) else list(config or [])
    pairs = [
        ("data", "data.source", str(data)),
        *setting_pairs({"model": model, **settings}, "kfold"),
    ]
    if folds is not None:
        pairs.append(("folds", "data.folds", folds))
    request = Request(
        verb="kfold",
        arguments={"runs": None if runs is None else str(runs), "fresh": fresh, "bundle": bundle},
        files=[str(name) for name in files],
        pairs=pairs,
        quiet=True,
    )
    return do_kfold(request, console)


def autolabel(
    data_raw: PathLike,
    data_clean: PathLike,
    /,
    *,
    n_trials: int = 10,
    threshold: float = 0.95,
    precision_target: float = 0.9,
    mode: str = "copy",
    audit: int = 20,
    folds: int = 5,
    cross_validate: bool | None = None,
    model: str | None = None,
    config: PathLike | Iterable[PathLike] | None = None,
    runs: PathLike | None = None,
    fresh: bool = False,
    console: Console = _QUIET,
    **settings: Any,
) -> dict[str, Any]:
    """Label the images of `data_raw` by rounds of training on `data_clean`, which grows.

    `threshold`: least calibrated probability of a label; `precision_target`: the share of labels
    that must be right, else it stops; `mode`: copy, link or manifest. `settings` as for `train`.
    Gives what `discern autolabel --json` prints. The runs are child processes; the same call again
    goes on with what was not finished. Raises DiscernError.
    """
    from discern.launch.labeling import label_arguments
    from discern.worker.autolabel import autolabel as do_autolabel

    files = [config] if isinstance(config, (str, Path)) else list(config or [])
    request = Request(
        verb="autolabel",
        arguments=label_arguments(
            data_raw=str(data_raw), data_clean=str(data_clean),
            runs=None if runs is None else str(runs), n_trials=n_trials, threshold=threshold,
            precision_target=precision_target, mode=mode, audit=audit, folds=folds,
            cross_validate=cross_validate, fresh=fresh,
        ),
        files=[str(name) for name in files],
        pairs=[
            ("data_clean", "data.source", str(data_clean)),
            *setting_pairs({"model": model, **settings}, "autolabel"),
        ],
        quiet=True,
    )  # fmt: skip
    return do_autolabel(request, console)


def setting_pairs(settings: Mapping[str, Any], command: str) -> list[tuple[str, str, Any]]:
    flags = {flag.parameter: flag for flag in flags_of(command)}
    pairs: list[tuple[str, str, Any]] = []
    for name, value in settings.items():
        if value is None:
            continue
        plain = str(value) if isinstance(value, Path) else value
        if name in flags:
            pairs.append((name, flags[name].key, plain))
        elif name in _SECTIONS:
            pairs.append((name, name, plain))
        else:
            known = [*flags, *_SECTIONS]
            raise ConfigError(
                f"unknown setting '{name}'",
                where="discern." + command,
                hint=did_you_mean(name, known),
            )
    return pairs


def load(model: PathLike | TrainedRun, *, device: str = "auto") -> Predictor:
    """A classifier from a run, a bundle or a checkpoint. Raises ModelError."""
    from discern.worker.open_model import OpenRequest, open_model

    path = model.path if isinstance(model, TrainedRun) else model
    return open_model(OpenRequest(model=str(path), device=device)).predictor()


def explain(
    model: TrainedRun | PathLike,
    /,
    images: Any,
    *,
    class_name: str | None = None,
    head: str | None = None,
    layer: str | None = None,
    device: str = "auto",
) -> list[Explanation]:
    """Where on `images` (as `predict` takes them) a class was seen, by default the likeliest.

    Each has `map` float32 [h, w], `overlay()` uint8 [H, W, 3], `class_name` and `probability`.
    Raises DiscernError as `discern.workflows.explanation.explain_images` does.
    """
    from discern.workflows.explanation import explain_images

    found = explain_images(
        load(model, device=device), images, class_name=class_name, head=head, layer=layer
    )
    return list(found)


def predict(
    model: PathLike | TrainedRun, images: Any, *, top_k: int = 5, device: str = "auto"
) -> Predictions:
    """Name what is on `images`: paths, bytes, arrays, or a folder."""
    return load(model, device=device).predict(images, top_k=top_k)


def embed(
    model: PathLike | TrainedRun,
    data: PathLike,
    *,
    layer: str | None = None,
    split: str | None = None,
    device: str = "auto",
    weights: PathLike | None = None,
) -> FeatureTable:
    """Features float32 [N, D] of the images of `data`, a row each, in the order of its table.

    `layer`: the module whose output they are; None: what the head reads. `weights`: of a network
    that `model` names. Raises DiscernError.
    """
    from discern.worker.embedding import embed as do_embed
    from discern.worker.open_model import OpenRequest, open_model

    path = str(model.path if isinstance(model, TrainedRun) else model)
    named = None if weights is None else str(weights)
    opened = open_model(OpenRequest(model=path, device=device, weights=named))
    return do_embed(opened, str(data), layer=layer, split=split)


def review(
    data: PathLike,
    *,
    model: PathLike | TrainedRun | None = None,
    features: PathLike | None = None,
    kfold: PathLike | None = None,
    out: PathLike = "review",
    split: str | None = None,
    head: str | None = None,
    threshold: float = 0.0,
    suspects: str = "own",
    curve: bool = False,
    folds: int = 5,
    seed: int = 0,
    runs: PathLike | None = None,
    console: Console = _QUIET,
    **settings: Any,
) -> dict[str, Any]:
    """Find labels of `data` that are probably wrong; the queue and its page go to `out`.

    Evidence: a `model`'s features, those of a file (`features`), the folds of a `kfold`, else edges
    and colors. `threshold`: least score, 0 to 1. `settings` by the flags of `discern review`
    (`weights=...`, `overlay=...`). Gives what `discern review --json` prints. Raises DiscernError.
    """
    from discern.launch.reviewing import review_arguments
    from discern.worker.review import review_request

    path = model.path if isinstance(model, TrainedRun) else model
    named = {"model": path, "features": features, "kfold": kfold, "runs": runs}
    request = Request(
        verb="review",
        arguments=review_arguments(
            data=str(data), out=str(out), classes=None, split=split, head=head,
            threshold=threshold, suspects=suspects, curve=curve, folds=folds, seed=seed,
            batch_size=64,
            **{name: None if value is None else str(value) for name, value in named.items()},
        ),
        pairs=setting_pairs(settings, "review"),
        quiet=True,
    )  # fmt: skip
    return review_request(request, console)


def decide(
    review: PathLike,
    *,
    accept: Iterable[str | int] = (),
    relabel: Mapping[str, str] | None = None,
    drop: Iterable[str | int] = (),
    keep: Iterable[str | int] = (),
    table: PathLike | None = None,
    new_classes: bool = False,
    note: str = "",
) -> Path:
    """Decide on images of the folder `review`; gives the file of the newest version, an overlay.

    Images by rank, id or path; `relabel`: image to class; `table`: an edited queue. The file is for
    `overlay` of `train`. Raises DiscernError; then nothing is decided.
    """
    from discern.data.deciding import Words
    from discern.data.deciding import decide as decide_on
    from discern.data.label_decisions import DecisionHistory
    from discern.data.review_queue import read_review

    words = Words(
        accept=[str(one) for one in accept], drop=[str(one) for one in drop],
        keep=[str(one) for one in keep], table=table, new_classes=new_classes, note=note,
        relabel=[f"{image}={name}" for image, name in (relabel or {}).items()],
    )  # fmt: skip
    _, after = decide_on(read_review(str(review)), words)
    return DecisionHistory.of(str(review)).path(after.number)


def scan(data: PathLike, **settings: Any) -> ScannedData:
    """Look at the images of `data`: classes, splits, sizes, problems."""
    from discern.data.scan import DataRequest, scan_data

    return scan_data(DataRequest(train=str(data), **settings))


def runs_folder() -> Path:
    """Where runs are kept: $DISCERN_RUNS, else ./runs."""
    return runs_root(None)
