"""How large a network is, and how much it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MULTIPLYING = (nn.Linear, nn.Conv1d, nn.Conv2d)


def count_parameters(network: nn.Module) -> int:
    """The number of values in all parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())


def layer_macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-adds of one layer that gave `output`; 0 for one that is not counted."""
    weight = layer.weight if isinstance(layer, _MULTIPLYING) else None
    if not isinstance(weight, Tensor):
        return 0
    # Each output value is a product sum over one filter: weight[0] for both kinds of layer.
    return output.numel() * (weight.numel() // weight.shape[0])


def count_macs(network: nn.Module, sample: Tensor) -> int:
    """Multiply-adds of convolutions and linear layers for `sample` [N, C, H, W], over N.

    Norms, activations, pooling and the products inside attention are not counted.
    """
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        total += layer_macs(module, output)

    counted = [m for m in network.modules() if isinstance(m, _MULTIPLYING)]
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
