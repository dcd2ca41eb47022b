"""A CUDA device for tests on machines without one: it knows where tensors live, and no more.

A test double.  Inside ``with pretend_cuda.Pretend():`` torch says that one CUDA device is there;
a tensor that is made on it or moved to it is an ordinary CPU tensor with a mark, and everything
computed from it carries the mark on.  Values are computed on the CPU.  What a real device refuses
is refused, with its words:

* an operation on tensors of both devices (a CPU tensor without dimensions may join, as on CUDA);
* ``.numpy()``, ``np.asarray`` and with them matplotlib and scipy, without ``.cpu()`` before;
* a generator of the other device.

``torch.Generator("cuda")`` draws other numbers than a CPU generator of the same seed, as on CUDA.
With ``rounding=True`` every matrix product, sum, exponential and gradient on the pretend device
is off by up to a unit in the last place, in a pattern that depends on the operation and the
shape only: the same call gives the same numbers again.  A page whose checked outputs survive
that prints no digits which another order of summation could change.

So a run under it finds mistakes of device handling and outputs with too many digits.  It says
nothing of kernels, speed, memory, TF32, atomic additions or several devices, and a tensor that
reaches Python by a way that torch does not report (a hook, a custom autograd function) has lost
its mark: expect a false alarm there, never a false pass of ``.numpy()`` on a marked tensor.
"""

from __future__ import annotations

import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch._dynamo  # before anything is replaced: it keeps tables of what torch has
from torch import Tensor
from torch.overrides import TorchFunctionMode

MARK = "_pretend_cuda"
CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")

# CUDA moves a CPU tensor without dimensions along in elementwise operations, not in these
STRICT = {
    "stack", "cat", "concat", "hstack", "vstack", "linear", "matmul", "__matmul__", "mm", "bmm",
    "baddbmm", "addmm", "einsum", "conv1d", "conv2d", "cross_entropy", "nll_loss", "gather",
    "scatter_", "scatter", "index_select", "equal", "batch_norm", "searchsorted",
}  # fmt: skip
# These only read a shape or a type of their second tensor, copy, or walk the graph
ANY_DEVICE = {
    "copy_", "view_as", "expand_as", "reshape_as", "type_as", "result_type", "is_same_size",
    "_has_compatible_shallow_copy_type", "grad", "backward", "is_set_to", "_set_grad_enabled",
    "register_hook", "broadcast_shapes",
}  # fmt: skip
ROUNDED = {
    "linear", "matmul", "__matmul__", "mm", "bmm", "baddbmm", "addmm", "einsum", "conv2d", "sum",
    "mean", "softmax", "log_softmax", "cross_entropy", "logsumexp", "exp", "log", "tanh",
    "sigmoid", "softplus", "gelu", "norm", "vector_norm", "grad", "batch_norm",
}  # fmt: skip


def is_marked(value: object) -> bool:
    """Whether a value is a tensor on the pretend device."""
    return isinstance(value, Tensor) and getattr(value, MARK, False)


def _mark(value: Any, marked: bool = True) -> Any:
    for tensor in _tensors(value):
        setattr(tensor, MARK, marked)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _is_cuda(where: Any) -> bool:
    """Whether a device argument names the pretend device; another card is refused."""
    where = torch.device(where) if isinstance(where, str) else where
    if isinstance(where, int):
        where = torch.device("cuda", where)
    if not isinstance(where, torch.device) or where.type != "cuda":
        return False
    if where.index:
        raise RuntimeError("CUDA error: invalid device ordinal")
    return True


class _Meta(type(torch._C.Generator)):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, torch._C.Generator)


class Generator(torch._C.Generator, metaclass=_Meta):
    """``torch.Generator`` that remembers its device, and draws other numbers on the pretend one."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        self = super().__new__(cls, device="cpu")
        self.where = CUDA if _is_cuda(device) else CPU
        return self

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        """Where its draws are made."""
        return self.where

    def manual_seed(self, seed: int) -> Generator:
        """As torch's; the pretend device has another stream for the same seed."""
        super().manual_seed(seed ^ (0x5EED if self.where == CUDA else 0))
        return self


class Pretend(TorchFunctionMode):
    """Torch believes in a CUDA device inside ``with Pretend():`` (of the thread that enters).

    Parameters
    ----------
    rounding
        Also round products, sums, exponentials and gradients on it differently from the CPU.
    """

    def __init__(self, rounding: bool = False) -> None:
        super().__init__()
        self.rounding = rounding
        self.undo = contextlib.ExitStack()

    def __enter__(self) -> Pretend:
        for owner, name, new in _replacements():
            self.undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        # a static method must be taken from the class's own dictionary to be put back as one
        old = torch.nn.Parameter.__dict__["__new__"]
        self.undo.callback(setattr, torch.nn.Parameter, "__new__", old)
        torch.nn.Parameter.__new__ = staticmethod(_parameter(old.__func__))
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.undo.close()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        first = args[0] if args else None
        if name == "__get__":
            return self._property(func.__self__.__name__, func, args)
        if name == "__set__":
            return _assign(func.__self__.__name__, func, args)
        if name in ("numpy", "__array__"):
            return _numpy(name, func, args, kwargs)
        if name in ("cpu", "cuda", "to", "type_as") and isinstance(first, Tensor):
            return _move(name, func, args, kwargs)
        if name == "get_device":
            return 0 if is_marked(first) else -1
        if name == "pin_memory":
            return first
        if name == "_parse_to":
            return func(*args, **kwargs)
        args, kwargs, asked = _to_cpu(args, kwargs)
        marked = _place(name, args, kwargs, asked)
        _generator(args, kwargs, marked)
        before = {id(t) for t in _tensors((args, kwargs))}
        out = func(*args, **kwargs)
        if name in ("as_tensor", "asarray") and asked is not None and asked != is_marked(first):
            out = out.clone()  # a device has its own memory
        if name == "grad":
            inputs = args[1] if len(args) > 1 else kwargs["inputs"]
            pairs = zip(_tensors(out), _tensors(inputs), strict=False)
            for gradient, place in pairs:
                _mark(gradient, is_marked(place))
        elif marked:
            for tensor in _tensors(out):
                if id(tensor) not in before:
                    _mark(tensor)
        if self.rounding and name in ROUNDED:
            _round(name, first, out, before)
        return out

    def _property(self, name: str, func: Callable, args: tuple) -> Any:
        tensor = args[0]
        if not is_marked(tensor):
            return func(*args)
        known = {"device": CUDA, "is_cuda": True, "is_cpu": False}
        if name in known:
            return known[name]
        out = func(*args)
        if name == "grad" and self.rounding and out is not None and not is_marked(out):
            _round(name, tensor, _mark(out), set())  # once: a new backward makes a new tensor
        return _mark(out)


def _to_cpu(args: tuple, kwargs: dict) -> tuple[tuple, dict, bool | None]:
    """The arguments with every device replaced by the CPU, and whether CUDA was asked for."""
    asked = None
    if kwargs.get("device") is not None:
        asked = _is_cuda(kwargs["device"])
        kwargs["device"] = CPU
    given = [isinstance(a, torch.device) for a in args]
    if any(given):
        asked = _is_cuda(args[given.index(True)])
        args = tuple(CPU if g else a for a, g in zip(args, given, strict=True))
    return args, kwargs, asked


def _mixture(name: str) -> None:
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"cuda:0 and cpu! (in {name})"
    )


def _place(name: str, args: tuple, kwargs: dict, asked: bool | None) -> bool:
    """Whether the result is on the pretend device; refuses what CUDA refuses."""
    first = args[0] if args else None
    if name in ("tensor", "as_tensor", "asarray"):  # from lists: the CPU, whatever is in them
        return is_marked(first) if asked is None else asked
    if name in ("__getitem__", "__setitem__", "index_put_"):
        return _indexed(name, args)
    if name.endswith("_like") or name.startswith("new_"):
        return is_marked(first) if asked is None else asked
    tensors = list(_tensors((args, kwargs)))
    if name in ANY_DEVICE:
        return is_marked(first)
    here = [t for t in tensors if not is_marked(t)]
    cuda = len(here) < len(tensors)
    if cuda and ((name in STRICT and here) or any(t.dim() for t in here)):
        _mixture(name)
    changed = [first] if name.endswith("_") and not name.startswith("_") else []
    changed += [first] if name.startswith("__i") and name != "__invert__" else []
    if cuda and any(not is_marked(t) for t in _tensors((changed, kwargs.get("out")))):
        _mixture(name)  # a result cannot be written to the CPU
    return cuda if asked is None else asked


def _indexed(name: str, args: tuple) -> bool:
    marked, index = is_marked(args[0]), list(_tensors(args[1]))
    if not marked and any(is_marked(i) and (i.dim() or i.dtype == torch.bool) for i in index):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    if name != "__getitem__" and isinstance(args[2], Tensor) and index:
        value = args[2]
        if is_marked(value) != marked and (value.dim() or not marked):
            _mixture(name)
    return marked


def _generator(args: tuple, kwargs: dict, marked: bool) -> None:
    found = [a for a in (*args, *kwargs.values()) if isinstance(a, torch._C.Generator)]
    for generator in found:
        if (generator.device.type == "cuda") != marked:
            wanted = "cuda" if marked else "cpu"
            raise RuntimeError(
                f"Expected a '{wanted}' device type for generator but found "
                f"'{generator.device.type}'"
            )


def _numpy(name: str, func: Callable, args: tuple, kwargs: dict) -> Any:
    force = name == "numpy" and (kwargs.get("force") or args[1:] == (True,))
    if is_marked(args[0]) and not force:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    out = func(*args, **kwargs)
    return out.copy() if is_marked(args[0]) else out


def _move(name: str, func: Callable, args: tuple, kwargs: dict) -> Any:
    tensor, marked = args[0], is_marked(args[0])
    if name in ("cpu", "cuda"):
        if name == "cuda":
            _is_cuda(kwargs.get("device", args[1] if args[1:] else "cuda"))
        wanted, out = name == "cuda", tensor
    else:
        wanted, rest = marked, []
        for value in args[1:]:
            if isinstance(value, Tensor):
                wanted = is_marked(value)
            elif isinstance(value, (str, torch.device)):
                wanted, value = _is_cuda(value), CPU
            rest.append(value)
        if kwargs.get("device") is not None:
            wanted, kwargs["device"] = _is_cuda(kwargs["device"]), CPU
        out = func(tensor, *rest, **kwargs)
    if wanted != marked and out is tensor:
        out = tensor.clone()  # a device has its own memory
    return out if out is tensor else _mark(out, wanted)


def _assign(name: str, func: Callable, args: tuple) -> None:
    target, value = args[0], args[1] if len(args) > 1 else None
    if name == "grad" and isinstance(value, Tensor) and is_marked(value) != is_marked(target):
        raise RuntimeError("attempting to assign a gradient to a tensor on another device")
    func(*args)
    if name == "data":
        _mark(target, is_marked(value))


def _parameter(old: Callable) -> Callable:
    @functools.wraps(old)
    def new(cls: type, data: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        return _mark(old(cls, data, *args, **kwargs), is_marked(data))

    return new


@functools.cache
def _pattern(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    seed = zlib.crc32(repr((name, shape)).encode())
    signs = torch.randint(-1, 2, shape, generator=torch._C.Generator().manual_seed(seed))
    return 1 + signs.to(dtype) * torch.finfo(dtype).eps


def _integers(value: Tensor) -> bool:
    return not value.is_floating_point() or torch.equal(value, value.round())


def _round(name: str, first: Any, out: Any, before: set[int]) -> None:
    if name in ("sum", "mean") and isinstance(first, Tensor) and _integers(first):
        return  # their sums are exact everywhere
    for tensor in _tensors(out):
        if is_marked(tensor) and tensor.is_floating_point() and id(tensor) not in before:
            tensor.data.mul_(_pattern(name, tuple(tensor.shape), tensor.dtype))


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if _is_cuda(device_type) else device_type, *args, **kwargs)


def _replacements() -> list[tuple[Any, str, Any]]:
    enabled, dtype, load = torch.is_autocast_enabled, torch.get_autocast_dtype, torch.load

    def loaded(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if not isinstance(map_location, (str, torch.device)):
            return load(*args, map_location=map_location, **kwargs)
        return _mark(load(*args, map_location="cpu", **kwargs), _is_cuda(map_location))

    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    def zero(*args: Any, **kwargs: Any) -> int:
        return 0

    cuda = {name: nothing for name in ("synchronize", "empty_cache", "set_device", "_lazy_init")}
    cuda |= {name: nothing for name in ("manual_seed", "manual_seed_all", "set_rng_state")}
    cuda |= {name: nothing for name in ("reset_peak_memory_stats", "init")}
    cuda |= {name: zero for name in ("current_device", "max_memory_allocated")}
    cuda |= {name: zero for name in ("memory_allocated", "memory_reserved")}
    cuda |= {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *a, **k: True,
        "device_count": lambda: 1,
        "get_device_name": lambda *a: "a pretend device",
        "get_device_capability": lambda *a: (0, 0),
        "get_rng_state": lambda *a: torch.get_rng_state(),
    }
    return [(torch.cuda, name, new) for name, new in cuda.items()] + [
        (torch, "Generator", Generator),
        (torch, "autocast", _Autocast),
        (torch, "is_autocast_enabled", lambda kind="cpu": enabled("cpu")),
        (torch, "get_autocast_dtype", lambda kind="cpu": dtype("cpu")),
        (torch, "load", loaded),
    ]
