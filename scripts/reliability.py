"""Kills real training processes at random moments, resumes them and compares with what was never interrupted.

`python scripts/reliability.py [--kills 20] [--seed 0] [--only NAME]` prints its counts; exit code 1 where anything
differs. Signals: SIGKILL for most, SIGTERM and SIGINT for some. Last, a small disk is filled up while a run trains
on it, where the system lets us mount one.
"""

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dgm.runs import Run, find

TINY = ["model.encoder.hidden=[64]", "model.decoder.hidden=[64]"]
COMMON = ["logger=csv", "metric=[likelihood]", "progress=false", "callbacks.checkpoints.minutes=0", "study=kill"]
CONFIGURATIONS = {
    "annealed, dynamic binarisation": [*TINY, "model=capacity_vae", "loss.ramp=400", "data.binarise=dynamic",
                                       "data.val=100", "trainer.max_epochs=60"],
    "averaged, cosine": [*TINY, "callbacks=[default,ema]", "scheduler=cosine", "data.val=100",
                         "trainer.max_epochs=60", "trainer.log_every_n_steps=1"],
    "importance-weighted, budget in updates": [*TINY, "model=iwae", "trainer.max_epochs=-1", "trainer.max_steps=600"],
    "convolutional, workers": ["model=conv_vae", "model.encoder.width=4", "model.decoder.width=4", "data.workers=1",
                               "data.val=100", "trainer.max_epochs=25"],
    "two processes": [*TINY, "trainer=ddp", "trainer.accelerator=cpu", "data.val=100", "trainer.max_epochs=80"],
}  # fmt: skip


def start(words: list[str]) -> subprocess.Popen[str]:
    """`dgm train` in a process of its own."""
    command = [sys.executable, "-m", "dgm.cli.main", "train", *COMMON, *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def begun(process: subprocess.Popen[str]) -> tuple[float, list[str]]:
    """Wait for the line that says training begins: when it came, and all lines, which go on being gathered."""
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if line.startswith("Training "):
            break
    threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
    return time.monotonic(), lines


def whole(words: list[str]) -> float:
    """Train without interruption; -> seconds from the first update to the end of the process."""
    process = start(words)
    began, lines = begun(process)
    if process.wait():
        raise RuntimeError("".join(lines))
    return time.monotonic() - began


def interrupted(words: list[str], kills: int, length: float, dice: random.Random) -> Counter[str]:
    """Train to the end with up to `kills` interruptions at random moments; -> how many of each kind hit training."""
    counts: Counter[str] = Counter()
    while sum(counts.values()) < kills:
        process = start(words)
        begun(process)
        time.sleep(dice.uniform(0, 1.3 * length / kills))
        kind = dice.choice([signal.SIGKILL] * 6 + [signal.SIGTERM, signal.SIGINT])
        process.send_signal(kind)
        if process.wait() == 0:
            return counts
        counts[kind.name] += 1
    whole(words)
    return counts


def difference(a: Run, b: Run) -> str:
    """In what two finished runs differ: weights, optimizer, schedule, averages, curve or measurements."""
    for name in ("last", "best"):
        files = [run.path("checkpoints", f"{name}.ckpt") for run in (a, b)]
        if [file.is_file() for file in files] == [False, False]:
            continue
        first, second = (torch.load(file, weights_only=True) for file in files)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step"):
            if not same(first.get(part), second.get(part)):
                return f"{name}.ckpt: {part}"
    if list(a.curve()) != list(b.curve()):
        return "metrics.csv"
    return "" if a.values == b.values else "result.json"


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, containers by their content."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A disk of a few MB. Errors: OSError where we may not mount one."""
    folder = Path(tempfile.mkdtemp())
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True
    ).returncode:
        folder.rmdir()
        raise OSError("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def full_disk(words: list[str], reference: Run) -> str:
    """Fill the disk while a run trains on it: one sentence, a checkpoint that opens, and an exact end once there is
    room again. -> what went wrong."""
    with small_disk("4m") as disk:
        process = start([*words, f"out={disk}"])
        _, lines = begun(process)
        while not list(disk.rglob("last.ckpt")):
            time.sleep(0.02)
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        code = process.wait()
        time.sleep(0.2)
        said = [line for line in lines if line.startswith("Error")]
        if code != 1 or len(said) != 1 or "the disk is full" not in said[0] or "Traceback" in "".join(lines):
            return f"exit code {code}, it said {lines[-3:]}"
        print(f"  {said[0].strip()}")
        (run,) = find(disk)
        torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)
        filler.unlink()
        whole([*words, f"out={disk}"])
        return difference(reference, run)


def main() -> int:
    """Run all configurations, print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="interruptions in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", help="one configuration, by the beginning of its name")
    options = parser.parse_args()
    chosen = {name: words for name, words in CONFIGURATIONS.items() if name.startswith(options.only or "")}
    each, dice = -(-options.kills // len(chosen)), random.Random(options.seed)
    total: Counter[str] = Counter()
    bad = 0
    for name, words in chosen.items():
        folder = Path(tempfile.mkdtemp())
        length = whole([*words, f"out={folder}/whole"])
        (reference,) = find(folder / "whole")
        counts: Counter[str] = Counter()
        repeats, unlike = 0, ""
        while sum(counts.values()) < each:
            repeats += 1
            out = folder / f"cut{repeats}"
            counts += interrupted([*words, f"out={out}"], min(each - sum(counts.values()), 5), length, dice)
            (run,) = find(out)
            problem = difference(reference, run)
            unlike, bad = unlike or problem, bad + bool(problem)
        told = ", ".join(f"{n} x {kind}" for kind, n in counts.items())
        print(
            f"{name}: {told} in {repeats} runs: {'DIFFERS: ' + unlike if unlike else 'equal bit for bit'}", flush=True
        )
        total += counts
        if words is next(iter(chosen.values())):
            try:
                problem = full_disk(words, reference)
                bad += bool(problem)
                print(f"full disk: {problem or 'one sentence, the last checkpoint good, an exact end afterwards'}")
            except OSError as error:
                print(f"full disk: not tested, {error}")
        shutil.rmtree(folder)
    print(f"{sum(total.values())} interruptions ({dict(total)}), {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
