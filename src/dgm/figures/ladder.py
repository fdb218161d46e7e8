"""Likelihoods of many models on one test set, and what their training took. Shapes: N images, D values."""

import math
from typing import Any

import torch
from torch import Tensor

from dgm.data.sets import whole
from dgm.figures import Drawing
from dgm.figures.reading import alike, spread
from dgm.figures.style import INK, PALETTE, canvas, dress, logarithmic
from dgm.images import inputs
from dgm.metrics.statistics import moments
from dgm.runs import Run


def draw(runs: list[Run]) -> Drawing:
    """-log p of test images in nats, lower is better; a bound where a model has no more. Beside it seconds to train.

    Below them what needs no network: the uniform distribution, independent pixels, a Gaussian.
    """
    alike(runs, "data.name", "data.binarise", "data.limit", "data.shape")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(named(run), []).append(run)
    rows = [rung(name, seeds) for name, seeds in groups.items()]
    rows += baselines(runs[0])
    rows.sort(key=lambda row: -row["nats"]["mean"])
    figure = canvas(7.2, 0.34 * len(rows) + 1.1)
    axes = figure.subplots()
    for y, row in enumerate(rows):
        nats, colour = row["nats"], PALETTE[2] if row["bound"] else PALETTE[0] if row["runs"] else PALETTE[3]
        axes.plot([0, nats["mean"]], [y, y], color=colour, linewidth=1.5, alpha=0.5)
        axes.errorbar(nats["mean"], y, xerr=nats["sd"], fmt="o", color=colour, capsize=3)
        cost = f"  {row['seconds'] / 60:.1f} min" if row["seconds"] else ""
        axes.text(nats["mean"], y + 0.12, f"  {'≤ ' * row['bound']}{nats['mean']:.2f}{cost}", fontsize=7, color=INK)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_xlim(left=max(0, 0.85 * rows[-1]["nats"]["mean"]))
    logarithmic(axes)
    dress(axes, "", "-log p per test image, nats")
    key = {f"nats_{row['name']}": row["nats"]["mean"] for row in rows}
    return Drawing(figure, key | {"rungs": rows})


def named(run: Run) -> str:
    """The network of a model, or its class, with what was chosen of it."""
    model = run.config["model"]
    network = model.get("network", {})
    own = model["_target_"].rpartition(".")[2]
    inner = network.get("_target_", "").rpartition(".")[2]
    name = inner if own == "Autoregressive" else f"{own} {inner}".strip()
    words = {"kind": "", "blocks": " blocks", "layers": " layers"}
    chosen = [f"{network[key]}{word}" for key, word in words.items() if key in network]
    if "hidden" in network:
        chosen.append(" x ".join(map(str, network["hidden"])) or "no hidden layer (FVSBN)")
    if network.get("direct"):
        chosen.append("direct")
    if "latent" in model:
        chosen.append(f"{model['latent']} latents")
    return f"{name}, {', '.join(chosen)}" if chosen else name


def rung(name: str, runs: list[Run]) -> dict[str, Any]:
    """Runs that differ in their seed: nats and seconds."""
    measured = [tightest(run) for run in runs]
    return {
        "name": name,
        "nats": spread([nats for nats, _ in measured]),
        "bound": measured[0][1],
        "seconds": spread([run.provenance.get("seconds", 0.0) for run in runs])["mean"],
        "runs": [run.folder.name for run in runs],
    }


def tightest(run: Run) -> tuple[float, bool]:
    """-log p, or the tightest bound that was measured, and whether it is a bound."""
    bounds = {name: value for name, value in run.values.items() if name.startswith("iw_") and name[3:].isdigit()}
    best = max(bounds.values(), default=run.values["elbo"])
    kind = run.result["likelihood"]["protocol"].get("likelihood")
    return -best, kind != "exact"


def baselines(run: Run) -> list[dict[str, Any]]:
    """What the training set's marginals, or of images of 256 levels a Gaussian, give on the test set."""
    data = run.data()
    train, test = (inputs(whole(data.set(split))).flatten(1) for split in ("train", "test"))
    if data.binarise != "none":
        p = train.double().mean(0).clamp(1e-4, 1 - 1e-4)
        independent = -(test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean().item()
        found = {"uniform": test.shape[1] * math.log(2), "independent pixels": independent}
    else:
        train, test = ((x * 255).round() for x in (train, test))
        found = {"uniform": test.shape[1] * math.log(256), "independent pixels": histograms(train.long(), test.long())}
        found["Gaussian"] = gaussian(train, test)
        if list(data.shape[:2]) == [1, 1]:
            found["2-gram"] = ngram(train.long(), test.long())
    return [
        {"name": name, "nats": spread([nats]), "bound": False, "seconds": 0.0, "runs": []}
        for name, nats in found.items()
    ]


def histograms(train: Tensor, test: Tensor) -> float:
    """-log p under a histogram of each value's 256 levels, one added to every count: [N, D], [M, D]."""
    nats = 0.0
    for seen, asked in zip(train.T, test.T, strict=True):
        counts = torch.bincount(seen, minlength=256) + 1.0
        nats -= (counts / counts.sum()).log()[asked].double().mean().item()
    return nats


def gaussian(train: Tensor, test: Tensor) -> float:
    """-log p of levels 0..255 under a Gaussian of full covariance, uniform noise making them continuous, which bounds
    the discrete one from above (Theis et al., 2016, sec. 3.1): [N, D], [M, D]."""
    generator = torch.Generator().manual_seed(0)
    mean, cov = moments(train + torch.rand(train.shape, generator=generator))
    factor = torch.linalg.cholesky(cov)
    centred = (test + torch.rand(test.shape, generator=generator)).double() - mean
    white = torch.linalg.solve_triangular(factor, centred.T, upper=False)
    constant = test.shape[1] * math.log(2 * math.pi) / 2 + factor.diagonal().log().sum().item()
    return white.square().sum(0).mean().item() / 2 + constant


def ngram(train: Tensor, test: Tensor, order: int = 2, prior: float = 5.0) -> float:
    """-log p of sequences of 256 levels, each given the `order` before it: counts, and as many as `prior` of the next
    shorter context's probabilities: [N, T], [M, T]."""
    log_p = torch.zeros(test.shape, dtype=torch.double)
    p = torch.full((1, 256), 1 / 256, dtype=torch.double)
    for n in range(order + 1):  # n levels of context; where fewer are there, those stand
        keys = sum(train[:, i : train.shape[1] - n + i] * 256 ** (n - i) for i in range(n + 1))
        counts = torch.bincount(torch.as_tensor(keys).flatten(), minlength=256 ** (n + 1)).view(-1, 256).double()
        shorter = p.repeat(256, 1) if n else p  # its oldest level is left out
        p = (counts + prior * shorter) / (counts.sum(1, keepdim=True) + prior)
        asked = sum(test[:, i : test.shape[1] - n + i] * 256 ** (n - i) for i in range(n + 1))
        log_p[:, n:] = p.flatten()[torch.as_tensor(asked)].log()
    return -log_p.sum(1).mean().item()
