"""Weight averaging against its definition, checkpoints that are whole, and the lock of a run."""

import multiprocessing
import resource
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dgm import files
from dgm.callbacks.averaging import Averaging
from dgm.callbacks.checkpoints import Checkpoints
from dgm.cli.main import run as dgm
from dgm.runs import find


def averaged(steps, **options):
    """A module whose parameters are set by hand, averaged over some updates: module, callback, history."""
    module = nn.ModuleDict({"generator": nn.Linear(1, 1, bias=False), "critic": nn.Linear(1, 1, bias=False)})
    nn.init.zeros_(module["generator"].weight), nn.init.zeros_(module["critic"].weight)
    average, trainer = Averaging(**options), SimpleNamespace(global_step=0)
    average.setup(trainer, module, "fit")
    average.on_train_start(trainer, module)
    for step in range(1, steps + 1):
        average.on_train_batch_start(trainer, module, None, step - 1)
        for part in module.values():
            part.weight.data.fill_(step)
        trainer.global_step = step
        average.on_train_batch_end(trainer, module, None, None, step - 1)
    return module, average, trainer


def test_average_follows_its_recursion_and_changes_places_with_the_weights():
    module, average, trainer = averaged(20, decay=0.5)
    expected = 0.0
    for step in range(1, 21):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    average.on_validation_start(trainer, module)
    average.on_train_epoch_end(trainer, module)
    assert module["generator"].weight.item() == pytest.approx(expected, rel=1e-6)
    average.on_train_batch_start(trainer, module, None, 20)
    assert module["generator"].weight.item() == 20


def test_only_the_named_parts_are_averaged():
    module, average, trainer = averaged(20, decay=0.5, parts=["generator"])
    average.on_train_end(trainer, module)
    assert module["critic"].weight.item() == 20
    assert module["generator"].weight.item() < 20


def test_averaging_of_what_has_no_weights_is_refused(train, capsys):
    assert train("callbacks=[default,ema]", "callbacks.ema.parts=[generator]") == 1
    err = capsys.readouterr().err
    assert "callbacks.ema.parts=['generator']" in err and "decoder, encoder" in err and "Traceback" not in err
    assert train("callbacks=[default,ema]", "callbacks.ema.parts=[decoder,generator]") == 1
    assert "callbacks.ema.parts=['generator']" in capsys.readouterr().err


def test_what_is_evaluated_of_an_averaged_run_is_the_average(train):
    assert train("callbacks=[default,ema]", "callbacks.ema.decay=0.9", "data.val=0") == 0
    (run,) = find("outputs")
    saved = torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)
    (state,) = (value for key, value in saved["callbacks"].items() if "Averaging" in key)
    assert state["shown"]
    trained = {tuple(tensor.shape): tensor for tensor in state["other"]}  # the trained weights, now behind
    model = run.model()
    assert not torch.equal(model.encoder.layers[0].weight, trained[tuple(model.encoder.layers[0].weight.shape)])


def test_updates_are_counted_where_gradients_are_gathered_and_each_batch_has_its_noise(train):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        draw = torch.randn
        patch.setattr(torch, "randn", lambda *size, **rest: seen.append(draw(*size, **rest)) or seen[-1])
        words = ["+trainer.accumulate_grad_batches=3", "trainer.log_every_n_steps=1", "data.val=0"]
        assert train(*words, "trainer.max_epochs=1", "data.batch_size=160") == 0  # 9 batches, the last not full
    (run,) = find("outputs")
    saved = torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)
    assert saved["global_step"] == int(saved["state_dict"]["step"]) == 3
    assert [int(row["step"]) for row in run.curve() if row["name"] == "train/loss"] == [0, 1, 2]
    noise = [draws.flatten()[0].item() for draws in seen if draws.dim() == 3]
    assert len(noise) == len(set(noise)) == 9


def test_the_best_weights_of_an_annealed_objective_are_not_its_first(train):
    words = ["model=capacity_vae", "loss.ramp=80", "loss.capacity=10", "data.val=200", "trainer.max_epochs=10"]
    assert train(*words, "optimizer.lr=3e-3") == 0
    (run,) = find("outputs")
    best, last = (
        int(torch.load(run.path("checkpoints", f"{name}.ckpt"), weights_only=True)["state_dict"]["step"])
        for name in ("best", "last")
    )
    assert best > last / 2
    penalties = [float(row["value"]) for row in run.curve() if row["name"] == "val/loss"]
    assert penalties[0] > 1000 * 5  # judged by the capacity that is wanted in the end


def test_a_monitor_that_comes_seldom_or_is_no_number_is_waited_for():
    kept, metrics = [], {}
    trainer = SimpleNamespace(
        sanity_checking=False, callback_metrics=metrics, default_root_dir="run",
        strategy=SimpleNamespace(broadcast=lambda value: value),
        save_checkpoint=lambda path, weights_only: kept.append(metrics["val/fid"].item()),
    )  # fmt: skip
    callback = Checkpoints("val/fid")
    with pytest.raises(ValueError, match=r"monitor=val/fid: not validated"):
        callback.on_validation_end(trainer, None)
    for value in (float("nan"), 5.0, None, 6.0, float("inf"), 4.0):
        metrics.clear()
        metrics.update({} if value is None else {"val/fid": torch.tensor(value)})
        callback.on_validation_end(trainer, None)
    assert kept == [5.0, 4.0]
    resumed = Checkpoints("val/fid")
    resumed.load_state_dict(callback.state_dict())
    metrics.clear()
    resumed.on_validation_end(trainer, None)  # none this time


def hold(path, ready, go):
    with files.lock(path, wait=True):
        ready.set()
        go.wait(20)


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "lock", ready, go))
    other.start()
    assert ready.wait(60)
    assert files.locked(tmp_path / "lock")
    with files.lock(tmp_path / "lock", wait=False) as ours:
        assert not ours
    other.kill()
    other.join()
    assert not files.locked(tmp_path / "lock")
    with files.lock(tmp_path / "lock", wait=False) as ours:
        assert ours


def test_a_run_that_another_process_trains_is_left_to_it_by_a_sweep(train, capsys):
    assert train("trainer.max_epochs=1") == 0
    (run,) = find("outputs")
    run.mark("running")
    before = run.path("checkpoints", "last.ckpt").stat().st_mtime_ns
    with run.lock(wait=False) as ours:
        assert ours and run.state == "running"
        from dgm.cli.job import perform

        perform(run, run.config, [], wait=False)
    assert run.path("checkpoints", "last.ckpt").stat().st_mtime_ns == before
    assert "another process trains it" in capsys.readouterr().err


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.ckpt"
    files.write(path, b"good")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            files.write(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_without_checkpoints_a_run_is_refused(train, capsys):
    assert train("callbacks=[early_stopping]") == 1
    assert "begin with default" in capsys.readouterr().err


def test_a_monitor_that_is_not_validated_is_named(capsys):
    words = ["model.encoder.hidden=[8]", "model.decoder.hidden=[8]", "trainer.max_epochs=1", "logger=csv", "metric=[]"]
    assert dgm(["train", *words, "data.val=100", "callbacks.checkpoints.monitor=val/los"]) == 1
    error = capsys.readouterr().err
    assert "val/los:" in error and "val/loss" in error


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(train, monkeypatch):
    from dgm.callbacks.guard import Guard

    def spoil(self, trainer, module, *rest):
        if module.updates == 15:
            next(module.parameters()).data.fill_(float("nan"))

    assert train("trainer.max_epochs=1", "out=good", "callbacks.checkpoints.minutes=0") == 0
    monkeypatch.setattr(Guard, "on_train_batch_end", spoil)
    assert train("callbacks.checkpoints.minutes=0") == 1
    (run,) = find("outputs")
    assert run.state == "failed" and "not finite" in run.why
    last = run.path("checkpoints", "last.ckpt")
    if last.is_file():
        state = torch.load(last, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in state.values())


def test_quality_is_logged_while_it_trains_changes_nothing_else_and_can_be_monitored(train):
    words = ["data.val=200", "trainer.max_epochs=2", "data.limit=400"]
    assert train(*words, "study=plain") == 0
    quality = ["callbacks=[default,ema,quality]", "callbacks.quality.metric.samples=100"]
    assert train(*words, *quality, "callbacks.checkpoints.monitor=val/fid_classifier", "study=judged") == 0
    (plain,), (judged,) = find("outputs/plain"), find("outputs/judged")
    values = [float(row["value"]) for row in judged.curve() if row["name"] == "val/fid_classifier"]
    assert len(values) == 2 and all(value > 0 for value in values)
    assert not any("floor" in row["name"] for row in judged.curve())
    state = torch.load(judged.path("checkpoints", "last.ckpt"), weights_only=True)
    (best,) = (part["best"] for name, part in state["callbacks"].items() if "Checkpoints" in name)
    assert best == pytest.approx(min(values), rel=1e-6)
    curves = [[row for row in run.curve() if row["name"] == "train/loss"] for run in (plain, judged)]
    assert curves[0] == curves[1]
