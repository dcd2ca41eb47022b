"""Mehrotra's interior-point method for adversarially trained linear models.

The engine behind :func:`advreg.linear.fit`; nothing here is needed to follow chapter 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import expit

if TYPE_CHECKING:
    from advreg.linear import Problem

Array = NDArray[np.float64]


class _Orthant:
    """The constraint p >= ||w||_* inside Newton's method, p = sum of the parts q.

    R are the slacks, C their multipliers; both are positive, and R C -> mu.

    start       parts and multipliers to begin with
    condense    what the constraint adds to the Newton matrix of (w, p) once q is eliminated:
                for w a diagonal (or a block), a column between w and p, a number for p, and
                weight x (u, 1)(u, 1)^T; the weight may be huge, so that term is dealt with apart
    aim         the multipliers N that, with unchanged slacks, make R C = mu to second order
    push        the force of N on w and on p
    move, bend  changes of q and R that belong to (dw, dp); loss of multipliers that goes with dR
    reach       the longest step inside the cone
    """

    def __init__(self, size: int):
        self.size = size

    def slacks(self, w: Array, q: Array) -> Array:
        return np.array([q + w, q - w])

    def degree(self, C: Array) -> int:
        return C.size

    def aim(self, C: Array, R: Array, mu: float, dC: Array, dR: Array) -> Array:
        return (mu - dR * dC) / R

    def reach(self, value: Array, change: Array) -> float:
        return _reach(value, change)

    def bend(self, C: Array, R: Array, dR: Array) -> Array:
        return C / R * dR

    def least(self, value: Array) -> float:
        return value.min(initial=1.0)


class _Sum(_Orthant):
    """Attack inf: q_j >= |w_j|, one part for each weight."""

    def start(self, p: float, price: float) -> tuple[Array, Array]:
        return np.full(self.size, p / self.size), np.full((2, self.size), price / 2)

    def condense(self, C: Array, R: Array):
        V = C / R
        self.D = V.sum(axis=0)
        self.e, self.inverse = (V[0] - V[1]) / self.D, (1 / self.D).sum()
        return 4 * V[0] * V[1] / self.D, 0.0, 0.0, self.e, 1 / self.inverse

    def push(self, N: Array) -> tuple[Array, float]:
        total = N.sum(axis=0)
        self.mean = (total / self.D).sum() / self.inverse
        return N[0] - N[1] + self.e * (self.mean - total), self.mean

    def move(self, dw: Array, dp: float, N: Array) -> tuple[Array, Array]:
        change = N.sum(axis=0) - self.mean + (self.e @ dw + dp) / self.inverse
        dq = change / self.D - self.e * dw
        return dq, np.array([dq + dw, dq - dw])


class _Largest(_Orthant):
    """Attack 1: q >= |w_j| for every j."""

    def start(self, p: float, price: float) -> tuple[Array, Array]:
        return np.array([p]), np.full((2, self.size), price / (2 * self.size))

    def condense(self, C: Array, R: Array):
        V = C / R
        return V.sum(axis=0), V[0] - V[1], V.sum(), np.zeros(self.size), 0.0

    def push(self, N: Array) -> tuple[Array, float]:
        return N[0] - N[1], N.sum()

    def move(self, dw: Array, dp: float, N: Array) -> tuple[Array, Array]:
        return np.array([dp]), np.array([dp + dw, dp - dw])


class _Lorentz:
    """Attack 2: R = (q, w) in the cone q >= ||w||, and its multipliers C in the same cone.

    Nesterov and Todd's scaling W makes W C = W^-1 R = scaled, the products are those of the
    Jordan algebra, (a . b, a_0 b_1 + b_0 a_1).
    """

    def __init__(self, size: int):
        self.size = size

    def slacks(self, w: Array, q: Array) -> Array:
        return np.append(q, w)

    def degree(self, C: Array) -> int:
        return 1

    def start(self, p: float, price: float) -> tuple[Array, Array]:
        return np.array([p]), np.append(price, np.zeros(self.size))

    def condense(self, C: Array, R: Array):
        r, c = np.sqrt(_det(R)), np.sqrt(_det(C))
        point = R / r
        point[0] += C[0] / c
        point[1:] -= C[1:] / c
        self.point = point / np.sqrt(_det(point))
        self.eta = np.sqrt(r / c)
        self.scaled = self.scale(C, 1)
        a, v = self.point[0], self.point[1:]
        b = np.linalg.norm(v)
        e = v / b if b else v
        # a^2 - b^2 = 1, so that a - b = 1 / (a + b) without cancellation
        low, high = 0.5 / (a + b) ** 2 / self.eta**2, 0.5 * (a + b) ** 2 / self.eta**2
        across = low - (1 / self.eta**2 if b else 0.0)
        block = np.eye(self.size) / self.eta**2 + across * np.outer(e, e)
        return block, low * e, low, -e, high

    def scale(self, x: Array, sign: int) -> Array:
        """W x for sign 1, W^-1 x for sign -1."""
        a, v = self.point[0], sign * self.point[1:]
        inner = v @ x[1:]
        first = a * x[0] + inner
        rest = x[1:] + v * (x[0] + inner / (1 + a))
        return self.eta**sign * np.append(first, rest)

    def aim(self, C: Array, R: Array, mu: float, dC: Array, dR: Array) -> Array:
        left, right = self.scale(dR, -1), self.scale(dC, 1)
        wanted = -np.append(left @ right, left[0] * right[1:] + right[0] * left[1:])
        wanted[0] += mu
        s = self.scaled
        first = (s[0] * wanted[0] - s[1:] @ wanted[1:]) / _det(s)
        quotient = np.append(first, (wanted[1:] - first * s[1:]) / s[0])
        return self.scale(quotient, -1)

    def push(self, N: Array) -> tuple[Array, float]:
        return N[1:], N[0]

    def move(self, dw: Array, dp: float, N: Array) -> tuple[Array, Array]:
        return np.array([dp]), np.append(dp, dw)

    def bend(self, C: Array, R: Array, dR: Array) -> Array:
        return self.scale(self.scale(dR, -1), -1)

    def least(self, value: Array) -> float:
        return _det(value)

    def reach(self, value: Array, change: Array) -> float:
        a = change[0] ** 2 - change[1:] @ change[1:]
        b = value[0] * change[0] - value[1:] @ change[1:]
        c = _det(value)
        inside = b * b - a * c
        slope = -b + math.sqrt(inside) if inside >= 0 else -1.0
        return c / slope if slope > 0 else math.inf


def _det(x: Array) -> float:
    length = np.linalg.norm(x[1:])
    return float((x[0] - length) * (x[0] + length))


class _Nothing(_Orthant):
    """No attack: p is absent."""

    def slacks(self, w: Array, q: Array) -> Array:
        return np.zeros((1, 0))

    def start(self, p: float, price: float) -> tuple[Array, Array]:
        return np.zeros(1), np.zeros((1, 0))

    def condense(self, C: Array, R: Array):
        return 0.0, 0.0, 1.0, np.zeros(self.size), 0.0

    def push(self, N: Array) -> tuple[Array, float]:
        return np.zeros(self.size), 0.0

    def move(self, dw: Array, dp: float, N: Array) -> tuple[Array, Array]:
        return np.zeros(1), np.zeros((1, 0))


class InteriorPoint:
    """Mehrotra's primal-dual interior-point method for one problem.

    The unknowns are x = (w, b), the parts q of p (see :class:`_Orthant`), and for the losses
    with a kink one bound tau_i of each sample:

        hinge                tau >= 0,            tau >= 1 - m + delta p,  minimize mean tau,
        absolute, squared    tau >= delta p + r,  tau >= delta p - r,      minimize mean tau^k.

    L are the multipliers of these constraints and S their slacks, C and R those of the cone.
    Newton's method runs on the optimality conditions with L S = C R = mu, and mu decreases.
    The tau are eliminated sample by sample, so one step costs about n d^2 operations.
    """

    def __init__(self, problem: Problem, b: float):
        self.problem, self.y, self.delta = problem, problem.y, problem.delta
        self.n, self.k = problem.Z.shape
        one = np.ones((self.n, 1))
        self.A = np.hstack([problem.Z, one]) if problem.intercept else problem.Z
        self.power = {"hinge": 1, "absolute": 1, "squared": 2}.get(problem.loss, 0)
        kinds = {1: _Largest, 2: _Lorentz, np.inf: _Sum}
        self.cone = (kinds[problem.norm] if self.delta else _Nothing)(self.k)
        # slopes of the two constraints of a sample by its output a and by p
        if problem.margin:
            self.ga, self.gp = np.array([0 * self.y, self.y]), np.array([0.0, -self.delta])
        else:
            self.ga, self.gp = np.array([[1.0], [-1.0]]), np.array([-self.delta, -self.delta])
        self.far = 1.0
        self.start(b)

    def start(self, b: float) -> None:
        y, delta, n, problem = self.y, self.delta, self.n, self.problem
        self.x = np.zeros(self.A.shape[1])
        if problem.intercept:
            self.x[-1] = b
        spread = 1.0 if problem.margin else float(np.abs(y - b).mean())
        p = spread / max(problem.length.mean(), delta) if delta else 0.0
        self.tau, self.L = np.zeros(n), np.zeros((2, 0))
        if self.power:
            far = np.maximum(1 - y * b, 0) if problem.margin else np.abs(y - b)
            self.tau = delta * p + far + spread
            share = 1 / 2 if self.power == 1 else self.tau
            self.L = np.ones((2, n)) * share / n
            slope, price = -self.ga * self.L, -(self.gp @ self.L).sum()
        else:
            s = self.smooth(self.A @ self.x, p)[0] / n
            slope, price = -y * s, delta * s.sum()
        # multipliers of the size of the gradient, or the first steps would be short
        pull = np.linalg.norm(slope.reshape(-1, n).sum(axis=0) @ problem.Z, ord=problem.norm)
        self.q, self.C = self.cone.start(p, max(price, pull))

    def smooth(self, a: Array, p: float) -> tuple[Array, Array]:
        """Multipliers s = -l'(z) and curvatures l''(z) of a smooth margin loss."""
        z = self.y * a - self.delta * p
        if self.problem.loss == "logistic":
            s = expit(-z)
            return s, s * expit(z)
        s = np.exp(-z)
        return s, s

    def slacks(self, x: Array, q: Array, tau: Array) -> tuple[Array, Array]:
        R = self.cone.slacks(x[: self.k], q)
        if not self.power:
            return np.zeros((2, 0)), R
        a, lifted = self.A @ x, tau - self.delta * q.sum()
        if self.problem.margin:
            return np.array([tau, lifted - 1 + self.y * a]), R
        return np.array([lifted - (self.y - a), lifted + (self.y - a)]), R

    def run(self, zero: float, wanted: float) -> tuple[Array, float, float]:
        """Weights, intercept and lower bound once they are `wanted` close, or at a stand."""
        best, low, where, idle = math.inf, -math.inf, (self.x[: self.k], 0.0), 0
        for _ in range(100):
            w, b = self.x[: self.k], float(self.x[-1]) if self.problem.intercept else 0.0
            value = self.problem.risk(w, b)
            margins = self.y * (self.problem.Z @ w + b) - self.problem.penalty(w)
            if not self.power and margins.min() > 0:
                raise ValueError(self.problem.endless())
            idle += 1
            if value < best:
                idle, best, where = 0, value, (w.copy(), b)
            self.S, self.R = self.slacks(self.x, self.q, self.tau)
            if self.cone.least(self.R) <= 0 or (self.S <= 0).any():  # at the end of float64
                break
            if self.power:
                s = self.n * (self.L[1] if self.problem.margin else self.L[0] - self.L[1])
            else:
                s, self.curve = self.smooth(self.A @ self.x, self.q.sum())
                self.s = s
            lower = self.problem.bound(s)
            if lower > low:
                idle, low = 0, lower
            if best - low <= wanted or idle > (10 if low > 0 else 30):
                break
            lower = self.step()
            if lower > low:
                idle, low = 0, lower
        return (*where, low)

    def step(self) -> float:
        """One predictor and corrector; returns the bound from the linearized multipliers."""
        L, S, C, R = self.L, self.S, self.C, self.R
        self.assemble()
        size = L.size + self.cone.degree(C)
        mu = ((L * S).sum() + (C * R).sum()) / max(size, 1)
        dx, dq, dtau, dS, dL, dR, dC = self.direction(0 * L, 0 * C)
        far = 1.0
        if size:
            far = min(1.0, self.reach(dS, dL, dR, dC))
            after = ((L + far * dL) * (S + far * dS)).sum()
            after = (after + ((C + far * dC) * (R + far * dR)).sum()) / size
            target = mu * min(1.0, max(after / mu, 0.0) ** 3)
            if not self.problem.inside:  # stay near the centre until the bounds are valid
                target = mu * (2.0 if self.far < 0.3 else 1.0)
            aim = self.cone.aim(C, R, target, far * dC, far * dR)
            shift = (target - far**2 * dS * dL) / S
            dx, dq, dtau, dS, dL, dR, dC = self.direction(shift, aim)
        far = min(1.0, (0.9 + 0.09 * far) * self.reach(dS, dL, dR, dC))
        lower = -math.inf
        merit = 0.0 if self.power else self.merit(self.x, self.q)
        for _ in range(50):
            x, q, tau = self.x + far * dx, self.q + far * dq, self.tau + far * dtau
            if self.power or self.merit(x, q) <= 2 * merit:
                break
            far /= 2
        if not self.power:
            dz = self.y * (self.A @ dx) - self.delta * dq.sum()
            lower = self.problem.bound(self.s - far * self.curve * dz)
        self.x, self.q, self.tau, self.far = x, q, tau, far
        self.L, self.C = L + far * dL, C + far * dC
        return lower

    def reach(self, dS: Array, dL: Array, dR: Array, dC: Array) -> float:
        """Largest step that keeps slacks and multipliers in their cones."""
        samples = min(_reach(self.S, dS), _reach(self.L, dL))
        return min(samples, self.cone.reach(self.R, dR), self.cone.reach(self.C, dC))

    def merit(self, x: Array, q: Array) -> float:
        penalty = self.delta * q.sum()
        return self.problem.mean_loss(self.A @ x, penalty)

    def assemble(self) -> None:
        """Newton matrix of (x, p), tau and q eliminated; its Cholesky factor."""
        n, delta, ga, gp = self.n, self.delta, self.ga, self.gp
        if self.power:
            self.W = W = self.L / self.S
            h = 2 / n if self.power == 2 else 0.0
            self.total = W.sum(axis=0) + h
            self.at, self.pt = (W * ga).sum(axis=0), gp @ W
            cross, straight = W[0] * W[1] / self.total, h * W / self.total
            Haa = cross * (ga[0] - ga[1]) ** 2 + (straight * ga**2).sum(axis=0)
            Hap = cross * (ga[0] - ga[1]) * (gp[0] - gp[1])
            Hap = Hap + (straight * ga * gp[:, None]).sum(axis=0)
            Hpp = (cross * (gp[0] - gp[1]) ** 2 + gp**2 @ straight).sum()
        else:
            Haa, Hap = self.curve / n, -delta * self.y * self.curve / n
            Hpp = delta**2 * self.curve.sum() / n
        scaled = self.A * np.sqrt(Haa)[:, None]
        m, k = self.x.size, self.k
        H = np.zeros((m + 1, m + 1))  # its lower half is used
        H[:m, :m] = scaled.T @ scaled
        H[m, :m] = self.A.T @ Hap
        diagonal, column, corner, self.u, weight = self.cone.condense(self.C, self.R)
        if np.ndim(diagonal) == 2:
            H[:k, :k] += diagonal
        else:
            H[np.arange(k), np.arange(k)] += diagonal
        H[m, :k] += column
        H[m, m] = Hpp + corner
        self.u = np.concatenate([self.u, np.zeros(m - k), [1.0]])
        part = min(weight, H[np.diag_indices_from(H)].max())
        H += part * np.outer(self.u, self.u)
        self.factor, self.fold, weight = _factor(H), None, weight - part
        if weight:
            solved = linalg.cho_solve(self.factor, self.u, check_finite=False)
            self.fold = solved / (1 / weight + self.u @ solved)

    def direction(self, M: Array, N: Array):
        """Newton step towards the multipliers M and N where the slacks do not change."""
        n, m, k, y = self.n, self.x.size, self.k, self.y
        if self.power:
            rt = self.power * self.tau ** (self.power - 1) / n - M.sum(axis=0)
            ra = -(self.ga * M).sum(axis=0) - self.at * rt / self.total
            rp = -(self.gp @ M).sum() - (self.pt * rt / self.total).sum()
        else:
            ra, rp = -y * self.s / n, self.delta * self.s.sum() / n
        pushed, push = self.cone.push(N)
        right = np.append(-(self.A.T @ ra), push - rp)
        right[:k] += pushed
        d = linalg.cho_solve(self.factor, right, check_finite=False)
        if self.fold is not None:
            d -= self.fold * (self.u @ d)
        dx, dp = d[:m], d[m]
        dq, dR = self.cone.move(dx[:k], dp, N)
        dC = N - self.C - self.cone.bend(self.C, self.R, dR)
        if not self.power:
            return dx, dq, np.zeros(n), self.S, 0 * self.L, dR, dC
        da = self.A @ dx
        dtau = -(rt + self.at * da + self.pt * dp) / self.total
        dS = self.ga * da + self.gp[:, None] * dp + dtau
        return dx, dq, dtau, dS, M - self.L - self.W * dS, dR, dC


def _reach(value: Array, change: Array) -> float:
    """Largest step that keeps value + step x change at least 0."""
    falls = change < 0
    return float((-value[falls] / change[falls]).min()) if falls.any() else math.inf


def _factor(H: Array):
    """Cholesky factor of H, its lower half given; a little is added to the diagonal if need be."""
    size = np.diagonal(H).copy()
    ridge = 0.0
    while ridge < 1e-4:
        H[np.diag_indices_from(H)] = size * (1 + ridge)
        try:
            return linalg.cho_factor(H, lower=True, check_finite=False)
        except linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-15)
    raise RuntimeError("the Newton matrix is not positive definite; rescale the features")
