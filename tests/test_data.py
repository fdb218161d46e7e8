"""Data: orders and shards, binarisation, the data module, and every source with its errors."""

import functools
import gzip
import hashlib
import io
import itertools
import math
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from dgm.data import density, digits, hub, shapes, vision
from dgm.data.binarise import stochastic, threshold
from dgm.data.loading import Order, fold, generator
from dgm.data.module import Data
from dgm.data.sets import Arrays, Splits, Subset, fingerprint, subset, whole

torch.set_num_threads(1)
CONF = Path(__file__).parents[1] / "conf"


def batches(order: Order) -> list[list[int]]:
    return [request.rows.tolist() for request in order]


def flat(order: Order) -> list[int]:
    return list(itertools.chain.from_iterable(batches(order)))


def images(n: int = 40, shape: tuple[int, ...] = (1, 4, 4), seed: int = 0) -> Arrays:
    pixels = torch.randint(0, 256, (n, *shape), generator=generator(seed), dtype=torch.uint8)
    return Arrays({"image": pixels, "label": torch.arange(n)})


def module(**settings) -> Data:
    source = settings.pop("source", lambda: Splits(images(40), images(17, seed=1)))
    return Data(**({"name": "noise", "shape": [1, 4, 4], "source": source} | settings))


# --- orders and shards


def test_an_epoch_holds_every_row_once_and_epochs_differ():
    order = Order(385, 128, shuffle=True, seed=3)
    first = flat(order)
    order.set_epoch(1)
    second = flat(order)
    assert sorted(first) == sorted(second) == list(range(385))
    assert first != second and first != sorted(first)
    assert [len(rows) for rows in batches(order)] == [128, 128, 128, 1] and len(order) == 4


def test_an_order_depends_on_seed_and_epoch_alone():
    one, two = Order(100, 7, True, seed=5), Order(100, 7, True, seed=5)
    for epoch in range(3):  # `one` lives through the epochs, `two` jumps
        one.set_epoch(epoch)
        lived = [(request.rows.tolist(), request.seed) for request in one]
    two.set_epoch(2)
    assert lived == [(request.rows.tolist(), request.seed) for request in two]
    assert flat(Order(100, 7, True, seed=6)) != flat(Order(100, 7, True, seed=5))


def test_an_order_without_shuffle_is_the_order_of_the_data():
    assert flat(Order(11, 4, shuffle=False, seed=9)) == list(range(11))


@pytest.mark.parametrize(("n", "world", "size"), [(385, 2, 128), (100, 3, 16), (256, 2, 128), (7, 4, 2)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_shards_are_disjoint_complete_and_of_equal_length(n, world, size, shuffle):
    shards = [Order(n, size, shuffle, 0, rank, world) for rank in range(world)]
    parts = [batches(shard) for shard in shards]
    rows = [row for part in parts for batch in part for row in batch]
    assert sorted(rows) == list(range(n))
    assert {len(part) for part in parts} == {len(shards[0])}
    assert all(0 < len(batch) <= size for part in parts for batch in part)


def test_shards_do_not_share_their_noise():
    seeds = [[request.seed for request in Order(64, 8, True, 0, rank, 2)] for rank in (0, 1)]
    assert not set(seeds[0]) & set(seeds[1])


def test_start_resumes_an_epoch_in_the_middle_and_only_once():
    order = Order(50, 8, True, seed=1)
    order.set_epoch(4)
    full = [(request.rows.tolist(), request.seed) for request in order]
    order.start = 3
    assert [(request.rows.tolist(), request.seed) for request in order] == full[3:]
    assert [(request.rows.tolist(), request.seed) for request in order] == full


def test_fold_keeps_numbers_apart():
    seeds = {fold(*numbers) for numbers in [(0,), (0, 0), (1, 23), (12, 3), (123,), (3, 12)]}
    assert len(seeds) == 6 and all(0 <= seed < 2**63 for seed in seeds)


# --- binarisation


def test_stochastic_binarisation_has_the_probability_of_the_level():
    n = 20_000
    levels = torch.arange(256, dtype=torch.uint8).view(256, 1).expand(256, n)
    drawn = stochastic(levels, generator(0))
    assert set(drawn.unique().tolist()) == {0, 255}
    assert (drawn[0] == 0).all() and (drawn[255] == 255).all()
    p = torch.arange(256, dtype=torch.double) / 255
    error = (drawn == 255).double().mean(1) - p
    assert (error.abs() <= 5 * (p * (1 - p) / n).sqrt()).all()
    assert abs(error.mean()) < 5 * math.sqrt((p * (1 - p)).mean() / n / 256)  # a bias of 1/512 would show here


def test_threshold_splits_at_the_middle():
    assert threshold(torch.tensor([0, 127, 128, 255], dtype=torch.uint8)).tolist() == [0, 0, 255, 255]


def everything(data: Data, split: str, epoch: int = 0) -> torch.Tensor:
    loader = data.loader(split, batch_size=data.batch_size)
    loader.sampler.set_epoch(epoch)
    return torch.cat([batch["image"] for batch in loader])


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_draws_never_change(kind, split):
    one = module(val=10, binarise=kind, batch_size=3, seed=0)
    two = module(val=10, binarise=kind, batch_size=16, seed=7)
    assert torch.equal(everything(one, split), everything(two, split, epoch=5))
    assert set(everything(one, split).unique().tolist()) == {0, 255}


def test_dynamic_training_draws_change_with_the_epoch_and_can_be_revisited():
    data = module(val=10, binarise="dynamic", batch_size=8)
    first, second = everything(data, "train", 0), everything(data, "train", 1)
    assert not torch.equal(first, second)
    assert torch.equal(first, everything(data, "train", 0))
    assert set(first.unique().tolist()) == {0, 255}


def test_static_training_draws_stay():
    data = module(binarise="static", batch_size=8)
    assert torch.equal(everything(data, "train", 0), everything(data, "train", 1))
    assert set(everything(data, "train").unique().tolist()) == {0, 255}


def test_grey_data_stays_grey_and_raw_data_is_never_binarised():
    assert len(everything(module(), "train").unique()) > 100
    data = module(binarise="static")
    data.set("train")
    assert len(whole(data.raw("train"))["image"].unique()) > 100


# --- the data module


def test_splits_are_disjoint_and_do_not_move_with_the_seed():
    one, two = module(val=10, seed=0), module(val=10, seed=1)
    rows = {split: whole(one.raw(split))["label"].tolist() for split in ("train", "val")}
    assert rows == {split: whole(two.raw(split))["label"].tolist() for split in ("train", "val")}
    assert sorted(rows["train"] + rows["val"]) == list(range(40)) and len(rows["val"]) == 10


def test_a_limit_keeps_the_validation_images():
    full, part = module(val=10), module(val=10, limit=5)
    val = [whole(data.raw("val"))["label"].tolist() for data in (full, part)]
    assert val[0] == val[1] and part.size("train") == 5
    assert set(whole(part.raw("train"))["label"].tolist()) < set(whole(full.raw("train"))["label"].tolist())


def test_what_is_held_out_shares_no_group_with_what_is_trained_on():
    groups = torch.arange(40) // 4
    data = module(source=lambda: Splits(Arrays(images(40).tensors, groups), images(17, seed=1)), val=10)
    train, val = (set((whole(data.raw(split))["label"] // 4).tolist()) for split in ("train", "val"))
    assert data.size("val") == 10 and data.size("train") == 40 - 12  # what is left of the third group is in neither
    assert not train & val and len(val) == 3
    with pytest.raises(ValueError, match=r"data\.val=37 leaves nothing"):
        module(source=lambda: Splits(Arrays(images(40).tensors, groups), images(17, seed=1)), val=37).raw("train")


def test_too_large_a_validation_set_is_refused():
    with pytest.raises(ValueError, match=r"data\.val=40 .* 40 training images; lower it"):
        module(val=40).raw("train")


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"data\.shape=\[1, 5, 5\] .* \[1, 4, 4\]; set data\.shape"):
        module(shape=[1, 5, 5]).raw("train")


def test_points_and_sets_drawn_on_demand_are_not_binarised():
    points = Arrays({"point": torch.zeros(5, 2)})
    with pytest.raises(ValueError, match=r"data\.binarise=threshold .* use none"):
        module(shape=[2], source=lambda: Splits(points, points), binarise="threshold").raw("train")
    sprites = module(shape=[1, 32, 32], source=lambda: shapes.load(32), binarise="static")
    with pytest.raises(ValueError, match=r"data\.binarise=static .* drawn on demand"):
        sprites.set("test")


def test_a_set_needs_as_many_labels_as_images():
    with pytest.raises(ValueError, match="as many labels as images"):
        Arrays({"image": torch.zeros(3, 1, 2, 2), "label": torch.zeros(2)})


@pytest.mark.parametrize("row", [0, 39])
def test_a_fingerprint_changes_with_one_pixel(row):
    data, copy = images(), images()
    assert fingerprint(data) == fingerprint(copy)
    copy.tensors["image"][row, 0, 3, 2] += 1
    assert fingerprint(data) != fingerprint(copy)
    changed = module(source=lambda: Splits(copy, images(17, seed=1)))
    assert module().fingerprint() != changed.fingerprint()


def test_subsets_of_both_kinds_agree():
    data, rows, asked = images(), torch.tensor([5, 3, 30, 8]), torch.tensor([2, 0, 2])
    cut, looked_up = subset(data, rows).fetch(asked), Subset(data, rows).fetch(asked)
    assert cut["label"].tolist() == looked_up["label"].tolist() == [30, 5, 30]
    assert torch.equal(cut["image"], looked_up["image"])


# --- every yaml


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
def test_every_data_yaml_makes_a_data_module(name, tmp_path):
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    (tmp_path / "base.yaml").write_text(
        f"defaults: [{{data: {name}}}, _self_]\nseed: 4\nhydra: {{searchpath: ['file://{CONF}']}}\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("base", overrides=["data.batch_size=3"])
    OmegaConf.resolve(config)
    data = instantiate(config.data, _convert_="all")
    assert data.name == name and data.seed == 4 and data.batch_size == 3 and callable(data.source)
    if name in ("digits", "shapes", "coloured_shapes", "density"):
        batch = next(iter(data.train_dataloader()))
        assert all(len(tensor) == 3 for tensor in batch.values()) and data.size("val") > 100


# --- digits


def test_digits_are_the_real_images():
    from sklearn.datasets import load_digits

    train, test = digits.load()
    both = torch.cat([whole(train)["image"], whole(test)["image"]]).flatten(1)
    assert len(train) == 1437 and len(test) == 360 and both.dtype == torch.uint8
    original = np.rint(load_digits().images.reshape(1797, 64) * 255 / 16)
    assert sorted(map(bytes, both.numpy())) == sorted(map(bytes, original.astype(np.uint8)))
    assert torch.bincount(whole(train)["label"]).min() > 100


def test_digits_are_split_without_overlap_in_the_same_way_each_time():
    train, test = digits.load()
    assert not set(map(bytes, whole(train)["image"].numpy())) & set(map(bytes, whole(test)["image"].numpy()))
    assert torch.equal(whole(digits.load().test)["image"], whole(test)["image"])


# --- torchvision's sets

COUNTS = {"train": 12, "t10k": 5}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def contents() -> dict[str, bytes]:
    """The four files of MNIST, small."""
    noise, files = np.random.default_rng(0), {}
    for split, n in COUNTS.items():
        files[f"{split}-images-idx3-ubyte"] = idx(noise.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{split}-labels-idx1-ubyte"] = idx(noise.integers(0, 10, n, dtype=np.uint8))
    return files


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder that stands for the mirror of MNIST, empty at first; `packed` are the files it should have."""
    from torchvision.datasets import MNIST

    folder = write(tmp_path / "server", {})
    web = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in packed().items()]
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{web.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", sums)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder
    web.shutdown()
    web.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def packed() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in contents().items()}


def test_mnist_is_read_as_it_is_stored(tmp_path):
    write(tmp_path / "MNIST/raw", contents())
    train, test = vision.load("MNIST", str(tmp_path))
    assert whole(train)["image"].shape == (12, 1, 28, 28) and whole(test)["image"].shape == (5, 1, 28, 28)
    assert whole(train)["image"].numpy().tobytes() == contents()["train-images-idx3-ubyte"][16:]
    assert whole(test)["label"].tolist() == list(contents()["t10k-labels-idx1-ubyte"][8:])
    assert whole(test)["image"].dtype == torch.uint8 and whole(test)["label"].dtype == torch.int64


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[: len(b) // 2],
        lambda b: b[:10],
        lambda b: b"",
        lambda b: b"<html>" + b,
        lambda b: b + b"x",
    ],
    ids=["last byte", "half", "header", "empty", "a web page", "too long"],
)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"])
def test_a_damaged_mnist_file_is_named(tmp_path, name, damage):
    files = contents()
    write(tmp_path / "MNIST/raw", files | {name: damage(files[name])})
    split = "training" if name.startswith("train") else "test"
    with pytest.raises(
        ValueError, match=rf"data\.root=.* {split} file of MNIST is corrupt .* delete .*MNIST/raw"
    ) as error:
        vision.load("MNIST", str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_label_file_of_another_length_is_named(tmp_path):
    wrong = {"t10k-labels-idx1-ubyte": idx(np.zeros(4, dtype=np.uint8))}
    write(tmp_path / "MNIST/raw", contents() | wrong)
    with pytest.raises(ValueError, match=r"test file of MNIST is corrupt \(5 images but 4 labels\); delete"):
        vision.load("MNIST", str(tmp_path))


def test_a_failed_download_is_one_sentence_and_leaves_no_files(tmp_path, server):
    names = list(packed())
    write(server, {name: packed()[name] for name in names[:2]})  # the connection breaks after two of four files
    with pytest.raises(FileNotFoundError, match=r"data\.root=.* could not be downloaded .* set DGM_DATA") as error:
        vision.load("MNIST", str(tmp_path / "root"))
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    write(server, packed())
    train, test = vision.load("MNIST", str(tmp_path / "root"))
    assert (len(train), len(test)) == (12, 5)
    assert not list((tmp_path / "root").glob(".download-*"))


def test_archives_laid_down_by_hand_are_unpacked(tmp_path, server):
    write(tmp_path / "MNIST/raw", packed())
    train, _ = vision.load("MNIST", str(tmp_path))  # the server has nothing
    assert whole(train)["image"].numpy().tobytes() == contents()["train-images-idx3-ubyte"][16:]


def test_a_garbage_archive_is_named_and_replaced_when_it_can_be(tmp_path, server):
    write(tmp_path / "MNIST/raw", packed() | {"t10k-images-idx3-ubyte.gz": b"garbage"})
    with pytest.raises(FileNotFoundError, match=r"where t10k-images-idx3-ubyte\.gz is damaged"):
        vision.load("MNIST", str(tmp_path))
    write(server, packed())
    assert len(vision.load("MNIST", str(tmp_path)).test) == 5


def test_a_download_does_not_wait_for_ever_and_puts_the_time_limit_back(tmp_path, server, monkeypatch):
    from torchvision.datasets import MNIST

    listener = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{listener.getsockname()[1]}/"])
    monkeypatch.setattr(vision, "TIMEOUT", 0.2)
    with listener, pytest.raises(FileNotFoundError, match="timed out"):
        vision.load("MNIST", str(tmp_path / "root"))
    assert socket.getdefaulttimeout() is None


def test_missing_cifar10_is_one_sentence(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", f"file://{tmp_path}/nothing.tar.gz")
    write(tmp_path / "cifar-10-batches-py", {"test_batch": b"half"})
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 is missing or incomplete .* cifar-10-batches-py"):
        vision.load("CIFAR10", str(tmp_path))


# --- Hugging Face


@pytest.fixture
def offline(tmp_path, monkeypatch) -> None:
    """A cache of our own, and no way out: a local path must not ask the network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    datasets.disable_progress_bars()


def png(array: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def colours(n: int, seed: int = 0, side: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def parquet(file: Path, files: list[bytes], **columns: list) -> Path:
    import pyarrow
    import pyarrow.parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    encoded = [{"bytes": content, "path": None} for content in files]
    pyarrow.parquet.write_table(pyarrow.table({"img": encoded, **columns}), file)
    return file


@pytest.fixture
def table(tmp_path, offline) -> Path:
    for split, n in {"train": 8, "test": 3}.items():
        pictures = [png(image) for image in colours(n, seed=n)]
        parquet(tmp_path / f"set/{split}-00000-of-00001.parquet", pictures, digit=list(range(n)), word=["a"] * n)
    return tmp_path / "set"


def read_table(path: Path | str, **settings) -> Splits:
    defaults = {"shape": [3, 6, 6], "image_column": "img", "label_column": "digit"}
    return hub.load(str(path), **(defaults | settings))


@pytest.mark.parametrize("pattern", ["", "*.parquet", "t*-of-00001.parquet"])
def test_parquet_is_read_exactly(table, pattern):
    train, test = read_table(table / pattern)
    for data, n in ((train, 8), (test, 3)):
        assert torch.equal(whole(data)["image"], torch.from_numpy(colours(n, seed=n)).permute(0, 3, 1, 2))
        assert whole(data)["label"].tolist() == list(range(n)) and whole(data)["image"].is_contiguous()


def test_colours_become_grey_and_labels_can_be_left_out(table):
    batch = whole(read_table(table, shape=[1, 6, 6], label_column=None).train)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.double).view(3, 1, 1)  # ITU-R 601
    exact = (torch.from_numpy(colours(8, seed=8)).permute(0, 3, 1, 2) * weights).sum(1, keepdim=True)
    assert list(batch) == ["image"] and (batch["image"] - exact).abs().max() <= 1


def test_a_slice_serves_where_there_is_no_test_split(table):
    path = table / "train-00000-of-00001.parquet"
    train, test = read_table(path, train_split="train[:75%]", test_split="train[75%:]")
    assert whole(train)["label"].tolist() == [0, 1, 2, 3, 4, 5] and whole(test)["label"].tolist() == [6, 7]
    with pytest.raises(ValueError, match=r"test_split=test: .* no split 'test', only train; .*train\[90%:\]"):
        read_table(path)
    with pytest.raises(ValueError, match=r"test_split=train\[75%: cannot be used"):
        read_table(path, test_split="train[75%:")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_column": "imgs"}, r"image_column=imgs: .* only img, digit, word \(did you mean 'img'\?\)"),
        ({"label_column": "digits"}, r"label_column=digits: .*did you mean 'digit'.* or to null"),
        ({"label_column": "word"}, r"label_column=word holds .*string.*, not whole numbers"),
        ({"image_column": "digit"}, r"image_column=digit holds .*int64.*, not images"),
        ({"train_split": "trian"}, r"train_split=trian: .*did you mean 'train'.*train\[90%:\]"),
        ({"shape": [3, 6, 8]}, r"image 0 is 6 high and 6 wide, but data\.shape=\[3, 6, 8\]; set data\.shape"),
        ({"shape": [2, 6, 6]}, r"data\.shape=\[2, 6, 6\] must be .* 1 channel .* or 3"),
    ],
)
def test_wrong_settings_of_a_table_are_named(table, settings, message):
    with pytest.raises(ValueError, match=message):
        read_table(table, **settings)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (png(colours(1, side=5)[0]), r"image 1 is 5 high and 5 wide"),
        (b"no image", r"image 1 cannot be decoded"),
        (png(colours(1)[0])[:60], r"image 1 cannot be decoded"),
        (png(np.zeros((6, 6), dtype=np.uint16)), r"image 1 has more than 8 bits"),
    ],
    ids=["other size", "garbage", "truncated", "16 bits"],
)
def test_an_odd_image_is_named(tmp_path, offline, second, message):
    path = parquet(tmp_path / "train.parquet", [png(colours(1)[0]), second])
    with pytest.raises(ValueError, match=message):
        read_table(path, label_column=None, test_split="train")


def test_a_folder_of_images_gives_classes(tmp_path, offline):
    for split, kind, n in (("train", "cat", 3), ("train", "dog", 2), ("test", "cat", 1), ("test", "dog", 1)):
        pictures = {f"{i}.png": png(image) for i, image in enumerate(colours(n))}
        write(tmp_path / "pets" / split / kind, pictures)
    train, test = read_table(tmp_path / "pets", image_column="image", label_column="label")
    assert whole(train)["label"].tolist() == [0, 0, 0, 1, 1] and whole(test)["label"].tolist() == [0, 1]
    first = torch.from_numpy(colours(1)).permute(0, 3, 1, 2)
    assert torch.equal(whole(test)["image"], first.expand(2, -1, -1, -1))


def test_missing_and_unreadable_paths_are_named(tmp_path, offline):
    for path in (tmp_path / "nope", tmp_path / "*.parquet", "a/b/c", "./here", "data.parquet"):
        with pytest.raises(FileNotFoundError, match=r"data\.source\.path=.*: nothing at .*correct the path"):
            read_table(path)
    write(tmp_path / "empty", {"readme.txt": b"hello"})
    with pytest.raises(FileNotFoundError, match="neither parquet nor images"):
        read_table(tmp_path / "empty")
    write(tmp_path / "bad", {"train.parquet": b"PAR1 and then nothing"})
    with pytest.raises(ValueError, match=r"data\.source\.path=.*cannot be read .* intact parquet"):
        read_table(tmp_path / "bad")


def test_an_unreachable_hub_is_one_sentence(monkeypatch, offline):
    import datasets

    def fail(**_: object) -> None:
        raise ConnectionError("Couldn't reach\nthe hub")

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(FileNotFoundError, match=r"path=owner/name is not here .*reach the hub\); correct the path"):
        read_table("owner/name")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install dgm\[hf\]"):
        read_table("owner/name")


# --- sprites


def sprite(size: int = 64, **chosen: int) -> torch.Tensor:
    """One image [S, S], bool; factors not given are a large square in the middle."""
    middle = {"shape": 0, "scale": 5, "orientation": 0, "x": 16, "y": 16} | chosen
    row = shapes.rows(torch.tensor([[middle[name] for name in shapes.FACTORS]]))
    return shapes.Sprites(size).fetch(row)["image"][0, 0] > 0


def centroid(image: torch.Tensor) -> tuple[float, float]:
    y, x = image.nonzero().double().mean(0).tolist()
    return x, y


def test_rows_and_factors_follow_the_order_of_dsprites():
    rows = torch.tensor([0, 1, 32, 1024, 40 * 1024, 6 * 40 * 1024, 737_279])
    expected = [[0] * 5, [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert shapes.factors(rows).tolist() == [*expected, [2, 5, 39, 31, 31]]
    every = torch.arange(0, 737_280, 97)
    assert torch.equal(shapes.rows(shapes.factors(every)), every)
    assert len(shapes.Sprites()) == 737_280


@pytest.mark.parametrize("size", [32, 64])
def test_a_fetched_sprite_is_the_one_drawn_pixel_by_pixel(size):
    rows = torch.randint(737_280, (60,), generator=generator(0))
    batch = shapes.Sprites(size).fetch(rows)
    assert batch["image"].shape == (60, 1, size, size) and batch["image"].dtype == torch.uint8
    ticks = (torch.arange(size) + 0.5) * (64 / size)
    for image, (shape, scale, angle, x, y) in zip(batch["image"][:, 0], batch["factors"].tolist(), strict=True):
        turn = torch.tensor(2 * math.pi * angle / 39)
        centre = 16.5 + torch.tensor([x, y])
        across, down = ticks - centre[0], ticks[:, None] - centre[1]
        drawn = shapes.inside(shape, torch.tensor(0.5 + 0.1 * scale), turn, across, down)
        assert ((image == 255) != drawn).sum() <= 2  # a pixel centre on the outline, and rounding
        assert set(image.unique().tolist()) == {0, 255}


def test_position_moves_the_sprite_by_one_pixel():
    for shape in range(3):
        here, right, below = sprite(shape=shape), sprite(shape=shape, x=17), sprite(shape=shape, y=17)
        assert torch.equal(right, here.roll(1, 1)) and torch.equal(below, here.roll(1, 0))
    assert centroid(sprite()) == (32, 32) and centroid(sprite(x=0, y=31)) == (16, 47)


def test_sprites_never_leave_the_canvas():
    corners = torch.cartesian_prod(*(torch.tensor(v) for v in (range(3), [5], range(40), [0, 16, 31], [0, 16, 31])))
    area = (shapes.Sprites().fetch(shapes.rows(corners))["image"] > 0).sum((1, 2, 3)).view(3, 40, 9)
    assert (area == area[..., 4:5]).all()


def test_the_side_of_a_sprite_follows_its_scale():
    for shape, area in enumerate([(2 * 0.6928) ** 2, math.pi / 2, 3.661972 / 1.26**2]):  # at radius 1
        for scale in range(6):
            side = sprite(shape=shape, scale=scale).sum().sqrt().item()
            assert side == pytest.approx(shapes.RADIUS * (0.5 + 0.1 * scale) * area**0.5, abs=0.5)


def test_a_square_looks_the_same_after_a_quarter_turn_and_an_ellipse_after_half():
    ticks = torch.arange(-20.0, 21)
    for shape, period in ((0, math.pi / 2), (1, math.pi)):
        for angle in (0.0, 0.3):
            drawn = [
                shapes.inside(shape, torch.tensor(1.0), torch.tensor(a), ticks, ticks[:, None])
                for a in (angle, angle + period, angle + period / 2)
            ]
            assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_full_turn_is_no_turn_and_half_a_turn_shows_on_a_heart_alone():
    for shape in range(3):
        assert torch.equal(sprite(shape=shape, orientation=39), sprite(shape=shape))
        upside = sprite(shape=shape).flip(0, 1).roll((1, 1), (0, 1))  # about the centre, pixel 32
        assert torch.equal(upside, sprite(shape=shape)) == (shape != 2)


def test_a_heart_is_upright():
    heart = sprite(shape=2)
    inside = heart[heart.any(1)].sum(1)
    assert inside[-1] <= 3 and inside.argmax() < len(inside) / 2  # ends in a tip below, widest above the middle
    assert torch.equal(heart.flip(1).roll(1, 1), heart)
    top = heart[heart.any(1)][1]
    assert top[32] == 0 and top[:32].any() and top[33:].any()  # two lobes


def test_rotation_is_counter_clockwise():
    ellipse = sprite(shape=1, orientation=4).nonzero().double()  # 37 degrees
    y, x = (ellipse - ellipse.mean(0)).T
    angle = 0.5 * torch.atan2(-2 * (x * y).mean(), (x * x).mean() - (y * y).mean())  # y points down
    assert angle.item() == pytest.approx(4 * 2 * math.pi / 39, abs=0.05)


def test_sprites_are_split_once_and_for_all():
    train, test = shapes.load(32)
    assert (len(train), len(test)) == (727_280, 10_000)
    rows = torch.cat([train.rows, test.rows])
    assert torch.equal(rows.sort().values, torch.arange(737_280))
    assert torch.equal(shapes.load(64).test.rows, test.rows)
    batch = test.fetch(torch.arange(20))
    assert torch.equal(batch["factors"], shapes.factors(test.rows[:20]))
    assert torch.equal(batch["label"], batch["factors"][:, 0])


def test_sprites_come_in_colours():
    train, test = shapes.load(32, colours=3)
    assert len(train) + len(test) == 3 * 737_280
    rows = torch.tensor([0, 1, 2]) * 737_280 + 123_456
    batch = train.base.fetch(rows)
    assert batch["factors"][:, 0].tolist() == [0, 1, 2]
    assert torch.equal(batch["factors"][:, 1:], shapes.factors(rows % 737_280))
    grey = shapes.Sprites(32).fetch(rows % 737_280)["image"]
    for channel in range(3):  # red, green, blue
        assert torch.equal(batch["image"][channel, channel], grey[channel, 0])
        assert not batch["image"][channel, [c for c in range(3) if c != channel]].any()


def test_sprites_can_be_narrowed_to_values_of_their_factors():
    train, test = shapes.load(32, test=20, colours=2, only={"x": [16], "y": [3, 5]})
    assert len(train) + len(test) == 2 * 3 * 6 * 40 * 2
    drawn = whole(train)["factors"]
    assert (drawn[:, 4] == 16).all() and set(drawn[:, 5].tolist()) == {3, 5}
    assert len(drawn.unique(dim=0)) == len(train)
    with pytest.raises(ValueError, match=r"data\.source\.only\.hue=\[1\]: no factor; there are: shape, scale"):
        shapes.load(32, only={"hue": [1]})
    for values in ([6], [-1], []):
        with pytest.raises(ValueError, match=r"data\.source\.only\.scale=\[.*\]: give one or more of 0\.\.5"):
            shapes.load(32, only={"scale": values})


def npz(path: Path, n: int = 12, **changed: np.ndarray) -> Path:
    noise = np.random.default_rng(0)
    arrays = {
        "imgs": noise.integers(0, 2, (n, 64, 64), dtype=np.uint8),
        "latents_classes": np.stack([np.zeros(n, dtype=np.int64), *noise.integers(0, 3, (5, n))], 1),
    }
    np.savez_compressed(path, metadata=np.array({"title": "pickled"}, dtype=object), **(arrays | changed))
    return path


def test_the_genuine_file_is_read(tmp_path):
    path = npz(tmp_path / "dsprites.npz")
    splits = shapes.load(path=str(path), test=4)
    assert (len(splits.train), len(splits.test)) == (8, 4)
    raw = np.load(path)
    for data in splits:
        batch = whole(data)
        assert batch["image"].numpy().tobytes() == (255 * raw["imgs"][data.rows]).tobytes()
        assert batch["factors"].tolist() == raw["latents_classes"][data.rows, 1:].tolist()
        assert batch["label"].tolist() == raw["latents_classes"][data.rows, 1].tolist()
    with pytest.raises(ValueError, match=r"data\.source\.test=12 leaves nothing"):
        shapes.load(path=str(path), test=12)
    with pytest.raises(ValueError, match=r"data\.source\.size=32.* set it to 64"):
        shapes.load(32, path=str(path), test=4)


def test_a_missing_or_damaged_npz_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.source\.path=.*no such file"):
        shapes.load(path=str(tmp_path / "nope.npz"))
    whole_file = npz(tmp_path / "whole.npz").read_bytes()
    middle = len(whole_file) // 4
    flipped = whole_file[:middle] + bytes(8) + whole_file[middle + 8 :]
    write(
        tmp_path,
        {"half.npz": whole_file[:middle], "flipped.npz": flipped, "empty.npz": b"", "page.npz": b"<html>"},
    )
    npz(tmp_path / "counts.npz", latents_classes=np.zeros((3, 6), dtype=np.int64))
    np.savez(tmp_path / "keys.npz", images=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("half.npz", "flipped.npz", "empty.npz", "page.npz", "counts.npz", "keys.npz", "array.npy"):
        with pytest.raises(ValueError, match=r"is no intact dSprites npz .* download it again") as error:
            shapes.load(path=str(tmp_path / name))
        assert "\n" not in str(error.value)


# --- densities

DENSITIES = {  # density, half-width of a box that holds all of it, cells per side
    "line": (density.Line([-2.0, 0.5], [0.3, 1.0], [1.0, 3.0]), 8.0, 4000),
    "ring": (density.Ring(), 3.0, 240),
    "sharp ring": (density.Ring(std=0.02), 2.4, 480),
    "grid": (density.Grid(), 4.8, 320),
    "moons": (density.Moons(), 2.4, 80),
    "spiral": (density.Spiral(nodes=256), 4.0, 120),
    "checkerboard": (density.Checkerboard(), 2.4, 240),
    "odd checkerboard": (density.Checkerboard(squares=3, width=0.5), 1.0, 240),
    "gaussian": (density.Gaussian([1.0, -0.5], [[1.0, 0.6], [0.6, 0.8]]), 8.0, 320),
    "line gaussian": (density.Gaussian([0.5], [[4.0]]), 16.0, 4000),
}


def lattice(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres of cells [N, D] and the log of the mass of each [N], by the midpoint rule."""
    law, half, cells = DENSITIES[name]
    step = 2 * half / cells
    ticks = (torch.arange(cells, dtype=torch.double) + 0.5) * step - half
    dimensions = law.sample(1, generator(0)).shape[1]
    points = torch.cartesian_prod(ticks, ticks) if dimensions == 2 else ticks[:, None]
    return points, law.log_prob(points) + dimensions * math.log(step)


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_integrates_to_one_and_its_samples_have_its_entropy_and_histogram(name):
    law, half, cells = DENSITIES[name]
    points, log_mass = lattice(name)
    mass = log_mass.exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-3)
    n, dimensions = 20_000, points.shape[1]
    x = law.sample(n, generator(1))
    assert x.shape == (n, dimensions) and x.dtype == torch.float32
    log_p = law.log_prob(x)
    assert log_p.shape == (n,) and log_p.isfinite().all()
    entropy = -(torch.special.xlogy(mass, mass).sum() - dimensions * math.log(2 * half / cells))
    assert -log_p.double().mean().item() == pytest.approx(entropy.item(), abs=5 * log_p.std().item() / n**0.5 + 2e-3)

    coarse = 20  # cells per side of the histogram
    group = ((points + half) * (coarse / (2 * half))).long()
    found = ((x.double() + half) * (coarse / (2 * half))).long()
    assert ((found >= 0) & (found < coarse)).all()
    place = coarse ** torch.arange(dimensions)
    expected = torch.bincount((group * place).sum(1), mass * n, minlength=coarse**dimensions)
    counts = torch.bincount((found * place).sum(1), minlength=coarse**dimensions)
    likely = expected > 5
    chi2 = ((counts - expected).square() / expected)[likely].sum()
    freedom = int(likely.sum())
    assert freedom >= 5 and chi2 < freedom + 5 * math.sqrt(2 * freedom)


def test_log_p_agrees_with_torch_distributions():
    from torch import distributions as td

    x = torch.randn(50, 2, generator=generator(2), dtype=torch.double)
    mean = torch.tensor([1.0, -0.5], dtype=torch.double)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.double)
    reference = td.MultivariateNormal(mean, covariance).log_prob(x)
    torch.testing.assert_close(DENSITIES["gaussian"][0].log_prob(x), reference, atol=1e-6, rtol=0)
    angles = torch.arange(8, dtype=torch.double) * math.pi / 4
    means = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    parts = td.Independent(td.Normal(means, torch.tensor(0.1, dtype=torch.double)), 1)
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(8)), parts)
    torch.testing.assert_close(density.Ring().log_prob(x), mixture.log_prob(x), atol=1e-6, rtol=1e-6)


def test_moons_have_enough_nodes_to_be_smooth():
    x = density.Moons().sample(1000, generator(0))
    finer = density.Moons(nodes=4096).log_prob(x)
    torch.testing.assert_close(density.Moons().log_prob(x), finer, atol=5e-3, rtol=0)


def test_long_inputs_are_evaluated_in_parts_that_agree(monkeypatch):
    x = density.Ring().sample(100, generator(0))
    at_once = density.Ring().log_prob(x)
    monkeypatch.setattr(density, "CHUNK", 7)
    assert torch.equal(density.Ring().log_prob(x), at_once)


def test_points_are_the_same_in_every_run_and_differ_between_splits():
    one, two = (density.load(density.Moons(), n=100, test=100) for _ in range(2))
    assert torch.equal(whole(one.train)["point"], whole(two.train)["point"])
    assert not torch.equal(whole(one.train)["point"], whole(one.test)["point"])
    other = density.load(density.Moons(), n=100, test=100, seed=1)
    assert not torch.equal(whole(one.train)["point"], whole(other.train)["point"])


def test_densities_that_are_none_are_refused():
    with pytest.raises(ValueError, match="2 means, 1 stds and 2 weights"):
        density.Line([0.0, 1.0], [1.0], [1.0, 1.0])
    for covariance in ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.2], [0.3, 1.0]], [[1.0]]):
        with pytest.raises(ValueError, match=r"covariance=.* must be symmetric, positive definite"):
            density.Gaussian([0.0, 0.0], covariance)


@pytest.mark.parametrize(("n", "world", "batch"), [(5, 2, 1), (1, 2, 128)])
def test_a_shard_without_images_is_refused(n, world, batch):
    with pytest.raises(ValueError, match="use fewer devices"):
        Order(n, batch, False, 0, 0, world)
