"""Runs of one group share features: those of an image are computed by the first that needs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

from discern.base.console import Console
from discern.config.request import Request
from discern.data.scan import DataRequest, scan_data
from discern.track.run import open_run, runs_root
from discern.training import kept_features
from discern.worker import kfold as folds
from discern.worker.label_scoring import ImageScorer
from discern.worker.open_model import OpenRequest, open_model
from discern.worker.train import train

QUIET = Console(quiet=True)
CONFIG = {
    "model.name": "fast_net", "model.args": {"width": 8}, "data.mean": [0.5] * 3,
    "data.std": [0.25] * 3, "stages.*.trainable": "head", "stages.*.epochs": 4,
    "stages.*.augment": "flip_random", "stages.*.batch_size": 8, "compute.device": "cpu",
    "compute.precision": "fp32", "compute.threads": 1, "data.workers": 0,
    "tracking.tensorboard": False, "tracking.system_meter": False,
}  # fmt: skip


def write_images(root: Path, numbers) -> None:
    for label, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            random = np.random.default_rng(100 * label + number)
            pixels = random.integers(0, 128, (16, 16, 3)) + 120 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")


def trained(data: Path, runs: Path, store: Path | None, **given):
    """A run, and its losses."""
    request = Request(
        verb="train",
        arguments={"runs": str(runs), "kept_features": None if store is None else str(store)},
        pairs=[
            ("DATA", "data.source", str(data)),
            *(("x", *p) for p in {**CONFIG, **given}.items()),
        ],
        quiet=True,
    )
    run = open_run(train(request, QUIET)["run"], runs_root(str(runs)))
    return run, run.read_series("train/loss").values.tolist()


def kept_ids(store: Path) -> list[list[str]]:
    files = sorted(store.rglob("*.safetensors"))
    return [json.loads(safe_open(file, "pt").metadata()["ids"]) for file in files]


def test_the_next_run_computes_new_images_alone_and_trains_the_same(tmp_path, monkeypatch):
    data, store = tmp_path / "data", tmp_path / "store"
    write_images(data, range(10))
    run, losses = trained(data, tmp_path / "first", store)
    assert losses == trained(data, tmp_path / "alone", None)[1]
    before = kept_ids(store)
    assert losses == trained(data, tmp_path / "again", store)[1]
    assert before == kept_ids(store)
    write_images(data, range(12))
    _, grown = trained(data, tmp_path / "grown", store)
    assert grown == trained(data, tmp_path / "grown-alone", None)[1]
    known = {name for ids in before for name in ids}
    added = [name for ids in kept_ids(store)[len(before) :] for name in ids]
    # New images, and those that only an evaluation, which mirrors none, has seen so far.
    assert 0 < len(added) < 12
    assert known | set(added) == {name for ids in kept_ids(store) for name in ids}
    # What the run's model is asked then, it answers out of the same features.
    passes = []
    compute = kept_features.extract_features
    monkeypatch.setattr(
        kept_features, "extract_features", lambda *a, **k: passes.append(1) or compute(*a, **k)
    )
    opened = open_model(OpenRequest(model=str(run.path), device="cpu"))
    scorer = ImageScorer(0, kept_features.FeatureStore(store, begins=False))
    manifest = scan_data(DataRequest(train=str(data))).manifest
    logits = scorer.logits(opened, manifest)
    files = len(kept_ids(store))
    assert len(logits) == 24
    assert np.array_equal(logits, scorer.logits(opened, manifest))
    assert len(passes) <= 1
    assert files == len(kept_ids(store))
    fresh = ImageScorer(0, kept_features.FeatureStore(tmp_path / "none", begins=False))
    assert np.allclose(logits, fresh.logits(opened, manifest), atol=1e-5)


def test_a_later_stage_keeps_nothing_for_others(tmp_path):
    data, store = tmp_path / "data", tmp_path / "store"
    write_images(data, range(8))
    stages = {
        "whole": {"trainable": "all", "epochs": 1},
        "last": {"trainable": "head", "epochs": 4},
    }
    config = {key: value for key, value in CONFIG.items() if not key.startswith("stages")}
    common = {"defaults.augment": "flip_random", "defaults.batch_size": 8}
    request = Request(
        verb="train",
        arguments={"runs": str(tmp_path / "runs"), "kept_features": str(store)},
        pairs=[("DATA", "data.source", str(data)), *(("x", *p) for p in config.items())],
        sets=[f"stages={json.dumps(stages)}", *(f"{k}={json.dumps(v)}" for k, v in common.items())],
        quiet=True,
    )
    run = open_run(train(request, QUIET)["run"], runs_root(str(tmp_path / "runs")))
    assert run.record["choices"]["cache_features"]["last"]["value"]
    assert not store.exists()


class Ended:
    """A child that is done when it begins: trained in this process."""

    def __init__(self, request: Request, console: Console) -> None:
        train(request, console)

    def wait(self) -> int:
        return 0


def test_folds_compute_an_image_once_and_train_in_the_first_one_s_precision(tmp_path, monkeypatch):
    data, runs = tmp_path / "data", tmp_path / "runs"
    write_images(data, range(9))
    computed = []
    compute = kept_features.FeatureStore._keep

    def noted(store, key, part):
        computed.extend(part.ids)
        compute(store, key, part)

    monkeypatch.setattr(kept_features.FeatureStore, "_keep", noted)
    monkeypatch.setattr(folds, "start_child", Ended)
    request = Request(
        verb="kfold",
        arguments={"runs": str(runs)},
        pairs=[
            ("DATA", "data.source", str(data)),
            ("x", "data.folds", 3),
            *(("x", *p) for p in CONFIG.items()),
        ],
        quiet=True,
    )
    outcome = folds.kfold(request, QUIET)
    found = [open_run(fold["run"], runs_root(str(runs))).record for fold in outcome["folds"]]
    assert all(record["choices"]["cache_features"]["train"]["value"] for record in found)
    # Once with its mirror image and, of those that an evaluation saw first, once without.
    assert 18 <= len(computed) < 2 * 18
    assert 18 == len(set(computed))
    first = outcome["folds"][0]["run"]
    reasons = [record["choices"]["precision"]["reason"] for record in found]
    assert ["asked for", f"as in {first}", f"as in {first}"] == reasons
    assert not (Path(outcome["path"]) / "features").exists()
