"""What was logged while runs trained, against their updates."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from dgm.configs import ConfigError, nearest
from dgm.figures import Drawing
from dgm.figures.reading import groups_of
from dgm.figures.style import PALETTE, canvas, dress, legend
from dgm.runs import Run

MOST, FEWEST = 20, 10  # values in a mean, points of a curve, unless the window is given
FIRST = 10  # share 1 / FIRST of the updates whose steep fall is left out of the range shown


def draw(runs: list[Run], metric: str = "train/loss", window: Annotated[int, Ge(1)] | None = None) -> Drawing:
    """A line per run, one colour for all seeds; each point is the mean of `window` logged values, by default of 20, or
    of fewer so that ten points are left."""
    figure = canvas(6.0, 3.8)
    axes = figure.subplots()
    rows: list[dict[str, Any]] = []
    late: list[float] = []
    for i, (name, seeds) in enumerate(groups_of(runs).items()):
        for place, run in enumerate(seeds):
            points, mean_of = smoothed(run, metric, window)
            colour = PALETTE[i % len(PALETTE)]
            axes.plot(*points.T, color=colour, linewidth=1.3, label="" if place else name, marker="o", markersize=2)
            late += points[points[:, 0] >= points[-1, 0] / FIRST, 1].tolist()
            told = {"name": name, "run": run.folder.name, "window": mean_of}
            rows.append(told | {"updates_and_values": points.tolist()})
    room = 0.05 * (max(late) - min(late))
    if room > 0:
        axes.set_ylim(min(late) - room, max(late) + room)
    means = sorted({row["window"] for row in rows} - {1})
    dress(axes, "", "updates", f"{metric}, mean of {' or '.join(map(str, means))}" if means else metric)
    if len(rows) > 1:
        legend(axes)
    last = {f"last of {row['name']}": row["updates_and_values"][-1][1] for row in rows}
    return Drawing(figure, last | {"metric": metric, "curves": rows})


def smoothed(run: Run, metric: str, window: int | None = None) -> tuple[np.ndarray, int]:
    """(update, mean of the last `window` values): [P, 2], and that window. Errors: ConfigError without any."""
    logged = list(run.curve())
    points = np.array([(int(row["step"]) + 1, float(row["value"])) for row in logged if row["name"] == metric])
    if not len(points):
        known = sorted({row["name"] for row in logged})
        more = "" if known else " Nothing was; a run logs every trainer.log_every_n_steps updates."
        raise ConfigError(f"figure.metric={metric}: not logged in {run.folder}.{nearest(metric, known)}{more}")
    window = min(window, len(points)) if window else max(1, min(MOST, len(points) // FEWEST))
    whole = points[: len(points) // window * window].reshape(-1, window, 2)
    return np.stack([whole[:, -1, 0], whole[:, :, 1].mean(1)], 1), window
