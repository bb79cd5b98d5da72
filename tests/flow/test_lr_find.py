"""`discern lr-find`: a curve, a table, a rate that trains well, exit 0, and no trace of itself."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from discern_process import discern, make_images
from PIL import Image

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.models.classifier import train_mode
from discern.training.evaluate import evaluate
from discern.training.lr_finder import RateSweep
from discern.training.stages import Training, plan_stage, stage_state
from discern.training.step import train_step
from discern.worker.lr_find import lr_find_verb
from discern.worker.plan import (
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
    plan_training,
)

MLP = ("--model", "mlp", "--opt", "adamw", "--device", "cpu", "--precision", "fp32")
EPOCHS = 3


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """How a search on digits ended, and its folder."""
    folder = tmp_path_factory.mktemp("search")
    ended = discern("lr-find", "digits", *MLP, "--out", folder / "out", "--json", cwd=folder)
    assert ended.code == 0, ended.stderr
    return ended, folder


def rows_of(path):
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.feature("CA-45")
@pytest.mark.feature("PP-18")
def test_search_with_default_steps_ends_well_and_writes_its_files(found):
    ended, folder = found
    told = ended.object
    rows = rows_of(folder / "out" / "lr.csv")
    assert told["rates"] == len(rows) <= told["steps"] == 100  # an epoch has 20 batches
    assert told["stopped"] in ("end", "diverged")
    assert list(rows[0]) == ["step", "rate", "loss", "smoothed"]
    for row in rows:
        wanted = 1e-7 * (10.0 / 1e-7) ** (int(row["step"]) / 100)
        assert float(row["rate"]) == pytest.approx(wanted, rel=1e-12)
    with Image.open(folder / "out" / "curve.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5.0
    smoothed = [float(row["smoothed"]) for row in rows]
    least = int(np.nanargmin(smoothed[:-1] if told["stopped"] != "end" else smoothed))
    assert told["suggestion"] == pytest.approx(float(rows[least]["rate"]) / 10.0)
    assert f"--lr {told['suggestion']:.2g}" in ended.stderr


@pytest.mark.feature("CA-45")
def test_suggestion_is_within_ten_times_of_the_best_of_a_grid(found):
    told = found[0].object
    losses = {10.0**power: _loss_at(10.0**power) for power in (-5, -4, -3, -2, -1, 0)}
    best = min(losses, key=losses.__getitem__)
    assert losses[best] < 0.5 * max(losses.values())  # the grid does tell rates apart
    assert 0.1 <= told["suggestion"] / best <= 10.0


def _loss_at(rate):
    """The validation loss after a short training at this rate, from the command's own parts."""
    torch.set_num_threads(1)
    pairs = [
        ("DATA", "data.source", "digits"),
        ("--model", "model.name", "mlp"),
        ("--opt", "stages.*.optimizer", "adamw"),
        ("--device", "compute.device", "cpu"),
        ("--lr", "stages.*.lr", rate),
        ("--epochs", "stages.*.epochs", EPOCHS),
    ]
    console = Console(quiet=True)
    plan = plan_training(Request(verb="lr-find", arguments={}, pairs=pairs), console)
    built = build_network(plan)
    material = make_material(plan, built, choose_preprocess(plan, built), flip=allow_flip(plan))
    device = torch.device("cpu")
    training = Training(
        config=plan.config, model=built.model, material=material, device=device, precision="fp32"
    )
    name, stage = next(iter(plan.config.stages.items()))
    parts = plan_stage(training, name, stage, 0)
    with parts.feed, parts.val_feed:
        state = stage_state(training, stage, parts, 0, 0)
        train_mode(training.model)
        for epoch in range(EPOCHS):
            for batch in parts.feed.epoch(epoch):
                train_step(state, batch, parts.rules)
        table = evaluate(training.model, parts.val_feed, classes=parts.classes, device=device)
    return float(np.nanmean(table.losses)) if np.isfinite(table.losses).all() else math.inf


def _searched(images, out, **arguments):
    """A search in this process, with two classes of tiny photos; `arguments` as the command's."""
    torch.set_num_threads(1)
    pairs = [
        ("DATA", "data.source", str(images)),
        ("--model", "model.name", "mlp"),
        ("--opt", "stages.*.optimizer", "adamw"),
        ("--lr", "stages.*.lr", 0.001),
        ("--device", "compute.device", "cpu"),
        ("--precision", "compute.precision", "fp32"),
    ]
    given = {"first": None, "last": None, "steps": None, "scale": "log", "out": str(out)}
    request = Request(verb="lr-find", arguments={**given, **arguments}, pairs=pairs)
    return lr_find_verb(request, Console(json=True))


def test_linear_search_from_the_stages_rate(tmp_path, capsys):
    images, out = make_images(tmp_path / "pets", each=8), tmp_path / "out"
    assert _searched(images, out, first="stage", scale="linear", steps=12) == 0
    rates = [float(row["rate"]) for row in rows_of(out / "lr.csv")]
    expected = RateSweep(first=0.001, last=0.01, steps=12, scale="linear")
    assert rates == pytest.approx([expected.rate(i) for i in range(12)])
    assert json.loads(capsys.readouterr().out)["stage_rate"] == 0.001
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "pets"]  # no run was made


@pytest.mark.feature("PP-18")
def test_search_without_a_falling_loss_says_so_and_suggests_nothing(tmp_path, capsys):
    images, out = make_images(tmp_path / "pets", each=8), tmp_path / "out"
    assert _searched(images, out, first=1e30, last=1e38, steps=8) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["suggestion"] is None
    assert "none to suggest" in told.err
    assert (out / "curve.png").stat().st_size > 1000


@pytest.mark.parametrize("first", [1.0, -1.0])
def test_rates_that_do_not_rise_are_refused(tmp_path, first):
    images = make_images(tmp_path / "pets", each=8)
    with pytest.raises(ConfigError, match="rise"):
        _searched(images, tmp_path / "out", first=first, last=0.1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("flag", "value"), [("--from", "fast"), ("--scale", "cubic")])
def test_flag_that_cannot_be_used_is_refused_at_once(tmp_path, flag, value):
    ended = discern("lr-find", "digits", *MLP, flag, value, "--json", cwd=tmp_path)
    assert ended.code == 2
    assert ended.error["where"] == flag
    assert not list(tmp_path.iterdir())
