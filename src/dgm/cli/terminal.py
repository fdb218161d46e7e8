"""Tables for the terminal."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from dgm.runs import Run


def show_values(run: Run) -> None:
    """Where a run lies and what was measured."""
    table = Table(box=None)
    table.add_column("measured on test")
    table.add_column("value", justify="right")
    for name, value in run.values.items():
        digits = ".0f" if float(value).is_integer() else "#.4g" if abs(value) < 1000 else ".1f"
        table.add_row(name, f"{value:{digits}}")
    print(run.folder)
    if run.values:
        Console().print(table)


def show_search(search: dict[str, Any]) -> None:
    """The best trials of a search: one, or where several objectives disagree those that no other beats in all."""
    best = [trial for trial in search["trials"] if trial["best"]]
    table = Table(box=None)
    for name in ("trial", *search["objectives"], "with"):
        table.add_column(name, justify="left" if name == "with" else "right")
    for trial in best:
        words = " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                         for key, value in trial["parameters"].items())  # fmt: skip
        table.add_row(str(trial["trial"]), *(f"{value:.4g}" for value in trial["values"]), words)
    states = Counter(trial["state"] for trial in search["trials"])
    told = ", ".join(f"{n} {state}" for state, n in states.items())
    print(f"{'Best trial' if len(search['objectives']) == 1 else 'Pareto front'} of {len(search['trials'])} ({told})")
    Console().print(table)
