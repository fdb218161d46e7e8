"""Learning rates over a budget: known values, and that training counts updates as the budget does."""

import math

import pytest
import torch

from dgm.cli.compose import compose
from dgm.cli.main import run as dgm
from dgm.configs import build
from dgm.runs import find
from dgm.schedules import OverBudget


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [1, 0.75, 0.5, 0.25, 0]), ("cosine", [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0])],
)
def test_rates_fall_to_nothing_over_the_budget(shape, expected):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 2.0)
    schedule = OverBudget(optimizer, shape)
    schedule.over(4)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, abs=1e-12)
    assert optimizer.param_groups[0]["lr"] == 0  # and stay there


@pytest.mark.parametrize(
    ("words", "updates"),
    [
        ("model=autoencoder trainer.max_steps=5", 5),
        ("model=autoencoder trainer.max_epochs=3 data.batch_size=40", 9),
        ("model=gan model.critic_steps=2 model.generator.hidden=[8] model.critic.hidden=[8] trainer.max_steps=4", 4),
    ],
)
def test_a_budget_is_counted_in_updates_of_the_model(words, updates):
    words = [*words.split(), "data.limit=100", "data.val=0", "metric=[]", "callbacks=[default]", "logger=csv"]
    assert dgm(["train", *words, "scheduler=linear"]) == 0
    (run,) = find("outputs")
    schedules = torch.load(run.checkpoint(), weights_only=True)["lr_schedulers"]
    assert len(schedules) == (2 if "gan" in words[0] else 1)
    for state in schedules:
        assert (state["last_epoch"], state["total"], state["_last_lr"]) == (updates, updates, [0])


def test_other_schedules_are_stepped_per_epoch_and_a_budget_has_an_end():
    made = [
        build(compose("train", ["model=autoencoder", f"scheduler={name}"])["model"]) for name in ("cosine", "burda")
    ]
    schedules = [m.configure_optimizers()[1][0] for m in made]
    assert [schedule["interval"] for schedule in schedules] == ["step", "epoch"]
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        schedules[0]["scheduler"].over(math.inf)
