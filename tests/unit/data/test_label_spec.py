"""What data.labels may say."""

from __future__ import annotations

import pytest

from discern.base.errors import ConfigError
from discern.data.label_spec import LabelSpec, read_label_specs


def test_one_name_a_list_and_a_mapping():
    assert () == read_label_specs(None)
    assert (LabelSpec(name="color"),) == read_label_specs("color")
    assert ("color", "shape") == tuple(s.name for s in read_label_specs(["color", "shape"]))
    tags = LabelSpec(name="tags", kind="multi", delimiter=";")
    assert (tags,) == read_label_specs({"tags": {"kind": "multi", "delimiter": ";"}})
    assert (LabelSpec(name="color"), tags) == read_label_specs(
        ["color", {"tags": {"delimiter": ";"}}]
    )
    hot = read_label_specs({"pet": {"kind": "multi", "columns": ["cat", "dog"]}})
    assert ("cat", "dog") == hot[0].columns


@pytest.mark.parametrize(
    ("choice", "where", "hint"),
    [
        ({"tags": {"knid": "multi"}}, "data.labels.tags", "did you mean 'kind'?"),
        ({"tags": {"kind": "many"}}, "data.labels.tags.kind", None),
        ({"tags": {"kind": "multi", "empty": "no"}}, "data.labels.tags.empty", None),
        ({"tags": {"kind": "multi", "delimiter": ""}}, "data.labels.tags.delimiter", None),
        ({"tags": {"kind": "single", "delimiter": ";"}}, "data.labels.tags", None),
        (["color", "color"], "data.labels", None),
        ([], "data.labels", None),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(choice, where, hint):
    with pytest.raises(ConfigError) as caught:
        read_label_specs(choice)
    assert (where, hint) == (caught.value.where, caught.value.hint)
