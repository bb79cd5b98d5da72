from __future__ import annotations

import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import ConfigError, DataError
from discern.feed.throughput import (
    FeedInput,
    FeedTest,
    measure_feed,
    spread_input,
)
from discern.feed.throughput_peers import PEERS
from discern.feed.throughput_rates import describe_throughput

COUNT = 20


def jpegs(count=COUNT):
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        data = io.BytesIO()
        pixels = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((120, 90)).save(data, "JPEG")
        files.append(data.getvalue())
    return files


@pytest.fixture
def given(array_source):
    return FeedInput(array_source(jpegs()), np.arange(COUNT))


@pytest.fixture
def small(color):
    return FeedTest(preprocess=replace(color, height=32, width=32), batch_size=8, rounds=2)


@pytest.mark.feature("MX-21")
def test_rates_of_every_decoder_and_worker_count(given, small):
    told = []
    result = measure_feed({"files": given}, small, progress=lambda *step: told.append(step))
    expected = [(w, d) for w in (0, 2) for d in ("mixed", "fast", "pillow", "decode")]
    assert expected == [(rate.workers, rate.decoder) for rate in result.rates]
    for rate in result.rates:
        assert COUNT == rate.images
        assert 0 < rate.per_wall_s.low <= rate.per_wall_s.median <= rate.per_wall_s.high
        assert 0 < rate.per_cpu_s.low <= rate.per_cpu_s.median <= rate.per_cpu_s.high
        assert (rate.workers == 0) == (rate.scaling is None)
        assert (rate.decoder == "decode") == (rate.of_decode is None)
        assert rate.binds in ("read", "decode", "augment", "copy", "wait")
    assert [(1, 3), (2, 3), (3, 3)] == told
    record = json.loads(json.dumps(result.record()))
    assert 8 == len(record["results"])
    assert {"read", "decode", "augment", "copy"} == set(record["parts_us"]["files"])
    assert all(spent >= 0 for spent in record["parts_us"]["files"].values())
    lines = describe_throughput(result)
    assert [f"files, {d}" for _, d in expected] == [line.split("  ")[0] for line in lines[1:9]]
    assert lines[9].startswith("files: CPU microseconds an image: read ")


def test_ratio_is_that_of_the_rounds(given, small):
    result = measure_feed({"a": given, "b": given}, replace(small, workers=(0,)))
    ours, theirs = ("a", "mixed", 0), ("b", "decode", 0)
    pairs = zip(result.rate(*ours).cpu_rounds, result.rate(*theirs).cpu_rounds, strict=True)
    assert sorted(x / y for x, y in pairs) == list(result.ratio(ours, theirs)[1:])
    with pytest.raises(KeyError):
        result.rate("c", "mixed", 0)


def test_slow_files_bind_by_waiting(array_source, small):
    class Slow(array_source):
        def read(self, position):
            time.sleep(0.005)
            return super().read(position)

    given = FeedInput(Slow(jpegs(8)), np.arange(8))
    result = measure_feed({"files": given}, replace(small, workers=(0,), decoders=("mixed",)))
    assert "wait" == result.rates[0].binds
    assert 200 > result.rates[0].per_wall_s.median


@pytest.mark.parametrize("name", PEERS)
def test_peer_is_measured_beside(given, small, name):
    test = replace(small, workers=(0,), decoders=("mixed",), rounds=1)
    result = measure_feed({"files": given}, test, peers={name: PEERS[name]})
    peer = result.rate("files", name, 0)
    assert COUNT >= peer.images > 0
    assert peer.binds is None
    assert peer.per_cpu_s.median > 0


def test_what_cannot_be_measured_is_refused(given, small, color):
    with pytest.raises(ConfigError, match="mixed"):
        FeedTest(preprocess=color, decoders=("mixd",))
    with pytest.raises(ConfigError):
        FeedTest(preprocess=color, rounds=0)
    with pytest.raises(ConfigError):
        FeedTest(preprocess=color, workers=(-1,))
    with pytest.raises(DataError, match="files"):
        measure_feed({"files": FeedInput(given.source, np.arange(0))}, small)


def test_unreadable_image_is_named(array_source, small):
    given = FeedInput(array_source([*jpegs(3), b"nothing"]), np.arange(4))
    with pytest.raises(DataError) as caught:
        measure_feed({"files": given}, small)
    assert "image-3.png" == caught.value.where


def test_measured_images_are_spread_over_all(array_source):
    source = array_source([])
    positions = np.arange(1000, 2000)
    assert [1000, 1250, 1500, 1750] == spread_input(source, positions, 4).positions.tolist()
    assert positions.tolist() == spread_input(source, positions, 5000).positions.tolist()
    assert [] == spread_input(source, positions[:0]).positions.tolist()
