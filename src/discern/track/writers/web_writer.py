"""Tracked figures sent to an HTTP server: POSTs of JSON, from a thread of its own.

Each POST is {"run": "project/name", "attempt", "number", "records": [...]}: the records are the
lines of `log.jsonl` (`text_writers`), a {"rewind": N} among them drops those of steps above N.
`number` counts the POSTs of an attempt; after a lost answer one may come twice. Any 2xx answer
takes them over.

While the server is away the newest records wait in memory, up to a bound; what is left at the end
of the run waits in `web_queue.jsonl` of its folder for the run's next attempt. Only a server that
refuses (4xx) ends this writer.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import RunError
from discern.base.files import write_text
from discern.track.plain_values import to_plain
from discern.track.run_writer import RunWriter
from discern.track.tracked_records import Record
from discern.track.writers.text_writers import json_record
from discern.track.writers.web_address import EVERY_S, split_address

QUEUE_FILE: Final = "web_queue.jsonl"
# About 100 bytes each: 10 MB that wait at most.
_MOST_WAITING: Final = 100_000
_MOST_A_POST: Final = 5_000
_TIMEOUT_S: Final = 10.0
# The end of a run waits this long for a server at most.
_LAST_TIMEOUT_S: Final = 3.0
_LONGEST_PAUSE_S: Final = 60.0
# Timeouts and too many requests pass: what the server says is "later", not "no".
_LATER: Final = (408, 425, 429)


class WebWriter:
    """Sends the records of `run` to `address`, see `split_address`. Raises ConfigError.

    `most_waiting`: records that wait for a server that is away; the oldest are lost beyond. `write`
    raises RunError once the server has refused.
    """

    def __init__(self, run: RunWriter, address: str, most_waiting: int = _MOST_WAITING) -> None:
        self._run = run
        self._url, self._every_s = split_address(address)
        self._most_waiting = most_waiting
        self._waiting: list[dict[str, Any]] = self._left_before()
        self._lost = 0
        self._number = 0
        self._refused: str | None = None
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._send_until_stopped, name="web", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why records wait or are lost; None while all is well."""
        lost = f"{self._lost} records lost" if self._lost else None
        told = [self._failure and f"{self._failure}; {len(self._waiting)} records wait", lost]
        return "; ".join(filter(None, told)) or None

    def write(self, records: list[Record]) -> None:
        """Put the records into the queue; never waits for the server."""
        self._put([json_record(record) for record in records])

    def rewind(self, step: int) -> None:
        """Tell the server."""
        self._put([{"rewind": step}])

    def flush(self) -> None:
        """Ask for a POST soon."""
        self._wake.set()

    def close(self) -> None:
        """Send what waits, once and briefly; what is left is kept for the run's next attempt."""
        self._stop = True
        self._wake.set()
        self._thread.join(_LAST_TIMEOUT_S)
        while self._waiting and not self._thread.is_alive() and self._refused is None:
            if not self._send_some(_LAST_TIMEOUT_S):
                break
        path = self._run.path / QUEUE_FILE
        if self._waiting:
            lines = [json.dumps(to_plain(record), allow_nan=False) for record in self._waiting]
            write_text(path, "\n".join(lines) + "\n")
        else:
            path.unlink(missing_ok=True)

    def _left_before(self) -> list[dict[str, Any]]:
        path: Path = self._run.path / QUEUE_FILE
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _put(self, records: list[dict[str, Any]]) -> None:
        if self._refused is not None:
            raise RunError(self._refused)
        with self._lock:
            self._waiting += records
            beyond = len(self._waiting) - self._most_waiting
            if beyond > 0:
                del self._waiting[:beyond]
                self._lost += beyond

    def _send_until_stopped(self) -> None:
        pause = self._every_s
        while not self._stop:
            self._wake.wait(max(pause, 0.05))
            self._wake.clear()
            if self._stop or self._refused is not None:
                return
            went_well = True
            while self._waiting and went_well and not self._stop:
                went_well = self._send_some(_TIMEOUT_S)
            # A server that is away is asked less and less often.
            longer = min(max(2 * pause, EVERY_S), _LONGEST_PAUSE_S)
            pause = self._every_s if went_well else longer

    def _send_some(self, timeout_s: float) -> bool:
        """POST the oldest records; False if the server did not take them."""
        with self._lock:
            records = self._waiting[:_MOST_A_POST]
            lost = self._lost
        body = {
            "run": "/".join(self._run.path.parts[-2:]),
            "attempt": self._run.attempt,
            "number": self._number,
            "records": records,
        }
        try:
            self._post(json.dumps(to_plain(body), allow_nan=False).encode(), timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self._note_failure(error)
            return False
        with self._lock:
            # Of what was sent, the oldest may have been pushed out meanwhile: not lost.
            pushed = self._lost - lost
            del self._waiting[: max(len(records) - pushed, 0)]
            self._lost = lost + max(pushed - len(records), 0)
        self._number += 1
        self._failure = None
        return True

    def _post(self, body: bytes, timeout_s: float) -> None:
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked where it is opened
            self._url, body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            answer.read()

    def _note_failure(self, error: Exception) -> None:
        first = self._failure is None
        if isinstance(error, urllib.error.HTTPError):
            self._failure = f"the server answers {error.code} {error.reason}"
            error.close()
            if 400 <= error.code < 500 and error.code not in _LATER:
                self._refused = self._failure
        else:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            self._failure = f"the server cannot be reached: {reason}"
        if first:
            text = f"{self._url}: {self._failure}; training goes on"
            self._run.log(f"warning: {text}")
            Console().warn(text)
