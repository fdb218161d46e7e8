"""`dgm evaluate`: measure a trained run by the metrics of the config; results join the run's result.json."""

import sys
from typing import Annotated, Any

import torch
from annotated_types import MinLen

from dgm.cli.compose import asked, compose, explain
from dgm.cli.terminal import show_values
from dgm.configs import Config, build, check
from dgm.metrics.report import Report
from dgm.runs import Run, write_json


def command(arguments: list[str]) -> int:
    """Evaluate one run."""
    if asked(arguments):
        return explain("evaluate", arguments)
    config = compose("evaluate", arguments)
    check(evaluate, config)
    run = Run.open(config["run"])
    measure(run, config["metric"], again=config["again"])
    show_values(run)
    return 0


def evaluate(*, run: Annotated[str, MinLen(1)], metric: dict[str, Any], again: bool, cache: str) -> None:
    """The signature that an evaluate config is checked against."""


def say(words: str) -> None:
    """Tell what takes a while."""
    print(words, file=sys.stderr, flush=True)


def unmeasured(run: Run, metrics: Config) -> Config:
    """Those of the metrics that the run has no result of by the same config."""
    known = run.result
    return {name: config for name, config in metrics.items() if config not in known.get(name, {}).get("configs", [])}


def measure(run: Run, metrics: Config, data: Any = None, again: bool = False) -> dict[str, float]:
    """Values of all metrics, name -> number; those that the run has already, by the same config, are not repeated."""
    missing = metrics if again else unmeasured(run, metrics)
    if missing:
        model, data = run.model(), data or run.data()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for name, config in missing.items():
            report = build(config, f"metric.{name}")(model.to(device), data, device, say)
            entry = joined(run.result.get(name), report, config)
            write_json(run.path("result.json"), run.result | {name: entry})
    return run.values


def joined(known: dict[str, Any] | None, report: Report, config: Config) -> dict[str, Any]:
    """A report beside what was measured before by the same protocol, such as a bound with fewer samples."""
    same = known if known and known["protocol"] == report.protocol else {"values": {}, "arrays": {}, "configs": []}
    return {
        "values": same["values"] | report.values,
        "arrays": same["arrays"] | report.arrays,
        "protocol": report.protocol,
        "configs": [other for other in same["configs"] if other != config] + [config],
    }
