"""A short version of scripts/reliability.py: a real process, killed, resumed, compared; and a disk that fills up."""

import itertools
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from threading import Timer

import pytest
import torch

from dgm.runs import find

SCRIPT = Path(__file__).parents[1] / "scripts" / "reliability.py"


def test_a_killed_run_ends_where_an_uninterrupted_one_does():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "2", "--seed", "1", "--only", "annealed"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal bit for bit" in done.stdout and "2 interruptions" in done.stdout
    if "not tested" in done.stdout:
        pytest.skip("the full disk was not tested: a small one cannot be mounted here; the rest was, and holds")
    assert "full disk: one sentence" in done.stdout


TINY = ["model.encoder.hidden=[32]", "model.decoder.hidden=[32]", "logger=csv", "metric=[]", "progress=false"]


def begin(*words):
    """`dgm train` in a process group of its own, as a terminal would start it: Ctrl-C is heard, also where it is not
    heard by these tests, in a shell's background."""
    command = [sys.executable, "-m", "dgm.cli.main", "train", *TINY, *words]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard)


def test_two_processes_on_one_run_train_it_once():
    both = [begin("trainer.max_epochs=40") for _ in range(2)]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count("Training VAE") == 1
    assert len(find("outputs")) == 1 and find("outputs")[0].state == "done"


def test_ctrl_c_ends_all_jobs_side_by_side_and_leaves_each_resumable():
    words = ["-m", "launcher=parallel", "hydra.launcher.jobs=2", "seed=0,1,2", "study=s"]
    sweep = begin(*words, "trainer.max_epochs=100000")
    late = Timer(150, os.killpg, (sweep.pid, signal.SIGKILL))  # what was never begun is not waited for
    late.start()
    begun = itertools.accumulate(line.count("Training VAE") for line in sweep.stderr)
    next(count for count in begun if count == 2)
    time.sleep(1)
    os.killpg(sweep.pid, signal.SIGINT)
    assert sweep.wait(60) == 130
    late.cancel()
    runs = find("outputs/s")
    assert [run.state for run in runs] == ["interrupted", "interrupted"]
    for run in runs:
        assert torch.load(run.path("checkpoints", "last.ckpt"), weights_only=True)["global_step"] > 0


def test_what_a_killed_run_took_is_counted_up_to_its_last_checkpoint():
    counted, last = [0.0], Path("none")
    for _ in range(2):
        run = begin("trainer.max_epochs=100000", "callbacks.checkpoints.minutes=0")
        before, late = last.stat().st_mtime_ns if last.exists() else 0, time.monotonic() + 60
        while not (last.exists() and last.stat().st_mtime_ns > before) and time.monotonic() < late:
            time.sleep(0.1)
            last = next(Path("outputs").glob("*/checkpoints/last.ckpt"), last)
        run.kill()
        run.wait()
        (left,) = find("outputs")
        counted.append(left.provenance["seconds"])
        assert left.state == "interrupted"
    assert counted == sorted(set(counted)) and counted[-1] < 60
