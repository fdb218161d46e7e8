"""A game on the line, while it is played. Shapes: N points, G places, T snapshots."""

from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import Tensor

from dgm.configs import ConfigError
from dgm.figures import Claim, Drawing
from dgm.figures.style import FAINT, INK, PALETTE, TICK, canvas, dress
from dgm.metrics.modes import wasserstein_1
from dgm.runs import Run

REAL, FAKE = PALETTE[0], PALETTE[2]
FRAMES = 60  # of the animation


class Snapshot(NamedTuple):
    """The game after some updates. real, fake: [N]; places, p_real, p, q: [G]."""

    update: int
    real: Tensor
    fake: Tensor
    places: Tensor
    p_real: Tensor  # what the critic says
    p: Tensor  # density of the data
    q: Tensor  # and of what is generated
    accuracy: float
    distance: float  # Wasserstein-1

    def error(self, least: float) -> float:
        """Of P(real) against p / (p + q), where at least that share of the highest p + q is; the largest."""
        mass = self.p + self.q
        there = mass >= least * mass.max()
        return (self.p_real - self.p / mass)[there].abs().max().item()


def draw(
    run: Run,
    frames: Annotated[int, Ge(3)] = 7,
    shown: Annotated[int, Ge(1)] = 60,
    least: Annotated[float, Gt(0)] = 0.05,
) -> Drawing:
    """A strip of snapshots, the critic's accuracy and the distance to the data; and an animation of all snapshots.

    P(real) of the best critic is p / (p + q) (Goodfellow et al., 2014, prop. 1). Accuracy: how often a guess that is
    drawn with P(real) is right, half of the points being real; it is 1/2 for a critic that knows nothing.
    """
    found = read(run)
    chosen = [found[i] for i in spread_out(found, frames)]
    figure = canvas(1.75 * frames + 0.6, 4.6)
    cells = figure.add_gridspec(2, 2 * frames, height_ratios=[1.1, 1])
    for i, snapshot in enumerate(chosen):
        axes = figure.add_subplot(cells[0, 2 * i : 2 * i + 2])
        show(axes, snapshot, shown, i == 0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False, fontsize=TICK)
    updates = [s.update for s in found]
    left, right = (figure.add_subplot(cells[1, part]) for part in (slice(0, frames), slice(frames, 2 * frames)))
    left.plot(updates, [s.accuracy for s in found], color=INK)
    left.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
    dress(left, "Critic's accuracy", "generator updates")
    right.plot(updates, [s.distance for s in found], color=INK)
    dress(right, "Wasserstein-1 distance to the data", "generator updates")
    right.set_ylim(bottom=0)
    first, last = found[0], found[-1]
    best, fallen, error = max(s.accuracy for s in found), 1 - last.distance / first.distance, last.error(least)
    claims = (
        Claim(f"the critic starts at chance: accuracy {first.accuracy:.2f}", abs(first.accuracy - 0.5) <= 0.05),
        Claim(f"it rises above 0.95: {best:.3f}", best > 0.95),
        Claim(f"it comes back to 0.5 +- 0.05: {last.accuracy:.3f}", abs(last.accuracy - 0.5) <= 0.05),
        Claim(f"the distance falls by 90 %: {fallen:.1%}", fallen >= 0.9),
        Claim(f"P(real) is within 0.1 of p / (p + q): {error:.3f}", error <= 0.1),
    )
    traces = [{"update": s.update, "accuracy": s.accuracy, "wasserstein_1": s.distance} for s in found]
    numbers: dict[str, Any] = {"accuracy_first": first.accuracy, "accuracy_best": best, "accuracy_last": last.accuracy}
    numbers |= {"wasserstein_1_fallen_by": fallen, "largest_error_of_p_real": error, "updates": last.update}
    moving = [found[i] for i in sorted(set(spread_out(found, FRAMES)))]
    return Drawing(figure, numbers | {"traces": traces}, claims, tuple(frame(s, shown) for s in moving))


def read(run: Run) -> list[Snapshot]:
    """All snapshots of a run, in turn. Errors: ConfigError where there are none."""
    paths = sorted(run.path("snapshots").glob("*.npz"))
    if len(paths) < 3:
        raise ConfigError(f"run={run.folder}: has no snapshots; give a run of experiment=line_gan")
    density: Any = run.data().source.keywords["density"]
    return [snapshot(int(path.stem), dict(np.load(path)), density) for path in paths]


def snapshot(update: int, arrays: dict[str, np.ndarray], density: Any) -> Snapshot:
    """What follows from the arrays that were kept."""
    held = {name: torch.from_numpy(array).double() for name, array in arrays.items()}
    right = (held["real_logits"].sigmoid().mean() + (-held["fake_logits"]).sigmoid().mean()).item() / 2
    return Snapshot(
        update,
        held["real"],
        held["fake"],
        held["places"],
        held["logits"].sigmoid(),
        density.log_prob(held["places"][:, None]).exp(),
        kernel_density(held["fake"], held["places"]),
        right,
        wasserstein_1(held["real"], held["fake"]),
    )


def kernel_density(x: Tensor, places: Tensor) -> Tensor:
    """Gaussian kernels, of 0.9 times the least of deviation and quartiles' width / 1.34, N^(-1/5) (Silverman, 1986,
    eq. 3.31): [N], [G] -> [G]."""
    low, high = x.quantile(torch.tensor([0.25, 0.75], dtype=x.dtype))
    width = 0.9 * min(x.std().item(), (high - low).item() / 1.34) * len(x) ** -0.2 + 1e-6
    return torch.distributions.Normal(x, width).log_prob(places[:, None]).exp().mean(1)


def spread_out(found: list[Snapshot], n: int) -> list[int]:
    """Snapshots from the first to the last, closer together where the distance changes faster: n indices."""
    change = torch.tensor([s.distance for s in found]).diff().abs().cumsum(0)
    moved = torch.cat([torch.zeros(1), change / change[-1]]) + torch.linspace(0, 1, len(found))
    return [int((moved - 2 * i / (n - 1)).abs().argmin()) for i in range(n)]


def show(axes: Axes, s: Snapshot, shown: int, named: bool) -> None:
    """One snapshot: densities, points, and both curves of P(real)."""
    scale = 1.0 / max(s.p.max().item(), 1e-12)
    for density, colour, label in ((s.p, REAL, "data"), (s.q, FAKE, "generated")):
        axes.fill_between(
            s.places, (density * scale).clamp_max(1.2), color=colour, alpha=0.22, linewidth=0, label=label
        )
    for points, colour, y in ((s.real, REAL, -0.1), (s.fake, FAKE, -0.2)):
        axes.scatter(
            points[:shown], torch.full((min(shown, len(points)),), y), s=7, color=colour, alpha=0.7, linewidths=0
        )
    mass = s.p + s.q
    known = mass > 1e-4 * mass.max()
    axes.plot(s.places[known], (s.p / mass)[known], color=FAINT, linestyle="--", linewidth=1.2, label="p / (p + q)")
    axes.plot(s.places, s.p_real, color=INK, linewidth=1.3, label="P(real)")
    axes.set_ylim(-0.28, 1.25)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if named else ["", "", ""])
    dress(axes, f"{s.update:,} updates")


def frame(s: Snapshot, shown: int) -> Image.Image:
    """One snapshot as a picture of an animation."""
    figure = canvas(4.6, 2.9)
    axes = figure.subplots()
    show(axes, s, shown, True)
    axes.legend(frameon=False, fontsize=TICK, loc="upper left")
    painted = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    painted.draw()
    return Image.fromarray(np.asarray(painted.buffer_rgba())).convert("P", palette=Image.Palette.ADAPTIVE)
