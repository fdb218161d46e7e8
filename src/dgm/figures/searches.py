"""Searches in the report: trials in the order they came, or the plane of two objectives with its Pareto front."""

import itertools
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dgm.figures.plots import Part, Plot, part
from dgm.figures.style import FAINT, PALETTE, canvas, dress

Trial = dict[str, Any]


def searches(folder: Path) -> list[Part]:
    """A section per search at or below a folder."""
    files = sorted(folder.rglob("search.json"))
    return [_section(json.loads(file.read_text()), file.parent.name) for file in files]


def _section(search: dict[str, Any], name: str) -> Part:
    trials = [trial for trial in search["trials"] if trial["values"]]
    names = list(search["objectives"])
    plots: list[Plot] = [(f"{n} by trial", by_trial(trials, n, i)) for i, n in enumerate(names)]
    if len(names) > 1:
        pairs = itertools.combinations(range(len(names)), 2)
        plots = [(f"{names[j]} against {names[i]}", front(trials, names, i, j)) for i, j in pairs]
    best = "; ".join(_words(trial, names) for trial in search["trials"] if trial["best"])
    others = len(search["trials"]) - len(trials)
    text = (
        f"{len(search['trials'])} trials, {others} of them failed or pruned. {'Best' if len(names) == 1 else 'Front'}: "
    )
    return part(f"Search {name}", text + best, plots)


def _words(trial: Trial, names: list[str]) -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, trial["values"], strict=True))
    chosen = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial["parameters"].items())
    return f"trial {trial['trial']} ({chosen}): {values}"


def by_trial(trials: list[Trial], name: str, i: int) -> Figure:
    """One objective: every trial, the best one marked."""
    figure = canvas(4.6, 3.0)
    axes = dress(figure.add_subplot(), x="trial", y=name)
    axes.plot([t["trial"] for t in trials], [t["values"][i] for t in trials], "o", color=FAINT)
    best = [t for t in trials if t["best"]]
    axes.plot([t["trial"] for t in best], [t["values"][i] for t in best], "o", color=PALETTE[0])
    return figure


def front(trials: list[Trial], names: list[str], i: int, j: int) -> Figure:
    """Two objectives: every trial, and a line through those that no other beats in all objectives."""
    figure = canvas(4.6, 3.4)
    axes = dress(figure.add_subplot(), x=names[i], y=names[j])
    axes.plot([t["values"][i] for t in trials], [t["values"][j] for t in trials], "o", color=FAINT)
    best = sorted((t["values"][i], t["values"][j], t["trial"]) for t in trials if t["best"])
    axes.plot([b[0] for b in best], [b[1] for b in best], "o-", color=PALETTE[0])
    for x, y, trial in best:
        axes.annotate(str(trial), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    return figure
