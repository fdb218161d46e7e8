"""Results on disk that are costly to make again: one file per key, tensors and plain containers only."""

import contextlib
import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm import files

Content = dict[str, Any]


def digest(*parts: str | int) -> str:
    """A short hash of several parts."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def weights_hash(state: dict[str, Tensor]) -> str:
    """Hash of the tensors of a state dict, whatever file they came in."""
    total = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(state.items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def load_or_make(path: Path, make: Callable[[], Content]) -> Content:
    """What lies at `path`, or, where nothing readable does, what `make` returns, kept there from now on.

    Of several processes that need it one makes it, and the others wait.
    """
    if (known := load(path)) is not None:
        return known
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.lock(path.with_name(f".{path.name}.lock"), wait=True))
        except OSError as error:
            raise unwritable(path, error) from error
        if (known := load(path)) is None:
            known = make()
            write(path, known)
    return known


def load(path: Path) -> Content | None:
    """What lies at `path`, None where nothing readable does."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None


def write(path: Path, content: Content) -> None:
    """Save whole or not at all.

    Errors: OSError in one sentence where the folder takes no file.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        files.write(path, buffer.getvalue())
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OSError:
    """The error in words."""
    return OSError(f"cache={path.parent} cannot be written ({error}); free some space or set cache to another folder")
