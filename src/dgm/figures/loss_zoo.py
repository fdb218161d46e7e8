"""One pair of networks, all games, one budget: does the loss decide the quality of samples?"""

from typing import Any

from scipy.stats import spearmanr

from dgm.configs import ConfigError
from dgm.figures import Drawing
from dgm.figures.reading import alike, spread
from dgm.figures.style import FAINT, INK, PALETTE, canvas, dress, logarithmic
from dgm.runs import Run

# Lucic et al. (2018), table 2, MNIST: the best FID of 100 settings each, with Inception; quoted by Dai & Wipf (2019)
PUBLISHED = {
    "minimax": 9.8,
    "non-saturating": 6.8,
    "least squares": 7.8,
    "wasserstein, clipped": 6.7,
    "wasserstein, gradient penalty": 20.3,
}


def draw(runs: list[Run]) -> Drawing:
    """Frechet distance of each game, every seed a dot; lines join runs of one seed. Beside it, the published order.

    Rank agreement is Spearman's, over games that the paper has; its numbers are of tuned settings and another
    extractor, so only their order can be compared.
    """
    value = measured(runs)
    alike(runs, "data.name", "data.val", "data.limit", "data.batch_size", "trainer.max_epochs", "trainer.max_steps")
    alike(runs, "model.generator", "model.latent")
    games: dict[str, dict[int, float]] = {}
    for run in runs:
        games.setdefault(named(run), {})[run.config["seed"]] = run.values[value]
    means = {name: spread(list(seeds.values())) for name, seeds in games.items()}
    order = sorted(games, key=lambda name: means[name]["mean"])
    figure = canvas(7.4, 0.42 * len(games) + 1.3)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    for i, seed in enumerate(sorted({seed for seeds in games.values() for seed in seeds})):
        there = [(games[name][seed], y) for y, name in enumerate(order) if seed in games[name]]
        left.plot(*zip(*there, strict=True), color=PALETTE[i % 10], marker="o", markersize=4, linewidth=0.6, alpha=0.8)
    left.set_yticks(range(len(order)), [f"{name} ({means[name]['seeds']})" for name in order])
    logarithmic(left)
    dress(left, "Runs in brackets", f"{value}, against {runs[0].result['fid']['protocol']['reference']} images")
    shared = [name for name in order if name in PUBLISHED]
    right.scatter([PUBLISHED[name] for name in shared], [order.index(name) for name in shared], color=INK, s=16)
    dress(right, "", "FID, Lucic et al. (2018)")
    for axes in (left, right):
        axes.grid(axis="y", color=FAINT, alpha=0.2)
    numbers: dict[str, Any] = {f"{name} ({value})": means[name]["mean"] for name in order}
    if len(shared) > 2:
        ours, theirs = [means[name]["mean"] for name in shared], [PUBLISHED[name] for name in shared]
        numbers["rank_agreement"] = float(spearmanr(ours, theirs).statistic)
    rows = [{"name": name, **means[name], "values": games[name], "published": PUBLISHED.get(name)} for name in order]
    return Drawing(figure, numbers | {"games": rows})


def measured(runs: list[Run]) -> str:
    """The name of the distance that all runs have, of one protocol. Errors: ConfigError where there is none."""
    names = [name for name in runs[0].values if name.startswith("fid_") and not name.endswith(("_floor", "_scale"))]
    shared = [name for name in names if all(name in run.values for run in runs)]
    protocols = {str(run.result["fid"]["protocol"]) for run in runs if "fid" in run.result}
    if not shared or len(protocols) != 1:
        raise ConfigError(
            "figure=loss_zoo: runs have no Frechet distance of one protocol; train them with metric=[fid]"
        )
    return shared[0]


def named(run: Run) -> str:
    """The game, with what bounds its critic."""
    model = run.config["model"]
    words = [run.config["loss"]["_target_"].rpartition(".")[2].replace("_", " ")]
    words[0] = words[0].replace("non saturating", "non-saturating")
    if model.get("penalty"):
        centre = model["penalty"].get("centre", 1.0)
        name = model["penalty"]["_target_"].rpartition(".")[2].replace("_", " ")
        words.append(name if centre else f"{name}, zero-centred")
    if model.get("clip"):
        words.append("clipped")
    return ", ".join(words)
