"""One self-contained html page about many runs: tables, plots against what was swept, pictures, origin."""

import base64
import datetime
import itertools
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from dgm.figures.plots import Part, against, colour_lines, curves, groups, matching, numeric, part, plane
from dgm.figures.searches import searches
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
BETTER = {"elbo": max, "iw_*": max, "bits_per_dim": min, "fid_*": min, "kid_*": min}
GRIDS = ("samples", "reconstructions")
ARROWS = {max: "↑", min: "↓"}
PICTURED = 24  # runs in the gallery
Card = dict[str, Any]


def page(runs: Sequence[Run], name: str, folder: Path | None = None) -> str:
    """The page, as text. folder: where figures of the study as a whole lie, in `figures`."""
    frame = tidy(runs)
    metrics = main_metrics(frame.attrs["values"])
    seen = measured(frame)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dgm", "text.parse_math": False}):
        parts = [*(searches(folder) if folder else []), *sections(seen, metrics, runs)]
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
    judged = {m: BETTER[p] for m in metrics if (p := matching(m, BETTER))}
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


def sections(frame: pd.DataFrame, metrics: list[str], runs: Sequence[Run]) -> list[Part]:
    """All plots: a section per swept axis, the rate-distortion plane, the learning curves."""
    lines = [m for m in metrics if matching(m, PLOTTED) and frame[m].notna().any()]
    text = "Lines are means over seeds, bands one standard deviation either side, dots single runs."
    found = []
    for axis in filter(lambda key: numeric(frame[key]), swept(frame)):
        plots = [(f"{metric} against {axis}", against(frame, metric, axis)) for metric in lines]
        keys, colours = colour_lines(frame, axis)
        found.append(part(f"What {axis} does", text, plots, ", ".join(keys), colours))
    pairs = [(m, m.replace("kl", "reconstruction", 1)) for m in lines if base(m) == "kl"]
    planes = [(f"{y} against {x}", plane(frame, x, y)) for x, y in pairs if y in lines]
    text = "KL divergence against reconstruction; along a dashed line the ELBO is constant."
    found.append(part("Rate and distortion", text, planes))
    found.append(part("Learning curves", "Every run, on validation images.", curves(frame, runs)))
    return [one for one in found if one["plots"]]


def gallery(frame: pd.DataFrame, runs: Sequence[Run]) -> list[Card]:
    """Pictures of at most PICTURED runs, every combination of settings before the second seed of any."""
    cards = {i: {"id": i, "caption": caption(frame, i), "pictures": pictures(runs[i])} for i in frame.index}
    shown_first = [i for _, rows in sorted(_turns(frame).items()) for i in rows if cards[i]["pictures"]]
    kept = set(shown_first[:PICTURED])
    return [card for i, card in cards.items() if i in kept]


def _turns(frame: pd.DataFrame) -> dict[int, list[int]]:
    turns: dict[int, list[int]] = {}
    for _, rows in groups(frame, swept(frame)):
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
