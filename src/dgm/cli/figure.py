"""`dgm figure`: draws a figure of a run, or of a folder of runs, and writes it with the numbers behind it."""

import inspect
import io
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from hydra.types import RunMode

from dgm.cli.compose import plain, tree
from dgm.cli.configs import groups, show
from dgm.configs import Config, ConfigError, build, check, roots
from dgm.figures import Drawing
from dgm.files import write
from dgm.runs import Run, find, write_json

Format = Literal["png", "pdf", "svg"]
FRAME = 120  # milliseconds of an animation
HELP = """\
dgm figure figure=NAME run=RUN [out=FOLDER] [format=png|pdf|svg] [figure.KEY=VALUE ...]
Writes NAME.png and NAME.json, the numbers behind it, to RUN/figures or to FOLDER. Where a figure is there to prove
something that its numbers do not bear out, it says so and the exit code is 1. NAME is one of
"""


def command(arguments: list[str]) -> int:
    """Draw one figure."""
    if "-h" in arguments or "--help" in arguments:
        print(HELP)
        show("figure", groups(roots())["figure"])
        return 0
    with tree(arguments, "figure") as (hydra, words):
        composed = hydra.compose_config("figure", words, run_mode=RunMode.RUN, with_log_configuration=False)
    config = plain(composed)
    check(figure, config)
    make = build(config["figure"], "figure")
    name = composed.hydra.runtime.choices["figure"]
    drawing = make(*opened(make, config["run"], name))
    target = Path(config["out"] or Path(config["run"] or "outputs") / "figures")
    for path in save(drawing, target, name, config["format"]):
        print(path)
    show_numbers(drawing.numbers)
    broken = [claim.words for claim in drawing.claims if not claim.holds]
    if broken:
        raise ConfigError(f"figure={name}: what it should show does not hold here: {'; '.join(broken)}")
    return 0


def figure(
    *,
    run: Annotated[str, MinLen(1)] | None,
    figure: Callable[..., Drawing],
    out: str | None,
    format: Format,
    cache: str,
) -> None:
    """The signature that a figure config is checked against."""


def opened(draw: Callable[..., Any], path: str | None, name: str) -> tuple[()] | tuple[Run | list[Run]]:
    """A run, or all finished runs of a folder, or nothing, as the annotation of the first parameter of `draw` says."""
    function = draw.func if isinstance(draw, partial) else draw
    first = next(iter(inspect.signature(function).parameters), "")
    kind = typing.get_type_hints(function).get(first)
    if kind not in (Run, list[Run]):
        return ()
    if path is None:
        raise ConfigError(f"figure={name}: it draws {'a run' if kind is Run else 'runs'}; give run=FOLDER")
    if kind is Run:
        return (Run.open(path),)
    done = [run for run in find(path) if run.state == "done"]
    if not done:
        raise ConfigError(f"run={path}: no run in it is done; let them finish first")
    return (done,)


def save(drawing: Drawing, target: Path, name: str, format: Format = "png") -> list[Path]:
    """Write the picture, its animation if it has one, and its numbers, each whole or not at all: -> their paths."""
    picture, moving, numbers = (target / f"{name}.{ending}" for ending in (format, "gif", "json"))
    held = io.BytesIO()
    drawing.figure.savefig(held, format=format)
    write(picture, held.getvalue())
    if drawing.frames:
        first, *later = drawing.frames
        held = io.BytesIO()
        first.save(held, format="GIF", save_all=True, append_images=later, duration=FRAME, loop=0)
        write(moving, held.getvalue())
    claims = [claim._asdict() for claim in drawing.claims]
    write_json(numbers, drawing.numbers | ({"claims": claims} if claims else {}))
    return [picture, moving, numbers] if drawing.frames else [picture, numbers]


def show_numbers(numbers: Config) -> None:
    """The key numbers, which are those that stand alone; lists and tables are in the json."""
    for name, value in numbers.items():
        if isinstance(value, float | int):
            print(f"  {name.replace('_', ' ')}: " + (f"{value:.4g}" if isinstance(value, float) else f"{value:,}"))
