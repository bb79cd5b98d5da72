"""The `compute` section: device, precision, repeatability."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from discern.config.schema.section import Section


class ComputeConfig(Section):
    """Where and how the arithmetic is done."""

    device: str = Field(
        "auto", description="auto, cpu, cuda, mps, or ids such as 0 or 0,3; '' is cpu"
    )
    nproc: int | None = Field(
        None, ge=1, description="ranks that share each batch; default: one for each listed device"
    )
    sync_batchnorm: bool = Field(
        False, description="batch norm over all ranks' images; on GPUs, with several ranks"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto is probed once and stored"
    )
    channels_last: bool = Field(True, description="memory layout of images and convolutions")
    compile: bool = Field(False, description="torch.compile the network")
    grad_checkpointing: bool = Field(
        False,
        description="compute activations again in the backward pass instead of keeping them: less "
        "memory, the same weights",
    )
    eval_batch_size: int | None = Field(
        None,
        ge=1,
        description="images per evaluation pass; default: the stage's batch, at least 64",
    )
    budget: str | None = Field(
        None,
        description="time that the whole may take, such as 20m: stages in epochs are shortened",
    )
    deterministic: bool = Field(
        True,
        description="deterministic kernels only; equal runs give equal bits on one machine",
    )
    threads: int | None = Field(
        None, ge=1, description="arithmetic threads of each rank; default: free cores"
    )
    skip_nonfinite: bool = Field(
        True,
        description="a step with a non-finite loss or gradient norm leaves the weights untouched",
    )
