from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discern.base.errors import RunError
from discern.track import metrics_blocks as blocks
from discern.track.metrics_log import (
    MetricsLog,
    check_metrics,
    list_series,
    read_all,
    read_series,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "track" / "metrics_v1"

names = st.sampled_from(["loss", "val/accuracy", "größe ✓", "a" * 200, 'quo"te\n', "\udcff"])
steps = st.integers(0, 2**63 - 1)
values = st.floats(allow_nan=True, allow_infinity=True, width=64)
points = st.lists(st.tuples(names, steps, st.floats(0, 1e10), values), max_size=60)


def as_lists(folder: Path) -> dict[str, list[tuple[int, float, str]]]:
    """All points; values as text, so that not-a-number equals itself."""
    return {
        name: [
            (step, at, repr(value))
            for step, at, value in zip(
                s.steps.tolist(), s.times.tolist(), s.values.tolist(), strict=True
            )
        ]
        for name, s in read_all(folder).items()
    }


def write_three_series(folder: Path, count: int = 30) -> None:
    with MetricsLog(folder, 1) as log:
        for step in range(count):
            for number, name in enumerate(("loss", "accuracy", "rate")):
                log.add(name, step, step + number / 4, time=1000.0 + step)
            if step % 10 == 9:
                log.flush()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(rows=points, cuts=st.sets(st.integers(0, 60), max_size=4))
def test_every_point_comes_back_in_order(tmp_path_factory, rows, cuts):
    folder = tmp_path_factory.mktemp("m")
    expected: dict[str, list[tuple[int, float, str]]] = {}
    with MetricsLog(folder, 1) as log:
        for number, (name, step, at, value) in enumerate(rows):
            log.add(name, step, value, time=at)
            expected.setdefault(name, []).append((step, at, repr(value)))
            if number in cuts:
                log.flush(sync=True)
    assert expected == as_lists(folder)
    assert sorted(expected) == sorted(list_series(folder))
    for name, series in expected.items():
        assert [row[0] for row in series] == read_series(folder, name).steps.tolist()
    (folder / blocks.INDEX_FILE).unlink(missing_ok=True)
    assert expected == as_lists(folder)


@settings(max_examples=40)
@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("ab"), st.integers(0, 20)),
            st.tuples(st.just("rewind"), st.just(""), st.integers(-1, 20)),
            st.tuples(st.just("open"), st.just(""), st.integers(-1, 20)),
        ),
        max_size=40,
    )
)
def test_rewinds_drop_exactly_the_later_steps(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("m")
    model: list[tuple[str, int, float]] = []
    log = MetricsLog(folder, 1)
    for number, (kind, name, step) in enumerate(events):
        if kind == "add":
            log.add(name, step, number)
            model.append((name, step, float(number)))
            continue
        model = [row for row in model if row[1] <= step]
        if kind == "rewind":
            log.rewind(step)
        else:
            log.close()
            log = MetricsLog(folder, 2 + number, start_step=step)
    log.close()
    for indexed in (True, False):
        found = read_all(folder)
        for name in {row[0] for row in model} | set(found):
            expected = [(s, v) for n, s, v in model if n == name]
            series = found[name]
            got = list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
            assert expected == got
            assert expected == list(
                zip(series.steps.tolist(), read_series(folder, name).values.tolist(), strict=True)
            )
        if indexed:
            (folder / blocks.INDEX_FILE).write_bytes(b"")


def test_file_cut_at_every_byte_keeps_the_whole_blocks_before(tmp_path):
    write_three_series(tmp_path, 20)
    data = (tmp_path / blocks.METRICS_FILE).read_bytes()
    table, end = blocks.scan_blocks(data[16:], 16)
    assert len(data) == end
    ends = (table[:, blocks.OFFSET] + 16 + 24 * table[:, blocks.COUNT]).tolist()
    for size in range(len(data), -1, -1):
        os.truncate(tmp_path / blocks.METRICS_FILE, size)
        whole = sum(stop <= size for stop in ends)
        expected = int(table[:whole, blocks.COUNT].sum())
        assert sum(len(s) for s in read_all(tmp_path).values()) == expected, size


@pytest.mark.parametrize("size", [0, 3, 16, 17, 40, 500, 760, 1000])
def test_next_writer_cuts_the_torn_end_and_goes_on(tmp_path, size):
    write_three_series(tmp_path)
    path = tmp_path / blocks.METRICS_FILE
    data = path.read_bytes()
    path.write_bytes(data[:size])
    before = {name: len(series) for name, series in read_all(tmp_path).items()}
    with MetricsLog(tmp_path, 2) as log:
        log.add("loss", 99, 7.5)
        log.add("fresh", 99, 8.5)
    after = read_all(tmp_path)
    assert after["loss"].values[-1] == 7.5
    assert 1 + before.get("loss", 0) == len(after["loss"])
    assert after["fresh"].values.tolist() == [8.5]
    checked = check_metrics(tmp_path)
    assert checked.file_bytes == checked.read_bytes


def test_flipped_byte_never_gives_a_wrong_point(tmp_path):
    write_three_series(tmp_path, 10)
    good = as_lists(tmp_path)
    for file in (blocks.METRICS_FILE, blocks.INDEX_FILE, blocks.SERIES_FILE):
        path = tmp_path / file
        data = path.read_bytes()
        for position in range(len(data)):
            path.write_bytes(
                data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]
            )
            try:
                found = as_lists(tmp_path)
            except RunError:
                assert position < 16
                continue
            for name, series in found.items():
                if not name.startswith("unnamed series"):
                    assert series == good[name][: len(series)]
            if file == blocks.INDEX_FILE:
                assert good == found
            if file == blocks.SERIES_FILE:
                assert sorted(map(len, good.values())) == sorted(map(len, found.values()))
        path.write_bytes(data)
    assert good == as_lists(tmp_path)


def test_damage_in_the_middle_is_told_and_kept_aside(tmp_path):
    write_three_series(tmp_path)
    path = tmp_path / blocks.METRICS_FILE
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(bytes(data))
    checked = check_metrics(tmp_path)
    assert checked.read_bytes < checked.file_bytes == len(data)
    with MetricsLog(tmp_path, 5) as log:
        assert len(data) - checked.read_bytes == log.cut_bytes
    cut = tmp_path / "metrics.bin.cut-5"
    assert bytes(data[checked.read_bytes :]) == cut.read_bytes()


def test_lost_name_keeps_the_points_under_a_number(tmp_path):
    write_three_series(tmp_path, 10)
    (tmp_path / blocks.SERIES_FILE).write_bytes(b"")
    assert list_series(tmp_path) == ["unnamed series 0", "unnamed series 1", "unnamed series 2"]
    assert len(read_series(tmp_path, "unnamed series 1")) == 10
    with MetricsLog(tmp_path, 2) as log:
        log.add("fresh", 1, 2.0)
    assert read_series(tmp_path, "fresh").values.tolist() == [2.0]
    assert len(read_series(tmp_path, "unnamed series 2")) == 10


def test_stale_index_is_not_believed(tmp_path):
    write_three_series(tmp_path)
    index = (tmp_path / blocks.INDEX_FILE).read_bytes()
    other = tmp_path / "other"
    with MetricsLog(other, 1) as log:
        for step in range(70):
            log.add("alone", step, step * 2)
            if step % 7 == 0:
                log.flush()
    (other / blocks.INDEX_FILE).write_bytes(index)
    assert [2.0 * step for step in range(70)] == read_series(other, "alone").values.tolist()


def test_reader_in_another_process_sees_points_within_a_second(tmp_path):
    with MetricsLog(tmp_path, 1) as log:
        log.add("loss", 3, 0.125)
        code = (
            "import sys, time; from pathlib import Path;"
            "from discern.track.metrics_log import read_all\n"
            "for _ in range(60):\n"
            "    found = read_all(Path(sys.argv[1]))\n"
            "    if found: print(found['loss'].values.tolist()); break\n"
            "    time.sleep(0.05)\n"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
    assert out.stdout.strip() == "[0.125]"


KILLED = """
import sys, time
from pathlib import Path
from discern.track.metrics_log import MetricsLog
log = MetricsLog(Path(sys.argv[1]), 1)
step = 0
while True:
    step += 1
    now = time.time()
    log.add("fast", step, step * 0.5, time=now)
    if step % 50 == 0:
        log.add("slow", step, -step, time=now)
    if step % 100 == 0:
        print(step, flush=True)
    time.sleep(0.0005)
"""


BUSY = """
import sys, time
from pathlib import Path
from discern.track.metrics_log import MetricsLog
with MetricsLog(Path(sys.argv[1]), 1) as log:
    end = time.time() + 0.8
    step = 0
    while time.time() < end:
        for _ in range(37):
            step += 1
            for name in ("a", "b", "c"):
                log.add(name, step, step * 0.5)
        log.flush()
        if step % 5 == 0:
            log.rewind(step)
"""


def test_reader_beside_a_busy_writer_always_sees_a_whole_beginning(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)])
    lengths = []
    try:
        while child.poll() is None:
            for series in read_all(tmp_path).values():
                assert series.steps.tolist() == list(range(1, len(series) + 1))
                assert (series.values == series.steps * 0.5).all()
                lengths.append(len(series))
    finally:
        child.kill()
        child.wait()
    assert len(set(lengths)) > 5
    assert sorted(read_all(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("life_s", [1.3, 1.75])
def test_killed_process_loses_at_most_one_second(tmp_path, life_s):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(life_s)
    finally:
        killed = time.time()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
    logged = int(rest.split()[-1])
    fast, slow = read_series(tmp_path, "fast"), read_series(tmp_path, "slow")
    assert list(range(1, len(fast) + 1)) == fast.steps.tolist()
    assert (fast.steps * 0.5).tolist() == fast.values.tolist()
    assert [-50.0 * k for k in range(1, len(slow) + 1)] == slow.values.tolist()
    assert len(fast) > 512
    # The last point in the file is at most a second older than the kill (and a busy machine).
    assert killed - float(fast.times[-1]) <= 1.0 + 0.25
    assert killed - float(slow.times[-1]) <= 1.0 + 0.25
    assert len(fast) <= logged + 200
    with MetricsLog(tmp_path, 2, start_step=100) as log:
        log.add("fast", 101, 9.0)
    again = read_series(tmp_path, "fast")
    assert [*range(1, 101), 101] == again.steps.tolist()
    assert again.values[-1] == 9.0


def test_threads_lose_no_point(tmp_path):
    with MetricsLog(tmp_path, 1) as log:

        def work(number: int) -> None:
            for step in range(5000):
                log.add("shared", step, number)
                log.add(f"own {number}", step, step)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = read_all(tmp_path)
    assert np.bincount(found["shared"].values.astype(int)).tolist() == [5000] * 4
    for number in range(4):
        assert list(range(5000)) == found[f"own {number}"].steps.tolist()


def test_forked_child_writes_nothing_and_frees_the_file(tmp_path):
    log = MetricsLog(tmp_path, 1)
    log.add("loss", 1, 1.0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log.add("loss", 2, 2.0)
        except RunError:
            log.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    log.add("loss", 3, 3.0)
    log.close()
    assert read_series(tmp_path, "loss").steps.tolist() == [1, 3]


def test_second_writer_is_refused(tmp_path):
    with MetricsLog(tmp_path, 1), pytest.raises(RunError, match="another writer"):
        MetricsLog(tmp_path, 2)
    MetricsLog(tmp_path, 3).close()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from discern.base.errors import RunError
from discern.track.metrics_log import MetricsLog, read_series
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
log = MetricsLog(folder, 1)
for step in range(100):
    log.add("loss", step, step)
log.flush()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
for step in range(100, 3000):
    log.add("loss", step, step)
assert log.failure, "a failed write must show"
try:
    log.flush(sync=True)
except RunError as error:
    print(error.what)
assert len(read_series(folder, "loss")) == 100
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log.flush(sync=True)
assert log.failure is None
log.close()
assert read_series(folder, "loss").steps.tolist() == list(range(3000))
print("all there")
"""


def test_full_disk_is_told_and_loses_nothing_once_there_is_room(tmp_path):
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stderr == ""
    assert out.stdout == "metrics cannot be written: [Errno 27] File too large\nall there\n"


@pytest.mark.parametrize(
    ("step", "value"), [(-1, 0.5), (2**63, 0.5), (1.5, 0.5), (1, "x"), (1, None), (None, 1)]
)
def test_bad_point_is_refused_at_the_call(tmp_path, step, value):
    with MetricsLog(tmp_path, 1) as log:
        with pytest.raises(RunError, match="cannot be stored"):
            log.add("loss", step, value)
        with pytest.raises(RunError, match="needs a name"):
            log.add("", 1, 1.0)
    assert read_all(tmp_path) == {}


def test_numpy_numbers_and_not_finite_values_are_kept(tmp_path):
    with MetricsLog(tmp_path, 1) as log:
        log.add("loss", np.int64(1), np.float32(0.5))
        log.add("loss", 2, math.inf)
        log.add("loss", 3, math.nan)
    assert [repr(v) for v in read_series(tmp_path, "loss").values.tolist()] == ["0.5", "inf", "nan"]


def test_add_after_close_is_an_error(tmp_path):
    log = MetricsLog(tmp_path, 1)
    log.add("loss", 1, 1.0)
    log.close()
    log.close()
    with pytest.raises(RunError, match="closed"):
        log.add("loss", 2, 1.0)


def test_unknown_series_names_the_nearest(tmp_path):
    write_three_series(tmp_path, 3)
    with pytest.raises(RunError) as caught:
        read_series(tmp_path, "acuracy")
    assert caught.value.hint == "did you mean 'accuracy'?"


def test_no_metrics_are_no_error_for_all_and_one_for_a_name(tmp_path):
    assert read_all(tmp_path) == {}
    assert list_series(tmp_path) == []
    with pytest.raises(RunError, match="no series"):
        read_series(tmp_path, "loss")


def test_foreign_and_newer_files_are_refused_and_left_alone(tmp_path):
    path = tmp_path / blocks.METRICS_FILE
    for data, text in (
        (b"GIF89a and more bytes", "not a metrics file"),
        (b"DISCMETR" + (2).to_bytes(4, "little") + bytes(4), "version 2"),
    ):
        path.write_bytes(data)
        for action in (lambda: read_all(tmp_path), lambda: MetricsLog(tmp_path, 1)):
            with pytest.raises(RunError, match=text):
                action()
        assert data == path.read_bytes()


def test_version_1_file_is_read_and_written_byte_for_byte(tmp_path):
    expected = json.loads((GOLDEN / "expected.json").read_text())
    found = {
        name: {"steps": s.steps.tolist(), "times": s.times.tolist(), "values": s.values.tolist()}
        for name, s in read_all(GOLDEN).items()
    }
    assert expected == found
    assert (GOLDEN / blocks.METRICS_FILE).read_bytes()[:8].decode() == "DISCMETR"
    with MetricsLog(tmp_path, 1) as log:
        for step in range(4):
            log.add("train/loss", step, 2.0 - step / 2, time=1_700_000_000.0 + step)
            log.add("val/accuracy", step, step / 8, time=1_700_000_000.5 + step)
        log.flush()
    data = (GOLDEN / blocks.METRICS_FILE).read_bytes()
    written = (tmp_path / blocks.METRICS_FILE).read_bytes()
    assert written == data[: len(written)]
    for name in (blocks.SERIES_FILE, blocks.INDEX_FILE):
        part = (tmp_path / name).read_bytes()
        assert part == (GOLDEN / name).read_bytes()[: len(part)]
