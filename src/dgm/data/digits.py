"""The embedded default: scikit-learn's 1,797 handwritten digits, 8 x 8, after Alpaydin & Kaynak (1998)."""

import numpy as np
import torch

from dgm.data.loading import generator
from dgm.data.sets import Arrays, Splits

TEST = 360


def load() -> Splits:
    """1,437 training and 360 test images, split by a fixed shuffle; levels 0..16 are stretched to 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.randperm(len(levels), generator=generator(0))
    test, train = order[:TEST], order[TEST:]
    return Splits(
        Arrays({"image": levels[train], "label": labels[train]}),
        Arrays({"image": levels[test], "label": labels[test]}),
    )
