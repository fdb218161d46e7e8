"""The rate-distortion plane of a sweep over beta (Alemi et al., 2018, fig. 3; Higgins et al., 2017)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from dgm.configs import ConfigError
from dgm.figures import Drawing
from dgm.figures.reading import alike, setting, spread
from dgm.figures.style import FAINT, INK, PALETTE, TICK, canvas, dress
from dgm.runs import Run

AXES = ("rate", "distortion")


def draw(runs: list[Run]) -> Drawing:
    """KL against reconstruction term of test images: a point per run, a line through the means over seeds."""
    alike(runs, "data.name", "data.binarise", "model._target_", "model.latent", "likelihood")
    table = pd.DataFrame([point(run) for run in runs])
    if table["beta"].nunique() < 2:
        raise ConfigError("all these runs have the same loss.beta; give a folder with runs of at least two values")
    betas = [
        {"beta": beta, "rate": spread(list(rows["rate"])), "distortion": spread(list(rows["distortion"]))}
        for beta, rows in table.groupby("beta")
    ]
    figure = canvas(5.4, 4.2)
    plot(figure.subplots(), table, betas)
    means = pd.DataFrame({"beta": b["beta"]} | {name: b[name]["mean"] for name in AXES} for b in betas)
    over_seeds, over_runs = spearman(means), spearman(table)
    numbers = {
        "spearman_beta_rate": over_seeds["rate"],
        "spearman_beta_distortion": over_seeds["distortion"],
        "spearman_over_runs": over_runs,
        "betas": betas,
        "runs": table.to_dict("records"),
    }
    return Drawing(figure, numbers)


def point(run: Run) -> dict[str, Any]:
    """What the likelihood metric measured of a run. Errors: ConfigError where it was not measured."""
    values = run.result.get("likelihood", {}).get("values", {})
    if not {"kl", "reconstruction"} <= values.keys():
        raise ConfigError(
            f"run={run.folder}: its rate and distortion were not measured; "
            "measure it by `dgm evaluate run=... metric=[likelihood]`"
        )
    measured = {"rate": values["kl"], "distortion": values["reconstruction"]}
    return {"run": run.folder.name, "beta": float(setting(run, "loss.beta"))} | measured


def spearman(table: pd.DataFrame) -> dict[str, float]:
    """Rank correlation of beta with rate and distortion; 1 in size where they are monotone in beta."""
    ranks = table[["beta", *AXES]].rank().corr()["beta"]  # Spearman's is Pearson's of the ranks
    return {name: float(ranks[name]) for name in AXES}


def plot(axes: Axes, table: pd.DataFrame, betas: list[dict[str, Any]]) -> None:
    """The plane."""
    x, y = ([b[name]["mean"] for b in betas] for name in ("rate", "distortion"))
    axes.plot(x, y, color=FAINT, linewidth=1.2, zorder=1)
    axes.scatter(table["rate"], table["distortion"], s=22, color=PALETTE[0], zorder=2, linewidths=0)
    for b in betas:
        name, place = f"β = {b['beta']:g}", (b["rate"]["mean"], b["distortion"]["mean"])
        axes.annotate(name, place, (6, 6), textcoords="offset points", fontsize=TICK, color=INK)
    axes.margins(0.12)
    dress(
        axes,
        "A point per run, a line through the means over seeds",
        "rate: KL (nats per image)",
        "distortion: reconstruction term (nats per image)",
    )
