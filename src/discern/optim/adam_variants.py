"""Variants of Adam that Catalyst offers and neither torch nor timm has: QHAdamW and RAlamb.

Owns their formulas. Weight decay is decoupled in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from discern.optim.per_parameter import PerParameterOptimizer, check_fraction

# Below this length of the averaged window the variance of the adaptive rate is not finite.
# Source: Liu et al., "On the variance of the adaptive learning rate and beyond" (2020), section 4.
_LEAST_WINDOW = 5.0
# Weights count at most this much in the trust ratio, as in LAMB's and Catalyst's code.
_LARGEST_NORM = 10.0


class QHAdamW(PerParameterOptimizer):
    """Quasi-hyperbolic AdamW: averages mixed with the gradient of the moment.

    w -= lr * (nu1 * m + (1 - nu1) * g) / (sqrt(nu2 * v + (1 - nu2) * g^2) + eps), m and v with
    Adam's bias correction. `nus` of (1, 1) is AdamW.
    Source of formula and defaults: Ma and Yarats, "Quasi-hyperbolic momentum and Adam" (2019).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.995, 0.999),
        nus: tuple[float, float] = (0.7, 1.0),
        eps: float = 1e-8,
    ) -> None:
        check_fraction("betas[0]", betas[0])
        check_fraction("betas[1]", betas[1])
        super().__init__(
            params,
            {"lr": lr, "weight_decay": weight_decay, "betas": betas, "nus": nus, "eps": eps},
        )

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """The quasi-hyperbolic step."""
        average, squares = _averages(parameter, gradient, state, group)
        nu1, nu2 = group["nus"]
        direction = average.mul_(nu1).add_(gradient, alpha=1.0 - nu1)
        size = squares.mul_(nu2).addcmul_(gradient, gradient, value=1.0 - nu2).sqrt_()
        parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(direction, size.add_(group["eps"]), value=-group["lr"])


class RAlamb(PerParameterOptimizer):
    """Rectified Adam with LAMB's trust ratio a layer.

    The direction is RAdam's (plain momentum while the window is short); the step is
    lr * min(|w|, 10) / |direction| long, or lr * |direction| where either norm is 0. Catalyst's own
    code divides by the norm of the new weight, which makes the ratio about 1; this does not.
    Source: Liu et al. (2020), You et al., LAMB (2020).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        check_fraction("betas[0]", betas[0])
        check_fraction("betas[1]", betas[1])
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
        )

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """The rectified step, scaled to the layer."""
        average, squares = _averages(parameter, gradient, state, group)
        rectified = rectification(state["step"], group["betas"][1])
        if rectified:
            direction = average.div_(squares.sqrt_().add_(group["eps"])).mul_(rectified)
        else:
            direction = average
        weight, length = parameter.norm().clamp_(max=_LARGEST_NORM), direction.norm()
        ratio = torch.where((weight > 0) & (length > 0), weight / length, torch.ones_like(length))
        parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
        parameter.sub_(direction.mul_(ratio * group["lr"]))


def rectification(step: int, beta2: float) -> float:
    """RAdam's factor for update `step` (from 1), 0 while the variance is not finite."""
    longest = 2.0 / (1.0 - beta2) - 1.0
    power = beta2**step
    window = longest - 2.0 * step * power / (1.0 - power)
    if window <= _LEAST_WINDOW:
        return 0.0
    top = (window - 4.0) * (window - 2.0) * longest
    return float((top / ((longest - 4.0) * (longest - 2.0) * window)) ** 0.5)


def _averages(
    parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Adam's two averages after this update, bias-corrected, as new tensors."""
    if not state:
        state["step"] = 0
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    state["step"] += 1
    beta1, beta2 = group["betas"]
    state["exp_avg"].lerp_(gradient, 1.0 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    first = state["exp_avg"] / (1.0 - beta1 ** state["step"])
    return first, state["exp_avg_sq"] / (1.0 - beta2 ** state["step"])
