"""Plots of the report: metrics against what was swept, the rate-distortion plane, learning curves."""

import io
import itertools
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from dgm.figures.style import FAINT, PALETTE, TICK, canvas, dress, legend
from dgm.runs import Run
from dgm.studies import (
    base,
    over_seeds,
    shown,
    swept,
)

UNITS = {"elbo": "nats", "kl": "nats", "reconstruction": "nats", "iw_*": "nats", "bits_per_dim": "bits"}
FEW = 10  # lines that a legend can name
Part = dict[str, Any]
Plot = tuple[str, Figure]
Colours = dict[str, str]


def matching(name: str, patterns: Any) -> str | None:
    """The first of the shell patterns that a value's name matches."""
    return next((p for p in patterns if fnmatch(base(name), p)), None)


def part(title: str, text: str, plots: list[Plot], keys: str = "", colours: Colours | None = None) -> Part:
    """A section as the page shows it; what the colours mean is told once for all its plots."""
    drawn = [svg(figure, label, f"{title}-{i}") for i, (label, figure) in enumerate(plots)]
    return {"title": title, "text": text, "plots": drawn, "keys": keys, "colours": colours or {}}


def svg(figure: Figure, label: str, mark: str) -> Markup:
    """A figure as inline svg whose ids are its own, without the addresses of its metadata."""
    mark = re.sub(r"\W", "-", mark)
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{mark}-", text)
    said = Markup.escape(label)
    return Markup(
        re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg role="img" aria-label="{said}" \1>', text, count=1)
    )


def numeric(values: pd.Series) -> bool:
    """Whether there are at least two values, all numbers."""
    given = values.dropna().unique()
    kinds = all(isinstance(v, int | float | np.number) and not isinstance(v, bool | np.bool_) for v in given)
    return len(given) > 1 and kinds


def _label(metric: str) -> str:
    unit = matching(metric, UNITS)
    return f"{metric} ({UNITS[unit]})" if unit else metric


def groups(frame: pd.DataFrame, keys: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """Rows that share the values of the keys, and what to call them."""
    if not keys:
        return [("", frame)]
    found = frame.groupby(keys, sort=False, dropna=False)
    return [(", ".join(shown(v) for v in place), rows) for place, rows in found]


def _others(frame: pd.DataFrame, axis: str | None) -> list[str]:
    return [key for key in swept(frame) if key != axis]


def colour_lines(frame: pd.DataFrame, axis: str | None, few: int | None = None) -> tuple[list[str], Colours]:
    """The keys swept beside an axis, and a colour for each of their combinations.

    A scale where they have an order or are many; where they are more than `few`, only the first key counts.
    """
    keys = _others(frame, axis)
    if few and len(groups(frame, keys)) > few:
        keys = keys[:1]
    names = [name for name, _ in groups(frame, keys)]
    scale = len(names) > len(PALETTE) or (len(keys) == 1 and numeric(frame[keys[0]]))
    drawn = mpl.colormaps["viridis"](np.linspace(0.05, 0.8, len(names))) if scale else PALETTE
    return keys, dict(zip(names, map(to_hex, drawn), strict=False))


def _name_lines(axes: Axes, keys: list[str], count: int) -> None:
    if keys and 1 < count <= FEW:
        legend(axes, ", ".join(keys))


def _ticks(axes: Axes, which: Literal["x", "y"], values: pd.Series) -> None:
    """The swept values themselves; logarithmic where they span much."""
    given = np.unique(values.dropna())
    if given[0] > 0 and given[-1] / given[0] >= 5:
        axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    marks = given[:: len(given) // FEW + 1]
    axis.set_ticks(marks, [shown(float(v)) for v in marks])
    axis.set_minor_locator(NullLocator())


def against(frame: pd.DataFrame, metric: str, axis: str) -> Figure:
    """A metric over a swept axis, a line for each combination of what else was swept."""
    figure = canvas(3.4, 2.7)
    axes = dress(figure.subplots(), x=axis, y=_label(metric))
    keys, colours = colour_lines(frame, axis)
    dots = frame.dropna(subset=[axis, metric])
    means = over_seeds(frame, [metric])[metric].reset_index().dropna(subset=[axis, "mean"])
    for name, line in groups(means.astype({axis: float}), keys):
        x, mean, std = (line.sort_values(axis)[c] for c in (axis, "mean", "std"))
        axes.fill_between(x, mean - std, mean + std, color=colours[name], alpha=0.18, linewidth=0)
        axes.plot(x, mean, color=colours[name], linewidth=1.5)
    for name, rows in groups(dots, keys):
        x, colour = rows[axis].astype(float), colours[name]
        axes.scatter(x, rows[metric], s=12, color=colour, linewidths=0, zorder=3)
    _ticks(axes, "x", dots[axis].astype(float))
    return figure


def plane(frame: pd.DataFrame, rate: str, distortion: str) -> Figure:
    """Rate against distortion: a dot per run, coloured by beta; lines join means over beta."""
    figure = canvas(5.0, 3.4)
    axes = dress(figure.subplots(), x=f"rate: {_label(rate)}", y=f"distortion: {_label(distortion)}")
    beta = next((k for k in swept(frame) if k.rpartition(".")[2] == "beta" and numeric(frame[k])), None)
    means = over_seeds(frame, [rate, distortion])
    points = pd.DataFrame({"x": means[rate, "mean"], "y": means[distortion, "mean"]}).dropna().reset_index()
    keys = _others(frame, beta)
    families = groups(points.sort_values(beta) if beta else points, keys)
    for (name, line), dashes in zip(families, itertools.cycle(("-", "--", ":", "-.")), strict=False):
        joined = dashes if beta else "none"
        axes.plot(line["x"], line["y"], color=FAINT, linewidth=1, linestyle=joined, label=name, zorder=1)
    colour = frame[beta].astype(float) if beta else pd.Series(1.0, index=frame.index)
    norm = (LogNorm if colour.min() > 0 else Normalize)(colour.min(), colour.max())
    scale = mpl.colormaps["viridis"].with_extremes(bad=FAINT)
    style = {"c": colour, "norm": norm, "cmap": scale, "plotnonfinite": True}
    dots = axes.scatter(frame[rate], frame[distortion], s=26, zorder=3, **style)
    if beta:
        bar = figure.colorbar(dots, ax=axes)
        bar.outline.set_visible(False)
        _ticks(dress(bar.ax, y=beta), "y", colour)
        _name_lines(axes, keys, len(families))
    _constant_elbo(axes)
    return figure


def _constant_elbo(axes: Axes) -> None:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(left, right, 50), np.linspace(low, high, 50))
    lines = axes.contour(x, y, -(x + y), levels=5, colors=FAINT, linewidths=0.5, linestyles="dashed", zorder=0)
    axes.clabel(lines, fontsize=TICK - 2, fmt=lambda level: f"{level:g}")


def curves(frame: pd.DataFrame, runs: Sequence[Run]) -> list[Plot]:
    """A plot of all learning curves, coloured by what was swept; none where nothing was validated."""
    logged = {i: _curve(runs[i]) for i in frame.index}
    name = next((n for n in ("val/elbo", "val/loss") if any(n in rows for rows in logged.values())), None)
    if name is None:
        return []
    figure = canvas(5.0, 3.4)
    axes = dress(figure.subplots(), x="updates", y=f"{name} (nats)")
    keys, colours = colour_lines(frame, None, FEW)
    settled = []
    for label, rows in groups(frame, keys):
        for place, i in enumerate(rows.index):
            points = np.array(logged[i].get(name, np.zeros((0, 2))))
            points = points[:: max(1, len(points) // 200)]
            named = "" if place else label
            axes.plot(*points.T, color=colours[label], linewidth=1.2, alpha=0.85, label=named)
            settled.append(points[len(points) // 10 :, 1])
    _focus(axes, np.concatenate(settled))
    _name_lines(axes, keys, len(colours))
    return [(f"{name} by update", figure)]


def _curve(run: Run) -> dict[str, list[tuple[float, float]]]:
    rows: dict[str, list[tuple[float, float]]] = {}
    for row in run.curve():
        rows.setdefault(row["name"], []).append((float(row["step"]), float(row["value"])))
    return rows


def _focus(axes: Axes, values: np.ndarray) -> None:
    """Leave the first steep tenth out of the range shown."""
    values = values[np.isfinite(values)]
    if len(values) and np.ptp(values) > 0:
        axes.set_ylim(values.min() - 0.05 * np.ptp(values), values.max() + 0.05 * np.ptp(values))
