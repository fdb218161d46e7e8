"""Tables over runs: what a column holds, means and spreads by hand, and what must not be mixed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from dgm.cli import configs, table
from dgm.cli.main import run as dgm
from dgm.configs import ConfigError
from dgm.runs import Run, find
from dgm.studies import anchors, main_metrics, number, over_seeds, parse, shown, spread, swept, tidy


def fake(folder: Path, overrides: list[str], config: dict, values: dict, protocol: dict | None = None) -> Run:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "provenance.json").write_text(json.dumps({"overrides": overrides, "seconds": 2.5}))
    (folder / "state.json").write_text(json.dumps({"state": "done", "why": ""}))
    part = {"values": values, "arrays": {}, "protocol": protocol or {"n": 360}, "config": {}}
    (folder / "result.json").write_text(json.dumps({"likelihood": part}))
    return Run(folder)


def config(beta: float, seed: int, latent: int = 10) -> dict:
    return {"seed": seed, "loss": {"beta": beta}, "model": {"latent": latent}, "out": "x"}


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Beta 1 with two seeds, beta 4 with one; in the second run beta is 1 by default."""
    return [
        fake(tmp_path / "c", ["loss.beta=4", "seed=0", "out=x"], config(4, 0), {"kl": 1.0, "elbo": -27.0}),
        fake(tmp_path / "b", ["seed=1", "model=vae"], config(1, 1), {"kl": 3.0, "elbo": -25.0}),
        fake(tmp_path / "a", ["loss.beta=1", "seed=0"], config(1, 0), {"kl": 2.0, "elbo": -24.0}),
    ]


def test_tidy_is_exact(runs):
    frame = tidy(runs)
    assert list(frame.columns) == ["run", "state", "loss.beta", "model", "seed", "elbo", "kl", "seconds"]
    assert frame.index.tolist() == [2, 1, 0]
    assert frame["run"].tolist() == ["a", "b", "c"]
    assert frame["loss.beta"].tolist() == [1, 1, 4]
    assert frame["seed"].tolist() == [0, 1, 0]
    assert frame["model"].fillna("-").tolist() == ["-", "vae", "-"]
    assert frame["elbo"].tolist() == [-24.0, -25.0, -27.0]
    assert frame["kl"].tolist() == [2.0, 3.0, 1.0]
    assert frame["seconds"].tolist() == [2.5] * 3
    assert frame.attrs == {"keys": ["loss.beta", "model", "seed"], "values": ["elbo", "kl"], "notes": []}


def test_a_value_with_the_name_of_a_key_has_a_column_of_its_own(tmp_path, capsys):
    for loss, value in (("elbo", 30.0), ("mine", 31.0)):
        fake(tmp_path / "s" / loss, [f"loss={loss}"], config(1, 0), {"loss": value, "elbo": -value})
    frame = tidy(find(tmp_path / "s"))
    assert frame["loss"].tolist() == ["elbo", "mine"] and frame["test/loss"].tolist() == [30.0, 31.0]
    assert dgm(["table", str(tmp_path / "s"), "--all"]) == 0
    assert "test/loss" in capsys.readouterr().out


BROKEN = [
    ("config.yaml", "{", "cannot be read"),
    ("config.yaml", "", "it holds no mapping"),
    ("result.json", "{", "cannot be read"),
    ("state.json", "", "cannot be read"),
    ("state.json", '{"state": "flying"}', "no such state"),
    ("provenance.json", "[1]", "it holds no mapping"),
]


@pytest.mark.parametrize(("name", "text", "part"), BROKEN)
def test_a_broken_file_of_a_run_is_named_with_the_remedy(name, text, part, runs, tmp_path, capsys):
    runs[1].path(name).write_text(text)
    for command in ("table", "status") if name == "state.json" else ("table",):
        assert dgm([command, str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and all(w in said for w in (str(runs[1].path(name)), part, "train it again"))


def test_a_log_that_ends_within_a_line_is_read_up_to_it_and_any_other_fault_is_told(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,name,value\n0,0,a,1.5\n1,0,a,2.")
    assert [row["value"] for row in Run(tmp_path).curve()] == ["1.5"]
    path.write_bytes(b"\xff\xfe\x00\n\x01\x02\n")
    with pytest.raises(ConfigError, match=r"metrics\.csv: cannot be read"):
        list(Run(tmp_path).curve())


def test_swept_leaves_out_seeds_and_what_is_constant(runs):
    assert swept(tidy([runs[0], runs[2]])) == ["loss.beta"]
    assert swept(tidy([runs[2]])) == []


def test_means_and_spreads(runs, tmp_path):
    more = fake(tmp_path / "d", ["loss.beta=1", "seed=2"], config(1, 2), {"elbo": -29.0})
    failed = fake(tmp_path / "e", ["loss.beta=4", "seed=1"], config(4, 1), {})
    means = over_seeds(tidy([runs[0], runs[2], more, failed]), ["elbo", "kl"])
    assert means.index.tolist() == [1, 4]
    assert means["elbo", "mean"].tolist() == [-26.5, -27.0]
    assert means["elbo", "std"].iloc[0] == pytest.approx(math.sqrt(12.5))
    assert math.isnan(means["elbo", "std"].iloc[1])
    assert means["elbo", "n"].tolist() == [2, 1]
    assert means["kl", "n"].tolist() == [1, 1]


def test_nothing_swept_is_one_row_and_nothing_measured_no_columns(runs):
    frame = tidy(runs[2:])
    assert over_seeds(frame, ["kl"]).to_numpy().tolist()[0][::2] == [2.0, 1.0]
    assert over_seeds(frame, []).shape == (1, 0)


def test_the_same_run_in_two_folders_counts_once(runs, tmp_path):
    again = fake(tmp_path / "copy" / "a", ["loss.beta=1", "seed=0"], config(1, 0), {"elbo": -24.0})
    assert over_seeds(tidy([runs[2], again]), ["elbo"])["elbo", "n"].tolist() == [1]


def test_rows_are_ordered_by_number_and_keys_may_be_missing(tmp_path):
    overrides = {"2": ["model.latent=2"], "10": ["model.latent=10"], "ae": ["model=ae"]}
    sizes = {"2": {"latent": 2}, "10": {"latent": 10}, "ae": {}}
    made = [fake(tmp_path / n, overrides[n], {"model": sizes[n]}, {"kl": 1.0}) for n in overrides]
    frame = tidy(made[::-1])
    assert [shown(v) for v in frame["model.latent"]] == ["2", "10", "-"]
    assert [shown(v) for v in frame["model"]] == ["-", "-", "ae"]
    assert len(over_seeds(frame, ["kl"])) == 3


def test_lists_and_flags_are_settings(tmp_path):
    words = ["model.hidden=[5,5]", "compile=true", "+optimizer.lr=1e-3"]
    values = {"model": {"hidden": [5, 5]}, "compile": True, "optimizer": {"lr": 0.001}}
    frame = tidy([fake(tmp_path / "a", words, values, {})])
    assert frame.iloc[0][["model.hidden", "compile", "optimizer.lr"]].tolist() == ["[5, 5]", True, 0.001]


def test_unlike_protocols_are_never_in_one_column(tmp_path):
    protocols = [{"n": 1000, "extractor": {"hash": "ab"}}, {"n": 100, "extractor": {"hash": "cd"}}]
    made = [
        fake(tmp_path / str(i), [f"seed={i}"], config(1, i), {"fid_classifier": float(i)}, protocols[i > 1])
        for i in range(3)
    ]
    frame = tidy(made)
    assert frame.attrs["values"] == ["fid_classifier", "fid_classifier [2]"]
    assert np.array_equal(frame["fid_classifier"], [0.0, 1.0, np.nan], equal_nan=True)
    assert np.array_equal(frame["fid_classifier [2]"], [np.nan, np.nan, 2.0], equal_nan=True)
    assert frame.attrs["notes"] == [
        "fid_classifier [2]: measured by another protocol, not comparable: "
        "n = 100 where fid_classifier has 1000; extractor.hash = cd where fid_classifier has ab"
    ]
    assert main_metrics(frame.attrs["values"]) == frame.attrs["values"]
    means = over_seeds(frame, frame.attrs["values"])
    assert means["fid_classifier", "n"].tolist() == [2]
    assert means["fid_classifier [2]", "n"].tolist() == [1]


def test_anchors_stand_beside_a_distance_and_are_no_metric(tmp_path, capsys):
    values = {
        "fid_classifier": 9.5,
        "fid_classifier_floor": 1.25,
        "fid_classifier_scale": 30.0,
        "elbo_low": -3.0,
    }
    made = [fake(tmp_path / "a", ["seed=0"], config(1, 0), values)]
    frame = tidy(made)
    assert main_metrics(frame.attrs["values"]) == ["fid_classifier"]
    said = "fid_classifier: test images are at 1.250 (floor), blurred test images at 30 (scale)"
    assert anchors(frame, ["fid_classifier"]) == [said]
    table.summary(made)
    assert said in " ".join(capsys.readouterr().out.split())


def test_where_no_usual_value_was_measured_all_are_shown():
    assert set(main_metrics(["modes", "between", "high_quality_low"])) == {"between", "modes"}
    assert main_metrics(["modes", "elbo"]) == ["elbo"]


def test_one_name_from_two_metrics_is_two_columns(tmp_path):
    run = fake(tmp_path / "a", [], {"seed": 0}, {"fid": 1.0})
    part = json.loads((tmp_path / "a" / "result.json").read_text())
    other = part["likelihood"] | {"values": {"fid": 5.0}}
    (tmp_path / "a" / "result.json").write_text(json.dumps(part | {"small": other}))
    frame = tidy([run])
    assert frame[["fid", "fid [2]"]].iloc[0].tolist() == [1.0, 5.0]
    assert frame.attrs["notes"][0].endswith("metric = small where fid has likelihood")


@pytest.mark.parametrize(
    ("text", "value"),
    [("4", 4), ("1e-3", 0.001), ("true", True), ("null", None), ("", None), ("vae", "vae"), ("'a b'", "a b")],
)
def test_parse(text, value):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


def test_numbers_as_text():
    assert spread(-98.7321, 0.1234) == "-98.73 ± 0.12"
    assert spread(-25.891, 0.034) == "-25.89 ± 0.03"
    assert spread(0.0023, 0.0013) == "0.0023 ± 0.0013"
    assert spread(1234.0, 77.0) == "1234 ± 77"
    assert spread(24.1, math.nan) == number(24.1) == "24.10"
    assert spread(math.nan, math.nan) == "-"
    assert spread(8.0, 0.0) == "8"
    assert [shown(v) for v in (None, "", True, 2.0)] == ["-", "-", "true", "2"]
    assert [shown(v) for v in (0.001, "vae", 1e-8)] == ["0.001", "vae", "1e-08"]


def test_table_formats(runs, tmp_path, capsys):
    table.command([str(tmp_path), "--format", "csv"])
    assert capsys.readouterr().out.splitlines() == [
        "run,state,loss.beta,model,seed,elbo,kl,seconds",
        "a,done,1,,0,-24.0,2.0,2.5",
        "b,done,1,vae,1,-25.0,3.0,2.5",
        "c,done,4,,0,-27.0,1.0,2.5",
    ]
    (tmp_path / "b" / "config.yaml").unlink()
    table.command([str(tmp_path), "--format=markdown", "--metrics=kl"])
    assert capsys.readouterr().out.splitlines() == [
        "| loss.beta | n | kl |",
        "| --- | ---: | ---: |",
        "| 1 | 1 | 2 |",
        "| 4 | 1 | 1 |",
    ]


def test_terminal_fits_and_says_what_is_left_out(tmp_path, capsys):
    names = ["elbo", "reconstruction", "kl", "bits_per_dim", "active_units", "iw_5000"]
    values = dict.fromkeys(names, -123.456) | {"fid_classifier": 9.0, "fid_inception": 8.0}
    for beta in (1, 4):
        for seed in (0, 1):
            noisy = {name: value + seed * 0.01 for name, value in values.items()}
            words = [f"loss.beta={beta}", f"seed={seed}"]
            fake(tmp_path / f"{beta}{seed}", words, config(beta, seed), noisy)
    table.command([str(tmp_path)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "-123.451 ± 0.007" in out
    assert "fid_classifier" in out
    assert "Too wide for here: bits_per_dim" in out
    table.command([str(tmp_path), "--all"])
    assert "bits_per_dim" in capsys.readouterr().out.splitlines()[1]


def test_summary_of_nothing_is_nothing(capsys, runs):
    table.summary([])
    assert capsys.readouterr().out == ""
    table.summary(runs)
    assert "elbo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format=cvs"], "--format=cvs: no such format. Did you mean csv?"),
        (["--metrics=elb"], "--metrics=elb: not measured in these runs. Did you mean elbo?"),
        (["--fromat=csv"], "unrecognized arguments: --fromat=csv"),
        (["nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_table_bad_input(runs, tmp_path, arguments, said):
    with pytest.raises(ConfigError, match=f"(?s).*{said.replace('?', '[?]')}"):
        table.command([str(tmp_path), *arguments])


def test_failed_runs_are_named(runs, tmp_path, capsys):
    state = {"state": "failed", "why": "GuardError: loss is nan"}
    (tmp_path / "b" / "state.json").write_text(json.dumps(state))
    table.command([str(tmp_path)])
    assert "Failed: b: GuardError: loss is nan" in capsys.readouterr().out
    assert len(find(tmp_path)) == 3


def test_configs_lists_groups_and_the_users_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# @package _global_\n# A model of my own\nlatent: 3\n")
    monkeypatch.setenv("DGM_CONFIG_DIR", str(tmp_path))
    assert configs.command([]) == 0
    out = capsys.readouterr().out
    assert "data=\n" in out and "\nhydra" not in out
    assert "handwritten digits" in next(line for line in out.splitlines() if line.startswith("  digits "))
    configs.command(["model"])
    out = capsys.readouterr().out
    assert out.startswith("model=\n") and "A model of my own" in out and "data=" not in out
    with pytest.raises(ConfigError, match=r"modle: there is no such group. Did you mean model[?]"):
        configs.command(["modle"])
