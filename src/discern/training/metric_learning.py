"""Objectives on the features, so that images of one class lie near each other.

Owns contrastive, triplet, margin and ArcFace losses and Recall@k. Does not draw the batches: they
want several images of each of several classes (P classes x K images). Pairs and triplets are those
of the batch, made of labeled samples only. Distances are Euclidean, on features [N, D] of length 1
unless `normalize` is off, in float32 at least. Targets are int64 [N], -1 where missing; mixed
targets have no pairs and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.models.classifier import Output
from discern.training.objective_terms import (
    MISSING,
    Objective,
    check_number,
    in_full_precision,
    known_rows,
    mean_of_known,
)

_QUERIES_AT_ONCE = 1024  # rows of the distance matrix that Recall@k holds: 200 MB for 50,000 images


def contrastive(margin: float = 1.0, *, normalize: bool = True) -> Objective:
    """Mean over pairs of d^2 / 2 for one class, max(0, `margin` - d)^2 / 2 for two.

    Source: Hadsell, Chopra and LeCun 2006, Dimensionality Reduction by Learning an Invariant
    Mapping, equation 4; margin 1 as in Catalyst's ContrastiveEmbeddingLoss.
    """
    check_number("margin", margin, 0.0)

    def losses(distances: Tensor, same: Tensor, pairs: Tensor) -> Tensor:
        apart = (margin - distances).clamp(min=0)
        return mean_of_known(torch.where(same, distances, apart).square() / 2, pairs)

    return _of_pairs(losses, normalize=normalize)


def triplet(margin: float | Literal["soft"] = 0.2, *, normalize: bool = True) -> Objective:
    """Batch-hard triplets: mean over anchors of max(0, `margin` + farthest same - nearest other).

    `soft` puts log(1 + exp(x)) for max(0, margin + x). Anchors that have no other image of their
    class, or none of another class, do not count.
    Source: Hermans et al. 2017, In Defense of the Triplet Loss, arXiv:1703.07737, equation 5;
    margin 0.2 is Schroff et al. 2015's, arXiv:1503.03832, for features of length 1.
    """
    if margin != "soft":
        check_number("margin", margin, 0.0)

    def losses(distances: Tensor, same: Tensor, pairs: Tensor) -> Tensor:
        near, other = same & pairs, ~same & pairs
        farthest = distances.masked_fill(~near, -math.inf).amax(1)
        nearest = distances.masked_fill(~other, math.inf).amin(1)
        gaps = farthest - nearest
        hinged = F.softplus(gaps) if margin == "soft" else (margin + gaps).clamp(min=0)
        return mean_of_known(hinged, near.any(1) & other.any(1))

    return _of_pairs(losses, normalize=normalize)


def margin(alpha: float = 0.2, beta: float = 1.2, *, normalize: bool = True) -> Objective:
    """Mean over the pairs that are wrong of max(0, `alpha` + d - `beta`), or + `beta` - d for two.

    So pairs of one class come nearer than beta - alpha, others farther than beta + alpha. All pairs
    of the batch are taken; the source draws the others by their distance.
    Source: Wu et al. 2017, Sampling Matters in Deep Embedding Learning, arXiv:1706.07567, equation
    6 and section 5, whose alpha and beta these are.
    """
    check_number("alpha", alpha, 0.0)
    check_number("beta", beta, 0.0)

    def losses(distances: Tensor, same: Tensor, pairs: Tensor) -> Tensor:
        off = distances - beta
        hinged = (alpha + torch.where(same, off, -off)).clamp(min=0)
        return mean_of_known(hinged, pairs & (hinged > 0))

    return _of_pairs(losses, normalize=normalize)


class ArcFace(nn.Module):
    """Cross entropy of `scale` cosines to a learned center a class, the own one's angle widened.

    The own class's cosine cos(a) becomes cos(a + `margin`); where a + margin passes pi it goes on
    falling as cos(a) - margin sin(margin). The `centers` [K, D] learn with the network: they belong
    in the optimizer and the checkpoint. Calling it takes (Output, targets) as any objective.
    Source: Deng et al. 2019, ArcFace, arXiv:1801.07698, equation 3: scale 64, margin 0.5; past pi
    as its published code does. Centers begin as random directions.
    """

    def __init__(
        self, *, num_classes: int, feature_dim: int, scale: float = 64.0, margin: float = 0.5
    ) -> None:
        super().__init__()
        check_number("scale", scale, 1e-3)
        check_number("margin", margin, 0.0, math.pi / 2)
        self.scale, self.margin = scale, margin
        self.centers = nn.Parameter(F.normalize(torch.randn(num_classes, feature_dim)))

    def forward(self, output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        """The mean loss [] over the labeled samples (of `whole`, see `objective_terms`)."""
        labels = _labels(targets)
        features = in_full_precision(output.features)
        with torch.autocast(features.device.type, enabled=False):
            centers = F.normalize(self.centers.to(features.dtype))
            cosines = F.linear(F.normalize(features), centers)
        own = labels.clamp(min=0)[:, None]
        cosine = cosines.gather(1, own)
        # The slope of the root is endless at 0, where the angle is 0 too.
        sine = (1 - cosine.square()).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()
        wider = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        past = cosine - self.margin * math.sin(self.margin)
        widened = torch.where(cosine > -math.cos(self.margin), wider, past)
        logits = self.scale * cosines.scatter(1, own, widened)
        losses = F.cross_entropy(logits, labels, ignore_index=MISSING, reduction="none")
        return mean_of_known(losses, labels != MISSING, known_rows(whole))


def arcface(
    scale: float = 64.0,
    margin: float = 0.5,
    *,
    num_classes: int,
    feature_dim: int | None = None,
) -> ArcFace:
    """The objective `ArcFace`; raises ConfigError if the features' width is not known."""
    if feature_dim is None:
        raise ConfigError(
            "arcface needs the width of the network's features",
            where="objective 'arcface'",
            expected="feature_dim, which Discern takes from the network",
        )
    return ArcFace(num_classes=num_classes, feature_dim=feature_dim, scale=scale, margin=margin)


@torch.no_grad()
def recall_at(
    ranks: Sequence[int], features: Tensor, targets: Tensor, *, normalize: bool = True
) -> dict[int, float]:
    """For each k of `ranks`, the share of images with one of their class among the k nearest.

    `features` [N, D] and `targets` int64 [N] of one set, which is both queries and gallery; an
    image is not its own neighbor. Unlabeled images are left out, and images alone in their class
    ask nothing. NaN if no image asks. Source: Jegou et al. 2011, as used by Wu et al. 2017.
    """
    labeled = targets != MISSING
    points, labels = in_full_precision(features[labeled]), targets[labeled]
    points = F.normalize(points) if normalize else points
    most = min(max(ranks), len(labels) - 1)
    hits = dict.fromkeys(ranks, 0)
    asked = 0
    for start in range(0, len(labels) if most > 0 else 0, _QUERIES_AT_ONCE):
        part = slice(start, min(start + _QUERIES_AT_ONCE, len(labels)))
        rows = torch.arange(part.start, part.stop, device=labels.device)
        distances = torch.cdist(points[part], points)
        distances[rows - start, rows] = math.inf
        nearest = distances.topk(most, largest=False).indices
        same = labels[nearest] == labels[part, None]
        asks = (labels[part, None] == labels).sum(1) > 1
        asked += int(asks.sum())
        for k in hits:
            hits[k] += int((same[:, :k].any(1) & asks).sum())
    return {k: count / asked if asked else math.nan for k, count in hits.items()}


def _of_pairs(losses: Callable[[Tensor, Tensor, Tensor], Tensor], *, normalize: bool) -> Objective:
    """The objective `losses(distances, same, pairs)` of [N, N]; no sample pairs with itself."""

    def objective(output: Output, targets: Tensor) -> Tensor:
        labels = _labels(targets)
        features = in_full_precision(output.features)
        if not len(features):
            return features.sum()
        points = F.normalize(features) if normalize else features
        # Differences and not the matrix product: that one loses near pairs to rounding.
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        labeled = labels != MISSING
        pairs = (labeled[:, None] & labeled).fill_diagonal_(fill_value=False)
        return losses(distances, labels[:, None] == labels, pairs)

    return objective


def _labels(targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        raise ConfigError(
            "a metric-learning objective needs one class an image",
            where="objective",
            got="mixed targets (mixup or CutMix), or several labels an image",
            hint="switch mixup and cutmix off in this stage",
        )
    return targets
