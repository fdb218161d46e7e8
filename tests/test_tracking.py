"""What Weights & Biases gets: read back from the file that offline mode writes."""

import json
import struct

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as messages

from dgm.cli.main import run as dgm
from dgm.runs import find

TINY = [
    "model.encoder.hidden=[16]",
    "model.decoder.hidden=[16]",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=10",
]


BLOCK, HEADER = 32_768, 7


def chunks(content):
    """Records of W&B's file: LevelDB's log format behind a head of seven bytes."""
    position, whole = HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", content[position : position + HEADER])
        whole += content[position + HEADER : position + HEADER + size]
        position += HEADER + size
        if kind in (1, 4):  # a full record, or the last part of one
            yield whole
            whole = b""


def records(path):
    for chunk in chunks(path.read_bytes()):
        record = messages.Record()
        record.ParseFromString(chunk)
        yield record


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two jobs of one sweep, logged offline."""
    out = tmp_path_factory.mktemp("wandb")
    words = ["train", "-m", *TINY, "logger=wandb", f"out={out}", f"cache={out}/.cache", "study=pair", "seed=0,1"]
    assert dgm([*words, "metric.likelihood.samples=2"]) == 0
    return find(out)


def test_every_job_is_a_run_of_its_own_in_one_group(runs):
    heads = []
    for run in runs:
        (path,) = run.path("wandb").rglob("*.wandb")
        heads += [record.run for record in records(path) if record.HasField("run")][:1]
    assert len({head.run_id for head in heads}) == 2
    assert {head.run_group for head in heads} == {"pair"}
    assert any("seed=0" in head.tags for head in heads) and any("seed=1" in head.tags for head in heads)


def test_elbo_fid_config_and_an_image_are_in_the_file(runs):
    (path,) = runs[0].path("wandb").rglob("*.wandb")
    history, config = {}, {}
    for record in records(path):
        for item in record.history.item:
            history["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        for item in record.config.update:
            config["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        for item in record.run.config.update:
            config["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    values = runs[0].values
    assert history["test/elbo"] == pytest.approx(values["elbo"])
    assert history["test/fid_classifier"] == pytest.approx(values["fid_classifier"])
    assert "val/elbo" in history and "train/loss" in history
    assert config["seed"] == runs[0].config["seed"] and config["loss"]["beta"] == 1.0
    (name,) = history["samples/filenames"]
    assert list(path.parent.rglob(name.rpartition("/")[2]))


def test_no_run_is_left_open(runs):
    assert wandb.run is None
