"""What is changed on a network that is otherwise as its builder made it: plain records.

Owns the words of the config's `model.stem`, `model.pooling` and `model.embedding`, and their form
in a bundle, so that a changed network is built again from name, arguments and changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean

Stem = Literal["plain", "small"]
NORMS = ("batch", "layer", "none")
ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingBlock:
    """Linear, norm, activation and dropout for each width of `hiddens`, before the head.

    Source: the embedding net of Catalyst's classification pipeline: Linear, BatchNorm1d, ReLU,
    dropout 0.5; hiddens [256] or [2048, 256]. Raises ConfigError for values that make no layer.
    """

    hiddens: tuple[int, ...]
    dropout: float = 0.5
    norm: str = "batch"
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not self.hiddens or any(width < 1 for width in self.hiddens):
            raise ConfigError(
                "an embedding block has at least one layer of at least one unit",
                where="model.embedding.hiddens",
                got=list(self.hiddens),
                expected="widths such as [256] or [2048, 256]",
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                "dropout leaves out a share of the values",
                where="model.embedding.dropout",
                got=self.dropout,
                expected="0 or more, and less than 1",
            )
        for key, value, known in (
            ("norm", self.norm, NORMS),
            ("activation", self.activation, ACTIVATIONS),
        ):
            if value not in known:
                raise ConfigError(
                    f"no such {key}",
                    where=f"model.embedding.{key}",
                    got=value,
                    expected=", ".join(known),
                    hint=did_you_mean(value, known),
                )

    def record(self) -> dict[str, Any]:
        """The block as JSON values."""
        return {
            "hiddens": list(self.hiddens),
            "dropout": self.dropout,
            "norm": self.norm,
            "activation": self.activation,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChanges:
    """The changes of one network; without arguments there are none.

    `stem`: `small` exchanges the first layers for those that keep small images whole.
    `pooling`: a name of `pooling.POOLINGS` for the network's own, with `pooling_args`.
    """

    stem: Stem = "plain"
    pooling: str | None = None
    pooling_args: Mapping[str, Any] = field(default_factory=dict)
    embedding: EmbeddingBlock | None = None

    def __bool__(self) -> bool:
        return self.stem != "plain" or self.wrapped

    @property
    def wrapped(self) -> bool:
        """Whether the network becomes the encoder of an `EmbeddingNetwork`."""
        return self.pooling is not None or self.embedding is not None

    def record(self) -> dict[str, Any]:
        """The changes as JSON values: what `from_record` reads; empty without any."""
        record: dict[str, Any] = {}
        if self.stem != "plain":
            record["stem"] = self.stem
        if self.pooling is not None:
            record["pooling"] = {"name": self.pooling, "args": dict(self.pooling_args)}
        if self.embedding is not None:
            record["embedding"] = self.embedding.record()
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ModelChanges:
        """The changes that `record` gave. Raises ConfigError, KeyError or TypeError for others."""
        stem = record.get("stem", "plain")
        if stem not in ("plain", "small"):
            raise ConfigError("no such stem", where="stem", got=stem, expected="plain or small")
        pooling = record.get("pooling") or {}
        block = record.get("embedding")
        return cls(
            stem=cast("Stem", stem),
            pooling=pooling.get("name"),
            pooling_args=dict(pooling.get("args") or {}),
            embedding=None if block is None else embedding_block(**block),
        )

    def lines(self) -> list[str]:
        """The changes in words, for the terminal."""
        told = []
        if self.pooling is not None:
            told.append(f"pooling {self.pooling}")
        if self.embedding is not None:
            block = self.embedding
            widths = ", ".join(str(width) for width in block.hiddens)
            told.append(
                f"embedding block [{widths}]: norm {block.norm}, {block.activation}, "
                f"dropout {block.dropout:g}"
            )
        return told


def embedding_block(
    hiddens: Sequence[int], dropout: float = 0.5, norm: str = "batch", activation: str = "relu"
) -> EmbeddingBlock:
    """The block of these settings. Raises ConfigError for values that make no layer."""
    return EmbeddingBlock(hiddens=tuple(hiddens), dropout=dropout, norm=norm, activation=activation)
