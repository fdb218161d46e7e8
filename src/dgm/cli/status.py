"""`dgm status`: what of a study is done, running, failed or missing, and how long the rest will take."""

import json
from collections import Counter
from statistics import mean
from typing import Any

from dgm.cli.table import Parser
from dgm.configs import ConfigError
from dgm.runs import Run, find
from dgm.sweeps.plan import planned


def command(arguments: list[str]) -> int:
    """Print counts, a line per run that is not done, and the time left."""
    parser = Parser("dgm status", description="What of a study is done, running, failed, missing; the time left.")
    parser.add_argument("folder", help="a folder with runs in it, at any depth")
    parser.add_argument("--json", action="store_true", help="for another program")
    options = parser.parse_args(arguments)
    plans = planned(options.folder)
    try:
        runs = {run.folder.name: run for run in find(options.folder)}
    except ConfigError:
        if not plans:
            raise
        runs = {}
    report = summary(runs, plans)
    print(json.dumps(report, indent=1) if options.json else words(report))
    return 0


def summary(runs: dict[str, Run], plans: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by state, what is not done and why, seconds left or None where nothing tells."""
    states = {name: run.state for name, run in runs.items()}
    names = list(dict.fromkeys(name for plan in plans for name in plan["runs"]))
    states |= {name: "missing" for name in names if name not in states}
    unfinished = {
        name: {"state": state, "why": runs[name].why if name in runs else "", "done": share(runs.get(name))}
        for name, state in states.items()
        if state != "done"
    }
    return {
        "counts": dict(Counter(states.values())),
        "unfinished": unfinished,
        "seconds_left": left(runs, unfinished, max([plan["jobs"] for plan in plans], default=1)),
    }


def share(run: Run | None) -> float:
    """How much of its updates a run has behind it, 0..1, by its table."""
    total = run.provenance.get("total_updates") if run else None
    steps = [int(row["step"]) for row in run.curve()] if run and total else []
    return min(1.0, (max(steps) + 1) / total) if steps and total else 0.0


def left(runs: dict[str, Run], unfinished: dict[str, dict[str, Any]], jobs: int) -> float | None:
    """Seconds: the unfinished parts at the mean time of the finished runs, `jobs` side by side. Failed ones wait."""
    took = [s for run in runs.values() if run.state == "done" and (s := run.provenance.get("seconds"))]
    parts = [1 - u["done"] for u in unfinished.values() if u["state"] in ("missing", "running", "interrupted")]
    if not parts:
        return 0.0
    return mean(took) * sum(parts) / max(1, min(jobs, len(parts))) if took else None


def words(report: dict[str, Any]) -> str:
    """The report as lines."""
    lines = [", ".join(f"{n} {state}" for state, n in report["counts"].items())]
    for name, run in report["unfinished"].items():
        done = f" {run['done']:.0%}" if run["done"] else ""
        lines.append(f"  {run['state']}{done}: {name}" + (f": {' '.join(run['why'].split())}" if run["why"] else ""))
    seconds = report["seconds_left"]
    if seconds is None:
        lines.append("time left: unknown until one run is done")
    elif seconds:
        lines.append(f"time left: about {duration(seconds)}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`1 h 05 min`, `12 min`, `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
