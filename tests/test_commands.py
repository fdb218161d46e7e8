"""Commands about runs: status, diff, rerun, export."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dgm.cli.main import run as dgm
from dgm.cli.status import duration
from dgm.runs import find


def test_status_knows_done_failed_interrupted_and_missing_and_the_time_left(train, capsys, monkeypatch):
    words = ["-m", "study=s", "trainer.max_epochs=1", "seed=0,1,2", "optimizer.lr=1e-3,1e30"]
    from dgm.cli import job as module

    real, count = module.fit, []

    def stop_at_the_fourth(run, config):
        count.append(run)
        if len(count) == 4:
            raise KeyboardInterrupt
        real(run, config)

    monkeypatch.setattr(module, "fit", stop_at_the_fourth)
    assert train(*words) == 130
    capsys.readouterr()
    assert dgm(["status", "outputs/s", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"done": 2, "failed": 1, "interrupted": 1, "missing": 2}
    took = [run.provenance["seconds"] for run in find("outputs/s") if run.state == "done"]
    assert report["seconds_left"] == pytest.approx(3 * sum(took) / len(took))
    assert dgm(["status", "outputs/s"]) == 0
    out = capsys.readouterr().out
    assert "2 done, " in out and "not finite" in out and "time left: about" in out
    assert dgm(["status", "nowhere"]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_durations_read_like_speech():
    assert [duration(s) for s in (40, 720, 3900)] == ["40 s", "12 min", "1 h 05 min"]


def test_diff_names_keys_values_origins_and_weights(train, capsys):
    assert train("model=beta_vae", "loss.beta=2", "trainer.max_epochs=1", "study=a") == 0
    assert train("model=beta_vae", "trainer.max_epochs=1", "scheduler=cosine", "study=b") == 0
    (a,), (b,) = find("outputs/a"), find("outputs/b")
    capsys.readouterr()
    assert dgm(["diff", str(a.folder), str(b.folder)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "2 (the command line)" in lines["loss.beta"] and "4.0 (conf/loss/beta.yaml)" in lines["loss.beta"]
    assert "conf/scheduler/cosine.yaml" in lines["scheduler.shape"] and "not set" in lines["scheduler.shape"]
    assert "differ" in lines["weights:"]
    assert "optimizer.lr" not in lines
    assert dgm(["diff", str(a.folder), "nowhere"]) == 1


def test_rerun_repeats_a_run_bit_for_bit_from_its_frozen_config(train, capsys, monkeypatch):
    assert train("trainer.max_epochs=2", "study=s", "callbacks=[default,ema]") == 0
    (run,) = find("outputs/s")
    capsys.readouterr()
    assert dgm(["rerun", str(run.folder)]) == 0
    out = capsys.readouterr().out
    assert "weights: equal bit for bit" in out
    assert len(find("outputs/s")) == 1 and len(find("outputs/reruns")) == 1
    state = torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)
    next(iter(state["state_dict"].values())).flatten()[0] += 1
    torch.save(state, run.path("checkpoints", "last.ckpt"))
    assert dgm(["rerun", str(run.folder)]) == 1
    assert "weights: differ" in capsys.readouterr().out
    assert len(find("outputs/reruns")) == 2
    assert dgm(["rerun", str(run.folder), "--out", str(run.folder)]) == 1
    assert "there already" in capsys.readouterr().err


def test_exported_weights_are_those_that_are_evaluated(train, capsys):
    assert train("trainer.max_epochs=1") == 0
    (run,) = find("outputs")
    assert dgm(["export", str(run.folder)]) == 0
    tensors = load_file(run.path("export.safetensors"))
    model = run.model().state_dict()
    assert list(tensors) == sorted(model) and all(torch.equal(tensors[name], model[name]) for name in model)
    facts = json.loads(run.path("export.json").read_text())
    assert facts["config"]["model"]["_target_"] == "dgm.modules.vae.VAE"
    assert dgm(["export", str(run.folder)]) == 1
    assert "--force" in capsys.readouterr().err
    assert dgm(["export", str(run.folder), "--force", f"--out={Path('other.safetensors')}"]) == 0
