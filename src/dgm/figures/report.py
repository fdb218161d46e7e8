"""One self-contained html page about many runs: tables, plots against what was swept, pictures, origin."""

import base64
import datetime
import io
import itertools
import re
import shlex
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from dgm.figures.style import FAINT, PALETTE, TICK, canvas, dress, legend
from dgm.runs import Run
from dgm.studies import (
    anchors,
    base,
    main_metrics,
    mean_rows,
    measured,
    number,
    over_seeds,
    shown,
    swept,
    tidy,
)

PLOTTED = ("elbo", "kl", "reconstruction", "fid_*")
UNITS = {"elbo": "nats", "kl": "nats", "reconstruction": "nats", "iw_*": "nats", "bits_per_dim": "bits"}
BETTER = {"elbo": max, "iw_*": max, "bits_per_dim": min, "fid_*": min, "kid_*": min}
GRIDS = ("samples", "reconstructions")
ARROWS = {max: "↑", min: "↓"}
PICTURED = 24  # runs in the gallery
FEW = 10  # lines that a legend can name
Card = dict[str, Any]
Part = dict[str, Any]
Plot = tuple[str, Figure]
Colours = dict[str, str]


def page(runs: Sequence[Run], name: str, folder: Path | None = None) -> str:
    """The page, as text. folder: where figures of the study as a whole lie, in `figures`."""
    frame = tidy(runs)
    metrics = main_metrics(frame.attrs["values"])
    seen = measured(frame)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dgm", "text.parse_math": False}):
        parts = sections(seen, metrics, runs)
    places = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    cards = gallery(frame, runs)
    whole = sorted(folder.glob("figures/*.png")) if folder else []
    return places.get_template("report.html.j2").render(
        name=name,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("dgm"),
        states=frame["state"].value_counts().to_dict(),
        settings=settings(frame),
        means=means(seen, metrics),
        table=table(frame),
        failed=[(i, run.folder.name, run.why) for i, run in enumerate(runs) if run.state == "failed"],
        notes=[*frame.attrs["notes"], *anchors(frame, metrics)],
        sections=parts,
        figures=[one for path in whole if (one := picture(path))],
        cards=cards,
        unpictured=len(runs) - len(cards),
        provenance=[provenance(i, runs[i]) for i in frame.index],
    )


def settings(frame: pd.DataFrame) -> list[tuple[str, list[str], bool]]:
    """(key, its values, whether it is swept), the swept ones first."""
    keys = swept(frame)
    found = [(k, [shown(v) for v in frame[k].unique()], k in keys) for k in frame.attrs["keys"]]
    return sorted(found, key=lambda one: (not one[2], one[0] == "seed"))


def means(frame: pd.DataFrame, metrics: list[str]) -> dict[str, Any]:
    """Head and rows of the table over seeds; the best of a column is marked where one can say so."""
    table = over_seeds(frame, metrics)
    judged = {m: BETTER[p] for m in metrics if (p := _pattern(m, BETTER))}
    best = {m: choose(table[m, "mean"].dropna(), default=None) for m, choose in judged.items()}
    marks = [[row[m, "mean"] == best.get(m) for m in metrics] for _, row in table.iterrows()]
    rows = [
        {"settings": place, "n": n, "numbers": list(zip(cells, marked, strict=True))}
        for (place, n, cells), marked in zip(mean_rows(frame, metrics), marks, strict=True)
    ]
    head = [(m, ARROWS[judged[m]] if m in judged else "") for m in metrics]
    return {"keys": swept(frame), "head": head, "rows": rows}


def table(frame: pd.DataFrame) -> dict[str, Any]:
    """Head and rows of the table of runs: text to show and value to sort by."""
    seed = [key for key in frame.attrs["keys"] if key == "seed"]
    numbers = [*frame.attrs["values"], "seconds"]
    head = [*swept(frame), *seed, *numbers]
    rows = []
    for i, row in frame.iterrows():
        words = [row["run"], row["state"], *(f"{key}={shown(row[key])}" for key in frame.attrs["keys"])]
        cells = [(number(row[c]) if c in numbers else shown(row[c]), _value(row[c])) for c in head]
        rows.append({"id": i, "run": words[0], "state": words[1], "text": " ".join(words), "cells": cells})
    return {"head": head, "rows": rows}


def _value(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _pattern(name: str, patterns: Any) -> str | None:
    return next((p for p in patterns if fnmatch(base(name), p)), None)


def sections(frame: pd.DataFrame, metrics: list[str], runs: Sequence[Run]) -> list[Part]:
    """All plots: a section per swept axis, the rate-distortion plane, the learning curves."""
    lines = [m for m in metrics if _pattern(m, PLOTTED) and frame[m].notna().any()]
    text = "Lines are means over seeds, bands one standard deviation either side, dots single runs."
    found = []
    for axis in filter(lambda key: _numeric(frame[key]), swept(frame)):
        plots = [(f"{metric} against {axis}", against(frame, metric, axis)) for metric in lines]
        keys, colours = _colours(frame, axis)
        found.append(part(f"What {axis} does", text, plots, ", ".join(keys), colours))
    pairs = [(m, m.replace("kl", "reconstruction", 1)) for m in lines if base(m) == "kl"]
    planes = [(f"{y} against {x}", plane(frame, x, y)) for x, y in pairs if y in lines]
    text = "KL divergence against reconstruction; along a dashed line the ELBO is constant."
    found.append(part("Rate and distortion", text, planes))
    found.append(part("Learning curves", "Every run, on validation images.", curves(frame, runs)))
    return [one for one in found if one["plots"]]


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


def _numeric(values: pd.Series) -> bool:
    given = values.dropna().unique()
    kinds = all(isinstance(v, int | float | np.number) and not isinstance(v, bool | np.bool_) for v in given)
    return len(given) > 1 and kinds


def _label(metric: str) -> str:
    unit = _pattern(metric, UNITS)
    return f"{metric} ({UNITS[unit]})" if unit else metric


def _groups(frame: pd.DataFrame, keys: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """Rows that share the values of the keys, and what to call them."""
    if not keys:
        return [("", frame)]
    found = frame.groupby(keys, sort=False, dropna=False)
    return [(", ".join(shown(v) for v in place), rows) for place, rows in found]


def _others(frame: pd.DataFrame, axis: str | None) -> list[str]:
    return [key for key in swept(frame) if key != axis]


def _colours(frame: pd.DataFrame, axis: str | None, few: int | None = None) -> tuple[list[str], Colours]:
    """The keys swept beside an axis, and a colour for each of their combinations.

    A scale where they have an order or are many; where they are more than `few`, only the first key counts.
    """
    keys = _others(frame, axis)
    if few and len(_groups(frame, keys)) > few:
        keys = keys[:1]
    names = [name for name, _ in _groups(frame, keys)]
    scale = len(names) > len(PALETTE) or (len(keys) == 1 and _numeric(frame[keys[0]]))
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
    keys, colours = _colours(frame, axis)
    dots = frame.dropna(subset=[axis, metric])
    means = over_seeds(frame, [metric])[metric].reset_index().dropna(subset=[axis, "mean"])
    for name, line in _groups(means.astype({axis: float}), keys):
        x, mean, std = (line.sort_values(axis)[c] for c in (axis, "mean", "std"))
        axes.fill_between(x, mean - std, mean + std, color=colours[name], alpha=0.18, linewidth=0)
        axes.plot(x, mean, color=colours[name], linewidth=1.5)
    for name, rows in _groups(dots, keys):
        x, colour = rows[axis].astype(float), colours[name]
        axes.scatter(x, rows[metric], s=12, color=colour, linewidths=0, zorder=3)
    _ticks(axes, "x", dots[axis].astype(float))
    return figure


def plane(frame: pd.DataFrame, rate: str, distortion: str) -> Figure:
    """Rate against distortion: a dot per run, coloured by beta; lines join means over beta."""
    figure = canvas(5.0, 3.4)
    axes = dress(figure.subplots(), x=f"rate: {_label(rate)}", y=f"distortion: {_label(distortion)}")
    beta = next((k for k in swept(frame) if k.rpartition(".")[2] == "beta" and _numeric(frame[k])), None)
    means = over_seeds(frame, [rate, distortion])
    points = pd.DataFrame({"x": means[rate, "mean"], "y": means[distortion, "mean"]}).dropna().reset_index()
    keys = _others(frame, beta)
    groups = _groups(points.sort_values(beta) if beta else points, keys)
    for (name, line), dashes in zip(groups, itertools.cycle(("-", "--", ":", "-.")), strict=False):
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
        _name_lines(axes, keys, len(groups))
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
    keys, colours = _colours(frame, None, FEW)
    settled = []
    for label, rows in _groups(frame, keys):
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


def gallery(frame: pd.DataFrame, runs: Sequence[Run]) -> list[Card]:
    """Pictures of at most PICTURED runs, every combination of settings before the second seed of any."""
    cards = {i: {"id": i, "caption": caption(frame, i), "pictures": pictures(runs[i])} for i in frame.index}
    shown_first = [i for _, rows in sorted(_turns(frame).items()) for i in rows if cards[i]["pictures"]]
    kept = set(shown_first[:PICTURED])
    return [card for i, card in cards.items() if i in kept]


def _turns(frame: pd.DataFrame) -> dict[int, list[int]]:
    turns: dict[int, list[int]] = {}
    for _, rows in _groups(frame, swept(frame)):
        for turn, i in enumerate(rows.index):
            turns.setdefault(turn, []).append(i)
    return turns


def caption(frame: pd.DataFrame, i: Any) -> list[str]:
    """What sets a run apart from the others, `key = value`."""
    keys = [*swept(frame), *(k for k in frame.attrs["keys"] if k == "seed")]
    return [f"{key} = {shown(frame.at[i, key])}" for key in keys] or [str(frame.at[i, "run"])]


def pictures(run: Run) -> list[Card]:
    """The latest samples and reconstructions, and all figures."""
    latest = [sorted(run.path("samples").glob(f"{kind}_*.png"))[-1:] for kind in GRIDS]
    paths = [*itertools.chain(*latest), *sorted(run.path("figures").glob("*.png"))]
    return [found for path in paths if (found := picture(path))]


def picture(path: Path) -> Card | None:
    """A png inside the page, None where it cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except OSError:
        return None
    data = base64.b64encode(path.read_bytes()).decode()
    grid = path.parent.name == "samples"
    name = path.stem.rpartition("_")[0] if grid else path.stem.replace("_", " ")
    return {"name": name, "data": data, "width": width, "height": height, "grid": grid}


def provenance(i: int, run: Run) -> dict[str, Any]:
    """What is needed to repeat a run, as the page shows it."""
    known = run.provenance
    commit = known.get("commit") or "not a checkout"
    edited = " with uncommitted changes" if known.get("diff") else ""
    facts = {
        "command": "dgm train " + shlex.join(known.get("overrides", [])),
        "folder": str(run.folder),
        "state": run.state,
        "commit": commit + edited,
        "machine": known.get("machine", "-"),
        "python": known.get("python", "-"),
        "seconds": number(float(known.get("seconds") or "nan")),
        "versions": ", ".join(f"{k} {v}" for k, v in known.get("versions", {}).items()) or "-",
    }
    config = yaml.safe_dump(run.config, sort_keys=False)
    return {"id": i, "run": run.folder.name, "facts": facts, "config": config}
