"""Optimizers of MXNet and TensorFlow that neither torch nor timm has.

Owns their formulas: signum, FTRL, FTML, delay-compensated SGD, Langevin dynamics. Weight decay is
coupled (added to the gradient) unless a class says otherwise, as in the sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from discern.optim.per_parameter import PerParameterOptimizer, check_fraction, decayed_gradient


class Signum(PerParameterOptimizer):
    """Step by the sign of the momentum: m = momentum * m + (1 - momentum) * g; w -= lr * sign(m).

    `decoupled_decay` shrinks the weight by lr * decoupled_decay beside that. Momentum 0 is SignSGD.
    Source of formula and defaults: Bernstein et al. (2018); MXNet's Signum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        decoupled_decay: float = 0.0,
    ) -> None:
        check_fraction("momentum", momentum)
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "decoupled_decay": decoupled_decay,
            },
        )

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Signum's step."""
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"]
        average.lerp_(decayed_gradient(parameter, gradient, group), 1.0 - group["momentum"])
        parameter.mul_(1.0 - group["lr"] * group["decoupled_decay"])
        parameter.add_(average.sign(), alpha=-group["lr"])


class Ftrl(PerParameterOptimizer):
    """Follow the regularized leader, proximal form, with an L1 term that gives exact zeros.

    n += g^2; q = (beta + sqrt(n)) / lr; z += g - (q - q_before) * w;
    w = (sign(z) * l1 - z) / (q + weight_decay) where |z| > l1, else 0.
    For a constant rate this is MXNet's Ftrl, with two differences: z begins where it gives back the
    first weights (at 0 it throws them away), and a rate that changes enters through q.
    Source of formula and defaults: McMahan et al. (2013); MXNet's Ftrl (l1 0.01, beta 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.01,
        beta: float = 1.0,
    ) -> None:
        if l1 < 0 or beta <= 0:
            message = f"'l1' must be at least 0 and 'beta' above 0, got {l1} and {beta}"
            raise ValueError(message)
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "l1": l1, "beta": beta})

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """FTRL's step."""
        lr, decay, l1, beta = group["lr"], group["weight_decay"], group["l1"], group["beta"]
        if lr == 0:
            return  # the first update of a warm-up from 0: the strength below would be infinite
        if not state:
            strength = torch.full_like(parameter, beta / lr)
            state["square_sum"] = torch.zeros_like(parameter)
            state["strength"] = strength
            state["linear"] = -parameter * (strength + decay) - parameter.sign() * l1
        linear, before = state["linear"], state["strength"]
        state["square_sum"].addcmul_(gradient, gradient)
        strength = (beta + state["square_sum"].sqrt()) / lr
        linear.add_(gradient).sub_((strength - before) * parameter)
        state["strength"] = strength
        weight = (linear.sign() * l1 - linear) / (strength + decay)
        parameter.copy_(weight.masked_fill_(linear.abs() <= l1, 0.0))


class Ftml(PerParameterOptimizer):
    """Follow the moving leader: RMSprop-like steps from a leader that forgets.

    v = beta2 * v + (1 - beta2) * g^2; d = (1 - beta1^t) / lr * (sqrt(v / (1 - beta2^t)) + eps);
    w -= (1 - beta1) * g / d. The paper's pair z, w = -z / d comes to the same, and stands still at
    a rate of 0. Source of formula and defaults: Zheng and Kwok (2017); MXNet's FTML.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.0025,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.6, 0.999),
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
        """FTML's step."""
        if not state:
            state["step"] = 0
            state["square_average"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        gradient = decayed_gradient(parameter, gradient, group)
        squares = state["square_average"]
        squares.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        size = (squares / (1.0 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        rate = group["lr"] * (1.0 - beta1) / (1.0 - beta1 ** state["step"])
        parameter.addcdiv_(gradient, size, value=-rate)


class DelayCompensatedSgd(PerParameterOptimizer):
    """SGD whose gradient is corrected for the way that the weight went since it was last seen.

    m = momentum * m - lr * (g + compensation * g^2 * (w - w_last)); w_last = w; w += m.
    Made for workers that send late; with one worker the correction looks one update back.
    Source of formula and defaults: Zheng et al. (2017); MXNet's DCASGD (lamda 0.04).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        compensation: float = 0.04,
    ) -> None:
        check_fraction("momentum", momentum)
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "compensation": compensation,
            },
        )

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """The compensated step."""
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            state["last_seen"] = parameter.clone()
        way = parameter - state["last_seen"]
        corrected = decayed_gradient(parameter, gradient, group).addcmul(
            gradient * gradient, way, value=group["compensation"]
        )
        buffer = state["momentum_buffer"]
        buffer.mul_(group["momentum"]).add_(corrected, alpha=-group["lr"])
        state["last_seen"].copy_(parameter)
        parameter.add_(buffer)


class Sgld(PerParameterOptimizer):
    """Stochastic gradient Langevin dynamics: half a step down and noise of sqrt(lr * temperature).

    w += -lr / 2 * (g + weight_decay * w) + sqrt(lr * temperature) * N(0, 1). With the mean loss of
    N images, temperature 1 / N samples the posterior; 1 is MXNet's form, made for a summed loss,
    in which the noise drowns a mean loss. Noise comes from torch's generator, which a checkpoint
    keeps. Source: Welling and Teh (2011); default: the posterior of 10,000 images.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        *,
        weight_decay: float = 0.0,
        temperature: float = 1e-4,
    ) -> None:
        if temperature < 0:
            message = f"'temperature' is {temperature}, but must be at least 0"
            raise ValueError(message)
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "temperature": temperature}
        )

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """The Langevin step."""
        del state  # the dynamics have no memory
        lr = group["lr"]
        drift = decayed_gradient(parameter, gradient, group)
        noise = torch.randn_like(parameter)
        parameter.add_(drift, alpha=-lr / 2).add_(noise, alpha=(lr * group["temperature"]) ** 0.5)
