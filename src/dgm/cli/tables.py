"""Tables for the terminal."""

from rich.console import Console
from rich.table import Table

from dgm.runs import Run


def show_values(run: Run) -> None:
    """Where a run lies and what was measured."""
    table = Table(box=None)
    table.add_column("measured on test")
    table.add_column("value", justify="right")
    for name, value in run.values.items():
        table.add_row(name, f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}")
    print(run.folder)
    if run.values:
        Console().print(table)
