"""Free Spoken Digit Dataset (Jackson et al., 2018): 3,000 recordings at 8 kHz, as 8-bit mu-law sequences.

Shapes: N sequences, T samples.
"""

import math
import wave
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from dgm.data.sets import Arrays, Splits

MU = 255
TEST = 5  # recordings of each speaker and digit, by the set's own rule


def encode(amplitude: Tensor) -> Tensor:
    """-1..1 -> 256 levels, dense near silence, which is level 128 (ITU-T G.711, the continuous mu-law), any shape."""
    pressed = amplitude.sign() * torch.log1p(MU * amplitude.abs()) / math.log1p(MU)
    return ((pressed + 1) / 2 * MU + 0.5).floor().clamp(0, MU).to(torch.uint8)


def decode(level: Tensor) -> Tensor:
    """256 levels -> -1..1, any shape."""
    pressed = level.float() / MU * 2 - 1
    return pressed.sign() * torch.expm1(pressed.abs() * math.log1p(MU)) / MU


def load(root: str, shape: Annotated[list[Annotated[int, Ge(1)]], "[1, 1, T]"]) -> Splits:
    """The recordings under `root`/fsdd, cut into whole sequences of T samples, each with its digit as label.

    Recordings 0 to 4 of each speaker and digit are the test set. Errors: FileNotFoundError where there are none,
    ValueError where one is not what it should be.
    """
    if len(shape) != 3 or shape[:2] != [1, 1]:
        raise ValueError(f"data.shape={list(shape)} must be [1, 1, T] for sequences of T samples")
    folder = Path(root).expanduser() / "fsdd"
    files = sorted(folder.rglob("*_*_*.wav"))
    if not files:
        raise FileNotFoundError(
            f"data.root={root}: no recordings in {folder.absolute()}; "
            "put the wav files of the Free Spoken Digit Dataset there"
        )
    held_out = {file for file in files if int(file.stem.split("_")[2]) < TEST}
    train = [file for file in files if file not in held_out]
    return Splits(_sequences(train, shape[2]), _sequences(sorted(held_out), shape[2]))


def _sequences(files: list[Path], length: int) -> Arrays:
    """Levels [N, 1, 1, T] and the digit that is spoken [N], grouped by recording, whose last samples are dropped."""
    cuts = [
        (whole[: len(whole) // length * length].view(-1, length), file) for file in files for whole in [_levels(file)]
    ]
    recording = torch.tensor([i for i, (cut, _) in enumerate(cuts) for _ in cut])
    labels = torch.tensor([int(file.name[0]) for cut, file in cuts for _ in cut])
    if not len(labels):
        raise ValueError(f"data.shape=[1, 1, {length}]: no recording has that many samples; lower it")
    return Arrays({"image": torch.cat([cut for cut, _ in cuts])[:, None, None], "label": labels}, recording)


def _levels(file: Path) -> Tensor:
    """A recording: [T] uint8."""
    try:
        with wave.open(str(file)) as sound:
            if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (8000, 1, 2):
                raise ValueError("not 16 bit, 8 kHz, mono")
            frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, ValueError) as error:
        raise ValueError(f"{file.name} under data.root is no usable recording ({error}); fetch it again") from error
    return encode(torch.from_numpy(np.frombuffer(frames, "<i2").astype(np.float32) / 32768))
