import pytest

from discern.base.errors import ConfigError
from discern.config.foreign.config_import import import_configs
from discern.config.foreign.lambda_tuner import draw_trials
from discern.optim.names import resolve_optimizer

TEMPLATE = """
command: python2 trainer.py
params:
  aug_list: [none]
  batch_size: [32]
  memory_saving_method: [none]
  network: [lenet]
  num_epochs: [5]
  small_chunk: [1]
params_definition:
  aug_list: {options: [none, color_distort, flip_random, both]}
"""
TUNER = """
num_trials: 20
fixedparams:
  network: resnet32
  augmenter: cifar_augmenter
  batch_size_per_gpu: 256
  epochs: 2
  piecewise_boundaries: "1"
  piecewise_lr_decay: "1.0,0.1"
  l2_weight_decay: 0.0002
  skip_l2_loss_vars: BatchNorm,preact,postnorm,gamma,beta
  train_dataset_meta: train.csv
  eval_dataset_meta: eval.csv
  num_classes: 10
  image_height: 32
  image_width: 32
  image_depth: 3
hyperparams:
  generate: {learning_rate: "-3,1"}
  select: {optimizer: "momentum,adam,rmsprop"}
"""


def imported(tmp_path, text, *overrides, name="x.yml", **options):
    path = tmp_path / name
    path.write_text(text)
    return import_configs([path], overrides, **options)


@pytest.mark.feature("ML-12")
def test_template_file_loads(tmp_path):
    (one,) = imported(tmp_path, TEMPLATE)
    assert {
        "stages": {"*": {"augment": "none", "epochs": 5, "batch_size": 32}},
        "model": {"name": "lenet"},
    } == one.config


@pytest.mark.feature("ML-12")
def test_older_files_and_files_without_sections_load(tmp_path):
    text = "command: x\ndescription: y\nenv: z\ngpu: 1\nhashtag: [a]\nname: job\n"
    text += "input: [{source: a, dest: b}]\n"
    (one,) = imported(tmp_path, text)
    assert {"tracking": {"name": "job"}} == one.config
    left = {row.source for row in one.rows if row.fate == "left out"}
    assert {"command", "description", "env", "gpu", "hashtag", "input"} == left
    assert {} == imported(tmp_path, "params: {}\nparam_definition: null")[0].config


@pytest.mark.feature("ML-16")
def test_six_parameters(tmp_path):
    text = TEMPLATE.replace("small_chunk: [1]", "small_chunk: [4]")
    text = text.replace("aug_list: [none]", "aug_list: [color_distort]")
    text = text.replace("network: [lenet]", "network: [vgg16]")
    (one,) = imported(tmp_path, text)
    expected = {
        "augment": "color_distortion", "epochs": 5, "batch_size": 128, "grad_accum_steps": 4,
    }  # fmt: skip
    assert expected == one.config["stages"]["*"]
    assert "vgg16" == one.config["model"]["name"]


def test_recomputing_is_grad_checkpointing(tmp_path):
    text = TEMPLATE.replace("memory_saving_method: [none]", "memory_saving_method: [recomputing]")
    assert {"grad_checkpointing": True} == imported(tmp_path, text)[0].config["compute"]


def test_each_combination_is_a_config(tmp_path):
    text = TEMPLATE.replace("[lenet]", "[lenet, resnet50]").replace("[32]", "[32, 64]")
    found = imported(tmp_path, text)
    expected = [("lenet", 32), ("resnet50", 32), ("lenet", 64), ("resnet50", 64)]
    assert expected == [
        (one.config["model"]["name"], one.config["stages"]["*"]["batch_size"]) for one in found
    ]
    assert "batch_size=64, network=resnet50" == found[3].label


@pytest.mark.parametrize(
    "change", [("[none]\n  batch", "[blur]\n  batch"), ("[1]", "[0]"), ("network", "net")]
)
def test_unknown_template_values_are_refused(tmp_path, change):
    (one,) = imported(tmp_path, TEMPLATE.replace(*change))
    assert 1 == len(one.refused)


@pytest.mark.feature("LA-34")
def test_coarse_tuner_gives_twenty_configs(tmp_path):
    found = imported(tmp_path, TUNER)
    assert 20 == len(found)
    for one in found:
        stage = one.config["stages"]["train"]
        assert 1e-3 <= stage["lr"] <= 10
        schedule = {"boundaries": [1], "multiples": [1.0, 0.1]}
        assert ("piecewise", schedule) == tuple(stage["schedule"].values())
        assert (2, 256, 0.0002, "cifar") == tuple(
            stage[key] for key in ("epochs", "batch_size", "weight_decay", "augment")
        )
        optimizer = stage["optimizer"]
        name = optimizer if isinstance(optimizer, str) else optimizer["name"]
        assert name in ("momentum", "adam", "rmsprop")
        resolve_optimizer(name)
        assert [] == one.refused
    data = {
        "source": "train.csv", "val": "eval.csv", "image_size": [32, 32], "channels": 3,
    }  # fmt: skip
    assert data == found[0].config["data"]


def test_draws_are_by_powers_of_ten_and_by_seed():
    config = {"num_trials": 400, "hyperparams": {"generate": {"lr": "-3,1"}}}
    rates = [fields["lr"] for _, fields in draw_trials(config, seed=0)]
    # Of powers uniform in -3..1, a quarter is below -2 and half below -1; of rates hardly any.
    assert 0.2 < sum(rate < 0.01 for rate in rates) / 400 < 0.3
    assert 0.43 < sum(rate < 0.1 for rate in rates) / 400 < 0.57
    assert draw_trials(config, seed=0) == draw_trials(config, seed=0) != draw_trials(config, seed=1)


@pytest.mark.feature("LA-05")
def test_train_arguments_of_the_suite(tmp_path):
    (one,) = imported(
        tmp_path, "fixedparams: {network: resnet50}",
        "--learning_rate=0.1", "--piecewise_boundaries=50,75.5", "--optimizer=sgd",
        "--piecewise_lr_decay=1.0,0.1,0.01", "--trainable_vars=resnet50/logits",
        "--log_every_n_iter=7", "--keep_checkpoint_max=2", "--skip_l2_loss_vars=BatchNorm,stem",
    )  # fmt: skip
    stage = one.config["stages"]["train"]
    plain = {"name": "sgd", "args": {"momentum": 0.0, "nesterov": False}}
    schedule = {"boundaries": [50, 75.5], "multiples": [1.0, 0.1, 0.01]}
    assert (0.1, plain, "head", 2) == tuple(
        stage[key] for key in ("lr", "optimizer", "trainable", "keep_top")
    )
    assert (schedule, [".*stem.*"]) == (stage["schedule"]["args"], stage["no_decay"])
    assert 7 == one.config["tracking"]["log_every"]


@pytest.mark.parametrize(
    "field",
    ["typo=1", "optimizer=lamb", "augmenter=x", "pretrained_model=model.ckpt",
     "trainable_vars=block1", "piecewise_boundaries=1"],
)  # fmt: skip
def test_fields_that_cannot_be_honored_are_refused(tmp_path, field):
    (one,) = imported(tmp_path, "fixedparams: {}", f"--{field}")
    assert [field.partition("=")[0]] == [row.source for row in one.refused]


@pytest.mark.parametrize(
    "text",
    ["num_trials: x\nhyperparams: {generate: {a: '1,2'}}", "hyperparams: {generate: {a: '2,1'}}",
     "hyperparams: {choose: {}}", "fixedparams: [1]",
     "num_trials: 99999\nhyperparams: {select: {a: 1}}",
     "hyperparams: {generate: {a: '1'}}"],
)  # fmt: skip
def test_tuner_files_that_make_no_sense(tmp_path, text):
    with pytest.raises(ConfigError):
        imported(tmp_path, text)


def test_nobodys_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, "a: 1")
    assert "not a config of Catalyst, MLSteam or the Lambda tuner" == caught.value.what
