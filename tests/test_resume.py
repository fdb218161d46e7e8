"""An interrupted run goes on from its last checkpoint and ends where the uninterrupted one does, bit for bit."""

from types import SimpleNamespace

import pytest
import torch

from dgm.callbacks.guard import Guard
from dgm.callbacks.randomness import Reproducible
from dgm.runs import find


@pytest.mark.parametrize("words", ["model=vae", "model=capacity_vae loss.ramp=20"])
def test_interrupted_equals_uninterrupted(train, words, monkeypatch):
    words = [*words.split(), "trainer.max_epochs=4"]
    assert train(*words, "out=whole") == 0

    def interrupt(self, trainer, module, *rest):
        if module.updates == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "on_train_batch_end", interrupt)
        assert train(*words, "out=cut") == 130
    (cut,) = find("cut")
    assert cut.state == "interrupted"
    assert train(*words, "out=cut") == 0
    (whole,) = find("whole")
    assert cut.state == "done"
    a, b = (torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True) for run in (whole, cut))
    assert a["global_step"] == b["global_step"] == 44
    assert all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"])
    for mine, other in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for key in mine["state"]:
            assert torch.equal(mine["state"][key]["exp_avg"], other["state"][key]["exp_avg"])
    assert list(whole.curve()) == list(cut.curve())


def test_every_update_and_process_has_noise_of_its_own_whatever_ran_before():
    def noise(seed, update, rank):
        where = SimpleNamespace(global_rank=rank), SimpleNamespace(updates=update)
        Reproducible(seed).on_train_batch_start(*where, None, 0)
        return torch.randn(3)

    first = noise(0, 5, 0)
    others = [noise(0, 6, 0), noise(0, 5, 1), noise(1, 5, 0)]
    torch.randn(100)
    assert torch.equal(noise(0, 5, 0), first)
    assert not any(torch.equal(first, other) for other in others)
