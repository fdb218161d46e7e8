"""Every figure of the configuration tree is drawn by the user's command; its numbers hold known facts."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from dgm.cli.figure import opened
from dgm.cli.main import run
from dgm.configs import folder
from dgm.figures import interpolation
from dgm.figures.blur import spectrum
from dgm.figures.bottleneck import fit_pca
from dgm.figures.ladder import gaussian, histograms, ngram
from dgm.figures.learning_curves import smoothed
from dgm.figures.manifold import coverage, neighbour_distance
from dgm.figures.neighbours import copying, nearest
from dgm.figures.reading import Images, groups_of, spread
from dgm.figures.samples import draw as draw_samples
from dgm.figures.traversal import pixel_change
from dgm.runs import Run, find, write_json

GAMES = {"generator_losses", "loss_zoo", "mode_counts", "modes", "points_on_a_line", "transformer"}
GAMES |= {"vector_arithmetic", "wasserstein_lines"}  # tests/test_game_figures.py, tests/test_gan.py
FIGURES = sorted({path.stem for path in (folder() / "figure").glob("*.yaml")} - GAMES)
TINY = [
    "data=digits",
    "data.binarise=none",
    "logger=csv",
    "metric=[likelihood]",
    "metric.likelihood.samples=2",
]
TINY += ["trainer.max_epochs=2", "model.encoder.hidden=[32]", "model.decoder.hidden=[32]"]
MANY = {"blur": "betas", "bottleneck": "autoencoders", "rate_distortion": "betas", "completeness": "betas"}
MANY |= {"learning_curves": "betas"}
PIXELS = ("completions", "generation", "sampling_time", "shuffled")
WORDS = {"sampling_time": ["figure.sizes=[4,8]", "figure.n=3", "figure.passes=1"]}
WORDS |= {"learning_curves": ["figure.metric=val/loss"]}
WORDS |= {"receptive_field": ["figure.row=6", "figure.column=1"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tiny runs: autoencoders of two sizes, and VAEs of two latents with two values of beta."""
    out = tmp_path_factory.mktemp("runs")
    for latent in (2, 5):
        train(out / "autoencoders", "model=autoencoder", f"model.latent={latent}", "metric=[]")
    for beta in (0, 1):
        train(out / "betas", "model=beta_vae", "model.latent=2", f"loss.beta={beta}")
    train(out / "wide", "model=vae", "model.latent=4", "metric=[]")
    return out


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Tiny autoregressive models, one of them conditional on the labels."""
    out = tmp_path_factory.mktemp("pixels")
    for model, *words in (("pixelcnn", "model.network.blocks=2"), ("gated_pixelcnn", "model.conditional=true")):
        small = ["model.network.width=8", "data.binarise=dynamic", "trainer.max_epochs=12", "optimizer.lr=0.01"]
        train(out, f"model={model}", *small, *words, bare=True)
    return out


def train(out, *words, bare=False):
    kept = [word for word in TINY if not ("metric=[]" in words and word.startswith("metric"))]
    kept = ["logger=csv", "metric=[likelihood]"] if bare else kept
    assert run(["train", *kept, *words, f"out={out}"]) == 0


def figure(name, path, out, *words):
    return run(["figure", f"figure={name}", f"run='{path}'", f"out='{out}'", f"cache='{out}/cache'", *words])


@pytest.fixture(scope="module")
def drawn(home, pixels, tmp_path_factory):
    """name -> (picture, numbers), each drawn once when it is asked for."""
    out, done = tmp_path_factory.mktemp("figures"), {}

    def get(name):
        if name not in done:
            path = home / MANY[name] if name in MANY else find(home / "betas")[-1].folder
            path = pixels if name in ("receptive_field", "ladder", "training_step") else path
            path = find(pixels)[-1].folder if name in PIXELS else path
            assert figure(name, path, out, *WORDS.get(name, [])) == 0
            done[name] = out / f"{name}.png", json.loads((out / f"{name}.json").read_text())
        return done[name]

    return get


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(drawn, name, capsys):
    picture, numbers = drawn(name)
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.std() > 5 and min(pixels.shape) > 100
    assert numbers and "NaN" not in json.dumps(numbers)
    assert not list(picture.parent.glob(".*"))  # no drafts are left


def test_prints_paths_and_key_numbers(home, tmp_path, capsys):
    assert figure("samples", find(home / "betas")[0].folder, tmp_path, "figure.n=4", "format=svg") == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/samples.svg" in said and "mean intensity data:" in said


def test_goes_into_the_run_by_default(home, capsys):
    path = find(home / "wide")[0].folder
    assert run(["figure", "figure=samples", f"run={path}"]) == 0  # as `dgm train` prints it, unquoted
    assert (path / "figures" / "samples.png").is_file() and (path / "figures" / "samples.json").is_file()


def test_training_steps_are_of_each_model_and_compared_with_the_fastest(drawn, pixels):
    _, numbers = drawn("training_step")
    sizes = {sum(p.numel() for p in one.model().parameters()) for one in find(pixels)}
    assert {row["parameters"] for row in numbers["steps"]} == sizes and len(sizes) == 2
    fastest, other = numbers["steps"]
    assert fastest["over_fastest"] == 1 <= other["over_fastest"] == other["seconds"] / fastest["seconds"]


def test_runs_are_told_apart_by_what_only_some_of_them_set():
    told = [{"loss.beta": "2", "seed": "0"}, {"seed": "0"}, {"seed": "1"}]
    runs = [SimpleNamespace(overrides=overrides) for overrides in told]
    assert groups_of(runs) == {"beta=2": runs[:1], "all": runs[1:]}


def test_learning_curves_hold_means_of_what_was_logged(drawn, home, capsys):
    _, numbers = drawn("learning_curves")
    runs = find(home / "betas")
    assert [curve["run"] for curve in numbers["curves"]] == [run.folder.name for run in runs]
    logged = [float(row["value"]) for row in runs[0].curve() if row["name"] == "val/loss"]
    assert [value for _, value in numbers["curves"][0]["updates_and_values"]] == logged and len(logged) == 2
    points, window = smoothed(runs[0], "val/loss", 2)
    assert points.tolist() == [[22, pytest.approx(sum(logged) / 2)]] and window == 2
    assert smoothed(runs[0], "val/loss")[1] == 1  # two values are no curve to take means of
    assert figure("learning_curves", home / "betas", home, "figure.metric=val/los") == 1
    assert "Did you mean val/loss?" in capsys.readouterr().err


def test_reconstruction_errors(drawn, home):
    _, numbers = drawn("reconstructions")
    model, data = (source() for source in (find(home / "betas")[-1].model, find(home / "betas")[-1].data))
    x = data.set("test").tensors["image"].double() / 255
    with torch.no_grad():
        error = (model.decode(model.encode(x.float())) - x).square().sum((1, 2, 3))
    assert numbers["images"] == 360
    assert numbers["mean_squared_error"] == pytest.approx(error.mean().item(), rel=1e-5)
    assert numbers["squared_error_of_shown"] == pytest.approx(error[numbers["shown"]].tolist(), rel=1e-4)
    assert data.set("test").tensors["label"][numbers["shown"][:10]].tolist() == list(range(10))


def test_samples_repeat(home):
    one = find(home / "betas")[-1]
    assert draw_samples(one, n=9).numbers == draw_samples(one, n=9).numbers
    assert draw_samples(one, n=9, seed=1).numbers != draw_samples(one, n=9).numbers


def test_manifold_lies_at_prior_quantiles(drawn):
    _, numbers = drawn("manifold")
    normal = torch.distributions.Normal(0, 1).cdf(torch.tensor(numbers["values"]))
    assert len(numbers["values"]) == 20
    assert normal.tolist() == pytest.approx(numbers["quantiles"], abs=1e-5)
    assert 0 < numbers["neighbour_over_random"] < 0.5


def test_manifold_wants_two_latents(home, tmp_path, capsys):
    assert figure("manifold", find(home / "wide")[0].folder, tmp_path) == 1
    assert "model.latent=2" in capsys.readouterr().err


def test_classes_on_a_manifold_are_counted():
    assert coverage(torch.tensor([[0, 0], [0, 3]])) == {"classes_covered": 2, "label_changes": 0.5}


def test_neighbours_are_beside_and_below():
    images = torch.arange(3.0).view(3, 1, 1, 1, 1) * 2 + torch.arange(3.0).view(1, 3, 1, 1, 1)
    assert neighbour_distance(images) == pytest.approx(1.5)  # 2 down, 1 to the right


def test_traversal_is_ordered_by_kl(drawn, home):
    _, numbers = drawn("traversal")
    kl = [numbers["kl"][d] for d in numbers["order"]]
    assert kl == sorted(kl, reverse=True)
    measured = find(home / "betas")[-1].result["likelihood"]["arrays"]["kl_dim"]
    assert numbers["kl"] == pytest.approx(measured, rel=1e-4)
    assert numbers["values"][0] == -3 and numbers["values"][-1] == 3


class Unused:
    """A decoder that looks at the first latent only."""

    def decode(self, z):
        return z[:, :1].sigmoid().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_pixel_change_of_a_known_decoder():
    z, values = torch.tensor([[0.0, 1.0]]), torch.tensor([-1.0, 2.0])
    there = (values.sigmoid() - 0.5).square().mean().item()
    assert pixel_change(Unused(), z, values).tolist() == pytest.approx([there, 0.0])


def test_paths_start_and_end_at_the_codes():
    a, b, t = torch.randn(5, 7), torch.randn(5, 7), torch.linspace(0, 1, 6)
    for path in (interpolation.linear(a, b, t), interpolation.spherical(a, b, t)):
        torch.testing.assert_close(path[:, 0], a, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(path[:, -1], b, atol=1e-5, rtol=1e-5)


def test_spherical_stays_on_the_sphere():
    a, b = torch.nn.functional.normalize(torch.randn(2, 4, 3), dim=-1)
    path = interpolation.spherical(a, b, torch.linspace(0, 1, 9))
    torch.testing.assert_close(path.norm(dim=-1), torch.ones(4, 9))
    angles = torch.linalg.vecdot(path[:, 1:], path[:, :-1]).clamp(-1, 1).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand_as(angles), atol=2e-3, rtol=1e-2)
    straight = interpolation.spherical(a, 2 * a, torch.tensor([0.5]))[:, 0]
    torch.testing.assert_close(straight, 1.5 * a)


def test_cross_fade_is_even(drawn):
    _, numbers = drawn("interpolation")
    assert numbers["max_over_mean_step_cross-fade"] == pytest.approx(1, abs=1e-3)
    assert numbers["max_over_mean_step_linear"] >= 1 and numbers["max_over_mean_step_spherical"] >= 1


def test_scatter_of_two_latents_shows_all_variance(drawn):
    _, numbers = drawn("latent_scatter")
    assert numbers["share_of_variance"] == pytest.approx(1)
    assert numbers["mean_posterior_sd"] == pytest.approx(np.mean(numbers["mean_posterior_sd_each"]), rel=1e-5)


def test_scatter_of_plain_codes(home, tmp_path):
    assert figure("latent_scatter", find(home / "autoencoders")[-1].folder, tmp_path) == 0
    share = json.loads((tmp_path / "latent_scatter.json").read_text())["share_each"]
    assert share == sorted(share, reverse=True) and sum(share) == pytest.approx(1, abs=1e-5)


def test_pca_equals_scikit_learn(drawn, home):
    _, numbers = drawn("bottleneck")
    data = find(home / "autoencoders")[0].data()
    train, test = (data.set(s).tensors["image"].flatten(1).double().numpy() / 255 for s in ("train", "test"))
    errors = [size["pca"] for size in numbers["sizes"]]
    assert [size["latent"] for size in numbers["sizes"]] == [2, 5]
    assert errors[0] > errors[1]
    for size, error in zip(numbers["sizes"], errors, strict=True):
        pca = PCA(size["latent"], svd_solver="full").fit(train)
        again = pca.inverse_transform(pca.transform(test))
        assert error == pytest.approx(((test - again) ** 2).sum(1).mean(), rel=1e-5)


def test_pca_of_all_components_loses_nothing(home):
    data = find(home / "autoencoders")[0].data()
    x = data.set("test").tensors["image"].float() / 255
    torch.testing.assert_close(fit_pca(data.set("train")).reconstruct(x, 64), x, atol=1e-5, rtol=1e-5)


def test_rate_and_distortion_are_those_measured(drawn, home):
    _, numbers = drawn("rate_distortion")
    for point, one in zip(numbers["runs"], find(home / "betas"), strict=True):
        assert (point["rate"], point["distortion"]) == (one.values["kl"], one.values["reconstruction"])
    beta, rate = ([point[name] for point in numbers["runs"]] for name in ("beta", "rate"))
    assert numbers["spearman_over_runs"]["rate"] == pytest.approx(spearmanr(beta, rate).statistic)


def test_rate_distortion_names_what_was_not_measured(home, tmp_path, capsys):
    assert figure("rate_distortion", home / "wide", tmp_path) == 1
    assert "metric=[likelihood]" in capsys.readouterr().err


def test_unlike_runs_are_refused(home, tmp_path, capsys):
    assert figure("bottleneck", home, tmp_path) == 1
    assert "model._target_" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_what_a_model_cannot_do_is_one_sentence(home, tmp_path, capsys):
    assert figure("traversal", find(home / "autoencoders")[0].folder, tmp_path) == 1
    said = capsys.readouterr().err
    assert "lacks posterior" in said and said.count("\n") == 1


def test_completeness_is_measured(drawn):
    _, numbers = drawn("completeness")
    assert [row["beta"] for row in numbers["betas"]] == [0, 1]
    for row in numbers["betas"]:
        assert 0.1 <= row["confidence"]["mean"] <= 1 and 1 <= row["classes"]["mean"] <= 10 + 1e-5
    unregularised, regularised = numbers["betas"]
    assert unregularised["mean_posterior_sd"]["mean"] < regularised["mean_posterior_sd"]["mean"]


def test_only_finished_runs_are_compared(tmp_path):
    for name, state in (("a", "done"), ("b", "failed")):
        write_json(tmp_path / name / "config.yaml", {})
        Run(tmp_path / name).mark(state)

    def draw(runs: list[Run]) -> None: ...

    assert [one.folder.name for one in opened(draw, str(tmp_path), "f")[0]] == ["a"]


def test_varied_takes_all_classes_in_turn():
    label = torch.tensor([1, 1, 0, 2, 0])
    assert Images(torch.zeros(5, 1, 2, 2), label).varied(4).tolist() == [2, 0, 3, 4]
    assert Images(torch.zeros(5, 1, 2, 2), None).varied(2).tolist() == [0, 1]


def test_spread_over_seeds():
    assert spread([1.0, 3.0]) == {"mean": 2.0, "sd": pytest.approx(2**0.5), "seeds": 2}
    assert spread([1.0])["sd"] == 0


def test_help_lists_all_figures(capsys):
    assert run(["figure", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in FIGURES)


@pytest.mark.parametrize("words", [["figure.n=0"], ["figure.colums=3"], ["format=gif"], ["figure=sampels"]])
def test_bad_input_is_one_sentence(home, tmp_path, capsys, words):
    assert figure("samples", find(home / "wide")[0].folder, tmp_path, *words) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and words[0].split("=")[0].removeprefix("figure.") in said
    assert not Path(tmp_path / "samples.json").exists()


def test_the_blind_spot_is_found_in_the_plain_network_only(drawn):
    numbers = drawn("receptive_field")[1]
    assert numbers["blind_PixelCNN"] > 0 and numbers["blind_GatedPixelCNN"] == 0


def test_completions_keep_what_is_given_and_the_ladder_holds_what_runs_measured(drawn, pixels):
    assert drawn("completions")[1]["changed_given_values"] == 0
    rungs = {row["name"]: row["nats"]["mean"] for row in drawn("ladder")[1]["rungs"]}
    measured = {-run.values["elbo"] for run in find(pixels)}
    assert measured < set(rungs.values()) and rungs["uniform"] == pytest.approx(64 * np.log(2))
    assert rungs["independent pixels"] < rungs["uniform"]


def test_shuffled_pixels_are_less_likely(drawn):
    numbers = drawn("shuffled")[1]
    assert numbers["nats_one_permutation"] > numbers["nats_images"] + 1


def test_blurred_images_have_less_power_where_frequencies_are_high():
    sharp = torch.rand(50, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    one, other = spectrum(sharp), spectrum(smooth)
    assert (other[4:] < 0.5 * one[4:]).all()
    assert one[1:].std() / one[1:].mean() < 0.2  # noise is white: 1/12 at each frequency
    assert one[1:].mean().item() == pytest.approx(1 / 12, rel=0.05)


def test_a_copier_is_flagged_and_an_honest_model_is_not():
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    mix = draw(8, 64)
    train, test, honest = ((draw(n, 8) @ mix).view(n, 1, 8, 8) for n in (2000, 300, 300))
    noisy = train[:300] + 0.05 * draw(300, 1, 8, 8)
    shifted = torch.roll(train[:300], 1, 3)
    held, index = nearest(test, train)
    assert held[7].item() == pytest.approx(min(
        (torch.roll(test[7], (y, x), (1, 2)) - one).norm().item()
        for one in train[index[7]][None] for y in (-1, 0, 1) for x in (-1, 0, 1)
    ), rel=1e-4)  # fmt: skip
    assert copying(nearest(noisy, train)[0], held) < 1e-6
    assert copying(nearest(shifted, train)[0], held) < 1e-6  # which distances without shifts would miss
    assert copying(nearest(honest, train)[0], held) > 1e-3


def test_a_gaussian_scores_gaussian_levels_by_their_entropy_and_histograms_score_marginals():
    torch.manual_seed(0)
    mixing = torch.tensor([[8.0, 0.0], [6.0, 5.0]])
    train, test = ((128 + torch.randn(n, 2) @ mixing.T).round() for n in (200_000, 20_000))
    entropy = math.log(2 * math.pi * math.e) + mixing.det().log().item()  # of levels a unit wide
    assert gaussian(train, test) == pytest.approx(entropy, abs=0.03)
    alone = sum(0.5 * math.log(2 * math.pi * math.e * row.square().sum().item()) for row in mixing)
    assert histograms(train.long(), test.long()) == pytest.approx(alone, abs=0.03)


def test_a_2_gram_learns_a_chain_of_the_second_order_and_is_normalised():
    generator = torch.Generator().manual_seed(0)
    chain = torch.randint(0, 4, (4000, 12), generator=generator)
    for t in range(2, 12):  # the sum of the two before, or in a quarter of cases anything
        free = torch.rand(4000, generator=generator) < 0.25
        chain[:, t] = torch.where(free, chain[:, t], (chain[:, t - 1] + chain[:, t - 2]) % 4)
    sure = 0.75 + 0.25 / 4
    entropy = -sure * math.log(sure) - (1 - sure) * math.log((1 - sure) / 3)
    expected = 2 * math.log(4) + 10 * entropy
    assert ngram(chain[:3000], chain[3000:]) == pytest.approx(expected, rel=0.02)
    assert ngram(chain[:3000], chain[3000:], order=0) > expected + 5
    every = torch.cat([chain[:1].expand(256, 12)[:, :3], torch.arange(256)[:, None]], 1)
    two, three = (
        torch.tensor([ngram(chain[:5], row[None], order=1) for row in part]) for part in (every[:, :3], every)
    )
    assert (two - three).exp().sum().item() == pytest.approx(1, abs=1e-4)
