"""Why the generator's loss matters: saturating against non-saturating, in theory and against a trained critic."""

from itertools import pairwise

import torch

from dgm.configs import ConfigError
from dgm.figures import Claim, Drawing
from dgm.figures.style import FAINT, INK, MARKERS, PALETTE, canvas, dress, legend
from dgm.losses.adversarial import minimax, non_saturating
from dgm.runs import Run

LOSSES = {"minimax": minimax, "non_saturating": non_saturating}
FINAL = 500.0  # what the ratio must reach


def draw(run: Run) -> Drawing:
    """The losses over P(real), their slopes in the critic's logit, and the norms of gradients that a run recorded.

    At P(real) = D the slopes are D and 1 - D: their ratio (1 - D) / D grows without bound as the critic sees through
    the generator (Goodfellow et al., 2014, sec. 3; Arjovsky & Bottou, 2017, thm. 2.4).
    """
    rows = recorded(run)
    figure = canvas(10.5, 3.1)
    left, middle, right = figure.subplots(1, 3)
    logit = torch.linspace(-6, 6, 241, requires_grad=True)
    p_real = logit.sigmoid().detach()
    for i, (name, loss) in enumerate(LOSSES.items()):
        value = loss(torch.zeros_like(logit), logit)["generator"]
        (slope,) = torch.autograd.grad(value.sum(), logit)
        look = {"color": PALETTE[2 * i], "label": name.replace("_", "-")}
        left.plot(p_real, value.detach(), **look)
        middle.plot(p_real, slope.abs(), **look)
        right.plot([r["update"] for r in rows], [r[name] for r in rows], marker=MARKERS[i], markersize=4, **look)
    dress(left, "The generator's loss", "P(real) of a sample")
    dress(middle, "Its slope in the logit", "P(real) of a sample")
    dress(right, "Norm of the gradient, generator frozen", "critic steps")
    right.set_yscale("log")
    right.margins(x=0.16)
    for row in rows:
        place = (row["update"], row["minimax"])
        note = f"x {row['ratio']:,.0f}"
        right.annotate(note, place, textcoords="offset points", xytext=(4, -10), fontsize=7, color=INK)
    for axes in (left, middle, right):
        legend(axes)
        axes.grid(color=FAINT, alpha=0.15)
    ratios = [row["ratio"] for row in rows]
    grows = all(before < after for before, after in pairwise(ratios))
    claims = (
        Claim(f"before training both norms are alike: ratio {ratios[0]:.2f}", 0.5 <= ratios[0] <= 2),
        Claim(f"the ratio grows: {', '.join(f'{r:.3g}' for r in ratios)}", grows),
        Claim(f"it passes {FINAL:g}: {ratios[-1]:.4g}", ratios[-1] >= FINAL),
    )
    return Drawing(figure, {f"ratio_{row['update']}": row["ratio"] for row in rows} | {"rows": rows}, claims)


def recorded(run: Run) -> list[dict[str, float]]:
    """What callbacks=saturation logged, by update. Errors: ConfigError where there is too little."""
    found: dict[int, dict[str, float]] = {}
    for row in run.curve():
        if row["name"].startswith("saturation/"):
            found.setdefault(int(row["step"]), {})[row["name"].partition("/")[2]] = float(row["value"])
    if len(found) < 2 or not all(set(LOSSES) <= set(row) for row in found.values()):
        raise ConfigError(f"run={run.folder}: has no gradients of both losses; give a run of experiment=frozen_gan")
    return [
        {**row, "update": int(row.get("updates", step)), "ratio": row["non_saturating"] / row["minimax"]}
        for step, row in sorted(found.items())
    ]
