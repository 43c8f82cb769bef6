"""Checks of how images are made, fed with right, untouched and typically wrong answers."""

import math

import numpy as np
import pytest
import torch
from skimage.transform import iradon, rotate

from medlab.exercises import check
from medlab.exercises.images import MESSAGES
from medlab.simulate.mri import BRAIN, RELAXATION
from medlab.simulate.xray import MU_WATER
from tests.learners import is_told_what_is_no_answer, unheard
from tests.mutants import ticked

TISSUES = {name: RELAXATION[3.0][name] for name in BRAIN}


def lines(hu, step):
    return MU_WATER * (1 + hu / 1000).sum(1) * step


def exposed(p, photons, least=0.5):
    return -(torch.poisson(photons * torch.exp(-p)).clamp_min(least) / photons).log()


def bent(p, photons):
    return p + torch.randn(p.shape) * 0.3


def smears(sinogram, angles, *, turn=lambda a: a, tile=lambda p, n: np.tile(p, (n, 1)), scale=1.0):
    n = len(sinogram)
    total = np.zeros((n, n))
    for p, angle in zip(sinogram.T, angles, strict=True):
        total += rotate(tile(p, n), turn(angle))
    return scale * total * np.pi / len(angles)


def last_smear(sinogram, angles):
    one = np.zeros_like(sinogram)
    one[:, -1] = sinogram[:, -1]
    return smears(one, angles)


def without_first(sinogram, angles):
    return smears(sinogram[:, 1:], angles[1:]) * (len(angles) - 1) / len(angles)


def by_place(sinogram, angles):
    return smears(sinogram, np.arange(len(angles)))


def spectrum(image):
    return torch.fft.fftshift(torch.fft.fft2(image))


def image_of(kept):
    return torch.fft.ifft2(torch.fft.ifftshift(kept))


def box(image, cycles, *, less=(0, 0, 0, 0), at=None):
    i, j = at or (n // 2 for n in image.shape)
    kept = torch.zeros_like(image, dtype=torch.bool)
    top, end, left, right = less
    kept[i - cycles + top : i + cycles + 1 - end, j - cycles + left : j + cycles + 1 - right] = True
    return kept


def centre(image, cycles, **how):
    return image_of(spectrum(image) * box(image, cycles, **how)).abs()


def one_axis(image, cycles):
    kept = spectrum(image)
    i = image.shape[0] // 2
    kept[: i - cycles] = 0
    kept[i + cycles + 1 :] = 0
    return image_of(kept).abs()


def unshifted(image, cycles):
    kept = torch.zeros_like(torch.fft.fft2(image))
    kept[: cycles + 1, : cycles + 1] = torch.fft.fft2(image)[: cycles + 1, : cycles + 1]
    return torch.fft.ifft2(kept).abs()


def by_loop(image, cycles):
    kept = spectrum(image)
    for v in range(image.shape[0]):
        for u in range(image.shape[1]):
            far = abs(v - image.shape[0] // 2), abs(u - image.shape[1] // 2)
            if max(far) > cycles:
                kept[v, u] = 0
    return torch.fft.ifft2(kept).abs().tolist()


def phases(n, cells):
    return 2 * math.pi * torch.rand(n, cells)


def arrows(angle):
    return torch.polar(torch.ones_like(angle), angle)


def echoes(n, cells):
    return arrows(phases(n, cells)).sum(0).abs()


def echoes_by_loop(n, cells):
    rng = np.random.default_rng(int(torch.randint(1000, ())))
    return [abs(np.exp(1j * rng.uniform(0, 2 * np.pi, n)).sum()) for _ in range(cells)]


CASES = [
    ("images.1", lines, "✓"),
    ("images.1", lambda hu, step: lines(hu, step).numpy().tolist(), "✓"),
    ("images.1", lambda hu, step: lines(hu.permute(1, 0, 2), step), "along the first axis"),
    ("images.1", lambda hu, step: lines(hu.permute(0, 2, 1), step), "along the third axis"),
    ("images.1", lambda hu, step: lines(hu, step).sum(), "becomes one number: (3, 4)"),
    ("images.1", lambda hu, step: "dark", "becomes one number"),
    ("images.1", lambda hu, step: lines(hu, 1), "left out how long a voxel is"),
    ("images.1", lambda hu, step: lines(hu, step) / hu.shape[1], "averaged along the ray"),
    ("images.1", lambda hu, step: hu.sum(1) * step, "added up HU"),
    ("images.1", lambda hu, step: hu.sum(1), "added up HU"),
    ("images.1", lambda hu, step: MU_WATER * (1 + hu).sum(1) * step, "thousandths"),
    ("images.1", lambda hu, step: MU_WATER * hu.sum(1) * step, "thousandths"),
    ("images.1", lambda hu, step: MU_WATER * hu.sum(1) / 1000 * step, "water has μ = 0"),
    ("images.1", lambda hu, step: torch.exp(-lines(hu, step)), "fraction that passes"),
    ("images.1", lambda hu, step: 1 - torch.exp(-lines(hu, step)), "fraction that passes"),
    ("images.1", lambda hu, step: -lines(hu, step), "p is negative"),
    ("images.1", lambda hu, step: lines(hu.clamp_min(0), step), "Bone counts in full"),
    ("images.1", lambda hu, step: lines(hu.clamp_max(0), step), "Bone counts in full"),
    ("images.1", lambda hu, step: lines(hu, step) + 1, "the first ray should have"),
    ("images.2", exposed, "✓"),
    ("images.2", lambda p, n: exposed(p, n).numpy(), "✓"),
    ("images.2", lambda p, n: (n / torch.poisson(n * (-p).exp()).clamp(min=0.5)).log(), "✓"),
    ("images.2", lambda p, n: exposed(p, n)[0], "for line integrals of (80, 120)"),
    ("images.2", lambda p, n: p, "no noise in it"),
    ("images.2", lambda p, n: torch.poisson(n * torch.exp(-p)), "those are counts"),
    ("images.2", lambda p, n: torch.poisson(n * torch.exp(-p)) / n, "fraction that was counted"),
    ("images.2", lambda p, n: -exposed(p, n), "needs a minus"),
    ("images.2", lambda p, n: -torch.poisson(n * torch.exp(-p)).clamp(min=0.5).log(), "divide the"),
    ("images.2", lambda p, n: exposed(p, n) / math.log(10), "to base 10"),
    ("images.2", lambda p, n: exposed(p, n, 0), "no photon came"),
    ("images.2", lambda p, n: exposed(p, n, 0.1), "half a photon, which is p = 5.30"),
    ("images.2", lambda p, n: -((torch.poisson(n * (-p).exp()) + 0.5) / n).log(), "moved the"),
    ("images.2", bent, "I expected a spread of"),
    ("images.2", lambda p, n: exposed(p, n) + 0.3, "I expected a mean of"),
    ("images.3", smears, "✓"),
    ("images.3", lambda s, a: torch.from_numpy(smears(s, a)), "✓"),
    ("images.3", lambda s, a: iradon(s, a, filter_name=None), "0.5 times what"),
    ("images.3", lambda s, a: s, "the sum of the smears has shape (41, 41)"),
    ("images.3", lambda s, a: smears(s, a, turn=lambda t: -t), "the wrong way"),
    ("images.3", lambda s, a: smears(s, a, turn=lambda t: 0), "without turning"),
    (
        "images.3",
        lambda s, a: smears(s, a, tile=lambda p, n: np.tile(p, (n, 1)).T),
        "across their rays",
    ),
    ("images.3", lambda s, a: smears(s, a, turn=lambda t: t + 90), "across their rays"),
    ("images.3", lambda s, a: smears(s, a, turn=np.deg2rad), "wants degrees"),
    ("images.3", by_place, "The angle is `angles[k]`"),
    ("images.3", last_smear, "one smear only"),
    ("images.3", without_first, "first or the last direction"),
    ("images.3", lambda s, a: smears(s, a, scale=1 / np.pi), "0.318 times"),
    ("images.3", lambda s, a: smears(s, a, scale=len(a) / np.pi), "times what it should be"),
    ("images.3", iradon, "filtered back-projection"),
    ("images.3", lambda s, a: np.full((len(s), len(s)), np.nan), "I expected"),
    ("images.4", (5000, 110), "✓"),
    ("images.4", torch.tensor([4800.0, 120.0]), "✓"),
    ("images.4", [4200, 100], "✓"),
    ("images.4", (5.0, 0.1), "look like seconds"),
    ("images.4", (5000, 0), "above 0"),
    ("images.4", (5000, -10), "above 0"),
    ("images.4", (100, 5000), "not shorter than TR"),
    ("images.4", (600, 10), "grey matter has regrown to 28%"),
    ("images.4", (800, 150), "grey matter has regrown to 36%"),
    ("images.4", (4100, 110), "regrown to 89%"),
    ("images.4", (5000, 10), "lengthen TE"),
    ("images.4", (5000, 400), "white matter keeps only 0.3%"),
    ("images.4", (20000, 110), "5000 ms or below"),
    ("images.4", (6000, 100), "5000 ms or below"),  # of the figure above the exercise
    ("images.4", 5000, "two numbers"),
    ("images.4", (5000, float("nan")), "two numbers"),
    ("images.4", (5000, "long"), "expected a number"),
    ("images.5", centre, "✓"),
    ("images.5", by_loop, "✓"),
    ("images.5", lambda m, c: (spectrum(m) * box(m, c))[:5], "the image has (24, 35)"),
    ("images.5", unshifted, "fastest waves, or half of the slow"),
    ("images.5", lambda m, c: torch.fft.ifft2(torch.fft.fft2(m) * box(m, c)).abs(), "fastest"),
    ("images.5", lambda m, c: image_of(spectrum(m) * ~box(m, c)).abs(), "dropped the centre"),
    ("images.5", lambda m, c: centre(m, c, less=(0, 1, 0, 1)), "one end is missing"),
    ("images.5", lambda m, c: centre(m, c, less=(0, 1, 0, 0)), "one end is missing"),
    ("images.5", lambda m, c: centre(m, c, less=(1, 0, 1, 0)), "one end is missing"),
    ("images.5", lambda m, c: centre(m, c - 1), "one end is missing"),
    ("images.5", lambda m, c: centre(m, c // 2), "half of the range"),
    ("images.5", one_axis, "few rows and few columns"),
    ("images.5", lambda m, c: centre(m, c, at=(m.shape[0] // 2,) * 2), "beside the middle"),
    ("images.5", lambda m, c: (spectrum(m) * box(m, c)).abs(), "you returned k-space"),
    ("images.5", lambda m, c: torch.fft.fft2(spectrum(m) * box(m, c)).abs(), "forwards twice"),
    ("images.5", lambda m, c: image_of(spectrum(m) * box(m, c)).real, "returned the real part"),
    ("images.5", lambda m, c: image_of(spectrum(m) * box(m, c)), "returned the real part"),
    ("images.5", lambda m, c: centre(m, c) ** 2, "squared the magnitude"),
    ("images.5", lambda m, c: torch.fft.fftshift(centre(m, c)), "changed places"),
    ("images.5", lambda m, c: m, "pixel (0, 0) should be"),
    ("images.5", lambda m, c: "waves", "the image has (24, 35)"),
    ("images.6", echoes, "✓"),
    ("images.6", echoes_by_loop, "✓"),
    ("images.6", lambda n, cells: echoes(n, cells)[None], "asked for 5 cells"),
    ("images.6", lambda n, cells: "loud", "asked for 5 cells"),
    ("images.6", lambda n, cells: echoes(n, cells) / 0, "NaN or infinite"),
    ("images.6", lambda n, cells: arrows(phases(n, cells)).abs().sum(0), "added the lengths"),
    ("images.6", lambda n, cells: 2 * echoes(n, cells), "the arrow has length 1"),
    ("images.6", lambda n, cells: arrows(phases(n, cells)).sum(0), "as complex numbers"),
    ("images.6", lambda n, cells: arrows(phases(n, cells)).sum(0).tolist(), "as complex numbers"),
    ("images.6", lambda n, cells: phases(n, cells).cos().sum(0), "are negative"),
    ("images.6", lambda n, cells: echoes(n, cells) ** 2, "the square of the length"),
    (
        "images.6",
        lambda n, cells: arrows(phases(n, 1)).sum(0).abs().expand(cells),
        "all your cells",
    ),
    ("images.6", lambda n, cells: arrows(phases(n, cells) / 2).sum(0).abs(), "prefer one side"),
    ("images.6", lambda n, cells: arrows(torch.randn(n, cells)).sum(0).abs(), "prefer one side"),
    ("images.6", lambda n, cells: arrows(phases(n, cells)).mean(0).abs(), "averaged the arrows"),
    (
        "images.6",
        lambda n, cells: phases(n, cells).cos().sum(0).abs() if n > 1 else echoes(n, cells),
        "The length needs both",
    ),
    (
        "images.6",
        lambda n, cells: echoes(n, cells) * (1 + (n > 1) * torch.rand(cells)),
        "I expected lengths of about 6.27",
    ),
]


def given(id):
    return {"tissues": TISSUES} if id == "images.4" else {}


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    check(id, answer, **given(id))
    said = " ".join(capsys.readouterr().out.split())
    assert reply in said, said
    assert said.startswith("✓" if reply == "✓" else "✗")


@pytest.mark.parametrize("id", sorted(set(MESSAGES) - {"images.4"}))
def test_what_is_no_answer_is_told(id, capsys):
    is_told_what_is_no_answer(id, capsys)


@pytest.mark.parametrize("answer", [..., (..., ...), [5000, ...]])
def test_times_not_chosen_are_not_attempted(answer, capsys):
    check("images.4", answer, tissues=TISSUES)
    assert capsys.readouterr().out.startswith("○ images.4 not attempted yet")


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys, given) == []


EQUIVALENT = [
    "images.3: for p, angle in zip(sinogram.T, angles, strict=True): "
    "→ for p, angle in zip(sinogram.T, angles):",
    "images.3: for p, angle in zip(sinogram.T, angles, strict=True): "
    "→ for p, angle in zip(sinogram.T, angles, strict=False):",
    *(
        f"images.4: tr_te = (4500, 110) → tr_te = {times}"
        for times in ("(4499, 110)", "(4500, 109)", "(4500, 111)", "(4501, 110)")
    ),
    # A normal phase that spreads over whole circles is as good as an even one
    "images.6: phase = 2 * torch.pi * torch.rand(scatterers, cells) "
    "→ phase = 2 * torch.pi * torch.randn(scatterers, cells)",
    "images.6: return torch.hypot(across, along) → return torch.hypot(along, across)",
]


def test_a_changed_solution_is_not_ticked():
    cells = ("imports", "beer-lambert", "tissues")
    assert ticked("01_how_images_are_made", "images", cells=cells) == EQUIVALENT
