"""Single precision and integers where the tolerance allows it, numpy scalars, tuples, graphs."""

import numpy as np
import torch


def flip_share(x, before, after, eps):
    x, before, after = (torch.tensor(a) for a in (x, before, after))
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    point = torch.where(before > 0, high, torch.where(before < 0, low, x))
    room = torch.where(after > 0, high - point, point - low)
    return (after.abs() @ room / (after.abs() @ (high - low))).requires_grad_()


def smoothness(H):
    bits = 1 - 2 * np.array(np.unravel_index(np.arange(2 ** len(H)), [2] * len(H)))
    return np.abs(H @ bits).sum(axis=0).max(keepdims=True)[0]


def sparse_fosc(g, x, z, eps, k):
    room = np.minimum(eps, np.where(g > 0, 1 - x, x))
    order = np.abs(g).argsort()[::-1]
    used = np.minimum(np.cumsum(room[order]), k * eps)
    return np.float64(np.abs(g)[order] @ np.diff(used, prepend=0) + g @ (x - z))


def zero_losses(H, b):
    H, b = torch.as_tensor(H), torch.as_tensor(b)
    losses = []
    for state in torch.cartesian_prod(*[torch.tensor([-1.0, 0, 1]).double()] * len(b)).reshape(
        -1, len(b)
    ):
        free = state == 0
        rows = torch.where(free[:, None], H, torch.eye(len(b)).double())
        z = torch.linalg.solve(rows, torch.where(free, -b, state))
        push = torch.where(free, 1 - z.abs(), z * (H @ z + b))
        if (push > 0).all():
            losses.append(z @ H @ z / 2 + b @ z)
    return tuple(float(v) for v in sorted(losses))


def relu_counterexample(eps):
    return np.array([[5, -1, -0.05], [0.1, 1, 4]], dtype=np.float32)


relu_step = np.int64(3)


def three_classes(eps):
    return np.array([[0, 0], [45, 0], [-30, 120]])


def fosc_values(model, x, y, z, eps):
    """The answer still carries its graph."""
    modes = [part.training for part in model.modules()]
    model.eval()
    z = z.requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(z), y, reduction="sum")
    (g,) = torch.autograd.grad(loss, z)
    for part, mode in zip(model.modules(), modes, strict=True):
        part.training = mode
    up, down = (x + eps).clamp(0, 1) - z, (x - eps).clamp(0, 1) - z
    return torch.maximum(g * up, g * down).sum(dim=1)


effective = np.float64(64)


def scale_free_loss(logits, y):
    """The margin over the mean absolute deviation of the logits."""
    label = logits[np.arange(len(y)), y]
    others = np.where(np.arange(logits.shape[1]) == y[:, None], -np.inf, logits)
    spread = np.abs(logits - logits.mean(axis=1, keepdims=True)).mean(axis=1)
    return ((others.max(axis=1) - label) / spread).tolist()


def step_sizes(K):
    return torch.logspace(0, -3, K)


average_step = np.int64(3)


def malicious_point(theta, tolerance):
    return np.array(theta - tolerance / 2)


def critical_m(eta):
    """A fine grid, and one secant step on it."""
    first, second = np.split(np.asarray(eta), 2)

    def lead(m):
        m = np.atleast_1d(m)[:, None]
        return np.log1p(-m * second).sum(1) + np.log(2 - np.exp(np.log1p(-m * first).sum(1)))

    m = np.linspace(0, 1, 4001)[1:-1] / eta.max()
    late = np.flatnonzero(lead(m) < 0)
    if late[0] == 0:
        return 0
    for _ in range(2):
        m = np.linspace(m[late[0] - 1], m[late[0]], 101)
        late = np.flatnonzero(lead(m) < 0)
    return np.float32(m[late[0]])


def attack_steps(eta, m, total):
    after = np.flip(np.cumprod(np.flip(np.append(1 - m * eta, 1.0))))[1:]
    root = np.sqrt(eta * after)
    return torch.as_tensor(total * root / root.sum())


def update_penalty(u, eps, rule, level):
    u = u.astype(np.float32)
    ratio = np.maximum(eps * u / level, 1)
    return {
        "normalized": (1 - 2 * level) * eps * u,
        "fosc": level * (ratio - 1 - np.log(ratio)),
        "gain": np.minimum(eps * u, level) + level * np.log(ratio),
    }[rule]


def dynamic_attack(model, x, y, eps, level, steps, step):
    """The whole batch, but only once more than needed: a list comes back."""
    import copy

    model = copy.deepcopy(model).eval().requires_grad_(False)
    z, todo = x.clone(), list(range(len(x)))
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    for _ in range(steps):
        if not todo:
            break
        part = z[todo].requires_grad_()
        torch.nn.functional.cross_entropy(model(part), y[todo], reduction="sum").backward()
        g = part.grad
        left = torch.maximum(g * (high[todo] - z[todo]), g * (low[todo] - z[todo])).sum(1)
        keep = left > level
        todo = [i for i, more in zip(todo, keep.tolist(), strict=True) if more]
        z[todo] = torch.minimum(
            torch.maximum(z[todo] + step * g[keep].sign(), low[todo]), high[todo]
        )
    return z.tolist()
