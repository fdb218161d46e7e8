"""Sweeps: jobs side by side, a search that can be stopped and gone on with, and what becomes of jobs that fail."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from dgm.runs import Run, find
from dgm.sweeps import parallel, study
from dgm.sweeps.study import distribution

SEARCH = ["-m", "sweep=search", "study=s", "data.val=100", "trainer.max_epochs=1", "model=beta_vae"]


def trials(folder="outputs/s"):
    return json.loads(Path(folder, "search.json").read_text())["trials"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("x=interval(0.5,8)", "FloatDistribution(high=8.0, log=False, low=0.5, step=None)"),
        ("x=tag(log,interval(0.001,1))", "FloatDistribution(high=1.0, log=True, low=0.001, step=None)"),
        ("x=int(interval(2,10))", "IntDistribution(high=10, log=False, low=2, step=1)"),
        ("x=range(2,10,2)", "IntDistribution(high=8, log=False, low=2, step=2)"),
        ("x=choice(a,b)", "CategoricalDistribution(choices=('a', 'b'))"),
        ("x=2,10", "CategoricalDistribution(choices=('2', '10'))"),
    ],
)
def test_the_override_grammar_says_what_is_searched(words, expected):
    (override,) = OverridesParser.create().parse_overrides([words])
    assert str(distribution(override)) == expected


def test_a_search_goes_on_to_its_number_of_trials_and_survives_a_bad_one(train, capsys):
    words = [*SEARCH, "loss.beta=interval(0.5,8)", "optimizer.lr=1e-3,1e30", "hydra.sweeper.sampler=random"]
    assert train(*words, "hydra.sweeper.trials=4") == 1  # a trial with a rate of 1e30 fails, the search goes on
    first = trials()
    assert {t["state"] for t in first} == {"complete", "fail"} and len(first) == 4
    assert all(t["state"] == "fail" for t in first if t["parameters"]["optimizer.lr"] == "1e30")
    capsys.readouterr()
    assert train(*words, "hydra.sweeper.trials=4") == 0
    assert trials() == first
    complete, told = sum(t["state"] == "complete" for t in first), capsys.readouterr()
    assert "Best trial" in told.out and f"{complete} of {complete} jobs done, {complete} of them before" in told.err
    train(*words, "hydra.sweeper.trials=6")
    assert trials()[:4] == first and len(trials()) == 6
    assert len({json.dumps(t["parameters"]) for t in trials()}) == 6
    best = next(t for t in trials() if t["best"])
    assert best["values"][0] == min(t["values"][0] for t in trials() if t["values"])
    assert "Best trial" in capsys.readouterr().out
    assert train(*words[:-2], "optimizer.lr=1e-3", "hydra.sweeper.trials=7") == 1
    assert "another search is there" in capsys.readouterr().err


def test_a_trial_under_way_when_all_ended_is_finished_first(train, monkeypatch):
    words = [*SEARCH, "loss.beta=interval(0.5,8)"]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dgm.cli.job.fit", stop)
        assert train(*words, "hydra.sweeper.trials=2") == 130
    assert train(*words, "hydra.sweeper.trials=2") == 0
    assert [t["state"] for t in trials()] == ["complete", "complete"]
    assert len(find("outputs/s")) == 2


def test_several_objectives_give_a_front_that_no_trial_beats(train):
    objectives = "hydra.sweeper.objectives={val/reconstruction: minimize, val/kl: minimize}"
    assert train(*SEARCH, "loss.beta=tag(log,interval(0.01,50))", objectives, "hydra.sweeper.trials=4") == 0
    best = [t["values"] for t in trials() if t["best"]]
    for t in trials():
        if not t["best"]:
            assert any(b[0] <= t["values"][0] and b[1] <= t["values"][1] for b in best)
    assert not any(a[0] < b[0] and a[1] < b[1] for a in best for b in best)


def test_a_pruned_trial_is_no_failure(train, monkeypatch):
    import optuna

    monkeypatch.setattr(study, "pruner", lambda name: optuna.pruners.ThresholdPruner(upper=0.0))
    assert train(*SEARCH, "loss.beta=interval(0.5,8)", "hydra.sweeper.pruner=median", "hydra.sweeper.trials=1") == 0
    assert trials()[0]["state"] == "pruned"
    (run,) = find("outputs/s")
    assert run.state == "pruned" and "val/loss" in run.why
    assert "DGM_SEARCH" not in os.environ


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.sweeper.objectives={test/elbo: maximize}"], "only validation may choose"),
        (["hydra.sweeper.objectives={val/elbow: maximize}"], "not validated"),
        (["hydra.sweeper.objectives={val/elbo: maximize, val/kl: minimize}", "hydra.sweeper.pruner=median"], "prune"),
        (["study=null"], "study=NAME"),
        (["loss.beta=1"], "nothing to search"),
        (["loss.beta=interval(-2,-1)"], "loss.beta=-"),
    ],
)
def test_bad_searches_are_one_sentence(train, capsys, words, said):
    assert train(*SEARCH, "loss.beta=interval(0.5,8)", "hydra.sweeper.trials=1", *words) == 1
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_jobs_side_by_side_fail_alone_and_equal_those_in_turn(train, capsys):
    words = ["-m", "seed=0,1", "optimizer.lr=1e-3,1e30", "trainer.max_epochs=1"]
    assert train(*words, "study=turn") == 1
    assert train(*words, "study=side", "launcher=parallel", "hydra.launcher.jobs=2") == 1
    assert "2 of 4 jobs done" in capsys.readouterr().err
    turn, side = ({run.folder.name: run for run in find(f"outputs/{study}")} for study in ("turn", "side"))
    assert list(turn) == list(side) and len(turn) == 4
    for name, run in turn.items():
        assert side[name].state == run.state
        assert list(side[name].curve()) == list(run.curve())
        assert side[name].why == run.why


class Task:
    """Stands in for a training job; must be importable where it runs."""

    def __call__(self, config):
        if config.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if config.what == "leave":
            raise KeyboardInterrupt
        if config.what == "raise":
            raise ValueError("no good")
        return config.what, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["DGM_TRIAL"]

    def lost(self, config, overrides, why):
        Path("lost").write_text(f"{config.what} {overrides} {why}")


class Loader:
    def load_sweep_config(self, config, point):
        what = point[0].split("=")[1]
        hydra = {"job": {"env_set": {"DGM_TRIAL": "7"}}, "runtime": {}, "overrides": {"task": point}}
        return OmegaConf.create({"what": what, "hydra": hydra})


def launched(points, monkeypatch, **options):
    launcher = parallel.Parallel(**options)
    launcher.config, launcher.task = None, Task()
    launcher.context = type("Context", (), {"config_loader": Loader()})()
    monkeypatch.setattr(parallel.HydraConfig, "set_config", lambda self, config: None)
    return launcher.launch([[f"what={what}"] for what in points], 0)


def test_each_job_has_a_device_of_its_own_and_a_dead_process_is_told(monkeypatch):
    monkeypatch.setattr(parallel, "visible", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.setattr(parallel, "work", work)
    jobs = launched(["one", "die", "raise", "two"], monkeypatch, per_device=1)
    values = [job._return_value for job in jobs]
    assert {values[0][1], values[3][1]} <= {"GPU-a", "GPU-b"} and values[0][2] == "7"
    assert [job.status.name for job in jobs] == ["COMPLETED", "FAILED", "FAILED", "COMPLETED"]
    assert "SIGKILL (out of memory?)" in str(values[1]) and "no good" in str(values[2])
    assert "die" in Path("lost").read_text()


def test_a_job_that_was_told_to_end_is_left_as_it_marked_itself(monkeypatch):
    monkeypatch.setattr(parallel, "work", work)
    (job,) = launched(["leave"], monkeypatch)
    assert job.status.name == "FAILED" and isinstance(job._return_value, parallel.JobLeft)
    assert not Path("lost").exists()
    search = study.opened(Path("s"), {"val/loss": "minimize"}, ("random", 0), "none")
    search.ask()
    study.tell(search, search.trials[0], job, {"val/loss": "minimize"})
    assert [trial.number for trial in study.under_way(search)] == [0]  # so the same command takes it up again


def test_of_two_processes_that_tell_of_a_trial_the_first_is_heard():
    search = study.opened(Path("s"), {"val/loss": "minimize"}, ("random", 0), "none")
    search.ask()
    search.tell(0, 1.5)
    failed = JobReturn(status=JobStatus.FAILED, _return_value=ValueError("late"))
    study.tell(search, search.trials[0], failed, {"val/loss": "minimize"})
    assert search.trials[0].values == [1.5]


def test_a_validation_that_is_no_number_is_never_the_best(tmp_path):
    rows = ["0,0,val/loss,nan", "1,1,val/loss,3.0", "2,2,val/loss,2.0", "3,3,val/loss,inf"]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,epoch,name,value", *rows, ""]))
    (tmp_path / "config.yaml").write_text("callbacks: {checkpoints: {monitor: val/loss, mode: max}}\n")
    assert study.judged(Run(tmp_path), ["val/loss"]) == [3.0]
    (tmp_path / "metrics.csv").write_text("step,epoch,name,value\n0,0,val/loss,nan\n")
    assert math.isnan(study.judged(Run(tmp_path), ["val/loss"])[0])


def work(*arguments):
    """The real work, where Hydra has no config to note."""
    parallel.HydraConfig.set_config = lambda self, config: None
    real_work(*arguments)


real_work = parallel.work


def test_slots_are_devices_times_jobs_on_each_or_cores(monkeypatch):
    monkeypatch.setattr(parallel, "visible", lambda: ["0", "1"])
    assert parallel.Parallel(per_device=2).slots(10) == ["0", "0", "1", "1"]
    assert parallel.Parallel(jobs=3, per_device=2).slots(10) == ["0", "0", "1"]
    monkeypatch.undo()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,-1,0")
    assert parallel.visible() == ["1"]  # as CUDA reads it
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert parallel.Parallel(jobs=3).slots(2) == [None, None]


def test_the_report_shows_a_search_with_its_front(train):
    objectives = "hydra.sweeper.objectives={val/reconstruction: minimize, val/kl: minimize}"
    assert train(*SEARCH, "loss.beta=tag(log,interval(0.01,50))", objectives, "hydra.sweeper.trials=3") == 0
    from dgm.cli.main import run as dgm

    assert dgm(["report", "outputs/s"]) == 0
    page = Path("outputs/s/report.html").read_text()
    assert "Search s" in page and "val/kl against val/reconstruction" in page
    for t in trials():
        assert not t["best"] or f"trial {t['trial']} (" in page


def test_the_ready_file_for_wandb_gives_valid_commands_and_judges_by_what_is_logged(tmp_path):
    import yaml

    from dgm.cli.compose import compose
    from dgm.cli.job import Job
    from dgm.runs import identity

    ready = Path(__file__).parents[1] / "scripts" / "wandb_sweep.yaml"
    sweep = yaml.safe_load(ready.read_text())
    fixed = [word for word in sweep["command"] if not word.startswith("$") and "=" in word]
    point = [f"{key}={values.get('values', [values.get('max')])[0]}" for key, values in sweep["parameters"].items()]
    config = compose("train", [*fixed, *point])
    Job().check(OmegaConf.create(config))
    assert identity(config) != identity(compose("train", fixed))
    assert config["data"]["val"] > 0 and sweep["metric"]["name"] == config["callbacks"]["checkpoints"]["monitor"]
