"""Known answers of the metrics, and parity with torch-fidelity itself."""

import math
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import nn

from dgm.cli.compose import compose
from dgm.cli.main import run as dgm
from dgm.configs import build
from dgm.data import digits
from dgm.data.binarise import stochastic
from dgm.data.sets import Arrays, fingerprint, whole
from dgm.images import bits_per_dim, inputs, quantise, unit
from dgm.metrics.cache import load_or_make, write
from dgm.metrics.classifier import chosen
from dgm.metrics.conditions import seeded
from dgm.metrics.features import Classifier, OwnClassifier
from dgm.metrics.inception import Inception
from dgm.metrics.likelihood import Likelihood
from dgm.metrics.quality import SampleQuality, blur, fid_inception
from dgm.metrics.statistics import (
    bootstrap,
    density_coverage,
    frechet,
    inception_score,
    kernel_distance,
    moments,
    precision_recall,
    squared_mmd,
)
from dgm.runs import find

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # two threads of OpenBLAS on a busy machine need six times as long for eigenvalues
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- statistics


def test_moments_are_numpys():
    x = noise(2500, 3) * 2 + 5
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)


def test_frechet_of_a_set_with_itself_is_zero():
    for n in (500, 5):  # of full rank, and singular
        stats = moments(noise(n, 20) * 3)
        assert frechet(*stats, *stats) < 1e-5


def test_frechet_of_gaussians_in_closed_form():
    # commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2 over the common axes
    rotation = torch.linalg.qr(noise(6, 6).double()).Q
    s1, s2 = torch.tensor([0, 1, 2, 3, 4, 5.0]).double(), torch.tensor([2, 0, 1, 3, 0, 7.0]).double()
    cov1, cov2 = ((rotation * s.square()) @ rotation.T for s in (s1, s2))
    m1, m2 = noise(6, seed=1).double(), noise(6, seed=2).double()
    exact = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert frechet(m1, cov1, m2, cov2) == pytest.approx(exact, rel=1e-6)


def test_frechet_of_gaussians_that_do_not_commute():
    # 2 x 2: tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))
    a, b = (x @ x.T for x in noise(2, 2, 2).double())
    root = (torch.trace(a @ b) + 2 * (a.det() * b.det()).sqrt()).sqrt()
    exact = float(a.trace() + b.trace() - 2 * root)
    zero = torch.zeros(2).double()
    assert frechet(zero, a, zero, b) == pytest.approx(exact, rel=1e-6)


def test_frechet_of_samples_nears_the_closed_form():
    x, y = noise(20_000, 3, seed=1), noise(20_000, 3, seed=2) * 2 + 1
    assert frechet(*moments(x), *moments(y)) == pytest.approx(3 + 3, rel=0.03)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2"):
        moments(noise(1, 3))


def test_squared_mmd_is_the_sum_over_pairs():
    x, y = noise(5, 3).double(), noise(5, 3, seed=1).double()

    def kernel(a, b):
        return float((a @ b / 3 + 1) ** 3)

    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs) / 20
    across = sum(kernel(a, b) for a in x for b in y) / 25
    assert squared_mmd(x, y) == pytest.approx(within - 2 * across, rel=1e-10)


def test_kernel_distance_is_unbiased_and_caps_its_subsets():
    same = kernel_distance(noise(400, 8), noise(400, 8, seed=1), subsets=50, subset_size=100)
    apart = kernel_distance(noise(400, 8), noise(300, 8, seed=1) + 1, subsets=50)
    assert abs(same.mean) < 3 * same.std / math.sqrt(8)  # 8 disjoint pairs of subsets
    assert apart.mean > 20 * abs(same.mean)


def test_kernel_distance_and_score_are_torch_fidelitys():
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = noise(300, 64).relu(), (noise(200, 64, seed=1) + 0.3).relu()
    theirs = kid_features_to_metric(x, y, kid_subsets=20, kid_subset_size=150, verbose=False, rng_seed=7)
    ours = kernel_distance(x, y, subsets=20, subset_size=150, seed=7)
    assert ours == pytest.approx(tuple(theirs.values()), rel=1e-4)
    logits = noise(123, 10) * 3
    assert inception_score(logits) == pytest.approx(tuple(isc_features_to_metric(logits).values()), rel=1e-9)


def test_inception_score_bounds():
    sure = F.one_hot(torch.arange(1000) % 10).float() * 1000
    assert inception_score(sure, splits=1).mean == pytest.approx(10, rel=1e-6)
    assert inception_score(torch.zeros(50, 10)).mean == pytest.approx(1, rel=1e-9)
    assert math.isfinite(inception_score(noise(3, 10)).mean)  # fewer samples than splits


def test_precision_and_recall_of_known_sets():
    left, right = noise(300, 4), noise(300, 4, seed=1) + 100
    both = torch.cat([left, right])
    assert precision_recall(left, left) == (1.0, 1.0)
    assert precision_recall(left, right) == (0.0, 0.0)
    precision, recall = precision_recall(both, left)  # a dropped mode
    assert precision == 1.0
    assert recall == 0.5


def test_precision_and_recall_are_torch_fidelitys():
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, fake = noise(1500, 6), noise(1200, 6, seed=1) * 1.3
    theirs = prc_features_to_metric(fake, real, prc_neighborhood=3, verbose=False, save_cpu_ram=False)
    assert precision_recall(real, fake) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_density_and_coverage_of_known_sets():
    left, far = noise(1200, 4), noise(1200, 4, seed=1) + 100
    assert density_coverage(left, left) == (1.0, 1.0)
    assert density_coverage(left, far) == (0.0, 0.0)
    # Naeem et al., 2020, lemmas 1 and 2: of equal distributions and sizes, 1 and about 1 - 2^-k
    density, coverage = density_coverage(left, noise(1200, 4, seed=2))
    assert density == pytest.approx(1, abs=0.06)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_bootstrap_covers_a_known_mean():
    intervals = [bootstrap(noise(100, seed=i) + 2, draws=300, seed=i) for i in range(100)]
    covered = sum(low <= 2 <= high for low, high in intervals)
    assert 88 <= covered <= 99
    low, high = bootstrap(noise(10_000, seed=1), level=0.95)
    assert high - low == pytest.approx(2 * 1.96 / 100, rel=0.1)


# ---------------------------------------------------------------- parity with torch-fidelity


SIZES = [(8, 3), (28, 1), (32, 3), (64, 3), (299, 3)]  # pixels, channels


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory) -> str:
    """torch-fidelity's architecture with random weights, normalised so that features differ."""
    import torch_fidelity.feature_extractor_inceptionv3 as theirs

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(net.fc.weight, std=0.05)
    with torch.no_grad():
        for module in net.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # mean over all that is seen
        for i, (size, _) in enumerate(SIZES):
            net(torch.cat([pictures(1, size, seed=5 + i), pictures(1, size, seed=50 + i) // 4]))
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(net.eval().state_dict(), path)
    return str(path)


def pictures(n: int, size: int, seed: int, channels: int = 3) -> torch.Tensor:
    """Smooth patterns with some noise: [n, channels, size, size], uint8."""
    coarse = F.interpolate(noise(n, channels, 4, 4, seed=seed), size=(size, size), mode="bicubic")
    return quantise(0.5 + 0.25 * coarse + 0.02 * noise(n, channels, size, size, seed=seed + 1))


class Pictures(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.parametrize(("size", "channels"), SIZES)
def test_fid_kid_and_score_are_torch_fidelitys(inception_weights, size, channels):
    import torch_fidelity

    x, y = pictures(4, size, 10, channels), pictures(4, size, 20, channels) // 4
    sets = [Pictures(images.expand(-1, 3, -1, -1)) for images in (x, y)]
    options = {"feature_extractor_weights_path": inception_weights, "kid_subset_size": 3, "kid_subsets": 10}
    theirs = torch_fidelity.calculate_metrics(
        input1=sets[0], input2=sets[1], fid=True, kid=True, isc=True, isc_splits=2, cuda=False, batch_size=4,
        verbose=False, save_cpu_ram=True, cache=False, **options,
    )  # fmt: skip
    extractor = Inception(inception_weights)
    (features, logits), (others, _) = extractor(x), extractor(y)
    ours = {
        "frechet_inception_distance": frechet(*moments(features), *moments(others)),
        "kernel_inception_distance_mean": kernel_distance(features, others, 10, 3).mean,
        "kernel_inception_distance_std": kernel_distance(features, others, 10, 3).std,
        "inception_score_mean": inception_score(logits, 2).mean,
        "inception_score_std": inception_score(logits, 2).std,
    }
    assert theirs["frechet_inception_distance"] > 0.1
    assert theirs["inception_score_mean"] > 1.05
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_inception_restores_the_noise_and_knows_its_weights(inception_weights):
    state, extractor = torch.get_rng_state(), Inception(inception_weights)
    assert extractor.network is None  # nothing is read before its first use
    first = extractor.fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    assert first == Inception(inception_weights).fingerprint != ""
    assert extractor.protocol["resize"] == "tf1-bilinear 299"


def test_missing_inception_weights_are_one_sentence(tmp_path, monkeypatch):
    named = fid_inception(str(tmp_path), weights=str(tmp_path / "none.pth"))
    with pytest.raises(FileNotFoundError, match=r"metric.fid_inception.weights=.*none.pth: no such file; give"):
        named.features.check()
    monkeypatch.delenv("DGM_INCEPTION", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    fid_inception(str(tmp_path)).features.check()
    with pytest.raises(FileNotFoundError, match=r"metric.fid_inception.weights=null: .*no route.*DGM_INCEPTION"):
        Inception()(pictures(1, 8, 0))


def test_a_file_that_is_not_inception_is_one_sentence(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"metric.fid_inception.weights=.*not torch-fidelity's Inception") as caught:
        Inception(str(path))(pictures(1, 8, 0))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- classifier


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Source:
    """The data module's part that metrics use."""

    name, classes, binarise = "digits", 10, "none"

    def __init__(self, train, test):
        self.splits = {"train": train, "test": test}
        self.reads = []

    def raw(self, split):
        self.reads.append(split)
        return self.splits[split]

    def set(self, split):
        return self.splits[split]

    def size(self, split):
        return len(self.splits[split])

    def fingerprint(self):
        return fingerprint(self.splits["train"]) + fingerprint(self.splits["test"])


def test_digits_classifier_is_good_repeatable_and_kept(cache, tmp_path):
    data, said = Source(*digits.load()), []
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = OwnClassifier().ready(data, cache, said.append)
    assert first.accuracy >= 0.95
    assert "training" in said[0]
    assert f"{first.accuracy:.2%}" in said[1]
    said.clear()
    again = OwnClassifier().ready(data, cache, said.append)
    assert len(said) == 1  # not trained again
    assert again.fingerprint == first.fingerprint
    assert again.accuracy == first.accuracy
    torch.manual_seed(4)
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)
    fresh = OwnClassifier().ready(data, tmp_path, None)
    assert fresh.fingerprint == first.fingerprint  # whatever the caller's noise
    assert torch.equal(torch.get_rng_state(), state)
    features, logits = first(whole(data.raw("test"), 7)["image"])
    assert features.shape == (7, 64)
    assert logits.shape == (7, 10)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (1, 28, 28), (3, 64, 64), (2, 5, 40)])
def test_classifier_takes_any_shape(shape, tmp_path, monkeypatch):
    monkeypatch.setattr("dgm.metrics.classifier.UPDATES", 1)
    images, labels = quantise(noise(20, *shape)), torch.arange(20) % 3
    made = Classifier.fit_or_load(images, labels, images, labels, "key", tmp_path)
    assert [part.shape for part in made(images)] == [(20, 64), (20, 3)]


def test_an_unlabelled_set_has_no_classifier(tmp_path):
    rows = Arrays({"image": quantise(noise(9, 1, 8, 8))})
    with pytest.raises(ValueError, match=r"data=digits has no labels.*fid_inception"):
        OwnClassifier().ready(Source(rows, rows), tmp_path)


# ---------------------------------------------------------------- cache


def test_a_damaged_cache_is_made_again(tmp_path):
    path = tmp_path / "deep" / "entry.pt"
    assert load_or_make(path, lambda: {"a": 1}) == {"a": 1}
    assert load_or_make(path, lambda: {"a": 2}) == {"a": 1}
    path.write_bytes(path.read_bytes()[:40])
    assert load_or_make(path, lambda: {"a": 3}) == {"a": 3}
    assert load_or_make(path, lambda: {"a": 4}) == {"a": 3}
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == ["entry.pt"]


def test_a_cache_that_takes_no_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cache=.*cannot be written.*set cache"):
        write(tmp_path / "file" / "entry.pt", {})


# ---------------------------------------------------------------- sample quality


class Replay(nn.Module):
    """Draws images it was given, in their order or by the generator."""

    def __init__(self, images, shuffle=False):
        super().__init__()
        self.images, self.shuffle, self.at = unit(images), shuffle, 0

    def sample(self, n, generator=None):
        if self.shuffle:
            return self.images[torch.randint(len(self.images), (n,), generator=generator)]
        self.at += n
        return self.images[self.at - n : self.at]


def test_quality_of_the_training_images_is_perfect_and_statistics_are_cached(cache):
    data = Source(*digits.load())
    train = whole(data.raw("train"))["image"]
    metric = SampleQuality(OwnClassifier(), str(cache), samples=len(train))
    report = metric(Replay(train), data, CPU)
    values = report.values
    assert values["fid_classifier"] < 1e-4
    assert values["precision_classifier"] == values["recall_classifier"] == values["coverage_classifier"] == 1
    assert 0 < values["fid_classifier_floor"] < values["fid_classifier_scale"]
    assert 5 < values["inception_score_classifier"] <= 10
    assert report.protocol["n_real"] == report.protocol["n_fake"] == len(train)
    assert report.protocol["extractor"] == "classifier"
    seen = []
    metric._measured = lambda *_: seen.append(1)
    assert metric(Replay(train), data, CPU) == report
    assert not seen


def test_quality_of_test_images_is_the_floor_and_of_noise_beyond_the_scale(cache):
    data = Source(*digits.load())
    test = whole(data.raw("test"))["image"]
    metric = SampleQuality(OwnClassifier(), str(cache))
    floor = metric(Replay(test), data, CPU).values
    assert floor["fid_classifier"] == pytest.approx(floor["fid_classifier_floor"], rel=1e-6)
    scale = metric(Replay(quantise(blur(unit(test)))), data, CPU).values
    assert scale["fid_classifier"] == pytest.approx(scale["fid_classifier_scale"], rel=1e-6)
    static = metric(Replay(quantise(noise(360, 1, 8, 8))), data, CPU).values
    assert static["fid_classifier"] > static["fid_classifier_scale"]
    assert static["kid_classifier"] > floor["kid_classifier"]
    assert static["coverage_classifier"] < floor["coverage_classifier"]


def test_quality_of_binary_images_has_a_floor_of_its_own(cache):
    data = Source(*digits.load())
    binary = stochastic(whole(data.raw("test"))["image"], torch.Generator().manual_seed(0))
    data.binarise, data.set = "static", lambda split: Arrays({"image": binary})
    values = SampleQuality(OwnClassifier(), str(cache))(Replay(binary), data, CPU).values
    assert values["fid_classifier"] == pytest.approx(values["fid_classifier_binarised_floor"], rel=1e-6)
    assert values["fid_classifier_binarised_floor"] > 2 * values["fid_classifier_floor"]


def test_terms_that_depend_on_the_size_of_the_training_set_are_measured_with_it():
    config = compose("train", ["model=beta_tcvae", "data.binarise=none", "model.latent=2"])
    torch.manual_seed(0)
    model, data = build(config["model"]), build(config["data"])
    with torch.no_grad():
        model.encoder.layers[-1].weight[:2].mul_(100)  # means apart, so that codes say much of the image

    def correlation(size):
        model.data_size, parts = size, []
        for index, rows in enumerate(torch.arange(360).split(120)):
            with torch.no_grad(), seeded(CPU, 0, 0, index):
                parts.append(model.eval().objective(inputs(data.set("test").fetch(rows)))["total_correlation"])
        return torch.cat(parts).mean().item()

    right, wrong = correlation(data.size("train")), correlation(1)
    report = Likelihood(samples=1, batch_size=120)(model, data, CPU)
    assert report.values["total_correlation"] == pytest.approx(right, abs=1e-3) and abs(right - wrong) > 0.1
    assert report.protocol["batch_size"] == 120


def test_points_have_no_bits_per_dimension(tmp_path):
    words = ["data=density", "model=vae", "likelihood=gaussian", "metric=[likelihood]", "logger=csv", "data.val=50"]
    assert (
        dgm(
            [
                "train",
                *words,
                "trainer.max_epochs=1",
                "metric.likelihood.samples=1",
                "data.source.n=200",
                "data.source.test=50",
            ]
        )
        == 0
    )
    (run,) = find("outputs")
    named = {*run.values, *(row["name"] for row in run.curve())}
    assert "elbo" in run.values and not any("bits" in name for name in named)


def test_quality_against_test_images_is_nothing_for_them_and_says_so(cache):
    data = Source(*digits.load())
    test = whole(data.raw("test"))["image"]
    report = SampleQuality(OwnClassifier(), str(cache), reference="test")(Replay(test), data, CPU)
    assert report.values["fid_classifier"] < 1e-4 and report.protocol["reference"] == "test"
    assert report.protocol["n_real"] == len(test)
    train = SampleQuality(OwnClassifier(), str(cache))(Replay(test), data, CPU)
    assert train.values["fid_classifier"] == pytest.approx(report.values["fid_classifier_floor"], rel=1e-6)
    with pytest.raises(ValueError, match=r"data\.val=0"):
        SampleQuality(OwnClassifier(), str(cache), reference="val").refuse(Replay(test), SimpleNamespace(val=0))


def test_while_it_trains_a_game_is_compared_with_validation_images(cache):
    words = ["data.val=300", "callbacks=[quality]", "callbacks.quality.metric.samples=300", f"cache='{cache}'"]
    config = compose("train", words)
    data, judge = build(config["data"]), build(config["callbacks"]["quality"])
    val = whole(data.raw("val"))["image"]
    assert judge.metric(Replay(val), data, CPU).values["fid_classifier"] < 1e-4


def test_quality_is_repeatable_and_leaves_the_model_and_the_noise_alone(cache):
    data = Source(*digits.load())
    model = Replay(whole(data.raw("test"))["image"], shuffle=True)
    model.train()
    state = torch.get_rng_state()
    metric = SampleQuality(OwnClassifier(), str(cache), samples=100, seed=1)
    first = metric(model, data, CPU)
    assert metric(model, data, CPU) == first
    assert SampleQuality(OwnClassifier(), str(cache), samples=100, seed=2)(model, data, CPU).values != first.values
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_quality_refuses_in_one_sentence(cache):
    data = Source(*digits.load())
    metric = SampleQuality(OwnClassifier(), str(cache), samples=4)

    class Autoencoder(nn.Module):
        pass

    with pytest.raises(TypeError, match=r"Autoencoder cannot sample, .*leave fid out"):
        metric(Autoencoder(), data, CPU)
    with pytest.raises(ValueError, match=r"samples=1: .*at least 2"):
        SampleQuality(OwnClassifier(), str(cache), samples=1)
    broken = Replay(whole(data.raw("test"))["image"])
    broken.images = broken.images * float("nan")
    with pytest.raises(ValueError, match="not finite"):
        metric(broken, data, CPU)
    points = Arrays({"point": noise(9, 2)})
    with pytest.raises(ValueError, match="has points, not images"):
        metric(broken, Source(points, points), CPU)


def test_blur_keeps_a_constant_and_spreads_a_point():
    assert torch.allclose(blur(torch.full((1, 2, 5, 5), 0.3)), torch.tensor(0.3))
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 1
    expected = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert torch.allclose(blur(point)[0, 0, 1:4, 1:4], expected)


def test_chosen_rows_are_all_or_a_seeded_draw():
    assert chosen(5, 5).tolist() == [0, 1, 2, 3, 4]
    rows = chosen(100, 10)
    assert len(rows.unique()) == 10
    assert torch.equal(rows, chosen(100, 10))
    assert rows.tolist() != chosen(100, 10, seed=1).tolist()


# ---------------------------------------------------------------- likelihood


class Exact(nn.Module):
    """A model whose every answer is a function of the image; optionally with noise."""

    levels, likelihood_kind = 0, "lower bound"

    def __init__(self, noisy=False):
        super().__init__()
        self.noisy, self.drop = noisy, nn.Dropout(0.5)

    def objective(self, x):
        kl = self.drop(x.flatten(1).mean(1))
        kl = kl + torch.randn(len(x)) if self.noisy else kl
        fit = x.flatten(1).square().sum(1)
        return {"reconstruction": fit, "kl": kl, "elbo": -fit - kl, "loss": fit + 4 * kl}

    def posterior(self, x):
        mu = torch.stack([x.flatten(1).sum(1), 0.05 * torch.ones(len(x)), x[:, 0, 0, 0] * 0], 1)
        return mu, torch.zeros_like(mu)

    def log_likelihood(self, x, samples):
        return -x.flatten(1).sum(1) + 0.1 * samples


def test_likelihood_is_the_mean_over_images_whatever_the_batch():
    data = Source(*digits.load())
    x = unit(whole(data.raw("test"))["image"])
    reports = [Likelihood(samples=3, batch_size=size)(Exact(), data, CPU) for size in (7, 100, 360)]
    for report in reports:
        assert report.values == pytest.approx(reports[0].values, rel=1e-9)
        assert report.arrays["kl_dim"] == pytest.approx(reports[0].arrays["kl_dim"], rel=1e-6)
    values, total = reports[0].values, x.flatten(1).sum(1).double()
    elbo = -float((x.flatten(1).square().sum(1) + x.flatten(1).mean(1)).double().mean())
    assert values["elbo"] == pytest.approx(elbo, rel=1e-6)
    assert values["elbo_low"] < values["elbo"] < values["elbo_high"]
    assert values["bits_per_dim"] == pytest.approx(bits_per_dim(-elbo, 64), rel=1e-6)
    assert values["iw_3"] == pytest.approx(float(-total.mean()) + 0.3, rel=1e-6)
    assert values["iw_3_low"] < values["iw_3"] < values["iw_3_high"]
    assert values["active_units"] == 1  # the first varies, the others do not
    known = [float(total.square().mean()) / 2, 0.05**2 / 2, 0.0]
    assert reports[0].arrays["kl_dim"] == pytest.approx(known, rel=1e-5)
    assert reports[0].protocol["n"] == 360


def test_likelihood_repeats_its_noise_and_leaves_the_callers_alone():
    data, model = Source(*digits.load()), Exact(noisy=True)
    state = torch.get_rng_state()
    first = Likelihood()(model, data, CPU)
    assert Likelihood()(model, data, CPU) == first
    assert Likelihood(seed=1)(model, data, CPU).values["kl"] != first.values["kl"]
    assert torch.equal(torch.get_rng_state(), state)
    assert model.drop.training


def test_the_bound_is_taken_over_a_fixed_draw_of_images():
    data = Source(*digits.load())
    x = unit(whole(data.raw("test"))["image"]).flatten(1).sum(1).double()
    report = Likelihood(samples=1, images=50, seed=3)(Exact(), data, CPU)
    assert report.values["iw_1"] == pytest.approx(0.1 - float(x[chosen(360, 50, 3)].mean()), rel=1e-6)
    assert report.protocol["bound_images"] == 50


def test_a_plain_autoencoder_reports_its_terms_only():
    class Autoencoder(nn.Module):
        def objective(self, x):
            return {"reconstruction": x.flatten(1).sum(1), "loss": x.flatten(1).sum(1)}

    data = Source(*digits.load())
    assert set(Likelihood()(Autoencoder(), data, CPU).values) == {"reconstruction", "loss"}
    with pytest.raises(TypeError, match="Identity has no objective"):
        Likelihood()(nn.Identity(), data, CPU)
