"""Memory that ran out is known by every way in which it is told."""

from __future__ import annotations

import pytest
import torch

from discern.compute.memory import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError("Unable to allocate 1.00 TiB for an array"),
    ],
    ids=lambda error: str(error)[:30],
)
def test_it_ran_out(error: BaseException) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_not_about_memory() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"))
    assert not is_out_of_memory(ValueError("out of memory"))
