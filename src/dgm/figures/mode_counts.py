"""Modes that many games reach on a mixture in the plane, with the spread over seeds. Reads results, draws nothing."""

from typing import Any

from dgm.configs import ConfigError
from dgm.figures import Claim, Drawing
from dgm.figures.reading import alike, groups_of, spread
from dgm.figures.style import FAINT, INK, PALETTE, canvas, dress
from dgm.runs import Run

SHOWN = {"modes": "modes covered", "high_quality": "share of good samples", "between": "share between modes"}


def draw(runs: list[Run]) -> Drawing:
    """A row per configuration: every seed a dot, the mean a line."""
    measured = [run for run in runs if set(SHOWN) <= set(run.values)]
    if not measured:
        raise ConfigError("figure=mode_counts: no run was measured by its modes; give runs with metric=[modes]")
    alike(measured, "data.source.density")
    groups = groups_of(measured)
    figure = canvas(9.6, 0.27 * len(groups) + 1.2)
    panels = figure.subplots(1, 3, sharey=True)
    rows: list[dict[str, Any]] = []
    for y, (name, seeds) in enumerate(groups.items()):
        rows.append({"name": name} | {key: spread([run.values[key] for run in seeds]) for key in SHOWN})
        for axes, key, colour in zip(panels, SHOWN, PALETTE, strict=False):
            values = [run.values[key] for run in seeds]
            axes.scatter(values, [y] * len(values), s=14, color=colour, alpha=0.5, linewidths=0)
            mean = rows[-1][key]["mean"]
            axes.plot([mean, mean], [y - 0.35, y + 0.35], color=INK, linewidth=1.5)
    for axes, title in zip(panels, SHOWN.values(), strict=True):
        dress(axes, "", title)
        axes.set_xlim(left=-0.02 * axes.get_xlim()[1])
        axes.grid(axis="y", color=FAINT, alpha=0.2)
    panels[0].set_yticks(range(len(groups)), list(groups))
    panels[0].invert_yaxis()
    least = min(run.values["between"] for run in measured)
    claims = (Claim(f"a continuous generator leaves mass between modes: at least {least:.2%}", least > 0),)
    means: dict[str, Any] = {f"modes {row['name']}": row["modes"]["mean"] for row in rows}
    return Drawing(figure, means | {"runs": len(measured), "rows": rows}, claims)
