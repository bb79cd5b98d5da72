"""Figures sent to a local HTTP server: order, outages, bounds, and what a refusal does."""

from __future__ import annotations

import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from discern.base.errors import ConfigError
from discern.lab import tracker
from discern.track.run import create_run, read_run, resume_run
from discern.track.tracked_records import Point
from discern.track.writers.names import check_writers
from discern.track.writers.web_address import split_address
from discern.track.writers.web_writer import WebWriter


@pytest.fixture(autouse=True)
def _fresh_tracker():
    tracker.reset()
    yield
    tracker.reset()


class Server:
    """A server that keeps the bodies it is sent and answers with `code`."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[dict] = []
        self.code = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if server.code == 200:
                    server.bodies.append(body)
                self.send_response(server.code)
                self.end_headers()

            def log_message(self, *arguments): ...

        self._http = HTTPServer(("127.0.0.1", port), Handler)
        self.port = self._http.server_port
        self.address = f"http://127.0.0.1:{self.port}/track"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def records(self) -> list[dict]:
        return [record for body in self.bodies for record in body["records"]]

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.stop()


@pytest.mark.feature("LB-32")
def test_every_figure_arrives_in_order(tmp_path, server):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, [f"{server.address}#every_s=0"])
        tracker.save(1, {"loss": 0.5, "größe": math.nan})
        tracker.save(2, loss=math.inf)
    found = [(r["name"], r["step"], r["value"]) for r in server.records()]
    assert [("loss", 1, 0.5), ("größe", 1, "nan"), ("loss", 2, "inf")] == found
    assert {("lab/one", 1)} == {(body["run"], body["attempt"]) for body in server.bodies}
    assert list(range(len(server.bodies))) == [body["number"] for body in server.bodies]
    assert [] == read_run(run.path).record["problems"]


@pytest.mark.feature("ML-30")
def test_what_a_server_missed_waits_and_is_sent_when_it_is_back(tmp_path, capsys):
    gone = Server()
    gone.stop()
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, [f"{gone.address}#every_s=0"])
        tracker.save(1, loss=1.0)
        run.flush()
        deadline = time.monotonic() + 20
        while not run.problems() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "cannot be reached" in run.problems()[0]
        assert "1 records wait" in run.problems()[0]
        back = Server(gone.port)
        tracker.save(2, loss=2.0)
        run.flush()
    assert [1, 2] == [record["step"] for record in back.records()]
    assert [] == read_run(run.path).record["problems"]
    assert "training goes on" in capsys.readouterr().err
    back.stop()


@pytest.mark.feature("ML-30")
def test_what_is_left_at_the_end_is_sent_by_the_next_attempt(tmp_path):
    gone = Server()
    gone.stop()
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, [gone.address])
        tracker.save(1, loss=1.0)
        tracker.save(2, loss=2.0)
    (problem,) = read_run(run.path).record["problems"]
    assert problem.startswith(gone.address)
    assert "2 records wait" in problem
    assert 2 == len((run.path / "web_queue.jsonl").read_text().splitlines())
    back = Server(gone.port)
    with resume_run(run.path) as again:
        tracker.open_run(again, [back.address], start_step=1)
        tracker.save(2, loss=20.0)
    assert [1.0, 2.0, {"rewind": 1}, 20.0] == [r.get("value", r) for r in back.records()]
    assert not (run.path / "web_queue.jsonl").exists()
    assert [] == read_run(run.path).record["problems"]
    back.stop()


def test_the_oldest_records_are_lost_beyond_the_bound_and_counted(tmp_path):
    gone = Server()
    gone.stop()
    with create_run(tmp_path, "lab", name="one") as run:
        writer = WebWriter(run, gone.address, most_waiting=10)
        writer.write([Point("a", step, 0.0, 1.0) for step in range(25)])
        assert writer.problem == "15 records lost"
        writer.close()
        lines = (run.path / "web_queue.jsonl").read_text().splitlines()
    assert list(range(15, 25)) == [json.loads(line)["step"] for line in lines]


def test_a_server_that_refuses_ends_the_writer_and_not_the_run(tmp_path, server):
    server.code = 403
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, [f"{server.address}#every_s=0", "csv"])
        deadline = time.monotonic() + 20
        step = 0
        while "stopped" not in "".join(run.problems()) and time.monotonic() < deadline:
            step += 1
            tracker.save(step, loss=1.0)
            run.flush()
            time.sleep(0.02)
    (problem,) = read_run(run.path).record["problems"]
    assert "stopped by RunError: the server answers 403" in problem
    assert step == len((run.path / "log.csv").read_text().splitlines()) - 1


def test_a_server_that_is_busy_is_asked_again(tmp_path, server):
    server.code = 503
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, [f"{server.address}#every_s=0"])
        tracker.save(1, loss=1.0)
        run.flush()
        deadline = time.monotonic() + 20
        while not run.problems() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "answers 503" in run.problems()[0]
        server.code = 200
    assert [1] == [record["step"] for record in server.records()]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://h/p", ("http://h/p", 1.0)),
        ("https://h:1/p?q=1#every_s=2.5", ("https://h:1/p?q=1", 2.5)),
        ("http://h#every_s=0", ("http://h", 0.0)),
    ],
)
def test_address_may_say_how_often(address, expected):
    assert expected == split_address(address)


@pytest.mark.parametrize("address", ["http://h#5", "http://h#every_s=-1", "http://h#every=1"])
def test_address_with_unknown_words_is_refused(address):
    with pytest.raises(ConfigError, match="not the address"):
        check_writers([address], where="writers")
