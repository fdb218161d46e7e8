"""What models have learnt of a density in the plane: samples over data. Shapes: N points."""

from typing import Annotated

import torch
from annotated_types import Ge

from dgm.configs import ConfigError
from dgm.figures import Drawing
from dgm.figures.reading import able, groups_of, spread
from dgm.figures.style import FAINT, PALETTE, canvas, dress
from dgm.metrics.modes import covered, mixture
from dgm.modules.base import Samples
from dgm.runs import Run


@torch.no_grad()
def draw(runs: list[Run], n: Annotated[int, Ge(2)] = 2500, columns: Annotated[int, Ge(1)] = 4) -> Drawing:
    """A panel per configuration, its first seed; modes covered and share of good samples over all its seeds."""
    groups = groups_of(runs)
    columns = min(columns, len(groups))
    figure = canvas(2.6 * columns + 0.2, 2.8 * -(-len(groups) // columns) + 0.2)
    panels = figure.subplots(-(-len(groups) // columns), columns, squeeze=False).flatten()
    rows = []
    for axes, (name, seeds) in zip(panels, groups.items(), strict=False):
        measured: list[dict[str, float]] = []
        for run in seeds:
            data = run.data()
            if len(data.shape) != 1:
                raise ConfigError(f"run={run.folder}: its data ({data.name}) are images; give runs of data=density")
            model = able(run, Samples, "give runs of generative models")
            x = model.sample(n, generator=torch.Generator().manual_seed(0)).cpu()
            if not measured:
                real = data.set("test").fetch(torch.arange(min(n, data.size("test"))))["point"]
                axes.scatter(*real.T.numpy(), s=2, color=FAINT, alpha=0.4, linewidths=0)
                axes.scatter(*x.T.numpy(), s=2, color=PALETTE[2], alpha=0.5, linewidths=0)
            measured.append(covered(x.double(), *mixture(data), radius=3.0))
        row = {key: spread([one[key] for one in measured]) for key in measured[0]}
        rows.append((name, row))
        dress(axes, f"{name}\n{row['modes']['mean']:.1f} modes, {row['high_quality']['mean']:.0%} good")
        axes.set_aspect("equal")
    for axes in panels[len(groups) :]:
        axes.remove()
    key = {f"modes {name}": row["modes"]["mean"] for name, row in rows}
    return Drawing(figure, key | {"samples": n, "groups": [{"name": name, **row} for name, row in rows]})
