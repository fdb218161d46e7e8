"""The user's command, from words to weights, table, measurements and pictures; also with two processes."""

import errno
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dgm.cli.compose import compose
from dgm.cli.main import run as dgm
from dgm.configs import build
from dgm.runs import Run, find, identity


def only(folder="outputs"):
    (run,) = find(folder)
    return run


def test_a_run_leaves_everything_it_promises(train, capsys):
    assert train("metric=[likelihood]", "metric.likelihood.samples=5") == 0
    run = only()
    assert run.state == "done"
    names = {row["name"] for row in run.curve()}
    assert {"train/loss", "train/kl", "val/elbo", "val/reconstruction", "val/kl", "val/bits_per_dim"} <= names
    assert {
        "elbo",
        "kl",
        "reconstruction",
        "loss",
        "bits_per_dim",
        "active_units",
        "iw_5",
    } <= run.values.keys()
    assert math.isclose(run.values["elbo"], -run.values["reconstruction"] - run.values["kl"], rel_tol=1e-5)
    assert run.provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    assert yaml.safe_load(run.path("config.yaml").read_text())["model"]["latent"] == 10
    pictures = sorted(path.name.split("_")[0] for path in run.path("samples").glob("*.png"))
    assert pictures == ["reconstructions", "samples"]
    assert len(Image.open(next(run.path("samples").glob("samples*"))).convert("L").getcolors()) > 2
    out, err = capsys.readouterr()
    assert "1,300 images of digits for 2 epochs (22 updates)" in err
    assert "elbo" in out and str(run.folder) in out


def test_the_same_command_again_changes_nothing(train, capsys):
    train()
    run = only()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert train() == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert "Done before" in capsys.readouterr().err


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(train):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(f"out={out}", f"seed={seed}") == 0
    a, b, c = (torch.load(only(out).checkpoint(), weights_only=True)["state_dict"] for out in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["encoder.layers.0.weight"], c["encoder.layers.0.weight"])


def test_identity_ignores_places_and_loggers_and_sees_values():
    config = {
        "seed": 0,
        "out": "a",
        "logger": {"x": 1},
        "data": {"root": "r", "name": "n"},
        "loss": {"beta": 1.0},
        "model": {},
    }
    other = {
        "seed": 0,
        "out": "b",
        "logger": {},
        "data": {"root": "s", "name": "n"},
        "loss": {"beta": 1.0},
        "model": {},
    }
    assert identity(config) == identity(other)
    assert identity(config) != identity(other | {"loss": {"beta": 2.0}})
    assert identity(config) != identity(other | {"seed": 1})


def test_identity_sees_a_part_of_the_model_that_is_its_own_and_counts_a_shared_one_once():
    shared = compose("train", ["model=vae"])
    own = [
        compose("train", [f"model.optimizer={{_target_: torch.optim.Adam, _partial_: true, lr: {lr}}}"])
        for lr in (0.1, 0.2)
    ]
    assert shared["model"]["optimizer"] == shared["optimizer"]
    assert len({identity(config) for config in (shared, *own)}) == 3
    without = shared | {"model": {key: value for key, value in shared["model"].items() if key != "optimizer"}}
    assert identity(without) == identity(shared)


def test_opening_a_run_executes_nothing_of_its_own(train, tmp_path):
    train()
    run = only()
    config = yaml.safe_load(run.path("config.yaml").read_text())
    config["model"]["encoder"] = {"_target_": "os.system", "command": f"touch {tmp_path}/owned"}
    run.path("config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=r"os\.system"):
        Run.open(run.folder).model()
    assert not (tmp_path / "owned").exists()


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def test_a_hostile_or_broken_checkpoint_is_refused_in_words(train, capsys):
    train()
    run = only()
    torch.save({"state_dict": Bomb()}, run.checkpoint())
    with pytest.raises(ValueError, match="cannot be read"):
        run.model()
    assert not Path("owned").exists()
    run.checkpoint().write_bytes(b"garbage")
    assert dgm(["evaluate", f"run={run.folder}"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_diverging_run_stops_in_words_and_keeps_its_last_good_checkpoint(train, capsys):
    assert train("optimizer.lr=1e20", "trainer.max_epochs=5") == 1
    err = capsys.readouterr().err
    assert "not finite" in err and "optimizer.lr" in err
    run = only()
    assert run.state == "failed" and "not finite" in run.why
    assert train("optimizer.lr=1e20", "trainer.max_epochs=5") == 1
    assert "retry=true" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(train, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")

    monkeypatch.setattr("dgm.callbacks.table.Table.save", full)
    assert train() == 1
    err = capsys.readouterr().err
    assert "Error: the disk is full (metrics.csv)" in err and "Traceback" not in err


def test_evaluate_measures_a_trained_run(train, capsys):
    train()
    run = only()
    words = ["evaluate", f"run={run.folder}", "metric=[likelihood]", "metric.likelihood.samples=3"]
    assert dgm(words) == 0
    assert "iw_3" in capsys.readouterr().out
    first = json.loads(run.path("result.json").read_text())
    assert dgm(words) == 0
    assert json.loads(run.path("result.json").read_text()) == first
    assert dgm([*words, "metric.likelihood.samples=5"]) == 0  # another bound stands beside the first
    assert {"iw_3", "iw_5"} < set(run.values) and run.values["iw_3"] == first["likelihood"]["values"]["iw_3"]
    assert dgm(words) == 0 and "iw_5" in run.values
    assert dgm(["evaluate", "run=nowhere"]) == 1
    assert "run=nowhere" in capsys.readouterr().err


def test_a_sweep_trains_every_point_and_repeats_none(train, capsys):
    words = ("-m", "model=beta_vae", "loss.beta=0.5,2", "seed=0,1", "study=grid", "metric=[likelihood]")
    assert train(*words) == 0
    assert len(find("outputs/grid")) == 4
    assert "4 of 4" in capsys.readouterr().err
    assert train(*words, "loss.beta=0.5,2,4") == 0
    err = capsys.readouterr().err
    assert "6 of 6 jobs done, 4 of them before" in err and err.count("Training VAE") == 2


def test_the_same_config_has_the_same_folder_whatever_words_name_it(train, capsys):
    assert train("model=vae", "data=digits", "trainer.max_epochs=1") == 0
    assert train("data=digits", "trainer.max_epochs=7", "model=vae", "trainer.max_epochs=1") == 0
    assert train("trainer.max_epochs=1") == 0
    assert capsys.readouterr().err.count("Done before") == 2
    assert len(find("outputs")) == 1


def test_a_failure_under_another_trainer_is_forgotten(train, capsys):
    assert train("trainer.max_epochs=1") == 0
    (run,) = find("outputs")
    run.mark("failed", "planted")
    assert train("trainer.max_epochs=1") == 1
    assert "failed before (planted)" in capsys.readouterr().err
    assert train("trainer.max_epochs=1", "trainer.log_every_n_steps=5") == 0 and run.state == "done"


def test_a_failed_job_does_not_stop_the_others(train, capsys):
    assert train("-m", "optimizer.lr=1e20,1e-3") == 1
    err = capsys.readouterr().err
    assert "Failed: " in err and "optimizer.lr=1e+20" in err and "1 of 2 jobs done" in err
    assert sorted(run.state for run in find("outputs")) == ["done", "failed"]


OPTIONS = [
    "callbacks=[default,ema]",
    "callbacks=[default,early_stopping]",
    "trainer=debug",
    "trainer.precision=bf16-mixed",
    "trainer.gradient_clip_val=1.0",
    "trainer.max_steps=5",
    "trainer.check_val_every_n_epoch=9",
    "data.val=0",
    "data.binarise=static",
    "likelihood=learned_gaussian data.binarise=none",
    "likelihood=discretized_logistic data.binarise=none",
    "scheduler=cosine",
    "model=autoencoder",
]


@pytest.mark.parametrize("words", OPTIONS)
def test_every_option_of_training_finishes(train, words):
    assert train(*words.split(), "metric=[likelihood]") == 0
    run = only()
    assert run.state == "done"
    assert all(math.isfinite(value) for value in run.values.values())


def test_compiled_or_not_the_same_is_trained(train, monkeypatch):
    graphs, compiler = [], torch.compile

    def traced(graph, inputs):  # what any compiler is given; running it as it is needs none on this machine
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda function, options: compiler(function, backend=traced))
    assert train("out=compiled", "compile=true", "trainer.max_epochs=1", "data.limit=1280") == 0
    assert len(graphs) == 1  # one whole: nothing in the step breaks it
    assert train("out=plain", "trainer.max_epochs=1", "data.limit=1280") == 0
    a, b = (torch.load(only(out).checkpoint(), weights_only=True)["state_dict"] for out in ("compiled", "plain"))
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++, which is not here")
def test_a_compiled_model_draws_the_noise_of_one_that_is_not():
    model, x = build(compose("train", ["data=digits", "model.encoder.hidden=[8]"])["model"]), torch.rand(4, 1, 8, 8)
    torch.manual_seed(0)
    plain, terms = model.mean_loss(x)
    model.compile_hot()
    torch.manual_seed(0)
    compiled, others = model.mean_loss(x)
    assert torch.allclose(plain, compiled) and all(torch.allclose(terms[name], others[name]) for name in terms)


def test_two_processes_write_one_run_and_agree_with_one_on_the_validation_set(train):
    words = ("trainer=ddp", "trainer.accelerator=cpu", "model=autoencoder", "data.val=136")
    assert train(*words, "metric=[likelihood]") == 0
    run = only()
    assert run.state == "done" and "reconstruction" in run.values
    rows = [row for row in run.curve() if row["name"] == "val/reconstruction"]
    assert [int(row["step"]) for row in rows] == [5, 11]  # 1,301 images in two shards, batches of 128
    model = build(run.config["model"])
    last = torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)["state_dict"]
    model.load_state_dict(last)
    data = run.data()
    x = data.set("val").tensors["image"].float() / 255
    with torch.no_grad():
        alone = model.objective(x)["reconstruction"].mean().item()
    assert math.isclose(float(rows[-1]["value"]), alone, rel_tol=1e-5)


def test_sample_writes_a_picture_and_an_array_and_an_autoencoder_cannot(train, capsys):
    train()
    assert dgm(["sample", f"run={only().folder}", "n=9", "out=drawn"]) == 0
    assert np.load("drawn/samples_seed0.npy").shape == (9, 1, 8, 8)
    assert Image.open("drawn/samples_seed0.png").size == (28, 28)
    train("model=autoencoder", "out=other")
    assert dgm(["sample", f"run={only('other').folder}"]) == 1
    assert "Autoencoder cannot sample" in capsys.readouterr().err
