"""The assignments: their code runs, their names exist, and a model solution gives the figures."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
import torch.nn.functional as F
from pydicom.data import get_testdata_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medlab
from medlab import metrics
from medlab.cohort import to_float

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks" / "assignments"
PAGES = sorted(FOLDER.glob("*.md"))


def blocks(name: str) -> list[str]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```python\n(.*?)^ *```", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in found]


def promised(name: str) -> dict[str, list[float]]:
    """The rows of the page's table of figures: what -> the numbers of its last column."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    table = re.search(r"\| figure \|[^\n]*\n\|---[^\n]*\n((?:\|[^\n]*\n)+)", text)[1]
    rows = [row.strip("| ").split(" | ") for row in table.strip().split("\n")]
    return {row[0]: [float(x) for x in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", row[-1])]
            for row in rows}  # fmt: skip


# ------------------------------------------------------------------------------------ the pages


def test_both_parts_have_a_page_and_a_guide():
    assert [page.stem for page in PAGES] == ["part_1", "part_1_marking", "part_2", "part_2_marking"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_of_the_package_exist(page):
    for dotted in re.findall(r"`?medlab((?:\.\w+)+)", page.read_text(encoding="utf-8")):
        value = medlab
        for name in dotted[1:].split("."):
            value = getattr(value, name)


@pytest.mark.parametrize("name", ["part_1.md", "part_2.md"])
def test_points_add_up_to_a_hundred(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    tasks = re.findall(r"^## \d · [^\n]*\((\d+) points\)", text, re.M)
    assert sum(map(int, tasks)) == 100
    if name == "part_1.md":
        for points, body in re.findall(r"\((\d+) points\)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
            parts = re.findall(r"^- \w\. \((\d+)\)", body, re.M)
            assert not parts or sum(map(int, parts)) == int(points)


@pytest.mark.parametrize("name", ["part_1", "part_2"])
def test_the_guide_gives_each_task_its_points(name):
    task = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    guide = (FOLDER / f"{name}_marking.md").read_text(encoding="utf-8")
    in_guide = [int(p) for p in re.findall(r"^\| \d[^|]*\((\d+)\) \|", guide, re.M)]
    assert sum(in_guide) == 100
    fine = re.findall(r"^- \w\. \((\d+)\)", task, re.M)
    if fine:
        assert in_guide[: len(fine)] == [int(p) for p in fine]


@pytest.mark.parametrize("name", ["breastmnist", "retinamnist", "dermamnist"])
def test_the_real_sets_it_offers_exist(name):
    assert f'"{name}"' in (FOLDER / "part_2.md").read_text(encoding="utf-8")
    card = medlab.datasets.card(name)
    classes = {"breastmnist": 2, "retinamnist": 5, "dermamnist": 7}
    assert len(card.classes) == classes[name]


# ------------------------------------------------------------------------------------ part I

PART_1 = promised("part_1_marking.md")


def test_part_1_bytes_become_hounsfield_units():
    path = get_testdata_file("CT_small.dcm", download=False)
    header = pydicom.dcmread(path)
    kind = f"<{'i' if header.PixelRepresentation else 'u'}{header.BitsAllocated // 8}"
    stored = np.frombuffer(header.PixelData, kind).reshape(header.Rows, header.Columns)
    hu = stored * float(header.RescaleSlope) + float(header.RescaleIntercept)
    gap = np.abs(hu - medlab.dicom.read_image(path).pixels.numpy()).max()
    assert PART_1["1a, largest difference"] == [0] and gap == 0


class Convolution:
    """The layer of task 2: NumPy alone."""

    def __init__(self, weight, bias, *, stride=1, padding=0):
        self.weight, self.bias, self.stride, self.padding = weight, bias, stride, padding

    def forward(self, x):
        k, s, p = self.weight.shape[-1], self.stride, self.padding
        self.padded = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)])
        windows = np.lib.stride_tricks.sliding_window_view(self.padded, (k, k), axis=(2, 3))
        self.windows = windows[:, :, ::s, ::s]
        return np.einsum("ncijab,ocab->noij", self.windows, self.weight) + self.bias[:, None, None]

    def backward(self, grad):
        k, s, p = self.weight.shape[-1], self.stride, self.padding
        back = np.zeros_like(self.padded)
        rows, columns = grad.shape[2:]
        for a in range(k):
            for b in range(k):
                reach = np.einsum("noij,oc->ncij", grad, self.weight[:, :, a, b])
                back[:, :, a : a + s * rows : s, b : b + s * columns : s] += reach
        height, width = (n - 2 * p for n in self.padded.shape[2:])
        inner = back[:, :, p : p + height, p : p + width]
        return inner, np.einsum("noij,ncijab->ocab", grad, self.windows), grad.sum((0, 2, 3))


def test_part_1_a_layer_by_hand_equals_the_library():
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(20):
        n, c, o = rng.integers(1, 4, 3)
        k, s, p = rng.integers(1, 5), rng.integers(1, 4), rng.integers(0, 3)
        x = rng.standard_normal((n, c, *rng.integers(k, 12, 2)))
        weight, bias = rng.standard_normal((o, c, k, k)), rng.standard_normal(o)
        layer = Convolution(weight, bias, stride=s, padding=p)
        y = layer.forward(x)
        leaves = [torch.tensor(v, requires_grad=True) for v in (x, weight, bias)]
        theirs = F.conv2d(*leaves, stride=int(s), padding=int(p))
        grad = rng.standard_normal(y.shape)
        theirs.backward(torch.from_numpy(grad))
        pairs = [(y, theirs.detach()), *zip(layer.backward(grad), [v.grad for v in leaves],
                                            strict=True)]  # fmt: skip
        worst = max(worst, *(np.abs(a - b.numpy()).max() for a, b in pairs))
    assert worst < PART_1["2b, largest error of output and gradients"][0] == 1e-10

    grad_x, _, _ = layer.backward(grad)
    place, step = tuple(0 for _ in x.shape), 1e-5
    sides = []
    for sign in (1, -1):
        moved = x.copy()
        moved[place] += sign * step
        sides.append((layer.forward(moved) * grad).sum())
    numeric = (sides[0] - sides[1]) / (2 * step)
    assert abs(numeric - grad_x[place]) < PART_1["2b, gradient against central differences"][0]


@pytest.fixture(scope="module")
def delivered():
    (code,) = blocks("part_1.md")
    names: dict = {}
    exec(compile(code, "part_1.md", "exec"), names)
    return names["delivered"], names["negative"]


def standardised(images):
    flat = images.flatten(1).double()
    return (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)


def mended(cohort):
    pixels = standardised(cohort.images)
    likeness = (pixels * pixels.median(0).values).mean(1)
    bad = likeness < 0
    images = torch.where(bad[:, None, None, None], 255 - cohort.images, cohort.images)
    return images, bad


def mirrored_pairs(images):
    where = {image.numpy().tobytes(): i for i, image in enumerate(images)}
    pairs = [(i, where.get(image.flip(-1).contiguous().numpy().tobytes()))
             for i, image in enumerate(images)]  # fmt: skip
    return [(i, j) for i, j in pairs if j is not None and i < j]


def nearest_neighbour_accuracy(train, test):
    a, b = standardised(train.images), standardised(test.images)
    nearest = torch.cdist(b, a).argmin(1)
    return float((train.labels[nearest] == test.labels).float().mean())


def test_part_1_faults_are_found_and_a_leak_has_a_price(delivered):
    cohort, negative = delivered
    images, bad = mended(cohort)
    assert sorted(bad.nonzero()[:, 0].tolist()) == sorted(negative)
    assert PART_1["3a, negatives found"] == [30] == [int(bad.sum())]
    pairs = mirrored_pairs(images)
    assert PART_1["3b, pairs found"] == [12] == [len(pairs)]
    whole = medlab.Cohort(
        images=images, labels=cohort.labels, patients=cohort.patients, card=cohort.card
    )
    low, high = PART_1["3c, pairs that `leaks()` reports on the default split after mending"]
    found = whole.leaks()
    assert low <= len(found.near) + len(found.exact) <= high
    clean = whole[np.setdiff1d(np.arange(len(whole)), [j for _, j in pairs])]
    assert not clean.leaks()

    by_patient, by_image = [], []
    for seed in range(5):
        train, _, test = clean.split(seed=seed)
        by_patient.append(nearest_neighbour_accuracy(train, test))
        order = np.random.default_rng(seed).permutation(len(clean))
        cut = round(0.7 * len(clean))
        by_image.append(nearest_neighbour_accuracy(clean[order[:cut]], clean[order[cut:]]))
    means = {"split by image": np.mean(by_image), "split by patient": np.mean(by_patient)}
    for name, value in means.items():
        low, high = PART_1[f"4a, mean accuracy, {name}"]
        assert low <= value <= high, (name, value)
    gap = means["split by image"] - means["split by patient"]
    assert gap >= PART_1["4a, difference of the means"][-1], gap


# ------------------------------------------------------------------------------------ part II

PART_2 = promised("part_2_marking.md")


def flat(part):
    return to_float(part.images).flatten(1).numpy()


@pytest.mark.slow
def test_part_2_a_model_solution_lies_within_the_ranges(tmp_path):
    (code,) = blocks("part_2.md")
    names: dict = {}
    exec(compile(code, "part_2.md", "exec"), names)
    train, val, test = names["train"], names["val"], names["test"]
    assert PART_2["training, validation, test images"] == [len(train), len(val), len(test)]
    assert [len(part) for part in names["cohort"].split()] == [len(train), len(val), len(test)]
    assert not names["cohort"].leaks()

    def within(figure, value):
        low, high = PART_2[figure]
        assert low <= value <= high, (figure, value)

    rival = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    rival.fit(flat(train), train.labels)
    rival_scores = rival.predict_proba(flat(test))[:, 1]
    within("logistic regression, test AUC", metrics.auc(test.labels, rival_scores))

    sealed = medlab.report.Sealed(test, record=tmp_path / "openings.jsonl")
    opened = sealed.open("model solution of the assignment")
    away = opened.sites == "Harbour"
    torch.manual_seed(0)
    model = medlab.models.SmallCNN(in_channels=1, num_classes=2, width=8)
    medlab.fit(model, train, epochs=20, seed=0, precision="float32", progress=False)
    on_val, scores = medlab.predict(model, val)[:, 1], medlab.predict(model, opened)[:, 1]
    within("network, validation AUC", metrics.auc(val.labels, on_val))
    within("network, test AUC", metrics.auc(opened.labels, scores))
    for figure, where in {"Harbour": away, "the other hospitals": ~away}.items():
        within(f"network, test AUC at {figure}", metrics.auc(opened.labels[where], scores[where]))
    gain = metrics.bootstrap_difference(
        metrics.auc, opened.labels, scores, rival_scores, groups=opened.patients, n=500
    )
    (least,) = PART_2["gain over logistic regression, lower end of its interval"]
    assert gain.low > least

    here, there = train[train.labels == 0], opened[away][opened[away].labels == 0]
    tiny = [F.adaptive_avg_pool2d(to_float(p.images), 14).flatten(1) for p in (here, there)]
    plain = LogisticRegression(C=0.01, max_iter=300, class_weight="balanced")
    y = np.repeat([0, 1], [len(here), len(there)])
    told = cross_val_predict(
        make_pipeline(StandardScaler(), plain),
        torch.cat(tiny).numpy(),
        y,
        groups=np.concatenate([here.patients, there.patients]),
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        method="decision_function",
    )
    assert metrics.auc(y, told) > PART_2["telling Harbour from training, healthy only, AUC"][0]
    assert (tmp_path / "openings.jsonl").read_text().count("\n") == 1
    assert math.isclose(PART_2["telling Harbour from training, healthy only, AUC"][0], 0.75)
