"""Speech as sequences of levels: the coding, the set's own split, and a small WaveNet by command."""

import json
import wave
from functools import partial

import numpy as np
import pytest
import torch

from dgm.cli.main import run as dgm
from dgm.data.speech import decode, encode, load
from dgm.images import grid, waveform
from dgm.losses.autoregressive import negative_log_likelihood
from dgm.modules.autoregressive import Autoregressive, complete
from dgm.nn.likelihoods import Categorical
from dgm.nn.wavenet import WaveNet
from dgm.runs import find


def test_mu_law_is_inverted_to_half_a_level_and_keeps_silence_in_the_middle():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(encode(decode(levels)), levels)
    amplitude = torch.linspace(-1, 1, 10_001)
    error = (decode(encode(amplitude)) - amplitude).abs()
    assert error[amplitude.abs() < 0.01].max() < 3e-4 and error.max() < 0.025  # fine where it is quiet
    assert encode(torch.zeros(1)).item() == 128
    # F(0.5) = ln(1 + 127.5) / ln(256) = 0.8757: level (0.8757 + 1) / 2 * 255 = 239.2
    assert encode(torch.tensor([0.5, -0.5])).tolist() == [239, 16]


def record(folder, name, samples, rate=8000):
    with wave.open(str(folder / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "fsdd"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for digit in range(3):
        for take in range(8):
            samples = 8000 * np.sin(np.arange(150) * (0.1 + 0.1 * digit)) + generator.normal(0, 50, 150)
            record(folder, f"{digit}_ann_{take}.wav", samples)
    return tmp_path


def test_recordings_are_cut_and_split_by_the_sets_own_rule(recordings):
    train, test = load(str(recordings), [1, 1, 64])
    assert train.tensors["image"].shape == (3 * 3 * 2, 1, 1, 64) and test.tensors["image"].shape == (
        3 * 5 * 2,
        1,
        1,
        64,
    )
    assert sorted(set(train.tensors["label"].tolist())) == [0, 1, 2]
    assert train.groups.tolist() == [i // 2 for i in range(18)]
    assert train.tensors["image"].dtype == torch.uint8 and train.tensors["image"].float().std() > 20


def test_what_is_missing_or_unfit_is_said(recordings, tmp_path):
    with pytest.raises(FileNotFoundError, match="no recordings"):
        load(str(tmp_path / "nowhere"), [1, 1, 64])
    with pytest.raises(ValueError, match="lower it"):
        load(str(recordings), [1, 1, 10_000])
    record(recordings / "fsdd", "9_bob_9.wav", [0] * 200, rate=16_000)
    with pytest.raises(ValueError, match="9_bob_9"):
        load(str(recordings), [1, 1, 64])


def test_a_wavenet_sees_the_past_only_and_its_queues_give_the_naive_samples():
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3)
    network = partial(WaveNet, width=4, skip=6, layers=3, cycles=2)
    m = Autoregressive(network, Categorical(5), negative_log_likelihood, [1, 1, 24], adam, None, 3, True).double()
    for parameter in m.network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    h = m.condition(torch.tensor([0, 1, 2]), torch.zeros(3, 1, 1, 24).double())
    x = torch.rand(1, 1, 1, 24, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda v: m.network(v, h[:1]), x).abs().sum(1).view(24, 24)
    assert jacobian.triu().max() == 0
    # 1 of the first convolution and 2 (1 + 2 + 4) of the dilated ones
    assert (jacobian[23] > 0).tolist() == [23 - 15 <= i < 23 for i in range(24)]
    noise, image = torch.rand(3, 1, 1, 24).double(), torch.zeros(3, 1, 1, 24).double()
    slow, fast = (complete(m.network, m.likelihood, image, image > 0, noise, h, cached) for cached in (False, True))
    assert torch.equal(slow, fast) and len(slow.unique()) == 5


def test_a_sequence_is_shown_as_its_waveform():
    ramp = torch.linspace(0, 1, 96).view(1, 1, 1, 96)
    picture = waveform(ramp, height=33, width=32)
    assert picture.shape == (1, 1, 33, 32)
    drawn = (picture[0, 0] == 0).float()
    heights = 32 - (drawn * torch.arange(33.0)[:, None]).sum(0) / drawn.sum(0)
    assert torch.allclose(heights, ramp.view(32, 3).mean(1) * 32, atol=0.75)  # from lower left to upper right
    assert grid(torch.cat([ramp, ramp]), columns=1).shape == (2 * 64 + 3, 64 + 2, 3)


def test_grey_values_under_a_binary_likelihood_are_called_no_likelihood(recordings):
    small = ["data.shape=[1,1,32]", "data.val=4", "model.network.width=4", "model.network.skip=4", "logger=csv"]
    words = ["data=fsdd", f"data.root={recordings}", "model=wavenet", "likelihood=bernoulli", "trainer.max_epochs=1"]
    assert dgm(["train", *words, *small]) == 0
    (run,) = find("outputs")
    assert "cross-entropy" in run.result["likelihood"]["protocol"]["likelihood"]
    assert "elbo" in run.values and "bits_per_dim" not in run.values


def test_speech_trains_by_command(recordings):
    small = ["data.shape=[1,1,32]", "data.val=4", "model.network.width=4", "model.network.skip=4"]
    words = ["data=fsdd", f"data.root={recordings}", "model=wavenet", "metric=[likelihood]"]
    assert dgm(["train", *words, *small, "logger=csv", "trainer.max_epochs=1", "model.conditional=true"]) == 0
    (run,) = find("outputs")
    assert 0 < run.values["bits_per_dim"] < 9
    assert run.result["likelihood"]["protocol"]["likelihood"] == "exact" and run.values["bits_per_dim"] > 0
    for figure in ("samples", "generation", "completions"):
        words = ["figure.n=4"] if figure == "samples" else []
        assert dgm(["figure", f"figure={figure}", f"run={run.folder}", *words]) == 0
    numbers = json.loads((run.folder / "figures" / "completions.json").read_text())
    assert numbers["changed_given_values"] == 0 and 0 < numbers["share_of_drawn_values_unlike_the_image"] <= 1
    assert dgm(["sample", f"run={run.folder}", "n=3", "label=1"]) == 0
    assert run.path("samples", "samples_seed0_label1.npy").is_file()
    assert dgm(["sample", f"run={run.folder}", "n=3", "label=10"]) == 1
