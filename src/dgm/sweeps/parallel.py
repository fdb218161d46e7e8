"""Jobs side by side on one machine: a process each, a lease on a device each or a share of the cores.

Another launcher (SLURM, Ray, one batched program) is another class with `launch`: points in, `JobReturn`s out.
"""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dgm.configs import ConfigError

LEFT = 130  # how a job's process ends that was told to


class JobFailed(RuntimeError):
    """A job's error that could not be brought over, or the end of its process."""


class JobLeft(JobFailed):
    """A job was told to end, and did with its state saved."""


class Place(NamedTuple):
    """Where a job runs: a device of its own or none, so many threads, our folder, our surrounding."""

    device: str | None
    threads: int
    folder: str
    environment: dict[str, str]


class Working(NamedTuple):
    """A job under way."""

    number: int
    process: multiprocessing.process.BaseProcess
    answer: Connection
    device: str | None


class Parallel(Launcher):
    """`jobs` at once: by default, and on GPUs at most, as many as there are GPUs times `per_device`; else as cores."""

    def __init__(self, jobs: Annotated[int, Ge(1)] | None = None, per_device: Annotated[int, Ge(1)] = 1) -> None:
        if (jobs is not None and jobs < 1) or per_device < 1:
            raise ConfigError(f"hydra.launcher.jobs={jobs}, hydra.launcher.per_device={per_device}: at least 1 each")
        self.jobs, self.per_device = jobs, per_device

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.config, self.context, self.task = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """All jobs, in the order of the points; a failed one is told, the others go on. Ctrl-C ends all in order."""
        setup_globals()
        configs = [self._config(list(point), initial_job_idx + i) for i, point in enumerate(job_overrides)]
        slots = self.slots(len(configs))
        threads = max(1, (os.cpu_count() or 1) // len(slots))
        results: dict[int, JobReturn] = {}
        waiting = list(enumerate(configs))[::-1]
        working: list[Working] = []
        with ended(working):
            while waiting or working:
                while waiting and slots:
                    index, config = waiting.pop()
                    device = slots.pop()
                    place = Place(device, threads, str(Path.cwd()), dict(os.environ))
                    working.append(start(index, self.task, config, place))
                ready = wait([job.answer for job in working])
                for job in [job for job in working if job.answer in ready]:
                    results[job.number] = self._result(configs[job.number], job)
                    working.remove(job)
                    slots.append(job.device)
        return [results[index] for index in range(len(configs))]

    def slots(self, points: int) -> list[str | None]:
        """A device per job at once, or None where jobs share the cores."""
        devices = visible()
        some: list[str | None] = [device for device in devices for _ in range(self.per_device)]
        some = some or [None] * (self.jobs or os.cpu_count() or 1)
        return some[: max(1, min(self.jobs or len(some), points))]

    def _config(self, point: list[str], index: int) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, point)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = index
            config.hydra.runtime.output_dir = str(Path.cwd())
            if "progress" in config:
                config.progress = False  # bars of several jobs would write over each other
        return config

    def _result(self, config: DictConfig, job: Working) -> JobReturn:
        """What a job sent, or how its process ended without a word."""
        result = JobReturn(overrides=list(config.hydra.overrides.task), cfg=config, status=JobStatus.FAILED)
        try:
            good, value = job.answer.recv()
            result.status = JobStatus.COMPLETED if good else JobStatus.FAILED
        except EOFError:
            job.process.join()
            value = farewell(job.process.exitcode or 0)
            if not isinstance(value, JobLeft) and (tell := getattr(self.task, "lost", None)):
                tell(task_part(config), result.overrides, str(value))
        job.process.join()
        result.return_value = value
        return result


def visible() -> list[str]:
    """The GPUs we may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not chosen:
        return [str(i) for i in range(torch.cuda.device_count())]
    return list(itertools.takewhile(lambda device: device != "-1", chosen.split(",")))  # what CUDA makes of -1


def farewell(code: int) -> JobFailed:
    """Why a process ended that said nothing."""
    if code == LEFT:
        return JobLeft("was told to end and saved its state; the same command goes on from there")
    if code >= 0:
        return JobFailed(f"its process ended with exit code {code}")
    guess = " (out of memory?)" if -code == signal.SIGKILL else ""
    return JobFailed(f"its process was ended by {signal.Signals(-code).name}{guess}")


def start(number: int, task: TaskFunction, config: DictConfig, place: Place) -> Working:
    """A new process from one that has loaded everything already, and so is there at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([type(task).__module__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(task, config, place, theirs))
    process.start()
    theirs.close()
    return Working(number, process, ours, place.device)


def work(task: TaskFunction, config: DictConfig, place: Place, answer: Connection) -> None:
    """Be a job. Ctrl-C is the parent's affair, which sends SIGTERM; where the parent is gone we send it ourselves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    os.environ.update(place.environment)
    os.chdir(place.folder)
    if place.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.device
    torch.set_num_threads(place.threads)
    os.environ["OMP_NUM_THREADS"] = str(place.threads)
    os.environ.update(OmegaConf.to_container(config.hydra.job.env_set))  # type: ignore[arg-type]
    setup_globals()
    HydraConfig.instance().set_config(config)
    try:
        answer.send((True, task(task_part(config))))
    except KeyboardInterrupt:
        os._exit(LEFT)  # saved and marked by the task
    except Exception as error:  # noqa: BLE001  it is the parent's to tell
        answer.send((False, sendable(error)))


def leave_with_parent() -> None:
    """Wait for the end of the process that started us, which may have been killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def task_part(config: DictConfig) -> DictConfig:
    """The config without Hydra's own part."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def sendable(error: Exception) -> Exception:
    """The error, or what it says where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  whatever its class does
        return JobFailed(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def ended(working: list[Working]) -> Iterator[None]:
    """However the block is left, no job is: told to save and leave, and on a second Ctrl-C killed."""
    try:
        yield
    finally:
        for job in working:
            job.process.terminate()
        try:
            for job in working:
                job.process.join()
        except KeyboardInterrupt:
            for job in working:
                job.process.kill()
            raise
