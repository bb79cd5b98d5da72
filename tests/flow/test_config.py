from discern_process import QUICK, discern


def test_a_runs_config_tells_who_set_what(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("compute: {threads: 1}\n")
    runs = ["--runs", tmp_path / "runs"]
    train = ["train", "digits", *QUICK, "--lr", "0.01", "--name", "x", "--config", file, *runs]
    ended = discern(*train, "--json")
    assert 0 == ended.code, ended.stderr

    def origin(key):
        told = discern("config", "explain", key, "--run", "digits/x", *runs, "--json").object
        return told["values"][0]["value"], told["values"][0]["origin"]

    assert (0.01, "--lr") == origin("stages.train.lr")
    assert (1, f"{file}:1") == origin("compute.threads")
    assert ("mlp", "--model") == origin("model.name")
    assert 64 == origin("batch_size")[0]
    assert "recipe classic" == origin("batch_size")[1]
    assert (1, "chosen for this run") == origin("data.channels")


def test_explain_takes_files_flags_and_pairs_in_their_order(tmp_path):
    (tmp_path / "a.yaml").write_text("stages: {one: {lr: 1}, two: {lr: 2}}\n")
    (tmp_path / "b.yaml").write_text("stages: {two: {lr: 3}}\n")
    command = ["config", "explain", "lr", "-c", "a.yaml", "-c", "b.yaml", "--json"]
    told = discern(*command, "--set", "stages.one.lr=4", cwd=tmp_path).object["values"]
    expected = [("stages.one.lr", 4, "--set stages.one.lr"), ("stages.two.lr", 3, "b.yaml:1")]
    assert expected == [(v["key"], v["value"], v["origin"]) for v in told]
    told = discern(*command, "--lr", "5", cwd=tmp_path).object["values"]
    assert [5, 5] == [v["value"] for v in told]


def test_bad_data_in_a_file_is_an_error_not_a_crash(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: 3\n")
    error = discern("train", "--config", file, "--json").error
    assert ("config", "train needs DATA") == (error["kind"], error["what"])
