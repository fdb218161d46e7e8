"""Networks reach every image size and do not couple the images of a batch."""

import pytest
import torch

from dgm.nn import conv, mlp

SHAPES = [[1, 8, 8], [1, 28, 28], [3, 32, 32], [3, 33, 47], [2, 64, 64]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("room", [mlp, conv])
def test_encoder_and_decoder_meet_at_every_size(room, shape):
    size = {"hidden": [16]} if room is mlp else {"width": 4, "hidden": 16}
    x = torch.rand(3, *shape)
    code = room.Encoder(shape, 5, heads=2, **size)(x)
    assert code.shape == (3, 10)
    assert room.Decoder(shape, 5, **size)(code[:, :5]).shape == x.shape


@pytest.mark.parametrize("room", [mlp, conv])
def test_images_of_a_batch_are_not_coupled(room):
    size = {"hidden": [16]} if room is mlp else {"width": 8, "hidden": 16}
    x = torch.rand(6, 1, 16, 16, requires_grad=True)
    encoder, decoder = room.Encoder([1, 16, 16], 4, **size), room.Decoder([1, 16, 16], 4, **size)
    decoder(encoder(x))[0].sum().backward()
    assert x.grad[0].abs().sum() > 0
    assert x.grad[1:].abs().max() == 0


def test_no_hidden_layer_is_linear():
    encoder = mlp.Encoder([3], 2, [])
    a, b = torch.randn(2, 1, 3)
    assert torch.allclose(encoder(a + b) - encoder(b), encoder(a) - encoder(torch.zeros(1, 3)), atol=1e-6)


def test_too_small_an_image_is_refused_in_words():
    with pytest.raises(ValueError, match="at least 8 x 8"):
        conv.Encoder([1, 6, 6], 2, 4)
