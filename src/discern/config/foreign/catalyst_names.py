"""Catalyst's names and today's: optimizers, criteria, poolings, callbacks, metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

STAGE_PARTS: Final = (
    "state_params",
    "data_params",
    "transform_params",
    "criterion_params",
    "optimizer_params",
    "scheduler_params",
    "callbacks_params",
)

OPTIMIZERS: Final = {
    name: name.lower()
    for name in (
        "SGD", "Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD",
        "RAdam", "Lamb", "RAlamb", "QHAdamW",
    )
} | {"Ralamb": "ralamb"}  # fmt: skip
# What decays apart from the gradient by itself, so that Catalyst's switch changes nothing.
SELF_DECOUPLED: Final = frozenset(("adamw", "radam", "lamb", "ralamb", "qhadamw"))

# (our objective, {its argument: ours}); arguments of the value None change nothing here.
CRITERIA: Final[dict[str, tuple[str, dict[str, str | None]]]] = {
    "CrossEntropyLoss": (
        "cross_entropy",
        {"weight": "class_weights", "label_smoothing": "smoothing", "reduction": None},
    ),
    "NaiveCrossEntropyLoss": ("cross_entropy", {"size_average": None}),
    "BCEWithLogitsLoss": ("bce", {"reduction": None}),
    "FocalLossMultiClass": ("focal", {"gamma": "gamma", "alpha": "alpha", "ignore": None}),
    "FocalLossBinary": ("focal_binary", {"gamma": "gamma", "alpha": "alpha", "ignore": None}),
    "SymmetricCrossEntropyLoss": (
        "symmetric_cross_entropy",
        {"alpha": "alpha", "beta": "beta"},
    ),
    "EmbeddingsNormLoss": ("embedding_norm", {}),
}
# Catalyst's own defaults where ours differ.
CRITERION_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "FocalLossBinary": {"alpha": 0.25},
    "SymmetricCrossEntropyLoss": {"alpha": 1.0, "beta": 1.0},
}
CRITERIA_REFUSED: Final = {
    "MaskCrossEntropyLoss": "a mask in the data; missing labels are left out by themselves",
    "ContrastiveEmbeddingLoss": "pairs in the data; `contrastive` makes them of each batch",
    "ContrastiveDistanceLoss": "pairs in the data; `contrastive` makes them of each batch",
    "ContrastivePairwiseEmbeddingLoss": "pairs in the data; `contrastive` makes them itself",
    "TripletLoss": "its mining differs from `triplet`, which takes the hardest of each batch",
    "MarginLoss": "its pairs differ from those of `margin`",
    **dict.fromkeys(
        ("HuberLoss", "WingLoss"), "a loss of numbers to be foretold, not of classes"
    ),
    **dict.fromkeys(
        ("DiceLoss", "IoULoss", "LovaszLossBinary", "LovaszLossMultiClass",
         "LovaszLossMultiLabel", "BCEDiceLoss", "BCEIoULoss"),
        "a loss of image regions, not of classes",
    ),
}  # fmt: skip

POOLINGS: Final = {
    "GlobalAvgPool2d": "avg",
    "GlobalMaxPool2d": "max",
    "GlobalConcatPool2d": "concat",
    "GlobalAttnPool2d": "attn",
    "GlobalAvgAttnPool2d": "avg_attn",
    "GlobalMaxAttnPool2d": "max_attn",
    "GlobalConcatAttnPool2d": "concat_attn",
    "MaxPool2d": "max_pool",
}
NORMS: Final = {"BatchNorm1d": "batch", "LayerNorm": "layer"}
ACTIVATIONS: Final = {"ReLU": "relu", "GELU": "gelu", "SiLU": "silu", "Tanh": "tanh"}
SIDE_HEADS: Final = {
    "rotation_logits": "rotation",
    "class_rotation_logits": "class_rotation",
    "blur_logits": "blur",
    "flare_logits": "flare",
}

METRICS: Final = {
    "AUCCallback": ("auc",),
    "F1ScoreCallback": ("f1",),
    "PrecisionRecallF1ScoreCallback": ("precision", "recall", "f1"),
    "MeterMetricsCallback": (),
    "IouCallback": ("iou",),
    "DiceCallback": ("dice",),
}
MONITORS: Final = {
    "loss": "loss",
    "accuracy": "accuracy",
    "accuracy01": "accuracy",
    "accuracy1": "accuracy",
    "auc": "auc",
    "auc/_mean": "auc",
    "f1_score": "macro_f1",
}
# What every run has anyway.
BUILT_IN: Final = frozenset(
    (
        "TimerCallback", "Timer", "VerboseLogger", "ConsoleLogger", "TensorboardLogger",
        "ExceptionCallback", "RaiseExceptionCallback", "MetricManagerCallback",
        "ValidationManagerCallback", "MetricsFormatter", "ConfusionMatrixCallback",
        "PhaseManagerCallback", "PhaseBatchWrapperCallback", "DebugCallback",
    )
)  # fmt: skip
SERVICES: Final = frozenset(
    ("AlchemyLogger", "NeptuneLogger", "VisdomLogger", "WandbLogger", "TelegramLogger")
)
CALLBACKS_REFUSED: Final = {
    "LRFinder": "run `discern lr-find DATA` instead of a stage",
    "BatchOverfitCallback": "say --overfit-batches when training",
    "CheckRunCallback": "say --check when training",
    "KNNMetricCallback": "Recall@k goes with metric-learning objectives",
    "PruningCallback": "networks are not pruned",
    "DynamicQuantizationCallback": "say it when exporting",
    "TracerCallback": "say it when exporting: `discern export`",
    "OptunaPruningCallback": "trials are ended by `discern sweep`",
    "OptunaCallback": "trials are ended by `discern sweep`",
    "IterationCheckpointCallback": "say tracking.callbacks: [{name: checkpoint_every, ...}]",
}


@dataclass(slots=True)
class Facts:
    """What several sections of a Catalyst config need to know of one another."""

    frozen: bool | None = None
    frozen_source: str = ""
    embedding: bool = False
    side_heads: list[str] = field(default_factory=list)
    infer_table: str | None = None
    start_from: str | None = None  # what the stage before leaves the next one
