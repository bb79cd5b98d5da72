"""Figures of the nearest neighbors among a split's own embeddings: Recall@k, exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from discern.base.errors import ConfigError
from discern.training.metric_learning import recall_at
from discern.training.scores import EvalTable, labeled_count

# The objectives on embeddings; with one of them these figures are part of every evaluation.
NEIGHBOR_OBJECTIVES: Final = frozenset({"contrastive", "triplet", "margin", "arcface"})
NEIGHBOR_FIGURES: Final = ("recall@1", "recall@5")


def recall_at_k(table: EvalTable, k: int = 1) -> float:
    """The share of images with one of their class among the `k` nearest others of the table.

    Leave one out: each labeled image asks all the others, by the Euclidean distance of embeddings
    of length 1; images alone in their class do not ask, NaN if none asks. Catalyst's KNNMetric.
    Raises ConfigError for a table without features, DataError if no image is labeled.
    """
    if table.features is None:
        raise ConfigError(
            "this evaluation keeps no embeddings", where=f"metric 'recall@{k}'", got="logits only"
        )
    labeled_count(table)
    features, targets = torch.from_numpy(table.features), torch.from_numpy(table.targets)
    return recall_at([k], features, targets)[k]


def learns_embeddings(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether the objective, or a term of the weighted sum, is one on embeddings."""
    terms = arguments.get("terms")
    inner = terms if name == "weighted_sum" and isinstance(terms, list) else []
    named = [term.get("name") for term in inner if isinstance(term, Mapping)]
    return any(one in NEIGHBOR_OBJECTIVES for one in (name, *named))


def only_embeddings(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether nothing in the objective reads the head's answers: that layer then learns nothing."""
    terms = arguments.get("terms")
    if name != "weighted_sum" or not isinstance(terms, list):
        return name in NEIGHBOR_OBJECTIVES or name == "embedding_norm"
    weighed = [term for term in terms if isinstance(term, Mapping) and term.get("weight", 1.0)]
    return all(only_embeddings(str(t.get("name")), t.get("args") or {}) for t in weighed)
