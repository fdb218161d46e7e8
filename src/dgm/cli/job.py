"""A run as a job: checked before anything starts, then brought to its end by one process at a time."""

import errno
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
import yaml
from annotated_types import Ge
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dgm.callbacks.checkpoints import Left
from dgm.callbacks.pruning import Pruned
from dgm.cli.compose import plain
from dgm.cli.evaluate import measure, say, unmeasured
from dgm.cli.fit import fit, quiet
from dgm.cli.rank import launch, world
from dgm.configs import Config, ConfigError, build, check, is_call
from dgm.data.module import Data
from dgm.files import write
from dgm.runs import Run, State, home, identity, provenance, slug, write_json

CHECKPOINTS = "dgm.callbacks.checkpoints.Checkpoints"  # without them there is no run to speak of


def train(
    *,
    seed: Annotated[int, Ge(0)],
    out: str,
    study: str | None,
    cache: str,
    retry: bool,
    compile: bool,
    progress: bool,
    data: Data,
    model: pl.LightningModule,
    trainer: pl.Trainer,
    callbacks: dict[str, pl.Callback],
    logger: dict[str, Any],
    metric: dict[str, Callable],
    loss: Any,
    likelihood: Any,
    optimizer: Any,
    scheduler: Any,
) -> None:
    """The signature that a train config is checked against: its top-level keys. See `fit` for the work."""


class Job:
    """What Hydra calls for every point: checks a config, or trains it and returns the run."""

    def __init__(self, wait: bool = True) -> None:
        self.wait = wait  # for another process that trains the same run

    def check(self, config: DictConfig) -> Config:
        """Hold a point against all signatures and build its model without memory, before anything starts."""
        values = plain(config)
        check(train, values)
        for name, call in values["callbacks"].items():
            if not is_call(call):
                raise ConfigError(
                    f"callbacks.{name}={call}: {name} is not chosen; add it, as in callbacks=[default,{name}]"
                )
        if not any(call["_target_"] == CHECKPOINTS for call in values["callbacks"].values()):
            raise ConfigError(f"callbacks={list(values['callbacks'])}: nothing would be kept; begin with default")
        with torch.device("meta"):
            model = build(values["model"], "model")
        if values["compile"]:
            model.compile_hot()
        for key in ("optimizer", "trainer"):
            tried(key, json.dumps(values[key]))
        for metric in build(values["metric"], "metric").values():
            if hasattr(metric, "refuse"):
                metric.refuse(model, build(values["data"], "data"))
        return values

    def run(self, values: Config, overrides: list[str]) -> Run:
        """The run of a point, begun or not; whatever words named it, the same config has the same folder."""
        folder, digest = home(values["out"], values["study"]), identity(values)
        return Run(next(folder.glob(f"*-{digest}"), folder / slug(overrides, digest)))

    def look(self, config: DictConfig, overrides: list[str]) -> tuple[Path, Run | None]:
        """Before a sweep: where a point's run will lie, and the run where nothing is left to do; else it is checked."""
        values = plain(config)
        run = self.run(values, overrides)
        if run.state == "done" and not unmeasured(run, values["metric"]):
            return run.folder, run
        self.check(config)
        return run.folder, None

    def lost(self, config: DictConfig, overrides: list[str], why: str) -> None:
        """The process of a job is gone without a word."""
        self.run(plain(config), overrides).mark("failed", why)

    def __call__(self, config: DictConfig) -> Run:
        """Train a point, or take its result where it is finished already."""
        values = self.check(config)
        overrides = [str(word) for word in HydraConfig.get().overrides.task]
        return perform(self.run(values, overrides), values, overrides, self.wait)


@functools.cache
def tried(key: str, config: str) -> None:
    """Make an optimizer or a trainer, which only then say that a value is wrong; once for all points that share its
    config, which comes as json. Errors: ConfigError."""
    quiet()
    arguments = ([torch.zeros(1, requires_grad=True)],) if key == "optimizer" else ()
    make = build(json.loads(config), key)
    try:
        make(*arguments)
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise ConfigError(f"{key}: {' '.join(str(error).split())}") from error


def perform(run: Run, config: Config, overrides: list[str], wait: bool = True) -> Run:
    """Bring a run to its end: nothing where it is done, from its checkpoint where it was interrupted.

    One process at a time: another waits until the first is done, or with `wait=False` leaves it at that.
    """
    if run.state == "running":
        say(f"{run.folder}: another process trains it; {'waiting for it' if wait else 'left to it'}")
    with run.lock(wait) as ours:
        if ours:
            _perform(run, config, overrides)
    return run


def _perform(run: Run, config: Config, overrides: list[str]) -> None:
    state, known = run.state, run.path("config.yaml").is_file()
    # what failed with other hardware, or before it began, may try again
    if state == "failed" and not config["retry"] and known and run.config["trainer"] == config["trainer"]:
        raise ConfigError(f"{run.folder}: failed before ({run.why}); retry=true trains it again")
    if state == "done":
        say(f"Done before: {run.folder}")
        measure(run, config["metric"])
        return
    if state == "pruned":
        say(f"{run.folder}: {run.why}")
        return
    began, before = time.perf_counter(), run.provenance.get("seconds", 0.0)
    write_json(run.path("provenance.json"), provenance(overrides) | {"seconds": before})
    write(run.path("config.yaml"), yaml.safe_dump(config, sort_keys=False))
    run.mark("running")
    processes = world(config)
    outcome: State
    outcome, why = "interrupted", ""  # what can be taken up again: a signal, a full disk
    try:
        fit(run, config) if processes == 1 else launch(run, processes)
        outcome = "done"
    except (KeyboardInterrupt, SystemExit, Left):
        raise KeyboardInterrupt from None
    except Pruned as error:
        outcome, why = "pruned", str(error)
    except Exception as error:
        if getattr(error, "errno", None) != errno.ENOSPC:
            outcome, why = "failed", f"{type(error).__name__}: {error}"
        raise
    finally:
        run.note(seconds=before + time.perf_counter() - began)
        run.mark(outcome, why)
