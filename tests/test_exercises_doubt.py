"""The checks of doubt, fed with right, untouched and typically wrong answers; MAPIE as oracle."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import mahalanobis as scipy_distance
from torch import nn

from medlab.exercises import check, doubt
from medlab.exercises.doubt import MESSAGES
from medlab.models import SmallCNN
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: the quantile


def rank(scores, alpha, how=""):
    n = len(scores)
    k = math.ceil((n + 1) * (1 - alpha))
    k = {
        "no plus one": math.ceil(n * (1 - alpha)),
        "down": math.floor((n + 1) * (1 - alpha)),
        "nearest": round((n + 1) * (1 - alpha)),
        "low": math.ceil((n + 1) * alpha),
        "next": k + 1,
        "before": k - 1,
    }.get(how, k)
    if how == "never few" and n > 20:
        return np.inf
    if k > n:
        return max(scores) if how in ("few", "next") else np.inf
    ordered = scores if how == "unsorted" else np.sort(scores)
    if how == "largest":
        ordered = ordered[::-1]
    if how == "unique":
        ordered = np.unique(scores)
        k = min(math.ceil((len(ordered) + 1) * (1 - alpha)), len(ordered))
    if how == "other":
        return ordered[k - 1] + 0.003 * (n + 1)
    return ordered[k - 1]


def rank_by_partition(scores, alpha):
    n = len(scores)
    k = n + 1 - math.floor((n + 1) * alpha + 1e-9)
    return torch.tensor(np.partition(scores, k - 1)[k - 1] if k <= n else math.inf)


def rank_with_numpy(method):
    def found(scores, alpha):
        n = len(scores)
        k = math.ceil((n + 1) * (1 - alpha))
        return np.quantile(scores, k / n, method=method) if k <= n else np.inf

    return found


def rank_in_place(scores, alpha):
    found = rank(scores, alpha)
    scores.sort()
    return found


# ------------------------------------------------------------------------ 2 and 3: sets


def with_fault(how, by_class):
    return lambda p_cal, y_cal, p, alpha: doubt._own(p_cal, y_cal, p, alpha, by_class, how)


def sets_of(by_class, kind=np.array):
    def found(p_cal, y_cal, p, alpha):
        rows = []
        for one in p.tolist():
            row = []
            for label, score in enumerate((one, 1 - one)):
                scores = [
                    1 - q if y == 1 else q
                    for q, y in zip(p_cal.tolist(), y_cal.tolist(), strict=True)
                    if not by_class or y == label
                ]
                row.append(score <= rank(np.array(scores), alpha))
            rows.append(row)
        return kind(rows)

    return found


def other_column(p_cal, y_cal, p, alpha):
    """By class, but of each class's sets the label of the other one."""
    of = [doubt.sets(p_cal[y_cal == c], y_cal[y_cal == c], p, alpha)[:, 1 - c] for c in (0, 1)]
    return np.stack(of, axis=1)


def sets_of_no_sense(*args):
    return ~sets_of(False)(*args)[::-1]


def sets_between_scores(p_cal, y_cal, p, alpha):
    q = np.quantile(np.where(y_cal == 1, 1 - p_cal, p_cal), 1 - alpha)
    return np.stack([p <= q, 1 - p <= q], axis=1)


# ------------------------------------------------------------------------ 4: local patients


def needed(alpha, least, chance, how=""):
    def holds(n):
        k = math.ceil((n + (how != "no plus one")) * (1 - alpha))
        k -= how == "not up" and (n + 1) * (1 - alpha) < k
        if how == "plain":
            return stats.binom.sf(math.ceil(n * least) - 1, n, 1 - alpha)
        if k > n:
            return 0
        if how == "mean":
            return k / (n + 1) >= least
        if how == "cdf":
            return stats.beta.cdf(least, k, n + 1 - k)
        if how == "exchanged":
            return stats.beta.sf(chance, k, n + 1 - k)
        return stats.beta.sf(least, k, n + 1 - k)

    if how == "mean":
        return next(n for n in range(1, 1000) if holds(n))
    if how == "lucky":
        return next(n for n in range(1, 1000) if holds(n) >= chance)
    least_chance = least if how == "exchanged" else chance
    searched = 200 if how == "to 200" else 1001
    last = max(n for n in range(1, searched) if holds(n) < least_chance)
    return {"last": last, "late": last + 30, "early": last - 9, "half": last + 0.5}.get(
        how, last + 1
    )


def needed_by_orders(alpha, least, chance):
    """Oracle: a Beta variable is an order statistic, so its tail is a binomial sum."""
    last = 0
    for n in range(1, 1001):
        k = n + 1 - math.floor((n + 1) * alpha + 1e-9)
        if k > n or stats.binom.cdf(k - 1, n, least) < chance:
            last = n
    return torch.tensor(last + 1)


# ------------------------------------------------------------------------ 5: dropout kept on


def network(how=""):
    class DropoutNet(SmallCNN):
        def __init__(self, channels, width, share):
            super().__init__(channels, 3 if how == "sizes" else 2, width)
            kind = nn.Dropout1d if how == "whole" else nn.Dropout
            self.dropout = kind({"share": 1 - share}.get(how, share))
            if how == "head":
                self.classifier = nn.Sequential(nn.Dropout(share), self.classifier)

        def forward(self, images):
            if how == "head":
                return super().forward(images)
            pooled = self.features(images).mean((2, 3))
            if how == "undropped":
                return self.classifier(pooled)
            if how == "order":
                return self.dropout(self.classifier(pooled))
            logits = self.classifier(self.dropout(pooled))
            return {"softmax": logits.softmax(1), "forward": 2 * logits}.get(how, logits)

        def draws(self, images, number):
            self.eval()
            if how in ("norm", "norm alone"):
                self.train()
            if how == "memory":
                self.train()
                self(images)
                self.eval()
            for layer in self.modules():
                if isinstance(layer, (nn.Dropout, nn.Dropout1d)):
                    layer.train(how != "off")
            if how == "norm alone":
                for layer in self.modules():
                    if isinstance(layer, nn.BatchNorm2d):
                        layer.momentum = 0.0
            dropped = self.dropout
            found = []
            for _ in range(number):
                if how == "head":
                    logits = self(images)
                elif how == "other":
                    logits = self.classifier(self.features(dropped(images)).mean((2, 3)))
                else:
                    logits = self.classifier(dropped(self.features(images).mean((2, 3))))
                p = logits if how in ("logits", "difference") else logits.softmax(1)
                p = logits.sigmoid() if how == "sigmoid" else p
                p = p[:, 1] - p[:, 0] if how == "difference" else p
                p = p if how in ("both classes", "difference") else p[:, int(how != "class")]
                found.append(p.detach())
            if how != "left on":
                self.eval()
            if how == "list":
                return found
            found = torch.stack(found)
            return {"averaged": found.mean(0), "format": found[:2]}.get(how, found)

    if how == "no draws":
        del DropoutNet.draws
    return DropoutNet


class NoSmall(nn.Module):
    def __init__(self, *args):
        super().__init__()


def test_the_finished_network_drops_as_often_as_it_is_told():
    """Oracle: the binomial distribution of what is dropped."""
    torch.manual_seed(0)
    net = doubt.DropoutNet(1, 1, 0.25)
    with torch.no_grad():
        net.classifier.weight.zero_()[1, 0] = 1.0
        net.classifier.bias.zero_()
    images = torch.rand(1, 1, 16, 16)
    net.eval()
    kept = net.features(images).mean((2, 3))[0, 0] / 0.75
    found = net.draws(images, 4000)
    assert ((found - 0.5).abs() < 1e-6).float().mean() == pytest.approx(0.25, abs=0.03)
    assert found.max().item() == pytest.approx(kept.sigmoid().item(), abs=1e-6)


# ------------------------------------------------------------------------ 6: distance


def distance(h, labels, new, how=""):
    means = np.stack([h[labels == c].mean(0) for c in (0, 1)])
    within = h - (means[labels] if how != "all spread" else h.mean(0))
    if how == "each class":
        own = [np.linalg.inv(np.cov(h[labels == c].T)) for c in (0, 1)]
        return np.min(
            [((new - a) @ m * (new - a)).sum(1) for a, m in zip(means, own, strict=True)], axis=0
        )
    if how == "new":
        within = new - new.mean(0)
    sigma = np.cov(within.T)
    if how == "diagonal":
        sigma = np.diag(np.diag(sigma))
    m = {"euclid": np.eye(3), "spread": sigma}.get(how, np.linalg.inv(sigma))
    if how in ("one mean", "one mean, all"):
        means = h.mean(0)[None]
        if how == "one mean, all":
            m = np.linalg.inv(np.cov(h.T))
    if how == "new means":
        means = new.mean(0)[None]
    far = np.stack([np.einsum("nd,de,ne->n", new - c, m, new - c) for c in means])
    if how == "other":
        return far.min(0) * 1.3
    return {
        "root": far.min(0) ** 0.5,
        "farther": far.max(0),
        "sum": far.sum(0),
        "average": far.mean(0),
        "class": far[1 if how == "class" else 0],
        "format": far,
    }.get(how, far.min(0))


def distance_by_scipy(h, labels, new):
    means = [h[labels == c].mean(0) for c in (0, 1)]
    residuals = np.concatenate([h[labels == c] - means[c] for c in (0, 1)])
    inverse = np.linalg.inv(residuals.T @ residuals / len(h))
    return [min(scipy_distance(v, c, inverse) ** 2 for c in means) for v in new]


def distance_pooled(h, labels, new):
    n = np.bincount(labels)
    sigma = sum((n[c] - 1) * np.cov(h[labels == c].T) for c in (0, 1)) / (n.sum() - 2)
    means = [h[labels == c].mean(0) for c in (0, 1)]
    m = np.linalg.inv(sigma)
    return torch.tensor(np.min([((new - c) @ m * (new - c)).sum(1) for c in means], axis=0))


# ------------------------------------------------------------------------ 7: risk


def risk(wrong, doubt, how=""):
    kind = "stable"
    order = np.argsort(-doubt if how == "reversed" else doubt, kind=kind)
    if how == "from behind":
        order = np.argsort(doubt, kind=kind)[::-1]
    if how == "order":
        order = np.arange(len(doubt))
    if how == "ties":
        order = np.lexsort((-np.arange(len(doubt)), doubt))
    w = np.asarray(wrong)[order]
    n = len(w)
    kept = np.arange(1, n + 1)
    errors = np.cumsum(w)
    return {
        "count": errors,
        "all": errors / n,
        "accuracy": np.cumsum(~w) / kept,
        "behind": np.r_[0, (errors / kept)[:-1]],
        "zero": np.r_[0, errors[:-1]] / kept,
        "refused": (errors[-1] - errors) / np.maximum(n - kept, 1),
        "short": (errors / kept)[1:],
        "other": errors / (kept + 3),
    }.get(how, errors / kept)


def risk_in_a_loop(wrong, doubt):
    pairs = sorted(zip(doubt.tolist(), range(len(doubt)), wrong.tolist(), strict=True))
    found = []
    for k in range(1, len(pairs) + 1):
        found.append(sum(w for *_, w in pairs[:k]) / k)
    return found


def how(function, word):
    return lambda *args: function(*args, how=word)


CASES = [
    ("doubt.1", rank, "✓"),
    ("doubt.1", rank_by_partition, "✓"),
    ("doubt.1", lambda s, a: [rank(s, a)], "✓"),
    ("doubt.1", rank_in_place, "sorted the scores in place"),
    ("doubt.1", lambda s, a: np.quantile(s, 1 - a), "you interpolated"),
    ("doubt.1", rank_with_numpy("higher"), "went one too far"),
    ("doubt.1", lambda s, a: np.quantile(s, min(1, (len(s) + 1) * (1 - a) / len(s))), "interpol"),
    *[
        ("doubt.1", how(rank, word), said)
        for word, said in {
            "few": "there is none",
            "never few": "are enough",
            "no plus one": "you forgot the + 1",
            "down": "round k up",
            "nearest": "did not round k up",
            "low": "one of the lowest scores",
            "unsorted": "Sort them first",
            "next": "places count from 0",
            "before": "you took the one before",
            "largest": "one of the lowest scores",
            "unique": "patients are counted, not values",
            "other": "I expected",
        }.items()
    ],
    *[
        (f"doubt.{2 + by_class}", answer, said)
        for by_class in (False, True)
        for answer, said in (
            (sets_of(by_class), "✓"),
            (sets_of(by_class, list), "✓"),
            (sets_of(by_class, lambda rows: torch.tensor(rows).int()), "✓"),
            (lambda *a: sets_of(False)(*a)[:, 1], "True and False of shape"),
            (sets_of_no_sense, "sets to hold pneumonia"),
        )
    ],
    ("doubt.2", sets_between_scores, "interpolated"),
    *[
        (f"doubt.{2 + by_class}", with_fault(word, by_class), said)
        for by_class in (False, True)
        for word, said in {
            "swapped": "columns are exchanged",
            "outside": "turned round",
            "probability": "the score is 1 − it",
            "ill score": "do not look at the label",
            "well score": "do not look at the label",
            "never both": "kept one label",
            "top": "A set may be empty",
            "strict": "just q belongs in",
            "alpha": "exchanged alpha",
        }.items()
    ],
    ("doubt.2", with_fault("by class", False), "share one quantile"),
    ("doubt.3", with_fault("not by class", True), "patients who have it"),
    ("doubt.3", with_fault("other class", True), "the *other* class"),
    ("doubt.3", other_column, "the column of the *other* label"),
    ("doubt.4", needed, "✓"),
    ("doubt.4", needed_by_orders, "✓"),
    ("doubt.4", lambda *a: 5, "every set holds every label"),
    ("doubt.4", lambda *a: 2000, "up to 1,000; got 2000"),
    *[
        ("doubt.4", how(needed, word), said)
        for word, said in {
            "lucky": "always* holds",
            "last": "One more is enough",
            "mean": "*mean* coverage",
            "no plus one": "k comes from n + 1",
            "plain": "a binomial share",
            "not up": "is rounded up",
            "half": "a whole number",
            "cdf": "`cdf` for `sf`",
            "exchanged": "least and chance exchanged",
            "early": "only; I asked for",
            "to 200": "only; I asked for",
            "late": "every number above",
        }.items()
    ],
    *[("doubt.5", network(word), "✓") for word in ("", "list", "head")],
    ("doubt.5", lambda *a: "net", "got str"),
    ("doubt.5", NoSmall, "Got NoSmall"),
    *[
        ("doubt.5", network(word), said)
        for word, said in {
            "sizes": "the last layer gives 2 logits",
            "share": "it was told 0.4",
            "softmax": "got softmax",
            "forward": "something else",
            "no draws": "no method",
            "format": "a row a draw",
            "averaged": "averaged already",
            "both classes": "has both classes",
            "off": "all draws are the same",
            "memory": "has changed",
            "norm": "judged by its neighbours",
            "norm alone": "judged by its neighbours",
            "logits": "these are logits",
            "difference": "these are logits",
            "sigmoid": "the sigmoid of one logit",
            "class": "probabilities of class 0",
            "left on": "you left a layer",
            "undropped": "in training nothing is dropped",
            "whole": "all features of an image together",
            "order": "something else than pooled features",
            "other": "whatever is dropped",
        }.items()
    ],
    ("doubt.6", distance, "✓"),
    ("doubt.6", distance_by_scipy, "✓"),
    ("doubt.6", distance_pooled, "✓"),
    ("doubt.6", lambda *a: 1.0, "one number for each"),
    *[
        ("doubt.6", how(distance, word), said)
        for word, said in {
            "format": "one number for each",
            "root": "took the root",
            "euclid": "count alike",
            "spread": "*inverse*",
            "each class": "a covariance for each class",
            "diagonal": "variances of single features",
            "all spread": "covariance of all features",
            "one mean": "from the mean of all",
            "one mean, all": "from the mean of all",
            "farther": "the farther of the two",
            "sum": "you added, or averaged",
            "average": "you added, or averaged",
            "class": "the mean of class 1 alone",
            "new": "come from the new images",
            "new means": "come from the new images",
            "other": "for the first image",
        }.items()
    ],
    ("doubt.7", risk, "✓"),
    ("doubt.7", risk_in_a_loop, "✓"),
    ("doubt.7", lambda *a: torch.tensor(risk(*a)), "✓"),
    ("doubt.7", lambda *a: "curve", "got str"),
    *[
        ("doubt.7", how(risk, word), said)
        for word, said in {
            "short": "one number for each",
            "reversed": "the most doubtful first",
            "from behind": "the most doubtful first",
            "order": "`doubt` was not used",
            "accuracy": "shares of right answers",
            "count": "you counted the errors",
            "all": "you divided by all images",
            "behind": "starts with nobody kept",
            "zero": "starts with nobody kept",
            "refused": "the errors of those refused",
            "ties": "of equal doubt",
            "other": "surest kept I expected",
        }.items()
    ],
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {
    "doubt.2": sets_of(False),
    "doubt.3": sets_of(True),
    "doubt.6": distance,
    "doubt.7": risk,
}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_that_change_their_arguments_are_right(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# ------------------------------------------------------------------------ other authorities


def test_the_coverage_of_shuffles_follows_the_beta_binomial_law():
    """Only ranks count: whatever the scores, the law of the notebook is exact."""
    rng = np.random.default_rng(0)
    scores, n, m = rng.gamma(2.0, size=50), 30, 20
    k = math.ceil(0.9 * (n + 1))
    covered = [
        (o[n:] <= doubt.quantile(o[:n], 0.1)).sum()
        for o in (rng.permutation(scores) for _ in range(4000))
    ]
    counts = np.bincount(covered, minlength=m + 1)
    expected = 4000 * stats.betabinom(m, k, n + 1 - k).pmf(np.arange(m + 1))
    pooled = expected > 20
    counts, expected = (np.r_[v[pooled], v[~pooled].sum()] for v in (counts, expected))
    assert stats.chisquare(counts, expected).pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.37])
@pytest.mark.parametrize("n", [20, 57, 200])
def test_the_sets_are_those_of_mapie(n, alpha):
    mapie = pytest.importorskip("mapie.classification")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """A classifier whose one feature is the probability of class 1."""

        def __init__(self):
            self.classes_ = np.array([0, 1])

        def fit(self, x, y):
            return self

        def predict_proba(self, x):
            return np.c_[1 - x[:, 0], x[:, 0]]

        def predict(self, x):
            return (x[:, 0] >= 0.5).astype(int)

    rng = np.random.default_rng(n)
    labels = rng.permutation(np.arange(n) % 3 == 0).astype(int)
    cal, new = rng.beta(1 + labels, 2 - labels), rng.random(300)
    split = mapie.SplitConformalClassifier(
        Given(), confidence_level=1 - alpha, conformity_score="lac", prefit=True
    )
    split.conformalize(cal[:, None], labels)
    _, want = split.predict_set(new[:, None])
    found = doubt.sets(cal, labels, new, alpha)
    assert (found == want[:, :, 0]).all()
    assert 0 < found.mean() < 1


# Other ways to the same numbers
EQUIVALENT = [
    "doubt.4: for n in range(1, 1001): → for n in range(0, 1001):",
    "doubt.4: for n in range(1, 1001): → for n in range(1, 1000):",
    "doubt.4: for n in range(1, 1001): → for n in range(1, 1002):",
    "doubt.4: for n in range(1, 1001): → for n in range(2, 1001):",
    "doubt.4: if holds < chance: → if holds <= chance:",
    "doubt.4: needed = 1 → needed = 0",
    "doubt.4: needed = 1 → needed = 2",
    "doubt.4: needed = 1 → pass",
    "doubt.5: pooled = self.features(images).mean((2, 3)) → pooled = self.features(images).mean((3, 2))",
    "doubt.5: pooled = self.features(images).mean((2, 3)) → pooled = self.features(images).mean((3, 2)) (2)",
    "doubt.6: apart = new - mean → apart = mean - new",
    "doubt.6: within = h - means[labels] → within = means[labels] - h",
]


def test_no_changed_solution_is_called_right():
    assert ticked("27_doubt", "doubt") == EQUIVALENT
