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


FINE_TUNE = Layer(
    "recipe",
    "recipe fine-tune",
    {
        "data": {"source": "digits"},
        "defaults": {"clip_grad": 1.0},
        "stages": {"head": {"epochs": 2}, "all": {"epochs": 3}},
    },
)


def stages_of(*layers, recipe=FINE_TUNE):
    return resolve([recipe, *layers]).config.stages


@pytest.mark.feature("CA-23")
def test_stages_keep_their_order_inherit_and_are_skipped_when_null():
    text = """
defaults: {batch_size: 32, optimizer: {name: adam, args: {eps: 1e-6}}}
stages:
  stage1: {epochs: 20, lr: 1e-3}
  skipped: null
  stage2: {epochs: 10, batch_size: 8, optimizer: sgd}
"""
    stages = stages_of(layer_of(text))
    expected = {"stage1": (20, 32, "adam", {"eps": 1e-6}), "stage2": (10, 8, "sgd", {})}
    assert list(expected) == list(stages)
    assert expected == {
        name: (s.epochs, s.batch_size, s.optimizer.name, s.optimizer.args)
        for name, s in stages.items()
    }


def test_recipes_defaults_do_not_reach_into_a_files_own_stages():
    assert stages_of(layer_of("stages: {mine: {lr: 0.5}}"))["mine"].clip_grad is None


def test_every_stage_of_a_file_means_the_recipes_stages():
    stages = stages_of(layer_of("stages: {'*': {lr: 0.5}}"))
    assert {"head": (2, 0.5), "all": (3, 0.5)} == {n: (s.epochs, s.lr) for n, s in stages.items()}


def test_a_files_null_stage_is_taken_from_the_recipe():
    assert ["all"] == list(stages_of(layer_of("stages: {head: null}")))


def test_every_stage_means_those_of_later_files_too():
    stages = stages_of(
        layer_of("stages: {'*': {lr: 0.5}}"), layer_of("stages: {a: {}, b: {lr: 0.1}}", "g.yaml")
    )
    assert {"a": 0.5, "b": 0.1} == {name: stage.lr for name, stage in stages.items()}


@pytest.mark.feature("CA-21")
def test_files_merge_deeply_in_order_and_typed_overrides_win():
    first = layer_of("data: {mean: [0.1]}\nstages: {a: {optimizer: {name: sgd, args: {x: 1}}}}")
    second = layer_of("data: {std: [0.2]}\nstages: {a: {optimizer: {args: {y: 2}}}}", "g.yaml")
    sets = ["data.mean=[0.3, 0.4]", "stages.a.optimizer.args.z={k: [1, x]}", "model.name=null"]
    config = resolve([FINE_TUNE, first, second, *map(set_layer, sets)]).config
    assert ([0.3, 0.4], [0.2], None) == (config.data.mean, config.data.std, config.model.name)
    assert {"x": 1, "y": 2, "z": {"k": [1, "x"]}} == config.stages["a"].optimizer.args


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("stages.haed.lr=1", "there is no stage 'haed'"),
        ("stages.haed=null", "there is no stage 'haed'"),
        ("stages.head.lr.x=1", "config key 'stages.head.lr' does not fit"),
        ("stages.head.groups.0.lr=1", "config key 'stages.head.groups' does not fit"),
        ("data.mean.0=1", "config key 'data.mean' does not fit"),
        ("nothing=1", "unknown config key 'nothing'"),
        ("stages.*=null", "stages.* is a mapping of a stage's keys"),
        ("defaults.epochs=7", "every stage has its own 'epochs', so its default changes nothing"),
        ("stages={'a/b': {}}", "config key 'stages' does not fit"),
    ],
)
@pytest.mark.feature("CA-21")
def test_bad_paths_are_errors(pair, told):
    with pytest.raises(ConfigError) as caught:
        resolve([FINE_TUNE, set_layer(pair)])
    assert told == caught.value.what


def test_a_stage_may_be_added_as_a_whole():
    assert ["head", "all", "last"] == list(stages_of(set_layer("stages.last={epochs: 4}")))


@pytest.mark.parametrize(
    "text", ["defaults: [1]", "defaults: 3", "defaults: ''", "stages:", "stages: [a]"]
)
def test_sections_of_another_kind_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        stages_of(layer_of(text))
    assert "f.yaml:1" == caught.value.where


def test_unknown_key_in_defaults_is_told_as_such():
    with pytest.raises(ConfigError) as caught:
        stages_of(layer_of("defaults: {epoch: 2}"))
    assert "unknown config key 'defaults.epoch' (1 more)" == caught.value.what


def test_null_in_arguments_is_a_value():
    text = "stages: {t: {objective: {name: focal, args: {alpha: null}}}}"
    assert {"alpha": None} == stages_of(layer_of(text))["t"].objective.args


def test_a_bare_name_keeps_the_arguments_of_the_same_thing():
    layer = pair_layer("flag", "--opt", "stages.*.optimizer", "sgd")
    assert {"nesterov": True} == resolve([RECIPE, layer]).config.stages["train"].optimizer.args


def test_another_network_takes_neither_arguments_nor_weights():
    file = layer_of("model: {name: a, weights: a.safetensors, args: {w: 1}}")
    model = resolve([RECIPE, file, pair_layer("flag", "--model", "model.name", "b")]).config.model
    assert ("b", None, {}) == (model.name, model.weights, model.args)


def test_arguments_given_before_the_name_stay():
    model = resolve([RECIPE, set_layer("model.args.w=1"), set_layer("model.name=b")]).config.model
    assert ("b", {"w": 1}) == (model.name, model.args)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("model_params: {model: x}", "Catalyst"),
        ("stages: {state_params: {num_epochs: 3}}", "Catalyst"),
        ("stages: {one: {optimizer_params: {lr: 3}}}", "Catalyst"),
        ("command: x\nparams: {network: lenet}", "MLSteam"),
        ("num_trials: 3\nhyperparams: {}", "the Lambda tuner"),
    ],
)
def test_other_suites_configs_lead_to_the_import(text, kind):
    with pytest.raises(ConfigError) as caught:
        layer_of(text, "old.yml")
    assert f"this is a config of {kind}" == caught.value.what
    assert "discern config import old.yml --out config.yaml" == caught.value.hint


@pytest.mark.parametrize(
    "layers",
    [
        [pair_layer("flag", "--steps", "stages.*.steps", 7)],
        [layer_of("stages:\n  train: {steps: 7}\n")],
        [layer_of("stages: {train: {}}\ndefaults: {steps: 7}\n")],
        [layer_of("stages: {train: {minutes: 1.0}}"), set_layer("stages.train.steps=7")],
        [layer_of("stages: {train: {epochs: 3, minutes: null}}", "config.yaml"),
         pair_layer("flag", "--steps", "stages.*.steps", 7)],
    ],
)  # fmt: skip
def test_length_takes_the_place_of_one_in_another_unit(layers):
    stage = resolve([RECIPE, *layers]).config.stages["train"]
    assert (7, None, None) == (stage.steps, stage.epochs, stage.minutes)


@pytest.mark.parametrize(
    "layers",
    [
        [layer_of("stages:\n  train: {epochs: 3, steps: 7}\n")],
        [pair_layer("flag", "--epochs", "stages.*.epochs", 3),
         pair_layer("flag", "--steps", "stages.*.steps", 7)],
    ],
)  # fmt: skip
def test_two_lengths_of_one_stage_are_refused(layers):
    with pytest.raises(ConfigError, match="does not fit") as caught:
        resolve([RECIPE, *layers])
    assert "one length, not epochs and steps" == caught.value.expected


def test_stage_without_a_length_has_ten_epochs():
    assert 10 == resolve([layer_of("data: {source: digits}")]).config.stages["train"].epochs


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("--lr", "lr", 0.1), ("--lr-base", "lr_base", 0.2)], "lr is not used where lr_base"),
        ([("--lr-base-size", "lr_base_size", 64)], "lr_base_size is not used without lr_base"),
        ([("--set", "lr_scaling", "sqrt")], "lr_scaling is not used without lr_base"),
    ],
)
def test_a_typed_rate_that_would_not_be_used_is_refused(pairs, told):
    layers = [set_layer("data.source=digits")]
    layers += [pair_layer("flag", origin, f"stages.*.{key}", value) for origin, key, value in pairs]
    with pytest.raises(ConfigError, match=told):
        resolve(layers)


def test_a_rate_of_a_recipe_gives_way_to_a_typed_base():
    recipe = Layer(
        "recipe",
        "small",
        {"data": {"source": "digits"}, "stages": {"train": {"lr": 0.1, "lr_base_size": 8}}},
    )
    resolved = resolve([recipe, pair_layer("flag", "--lr-base", "stages.*.lr_base", 0.2)])
    stage = resolved.config.stages["train"]
    assert (0.2, 8) == (stage.lr_base, stage.lr_base_size)
