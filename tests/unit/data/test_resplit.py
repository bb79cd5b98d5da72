"""Plans for splits: nobody lost, nobody twice, groups whole, the same for any order of rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError, DataError
from discern.data.manifest import Head, Locations, Manifest
from discern.data.manifest_files import read_manifest, write_manifest
from discern.data.resplit import SplitPlan, resplit
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.data.split import SplitRule, complete_split


def manifest(targets, classes=None, **columns):
    targets = np.array(targets)
    count = len(targets)
    names = tuple(f"c{n}" for n in range(classes or int(targets.max(initial=0)) + 1))
    paths = [f"c{target}/{n:05d}.jpg" for n, target in enumerate(targets)]
    base = {
        "ids": np.array([f"{n * 2654435761 % 2**64:016x}" for n in range(count)]),
        "locations": Locations.files(paths),
        "heads": (Head("label", "single", names, targets),),
        "split": np.full(count, -1, np.int8),
        "root": Path("/data"),
        "layout": "class folders",
    }
    return Manifest(**(base | columns))


def by_id(value):
    """What each image got, by its id."""
    fold = np.full(len(value), -1) if value.fold is None else value.fold
    rows = zip(value.ids.tolist(), value.split.tolist(), fold.tolist(), strict=True)
    return {name: (split, number) for name, split, number in rows}


PLANS = [
    SplitPlan(),
    SplitPlan(val=0.2, test=0.0, stratify=False),
    SplitPlan(group_by="group", seed=3),
    SplitPlan(folds=3),
    SplitPlan(folds=4, group_by="group", val_folds=(0,), test_folds=(3,)),
    SplitPlan(train_per_class=4),
    SplitPlan(val_per_class=1, group_by="group"),
    SplitPlan(train_per_class=2, val_per_class=1, test_per_class=1, min_per_class=6),
]


@st.composite
def data_sets(draw):
    sizes = draw(st.lists(st.integers(5, 25), min_size=1, max_size=4))
    targets = np.repeat(np.arange(len(sizes)), sizes)
    count = len(targets)
    groups = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    copies = draw(st.lists(st.integers(0, count - 1), max_size=6))
    base = manifest(targets)
    ids = base.ids.tolist()
    for place, row in enumerate(copies):
        twin = (row + 1) % count
        ids[twin] = f"{ids[row].partition('-')[0]}-{place + 2}"
    group = np.array([f"p{n}" if n < 30 else "" for n in groups])
    return manifest(targets, ids=np.array(ids), group=group)


@pytest.mark.parametrize("plan", PLANS)
@given(data=data_sets(), random=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_nobody_is_lost_or_twice_and_the_order_of_rows_is_irrelevant(plan, data, random):
    try:
        result, report = resplit(data, plan)
    except DataError:
        return  # fewer groups than folds
    order = list(range(len(data)))
    random.shuffle(order)
    other, other_report = resplit(data.select(np.array(order)), plan)
    assert by_id(result) == by_id(other)
    assert report.record() == other_report.record()
    assert len(set(result.ids)) == len(result)
    gone = sum(report.dropped.values()) + report.left_out
    assert len(data) == len(result) + gone
    assert set(result.ids) <= set(data.ids)
    assert report.record() == json.loads(json.dumps(report.record()))
    assert report.lines()
    if plan.way == "folds":
        assert set(range(plan.folds)) == set(result.fold.tolist())
    if plan.way == "shares":
        assert set(result.split.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("plan", PLANS)
@given(data=data_sets())
@settings(max_examples=25)
def test_what_belongs_together_is_never_cut(plan, data):
    try:
        result, _ = resplit(data, plan)
    except DataError:
        return
    got = by_id(result)
    joined = {}
    for row, name in enumerate(data.ids.tolist()):
        if name in got:
            joined.setdefault(name.partition("-")[0], set()).add(got[name])
            if plan.group_by and data.group[row]:
                joined.setdefault(data.group[row], set()).add(got[name])
    # Counts that leave images out leave out whole units, which have no split then.
    assert all(len(places) == 1 for places in joined.values())


def test_the_same_seed_gives_the_same_and_another_another_split():
    data = manifest(np.repeat([0, 1], 30), group=np.array([f"g{n // 3}" for n in range(60)]))
    for change in ({}, {"group_by": "group"}, {"folds": 3}, {"train_per_class": 9}):
        one, two, three = (by_id(resplit(data, SplitPlan(seed=s, **change))[0]) for s in (0, 0, 1))
        assert one == two
        assert one != three


def test_split_without_groups_is_the_one_that_training_draws():
    data = manifest(np.repeat([0, 1, 2], [20, 31, 47]))
    wanted = complete_split(data.ids, data.targets, data.classes, data.split, SplitRule(seed=4))
    assert wanted.codes.tolist() == resplit(data, SplitPlan(seed=4))[0].split.tolist()


def test_shares_hold_with_duplicates_among_the_images():
    targets = np.repeat([0, 1], 100)
    ids = [
        f"{n - n % 10 if n % 10 < 2 else n:016x}" + ("-2" if n % 10 == 1 else "")
        for n in range(200)
    ]
    result, report = resplit(manifest(targets, ids=np.array(ids)), SplitPlan(val=0.1, test=0.2))
    assert {"c0": 10, "c1": 10} == report.counts["val"]
    assert {"c0": 20, "c1": 20} == report.counts["test"]
    assert (20, 40, 2) == (report.units, report.together, report.largest)
    loose, _ = resplit(
        manifest(targets, ids=np.array(ids)), SplitPlan(val=0.1, test=0.2, keep_duplicates=False)
    )
    assert by_id(loose) != by_id(result)


@pytest.mark.feature("CA-04")
def test_groups_are_whole_and_shares_near():
    draw = np.random.default_rng(1)
    sizes = draw.integers(1, 20, 120)
    group = np.repeat([f"patient {n}" for n in range(120)], sizes)
    targets = draw.choice(3, len(group), p=[0.6, 0.3, 0.1])
    data = manifest(targets, group=group)
    result, report = resplit(data, SplitPlan(group_by="group"))
    for name in set(group.tolist()):
        assert 1 == len(set(result.split[group == name].tolist()))
    total = np.bincount(targets)
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        got = np.array(list(report.counts[split].values()))
        assert np.abs(got / total - share).max() < 0.02
    folds, _ = resplit(data, SplitPlan(group_by="group", folds=5))
    for name in set(group.tolist()):
        assert 1 == len(set(folds.fold[group == name].tolist()))


@given(st.lists(st.integers(2, 60), min_size=2, max_size=5), st.integers(2, 7), st.integers(0, 9))
@settings(max_examples=60)
def test_each_fold_has_its_share_of_each_class_within_one_image(sizes, folds, seed):
    data = manifest(np.repeat(np.arange(len(sizes)), sizes))
    if len(data) < folds:
        return
    _, report = resplit(data, SplitPlan(folds=folds, seed=seed))
    for name, size in zip(data.classes, sizes, strict=True):
        got = [report.folds[f"fold {fold}"][name] for fold in range(folds)]
        assert size == sum(got)
        assert all(abs(number - size / folds) < 1 for number in got)


@pytest.mark.feature("MX-45")
def test_sixty_a_class_are_for_training_and_the_rest_is_val():
    sizes = [80, 100, 61, 827]
    data = manifest(np.repeat(np.arange(4), sizes))
    _, report = resplit(data, SplitPlan(train_per_class=60))
    assert dict.fromkeys(data.classes, 60) == report.counts["train"]
    assert {"c0": 20, "c1": 40, "c2": 1, "c3": 767} == report.counts["val"]
    assert {"train", "val"} == set(report.counts)


def test_small_classes_are_dropped_listed_and_counted():
    sizes = [500, 499, 700, 3]
    data = manifest(np.repeat(np.arange(4), sizes))
    result, report = resplit(data, SplitPlan(min_per_class=500, val_per_class=50))
    assert {"c1": 499, "c3": 3} == report.dropped
    assert ("c0", "c2") == result.classes
    assert {"train": {"c0": 450, "c2": 650}, "val": {"c0": 50, "c2": 50}} == report.counts
    assert any("c1 (499), c3 (3)" in line for line in report.lines())
    labels = {path.partition("/")[0] for path in result.locations.paths[result.targets == 1]}
    assert {"c2"} == labels


def test_images_beyond_all_counts_are_left_out():
    data = manifest(np.repeat([0, 1], [9, 12]))
    plan = SplitPlan(train_per_class=4, val_per_class=2, test_per_class=3)
    result, report = resplit(data, plan)
    assert 3 == report.left_out
    assert 18 == len(result) == report.images
    assert {"c0": 3, "c1": 3} == report.counts["test"]


def test_kept_split_stays_and_draws_in_what_belongs_with_it():
    data = manifest(np.repeat([0, 1], 20), group=np.array([f"g{n // 2}" for n in range(40)]))
    given_codes = np.full(40, -1, np.int8)
    given_codes[[0, 21]] = 2
    plan = SplitPlan(val=0.2, group_by="group", keep=("test",))
    result, report = resplit(data.with_split(given_codes), plan)
    assert [0, 1, 20, 21] == np.flatnonzero(result.split == 2).tolist()
    assert {"c0": 4, "c1": 4} == report.counts["val"]
    assert any("2 images follow" in note for note in report.notes)
    folds, _ = resplit(data.with_split(given_codes), SplitPlan(folds=3, keep=("test",)))
    assert [0, 21] == np.flatnonzero(folds.fold == -1).tolist()


def test_near_duplicate_clusters_stay_together():
    data = manifest(np.repeat([0, 1], 30))
    clusters = np.full(60, -1)
    clusters[[3, 40, 41, 59]] = 7
    for seed in range(4):
        split = resplit(data, SplitPlan(seed=seed), clusters)[0].split
        assert 1 == len(set(split[[3, 40, 41, 59]].tolist()))
    with pytest.raises(DataError, match="other images"):
        resplit(data, SplitPlan(), clusters[:5])


def test_groups_by_folder_or_label_column():
    data = manifest(np.repeat([0, 1, 2, 3], 10))
    camera = Head("camera", "single", ("x", "y", "z"), np.arange(40) % 3)
    heads = (data.heads[0], camera)
    two = Manifest(
        ids=data.ids, locations=data.locations, heads=heads, split=data.split, root=data.root,
        layout=data.layout,
    )  # fmt: skip
    result, _ = resplit(two, SplitPlan(folds=3, group_by="camera"))
    assert all(len(set(result.fold[camera.targets == n].tolist())) == 1 for n in range(3))
    folders, report = resplit(data, SplitPlan(folds=2, group_by="folder"))
    assert all(len(set(folders.fold[data.targets == n].tolist())) == 1 for n in range(4))
    assert any("no image of 2 classes" in note for note in report.notes)
    with pytest.raises(ConfigError, match="cannot be grouped") as caught:
        resplit(two, SplitPlan(group_by="camra"))
    assert "did you mean 'camera'?" == caught.value.hint


def test_multi_label_classes_get_their_shares():
    draw = np.random.default_rng(0)
    targets = (draw.random((600, 3)) < [0.5, 0.2, 0.05]).astype(np.float32)
    head = Head("tags", "multi", ("a", "b", "c"), targets)
    _, report = resplit(manifest(np.zeros(600, int), heads=(head,)), SplitPlan())
    for name, total in zip("abc", targets.sum(axis=0), strict=True):
        assert abs(report.counts["val"][name] - 0.15 * total) <= 1
        assert abs(report.counts["test"][name] - 0.15 * total) <= 1


def test_unlabeled_images_go_to_train_or_to_no_split():
    data = manifest([0] * 10 + [1] * 10 + [-1] * 5, classes=2)
    assert [0] * 5 == resplit(data, SplitPlan())[0].split[20:].tolist()
    assert [-1] * 5 == resplit(data, SplitPlan(train_per_class=3))[0].split[20:].tolist()
    folds = resplit(data, SplitPlan(folds=5))[0].fold[20:]
    assert [0, 1, 2, 3, 4] == sorted(folds.tolist())


def test_folds_become_splits_when_asked(tmp_path):
    data = manifest(np.repeat([0, 1], 10), root=tmp_path)
    result, report = resplit(data, SplitPlan(folds=5, val_folds=(3,), test_folds=(4,)))
    assert {"train": 12, "val": 4, "test": 4} == {
        k: sum(v.values()) for k, v in report.counts.items()
    }
    assert (result.fold[result.split == 1] == 3).all()
    write_manifest(result, tmp_path / "m.parquet")
    assert result.hash == read_manifest(tmp_path / "m.parquet").hash
    assert data.fold is None


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        ({"val": 0.5, "test": 0.5}, "out of range"),
        ({"val": -0.1}, "out of range"),
        ({"val": 0.1, "folds": 5}, "not by several"),
        ({"train_per_class": 5, "test": 0.1}, "not by several"),
        ({"min_per_class": 0}, "not positive"),
        ({"folds": 1}, "too few folds"),
        ({"folds": 3, "val_folds": (3,)}, "no such fold"),
        ({"folds": 2, "val_folds": (0,), "test_folds": (0,)}, "two splits"),
        ({"val_folds": (0,)}, "how many"),
        ({"keep": ("valid",)}, "no such split"),
    ],
)
def test_plan_that_cannot_be_is_refused(plan, what):
    with pytest.raises(ConfigError, match=what):
        SplitPlan(**plan)


def test_classes_too_small_for_the_plan_are_named():
    data = manifest([0] * 9 + [1] * 2)
    for plan in (SplitPlan(), SplitPlan(train_per_class=2)):
        with pytest.raises(DataError, match="too few") as caught:
            resplit(data, plan)
        assert "class 'c1'" == caught.value.where
    with pytest.raises(DataError, match="no class has enough"):
        resplit(data, SplitPlan(min_per_class=10))
    with pytest.raises(DataError, match="fewer images"):
        resplit(data, SplitPlan(folds=12))


def test_classes_without_images_are_noted():
    data = manifest([0] * 10 + [2] * 10, classes=3)
    for plan in (SplitPlan(), SplitPlan(train_per_class=3)):
        _, report = resplit(data, plan)
        assert ("1 classes have no image to be split: c1",) == report.notes
        assert 0 == report.counts["val"]["c1"]


def test_unlabeled_images_are_split_without_strata_only():
    data = manifest(np.full(20, -1), classes=1)
    for plan in (SplitPlan(), SplitPlan(val_per_class=2)):
        with pytest.raises(DataError, match="no image has a class"):
            resplit(data, plan)
    result, report = resplit(data, SplitPlan(stratify=False))
    assert {"train": 14, "val": 3, "test": 3} == result.sizes()
    assert {"c0": 0, "": 3} == report.counts["val"]
    assert {4} == set(np.bincount(resplit(data, SplitPlan(folds=5))[0].fold).tolist())


def test_built_in_data_is_split():
    digits = scan_data(DataRequest(train="digits", split=None)).manifest
    result, report = resplit(digits, SplitPlan(val=0.1, test=0.0))
    assert abs(sum(report.counts["val"].values()) - 180) <= 5
    assert open_source(result.select(result.positions("val"))).read(0).shape == (8, 8, 1)
