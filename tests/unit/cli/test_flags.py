from discern.cli.flags import FLAGS
from discern.cli.options import flag_pairs
from discern.config.reference import reference_rows

KINDS = {
    "text": ("text", "or"),
    "int": ("whole number", "8 or 16"),
    "float": ("number",),
    "switch": ("true",),
}


def test_every_flag_spells_a_key_of_the_schema():
    rows = {row.key: row for row in reference_rows()}
    assert [] == [flag.name for flag in FLAGS if flag.key not in rows]
    for flag in FLAGS:
        if flag.kind in KINDS and flag.kind != "text":
            assert any(word in rows[flag.key].type for word in KINDS[flag.kind]), flag.name


def test_no_spelling_is_used_twice():
    names = [name for flag in FLAGS for name in (flag.name, *flag.aliases)]
    assert sorted(set(names)) == sorted(names)


def test_label_columns_are_a_name_or_written_as_yaml():
    (label,) = [flag for flag in FLAGS if flag.name == "--label"]
    for text, value in {
        "2020": "2020",
        "color,tags": "color,tags",
        "[color, tags]": ["color", "tags"],
        "{tags: {kind: multi, delimiter: ;}}": {"tags": {"kind": "multi", "delimiter": ";"}},
    }.items():
        assert [("--label", "data.labels", value)] == flag_pairs({label: text})
