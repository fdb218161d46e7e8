"""`dgm table`: the runs of one or more folders and their numbers, mean and spread over seeds."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from dgm.configs import ConfigError, nearest
from dgm.runs import Run, find

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

FORMATS = ("terminal", "csv", "markdown")
WIDTH = 100  # characters, where the output is no terminal


class Parser(argparse.ArgumentParser):
    """Whose errors are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise ConfigError(f"{self.prog}: {message}; {self.prog} --help shows what it takes")


def command(arguments: list[str]) -> int:
    """Print the table in the format asked for."""
    parser = Parser("dgm table", description="Runs and their numbers, mean and spread over seeds.")
    parser.add_argument("folder", nargs="+", help="a folder with runs in it, at any depth")
    parser.add_argument("--format", default="terminal", help="terminal; csv: all runs; markdown: the means")
    parser.add_argument("--metrics", default="", help="names with commas between; else the main ones")
    parser.add_argument("--all", action="store_true", help="all that was measured, however wide")
    options = parser.parse_args(arguments)
    if options.format not in FORMATS:
        raise ConfigError(f"--format={options.format}: no such format.{nearest(options.format, FORMATS)}")
    runs = gather(options.folder)
    frame, metrics = _study(runs, options.metrics, options.all)
    if options.format == "csv":
        unasked = [name for name in frame.attrs["values"] if options.metrics and name not in metrics]
        frame.drop(columns=unasked).to_csv(sys.stdout, index=False)
    elif options.format == "markdown":
        print("\n".join([*markdown(frame, metrics), "", *frame.attrs["notes"]]).strip())
    else:
        show(frame, metrics, fit=not (options.all or options.metrics))
        _show_failed(runs)
    return 0


def summary(runs: list[Run]) -> None:
    """The closing table of a sweep."""
    if runs:
        frame, metrics = _study(runs, "", False)
        show(frame, metrics)


def gather(folders: Sequence[str]) -> list[Run]:
    """All runs in the folders, each once."""
    found = [run for folder in folders for run in find(folder)]
    return list({run.folder.resolve(): run for run in found}.values())


def _study(runs: list[Run], wanted: str, everything: bool) -> "tuple[pd.DataFrame, list[str]]":
    from dgm.studies import base, main_metrics, tidy

    frame = tidy(runs)
    known = frame.attrs["values"]
    names = [name for name in wanted.split(",") if name]
    for name in names:
        if name not in map(base, known):
            raise ConfigError(f"--metrics={name}: not measured in these runs.{nearest(name, known)}")
    if names:
        return frame, [column for name in names for column in known if base(column) == name]
    return frame, known if everything else main_metrics(known)


def cells(frame: "pd.DataFrame", metrics: list[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the mean table, as text: swept keys, seeds, metrics."""
    from dgm.studies import mean_rows, measured, swept

    seen = measured(frame)
    rows = [[*settings, str(n), *values] for settings, n, values in mean_rows(seen, metrics)]
    return [*swept(seen), "n", *metrics], rows


def markdown(frame: "pd.DataFrame", metrics: list[str]) -> list[str]:
    """Lines of the mean table in markdown."""
    head, rows = cells(frame, metrics)
    marks = ["---" if i < len(head) - len(metrics) - 1 else "---:" for i in range(len(head))]
    return [f"| {' | '.join(c.replace('|', chr(92) + '|') for c in line)} |" for line in (head, marks, *rows)]


def show(frame: "pd.DataFrame", metrics: list[str], fit: bool = True) -> None:
    """Print the mean table; to `fit`, the last metrics are left out where the terminal is too narrow."""
    from rich.console import Console

    from dgm.studies import anchors

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    room = console.width if fit else 10_000
    left = list(metrics)
    while len(left) > 1 and _width(console, _drawn(frame, left)) > room:
        left.remove(_least(left))
    console.width = max(console.width, 0 if fit else _width(console, _drawn(frame, left)))
    console.print(_drawn(frame, left))
    if out := [m for m in metrics if m not in left]:
        console.print(f"Too wide for here: {', '.join(out)}; --all shows all", markup=False)
    if not metrics:
        console.print("Nothing was measured in these runs; dgm evaluate run=RUN metric=[...] does")
    notes = [note for note in frame.attrs["notes"] if note.partition(":")[0] in left]
    for note in [*notes, *anchors(frame, left)]:
        console.print(note, markup=False)


def _least(metrics: list[str]) -> str:
    """What a narrow table can do without: what follows from other columns, else the last."""
    follows = [m for name in ("bits_per_dim", "active_units", "iw_") for m in metrics if m.startswith(name)]
    return follows[0] if follows else metrics[-1]


def _width(console: "Console", table: "Table") -> int:
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def _drawn(frame: "pd.DataFrame", metrics: list[str]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    head, rows = cells(frame, metrics)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in head:
        table.add_column(Text(name.replace(".", ".\n")), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _show_failed(runs: list[Run]) -> None:
    failed = [run for run in runs if run.state == "failed"]
    for run in failed[:10]:
        print(f"Failed: {run.folder.name}: {' '.join(run.why.split())}")
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more failed")
