"""The `model` section: which network, built how, from which weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from discern.config.schema.section import Section, Spec


class EmbeddingConfig(Section):
    """A block of layers between the network's features and its head."""

    hiddens: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="widths of its layers, such as [256] or [2048, 256]"
    )
    dropout: float = Field(0.5, ge=0.0, lt=1.0, description="share of values left out in training")
    norm: Literal["batch", "layer", "none"] = Field("batch", description="norm of each layer")
    activation: Literal["relu", "gelu", "silu", "tanh", "none"] = Field(
        "relu", description="activation of each layer"
    )


class ModelConfig(Section):
    """The network by name, its arguments and changes, and where its weights come from."""

    name: str | None = Field(
        None, description="network name or import path; default: by image size"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="the builder's arguments")
    weights: str | None = Field(
        None,
        description="pretrained, none, or a .safetensors file; default: pretrained for photos, "
        "none for images up to 64 pixels and for networks without published weights",
    )
    skip_weights: list[str] = Field(
        default_factory=list,
        description="parts of the names of tensors that the weights do not fill",
    )
    init: Spec | None = Field(
        None,
        description="initial values of what no weights fill: default, xavier, msra, orthogonal, "
        "normal, uniform, one, zero; and arguments; default: the network's own",
    )
    stem: Literal["auto", "plain", "small"] = Field(
        "auto",
        description="first layers of a network for photographs: small keeps images up to 32 pixels "
        "whole; auto takes it where the device can afford it",
    )
    pooling: Spec | None = Field(
        None,
        description="features from feature maps: avg, max, concat, attn, avg_attn, max_attn, "
        "concat_attn, max_pool; default: the network's own",
    )
    embedding: EmbeddingConfig | None = Field(
        None, description="block between features and head; its outputs are the embeddings"
    )
