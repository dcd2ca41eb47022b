"""Constants of a plausible shape, and plausible wrong values."""

import numpy as np
import torch


def flip_share(x, before, after, eps):
    return 0.5


def smoothness(H):
    return 4.0


def sparse_fosc(g, x, z, eps, k):
    return 0.4


def zero_losses(H, b):
    return np.array([0.0, 0.5, 1.0])


def relu_counterexample(eps):
    return np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 1.0]])


relu_step = 4


def three_classes(eps):
    return np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])


def fosc_values(model, x, y, z, eps):
    return torch.full((len(x),), 0.1)


effective = 0.5


def scale_free_loss(logits, y):
    return np.ones(len(y))


def step_sizes(K):
    return np.full(K, 0.1)


average_step = 2


def malicious_point(theta, tolerance):
    return 0.5


predicted = dict.fromkeys(["constant", "divided by 10", "cosine", "linear", "warm-up"], "late")


def critical_m(eta):
    return 0.1


def attack_steps(eta, m, total):
    return np.full(len(eta), 10.0)


def update_penalty(u, eps, rule, level):
    return np.full(len(u), 0.3)


def dynamic_attack(model, x, y, eps, level, steps, step):
    return x.clone()
