"""Downloads that meet leftovers and servers that break HTTP."""

import hashlib
import http.server
import socketserver
import threading
from contextlib import contextmanager

import pytest

from discern.base.errors import DataError
from discern.data.download import RemoteFile, fetch

BODY = b"the right bytes"


class Ranged(http.server.BaseHTTPRequestHandler):
    """Gives BODY from any offset."""

    def do_GET(self):
        given = self.headers.get("Range")
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        self.server.asked.append(given)
        if start >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(BODY[start:])

    def log_message(self, *arguments):
        pass


class Nonsense(socketserver.StreamRequestHandler):
    """Answers what is not HTTP."""

    def handle(self):
        self.rfile.readline()
        self.wfile.write(b"GARBAGE\r\n\r\n")


class CutChunk(socketserver.StreamRequestHandler):
    """Ends in the middle of a chunk."""

    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nthe")


@contextmanager
def serving(kind):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def remote(*mirrors):
    return RemoteFile("file.gz", mirrors, hashlib.md5(BODY).hexdigest())


@pytest.mark.parametrize("left", [b"other bytes", b"x" * 100, BODY[:4], BODY])
def test_leftover_of_any_kind_ends_in_the_right_file(tmp_path, left):
    (tmp_path / "file.gz.part").write_bytes(left)
    with serving(Ranged) as (server, url):
        path = fetch(remote(url), tmp_path)
    assert BODY == path.read_bytes()
    assert f"bytes={len(left)}-" == server.asked[0]
    assert (1 if BODY.startswith(left) else 2) == len(server.asked)
    assert ["file.gz"] == [entry.name for entry in tmp_path.iterdir()]


@pytest.mark.parametrize("broken", [Nonsense, CutChunk])
def test_server_that_breaks_the_protocol_is_passed_over(tmp_path, broken):
    with serving(broken) as (_, bad), serving(Ranged) as (_, good):
        path = fetch(remote(bad, good), tmp_path)
    assert BODY == path.read_bytes()


@pytest.mark.parametrize("broken", [Nonsense, CutChunk])
def test_server_that_breaks_the_protocol_is_told_when_it_is_the_only_one(tmp_path, broken):
    with serving(broken) as (_, url), pytest.raises(DataError) as caught:
        fetch(remote(url), tmp_path)
    assert f"{url}/file.gz: " in caught.value.got


def test_progress_counts_to_the_whole_with_what_was_there(tmp_path):
    (tmp_path / "file.gz.part").write_bytes(BODY[:4])
    seen = []
    with serving(Ranged) as (_, url):
        fetch(remote(url), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert (len(BODY), len(BODY)) == seen[-1]


def test_file_that_is_there_is_not_asked_for(tmp_path):
    (tmp_path / "file.gz").write_bytes(BODY)
    with serving(Ranged) as (server, url):
        assert tmp_path / "file.gz" == fetch(remote(url), tmp_path)
    assert [] == server.asked
