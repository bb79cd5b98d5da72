"""Downloads that meet leftovers and servers that break HTTP."""

import hashlib
import http.server
import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from discern.base.errors import DataError
from discern.data.download import RemoteFile, download, fetch

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


class Wild(http.server.BaseHTTPRequestHandler):
    """Serves `server.body` the way `server.manner` says, and notes what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        given, only_if = self.headers.get("Range"), self.headers.get("If-Range")
        server.asked.append((given, only_if))
        manner = server.manners.pop(0) if server.manners else "whole"
        if isinstance(manner, int):
            self.send_response(manner)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        if manner == "ignores range" or (only_if and only_if != server.tag):
            start = 0
        if start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(server.body) - 1}/{len(server.body)}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(server.body) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        if manner == "cut":
            self.wfile.write(server.body[start : start + server.step])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(server.body[start:])

    def log_message(self, *arguments):
        pass


LONG = bytes(range(256)) * 400


@pytest.fixture
def wild():
    with serving(Wild) as (server, url):
        server.body, server.tag, server.manners, server.step = LONG, '"one"', [], 40_000
        yield server, f"{url}/flowers.tar"


def get(url, folder, **options):
    pauses = []
    report = download(url, folder / "flowers.tar", pause=pauses.append, **options)
    assert ["flowers.tar"] == [entry.name for entry in folder.iterdir()]
    return report, pauses


def sum_of(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("pinned", [True, False])
def test_cut_connections_are_gone_on_with_until_the_file_is_whole(wild, tmp_path, pinned):
    server, url = wild
    server.manners = ["cut", "cut"]
    told = []
    report, pauses = get(
        url, tmp_path, sha256=sum_of(LONG) if pinned else None, progress=lambda *p: told.append(p)
    )
    assert LONG == report.path.read_bytes()
    assert sum_of(LONG) == report.sha256
    assert [None, "bytes=40000-", "bytes=80000-"] == [asked[0] for asked in server.asked]
    assert (len(LONG), len(LONG)) == told[-1]
    assert [0.5, 0.5] == pauses


def test_server_that_ignores_ranges_gives_the_whole_file_once(wild, tmp_path):
    server, url = wild
    server.manners = ["cut", "ignores range"]
    report, _ = get(url, tmp_path)
    assert LONG == report.path.read_bytes()


def test_file_that_changed_in_between_is_fetched_from_its_start(wild, tmp_path):
    server, url = wild
    server.manners = ["cut"]
    changed = LONG[::-1]

    def change(_):
        server.body, server.tag = changed, '"two"'

    report = download(url, tmp_path / "flowers.tar", pause=change)
    assert changed == report.path.read_bytes()
    assert ("bytes=40000-", '"one"') == server.asked[1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_version_or_a_sum_a_cut_file_is_fetched_from_its_start(wild, tmp_path, tag):
    server, url = wild
    server.tag, server.manners = tag, ["cut"]
    report, _ = get(url, tmp_path)
    assert LONG == report.path.read_bytes()
    assert [(None, None)] * 2 == server.asked


def test_a_later_process_goes_on_where_an_earlier_one_gave_up(wild, tmp_path):
    server, url = wild
    server.manners = ["cut", 503, 503, 503, 503, 503]
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        get(url, tmp_path)
    assert "503" in caught.value.got
    assert "40000 bytes that are here" in caught.value.hint
    report, _ = get(url, tmp_path)
    assert LONG == report.path.read_bytes()
    assert 40_000 == report.record()["resumed_bytes"]
    assert ("bytes=40000-", '"one"') == server.asked[-1]


def test_what_another_address_left_is_not_gone_on_with(wild, tmp_path):
    server, url = wild
    (tmp_path / "flowers.tar.part").write_bytes(b"other")
    report, _ = get(url, tmp_path)
    assert [(None, None)] == server.asked
    assert 0 == report.resumed_bytes


def test_leftover_that_a_sum_refutes_is_fetched_from_its_start(wild, tmp_path):
    server, url = wild
    server.tag = ""
    (tmp_path / "flowers.tar.part").write_bytes(b"other")
    report, _ = get(url, tmp_path, sha256=sum_of(LONG).upper())
    assert LONG == report.path.read_bytes()
    assert ["bytes=5-", None] == [asked[0] for asked in server.asked]


def test_wrong_sum_is_told_and_nothing_is_kept(wild, tmp_path):
    _, url = wild
    with pytest.raises(DataError, match="SHA-256 differs") as caught:
        get(url, tmp_path, sha256=sum_of(b"other"))
    assert sum_of(LONG) == caught.value.got
    assert [] == list(tmp_path.iterdir())


def test_shorter_file_on_the_server_is_fetched_from_its_start(wild, tmp_path):
    server, url = wild
    server.manners = ["cut"]

    def shrink(_):
        server.body, server.tag = b"short", '"one"'

    report = download(url, tmp_path / "flowers.tar", pause=shrink)
    assert b"short" == report.path.read_bytes()


def test_passing_failures_are_waited_for_longer_and_longer(wild, tmp_path):
    server, url = wild
    server.manners = [503, 429]
    _, pauses = get(url, tmp_path)
    assert [0.5, 1.0] == pauses


def test_final_answers_are_told_at_once(wild, tmp_path):
    server, url = wild
    server.manners = [404]
    with pytest.raises(DataError) as caught:
        get(url, tmp_path)
    assert "404" in caught.value.got
    assert url == caught.value.where
    assert [] == list(tmp_path.iterdir())


def test_offline_is_told_with_a_way_out(tmp_path):
    with pytest.raises(DataError) as caught:
        get("http://127.0.0.1:9/flowers.tar", tmp_path)
    assert "refused" in caught.value.got
    assert "online" in caught.value.hint


@pytest.mark.parametrize("url", ["file:///etc/passwd", "flowers.tar", "http://a b/c", "ftp://a/b"])
def test_only_http_addresses_are_fetched(tmp_path, url):
    with pytest.raises(DataError, match="not an address"):
        get(url, tmp_path)


def test_what_is_no_sum_is_told_before_anything_is_fetched(wild, tmp_path):
    with pytest.raises(DataError, match="not a SHA-256"):
        get(wild[1], tmp_path, sha256="abc")
    assert [] == wild[0].asked


def test_two_at_once_get_one_whole_file(wild, tmp_path):
    server, url = wild
    server.manners = ["cut", "cut"]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(download, url, tmp_path / "a", pause=lambda _: None) for _ in range(2)]
        assert [sum_of(LONG)] * 2 == [job.result().sha256 for job in jobs]
    assert ["a"] == [entry.name for entry in tmp_path.iterdir()]


def test_full_disk_is_told_before_it_is_full(wild, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("discern.data.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="no room"):
        get(wild[1], tmp_path)
