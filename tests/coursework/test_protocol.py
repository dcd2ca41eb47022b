"""What may cross the pipe arrives as it was; what may not is a sentence on either side."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advreg.operators import (
    BackwardHeat,
    Integration,
    MatrixOperator,
    ParallelBeam,
    PeriodicBlur,
    box_blur,
    gaussian_blur,
)
from coursework import protocol
from coursework.protocol import BadMessage, Unsendable, decode, encode


def across(value: object, *, trusted: bool = False) -> object:
    """Through the pipe as the grader reads it, or, if `trusted`, as the student's side does."""
    calls: list = [] if trusted else None
    message = protocol.unpack(protocol.pack({"value": encode(value, calls)})[4:])
    call = (lambda number, args: calls[number](*args)) if trusted else None
    return decode(message["value"], call)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -(2**63),
        2**63 - 1,
        0.1,
        -0.0,
        float("inf"),
        1 - 2j,
        "",
        "é\n\u2028",
        [],
        (),
        {},
        [1, (2.0, None)],
        {"a": {"b": [True]}, 3: "three"},
    ],
)
def test_plain_values_arrive_as_they_were(value: object) -> None:
    got = across(value)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("kind", ["?", "i1", "u8", ">i4", "f2", "f4", ">f8", "c8", "c16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_arrays_arrive_as_they_were(kind: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    got = across(array)
    np.testing.assert_array_equal(got, array)
    assert got.shape == shape
    assert got.dtype == array.dtype.newbyteorder("=")
    assert got.flags.writeable


def test_strided_arrays_long_doubles_and_subclasses_arrive_as_numbers() -> None:
    np.testing.assert_array_equal(
        across(np.arange(12.0).reshape(3, 4).T[::2]), [[0, 4, 8], [2, 6, 10]]
    )
    assert across(np.longdouble(0.5)) == 0.5
    assert type(across(np.ma.array([1.0]))) is np.ndarray
    assert type(across(np.float32(0.1))) is np.float32
    assert across(range(3)) == [0, 1, 2]
    assert np.isnan(across(float("nan")))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=20,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_can_be_sent_arrives(value: object) -> None:
    try:
        got = across(value)
    except Unsendable:  # nested too deeply
        return
    expected = json.dumps(value).encode("utf-8", "replace")
    assert json.dumps(got).encode("utf-8", "replace") == expected


def test_tensors_become_tensors_where_torch_is() -> None:
    torch = pytest.importorskip("torch")
    value = torch.tensor([[1.0, 2.0]], requires_grad=True)
    got = across(value)
    assert torch.equal(got, value.detach())
    assert got.dtype == value.dtype
    assert not got.requires_grad


def test_functions_and_ufuncs_are_called_back() -> None:
    assert across(lambda a, b: a - b, trusted=True)(5, 2) == 3
    assert across([np.exp], trusted=True)[0](0.0) == 1.0


OPERATORS = [
    Integration(9),
    PeriodicBlur(np.random.default_rng(0).standard_normal((4, 5))),
    PeriodicBlur(np.random.default_rng(0).standard_normal((5, 4))),
    PeriodicBlur(np.random.default_rng(0).standard_normal((3, 4, 2))),
    box_blur(16, 4),
    gaussian_blur(20, 1.5),
    MatrixOperator(np.random.default_rng(1).standard_normal((6, 4)), domain_shape=(2, 2)),
    MatrixOperator(np.diag([2.0, 1.0, 0.0])).compute_singular_system(),
    ParallelBeam(6, 8),
    ParallelBeam(6, np.array([0.1, 0.7]), 9),
    ParallelBeam(4, 4).compute_singular_system(),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: type(o).__name__)
def test_operators_are_rebuilt(operator: object) -> None:
    got = across(operator, trusted=True)
    assert type(got) is type(operator)
    assert got.domain_shape == operator.domain_shape
    x = np.random.default_rng(2).standard_normal(operator.domain_shape)
    y = operator.forward(x)
    np.testing.assert_array_equal(got.forward(x), y)
    np.testing.assert_array_equal(got.adjoint(y), operator.adjoint(y))
    assert got.has_singular_system == operator.has_singular_system
    if operator.has_singular_system:  # with the exact zeros
        np.testing.assert_array_equal(got.singular_values, operator.singular_values)
        np.testing.assert_array_equal(got.analyse(y), operator.analyse(y))


def test_models_are_rebuilt() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.LeakyReLU(0.2),
        nn.MaxPool2d(2, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(3, 8),
        nn.BatchNorm1d(8),
        nn.Softplus(beta=2.0),
        nn.Dropout(0.3),
        nn.Linear(8, 4),
        nn.ReLU(),
        nn.Tanh(),
        nn.GELU(approximate="tanh"),
    ).double()
    x = torch.randn(5, 1, 6, 6, dtype=torch.float64)
    model(x)  # the statistics of the batch
    model[0].eval()
    got = across(model, trusted=True)
    assert [layer.training for layer in got] == [layer.training for layer in model]
    assert torch.equal(got.eval()(x), model.eval()(x))
    assert repr(got) == repr(model)
    assert all(parameter.requires_grad for parameter in got.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_a_model_arrives(training: bool) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()).train(training)
    assert all(part.training is training for part in across(model, trusted=True).modules())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10**100, "63 bits"),
        ("a" * 20_000, "string of 20000 characters"),
        (np.array([None]), "type object"),
        (np.array(["a"]), "type <U1"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (np.zeros(2, "i4,f8"), "an array of type"),
        (np.broadcast_to(0.0, (10**6, 10**6)), "too large"),
        ([[[[[[[[[[[1]]]]]]]]]]], "nested too deeply"),
        ([[]] * 200_000, "too many items"),
        ({(1, 2): 3}, "keys that are not strings"),
        ((x for x in range(3)), "generator"),
        (print, "a function"),
        (object(), "type object"),
        (slice(3), "type slice"),
        (Integration(4), "type Integration"),
    ],
    ids=lambda v: str(v)[:20] if isinstance(v, str) else type(v).__name__,
)
def test_what_a_student_may_not_send(value: object, words: str) -> None:
    with pytest.raises(Unsendable, match=words):
        encode(value)


def test_what_the_grader_cannot_send() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(Unsendable, match="layer of type LSTM"):
        encode(torch.nn.Sequential(torch.nn.LSTM(2, 2)), [])
    with pytest.raises(Unsendable, match="operator of type BackwardHeat"):
        encode(BackwardHeat(4, 0.1), [])
    with pytest.raises(Unsendable, match="type object"):
        encode(object(), [])


ARRAY = "AAAAAAAAAAA="  # eight zero bytes


@pytest.mark.parametrize(
    "message",
    [
        1.5,
        [],
        [1],
        {},
        {"float": 1},
        {"float": "x"},
        {"float": "1" * 100},
        {"float": "0x1p99999"},
        {"float": "0x0p0", "list": []},
        {"complex": ["0x0p0"]},
        {"complex": 3},
        {"array": 1},
        {"array": ["<f8", [1]]},
        {"array": ["|O", [1], ARRAY]},
        {"array": ["|V8", [1], ARRAY]},
        {"array": ["<M8[s]", [1], ARRAY]},
        {"array": ["(4,4)f8", [1], ARRAY]},
        {"array": [["<f8"], [1], ARRAY]},
        {"array": ["<f8", [10**6, 10**6], ARRAY]},
        {"array": ["<f8", [-1], ARRAY]},
        {"array": ["<f8", [True], ARRAY]},
        {"array": ["<f8", [0, 2**62], ""]},
        {"array": ["<f8", [1] * 65, ARRAY]},
        {"array": ["<f8", [1], "AAAA"]},
        {"array": ["<f8", [1], "é"]},
        {"array": ["<f8", [1], "AA!AAAAAAAAA="]},
        {"scalar": ["<f8", [2], ARRAY + ARRAY]},
        {"tensor": ["|O", [1], ARRAY]},
        {"list": 3},
        {"list": {"a": 1}},
        {"tuple": "ab"},
        {"dict": {"a": 1}},
        {"dict": [["a"]]},
        {"dict": [["a", 1, 2]]},
        {"dict": [[None, 1]]},
        {"dict": [[True, 1]]},
        {"dict": [[{"list": []}, 1]]},
        {"call": 0},
        {"operator": ["Integration", {"dict": [["size", 5]]}, False]},
        {"model": [[], {"dict": []}]},
        {"object": "os.system"},
        "a" * 20_000,
    ],
    ids=str,
)
def test_forged_values_are_refused(message: object) -> None:
    with pytest.raises(BadMessage):
        decode(message)


def test_deep_and_wide_forgeries_are_refused() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = {"list": [deep]}
    with pytest.raises(BadMessage):
        decode(deep)
    with pytest.raises(BadMessage):
        decode({"list": [None] * 200_000})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'"text"',
        b'{"value": NaN}',
        b'{"value": Infinity}',
        b'{"value": 1.5}',
        b'{"value": 1e999}',
        b'{"value": ' + b"9" * 5000 + b"}",
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 200_000,
        b'{"value": [' + b"[]," * 1_500_000 + b"0]}",
        b"\x80\x04K\x01.",
        b"\xff\xfe{}",
    ],
    ids=lambda b: repr(b[:12]),
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        protocol.unpack(body)


def test_a_long_message_is_refused_before_it_is_read() -> None:
    assert protocol.header(struct.pack(">I", 1000)) == 1000
    with pytest.raises(BadMessage):
        protocol.header(b"\xff\xff\xff\xff")
    with pytest.raises(Unsendable):
        protocol.pack({"value": "a" * (65 << 20)})
