"""A run is made, listed and shown on a machine that reaches nobody and runs no server."""

from pathlib import Path

import pytest
from discern_process import QUICK, discern

# Read by the interpreter at its start: whoever looks for another machine fails.
ALONE = """
import socket

class Unreachable(OSError):
    pass

def refuse(*given, **named):
    raise Unreachable(f"a connection was tried: {given}")

socket.getaddrinfo = refuse
connect = socket.socket.connect

def connect_here(self, address):
    return connect(self, address) if self.family == socket.AF_UNIX else refuse(address)

socket.socket.connect = connect_here
"""
SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.feature("PP-33")
def test_training_and_its_store_need_no_network_and_no_server(tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "sitecustomize.py").write_text(ALONE)
    paths = {"PYTHONPATH": f"{tmp_path / 'alone'}:{SOURCES}"}
    ended = discern("train", "digits", *QUICK, "--name", "one", cwd=tmp_path, env=paths)
    assert 0 == ended.code, ended.stderr
    listed = discern("runs", "list", "--json", cwd=tmp_path, env=paths)
    assert ["digits/one"] == [run["id"] for run in listed.object["runs"]]
    shown = discern("runs", "show", "one", "--json", cwd=tmp_path, env=paths)
    assert "finished" == shown.object["status"]
    # The guard is in force: a source elsewhere is looked for and not found.
    away = discern("data", "get", "mnist", "--out", "mnist", "--json", cwd=tmp_path, env=paths)
    assert 0 != away.code
    assert "a connection was tried" in away.stdout + away.stderr
