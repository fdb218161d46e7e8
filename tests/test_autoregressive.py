"""Models with an exact likelihood: it sums to one, looks at nothing later, and is what samples are drawn from."""

import itertools
from functools import partial

import pytest
import torch
from scipy.stats import chisquare

from dgm.cli.main import run as dgm
from dgm.losses.autoregressive import negative_log_likelihood
from dgm.losses.variational import elbo
from dgm.modules.autoregressive import Autoregressive, complete, naive
from dgm.modules.pixelvae import PixelVAE
from dgm.nn.likelihoods import Bernoulli, Categorical, LogisticMixture
from dgm.nn.made import MADE
from dgm.nn.masked import Above, MaskedConv2d
from dgm.nn.mlp import Decoder, Encoder
from dgm.nn.pixelcnn import GatedPixelCNN, PixelCNN
from dgm.nn.pixelcnnpp import PixelCNNPlusPlus
from dgm.nn.pixelrnn import PixelRNN, skew, unskew
from dgm.runs import find

NETWORKS = {
    "fvsbn": partial(MADE, hidden=[]),
    "made": partial(MADE, hidden=[20]),
    "made, deep, another order": partial(MADE, hidden=[20, 15], order_seed=3),
    "made, direct": partial(MADE, hidden=[20], order_seed=1, direct=True),
    "made, three masks": partial(MADE, hidden=[20], members=3),
    "made, three masks and orders": partial(MADE, hidden=[20, 15], order_seed=3, members=3, direct=True),
    "pixelcnn": partial(PixelCNN, width=6, blocks=2),
    "gated": partial(GatedPixelCNN, width=6, blocks=2),
    "row LSTM": partial(PixelRNN, kind="row", width=6, layers=2),
    "diagonal BiLSTM": partial(PixelRNN, kind="diagonal", width=6, layers=2),
}
CACHED = ["pixelcnn", "gated", "row LSTM", "diagonal BiLSTM"]
LIKELIHOODS = {
    "bernoulli": (Bernoulli(), 2),
    "categorical": (Categorical(3), 3),
    "mixture": (LogisticMixture(3, values=3), 3),
}
KINDS = [
    ("bernoulli", (1, 3, 3), 0),
    ("bernoulli", (3, 1, 3), 2),
    ("categorical", (3, 2, 1), 0),
    ("mixture", (3, 2, 1), 0),
]
EACH = pytest.mark.parametrize(
    ("likelihood", "shape", "classes"), KINDS, ids=["binary", "labels", "colour levels", "colour mixture"]
)
ALL = pytest.mark.parametrize("name", NETWORKS)
ONE = pytest.mark.parametrize("name", [name for name in NETWORKS if "three" not in name])


def model(name, likelihood="bernoulli", shape=(1, 3, 3), classes=0, scale=0.6):
    """A random model with weights large enough to be far from uniform."""
    torch.manual_seed(0)
    part, _levels = LIKELIHOODS[likelihood]
    adam = partial(torch.optim.Adam, lr=1e-3)
    made = Autoregressive(
        NETWORKS[name], part, negative_log_likelihood, list(shape), adam, None, classes, conditional=classes > 0
    )
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return made.double()


def images(likelihood, shape):
    """Every image there is: [L ** D, C, H, W]."""
    levels, size = LIKELIHOODS[likelihood][1], shape[0] * shape[1] * shape[2]
    every = torch.tensor(list(itertools.product(range(levels), repeat=size)), dtype=torch.double)
    return every.view(-1, *shape) / (levels - 1)


def labels(classes, n):
    return {"label": torch.full((n,), classes - 1)} if classes else {}


@ALL
@EACH
def test_the_likelihood_sums_to_one_over_all_images(name, likelihood, shape, classes):
    m, x = model(name, likelihood, shape, classes), images(likelihood, shape)
    log_p = m.log_likelihood(x, **labels(classes, len(x)))
    assert abs(log_p.exp().sum().item() - 1) < 1e-6
    assert log_p.std() > 0.5  # and is not simply uniform
    if classes:
        other = m.log_likelihood(x, label=torch.zeros(len(x), dtype=torch.long))
        assert (other - log_p).abs().max() > 0.1


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 6, 6), (3, 4, 4)], ids=str)
@pytest.mark.parametrize(
    ("name", "member"), [(name, None) for name in NETWORKS] + [(name, 2) for name in NETWORKS if "three" in name]
)
def test_no_output_depends_on_a_value_that_is_not_earlier(name, member, shape):
    net = model(name, shape=shape).network
    net = net if member is None else net.member(member)
    n = shape[0] * shape[1] * shape[2]
    several = torch.rand(20, 1, *shape, dtype=torch.double)
    jacobian = sum(torch.autograd.functional.jacobian(net, x).abs().view(n, n) for x in several)
    ordered = jacobian[net.order][:, net.order]  # row: output, column: input, both in the order of generation
    assert ordered.triu().max() == 0
    seen = ordered.tril(-1).sum(1)[1:] > 0
    assert seen.sum() > len(seen) // 2  # a hidden layer may start later, and a rectifier be off


@ONE
@EACH
def test_the_likelihood_is_the_product_of_conditionals_whatever_the_batch(name, likelihood, shape, classes):
    m = model(name, likelihood, shape, classes)
    x, given = images(likelihood, shape)[100:110], labels(classes, 10)
    levels = LIKELIHOODS[likelihood][1]
    total, (_c, height, width) = torch.zeros(10, dtype=torch.double), shape
    for i, place in enumerate(m.network.order.tolist()):
        colour, y, column = place // (height * width), place // width % height, place % width
        seen = x.clone().flatten(1)
        later = m.network.order[i:]
        seen[:, later] = torch.rand(10, len(later)).double()  # what is not earlier can be anything
        output = m.network(seen.view_as(x), m.condition(given.get("label"), x))[:, :, y, column]
        log_p = m.likelihood.conditional(output, x[:, :, y, column], colour)
        assert torch.allclose(log_p.exp().sum(1), torch.ones(10).double())
        total += log_p.gather(1, (x[:, colour, y, column] * (levels - 1)).long()[:, None])[:, 0]
    log_p = m.log_likelihood(x, **given)
    assert torch.allclose(log_p, total, atol=1e-9)
    assert torch.allclose(log_p[3:4], m.log_likelihood(x[3:4], **labels(classes, 1)), atol=1e-12)


@ALL
@pytest.mark.parametrize(
    ("likelihood", "shape"), [("bernoulli", (1, 2, 2)), ("categorical", (2, 1, 2)), ("mixture", (2, 1, 2))]
)
def test_samples_follow_the_likelihood(name, likelihood, shape):
    m, every, n = model(name, likelihood, shape, scale=0.4), images(likelihood, shape), 20_000
    drawn = m.sample(n, torch.Generator().manual_seed(0)).flatten(1)
    counts = (drawn[:, None] == every.flatten(1)[None]).all(2).sum(0).double()
    assert counts.sum() == n
    expected = m.log_likelihood(every).exp().detach() * n
    often = expected > 5
    observed = torch.cat([counts[often], counts[~often].sum()[None]])
    wanted = torch.cat([expected[often], expected[~often].sum()[None]])
    some = wanted > 0
    assert chisquare(observed[some].numpy(), (wanted[some] * n / wanted[some].sum()).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize(
    ("likelihood", "shape", "classes"),
    [
        ("bernoulli", (1, 9, 7), 0),
        ("categorical", (3, 5, 8), 3),
        ("mixture", (3, 4, 4), 0),
        ("bernoulli", (1, 1, 12), 2),
    ],
)
def test_the_cached_walk_gives_the_naive_samples_and_outputs(name, likelihood, shape, classes):
    m = model(name, likelihood, shape, classes, scale=0.3)
    noise = torch.rand(5, *shape, dtype=torch.double)
    h = m.condition(torch.arange(5) % classes if classes else None, noise)
    known = torch.rand(5, *shape) < 0.3
    x = (torch.rand(5, *shape) < 0.5).double()
    for mask in (known, known & False):
        slow, fast = (complete(m.network, m.likelihood, x, mask, noise, h, cached) for cached in (False, True))
        assert torch.equal(slow, fast)
        assert torch.equal(slow[mask], x[mask])
    for one, other in zip(m.network.walk(x, h), naive(m.network, x, h), strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_members_take_turns_in_training_and_their_mean_is_measured():
    m = model("made, three masks and orders").train()
    x = images("bernoulli", (1, 3, 3))[200:210]
    each = [m.likelihood.log_prob(x, m.network.member(i)(x)) for i in range(3)]
    for update in range(5):
        m.updates = update
        assert torch.allclose(m.objective(x)["elbo"], each[update % 3])
    assert not torch.allclose(each[0], each[1])
    mean = torch.stack(each).exp().mean(0).log()
    assert torch.allclose(m.eval().objective(x)["elbo"], mean)
    assert len({tuple(order.tolist()) for order in m.network.orders}) == 3


def pixelcnnpp(likelihood, shape, classes=0):
    torch.manual_seed(0)
    network, adam = (
        partial(PixelCNNPlusPlus, width=4, blocks=2, levels=2 + (shape[1] > 4)),
        partial(torch.optim.Adam, lr=1e-3),
    )
    part = LIKELIHOODS[likelihood][0]
    m = Autoregressive(network, part, negative_log_likelihood, list(shape), adam, None, classes, classes > 0).double()
    for parameter in m.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return m.eval()


def test_pixelcnnpp_sums_to_one_sees_the_past_only_and_samples_from_its_cache():
    m = pixelcnnpp("bernoulli", (1, 4, 4))
    every = images("bernoulli", (1, 4, 4))
    assert abs(m.log_likelihood(every).exp().sum().item() - 1) < 1e-6
    for likelihood, shape, classes in (("bernoulli", (1, 8, 12), 2), ("mixture", (3, 8, 8), 0)):
        m = pixelcnnpp(likelihood, shape, classes)
        x, noise = (torch.rand(4, *shape, dtype=torch.double) for _ in range(2))
        h = m.condition(torch.arange(4) % classes if classes else None, x)
        pixels = shape[1] * shape[2]
        forward = partial(m.network, h=None if h is None else h[:1])
        jacobian = torch.autograd.functional.jacobian(forward, x[:1])
        seen = jacobian.abs().sum((0, 1, 4, 5)).view(pixels, pixels)
        assert seen.triu().max() == 0 and (seen.tril(-1)[1:].sum(1) > 0).all()
        slow, fast = (complete(m.network, m.likelihood, x, x < 0.1, noise, h, cached) for cached in (False, True))
        assert torch.equal(slow, fast)
    with pytest.raises(ValueError, match="logistic_mixture"):
        PixelCNNPlusPlus([3, 8, 8], outputs=3, groups=3)
    with pytest.raises(ValueError, match="levels=3"):
        PixelCNNPlusPlus([1, 6, 6])


def test_equal_noise_gives_equal_samples_whatever_lay_there():
    m = model("pixelcnn", shape=(1, 4, 4))
    x, noise = torch.rand(6, 1, 4, 4).double(), torch.rand(6, 1, 4, 4).double()
    nothing = torch.zeros_like(x, dtype=torch.bool)
    one, other = (complete(m.network, m.likelihood, image, nothing, noise) for image in (x, 1 - x))
    assert torch.equal(one, other)


def test_the_blind_spot_of_stacked_masked_convolutions_and_its_absence_in_the_gated():
    seen = {}
    for name in ("pixelcnn", "gated"):
        net = model(name, shape=(1, 13, 13)).network
        x = torch.rand(1, 1, 13, 13, dtype=torch.double, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(x)[0, 0, 8, 4], x)
        seen[name] = gradient[0, 0] != 0
    assert not seen["pixelcnn"][7, 8:].any() and seen["pixelcnn"][7, :8].all()
    assert not seen["pixelcnn"][6, 9 + 1 :].any()
    assert seen["gated"][7, :10].all() and seen["gated"][4, :10].all()


@pytest.mark.parametrize("make", [partial(MaskedConv2d, "B"), Above])
def test_weights_begin_with_variance_one_over_inputs(make):
    torch.manual_seed(0)
    layer = make(64, 64, 3)
    assert layer.weight.var().item() * layer.weight[0].numel() == pytest.approx(1, abs=0.05)


def test_what_cannot_be_built_is_said_in_words():
    with pytest.raises(ValueError, match="images"):
        Autoregressive(NETWORKS["made"], Bernoulli(), negative_log_likelihood, [2], torch.optim.Adam)
    with pytest.raises(ValueError, match="conditional=true"):
        Autoregressive(
            NETWORKS["made"], Bernoulli(), negative_log_likelihood, [1, 3, 3], torch.optim.Adam, conditional=True
        )
    with pytest.raises(ValueError, match="width=16"):
        PixelCNN([3, 8, 8], outputs=3, groups=3)
    with pytest.raises(ValueError, match="labels"):
        model("made", classes=2).objective(images("bernoulli", (1, 3, 3)))


def test_a_conditional_pixelvae_is_trained_measured_and_asked_for_labels_by_command():
    small = ["model.network.width=4", "model.network.blocks=1", "model.latent=2", "metric.likelihood.samples=5"]
    words = ["logger=csv", "metric=[likelihood,label_agreement]", "metric.label_agreement.samples=100", *small]
    assert dgm(["train", "model=pixelvae", "model.conditional=true", "trainer.max_epochs=1", *words]) == 0
    (run,) = find("outputs")
    assert run.values["iw_5"] > run.values["elbo"] and 0 <= run.values["label_accuracy"] <= 1
    assert list(run.folder.glob("samples/reconstructions_*.png"))


@pytest.mark.parametrize("name", ["fvsbn", "made", "pixelcnn", "gated_pixelcnn", "pixelrnn"])
def test_they_train_measure_and_sample_by_command(name):
    small = ["model.network.hidden=[16]"] if name == "made" else []
    small = ["model.network.width=4", "model.network.blocks=1"] if "pixelcnn" in name else small
    small = ["model.network.width=4", "model.network.layers=1"] if name == "pixelrnn" else small
    words = ["logger=csv", "metric=[likelihood]", "trainer.max_epochs=1", "data.binarise=dynamic", *small]
    assert dgm(["train", f"model={name}", "model.conditional=true", *words]) == 0
    (run,) = find("outputs")
    assert run.values["elbo"] == pytest.approx(-run.values["loss"]) and "iw_100" not in run.values
    assert run.result["likelihood"]["protocol"]["likelihood"] == "exact"
    assert dgm(["sample", f"run={run.folder}", "n=4"]) == 0
    assert dgm(["train", f"model={name}", "loss=elbo", *words]) == 1


def test_skewed_rows_hold_a_diagonal_per_column_and_come_back():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    skewed = skew(x)
    assert skewed.shape == (1, 2, 3, 6)
    assert all(skewed[0, 1, y, x0 + y] == x[0, 1, y, x0] for y in range(3) for x0 in range(4))
    assert skewed[0, 0, 2, :2].eq(0).all() and skewed[0, 0, 0, 4:].eq(0).all()
    assert torch.equal(unskew(skewed), x)


@pytest.mark.parametrize("classes", [0, 2])
def test_a_pixelvae_integrated_over_its_code_sums_to_one_and_hears_code_and_label(classes):
    torch.manual_seed(0)
    encoder, decoder = Encoder([1, 2, 3], 1, [8], heads=2), Decoder([4, 2, 3], 1, [8])
    parts = (encoder, decoder, partial(PixelCNN, width=4, blocks=1), 4, Bernoulli(), elbo, [1, 2, 3])
    adam, told = partial(torch.optim.Adam, lr=1e-3), {"classes": classes, "conditional": classes > 0}
    m = PixelVAE(*parts, adam, latent=1, **told).double()
    for parameter in [*m.network.parameters(), *m.decoder.parameters()]:
        torch.nn.init.normal_(parameter, std=0.7)
    every = images("bernoulli", (1, 2, 3))
    label = torch.ones(64, dtype=torch.long) if classes else None
    z = torch.linspace(-6, 6, 2001, dtype=torch.double)  # the one-dimensional prior, by quadrature
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z) + torch.log(z[1] - z[0])
    of = None if label is None else label[:1]
    log_p = torch.stack([(m.fit(x[None], z[:, None, None], of)[:, 0] + log_prior).logsumexp(0) for x in every])
    assert abs(log_p.exp().sum().item() - 1) < 1e-6
    at_zero, at_one = (m.fit(every[:1], torch.full((1, 1, 1), code).double(), of) for code in (0, 1))
    assert (at_zero - at_one).abs() > 0.01
    bound = m.objective(every, label)["elbo"]
    repeated = torch.stack([m.objective(every, label)["elbo"] for _ in range(200)])
    assert (repeated.mean(0) < log_p + 4 * repeated.std(0) / 200**0.5).all() and bound.shape == (64,)
    tight = m.log_likelihood(every, 3000, label)  # an importance-weighted bound comes near
    assert (log_p.exp() * (tight - log_p).abs()).sum() < 0.05  # on average over what the model draws
    decoded = m.decode(z[:3, None], None if label is None else label[:3])
    assert set(decoded.unique().tolist()) <= {0.0, 1.0}
    if classes:
        other = m.fit(every[:1], torch.zeros(1, 1, 1).double(), torch.zeros(1, dtype=torch.long))
        assert (at_zero - other).abs() > 0.01
        with pytest.raises(ValueError, match="give it labels"):
            m.decode(z[:3, None])
        assert m.sample(5).shape == (5, 1, 2, 3)


def test_labels_of_several_posterior_samples_stay_with_their_images():
    torch.manual_seed(0)
    encoder, decoder = Encoder([1, 2, 3], 1, [8], heads=2), Decoder([4, 2, 3], 1, [8])
    parts = (encoder, decoder, partial(PixelCNN, width=4, blocks=1), 4, Bernoulli(), elbo, [1, 2, 3])
    m = PixelVAE(*parts, torch.optim.Adam, latent=1, classes=3, conditional=True)
    x, z, label = torch.ones(3, 1, 2, 3), torch.randn(4, 3, 1), torch.arange(3)
    together = m.fit(x, z, label)
    alone = torch.stack([m.fit(x[i : i + 1], z[:, i : i + 1], label[i : i + 1])[:, 0] for i in range(3)], 1)
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_mixtures_of_logistics_sum_to_one_over_256_levels_and_are_what_is_scored(channels):
    torch.manual_seed(0)
    mixture = LogisticMixture(components=5)
    output = 2 * torch.randn(4, mixture.outputs(channels), 1, 1, dtype=torch.double)
    pixel = torch.randint(0, 256, (4, channels, 1, 1)).double() / 255
    total = torch.zeros(4, dtype=torch.double)
    for c in range(channels):
        log_p = mixture.conditional(output[:, :, 0, 0], pixel[:, :, 0, 0], c)
        assert torch.allclose(log_p.exp().sum(1), torch.ones(4).double(), atol=1e-10)
        total += log_p.gather(1, (pixel[:, c, 0, 0] * 255).round().long()[:, None])[:, 0]
    assert torch.allclose(mixture.log_prob(pixel, output), total, atol=1e-9)
