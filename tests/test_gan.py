"""The adversarial family: games at known logits, penalties of known critics, and training as the algorithm says."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dgm.callbacks.health import Health
from dgm.callbacks.randomness import seed_all
from dgm.callbacks.saturation import Saturation
from dgm.cli.compose import compose
from dgm.cli.main import run as dgm
from dgm.configs import build, folder
from dgm.data import digits
from dgm.data.density import Moons
from dgm.data.loading import Order
from dgm.data.sets import Arrays
from dgm.images import unit
from dgm.losses import adversarial, penalties
from dgm.metrics.agreement import LabelAgreement
from dgm.metrics.modes import covered, wasserstein_1
from dgm.modules.gan import GAN, judged
from dgm.nn import augment, sngan
from dgm.nn.dcgan import Critic, Generator
from dgm.nn.mlp import Critic as Flat
from dgm.nn.mlp import Decoder
from dgm.runs import find

ZERO = torch.zeros(3)
AT_ZERO = {
    adversarial.minimax: (2 * math.log(2), -math.log(2)),
    adversarial.non_saturating: (2 * math.log(2), math.log(2)),
    adversarial.least_squares: (0.5, 0.5),
    adversarial.wasserstein: (0.0, 0.0),
    adversarial.hinge: (2.0, 0.0),
}


@pytest.mark.parametrize("game", AT_ZERO, ids=lambda game: game.__name__)
def test_games_at_logit_zero_and_whom_they_please(game):
    terms = game(ZERO, ZERO)
    critic, generator = AT_ZERO[game]
    assert terms["critic"].tolist() == pytest.approx([critic] * 3)
    assert terms["generator"].tolist() == pytest.approx([generator] * 3)
    right = game(torch.full((1,), 0.5), torch.full((1,), -0.5))["critic"]
    wrong = game(torch.full((1,), -0.5), torch.full((1,), 0.5))["critic"]
    assert right < wrong
    believed, seen_through = (game(ZERO[:1], torch.tensor([logit]))["generator"] for logit in (0.5, -0.5))
    assert believed < seen_through


@pytest.mark.parametrize("game", [adversarial.minimax, adversarial.non_saturating])
def test_both_conventions_of_the_critic_give_the_same_gradients(game):
    torch.manual_seed(0)
    real, logit = torch.randn(50), torch.randn(50, requires_grad=True)
    (as_real,) = torch.autograd.grad(game(real, logit)["generator"].sum(), logit)
    (as_fake,) = torch.autograd.grad(game(-real, -logit, convention="fake")["generator"].sum(), logit)
    assert (as_real - as_fake).abs().max() < 1e-6 and as_real.abs().min() > 0
    # -softplus has the derivative -sigmoid, softplus(-l) has sigmoid(l) - 1: it saturates where the other does not
    expected = -logit.sigmoid() if game is adversarial.minimax else logit.sigmoid() - 1
    assert torch.allclose(as_real, expected, atol=1e-6)


def test_penalties_of_a_linear_critic():
    torch.manual_seed(0)
    weight = torch.randn(12)
    real, fake = torch.rand(2, 5, 3, 2, 2)
    norm = weight.norm()
    linear = lambda x: x.flatten(1) @ weight  # noqa: E731
    one = penalties.gradient_penalty(linear, real, fake, weight=10.0)
    assert torch.allclose(one, 10 * (norm - 1).square().expand(5))
    assert torch.allclose(penalties.gradient_penalty(linear, real, fake, centre=0.0), 10 * norm.square().expand(5))
    assert torch.allclose(penalties.r1(linear, real, fake, weight=3.0), 1.5 * norm.square().expand(5))
    squares = lambda x: x.square().flatten(1).sum(1)  # noqa: E731
    assert torch.allclose(penalties.r1(squares, real, fake, 1.0), 2 * real.square().flatten(1).sum(1))
    assert torch.allclose(penalties.r2(squares, real, fake, 1.0), 2 * fake.square().flatten(1).sum(1))


def test_a_gradient_penalty_reaches_the_critics_weights():
    critic = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Flatten(0))
    x = torch.randn(6, 4)
    penalties.r1(critic, x, x, weight=2.0).mean().backward()
    weight = critic[0].weight
    assert torch.allclose(weight.grad, 2 * weight)  # of |w|^2


@pytest.mark.parametrize("shape", [[1, 8, 8], [3, 9, 11], [1, 28, 28], [3, 32, 32], [3, 64, 64]], ids=str)
def test_dcgan_reaches_any_size(shape):
    generator, critic = Generator(shape, 5, width=4), Critic(shape, width=4, spectral=shape[1] == 32)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, *shape) and images.min() >= 0 and images.max() <= 1
    assert critic(images).shape == (3,)


@pytest.mark.parametrize("critic", [Critic, sngan.Critic])
def test_spectral_normalisation_bounds_every_layer(critic):
    critic = critic([1, 8, 8], width=4, spectral=True, condition=3)
    for _ in range(80):
        critic(torch.rand(2, 1, 8, 8), F.one_hot(torch.tensor([0, 2]), 3).float())
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_features_are_summed_over_all_places():
    critic = sngan.Critic([1, 8, 8], width=1, spectral=False)  # Miyato et al. (2018), table 4: global sum pooling
    critic.blocks = nn.Identity()
    nn.init.ones_(critic.last.weight)
    assert critic(torch.ones(1, 1, 8, 8)).item() == 64


TINY = ["model=gan", "model.generator.hidden=[16]", "model.critic.hidden=[16]", "model.latent=4", "logger=csv"]
QUIET = ["data.val=0", "metric=[]", "callbacks=[default]"]


def beginning(words, seed):
    """A game as a run of these words begins: model, training images, an optimizer for generator and critic."""
    config = compose("train", words)
    seed_all(seed, 1)
    model, data = build(config["model"]), build(config["data"])
    both = [torch.optim.Adam(p.parameters(), 2e-4, (0.5, 0.999), fused=True) for p in (model.generator, model.critic)]
    return model, data.set("train").tensors["image"], both


def test_training_is_the_algorithm_written_by_hand():
    words = [*TINY, *QUIET, "model.critic_steps=2", "trainer.max_steps=3", "data.batch_size=40", "seed=4"]
    assert dgm(["train", *words, "callbacks.reproducible.seed=4"]) == 0
    (run,) = find("outputs")
    model, images, players = beginning(words, 4)
    softplus = nn.functional.softplus
    order = iter(Order(len(images), 80, True, 4))
    for update in range(3):
        seed_all(4, 2, update, 0)
        for x in unit(images[next(order).rows]).chunk(2):
            fake = model.generator(torch.randn(40, 4)).detach()
            players[1].zero_grad()
            (softplus(-model.critic(x)) + softplus(model.critic(fake))).mean().backward()
            players[1].step()
        players[0].zero_grad()
        softplus(-model.critic(model.generator(torch.randn(40, 4)))).mean().backward()
        players[0].step()
    trained = run.model().state_dict()
    assert trained["step"] == 3
    model.compile_hot()
    assert list(model.state_dict()) == list(trained)  # compiled or not, a checkpoint is the same
    for name, weight in model.state_dict().items():
        assert name == "step" or torch.allclose(weight, trained[name], atol=1e-6), name


def test_two_processes_train_as_one_whose_gradients_are_averaged():
    words = [*TINY, *QUIET, "trainer.max_steps=2", "data.batch_size=40", "seed=4"]
    assert dgm(["train", *words, "trainer=ddp", "trainer.accelerator=cpu"]) == 0
    (run,) = find("outputs")
    model, images, players = beginning(words, 4)
    orders = [iter(Order(len(images), 40, True, 4, rank, 2)) for rank in range(2)]
    softplus = nn.functional.softplus
    for update in range(2):
        seen = []
        for rank in range(2):
            seed_all(4, 2, update, rank)
            x = unit(images[next(orders[rank]).rows])
            seen.append((x, torch.randn(len(x), 4), torch.randn(len(x), 4)))
        players[1].zero_grad()
        for x, z, _ in seen:
            fake = model.generator(z).detach()
            ((softplus(-model.critic(x)) + softplus(model.critic(fake))).mean() / 2).backward()
        players[1].step()
        players[0].zero_grad()
        for _, _, z in seen:
            (softplus(-model.critic(model.generator(z))).mean() / 2).backward()
        players[0].step()
    trained = run.model().state_dict()
    for name, weight in model.state_dict().items():
        assert name == "step" or torch.allclose(weight, trained[name], atol=1e-6), name


@pytest.mark.parametrize("name", ["gan", "dcgan", "sngan"])
def test_labels_reach_both_players(name):
    size = "hidden=[16]" if name == "gan" else "width=4"
    sizes = [f"model.{player}.{size}" for player in ("generator", "critic")]
    config = compose("train", [f"model={name}", "model.conditional=true", "model.latent=4", *sizes])
    torch.manual_seed(0)
    m = build(config["model"]).eval()
    z, x, label = torch.randn(6, 4), torch.rand(6, 1, 8, 8), torch.arange(6)
    assert not torch.equal(m.decode(z, label), m.decode(z, label + 1))
    logits = m.logits(x, label)
    assert logits.shape == (6,) and not torch.allclose(logits, m.logits(x, label + 1))
    batch = {"image": torch.zeros(10, 1, 8, 8, dtype=torch.uint8), "label": torch.arange(10)}
    m.critic_steps = 2
    (x, first), (_x, later) = m.parts(batch)
    assert len(x) == 5 and first.tolist() == [0, 1, 2, 3, 4] and later.tolist() == [5, 6, 7, 8, 9]
    assert m.sample(3, torch.Generator().manual_seed(0)).shape == (3, 1, 8, 8)


def test_budgets_count_generator_updates():
    words = [*TINY, *QUIET, "model.critic_steps=5", "data.batch_size=32", "trainer.max_epochs=2"]
    assert dgm(["train", *words]) == 0
    (run,) = find("outputs")
    updates = 2 * math.ceil(1437 / (5 * 32))
    assert run.provenance["total_updates"] == updates
    checkpoint = torch.load(run.path("checkpoints/last.ckpt"), weights_only=True)
    assert checkpoint["global_step"] == updates == int(checkpoint["state_dict"]["step"])
    generator, critic = (state["state"][0]["step"].item() for state in checkpoint["optimizer_states"])
    assert (generator, critic) == (updates, 5 * updates)


def test_a_gan_is_measured_while_it_trains_and_after():
    words = ["trainer.max_epochs=2", "metric.fid.samples=60", "callbacks.quality.metric.samples=60", "data.limit=300"]
    assert dgm(["train", *TINY, *words]) == 0
    (run,) = find("outputs")
    assert run.values["fid_classifier"] > 0 and "elbo" not in run.values
    curve = [(row["name"], float(row["value"])) for row in run.curve()]
    assert len([value for name, value in curve if name == "val/fid_classifier"]) == 2
    assert all(0 <= value <= 1 for name, value in curve if name == "val/critic_accuracy")
    assert run.path("checkpoints/best.ckpt").is_file()
    assert dgm(["sample", f"run={run.folder}", "n=4"]) == 0


def point_game(**words):
    """A game on the line: data N(2, 0.5), made of the parts a configuration would give."""
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9))
    return GAN(
        partial(Decoder, [1], 1, [16]),
        partial(Flat, [1], [32, 32]),
        adversarial.non_saturating,
        adam,
        latent=1,
        **words,
    )


def test_points_on_a_line_are_learnt():
    m = point_game()
    generator, critic = m.configure_optimizers()
    m._trainer = SimpleNamespace(world_size=1)
    for _ in range(600):
        x = 2 + 0.5 * torch.randn(64, 1)
        fake = m.generate(64).detach()
        m.descend(m.critic, m.loss(m.critic(x), m.critic(fake))["critic"].mean(), critic)
        m.descend(m.generator, m.loss(torch.zeros(64), m.critic(m.generate(64)))["generator"].mean(), generator)
    with torch.no_grad():
        fake = m.generate(2000)
    assert fake.mean().item() == pytest.approx(2, abs=0.4) and 0.15 < fake.std().item() < 1.0


def test_clipping_and_lazy_penalties():
    m = point_game(clip=0.01, penalty=penalties.r1, penalty_every=4)
    m.constrain()
    assert max(p.abs().max() for p in m.critic.parameters()) <= 0.01
    x = torch.randn(8, 1)
    now, later = m.penalise(m.critic, x, x, 4), m.penalise(m.critic, x, x, 5)
    assert later == 0.0 and torch.allclose(now, 4 * penalties.r1(m.critic, x, x).mean())


def test_a_logit_is_high_for_real_images_whatever_the_convention_of_the_loss():
    games = [point_game(), point_game()]
    games[1] = GAN(
        partial(Decoder, [1], 1, [16]), partial(Flat, [1], [32, 32]),
        partial(adversarial.non_saturating, convention="fake"), partial(torch.optim.Adam, lr=2e-3), latent=1,
    )  # fmt: skip
    games[1].critic.load_state_dict(games[0].critic.state_dict())
    x = torch.randn(8, 1)
    assert torch.equal(games[1].logits(x), -games[0].logits(x)) and torch.equal(games[0].logits(x), games[0].critic(x))
    high, low = torch.ones(4), -torch.ones(4)
    assert games[0].judged(high, low) == games[1].judged(low, high) == {"critic_accuracy": 1.0, "logit_gap": 2.0}


@pytest.mark.parametrize(("images", "steps"), [(6, 5), (8, 5), (12, 5), (320, 5), (3, 5)])
def test_a_small_batch_still_has_a_part_for_each_step_of_the_critic(images, steps):
    parts = point_game(critic_steps=steps).parts({"point": torch.randn(images, 1)})
    assert len(parts) == min(steps, images) and sum(len(x) for x, _ in parts) == images
    assert max(len(x) for x, _ in parts) - min(len(x) for x, _ in parts) <= 1


def test_a_look_at_saturation_changes_nothing():
    m = build(compose("train", ["model=dcgan", "model.generator.width=4", "model.critic.width=4"])["model"])
    logged = []
    m.record = lambda values, update: logged.append((values, update))
    before = {name: tensor.clone() for name, tensor in m.state_dict().items()}
    m.train()
    Saturation({"minimax": adversarial.minimax}, [0], samples=8).look(m)
    assert logged[0][0]["saturation/minimax"] > 0 and logged[0][1] == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in m.state_dict().items())


def test_judgement_of_a_perfect_and_of_a_blind_critic():
    assert judged(torch.ones(4), -torch.ones(4)) == {"critic_accuracy": 1.0, "logit_gap": 2.0}
    assert judged(torch.tensor([9.0, 11]), torch.tensor([5.0, 7]))["critic_accuracy"] == 1.0  # whatever the scale
    torch.manual_seed(0)
    assert judged(torch.randn(4000), torch.randn(4000))["critic_accuracy"] == pytest.approx(0.5, abs=0.03)


BAD = [
    (["model.critic_steps=0"], "model.critic_steps=0"),
    (["model=dcgan", "model/penalty=r1", "data.shape=[1,16,16]"], "batch normalisation"),
    (["metric=[likelihood]"], "likelihood"),
    (["metric=[modes]"], "no mixture"),
    (["model=autoencoder", "metric=[fid]"], "cannot sample"),
    (["experiment=ring_gan", "metric=[fid]"], "has points"),
    (["experiment=ring_gan", "model.conditional=true"], "conditional=true"),
    (["loss=elbo"], "cannot meet GAN"),
    (["experiment=loss_zoo", "callbacks=[default]"], "callbacks=[default,ema]"),
    (["model.auxiliary=1"], "model.conditional=true"),
    (["experiment=ring_gan", "model.latent=3", "model.prior={_target_: dgm.data.density.Moons}"], "model.latent=2"),
    (["model=vae", "loss=hinge"], "cannot meet VAE"),
    (["model=wgan_gp", "compile=true"], "second derivative"),
    (["model=dcgan", "data.shape=[1,6,6]"], "8 x 8"),
]


@pytest.mark.parametrize(("words", "part"), BAD, ids=lambda value: str(value))
def test_what_cannot_meet_is_refused_before_training(words, part, capsys, tmp_path):
    first = ["model=gan"] if not any(word.startswith(("model=", "experiment=")) for word in words) else []
    assert dgm(["train", *first, *words, "logger=csv"]) == 1
    err = capsys.readouterr().err
    assert part in err and err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("penalty", sorted(p.stem for p in (folder() / "model/penalty").glob("*.yaml")))
def test_every_penalty_composes_with_a_critic(penalty):
    config = compose("train", [*TINY, f"model/penalty={penalty}"])
    m = build(config["model"])
    x = torch.rand(4, 1, 8, 8)
    assert m.penalise(m.critic, x, m.generate(4), 0).shape == ()


def test_modes_are_counted_and_distances_on_the_line_exact():
    means, stds = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]).double(), torch.full((3,), 0.1).double()
    x = torch.tensor([[0.0, 0.1], [0.0, 0.29], [5.0, 0.1], [2.5, 0.0], [0.0, 4.6]]).double()
    found = covered(x, means, stds, 3.0)
    assert found["modes"] == 2 and found["high_quality"] == pytest.approx(0.6)
    assert found["between"] == pytest.approx(0.4)
    assert found["effective_modes"] == pytest.approx(math.exp(math.log(3) - 2 / 3 * math.log(2)))
    assert covered(x[3:4], means, stds, 3.0)["effective_modes"] == 0
    a = torch.randn(1000)
    assert wasserstein_1(a, a[torch.randperm(1000)] + 0.7) == pytest.approx(0.7, abs=1e-6)


def test_a_game_on_points_is_measured_by_its_modes(tmp_path):
    words = ["experiment=ring_gan", "data.limit=2000", "trainer.max_epochs=2", "callbacks.health.every=5", "logger=csv"]
    assert dgm(["train", *words, "model.generator.hidden=[16]", "model.critic.hidden=[16]"]) == 0
    (run,) = find("outputs")
    assert 0 <= run.values["high_quality"] <= 1 and run.values["modes"] <= 8
    assert any(row["name"] == "health/diversity" for row in run.curve())
    assert dgm(["figure", "figure=modes", "run=outputs", f"out={tmp_path}/f"]) == 0
    assert (tmp_path / "f/modes.png").is_file()


class Planted(nn.Module):
    """A game whose generator gives what it is told to."""

    def __init__(self, spread, gradient, clever):
        super().__init__()
        self.generator, self.critic = nn.Linear(4, 64), Judge(clever)
        self.spread, self.updates, self.logged, self.device = spread, 0, [], torch.device("cpu")
        self.generator.weight.grad = torch.full((64, 4), gradient)

    def sample(self, n, generator):
        return 0.5 + self.spread * torch.rand(n, 1, 8, 8, generator=generator)

    def given(self, batch):
        return (unit(batch["image"]),)

    def logits(self, x, label):
        return self.critic(x)

    def record(self, values, update):
        self.logged.append(values)


class Told(Planted):
    """A planted game that is told labels."""

    def sample(self, n, generator, label=None):
        self.asked = label
        return super().sample(n, generator)

    def given(self, batch):
        return unit(batch["image"]), batch["label"]


def test_a_conditional_game_is_watched_with_the_labels_of_real_images():
    batch = {"image": torch.zeros(8, 1, 8, 8, dtype=torch.uint8), "label": torch.arange(8)}
    health, game = Health(every=1, samples=5), Told(1.0, 1.0, 0)
    health.look(game, batch)
    assert game.asked.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("spread", "gradient", "clever", "expected"),
    [(0.01, 1.0, 0, {"collapse"}), (1.0, 1e-9, 1, {"blind"}), (1.0, 1e-9, 0, set()), (1.0, 1.0, 1, set())],
    ids=["collapsed", "critic too good", "healthy, small gradients", "healthy, good critic"],
)
def test_planted_collapses_are_told_and_healthy_games_are_not(spread, gradient, clever, expected, capsys):
    health, game = Health(every=1, samples=16, patience=3), Planted(spread, gradient, clever)
    images = {"image": torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)}
    trainer = SimpleNamespace(datamodule=SimpleNamespace(set=lambda split: Arrays(images)))
    health.on_train_start(trainer, game)
    for _ in range(6):
        game.updates += 1
        health.on_train_batch_end(trainer, game, None, images, 0)
    found = {name for name in ("collapse", "blind") if game.logged[-1][f"health/{name}"]}
    assert found == expected
    assert capsys.readouterr().err.count("update") == len(expected)  # said once, while it lasts


def test_a_game_that_begins_with_samples_alike_is_not_called_collapsed(capsys):
    health, game = Health(every=1, samples=16, patience=3), Planted(0.01, 1.0, 0)
    images = {"image": torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)}
    health.on_train_start(SimpleNamespace(datamodule=SimpleNamespace(set=lambda split: Arrays(images))), game)
    for update in range(1, 7):
        game.updates = update
        if update == 3:
            game.spread = 1.0
        health.on_train_batch_end(None, game, None, images, 0)
    assert not any(values["health/collapse"] for values in game.logged) and not capsys.readouterr().err


class Judge(nn.Module):
    """Tells what lies above 0.5 everywhere, as planted samples do, from what does not, if it is clever."""

    def __init__(self, clever):
        super().__init__()
        self.clever = clever

    def forward(self, x):
        return -self.clever * (x.flatten(1).min(1).values >= 0.5).float()


class Copier(nn.Module):
    """Draws test images of the wanted label, or of any."""

    classes = 10

    def __init__(self, obedient):
        super().__init__()
        batch = digits.load().test.tensors
        self.images, self.labels, self.obedient = unit(batch["image"]), batch["label"], obedient

    def sample(self, n, generator, label):
        rows = [int((self.labels == one).nonzero()[0]) for one in label]
        rows = rows if self.obedient else torch.randint(len(self.labels), (n,), generator=generator).tolist()
        return self.images[rows]


def test_labels_that_are_obeyed_and_such_that_are_not(tmp_path):
    data = build(compose("train", [])["data"])
    metric = LabelAgreement(str(tmp_path), samples=300)
    obedient, careless = (metric(Copier(o), data, torch.device("cpu")).values for o in (True, False))
    assert obedient["label_accuracy"] >= 0.9 and careless["label_accuracy"] < 0.25
    assert obedient["label_accuracy_shuffled"] < 0.25
    with pytest.raises(TypeError, match="conditional"):
        metric.refuse(nn.Linear(1, 1), data)


@pytest.mark.parametrize("shape", [[1, 8, 8], [3, 9, 11], [1, 28, 28], [3, 32, 32], [2, 64, 64]], ids=str)
def test_the_residual_pair_reaches_any_size(shape):
    torch.manual_seed(0)
    generator, critic = sngan.Generator(shape, 5, width=4), sngan.Critic(shape, width=4)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, *shape) and images.min() >= 0 and images.max() <= 1
    assert critic(images).shape == (3,)


def test_the_residual_pair_is_the_published_one_at_32_pixels():
    generator, critic = sngan.Generator([3, 32, 32], 128), sngan.Critic([3, 32, 32])
    # Miyato et al. (2018), table 4, counted by hand: 3 x 3 convolutions of a block, its shortcut, norms of two values
    block = 2 * (256 * 256 * 9 + 256) + 256 * 256 + 256 + 4 * 256
    assert count(generator) == 128 * 4096 + 4096 + 3 * block + 512 + 256 * 3 * 9 + 3
    plain = 2 * (128 * 128 * 9 + 128)
    down = plain + 128 * 128 + 128
    first = (3 * 128 * 9 + 128) + (128 * 128 * 9 + 128) + 3 * 128 + 128
    assert count(critic) == first + down + 2 * plain + 128 + 1
    assert [block.down for block in critic.blocks] == [True, True, False, False]


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_conditional_normalisation_scales_each_class_by_its_own():
    norm = sngan.ConditionalNorm(2, 3)
    with torch.no_grad():
        norm.scale.weight.copy_(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
        norm.shift.weight.copy_(torch.tensor([[0.0, 0, 1], [0, 0, -1]]))
    x = torch.randn(6, 2, 4, 4)
    label = torch.tensor([0, 1, 2, 2, 1, 0])
    plain = nn.functional.batch_norm(x, None, None, training=True)
    expected = plain * norm.scale.weight.T[label][..., None, None] + norm.shift.weight.T[label][..., None, None]
    assert torch.allclose(norm(x, nn.functional.one_hot(label, 3).float()), expected, atol=1e-5)


def test_augmentation_moves_and_cuts_by_whole_pixels():
    x = torch.arange(1.0, 26).view(1, 1, 5, 5).expand(3, 2, 5, 5)
    by = torch.tensor([1, 0, -2]).view(3, 1, 1, 1)
    shifted = augment.moved(x, by, -by)
    assert torch.equal(shifted[0, 0, 1:, :4], x[0, 0, :4, 1:]) and shifted[0, :, 0].abs().sum() == 0
    assert torch.equal(shifted[1], x[1])
    assert torch.equal(shifted[2, 1, :3, 2:], x[2, 1, 2:, :3]) and shifted[2, 1, 3:].abs().sum() == 0
    hole = augment.cut(torch.ones(2, 1, 6, 6), 0.5, *2 * [torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)])
    assert (hole[0] == 0).sum() == 9 and hole[0, 0, 2:5, 2:5].sum() == 0
    assert hole[1, 0, :2, :2].sum() == 0 and (hole[1] == 0).sum() == 4  # half of it lies outside
    flat = augment.recoloured(x, *(torch.tensor(v).view(1, 1, 1, 1) for v in (0.25, 0.0, 1.0)))
    assert torch.allclose(flat, x + 0.25)  # both colours alike: saturation changes nothing
    assert torch.allclose(augment.recoloured(x, by * 0.0, by * 0.0, by * 0.0), x.mean((1, 2, 3), keepdim=True))


def test_augmentation_differs_between_images_and_lets_gradients_through():
    torch.manual_seed(0)
    change = augment.DiffAugment()
    x = torch.rand(1, 1, 8, 8).expand(6, 1, 8, 8).clone().requires_grad_()
    changed = change(x)
    assert changed.flatten(1).unique(dim=0).shape[0] == 6
    (gradient,) = torch.autograd.grad(changed.sum(), x)
    assert gradient.isfinite().all() and (gradient != 0).any(1).flatten(1).any(1).all()
    none = augment.DiffAugment(colour=False, translation=0, cutout=0)
    assert torch.allclose(none(x), x)
    with pytest.raises(ValueError, match="points"):
        change(torch.rand(3, 2))


def test_what_the_critic_sees_is_augmented_and_the_generator_is_not():
    m = build(compose("train", [*TINY, "model/augment=diff"])["model"])
    x = torch.rand(6, 1, 8, 8)
    m.augment = Negative()
    assert torch.equal(m.logits(x), m.critic(1 - x))
    z = torch.randn(2, 4)
    assert torch.equal(m.decode(z), m.generator(z))


class Negative(nn.Module):
    """1 - x."""

    def forward(self, x):
        return 1 - x


@pytest.mark.parametrize("name", ["gan", "dcgan", "sngan"])
def test_an_auxiliary_classifier_is_paid_for_by_both(name):
    size = "hidden=[16]" if name == "gan" else "width=4"
    sizes = [f"model.{player}.{size}" for player in ("generator", "critic")]
    words = [f"model={name}", "model.conditional=true", "model.latent=4", "model.auxiliary=0.5", *sizes]
    torch.manual_seed(0)
    m = build(compose("train", words)["model"]).eval()
    x, label = torch.rand(6, 1, 8, 8), torch.arange(6)
    logits, error = m.judge(x, label)
    said = m.critic(x)
    assert said.shape == (6, 11) and torch.allclose(logits, said[:, 0])
    expected = -0.5 * said[:, 1:].log_softmax(1)[torch.arange(6), label]
    assert torch.allclose(error, expected)


def test_each_player_has_its_own_schedule_and_bound_of_the_gradient():
    words = ["model.clip_norm=0.5", "+scheduler@model.critic_scheduler=cosine", "trainer.max_epochs=4"]
    m = build(compose("train", [*TINY, *words])["model"])
    (_generator, critic), (only,) = m.configure_optimizers()
    assert only["scheduler"].optimizer is critic and only["interval"] == "step"
    m._trainer = SimpleNamespace(world_size=1)
    optimizer = torch.optim.SGD(m.generator.parameters(), 1.0)
    before = [p.detach().clone() for p in m.generator.parameters()]
    m.descend(m.generator, 1e4 * m.critic(m.generate(8)).mean(), optimizer, m.clip_norm)
    moved = torch.stack([(p - b).norm() for p, b in zip(m.generator.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(0.5, rel=1e-4)


def test_a_prior_may_be_a_data_set():
    words = ["experiment=ring_gan", "model.prior={_target_: dgm.data.density.Moons}"]
    m = build(compose("train", words)["model"])
    once, again = (m.codes(500, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(once, again) and once.shape == (500, 2)
    assert Moons().log_prob(once).mean() > -2.5  # they are moons


@pytest.mark.parametrize(
    "words",
    [
        "model=sngan model.conditional=true model/augment=diff model.generator.width=4 model.critic.width=4",
        "model=wgan_gp model.generator.width=4 model.critic.width=4 trainer.precision=bf16-mixed",
        "model=dcgan model.conditional=true model.auxiliary=1 model.generator.width=4 model.critic.width=4",
    ],
)
def test_games_of_every_kind_train_and_are_watched_by_command(words):
    watched = ["callbacks=[default,ema,health]", "callbacks.health.every=2", "callbacks.ema.parts=[generator]"]
    assert dgm(["train", *words.split(), *watched, "data.val=0", "metric=[]", "trainer.max_steps=4", "logger=csv"]) == 0
    (run,) = find("outputs")
    logged = {row["name"]: float(row["value"]) for row in run.curve()}
    assert math.isfinite(logged["health/gradient_critic"]) and logged["health/diversity"] > 0


def test_both_players_pay_for_guesses_each_by_its_own_bounded_gradient():
    words = [
        *TINY,
        *QUIET,
        "model.conditional=true",
        "model.auxiliary=0.5",
        "trainer.max_steps=2",
        "data.batch_size=40",
    ]
    words += ["model.clip_norm=0.02", "model.critic_clip_norm=0.3", "seed=4"]
    assert dgm(["train", *words]) == 0
    (run,) = find("outputs")
    model, images, (generator, critic) = beginning(words, 4)
    labels = build(compose("train", words)["data"]).set("train").tensors["label"]
    softplus, order = nn.functional.softplus, iter(Order(len(images), 40, True, 4))
    pay = lambda said, y: 0.5 * nn.functional.cross_entropy(said[:, 1:], y)  # noqa: E731
    for update in range(2):
        seed_all(4, 2, update, 0)
        rows = next(order).rows
        x, y = unit(images[rows]), labels[rows]
        h = nn.functional.one_hot(y, 10).float()
        fake = model.generator(torch.randn(40, 4), h).detach()
        real, false = model.critic(x), model.critic(fake)
        critic.zero_grad()
        (softplus(-real[:, 0]).mean() + softplus(false[:, 0]).mean() + pay(real, y) + pay(false, y)).backward()
        nn.utils.clip_grad_norm_(model.critic.parameters(), 0.3)
        critic.step()
        said = model.critic(model.generator(torch.randn(40, 4), h))
        generator.zero_grad()
        (softplus(-said[:, 0]).mean() + pay(said, y)).backward()
        nn.utils.clip_grad_norm_(model.generator.parameters(), 0.02)
        generator.step()
    trained = run.model().state_dict()
    for name, weight in model.state_dict().items():
        assert name == "step" or torch.allclose(weight, trained[name], atol=1e-6), name
