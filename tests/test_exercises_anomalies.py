"""The checks of anomalies and diffusion, fed with right, untouched and typically wrong answers."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import f1_score, roc_auc_score

from medlab.exercises import anomalies, check
from medlab.exercises.anomalies import MESSAGES
from tests.learners import hasty, is_told, is_told_what_is_no_answer, unheard
from tests.mutants import ticked

# ------------------------------------------------------------------------ 1: an honest Dice


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def per_slice(found, truth, empty, mean=np.mean):
    each = [dice(f, t) if f.any() or t.any() else empty for f, t in zip(found, truth, strict=True)]
    return mean(each)


def lesion_slices(found, truth):
    return np.mean([dice(f, t) for f, t in zip(found, truth, strict=True) if t.any()])


MEASURES = {
    "slices": lambda found, truth: per_slice(found, truth, 0),
    "empty slices": lambda found, truth: per_slice(found, truth, 1),
    "no Dice": lambda found, truth: per_slice(found, truth, np.nan),
    "marked slices": lambda found, truth: per_slice(found, truth, np.nan, np.nanmean),
    "ill slices": lesion_slices,
    "iou": lambda found, truth: (found & truth).sum() / (found | truth).sum(),
    "union": lambda found, truth: 2 * (found & truth).sum() / (found | truth).sum(),
    "half": lambda found, truth: (found & truth).sum() / (found.sum() + truth.sum()),
    "accuracy": lambda found, truth: (found == truth).mean(),
    "precision": lambda found, truth: (found & truth).sum() / max(found.sum(), 1),
    "sensitivity": lambda found, truth: (found & truth).sum() / truth.sum(),
}


def honest(val_maps, val_truth, maps, truth, thresholds, how="", choose=""):
    """Mistakes of the measure stand in `how`, where also the choice is made by it in `choose`."""
    parts = {"test": (maps, truth), "both": (np.r_[val_maps, maps], np.r_[val_truth, truth])}
    chosen_on, true = parts.get(how, (val_maps, val_truth))
    if how == "sorted":
        thresholds = np.sort(thresholds)[::-1]
    measure = MEASURES.get(choose, dice)
    found = np.array(
        [measure(chosen_on > t if choose == "strict" else chosen_on >= t, true) for t in thresholds]
    )
    best = found.argmax()
    if how == "last":
        best = np.flatnonzero(found == found.max())[-1]
    if how == "worst":
        best = found.argmin()
    t = thresholds[best]
    if how == "position":
        return best, dice(maps >= t, truth)
    if how == "val dice":
        return t, found[best]
    if how == "ceiling":
        return t, max(dice(maps >= v, truth) for v in thresholds)
    if how == "strict":
        return t, dice(maps > t, truth)
    value = MEASURES.get(how, dice)(maps >= t, truth)
    return t, value / 3 if how == "other" else value


def honest_by_library(val_maps, val_truth, maps, truth, thresholds):
    flat = [a.ravel() for a in (val_maps, val_truth, maps, truth)]
    found = [f1_score(flat[1], flat[0] >= t) for t in thresholds]
    t = thresholds[int(np.argmax(found))]
    return [torch.tensor(t), f1_score(flat[3], flat[2] >= t)]


# ------------------------------------------------------------------------ 2: a residual


def residual(x, x_hat, how=""):
    r = {"no drawing": x, "no image": x_hat}.get(how, x - x_hat)
    if how == "edges":
        return ndimage.gaussian_filter(abs(r), (0, 2, 2))
    if how.startswith("width"):
        return abs(ndimage.gaussian_filter(r, (0, float(how[5:]), float(how[5:]))))
    blurred = ndimage.gaussian_filter(r, 2 if how == "alone" else (0, 2, 2))
    signs = {"low side": blurred, "high side": -blurred, "upside down": -abs(blurred)}
    return signs.get(how, abs(blurred))


def normalised_together(x, x_hat):
    r = residual(x, x_hat)
    return r / r.max()


# ------------------------------------------------------------------------ 3: matched pairs


def matched(ill, scores, heights, sites, apart, how=""):
    won, pairs, each = 0, 0, []
    band = np.floor(heights / apart)
    for i in np.flatnonzero(ill):
        own = []
        for j in np.flatnonzero(ill == 0):
            gap, one = heights[i] - heights[j], sites[i] == sites[j]
            gap = gap if how == "signed" else abs(gap)
            inside = {
                "all": True,
                "heights": gap <= apart,
                "sites": one,
                "either": one or gap <= apart,
                "strict": one and gap < apart,
                "bands": one and band[i] == band[j],
            }.get(how, one and gap <= apart)
            pairs += how == "all pairs"
            if not inside or (how == "ties out" and scores[i] == scores[j]):
                continue
            tie = {"ties lost": 0, "ties won": 1}.get(how, 0.5)
            win = tie if scores[i] == scores[j] else float(scores[i] > scores[j])
            own.append(1 - win if how == "reversed" else win)
        won += sum(own)
        pairs += len(own) * (how != "all pairs")
        each += [np.mean(own)] if own else []
    if how == "per slice":
        return np.mean(each)
    return won if how == "count" else won / pairs


def matched_in_arrays(ill, scores, heights, sites, apart):
    ill = ill > 0
    like = abs(heights[ill][:, None] - heights[~ill]) <= apart
    like &= sites[ill][:, None] == sites[~ill]
    gain = scores[ill][:, None] - scores[~ill]
    return torch.tensor(((np.sign(gain) + 1) / 2)[like].mean())


def test_with_one_scanner_and_far_apart_it_is_the_auc_of_scikit_learn():
    ill, scores, heights, sites, _ = anomalies._slices(0)
    want = roc_auc_score(ill, scores)
    assert anomalies.auc_matched(ill, scores, heights, sites[:1].repeat(60), 1e9) == pytest.approx(
        want
    )
    assert np.isnan(anomalies.auc_matched(ill, scores, heights, np.arange(60), 5))


# ------------------------------------------------------------------------ 4: noise rates


def of_alpha_bar(left):
    left = np.asarray(left)
    return 1 - left / np.concatenate([[1.0], left[:-1]])


def rates(steps, last=0.005, how=""):
    first = {"first": 0.99}.get(how, 0.999)
    ends = np.log([first / (1 - first), last / (1 - last)])
    left = 1 / (1 + np.exp(-np.linspace(*ends, steps)))
    if how == "alpha bar":
        return left
    beta = of_alpha_bar(left)
    if how == "uneven":
        left[1:-1] *= 0.99
        return of_alpha_bar(left)
    changed = {"alpha": 1 - beta, "reversed": beta[::-1], "short": beta[1:]}
    return changed.get(how, beta)


def even_rates(steps):
    return np.linspace(0.001, 0.5, steps)


# ------------------------------------------------------------------------ 5: a step of training


def step(guess, adam, x0, left, t, noise, how=""):
    kept = left[t].view(-1, 1, 1, 1)
    if how == "one step":
        kept = left[t[0]]
    if how == "beta":
        kept = (1 - left).cumprod(0)[t].view(-1, 1, 1, 1)
    if how == "product":
        kept = left.cumprod(0)[t].view(-1, 1, 1, 1)
    if how == "neighbour":
        kept = left[t - 1].view(-1, 1, 1, 1)
    if how == "pairs":
        kept = left[t].view(1, -1, 1, 1)
    a, b = kept.sqrt(), (1 - kept).sqrt()
    a, b = {
        "swapped": (b, a),
        "no root": (kept, 1 - kept),
        "half root": (a, 1 - kept),
        "one minus": (a, 1 - a),
        "loud": (a, 1),
        "full": (1, b),
        "minus": (a, -b),
    }.get(how, (a, b))
    if how == "random":
        noise = torch.randn(noise.shape)
    noisy = x0 if how == "clean" else a * x0 + b * noise
    target = {"target": x0, "noisy": noisy, "share": b * noise, "difference": noisy - x0}
    target = target.get(how, noise)
    error = guess(noisy, t + 1 if how == "steps" else t) - target
    loss = error.abs().mean() if how == "absolute" else error.square().mean()
    if how == "sum":
        loss = error.square().sum()
    if how == "root":
        loss = loss.sqrt()
    if how == "halved":
        loss = loss / 2
    if how == "image sums":
        loss = error.square().flatten(1).sum(1).mean()
    if how != "stale":
        adam.zero_grad()
    if how == "early":
        adam.step()
    if how != "no backward":
        (loss / 3 if how == "other step" else loss).backward()
    if how.startswith("zeroed"):
        adam.zero_grad(set_to_none=how == "zeroed to none")
    for _ in range({"no step": 0, "early": 0, "twice": 2}.get(how, 1)):
        adam.step()
    return error if how == "shape" else loss.item() / (3 if how == "other" else 1)


def step_by_library(guess, adam, x0, left, t, noise):
    adam.zero_grad()
    kept = torch.stack([left[k] for k in t])[:, None, None, None]
    noisy = kept**0.5 * x0 + (1 - kept) ** 0.5 * noise
    loss = torch.nn.functional.mse_loss(guess(noisy, t), noise)
    loss.backward()
    adam.step()
    return loss


# ------------------------------------------------------------------------ 6: the way back


def back(guess, x, beta, z, how=""):
    if how == "alpha":
        beta = 1 - beta
    left = torch.cumprod(beta if how == "rates" else 1 - beta, 0)
    steps = len(beta)
    if how == "start":
        x = z[-1]
    for k, t in enumerate(range(steps) if how == "order" else reversed(range(steps))):
        if (how == "stopped" and t == 0) or (how == "late" and k == 0):
            continue
        before = left[t - 1] if t or how == "wrap" else torch.tensor(1.0 - (how == "nothing"))
        e = guess(x, {"times": t + 1, "turned": k}.get(how, t))
        share = beta[t] / (1 - left[t]) ** 0.5
        share = {
            "root": beta[t] ** 0.5,
            "rate": beta[t],
            "no root below": beta[t] / (1 - left[t]),
            "one minus": (1 - beta[t]) / (1 - left[t]) ** 0.5,
            "all": (1 - left[t]) ** 0.5,
            "plus": -share,
        }.get(how, share)
        v = beta[t] * (1 - before) / (1 - left[t])
        if how == "beta" or (how == "last noise" and not t) or (how == "usual" and t):
            v = beta[t]
        v = {"ratio": beta[t] * (1 - left[t]) / (1 - before), "beta itself": beta[t] ** 2}.get(
            how, v
        )
        new = (v if how == "variance" else v**0.5) * z[
            {"z order": k, "z before": t - 1}.get(how, t)
        ]
        if how == "random":
            new = torch.randn(x.shape)
        root = (1 - beta[t]) ** 0.5
        old = {
            "no division": x - share * e,
            "no root": (x - share * e) / root**2,
            "multiplied": (x - share * e) * root,
            "all steps": (x - share * e) / left[t] ** 0.5,
            "x alone": x / root - share * e,
        }.get(how, (x - share * e) / root)
        x = old + new / (root if how == "noise too" else 1) * (how != "no noise")
        if how == "nan":
            x = x / 0
    return x * 1.5 if how == "other" else x


def back_through_the_image(guess, x, beta, z):
    """The posterior's mean from the guessed picture: the other form of the same step."""
    for t in reversed(range(len(beta))):
        left = torch.prod(1 - beta[: t + 1])
        before = torch.prod(1 - beta[:t])
        picture = (x - (1 - left).sqrt() * guess(x, torch.tensor(t))) / left.sqrt()
        mean = before.sqrt() * beta[t] * picture + (1 - beta[t]).sqrt() * (1 - before) * x
        x = mean / (1 - left) + (beta[t] * (1 - before) / (1 - left)).sqrt() * z[t]
    return x.numpy()


def back_by_jumps(guess, x, beta, z):
    for t in reversed(range(len(beta))):
        left, before = torch.prod(1 - beta[: t + 1]), torch.prod(1 - beta[:t])
        picture = (x - (1 - left).sqrt() * guess(x, t)) / left.sqrt()
        x = before.sqrt() * picture + (1 - before).sqrt() * z[t]
    return x


def back_in_place(guess, x, beta, z):
    x[...] = back(guess, x, beta, z)
    return x


def every_x(guess, x, beta, z):
    return [x, *(back(guess, x, beta, z) for _ in beta)]


def test_the_way_back_makes_the_distribution_it_should():
    """Oracle: the closed form of mean and variance of a chain of normal numbers."""
    beta = torch.full((60,), 0.12)
    rng = torch.Generator().manual_seed(0)
    x, z = torch.randn(40_000, generator=rng), torch.randn(60, 40_000, generator=rng)
    got = anomalies.draw(lambda x, t: anomalies._perfect(beta, x, t), x, beta, z)
    left = torch.cumprod(1 - beta.double(), 0)
    mean, variance = 0.0, 1.0
    for t in reversed(range(60)):
        a, before = left[t], left[t - 1] if t else torch.tensor(1.0)
        slope = 1 - 0.12 / (0.25 * a + 1 - a)
        mean = (slope * mean + 0.12 * 3 * a.sqrt() / (0.25 * a + 1 - a)) / 0.88**0.5
        variance = variance * slope**2 / 0.88 + 0.12 * (1 - before) / (1 - a)
    assert float(got.mean()) == pytest.approx(float(mean), abs=0.01)
    assert float(got.std()) == pytest.approx(float(variance) ** 0.5, rel=0.02)
    assert float(mean) == pytest.approx(3, abs=0.02)


def how(function, word):
    return lambda *args: function(*args, how=word)


CASES = [
    ("anomalies.1", honest, "✓"),
    ("anomalies.1", honest_by_library, "✓"),
    ("anomalies.1", lambda *a: 0.7, "two numbers; got 0.7"),
    ("anomalies.1", lambda *a: honest(*a)[::-1], "numbers are (dice, threshold)"),
    ("anomalies.1", how(honest, "test"), "is best on the *test*"),
    ("anomalies.1", how(honest, "last"), "not the first of them"),
    ("anomalies.1", how(honest, "worst"), "with the lowest Dice"),
    ("anomalies.1", how(honest, "position"), "not its position"),
    ("anomalies.1", how(honest, "val dice"), "that of the validation patients"),
    ("anomalies.1", how(honest, "ceiling"), "the Dice is the best one of the test"),
    ("anomalies.1", how(honest, "both"), "on validation and test patients together"),
    ("anomalies.1", how(honest, "sorted"), "not the first of them"),
    *[
        ("anomalies.1", answer, said)
        for word, said in {
            "slices": "a mean over slices",
            "empty slices": "a mean over slices",
            "ill slices": "a mean over slices",
            "no Dice": "a mean over slices",
            "marked slices": "a mean over slices",
            "strict": "*at* the threshold counts as found",
            "iou": "took the intersection over union",
            "union": "divided by |A ∪ B|",
            "half": "the 2 is missing",
            "accuracy": "took the share of pixels that are right",
            "precision": "took the share of marked pixels that are lesion",
            "sensitivity": "took the share of the lesion's pixels that are marked",
        }.items()
        for answer in (how(honest, word), partial(honest, how=word, choose=word))
    ],
    ("anomalies.1", partial(honest, choose="strict"), "*at* the threshold counts as found"),
    ("anomalies.1", partial(honest, choose="ill slices"), "a mean over slices"),
    ("anomalies.1", partial(honest, choose="marked slices"), "a mean over slices"),
    ("anomalies.1", partial(honest, how="val dice", choose="ill slices"), "I expected threshold"),
    ("anomalies.1", lambda *a: (honest(*a, how="test")[0], 0.5), "is best on the *test*"),
    ("anomalies.1", how(honest, "other"), "I expected threshold"),
    ("anomalies.1", lambda *a: (0.42, 0.42), "I expected threshold"),
    ("anomalies.2", residual, "✓"),
    ("anomalies.2", lambda x, y: torch.tensor(residual(x, y)), "✓"),
    ("anomalies.2", lambda x, y: abs(ndimage.median_filter(x - y, (1, 5, 5))), "✓"),
    ("anomalies.2", lambda x, y: residual(x, y) ** 2, "✓"),
    ("anomalies.2", lambda x, y: residual(x, y).mean(0), "a map for each slice"),
    ("anomalies.2", lambda x, y: "map", "got str"),
    ("anomalies.2", lambda x, y: x * np.inf, "NaN or infinite"),
    ("anomalies.2", how(residual, "alone"), "depends on the other slices"),
    ("anomalies.2", normalised_together, "depends on the other slices"),
    ("anomalies.2", how(residual, "low side"), "of bright lesions, but"),
    ("anomalies.2", how(residual, "high side"), "of dark lesions, but"),
    ("anomalies.2", how(residual, "upside down"), "Turn it round"),
    ("anomalies.2", how(residual, "no drawing"), "does not depend on x_hat"),
    ("anomalies.2", how(residual, "no image"), "does not depend on x."),
    ("anomalies.2", lambda x, y: abs(x - y), "the edges are still in it"),
    ("anomalies.2", how(residual, "edges"), "the edges are still in it"),
    *[
        ("anomalies.2", how(residual, f"width {width}"), "too narrow or too wide")
        for width in (0.5, 0.95, 5, 6)
    ],
    ("anomalies.2", lambda x, y: ndimage.gaussian_filter((x - y) ** 2, (0, 6, 6)), "the edges are"),
    ("anomalies.3", matched, "✓"),
    ("anomalies.3", matched_in_arrays, "✓"),
    ("anomalies.3", lambda *a: "half", "I expected one number"),
    *[
        ("anomalies.3", how(matched, word), said)
        for word, said in {
            "all": "the AUC of all pairs",
            "heights": "matched by height only",
            "sites": "matched by scanner only",
            "either": "Both must agree",
            "strict": "*exactly* `apart`",
            "signed": "absolute difference",
            "ties lost": "with you it is lost",
            "ties won": "with you it is won",
            "ties out": "left out pairs with equal scores",
            "reversed": "the *healthy* slice scores higher",
            "per slice": "averaged the shares",
            "count": "number of pairs won",
            "all pairs": "divided by the number of all pairs",
            "bands": "put into bands",
        }.items()
    ],
    ("anomalies.3", lambda *a: 0.1 + matched(*a) / 3, "mm apart I expected"),
    ("anomalies.4", rates, "✓"),
    ("anomalies.4", lambda n: torch.tensor(rates(n, last=0.002)), "✓"),
    ("anomalies.4", lambda n: rates(n, last=0.009).tolist(), "✓"),
    ("anomalies.4", how(rates, "short"), "rates for 10 steps; got 9"),
    ("anomalies.4", lambda n: "β", "got str"),
    ("anomalies.4", lambda n: rates(n) - 0.5, "outside 0 … 1"),
    ("anomalies.4", how(rates, "alpha bar"), "these are ᾱ_t, not β_t"),
    ("anomalies.4", how(rates, "alpha"), "these are 1 − β_t"),
    ("anomalies.4", how(rates, "reversed"), "your rates are in reverse"),
    ("anomalies.4", how(rates, "first"), "after the first step ᾱ should be 0.999, and is 0.99"),
    ("anomalies.4", lambda n: rates(n, last=0.02), "and is 0.02"),
    ("anomalies.4", lambda n: rates(n, last=0.0005), "and is 0.0005"),
    ("anomalies.4", even_rates, "your rates rise evenly"),
    ("anomalies.4", lambda n: of_alpha_bar(np.linspace(0.999, 0.005, n)), "ᾱ falls evenly"),
    ("anomalies.4", lambda n: of_alpha_bar(np.geomspace(0.999, 0.005, n)), "log ᾱ falls evenly"),
    ("anomalies.4", how(rates, "uneven"), "in another"),
    ("anomalies.5", step, "✓"),
    ("anomalies.5", step_by_library, "✓"),
    ("anomalies.5", lambda *a: 0.5, "never asked the network"),
    *[
        ("anomalies.5", how(step, word), said)
        for word, said in {
            "shape": "the loss, one number",
            "random": "differs from call to call",
            "one step": "all images got the same step",
            "no root": "where its root belongs",
            "half root": "where its root belongs",
            "one minus": "not 1 − √ᾱ",
            "loud": "without its factor",
            "full": "without its factor",
            "minus": "you subtracted the noise",
            "neighbour": "ᾱ of the step before",
            "pairs": "of shape (5, 5, 3, 4)",
            "swapped": "each other's factors",
            "beta": "needs no cumulative product",
            "product": "needs no cumulative product",
            "target": "compared the guess with the picture",
            "noisy": "with the noisy picture",
            "share": "the noise as it stands in the picture",
            "difference": "in which the picture has shrunk too",
            "clean": "must see the noisy picture",
            "sum": "you summed the squares",
            "image sums": "you summed the squares",
            "absolute": "The loss is a square",
            "root": "the root of the mean square",
            "halved": "half of the mean square",
            "steps": "got another t than the images",
            "no step": "the network has not changed",
            "no backward": "the network got no gradient",
            "early": "came before `backward`",
            "stale": "of the step before is still in yours",
            "zeroed": "nothing is left",
            "zeroed to none": "nothing is left",
            "twice": "made two steps",
            "other step": "but the network changed by",
            "other": "I expected",
        }.items()
    ],
    ("anomalies.6", back, "✓"),
    ("anomalies.6", back_through_the_image, "✓"),
    ("anomalies.6", lambda *a: back(*a)[0], "a tensor of shape (4, 3)"),
    ("anomalies.6", lambda *a: 0.5, "the last x; got float"),
    *[
        ("anomalies.6", how(back, word), said)
        for word, said in {
            "nan": "NaN or infinite",
            "order": "from the first step to the last",
            "no noise": "you add no noise",
            "last noise": "nothing is added",
            "beta": "has variance β_t",
            "usual": "has variance β_t",
            "variance": "by its variance",
            "beta itself": "by its variance",
            "nothing": "nothing is added",
            "ratio": "turn the fraction round",
            "wrap": "`left[-1]`, the last of all",
            "rates": "not of all β",
            "random": "differs from call to call",
            "start": "begins with x itself",
            "z order": "in the order of your loop",
            "z before": "You took z[t − 1]",
            "no division": "and yours is not",
            "no root": "by 1 − β_t. Take the root",
            "multiplied": "Divide by it",
            "all steps": "by √ᾱ_t, the factor of all steps",
            "alpha": "took it for 1 − β_t",
            "one minus": "and yours by (1 − β_t)",
            "x alone": "but not the guess",
            "noise too": "It stands outside the brackets",
            "root": "and yours by √β_t",
            "rate": "and yours by β_t.",
            "no root below": "and yours by β_t / (1 − ᾱ_t)",
            "plus": "you added the guessed noise",
            "all": "all the guessed noise away",
            "times": "other positions than the loop's",
            "turned": "other positions than the loop's",
            "stopped": "one step is missing",
            "late": "one step is missing",
            "other": "with 7 steps I expected",
        }.items()
    ],
    ("anomalies.6", back_by_jumps, "on the guessed x_0"),
    ("anomalies.6", lambda guess, x, beta, z: x / 2, "never asked the network"),
    ("anomalies.6", every_x, "the last x only"),
    ("anomalies.6", back_in_place, "changed its arguments"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    is_told_what_is_no_answer(id, capsys)


RIGHT = {"anomalies.1": honest, "anomalies.2": residual, "anomalies.3": matched}
RIGHT |= {"anomalies.5": step}


@pytest.mark.parametrize("id", sorted(RIGHT))
def test_answers_that_change_their_arguments_are_right(id, capsys):
    check(id, hasty(RIGHT[id]))
    assert capsys.readouterr().out.startswith("✓")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Other widths that are good enough, or the same numbers
EQUIVALENT = [
    "anomalies.1: return 2 * (found & truth).sum() / (found.sum() + truth.sum()) → return 2 * (truth & found).sum() / (found.sum() + truth.sum())",
    "anomalies.2: blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 2)) → blurred = ndimage.gaussian_filter(x - x_hat, (0, 1, 2))",
    "anomalies.2: blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 2)) → blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 1))",
    "anomalies.2: blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 2)) → blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 3))",
    "anomalies.2: blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 2)) → blurred = ndimage.gaussian_filter(x - x_hat, (0, 3, 2))",
    "anomalies.2: blurred = ndimage.gaussian_filter(x - x_hat, (0, 2, 2)) → blurred = ndimage.gaussian_filter(x_hat - x, (0, 2, 2))",
    "anomalies.3: if sites[i] == sites[j] and abs(heights[i] - heights[j]) <= apart: → if sites[i] == sites[j] and abs(heights[j] - heights[i]) <= apart:",
    "anomalies.4: ends = torch.logit(torch.tensor([0.999, 0.005], dtype=torch.float64)) → ends = torch.logit(torch.tensor([0.999, 0.005]))",
    "anomalies.4: level = torch.linspace(ends[0], ends[1], steps, dtype=torch.float64) → level = torch.linspace(ends[0], ends[1], steps)",
    "anomalies.5: loss = (guess(noisy, t) - noise).square().mean() → loss = (noise - guess(noisy, t)).square().mean()",
]


def test_no_changed_solution_is_called_right():
    assert ticked("22_anomalies_and_diffusion", "anomalies") == EQUIVALENT
