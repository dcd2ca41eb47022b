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
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advreg._checks import integer, number

__all__ = ["ACTIVATIONS", "cnn", "mlp", "named", "wide_resnet"]

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


def wide_resnet(
    depth: int,
    widen: int,
    classes: int,
    *,
    channels: int = 3,
    size: int = 32,
    activation: str = "relu",
    dropout: float = 0.0,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    r"""The wide residual network WRN-depth-widen for square images.

    A 3x3 convolution with 16 filters; three groups of n = (depth - 4) / 6 residual blocks, with
    16 k, 32 k and 64 k filters, k = `widen`, of which the first block of the second and of the
    third group has stride 2; batch normalization and activation; the mean over the remaining
    size/4 x size/4 pixels; one linear layer.  A block maps x to::

        a = phi(N1(x))
        S(x) + W2 * D(phi(N2(W1 * a))),   S(x) = x      if x has the shape of the result,
                                          S(x) = V * a  otherwise,

    with the activation phi, batch normalizations N1 and N2, 3x3 convolutions W1 (which has the
    stride of the block) and W2, a 1x1 convolution V of the same stride, and dropout D.  No
    convolution has a bias.

    Parameters
    ----------
    depth : int
        6 n + 4 with n >= 1, as 10, 16, 22, 28, 34: the number of convolutions, V included (one
        less for widen = 1, where the first group needs no V).
    widen : int
        The factor k; 1 is the ordinary pre-activation network of that depth.
    classes : int
        Number of classes, C.
    channels, size : int
        Shape of the input (channels, size, size); size is a multiple of 4.  No weight depends on
        it: the network also takes images of other sizes, which the last mean evens out.
    activation : str
        One of `ACTIVATIONS`, the same everywhere.
    dropout : float
        Share of the numbers that D sets to zero, at least 0 and below 1, in training mode only.
        Its masks, unlike the weights, come from torch's global random numbers.
    generator, device, dtype
        As in :func:`mlp`.

    Returns
    -------
    torch.nn.Sequential
        Maps (B, channels, size, size) to logits of shape (B, classes).  For c channels it has
        144 c + 32 + C + 64 k C + (448 n + 2560) k + (96768 n - 22784) k^2 parameters, for k = 1
        256 fewer: 2,748,890 for WRN-16-4, 36,479,194 for WRN-28-10 and 46,160,474 for WRN-34-10
        with 3 channels and 10 classes.  The weights of a seed do not depend on `dropout`.

    Raises
    ------
    ValueError
        If depth is not 6 n + 4, size no multiple of 4, another of the whole numbers not
        positive, dropout not in [0, 1), `dtype` not a floating type, or the name unknown.
    TypeError
        If `generator` is not a torch.Generator, or `dropout` no number.

    Notes
    -----
    Initialization of the authors' code: weights of a convolution normal with mean 0 and variance
    gain^2 / (its filters x pixels of its kernel), which keeps the size of the gradient on its way
    back (He et al. 2015; gain^2 = 2 for ReLU, and see `ACTIVATIONS`); batch normalizations with
    weight 1 and bias 0; the linear layer uniform on +- 1 / sqrt(64 k) with bias 0.

    The loss in training mode couples the samples of a batch: attack in evaluation mode, as
    :mod:`advreg.attacks` does.  A batch of one image of size 4 cannot be normalized, and torch
    refuses it in training mode.

    Source: cf. Zagoruyko and Komodakis (2016), Wide residual networks, BMVC; read: their code
    (``models/wide-resnet.lua`` and ``models/utils.lua``).
    """
    depth, widen = integer(depth, "depth", 10), integer(widen, "widen", 1)
    classes, channels = integer(classes, "classes", 1), integer(channels, "channels", 1)
    if depth % 6 != 4:
        raise ValueError(
            f"depth must be 6 n + 4 with n >= 1 blocks in each group, as 10, 16, 22, 28 or 34; "
            f"got {depth}"
        )
    if integer(size, "size", 4) % 4:
        raise ValueError(
            f"size must be a multiple of 4, because the side of the image is halved twice; "
            f"got {size}"
        )
    dropout = number(dropout, "dropout", 0.0)
    if dropout >= 1:
        raise ValueError(
            f"dropout is the share of numbers set to zero: at least 0 and below 1; got {dropout:g}"
        )
    act, gain = _activation(activation)
    _source(generator, dtype)
    layers = OrderedDict[str, nn.Module](conv=_conv(channels, 16, 3))
    inputs = 16
    for group, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        outputs = filters * widen
        blocks = [_Block(inputs, outputs, stride, act, dropout)]
        blocks += [_Block(outputs, outputs, 1, act, dropout) for _ in range(depth // 6 - 1)]
        layers[f"group{group}"] = nn.Sequential(*blocks)
        inputs = outputs
    layers |= {"norm": nn.BatchNorm2d(inputs), "act": act(), "mean": nn.AdaptiveAvgPool2d(1)}
    layers |= {"flatten": nn.Flatten(), "linear": _bare(nn.Linear, inputs, classes)}
    model = nn.Sequential(layers)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.weight[0, 0].numel()
            _draw(layer.weight, "normal", gain / math.sqrt(fan_out), generator, dtype)
        elif isinstance(layer, nn.Linear):
            _draw(layer.weight, "uniform", 1 / math.sqrt(inputs), generator, dtype)
            _draw(layer.bias, "zero", 0.0, generator, dtype)
    return model.to(device, dtype)


def named(
    name: str,
    classes: int,
    *,
    channels: int,
    size: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> nn.Sequential:
    """The network of a name, for square images of shape (channels, size, size).

    Parameters
    ----------
    name : str
        "mlp": :func:`mlp` with two hidden layers of 128; "cnn": :func:`cnn`; "wrn-D-K", as
        "wrn-16-4": :func:`wide_resnet` of depth D and widening K.
    classes, channels, size : int
        Number of classes, and shape of the images.
    generator, device, dtype
        As in :func:`mlp`.
    **options
        Passed on to the function named, as ``init="torch"`` or ``dropout=0.3``.

    Returns
    -------
    torch.nn.Sequential
        Maps (B, channels, size, size) to logits of shape (B, classes).

    Raises
    ------
    ValueError
        If there is no network of that name, or as in the function named.
    TypeError
        If the function named has no such option, or `generator` is not a torch.Generator.
    """
    options |= {"generator": generator, "device": device, "dtype": dtype}
    if name == "mlp":
        inputs = integer(channels, "channels", 1) * integer(size, "size", 1) ** 2
        return mlp((inputs, 128, 128, classes), **options)
    if name == "cnn":
        return cnn(channels, size, classes, **options)
    found = re.fullmatch(r"wrn-(\d+)-(\d+)", name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"unknown network {name!r}; accepted are 'mlp', 'cnn' and 'wrn-DEPTH-WIDENING', as "
            "'wrn-16-4'"
        )
    depth, widen = (int(part) for part in found.groups())
    return wide_resnet(depth, widen, classes, channels=channels, size=size, **options)


class _Block(nn.Module):
    """The residual block of :func:`wide_resnet`: (B, inputs, r, c) to (B, outputs, r/s, c/s)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, act: type[nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.norm1, self.act1 = nn.BatchNorm2d(inputs), act()
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.norm2, self.act2 = nn.BatchNorm2d(outputs), act()
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv2 = _conv(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.norm1(x))
        inner = self.act2(self.norm2(self.conv1(active)))
        if self.dropout is not None:
            inner = self.dropout(inner)
        return (x if self.shortcut is None else self.shortcut(active)) + self.conv2(inner)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    padding = kernel // 2
    return _bare(nn.Conv2d, inputs, outputs, kernel, stride=stride, padding=padding, bias=False)


# ----------------------------------------------------------------------- initialization


def _activation(name: str) -> tuple[type[nn.Module], float]:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; accepted are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _bare(layer: type[nn.Module], *args: int, **kwargs: int | bool) -> nn.Module:
    """A layer on the CPU whose weights are not drawn (drawing would move the global state)."""
    return nn.utils.skip_init(layer, *args, device="cpu", **kwargs)


def _source(generator: torch.Generator, dtype: torch.dtype) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            "generator must be a torch.Generator, as torch.Generator().manual_seed(0); "
            f"got {type(generator).__name__}"
        )
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating type of torch, got {dtype!r}")


@torch.no_grad()
def _draw(
    parameter: nn.Parameter,
    law: str,
    scale: float,
    generator: torch.Generator,
    dtype: torch.dtype,
) -> None:
    """Draw a parameter in float64: normal of deviation `scale`, uniform on +- `scale`, or zero."""
    draw = torch.empty(parameter.shape, dtype=torch.float64, device=generator.device)
    if law == "uniform":
        draw.uniform_(-scale, scale, generator=generator)
    elif law == "normal":
        draw.normal_(0.0, scale, generator=generator)
    else:
        draw.zero_()
    parameter.data = draw.to("cpu", dtype)


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
    _source(generator, dtype)
    weighted = [layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv2d))]
    for layer in weighted:
        gain = 1.0 if layer is weighted[-1] else _activation(activation)[1]
        fan_in = layer.weight[0].numel()
        for parameter in layer.parameters():
            if init == "torch":
                _draw(parameter, "uniform", 1 / math.sqrt(fan_in), generator, dtype)
            elif parameter is layer.weight:
                _draw(parameter, "normal", gain / math.sqrt(fan_in), generator, dtype)
            else:
                _draw(parameter, "zero", 0.0, generator, dtype)
    return nn.Sequential(*layers).to(device, dtype)
