"""A short version of scripts/reliability.py: a real process, killed, resumed, compared; and a disk that fills up."""

import subprocess
import sys
from pathlib import Path

import pytest

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
