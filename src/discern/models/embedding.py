"""A network as encoder: its features or its pooled maps, an embedding block, and a new head.

The encoder is any network whose face `Classifier` knows: own ones, timm's, the user's. Axes: N
images, C channels, H height, W width, E encoder features, D embedding, K classes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError, ModelError
from discern.models.changes import EmbeddingBlock, ModelChanges
from discern.models.classifier import Classifier, Route
from discern.models.nets.headed import HeadedNetwork
from discern.models.pooling import build_pooling

_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class EmbeddingNetwork(HeadedNetwork):
    """`encoder` -> `pooling` (none: the encoder's own) -> `embedding` -> `head`, linear.

    `route` is how the encoder gives its own features, see `classifier.Route`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        route: Route,
        pooling: nn.Module | None,
        embedding: nn.Module,
        head: nn.Linear,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.route = route
        self.pooling = pooling
        self.embedding = embedding
        self.head = head

    def pooled(self, images: Tensor) -> Tensor:
        """The encoder's features [N, E] of `images` [N, C, H, W]."""
        if self.pooling is None:
            return encoder_features(self.encoder, self.route, images)
        pooled: Tensor = self.pooling(encoder_maps(self.encoder, images))
        return pooled

    def features(self, images: Tensor) -> Tensor:
        """Embeddings [N, D] of `images` [N, C, H, W]."""
        embeddings: Tensor = self.embedding(self.pooled(images))
        return embeddings

    def set_grad_checkpointing(self, enable: bool = True) -> None:  # noqa: FBT001, FBT002 - timm's
        """As the encoder's own. Raises ModelError for one that has none."""
        change = getattr(self.encoder, "set_grad_checkpointing", None)
        if change is None:
            raise ModelError(
                "this network has no blocks to compute again", where=type(self.encoder).__name__
            )
        change(enable)


def embed_network(model: Classifier, changes: ModelChanges, sample: Tensor) -> Classifier:
    """The classifier whose encoder is `model`'s network without its classifying layer.

    `sample` [1, C, H, W] is sent through it to learn the widths. The layers of the encoder that
    nothing reads any more (its own pooled head) are left out. Raises ModelError for a network that
    gives no features, or no maps where a pooling is asked for.
    """
    network = model.network
    layer = _classifying_layer(model)
    if model.route is Route.PLAIN:
        raise ModelError(
            "an embedding needs features, and this network gives logits only",
            where=type(network).__name__,
            expected="a method `features` and a linear layer `head`",
        )
    classes = int(layer.out_features)
    parent, _, last = model.inner_head_names[0].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    network.eval()
    pooling = _pooling(network, changes, sample)
    with torch.no_grad():
        seen = (
            encoder_features(network, model.route, sample)
            if pooling is None
            else pooling(encoder_maps(network, sample))
        )
    width = int(seen.shape[1])
    embedding: nn.Module = nn.Identity()
    if changes.embedding is not None:
        embedding, width = build_block(changes.embedding, width)
    embedded = EmbeddingNetwork(
        network,
        route=model.route,
        pooling=pooling,
        embedding=embedding,
        head=nn.Linear(width, classes),
    )
    _leave_out_unused(embedded, sample)
    names = tuple(
        f"network.{part}"
        for part in ("pooling", "embedding", "head")
        if any(name.startswith(f"{part}.") for name, _ in embedded.named_parameters())
    )
    return Classifier(embedded.train(), route=Route.EMBEDDED, head_names=names)


def build_block(block: EmbeddingBlock, width: int) -> tuple[nn.Sequential, int]:
    """The layers of `block` over features [N, width], and the width of its embeddings."""
    layers: list[nn.Module] = []
    for hidden in block.hiddens:
        layers.append(nn.Linear(width, hidden))
        if block.norm != "none":
            layers.append(_NORMS[block.norm](hidden))
        if block.activation != "none":
            layers.append(_ACTIVATIONS[block.activation]())
        if block.dropout:
            layers.append(nn.Dropout(block.dropout))
        width = hidden
    return nn.Sequential(*layers), width


def encoder_features(encoder: nn.Module, route: Route, images: Tensor) -> Tensor:
    """The features [N, E] that the network itself puts in front of its classifier."""
    network = cast("Any", encoder)
    if route is Route.OWN:
        features: Tensor = network.features(images)
    elif route is Route.SPLIT:
        features = network.forward_head(network.forward_features(images), pre_logits=True)
    else:
        features = encoder_maps(encoder, images).mean((2, 3))
    return features


def encoder_maps(encoder: nn.Module, images: Tensor) -> Tensor:
    """The last feature maps [N, C, H, W]; tokens [N, T, C] become maps of one row.

    Raises ModelError for a network without maps.
    """
    network = cast("Any", encoder)
    if hasattr(network, "forward_features"):
        maps: Tensor = network.forward_features(images)
        if maps.ndim == 3:
            return maps.transpose(1, 2)[:, :, None, :]
        if maps.ndim == 4 and maps.shape[1] != network.num_features == maps.shape[3]:
            return maps.permute(0, 3, 1, 2)  # timm's hierarchical transformers: channels last
    elif callable(getattr(network, "maps", None)):
        maps = network.maps(images)
    else:
        maps = torch.empty(0)
    if maps.ndim != 4:
        raise ModelError(
            "this network has no feature maps to pool",
            where=type(encoder).__name__,
            hint="leave model.pooling out: its own features go to the embedding block",
        )
    return maps


def _classifying_layer(model: Classifier) -> nn.Linear:
    names = model.inner_head_names
    layer = model.network.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(layer, nn.Linear):
        raise ModelError(
            "the classifier of this network is no single linear layer that could be exchanged",
            where=type(model.network).__name__,
            got="nothing" if layer is None else type(layer).__name__,
            hint="leave model.pooling and model.embedding out",
        )
    return layer


def _pooling(network: nn.Module, changes: ModelChanges, sample: Tensor) -> nn.Module | None:
    if changes.pooling is None:
        return None
    with torch.no_grad():
        maps = encoder_maps(network, sample)
    pooling = build_pooling(changes.pooling, int(maps.shape[1]), changes.pooling_args)
    try:
        with torch.no_grad():
            pooling(maps)
    except RuntimeError as error:
        raise ConfigError(
            f"the pooling does not fit the feature maps: {error}",
            where="model.pooling",
            got=f"maps of {maps.shape[2]} x {maps.shape[3]} pixels",
        ) from error
    return pooling


def _leave_out_unused(network: EmbeddingNetwork, sample: Tensor) -> None:
    """Exchange the encoder's layers that no gradient reaches for nothing.

    Else they would be trained by nobody, stored in every bundle, and waited for by other ranks.
    """
    network.eval()
    with torch.enable_grad():
        network.pooled(sample).sum().backward()  # type: ignore[no-untyped-call]
    used = {name for name, p in network.encoder.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    for name, module in list(network.encoder.named_modules()):
        if not name:
            continue
        inner = [f"{name}.{key}" for key, _ in module.named_parameters()]
        if inner and not used.intersection(inner) and _still_there(network.encoder, name):
            parent, _, last = name.rpartition(".")
            setattr(network.encoder.get_submodule(parent), last, nn.Identity())


def _still_there(network: nn.Module, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False  # an outer module was taken out already
    return True
