"""What a training step costs, of several models on the same images. Shapes: B batch."""

from collections.abc import Callable
from statistics import median
from typing import Annotated, Any

import torch
from annotated_types import Ge

from dgm.figures import Drawing
from dgm.figures.ladder import named
from dgm.figures.reading import alike
from dgm.figures.sampling_time import timed
from dgm.figures.style import INK, PALETTE, canvas, dress
from dgm.modules.base import Model
from dgm.runs import Run


def draw(runs: list[Run], batch: Annotated[int, Ge(1)] = 64, rounds: Annotated[int, Ge(1)] = 10) -> Drawing:
    """Seconds of objective and gradients for one batch, the median over rounds in which every model has its turn."""
    alike(runs, "data.name", "data.binarise", "data.shape")
    x = runs[0].data().set("test").fetch(torch.arange(batch))
    models = {named(run): run.model() for run in runs}
    steps = {name: step(model.train(), x) for name, model in models.items()}
    for work in steps.values():
        work()  # what is made only once
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, work in steps.items():
            seconds[name].append(timed(work)[0])
    rows: list[dict[str, Any]] = [
        {"name": name, "seconds": median(times), "parameters": sum(p.numel() for p in models[name].parameters())}
        for name, times in seconds.items()
    ]
    rows.sort(key=lambda row: row["seconds"])
    figure = canvas(6.4, 0.36 * len(rows) + 0.9)
    axes = figure.subplots()
    for y, row in enumerate(rows):
        row["over_fastest"] = row["seconds"] / rows[0]["seconds"]
        axes.barh(y, row["seconds"], color=PALETTE[0], height=0.6)
        axes.text(row["seconds"], y, f"  {row['over_fastest']:.2f} x", va="center", fontsize=7, color=INK)
    axes.set_yticks(range(len(rows)), [f"{row['name']}, {row['parameters']:,} weights" for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    dress(axes, "", f"seconds of a training step on {batch} images")
    key = {f"over fastest {row['name']}": row["over_fastest"] for row in rows}
    return Drawing(figure, key | {"images": batch, "threads": torch.get_num_threads(), "steps": rows})


def step(model: Model, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """One step without the optimizer's."""

    def work() -> None:
        model.zero_grad()
        model.objective(*model.given(batch))["loss"].mean().backward()

    return work
