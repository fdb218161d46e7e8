"""`dgm train`: one config -> one run folder with weights, table, measurements and pictures."""

import errno
import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
import yaml
from annotated_types import Ge
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from dgm.callbacks.checkpoints import Left, WholeFiles
from dgm.callbacks.progress import Progress
from dgm.callbacks.pruning import Pruned
from dgm.callbacks.randomness import seed_all
from dgm.callbacks.table import Table
from dgm.cli.compose import compose, plain, tree
from dgm.cli.evaluate import measure, say, unmeasured
from dgm.cli.rank import launch, world
from dgm.cli.tables import show_values
from dgm.configs import Config, ConfigError, build, check, is_call
from dgm.data.module import Data
from dgm.files import write
from dgm.runs import Run, State, identity, provenance, slug, write_json
from dgm.sweeps.search import pruning

CHECKPOINTS = "dgm.callbacks.checkpoints.Checkpoints"  # without them there is no run to speak of
HELP = "dgm train [-m] KEY=VALUE ...: the configuration, with the values it has now\n"


def command(arguments: list[str]) -> int:
    """Train one run, or with -m one per combination of the values given."""
    many = any(a in ("-m", "--multirun") for a in arguments)
    words = [a for a in arguments if a not in ("-m", "--multirun")]
    if "-h" in words or "--help" in words:
        return explain([w for w in words if w not in ("-h", "--help")])
    if many:
        from dgm.cli.sweep import sweep

        return sweep(words, Job(wait=False))
    with tree(words) as (hydra, overrides):
        config = hydra.compose_config("train", overrides, run_mode=RunMode.RUN, with_log_configuration=False)
    HydraConfig.instance().set_config(config)
    show_values(Job()(config))
    return 0


def explain(words: list[str]) -> int:
    """Print the composed configuration."""
    print(HELP + yaml.safe_dump(compose("train", words), sort_keys=False))
    return 0


def quiet() -> None:
    """Leave the terminal to what a person needs: Lightning's own lines are for its developers."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # set by Lightning at import; makes torch.cuda.is_available, which Adam asks in each step, 40 times slower
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch.utils.data")


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
        for metric in build(values["metric"], "metric").values():
            if hasattr(metric, "refuse"):
                metric.refuse(model, build(values["data"], "data"))
        return values

    def run(self, values: Config, overrides: list[str]) -> Run:
        """The run of a point, begun or not."""
        return Run(Path(values["out"]) / (values["study"] or "") / slug(overrides, identity(values)))

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
    state = run.state
    if state == "failed" and not config["retry"]:
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


def fit(run: Run, config: Config) -> None:
    """Train, measure, log. Noise of the initial weights depends on the seed alone."""
    quiet()
    data = build(config["data"], "data")
    seed_all(config["seed"], 1)
    model = build(config["model"], "model")
    if config["compile"]:
        model.compile_hot()
    table, last = Table(run.path("metrics.csv")), run.path("checkpoints", "last.ckpt")
    loggers = [table, *trackers(run, config)]
    progress = Progress(config["progress"], run.note, run.provenance["seconds"])
    callbacks = [progress, *build(config["callbacks"], "callbacks").values(), *pruning()]
    trainer = build(config["trainer"], "trainer")(
        callbacks=callbacks, logger=loggers, plugins=[WholeFiles()], default_root_dir=str(run.folder)
    )
    begun = last.is_file()
    if trainer.is_global_zero:
        table.rewind(updates_in(last) if begun else 0)
    trainer.fit(model, datamodule=data, ckpt_path=str(last) if begun else None, weights_only=True)
    if not trainer.is_global_zero:
        return
    run.note(data=data.fingerprint(), images_per_second=progress.images_per_second)
    values = measure(run, config["metric"], data)
    for logger in loggers[1:]:
        logger.log_summary({f"test/{name}": value for name, value in values.items()})
        logger.finish()


def updates_in(checkpoint: Path) -> int:
    """How many updates a checkpoint has behind it. Errors: ConfigError where it cannot be read."""
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]["step"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{checkpoint}: cannot be read ({reason}); delete it to train from the start") from error


def trackers(run: Run, config: Config) -> list[Any]:
    """The loggers of the config, told which run they follow."""
    tags = [o for o in run.provenance["overrides"] if len(o) <= 64]
    group = config["study"] or os.environ.get("DGM_GROUP")
    made = [
        make(
            folder=str(run.folder),
            id=run.folder.name.rpartition("-")[2],
            name=run.folder.name,
            group=group,
            tags=tags,
        )
        for make in build(config["logger"], "logger").values()
    ]
    for logger in made:
        logger.log_config(config)
    return made
