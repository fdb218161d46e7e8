"""A with an attribute, minus A, plus B: is it B with the attribute? Shapes: N codes, K classes, Z latent dimensions."""

import itertools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from dgm.configs import ConfigError
from dgm.figures import Claim, Drawing
from dgm.figures.reading import able, batched
from dgm.figures.style import PALETTE, canvas, dress, show_grid
from dgm.images import quantise
from dgm.metrics.features import OwnClassifier
from dgm.modules.base import Samples
from dgm.runs import Run

GOAL, CONTROL = 0.70, 0.35  # success with arithmetic at least, without it at most
Attribute = Literal["thickness", "slant", "size", "colour"]


class Parts(NamedTuple):
    """Codes [N, Z] of one class without and with an attribute, and the value [] from which on it counts as there."""

    without: Tensor
    having: Tensor
    threshold: Tensor


@torch.no_grad()
def draw(
    run: Run,
    cache: str,
    attribute: Attribute = "thickness",
    n: Annotated[int, Ge(100)] = 10_000,
    codes: Annotated[int, Ge(2)] = 50,
    trials: Annotated[int, Ge(1)] = 5,
    shown: Annotated[int, Ge(1)] = 6,
    seed: Annotated[int, Ge(0)] = 0,
) -> Drawing:
    """Radford et al. (2016), fig. 7, with attributes that can be measured, for all pairs of classes.

    n decoded codes are sorted by a classifier's answer and by the attribute: its upper third has it, its lower third
    has not. mean(A with) - mean(A without) + mean(B without), each a mean of `codes` codes, is a success where the
    classifier says B and the attribute is in the upper third of B's. Control: mean(B without), no arithmetic. Single:
    one code instead of every mean. Vector: the difference of means, added to one code of B.
    """
    model = able(run, Samples, "choose a run of a model that decodes codes")
    if not hasattr(model, "decode") or getattr(model, "classes", 0) > 0:
        raise ConfigError(
            f"run={run.folder}: needs codes that hold the class; give an unconditional model=vae or dcgan"
        )
    data = run.data()
    if attribute == "colour" and data.shape[0] != 3:
        raise ConfigError(f"figure.attribute=colour, but {data.name} has none; choose another attribute or run")
    classifier: Any = OwnClassifier().ready(data, Path(cache), partial(print, file=sys.stderr))
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, model.latent, generator=generator)
    judge = partial(judged, model.decode, classifier, MEASURES[attribute])
    found, value = judge(z)
    parts = [sorted_out(z[found == c], value[found == c]) for c in range(int(found.max()) + 1)]
    usable = [c for c, part in enumerate(parts) if len(part.having) >= codes]
    if len(usable) < 2:
        raise ConfigError(
            f"run={run.folder}: fewer than 2 classes have {codes} codes with the attribute; raise figure.n"
        )
    rates = {}
    ways = {"averaged": (codes, codes, 1), "control": (codes, codes, 0), "vector": (1, codes, 1)}
    ways |= {"single": (1, 1, 1), "single_control": (1, 1, 0)}
    for name, (of_b, of_a, moved) in ways.items():
        made, wanted, least = combined(parts, usable, of_b, of_a, moved, trials, generator)
        said, now = judge(made)
        rates[name] = ((said == wanted) & (now >= least)).double().mean().item()
        rates[f"{name}_class_kept"] = (said == wanted).double().mean().item()
        rates[f"{name}_attribute_there"] = (now >= least).double().mean().item()
    pairs = list(itertools.permutations(usable, 2))[:: max(1, len(usable) * (len(usable) - 1) // shown)][:shown]
    figure = canvas(0.62 * shown + 4.6, 3.1)
    left, right = figure.subplots(1, 2, width_ratios=[3.2, 0.62 * shown + 0.8])
    left.bar(range(5), [rates[name] for name in ways], color=[PALETTE[i] for i in (0, 3, 0, 0, 3)])
    left.set_xticks(range(5), ["means", "means,\nno arith.", "mean to\nsingle", "single", "single,\nno arith."])
    left.set_ylim(0, 1)
    dress(left, f"B, and {attribute}")
    rows = [f"A, {attribute}", "A without", "B without", "result"]
    show_grid(right, examples(model, parts, pairs, codes, generator), len(pairs), "", rows)
    claims = (
        Claim(f"arithmetic succeeds in at least {GOAL:.0%}: {rates['averaged']:.1%}", rates["averaged"] >= GOAL),
        Claim(f"its absence in at most {CONTROL:.0%}: {rates['control']:.1%}", rates["control"] <= CONTROL),
    )
    counts = {"codes_drawn": n, "codes_per_mean": codes, "pairs": len(usable) * (len(usable) - 1), "seed": seed}
    return Drawing(figure, rates | counts | {"attribute": attribute, "classes": usable}, claims)


def ink(x: Tensor) -> Tensor:
    """How much of the image is drawn on, in whatever colour: [N, C, H, W] -> [N]."""
    return x.amax(1).flatten(1).mean(1)


def blue(x: Tensor) -> Tensor:
    """The share of blue in all light: [N, 3, H, W] -> [N]."""
    light = x.sum((2, 3))
    return light[:, 2] / light.sum(1).clamp_min(1e-6)


def slant(x: Tensor) -> Tensor:
    """By how many pixels the strokes lean to the right over one pixel upwards: [N, C, H, W] -> [N]."""
    mass = x.mean(1)
    total = mass.sum((1, 2)).clamp_min(1e-6)
    rows = torch.arange(x.shape[2], dtype=x.dtype).view(1, -1, 1)
    columns = torch.arange(x.shape[3], dtype=x.dtype).view(1, 1, -1)
    dy = rows - ((mass * rows).sum((1, 2)) / total).view(-1, 1, 1)
    dx = columns - ((mass * columns).sum((1, 2)) / total).view(-1, 1, 1)
    return -(mass * dx * dy).sum((1, 2)) / (mass * dy.square()).sum((1, 2)).clamp_min(1e-6)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {"thickness": ink, "size": ink, "slant": slant, "colour": blue}


def judged(
    decode: Callable[[Tensor], Tensor], classifier: Any, measure: Callable[[Tensor], Tensor], z: Tensor
) -> tuple[Tensor, Tensor]:
    """Class and attribute of decoded codes: [N, Z] -> [N], [N]."""
    x = batched(decode, z).clamp(0, 1)
    return batched(lambda part: classifier(quantise(part))[1].argmax(1), x), measure(x)


def sorted_out(z: Tensor, value: Tensor) -> Parts:
    """Codes of one class by their attribute: [N, Z], [N]."""
    if len(z) < 3:
        return Parts(z[:0], z[:0], torch.tensor(torch.inf))
    low, high = value.quantile(torch.tensor([1 / 3, 2 / 3]))
    return Parts(z[value <= low], z[value >= high], high)


def combined(
    parts: list[Parts],
    usable: list[int],
    of_b: int,
    of_a: int,
    moved: float,
    trials: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """A mean of `of_b` codes of B, moved along the difference of means of `of_a` codes of A, for every pair.

    -> new codes [N, Z], the class wanted [N], and the least of the attribute [N].
    """
    made, wanted, least = [], [], []
    for a, b in itertools.permutations(usable, 2):
        for _ in range(trials):
            plus, minus = mean(parts[a].having, of_a, generator), mean(parts[a].without, of_a, generator)
            made.append(mean(parts[b].without, of_b, generator) + moved * (plus - minus))
            wanted.append(b)
            least.append(parts[b].threshold)
    return torch.stack(made), torch.tensor(wanted), torch.stack(least)


def mean(z: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Of so many codes drawn at random: [N, Z] -> [Z]."""
    return z[torch.randperm(len(z), generator=generator)[:size]].mean(0)


def examples(
    model: Any, parts: list[Parts], pairs: list[tuple[int, int]], size: int, generator: torch.Generator
) -> Tensor:
    """Decoded means and what comes out, a column for each pair: [4 P, C, H, W]."""
    rows = []
    for a, b in pairs:
        plus, minus, base = (mean(z, size, generator) for z in (parts[a].having, parts[a].without, parts[b].without))
        rows.append(torch.stack([plus, minus, base, base + plus - minus]))
    codes = torch.stack(rows, 1).flatten(0, 1)
    return batched(model.decode, codes).clamp(0, 1)
