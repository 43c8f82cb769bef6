"""Exercises of notebook 26: intervene, tabulate, judge maps, cover, balance, suspect."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from medlab.cohort import Cohort
from medlab.exercises import NotAttempted, Verdict, Wrong, call, exercise, near
from medlab.explain import gradient
from medlab.metrics import resamples
from medlab.training import predict

CORNER = (slice(27, 32), slice(1, 7))  # rows and columns that a stamp can reach, of 32×32 pixels

MESSAGES = {
    "shortcuts.1": {
        "right": "the same images with and without, one vote for each patient.",
        "format": "I expected three numbers, `return mean, low, high`; got {got}.",
        "sign": "your sign is turned round: after the change minus before it.",
        "absolute": "you averaged absolute differences. They are positive whatever happens; noise "
        "alone would look like an effect.",
        "images": "you averaged over images: who has four pictures counts four times. Average over "
        "each patient's images first, then over patients.",
        "sum": "you summed each patient's differences. Take their mean.",
        "after": "that is the mean score after the change. Subtract the score before it.",
        "unpaired": "your interval adds the spread of the scores before to that after. Both are of "
        "the same patients: subtract first, then take the spread.",
        "image error": "the mean is right, but your standard error counts images. Its numbers are "
        "the patients' means.",
        "spread": "the mean is right, but your interval is that of single patients. The mean's "
        "standard error is the spread divided by the root of the number of patients.",
        "root": "the mean is right, but you divided the spread by the number of patients. Divide "
        "it by the number's root.",
        "biased": "divide the squares by the number of patients minus one: ddof=1.",
        "factor": "the interval reaches 1.96 standard errors to either side.",
        "order": "low and high have changed places.",
        "other": "I expected {expected}, and got {got}.",
    },
    "shortcuts.2": {
        "right": "four groups, and one total would have hidden two of them.",
        "format": "I expected a table of 2 × 2 numbers; got {got}.",
        "ill": "you counted images *called ill*. Of the healthy, those called healthy are right.",
        "errors": "these are the shares called wrong. I asked for those called right.",
        "transposed": "rows are labels, columns are the sign. Yours are the other way round.",
        "columns": "without the sign comes first, column 0.",
        "rows": "the healthy come first, row 0.",
        "count": "these are counts. Divide each by the images in its cell.",
        "all": "you divided by all images. Divide by those in the cell.",
        "row": "you divided by all images of a row. Divide by those in the cell.",
        "column": "you divided by all images of a column. Divide by those in the cell.",
        "strict": "a score of exactly 0.5 calls ill.",
        "other": "at row {row}, column {column} I expected {expected:.3f}, and got {got:.3f}.",
    },
    "shortcuts.3": {
        "right": "the criterion leaves room for doubt.",
        "format": 'I expected "fails", "passes" or "undecided"; got {got}.',
        "turned": "a map that stays the same, far above the floor, is the one that fails.",
        "zero": "you compared with 0. The criterion is 0.1 above the floor.",
        "middle": "you judged the middle of the interval. Both of its ends must lie on one side.",
        "one end": "from {low:g} to {high:g} holds 0.1: that is undecided. One end on the right "
        "side is not enough.",
        "other": "from {low:g} to {high:g} I expected {expected}, and got {got}.",
    },
    "shortcuts.4": {
        "right": "with the stamp or without it, what is left is the same.",
        "format": "I expected pictures of shape {shape}; got {got}.",
        "changed": "the pictures you were given have changed: work on a copy.",
        "where": "you change some corners and leave others as they are. Then the change itself is "
        "the sign: cover every corner, whatever is in it.",
        "value": "every corner is covered, but its grey is {far:.2g} higher or lower where a "
        "stamp was: it was computed with the stamp in it.",
        "others": "a picture's cover depends on the other pictures of its batch. It must be the "
        "same whoever else is there.",
        "partial": "{count} of the corner's 30 pixels still show what was there.",
        "outside": "you changed {count} pixels outside the corner, which hold no stamp.",
        "all the same": "all your pictures are alike. Only the corner is covered.",
        "random": "two calls give two results. Use one fixed grey.",
        "nan": "your pictures hold NaN or infinite values. A mean over no stamped picture is NaN.",
    },
    "shortcuts.5": {
        "right": "each of the four cells is drawn with probability 1/4.",
        "format": "I expected one probability for each image; got {got}.",
        "nan": "your probabilities hold NaN.",
        "negative": "a probability is never negative.",
        "quarter": "each of your cells adds up to 1. Give it a quarter.",
        "each": "you gave 1/4 to every image. The images of a cell share the quarter.",
        "counts": "these are the numbers of images in each cell. An image of a large cell needs a "
        "small probability.",
        "sum": "your numbers add up to {total:.3g}. Probabilities of all images add up to 1.",
        "uniform": "every image is as probable as every other: then the cells are as they were.",
        "turned": "your images of frequent cells are the more probable ones. Rare cells need more.",
        "labels": "ill and healthy are drawn equally often, but among the ill the sign is still as "
        "frequent as before. Count the cells of label *and* sign.",
        "sign": "with and without the sign are drawn equally often, but the label is not balanced "
        "within either. Count the cells of label *and* sign.",
        "independent": "label and sign no longer go together, but rare labels or signs stay rare. "
        "I asked for four equal cells.",
        "within": "the cells are equal, but two images of one cell differ in probability.",
        "other": "label {label} with sign {sign} is drawn with probability {got:.3f}, not 1/4.",
    },
    "shortcuts.6": {
        "right": "the least suspicious cheat has {cheat:.3f}, the most suspicious honest network "
        "{honest:.3f}.",
        "format": "I expected one number for each network; got {got}.",
        "nan": "your suspicion is NaN.",
        "blind": "your suspicion is the same for all networks.",
        "random": "two calls give two suspicions: draw nothing at random, or with a fixed seed.",
        "reads": "the network that looks at {what} gets {cheat:.3f}, and an honest one "
        "{honest:.3f}. Which harmless change would move only the first?",
        "scores": "you looked at scores of the images as they are. Change the images, and see how "
        "the scores move.",
        "harmful": "all cheats are moved less than an honest network ({honest:.3f}): your change "
        "is not harmless, as it touches the middle, where illness shows, or what you return is not "
        "how far it moves the scores.",
    },
}


def material() -> SimpleNamespace:
    """Finished answers of the exercises, for what follows, and what plants, cures and judges."""
    answers = intervene, average, cells, verdict, cover, chances
    planted = signs, stamped, sharpened, taken, random_edges
    judged = log_odds, guided, redrawn, spearman, outlines, right_left, measured, odds_ratios
    return SimpleNamespace(**{each.__name__: each for each in (*answers, *planted, *judged)})


def _arrays(answer: Any) -> ndarray:
    """The answer as numbers; a `Wrong` "format" if it holds none."""
    if hasattr(answer, "low"):  # a metrics.Interval
        answer = answer.value, answer.low, answer.high
    if isinstance(answer, list | tuple):
        rows = [row for row in answer if isinstance(row, list | tuple)]
        if any(entry is ... for row in (answer, *rows) for entry in row):
            raise NotAttempted
    try:
        if torch.is_tensor(answer):
            return answer.detach().cpu().double().numpy()
        return np.asarray(answer, float)
    except (TypeError, ValueError):
        raise Wrong("format", got=type(answer).__name__) from None


# --- what the notebook plants, cures and judges with ---

AP = torch.tensor(
    [[int(dot) for dot in row] for row in ("0110110", "1010101", "1110110", "1010100", "1010100")]
)


def stamped(images: Tensor, places: Tensor, where: Tensor) -> Tensor:
    """Images (N, 1, 64, 64) in 0 … 1 with AP in the lower left corner, at places (N, 2) of 0 … 3.

    `where`: (N,) which images get it.
    """
    marks = torch.zeros_like(images)
    for k in where.nonzero()[:, 0].tolist():
        i, j = places[k].tolist()
        marks[k, :, 54 + i : 59 + i, 2 + j : 9 + j] = 0.4 * AP
    return (images + marks).clamp(0, 1)


def sharpened(images: Tensor, amount: float | Tensor = 0.3) -> Tensor:
    """Images with enhanced edges (unsharp masking over 3×3 pixels); softer if the amount is < 0."""
    return (images + amount * _fine(images)).clamp(0, 1)


def signs(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """(N,) whether each image gets a sign: 90 % of the ill and 10 % of the healthy do."""
    return torch.from_numpy(rng.random(len(labels)) < np.where(labels == 1, 0.9, 0.1))


def taken(images: Tensor, places: Tensor, stamp: Tensor, sharp: Tensor) -> Tensor:
    """Images (N, 1, 64, 64), stamped and sharpened where (N,) `stamp` and `sharp` say so."""
    return sharpened(stamped(images, places, stamp), 0.3 * sharp.float().view(-1, 1, 1, 1))


def random_edges(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (N, 1, H, W) sharpened or softened by −0.5 … 0.5, as an augmentation."""
    amount = torch.rand(len(pictures), 1, 1, 1, generator=generator, device=generator.device)
    return sharpened(pictures, amount - 0.5)


def log_odds(models: Sequence[nn.Module], pictures: Tensor) -> ndarray:
    """(N,) logit of illness less that of health, mean over models."""
    each = [np.asarray(predict(model, pictures, logits=True)) for model in models]
    logits = np.mean(each, 0)
    return logits[:, 1] - logits[:, 0]


def guided(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Guided backpropagation: the gradient, cut off at 0 on its way back through every ReLU.

    Source: Springenberg et al., arXiv:1412.6806 (2015), section 3.4.
    """

    def cut(_module: nn.Module, grad_input: Any, _grad_output: Any) -> Any:
        return (grad_input[0].clamp_min(0),)

    layers = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    handles = [layer.register_full_backward_hook(cut) for layer in layers]
    try:
        return gradient(model, images, target)
    finally:
        for handle in handles:
            handle.remove()


def redrawn(model: nn.Module, layers: int, seed: int) -> nn.Module:
    """A copy of the model whose last layers, so many, have new weights.

    Source: Adebayo et al., NeurIPS (2018), arXiv:1810.03292, section 3.1.
    """
    model = copy.deepcopy(model)
    drawn: list[Any] = [m for m in model.modules() if hasattr(m, "reset_parameters")]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in drawn[::-1][:layers]:
            layer.reset_parameters()
    return model


def spearman(a: Tensor, b: Tensor) -> ndarray:
    """(N,) rank correlation of each pair of maps (N, H, W); 0 where one is constant."""
    one, other = (rankdata(maps.flatten(1), axis=1) for maps in (a, b))
    one, other = (ranks - ranks.mean(1, keepdims=True) for ranks in (one, other))
    norm = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return (one * other).sum(1) / np.where(norm > 0, norm, np.inf)


def outlines(part: Cohort) -> Tensor:
    """(N, 64, 64) of 0 and 1, the lungs; where a set has no outlines, a box of two halves."""
    if "lungs" in part.extras:
        return torch.as_tensor(part.extras["lungs"]).float()
    box = torch.zeros(len(part), 64, 64)
    box[:, 12:52, 8:56] = 1
    return box


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum((1, 2)) / where.sum((1, 2)).clamp(min=1)


def right_left(grey: Tensor, lungs: Tensor) -> Tensor:
    """(N,) mean grey of the right lung, on the picture's left, less that of the left; (N, H, W)."""
    right = lungs * (torch.arange(grey.shape[-1]) < grey.shape[-1] // 2)
    return _mean(grey, right) - _mean(grey, lungs - right)


def measured(images: Tensor, lungs: Tensor, usual: float | Tensor) -> ndarray:
    """(N, 3) features inside lungs (N, H, W) of 0 and 1, of images (N, 1, H, W).

    Mean grey; asymmetry, how far right less left lies from what is usual; texture, the mean size
    of what lies between a pixel and its neighbourhood of 3×3.
    """
    grey = images[:, 0]
    asymmetry = (right_left(grey, lungs) - usual).abs()
    texture = _mean(_fine(images)[:, 0].abs(), lungs)
    return torch.stack([_mean(grey, lungs), asymmetry, texture], 1).numpy()


def odds_ratios(
    features: ndarray, labels: Any, owners: ndarray, n: int = 200
) -> tuple[Pipeline, ndarray]:
    """Logistic regression on K standardised features, and (3, K): odds ratios, low and high.

    The 95 % intervals come from refitting on n resamples of the patients, `owners` (N,).
    """

    def fitted(weight: Any = None) -> Pipeline:
        model = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
        return model.fit(features, labels, logisticregression__sample_weight=weight)

    def ratios(model: Pipeline) -> ndarray:
        return np.exp(model[-1].coef_[0])

    model = fitted()
    blocks = resamples(labels, groups=owners, n=n)
    many = [ratios(fitted(weight)) for block in blocks for weight in block]
    return model, np.stack([ratios(model), *np.quantile(many, (0.025, 0.975), axis=0)])


# --- 1: the intervention ---


def average(values: Any, patients: ndarray) -> tuple[float, float, float]:
    """Mean over patients of their images' means, and its 95 % interval (1.96 standard errors)."""
    _, who = np.unique(patients, return_inverse=True)
    each = np.bincount(who, np.asarray(values, float)) / np.bincount(who)
    mean, error = each.mean(), each.std(ddof=1) / len(each) ** 0.5
    return float(mean), float(mean - 1.96 * error), float(mean + 1.96 * error)


def intervene(
    score: Callable[[Tensor], Any],
    images: Tensor,
    change: Callable[[Tensor], Tensor],
    patients: ndarray,
) -> tuple[float, float, float]:
    """By how much a change of the images moves their scores: mean over patients, and interval."""
    before = np.asarray(score(images), float)
    return average(np.asarray(score(change(images)), float) - before, patients)


def _by(numbers: ndarray, root: float = 1.0, ddof: int = 1, factor: float = 1.96) -> tuple:
    """Mean ± factor · SD / root."""
    half = factor * numbers.std(ddof=ddof) / root
    return numbers.mean(), numbers.mean() - half, numbers.mean() + half


def _slips(before: ndarray, after: ndarray, patients: ndarray) -> Iterator[tuple[str, Any]]:
    """(key, what the mistake returns)."""

    def each(values: ndarray) -> ndarray:
        _, who = np.unique(patients, return_inverse=True)
        return np.bincount(who, values) / np.bincount(who)

    d = after - before
    means, images = each(d), len(d)
    root = len(means) ** 0.5
    mean = means.mean()
    sums = means * np.unique(patients, return_counts=True)[1]
    both = np.hypot(each(before).std(ddof=1), each(after).std(ddof=1)) / root
    yield "sign", _by(-means, root)
    yield "absolute", _by(each(abs(d)), root)
    yield "absolute", _by(abs(means), root)
    yield "absolute", _by(abs(d), images**0.5)
    yield "images", _by(d, images**0.5)
    yield "images", _by(d, images**0.5, 0)
    yield "images", _by(d, root)
    of_image = means[np.unique(patients, return_inverse=True)[1]]  # a loop without `unique`
    yield "images", _by(of_image, images**0.5)
    yield "images", _by(of_image, root)
    yield "images", (d.mean(), *_by(means, root)[1:])
    yield "sum", _by(sums, root)
    yield "after", _by(each(after), root)
    yield "unpaired", (mean, mean - 1.96 * both, mean + 1.96 * both)
    for ddof in (0, 1):
        half = 1.96 * d.std(ddof=ddof) / images**0.5
        yield "image error", (mean, mean - half, mean + half)
        half = 1.96 * d.std(ddof=ddof) / root
        yield "image error", (mean, mean - half, mean + half)
        yield "image error", _by(means, images**0.5, ddof)
        yield "root", _by(means, len(means), ddof)
        yield "spread", _by(means, 1, ddof)
        yield "spread", _by(means, 1, ddof, 1)
    yield "spread", (mean, *np.quantile(means, [0.025, 0.975]))
    yield "spread", (mean, means.min(), means.max())
    yield "biased", _by(means, root, 0)
    for factor in (1, 1.645, 2, 2.576):
        yield "factor", _by(means, root, 1, factor)
    yield "order", (mean, *_by(means, root)[:0:-1])


@exercise("shortcuts.1", MESSAGES["shortcuts.1"])
def intervention(answer: Any) -> Verdict:
    for seed, lift in ((0, 0.6), (1, -0.4)):
        rng = np.random.default_rng(seed)
        names = rng.permutation([f"P{k}" for k in range(9)])
        patients = rng.permutation(np.repeat(names, [1, 1, 2, 2, 3, 3, 4, 4, 1]))
        images = torch.from_numpy(rng.random((len(patients), 1, 4, 5)).astype(np.float32))

        def score(pictures: Tensor) -> ndarray:
            return torch.sigmoid(6 * (pictures.mean((1, 2, 3)) - 0.5)).numpy()

        def change(pictures: Tensor, lift: float = lift) -> Tensor:
            return pictures + lift * (pictures[:, :, :1] - 0.5)

        given = images.clone()
        got = _arrays(call(answer, score, given, change, patients.copy()))
        if got.shape != (3,):
            return "format", {"got": f"shape {got.shape}"}
        expected = intervene(score, images, change, patients)
        if near(got, expected, rel=1e-4, absolute=1e-5):
            continue
        for key, slip in _slips(score(images), score(change(images)), patients):
            if near(got, slip, rel=1e-4, absolute=1e-5):
                return key
        told = {"expected": _told(expected), "got": _told(got)}
        return "other", told
    return "right"


def _told(numbers: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in numbers)


# --- 2: the cells ---


def cells(labels: Any, sign: Any, scores: Any) -> ndarray:
    """(2, 2) share of images called right, of each label (row) without and with a sign (column)."""
    return _table(labels, sign, scores)


def _table(labels: Any, sign: Any, scores: Any, how: str = "") -> ndarray:
    labels, sign, scores = (np.asarray(v) for v in (labels, sign, scores))
    called = scores > 0.5 if how == "strict" else scores >= 0.5
    hit = called if how == "ill" else called == (labels == 1)
    hit = ~hit if how == "errors" else hit
    inside = [[(labels == k) & (sign == s) for s in (0, 1)] for k in (0, 1)]
    counts = np.array([[(cell & hit).sum() for cell in row] for row in inside], float)
    sizes = np.array([[cell.sum() for cell in row] for row in inside], float)
    size = {
        "count": np.ones(()),
        "all": sizes.sum(),
        "row": sizes.sum(1, keepdims=True),
        "column": sizes.sum(0, keepdims=True),
    }.get(how, sizes)
    return counts / size


@exercise("shortcuts.2", MESSAGES["shortcuts.2"])
def table(answer: Any) -> Verdict:
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat([0, 0, 1, 1], [11, 5, 7, 20]))
        sign = rng.random(len(labels)) < np.where(labels == 1, 0.7, 0.3)
        scores = np.round(rng.random(len(labels)), 1)
        scores[:8] = 0.5
        given = labels.copy(), sign.copy(), scores.copy()
        got = _arrays(call(answer, *given))
        if got.shape != (2, 2):
            return "format", {"got": f"shape {got.shape}"}
        want = cells(labels, sign, scores)
        if near(got, want, rel=1e-4, absolute=1e-5):
            continue
        for how in ("ill", "errors", "count", "all", "row", "column", "strict"):
            if near(got, _table(labels, sign, scores, how), rel=1e-4, absolute=1e-5):
                return how
        turned = {"transposed": want.T, "columns": want[:, ::-1], "rows": want[::-1]}
        for key, value in turned.items():
            if near(got, value, rel=1e-4, absolute=1e-5):
                return key
        far = np.nan_to_num(abs(got - want), nan=np.inf)
        row, column = np.unravel_index(far.argmax(), (2, 2))
        values = {"expected": want[row, column], "got": got[row, column]}
        return "other", {"row": int(row), "column": int(column)} | values
    return "right"


# --- 3: the criterion ---


def verdict(low: float, high: float) -> str:
    """Of a 95 % interval of ρ less the floor: "fails" above 0.1, "passes" below, "undecided"."""
    return "fails" if low > 0.1 else "passes" if high < 0.1 else "undecided"


# (low, high) and what each wrong rule says of it
_INTERVALS = (
    (0.2, 0.3), (-0.3, -0.2), (-0.2, 0.05), (0.02, 0.08), (0.05, 0.2), (-0.4, 0.12),
    (0.09, 0.2), (0.11, 0.2), (0.0, 0.11), (-0.1, 0.09),
)  # fmt: skip
_RULES: dict[str, Callable[[float, float], str]] = {
    "turned": lambda low, high: {"fails": "passes", "passes": "fails"}.get(
        verdict(low, high), "undecided"
    ),
    "zero": lambda low, high: "fails" if low > 0 else "passes" if high < 0 else "undecided",
    "middle": lambda low, high: "fails" if low + high > 0.2 else "passes",
}


@exercise("shortcuts.3", MESSAGES["shortcuts.3"])
def criterion(answer: Any) -> Verdict:
    told = []
    for low, high in _INTERVALS:
        got = call(answer, low, high)
        word = got.strip().lower() if isinstance(got, str) else None
        if word not in ("fails", "passes", "undecided"):
            return "format", {"got": repr(got)}
        told.append(word)
    wanted = [verdict(*ends) for ends in _INTERVALS]
    if told == wanted:
        return "right"
    for key, rule in _RULES.items():
        if told == [rule(*ends) for ends in _INTERVALS]:
            return key
    k = next(k for k, (got, want) in enumerate(zip(told, wanted, strict=True)) if got != want)
    low, high = _INTERVALS[k]
    values = {"low": low, "high": high, "expected": wanted[k], "got": told[k]}
    return "one end" if wanted[k] == "undecided" else "other", values


# --- 4: a cover that leaks nothing ---


def cover(pictures: Tensor) -> Tensor:
    """(N, 1, 32, 32) with the corner black in every picture."""
    covered = pictures.clone()
    covered[:, :, *CORNER] = 0
    return covered


def _corners(seed: int) -> tuple[Tensor, Tensor]:
    """Pictures without a stamp, and the same with a bright one somewhere in the corner."""
    rng = torch.Generator().manual_seed(seed)
    plain = 0.1 + 0.5 * torch.rand(9, 1, 32, 32, generator=rng)
    plain[1::4, :, *CORNER] *= 0.25  # dark corners, below any threshold for a stamp
    signs = torch.zeros_like(plain)
    for k in range(9):
        top, left = 27 + k % 3, 1 + k % 3
        signs[k, :, top : top + 3, left : left + 4] = 0.4 + 0.3 * torch.rand(3, 4, generator=rng)
    return plain, (plain + signs).clamp(0, 1)


def _pictures(answer: Any, given: Tensor) -> Tensor:
    got = call(answer, given)
    got = torch.from_numpy(got) if isinstance(got, ndarray) else got
    if not torch.is_tensor(got) or got.shape != given.shape:
        told = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
        raise Wrong("format", shape=tuple(given.shape), got=told)
    if not torch.isfinite(got).all():
        raise Wrong("nan")
    return got.detach().float().clone()


@exercise("shortcuts.4", MESSAGES["shortcuts.4"])
def covering(answer: Any) -> Verdict:
    plain, stamp = _corners(0)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[CORNER] = True
    mixed = torch.where((torch.arange(9) % 2 == 0).view(-1, 1, 1, 1), stamp, plain)
    given = mixed.clone()
    got = _pictures(answer, given)
    if not torch.equal(given, mixed) and given.any():
        return "changed"
    if not torch.equal(_pictures(answer, mixed.clone()), got):
        return "random"
    moved = (got - mixed).abs() > 1e-6
    if len(got.flatten(1).unique(dim=0)) == 1:
        return "all the same"
    if outside := int((moved.any(0)[0] & ~inside).sum()):
        return "outside", {"count": outside}
    covered = moved.flatten(1).any(1)
    if (~covered).any() and covered.any():
        return "where"
    # The corner of the stamped and of the plain, each in a batch of its own and in a mixed one
    alone = torch.cat([_pictures(answer, picture[None].clone()) for picture in mixed])
    if not torch.allclose(alone, got, atol=1e-5):
        return "others"
    pair = torch.stack([_pictures(answer, v.clone()) for v in (plain, stamp)])[..., inside]
    shift = pair[1] - pair[0]
    kept = (pair[1] - stamp[..., inside]).abs() < 1e-6
    if count := int((kept.all(0).all(0)).sum()):
        return "partial", {"count": count}
    if float(shift.abs().max()) > 1e-5:
        return "value", {"far": float(shift.abs().max())}
    return "right"


# --- 5: equal cells ---


def chances(labels: Any, sign: Any) -> ndarray:
    """(N,) probabilities to draw each image, with which every cell of label and sign has 1/4."""
    cell = 2 * np.asarray(labels, int) + np.asarray(sign, int)
    chance = 1 / np.bincount(cell)[cell]
    return chance / chance.sum()


@exercise("shortcuts.5", MESSAGES["shortcuts.5"])
def balance(answer: Any) -> Verdict:
    for seed, sizes in ((0, (40, 6, 9, 25)), (1, (3, 12, 30, 5))):
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), sizes))
        labels, sign = order // 2, order % 2 == 1
        got = _arrays(call(answer, labels.copy(), sign.copy()))
        if got.shape != labels.shape:
            return "format", {"got": f"shape {got.shape}"}
        if np.isnan(got).any():
            return "nan"
        if (got < 0).any():
            return "negative"
        n, of = len(labels), np.bincount(order)[order]
        if not near(got.sum(), 1, rel=1e-4):
            unshared = {"quarter": 1 / of, "each": np.full(n, 0.25), "counts": of}
            for key, slip in unshared.items():
                if near(got, slip, rel=1e-4):
                    return key
            return "sum", {"total": got.sum()}
        if near(got, chances(labels, sign), rel=1e-4):
            continue
        by_label, by_sign = (np.bincount(v)[v] for v in (labels, sign.astype(int)))
        slips = {
            "uniform": np.ones(n),
            "turned": of,
            "labels": 1 / by_label,
            "sign": 1 / by_sign,
            "independent": by_label * by_sign / of,
        }
        for key, slip in slips.items():
            if near(got, slip / slip.sum(), rel=1e-4):
                return key
        cells = np.bincount(order, got)
        if near(cells, np.full(4, 0.25), rel=1e-4):
            return "within"
        k = int(abs(cells - 0.25).argmax())
        return "other", {"label": k // 2, "sign": k % 2, "got": cells[k]}
    return "right"


# --- 6: five networks ---


def _fine(images: Tensor) -> Tensor:
    """What sharpening enlarges: the picture less its mean over 3×3 pixels."""
    return images - F.avg_pool2d(F.pad(images, (1,) * 4, mode="replicate"), 3, 1)


def _five(corner: tuple[int, int], way: float) -> dict[str, Callable[[Tensor], ndarray]]:
    """Two honest networks and three that cheat: what they look at, and their scores."""
    rows, columns = (slice(24, 32) if k else slice(0, 8) for k in corner)

    def opacity(x: Tensor) -> Tensor:
        return x[:, :, 12:20, 12:20].mean((1, 2, 3)) - x[:, :, 9:23, 9:23].mean((1, 2, 3))

    def stamp(x: Tensor) -> Tensor:
        return (x[:, :, rows, columns] > 0.68).float().mean((1, 2, 3))

    def middle(x: Tensor) -> Tensor:  # the median, which a small stamp does not move
        return x.abs().flatten(1).median(1).values

    looks = {
        "honest": lambda x: 20 * (opacity(x) - 0.05) + 3 * (middle(x) - 0.4),
        "honest, sure of itself": lambda x: 120 * (opacity(x) - 0.05),
        "a corner": lambda x: 12 * (opacity(x) - 0.05) + way * 25 * (stamp(x) - 0.1),
        "sharpness": lambda x: 12 * (opacity(x) - 0.05) + way * 120 * (middle(_fine(x)) - 0.025),
        "brightness": lambda x: 12 * (opacity(x) - 0.05) - way * 25 * (middle(x) - 0.4),
    }

    def scored(look: Callable[[Tensor], Tensor]) -> Callable[[Tensor], ndarray]:
        return lambda x: torch.sigmoid(look(x)).numpy()

    return {name: scored(look) for name, look in looks.items()}


def _chests(seed: int) -> Tensor:
    """(40, 1, 32, 32) in 0 … 1: slow clouds, grain, and in half of them a bright middle."""
    rng = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(torch.rand(40, 1, 5, 5, generator=rng), (32, 32), mode="bicubic")
    images = 0.3 + 0.2 * coarse + 0.04 * torch.randn(40, 1, 32, 32, generator=rng)
    images[::2, :, 12:20, 12:20] += 0.15
    return images.clamp(0, 1)


@exercise("shortcuts.6", MESSAGES["shortcuts.6"])
def five_networks(answer: Any) -> Verdict:
    least, most = np.inf, 0.0
    for seed, corner, way in ((0, (1, 0), 1.0), (1, (0, 1), -1.0), (2, (1, 1), 1.0)):
        images, five = _chests(seed), _five(corner, way)
        found, changed = {}, False

        def watched(score: Callable[[Tensor], ndarray], images: Tensor = images) -> Callable:
            def look(x: Tensor) -> ndarray:
                nonlocal changed
                known = (x.flatten(1)[:, None] == images.flatten(1)).all(2).any(1)
                changed |= not known.all()
                return score(x)

            return look

        for name, score in five.items():
            got = _arrays(call(answer, watched(score), images.clone()))
            if got.size != 1:
                return "format", {"got": f"shape {got.shape}"}
            found[name] = float(got.item())
        again = _arrays(call(answer, five["a corner"], images.clone())).item()
        if not np.isfinite(list(found.values())).all():
            return "nan"
        if again != found["a corner"]:
            return "random"
        if len(set(found.values())) == 1:
            return "blind"
        if not changed:
            return "scores"
        honest = max(found.pop("honest"), found.pop("honest, sure of itself"))
        if max(found.values()) <= honest:
            return "harmful", {"honest": honest}
        what = min(found, key=lambda name: found[name])
        if found[what] <= honest:
            return "reads", {"what": what, "cheat": found[what], "honest": honest}
        least, most = min(least, found[what]), max(most, honest)
    return "right", {"cheat": least, "honest": most}
