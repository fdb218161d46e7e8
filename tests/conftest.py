"""What several tests share: a quiet, offline, repeatable surrounding, and the command line as a function."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several workers share two cores
os.environ["WANDB_MODE"] = "offline"
for name in ("WANDB_API_KEY", "DGM_TRUST", "DGM_CONFIG_DIR", "DGM_DATA"):
    os.environ.pop(name, None)

import pytest
import torch

from dgm.cli.main import run as dgm

torch.set_num_threads(1)

TINY = [
    "model.encoder.hidden=[16]",
    "model.decoder.hidden=[16]",
    "logger=csv",
    "metric=[]",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=10",
]


@pytest.fixture(autouse=True)
def surrounding(tmp_path, monkeypatch):
    """Each test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def train(tmp_path):
    """`dgm train` of a tiny model on the digits: words -> exit code; runs lie in tmp_path/outputs."""
    return lambda *words: dgm(["train", *TINY, *words])
