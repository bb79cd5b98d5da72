"""One model out of all folds' models: an ensemble, or the mean of their weights.

Neither has an honest score: each image was learned from by all members but one. So the bundle says
that it is unscored; its accuracy on these images is kept as `seen_accuracy`, which tells whether it
works at all, and no more.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.plugins import is_import_path
from discern.compute.device import choose_device, usable_cores
from discern.config.schema import RunConfig
from discern.data.images import Preprocess
from discern.data.manifest import SPLITS
from discern.data.scan import ScannedData
from discern.data.sources import open_source
from discern.exporting.bundle import Bundle, open_bundle, save_bundle
from discern.exporting.content import BundleContent
from discern.models.classifier import Classifier, Route
from discern.models.ensemble import ENSEMBLE, Ensemble
from discern.track.run import Run
from discern.track.run_group import GroupWriter
from discern.training.evaluate import evaluate
from discern.training.material import FeedSettings, Material
from discern.training.scores import score_record
from discern.training.soup import mean_state
from discern.worker.finish import golden_images

UNSCORED = (
    "Unscored: each image of its data was learned from by some of the models that it is made of. "
    "The out-of-fold figures are those of the single models."
)


def bundle_folds(
    kind: str,
    config: RunConfig,
    scanned: ScannedData,
    runs: Mapping[int, Run],
    writer: GroupWriter,
    console: Console,
) -> str:
    """Write `model/` of the group: `kind` is ensemble or soup; gives its path.

    Raises ConfigError for networks that cannot be joined.
    """
    bundles = [_open(run) for run in runs.values()]
    _check_alike(bundles)
    joined = _ensemble(bundles) if kind == ENSEMBLE else _soup(bundles)
    model, preprocess, architecture, arguments = joined
    material = _material(config, scanned, preprocess)
    seen = _accuracy(config, material, model)
    path = writer.path / "model"
    first = next(iter(runs.values()))
    save_bundle(
        path,
        BundleContent(
            model=model,
            architecture=architecture,
            arguments=arguments,
            changes={} if kind == ENSEMBLE else bundles[0].config["discern"].get("changes") or {},
            heads=bundles[0].heads,
            preprocess=preprocess,
            golden_images=golden_images(material),
            weights_license=_license(bundles),
            run=writer.id,
            scores=None,
            trained_on={
                "data": scanned.name,
                "layout": scanned.manifest.layout,
                "images": {"all": len(scanned.manifest)},
                "images_hash": first.record.get("images_hash"),
                "made_of": [run.id for run in runs.values()],
                "kind": kind,
                "seen_accuracy": seen,
                "unscored": UNSCORED,
            },
        ),
    )
    console.say(
        f"model    {path}: {kind} of {len(runs)}, unscored; on images it has seen {seen:.4f}"
    )
    return str(path)


def _material(config: RunConfig, scanned: ScannedData, preprocess: Preprocess) -> Material:
    """All images, to be scored."""
    settings = FeedSettings(
        device=choose_device(config.compute.device).torch_device,
        workers=usable_cores() if config.data.workers is None else config.data.workers,
        seed=0,
        flip=False,
        eval_batch_size=config.compute.eval_batch_size,
    )
    codes = np.full(len(scanned.manifest), SPLITS.index("test"), dtype=np.int8)
    held = scanned.manifest.with_split(codes)
    return Material(held, open_source(held), preprocess, settings)


def _accuracy(config: RunConfig, material: Material, model: Classifier) -> float:
    device = material.settings.device
    batch_size = material.evaluation_batch(list(config.training_stages.values())[-1].batch)
    with material.evaluation_feed("test", batch_size) as feed:
        table = evaluate(model.to(device), feed, classes=material.manifest.classes, device=device)
    return float(score_record(table)["accuracy"])


def _open(run: Run) -> Bundle:
    name = run.record["config"]["model"]["name"]
    return open_bundle(run.path / "model", trusted=name if is_import_path(name) else None)


def _license(bundles: Sequence[Bundle]) -> str | None:
    found = bundles[0].config["discern"].get("weights_license")
    return None if found is None else str(found)


def _check_alike(bundles: Sequence[Bundle]) -> None:
    """Raises ConfigError unless all are one architecture that sees images alike."""

    def plain(bundle: Bundle) -> tuple[Any, ...]:
        own, seen = bundle.config["discern"], bundle.preprocess
        same = replace(seen, mean=bundles[0].preprocess.mean, std=bundles[0].preprocess.std)
        return own["architecture"], own["arguments"], own.get("changes"), bundle.classes, same

    for bundle in bundles[1:]:
        if plain(bundle) != plain(bundles[0]):
            raise ConfigError(
                "the folds' models differ in more than their weights", where=bundle.path,
                got=bundle.config["discern"]["architecture"],
                expected=bundles[0].config["discern"]["architecture"],
            )  # fmt: skip


_Joined = tuple[Classifier, Preprocess, str, dict[str, Any]]


def _ensemble(bundles: Sequence[Bundle]) -> _Joined:
    first = bundles[0]
    own = first.config["discern"]
    if is_import_path(own["architecture"]):
        raise ConfigError(
            "a network of your own cannot be part of an ensemble bundle: no code is loaded from it",
            where=first.path, got=own["architecture"], hint="--soup gives one network",
        )  # fmt: skip
    network = Ensemble([bundle.model for bundle in bundles], first.preprocess.channels)
    network.set_normalizations([bundle.preprocess for bundle in bundles])
    arguments = {
        "member": own["architecture"],
        "count": len(bundles),
        "arguments": own["arguments"],
        "changes": own.get("changes") or {},
    }
    model = Classifier(network.eval(), route=Route.PLAIN, head_names=())
    return model, first.preprocess, f"discern/{ENSEMBLE}", arguments


def _soup(bundles: Sequence[Bundle]) -> _Joined:
    """The mean of all weights; of the normalizations, too, which belong to them."""
    first = bundles[0]
    model = copy.deepcopy(first.model)
    states = [bundle.model.state_dict() for bundle in bundles]
    model.load_state_dict(mean_state(states))
    preprocess = replace(
        first.preprocess,
        mean=_mean_row([bundle.preprocess.mean for bundle in bundles]),
        std=_mean_row([bundle.preprocess.std for bundle in bundles]),
    )
    own = first.config["discern"]
    return model, preprocess, own["architecture"], own["arguments"]


def _mean_row(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
