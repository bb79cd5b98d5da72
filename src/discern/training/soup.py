"""The mean of several checkpoints' weights, kept only if it scores higher than the best alone.

Greedy, after Wortsman et al. 2022 ("Model soups"): the best checkpoint first, then each further one
that does not lower the score of the mean. The scores are those of the images that the model is
chosen by, never of those it is reported on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from discern.base.errors import ModelError

State = dict[str, Tensor]
Score = tuple[float, ...]


def mean_state(states: Sequence[State]) -> State:
    """The mean of each floating tensor, summed in float64; counts and the like are the first's.

    Raises ModelError for states of different networks.
    """
    first = states[0]
    for state in states[1:]:
        differing = [
            name for name in {**first, **state}
            if name not in first or name not in state or first[name].shape != state[name].shape
        ]  # fmt: skip
        if differing:
            raise ModelError(
                "weights of different networks cannot be averaged", got=", ".join(differing[:4])
            )
    mean = {}
    for name, tensor in first.items():
        if not tensor.is_floating_point():
            mean[name] = tensor.clone()
            continue
        whole = torch.zeros_like(tensor, dtype=torch.float64, device="cpu")
        for state in states:
            whole += state[name].to("cpu", torch.float64)
        mean[name] = (whole / len(states)).to(tensor.dtype)
    return mean


@dataclass(frozen=True, slots=True)
class Soup:
    """`members`: the candidates in it, by place; `scores` of it and of the best candidate alone."""

    members: tuple[int, ...]
    state: State
    score: Score
    best_score: Score

    @property
    def better(self) -> bool:
        """Whether it scores higher than the best candidate, and is none of them."""
        return len(self.members) > 1 and self.score > self.best_score


def greedy_soup(states: Sequence[State], score: Callable[[State], Score]) -> Soup:
    """The soup of `states`, best first. `score`: higher is better; called once for each state."""
    members: tuple[int, ...] = (0,)
    state = states[0]
    best = kept = score(state)
    for place in range(1, len(states)):
        trial = mean_state([states[member] for member in (*members, place)])
        reached = score(trial)
        if reached >= kept:
            members, state, kept = (*members, place), trial, reached
    return Soup(members, state, kept, best)
