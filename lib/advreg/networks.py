"""Networks of the book, each drawn from one explicit generator.

A network is an ordinary :class:`torch.nn.Sequential`; nothing here is needed to attack or to
train one, and any other :class:`torch.nn.Module` does as well.  Weights come from the generator
that is passed and from nothing else: torch's global random numbers are neither read nor moved.
They are drawn in float64 and rounded to `dtype`, so that the float32 and the float64 network of
one seed are the same network, on every device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from advreg._checks import integer

__all__ = ["ACTIVATIONS", "cnn", "mlp"]

#: Name -> the layer, and the gain of its initialization (see :func:`mlp`).
ACTIVATIONS: dict[str, tuple[type[nn.Module], float]] = {
    "relu": (nn.ReLU, math.sqrt(2)),
    "leaky_relu": (nn.LeakyReLU, math.sqrt(2 / (1 + 0.01**2))),
    "softplus": (nn.Softplus, math.sqrt(2)),
    "gelu": (nn.GELU, math.sqrt(2)),
    "tanh": (nn.Tanh, 5 / 3),
}
INITIALIZATIONS = ("he", "torch")


def mlp(
    widths: Sequence[int],
    *,
    activation: str = "relu",
    init: str = "he",
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    r"""A fully connected network: Flatten, Linear, activation, ..., Linear.

    Parameters
    ----------
    widths : sequence of at least 2 positive integers
        Inputs (channels x rows x columns for images), hidden widths, classes.  ``(64, 10)`` is
        a linear model, ``(64, 128, 128, 10)`` the network of the book's experiments with 8x8
        digits, which has 26,122 parameters.  In general they are sum_k w_k w_{k+1} + w_{k+1}.
    activation : str
        One of `ACTIVATIONS`, the same after every layer but the last.  Only "softplus", "gelu"
        and "tanh" make the loss a smooth function of the input.
    init : str
        "he": weights normal with mean 0 and variance gain^2 / (inputs of the layer), biases
        zero; the gain keeps the size of the signal through the layers (He et al. 2015: gain^2 =
        2 for ReLU), and is 1 in the last layer.  "torch": what torch does by itself, weights
        and biases uniform on +- 1 / sqrt(inputs of the layer).
    generator : torch.Generator
        Source of the weights, on the CPU or on a CUDA device.
    device : torch.device or str
        Where the finished network lives.
    dtype : torch.dtype
        A floating type.

    Returns
    -------
    torch.nn.Sequential
        Maps (B, ...) with widths[0] numbers per sample to logits of shape (B, widths[-1]).

    Raises
    ------
    ValueError
        If a width is not a positive integer, there are fewer than two, or a name is unknown.
    TypeError
        If `generator` is not a torch.Generator.
    """
    widths = [integer(w, "every entry of widths", 1) for w in widths]
    if len(widths) < 2:
        raise ValueError("widths needs at least two entries: inputs and classes")
    act, _ = _activation(activation)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [_bare(nn.Linear, inputs, outputs), act()]
    return _drawn(layers[:-1], activation, init, generator, device, dtype)


def cnn(
    channels: int,
    size: int,
    classes: int,
    *,
    width: int = 16,
    batch_norm: bool = False,
    activation: str = "relu",
    init: str = "he",
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    r"""A small convolutional network for square images.

    A 3x3 convolution at full resolution with `width` filters; then 3x3 convolutions of stride
    2, each halving the side (rounded up) and doubling the filters up to 4 `width`, until the
    side is at most 4, at least one of them; an activation after each; one linear layer.  Two
    convolutions for 8x8 images, three for 16x16, four for 28x28 and 32x32.

    Parameters
    ----------
    channels, size, classes : int
        Shape of the input (channels, size, size), size at least 2, and number of classes.
    width : int
        Filters of the first layer.  With 16: 9,930 parameters for (1, 8, 10), 33,546 for
        (1, 16, 10), 70,474 for (1, 28, 10) and 70,762 for (3, 32, 10).
    batch_norm : bool
        Batch normalization before every activation (the convolutions then have no bias).  Its
        loss in training mode couples the samples of a batch: attack in evaluation mode, as
        :mod:`advreg.attacks` does.
    activation, init, generator, device, dtype
        As in :func:`mlp`; "inputs of the layer" are channels x 9 for a convolution.

    Returns
    -------
    torch.nn.Sequential
        Maps (B, channels, size, size) to logits of shape (B, classes).

    Raises
    ------
    ValueError
        If a number is not a positive integer, size is 1, or a name is unknown.
    TypeError
        If `generator` is not a torch.Generator.
    """
    channels, classes = integer(channels, "channels", 1), integer(classes, "classes", 1)
    side, width = integer(size, "size", 2), integer(width, "width", 1)
    act, _ = _activation(activation)
    layers: list[nn.Module] = []
    inputs, filters, stride = channels, width, 1
    while True:
        layers.append(
            _bare(nn.Conv2d, inputs, filters, 3, stride=stride, padding=1, bias=not batch_norm)
        )
        layers += [nn.BatchNorm2d(filters), act()] if batch_norm else [act()]
        side = -(-side // stride)
        if stride == 2 and side <= 4:
            break
        inputs, filters, stride = filters, min(2 * filters, 4 * width), 2
    layers += [nn.Flatten(), _bare(nn.Linear, filters * side * side, classes)]
    return _drawn(layers, activation, init, generator, device, dtype)


# ----------------------------------------------------------------------- initialization


def _activation(name: str) -> tuple[type[nn.Module], float]:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; accepted are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _bare(layer: type[nn.Module], *args: int, **kwargs: int | bool) -> nn.Module:
    """A layer on the CPU whose weights are not drawn (drawing would move the global state)."""
    return nn.utils.skip_init(layer, *args, device="cpu", **kwargs)


@torch.no_grad()
def _drawn(
    layers: Sequence[nn.Module],
    activation: str,
    init: str,
    generator: torch.Generator,
    device: torch.device | str,
    dtype: torch.dtype,
) -> nn.Sequential:
    if init not in INITIALIZATIONS:
        raise ValueError(f"unknown init {init!r}; accepted are {', '.join(INITIALIZATIONS)}")
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            "generator must be a torch.Generator, as torch.Generator().manual_seed(0); "
            f"got {type(generator).__name__}"
        )
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating type of torch, got {dtype!r}")
    weighted = [layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv2d))]
    for layer in weighted:
        gain = 1.0 if layer is weighted[-1] else _activation(activation)[1]
        fan_in = layer.weight[0].numel()
        for parameter in layer.parameters():
            draw = torch.empty(parameter.shape, dtype=torch.float64, device=generator.device)
            if init == "torch":
                draw.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
            elif parameter is layer.weight:
                draw.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)
            else:
                draw.zero_()
            parameter.data = draw.to("cpu", dtype)
    return nn.Sequential(*layers).to(device, dtype)
