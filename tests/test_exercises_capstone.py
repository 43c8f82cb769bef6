"""Checks of the capstone: right answers in several forms, each named mistake, mutants, oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit, logit

from medlab import metrics, simulate
from medlab.dicom import Volume
from medlab.exercises import capstone, check, material
from medlab.exercises.capstone import MESSAGES
from medlab.simulate import screening
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------------ right answers


def order_in_tensors(slices):
    by = sorted(slices, key=lambda s: s["position"])
    gaps = np.diff([s["position"] for s in by])
    if np.abs(gaps[:, None] - gaps).max() > 0.1:
        raise ValueError("a slice is missing")
    hu = [torch.tensor(s["stored"]).double() * s["slope"] + s["intercept"] for s in by]
    return torch.stack(hu), torch.tensor(gaps[0])


def keep_in_loops(labels, voxel_ml):
    mask = np.zeros(labels.shape, int)
    for part in np.unique(labels[labels > 0]):
        here = np.argwhere(labels == part)
        inner = all(here[:, k].min() > 0 and here[:, k].max() < labels.shape[k] - 1 for k in (1, 2))
        if inner and len(here) * voxel_ml > 199.999:
            mask[labels == part] = 1
    return mask


def merge_in_arrays(places, scores, apart):
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        kept.append(left[0])
        left = left[1:][np.linalg.norm(places[left[1:]] - places[left[0]], axis=1) >= apart]
    return np.array(kept, int)


def shift_by_root(odds, weights, share):
    return brentq(lambda b: np.average(expit(odds + b), weights=weights) - share, -20, 20)


RIGHT = {
    "capstone.1": [capstone.order, order_in_tensors],
    "capstone.2": [capstone.keep, keep_in_loops],
    "capstone.3": [capstone.merge, merge_in_arrays],
    "capstone.4": [capstone.brock, lambda *a: torch.tensor(capstone.brock(*a))],
    "capstone.5": [capstone.shift, shift_by_root],
    "capstone.6": [capstone.expected_auc, lambda p, q: torch.tensor(capstone.expected_auc(p, q))],
    "capstone.7": [capstone.category],
    "capstone.8": [capstone.workload, lambda *a: np.array(capstone.workload(*a)).tolist()],
    "capstone.9": [capstone.benefit, lambda *a: capstone.benefit(*a).tolist()],
}


@pytest.mark.parametrize("id", MESSAGES)
def test_right_answers_are_right(id, capsys):
    for answer in RIGHT[id]:
        is_told(id, answer, "✓", capsys)
    if id not in ("capstone.1", "capstone.7"):
        is_told(id, hasty(RIGHT[id][0]), "✓", capsys)
    is_told_what_is_no_answer(id, capsys)


# ------------------------------------------------------------------------------ wrong answers


def stacked(rows, gap=2.5, value=lambda s: s["slope"] * s["stored"].astype(float) + s["intercept"]):
    return np.stack([value(s) for s in rows]), gap


def ascending(slices):
    return sorted(slices, key=lambda s: s["position"])


def refusing(rule):
    def answer(slices):
        gaps = np.diff([s["position"] for s in ascending(slices)])
        if rule(gaps):
            raise ValueError
        return stacked(ascending(slices), gaps.mean())

    return answer


def rescaled(value):
    return lambda slices: stacked(ascending(slices), value=value)


def lungs(rule):
    """A mask of the parts for which rule(number, voxels, sides) holds; sides: how many touched."""

    def answer(labels, voxel_ml):
        sides = [labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
        ends = np.union1d(labels[0], labels[-1])
        found = [
            k
            for k in range(labels.max() + 1)
            if rule(k, (labels == k).sum() * voxel_ml, [k in side for side in sides], k in ends)
        ]
        return np.isin(labels, found)

    return answer


def first_dropped(labels, voxel_ml):
    found = capstone.keep(labels, voxel_ml)
    return found & ~np.isin(labels, labels[0])


def only_the_largest(labels, voxel_ml):
    found = capstone.keep(labels, voxel_ml)
    return found & (labels == np.bincount(labels[found], minlength=1).argmax())


def marks(nearer=lambda d, apart: np.linalg.norm(d) < apart, by=lambda s: np.argsort(-s)):
    def answer(places, scores, apart):
        kept = []
        for i in by(scores):
            if not any(nearer(places[i] - places[k], apart) for k in kept):
                kept.append(int(i))
        return kept

    return answer


def removed_remove(places, scores, apart):
    order = np.argsort(-scores)
    return [
        int(i)
        for n, i in enumerate(order)
        if all(np.linalg.norm(places[i] - places[k]) >= apart for k in order[:n])
    ]


def risks(size=lambda d: (d / 10) ** -0.5 - 1.58113883, end=expit, change=None, **less):
    def answer(d, kind, spiculated, upper, facts):
        given = {"kind": kind, "spiculated": spiculated, "upper": upper} | less.get("rows", {})
        told = facts | less.get("facts", {})
        x = capstone._log_odds(d, given["kind"], given["spiculated"], given["upper"], told, size)
        return end(x + (change(facts, kind) if change else 0))

    return answer


def moved(rule):
    def answer(odds, weights, share):
        return rule(odds, weights, share, shift_by_root(odds, weights, share))

    return answer


def auc(weight=lambda q: q[:, None] * (1 - q), self=False, tie=0.5, turn=False, divide=True):
    def answer(p, q):
        pairs = weight(q) * (np.ones((len(q),) * 2) if self else 1 - np.eye(len(q)))
        more = (p[:, None] < p) if turn else (p[:, None] > p)
        won = (pairs * (more + tie * (p[:, None] == p))).sum()
        return won / pairs.sum() if divide else won

    return answer


def classes(limits=(6, 8, 15), haze=30, solid=(6, 8), side="right", pick=None, part=None):
    def one(kind, d, s):
        if kind == 2:
            return "3" if (d >= haze if side == "right" else d > haze) else "2"
        if kind == 1:
            if part:
                return part(d, s)
            return "2" if d < 6 else ("3", "4A", "4B")[np.searchsorted(solid, s, side)]
        return ("2", "3", "4A", "4B")[np.searchsorted(limits, d, side)]

    def answer(nodules):
        if not nodules:
            return "1"
        return pick(nodules, one) if pick else max(one(*n) for n in nodules)

    return answer


def triples(recalls=1000, caught=None, fixed=False, ends=(2.5, 97.5), mean=False):
    def answer(call, q, draws):
        drawn = [recalls * draws @ call / draws.sum(1), draws @ (call * q) / (draws @ q)]
        values = [recalls * call.mean(), (call * q).sum() / q.sum()]
        if fixed:
            drawn = [recalls * draws @ call / len(q), draws @ (call * q) / q.sum()]
        if mean:
            values = [d.mean() for d in drawn]
        if caught:
            values[1] = caught(call, q)
        return [(v, *np.percentile(d, ends)) for v, d in zip(values, drawn, strict=True)]

    return answer


def net(rule):
    def answer(risk, q, t):
        return np.array([rule(risk, q, u, risk >= u) for u in t])

    return answer


def price(t):
    return t / (1 - t)


CASES = [
    ("capstone.1", lambda s: np.zeros((5, 3, 4)), "return two things"),
    ("capstone.1", lambda s: (np.zeros((3, 4, 5)), 2.5), "expected a volume of shape"),
    ("capstone.1", lambda s: stacked(s), "order of the files"),
    ("capstone.1", lambda s: stacked(s[::-1]), "order of the files"),
    ("capstone.1", lambda s: stacked(sorted(s, key=lambda r: r["number"])), "sorted by number"),
    ("capstone.1", lambda s: stacked(ascending(s)[::-1]), "nearest to the head"),
    ("capstone.1", rescaled(lambda r: r["stored"].astype(float)), "these are stored values"),
    ("capstone.1", rescaled(lambda r: r["stored"].astype(float) + r["intercept"]), "forgot the s"),
    ("capstone.1", rescaled(lambda r: r["slope"] * r["stored"].astype(float)), "forgot the inter"),
    (
        "capstone.1",
        lambda s: stacked(ascending(s), value=lambda r: r["stored"] * 2.0 + -1016.0),
        "one slice's slope",
    ),
    (
        "capstone.1",
        rescaled(lambda r: np.int16(r["slope"]) * r["stored"] + np.int16(r["intercept"])),
        "ran over",
    ),
    ("capstone.1", lambda s: stacked(ascending(s), 3.2), "thickness that the files name"),
    ("capstone.1", lambda s: stacked(ascending(s), -2.5), "a distance is positive"),
    ("capstone.1", lambda s: stacked(ascending(s), 2.0), "the distance of neighbouring"),
    ("capstone.1", lambda s: stacked(ascending(s)), "a slice was missing"),
    ("capstone.1", refusing(lambda gaps: np.ptp(gaps) > 1), "a slice was missing"),
    ("capstone.1", refusing(lambda gaps: np.ptp(gaps) > 0.01), "are all right"),
    ("capstone.1", refusing(lambda gaps: abs(gaps[0] - gaps[1]) > 0.1), "a slice was missing"),
    ("capstone.1", refusing(lambda gaps: gaps.std() > 0.1), "the largest distance with the"),
    ("capstone.1", refusing(lambda gaps: np.abs(gaps - gaps.mean()).max() > 0.1), "was missing"),
    ("capstone.1", refusing(lambda gaps: np.abs(np.diff(gaps)).max() > 0.1), "a slice was missing"),
    ("capstone.1", refusing(lambda gaps: gaps.max() > 1.04 * gaps.min()), "a slice was missing"),
    (
        "capstone.1",
        refusing(lambda gaps: np.abs(gaps - gaps[0]).max() > 0.1),
        "a slice was missing",
    ),
    ("capstone.1", rescaled(lambda r: r["stored"] * 3.0), "differs from what I expected"),
    ("capstone.2", lambda labels, ml: np.ones(3), "return a Boolean mask"),
    ("capstone.2", lungs(lambda k, ml, s, e: k == 0 or not any(s)), "label 0 is what is no air"),
    ("capstone.2", lungs(lambda k, ml, s, e: k and ml >= 200), "air around the patient"),
    ("capstone.2", lungs(lambda k, ml, s, e: k and ml >= 200 and not all(s)), "only one of the"),
    ("capstone.2", lungs(lambda k, ml, s, e: k and ml >= 200 and not any(s[1:])), "only one"),
    ("capstone.2", lungs(lambda k, ml, s, e: k and not any(s)), "pockets of less"),
    ("capstone.2", lungs(lambda k, ml, s, e: k and ml >= 200 and not any(s) and not e), "dropped"),
    ("capstone.2", lungs(lambda k, ml, s, e: k and ml > 200 and not any(s)), "just 200 ml"),
    ("capstone.2", lambda labels, ml: capstone.keep(labels, 1.0), "a number of voxels with 200"),
    ("capstone.2", first_dropped, "dropped what touches the first"),
    ("capstone.2", lambda labels, ml: capstone.keep(labels, ml / 1000), "your mask is empty"),
    ("capstone.2", only_the_largest, "the largest part"),
    ("capstone.2", lambda labels, ml: labels * capstone.keep(labels, ml), "these are labels"),
    ("capstone.2", lambda labels, ml: np.roll(capstone.keep(labels, ml), 1, 1), "voxels, and I"),
    ("capstone.3", lambda *a: "abc", "return the positions"),
    ("capstone.3", lambda p, s, a: np.isin(np.arange(len(s)), capstone.merge(p, s, a)), "I exp"),
    ("capstone.3", marks(by=np.argsort), "the lowest score chose first"),
    ("capstone.3", marks(by=lambda s: range(len(s))), "in the order in which they stand"),
    ("capstone.3", removed_remove, "had been removed removed another"),
    ("capstone.3", marks(lambda d, a: np.linalg.norm(d) <= a), "that are just"),
    ("capstone.3", marks(lambda d, a: False), "you removed nothing"),
    ("capstone.3", marks(lambda d, a: (d**2).sum() < a), "a squared distance"),
    ("capstone.3", marks(lambda d, a: np.hypot(d[0], d[1]) < a), "within the slice only"),
    ("capstone.3", marks(lambda d, a: np.abs(d).max() < a), "coordinate by coordinate"),
    ("capstone.3", marks(lambda d, a: np.abs(d).sum() < a), "coordinate by coordinate"),
    ("capstone.3", lambda *a: sorted(capstone.merge(*a)), "in another order"),
    ("capstone.3", lambda p, s, a: capstone.merge(p, s, a) or [0], "of no candidates"),
    ("capstone.3", lambda p, s, a: capstone.merge(p, s, a)[-1:], "I expected ["),
    ("capstone.4", lambda *a: 0.5, "probabilities, one a nodule"),
    ("capstone.4", risks(end=lambda x: x), "these are log-odds"),
    ("capstone.4", risks(end=np.exp), "these are odds"),
    ("capstone.4", risks(lambda d: np.sqrt(10 / (d - 4)) - 1.58113883), "the 4 mm twice"),
    ("capstone.4", risks(lambda d: d**-0.5 - 1.58113883), "d is in mm"),
    ("capstone.4", risks(lambda d: d / 10 - 0.4), "not as d itself"),
    ("capstone.4", risks(lambda d: (d / 10) ** 0.5 - 1.58113883), "the exponent is"),
    ("capstone.4", risks(lambda d: (d / 10) ** 0.5 - 0.4**0.5), "the exponent is"),
    ("capstone.4", risks(change=lambda f, k: 62 * 0.0287), "age counts from 62"),
    ("capstone.4", risks(change=lambda f, k: -4 * 0.0824), "counts from 4"),
    ("capstone.4", risks(rows={"kind": np.array([0, 2, 1, 0, 2])}), "kind 1 is part-solid"),
    ("capstone.4", risks(rows={"kind": np.array([0, 0, 1, 0, 0])}), "kind 1 is part-solid"),
    ("capstone.4", risks(rows={"kind": np.array([0, 1, 1, 0, 1])}), "kind 1 is part-solid"),
    ("capstone.4", risks(rows={"kind": 0}), "the kind is missing"),
    ("capstone.4", risks(rows={"upper": 0}), "upper lobe or spiculation"),
    ("capstone.4", risks(rows={"spiculated": 0}), "upper lobe or spiculation"),
    ("capstone.4", risks(facts={"family": 0.0}), "the patient's own terms"),
    ("capstone.4", risks(facts={"emphysema": 0.0}), "the patient's own terms"),
    ("capstone.4", risks(change=lambda f, k: 0.3 * (k == 2)), "for nodule 2, counted"),
    ("capstone.5", moved(lambda o, w, s, b: shift_by_root(o, w * 0 + 1, s)), "forgot the weights"),
    (
        "capstone.5",
        moved(lambda o, w, s, b: logit(s) - logit(np.average(expit(o), weights=w))),
        "log-odds of means",
    ),
    ("capstone.5", moved(lambda o, w, s, b: logit(s) - logit(expit(o).mean())), "of means"),
    ("capstone.5", moved(lambda o, w, s, b: logit(s) - np.average(o, weights=w)), "you moved"),
    ("capstone.5", moved(lambda o, w, s, b: logit(s) - o.mean()), "you moved the mean"),
    ("capstone.5", moved(lambda o, w, s, b: -b), "the wrong sign"),
    ("capstone.5", moved(lambda o, w, s, b: s - np.average(expit(o), weights=w)), "to the prob"),
    (
        "capstone.5",
        lambda o, w, s: brentq(lambda b: (w * expit(o + b)).mean() - s, -30, 30),
        "by the sum of the weights",
    ),
    ("capstone.5", moved(lambda o, w, s, b: b + 0.03), "halve your interval"),
    ("capstone.5", moved(lambda o, w, s, b: b + 3), "the weighted mean is"),
    ("capstone.6", auc(self=True), "with themselves"),
    ("capstone.6", auc(tie=0), "a tie is half"),
    ("capstone.6", auc(tie=1), "a tie is half"),
    ("capstone.6", auc(turn=True), "the other way round"),
    ("capstone.6", auc(weight=lambda q: np.ones((len(q),) * 2)), "whichever of the two"),
    ("capstone.6", auc(weight=lambda q: q[:, None] * q), "whichever of the two"),
    ("capstone.6", auc(weight=lambda q: np.triu(q[:, None] * (1 - q))), "each pair once"),
    ("capstone.6", auc(divide=False), "divide what is won"),
    ("capstone.6", auc(weight=lambda q: (q > 0.5)[:, None] & ~(q > 0.5)), "They are weights"),
    ("capstone.6", lambda p, q: 0.123, "I expected 0."),
    ("capstone.7", lambda nodules: "5", "I expected one of"),
    ("capstone.7", lambda nodules: "2", "without a nodule"),
    ("capstone.7", classes(limits=(6.01, 8, 15)), "a solid nodule of 6 mm"),
    ("capstone.7", classes(side="left"), "a solid nodule of 6 mm"),
    ("capstone.7", classes(haze=20), "ground glass has one limit"),
    ("capstone.7", classes(haze=30.01), "ground glass has one limit"),
    ("capstone.7", classes(solid=(6.01, 8)), "judged by its solid part"),
    (
        "capstone.7",
        classes(part=lambda d, s: "2" if d < 6 else "3" if s < 6 else "4B"),
        "judged by its solid part",
    ),
    ("capstone.7", classes(part=lambda d, s: "3"), "below 6 mm in all is 2"),
    ("capstone.7", classes(pick=lambda n, one: one(*n[-1])), "stood last decided"),
    ("capstone.7", classes(pick=lambda n, one: one(*n[0])), "stood first decided"),
    ("capstone.7", classes(pick=lambda n, one: min(one(*row) for row in n)), "the least suspic"),
    (
        "capstone.7",
        classes(pick=lambda n, one: one(*max(n, key=lambda row: row[1]))),
        "largest nodule decided",
    ),
    ("capstone.7", classes(limits=(6, 8, 14)), "I expected 4A, and got 4B"),
    ("capstone.8", lambda *a: 3.0, "return two triples"),
    ("capstone.8", lambda *a: (1.0, 2.0), "return two triples"),
    ("capstone.8", triples(recalls=1), "recalls are per 1,000"),
    ("capstone.8", triples(caught=lambda c, q: (c * q).sum() / c.sum()), "divided by all expected"),
    ("capstone.8", triples(caught=lambda c, q: (c * q).mean()), "divided by all expected"),
    ("capstone.8", triples(caught=lambda c, q: c.mean()), "share of the people who are called"),
    ("capstone.8", triples(caught=lambda c, q: c[q > 0].mean()), "counted the people with a"),
    ("capstone.8", triples(fixed=True), "those of the whole cohort"),
    ("capstone.8", lambda *a: triples()(*a)[::-1], "the recalls come first"),
    ("capstone.8", triples(ends=(5, 95)), "the ends are not"),
    ("capstone.8", triples(mean=True), "not the mean over the draws"),
    ("capstone.8", lambda *a: 7 + np.array(triples()(*a)), "of the recalls I expected"),
    ("capstone.9", lambda *a: np.zeros(2), "values, one a threshold"),
    (
        "capstone.9",
        lambda r, q, t: np.array([((r > u) * (q - (1 - q) * price(u))).mean() for u in t]),
        "who has just that risk",
    ),
    ("capstone.9", net(lambda r, q, t, c: (c * (q - (1 - q) * t)).mean()), "a false recall costs"),
    ("capstone.9", net(lambda r, q, t, c: (c * (q - (1 - q) / price(t))).mean()), "its inverse"),
    ("capstone.9", net(lambda r, q, t, c: (c * q).mean()), "forgot the price"),
    (
        "capstone.9",
        net(lambda r, q, t, c: (c * (q - (1 - q) * price(t))).sum() / c.sum()),
        "not by those called",
    ),
    ("capstone.9", net(lambda r, q, t, c: (c * (q - (1 - q) * price(t))).sum()), "by the number"),
    (
        "capstone.9",
        net(lambda r, q, t, c: (c * (q - (1 - q) * price(r))).mean()),
        "each one's risk",
    ),
    ("capstone.9", lambda r, q, t: 0 * t, "at t = "),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_wrong_answers_are_told_their_name(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


def test_every_message_is_heard(capsys):
    right = [(id, answers[0]) for id, answers in RIGHT.items()]
    assert unheard(MESSAGES, [*CASES, *right], capsys) == []


# ----------------------------------------------------------------------------------- the oracles


def test_brock_is_the_simulators():
    rng = np.random.default_rng(0)
    d, kind, spiculated, upper = rng.uniform(3, 30, 50), *rng.integers(0, [[3], [2], [2]], (3, 50))
    facts = {"age": 58.0, "female": 1.0, "family": 0.0, "emphysema": 1.0, "count": 2.0}
    want = screening.brock(d, kind, spiculated=spiculated, upper=upper, **facts)
    assert capstone.brock(d, kind, spiculated, upper, facts) == pytest.approx(want, rel=1e-6)


def test_shift_is_the_root():
    for odds, weights, share in capstone._odds():
        want = shift_by_root(odds, weights, share)
        assert capstone.shift(odds, weights, share) == pytest.approx(want, abs=1e-9)


def test_expected_auc_is_the_auc_where_outcomes_are_known():
    rng = np.random.default_rng(1)
    p, y = rng.integers(0, 9, 60) / 9, rng.random(60) < 0.4
    assert capstone.expected_auc(p, y.astype(float)) == pytest.approx(metrics.auc(y, p))


def test_benefit_is_the_net_benefit_where_outcomes_are_known():
    rng = np.random.default_rng(2)
    p, y, t = rng.integers(0, 9, 60) / 9, rng.random(60) < 0.4, np.array([0.05, 1 / 9, 0.4])
    want = [np.mean((p >= at) * np.where(y, 1, -at / (1 - at))) for at in t]
    assert capstone.benefit(p, y.astype(float), t) == pytest.approx(want)


def test_samples_in_millimetres():
    """A volume that is a linear function of the place, sampled between its voxels."""
    spacing, origin = (3.0, 2.0, 1.5), (-10.0, 5.0, 40.0)
    z, y, x = (
        first + step * torch.arange(n)
        for first, step, n in zip(origin[::-1], spacing, (20, 24, 30), strict=True)
    )
    hu = 3 * x - 2 * y[:, None] + z[:, None, None]
    volume = Volume(voxels=hu.float(), spacing=spacing, origin=origin)
    places = np.array([[12.3, 30.1, 61.7], [4.0, 25.0, 70.0]])
    build = material("capstone")
    offsets = build.CUBE[6:10, 6:10, 6:10]
    want = (torch.tensor(places)[:, None, None, None] + offsets) @ torch.tensor(
        [3.0, -2, 1]
    ).double()
    got = build.sample(volume, places, offsets)
    assert torch.allclose(got.double(), want, atol=1e-3)
    assert build.PLANES.shape == (3, 16, 16, 3)
    axial, coronal, sagittal = build.PLANES
    assert not axial[..., 2].any() and not coronal[..., 1].any() and not sagittal[..., 0].any()
    assert (axial[0, :, 0].diff() == 2).all() and (coronal[:, 0, 2].diff() == 2).all()


def test_froc_by_hand():
    import pandas as pd

    nodules = pd.DataFrame({"patient": [1, 1, 2, 9], "diameter": [7.0, 4.0, 9.0, 9.0]})
    rows = [(1, 0.9, 0), (1, 0.8, -1), (1, 0.95, 1), (2, 0.3, 2), (2, 0.5, -1), (9, 0.99, -1)]
    marks = pd.DataFrame(rows, columns=["patient", "score", "nodule"])
    curve = capstone.froc(nodules, marks, (1, 2, 3))
    assert curve.at([0, 1 / 3, 2 / 3]).tolist() == pytest.approx([0.5, 0.5, 1.0])


def test_a_gain_is_judged_on_the_same_patients():
    """Two patients of six gain a nodule each, of eight; at one false alarm a scan of six."""
    import pandas as pd

    nodules = pd.DataFrame({"patient": [1, 1, 2, 3, 4, 5, 5, 6, 6], "diameter": [9.0] * 8 + [5]})
    marks = pd.DataFrame({"patient": [*nodules.patient[:8], 6], "nodule": [*range(8), 8]})
    old = np.array([9.0, 8, 7, 6, 1, 1, 1, 1, 9])
    new = np.where(np.isin(marks.nodule, [4, 5]), 5.0, old)
    noise = pd.DataFrame({"patient": 6, "nodule": -1, "k": range(9)})
    marks = pd.concat([marks, noise], ignore_index=True)  # the seventh false alarm is above 1
    score = [np.append(one, [5.9, 5.8, 5.7, 5.6, 5.5, 5.4, 5.3, 2, 1.5]) for one in (new, old)]
    gain, low, high = capstone.gained(nodules, marks, *score, range(1, 7))
    assert gain == pytest.approx(0)  # both thresholds lie above 5
    score = [np.append(one, [4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 3, 2, 1.5]) for one in (new, old)]
    gain, low, high = capstone.gained(nodules, marks, *score, range(1, 7))
    assert gain == pytest.approx(2 / 8)
    draws = np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), 20000)
    drawn = draws @ [0, 0, 0, 1, 1, 0] / (draws @ [2, 1, 1, 1, 2, 1])
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.04)


def test_a_candidate_hits_the_nodule_it_lies_in():
    import pandas as pd

    centres = [np.zeros(3), np.array([0.0, 0, 30])]
    nodules = pd.DataFrame({"centre": centres, "diameter": [4.0, 20.0]}, index=[7, 3])
    places = np.array([[3, 4, 0], [3.1, 4, 0], [0, 0, 20.1], [0, 0, 19.9], [0, 9, 30], [99, 0, 0]])
    assert capstone.hits(places, nodules).tolist() == [7, -1, 3, -1, 3, -1]
    assert capstone.hits(places, nodules[:0]).tolist() == [-1] * 6


def test_a_header_tells_age_and_sex():
    told = capstone.facts({"PatientAge": "077Y", "PatientSex": "F"})
    assert told == {"age": 77, "female": 1, "family": 0, "emphysema": 0, "count": 0}
    assert capstone.facts({"PatientAge": None, "PatientSex": "M"})["age"] == 62
    assert capstone.facts({"PatientAge": "011M"})["female"] == 0


def test_the_registry_of_the_notebook_is_that_of_the_simulator():
    cases = (104, 107, 109, 112, 132, 150, 152, 153, 164, 171, 187, 194, 195, 223)
    ill = [
        k
        for k in (*range(100, 160), *cases)
        if any(n.malignant for n in screening._participant(0, k).nodules)
    ]
    assert set(ill) == set(cases)
    assert simulate.screening_study.__defaults__ == (0,)


# What a refusal says is free; a corner of a slice lies on two of its sides; a distance has two
# ends; candidates without ties come in one order only; no shift lies near 20; all weights may be
# negative; names are exchanged throughout; and a text of one letter extends as it is appended.
EQUIVALENT = [
    "capstone.1: if gaps.max() - gaps.min() > 0.1: → if gaps.max() - gaps.min() >= 0.1:",
    "capstone.1: raise ValueError(f'distances from {gaps.min():.2f} to {gaps.max():.2f} mm') → raise ValueError()",
    "capstone.1: raise ValueError(f'distances from {gaps.min():.2f} to {gaps.max():.2f} mm') → raise ValueError(f'distances from {gaps.max():.2f} to {gaps.max():.2f} mm')",
    "capstone.1: raise ValueError(f'distances from {gaps.min():.2f} to {gaps.max():.2f} mm') → raise ValueError(f'distances from {gaps.min():.2f} to {gaps.min():.2f} mm')",
    "capstone.2: sides = set(labels[:, 0].ravel()) | set(labels[:, -1].ravel()) → sides = set(labels[:, -1].ravel()) | set(labels[:, 0].ravel())",
    "capstone.2: sides |= set(labels[:, :, 0].ravel()) | set(labels[:, :, -1].ravel()) → sides |= set(labels[:, 1:, 0].ravel()) | set(labels[:, :, -1].ravel())",
    "capstone.2: sides |= set(labels[:, :, 0].ravel()) | set(labels[:, :, -1].ravel()) → sides |= set(labels[:, :, -1].ravel()) | set(labels[:, :, 0].ravel())",
    "capstone.2: sides |= set(labels[:, :, 0].ravel()) | set(labels[:, :, -1].ravel()) → sides |= set(labels[:, :, 0].ravel()) | set(labels[:, 1:, -1].ravel())",
    "capstone.2: sides |= set(labels[:, :, 0].ravel()) | set(labels[:, :, -1].ravel()) → sides |= set(labels[:, :, 0].ravel()) | set(labels[:, :-1, -1].ravel())",
    "capstone.2: sides |= set(labels[:, :, 0].ravel()) | set(labels[:, :, -1].ravel()) → sides |= set(labels[:, :-1, 0].ravel()) | set(labels[:, :, -1].ravel())",
    "capstone.3: for i in np.argsort(-scores, kind='stable').tolist(): → for i in np.argsort(-scores).tolist():",
    "capstone.3: if np.linalg.norm(places[i] - places[k]) < apart: → if np.linalg.norm(places[k] - places[i]) < apart:",
    "capstone.5: if np.average(p, weights=weights) < share: → if np.average(p, weights=weights) <= share:",
    "capstone.5: low, high = (-20.0, 20.0) → low, high = (-19.0, 20.0)",
    "capstone.5: low, high = (-20.0, 20.0) → low, high = (-20.0, 19.0)",
    "capstone.5: low, high = (-20.0, 20.0) → low, high = (-20.0, 21.0)",
    "capstone.5: low, high = (-20.0, 20.0) → low, high = (-21.0, 20.0)",
    "capstone.5: while high - low > 1e-06: → while high - low >= 1e-06:",
    "capstone.6: weight = q[i] * (1 - q[k]) → weight = q[i] * (q[k] - 1)",
    "capstone.6: won, total = (0.0, 0.0) → total, won = (0.0, 0.0)",
    "capstone.7: found.append('2') → found.extend('2')",
    "capstone.7: found.append('3' if diameter >= 30 else '2') → found.extend('3' if diameter >= 30 else '2')",
    "capstone.8: recalls, caught = ([], []) → caught, recalls = ([], [])",
]


def test_no_changed_solution_is_called_right():
    assert ticked("33_capstone_lung_screening", "capstone") == EQUIVALENT


def test_material_is_what_the_checks_call_right(capsys):
    names = "order keep merge brock shift expected_auc category workload benefit".split()
    for k, name in enumerate(names, 1):
        check(f"capstone.{k}", getattr(material("capstone"), name))
    assert capsys.readouterr().out.count("✓") == 9
