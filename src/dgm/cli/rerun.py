"""`dgm rerun`: repeat a run from its frozen config, and compare the weights."""

import itertools
import sys
from pathlib import Path

from dgm.cli.diff import circumstances, weights
from dgm.cli.job import perform
from dgm.cli.table import Parser
from dgm.configs import ConfigError
from dgm.runs import Run


def command(arguments: list[str]) -> int:
    """Train again in a new folder; exit code 1 where the weights differ."""
    parser = Parser("dgm rerun", description="Repeats a run from its frozen config and compares the weights.")
    parser.add_argument("run", help="the folder of a run that is done")
    parser.add_argument("--out", help="a new folder; else reruns/RUN/N beside the study's folder")
    options = parser.parse_args(arguments)
    first = Run.open(options.run)
    if first.state != "done":
        raise ConfigError(f"run={first.folder}: is {first.state}, not done; nothing to compare with")
    again = Run(place(first, options.out))
    config = first.config | {"logger": {}}  # a repetition is not a run of its own to a tracker
    perform(again, config, first.provenance["overrides"])
    print(again.folder)
    verdict = weights(first, again)
    print(f"weights: {verdict}")
    if verdict != "equal bit for bit":
        for row in circumstances(first, again):
            print(f"  {row[0]}: {row[1]}, now {row[2]}", file=sys.stderr)
        return 1
    return 0


def place(run: Run, out: str | None) -> Path:
    """A folder that is free, and apart from the study, whose tables would take it for another seed."""
    if out is not None:
        if Path(out).exists():
            raise ConfigError(f"--out={out}: is there already; give a new folder")
        return Path(out)
    home = run.folder.resolve().parent.parent / "reruns" / run.folder.name
    return next(home / str(n) for n in itertools.count(1) if not (home / str(n)).exists())
