"""The meter of a run: what it measures, where that stands, and that its faults end no run."""

from __future__ import annotations

import os
import time

import pytest

from discern.track.meter.nvidia import NvidiaGpus
from discern.track.meter.processes import ProcessTree
from discern.track.meter.system import SYSTEM, SystemMeter, meter_run
from discern.track.metrics_read import read_all
from discern.track.run import create_run, open_run, resume_run

ALWAYS = {
    "cpu/percent", "cpu/process_percent", "memory/used_mb", "memory/process_mb", "disk/free_mb",
}  # fmt: skip


def wait_for_sample(meter):
    deadline = time.monotonic() + 20
    while not meter._step and not meter._problem and time.monotonic() < deadline:
        time.sleep(0.02)


def test_figures_of_this_process_are_in_a_log_of_their_own(tmp_path):
    with create_run(tmp_path, "p", name="r") as writer:
        writer.metrics.add("loss", 1000, 0.5)
        meter = meter_run(writer)
        ballast = bytearray(os.urandom(50 << 20))
        wait_for_sample(meter)
    run = open_run("p/r", tmp_path)
    assert ["loss"] == run.list_series()
    system = read_all(run.path / SYSTEM)
    assert set(system) >= ALWAYS
    assert 50 < system["memory/process_mb"].values[-1] < 100_000
    assert 0 <= system["cpu/percent"].values[0] <= 100
    assert 1 <= system["cpu/percent"].steps[0] < 100
    assert 50 << 20 == len(ballast)
    assert [] == run.record["problems"]


def test_a_resumed_run_goes_on_in_seconds_since_its_beginning(tmp_path):
    create_run(tmp_path, "p", name="r").finish("failed", "for a test")
    with resume_run(tmp_path / "p" / "r") as writer:
        meter = SystemMeter(writer.path, 2, since=time.time() - 500, pid=os.getpid(), every_s=0.05)
        writer.join(meter)
        writer.metrics.rewind(3)
        wait_for_sample(meter)
    steps = read_all(writer.path / SYSTEM)["cpu/percent"].steps
    assert 500 <= steps[0] < 600


def test_processes_count_with_their_children():
    tree = ProcessTree(os.getpid())
    before = tree.sample().memory_bytes
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    try:
        assert before < tree.sample().memory_bytes
    finally:
        os.close(write_end)
        os.close(read_end)
        os.waitpid(child, 0)
    assert 0 <= tree.sample().cpu_s < 60


def test_a_process_that_is_gone_takes_nothing():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    taken = ProcessTree(child).sample()
    assert (0.0, 0) == (taken.cpu_s, taken.memory_bytes)


def test_a_fault_ends_the_meter_and_is_told(tmp_path, monkeypatch):
    def broken(self):
        raise OSError("no such thing")

    monkeypatch.setattr(ProcessTree, "sample", broken)
    with create_run(tmp_path, "p", name="r") as writer:
        wait_for_sample(meter_run(writer))
    run = open_run("p/r", tmp_path)
    assert "finished" == run.status
    assert ["the system meter: stopped: OSError: no such thing"] == run.record["problems"]


class Driver:
    """Two cards as NVML tells of them; the second does not tell its power."""

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = 100 + index
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle, rates):
        rates._obj.gpu = 40 + handle.value - 100
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        memory._obj.used = 3_000_000_000
        return 0

    def nvmlDeviceGetTemperature(self, handle, sensor, value):
        value._obj.value = 65
        return 0

    def nvmlDeviceGetPowerUsage(self, handle, value):
        value._obj.value = 250_500
        return 3 if handle.value == 101 else 0


@pytest.mark.parametrize(("visible", "indices"), [(None, [0, 1]), ("1", [1]), ("", [])])
def test_cards_in_use_are_read(monkeypatch, visible, indices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    readings = NvidiaGpus(Driver()).read()
    assert indices == [reading.index for reading in readings]
    for reading in readings:
        assert (40 + reading.index, 3_000_000_000, 65.0) == (
            reading.busy_percent,
            reading.memory_bytes,
            reading.temperature_c,
        )
        assert (None if reading.index else 250.5) == reading.power_w
