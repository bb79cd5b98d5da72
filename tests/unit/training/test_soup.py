"""Means of weights, and the greedy soup."""

import pytest
import torch

from discern.base.errors import ModelError
from discern.training.soup import greedy_soup, mean_state


def state(value, count=3):
    return {"w": torch.full((2, 2), float(value)), "n": torch.tensor(count)}


def test_mean_of_floats_and_the_first_of_counts():
    mean = mean_state([state(1, 5), state(2, 6), state(6, 7)])
    assert torch.equal(torch.full((2, 2), 3.0), mean["w"])
    assert 5 == int(mean["n"])
    half = mean_state([{"w": torch.tensor([1.0]).half()}, {"w": torch.tensor([2.0]).half()}])
    assert torch.float16 == half["w"].dtype


def test_different_networks_are_refused():
    with pytest.raises(ModelError, match="different networks"):
        mean_state([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])
    with pytest.raises(ModelError, match="different networks"):
        mean_state([{"w": torch.zeros(2)}, {"v": torch.zeros(2)}])


def near(target):
    """Scores by the distance of the weights to `target`."""
    return lambda found: (-abs(float(found["w"][0, 0]) - target),)


def test_only_what_helps_is_stirred_in():
    soup = greedy_soup([state(1), state(9), state(3)], near(2.0))
    assert (0, 2) == soup.members
    assert soup.better
    assert (0.0,) == soup.score
    assert (-1.0,) == soup.best_score
    assert torch.equal(torch.full((2, 2), 2.0), soup.state["w"])


def test_a_soup_that_is_no_better_is_not_better():
    soup = greedy_soup([state(2), state(3)], near(2.0))
    assert (0,) == soup.members
    assert not soup.better
    same = greedy_soup([state(2), state(2)], near(2.0))
    assert not same.better
