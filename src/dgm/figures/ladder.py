"""Likelihoods of many models on one test set, and what their training took. Shapes: N images, D values."""

import math
from typing import Any

import torch

from dgm.data.sets import whole
from dgm.figures import Drawing
from dgm.figures.reading import alike, spread
from dgm.figures.style import INK, PALETTE, canvas, dress
from dgm.images import inputs
from dgm.runs import Run

TICKS = (20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1000, 2000, 4000, 8000)


def draw(runs: list[Run]) -> Drawing:
    """-log p of test images in nats, lower is better; a bound where a model has no more. Beside it seconds to train.

    Below them what needs no model: the uniform distribution, and pixels that are independent.
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
    axes.set_xscale("log")
    axes.minorticks_off()
    low, high = axes.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
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
    """What the training set's marginals alone give on the test set."""
    data = run.data()
    train, test = (inputs(whole(data.set(split))).flatten(1).double() for split in ("train", "test"))
    binary = data.binarise != "none"
    if binary:
        p = train.mean(0).clamp(1e-4, 1 - 1e-4)
        independent = -(test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean().item()
    else:
        counts = torch.stack([(train * 255).round().long().eq(v).sum(0) for v in range(256)]) + 1.0
        log_p = (counts / counts.sum(0)).log()
        independent = -log_p.gather(0, (test * 255).round().long()).sum(1).mean().item()
    uniform = test.shape[1] * math.log(2 if binary else 256)
    both = {"uniform": uniform, "independent pixels": independent}
    return [
        {"name": name, "nats": spread([nats]), "bound": False, "seconds": 0.0, "runs": []}
        for name, nats in both.items()
    ]
