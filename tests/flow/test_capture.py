"""`discern capture`: a program of somebody else's as a run."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from discern_process import discern, start

from discern.track.metrics_read import read_all
from discern.track.run import open_run

SCRIPT = """
import sys
print("hello")
for step in (10, 20):
    print(f"Train step={step} loss={1 / step} acc=0.95")
sys.stderr.write("\\r 50%|#| 5/10 [00:01, lr=0.25]\\r100%|#| 10/10 [00:02, lr=0.5]\\n")
sys.exit(3)
"""
ENDLESS = """
import os, signal, sys, time
print("begun", os.getpid(), flush=True)
for number in range(10_000):
    print(f"Train step={number} loss=0.5")
    time.sleep(0.01)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(SCRIPT)
    return path


def capture(tmp_path, *words):
    return discern("capture", "--runs", tmp_path / "runs", "--project", "p", *words)


def only_run(tmp_path):
    (folder,) = (tmp_path / "runs" / "p").iterdir()
    return open_run(str(folder), tmp_path)


def capture_endless(tmp_path):
    """The capture of a program that writes on and on, once it has begun; and the program's pid."""
    path = tmp_path / "endless.py"
    path.write_text(ENDLESS)
    words = ("--runs", tmp_path / "runs", "--project", "p", sys.executable, path)
    # A shell's background jobs ignore Ctrl-C, and so would these children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = start("capture", *words)
    finally:
        signal.signal(signal.SIGINT, before)
    pid = int(child.stdout.readline().split()[1])
    for _ in range(30):
        child.stdout.readline()
    return child, pid


def wait_gone(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.feature("LB-49")
@pytest.mark.feature("ML-10")
def test_a_foreign_script_shows_its_output_and_becomes_a_run(tmp_path, script):
    ended = capture(tmp_path, sys.executable, script, "--lr", "0.1", "--amp", "--seed=7")
    assert 3 == ended.code
    assert "hello\n" in ended.stdout
    assert "Train step=10 loss=0.1 acc=0.95\n" in ended.stdout
    run = open_run("p/net-1", tmp_path / "runs")
    series = run.read_all()
    assert [10, 20] == series["Train_loss"].steps.tolist()
    assert [0.1, 0.05] == series["Train_loss"].values.tolist()
    assert [0.95, 0.95] == series["Train_acc"].values.tolist()
    assert [5, 10] == series["lr"].steps.tolist()
    assert ("failed", 3) == (run.status, run.exit_record()["exit_code"])
    assert {"lr": 0.1, "amp": True, "seed": 7} == run.record["hparams"]
    kept = (run.path / "stdout.log").read_bytes()
    assert ended.stdout.encode() == kept
    assert (run.path / "stderr.log").read_bytes().startswith(b"\r 50%|#| 5/10")


def test_json_is_one_object_and_the_output_goes_aside(tmp_path):
    ended = capture(
        tmp_path, "--json", "--name", "x", sys.executable, "-c", "print('step=1 loss=2')"
    )
    assert 0 == ended.code
    expected = {
        "run": "p/x",
        "status": "finished",
        "metrics": {"loss": 2.0},
        "series": ["loss"],
        "exit_code": 0,
    }
    assert expected == ended.object
    assert "step=1 loss=2\n" in ended.stderr


def test_no_such_program_makes_no_run(tmp_path):
    ended = capture(tmp_path, "--json", "no-such-program-at-all")
    assert (2, "no-such-program-at-all") == (ended.code, ended.error["got"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_the_program(tmp_path, number):
    child, pid = capture_endless(tmp_path)
    child.send_signal(number)
    child.communicate(timeout=60)
    # Python answers SIGINT with KeyboardInterrupt, and then ends itself by the same signal.
    assert 128 + number == child.returncode
    assert wait_gone(pid)
    run = open_run("p/endless-1", tmp_path / "runs")
    assert ("interrupted", f"ended by {number.name}") == (run.status, run.exit_record()["reason"])


def test_a_killed_program_leaves_all_that_it_wrote(tmp_path):
    child, pid = capture_endless(tmp_path)
    os.kill(pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert 128 + signal.SIGKILL == child.returncode
    run = open_run("p/endless-1", tmp_path / "runs")
    assert ("failed", "ended by SIGKILL") == (run.status, run.exit_record()["reason"])
    kept = (run.path / "stdout.log").read_text()
    assert kept.startswith(f"begun {pid}\n")
    assert 30 < len(kept.splitlines())
    last = int(kept.splitlines()[-1].split()[1].removeprefix("step="))
    assert list(range(last + 1)) == run.read_series("Train_loss").steps.tolist()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
def test_a_killed_capture_leaves_what_was_written_and_no_program(tmp_path):
    child, pid = capture_endless(tmp_path)
    shown = 30
    child.kill()
    child.communicate(timeout=60)
    assert wait_gone(pid)
    run = open_run("p/endless-1", tmp_path / "runs")
    assert "lost" == run.status
    assert shown < len((run.path / "stdout.log").read_text().splitlines())
    assert isinstance(read_all(run.path), dict)


def test_much_output_is_neither_lost_nor_broken(tmp_path):
    text = (
        "import sys; w = sys.stdout.buffer.write; w(b'\\0\\xff' * (5 << 20)); w(b'\\n');"
        "[w(b'no figure in this line, but it is one of many\\n') for _ in range(200_000)];"
        "w(b'Train step=1 loss=0.5\\n')"
    )
    ended = capture(tmp_path, "--quiet", sys.executable, "-c", text)
    assert (0, "") == (ended.code, ended.stdout)
    run = only_run(tmp_path)
    size = (10 << 20) + 1 + 200_000 * 46 + 22
    assert size == (run.path / "stdout.log").stat().st_size
    assert [0.5] == run.read_series("Train_loss").values.tolist()


def test_a_reader_that_goes_away_stops_nothing(tmp_path, script):
    words = ["capture", "--runs", str(tmp_path / "runs"), "--project", "p", sys.executable]
    text = "print('first'); [print('x' * 100) for _ in range(5000)]; print('step=1 loss=2')"
    child = subprocess.Popen(
        [sys.executable, "-m", "discern", *words, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    child.stdout.read(5)
    child.stdout.close()
    assert 0 == child.wait(60)
    assert [2.0] == only_run(tmp_path).read_series("loss").values.tolist()


@pytest.mark.feature("ML-11")
def test_a_printed_model_summary_is_kept_and_shown(tmp_path):
    text = (
        'print(\'Model: "net"\'); print(" Layer (type)   Output Shape   Param #"); print("="*60);'
        'print(" dense (Dense)    (None, 10)      7850"); print("="*60);'
        'print("Total params: 7,850\\nTrainable params: 7,850\\nNon-trainable params: 0")'
    )
    assert 0 == capture(tmp_path, "--name", "k", sys.executable, "-c", text).code
    run = open_run("p/k", tmp_path / "runs")
    summary = json.loads((run.path / "model_summary.json").read_bytes())
    assert ("net", 7850, 7850) == (
        summary["network"],
        summary["parameters"],
        sum(layer["parameters"] for layer in summary["layers"]),
    )
    shown = discern("runs", "show", "p/k", "--runs", tmp_path / "runs")
    assert "model    7,850 parameters, all trained, 1 layers" in shown.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on files")
def test_a_disk_that_takes_no_more_stops_nothing_and_is_told(tmp_path):
    text = "[print('x' * 99) for _ in range(20_000)]; print('step=1 loss=2')"
    words = ["--runs", str(tmp_path / "runs"), "--project", "p", sys.executable, "-c", text]
    limited = ["prlimit", "--fsize=500000", sys.executable, "-m", "discern", "capture", *words]
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit")
    ended = subprocess.run(
        limited, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert 0 == ended.returncode
    assert ended.stdout.endswith("step=1 loss=2\n")
    run = only_run(tmp_path)
    assert "finished" == run.status
    assert 500_000 == (run.path / "stdout.log").stat().st_size
    (problem,) = run.record["problems"]
    assert problem == "stdout.log cannot be written: File too large"
    assert f"warning: {problem}" in ended.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a pseudo-terminal")
def test_at_a_terminal_the_program_reads_and_gets_one_interrupt(tmp_path):
    text = (
        "import time\nname = input('name? ')\n"
        # The greeting is what the test waits for: from it on, an interrupt has to be caught.
        "try:\n    print('hello', name, flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('interrupted once')\n"
        "    time.sleep(0.5)\n    print('bye')\n"
    )
    words = ["--runs", str(tmp_path / "runs"), "--project", "p", sys.executable, "-c", text]
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in a shell's background job
        os.execv(sys.executable, [sys.executable, "-m", "discern", "capture", *words])
    shown = b""
    try:
        while not shown.endswith(b"name? "):
            shown += os.read(terminal, 1000)
        os.write(terminal, b"joe\n")
        while b"hello joe" not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while data := os.read(terminal, 1000):
            shown += data
    except OSError:
        pass  # how a terminal ends
    finally:
        os.close(terminal)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert b"interrupted once" in shown
    assert b"bye" in shown
    assert "finished" == only_run(tmp_path).status
