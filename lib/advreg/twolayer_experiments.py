r"""The experiments of chapter 7, each with one command; what takes minutes is run here once.

    python -m advreg.twolayer_experiments NAME --seeds 0-7 --out FILE

NAME is one of::

    regression  two moons: 10 networks 2-16-1 per seed, trained in ways drawn at random; exact
                gaps of two laws, penalties that know no data, and summaries that do
    plane       two moons: swap tests of networks 2-16-1, and of a linear model
    digits      8 x 8 digits, even or odd: swap tests of networks 64-16-1, and of a linear model
    freezing    the same digits: adversarial training of one layer; collapse radii

A network has one output, the score f; labels are -1 and 1, the loss of training and of all gaps is
the logistic loss log(1 + exp(-y f)), the attack is l-infinity without a box.  Gaps are exact, up to
rounding, by :func:`advreg.twolayer.worst_cases`.

Every row belongs to one seed and one "method".  A finished seed is kept at once in the folder
``FILE.partial``: the same command, interrupted, goes on where it stopped.  Results are written and
read like those of chapter 5 (:mod:`advreg.experiments`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from torch import Tensor, nn

from advreg import data, experiments, networks, relu, twolayer
from advreg.relu import Network

__all__ = [
    "DIGITS",
    "EXPERIMENTS",
    "PLANE",
    "Collapse",
    "Recipe",
    "attacked_points",
    "collapse",
    "digits_task",
    "drawn_recipe",
    "fit",
    "gaussian_twin",
    "ladder",
    "load",
    "local_statistics",
    "logistic",
    "main",
    "moons",
    "principal_scores",
    "slopes",
    "swap_row",
]

Array = NDArray[np.float64]

PLANE_RADIUS, DIGITS_RADIUS = 0.15, 0.08
#: What the swap tests match, rung by rung: degree of the monomials, bins of the scores per class,
#: and whether losses, slopes and gaps at half the radius are matched as well.
PLANE_RUNGS = (
    (0, 0, False),
    (1, 0, False),
    (2, 0, False),
    (3, 0, False),
    (4, 0, False),
    (4, 8, False),
    (4, 8, True),
    (4, 16, True),
    (4, 32, True),
    (4, 64, True),
)
#: The same on digits: degree 1 of the ten leading principal components.
DIGITS_RUNGS = (
    (0, 0, False),
    (1, 0, False),
    (1, 10, False),
    (1, 10, True),
    (1, 20, True),
    (1, 40, True),
)
#: Attack radii at which frozen features are asked whether training collapses.
COLLAPSE_RADII = (0.01, 0.02, 0.04, 0.06, 0.08, 0.12)


class Recipe(NamedTuple):
    """How a network is trained: logistic loss, Adam, all samples in every step.

    `radius`: of an l-infinity attack (projected gradients, random start) on the inputs, 0 for none;
    `gradient`: factor on the mean l1 norm of the input gradient of the loss; `decay`: weight decay
    of Adam; `scale`: factor on the initial weights; `flips`: share of training labels that are
    flipped; `hidden`: whether there is a hidden layer.
    """

    radius: float = 0.0
    gradient: float = 0.0
    decay: float = 0.0
    scale: float = 1.0
    flips: float = 0.0
    epochs: int = 400
    hidden: bool = True


#: Trainings whose networks, and linear models, are tested.
PLANE = {
    "linear": Recipe(hidden=False),
    "standard": Recipe(),
    "gradient": Recipe(gradient=PLANE_RADIUS),
    "adversarial": Recipe(radius=PLANE_RADIUS),
}
DIGITS = {
    "linear": Recipe(hidden=False, epochs=600),
    "standard": Recipe(epochs=600),
    "gradient": Recipe(gradient=DIGITS_RADIUS, epochs=600),
    "adversarial": Recipe(radius=DIGITS_RADIUS, epochs=600),
}
SOURCES = ("random", "standard", "adversarial")
FROZEN = {"output": "a", "hidden": "W"}
FREEZING = {
    "standard": Recipe(epochs=600),
    "adversarial": Recipe(radius=DIGITS_RADIUS, epochs=600),
} | {
    f"{part}-{source}": Recipe(radius=DIGITS_RADIUS, epochs=600)
    for part in FROZEN
    for source in SOURCES
}
NETS = 10  # drawn per seed, for the regression
REGRESSION = {f"net-{i}": "drawn_recipe(seed, i)" for i in range(NETS)}


# ----------------------------------------------------------------------------------- data


def moons(seed: int, n: int, noise: float = 0.2) -> tuple[Array, Array]:
    """Two moons of scikit-learn, `n` points; labels -1 and 1."""
    from sklearn.datasets import make_moons

    X, y = make_moons(n, noise=noise, random_state=seed)
    return X, 2.0 * y - 1


def gaussian_twin(X: Array, y: Array, rng: np.random.Generator) -> Array:
    """Normal points with exactly the means and covariances of the classes of `X`, shape of `X`."""
    twin = np.empty_like(X)
    for label in (-1, 1):
        part = X[y == label]
        raw = rng.normal(size=part.shape)
        raw -= raw.mean(axis=0)
        was, shall = (np.linalg.cholesky(z.T @ z / len(z)) for z in (raw, part - part.mean(0)))
        twin[y == label] = part.mean(axis=0) + raw @ np.linalg.solve(was.T, shall.T)
    return twin


def digits_task(seed: int, train: int = 1000) -> tuple[Array, Array, Array, Array]:
    """Digits, even (label 1) or odd (-1): training inputs and labels, and those held out."""
    split = data.digits(np.random.default_rng(seed), train)
    parts = (split.train_x, split.train_y, split.test_x, split.test_y)
    x, y, z, t = (part.reshape(len(part), -1).astype(np.float64) for part in parts)
    return x, 1 - 2 * (y[:, 0] % 2), z, 1 - 2 * (t[:, 0] % 2)


def principal_scores(X: Array, count: int) -> Array:
    """Coordinates of the rows of `X` along their `count` leading principal components."""
    Z = X - X.mean(axis=0)
    return Z @ np.linalg.svd(Z, full_matrices=False)[2][:count].T


# ------------------------------------------------------------------------------- training


def logistic(scores: Tensor, y: Tensor) -> Tensor:
    """log(1 + exp(-y f)), one number per sample, of scores (n, 1) and labels -1, 1."""
    return nn.functional.softplus(-y * scores[:, 0])


def drawn_recipe(seed: int, index: int) -> Recipe:
    """A training drawn at random: what regressions of the gap are fed with."""
    rng = np.random.default_rng([seed, index])
    some = rng.integers(2, size=4)
    return Recipe(
        radius=float(some[0] * rng.uniform(0.02, 0.25)),
        gradient=float(some[1] * 10 ** rng.uniform(-2, 0)),
        decay=float(some[2] * 10 ** rng.uniform(-4, -2)),
        scale=float(2 ** rng.uniform(-1, 1)),
        flips=float(some[3] * rng.uniform(0, 0.2)),
        epochs=int(rng.integers(60, 500)),
    )


def fit(
    X: Array,
    y: Array,
    recipe: Recipe,
    seed: int,
    *,
    width: int = 16,
    lr: float = 0.01,
    steps: int = 5,
    start: Network | None = None,
    frozen: str | None = None,
) -> Network:
    """Train a network with one output, or a part of it; float64, on the CPU.

    Parameters
    ----------
    X, y : arrays, shapes (n, d) and (n,)
        Inputs; labels -1 or 1.
    recipe : Recipe
    seed : int
        Of the initial weights, the flips and the random starts.
    width : int
        Hidden neurons.
    lr : float
        Learning rate of Adam.
    steps : int
        Of the attack.
    start : Network, optional
        Begin with these weights; by default at random ones (He), times ``recipe.scale``.
    frozen : "output", "hidden", optional
        Keep the output weights a (the output bias c is trained), or all of the hidden layer.

    Returns
    -------
    Network
    """
    generator = torch.Generator().manual_seed(seed)
    widths = (X.shape[1], *[width] * recipe.hidden, 1)
    model = networks.mlp(widths, generator=generator, dtype=torch.float64)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for k, layer in enumerate(layers):
            if start is not None:
                layer.weight.copy_(torch.as_tensor(start.weights[k]))
                layer.bias.copy_(torch.as_tensor(start.biases[k]))
            layer.weight.mul_(recipe.scale)
    fixed = {None: [], "output": [layers[-1].weight], "hidden": list(layers[0].parameters())}
    for parameter in fixed[frozen]:
        parameter.requires_grad_(False)
    x, labels = torch.as_tensor(X), torch.as_tensor(y)
    flipped = torch.rand(len(y), generator=generator) < recipe.flips
    labels = torch.where(flipped, -labels, labels)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr, weight_decay=recipe.decay)
    for _ in range(recipe.epochs):
        z = _ascent(layers, x, labels, recipe.radius, steps, generator) if recipe.radius else x
        optimizer.zero_grad()
        _objective(model, z, labels, recipe).backward()
        optimizer.step()
    return relu.from_torch(model)


@torch.no_grad()
def _ascent(
    layers: list[nn.Linear],
    x: Tensor,
    y: Tensor,
    radius: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Projected gradients from a random start: steps of radius / 4 in the signs of the gradient."""
    first, last = layers[0], layers[-1]
    z = x + radius * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1)
    for _ in range(steps):
        g = last.weight
        if len(layers) > 1:
            g = ((first(z) > 0) * last.weight) @ first.weight
        z = x + (z - x - radius / 4 * (y[:, None] * g).sign()).clamp(-radius, radius)
    return z


def _objective(model: nn.Sequential, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    if not recipe.gradient:
        return logistic(model(x), y).mean()
    x = x.clone().requires_grad_()
    losses = logistic(model(x), y)
    (gradients,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + recipe.gradient * gradients.abs().sum(dim=1).mean()


# ------------------------------------------------------------------------------- swap tests


def slopes(net: Network, X: Array) -> Array:
    """The l1 norm of the input gradient of the score, per sample: dual to the attack."""
    if not net.hidden:
        return np.full(len(X), np.abs(net.weights[0]).sum())
    W, b, a = net.weights[0], net.biases[0], net.weights[1][0]
    return np.abs(((X @ W.T + b > 0) * a) @ W).sum(axis=1)


def local_statistics(net: Network, X: Array, y: Array, radius: float) -> Array:
    """What is known near the samples: loss, slope, slope of the loss, gap at half the radius."""
    margins, slope = y * relu.evaluate(net, X)[:, 0], slopes(net, X)
    half = twolayer.gap(net, X, y, radius / 2, loss="logistic")
    return np.column_stack([
        np.logaddexp(0, -margins), slope, slope / (1 + np.exp(margins)), half
    ])  # fmt: skip


def ladder(
    net: Network,
    X: Array,
    y: Array,
    coordinates: Array,
    radius: float,
    rungs: Sequence[tuple[int, int, bool]],
) -> list[Array]:
    """The statistics of every rung, shapes (n, m): class masses, moments, scores, local ones.

    Each has all that the rungs before it have, but for the bins of the scores, which become finer.
    """
    scores = relu.evaluate(net, X)[:, 0]
    near = None
    if any(local for *_, local in rungs):
        near = local_statistics(net, X, y, radius)
    found = []
    for degree, bins, local in rungs:
        blocks = [twolayer.monomials(coordinates, degree)] if degree else []
        blocks += [near] if local else []
        T = np.hstack(blocks) if blocks else np.zeros((len(X), 0))
        T = twolayer.by_class(T, y) if T.shape[1] else (y > 0)[:, None] * 1.0
        found.append(np.hstack([T, twolayer.margin_bins(scores, y, bins)]) if bins else T)
    return found


def swap_row(
    net: Network,
    X: Array,
    y: Array,
    coordinates: Array,
    radius: float,
    rungs: Sequence[tuple[int, int, bool]],
) -> dict[str, Any]:
    """Swap intervals of a network on the pool (X, y), rung by rung.

    Returns
    -------
    dict
        "actual", the mean gap; "lower" and "upper", per rung, as multiples of it; "statistics",
        how many there are per rung; "slack", the largest; "clean" and "robust" accuracy; "share",
        mean drop of the margin over its bound radius * path norm; "attack", the mean gap that
        projected gradients (40 steps, clean start) find, as a multiple of the actual one.
    """
    worst = twolayer.worst_cases(net, X, y, radius)
    margins = y * relu.evaluate(net, X)[:, 0]
    gaps = np.logaddexp(0, worst.drop - margins) - np.logaddexp(0, -margins)
    statistics = ladder(net, X, y, coordinates, radius, rungs)
    found = [twolayer.swap_interval(gaps, T) for T in statistics]
    slope = np.abs(net.weights[0]).sum() if not net.hidden else twolayer.penalties(net)["path_inf"]
    attacked = y * relu.evaluate(net, attacked_points(net, X, y, radius))[:, 0]
    reached = np.logaddexp(0, -attacked) - np.logaddexp(0, -margins)
    return {
        "actual": found[0].actual,
        "lower": [interval.relative[0] for interval in found],
        "upper": [interval.relative[1] for interval in found],
        "statistics": [T.shape[1] for T in statistics],
        "slack": max(interval.slack for interval in found),
        "open": float((worst.upper - worst.drop).max()),
        "clean": float((margins > 0).mean()),
        "robust": float((margins > worst.upper).mean()),
        "share": float(worst.drop.mean() / (radius * slope)),
        "attack": float(reached.mean() / gaps.mean()),
    }


def attacked_points(net: Network, X: Array, y: Array, radius: float, steps: int = 40) -> Array:
    """Points in the l-infinity balls with a small margin, found by projected gradients.

    Parameters
    ----------
    net : Network
        One output; one hidden layer, or none.
    X, y : arrays, shapes (n, d) and (n,)
    radius : float
    steps : int
        In the signs of the gradient, from the clean points, of length radius / (4 + k / 2).

    Returns
    -------
    array, shape (n, d)
        The points with the smallest margin on the way: a lower bound of the gap, not the gap.
    """
    if not net.hidden:
        return X - radius * y[:, None] * np.sign(net.weights[0])
    W, b, a = net.weights[0], net.biases[0], net.weights[1][0]
    z, best, low = X, X, y * relu.evaluate(net, X)[:, 0]
    for k in range(steps):
        g = y[:, None] * (((z @ W.T + b > 0) * a) @ W)
        z = X + np.clip(z - X - radius / (4 + k / 2) * np.sign(g), -radius, radius)
        margins = y * relu.evaluate(net, z)[:, 0]
        better = margins < low
        best, low = np.where(better[:, None], z, best), np.where(better, margins, low)
    return best


# ---------------------------------------------------------------------------------- collapse


class Collapse(NamedTuple):
    """Whether the constant predictor is optimal over frozen features.

    `status`: "collapse" (it is: proved), "free" (it is not: `direction` proves it) or "open";
    `value`: the decrease rate -H(v) of that direction, max |v_j| = 1, or 0; `cuts` (K, k): the
    vectors g of the strategies of the adversary that were used.
    """

    status: str
    value: float
    direction: Array
    cuts: Array


def collapse(
    W: ArrayLike,
    b: ArrayLike,
    X: Array,
    y: Array,
    radius: float,
    known: ArrayLike = (),
    *,
    rounds: int = 200,
) -> Collapse:
    r"""Is a = 0 optimal for adversarial training of f = a . relu(W x + b) + c, logistic loss?

    With c the best constant and s_i = 1 / (1 + exp(y_i c)) it is, if and only if

        H(v) = mean_i s_i max over ||e|| <= radius of -y_i v . Phi(x_i + e)  >=  0  for all v.

    Both classes have the same sum of s_i, so this asks whether the class means of the features
    can be made equal, and the answer is the same for every loss of this kind.
    Any strategy e_i of the adversary gives a vector g = -mean_i s_i y_i Phi(x_i + e_i) with
    H(v) >= g . v.  Strategies whose vectors have 0 in their convex hull prove collapse, and one
    v with H(v) < 0, exactly computed, disproves it.  Cutting planes look for both.

    Parameters
    ----------
    W, b : arrays, shapes (k, d) and (k,)
        The frozen hidden layer.
    X, y : arrays
        The training data, labels -1 or 1.
    radius : float
        Of the l-infinity attack.
    known : array, shape (K, k), optional
        Cuts of a smaller radius, which hold for this one too.
    rounds : int
        At most this many cuts.

    Returns
    -------
    Collapse

    Notes
    -----
    Source: Proposition ``prop-collapse`` (chapter 7).
    """
    W, b = np.asarray(W, float), np.asarray(b, float)
    positive = (y > 0).mean()
    s = np.where(y > 0, 1 - positive, positive)  # 1 / (1 + exp(y c)) at the best constant c

    def net(v: Array) -> Network:
        return Network((W, v[None]), (b, np.zeros(1)))

    def vector(points: Array) -> Array:
        return -np.mean((s * y)[:, None] * np.maximum(points @ W.T + b, 0), axis=0)

    clean = vector(X)
    size = float(np.abs(np.maximum(X @ W.T + b, 0)).mean()) or 1.0
    cuts, k = [clean, *np.asarray(known, float)], len(b)
    for _ in range(rounds):
        rows = np.column_stack([np.array(cuts), -np.ones(len(cuts))])
        box = [(-1, 1)] * k + [(None, None)]
        answer = linprog(np.append(np.zeros(k), 1.0), rows, np.zeros(len(cuts)), bounds=box)
        if answer.fun >= -1e-9 * size:
            return Collapse("collapse", 0.0, np.zeros(k), np.array(cuts))
        v = answer.x[:k]
        points = attacked_points(net(v), X, y, radius, steps=20)
        g = vector(points)
        if g @ v < 0:  # the attack may have missed the worst points: ask for them
            worst = twolayer.worst_cases(net(v), X, y, radius)
            margins = y * relu.evaluate(net(v), X)[:, 0]
            if (rate := float(np.mean(s * (worst.upper - margins)))) < 0:
                return Collapse("free", -rate, v, np.array(cuts))
            cuts.append(vector(worst.points))
        cuts.append(g)
    return Collapse("open", 0.0, np.zeros(k), np.array(cuts))


# --------------------------------------------------------------------------------- the runs


def _plain(recipe: Any) -> Any:
    return recipe._asdict() if isinstance(recipe, Recipe) else recipe


def _shorter(recipe: Recipe, epochs: int | None) -> Recipe:
    return recipe._replace(epochs=epochs or recipe.epochs)


def _regression(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    P, y = moons(1000, images or 400)  # the same for all seeds
    Q = gaussian_twin(P, y, np.random.default_rng(1000))
    rows = []
    for i, name in enumerate(REGRESSION):
        recipe = _shorter(drawn_recipe(seed, i), epochs)
        X, labels = moons(10 * seed + i, 100)
        net = fit(X, labels, recipe, 10 * seed + i)
        row = {"method": name, "seed": seed, "recipe": _plain(recipe)}
        for law, points in (("p", P), ("q", Q)):
            gaps = twolayer.gap(net, points, y, PLANE_RADIUS, loss="logistic")
            margins = y * relu.evaluate(net, points)[:, 0]
            steep = slopes(net, points) / (1 + np.exp(margins))
            row |= {
                f"gap_{law}": float(gaps.mean()),
                f"slope_{law}": float(steep.mean()),
                f"margins_{law}": np.quantile(margins, np.arange(1, 10) / 10).tolist(),
                f"clean_{law}": float((margins > 0).mean()),
            }
        rows.append(row | {"penalties": twolayer.penalties(net)})
    return rows


def _plane(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    X, y = moons(2 * seed, 200)
    pool, labels = moons(2 * seed + 1, images or 600)
    rows = []
    for name, recipe in PLANE.items():
        net = fit(X, y, _shorter(recipe, epochs), seed)
        row = swap_row(net, pool, labels, pool, PLANE_RADIUS, PLANE_RUNGS)
        rows.append({"method": name, "seed": seed, **row})
    return rows


def _digits(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    X, y, pool, labels = digits_task(seed)
    pool, labels = pool[:images], labels[:images]
    leading, rows = principal_scores(pool, 10), []
    for name, recipe in DIGITS.items():
        net = fit(X, y, _shorter(recipe, epochs), seed)
        row = swap_row(net, pool, labels, leading, DIGITS_RADIUS, DIGITS_RUNGS)
        rows.append({"method": name, "seed": seed, **row})
    return rows


def _freezing(seed: int, epochs: int | None, images: int | None) -> list[dict[str, Any]]:
    X, y, T, t = digits_task(seed)
    T, t = T[: images or 400], t[: images or 400]
    nothing = Recipe(epochs=0)
    nets = {"random": fit(X, y, nothing, seed)}
    rows = []
    for name, recipe in FREEZING.items():
        part, _, source = name.partition("-")
        how = {"start": nets[source], "frozen": part} if source else {}
        net = fit(X, y, _shorter(recipe, epochs), seed, **how)
        nets.setdefault(name, net)
        worst, margins = twolayer.worst_cases(net, T, t, DIGITS_RADIUS), None
        scores = relu.evaluate(net, T)[:, 0]
        margins = t * scores
        row = {
            "clean": float((margins > 0).mean()),
            "robust": float((margins > worst.upper).mean()),
            "output": float(np.abs(net.weights[1]).max()),
            "spread": float(scores.std()),
        }
        if part == "hidden":
            W, b = net.weights[0], net.biases[0]
            known, row["collapse"] = (), []
            for radius in COLLAPSE_RADII:
                if "collapse" not in row["collapse"]:  # for larger radii nothing is left to do
                    answer = collapse(W, b, X, y, radius, known)
                    known = answer.cuts
                row["collapse"].append(answer.status)
            row["cuts"] = len(known)
        rows.append({"method": name, "seed": seed, **row})
    return rows


# --------------------------------------------------------------------------------- the command

MODULE = "advreg.twolayer_experiments"

#: The experiments: what a seed does, what is compared, the default seeds, and all in words.
EXPERIMENTS: dict[str, tuple[experiments.Run, Mapping[str, Any], str, str]] = {
    "regression": (_regression, REGRESSION, "0-9", "two moons, 10 networks per seed"),
    "plane": (_plane, PLANE, "0-7", "two moons, swap tests"),
    "digits": (_digits, DIGITS, "0-3", "digits, even or odd, swap tests"),
    "freezing": (_freezing, FREEZING, "0-3", "digits, adversarial training of one layer"),
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
        MODULE, 7, EXPERIMENTS, argv, epochs=(1, "400 or 600"), images=(8, "all")
    )
    run, methods, *_ = EXPERIMENTS[args.name]
    rungs = {"plane": PLANE_RUNGS, "digits": DIGITS_RUNGS}.get(args.name, ())
    plane = args.name in ("regression", "plane")
    own = {
        "methods": {key: _plain(recipe) for key, recipe in methods.items()},
        "radius": PLANE_RADIUS if plane else DIGITS_RADIUS,
        "rungs": [list(rung) for rung in rungs],
        "radii": list(COLLAPSE_RADII) if args.name == "freezing" else [],
    }
    return experiments.run_seeds(MODULE, args, run, own)


if __name__ == "__main__":
    raise SystemExit(main())
