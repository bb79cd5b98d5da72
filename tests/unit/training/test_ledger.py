"""Which evaluation is the best, over all stages and of each."""

from __future__ import annotations

import math

from discern.training.ledger import Entry, Ledger
from discern.training.monitor import open_monitor


def test_a_later_stage_is_best_only_where_it_beats_the_earlier_one():
    ledger = Ledger()
    ledger.add(Entry(100, "head", 40, 0.95, 0.30))
    ledger.add(Entry(120, "all", 1, 0.94, 0.20))
    assert "head" == ledger.ranked("accuracy")[0].stage
    ledger.add(Entry(140, "all", 2, 0.95, 0.31))
    assert "head" == ledger.ranked("accuracy")[0].stage
    ledger.add(Entry(160, "all", 3, 0.95, 0.29))
    assert 160 == ledger.ranked("accuracy")[0].step


def test_last_ranks_by_the_step_alone_over_all_stages_and_by_no_figure():
    ledger = Ledger()
    for entry in (
        Entry(100, "head", 40, 0.95, 0.30),
        Entry(120, "all", 1, 0.99, 0.10),
        Entry(140, "all", 2, 0.90, 0.40),
        Entry(160, "all", 3, 0.10, math.nan),  # weights that are no weights
    ):
        ledger.add(entry)
    assert [140, 120, 100, 160] == [entry.step for entry in ledger.ranked("last")]


def test_best_of_each_stage_in_the_order_of_the_stages():
    ledger = Ledger()
    ledger.monitors = {"head": open_monitor("accuracy"), "all": open_monitor("loss")}
    for entry in (
        Entry(10, "head", 1, 0.90, 0.3),
        Entry(20, "head", 2, 0.95, 0.4),
        Entry(30, "all", 1, 0.96, 0.3),
        Entry(40, "all", 2, 0.92, 0.2),
    ):
        ledger.add(entry)
    assert [20, 40] == [entry.step for entry in ledger.stage_bests()]
