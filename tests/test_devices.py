"""Models on a GPU and in mixed precision, by passes with tensors that have a device and a type and no memory."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dgm.cli.compose import compose
from dgm.configs import build

MODELS = sorted(path.stem for path in Path(__file__).parents[1].glob("conf/model/*.yaml"))
EXTRA = {
    "gan": ["model.conditional=true"],
    "dcgan": ["model/augment=diff"],
    "sngan": ["model.conditional=true"],
    "pixelcnn": ["model.conditional=true"],
    "pixelrnn": ["model.network.kind=diagonal"],
    "wavenet": ["data=fsdd"],
}


def moved(model, device="cuda"):
    """Its weights as if on a device; what is no weight and no buffer stays behind, as it would."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(torch.zeros(weight.shape, device=device), weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)
        if hasattr(module, "_device"):
            module._device = torch.device(device, 0 if device == "cuda" else None)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_all_that_a_model_computes_lies_on_its_device(name):
    config = compose("train", [f"model={name}", *EXTRA.get(name, [])])
    model = build(config["model"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved(model)
        x, label = (torch.zeros(4, *config["data"]["shape"], device="cuda"), torch.zeros(4, device="cuda").long())
        given = (x, label) if model.classes else (x,)
        made = []
        if hasattr(model, "critic"):
            fake = model.generate(*(4, label)[: len(given)])
            made = [
                *model.judge(fake, *given[1:]),
                *model.loss(*(model.logits(y, *given[1:]) for y in (x, fake))).values(),
            ]
            made.append(model.sample(4, generator=torch.Generator()))
        else:
            loss, terms = model.mean_loss(*given)
            made = [loss, *terms.values()]
        if hasattr(model, "log_likelihood"):
            made.append(model.log_likelihood(x, 2, *given[1:]))
        if hasattr(model, "encode"):
            made.append(model.encode(x))
        if hasattr(model, "decode") and name != "pixelvae":  # which draws value by value
            made.append(model.decode(torch.zeros(4, model.latent, device="cuda"), *given[1:]))
        assert {value.device for value in made} == {torch.device("cuda", 0)}


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_ends_where_nats_are_counted(name):
    config = compose("train", [f"model={name}", *EXTRA.get(name, [])])
    model = build(config["model"])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", torch.bfloat16):
        moved(model, "cpu")
        x, label = torch.zeros(4, *config["data"]["shape"]), torch.zeros(4).long()
        given = (x, label) if model.classes else (x,)
        if hasattr(model, "critic"):
            made = model.judge(model.generate(*(4, label)[: len(given)]), *given[1:])
        else:
            made = model.mean_loss(*given)[1].values()
        if hasattr(model, "log_likelihood"):
            made = [*made, model.log_likelihood(x, 2, *given[1:])]
        assert {value.dtype for value in made} == {torch.float32}
