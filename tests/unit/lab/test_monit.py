"""Sections, iterations and mixes as a reader of plain lines sees them."""

from __future__ import annotations

import re

import pytest

from discern.base.errors import ConfigError
from discern.lab import monit


def lines(capsys):
    """What was printed, with every time as T."""
    out = capsys.readouterr().out
    assert "\x1b" not in out
    return [re.sub(r"[\d,]+\.\d\dms", "T", line) for line in out.splitlines()]


@pytest.mark.feature("LB-33")
def test_section_prints_name_mark_and_time(capsys):
    with monit.section("Load data"):
        pass
    assert ["Load data...[DONE]\tT"] == lines(capsys)


@pytest.mark.feature("LB-33")
def test_failing_section_prints_fail_and_raises_again(capsys):
    with pytest.raises(ZeroDivisionError), monit.section("Divide"):
        raise ZeroDivisionError
    with monit.section("By hand", is_timed=False):
        monit.fail()
    assert ["Divide...[FAIL]\tT", "By hand...[FAIL]"] == lines(capsys)


@pytest.mark.feature("LB-33")
def test_sections_within_are_indented(capsys):
    with monit.section("Outer"):
        with monit.section("First"):
            pass
        with monit.section("Second"), monit.section("Deep"):
            pass
    expected = [
        "Outer...",
        "  First...[DONE]\tT",
        "  Second...",
        "    Deep...[DONE]\tT",
        "  Second...[DONE]\tT",
        "Outer...[DONE]\tT",
    ]
    assert expected == lines(capsys)


def test_silent_sections_and_silent_children(capsys):
    with monit.section("Quiet", is_silent=True):
        pass
    with (
        monit.section("Outer", is_children_silent=True),
        monit.section("In"),
        monit.section("Deep"),
    ):
        pass
    assert ["Outer...[DONE]\tT"] == lines(capsys)


def test_failed_section_succeeds_the_next_time(capsys):
    part = monit.section("Part")
    with part:
        monit.fail()
    with part:
        pass
    assert ["Part...[FAIL]\tT", "Part...[DONE]\tT"] == lines(capsys)


def test_partial_section_goes_on_until_its_steps_are_done(capsys):
    part = monit.section("Part", is_partial=True, total_steps=10)
    with part:
        monit.progress(4)
    assert 40.0 == part.percent()
    with part:
        part.advance(6)
    assert 100.0 == part.percent()
    assert ["Part...[DONE]\tT"] == lines(capsys)


@pytest.mark.feature("LB-33")
def test_functions_become_sections(capsys):
    @monit.func("Train")
    def train(x):
        return 2 * x

    @monit.func
    def check():
        return train(1)

    assert 2 == check()
    assert ["check...", "  Train...[DONE]\tT", "check...[DONE]\tT"] == lines(capsys)


@pytest.mark.feature("LB-34")
def test_iterate_and_enum_give_every_item(capsys):
    assert [0, 1, 2] == list(monit.iterate("Count", 3))
    assert [(0, "a"), (1, "b")] == list(monit.enum("Letters", "ab"))
    assert [5, 6] == list(monit.iterate("Endless", iter([5, 6]), total_steps=2))
    marks = ["Count...[DONE]\tT", "Letters...[DONE]\tT", "Endless...[DONE]\tT"]
    assert marks == lines(capsys)


@pytest.mark.feature("LB-34")
def test_iterate_works_with_a_data_loader(capsys):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.arange(10)), batch_size=4)
    assert [4, 4, 2] == [len(batch[0]) for batch in monit.iterate("Train", loader)]


@pytest.mark.feature("LB-34")
def test_percents_are_shown_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("discern.base.console.Console.live", True)
    monkeypatch.setattr("discern.lab.monit._REFRESH_S", 0.0)
    for _ in monit.iterate("Count", 4):
        pass
    shown = capsys.readouterr().out
    assert ["25%", "50%", "75%", "100%"] == re.findall(r"\d+%", shown)


@pytest.mark.feature("LB-35")
def test_mix_deals_out_each_evenly_and_whole():
    mixed = list(monit.mix(5, ("train", range(50)), ("valid", ["a", "b", "c"])))
    assert list(range(50)) == [item for name, item in mixed if name == "train"]
    assert ["a", "b", "c"] == [item for name, item in mixed if name == "valid"]
    places = [at for at, (name, _) in enumerate(mixed) if name == "valid"]
    assert [20, 41, 52] == places


def test_mix_names_what_has_no_length():
    with pytest.raises(ConfigError, match="length"):
        list(monit.mix(2, ("train", iter([1]))))


def test_calls_outside_a_section_say_so():
    with pytest.raises(ConfigError, match="inside of a section"):
        monit.progress(1)
