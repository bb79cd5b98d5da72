"""Several passes an update: losses and gradients add up to those of the big batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.data.head_spec import HeadSpec
from discern.feed.batch import Batch, HeadTargets
from discern.models.classifier import wrap_network
from discern.models.named_heads import with_heads
from discern.models.nets.headed import HeadedNetwork
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.head_objectives import HeadWish, TrainingHead, head_objectives
from discern.training.step import StepRules, TrainState, train_step

CPU = torch.device("cpu")
COUNTS = np.array([40, 10, 5])
OBJECTIVES = [
    ("cross_entropy", {}),
    ("cross_entropy", {"smoothing": 0.1, "class_weights": "balanced"}),
    ("bce", {}),
    ("bce", {"sum_classes": True, "class_weights": [1.0, 2.0, 3.0]}),
    ("focal", {}),
    ("focal_binary", {}),
    ("softmax_focal", {}),
    ("asymmetric", {}),
    ("logit_adjusted", {}),
    ("symmetric_cross_entropy", {}),
    ("generalized_cross_entropy", {}),
    ("arcface", {"scale": 8.0}),
    (
        "weighted_sum",
        {
            "terms": [
                {"name": "cross_entropy", "args": {"class_weights": [1.0, 5.0, 2.0]}},
                {"name": "embedding_norm", "weight": 0.1},
            ]
        },
    ),
]


class Small(HeadedNetwork):
    """Two layers without batch norm, in float64."""

    def __init__(self, classes):
        super().__init__()
        self.hidden = torch.nn.Linear(12, 8)
        self.head = torch.nn.Linear(8, classes)

    def features(self, images):
        return torch.tanh(self.hidden(images.flatten(1)))


def gradients(objective, targets, passes, *, widths=None, tally=None):
    """(loss, gradients) of one step on 128 seeded images, whose update is no step at all."""
    torch.manual_seed(0)
    network = Small(sum(widths.values()) if widths else 3).double()
    images = torch.randn(128, 3, 2, 2, dtype=torch.float64)
    model = with_heads(wrap_network(network, images[:2]), widths).double()
    found = {}
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=1.0)
    optimizer.register_step_pre_hook(
        lambda *_: found.update(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    )
    state = TrainState(
        model=model, network=model, optimizer=optimizer, ema=None, scaler=None,
        schedule=Schedule("constant", {}, 1, 1),
    )  # fmt: skip
    rules = StepRules(objective=objective, device=CPU, grad_accum_steps=passes, tally=tally)
    result = train_step(state, Batch(images, targets, torch.arange(128)), rules)
    return result, found


def same_gradients(whole, parts):
    for name, expected in whole.items():
        np.testing.assert_allclose(parts[name], expected, rtol=1e-6, atol=1e-12)


def class_targets(missing):
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 3, (128,), generator=generator)
    # The first pass has hardly a label, so that means of passes are not the mean of all.
    targets[torch.rand(128, generator=generator) < missing] = -1
    if missing:
        targets[:30] = -1
    return targets


@pytest.mark.parametrize(("name", "arguments"), OBJECTIVES)
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_passes_add_up_to_the_big_batch_with_missing_labels_and_class_weights(
    name, arguments, missing
):
    torch.manual_seed(3)
    head = TrainingHead(HeadSpec("label", "single", ("a", "b", "c")), COUNTS, missing=missing > 0)
    wish = HeadWish(objective=name, args=arguments)
    objective, tally = head_objectives([head], wish, {}, feature_width=8)
    if isinstance(objective, torch.nn.Module):
        objective = objective.double()
    targets = class_targets(missing)
    result, whole = gradients(objective, targets, 1, tally=tally)
    again, parts = gradients(objective, targets, 4, tally=tally)
    same_gradients(whole, parts)
    assert again.loss.item() == pytest.approx(result.loss.item(), rel=1e-6)
    np.testing.assert_allclose(again.correct, result.correct, rtol=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "asymmetric"])
def test_passes_of_several_labels_an_image_add_up(name):
    generator = torch.Generator().manual_seed(2)
    targets = (torch.rand(128, 3, generator=generator) < 0.3).double()
    targets[torch.rand(128, 3, generator=generator) < 0.3] = torch.nan
    targets[:20] = torch.nan
    head = TrainingHead(HeadSpec("tags", "multi", ("a", "b", "c")), COUNTS, missing=True)
    objective, tally = head_objectives([head], HeadWish(objective=name), {})
    result, whole = gradients(objective, targets, 1, tally=tally)
    again, parts = gradients(objective, targets, 4, tally=tally)
    same_gradients(whole, parts)
    np.testing.assert_allclose(again.correct, result.correct, rtol=1e-5)


def test_passes_of_several_heads_add_up_head_by_head():
    specs = [HeadSpec("color", "single", ("a", "b", "c")), HeadSpec("tags", "multi", ("x", "y"))]
    tags = (torch.rand(128, 2, generator=torch.Generator().manual_seed(4)) < 0.5).double()
    tags[40:90] = torch.nan
    targets = HeadTargets({"color": class_targets(0.4), "tags": tags})
    heads = [
        TrainingHead(specs[0], COUNTS, missing=True),
        TrainingHead(specs[1], COUNTS[:2], missing=True),
    ]
    wishes = {"color": HeadWish(args={}, weight=0.5), "tags": HeadWish(objective="focal")}
    objective, tally = head_objectives(heads, HeadWish(), wishes)
    widths = {"color": 3, "tags": 2}
    result, whole = gradients(objective, targets, 1, widths=widths, tally=tally)
    again, parts = gradients(objective, targets, 4, widths=widths, tally=tally)
    same_gradients(whole, parts)
    np.testing.assert_allclose(again.correct, result.correct, rtol=1e-5)
    readings = tally.readings(result.correct.tolist(), 128)
    assert readings["loss/color"] + readings["loss/tags"] == pytest.approx(result.loss.item())


def test_an_objective_that_knows_no_whole_counts_by_its_labeled_samples():
    def own(output, targets):
        labeled = targets >= 0
        losses = torch.nn.functional.cross_entropy(
            output.logits, targets, ignore_index=-1, reduction="none"
        )
        return losses.sum() / labeled.sum().clamp(min=1)

    targets = class_targets(0.4)
    _, whole = gradients(own, targets, 1)
    _, parts = gradients(own, targets, 4)
    same_gradients(whole, parts)
