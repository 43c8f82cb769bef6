"""Oracles: a loop on the same resamples, a direct double sum, SciPy, and known distributions."""

import time
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from medlab import metrics
from medlab.errors import DataError


def case(n=120, tied=True, seed=0, shift=1.0, positive=None):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < (positive or n // 3)).astype(int)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + shift * labels)))
    return labels, np.round(scores, 1) if tied else scores


def loop(metric, labels, scores, counts):
    chosen = (np.repeat(np.arange(len(row)), row) for row in counts)
    return np.array([metric(labels[pick], scores[pick]) for pick in chosen])


def brier(labels, p):
    return np.mean((p - labels) ** 2)


def blocks(labels, **options):
    return np.concatenate(list(metrics.resamples(labels, **options)))


FAST = [
    (metrics.auc, sk.roc_auc_score),
    (metrics.accuracy, lambda y, s: sk.accuracy_score(y, s > 0.5)),
    (metrics.sensitivity, lambda y, s: sk.recall_score(y, s >= 0.5)),
    (metrics.specificity, lambda y, s: sk.recall_score(1 - y, s < 0.5)),
]


@pytest.mark.parametrize(("ours", "theirs"), FAST)
@pytest.mark.parametrize("tied", [False, True])
def test_all_resamples_at_once_equal_a_loop_over_scikit_learn(ours, theirs, tied):
    labels, scores = case(tied=tied)
    groups = np.arange(len(labels)) // 3
    for counts in (blocks(labels, n=60), blocks(labels, n=60, groups=groups, seed=1)):
        fast = metrics.resampled_values(ours, labels, scores, counts)
        np.testing.assert_allclose(fast, loop(theirs, labels, scores, counts), atol=1e-12, rtol=0)


def test_multiclass_and_multilabel_resamples_equal_a_loop():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 90), rng.random((90, 3)).round(1)
    counts = blocks(labels, n=40)
    for many in (labels, np.eye(3, dtype=int)[labels]):
        for metric in (metrics.auc, metrics.accuracy):
            fast = metrics.resampled_values(metric, many, scores, counts)
            slow = metrics.resampled_values(lambda y, s, m=metric: m(y, s), many, scores, counts)
            np.testing.assert_allclose(fast, slow, atol=1e-12, rtol=0)


def test_bootstrap_is_the_percentiles_of_the_loop():
    labels, scores = case()
    interval = metrics.bootstrap(metrics.auc, labels, scores, n=300, seed=3)
    values = loop(sk.roc_auc_score, labels, scores, blocks(labels, n=300, seed=3))
    expected = np.quantile(values, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert interval.value == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert (interval.level, interval.n) == (0.95, 300)
    again = metrics.bootstrap(metrics.auc, torch.tensor(labels), scores, n=300, seed=3)
    assert again == interval
    other = metrics.bootstrap(metrics.auc, labels, scores, n=300, seed=4)
    assert other != interval


def test_any_function_can_be_bootstrapped():
    labels, scores = case()

    def doubled(y, s):
        assert torch.is_tensor(y)
        assert torch.is_tensor(s)
        return 2 * metrics.sensitivity(y, s, 0.3) - 1

    slow = metrics.bootstrap(doubled, torch.tensor(labels), torch.tensor(scores), n=200)
    fast = metrics.bootstrap(metrics.sensitivity, labels, scores, n=200, threshold=0.3)
    assert slow.low == pytest.approx(2 * fast.low - 1)
    assert slow.high == pytest.approx(2 * fast.high - 1)


def test_patients_are_drawn_whole():
    patients = np.repeat(np.arange(30), np.arange(30) % 4 + 1)
    counts = blocks(np.zeros(len(patients)), groups=patients, n=500)
    first = np.unique(patients, return_index=True)[1]
    assert (counts == counts[:, first[patients]]).all()
    drawn = counts[:, first]
    assert (drawn.sum(1) == 30).all()  # as many patients as there are
    # A multinomial of 30 draws: every patient is drawn once on average, with variance 1 − 1/30.
    assert abs(drawn.mean(0) - 1).max() < 5 / np.sqrt(500)
    assert drawn.var() == pytest.approx(1 - 1 / 30, rel=0.05)
    names = np.array([f"patient {p}" for p in patients])
    renamed = blocks(np.zeros(len(patients)), groups=names, n=500)
    assert renamed.shape == counts.shape


def test_many_images_of_few_patients_make_a_wide_interval():
    rng = np.random.default_rng(0)
    labels, scores = case(80, tied=False, shift=1.0)
    again = np.repeat(np.arange(80), 10)  # ten copies of each image: no new evidence
    order = rng.permutation(800)
    once = metrics.bootstrap(metrics.auc, labels, scores)
    naive = metrics.bootstrap(metrics.auc, labels[again][order], scores[again][order])
    honest = metrics.bootstrap(
        metrics.auc, labels[again][order], scores[again][order], groups=again[order]
    )
    width = once.high - once.low
    assert honest.high - honest.low == pytest.approx(width, abs=1e-12)
    assert naive.high - naive.low == pytest.approx(width / np.sqrt(10), rel=0.15)


def test_more_patients_than_two_bytes_count_are_all_drawn():
    (counts,) = metrics.resamples(np.zeros(70_000), n=1)
    assert counts.sum() == 70_000
    # A patient is drawn with chance 1 − 1/e, also beyond the 65,536th.
    assert (counts[0, 2**16 :] > 0).mean() == pytest.approx(1 - np.exp(-1), abs=0.03)


@pytest.mark.parametrize("metric", [metrics.auc, lambda y, s: metrics.auc(y, s)])
@pytest.mark.parametrize("counts", [[1, 2, 0, 0], [0, 0, 3, 1]])
def test_a_resample_of_one_class_is_undefined(metric, counts):
    values = metrics.resampled_values(
        metric, [1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1], np.array([counts])
    )
    assert np.isnan(values).all()


def test_resamples_do_not_depend_on_how_many_are_asked_for():
    labels = np.zeros(1000)
    assert (blocks(labels, n=700)[:300] == blocks(labels, n=300)).all()


def test_resamples_without_one_class_are_left_out():
    labels, scores = case(20, positive=2, tied=False)
    with pytest.warns(UserWarning, match="left out") as said:
        fast = metrics.bootstrap(metrics.auc, labels, scores, n=400)
    assert said[0].filename == __file__  # it points at the line that called
    counts = blocks(labels, n=400)
    defined = (counts @ labels > 0) & (counts @ labels < 20)
    assert fast.n == defined.sum() < 400
    values = loop(sk.roc_auc_score, labels, scores, counts[defined])
    assert fast.low == pytest.approx(np.quantile(values, 0.025), abs=1e-12)
    with pytest.warns(UserWarning, match="left out"):
        slow = metrics.bootstrap(lambda y, s: metrics.auc(y, s), labels, scores, n=400)
    assert slow == fast


def test_a_bug_in_a_metric_is_not_taken_for_a_missing_class():
    labels, scores = case()
    calls = []

    def broken(y, s):
        calls.append(1)
        if len(calls) > 5:
            raise ValueError("a bug")
        return metrics.auc(y, s)

    with pytest.raises(ValueError, match="a bug"):
        metrics.bootstrap(broken, labels, scores, n=100)


def covered(interval, truth):
    return interval.low <= truth <= interval.high


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Binormal scores: AUC = Φ(d / √2). 300 trials, tolerance three binomial standard errors."""
    truth, trials, level = stats.norm.cdf(1 / np.sqrt(2)), 300, 0.95
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    hits = {"bootstrap": 0, "delong": 0, "logit": 0}
    for trial in range(trials):
        scores = rng.normal(size=100) + labels
        drawn = metrics.bootstrap(metrics.auc, labels, scores, n=400, seed=trial)
        hits["bootstrap"] += covered(drawn, truth)
        hits["delong"] += covered(metrics.delong(labels, scores), truth)
        hits["logit"] += covered(metrics.delong(labels, scores, logit=True), truth)
    tolerance = 3 * np.sqrt(level * (1 - level) / trials)
    for method, count in hits.items():
        assert abs(count / trials - level) < tolerance, (method, count / trials)


def test_the_bootstrap_by_patient_covers_where_the_one_by_image_does_not():
    """The mean of 40 patients with 5 alike images each; a normal mean has a known truth."""
    rng = np.random.default_rng(1)
    patients, trials = np.repeat(np.arange(40), 5), 100
    hits = {"patient": 0, "image": 0}
    for trial in range(trials):
        p = np.clip(0.5 + 0.1 * rng.normal(size=40)[patients] + 0.02 * rng.normal(size=200), 0, 1)
        zeros = np.zeros(200, int)  # brier of all-negative labels is the mean of p²
        truth = 0.25 + 0.1**2 + 0.02**2
        for name, groups in (("patient", patients), ("image", None)):
            interval = metrics.bootstrap(brier, zeros, p, groups=groups, n=200, seed=trial)
            hits[name] += covered(interval, truth)
    assert abs(hits["patient"] / trials - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials)
    assert hits["image"] / trials < 0.75


def test_the_bootstrap_is_fast():
    """At least 50 times a loop; `benchmarks/bootstrap.py` measures it properly."""
    labels, scores = case(624, tied=False)
    metrics.bootstrap(metrics.auc, labels, scores, n=100)
    best = []
    for _ in range(3):
        start = time.perf_counter()
        metrics.bootstrap(metrics.auc, labels, scores, n=2000)
        best.append(time.perf_counter() - start)
    counts = blocks(labels, n=60)
    start = time.perf_counter()
    loop(sk.roc_auc_score, labels, scores, counts)
    assert (time.perf_counter() - start) / 60 * 2000 > 50 * min(best)


def test_difference_is_judged_on_the_same_patients():
    labels, a = case(tied=False)
    b = np.clip(a + np.random.default_rng(1).normal(size=len(a)) * 0.02, 0, 1)
    groups = np.arange(len(labels)) // 2
    found = metrics.bootstrap_difference(metrics.auc, labels, a, b, groups=groups, n=200)
    counts = blocks(labels, groups=groups, n=200)
    values = loop(sk.roc_auc_score, labels, a, counts) - loop(sk.roc_auc_score, labels, b, counts)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found.value == pytest.approx(metrics.auc(labels, a) - metrics.auc(labels, b))
    alone = metrics.bootstrap(metrics.auc, labels, a, groups=groups, n=200)
    assert found.high - found.low < (alone.high - alone.low) / 3
    same = metrics.bootstrap_difference(metrics.auc, labels, a, a, n=200)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_both_models_of_a_difference_are_cut_at_the_given_threshold():
    labels, a = case(tied=False)
    b = case(tied=False, seed=1)[1]
    found = metrics.bootstrap_difference(metrics.sensitivity, labels, a, b, n=200, threshold=0.8)
    slow = metrics.bootstrap_difference(
        lambda y, s: sk.recall_score(y, s >= 0.8), labels, a, b, n=200
    )
    assert (found.value, found.low, found.high) == pytest.approx((slow.value, slow.low, slow.high))


def double_sum(labels, *models):
    """DeLong's equations as printed, all pairs of a positive and a negative image."""
    placements = []
    for scores in models:
        positive, negative = scores[labels == 1], scores[labels == 0]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        placements.append((wins.mean(1), wins.mean(0)))
    size = len(models)
    covariance = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            for a, b in zip(placements[i], placements[j], strict=True):
                n = len(a)
                covariance[i, j] += ((a - a.mean()) * (b - b.mean())).sum() / (n - 1) / n
    return covariance


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [12, 150])
def test_delong_equals_the_double_sum(n, tied):
    labels, a = case(n, tied, seed=n)
    b = case(n, tied, seed=n + 1)[1]
    covariance = double_sum(labels, a, b)
    interval = metrics.delong(labels, a)
    error = np.sqrt(covariance[0, 0])
    low, high = stats.norm.interval(0.95, sk.roc_auc_score(labels, a), error)
    assert interval.low == pytest.approx(max(low, 0), abs=1e-12)
    assert interval.high == pytest.approx(min(high, 1), abs=1e-12)
    test = metrics.delong_test(labels, a, b)
    difference = sk.roc_auc_score(labels, a) - sk.roc_auc_score(labels, b)
    spread = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert test.p == pytest.approx(2 * stats.norm.sf(abs(difference / spread)), abs=1e-12)
    expected = stats.norm.interval(0.95, difference, spread)
    assert (test.difference.low, test.difference.high) == pytest.approx(expected, abs=1e-12)


def test_delong_by_hand():
    """Positive 2 and 4, negative 1 and 3: shares ½ and 1, so S₁₀ = S₀₁ = ⅛, variance ⅛."""
    interval = metrics.delong([1, 1, 0, 0], [2, 4, 1, 3])
    half = stats.norm.ppf(0.975) * np.sqrt(1 / 8)
    assert interval.value == 0.75
    assert interval.low == pytest.approx(0.75 - half)
    assert interval.high == min(1, 0.75 + half)


def test_delong_variance_agrees_with_hanley_and_mcneil():
    """Exponential scores: Hanley & McNeil (1982) give the true variance of the AUC in closed form.

    P(S₁ > S₀) = θ, Q₁ = θ/(2 − θ), Q₂ = 2θ²/(1 + θ), var = [θ(1 − θ) + (m − 1)(Q₁ − θ²) +
    (n − 1)(Q₂ − θ²)]/(mn).
    """
    m, n, theta = 40, 60, 0.8
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [m, n])
    variances = []
    for _ in range(400):
        scores = np.r_[rng.exponential(theta / (1 - theta), m), rng.exponential(1, n)]
        variances.append(double_width(metrics.delong(labels, scores)))
    q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
    terms = theta * (1 - theta) + (m - 1) * (q1 - theta**2) + (n - 1) * (q2 - theta**2)
    assert np.mean(variances) == pytest.approx(terms / (m * n), rel=0.05)


def double_width(interval):
    return ((interval.high - interval.low) / 2 / stats.norm.ppf(0.975)) ** 2


def test_delong_at_the_ends():
    labels, scores = np.repeat([0, 1], 5), np.arange(10.0)
    for logit in (False, True):
        perfect = metrics.delong(labels, scores, logit=logit)
        assert (perfect.value, perfect.low, perfect.high) == (1, 1, 1)
    assert metrics.delong_test(labels, scores, scores).p == 1
    opposed = metrics.delong_test(labels, -scores, scores)  # a difference of −1 without any spread
    assert (opposed.difference.value, opposed.p) == (-1, 0)
    monotone = metrics.delong_test(*case(tied=False), np.exp(case(tied=False)[1]))
    assert monotone.p == 1
    labels, scores = case(40, tied=False, shift=3)
    inside = metrics.delong(labels, scores, logit=True)
    assert 0 < inside.low < inside.value < inside.high < 1


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (47, 50), (500, 1234)])
def test_proportion_equals_the_formula_of_wilson(k, n):
    z = stats.norm.ppf(0.975)
    centre, half = k + z**2 / 2, z * np.sqrt(k * (n - k) / n + z**2 / 4)
    interval = metrics.proportion(k, n)
    assert interval.value == k / n
    assert interval.n == 0  # a formula, no resamples
    expected = (centre - half) / (n + z**2), (centre + half) / (n + z**2)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)


def test_wilson_ends_exactly_where_nothing_or_all_was_found():
    for n in range(1, 200):
        assert metrics.proportion(0, n).low == 0
        assert metrics.proportion(n, n).high == 1


def test_an_interval_reads_as_a_sentence():
    assert str(metrics.Interval(0.95311, 0.9312, 0.97, 0.95)) == "0.953 (95 % CI 0.931 to 0.970)"


def test_refusals():
    labels, scores = case()
    with pytest.raises(DataError, match="cannot show the tails"):
        metrics.bootstrap(metrics.auc, labels, scores, n=10)
    with pytest.raises(DataError, match="one patient per image"):
        metrics.bootstrap(metrics.auc, labels, scores, groups=[1, 2])
    for missing in (None, float("nan")):
        patients = np.array([missing, missing, *range(len(labels) - 2)], object)
        with pytest.raises(DataError, match="2 of 120 entries of groups are missing"):
            metrics.bootstrap(metrics.auc, labels, scores, groups=patients)
    for n in (0, 100.5, float("nan"), float("inf")):
        with pytest.raises(DataError, match=f"whole number of at least 1, got {n}"):
            metrics.resamples(labels, n=n)
    with pytest.raises(DataError, match=r"counts must be \(B, 120\).*got \(3, 4\)"):
        metrics.resampled_values(metrics.auc, labels, scores, np.ones((3, 4), int))
    with pytest.raises(DataError, match="there is only 1"):
        metrics.bootstrap(metrics.auc, labels, scores, groups=np.zeros(len(labels)))
    with pytest.raises(TypeError, match="not 'Confusion'"):
        metrics.bootstrap(metrics.confusion, labels, scores)
    with pytest.raises(metrics.UndefinedMetric):
        metrics.bootstrap(metrics.auc, np.ones(5), np.ones(5))
    with pytest.raises(metrics.UndefinedMetric, match="undefined in"):
        metrics.bootstrap(metrics.sensitivity, np.zeros(5), np.ones(5))
    with pytest.raises(metrics.UndefinedMetric, match="two images of each class"):
        metrics.delong([0, 0, 1], [0.1, 0.2, 0.3])
    for k, n in ((3, 2), (-1, 5), (0, 0), (1.5, 3)):
        with pytest.raises(DataError, match="k of n"):
            metrics.proportion(k, n)


def test_an_interval_without_width_is_told():
    """71 of 71 found: no resample and no formula of DeLong can see that the 72nd may be missed."""
    labels, scores = [1] * 71 + [0] * 50, [0.9] * 71 + [0.1] * 50
    ranks = np.arange(8.0)
    four = [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1]
    for call in (
        lambda: metrics.bootstrap(metrics.sensitivity, labels, scores),
        lambda: metrics.bootstrap(metrics.auc, labels, scores, groups=np.arange(121)),
        lambda: metrics.bootstrap(lambda y, s: 1.0, labels, scores, n=100),
        lambda: metrics.bootstrap_difference(metrics.auc, labels, scores, scores),
        lambda: metrics.delong(labels, scores),
        lambda: metrics.delong(labels, scores, logit=True),
        lambda: metrics.delong(np.repeat([1, 0], 4), ranks),  # all wrong: 0.000 to 0.000
        lambda: metrics.delong_test(*four).difference,
    ):
        with pytest.warns(UserWarning, match="has no width.*metrics.proportion") as told:
            found = call()
        assert found.low == found.high
        assert [one.filename for one in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.proportion(71, 71).low == pytest.approx(0.949, abs=5e-4)
        metrics.delong(*case())
        metrics.bootstrap(metrics.auc, *case())


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.float16, torch.tensor, float])
def test_counts_of_any_type_make_the_same_proportion(kind):
    k, n = (127, 255) if kind is not np.int8 else (60, 127)
    want = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    got = metrics.proportion(kind(k), kind(n))
    assert (got.low, got.high) == pytest.approx(tuple(want), abs=1e-12)
    assert got.value == k / n


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32])
def test_resamples_in_small_integers_do_not_overflow(kind):
    labels, scores = case(400)
    counts = blocks(labels, n=20)
    for metric in (metrics.auc, metrics.accuracy, metrics.specificity, brier):
        small = metrics.resampled_values(metric, labels, scores, counts.astype(kind))
        np.testing.assert_array_equal(
            small, metrics.resampled_values(metric, labels, scores, counts)
        )


NOT_WHOLE = [float("nan"), float("inf"), -float("inf"), 2.5, "2", None]


@pytest.mark.parametrize("value", NOT_WHOLE)
def test_what_is_no_whole_number_gets_a_typed_error(value):
    labels, scores = case()
    for call in (
        lambda: metrics.proportion(1, value),
        lambda: metrics.proportion(value, 5),
        lambda: metrics.bootstrap(metrics.auc, labels, scores, seed=value),
        lambda: metrics.bootstrap_difference(metrics.auc, labels, scores, scores, seed=value),
        lambda: metrics.resamples(labels, n=value),
        lambda: metrics.ece(labels, scores, bins=value),
    ):
        with pytest.raises(DataError, match="whole number"):
            call()
    with pytest.raises(DataError, match="at least 0, got -1"):
        metrics.bootstrap(metrics.auc, labels, scores, seed=-1)


def test_patients_of_two_types_are_drawn_as_one():
    labels, _ = case(12)
    mixed = np.array([1, 1.0, "1", "1.0", 2, "2", 3, 3, 4, 4, 5, "05"], dtype=object)
    plain = ["1"] * 4 + ["2"] * 2 + ["3"] * 2 + ["4"] * 2 + ["5", "05"]
    assert (blocks(labels, groups=mixed, n=50) == blocks(labels, groups=plain, n=50)).all()
    for missing in ("", "nan", None, float("nan")):
        with pytest.raises(DataError, match="entries of groups are missing"):
            metrics.resamples(labels, groups=np.array([*plain[:-1], missing], object))
