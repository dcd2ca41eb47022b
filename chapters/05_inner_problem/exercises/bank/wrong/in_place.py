"""Answers that change their arguments, and then go on with what they have changed."""

# ex-flip-share: at most 1
# ex-which-constant: at most 1
# ex-sparse-fosc: at most 1
# ex-every-zero: at most 0
# ex-batch-fosc: at most 0
# ex-scale-free: at most 2
# ex-early-or-late: at most 0
# ex-spend-budget: at most 0
# ex-stopping-rules: at most 1
# ex-drop-finished: at most 1

import numpy as np
import torch


def flip_share(x, before, after, eps):
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    x += eps * np.sign(before)  # leaves the box
    room = np.where(after > 0, high - x, x - low)
    return np.abs(after) @ room / (np.abs(after) @ (high - low))


def smoothness(H):
    np.abs(H, out=H)
    return H.sum()


def sparse_fosc(g, x, z, eps, k):
    g[:] = np.abs(g)
    order = np.argsort(-g)
    amount = np.clip(k * eps - eps * np.arange(len(g)), 0, eps)
    return g[order] @ amount - g @ (z - x)


def zero_losses(H, b):
    losses = []
    for face in np.ndindex(*[3] * len(b)):
        z = np.array(face) - 1.0
        free = z == 0
        b += H @ z
        z[free] = np.linalg.solve(H[free][:, free], -b[free])
        if np.all(np.abs(z[free]) < 1) and np.all((z * b)[~free] > 0):
            losses.append(z @ H @ z / 2 + b @ z)
    return np.sort(losses)


def fosc_values(model, x, y, z, eps):
    model.eval()
    z.requires_grad_()
    torch.nn.functional.cross_entropy(model(z), y).backward()
    low, high = x.sub_(eps).clamp(0, 1), x.add_(eps).clamp(0, 1)
    g = z.grad
    return (g.clamp(min=0) * (high - z) + g.clamp(max=0) * (low - z)).sum(dim=1).detach()


def scale_free_loss(logits, y):
    logits -= logits.max(axis=0)
    rows = np.arange(len(y))
    label = logits[rows, y]
    logits[rows, y] = -np.inf
    return logits.max() - label


def critical_m(eta):
    eta.sort()
    return 0.0


def attack_steps(eta, m, total):
    eta *= 1 - m * eta
    return total * eta / eta.sum()


def update_penalty(u, eps, rule, level):
    u *= eps
    if rule == "normalized":
        return (1 - 2 * level) * u
    u /= level
    return level * (u - 1 - np.log(u)) if rule == "fosc" else level * (1 + np.log(u))


def dynamic_attack(model, x, y, eps, level, steps, step):
    model.eval()
    for _ in range(steps):
        z = x.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(z), y)
        (g,) = torch.autograd.grad(loss, z)
        low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)  # the centre walks along
        x += step * g.sign()
        x = torch.minimum(torch.maximum(x, low), high)
    return x
