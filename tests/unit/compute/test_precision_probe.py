"""How `auto` chooses the precision on a CPU: by steps that are timed, and no more than needed."""

from __future__ import annotations

import pytest
import torch

from discern.compute import device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "tries", "chosen"), [(0.5, 4, "bf16"), (1.0, 4, "fp32"), (10.0, 2, "fp32")]
)
def test_a_hopeless_bf16_is_tried_twice_and_no_more(monkeypatch, seconds, tries, chosen):
    now, taken = [0.0], []
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(device.time, "process_time", lambda: now[0])

    def step(amp_dtype):
        taken.append(amp_dtype)
        now[0] += 1.0 if amp_dtype is None else seconds

    value, reason = device.choose_precision("auto", CPU, step)
    assert chosen == value
    assert 4 == taken.count(None)
    assert tries == taken.count(torch.bfloat16)
    assert f"{1 / seconds:.2f}x" in reason


def test_other_work_of_the_machine_decides_nothing(monkeypatch):
    clock, busy = [0.0], [0.0]
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(device.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(device.time, "process_time", lambda: busy[0])

    def step(amp_dtype):
        clock[0] += 50.0 if amp_dtype is None else 1.0
        busy[0] += 1.0

    assert "fp32" == device.choose_precision("auto", CPU, step)[0]


def test_a_cpu_without_bf16_is_not_asked(monkeypatch):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    taken = []
    value, reason = device.choose_precision("auto", CPU, taken.append)
    assert ("fp32", "this CPU has no bf16") == (value, reason)
    assert [] == taken


def test_whether_the_cpu_has_bf16_is_what_torch_says_of_its_instructions():
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in ("AVX2", "AVX512"):
        pytest.skip(f"nothing is known of {capability}")
    assert ("AVX512" == capability) == device.cpu_has_bf16()
