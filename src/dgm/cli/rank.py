"""Several processes train one run: the parent has resolved the config, the ranks start from the frozen file.

`python -m dgm.cli.rank RUN` is one rank; its place among the others comes by the environment, as torchrun gives it.
"""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE

import torch

from dgm.callbacks.checkpoints import Left
from dgm.cli.fit import fit
from dgm.cli.main import sentence
from dgm.configs import Config
from dgm.runs import Run

PATIENCE = 20  # seconds to save and leave, once one of several is gone


def world(config: Config) -> int:
    """Processes that a config asks for on this machine; 1 inside a rank."""
    devices = config["trainer"].get("devices", 1)
    if "LOCAL_RANK" in os.environ or "strategy" not in config["trainer"]:
        return 1
    return devices if isinstance(devices, int) and devices > 0 else max(1, torch.cuda.device_count())


def launch(run: Run, processes: int) -> None:
    """Start all ranks and wait; where one fails the others are ended. Errors: RuntimeError with its last words."""
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
    }
    command = [sys.executable, "-m", "dgm.cli.rank", str(run.folder)]
    # a session of their own: Ctrl-C reaches us alone, and we tell them
    ranks = [
        subprocess.Popen(
            command,
            env=shared | {"LOCAL_RANK": str(i)},
            start_new_session=True,
            stdin=PIPE,
            stdout=PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    try:
        while any(rank.poll() is None for rank in ranks):
            if any(rank.poll() not in (None, 0) for rank in ranks):
                break
            time.sleep(0.1)
    finally:
        codes = end(ranks)
    said = [rank.stdout.read().strip() for rank in ranks if rank.stdout]  # a rank prints nothing but its last words
    if errno.ENOSPC in codes:
        raise OSError(errno.ENOSPC, "no space left")
    if any(codes):
        raise RuntimeError(next(filter(None, said), f"exit codes {codes}"))


def end(ranks: list[subprocess.Popen]) -> list[int]:
    """Tell all to leave, and let none wait for ever for one that is gone: -> their exit codes."""
    for rank in ranks:
        rank.terminate()
    patience = time.monotonic() + PATIENCE
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() is not None for rank in ranks) and time.monotonic() > patience:
            for rank in ranks:
                rank.kill()
        time.sleep(0.05)
    return [rank.wait() for rank in ranks]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_parent() -> None:
    """A rank whose parent is gone, killed perhaps, must not train on: the same command may start others."""
    os.read(0, 1)  # ends when the parent's side of the pipe does
    os._exit(1)


def main(folder: str) -> int:
    """Be one rank."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    run = Run.open(Path(folder))
    try:
        fit(run, run.config)
    except (Left, KeyboardInterrupt):
        return 130
    except Exception as error:  # noqa: BLE001  passed on to the parent
        print(sentence(error), flush=True)
        return errno.ENOSPC if getattr(error, "errno", None) == errno.ENOSPC else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
