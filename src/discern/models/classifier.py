"""One face for every network: images in, logits and features out; which parameters learn.

Owns `Output`, the wrapper `Classifier`, freezing by name, and training mode with frozen parts left
as they are. Knows no weights file and no architecture by name.
Axes: N images, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError, ModelError
from discern.base.names import did_you_mean

_PREFIX = "network."
_REGEX = "re:"


class Output(NamedTuple):
    """What every classifier gives: `logits` [N, K] and `features` [N, D], in the compute dtype.

    `features` are what the head reads. `encoded` [N, E]: the features in front of an embedding
    block, of a network that has one; the features are then its embeddings.
    Of several heads `logits` is a dict by head name: see `named_heads.head_logits`.
    """

    logits: Tensor
    features: Tensor
    encoded: Tensor | None = None


class Route(Enum):
    """How features and logits are had from a network in one pass."""

    OWN = "features, then head"
    SPLIT = "pooled features, then the classifier layer"
    POOLED = "logits from the head, features by averaging the maps"
    PLAIN = "logits only"
    EMBEDDED = "pooled features, embeddings, then head"


class Classifier(nn.Module):
    """A network that answers with `Output`.

    `network` is any module [N, C, H, W] -> [N, K]. `head_names` are the prefixes, in
    `named_parameters()` of this module, of the classifying layers. Built by `wrap_network`.
    """

    def __init__(self, network: nn.Module, *, route: Route, head_names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.route = route
        self.head_names = head_names
        self.feature_width: int | None = None  # D, as `wrap_network` found it

    def forward(self, images: Tensor) -> Output:
        """Logits [N, K] and features [N, D] of normalized `images` [N, C, H, W]."""
        if self.route in (Route.OWN, Route.SPLIT, Route.EMBEDDED):
            return self.classify(self.embed(images))
        network = cast("Any", self.network)
        if self.route is Route.POOLED:
            maps = network.forward_features(images)
            logits = network.forward_head(maps)
            return Output(logits, _average_maps(maps, int(network.num_features)))
        logits = network(images)
        return Output(logits, logits)

    @property
    def splits(self) -> bool:
        """True if `embed` gives, without learning, all that `classify` reads."""
        if self.route is Route.EMBEDDED:
            pooling = cast("Any", self.network).pooling
            return pooling is None or not any(True for _ in pooling.parameters())
        return self.route is Route.OWN or self.route is Route.SPLIT

    def embed(self, images: Tensor) -> Tensor:
        """What `classify` reads, features [N, D], of normalized `images` [N, C, H, W].

        Under an embedding block these are the encoder's: the block is trained with the head. Only
        for the routes `OWN`, `SPLIT` and `EMBEDDED`.
        """
        network = cast("Any", self.network)
        features: Tensor
        if self.route is Route.EMBEDDED:
            features = network.pooled(images)
        elif self.route is Route.OWN:
            features = network.features(images)
        else:
            features = network.forward_head(network.forward_features(images), pre_logits=True)
        return features

    def classify(self, features: Tensor) -> Output:
        """The head alone: logits [N, K] of `features` [N, D] that `embed` gave."""
        network = cast("Any", self.network)
        if self.route is Route.EMBEDDED:
            embeddings = network.embedding(features)
            return Output(network.head(embeddings), embeddings, features)
        head = network.head if self.route is Route.OWN else network.get_classifier()
        return Output(head(features), features)

    @property
    def inner_head_names(self) -> tuple[str, ...]:
        """The head's prefixes in `network.named_parameters()`, as weights files name them."""
        return tuple(name.removeprefix(_PREFIX) for name in self.head_names)

    def is_head(self, name: str) -> bool:
        """True if the parameter or buffer `name` (as in `named_parameters()`) is in the head."""
        return any(name == head or name.startswith(f"{head}.") for head in self.head_names)


def wrap_network(network: nn.Module, sample: Tensor, num_classes: int | None = None) -> Classifier:
    """A `Classifier` around `network`, by the best route that gives exactly its own logits.

    `sample` [N, C, H, W] is sent through the network in evaluation mode, so that the choice is
    tried and not guessed. A network without `features` and `head`, or timm's `forward_features` and
    `forward_head`, gives its logits as features. Raises ModelError if no pass succeeds, or if it
    gives another number of logits than `num_classes`.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            expected = _first_pass(network, sample)
            if num_classes not in (None, expected.shape[1]):
                raise _other_width(network, expected.shape[1], num_classes)
            for route in _candidate_routes(network):
                classifier = Classifier(network, route=route, head_names=_head_names(network))
                if _gives(classifier, sample, expected):
                    return classifier
    finally:
        network.train(was_training)
    classifier = Classifier(network, route=Route.PLAIN, head_names=_head_names(network))
    classifier.feature_width = int(expected.shape[1])
    return classifier


def set_trainable(model: Classifier, patterns: str | Sequence[str]) -> list[str]:
    """Let only the named parameters learn; gives their names as in `named_parameters()`.

    `patterns`: `all`, `head`, or a list of these, of shell patterns (`layer4.*`), of module names
    (`layer4`), and of regular expressions (`re:blocks\\.[56]\\..*`), matched to names inside the
    network. Every other parameter is frozen. Raises ConfigError for a pattern that matches nothing.
    """
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    names = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for pattern in wanted:
        matched = [name for name in names if _matches(model, name, pattern)]
        if not matched:
            known = {part for name in names for part in _ancestors(name.removeprefix(_PREFIX))}
            raise ConfigError(
                f"no parameter matches '{pattern}'",
                where="trainable",
                got=pattern,
                expected="'all', 'head', a module name, a shell pattern or re:EXPRESSION",
                hint=did_you_mean(pattern, sorted(known)),
            )
        chosen.update(matched)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return [name for name in names if name in chosen]


def train_mode(model: nn.Module) -> None:
    """Put `model` in training mode, but leave fully frozen parts in evaluation mode.

    So their batch norm keeps its statistics and their dropout stays off: frozen features are the
    features that evaluation sees.
    """
    model.train()
    for module in model.children():
        _calm_frozen(module)


def _calm_frozen(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        module.eval()
        return
    for child in module.children():
        _calm_frozen(child)


def _first_pass(network: nn.Module, sample: Tensor) -> Tensor:
    try:
        logits = network(sample)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(
            "the network cannot take images of this size",
            where=type(network).__name__,
            got=f"{tuple(sample.shape)}: {error}",
            hint="choose another image size (--img-size) or number of channels (--channels)",
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            "the network does not give one row of logits an image",
            where=type(network).__name__,
            got=shape,
            expected="a tensor [N, K]",
        )
    return logits


def _other_width(network: nn.Module, width: int, num_classes: int | None) -> ModelError:
    return ModelError(
        "the network does not give a logit for each class",
        where=type(network).__name__,
        got=f"{width} logits an image",
        expected=f"{num_classes}, as its parameter num_classes says",
    )


def _candidate_routes(network: nn.Module) -> list[Route]:
    routes = []
    needed = ("forward_features", "forward_head", "get_classifier", "num_features")
    if all(hasattr(network, name) for name in needed):
        routes += [Route.SPLIT, Route.POOLED]
    if _has_own_face(network):
        routes.append(Route.OWN)
    return routes


def _has_own_face(network: nn.Module) -> bool:
    """True for `features` and `head` as in Discern's own networks; timm's VGG means others."""
    own = callable(getattr(network, "features", None)) and hasattr(network, "head")
    return own and not hasattr(network, "forward_features")


def _gives(classifier: Classifier, sample: Tensor, expected: Tensor) -> bool:
    try:
        output = classifier(sample)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError):
        return False  # this route is not for this network; the caller tries the next
    logits, features, _ = output
    if not (isinstance(logits, Tensor) and isinstance(features, Tensor)):
        return False
    if features.ndim != 2 or logits.shape != expected.shape or not torch.equal(logits, expected):
        return False
    classifier.feature_width = int(features.shape[1])
    return True


def _average_maps(maps: Tensor, width: int) -> Tensor:
    """Maps [N, D, H, W], [N, H, W, D] or tokens [N, T, D] averaged to [N, D]."""
    if maps.ndim == 4:
        return maps.mean((2, 3)) if maps.shape[1] == width else maps.mean((1, 2))
    if maps.ndim == 3:
        return maps.mean(1)
    return maps


def _head_names(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifying layers: `head`, timm's own record, or the last linear layer."""
    if _has_own_face(network):
        return (f"{_PREFIX}head",)
    record = getattr(network, "pretrained_cfg", None) or {}
    listed = record.get("classifier") if hasattr(record, "get") else None
    if listed:
        names = (listed,) if isinstance(listed, str) else tuple(listed)
        return tuple(f"{_PREFIX}{name}" for name in names)
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return (f"{_PREFIX}{linear[-1]}",) if linear else ()


def _matches(model: Classifier, name: str, pattern: str) -> bool:
    if pattern == "all":
        return True
    if pattern == "head":
        return model.is_head(name)
    inner = name.removeprefix(_PREFIX)
    if pattern.startswith(_REGEX):
        try:
            return re.fullmatch(pattern.removeprefix(_REGEX), inner) is not None
        except re.error as error:
            raise ConfigError(
                f"not a regular expression: {error}", where="trainable", got=pattern
            ) from error
    return fnmatchcase(inner, pattern) or pattern in _ancestors(inner)


def _ancestors(name: str) -> list[str]:
    """`layer4.0.conv1.weight` and every module that holds it: `layer4`, `layer4.0`, ..."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
