r"""The experiments of chapter 6, each with one command; what takes minutes is run here once.

    python -m advreg.wdro_experiments NAME --seeds 0-15 --out FILE

NAME is one of::

    plane         two moons, networks 2-16-2: exact distributionally robust values, six trainings
    digits-plane  all ten digits in the plane of their two leading principal components, exact
    digits        8 x 8 digits, networks 64-16-10: certified distances and values against attacks

Every row belongs to one seed and one training method (entry "method").  For a seed, data split and
initial weights are the same for all methods, so methods are compared in pairs.  A finished seed is
kept at once in the folder ``FILE.partial``: the same command, interrupted, goes on where it
stopped.  Results are written and read like those of chapter 5 (:mod:`advreg.experiments`):
:func:`load` checks that a result is what was written, :func:`advreg.experiments.column` picks one
number, or list, per seed.

Values of a method are those of its last weights, and exact (to rounding) or bracketed; they say
how robust these weights are, not how good the best weights would be.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advreg import attacks, data, experiments, networks, relu, training, verify, wdro, wdro_attacks
from advreg.wdro_networks import planar

__all__ = [
    "DIGITS",
    "EXPERIMENTS",
    "LADDER",
    "PLANE",
    "RADII",
    "Method",
    "Projection",
    "fit",
    "hinge",
    "ladder_bracket",
    "load",
    "main",
    "moons",
    "principal_plane",
    "values",
]

Array = NDArray[np.float64]

#: Wasserstein radii of the stored values in the plane.
RADII = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
#: Wasserstein radii of the stored values of full digits, in grey values of [0, 1].
DIGIT_RADII = (0.01, 0.02, 0.05, 0.1, 0.2)
#: Distances at which growth functions of full digits are bracketed; the last is the whole box.
LADDER = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0)
GROWN = 10  # images whose growth functions are bracketed
ORDERS = {"1": 1.0, "2": 2.0, "inf": math.inf}


class Method(NamedTuple):
    """How a network in the plane is trained: cross-entropy, Adam, all samples in every step.

    `radius`: of an l2 attack (PGD, five steps, random start) on the inputs, 0 for none;
    `decay`: weight decay of Adam; `gradient`: factor on the root mean square over the samples of
    the l2 norm of the input gradient; `product`: factor on ||W||_2 max_jk ||a_j - a_k||_2, W the
    first and a_j the rows of the last layer, which is at least the Lipschitz constant.
    """

    radius: float = 0.0
    decay: float = 0.0
    gradient: float = 0.0
    product: float = 0.0


#: Trainings in the plane: the last three are penalties made for p = 2, for p = 1, and for no p.
PLANE = {
    "standard": Method(),
    "adversarial-0.1": Method(radius=0.1),
    "adversarial-0.25": Method(radius=0.25),
    "gradient-0.1": Method(gradient=0.1),
    "product-0.1": Method(product=0.1),
    "decay-0.01": Method(decay=0.01),
}
DIGITS_PLANE = {key: PLANE[key] for key in ("standard", "adversarial-0.1")}
#: Radii (l-infinity, grey values) of the trainings on full digits; 0 is standard training.
DIGITS = {"standard": 0.0, "adversarial-0.1": 0.1}


# --------------------------------------------------------------------------------- training


def moons(seed: int, n: int = 40, noise: float = 0.25) -> tuple[Array, NDArray[np.intp]]:
    """Two moons of scikit-learn: `n` points and as many held out, the latter in the second half."""
    from sklearn.datasets import make_moons

    X, y = make_moons(2 * n, noise=noise, random_state=seed)
    return X, y


def fit(
    widths: Sequence[int],
    X: Array,
    y: NDArray[np.intp],
    method: Method,
    seed: int,
    *,
    epochs: int = 400,
    lr: float = 0.01,
) -> nn.Sequential:
    """Train a ReLU network on all samples at once; float64, on the CPU.

    Parameters
    ----------
    widths : sequence of int
        As in :func:`advreg.networks.mlp`.
    X, y : arrays, shapes (n, d) and (n,)
        Inputs, and labels 0, ..., K - 1.
    method : Method
        What is minimized.
    seed : int
        Of the initial weights and of the random starts.
    epochs, lr : int, float
        Steps of Adam, and its learning rate.

    Returns
    -------
    torch.nn.Sequential
    """
    generator = torch.Generator().manual_seed(seed)
    model = networks.mlp(widths, generator=generator, dtype=torch.float64)
    x, labels = torch.as_tensor(X), torch.as_tensor(y)
    ball = attacks.Ball(method.radius, 2, None, None)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=method.decay)
    for _ in range(epochs):
        z = x
        if method.radius:
            z = attacks.pgd(model, x, labels, ball, steps=5, generator=generator).points
        optimizer.zero_grad()
        _objective(model, z, labels, method).backward()
        optimizer.step()
    return model


def _objective(model: nn.Sequential, x: Tensor, y: Tensor, method: Method) -> Tensor:
    if not method.gradient:
        mean = attacks.cross_entropy(model(x), y).mean()
    else:
        x = x.clone().requires_grad_()
        losses = attacks.cross_entropy(model(x), y)
        (slopes,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
        mean = losses.mean() + method.gradient * slopes.square().sum(1).mean().add(1e-12).sqrt()
    if method.product:
        layers = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
        rows = layers[-1][:, None] - layers[-1][None]
        largest = rows.square().sum(-1).max().sqrt()
        mean = mean + method.product * torch.linalg.matrix_norm(layers[0], 2) * largest
    return mean


class Projection(NamedTuple):
    """An affine map onto the plane of two principal components: (x - mean) @ axes."""

    mean: Array
    axes: Array

    def __call__(self, X: Array) -> Array:
        """Coordinates in the plane, shape (..., 2), of inputs of shape (..., d)."""
        return (X - self.mean) @ self.axes

    def lift(self, moves: Array) -> Array:
        """The shortest moves of the inputs, shape (..., d), that move the coordinates so."""
        return moves @ self.axes.T


def principal_plane(X: Array) -> Projection:
    """The plane through the mean of the rows of `X` that is nearest to them in mean square.

    The axes, shape (d, 2), are orthonormal; each has its largest entry positive.
    """
    mean = X.mean(axis=0)
    axes = np.linalg.svd(X - mean, full_matrices=False)[2][:2].T
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return Projection(mean, axes)


# --------------------------------------------------------------------------------- judging


def hinge(logits: Tensor, y: Tensor) -> Tensor:
    """Hinge of the margin, (1 + max over j != y of z_j - z_y)_+, one number per sample."""
    return (1 + attacks.margin(logits, y)).clamp_min(0)


def values(
    net: relu.Network, X: Array, y: NDArray[np.intp], radii: Sequence[float] = RADII
) -> dict[str, Any]:
    """Exact numbers of a network with two inputs, on R^2 with the l2 norm, labels fixed.

    Returns
    -------
    dict
        "error" and "hinge", the clean means; "l_data"; "v_1", "v_2", "v_inf", values V_p of the
        hinge of the margin at `radii`; "e_1", "e_2", "e_inf", those of the 0-1 loss (ties err).
    """
    plane, row = planar(net, X, y, 2), {}
    distances = plane.distances_to_error()
    row["error"] = float((distances == 0).mean())
    row["hinge"] = float(plane.clean.mean())
    row["l_data"] = float(plane.secant_slopes.max())
    for name, p in ORDERS.items():
        row[f"v_{name}"] = plane.curve(radii, p)[0].tolist()
    for name, p in ORDERS.items():
        row[f"e_{name}"] = [wdro.knapsack(distances, radius, p).value for radius in radii]
    return row


def ladder_bracket(
    clean: Array, ladder: Array, lower: Array, upper: Array, radius: float, p: float
) -> tuple[float, float]:
    """Bracket V_p from the largest losses within a few distances, labels fixed, X bounded.

    Growth is monotone: within the k-th distance it is known, and between two distances it is at
    most what it is at the larger one.

    Parameters
    ----------
    clean : array, shape (n,)
        Losses of the samples.
    ladder : array, shape (R,)
        Increasing positive distances; the last one reaches all of X from every sample.
    lower, upper : arrays, shape (n, R)
        Bounds of the largest loss of each sample within each distance.
    radius, p : float
        Radius, positive, and order, from 1 to numpy.inf.

    Returns
    -------
    lower, upper : float

    Source: Proposition ``prop-ladder`` (chapter 6).
    """
    ladder, gains = np.asarray(ladder, dtype=np.float64), np.asarray(upper) - clean[:, None]
    reached = [np.column_stack([ladder, row]) for row in np.asarray(lower) - clean[:, None]]
    low = wdro.allocate(reached, radius, p).value
    if p == math.inf:
        high = gains[:, min(np.searchsorted(ladder, radius), len(ladder) - 1)].mean()
    else:
        before = np.append(0.0, ladder[:-1])
        high = wdro.allocate([np.column_stack([before, row]) for row in gains], radius, p).value
    return float(clean.mean() + low), float(clean.mean() + high)


def _planar_row(
    net: relu.Network, parts: Mapping[str, tuple[Array, NDArray[np.intp]]]
) -> dict[str, Any]:
    present = np.unique(parts["train"][1])
    pairs = relu.label_pairs(net.outputs, present)
    row = {
        "l_inf": relu.slope_at_infinity(net, 2, present),
        "l_glob": relu.lipschitz(net, 2, pairs=pairs).upper,
        "l_product": relu.norm_product(net, 2, pairs=pairs),
    }
    for part, (X, y) in parts.items():
        row |= {f"{part}_{key}": value for key, value in values(net, X, y).items()}
    return row


def _plane(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    X, y = moons(seed, images or 40)
    n, rows = len(y) // 2, []
    for name, method in PLANE.items():
        model = fit((2, 16, 2), X[:n], y[:n], method, seed, epochs=epochs or 400)
        parts = {"train": (X[:n], y[:n]), "test": (X[n:], y[n:])}
        rows.append({"method": name, "seed": seed, **_planar_row(relu.from_torch(model), parts)})
    return rows


def _flat(images: NDArray[Any]) -> Array:
    return images.reshape(len(images), -1).astype(np.float64)


def _digits_plane(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    split, rows, count = data.digits(np.random.default_rng(seed)), [], images or 60
    onto = principal_plane(_flat(split.train_x))
    X, T = onto(_flat(split.train_x)), onto(_flat(split.test_x))
    for name, method in DIGITS_PLANE.items():
        model = fit((2, 16, 10), X, split.train_y, method, seed, epochs=epochs or 400, lr=0.02)
        net = relu.from_torch(model)
        wrong = relu.evaluate(net, T).argmax(axis=-1) != split.test_y
        parts = {
            "train": (X[:count], split.train_y[:count]),
            "test": (T[:count], split.test_y[:count]),
        }
        row = {"method": name, "seed": seed, "error": float(wrong.mean())}
        rows.append(row | _planar_row(net, parts))
    return rows


def _digits(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    split, rows, count = data.digits(np.random.default_rng(seed)), [], images or 50
    X, y = _flat(split.test_x[:count]), split.test_y[:count]
    for name, radius in DIGITS.items():
        generator = torch.Generator().manual_seed(seed)
        model = networks.mlp((64, 16, 10), generator=generator)
        ball = attacks.Ball(radius or 1.0, math.inf)
        schedule = training.pgd_training(10) if radius else training.standard()
        training.fit(
            model,
            split.train_x,
            split.train_y,
            ball,
            schedule,
            epochs=epochs or 30,
            seed=seed,
            device="cpu",
            progress=False,
        )
        model = model.double()
        with torch.no_grad():
            logits = model(torch.as_tensor(_flat(split.test_x)))
        wrong = logits.argmax(dim=1).numpy() != split.test_y
        row = {"method": name, "seed": seed, "error": float(wrong.mean())}
        row |= _distances(model, X, y, generator)
        row |= _growth(model, X[:GROWN], y[:GROWN], generator)
        rows.append(row)
    return rows


def _distances(
    model: nn.Sequential, X: Array, y: NDArray[np.intp], generator: torch.Generator
) -> dict[str, Any]:
    """Distances to error in [0, 1]^d, l-infinity: bracketed, attacked, and by Lipschitz bounds."""
    net, x, labels = relu.from_torch(model), torch.as_tensor(X), torch.as_tensor(y)
    exact = verify.distances_to_error(net, X, y, math.inf, low=0, high=1)
    found = wdro_attacks.nearest_errors(
        model, x, labels, math.inf, low=0.0, high=1.0, generator=generator
    )
    return {
        "lower": exact.lower.tolist(),
        "upper": exact.upper.tolist(),
        "solved": float(np.mean([status != "time limit" for status in exact.status])),
        "attack": found.distances.tolist(),
        "margin": attacks.margin(model(x), labels).tolist(),
        "l_mask": relu.mask_bound(net, math.inf),
        "l_product": relu.norm_product(net, math.inf),
    }


def _growth(
    model: nn.Sequential, X: Array, y: NDArray[np.intp], generator: torch.Generator
) -> dict[str, Any]:
    """Largest margins within the distances of LADDER, bracketed, and values that attacks reach."""
    net, x, labels = relu.from_torch(model), torch.as_tensor(X), torch.as_tensor(y)
    worst = [
        [verify.worst_margin(net, point, int(label), radius, low=0, high=1) for radius in LADDER]
        for point, label in zip(X, y, strict=True)
    ]
    radii = np.union1d(LADDER, DIGIT_RADII)
    grown = wdro_attacks.growth_points(
        model, x, labels, math.inf, radii, loss=hinge, low=0.0, high=1.0, generator=generator
    )
    row: dict[str, Any] = {
        "worst_lower": [[w.lower for w in line] for line in worst],
        "worst_upper": [[w.upper for w in line] for line in worst],
        "grown_clean": float(grown.clean.mean()),
    }
    for name, p in ORDERS.items():
        gains = [wdro.allocate(grown.lists, radius, p).value for radius in DIGIT_RADII]
        row[f"attack_{name}"] = (row["grown_clean"] + np.array(gains)).tolist()
    return row


# --------------------------------------------------------------------------------- the command

MODULE = "advreg.wdro_experiments"

#: The experiments: what a seed does, what is compared, the default seeds, and all in words.
EXPERIMENTS: dict[str, tuple[experiments.Run, Mapping[str, Any], str, str]] = {
    "plane": (_plane, PLANE, "0-15", "two moons, exact values, six trainings"),
    "digits-plane": (_digits_plane, DIGITS_PLANE, "0-7", "two principal components, exact"),
    "digits": (_digits, DIGITS, "0-3", "full digits, certificates against attacks"),
}


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a result of this module and check it, as :func:`advreg.experiments.load` does.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message names the command that writes it.
    ValueError
        If the file is damaged or was edited.
    """
    return experiments.load(path, MODULE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run an experiment; see the head of this module.

    Returns
    -------
    int
        0 when the result is written, 2 for arguments that do not fit (argparse exits with it as
        well), 130 after Ctrl-C; then the same command goes on.
    """
    args = experiments.seed_arguments(
        MODULE,
        6,
        EXPERIMENTS,
        argv,
        epochs=(4, "400 or 30"),
        images=(2, "40 (plane), 60 (digits-plane), 50 (digits)"),
    )
    run, methods, *_ = EXPERIMENTS[args.name]
    own = {
        "methods": {k: m._asdict() if isinstance(m, Method) else m for k, m in methods.items()},
        "radii": list(DIGIT_RADII if args.name == "digits" else RADII),
        "ladder": list(LADDER) if args.name == "digits" else [],
    }
    return experiments.run_seeds(MODULE, args, run, own)


if __name__ == "__main__":
    raise SystemExit(main())
