"""How large a network is, and how much it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def count_parameters(network: nn.Module) -> int:
    """The number of values in all parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, sample: Tensor) -> int:
    """Multiply-adds of convolutions and linear layers for `sample` [N, C, H, W], over N.

    Norms, activations, pooling and the products inside attention are not counted.
    """
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        if isinstance(weight, Tensor):
            # Each output value is a product sum over one filter: weight[0] for both kinds of layer.
            total += output.numel() * (weight.numel() // weight.shape[0])

    counted = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    handles = [module.register_forward_hook(count) for module in counted]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(sample)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return total // sample.shape[0]
