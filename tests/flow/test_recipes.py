"""The recipes beside the sources: what they resolve to, and 20 updates of each stage."""

import json
from pathlib import Path

import pytest
from discern_process import discern, make_images

from discern.config.layers import Layer, file_layer, resolve
from discern.config.schema import RunConfig
from discern.config.yaml_text import read_document
from discern.track.run import read_run

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}
SNAPSHOT = ROOT / "tests" / "golden" / "recipes.json"
DATA = Layer("recipe", "DATA", {"data": {"source": "DATA"}})
STEPS = 20
SPEC = {"name", "args"}
QUICK = ("mnist-lenet", "cifar10-resnet32")


def unusual(record, usual):
    """What of a config is not the schema's default, so that new keys change no snapshot."""
    return {
        key: unusual(value, usual[key])
        if isinstance(value, dict) and isinstance(usual.get(key), dict) and set(value) != SPEC
        else value
        for key, value in record.items()
        if key not in usual or value != usual[key]
    }


def resolved(path):
    """The recipe's config where it differs from the schema's defaults, stage by stage."""
    config = resolve([DATA, file_layer(read_document(path))]).config.record()
    usual = RunConfig.model_validate({"data": {"source": "DATA"}}).record()
    stages = {
        name: unusual(stage, usual["stages"]["train"]) for name, stage in config["stages"].items()
    }
    return {**unusual({**config, "stages": {}}, {**usual, "stages": {}}), "stages": stages}


@pytest.mark.feature("MX-03")
@pytest.mark.feature("MX-02")
@pytest.mark.feature("LA-37")
@pytest.mark.feature("LA-38")
@pytest.mark.feature("MX-44")
def test_resolved_recipes_are_those_of_the_snapshot():
    expected = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert expected == {name: resolved(path) for name, path in RECIPES.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_opens_with_its_command_time_and_result(name):
    lines = RECIPES[name].read_text(encoding="utf-8").splitlines()
    head = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]
    assert any(line.startswith("#   discern train ") and f"{name}.yaml" in line for line in head)
    for title in ("# Time: ", "# Result: ", "# Run: "):
        assert any(line.startswith(title) for line in head), title


def slow_unless_quick(name):
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)


def warm_up(name):
    """Half an epoch instead of the recipe's epochs; a schedule that rises by itself takes none."""
    stages = resolved(RECIPES[name])["stages"].values()
    rises = any(stage.get("schedule", {}).get("name") == "triangular" for stage in stages)
    return () if rises else ("--warmup-epochs", "0.5")


@pytest.mark.parametrize("name", [slow_unless_quick(name) for name in RECIPES])
def test_twenty_updates_of_each_stage_train(name, tmp_path):
    side = 28 if name.startswith("mnist") else 32 if name.startswith("cifar") else 64
    for split, each in (("train", 40), ("val", 4), ("test", 4)):
        make_images(tmp_path / "images" / split, each=each, size=(side, side), first=100 * each)
    ended = discern(
        "train", tmp_path / "images", "--config", RECIPES[name], "--weights", "none",
        "--epochs", "1", "--batch-size", str(80 // STEPS), "--img-size", str(side),
        *warm_up(name), "--log-every", "1", "--device", "cpu", "--precision", "fp32",
        "--set", "compute.deterministic=true", "--runs", tmp_path / "runs", "--json",
        timeout=600,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    run = read_run(Path(ended.object["path"]))
    stages = len(resolved(RECIPES[name])["stages"])
    assert STEPS * stages == len(run.read_all()["train/loss"].steps)
