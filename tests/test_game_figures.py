"""Figures of games: drawn by the user's command from tiny runs; their numbers against known answers."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dgm.callbacks.saturation import Saturation
from dgm.cli.main import run as dgm
from dgm.configs import ConfigError
from dgm.data import shapes
from dgm.figures import vector_arithmetic
from dgm.figures.loss_zoo import measured
from dgm.figures.points_on_a_line import Snapshot, kernel_density
from dgm.figures.transformer import energy_distance
from dgm.figures.wasserstein_lines import jensen_shannon, transport
from dgm.images import unit
from dgm.losses.adversarial import minimax, non_saturating
from dgm.runs import find

SMALL = ["model.generator.hidden=[16]", "model.critic.hidden=[16]", "logger=csv", "trainer.max_epochs=1"]
POINTS = [*SMALL, "data.limit=2000"]
NARROW = ["model.generator.width=4", "model.critic.width=4", "logger=csv", "data=digits", "data.binarise=none"]


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    """Tiny runs of every experiment with a game."""
    out = tmp_path_factory.mktemp("games")

    def train(study, *words):
        assert dgm(["train", "-m", *words, f"out={out}", f"study={study}", f"cache={out}/cache"]) == 0

    train("line", "experiment=line_gan", *POINTS, "callbacks.snapshots.every=2", "callbacks.snapshots.samples=200")
    train("frozen", "experiment=frozen_gan", *NARROW, "trainer.max_steps=20", "callbacks.saturation.updates=[0,10,20]")
    train("moons", "experiment=moons_to_ring_gan", *POINTS, "callbacks=[default]")
    train("ring", "experiment=ring_gan", *POINTS, "callbacks=[default]", "loss=minimax,hinge", "seed=0,1")
    few = ["metric.fid.samples=200", "trainer.max_epochs=1"]
    train("zoo", "experiment=loss_zoo", *NARROW, *few, "loss=minimax,non_saturating,hinge", "seed=0")
    train("zoo", "experiment=loss_zoo", *NARROW, *few, "loss=wasserstein", "model.clip=0.01", "seed=0")
    return out


def draw(games, name, study, *words, many=False):
    out = games / "figures"
    run = games / study if many else find(games / study)[0].folder
    code = dgm(["figure", f"figure={name}", f"run='{run}'", f"out={out}", f"cache={games}/cache", *words])
    picture = np.asarray(Image.open(out / f"{name}.png").convert("L"))
    assert picture.std() > 5
    return code, json.loads((out / f"{name}.json").read_text())


def test_what_a_figure_should_show_and_does_not_makes_it_fail_after_all_is_written(games, capsys):
    code, numbers = draw(games, "points_on_a_line", "line", "figure.frames=3")
    assert code == 1 and "does not hold here: " in capsys.readouterr().err  # 8 updates are far too few
    assert [c["holds"] for c in numbers["claims"]] != [True] * 5
    with Image.open(games / "figures/points_on_a_line.gif") as moving:
        assert moving.n_frames >= 3
    assert numbers["traces"][0]["update"] == 0 and numbers["updates"] == numbers["traces"][-1]["update"]


def test_a_figure_that_needs_a_run_says_so(capsys, games):
    assert dgm(["figure", "figure=points_on_a_line"]) == 1
    assert "it draws a run; give run=FOLDER" in capsys.readouterr().err
    run = find(games / "ring")[0].folder
    assert dgm(["figure", "figure=points_on_a_line", f"run='{run}'"]) == 1
    assert "experiment=line_gan" in capsys.readouterr().err


def test_the_best_critic_of_two_known_densities_has_no_error():
    places = torch.linspace(-4, 6, 201, dtype=torch.double)
    p, q = (torch.distributions.Normal(mean, 1.0).log_prob(places).exp() for mean in (0.0, 2.0))
    best = (2 - 2 * places).sigmoid()  # log p - log q = ((x - 2)^2 - x^2) / 2
    empty = torch.zeros(2)
    exact = Snapshot(0, empty, empty, places, best, p, q, 0.5, 0.0)
    assert exact.error(0.05) < 1e-12
    assert exact._replace(p_real=torch.full_like(places, 0.5)).error(0.05) > 0.4


def test_kernel_density_of_normal_points():
    torch.manual_seed(0)
    places = torch.linspace(-6, 6, 601, dtype=torch.double)
    density = kernel_density(torch.randn(20_000, dtype=torch.double), places)
    assert torch.trapezoid(density, places).item() == pytest.approx(1, abs=1e-3)
    assert (density - torch.distributions.Normal(0.0, 1.0).log_prob(places).exp()).abs().max() < 0.02


class Frozen(nn.Module):
    """A critic that gives every sample nearly the same logit, so the law of the ratio is exact."""

    classes, device, updates = 0, torch.device("cpu"), 0

    def __init__(self, logit):
        super().__init__()
        self.generator, self.logit, self.values = nn.Linear(3, 2), logit, {}

    def generate(self, n, label, generator):
        return self.generator(torch.randn(n, 3, generator=generator))

    def logits(self, x, label):
        return self.logit + 1e-4 * x.sum(1)

    def record(self, values, update):
        self.values = values


@pytest.mark.parametrize("logit", [0.0, -2.0, -7.0])
def test_gradients_of_both_losses_stand_in_the_ratio_of_theory(logit):
    game = Frozen(logit)
    Saturation({"saturating": minimax, "other": non_saturating}, [0]).on_train_start(None, game)
    ratio = game.values["saturation/other"] / game.values["saturation/saturating"]
    d = 1 / (1 + math.exp(-logit))
    assert ratio == pytest.approx((1 - d) / d, rel=1e-3)
    assert game.values["saturation/p_real"] == pytest.approx(d, rel=1e-3)


def test_gradients_of_a_frozen_generator_are_recorded_and_drawn(games):
    _, numbers = draw(games, "generator_losses", "frozen")
    assert [row["update"] for row in numbers["rows"]] == [0, 10, 20]
    (run,) = find(games / "frozen")
    first = torch.load(run.checkpoint(), weights_only=True)["state_dict"]
    assert numbers["ratio_0"] == pytest.approx(1, abs=0.5) and first["step"] == 20


def test_wasserstein_sees_how_far_lines_are_apart(tmp_path):
    assert dgm(["figure", "figure=wasserstein_lines", f"out={tmp_path}", "figure.n=50"]) == 0
    numbers = json.loads((tmp_path / "wasserstein_lines.json").read_text())
    assert all(claim["holds"] for claim in numbers["claims"])
    square = torch.rand(40, 2, dtype=torch.double)
    assert transport(square, square.flip(0)) == 0
    assert jensen_shannon(square, square, 8) == pytest.approx(0, abs=1e-12)


def test_a_transformer_is_drawn_and_its_distance_is_known(games):
    _, numbers = draw(games, "transformer", "moons", "figure.n=300")
    assert numbers["energy_distance_of_codes"] > 0.3
    torch.manual_seed(0)
    x = torch.randn(1500, 1)
    assert energy_distance(x, torch.randn(1500, 1)) == pytest.approx(0, abs=0.02)
    # of point masses at distance d: 2 d
    assert energy_distance(torch.zeros(5, 2), torch.tensor([[3.0, 4.0]]).expand(5, 2)) == pytest.approx(10)


def test_modes_of_many_games_are_counted(games):
    code, numbers = draw(games, "mode_counts", "ring", many=True)
    assert code == 0 and numbers["runs"] == 4
    assert [row["name"] for row in numbers["rows"]] == ["loss=hinge", "loss=minimax"]
    values = [run.values["modes"] for run in find(games / "ring") if "hinge" in run.config["loss"]["_target_"]]
    assert numbers["rows"][0]["modes"]["mean"] == pytest.approx(sum(values) / 2)


def test_the_zoo_names_games_and_compares_their_order(games):
    _, numbers = draw(games, "loss_zoo", "zoo", many=True)
    names = {row["name"] for row in numbers["games"]}
    assert names == {"minimax", "non-saturating", "hinge", "wasserstein, clipped"}
    assert -1 <= numbers["rank_agreement"] <= 1
    with pytest.raises(ConfigError, match="one protocol"):
        measured(find(games / "ring"))


def test_interpolation_of_a_model_without_an_encoder(games):
    code, numbers = draw(games, "interpolation", "zoo", "figure.over=20")
    assert code == 0
    assert numbers["max_over_mean_step_cross-fade"] == pytest.approx(1, abs=1e-4)
    assert numbers["max_over_mean_step_linear"] > 1


def test_arithmetic_that_is_exact_always_succeeds_and_its_absence_never():
    torch.manual_seed(0)
    z = torch.randn(3000, 2)
    found, value = (z[:, 0] > 0).long(), z[:, 1]
    parts = [vector_arithmetic.sorted_out(z[found == c], value[found == c]) for c in range(2)]
    share = [len(part.having) / (found == c).sum().item() for c, part in enumerate(parts)]
    assert share == pytest.approx([1 / 3, 1 / 3], abs=0.01)
    generator = torch.Generator().manual_seed(0)
    for moved, expected in ((1, 1.0), (0, 0.0)):
        made, wanted, least = vector_arithmetic.combined(parts, [0, 1], 50, 50, moved, 20, generator)
        success = ((made[:, 0] > 0).long() == wanted) & (made[:, 1] >= least)
        assert len(made) == 40 and success.double().mean() == expected
    made, wanted, _ = vector_arithmetic.combined(parts, [0, 1], 1, 50, 1, 20, generator)  # the vector to one code
    difference = made - vector_arithmetic.combined(parts, [0, 1], 1, 50, 0, 20, generator)[0]
    assert ((made[:, 0] > 0).long() == wanted).double().mean() > 0.9
    assert made[wanted == 0, 0].std() > 0.3  # B's codes are not averaged: those of half a normal have 0.6
    assert difference[:, 1].mean() > 1.5


def test_slant_and_thickness_of_strokes():
    upright, leaning = torch.zeros(2, 1, 9, 9)
    upright[0, 1:8, 4] = 1
    leaning[0, torch.arange(1, 8), 8 - torch.arange(1, 8)] = 1  # one to the right for each row upwards
    both = torch.stack([upright, leaning])
    assert vector_arithmetic.slant(both).tolist() == pytest.approx([0, 1], abs=1e-5)
    assert vector_arithmetic.ink(both).tolist() == pytest.approx([7 / 81, 7 / 81])


def test_size_and_colour_of_sprites():
    rows = torch.tensor([0, 0, 2]) * 737_280  # the smallest square, red and blue
    rows[1] += 5 * 40 * 32 * 32  # the largest
    x = unit(shapes.load(64, colours=3).train.base.fetch(rows)["image"])
    assert vector_arithmetic.blue(x).tolist() == [0, 0, 1]
    small, large, blue = vector_arithmetic.ink(x).tolist()
    assert small == blue and large / small == pytest.approx(4, rel=0.15)  # twice as wide


def test_vector_arithmetic_is_drawn_and_refuses_too_few_codes(games, capsys, tmp_path):
    words = ["model=vae", "data.binarise=none", "model.latent=2", "metric=[]", "trainer.max_epochs=8", "logger=csv"]
    assert dgm(["train", *words, "optimizer.lr=0.003", f"out={tmp_path}/vae"]) == 0
    (run,) = find(tmp_path / "vae")
    words = ["figure=vector_arithmetic", f"run='{run.folder}'", f"out={tmp_path}", f"cache={games}/cache"]
    dgm(["figure", *words, "figure.n=600", "figure.codes=3", "figure.trials=1"])
    numbers = json.loads((tmp_path / "vector_arithmetic.json").read_text())
    assert 0 <= numbers["averaged"] <= numbers["averaged_class_kept"] <= 1 and numbers["pairs"] >= 2
    capsys.readouterr()
    assert dgm(["figure", *words, "figure.n=100", "figure.codes=90"]) == 1
    assert "raise figure.n" in capsys.readouterr().err
    assert dgm(["figure", *words, "figure.attribute=colour"]) == 1
    assert "figure.attribute=colour, but digits has none" in capsys.readouterr().err
