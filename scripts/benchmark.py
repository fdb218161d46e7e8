"""Speed, as ratios of paired runs in one session: `python scripts/benchmark.py [--rounds 5] [--quick]`.

Compares `dgm train` (its real configuration, callbacks and table included) with a hand-written loop for the same
network, batch and optimizer, with pythae's trainer where it is installed (`pip install .[peers]`) and with itself
compiled; then times start-up, help, evaluation, W&B's overhead per job and peak memory.
"""

import argparse
import contextlib
import io
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dgm.cli.compose import compose
from dgm.cli.fit import fit, quiet
from dgm.configs import build
from dgm.files import write
from dgm.runs import Run, provenance, write_json

Work = Callable[[], float]  # -> images per second
Objective = Callable[[Any, torch.Tensor], torch.Tensor]


def vae_loss(model: Any, x: torch.Tensor) -> torch.Tensor:
    """-ELBO by hand."""
    mu, logvar = model.encoder(x).chunk(2, 1)
    logits = model.decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu))
    fit = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    return (fit + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)).mean()


def pixel_loss(model: Any, x: torch.Tensor) -> torch.Tensor:
    """-log p by hand."""
    return F.binary_cross_entropy_with_logits(model.network(x), x, reduction="none").flatten(1).sum(1).mean()


def hand_loop(words: list[str], fused: bool | None, objective: Objective = vae_loss) -> Work:
    """What one would write by hand: the same modules, batches, binarisation and optimizer, nothing logged."""
    config = compose("train", words)
    data = build(config["data"])
    images = data.raw("train").tensors["image"]

    def work() -> float:
        torch.manual_seed(0)
        model = build(config["model"])
        optimizer = torch.optim.Adam(model.parameters(), lr=config["optimizer"]["lr"], fused=fused)
        began = time.perf_counter()
        for rows in torch.randperm(len(images)).split(data.batch_size):
            x = images[rows]
            x = (torch.randint(0, 255, x.shape, dtype=torch.uint8) < x).float()
            loss = objective(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return len(images) / (time.perf_counter() - began)

    return work


def hand_game(words: list[str]) -> Work:
    """Goodfellow et al.'s algorithm by hand: the same two networks, batches and optimizers, nothing logged."""
    config = compose("train", words)
    data = build(config["data"])
    images = data.raw("train").tensors["image"]
    softplus = F.softplus

    def work() -> float:
        torch.manual_seed(0)
        model = build(config["model"])
        generator, critic = model.generator, model.critic
        players = [torch.optim.Adam(p.parameters(), 2e-4, (0.5, 0.999), fused=True) for p in (generator, critic)]
        began = time.perf_counter()
        for rows in torch.randperm(len(images)).split(data.batch_size):
            x = images[rows].float() / 255
            with torch.no_grad():
                fake = generator(torch.randn(len(x), model.latent))
            players[1].zero_grad()
            (softplus(-critic(x)) + softplus(critic(fake))).mean().backward()
            players[1].step()
            critic.requires_grad_(False)
            players[0].zero_grad()
            softplus(-critic(generator(torch.randn(len(x), model.latent)))).mean().backward()
            players[0].step()
            critic.requires_grad_(True)
        return len(images) / (time.perf_counter() - began)

    return work


def begun(folder: str) -> Run:
    """A run as the command line leaves it to `fit`."""
    run = Run(Path(folder))
    write_json(run.path("provenance.json"), provenance([]))
    write(run.path("config.yaml"), "{}")
    return run


def ours(words: list[str]) -> Work:
    """One epoch of `dgm train` in this process; the speed is the one it writes into its provenance."""
    config = compose("train", [*words, "trainer.max_epochs=1", "logger=csv", "metric=[]", "progress=false"])

    def work() -> float:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            run = begun(folder)
            fit(run, config)
            return run.provenance["images_per_second"]

    return work


def pythae(words: list[str]) -> Work | None:
    """pythae's trainer on the same network; on grey values, which spares it the binarisation."""
    try:
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
    except ImportError:
        return None
    config = compose("train", words)
    data = build(config["data"])
    images = data.raw("train").tensors["image"].float() / 255

    class Encoder(BaseEncoder):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> ModelOutput:
            mu, logvar = self.net(x).chunk(2, 1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, z: torch.Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    def work() -> float:
        model = build(config["model"])
        shape, latent = tuple(data.shape), config["model"]["latent"]
        vae = VAE(
            VAEConfig(shape, latent, reconstruction_loss="bce"),
            Encoder(model.encoder),
            Decoder(model.decoder),
        )
        quiet_place = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(quiet_place):
            settings = BaseTrainerConfig(
                folder, num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=data.batch_size,
                train_dataloader_num_workers=0, no_cuda=True,
            )  # fmt: skip
            trainer = BaseTrainer(vae, BaseDataset(images, torch.zeros(len(images))), None, settings)
            trainer.prepare_training()
            began = time.perf_counter()
            trainer.train_step(1)
            return len(images) / (time.perf_counter() - began)

    return work


def paired(name: str, a: Work, b: Work, rounds: int, target: str) -> None:
    """Median of the ratio a/b over alternating runs, after one uncounted run of each."""
    a(), b()
    pairs = [(a(), b()) for _ in range(rounds)]
    ratios = sorted(x / y for x, y in pairs)
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    row(name, f"{statistics.median(ratios):.3f}", f"{ratios[0]:.3f}..{ratios[-1]:.3f}",
        f"{first:,.0f} / {second:,.0f} images/s", target)  # fmt: skip


def row(*cells: str) -> None:
    """One line of the table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def command(*words: str) -> list[str]:
    """Our command line in a new process."""
    return [sys.executable, "-m", "dgm.cli.main", *words]


def seconds(words: list[str], until: str | None = None) -> float:
    """Wall-clock of a command, or until its output on stderr holds some words."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        took = 0.0
        for line in process.stderr:
            if until and until in line and not took:
                took = time.perf_counter() - began
        process.wait()
        return took or time.perf_counter() - began


def timed(name: str, measure: Callable[[], float], rounds: int, target: str, unit: str = "s") -> None:
    """Median of a time."""
    values = sorted(measure() for _ in range(rounds))
    row(name, f"{statistics.median(values):.2f} {unit}", f"{values[0]:.2f}..{values[-1]:.2f}", "", target)


def steady(words: list[str]) -> Work:
    """Images/s of the later epochs alone, two of three: what starting and compiling cost is taken out."""
    config = compose("train", [*words, "logger=csv", "metric=[]", "progress=false"])

    def training(epochs: int) -> tuple[float, int]:
        config["trainer"]["max_epochs"] = epochs
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            run = begun(folder)
            fit(run, config)
            images = run.provenance["total_updates"] * config["data"]["batch_size"]
            return images / run.provenance["images_per_second"], images

    def work() -> float:
        (short, few), (long, many) = training(1), training(3)
        return (many - few) / (long - short)

    return work


def sweeps(n: int) -> None:
    """Jobs per minute of a sweep of `n` in turn and side by side, and what giving the command again costs."""
    tiny = ["model=beta_vae", "model.encoder.hidden=[256,256]", "model.decoder.hidden=[256,256]",
            "trainer.max_epochs=60", "trainer.check_val_every_n_epoch=10", "logger=csv", "metric=[likelihood]",
            f"seed={','.join(map(str, range(n)))}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        took = {}
        for launcher in ("serial", "parallel"):
            words = command("train", "-m", *tiny, f"out={folder}", f"study={launcher}", f"launcher={launcher}")
            took[launcher] = seconds(words)
        rates = [60 * n / took[name] for name in ("parallel", "serial")]
        row(f"sweep of {n} jobs: side by side over in turn", f"{rates[0] / rates[1]:.2f}", "",
            f"{rates[0]:.1f} / {rates[1]:.1f} jobs/min", "above 1")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        empty = ["train", "-m", "logger=csv", "metric=[]", "trainer.max_steps=1", "data.limit=128", f"out={folder}"]
        many = f"seed={','.join(map(str, range(100)))}"
        seconds(command(*empty, "study=again", many, "launcher=parallel"))
        again, one = (seconds(command(*empty, "study=again", seeds)) for seeds in (many, "seed=0"))
        row("100 finished runs, the same command again: over one finished run", f"{again - one:.1f} s", "",
            f"{again:.1f} / {one:.1f} s", "5 s")  # fmt: skip


def checkpoint_cost(words: list[str]) -> float:
    """Per cent of the training time that checkpoints take: one a minute, of this model."""
    from dgm.callbacks.checkpoints import Checkpoints

    config = compose("train", [*words, "trainer.max_steps=20", "logger=csv", "metric=[]", "progress=false"])
    costs: list[float] = []
    save = Checkpoints.save

    def timed_save(self: Checkpoints, trainer: object) -> None:
        save(self, trainer)  # type: ignore[arg-type]
        costs.append(self.cost)

    Checkpoints.save = timed_save  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            run = begun(folder)
            fit(run, config)
    finally:
        Checkpoints.save = save  # type: ignore[method-assign]
    return 100 * costs[-1] / (60 * config["callbacks"]["checkpoints"]["minutes"])


def evaluation(words: list[str]) -> float:
    """Seconds to measure all terms, and a bound with 100 samples, on the 10,000 test images."""
    config = compose("train", words)
    model, data = build(config["model"]).eval(), build(config["data"])
    data.set("test")
    began = time.perf_counter()
    build(config["metric"]["likelihood"])(model, data, torch.device("cpu"))
    return time.perf_counter() - began


def pixels(n: int, rounds: int) -> None:
    """Autoregressive models: our loop over one by hand, LSTM against convolution, cached samples against naive."""
    few = ["data=mnist", "data.val=0", f"data.limit={n}", "data.batch_size=64"]
    cnn = [*few, "model=pixelcnn", "model.network.blocks=6"]
    paired("PixelCNN, 6 blocks, batch 64: over a hand-written loop, both fused Adam",
           ours(cnn), hand_loop(cnn, True, pixel_loss), rounds, "0.95")  # fmt: skip
    for kind in ("row", "diagonal"):  # 2 layers have as many weights as 6 blocks, within 8 %
        rnn = [*few, "model=pixelrnn", f"model.network.kind={kind}", "model.network.layers=2", "model.network.width=15"]
        paired(f"PixelCNN over PixelRNN ({kind} LSTM), training, equal parameters",
               hand_loop(cnn, True, pixel_loss), hand_loop(rnn, True, pixel_loss), rounds, "above 3")  # fmt: skip
    model, images = build(compose("train", [*few, "model=pixelcnn"])["model"]).eval(), 64
    noise = torch.rand(images, 1, 28, 28)
    nothing = torch.zeros_like(noise)

    def likelihood() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            model.log_likelihood(noise.round())
        return 1 / (time.perf_counter() - began)

    def sampling(cached: bool) -> float:
        began = time.perf_counter()
        model.complete(nothing, nothing > 0, noise, cached=cached)
        return 1 / (time.perf_counter() - began)

    fast, slow = sampling(True), sampling(False)  # the naive one takes minutes: once
    row("64 samples of the 15-block PixelCNN: cached over naive", f"{fast / slow:.0f}", "",
        f"{1 / fast:.2f} / {1 / slow:.0f} s", "50")  # fmt: skip
    paired("the same: one likelihood evaluation over cached sampling", likelihood, lambda: sampling(True), rounds, "")


def loops(mlp: list[str], conv: list[str], rounds: int) -> None:
    """Ours over loops by hand."""
    plain = "optimizer.fused=false"
    for name, words in (("MLP VAE, batch 128", mlp), ("conv VAE, batch 128", conv)):
        by_hand = f"{name}: over a hand-written loop, both fused Adam"
        paired(by_hand, ours(words), hand_loop(words, True), rounds, "0.95")
        paired(f"{name}: the same, both plain Adam", ours([*words, plain]), hand_loop(words, None), rounds, "0.95")
        paired(f"{name}: ours as it is over theirs as torch has it", ours(words), hand_loop(words, None), rounds, "")


def games(n: int, rounds: int) -> None:
    """A critic's and a generator's step, ours over one by hand."""
    few = ["model=dcgan", "data=mnist", "data.val=0", f"data.limit={n}", "data.batch_size=64", "callbacks=[default]"]
    narrow = [*few, "model.generator.width=32", "model.critic.width=32"]
    paired("DCGAN, width 32, batch 64: over a hand-written loop, both fused Adam",
           ours(narrow), hand_game(narrow), rounds, "0.952")  # fmt: skip


def compiled(mlp: list[str], rounds: int) -> None:
    """Ours compiled over a loop by hand that is not."""
    words, by_hand = [*mlp, "compile=true"], hand_loop(mlp, True)
    paired("MLP VAE: compiled, compilation included, over hand-written, not compiled", ours(words), by_hand, rounds, "")
    paired("MLP VAE: compiled, once it is, over hand-written, not compiled", steady(words), by_hand, rounds, "1.0")


def peers(mlp: list[str], rounds: int) -> None:
    """Ours over other libraries that are installed."""
    grey = [*mlp, "data.binarise=none"]  # as pythae trains
    if peer := pythae(grey):
        paired("MLP VAE on grey values: over pythae's trainer", ours(grey), peer, rounds, "1.2")


def times(mlp: list[str], rounds: int) -> None:
    """Start-up, evaluation, tracking, checkpoints, memory."""
    root = Path(compose("train", mlp)["data"]["root"]).resolve()
    quick = command("train", "data=mnist", f"data.root={root}", "trainer.max_steps=1", "metric=[]")
    first = "command to first training step"
    timed(first, lambda: seconds([*quick, "logger=csv"], "Training VAE"), rounds, "6 s")
    timed("`dgm --help`", lambda: seconds(command("--help")), rounds, "0.5 s")
    timed("evaluation of 10,000 images, 100 samples each", lambda: evaluation(mlp), min(rounds, 3), "")
    base = statistics.median(seconds([*quick, "logger=csv"]) for _ in range(rounds))
    timed("W&B per job, offline", lambda: seconds([*quick, "logger=wandb"]) - base, rounds, "")
    timed("checkpoints, one a minute, MLP VAE: share of the time", lambda: checkpoint_cost(mlp), rounds, "", "%")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    row("peak memory of a training process", f"{peak:.2f} GiB", "", "", "")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the paired runs; more swing on shared cores")
    parser.add_argument("--quick", action="store_true", help="fewer images, two rounds: does it run at all?")
    parser.add_argument("--only", nargs="+", help="of loops, compiled, peers, pixels, games, times, sweeps")
    options = parser.parse_args()
    rounds, n = (2, 2_560) if options.quick else (options.rounds, 60_000)
    torch.set_num_threads(options.threads)
    quiet()
    logging.getLogger("pythae").setLevel(logging.ERROR)
    mlp = ["data=mnist", "data.val=0", f"data.limit={n}", "model=vae", "model.latent=20"]
    conv = ["data=mnist", "data.val=0", f"data.limit={n // 4}", "model=conv_vae", "model.latent=20"]
    parts = {
        "loops": lambda: loops(mlp, conv, rounds),
        "compiled": lambda: compiled(mlp, rounds),
        "peers": lambda: peers(mlp, rounds),
        "pixels": lambda: pixels(n // 20, rounds),
        "games": lambda: games(n // 20, rounds),
        "times": lambda: times(mlp, rounds),
        "sweeps": lambda: sweeps(4 if options.quick else 16),
    }
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians of {rounds} paired runs\n")
    row("what", "ratio or time", "range", "ours / theirs", "target")
    row("---", "---", "---", "---", "---")
    for name, part in parts.items():
        if not options.only or name in options.only:
            part()


if __name__ == "__main__":
    main()
