import pytest

from discern.base.errors import ConfigError
from discern.config.layers import Layer, file_layer, pair_layer, resolve, set_layer
from discern.config.yaml_text import dump_text, parse_document

RECIPE = Layer(
    "recipe",
    "recipe small",
    {
        "data": {"source": "digits"},
        "defaults": {"optimizer": {"name": "sgd", "args": {"nesterov": True}}, "ema": 0.99},
        "stages": {"train": {"epochs": 20}},
    },
)


def layer_of(text, name="f.yaml"):
    return file_layer(parse_document(text, name))


def test_later_layers_win_and_say_who_they_are():
    resolved = resolve([RECIPE, pair_layer("flag", "--epochs", "stages.*.epochs", 5)])
    assert 5 == resolved.config.stages["train"].epochs
    assert "--epochs" == resolved.origins["stages", "train", "epochs"]


def test_stages_inherit_defaults():
    stage = resolve([RECIPE]).config.stages["train"]
    assert ("sgd", {"nesterov": True}, 0.99) == (
        stage.optimizer.name,
        stage.optimizer.args,
        stage.ema,
    )


def test_null_takes_away_what_defaults_hold():
    assert resolve([RECIPE, set_layer("stages.train.ema=null")]).config.stages["train"].ema is None


def test_another_optimizer_does_not_inherit_arguments():
    stage = resolve([RECIPE, set_layer("stages.train.optimizer=adamw")]).config.stages["train"]
    assert ("adamw", {}) == (stage.optimizer.name, stage.optimizer.args)


def test_argument_of_the_same_optimizer_is_added():
    layers = [RECIPE, set_layer("stages.train.optimizer.args.momentum=0.95")]
    stage = resolve(layers).config.stages["train"]
    assert {"nesterov": True, "momentum": 0.95} == stage.optimizer.args


def test_a_file_with_stages_replaces_the_recipes():
    text = "stages:\n  head: {trainable: head, epochs: 2}\n  all: {epochs: 3}\n  never: null\n"
    stages = resolve([RECIPE, layer_of(text)]).config.stages
    assert {"head": 2, "all": 3} == {name: stage.epochs for name, stage in stages.items()}


def test_second_file_merges_into_the_first():
    first, second = "stages: {a: {epochs: 2}, b: {epochs: 3}}", "stages: {b: {lr: 0.5}, a: null}"
    stages = resolve([RECIPE, layer_of(first), layer_of(second, "g.yaml")]).config.stages
    assert [("b", 3, 0.5)] == [(name, s.epochs, s.lr) for name, s in stages.items()]


def test_unknown_key_names_file_line_and_nearest():
    with pytest.raises(ConfigError) as caught:
        resolve([RECIPE, layer_of("stages:\n  train:\n    epoch: 3\n")])
    error = caught.value
    assert "unknown config key 'stages.train.epoch'" == error.what
    assert "f.yaml:3: stages.train.epoch" == error.where
    assert "epochs" in error.hint


@pytest.mark.parametrize(
    "pair",
    ["seed=-1", "stages.train.lr=x", "stages.train.lr=0", "stages.train.epochs=1.5",
     "data.source=3", "compute.precision=fp8", "stages.train=null", "stages=3"],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(pair):
    with pytest.raises(ConfigError):
        resolve([RECIPE, set_layer(pair)])


def test_resolved_config_makes_itself_again():
    config = resolve([RECIPE]).config
    text = dump_text(config.record())
    assert config == resolve([RECIPE, layer_of(text)]).config


def test_names_are_not_part_of_a_runs_identity():
    one = resolve([RECIPE, set_layer("tracking.name=a")]).config
    other = resolve([RECIPE, set_layer("tracking.name=b")]).config
    assert one.identity() == other.identity()
    assert one.identity() != resolve([RECIPE, set_layer("seed=1")]).config.identity()
