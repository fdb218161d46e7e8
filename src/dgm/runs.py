"""A run on disk: its identity, state, config, metrics and checkpoints, and how to open it again.

A run's folder is named by its overrides and the hash of what determines its result, so the same config always
finds the same folder: finished runs are not repeated and interrupted ones go on.
"""

import contextlib
import csv
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from dgm.configs import Config, ConfigError, build, flatten
from dgm.files import lock, locked, write

State = Literal["missing", "running", "done", "failed", "interrupted", "pruned"]

# what may differ between two runs that are the same run: places, loggers, hardware, and what is measured afterwards
UNIDENTIFIED: tuple[str, ...] = ("out", "cache", "study", "retry", "logger", "progress", "callbacks.grids", "metric")
UNIDENTIFIED += ("sweep", "launcher", "hydra")
UNIDENTIFIED += ("data.root", "data.workers", "callbacks.checkpoints.minutes")
UNIDENTIFIED += tuple(
    f"trainer.{key}" for key in ("accelerator", "devices", "strategy", "num_nodes", "log_every_n_steps", "profiler")
)
COPIES = ("loss", "optimizer", "scheduler", "likelihood")  # groups that a model holds, as `loss: ${loss}`
AGAIN = "restore it, or delete its run's folder and train it again"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy", "torch-fidelity", "wandb")


def write_json(path: Path, value: Any) -> None:
    """Write a value as json, whole or not at all."""
    write(path, json.dumps(value, indent=1, default=str) + "\n")


def identity(config: Config) -> str:
    """Ten hex digits of the hash of all that determines a run's result."""
    model = config["model"]
    copied = tuple(f"model.{name}." for name in COPIES if name in model and model[name] == config.get(name))
    every = sorted(flatten(config).items())
    kept = {key: value for key, value in every if not unidentified(key) and not key.startswith(copied)}
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=5).hexdigest()


def unidentified(key: str) -> bool:
    """Whether a key has no part in what a run is."""
    return key.endswith(".root") or any(key == other or key.startswith(other + ".") for other in UNIDENTIFIED)


def home(out: str, study: str | None) -> Path:
    """The folder of runs that belong together. Errors: ConfigError for a study that would lie elsewhere."""
    if study is not None and (Path(study).is_absolute() or ".." in Path(study).parts):
        raise ConfigError(f"study={study}: would not lie below out={out}; give a name")
    return Path(out) / (study or "")


def slug(overrides: list[str], digest: str) -> str:
    """A folder name: what was overridden, readable, then the hash."""
    ours = [o for o in overrides if not unidentified(o.lstrip("+~").split("=")[0].split("@")[0])]
    last = {o.split("=")[0]: o for o in ours}  # of a key given twice the last counts
    words = ",".join(re.sub(r"[^\w.=+-]+", "_", o) for o in last.values())
    return f"{words[:180] or 'default'}-{digest}"


@dataclass(frozen=True)
class Run:
    """One run's folder. Only reads, but for `mark`."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """A run that exists. Errors: ConfigError where the folder is none."""
        run = cls(Path(folder))
        if not run.path("config.yaml").is_file():
            raise ConfigError(f"run={folder}: no run is there (config.yaml is missing); give the folder of a run")
        return run

    def path(self, *parts: str) -> Path:
        """A path inside the folder."""
        return self.folder.joinpath(*parts)

    @functools.cached_property
    def config(self) -> Config:
        """The resolved config, plain containers."""
        return self._read("config.yaml", yaml.safe_load)

    def _read(self, name: str, parse: Callable[[str], Any]) -> dict[str, Any]:
        """A file of the run that holds a mapping. Errors: ConfigError where it does not."""
        try:
            value = parse(self.path(name).read_text())
        except (ValueError, yaml.YAMLError) as error:
            value, reason = None, " ".join(str(error).split())
        else:
            reason = "it holds no mapping"
        if not isinstance(value, dict):
            raise ConfigError(f"{self.path(name)}: cannot be read ({reason}); {AGAIN}")
        return value

    def _json(self, name: str) -> dict[str, Any]:
        return self._read(name, json.loads) if self.path(name).is_file() else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """Overrides, versions, commit, hardware, wall-clock."""
        return self._json("provenance.json")

    @property
    def overrides(self) -> dict[str, str]:
        """What was overridden, key -> value."""
        pairs = (o.lstrip("+").partition("=") for o in self.provenance.get("overrides", []))
        return {key: value for key, _, value in pairs}

    @property
    def result(self) -> dict[str, dict[str, Any]]:
        """Measurements: metric -> values, protocol, arrays."""
        return self._json("result.json")

    @property
    def values(self) -> dict[str, float]:
        """All measured values, name -> number."""
        return {name: value for part in self.result.values() for name, value in part["values"].items()}

    @property
    def state(self) -> State:
        """What the folder says, but `interrupted` where the process that was running it is gone."""
        stored = self._json("state.json").get("state", "missing")
        if stored not in get_args(State):
            raise ConfigError(f"{self.path('state.json')}: state={stored}: no such state; {AGAIN}")
        return "interrupted" if stored == "running" and not locked(self.path(".lock")) else stored

    def lock(self, wait: bool) -> contextlib.AbstractContextManager[bool]:
        """For who brings the run forward; False where another process does so and we do not wait."""
        return lock(self.path(".lock"), wait)

    @property
    def why(self) -> str:
        """Why it failed, where it did."""
        return self._json("state.json").get("why", "")

    def mark(self, state: State, why: str = "") -> None:
        """Write the state."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = {"state": state, "why": why, "pid": os.getpid(), "host": platform.node(), "time": now}
        write_json(self.path("state.json"), record)

    def note(self, **facts: Any) -> None:
        """Add to the provenance."""
        write_json(self.path("provenance.json"), self.provenance | facts)

    def curve(self) -> Iterator[dict[str, str]]:
        """Rows of the logged table: step, epoch, name, value."""
        if not self.path("metrics.csv").is_file():
            return
        text = self.path("metrics.csv").read_text(errors="replace")
        whole, _, _ = text.rpartition("\n")  # a process may end within a line
        for row in csv.DictReader(whole.splitlines()):
            if None in row or None in row.values() or not row.get("step", "").isdigit():
                raise ConfigError(f"{self.path('metrics.csv')}: cannot be read; {AGAIN}")
            yield row

    def checkpoint(self) -> Path | None:
        """The best weights by validation where there was one, else the last."""
        found = (self.path("checkpoints", f"{name}.ckpt") for name in ("best", "last"))
        return next((path for path in found if path.is_file()), None)

    def data(self) -> Any:
        """The run's data module."""
        return build(self.config["data"], "data")

    def model(self) -> Any:
        """The run's model with its best weights, in evaluation mode, on the CPU."""
        model = build(self.config["model"], "model")
        path = self.checkpoint()
        if path is None:
            remedy = "delete its folder and train it again" if self.state == "done" else "train it first"
            raise ConfigError(f"run={self.folder}: has no checkpoint (it is {self.state}); {remedy}")
        weights = weights_in(path)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError(f"{path}: {unfit(error)}; delete the run's folder and train it again") from error
        return model.eval()


def weights_in(checkpoint: Path) -> dict[str, Any]:
    """The weights and buffers of a checkpoint. Errors: ConfigError where it cannot be read."""
    import torch

    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise ConfigError(f"{checkpoint}: cannot be read ({unfit(error)}); delete it and train again") from error


def unfit(error: Exception) -> str:
    """The first line of what an error says, which of a loaded file may be long, or nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def find(folder: str | Path) -> list[Run]:
    """All runs at or below a folder, by name."""
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"folder={folder}: there is no such folder; give one that holds runs")
    found = [Run(path.parent) for path in sorted(root.rglob("config.yaml")) if "wandb" not in path.parts]
    if not found:
        raise ConfigError(f"folder={folder}: no runs in it; train some first, or give another folder")
    return found


def provenance(overrides: list[str]) -> dict[str, Any]:
    """What is needed to repeat a run: overrides, versions, commit, machine."""
    return {
        "overrides": overrides,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "dgm": importlib.metadata.version("dgm"),
        "commit": _git("rev-parse", "HEAD"),
        "diff": _git("diff", "HEAD"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _git(*arguments: str) -> str | None:
    """Output of git on the code that runs, None where it is no checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
