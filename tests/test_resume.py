"""An interrupted run goes on from its last checkpoint and ends where the uninterrupted one does, bit for bit."""

import os
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from dgm.callbacks.guard import Guard
from dgm.callbacks.randomness import Reproducible
from dgm.cli.main import run as dgm
from dgm.runs import find


def states(run):
    """All that training goes on from, and what it logged, as one flat mapping."""
    saved = torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)
    kept = {name: saved[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")}
    kept["average"] = {name: state for name, state in saved["callbacks"].items() if "Checkpoints" not in name}
    best = run.path("checkpoints", "best.ckpt")
    if best.is_file():
        kept["best"] = torch.load(best, weights_only=True)["state_dict"]
    return dict(flat(kept)), list(run.curve())


def flat(value, key=""):
    """Nested containers -> (dotted key, leaf)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        yield key, value.tolist() if isinstance(value, torch.Tensor) else value
    for name, item in items or ():
        yield from flat(item, f"{key}.{name}")


def told_at(update):
    """A guard in whose place a signal comes after an update, as if from outside."""

    def look(self, trainer, module, *rest):
        if module.updates == update:
            os.kill(os.getpid(), signal.SIGTERM)

    return look


@pytest.mark.parametrize(
    "words",
    [
        "model=vae",
        "model=capacity_vae loss.ramp=20",
        "callbacks=[default,ema] scheduler=cosine data.val=100",
        "data.binarise=dynamic callbacks=[default,ema,early_stopping] data.val=100 trainer.log_every_n_steps=1",
        "model=gan model.critic_steps=2 model/penalty=r1 model.penalty_every=3 data.batch_size=32 data.val=0 "
        "callbacks=[default,ema,health] callbacks.ema.parts=[generator] scheduler=cosine callbacks.health.every=5",
        "model=iwae trainer.max_epochs=-1 trainer.max_steps=40 data.workers=1 +trainer.accumulate_grad_batches=1",
        "model=capacity_vae loss.ramp=20 data.batch_size=64 +trainer.accumulate_grad_batches=2",
    ],
)
@pytest.mark.parametrize("updates", [[30], [22, 25]], ids=["once", "epoch end and again"])
def test_interrupted_equals_uninterrupted(train, words, updates, monkeypatch):
    words = ["trainer.max_epochs=4", *words.split()]
    if "model=gan" in words:
        small = ["model.generator.hidden=[16]", "model.critic.hidden=[16]", "logger=csv", "metric=[]"]
        train = partial(lambda *rest: dgm(["train", *rest]), *small, "trainer.log_every_n_steps=10")
    assert train(*words, "out=whole") == 0
    for update in updates:
        with monkeypatch.context() as patch:
            patch.setattr(Guard, "on_train_batch_end", told_at(update))
            assert train(*words, "out=cut") == 130
        (cut,) = find("cut")
        assert cut.state == "interrupted"
        assert states(cut)[0][".state_dict.step"] == update
    assert train(*words, "out=cut") == 0
    (whole,) = find("whole")
    assert cut.state == "done"
    (mine, curve), (other, other_curve) = states(whole), states(cut)
    assert mine == other
    assert curve == other_curve


def test_every_update_and_process_has_noise_of_its_own_whatever_ran_before():
    def noise(seed, update, rank, index=0):
        trainer = SimpleNamespace(global_rank=rank, accumulate_grad_batches=2)
        Reproducible(seed).on_train_batch_start(trainer, SimpleNamespace(updates=update), None, index)
        return torch.randn(3)

    first = noise(0, 5, 0)
    others = [noise(0, 6, 0), noise(0, 5, 1), noise(1, 5, 0), noise(0, 5, 0, index=1)]
    torch.randn(100)
    assert torch.equal(noise(0, 5, 0), first)
    assert not any(torch.equal(first, other) for other in others)
