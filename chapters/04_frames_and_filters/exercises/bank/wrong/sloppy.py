"""Wrong axes, transposes, off by one, and cases that were forgotten."""
# ex-c4-vaguelettes: at most 2
# ex-c4-difference-energy: at most 1
# ex-c4-broken-union: at most 0
# ex-c4-correlated-noise: at most 2
# ex-c4-prediction-filter: at most 3
# ex-c4-flipped-zeros: at most 1
# ex-c4-offset-bias: at most 1
# ex-c4-certificate: at most 5
# ex-c4-implicit-gradient: at most 1
# ex-c4-broken-nonexpansive: at most 2
# ex-c4-sandwich: at most 0
# ex-c4-oscillation: at most 2
# ex-c4-unsafe-denoiser: at most 4

import numpy as np

prox_step = 4


def vaguelettes(A, u):
    w = np.linalg.solve(A.T, u.T).T  # square and regular matrices only
    return w / np.linalg.norm(w, axis=1, keepdims=True)


def difference_energy(h, level):
    c = np.ones(1)
    for _ in range(level):
        c = np.convolve(np.repeat(c, 2) * (np.arange(2 * len(c)) % 2 == 0), h)
    return 4**level * np.sum(np.diff(c, append=0) ** 2)  # one end forgotten


def union_example(first, second, noise):
    return len(first) * np.outer(first[0], first[0])  # the trace is not 1


def correlated_gains(kappa, u, v, signal, noise, cross):
    power, spread = np.diag(u @ signal @ u.T), np.diag(v @ noise @ v.T)
    both = np.diag(v @ cross @ u.T)  # transposed
    return (kappa * power + both) / (kappa**2 * power + 2 * kappa * both + spread)


def denoising_taps(a, s, delta, taps):
    h = np.zeros(taps)
    h[0], h[1] = 1, -sum(a)  # one coefficient is thought of
    return delta / s * h


def same_spectrum(k):
    zeros, found = np.roots(k), [k]
    for i, z in enumerate(zeros):  # one flip at a time
        if z.imag == 0:
            h = np.poly(np.where(np.arange(len(zeros)) == i, 1 / z, zeros)).real
            found.append(h * np.linalg.norm(k) / np.linalg.norm(h))
    return np.array([*found, k[::-1]])


def mean_shift(x, filters, slope):
    k = np.sum(filters, axis=0)  # one filter instead of several
    z = sum(tap * np.roll(x, m) for m, tap in enumerate(k))
    return -k.sum() * np.mean(slope(z))


def loss_interval(x, target, gradient):
    r, g = np.linalg.norm(x - target), np.linalg.norm(gradient)
    low = (r - g) ** 2 / 2 if r >= 0.999 * g else 0.0
    return np.array([low, (r + g) ** 2 / 2 * (1 + (r == 0))])


def filter_gradient(k, y, target):
    x, n = denoise(y, k), y.size  # noqa: F821
    K = sum(tap * np.roll(np.eye(n), m, axis=1) for m, tap in enumerate(k))  # the wrong way
    z = K @ x
    first, second = z / np.hypot(z, NU), NU**2 / np.hypot(z, NU) ** 3  # noqa: F821
    back = np.linalg.solve(np.eye(n) + K.T @ (second[:, None] * K), x - target)
    shifts = [np.roll(np.eye(n), m, axis=1) for m in range(len(k))]
    return np.array([-back @ (P.T @ first + K.T @ (second * (P @ x))) for P in shifts])


def attack_matters(delta):
    return np.array([[1.0, 1.0]]) if delta > 4 else np.array([[0.04, 0.04]])


def attack_bounds(residual, delta):
    r = np.sum(residual**2)  # the root is forgotten
    return np.array([r + delta**2 + 2 * delta * abs(residual.mean()), (r + delta) ** 2])


def oscillating_denoiser(A, clean):
    if not len(clean):
        return np.eye(A.shape[1])
    gram = clean @ clean.T  # singular for dependent rows
    return 2 * clean.T @ np.linalg.solve(gram, clean) - np.eye(A.shape[1])


def pnp_gains(sigma, d, tau):
    x = np.zeros(len(sigma))
    for _ in range(100):  # too few for weak modes
        x = d * (x + tau * sigma * (1 - sigma * x))
    return x
