import pytest

from discern.base.errors import ConfigError
from discern.config.foreign.catalyst_names import CRITERIA, OPTIMIZERS
from discern.config.foreign.config_import import import_configs
from discern.config.foreign.overrides import apply_overrides
from discern.config.yaml_text import parse_document
from discern.feed.augment import Step
from discern.feed.color_operations import Grey, Jpeg
from discern.feed.operations import OneOf
from discern.feed.policies import listed_policy
from discern.optim.names import resolve_optimizer
from discern.training.objectives import OBJECTIVES

TWO_STAGES = """
shared: {size: &size 64}
args: {expdir: src, logdir: ./logs, seed: 7}
runner_params: {input_key: image}
distributed_params: {opt_level: O0}
model_params: {model: resnet18, pretrained: false, num_classes: 10}
stages:
  state_params: {main_metric: accuracy01, minimize_metric: false, num_epochs: 4}
  data_params:
    batch_size: 64
    in_csv: dataset.csv
    datapath: ./data
    tag_column: tag
    class_column: class
    train_folds: "0,1,2,3"
    valid_folds: [4]
    image_size: *size
    balance_strategy: 128
  criterion_params: {criterion: CrossEntropyLoss}
  callbacks_params: &callbacks
    loss: {callback: CriterionCallback}
    optimizer: {callback: OptimizerCallback}
    accuracy: {callback: AccuracyCallback, accuracy_args: [1, 3]}
    saver: {callback: CheckpointCallback, save_n_best: 5}
    logger: {callback: AlchemyLogger, token: x}
  stage1:
    optimizer_params: {optimizer: Adam, lr: 0.001, weight_decay: 0.0001}
    scheduler_params: {scheduler: MultiStepLR, milestones: [10], gamma: 0.3}
  never: null
  stage2:
    state_params: {num_epochs: 10}
    optimizer_params: {optimizer: SGD, lr: 1e-4}
    callbacks_params: {<<: *callbacks, accuracy: null}
"""

ONE_CYCLE = """{scheduler: OneCycleLRWithWarmup, num_steps: 100, warmup_steps: 10,
  lr_range: [0.01, 0.001, 0.0001], decay_fraction: 0.2, init_lr: 0.002}"""


def imported(tmp_path, text, *overrides, skip=()):
    path = tmp_path / "catalyst.yml"
    path.write_text(text)
    (one,) = import_configs([path], overrides, skip=skip)
    return one


def stage_of(tmp_path, body, *overrides):
    """The stage that `body`, sections of a stage in flow style, becomes."""
    text = f"stages: {{state_params: {{num_epochs: 8}}, one: {{{body}}}}}"
    one = imported(tmp_path, text, *overrides)
    assert [] == one.refused
    return one.config["stages"]["one"]


@pytest.mark.feature("CA-26")
@pytest.mark.feature("CA-22")
def test_two_stages_inherit_override_and_skip(tmp_path):
    config = imported(tmp_path, TWO_STAGES).config
    assert ["data", "model", "stages", "compute", "tracking"] == [k for k in config if k != "seed"]
    first, second = config["stages"].values()
    assert ["stage1", "stage2"] == list(config["stages"])
    assert (4, "adamw", 0.001, 0.0001) == tuple(
        first[key] for key in ("epochs", "optimizer", "lr", "weight_decay")
    )
    assert {"name": "multistep", "args": {"milestones": [10], "gamma": 0.3}} == first["schedule"]
    assert (True, [r".*\.bias"]) == (first["decay_all"], first["no_decay"])
    plain = {"name": "sgd", "args": {"momentum": 0.0, "nesterov": False}}
    assert (10, plain, 1e-4, "constant") == tuple(
        second[key] for key in ("epochs", "optimizer", "lr", "schedule")
    )
    assert [{"name": "top_3"}] == config["tracking"]["metrics"]
    assert (7, "fp32") == (config["seed"], config["compute"]["precision"])
    assert {"name": "resnet18", "weights": "none"} == config["model"]


@pytest.mark.feature("CA-25")
def test_data_of_all_stages_is_said_once(tmp_path):
    config = imported(tmp_path, TWO_STAGES).config
    expected = {
        "image_size": 64, "source": "dataset.csv", "root": "./data", "labels": "tag",
        "train_folds": [0, 1, 2, 3], "val_folds": [4],
    }  # fmt: skip
    assert expected == config["data"]
    for stage in config["stages"].values():
        assert (64, "128") == (stage["batch_size"], stage["sampler"])


@pytest.mark.feature("CA-24")
def test_main_metric_chooses_the_model(tmp_path):
    stage = stage_of(tmp_path, "state_params: {main_metric: accuracy01, minimize_metric: false}")
    assert "accuracy" == stage["monitor"]
    assert "loss" == stage_of(tmp_path, "criterion_params: null")["monitor"]


def test_the_text_reads_back_equal_and_names_its_sources(tmp_path):
    one = imported(tmp_path, TWO_STAGES)
    assert one.config == parse_document(one.text, "c.yaml").value
    assert "    lr: 0.001  # stages/stage1/optimizer_params/lr\n" in one.text
    assert "#   stages/never: a stage that is null is skipped\n" in one.text


def test_every_value_is_told_of(tmp_path):
    told = {row.source: row.fate for row in imported(tmp_path, TWO_STAGES).rows}
    assert "left out" == told["stages/callbacks_params/logger/token"]
    assert "mapped" == told["stages/stage1/scheduler_params/milestones"]
    assert "refused" not in told.values()


@pytest.mark.parametrize(
    ("change", "source", "why"),
    [
        ("stages/stage1/optimizer_params/typo=1:int", None, "not known in optimizer_params"),
        ("stages/stage1/optimizer_params/lr=x:str", None, "a number is wanted here"),
        ("stages/stage1/optimizer_params/optimizer=Adan:str", None, "one of SGD, Adam,"),
        ("stages/stage1/optimizer_params/load_from_previous_stage=true", None, "not known"),
        ("stages/stage1/scheduler_params/scheduler=ReduceLROnPlateau:str", None, "no schedule"),
        ("stages/criterion_params/criterion=DiceLoss:str", None, "a loss of image regions"),
        ("stages/callbacks_params/x={callback: LRFinder}:dict",
         "stages/callbacks_params/x/callback", "run `discern lr-find DATA`"),
        ("stages/stage2/data_params={image_size: 32}:dict",
         "stages/stage2/data_params/image_size", "data.image_size is already 64"),
        ("model_params/state_dict=a.pth:str", None, "pickled weights are not loaded"),
        ("args/resume=x:str", None, "say --resume"),
        ("nonsense=1:int", None, "not known"),
        ("distributed_params/opt_level=O3:str", None, "all in half precision"),
        ("stages/stage1/state_params=3:int", "stages/stage1/state_params", "a mapping is wanted"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_refused(tmp_path, change, source, why):
    source = source or change.partition("=")[0]
    refused = imported(tmp_path, TWO_STAGES, f"--{change}").refused
    assert source in [row.source for row in refused]
    assert any(row.why.startswith(why) for row in refused)
    assert (
        []
        == imported(
            tmp_path, TWO_STAGES, f"--{change}", skip={row.source for row in refused}
        ).refused
    )


MULTI_HEAD_NET = """
model_params:
  model: MultiHeadNet
  encoder_params: {arch: resnet34, pooling: GlobalConcatPool2d, pretrained: true, frozen: true,
                   cut_layers: 2, pooling_kwargs: {features_in: 512}}
  embedding_net_params: {hiddens: [256], norm_fn: BatchNorm1d, activation_fn: ReLU, dropout: 0.5,
                         layer_fn: {module: Linear, bias: false}}
  heads_params: {logits: 10}
stages:
  data_params: {in_csv_train: train.csv, in_csv_valid: valid.csv, in_csv_infer: other.csv}
  callbacks_params: {s: {callback: CheckpointCallback, load_on_stage_end: best_full}}
  stage1: {state_params: {num_epochs: 20}}
  stage2: {state_params: {num_epochs: 10}}
  infer:
    callbacks_params:
      loader: {callback: CheckpointCallback, resume: logs/checkpoints/best.pth}
      infer: {callback: InferCallback, out_prefix: /predictions}
"""


def test_multi_head_net_is_pooling_embedding_and_head(tmp_path):
    model = imported(tmp_path, MULTI_HEAD_NET).config["model"]
    embedding = {"hiddens": [256], "dropout": 0.5, "norm": "batch", "activation": "relu"}
    assert ("resnet34", "pretrained") == (model["name"], model["weights"])
    assert ({"name": "concat"}, embedding) == (model["pooling"], model["embedding"])


def test_a_frozen_encoder_is_freed_by_the_second_stage(tmp_path):
    stages = imported(tmp_path, MULTI_HEAD_NET).config["stages"]
    assert ["head", "embedding"] == stages["stage1"]["trainable"]
    assert ("all", "best") == (stages["stage2"]["trainable"], stages["stage2"]["start_from"])


@pytest.mark.feature("CA-23")
def test_infer_stages_predict_on_their_table(tmp_path):
    one = imported(tmp_path, MULTI_HEAD_NET)
    assert {"kind": "predict", "start_from": "best", "source": "other.csv"} == (
        one.config["stages"]["infer"]
    )
    assert ("train.csv", "valid.csv") == tuple(one.config["data"].values())


@pytest.mark.parametrize(
    "change",
    [
        "encoder_params/cut_layers=1:int", "encoder_params/pooling=Other:str",
        "embedding_net_params/norm_fn=GroupNorm:str", "embedding_net_params/residual=true",
        "heads_params/color=5:int", "encoder_params/state_dict=x.pth:str",
    ],
)  # fmt: skip
def test_parts_of_a_network_that_there_are_not(tmp_path, change):
    source = f"model_params/{change.partition('=')[0]}"
    refused = imported(tmp_path, MULTI_HEAD_NET, f"--model_params/{change}").refused
    assert [source] == [row.source for row in refused]


def test_skip_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, TWO_STAGES, skip=["stages/stage9"])
    assert "--skip names nothing that is refused" == caught.value.what


@pytest.mark.parametrize(
    ("optimizer", "callback", "expected"),
    [
        ("{optimizer: Adam, weight_decay: 0.1}", "", "adamw"),
        ("{optimizer: Adam, weight_decay: 0.1}", "decouple_weight_decay: false", "adam"),
        ("{optimizer: Adam}", "", "adam"),
        ("{optimizer: SGD, momentum: 0.9, weight_decay: 0.1}", "",
         {"name": "sgdw", "args": {"momentum": 0.9, "nesterov": False}}),
        ("{optimizer: SGD, weight_decay: 0.1}", "",
         {"name": "sgd", "args": {"momentum": 0.0, "nesterov": False}}),
        ("{optimizer: RAdam, weight_decay: 0.1, betas: [0.9, 0.99]}", "",
         {"name": "radam", "args": {"betas": [0.9, 0.99]}}),
        ("{optimizer: Lookahead, k: 6, base_optimizer_params: {optimizer: RAdam, lr: 0.2}}", "",
         {"name": "lookahead_radam", "args": {"k": 6}}),
    ],
)  # fmt: skip
def test_optimizers_decay_as_they_did(tmp_path, optimizer, callback, expected):
    body = (
        f"optimizer_params: {optimizer}, "
        f"callbacks_params: {{o: {{callback: OptimizerCallback, {callback}}}}}"
    )
    assert expected == stage_of(tmp_path, body)["optimizer"]


def test_names_that_are_emitted_are_known():
    for name in (*OPTIMIZERS.values(), "sgdw", "lookahead_radam"):
        assert name == resolve_optimizer(name).name or name.startswith("lookahead")
    assert set() == {ours for ours, _ in CRITERIA.values()} - set(OBJECTIVES)


def test_linear_scaling_and_bias_without_decay(tmp_path):
    body = (
        "optimizer_params: {optimizer: AdamW, weight_decay: 0.1, no_bias_weight_decay: false, "
        "lr_linear_scaling: {lr: 0.1, base_batch_size: 128}}"
    )
    stage = stage_of(tmp_path, body)
    assert (0.1, 128, True) == (stage["lr_base"], stage["lr_base_size"], stage["decay_all"])
    assert {"lr", "no_decay"}.isdisjoint(stage)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("{scheduler: StepLR, step_size: 2, gamma: 0.5}", ("step", {"every": 2, "gamma": 0.5})),
        ("{scheduler: ExponentialLR, gamma: 0.9}", ("step", {"every": 1, "gamma": 0.9})),
        ("{scheduler: CosineAnnealingLR, T_max: 4}",
         ("per_epoch", {"factors": [1.0, 0.853553390593, 0.5, 0.146446609407, 0.0,
                                    0.146446609407, 0.5, 0.853553390593]})),
        (ONE_CYCLE,
         ("one_cycle_warmup",
          {"rise": 0.1, "low": 0.1, "fall": 0.2, "begin": 0.2, "final": 0.01})),
    ],
)  # fmt: skip
def test_schedules_keep_the_rate_of_each_epoch(tmp_path, scheduler, expected):
    stage = stage_of(tmp_path, f"optimizer_params: {{lr: 0.5}}, scheduler_params: {scheduler}")
    assert expected[0] == stage["schedule"]["name"]
    for name, value in expected[1].items():
        assert pytest.approx(value) == stage["schedule"]["args"][name]
    assert (0.01 if "lr_range" in scheduler else 0.5) == stage["lr"]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("{criterion: CrossEntropyLoss, weight: [1, 2]}",
         {"name": "cross_entropy", "args": {"class_weights": [1, 2]}}),
        ("{criterion: BCEWithLogitsLoss}", "bce"),
        ("{criterion: FocalLossMultiClass, gamma: 1}", {"name": "focal", "args": {"gamma": 1}}),
        ("{criterion: FocalLossBinary}", {"name": "focal_binary", "args": {"alpha": 0.25}}),
        ("{criterion: SymmetricCrossEntropyLoss}",
         {"name": "symmetric_cross_entropy", "args": {"alpha": 1.0, "beta": 1.0}}),
    ],
)  # fmt: skip
def test_criteria_have_catalysts_own_defaults(tmp_path, criterion, expected):
    assert expected == stage_of(tmp_path, f"criterion_params: {criterion}")["objective"]


def test_several_criteria_are_summed_with_their_weights(tmp_path):
    body = """
criterion_params: {_key_value: true, a: {criterion: CrossEntropyLoss},
                   b: {criterion: FocalLossMultiClass}, c: {criterion: EmbeddingsNormLoss}},
callbacks_params: {
  l1: {callback: CriterionCallback, criterion_key: a, prefix: loss_a},
  l2: {callback: CriterionCallback, criterion_key: b, prefix: loss_b, multiplier: 2},
  l3: {callback: CriterionCallback, criterion_key: c, output_key: embeddings, prefix: loss_c},
  sum: {callback: MetricAggregationCallback, mode: weighted_sum,
        metrics: {loss_a: 1.0, loss_b: 0.25}}}
"""
    expected = [
        {"name": "cross_entropy", "label": "loss_a"},
        {"name": "focal", "label": "loss_b", "weight": 0.5},
    ]
    assert expected == stage_of(tmp_path, body)["objective"]["args"]["terms"]


def test_accumulated_batches_are_one_batch_divided(tmp_path):
    body = (
        "data_params: {batch_size: 32}, callbacks_params: {o: {callback: OptimizerCallback, "
        "accumulation_steps: 4, grad_clip_params: {func: clip_grad_norm_, max_norm: 2}}}"
    )
    stage = stage_of(tmp_path, body)
    assert (128, 4, 2.0) == tuple(stage[k] for k in ("batch_size", "grad_accum_steps", "clip_grad"))


def test_callbacks_that_are_settings_here(tmp_path):
    body = """
state_params: {main_metric: accuracy01, minimize_metric: false},
callbacks_params: {m: {callback: MixupCallback, alpha: 0.4}, c: {callback: CutmixCallback},
                   e: {callback: EarlyStoppingCallback, patience: 3, metric: accuracy01},
                   s: {callback: CheckpointCallback, save_n_best: 7}}
"""
    stage = stage_of(tmp_path, body)
    expected = {"mixup": 0.4, "cutmix": 1.0, "patience": 3, "keep_top": 7}
    assert expected == {name: stage[name] for name in expected}


def test_transforms_become_steps(tmp_path):
    body = """
transform_params: {_key_value: true, train: {transform: Compose, transforms: [
  {transform: LongestMaxSize, max_size: 64}, {transform: HorizontalFlip},
  {transform: ShiftScaleRotate, shift_limit: 0.1, rotate_limit: 15, p: 1.0},
  {transform: Normalize, mean: [0.5], std: [0.2]}, {transform: ToTensorV2}]},
  valid: {transform: ToTensorV2}}
"""
    one = imported(tmp_path, f"stages: {{one: {{{body}}}}}")
    steps = [
        {"name": "mirror", "probability": 0.5},
        {"name": "shift_scale_rotate", "shift": 0.1, "scale": 0.1, "angle": 15.0},
    ]
    assert {"name": "own", "args": {"steps": steps}} == one.config["stages"]["one"]["augment"]
    assert {"fit": "pad", "mean": [0.5], "std": [0.2]} == one.config["data"]
    assert "heavy" == stage_of(tmp_path, "criterion_params: null")["augment"]


ONE_OF = """
transform_params: {train: {transform: Compose, transforms: [{transform: OneOf, p: 0.3, transforms: [
  {transform: ToGray}, {transform: JpegCompression, quality_lower: 50}]}]}}
"""


def test_a_choice_among_transforms_is_a_step_with_options(tmp_path):
    augment = stage_of(tmp_path, ONE_OF)["augment"]
    options = [{"name": "grey"}, {"name": "jpeg", "low": 50, "high": 100}]
    step = {"name": "one_of", "options": options, "probability": 0.3}
    assert {"name": "own", "args": {"steps": [step]}} == augment
    (built,) = listed_policy(**augment["args"]).steps
    assert Step(operation=OneOf(options=(Grey(), Jpeg(low=50, high=100))), probability=0.3) == built


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (ONE_OF.replace("ToGray", "ToGray, p: 0.1"), "a choice of unlike chances"),
        (ONE_OF.replace("ToGray", "RandomFog"), "one of HorizontalFlip,"),
    ],
)
def test_choices_that_are_not_even_or_not_known_are_refused(tmp_path, body, why):
    refused = imported(tmp_path, f"stages: {{one: {{{body}}}}}").refused
    assert any(row.why.startswith(why) for row in refused)


def test_class_order_of_tag2class(tmp_path):
    labels = tmp_path / "tag2class.json"
    labels.write_text('{"b": 0, "a": 1}')
    body = f"data_params: {{tag_column: tag, tag2class: {labels}}}"
    data = imported(tmp_path, f"stages: {{one: {{{body}}}}}").config["data"]
    assert {"labels": "tag", "classes": ["b", "a"]} == data
    labels.write_text('{"a": 0, "b": 1}')
    assert {"labels": "tag"} == imported(tmp_path, f"stages: {{one: {{{body}}}}}").config["data"]


@pytest.mark.feature("CA-21")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--a/b=3:int", 3), ("--a/b=3:float", 3.0), ("--a/b=3:str", "3"), ("--a/b=None:str", None),
        ("--a/b=[1, x]:list", [1, "x"]), ("--a/b={k: 2}:dict", {"k": 2}), ("--a/b=True:bool", True),
        ("--a/b=1e-3", 0.001), ("--a/b=x:y:str", "x:y"),
    ],
)  # fmt: skip
def test_overrides_are_typed(text, expected):
    assert {"a": {"b": expected, "c": 1}} == apply_overrides({"a": {"c": 1}}, [text])


@pytest.mark.feature("CA-21")
@pytest.mark.parametrize(
    "text",
    ["--a/b=x:int", "--a/b=1.5:int", "--a/b=1:list", "--c/b=1", "--a/c/d=1", "--a//b=1", "--a/b",
     "--a/b=__import__('os'):dict"],
)  # fmt: skip
def test_bad_overrides_are_errors(text):
    with pytest.raises(ConfigError):
        apply_overrides({"a": {"c": 1}}, [text])


def test_files_merge_before_they_are_read(tmp_path):
    paths = [tmp_path / name for name in ("a.yml", "b.json")]
    paths[0].write_text(TWO_STAGES)
    paths[1].write_text('{"stages": {"stage2": null, "state_params": {"num_epochs": 9}}}')
    (one,) = import_configs(paths)
    assert {"stage1": 9} == {name: s["epochs"] for name, s in one.config["stages"].items()}


SIDE_HEADS = """
model_params:
  model: MultiHeadNet
  encoder_params: {arch: resnet18}
  heads_params: {logits: 10, rotation_logits: 8, blur_logits: 8}
stages:
  criterion_params: {_key_value: true, bce: {criterion: BCEWithLogitsLoss},
                     ce: {criterion: CrossEntropyLoss}}
  callbacks_params:
    l1: {callback: CriterionCallback, criterion_key: bce, prefix: loss_class}
    l2: {callback: CriterionCallback, criterion_key: ce, prefix: loss_rot,
         input_key: rotation_factor, output_key: rotation_logits}
    l3: {callback: CriterionCallback, criterion_key: bce, prefix: loss_blur,
         output_key: blur_logits}
    sum: {callback: MetricAggregationCallback, mode: weighted_sum,
          metrics: {loss_class: 1, loss_rot: 0.5, loss_blur: 1}}
  stage1: {}
"""


@pytest.mark.feature("CA-31")
def test_heads_of_made_labels_keep_criteria_and_weights(tmp_path):
    config = imported(tmp_path, SIDE_HEADS).config
    assert ["rotation", "blur"] == config["data"]["side_heads"]
    stage = config["stages"]["stage1"]
    assert ("bce", {"rotation": {"weight": 0.5}, "blur": {"objective": "bce"}}) == (
        stage["objective"], stage["heads"],
    )  # fmt: skip
