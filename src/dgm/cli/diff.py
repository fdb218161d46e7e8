"""`dgm diff`: in what two runs differ, where each value came from, and what came of it."""

from collections.abc import Iterator
from typing import Any

import torch

from dgm.cli.origins import origin, origins
from dgm.cli.table import Parser
from dgm.configs import ConfigError, flatten
from dgm.runs import Run, weights_in

Row = tuple[str, str, str]
PROVENANCE = ("commit", "diff", "versions", "python", "machine", "data", "dgm")


def command(arguments: list[str]) -> int:
    """Print what differs."""
    parser = Parser("dgm diff", description="What differs between two runs, and where each value came from.")
    parser.add_argument("runs", nargs=2, metavar="RUN", help="the folder of a run")
    first, second = map(Run.open, parser.parse_args(arguments).runs)
    sections = {
        "configuration": list(configuration(first, second)),
        "provenance": list(circumstances(first, second)),
        "measured": list(measured(first, second)),
    }
    for title, rows in sections.items():
        print(f"{title}:" if rows else f"{title}: the same")
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"weights: {weights(first, second)}")
    return 0


def configuration(first: Run, second: Run) -> Iterator[Row]:
    """Keys whose values differ, each value with where it came from."""
    sides = [(flatten(run.config), traced(run)) for run in (first, second)]
    (first_values, first_origins), (second_values, second_origins) = sides
    for key in dict.fromkeys([*first_values, *second_values]):
        a, b = first_values.get(key, "not set"), second_values.get(key, "not set")
        if a != b:
            yield key, f"{a} ({origin(first_origins, key)})", f"{b} ({origin(second_origins, key)})"


def traced(run: Run) -> dict[str, str]:
    """Origins of a run's values, by the configuration tree as it is today; none where that cannot compose the run."""
    try:
        return origins(run.provenance.get("overrides", []))
    except ConfigError:
        return {}


def circumstances(first: Run, second: Run) -> Iterator[Row]:
    """Versions, commit, uncommitted changes, machine and data that differ."""
    a, b = (flatten({k: run.provenance.get(k) for k in PROVENANCE}) for run in (first, second))
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            yield key, shortened(a.get(key)), shortened(b.get(key))


def measured(first: Run, second: Run) -> Iterator[Row]:
    """All values measured in both, and by how much they differ."""
    for name, value in first.values.items():
        if name in second.values:
            other = second.values[name]
            yield name, f"{value:.6g}", f"{other:.6g} ({other - value:+.3g})"


def weights(first: Run, second: Run) -> str:
    """`equal bit for bit`, `differ`, or why that can't be told."""
    files = [run.path("checkpoints", "last.ckpt") for run in (first, second)]
    if not all(file.is_file() for file in files):
        return "not both have a checkpoint"
    a, b = (weights_in(file) for file in files)
    same = list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
    return "equal bit for bit" if same else "differ"


def shortened(value: Any) -> str:
    """A value's first words; of uncommitted changes only how many lines."""
    text = str(value)
    return f"{len(text.splitlines())} lines" if "\n" in text else text[:60]
