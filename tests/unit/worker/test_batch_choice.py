"""`--batch-size auto`: the largest batch that fits, found once, kept by the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from discern_process import make_images

from discern.base.console import Console
from discern.base.errors import ConfigError, DiscernError, RunError
from discern.config.assemble import resolve_request
from discern.config.request import Request
from discern.config.schema import StageConfig
from discern.training.batch_search import BatchTrial
from discern.training.stage_parts import peak_rate
from discern.worker import batch_choice
from discern.worker.kfold import plan_folds
from discern.worker.train import train

QUIET = Console(quiet=True)


def asked(tmp_path: Path, dry: bool = False, check: bool = False, **more: Any) -> Request:
    """Small images of two classes, 84 of them for training, and the largest batch."""
    pairs = {
        "data.source": str(tmp_path / "pets"), "model.name": "mlp", "stages.*.epochs": 1,
        "stages.*.batch_size": "auto", "compute.device": "cpu", "compute.precision": "fp32",
        **{key.replace("__", "."): value for key, value in more.items()},
    }  # fmt: skip
    arguments = {"runs": str(tmp_path / "runs"), "resume": None, "fresh": check, "check": check}
    given = [("flag", key, value) for key, value in pairs.items()]
    return Request(verb="train", arguments={**arguments, "dry_run": dry}, pairs=given)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    make_images(tmp_path / "pets", each=60)
    return tmp_path


def no_probe(*_: object, **__: object) -> BatchTrial:
    raise AssertionError("measured again")


def test_the_choice_is_stored_and_reread(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise RunError("stopped here")

    with monkeypatch.context() as stopping:
        stopping.setattr("discern.worker.train.run_stages", stop)
        with pytest.raises(RunError, match="stopped here"):
            train(asked(images), QUIET)
    (folder,) = (path.parent for path in images.glob("runs/pets/*/run.json"))
    record = json.loads((folder / "run.json").read_text())
    choice = record["choices"]["batch_size"]["train"]
    assert 16 == choice["value"]  # a fifth of 84
    assert [2, 4, 8, 16] == [size for size, _ in choice["tried"]]
    assert 16 == record["config"]["stages"]["train"]["batch_size"]

    monkeypatch.setattr(batch_choice, "probe_batch", no_probe)
    done = train(asked(images), QUIET)
    assert done is not None
    assert str(folder) == done["path"]
    again = json.loads((folder / "run.json").read_text())
    assert record["request_hash"] == again["request_hash"]
    assert choice == again["choices"]["batch_size"]["train"]
    # Named, the run goes on with its stored config, and with what it was asked for, too.
    for words in ([], [("flag", "stages.*.batch_size", "auto")]):
        pairs = [("flag", "stages.*.epochs", 2 + len(words)), *words]
        arguments = {**asked(images).arguments, "resume": done["run"]}
        longer = train(Request(verb="train", arguments=arguments, pairs=pairs), QUIET)
        assert longer is not None
        assert done["run"] == longer["run"]


def test_memory_decides_and_the_rate_stays(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(_: object, name: str, stage: object, index: int, count: int) -> BatchTrial:
        return BatchTrial(count, None if count > 11 else count)

    monkeypatch.setattr(batch_choice, "probe_batch", measured)
    planned = train(asked(images, dry=True), Console())
    assert planned is not None
    told = capsys.readouterr().out
    assert "batch    train: 11 images an update (at most 16)" in told
    assert "12: too much" in told
    assert "the rate stays" in told
    assert 8 == planned["stages"][0]["steps"]  # 84 images in batches of at most 11
    accumulated = asked(images, dry=True, **{"stages__*__grad_accum_steps": 2})
    train(accumulated, Console())
    assert "16 images an update, 8 a pass" in capsys.readouterr().out


def test_heads_on_kept_features_and_checks_have_a_batch_too(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {"stages__*__trainable": "head", "stages__*__augment": "none"}
    features = asked(images, dry=True, **kept, **{"stages__*__cache_features": "on"})
    assert train(features, Console()) is not None
    assert "train: 16 images an update" in capsys.readouterr().out
    checked = train(asked(images, check=True), QUIET)
    assert checked is not None
    record = json.loads((Path(checked["path"]) / "run.json").read_text())
    assert 48 == record["config"]["stages"]["train"]["epoch_size"]  # 3 batches


def test_no_batch_that_fits_is_told(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_choice, "probe_batch", lambda *given: BatchTrial(given[-1], None))
    with pytest.raises(RunError, match="not even one image") as raised:
        train(asked(images), QUIET)
    assert "--grad-checkpointing" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("atuo", "did you mean 'auto'?"), (12.5, "a whole number"), (0, "greater than or equal to 1"),
     (True, "a whole number of images, or auto"), ("Auto", "did you mean 'auto'?")],
)  # fmt: skip
def test_other_words_are_refused_with_the_nearest(value: object, expected: str) -> None:
    pairs = [("DATA", "data.source", "digits"), ("--batch-size", "stages.*.batch_size", value)]
    with pytest.raises(ConfigError) as raised:
        resolve_request(Request(verb="train", arguments={}, pairs=pairs))
    assert expected in str(raised.value.expected)
    assert "--batch-size" in str(raised.value.where)


def test_what_needs_the_number_before_says_so(images: Path) -> None:
    stage = StageConfig.model_validate({"batch_size": "auto", "lr_base": 0.1})
    with pytest.raises(ConfigError, match="not known yet"):
        peak_rate(stage)
    assert 0.05 == peak_rate(stage.model_copy(update={"batch_size": 128})).lr
    for work in (
        lambda: plan_folds(asked(images), QUIET),
        lambda: train(asked(images, data__overfit_batches=2), QUIET),
    ):
        with pytest.raises(DiscernError):
            work()


@pytest.mark.gpu
def test_a_gpu_is_filled_to_its_limit(images: Path) -> None:
    make_images(images / "pets", each=400)
    torch.cuda.set_per_process_memory_fraction(2e9 / torch.cuda.mem_get_info()[1])
    try:
        big = {"compute__device": "cuda", "model__name": "resnet18", "data__image_size": 224}
        done = train(asked(images, **{"stages__*__steps": 2, **big}), QUIET)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done is not None
    choice = json.loads((Path(done["path"]) / "run.json").read_text())["choices"]["batch_size"]
    assert 4 <= choice["train"]["value"] < 112
    assert None in [peak for _, peak in choice["train"]["tried"]]
