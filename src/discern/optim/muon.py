"""Muon: momentum whose matrices are made orthogonal, for hidden layers; AdamW for the rest.

Owns the one optimizer that torch does not have in a usable form: `torch.optim.Muon` takes no
convolution kernels, and timm's needs the import of timm, which costs more than a command with our
own networks may take to start. One object, so that trainer and checkpoints see an ordinary one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Coefficients of the quintic iteration and its 5 rounds: Keller Jordan, "Muon: an optimizer for
# hidden layers" (2024). They push every singular value into about [0.7, 1.2].
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
# Scales an orthogonal update to the root mean square of an AdamW update, so that both parts of the
# network share one rate. Source: Liu et al., "Muon is scalable for LLM training" (2025), eq. 4.
_MATCH_RMS = 0.2
# Steps of the accumulated magnitude below this are noise, not directions.
_EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Groups with `muon=True` hold matrices or kernels; the others are updated by AdamW.

    A kernel [O, I, h, w] is treated as the matrix [O, I * h * w]. Decay is decoupled in both parts.
    `momentum` is of the orthogonal part (Nesterov form), `betas` and `eps` of AdamW's.
    Source of the defaults: momentum as in Jordan (2024); betas as torch's AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "muon": False,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["muon"] and any(p.ndim < 2 for p in group["params"]):
                message = "a group with muon=True holds matrices and kernels only"
                raise ValueError(message)
        if all(_is_fused(p) for group in self.param_groups for p in group["params"]):
            # As torch's fused optimizers: `grad_scale` and `found_inf`, tensors [], are looked at.
            self._step_supports_amp_scaling = True

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["muon"]:
                self._orthogonal_step(parameters, group)
            else:
                self._adamw_step(parameters, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; counts of steps come to their parameter's device, as AdamW wants."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "step" in state:
                state["step"] = state["step"].to(parameter.device)

    def _orthogonal_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if scale is not None:
            gradients = list(torch._foreach_div(gradients, scale))
        kept = None
        if found_inf is not None:
            # Left out on the device, which the host need not wait for: the momentum is its own
            # gradient, which leaves it as it is, and decay and step are times 0.
            bad = found_inf > 0
            kept = (~bad).float()
            gradients = [torch.where(bad, b, g) for b, g in zip(buffers, gradients, strict=True)]
        torch._foreach_lerp_(buffers, gradients, 1.0 - group["momentum"])
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"])
        lr, decay = group["lr"], group["lr"] * group["weight_decay"]
        if decay:
            torch._foreach_mul_(parameters, 1.0 - decay if kept is None else 1.0 - decay * kept)
        for parameter, update in zip(parameters, updates, strict=True):
            direction = orthogonalize(update)
            rows, columns = parameter.shape[0], parameter[0].numel()
            length = -lr * _MATCH_RMS * max(rows, columns) ** 0.5
            if kept is None:
                parameter.add_(direction, alpha=length)
            else:
                parameter.addcmul_(direction, kept, value=length)

    def _adamw_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients, averages, squares, steps = [], [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                device = parameter.device
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
            averages.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            steps.append(state["step"])
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            fused=_is_fused(parameters[0]),
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _is_fused(parameter: Tensor) -> bool:
    """Whether torch has its fused AdamW there."""
    return parameter.device.type in ("cpu", "cuda", "mps")


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix to `matrix` [O, ...], in `matrix`'s shape, float32.

    Five rounds of the quintic Newton-Schulz iteration: singular values land in about [0.7, 1.2],
    not at 1, which costs no accuracy (Jordan 2024). bfloat16 inside on CUDA; float32 elsewhere,
    where small matrices gain nothing from it.
    """
    a, b, c = _QUINTIC
    shape = matrix.shape
    flat = matrix.reshape(shape[0], -1)
    work = flat.bfloat16() if matrix.is_cuda else flat.float()
    tall = work.shape[0] > work.shape[1]
    if tall:
        work = work.T
    work = work / (work.norm() + _EPSILON)
    for _ in range(_ROUNDS):
        gram = work @ work.T
        work = torch.addmm(work, torch.addmm(gram, gram, gram, beta=b, alpha=c), work, beta=a)
    if tall:
        work = work.T
    return work.to(matrix.dtype).reshape(shape)
