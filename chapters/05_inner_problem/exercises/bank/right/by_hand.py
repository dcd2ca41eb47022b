"""Loops, lists and plain numbers; copies of the model instead of a restored mode."""

import copy
import math

import numpy as np
import torch


def flip_share(x, before, after, eps):
    room = width = 0.0
    for t, a, b in zip(x, before, after, strict=True):
        low, high = max(t - eps, 0.0), min(t + eps, 1.0)
        at = high if a > 0 else low if a < 0 else t
        room += abs(b) * (high - at if b > 0 else at - low)
        width += abs(b) * (high - low)
    return float(room / width)


def smoothness(H):
    """Flip one sign at a time (a Gray code), and keep H s up to date."""
    d = len(H)
    signs = [1.0] * d
    value = [sum(row) for row in H.tolist()]
    best = sum(map(abs, value))
    for n in range(1, 2 ** (d - 1)):
        i = (n & -n).bit_length() - 1
        value = [v - 2 * signs[i] * h for v, h in zip(value, H[i].tolist(), strict=True)]
        signs[i] = -signs[i]
        best = max(best, sum(map(abs, value)))
    return best


def sparse_fosc(g, x, z, eps, k):
    """Pour the budget pixel by pixel."""
    total, budget = 0.0, k * eps
    for i in sorted(range(len(g)), key=lambda i: -abs(g[i])):
        amount = min(eps, 1 - x[i] if g[i] > 0 else x[i], budget)
        total, budget = total + abs(g[i]) * amount, budget - amount
    return total - sum(g * (z - x))


def zero_losses(H, b):
    d, losses = len(b), []
    for face in range(3**d):
        state = [face // 3**i % 3 - 1 for i in range(d)]
        free = [i for i in range(d) if state[i] == 0]
        z = np.array(state, float)
        if free:
            z[free] = np.linalg.lstsq(H[np.ix_(free, free)], -(H @ z + b)[free], rcond=None)[0]
        g = H @ z + b
        if all(-1 <= z[i] <= 1 if i in free else g[i] * z[i] >= 0 for i in range(d)):
            losses.append(float(0.5 * z @ H @ z + b @ z))
    return sorted(losses)


def relu_counterexample(eps):
    """No slope at x: FGSM stays, and misses everything."""
    return [[10.0, 1.0, -eps / 4]]


def three_classes(eps):
    return [[0, 0], [5 / eps, 0], [-4 / eps, 12 / eps]]


def fosc_values(model, x, y, z, eps):
    """A loop over the samples, with a gradient from `backward` on a copy."""
    model = copy.deepcopy(model).eval()
    out = []
    for clean, label, point in zip(x, y, z, strict=True):
        point = point.clone().requires_grad_()
        torch.nn.functional.cross_entropy(model(point[None]), label[None]).backward()
        low, high = (clean - eps).clamp(0, 1), (clean + eps).clamp(0, 1)
        rooms = torch.where(point.grad > 0, high - point, low - point)
        out.append((point.grad * rooms).sum().item())
    return out


effective = 64.0


def scale_free_loss(logits, y):
    """Cross-entropy of logits that are standardized sample by sample."""
    logits = logits - logits.mean(axis=1, keepdims=True)
    logits = 3 * logits / logits.std(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]


def step_sizes(K):
    return [0.9 ** (k * 80 / K) for k in range(K)]


def malicious_point(theta, tolerance):
    return theta - tolerance / 2


def critical_m(eta):
    """Plain recursion instead of products."""
    eta = [float(e) for e in eta]
    half = len(eta) // 2

    def lead(m):
        early = late = 0.0
        for t, e in enumerate(eta):
            early = (1 - m * e) * early + (e if t < half else 0.0)
            late = (1 - m * e) * late + (0.0 if t < half else e)
        return early - late

    low, high = 1e-6 / max(eta), 1 / max(eta)
    if lead(low) <= 0:
        return 0
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if lead(middle) > 0 else (low, middle)
    return np.float64(middle)


def attack_steps(eta, m, total):
    left, roots = 1.0, []
    for e in reversed(list(eta)):
        roots.append(math.sqrt(e * left))
        left *= 1 - m * e
    return [total * r / sum(roots) for r in reversed(roots)]


def update_penalty(u, eps, rule, level):
    out = []
    for v in map(float, u):
        kink = level / eps
        if rule == "normalized":
            out.append((eps - 2 * level * eps) * v)
        elif v <= kink:
            out.append(0.0 if rule == "fosc" else eps * v)
        elif rule == "fosc":
            out.append(eps * (v - kink) - level * math.log(v / kink))
        else:
            out.append(level + level * math.log(v / kink))
    return out


def dynamic_attack(model, x, y, eps, level, steps, step):
    """One sample at a time: slow, but nobody finished is looked at."""
    mode = model.training
    model.eval()
    points = []
    for i in range(len(x)):
        z = x[i : i + 1].clone()
        low, high = (x[i : i + 1] - eps).clamp(0, 1), (x[i : i + 1] + eps).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(z), y[i : i + 1])
            (g,) = torch.autograd.grad(loss, z)
            z = z.detach()
            if torch.maximum(g * (high - z), g * (low - z)).sum() <= level:
                break
            z = (z + step * g.sign()).clamp(low, high)
        points.append(z[0])
    model.train(mode)
    return torch.stack(points)
