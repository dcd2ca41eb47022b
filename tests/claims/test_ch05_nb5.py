"""Witnesses of chapter 5, notebook 5: early or late, short and fragile training, one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq

from advreg import attacks, data, experiments, networks, training

RESULTS = Path(__file__).parents[2] / "chapters" / "05_inner_problem" / "results"
torch.set_num_threads(1)

# ------------------------------------------------------------------- early or late: theory


def damage(rates, m, hit):
    """Gradient descent on m theta^2 / 2 from its minimum, gradient off by 1 on the steps `hit`."""
    theta = 0.0
    for rate, b in zip(rates, hit, strict=True):
        theta -= rate * (m * theta - b)
    return theta


def lead(q, m, total, steps):
    """Damage of an early error minus that of a late one, from the descent itself."""
    rates = np.repeat([total / steps, q * total / steps], steps)
    early = np.repeat([1.0, 0.0], steps)
    return damage(rates, m, early) - damage(rates, m, 1 - early)


def equal_weight(m, total, steps=3000):
    return brentq(lead, 1e-4, 1 - 1e-6, args=(m, total, steps), xtol=1e-6)


def test_critical_factor(claim):
    c = claim("cor-critical-factor")
    for u in (0.05, 0.7, 3.0, 6.927, 12.0):
        target = np.log(2 - np.exp(-u)) / u
        c.close(f"factor of equal damage, mS = {u}", equal_weight(u / 40, 40.0), target, 3e-3)
    c.close("q* at mS = 6.927", np.log(2 - np.exp(-6.927)) / 6.927, 0.1, 1e-5)
    # Part 1 off the critical line, on both sides, and part 2 for factors of at least 1.
    rng = np.random.default_rng(5501)
    right = 0
    for _ in range(40):
        u = 10 ** rng.uniform(-1, 1.3)
        q = np.log(2 - np.exp(-u)) / u * rng.choice([0.9, 1.1])
        early = lead(q, u / 40, 40.0, 3000) > 0
        right += early == (q < np.log(2 - np.exp(-u)) / u)
    c.close("cases in which q* names the heavier half", right, 40, 0.5)
    worst = max(lead(q, m, 60.0, n) for q in (1.0, 1.7) for m in (1e-3, 0.1) for n in (7, 400))
    c.at_most("early minus late damage for q of at least 1", worst, 0.0)
    c.at_least("limit 1 as mS -> 0", equal_weight(0.02 / 40, 40.0), 0.98)
    c.at_most("limit 0 as mS -> infinity", equal_weight(60 / 40, 40.0), 0.012)
    # Part 3 for pairs of trainings, from the descents.
    least, most = np.inf, -np.inf
    for m in (0.004, 0.03, 0.11, 0.3):
        for first, second in ((30.0, 60.0), (10.0, 50.0)):
            ratio = equal_weight(m, first) / equal_weight(m, second)
            least, most = min(least, ratio), max(most, ratio / (second / first))
    c.at_least("q1 / q2 for S1 < S2", least, 1.0)
    c.at_most("q1 / q2 in units of S2 / S1", most, 1.0)


# -------------------------------------------------------------------------- small trainings


def train_small(seed, schedule, *, epochs, radius=0.15, q=0.1, momentum=0.0, marks=(0.5,)):
    """One network on digits, trained and attacked: clean and robust accuracy, in percent."""
    images = data.digits(np.random.default_rng(seed))
    net = networks.mlp((64, 128, 128, 10), generator=torch.Generator().manual_seed(seed))
    ball = attacks.Ball(radius)
    training.fit(
        net,
        images.train_x,
        images.train_y,
        ball,
        schedule,
        epochs=epochs,
        milestones=marks,
        decay=q,
        momentum=momentum,
        seed=seed,
        device="cpu",
        progress=False,
    )
    x, y = torch.as_tensor(images.test_x), torch.as_tensor(images.test_y)
    generator = torch.Generator().manual_seed(seed)
    found = attacks.worst_of(net, x, y, ball, steps=10, restarts=0, generator=generator)
    return 100 * found.clean_accuracy, 100 * found.accuracy


def halves(order, q, seed):
    weak_or_strong = {"L": training.pgd_training(steps=1), "H": training.pgd_training(steps=10)}
    schedule = training.switch(weak_or_strong[order[0]], weak_or_strong[order[1]], at=6)
    return train_small(seed, schedule, epochs=12, q=q)[1]


def stored(name):
    return experiments.load(RESULTS / f"{name}.json")


def test_early_late(claim):
    c = claim("obs-early-late")
    result = stored("early-late")
    gaps = {}
    for lr in (0.1, 0.05):
        for q in (1.0, 0.5, 0.3, 0.1, 0.03):
            where = {"lr": lr, "decay": q, "momentum": 0.0}
            late, early = (
                100 * experiments.column(result, "robust", method=m, **where) for m in ("LH", "HL")
            )
            gaps[lr, q] = late - early
        c.at_least(f"stored, rate {lr}, q = 1: least advantage of LH", gaps[lr, 1.0].min(), 0.0)
        c.at_least(f"stored, rate {lr}, q = 1: mean advantage", gaps[lr, 1.0].mean(), 10.0)
        c.at_most(f"stored, rate {lr}, q = 0.1: largest", gaps[lr, 0.1].max(), 0.0)
        c.at_most(f"stored, rate {lr}, q = 0.1: mean", gaps[lr, 0.1].mean(), -4.0)
        means = [gaps[lr, q].mean() for q in (1.0, 0.5, 0.3, 0.1, 0.03)]
        c.at_most(f"stored, rate {lr}: largest step as q falls", np.diff(means).max(), 0.0)
        c.at_least(f"stored, rate {lr}: mean advantage at q = 0.3", means[2], 0.0)
        for q, sign in ((1.0, 1), (0.1, -1)):
            where = {"lr": lr, "decay": q, "momentum": 0.9}
            late, early = (
                experiments.column(result, "robust", method=m, **where) for m in ("LH", "HL")
            )
            least = (sign * (late - early)).min()
            c.at_least(f"stored, momentum, rate {lr}, q = {q}: least margin of sign", least, 0.0)
    for seed in (5501, 5502):  # recomputed, twelve epochs
        late, early = (halves(order, 1.0, seed) for order in ("LH", "HL"))
        c.at_least(f"seed {seed}, q = 1: advantage of LH", late - early, 0.0)
        late, early = (halves(order, 0.05, seed) for order in ("LH", "HL"))
        c.at_most(f"seed {seed}, q = 0.05: advantage of LH", late - early, 0.0)


# ------------------------------------------------------------------------ short and fragile


def by_method(result, key, method, **where):
    rows = [r for r in result["rows"] if r["method"] == method]
    rows = [r for r in rows if all(r[k] == v for k, v in where.items())]
    return 100 * np.array([r[key] for r in sorted(rows, key=lambda r: r["seed"])])


def test_short_training(claim):
    c = claim("obs-short-training")
    result = stored("lengths")
    for epochs in (6, 12, 24, 60, 120):
        plain = by_method(result, "robust", "pgd-10", epochs=epochs)
        gap = by_method(result, "robust", "dynamic-0.1", epochs=epochs) - plain
        c.close(f"stored, {epochs} epochs: seeds", gap.size, 8, 0.5)
        if epochs == 6:
            c.close("stored, 6 epochs: mean difference", gap.mean(), 0.0, 1.0)
            c.at_most("stored, 6 epochs: least difference", gap.min(), 0.0)
            c.at_least("stored, 6 epochs: largest difference", gap.max(), 0.0)
        else:
            c.at_most(f"stored, {epochs} epochs: mean difference", gap.mean(), 0.0)
            c.at_least(f"stored, {epochs} epochs: mean difference", gap.mean(), -2.0)
            c.at_most(f"stored, {epochs} epochs: seeds with dynamic ahead", (gap > 0).sum(), 1)
    for seed in (5501, 5502):
        options = {"epochs": 6, "momentum": 0.9, "marks": (0.5, 0.85)}
        plain = train_small(seed, training.pgd_training(10), **options)[1]
        gentle = train_small(seed, training.dynamic(0.1, 5, 10), **options)[1]
        c.close(f"seed {seed}, 6 epochs: difference", gentle - plain, 0.0, 3.0)


def test_fragile_training(claim):
    c = claim("obs-fragile-training")
    result = stored("fragile")
    gentle = ("warm-up-short", "dynamic-0.5", "warm-up")  # from the most robust to the least
    plain = by_method(result, "clean", "pgd-10", network="mlp")
    c.close("stored: seeds", plain.size, 5, 0.5)
    c.at_most("stored, mlp: best clean accuracy of PGD-10", plain.max(), 40.0)
    for method in gentle:
        clean = by_method(result, "clean", method, network="mlp")
        c.close(f"stored: seeds, {method}", clean.size, 5, 0.5)
        c.at_least(f"stored, mlp: worst clean accuracy, {method}", clean.min(), 85.0)
    for first, second, lead in zip(gentle, gentle[1:], (2.0, 5.0), strict=False):
        gap = by_method(result, "robust", first, network="mlp")
        gap = gap - by_method(result, "robust", second, network="mlp")
        c.at_least(f"stored, mlp: least lead of {first} over {second}", gap.min(), 0.0)
        c.at_least(f"stored, mlp: mean lead of {first} over {second}", gap.mean(), lead)
    # The two warm-ups are what the text says: over at a sixth, and where the rate first falls.
    for method, epochs in (("warm-up", 30), ("warm-up-short", 10)):
        (row,) = (s for s in result["settings"] if s["name"] == f"mlp he {method}")
        c.close(f"{method}: first fall of the rate", row["milestones"][0], 30, 0.5)
        names = ("name", "method", "radius", "epochs", "network", "size", "lr", "momentum")
        setting = experiments.Setting(**{k: row[k] for k in names})
        grown = [setting.schedule()(epoch).radius_scale for epoch in (epochs - 2, epochs - 1)]
        c.at_most(f"{method}: part of the radius one epoch before its end", grown[0], 0.99)
        c.close(f"{method}: part of the radius at its end", grown[1], 1.0, 1e-12)
    for init in ("torch", "he"):
        where = {"network": "cnn", "init": init}
        strong = by_method(result, "robust", "pgd-10", **where)
        least = by_method(result, "clean", "pgd-10", **where).min()
        for method in ("dynamic-0.5", "switch", "warm-up"):
            gap = strong - by_method(result, "robust", method, **where)
            least = min(least, by_method(result, "clean", method, **where).min())
            c.at_least(f"stored, cnn {init}: least lead of PGD-10 over {method}", gap.min(), 0.0)
            c.close(f"stored, cnn {init}: mean lead over {method}", gap.mean(), 5.5, 2.5)
        c.at_least(f"stored, cnn {init}: least clean accuracy", least, 95.0)
    options = {"epochs": 30, "radius": 0.3, "momentum": 0.9, "marks": (0.5, 0.85)}
    strong = training.pgd_training(10)
    schedules = {"long": training.warm_up(strong, 15), "short": training.warm_up(strong, 5)}
    schedules |= {"PGD-10": strong, "dynamic": training.dynamic(0.5, 25, 10)}
    found = {name: train_small(5501, plan, **options) for name, plan in schedules.items()}
    c.at_most("seed 5501: clean accuracy of PGD-10", found["PGD-10"][0], 60.0)
    for name in ("long", "short", "dynamic"):
        c.at_least(f"seed 5501: clean accuracy, {name}", found[name][0], 75.0)
    robust = {name: accuracy for name, (_, accuracy) in found.items()}
    c.at_least("seed 5501: short over long warm-up", robust["short"] - robust["long"], 0.0)
    c.close("seed 5501: short over dynamic", robust["short"] - robust["dynamic"], 0.0, 5.0)


# --------------------------------------------------------------------------------- one step


def test_catastrophic_overfitting(claim):
    c = claim("obs-catastrophic-overfitting")
    result = stored("overfitting")
    late = {
        (setting, key): experiments.column(result, f"{key}_by_epoch", setting=setting)[:, -10:]
        for setting in ("fgsm", "pgd-3")
        for key in ("fgsm", "pgd", "flips", "fosc", "masked")
    }
    alive = late["fgsm", "masked"].max(axis=1) == 0
    mean = {k: v[alive if k[0] == "fgsm" else slice(None)].mean(axis=1) for k, v in late.items()}
    c.close("stored: FGSM networks that live", alive.sum(), 4, 0.5)
    c.at_least("stored, FGSM: least accuracy against FGSM", mean["fgsm", "fgsm"].min(), 0.75)
    c.at_most("stored, FGSM: largest accuracy against PGD", mean["fgsm", "pgd"].max(), 0.05)
    c.at_least("stored, FGSM: least flip mass", mean["fgsm", "flips"].min(), 0.45)
    c.at_least("stored, FGSM: least mean FOSC", mean["fgsm", "fosc"].min(), 2.0)
    c.close("stored, PGD-3: seeds", len(mean["pgd-3", "pgd"]), 5, 0.5)
    c.at_least("stored, PGD-3: least accuracy against PGD", mean["pgd-3", "pgd"].min(), 0.15)
    c.at_most("stored, PGD-3: largest flip mass", mean["pgd-3", "flips"].max(), 0.2)
    c.at_most("stored, PGD-3: largest mean FOSC", mean["pgd-3", "fosc"].max(), 1.3)
    fading = experiments.column(result, "pgd_by_epoch", setting="fgsm")[~alive][0, 30:35]
    c.close("stored, dying network: accuracy against PGD before", fading.max(), 0.0, 1e-9)
    dead = {key: v[~alive][0, -6:] for (s, key), v in late.items() if s == "fgsm"}
    c.close("stored, dead network: share without gradient", dead["masked"].min(), 1.0, 1e-9)
    c.close("stored, dead network: FOSC", dead["fosc"].max(), 0.0, 1e-12)
    c.at_most("stored, dead network: accuracy", dead["pgd"].max(), 0.15)

    images = data.digits(np.random.default_rng(5501), size=16)
    x, y = (torch.as_tensor(part[:200]) for part in (images.test_x, images.test_y))
    net = networks.cnn(1, 16, 10, generator=torch.Generator().manual_seed(5501))
    ball = attacks.Ball(0.2)
    training.fit(
        net,
        images.train_x,
        images.train_y,
        ball,
        training.fgsm_training(),
        epochs=30,
        lr=0.05,
        momentum=0.9,
        milestones=(),
        seed=5501,
        device="cpu",
        progress=False,
    )
    lo, hi = (x - 0.2).clamp(0, 1), (x + 0.2).clamp(0, 1)  # attacks by hand, not the library's

    def ascend(steps, size):
        z = x.clone()
        for _ in range(steps):
            z.requires_grad_()
            loss = torch.nn.functional.cross_entropy(net(z), y, reduction="sum")
            g = torch.autograd.grad(loss, z)[0]
            z = torch.clamp(z.detach() + size * g.sign(), lo, hi)
        return z

    def accuracy(z):
        return (net(z).argmax(1) == y).double().mean().item()

    one = ascend(1, 0.2)
    c.at_least(
        "seed 5501: FGSM minus PGD accuracy", accuracy(one) - accuracy(ascend(20, 0.05)), 0.4
    )
    share = attacks.fosc(net, one, y, x, ball, normalized=True).mean().item()
    c.at_least("seed 5501: normalized FOSC at the FGSM points", share, 0.3)
    with torch.no_grad():
        net[-1].weight.zero_()
    c.close("dead network: largest FOSC", attacks.fosc(net, one, y, x, ball).max().item(), 0, 1e-12)
    c.at_most("dead network: accuracy", accuracy(x), 0.2)
