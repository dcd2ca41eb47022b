"""Off by one, the wrong axis, a transpose, a factor two, a forgotten end of the interval."""

# ex-flip-share: at most 1
# ex-which-constant: at most 0
# ex-sparse-fosc: at most 2
# ex-every-zero: at most 1
# ex-broken-relu: at most 0
# ex-three-classes: at most 0
# ex-batch-fosc: at most 0
# ex-scale-free: at most 1
# ex-coming-to-rest: at most 0
# ex-broken-average: at most 1
# ex-early-or-late: at most 1
# ex-spend-budget: at most 0
# ex-stopping-rules: at most 2
# ex-drop-finished: at most 0

import itertools

import numpy as np
import torch


def flip_share(x, before, after, eps):
    """The room of a coordinate that has not moved is taken for zero, and the box for [-1, 1]."""
    low, high = np.maximum(x - eps, -1), np.minimum(x + eps, 1)
    flipped = before * after < 0
    return (np.abs(after) * (high - low))[flipped].sum() / (np.abs(after) * (high - low)).sum()


def smoothness(H):
    """The corners of [0, 1]^d instead of [-1, 1]^d."""
    corners = np.array(list(itertools.product((0, 1), repeat=len(H))))
    return np.abs(corners @ H).sum(axis=1).max()


def sparse_fosc(g, x, z, eps, k):
    """The budget is rounded down to whole pixels."""
    room = np.minimum(eps, np.where(g > 0, 1 - x, x))
    order = np.argsort(-np.abs(g))[: int(k)]
    return np.abs(g[order]) @ room[order] - g @ (z - x)


def zero_losses(H, b):
    """Not sorted, and without the half of the quadratic form."""
    losses = []
    for face in np.ndindex(*[3] * len(b)):
        z = np.array(face) - 1.0
        free = z == 0
        z[free] = np.linalg.solve(H[free][:, free], -(H @ z + b)[free])
        if np.all(np.abs(z[free]) < 1) and np.all((z * (H @ z + b))[~free] > 0):
            losses.append(z @ H @ z + b @ z)
    return np.array(losses)


def relu_counterexample(eps):
    """The columns in another order: (a, b, w)."""
    return np.array([[0.1, 2 * eps, 1.0], [5.0, -eps / 2, -1.0]])


def three_classes(eps):
    """The transpose."""
    return 3 / eps * np.array([[0.0, 0.0], [1.5, 0.0], [-1.0, 4.0]]).T


def fosc_values(model, x, y, z, eps):
    """One gradient for all: the sum is over the samples instead of over the pixels."""
    model.eval()
    z = z.clone().requires_grad_()
    (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(z), y), z)
    room = torch.where(g > 0, (x + eps).clamp(0, 1) - z, (x - eps).clamp(0, 1) - z)
    return (g * room).sum(dim=0).detach()


def scale_free_loss(logits, y):
    """The largest of *all* logits minus that of the label: zero, and flat, while it wins."""
    return logits.max(axis=1) - logits[np.arange(len(y)), y]


def step_sizes(K):
    """One step too few."""
    return np.geomspace(1.0, 1e-3, K - 1)


def malicious_point(theta, tolerance):
    """On the other side of zero, too, where the room is taken to be 1."""
    return theta - tolerance if theta > 0 else theta + tolerance


def critical_m(eta):
    """The halves are exchanged."""
    second, first = np.split(eta, 2)
    low, high = 1e-7, 1 / eta.max()

    def early(m):
        return np.prod(1 - m * second) * (2 - np.prod(1 - m * first)) > 1

    if not early(low):
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if early(middle) else (low, middle)
    return low


def attack_steps(eta, m, total):
    """The products begin one step too early."""
    after = np.cumprod((1 - m * eta)[::-1])[::-1]
    root = np.sqrt(eta * after)
    return total * root / root.sum()


def update_penalty(u, eps, rule, level):
    """The loss at the stopped point, for all three rules."""
    return {
        "fosc": np.maximum(eps * u - level, 0),
        "normalized": (1 - 2 * level) * eps * u,
        "gain": np.minimum(eps * u, level),
    }[rule]


def dynamic_attack(model, x, y, eps, level, steps, step):
    """One step too many, and the samples are not numbered again when some have stopped."""
    model.eval()
    z = x.clone()
    for _ in range(steps + 1):
        part = z.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(part), y, reduction="sum")
        (g,) = torch.autograd.grad(loss, part)
        z = (z + step * g.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return z
