"""The assignments: their code runs, their names exist, and a model solution gives the figures."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
import torch.nn.functional as F
from pydicom.data import get_testdata_file
from scipy.ndimage import gaussian_filter, label
from scipy.spatial.distance import pdist
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medlab
from medlab import explain, metrics
from medlab.cohort import to_float
from medlab.exercises import material

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks" / "assignments"
GUIDES = ROOT / "notebooks" / "teaching"
PAGES = [*sorted(FOLDER.glob("*.md")), *sorted(GUIDES.glob("*_marking.md"))]
VARIANTS = [f"part_{k}{variant}" for k in (1, 2, 3, 4) for variant in ("", "_light")]


def blocks(name: str) -> list[str]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```python\n(.*?)^ *```", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in found]


def promised(name: str) -> dict[str, list[float]]:
    """The rows of a guide's table of figures: what -> the numbers of its last column."""
    text = (GUIDES / name).read_text(encoding="utf-8")
    table = re.search(r"\| figure \|[^\n]*\n\|---[^\n]*\n((?:\|[^\n]*\n)+)", text)[1]
    rows = [row.strip("| ").split(" | ") for row in table.strip().split("\n")]
    number = r"−?\d+(?:\.\d+)?(?:e-\d+)?"
    return {row[0]: [float(x.replace("−", "-")) for x in re.findall(number, row[-1])]
            for row in rows}  # fmt: skip


# ------------------------------------------------------------------------------------ the pages


def test_each_part_has_two_pages_and_a_guide():
    assert sorted(page.stem for page in FOLDER.iterdir()) == sorted(VARIANTS)
    assert [page.stem for page in sorted(GUIDES.glob("*_marking.md"))] == [
        f"part_{k}_marking" for k in (1, 2, 3, 4)
    ]


def test_no_page_of_a_learner_leads_to_a_guide():
    pages = [*FOLDER.glob("*.md"), *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/*.md")]
    assert [p.name for p in pages if re.search(r"_marking|teaching/", p.read_text("utf-8"))] == []


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


def points(name: str) -> list[int]:
    """The points of a page in order: of a task's parts, or of the task if it has none."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    rows = []
    tasks = r"^## \d · [^\n]*\((\d+) points\)\n(.*?)(?=^## |\Z)"
    for whole, body in re.findall(tasks, text, re.M | re.S):
        parts = [int(p) for p in re.findall(r"^- \w\. \((\d+)\)", body, re.M)]
        assert not parts or sum(parts) == int(whole)
        rows += parts or [int(whole)]
    return rows


@pytest.mark.parametrize("name", VARIANTS)
def test_points_add_up_to_a_hundred_and_the_guide_gives_each_task_its_own(name):
    part = name.removesuffix("_light")
    text = (GUIDES / f"{part}_marking.md").read_text(encoding="utf-8")
    mark = "L" if part != name else ""
    in_guide = [int(p) for p in re.findall(rf"^\| {mark}\d[^|]*\((\d+)\) \|", text, re.M)]
    assert sum(points(f"{name}.md")) == 100
    assert in_guide == points(f"{name}.md")


def test_the_real_set_it_offers_exists():
    assert 'medlab.load("breastmnist")' in (FOLDER / "part_2.md").read_text(encoding="utf-8")
    assert len(medlab.datasets.card("breastmnist").classes) == 2


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
    assert code in blocks("part_1_light.md")
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


def test_part_1_light_bytes_series_and_counting():
    path = get_testdata_file("CT_small.dcm", download=False)
    header = pydicom.dcmread(path)
    hu = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    three = PART_1["L1a, darkest, brightest, row 64 and column 64, HU"]
    assert [hu.min(), hu.max(), hu[64, 64]] == three
    for level, width, name in ((40, 400, "level 40, width 400"),
                               (-600, 1500, "level −600, width 1,500")):  # fmt: skip
        lost = np.mean((hu <= level - width / 2) | (hu >= level + width / 2))
        (share,) = PART_1[f"L1b, share of pixels fully black or white, {name}"]
        assert math.isclose(lost, share, abs_tol=0.005)
    spacing = float(header.PixelSpacing[1])
    assert PART_1["L1c, width in mm, and pixels of 6 mm"] == [
        round(header.Columns * spacing, 1), round(6 / spacing, 1),
    ]  # fmt: skip

    names: dict = {}
    for code in blocks("part_1_light.md")[:2]:
        exec(compile(code, "part_1_light.md", "exec"), names)
    heads = [pydicom.dcmread(file) for file in sorted(names["files"])]

    def rises(some):
        return bool((np.diff([h.pixel_array.mean() for h in some]) > 0).all())

    assert rises(sorted(heads, key=lambda h: h.ImagePositionPatient[2])) and not rises(heads)

    x, w = names["x"], names["w"]
    nine = [float((w * x[i : i + 3, j : j + 3]).sum()) for i in range(3) for j in range(3)]
    assert PART_1["L2a, the nine numbers, row by row"] == nine
    assert torch.equal(F.conv2d(x[None, None], w[None, None]).flatten(), torch.tensor(nine))
    sides = [torch.nn.Conv2d(1, 1, *how)(torch.zeros(1, 1, 32, 32)).shape[-1]
             for how in ((3,), (3, 1, 1), (3, 2, 1), (5, 2))]  # fmt: skip
    assert PART_1["L2c, sides"] == sides
    weights = torch.nn.Conv2d(1, 8, 3, bias=False).weight.numel()
    assert PART_1["L2d, multiplications and weights"] == [weights * 32 * 32, weights]


def test_part_1_light_hints_lead_to_the_faults(delivered):
    cohort, negative = delivered
    flat = cohort.images.flatten(1).double().numpy()
    median = cohort.images.median(0).values.flatten().double().numpy()
    likeness = np.array([np.corrcoef(picture, median)[0, 1] for picture in flat])
    assert sorted(np.flatnonzero(likeness < 0)) == sorted(negative)
    assert PART_1["L3a, correlations below 0"] == [len(negative)]
    low, high = PART_1["L3a, width of the gap around 0"]
    assert low < likeness[likeness > 0].min() - likeness[likeness < 0].max() < high
    low, high = PART_1["L3c, pairs that `leaks()` reports as delivered"]
    assert low <= len(cohort.leaks().near) <= high
    images, _ = mended(cohort)
    clean = dataclasses.replace(cohort, images=images)
    second = [j for _, j in mirrored_pairs(images)]
    clean = clean[np.setdiff1d(np.arange(len(clean)), second)]
    assert PART_1["L3d, pictures and patients left"] == [len(clean), len(set(clean.patients))]
    assert not clean.leaks()
    names: dict = {"torch": torch}
    exec(compile(blocks("part_1_light.md")[3], "part_1_light.md", "exec"), names)
    train, _, test = clean.split(seed=0)
    assert math.isclose(names["accuracy"](train, test), nearest_neighbour_accuracy(train, test),
                        abs_tol=1e-9)  # fmt: skip


# ------------------------------------------------------------------------------------ part II

PART_2 = promised("part_2_marking.md")


def within_part_2(figure, *values):
    low, high = PART_2[figure]
    assert all(low <= value <= high for value in values), (figure, values)


def test_part_2_both_variants_hold_the_same_patients_and_script():
    assert blocks("part_2.md") == blocks("part_2_light.md")


def cross_entropy(logits, labels):
    top = logits.max(1, keepdim=True).values
    total = (logits - top).exp().sum(1).log() + top[:, 0]
    return (total - logits.gather(1, labels[:, None])[:, 0]).mean()


def adamw(theta, grad, m, v, t, lr=0.01, decay=0.01):
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    step = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return theta * (1 - lr * decay) - lr * step, m, v


def test_part_2_loss_and_optimiser_by_hand_equal_the_library():
    draws, worst = torch.Generator().manual_seed(0), 0.0
    for case in range(20):
        z = torch.randn(7, 2 + case % 3, generator=draws, dtype=torch.float64)
        z = (1000 * z.sign() if case % 4 == 0 else 5 * z).requires_grad_()
        y = torch.randint(z.shape[1], (7,), generator=draws)
        pairs = []
        for loss in (cross_entropy(z, y), F.cross_entropy(z, y)):
            pairs.append((loss.detach(), torch.autograd.grad(loss, z)[0]))
        worst = max(worst, *(float((a - b).abs().max()) for a, b in zip(*pairs, strict=True)))
    assert worst < PART_2["1b, largest error of loss and gradient"][0] == 1e-10

    theirs = [p.detach().double() for p in medlab.models.SmallCNN(width=8).parameters()]
    ours = [(p.clone(), torch.zeros_like(p), torch.zeros_like(p)) for p in theirs]
    optimiser = torch.optim.AdamW(theirs, lr=0.01)
    for t in range(1, 21):
        for k, p in enumerate(theirs):
            p.grad = torch.randn(p.shape, generator=draws, dtype=torch.float64)
            ours[k] = adamw(ours[k][0], p.grad, *ours[k][1:], t)
        optimiser.step()
    worst = max(float((a - b[0]).abs().max()) for a, b in zip(theirs, ours, strict=True))
    assert worst < PART_2["1b, largest error of AdamW after twenty steps"][0] == 1e-10


@pytest.fixture(scope="module")
def lungs():
    names: dict = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small steps only wait for a second thread
    for code in blocks("part_2.md"):
        exec(compile(code, "part_2.md", "exec"), names)
    yield names
    torch.set_num_threads(threads)


def a_run(size, length, *, seed=0, lr=0.01, epochs=10, constant=False, head=True, steps=None,
          momentum=0.1):  # fmt: skip
    """Model, optimiser, schedule and generator of a run; without `head` the optimiser lacks it."""
    torch.manual_seed(seed)
    model = medlab.models.SmallCNN(num_classes=2 if head else 10, width=8)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = momentum
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr)
    if not head:
        model.classifier = torch.nn.Linear(model.classifier.in_features, 2)
    steps = steps or epochs * math.ceil(length / size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    if constant:
        schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, 1, 1)
    return model, optimiser, schedule, torch.Generator().manual_seed(seed)


def train_epoch(run, images, labels, size=32, *, used=None, frozen=False):
    model, optimiser, schedule, draws = run
    model.train(not frozen)
    for batch in torch.randperm(len(images), generator=draws).split(size):
        optimiser.zero_grad()
        cross_entropy(model(images[batch]), labels[batch]).backward()
        optimiser.step()
        schedule.step()
        if used is not None:
            used.append(batch)


def logits_of(model, images, size=95):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(size)])


def evaluate(model, images, labels, size=95):
    return float(cross_entropy(logits_of(model, images, size), labels))


def on_val(model, lungs):
    """Loss and AUC."""
    val = lungs["val"]
    z = logits_of(model, to_float(val.images))
    return float(cross_entropy(z, val.labels)), float(metrics.auc(val.labels, z[:, 1] - z[:, 0]))


def standard(lungs, *, same_order=False, frozen=False, **options):
    """The standard run, with one fault of the script if so asked."""
    images, labels = to_float(lungs["train"].images), lungs["train"].labels
    run = a_run(32, len(images), **options)
    for epoch in range(10):
        if same_order:
            run[3].manual_seed(options.get("seed", 0))
        train_epoch(run, images, labels, frozen=frozen and epoch > 0)
    return run[0]


@pytest.fixture(scope="module")
def sound(lungs):
    """The standard run from three seeds."""
    return [standard(lungs, seed=seed) for seed in range(3)]


def test_part_2_the_loop_shows_each_image_once_and_looking_changes_nothing(lungs):
    train, val = lungs["train"], lungs["val"]
    assert PART_2["training, validation, test images"] == [len(train), len(val), len(lungs["test"])]
    images, labels = to_float(train.images), train.labels
    run, orders = a_run(32, len(images)), []
    for _ in range(2):
        used: list = []
        train_epoch(run, images, labels, used=used)
        orders.append(torch.cat(used).tolist())
    assert len(used[-1]) < 32 and orders[0] != orders[1]
    assert all(sorted(order) == list(range(len(images))) for order in orders)

    model, x = run[0], to_float(val.images)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seven, whole = (evaluate(model, x, val.labels, size) for size in (7, 95))
    assert math.isclose(seven, whole, rel_tol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    halves = [evaluate(model, i, y) for i, y in zip(x.split(64), val.labels.split(64), strict=True)]
    within_part_2("1c, mean of batch means, wrong by", abs(np.mean(halves) - whole))
    assert math.isclose(PART_2["L1c, times an image of the second batch counts"][0], 64 / 31,
                        abs_tol=0.005)  # fmt: skip


@pytest.mark.slow
def test_part_2_each_fault_shows_in_a_cheap_test(lungs, monkeypatch):
    val, modes, orders, gaps = lungs["val"], [], [], []

    class Watched(medlab.models.SmallCNN):
        def load_state_dict(self, best, **options):
            now = self.state_dict()
            gaps.append(max(float((now[name] - best[name]).abs().max()) for name in best))
            return super().load_state_dict(best, **options)

        def forward(self, images):
            if len(images) == 32:
                modes.append(self.training)
            return super().forward(images)

    shuffle = torch.randperm

    def noted(*arguments, **options):
        orders.append(shuffle(*arguments, **options))
        return orders[-1]

    monkeypatch.setattr(medlab.models, "SmallCNN", Watched)
    monkeypatch.setattr(torch, "randperm", noted)
    model, losses, rates = lungs["trained"](lungs["train"], val)
    assert PART_2["2a, rates: how often the rate falls to 0"] == [sum(np.array(rates) < 1e-9)]
    batches = len(modes) // 10
    assert [sum(modes[batches:])] == PART_2["2a, batches in training mode after the first epoch"]
    assert [len({tuple(order.tolist()) for order in orders})] == PART_2["2a, orders in ten epochs"]

    torch.manual_seed(0)
    medlab.models.SmallCNN(num_classes=10, width=8)
    fresh = torch.nn.Linear(32, 2)
    stuck = sum(p.numel() for p, q in zip(model.classifier.parameters(), fresh.parameters(),
                                          strict=True) if torch.equal(p, q))  # fmt: skip
    assert [stuck] == PART_2["2a, weights that never change"]
    gap = abs(losses[-1] - evaluate(model, to_float(val.images), val.labels))
    within_part_2("2a, last loss reported, wrong by", gap)
    assert PART_2["2a, largest difference of `best` and the last weights"] == gaps == [0]


@pytest.mark.slow
def test_part_2_one_fault_explains_it_and_some_cost_nothing(lungs, sound):
    val = lungs["val"]
    script, _, _ = lungs["trained"](lungs["train"], val)
    runs = {
        "the script as it is": script,
        "evaluation mode": standard(lungs, frozen=True),
        "only evaluation mode mended": standard(lungs, head=False, same_order=True, steps=10),
        "schedule": standard(lungs, steps=10),
        "head": standard(lungs, head=False),
        "order": standard(lungs, same_order=True),
    }
    for name, model in runs.items():
        loss, auc = on_val(model, lungs)
        within_part_2(f"2b, AUC on val, {name}", auc)
        if f"2b, loss on val, {name}" in PART_2:
            within_part_2(f"2b, loss on val, {name}", loss)
    within_part_2("2b, AUC on val, all mended", *(on_val(model, lungs)[1] for model in sound))
    within_part_2("2b, loss on val, all mended", *(on_val(model, lungs)[0] for model in sound))


@pytest.mark.slow
def test_part_2_a_rate_may_be_ten_times_wrong_and_not_a_hundred(lungs, sound):
    train, rates = lungs["train"], np.geomspace(1e-5, 3, 150)
    ready = material("training_well", part="range_test")
    model, optimiser, _, draws = a_run(32, len(train))
    seen = ready(model, optimiser, to_float(train.images), train.labels, rates, 32, draws)
    smooth = np.convolve(seen, np.full(15, 1 / 15), "valid")
    within_part_2("3a, rate with the lowest loss", rates[smooth.argmin() + 7])
    losses = {lr: on_val(standard(lungs, lr=lr), lungs)[0] for lr in (0.0001, 0.001, 0.1, 1)}
    for lr, loss in losses.items():
        within_part_2(f"3b, loss on val at {lr}", loss)
    within_part_2("3b, loss on val at 0.01", *(on_val(model, lungs)[0] for model in sound))
    within_part_2("3b, loss on val at 0.01, constant",
                  on_val(standard(lungs, constant=True), lungs)[0])  # fmt: skip


def by_heart(lungs, labels, epochs):
    """Of a training on `few`: loss and AUC on val after every second epoch, and the model."""
    images = to_float(lungs["few"].images)
    run, rows = a_run(16, len(images), epochs=epochs, momentum=0.5), []
    for epoch in range(epochs):
        train_epoch(run, images, labels, size=16)
        if epoch % 2:
            rows.append(on_val(run[0], lungs))
    return np.array(rows), run[0]


@pytest.mark.slow
def test_part_2_labels_that_mean_nothing_are_learnt_as_well(lungs):
    few = lungs["few"]
    rows, model = by_heart(lungs, few.labels, 30)
    seen = evaluate(model, to_float(few.images), few.labels, 120)
    within_part_2("4a, training loss at the end", seen)
    within_part_2("4a, loss on val at the end", rows[-1, 0])
    within_part_2("4a, loss on val at its lowest", rows[:, 0].min())
    within_part_2("4a, AUC on val at the end", rows[-1, 1])
    other = medlab.load("chest_xray", n=600, seed=22, size=32)
    other = other[other.sites != "Harbour"]
    within_part_2("4c, loss of the second cohort at the end",
                  evaluate(model, to_float(other.images), other.labels))  # fmt: skip
    shuffled = few.labels[torch.randperm(120, generator=torch.Generator().manual_seed(0))]
    rows, model = by_heart(lungs, shuffled, 60)
    right = logits_of(model, to_float(few.images), 120).argmax(1) == shuffled
    within_part_2("4a, shuffled labels: learnt, of 120", int(right.sum()))
    within_part_2("4a, shuffled labels: AUC on val", rows[-1, 1])


def state(run):
    model, optimiser, schedule, draws = run
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(), "generator": draws.get_state()}  # fmt: skip


def resumed(lungs, path, without):
    """A run that reads all of a file but `without`, and goes on from the fourth epoch."""
    images, labels = to_float(lungs["train"].images), lungs["train"].labels
    run, saved = a_run(32, len(images)), torch.load(path, weights_only=True)
    weights = {name for name, _ in run[0].named_parameters()}
    kept = {k: v for k, v in saved["model"].items() if without != "buffers" or k in weights}
    run[0].load_state_dict(kept, strict=False)
    for name, part in (("optimiser", run[1]), ("schedule", run[2])):
        if name != without:
            part.load_state_dict(saved[name])
    if without == "optimiser":  # its rate is the schedule's
        run[1].param_groups[0]["lr"] = saved["optimiser"]["param_groups"][0]["lr"]
    if without == "schedule":
        run[1].param_groups[0].update(lr=0.01)
    if without != "generator":
        run[3].set_state(saved["generator"])
    for _ in range(6):
        train_epoch(run, images, labels)
    return run[0]


@pytest.mark.slow
def test_part_2_a_run_resumes_to_the_same_bits(lungs, sound, tmp_path):
    images, labels = to_float(lungs["train"].images), lungs["train"].labels
    run = a_run(32, len(images))
    for _ in range(4):
        train_epoch(run, images, labels)
    torch.save(state(run), tmp_path / "run.pt")
    never_stopped = sound[0].state_dict()

    def apart(model, names):
        return max(float((model.state_dict()[k] - never_stopped[k]).abs().max()) for k in names)

    weights = [name for name, _ in sound[0].named_parameters()]
    right = on_val(sound[0], lungs)[0]
    assert apart(resumed(lungs, tmp_path / "run.pt", None), never_stopped) == 0
    assert PART_2["5a, largest difference of weights and buffers"] == [0]
    for item in ("optimiser", "schedule", "generator", "buffers"):
        model = resumed(lungs, tmp_path / "run.pt", item)
        figure = f"5b, without {item}: largest difference of a weight"
        if item == "buffers":
            assert PART_2[figure] == [apart(model, weights)] == [0]
            within_part_2("5b, without buffers: loss on val, wrong by",
                          abs(on_val(model, lungs)[0] - right))  # fmt: skip
        else:
            within_part_2(figure, apart(model, weights))


def pixels(part):
    return to_float(part.images).flatten(1).numpy()


@pytest.mark.slow
def test_part_2_other_patients_matter_more_than_other_seeds(lungs, sound):
    train, test = lungs["train"], lungs["test"]
    rival = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    plain = rival.fit(pixels(train), train.labels).predict_proba(pixels(test))[:, 1]
    scores = [logits_of(m, to_float(test.images), 500).softmax(1)[:, 1].numpy() for m in sound]
    away = test.sites == "Harbour"
    for where, at in {"at home": ~away, "at Harbour": away}.items():
        y, groups = test.labels[at], test.patients[at]
        aucs = [metrics.auc(y, score[at]) for score in scores]
        within_part_2(f"6, AUC {where}", *aucs)
        within_part_2(f"6, spread of three seeds (largest less smallest), {where}", np.ptp(aucs))
        interval = metrics.bootstrap(metrics.auc, y, scores[0][at], groups=groups, n=300)
        within_part_2(f"6, width of the interval over patients, {where}",
                      interval.high - interval.low)  # fmt: skip
        assert interval.high - interval.low > np.ptp(aucs)
        within_part_2(f"6, logistic regression, AUC {where}", metrics.auc(y, plain[at]))
    gain = metrics.bootstrap_difference(
        metrics.auc, test.labels, scores[0], plain, groups=test.patients, n=300
    )
    assert gain.low > PART_2["6, gain over logistic regression, all of test, lower end above"][0]
    (bound,) = PART_2["6, AUC at Harbour that deserves a question, above"]
    low, high = PART_2["6, AUC at Harbour"]
    assert low < high < bound  # what the table allows is never suspicious


# ------------------------------------------------------------------------------------ part III

PART_3 = promised("part_3_marking.md")


def per_picture(measure, masks, spacing):
    return np.array([measure(m, s) for m, s in zip(masks.numpy(), spacing.numpy(), strict=True)])


def length_mm(mask, mm):
    """Longest distance of two pixels of kidney and sinus, in the largest part; NaN if none."""
    parts, count = label((mask == 1) | (mask == 2))
    if not count:
        return math.nan
    part = parts == 1 + np.bincount(parts[parts > 0] - 1).argmax()
    ends = part & ~(np.roll(part, 1, 1) & np.roll(part, -1, 1))  # of each row
    return pdist(np.argwhere(ends) * mm).max()


def grey(cohort, k):
    at = cohort.masks == k
    return (cohort.images[:, 0] * at).sum((1, 2)) / at.sum((1, 2))


def patients_where(cohort, condition):
    return [str(name) for name in np.unique(cohort.patients[np.asarray(condition)])]


def above_kidney(cohort, k):
    """Of each patient who has both, mean grey of class k less that of the parenchyma."""
    gap = (grey(cohort, k) - grey(cohort, 1)).numpy()
    named = patients_where(cohort, np.isfinite(gap))
    return {name: np.nanmean(gap[cohort.patients == name]) for name in named}


def with_cyst(cohort):
    return patients_where(cohort, (cohort.masks == 3).flatten(1).any(1))


def faults(cohort):
    """Tasks 2a to 2d of the delivery, by rules that look at nothing but the delivery."""
    extent = cohort.extras["spacing"] * torch.tensor(cohort.images.shape[2:])
    people: dict = {}
    for i, name in enumerate(cohort.patients):
        facts = tuple(cohort.extras[key][i].item() for key in ("age", "female", "right"))
        people.setdefault(facts, set()).add(str(name))
    return {
        "empty": (~(cohort.masks > 0).flatten(1).any(1)).nonzero()[:, 0].tolist(),
        "exchanged": [name for name, gap in above_kidney(cohort, 3).items() if gap > 0],
        "turned": patients_where(cohort, extent[:, 1] > 1.5 * extent[:, 0]),
        "twice": [sorted(pair) for pair in people.values() if len(pair) > 1],
    }


def kidneys_mended(cohort, *, order=True, turn=True, join=True):
    """The delivery without its faults, and the patients whose cyst nobody outlined."""
    found = faults(cohort)
    masks, mm = cohort.masks.clone(), cohort.extras["spacing"].clone()
    names, part = cohort.patients.copy(), cohort.official.copy()
    if order:
        at = np.isin(names, found["exchanged"])
        masks[at] = torch.tensor([0, 1, 3, 2], dtype=torch.uint8)[masks[at].long()]
    if turn:
        at = np.isin(names, found["turned"])
        mm[at] = mm[at].flip(1)
    for name, other in found["twice"] if join else []:
        at = np.isin(names, [name, other])
        names[at], part[at] = name, "train"
    extras = cohort.extras | {"spacing": mm}
    whole = dataclasses.replace(cohort, masks=masks, patients=names, official=part, extras=extras)
    reported = patients_where(whole, whole.extras["cysts"] > 0)
    forgotten = sorted(set(reported) - set(with_cyst(whole)))
    keep = (masks > 0).flatten(1).any(1).numpy() & ~np.isin(names, forgotten)
    return whole[keep], forgotten


def central(cohort):
    return ((cohort.extras["view"] == 0) & cohort.extras["central"]).numpy()


def agreement(cohort, length):
    gap = (length - cohort.extras["length"].numpy())[central(cohort)]
    gap = gap[np.isfinite(gap)]
    return gap.mean(), 1.96 * gap.std(ddof=1)


def repeatability(cohort, length):
    """How many have two readings; 1.96 · √2 · their standard deviation within patients."""
    same = (cohort.extras["cysts"] + cohort.extras["stones"] == 0) & (cohort.extras["view"] == 0)
    pairs = [length[same.numpy() & (cohort.patients == n)] for n in np.unique(cohort.patients)]
    gaps = [np.diff(pair) for pair in pairs if len(pair) == 2 and np.isfinite(pair).all()]
    return len(gaps), 1.96 * np.sqrt(np.mean(np.square(gaps)))


def missed_and_invented(truth, found):
    there, drawn = ((masks == 3).flatten(1) for masks in (truth, found))
    missed = there.any(1) & ~(there & drawn).any(1)
    return int(missed.sum()), int((drawn.any(1) & ~there.any(1)).sum())


def mean_dice(cohort, found):
    return metrics.dice(cohort.masks, found, num_classes=4).nanmean(0).tolist()


def within_part_3(figure, *values):
    low, high = PART_3[figure]
    assert all(low <= value <= high for value in values), (figure, values)


@pytest.fixture(scope="module")
def kidneys():
    names: dict = {}
    exec(compile(blocks("part_3.md")[0], "part_3.md", "exec"), names)
    return names


def test_part_3_both_variants_deliver_the_same():
    assert blocks("part_3.md")[0] == blocks("part_3_light.md")[0]


@pytest.mark.slow
def test_part_3_faults_are_found(kidneys):
    cohort, found = kidneys["delivered"], faults(kidneys["delivered"])
    assert found["empty"] == sorted(kidneys["empty"])
    assert found["exchanged"] == sorted(kidneys["exchanged"])
    assert found["turned"] == sorted(kidneys["turned"])
    assert [pair[0] for pair in found["twice"]] == sorted(kidneys["twice"])
    mended, forgotten = kidneys_mended(cohort)
    assert forgotten == sorted(kidneys["forgotten"])
    assert [len(found["empty"])] == PART_3["2a, empty masks"]
    assert [len(found["exchanged"])] == PART_3["2b, patients with exchanged classes"]
    assert [len(found["turned"])] == PART_3["2c, patients with spacing in the wrong order"]
    assert [len(found["twice"])] == PART_3["2d, patients under two names"]
    assert [len(forgotten)] == PART_3["2e, patients whose cyst was forgotten"]

    accused = {name for name, gap in above_kidney(cohort, 2).items() if gap < 0}
    wrongly, overlooked = accused - set(found["exchanged"]), set(found["exchanged"]) - accused
    assert [len(wrongly), len(overlooked)] == PART_3[
        '2b, names wrongly accused, and overlooked, by "a sinus darker than the kidney"'
    ]
    leaks = cohort.leaks()
    assert [len(leaks.patients + leaks.exact + leaks.near)] == PART_3["2d, what `leaks()` reports"]
    assert [len(p) for p in mended.split()] == PART_3["training, validation, test pictures, mended"]
    clean = faults(kidneys["valley"])
    assert not any(clean.values())
    assert len(with_cyst(kidneys["valley"])) == len(
        patients_where(kidneys["valley"], kidneys["valley"].extras["cysts"] > 0)
    )


@pytest.mark.slow
def test_part_3_lengths_by_true_outlines_show_what_the_spacing_costs(kidneys):
    for what, cohort in {
        "mended": kidneys_mended(kidneys["delivered"])[0],
        "spacing as delivered": kidneys_mended(kidneys["delivered"], turn=False)[0],
    }.items():
        length = per_picture(length_mm, cohort.masks, cohort.extras["spacing"])
        bias, reach = agreement(cohort, length)
        within_part_3(f"4c, true outlines, {what}: half the width of the limits, mm", reach)
        if what == "mended":
            within_part_3("4c, true outlines: bias, mm below `length`", -bias)
            twice, apart = repeatability(cohort, length)
            assert [twice] == PART_3["4d, patients of the two hospitals with two readings"]
            within_part_3("4d, true outlines: repeatability, mm", apart)


@pytest.mark.slow
def test_part_3_a_model_solution_lies_within_the_ranges(kidneys, tmp_path):
    mended, _ = kidneys_mended(kidneys["delivered"])
    names = {"torch": torch, "medlab": medlab, "mended": mended}
    exec(compile(blocks("part_3_light.md")[1], "part_3_light.md", "exec"), names)
    train, test, net = names["train"], names["test"], names["net"]
    sealed = medlab.report.Sealed(kidneys["valley"], record=tmp_path / "openings.jsonl")
    valley = sealed.open("model solution of the assignment")

    shares = torch.stack([(train.masks == k).float().mean(0) for k in range(4)])
    usual = shares.argmax(0).byte().expand(len(test), -1, -1).clone()
    soft = torch.from_numpy(gaussian_filter(test.images[:, 0].float().numpy(), (0, 1, 2)))
    dark = (soft < 30) & (shares[1:].sum(0) > 0.5)
    rival = mean_dice(test, torch.where(dark, 3, usual).byte())
    found, elsewhere = (medlab.predict(net, p).argmax(1).byte() for p in (test, valley))
    dice, away = mean_dice(test, found), mean_dice(valley, elsewhere)
    for structure, ours, theirs in zip(("kidney", "sinus", "cyst"), dice, rival, strict=True):
        within_part_3(f"3a, rival, test Dice of the {structure}", theirs)
        within_part_3(f"3b, network, test Dice of the {structure}", ours)
    within_part_3("5, Valley, Dice of the kidney", away[0])
    within_part_3("5, Valley, Dice of the cyst", away[2])

    with_one = int((test.masks == 3).flatten(1).any(1).sum())
    assert [with_one, len(test) - with_one] == PART_3["4a, test pictures with a cyst, and without"]
    missed, invented = missed_and_invented(test.masks, found)
    within_part_3("4a, cysts missed in test pictures", missed)
    within_part_3("4a, cysts invented in test pictures", invented)
    far, _ = missed_and_invented(valley.masks, elsewhere)
    there = int((valley.masks == 3).flatten(1).any(1).sum())
    within_part_3("5, Valley, share of pictures whose cyst is missed", far / there)

    mm = test.extras["spacing"]
    hd = [
        metrics.hausdorff(t[None], f[None], spacing=s, num_classes=4)[0, 0]
        for t, f, s in zip(test.masks, found, mm.tolist(), strict=True)
    ]
    within_part_3("4a, median HD95 of the kidney, mm", np.median(hd))
    kidney = metrics.dice(test.masks, found, num_classes=4)[:, 0].numpy()
    people, pictures = (
        metrics.bootstrap(lambda _, values: values.mean(), kidney, kidney, groups=groups)
        for groups in (test.patients, None)
    )
    wider = (people.high - people.low) / (pictures.high - pictures.low)
    within_part_3("4b, interval of the kidney's Dice, by patients over by pictures", wider)
    length = per_picture(length_mm, found, mm)
    bias, reach = agreement(test, length)
    within_part_3("4c, network: bias, mm below `length`", -bias)
    within_part_3("4c, network: half the width of the limits, mm", reach)
    as_sent = kidneys_mended(kidneys["delivered"], turn=False)[0].split()[2].extras["spacing"]
    reach = agreement(test, per_picture(length_mm, found, as_sent))[1]
    within_part_3("4c, network, spacing as delivered: half the width of the limits, mm", reach)
    lonely = per_picture(length_mm, elsewhere, valley.extras["spacing"])
    within_part_3("5, Valley, half the width of the limits, mm", agreement(valley, lonely)[1])


# ------------------------------------------------------------------------------------ part IV

PART_4 = promised("part_4_marking.md")
smaller = material("smaller")  # calibration and questions to exported files
ASKING = ("Hill", "Lake")


def within_part_4(figure, value):
    low, high = PART_4[figure][0], PART_4[figure][-1]  # one number, or two
    assert low <= value <= high, (figure, value)


@pytest.fixture(scope="module")
def pneumonias():
    names: dict = {}
    exec(compile(blocks("part_4.md")[0], "part_4.md", "exec"), names)
    return names


def marked(images):
    """A corner of white, as no letter and no rib makes it."""
    return (images[:, 0, 26:30, 2:6] == 255).flatten(1).all(1).numpy()


def known_facts(cohort, *keys):
    """Of each patient, the name and what the file says."""
    names, first = np.unique(cohort.patients, return_index=True)
    return names, [np.asarray(cohort.extras[key])[first] for key in keys]


def alike(a, b):
    """Pairs of names, one of each list, of whom all facts agree."""
    same = np.all([x[:, None] == y for x, y in zip(a[1], b[1], strict=True)], 0)
    return [(str(a[0][i]), str(b[0][j])) for i, j in np.argwhere(same)]


def by_chance(a, b):
    """How many pairs would agree if each fact belonged to anybody: mean of 200 shuffles."""
    rng = np.random.default_rng(0)
    return np.mean([len(alike(a, (b[0], [rng.permutation(v) for v in b[1]]))) for _ in range(200)])


def second_names(cohort, *keys, where=ASKING):
    learnt, there = cohort.official == "train", np.isin(cohort.sites, where)
    return [known_facts(cohort[at], *keys) for at in (learnt, there)]


def contradicted(cohort, least=0):
    """Of each reader: patients whom the panel read (1: and calls ill), those of other labels."""
    panel, reader = (np.asarray(cohort.extras[key]) for key in ("panel", "reader"))
    read, other = panel >= least, (panel >= least) & (panel != cohort.labels.numpy())
    return {
        letter: tuple(len(set(cohort.patients[at & (reader == letter)])) for at in (read, other))
        for letter in np.unique(reader)
    }


def judged(cohort, foreign):
    """The panel's labels where it read, without reader D's unread val and test patients."""
    panel = np.asarray(cohort.extras["panel"])
    labels = torch.as_tensor(np.where(panel >= 0, panel, cohort.labels))
    keep = (panel >= 0) | (np.asarray(cohort.extras["reader"]) != "D")
    keep |= cohort.official == "train"
    return dataclasses.replace(cohort, labels=labels)[keep & ~np.isin(cohort.patients, foreign)]


def one_each(cohort, where):
    """Positions of the first image of each patient among some."""
    at = np.flatnonzero(where)
    return at[np.unique(cohort.patients[at], return_index=True)[1]]


def conformal(scores, alpha):
    k = math.ceil((len(scores) + 1) * (1 - alpha))
    return np.inf if k > len(scores) else np.sort(scores)[k - 1]


def ill_scores(model, images):
    return medlab.predict(model, images)[:, 1].double().numpy()


def repainted(images, covered):
    """All corners covered by one grey, or all marked."""
    images = images.clone()
    images[:, :, 26:30, 2:6] = 128 if covered else 255
    return images


def histograms(images):
    counts = [np.histogram(image, 16, (0, 1))[0] for image in images.numpy()]
    return np.stack(counts) / images[0].numel()


def uprightness(images, usual):
    """How much more an image resembles the usual chest than it does flipped or turned."""

    def likeness(x):
        x, u = ((v - v.mean(1, keepdim=True)) for v in (x.flatten(1), usual.flatten()[None]))
        return F.cosine_similarity(x, u)

    turned = [images.flip(2), *(images.rot90(k, (2, 3)) for k in (1, 2, 3))]
    return (likeness(images) - torch.stack([likeness(x) for x in turned]).amax(0)).numpy()


def refused(queue, own, alpha):
    """Images whose grey levels, or whose posture, are strange beside a hospital's own patients."""
    first, x = one_each(own, np.ones(len(own), bool)), to_float(own.images)
    grey, usual = histograms(x), x.mean(0)
    apart = abs(grey[:, None] - grey).sum(2)
    apart[own.patients[:, None] == own.patients] = np.inf
    strange = abs(histograms(queue)[:, None] - grey).sum(2).min(1)
    leans = conformal(-uprightness(x, usual)[first], alpha)
    return (strange > conformal(apart.min(1)[first], alpha)) | (-uprightness(queue, usual) > leans)


def largest_gaps(hits, some, groups, patients):
    """Of each group: share less that of the others, and p against the largest of 1,000 shuffles."""
    _, first, who = np.unique(patients[some], return_index=True, return_inverse=True)
    found, size = np.bincount(who, hits[some]), np.bincount(who)
    member = np.array([g[some][first] for g in groups.values()], float).T

    def gaps(member):
        inside, count = found @ member, size @ member
        return inside / count - (found.sum() - inside) / (size.sum() - count)

    rng = np.random.default_rng(0)
    shuffled = np.array([gaps(member[rng.permutation(len(size))]) for _ in range(1000)])
    z, top = gaps(member) / shuffled.std(0), abs(shuffled / shuffled.std(0)).max(1)
    p = [(1 + (top >= abs(own)).sum()) / 1001 for own in z]
    return dict(zip(groups, zip(gaps(member), p, strict=True), strict=True))


def cost(labels, called):
    return float(metrics.expected_cost(labels, called, 0.5, miss_cost=3))


def to_notice(good, bad):
    """How many ill patients show a fall of sensitivity: false alarm 5 % at most, power 80 %."""
    for m in range(5, 500):
        limit = int(binom.ppf(0.05, m, good))
        limit -= binom.cdf(limit, m, good) > 0.05
        if binom.cdf(limit, m, bad) >= 0.8:
            return m
    raise AssertionError


def test_part_4_both_variants_deliver_the_same():
    assert blocks("part_4.md")[0] == blocks("part_4_light.md")[0]


def test_part_4_rows_of_points_repeat_the_table():
    guide = (GUIDES / "part_4_marking.md").read_text(encoding="utf-8")
    for figure, template, uses in [
        ("2b, patients under two names", "at Hill {} pairs on three facts", 1),
        ("2b, pairs by age and sex alone, Hill", "{} by age and sex;", 1),
        ("2b, pairs by age and sex alone, Hill and Lake", "({} is Hill and Lake", 1),
        ("2c, reader D: called ill by the panel, healthy for the reader", "{1} of {0}", 1),
        ("2c, reader D: called ill by the panel, healthy for the reader", "{1} of the {0} whom", 1),
        ("2c, the other four: called ill by the panel, healthy for the reader",
         "the others {1} of {0}", 2),
        ("2c, reader D: read by the panel, contradicted", "({1} of {0}, 0 of 118)", 1),
        ("2c, the other four: read by the panel, contradicted", "(5 of 29, {1} of {0})", 1),
        ("4c, patients that α = 0.02 needs", "α = 0.02 needs {} patients", 1),
        ("4c, patients that α = 0.025 needs", "α = 0.025 needs {} patients", 1),
        ("4c, patients of Hill to set limits on", "{} give an infinite limit", 1),
        ("4c, proper, of patients under second names", "- Four of the 30 proper", 1),
        ("4b, patients of a class that α = 0.1 needs", "nine patients of a class are needed", 1),
        ("4b, patients of a class that α = 0.1 needs", "nine are needed, Lake has five", 1),
        ("5c, patients whose labels contradict each other", "six patients whose labels contr", 2),
    ]:  # fmt: skip
        row = PART_4[figure]
        said = template.format(*(f"{x:.0f}" for x in row))
        assert guide.count(said) >= uses, said
    words = {"4c, proper, of patients under second names": 4, "4b, patients of a class that "
             "α = 0.1 needs": 9, "4b, ill patients to calibrate on, Lake": 5,
             "5c, patients whose labels contradict each other": 6}  # fmt: skip
    assert [PART_4[figure] for figure in words] == [[n] for n in words.values()]
    shares = re.findall(
        r"women (0\.\d+), men (0\.\d+); the young (0\.\d+), 40 to 64 (0\.\d+)", guide
    )
    assert len(shares) == 2
    for row in shares:
        for name, share in zip(("women", "men", "20 to 39", "40 to 64"), row, strict=True):
            within_part_4(f"5c, share ill in the company's records, {name}", float(share))


def test_part_4_one_training_of_the_guide_lies_in_its_ranges():
    guide = (GUIDES / "part_4_marking.md").read_text(encoding="utf-8").rpartition("## The lighter")
    one = re.search(r"In the training of the cell.*?(?=\n\n|\Z)", guide[2], re.S)[0]
    effect = re.search(r"2a (\S+) \(over images; (\S+) over patients\)", one)
    within_part_4("3b, effect of the mark, in units of illness", float(effect[1]))
    auc = {site: (float(a), float(b)) for site, a, b in
           re.findall(r"(Harbour|North|Valley)\s(0\.\d+) → (0\.\d+)", one)}  # fmt: skip
    for name, value in zip(("as delivered", "covered"), auc.pop("Harbour"), strict=True):
        within_part_4(f"3b, Harbour, AUC {name}", value)
    assert len(auc) == 2
    for before, after in auc.values():
        within_part_4("3b, North and Valley: AUC changes by", abs(before - after))
    called = [[int(x) for x in row] for row in re.findall(r"(\d+) → (\d+) of (\d+)", one)]
    assert [row[2] for row in called] == PART_4["3b, Hill, healthy: marked, without, all"]
    assert [sum(x) for x in zip(*called[:2], strict=True)] == called[2]
    shares = [(before - after) / n for before, after, n in called]
    for figure, share in zip((
        "3b, Hill, healthy and marked: share called, less that when covered",
        "3b, Hill, healthy without a mark: share called when covered, less that before",
        "3b, Hill, all healthy: share called changes by",
    ), (shares[0], -shares[1], abs(shares[2])), strict=True):  # fmt: skip
        within_part_4(figure, share)


@pytest.mark.slow
def test_part_4_faults_are_found(pneumonias):
    cohort = pneumonias["delivered"]
    mark, site = marked(cohort.images), cohort.sites
    assert mark.sum() == pneumonias["tagged"][pneumonias["kept"]].sum()
    for where in ("Harbour", "Hill"):
        at = site == where
        assert [mark[at].sum()] == PART_4[f"2a, marked images at {where}"]
        within_part_4(
            f"2a, AUC of the mark alone at {where}",
            metrics.auc(cohort.labels[at], mark[at].astype(float)),
        )
    within_part_4(
        "2a, AUC of the mark alone, hospitals pooled",
        metrics.auc(cohort.labels, mark.astype(float)),
    )
    assert not mark[np.isin(site, ("North", "Valley", "Lake"))].any()

    for title, where in {"Hill": ("Hill",), "Hill and Lake": ASKING}.items():
        sure, loose = (
            second_names(cohort, *keys, where=where)
            for keys in (("age", "female", "fat"), ("age", "female"))
        )
        pairs = alike(*sure)
        assert sorted(pair[0] for pair in pairs) == sorted(pneumonias["twice"])
        assert [len(pairs)] == PART_4["2b, patients under two names"]
        within_part_4(f"2b, pairs expected by chance, {title}", by_chance(*sure))
        within_part_4(f"2b, pairs by age and sex alone, {title}", len(alike(*loose)))
    leaks = cohort.leaks()
    assert [len(leaks.patients + leaks.exact + leaks.near)] == PART_4["2b, what `leaks()` reports"]

    outlined = (cohort.masks > 0).flatten(1).any(1)
    assert not outlined[cohort.labels == 0].any()  # an outline would betray what was overlooked

    for what, least in {"called ill by the panel, healthy for the reader": 1,
                        "read by the panel, contradicted": 0}.items():  # fmt: skip
        counts = contradicted(cohort, least)
        assert PART_4[f"2c, reader D: {what}"] == list(counts.pop("D"))
        assert PART_4[f"2c, the other four: {what}"] == [
            sum(v) for v in zip(*counts.values(), strict=True)
        ]


@pytest.fixture(scope="module")
def audited(pneumonias):
    """The second names at Hill; then what may be judged, its labels, scores and calls."""
    cohort, model = pneumonias["delivered"], pneumonias["model"]
    foreign = [other for _, other in alike(*second_names(cohort, "age", "female", "fat"))]
    clean = judged(cohort, foreign)
    p = ill_scores(model, clean.images)
    return foreign, clean, clean.labels.numpy(), p, p >= pneumonias["threshold"]


@pytest.mark.slow
def test_part_4_the_sign_moves_scores_and_maps_do_not_prove_it(pneumonias, audited):
    model, (_, clean, y, p, called) = pneumonias["model"], audited
    learnt, home, mark = (
        clean.official == "train", ~np.isin(clean.sites, ASKING), marked(clean.images),
    )  # fmt: skip

    train = clean[learnt]
    healthy = to_float(train.images[train.labels == 0]).mean(0, keepdim=True)
    outlined = (clean.masks > 0).flatten(1).any(1).numpy()
    ill = clean[~learnt & home & ~mark & (y == 1) & outlined]
    x, usual = to_float(ill.images), (train.masks[train.labels == 1] > 0).float().mean(0)
    maps = {
        "rival": (x - healthy).clamp_min(0)[:, 0] * usual,
        "Grad-CAM": explain.grad_cam(model, x, 1),
        "integrated gradients": explain.integrated_gradients(
            model, x, 1, baseline=healthy[0], steps=8
        ),
    }
    hits = {
        name: np.array([explain.pointing_game(a[None], b[None])
                        for a, b in zip(values, ill.masks, strict=True)])
        for name, values in maps.items()
    }  # fmt: skip
    for name, values in hits.items():
        within_part_4(f"3a, pointing game, {name}", values.mean())
    gap = metrics.bootstrap(
        lambda _, d: d.mean(), ill.labels, hits["integrated gradients"] - hits["rival"],
        groups=ill.patients, n=500,
    )  # fmt: skip
    within_part_4(
        "3a, integrated gradients: below the rival by as much as (end of the interval)", -gap.low
    )

    def log_odds(images):
        logits = medlab.predict(model, images, logits=True).double()
        return (logits[:, 1] - logits[:, 0]).numpy()

    plain = clean[~learnt & home & ~mark]
    before, moved = log_odds(plain.images), log_odds(repainted(plain.images, covered=False))
    illness = np.subtract(*(before[plain.labels == k].mean() for k in (1, 0)))
    effect = metrics.bootstrap(
        lambda _, d: d.mean(), before, (moved - before) / illness, groups=plain.patients, n=500
    )
    within_part_4("3b, effect of the mark, in units of illness", effect.value)
    within_part_4("3b, its lower end", effect.low)
    q = ill_scores(model, repainted(clean.images, covered=True))
    at = ~learnt & (clean.sites == "Harbour")
    for name, scores in {"as delivered": p, "covered": q}.items():
        within_part_4(f"3b, Harbour, AUC {name}", metrics.auc(y[at], scores[at]))
    drop = metrics.bootstrap_difference(
        metrics.auc, y[at], p[at], q[at], groups=clean.patients[at], n=500
    )
    within_part_4("3b, Harbour, as delivered less covered, lower end", drop.low)
    for site in ("North", "Valley"):
        at = ~learnt & (clean.sites == site)
        change = metrics.auc(y[at], p[at]) - metrics.auc(y[at], q[at])
        within_part_4("3b, North and Valley: AUC changes by", abs(change))

    at = (clean.sites == "Hill") & (y == 0)
    some = {"marked": at & mark, "without a mark": at & ~mark, "all": at}
    assert [n.sum() for n in some.values()] == PART_4["3b, Hill, healthy: marked, without, all"]
    less = called.astype(int) - (q >= pneumonias["threshold"])
    within_part_4(
        "3b, Hill, healthy and marked: share called, less that when covered",
        less[some["marked"]].mean(),
    )
    within_part_4(
        "3b, Hill, healthy without a mark: share called when covered, less that before",
        -less[some["without a mark"]].mean(),
    )
    within_part_4("3b, Hill, all healthy: share called changes by", abs(less[at].mean()))


@pytest.mark.slow
def test_part_4_sets_hide_those_whom_they_miss(audited):
    _, clean, y, p, _ = audited
    own = ~np.isin(clean.sites, ASKING)
    wrong = np.where(y == 1, 1 - p, p)
    part = {
        (site, name): one_each(clean, (clean.official == name) & where)
        for name in ("val", "test")
        for site, where in (("home", own), *((s, clean.sites == s) for s in ASKING))
    }
    q = conformal(wrong[part["home", "val"]], 0.1)
    for site in ("home", *ASKING):
        test = part[site, "test"]
        within_part_4(f"4a, coverage, home's quantile, {site}", (wrong[test] <= q).mean())
        for k, name in enumerate(("healthy", "ill")):
            covered = (wrong[test] <= q)[y[test] == k]
            within_part_4(f"4a, coverage, home's quantile, {site}'s {name}", covered.mean())
    lake = y[part["Lake", "test"]]
    assert [len(lake), (lake == 1).sum()] == PART_4["4a, Lake: test patients, ill ones"]
    needed = next(n for n in range(1, 99) if np.isfinite(conformal(np.arange(n), 0.1)))
    assert [needed] == PART_4["4b, patients of a class that α = 0.1 needs"]
    for site in ASKING:
        local, test = part[site, "val"], part[site, "test"]
        assert [(y[local] == 1).sum()] == PART_4[f"4b, ill patients to calibrate on, {site}"]
        at = [conformal(wrong[local][y[local] == k], 0.1) for k in (0, 1)]
        size = (p[test] <= at[0]).mean() + (1 - p[test] <= at[1]).mean()
        within_part_4(f"4b, labels a set by class, {site}", size)
    assert np.isinf(at[1])  # five ill patients of Lake promise nothing


@pytest.mark.slow
def test_part_4_refusals_need_two_scores_and_enough_patients(pneumonias, audited):
    (foreign, *_), cohort, model = audited, pneumonias["delivered"], pneumonias["model"]
    hill = (cohort.sites == "Hill") & (cohort.official == "val")
    hill = cohort[hill & ~np.isin(cohort.patients, foreign)]
    assert [len(set(hill.patients))] == PART_4["4c, patients of Hill to set limits on"]
    for alpha in (0.05, 0.025, 0.02):
        needed = next(n for n in range(1, 99) if np.isfinite(conformal(np.arange(n), alpha)))
        assert [needed] == PART_4[f"4c, patients that α = {alpha} needs"]
    queued = pneumonias["names"][
        (pneumonias["sites"] == "Hill") & (pneumonias["part"] == "test") & pneumonias["kept"]
    ][:30]
    assert [np.isin(queued, foreign).sum()] == PART_4["4c, proper, of patients under second names"]
    kinds, no = pneumonias["kinds"], refused(pneumonias["queue"], hill, 0.05)
    for kind in dict.fromkeys(kinds.tolist()):
        within_part_4(f"4c, refused: {kind}", no[kinds == kind].sum())
    for alpha in (0.025, 0.02):  # too few patients for that
        assert not refused(pneumonias["queue"], hill, alpha).any()
    sure = medlab.predict(model, pneumonias["queue"]).amax(1).numpy()
    limit = conformal(-medlab.predict(model, hill.images).amax(1).numpy(), 0.1)
    within_part_4(
        "4c, of 30 strange ones, refused by the network's own certainty",
        (-sure > limit)[kinds != "proper"].sum(),
    )


@pytest.mark.slow
def test_part_4_women_are_failed_and_the_young_only_rarely_ill(pneumonias, audited):
    _, clean, y, _, called = audited
    own = ~np.isin(clean.sites, ASKING)
    age, women = np.asarray(clean.extras["age"]), np.asarray(clean.extras["female"])
    groups = {"women": women, "20 to 39": age < 40, "65 to 90": age >= 65}
    groups["40 to 64"] = ~groups["20 to 39"] & ~groups["65 to 90"]
    groups |= {site: clean.sites == site for site in np.unique(clean.sites[own])}
    audit = own & (clean.official != "train")
    for name, some in {"women": women, "men": ~women, "20 to 39": age < 40}.items():
        within_part_4(f"5a, share ill, {name}", y[audit & some].mean())
        within_part_4(f"5a, share called, {name}", called[audit & some].mean())
        within_part_4(f"5a, sensitivity, {name}", called[audit & some & (y == 1)].mean())
        within_part_4(f"5a, specificity, {name}", 1 - called[audit & some & (y == 0)].mean())
    gaps = {
        title: largest_gaps(h, audit & (y == k), groups, clean.patients)
        for title, h, k in (("sensitivity", called, 1), ("specificity", ~called, 0))
    }
    for title, (gap, chance) in {title: row["women"] for title, row in gaps.items()}.items():
        within_part_4(f"5b, women less men, {title}", abs(gap))
        within_part_4(f"5b, its corrected p, {title}", min(1, 2 * chance))
        assert (gap < 0) == (title == "sensitivity")
    within_part_4("5b, corrected p of 20 to 39, sensitivity", gaps["sensitivity"]["20 to 39"][1])
    train = pneumonias["delivered"].split()[0]
    t, women, age = train.labels.numpy(), *(np.asarray(train.extras[k]) for k in ("female", "age"))
    for name, some in {"women": women, "men": ~women, "20 to 39": age < 40,
                       "40 to 64": (age >= 40) & (age < 65)}.items():  # fmt: skip
        within_part_4(f"5c, share ill in the company's records, {name}", t[some].mean())
    whole = pneumonias["delivered"]
    torn = [n for n in set(whole.patients) if len(whole.labels[whole.patients == n].unique()) > 1]
    assert [len(torn)] == PART_4["5c, patients whose labels contradict each other"]
    at = np.isin(whole.patients, torn)
    assert np.asarray(whole.extras["female"])[at].all() and (whole.official[at] == "train").all()


@pytest.mark.slow
def test_part_4_so_few_patients_hardly_decide(audited):
    _, clean, y, p, called = audited
    for site in ASKING:
        local, test = ((clean.official == n) & (clean.sites == site) for n in ("val", "test"))
        tried = np.unique([0, *p[local], 1.1])
        best = tried[metrics.expected_cost(y[local], p[local], tried, miss_cost=3).argmin()]
        ways = {
            "the company's threshold": called[test].astype(float),
            "a local one": (p[test] >= best).astype(float),
            "all called": np.ones(test.sum()),
            "nobody called": np.zeros(test.sum()),
        }
        for name, way in ways.items():
            within_part_4(f"6a, {site}, cost per 1,000, {name}", cost(y[test], way))
        if site == "Hill":
            for name in ("the company's threshold", "a local one"):
                gain = metrics.bootstrap_difference(
                    cost, y[test], ways[name], ways["all called"],
                    groups=clean.patients[test], n=300,
                )  # fmt: skip
                within_part_4(
                    f"6a, Hill, {name} less all called, width of the interval",
                    gain.high - gain.low,
                )
    for good, bad in ((0.85, 0.70), (0.9, 0.6)):
        within = PART_4[f"6b, ill patients that show a fall from {good:.2f} to {bad:.2f}"]
        assert within == [to_notice(good, bad)]


def exported(model, images, folder):
    """The network as ONNX, and in eight bits with ranges of these images."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole, ready, eight = (folder / f"{name}.onnx" for name in ("whole", "ready", "eight"))
    torch.onnx.export(
        model.cpu().eval(), (images[:2],), whole, dynamo=True, verbose=False,
        external_data=False, dynamic_shapes=({0: "batch"},), input_names=["images"],
        output_names=["logits"],
    )  # fmt: skip
    quant_pre_process(whole, ready)
    quantize_static(
        ready, eight, smaller.Patients(images), per_channel=True, reduce_range=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return whole, eight


def levels(images):
    return images.flatten(1).quantile(torch.tensor([0.05, 0.5, 0.95]), 1).T.numpy()


@pytest.mark.slow
def test_part_4_a_file_travels(pneumonias, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    cohort, model = pneumonias["delivered"], pneumonias["model"]
    images, learnt = to_float(cohort.images), to_float(pneumonias["train"].images)
    z = smaller.asked([model, *exported(model, learnt, tmp_path)], images)
    calls = z >= np.log(pneumonias["threshold"] / (1 - pneumonias["threshold"]))
    assert [len(set(cohort.patients))] == PART_4["8, patients of `delivered`"]
    within_part_4("8, ONNX in float32: largest difference of the log odds", abs(z[1] - z[0]).max())
    for name, row in {"float32": calls[1], "eight bits": calls[2]}.items():
        changed = sum(
            calls[0][cohort.patients == one].any() != row[cohort.patients == one].any()
            for one in set(cohort.patients)
        )
        within_part_4(f"8, ONNX in {name}: patients whose decision changes", changed)

    seen, kinds = levels(learnt), pneumonias["kinds"]
    asked = levels(pneumonias["queue"])
    no = ((asked < seen.min(0)) | (asked > seen.max(0))).any(1)
    for kind in dict.fromkeys(kinds.tolist()):
        within_part_4(f"8, grey levels alone refuse: {kind}", no[kinds == kind].sum())
