"""What may cross the pipe between the grader and a student's process: plain data, never code.

A message is a 4-byte length and JSON.  Nothing is ever unpickled.  Numbers, strings, arrays,
tensors, lists, tuples and dictionaries go both ways.  From the grader to the student there are
also functions (which are called back over the pipe), the operators of :mod:`advreg.operators`, and
``torch.nn.Sequential`` models; operators and models are rebuilt on the far side from numbers.

Both sides use this file.  The grader trusts nothing that arrives: every tag, type, length and
shape is checked before memory is taken for it.  Standard library and numpy only; torch and advreg
are imported when a tensor, a model or an operator comes.
"""

from __future__ import annotations

import importlib
import math
import struct
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from itertools import count
from json import dumps, loads
from typing import Any

import numpy as np

__all__ = [
    "MAX_MESSAGE",
    "BadMessage",
    "Unsendable",
    "decode",
    "encode",
    "header",
    "kind_of",
    "pack",
    "unpack",
]

MAX_MESSAGE = 64 << 20  # bytes
MAX_ARRAY = 40 << 20  # bytes; base64 makes a third more of it
MAX_TEXT = 10_000  # characters
MAX_ITEMS = 100_000  # of all lists and dictionaries of one value together
MAX_DEPTH = 8
MAX_MARKS = 1_000_000  # brackets and commas of one message: what its parsed form costs in memory

DTYPES = frozenset("|b1 |i1 |u1 <i2 <i4 <i8 <u2 <u4 <u8 <f2 <f4 <f8 <c8 <c16".split())
OPERATORS = {  # arguments of the constructor, or None: all attributes are numbers, and are copied
    "MatrixOperator": ("matrix", "domain_shape", "range_shape"),
    "ParallelBeam": ("size", "angles", "detectors"),
    "PeriodicBlur": None,
    "Integration": None,
}
LAYERS = {
    "Linear": ("in_features", "out_features"),
    "Conv2d": (
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"),
        *("groups", "padding_mode"),
    ),
    "BatchNorm1d": ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    "BatchNorm2d": ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    "MaxPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Dropout": ("p",),
    "ReLU": (),
    "LeakyReLU": ("negative_slope",),
    "Softplus": ("beta", "threshold"),
    "Tanh": (),
    "GELU": ("approximate",),
}

# The student's code runs in the process of one of the two sides and may replace what a module
# offers; these names keep what they stand for now.
_asarray, _contiguous, _frombuffer, _dtype = (
    np.asarray,
    np.ascontiguousarray,
    np.frombuffer,
    np.dtype,
)
_Array, _Scalar = np.ndarray, np.generic


class Unsendable(TypeError):
    """A value that may not cross the pipe; the text says what it is."""


class BadMessage(ValueError):
    """Bytes that are no message, or a message that is no value."""


# ------------------------------------------------------------------------------- messages


def pack(message: dict) -> bytes:
    """The bytes of one message.

    Raises
    ------
    Unsendable
        If they are more than ``MAX_MESSAGE``.
    """
    body = dumps(message, allow_nan=False).encode()
    if len(body) > MAX_MESSAGE:
        raise Unsendable("too much data")
    return struct.pack(">I", len(body)) + body


def header(start: bytes) -> int:
    """The number of bytes that follow the first four.

    Raises
    ------
    BadMessage
        If they would be more than ``MAX_MESSAGE``.
    """
    (length,) = struct.unpack(">I", start)
    if length > MAX_MESSAGE:
        raise BadMessage("the message is too long")
    return length


def unpack(body: bytes) -> dict:
    """The message that these bytes hold.

    Raises
    ------
    BadMessage
        If they hold none, or one that would take much more memory than its length.
    """
    if sum(body.count(mark) for mark in (b"[", b"{", b",")) > MAX_MARKS:
        raise BadMessage("the message has too many parts")
    try:
        message = loads(body, parse_int=_integer, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadMessage("the message is not readable") from None
    if not isinstance(message, dict):
        raise BadMessage("the message is not readable")
    return message


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("too many digits")
    return int(digits)


def _refuse(_: str) -> None:
    raise ValueError("floats travel as hexadecimal strings")


# --------------------------------------------------------------------------------- values


def encode(value: Any, calls: list[Callable] | None = None) -> Any:
    """A value as JSON can hold it.

    Parameters
    ----------
    value
        What to send.
    calls
        Where functions are kept for the far side to call; None: send no functions, operators or
        models.

    Raises
    ------
    Unsendable
        If it is anything else, too large, or nested too deeply.
    """
    return _encoded(value, calls, 0, count())


def _encoded(value: Any, calls: list[Callable] | None, depth: int, items: count) -> Any:
    if depth > MAX_DEPTH:
        raise Unsendable("something that is nested too deeply")
    if next(items) > MAX_ITEMS:
        raise Unsendable("a list of too many items")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (_Array, _Scalar)):
        return {"scalar" if isinstance(value, _Scalar) else "array": _raw(value)}
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Unsendable("an integer of more than 63 bits")
        return int(value)
    if isinstance(value, float):
        return {"float": float.hex(value)}
    if isinstance(value, complex):
        return {"complex": [float.hex(value.real), float.hex(value.imag)]}
    if isinstance(value, (list, tuple, range)):
        tag = "tuple" if isinstance(value, tuple) else "list"
        return {tag: [_encoded(one, calls, depth + 1, items) for one in value]}
    if isinstance(value, dict):
        return {"dict": [_pair(key, one, calls, depth, items) for key, one in value.items()]}
    if _is_tensor(value):
        return {"tensor": _raw(value.detach().cpu().numpy())}
    if calls is not None:
        return _encoded_object(value, calls)
    if hasattr(value, "__array__"):
        return {"array": _raw(value)}
    raise Unsendable(kind_of(value))


def _pair(key: Any, value: Any, calls: list[Callable] | None, depth: int, items: count) -> list:
    if isinstance(key, str):
        return [_text(key), _encoded(value, calls, depth + 1, items)]
    if type(key) is int and abs(key) < 2**63:
        return [key, _encoded(value, calls, depth + 1, items)]
    raise Unsendable("a dictionary with keys that are not strings")


def _text(value: str) -> str:
    if len(value) > MAX_TEXT:
        raise Unsendable(f"a string of {len(value)} characters")
    return str.encode(value, errors="replace").decode()  # no lone surrogates


def _raw(value: Any) -> list:
    """Type, shape and bytes of an array, little-endian."""
    array = _asarray(value)
    if array.dtype.kind not in "biufc":
        raise Unsendable(f"an array of type {array.dtype}")
    if array.size * array.dtype.itemsize > MAX_ARRAY:  # before a broadcast one is written out
        raise Unsendable("an array that is too large")
    if array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):  # long doubles
        array = array.astype("<c16" if array.dtype.kind == "c" else "<f8")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [array.dtype.str, list(array.shape), b64encode(array.tobytes()).decode()]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def _encoded_object(value: Any, calls: list[Callable]) -> Any:
    """Operators, models and functions, which only the grader sends."""
    name, module = type(value).__name__, type(value).__module__
    if module == "advreg.operators":
        return {"operator": _operator(value, name)}
    if module.startswith("torch.nn.") and name == "Sequential":
        return {"model": _model(value)}
    if callable(value):
        calls.append(value)
        return {"call": len(calls) - 1}
    raise Unsendable(kind_of(value))


def _operator(operator: Any, name: str) -> list:
    """The name of an operator, what it is made of, and whether it has computed its system."""
    if name not in OPERATORS:
        raise Unsendable(f"an operator of type {name}")
    state = vars(operator)
    if OPERATORS[name] is None:
        return [name, encode(state), False]
    if name == "MatrixOperator":
        matrix = state["_matrix"]
        state = {**state, "matrix": matrix.toarray() if hasattr(matrix, "toarray") else matrix}
    elif state["_uniform"]:  # a number of angles, not a list: only then there is a system
        state = {**state, "angles": operator.angles.size}
    given = {argument: state[argument] for argument in OPERATORS[name]}
    return [name, encode(given), operator.has_singular_system]


def _model(model: Any) -> list:
    layers = []
    for layer in model:
        name = type(layer).__name__
        if name not in LAYERS or not type(layer).__module__.startswith("torch.nn."):
            raise Unsendable(f"a model with a layer of type {name}")
        given = {argument: getattr(layer, argument) for argument in LAYERS[name]}
        if name in ("Linear", "Conv2d"):
            given["bias"] = layer.bias is not None
        layers.append([name, encode(given), layer.training])
    return [layers, encode(dict(model.state_dict()))]


def kind_of(value: Any) -> str:
    """What an object is, for a sentence."""
    if callable(value):
        return "a function"
    return f"an object of type {type(value).__name__[:80]}"


# ------------------------------------------------------------------- and the other direction


def decode(message: Any, call: Callable[[int, tuple], Any] | None = None) -> Any:
    """The value that was sent.

    Parameters
    ----------
    message
        What :func:`encode` made, or something that pretends to be that.
    call
        ``call(number, args)`` calls a function of the far side.  None, on the grader's side: there
        are no functions, operators or models, and the message is not trusted.

    Raises
    ------
    BadMessage
        If it is not a value.
    """
    try:
        return _decoded(message, call, 0, count())
    except BadMessage:
        raise
    except Exception as error:  # whatever a forged message provokes
        raise BadMessage(f"{type(error).__name__}") from None


def _decoded(message: Any, call: Callable | None, depth: int, items: count) -> Any:
    if depth > MAX_DEPTH or next(items) > MAX_ITEMS:
        raise BadMessage("nested too deeply, or too many items")
    if message is None or isinstance(message, (bool, int)):
        return message
    if isinstance(message, str):
        if len(message) > MAX_TEXT:
            raise BadMessage("a string too long")
        return message
    if not isinstance(message, dict) or len(message) != 1:
        raise BadMessage("not a value")
    ((tag, body),) = message.items()
    if tag == "float":
        return _float(body)
    if tag == "complex" and len(body) == 2:
        return complex(_float(body[0]), _float(body[1]))
    if tag == "array":
        return _array(body)
    if tag == "scalar":
        return _array(body).reshape(())[()]
    if tag == "tensor":
        return _tensor(_array(body), trusted=call is not None)
    if tag in ("list", "tuple") and isinstance(body, list):
        return (tuple if tag == "tuple" else list)(
            [_decoded(one, call, depth + 1, items) for one in body]
        )
    if tag == "dict" and isinstance(body, list):
        return {_key(key): _decoded(one, call, depth + 1, items) for key, one in body}
    if call is not None:
        return _decoded_object(tag, body, call)
    raise BadMessage("not a value")


def _key(key: Any) -> str | int:
    if type(key) is int or (isinstance(key, str) and len(key) <= MAX_TEXT):
        return key
    raise BadMessage("not a key")


def _float(text: Any) -> float:
    if not isinstance(text, str) or len(text) > 40:
        raise BadMessage("not a number")
    return float.fromhex(text)


def _array(body: Any) -> np.ndarray:
    """An array; its size is checked against the number of bytes before anything is reshaped."""
    kind, shape, text = body
    if kind not in DTYPES or not isinstance(text, str) or not isinstance(shape, list):
        raise BadMessage("not an array")
    if len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise BadMessage("not a shape")
    data = b64decode(text, validate=True)
    if math.prod(shape) * _dtype(kind).itemsize != len(data):
        raise BadMessage("the shape does not fit the data")
    return _frombuffer(data, dtype=kind).reshape(shape).copy()


def _tensor(array: np.ndarray, trusted: bool) -> Any:
    """A tensor; on the grader's side only if torch is there already, else the array will do."""
    if not trusted and "torch" not in sys.modules:
        return array
    import torch

    return torch.from_numpy(array)


def _decoded_object(tag: str, body: Any, call: Callable) -> Any:
    if tag == "call":
        return lambda *args: call(body, args)
    if tag == "operator":
        name, given, computed = body
        kind = getattr(importlib.import_module("advreg.operators"), name)
        if OPERATORS[name] is None:
            operator = kind.__new__(kind)
            vars(operator).update(decode(given))
            return operator
        operator = kind(**decode(given))
        return operator.compute_singular_system() if computed else operator
    if tag == "model":
        return _rebuilt(*body)
    raise BadMessage("not a value")


def _rebuilt(layers: list, state: Any) -> Any:
    from torch import nn

    model = nn.Sequential(*[getattr(nn, name)(**decode(given)) for name, given, _ in layers])
    arrays = decode(state)
    floats = [value.dtype for value in arrays.values() if value.dtype.is_floating_point]
    if floats:
        model = model.to(floats[0])
    model.load_state_dict(arrays)
    for layer, (_, _, training) in zip(model, layers, strict=True):
        layer.train(training)
    model.training = any(training for _, _, training in layers) if layers else True
    return model
