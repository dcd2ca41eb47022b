"""What the library and scipy have, where they have it."""

import itertools

import numpy as np
import torch
from scipy import integrate, optimize

from advreg import attacks


def flip_share(x, before, after, eps):
    ball = attacks.Ball(eps)
    x, before, after = (torch.tensor(a)[None] for a in (x, before, after))
    z = ball.best(before, x)
    return (ball.fosc(after, z, x) / ball.range(after, x)).item()


def smoothness(H):
    signs = itertools.product((-1, 1), repeat=len(H))
    return max(np.abs(H @ np.array(s)).sum() for s in signs)


def sparse_fosc(g, x, z, eps, k):
    """The least value of the dual function, which is attained at a kink."""
    room = np.minimum(eps, np.where(g > 0, 1 - x, x))
    size = np.abs(g)
    values = [p * k * eps + np.maximum(size - p, 0) @ room for p in np.append(size, 0.0)]
    return min(values) - g @ (z - x)


def zero_losses(H, b):
    """Solve z = clip(z + g(z)) from every pattern of free coordinates."""
    found = []
    for start in itertools.product((-2.0, 0.0, 2.0), repeat=len(b)):
        w = np.array(start)
        z, free = np.clip(w, -1, 1), np.abs(w) < 1
        z[free] = 0
        matrix = np.where(free[:, None], H, np.eye(len(b)))
        z = np.linalg.solve(matrix, np.where(free, -b, z))
        if np.abs(z - np.clip(z + H @ z + b, -1, 1)).max() < 1e-9:
            found.append(z @ H @ z / 2 + b @ z)
    return np.sort(found)


def relu_counterexample(eps):
    """max(z, 0) - max(-z, 0) = z: two kinks at x that cancel, so there is a gradient."""
    return np.array([[0.1, 1.0, 0.0], [-0.1, -1.0, 0.0], [5.0, -1.0, -eps / 2]])


def three_classes(eps):
    return 10 / eps * np.array([[1.0, 1.0], [2.5, 1.0], [0.0, 5.0]])


def fosc_values(model, x, y, z, eps):
    return attacks.fosc(model, z, y, x, attacks.Ball(eps))


def scale_free_loss(logits, y):
    return attacks.margin(torch.tensor(logits), torch.tensor(y)).numpy()


def step_sizes(K):
    return 0.5 * 0.88 ** np.arange(K)


def malicious_point(theta, tolerance):
    room = 1 + theta
    return theta + (np.sqrt(room**2 + 4 * tolerance) - room) / 2


def critical_m(eta):
    half = len(eta) // 2

    def difference(m):
        w = eta * np.append(np.cumprod((1 - m * eta)[::-1])[::-1][1:], 1)
        return w[:half].sum() - w[half:].sum()

    low, high = 1e-4 / eta.max(), (1 - 1e-12) / eta.max()
    return optimize.brentq(difference, low, high, rtol=1e-12) if difference(low) > 0 else 0


def attack_steps(eta, m, total):
    """Bisection in the price of one step more, at which every attack asks for its share."""
    w = np.array([eta[t] * np.prod(1 - m * eta[t + 1 :]) for t in range(len(eta))])
    price = optimize.brentq(lambda p: np.sqrt(w / np.exp(p)).sum() - total, -60, 60, xtol=1e-12)
    return np.sqrt(w / np.exp(price))


def update_penalty(u, eps, rule, level):
    def radius(s):
        return {
            "fosc": max(eps - level / s, 0),
            "normalized": (1 - 2 * level) * eps,
            "gain": min(eps, level / s),
        }[rule]

    kink = level / eps
    return np.array(
        [integrate.quad(radius, 0, v, points=[kink] if kink < v else None)[0] for v in u]
    )


def dynamic_attack(model, x, y, eps, level, steps, step):
    return attacks.pgd(
        model, x, y, attacks.Ball(eps), steps=steps, step=step, threshold=level, report=False
    ).points
