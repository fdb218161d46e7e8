"""Any Hugging Face image data set: by its hub name, from parquet files here, or from a folder of images.

Shapes: N images in a split, C channels, H height, W width.
"""

import re
from difflib import get_close_matches
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from PIL import Image, ImageOps
from torch import Tensor

from dgm.data.sets import Arrays, Splits

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

MODES = {1: "L", 3: "RGB"}


def load(
    path: str,
    shape: Annotated[list[Annotated[int, Ge(1)]], "[C, H, W]"],
    image_column: str = "image",
    label_column: str | None = "label",
    train_split: str = "train",
    test_split: str = "test",
    name: str | None = None,
    revision: str | None = None,
) -> Splits:
    """Decode every image once, into one uint8 tensor [N, C, H, W] per split.

    path: what exists here is read from here: a parquet file, a folder or glob of them (the leading word of a
    file's name is its split), or a folder of images by split and class; anything else is a name on the hub.
    A split may be a slice such as `train[90%:]`, taken in the order of the files.
    name: configuration of a hub set. Errors: ValueError or FileNotFoundError naming the key at fault.
    """
    if len(shape) != 3 or shape[0] not in MODES:
        raise ValueError(f"data.shape={list(shape)} must be [C, H, W] with 1 channel (grey) or 3 (RGB)")
    builder = _builder(path, name, revision)
    train = _split(builder, path, "train_split", train_split)
    test = _split(builder, path, "test_split", test_split)
    return Splits(*(_decode(data, list(shape), image_column, label_column) for data in (train, test)))


def _builder(path: str, name: str | None, revision: str | None) -> "DatasetBuilder":
    """Everything downloaded and prepared, in the cache of `datasets` (HF_HOME)."""
    try:
        from datasets import load_dataset_builder
    except ImportError as error:
        raise ImportError("data=hf needs the package `datasets`; install it: pip install dgm[hf]") from error
    local = _local(path)
    try:
        builder = load_dataset_builder(**(local or {"path": path, "name": name, "revision": revision}))
        builder.download_and_prepare()
    except Exception as error:
        raise _unreadable(path, local is not None, error) from error
    return builder


def _local(path: str) -> dict[str, Any] | None:
    """Arguments of a packaged reader, which asks no network; None where only a hub name can be meant."""
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(place.rglob("*.parquet"))
        return _parquet(files) if files else _image_folder(path, place)
    base = Path(place.anchor)
    files = [place] if place.is_file() else sorted(base.glob(str(place.relative_to(base))))
    if files:
        return _parquet(files)
    if place.is_absolute() or path.count("/") > 1 or re.search(r"[*?\[]|\.parquet$|^\.", path):
        raise FileNotFoundError(f"data.source.path={path}: nothing at {place.absolute()}; correct the path")
    return None


def _image_folder(path: str, place: Path) -> dict[str, Any]:
    suffixes = Image.registered_extensions()
    if not any(file.suffix.lower() in suffixes for file in place.rglob("*")):
        raise FileNotFoundError(f"data.source.path={path}: neither parquet nor images are in it; correct the path")
    return {"path": "imagefolder", "data_dir": str(place.resolve())}


def _parquet(files: list[Path]) -> dict[str, Any]:
    """Files by split: `train-00000-of-00001.parquet` belongs to `train`."""
    splits: dict[str, list[str]] = {}
    for file in files:
        word = re.match(r"[A-Za-z]+", file.stem)
        splits.setdefault(word.group() if word else "train", []).append(str(file.resolve()))
    return {"path": "parquet", "data_files": splits}


def _unreadable(path: str, local: bool, error: Exception) -> Exception:
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    why = f"data.source.path={path} cannot be read ({_sentence(cause if local else error)})"
    if local:
        return ValueError(f"{why}; it must be intact parquet files or a folder of images")
    if isinstance(error, ValueError):
        return ValueError(f"{why}; set data.source.name to a configuration that it has")
    return FileNotFoundError(
        f"data.source.path={path} is not here (no {Path(path).absolute()}) and could not be fetched "
        f"from the Hugging Face hub ({_sentence(error)}); correct the path, or run once with network access"
    )


def _sentence(error: Exception) -> str:
    """An error's text on one line, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _split(builder: "DatasetBuilder", path: str, key: str, value: str) -> "Dataset":
    known = list(builder.info.splits or {})
    cut = "train" if "train" in known else known[0]
    remedy = (
        f"set data.source.{key} to a split or a slice, for example train_split='{cut}[:90%]' and "
        f"test_split='{cut}[90%:]'"
    )
    for word in (part.split("[")[0].strip() for part in value.split("+")):
        if word not in known:
            raise ValueError(f"data.source.{key}={value}: {path} has no split {_nearest(word, known)}; {remedy}")
    try:
        return builder.as_dataset(split=value)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"data.source.{key}={value} cannot be used ({_sentence(error)}); {remedy}") from error


def _nearest(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"{word!r}, only {', '.join(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _decode(data: "Dataset", shape: list[int], image_column: str, label_column: str | None) -> Arrays:
    for key, column in (("image_column", image_column), ("label_column", label_column)):
        if column is not None and column not in data.column_names:
            names, off = _nearest(column, data.column_names), " or to null" if key == "label_column" else ""
            raise ValueError(f"data.source.{key}={column}: no column {names}; set it to one of them{off}")
    image = _images(data, image_column, shape)
    return Arrays({"image": image} if label_column is None else {"image": image, "label": _labels(data, label_column)})


def _images(data: "Dataset", column: str, shape: list[int]) -> Tensor:
    """-> uint8 [N, C, H, W]."""
    from datasets import Image as Encoded
    from datasets import Value

    kind = data.features[column]
    if not (isinstance(kind, Encoded) or kind == Value("binary") or (isinstance(kind, dict) and "bytes" in kind)):
        raise ValueError(f"data.source.image_column={column} holds {kind}, not images; name the column that does")
    pixels = np.empty((len(data), *shape[1:], shape[0]), dtype=np.uint8)
    encoded = data.select_columns([column]).cast_column(column, Encoded(decode=False))
    rows = chain.from_iterable(part[column] for part in encoded.iter(1000))
    for index, row in enumerate(rows):
        try:
            pixels[index] = _pixels(row, shape)
        except (OSError, ValueError, SyntaxError, TypeError) as error:
            raise ValueError(f"data.source.image_column={column}: image {index} {_sentence(error)}") from error
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _pixels(encoded: dict[str, Any] | None, shape: list[int]) -> np.ndarray:
    """The bytes of an image file, or its path -> uint8 [H, W, C]."""
    channels, height, width = shape
    if encoded is None:
        raise ValueError("is empty; remove that row")
    try:
        file = BytesIO(encoded["bytes"]) if encoded["bytes"] is not None else encoded["path"]
        image: Image.Image = ImageOps.exif_transpose(Image.open(file))
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"cannot be decoded ({_sentence(error)}); remove it") from error
    if (image.height, image.width) != (height, width):
        size = f"is {image.height} high and {image.width} wide, but data.shape={shape}"
        raise ValueError(f"{size}; set data.shape to the size of the images, or resize them where sizes differ")
    if image.mode[0] in "IF":
        raise ValueError(f"has more than 8 bits per value ({image.mode}); convert it to 8 bits")
    return np.asarray(image.convert(MODES[channels])).reshape(height, width, channels)


def _labels(data: "Dataset", column: str) -> Tensor:
    """-> int64 [N]."""
    values = np.asarray(data[column][:])
    if values.ndim != 1 or values.dtype.kind not in "iub":
        kind = data.features[column]
        raise ValueError(f"data.source.label_column={column} holds {kind}, not whole numbers; name another or null")
    return torch.from_numpy(values.astype(np.int64))
