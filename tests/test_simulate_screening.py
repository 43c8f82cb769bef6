"""The screening CT against published odds, Murray's law, closed forms and the theory of noise."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from scipy.special import expit

from medlab import simulate
from medlab.errors import DataError
from medlab.simulate import _lungs, _trees, screening
from medlab.simulate._trees import Grid, Pieces

AVERAGE = {"age": 62, "female": 0, "family": 0, "emphysema": 0, "count": 4}


def chances(diameter, kind=0, spiculated=0, upper=0, **facts):
    return screening.brock(diameter, kind, spiculated=spiculated, upper=upper, **AVERAGE | facts)


# ------------------------------------------------------------------------------- odds of cancer


def test_brock_at_four_millimetres_is_the_intercept():
    assert chances(4.0) == pytest.approx(expit(-6.7892), rel=1e-9)


@pytest.mark.parametrize(
    ("given", "log_odds"),
    [
        # By hand: (10/10)^-0.5 = 1, so -5.3854 × (1 − 1.58113883) = 3.129665.
        ({"diameter": 10.0}, -6.7892 + 3.129665),
        # (2.5)^-0.5 = 0.63245553: 5.3854 × 0.9486833 = 5.109039.
        ({"diameter": 25.0, "spiculated": 1, "upper": 1}, -6.7892 + 5.109039 + 0.7729 + 0.6581),
        ({"diameter": 10.0, "kind": 1, "female": 1}, -6.7892 + 3.129665 + 0.3770 + 0.6011),
        ({"diameter": 10.0, "kind": 2, "age": 72}, -6.7892 + 3.129665 - 0.1276 + 0.287),
        ({"diameter": 10.0, "family": 1, "emphysema": 1}, -6.7892 + 3.129665 + 0.2961 + 0.2953),
        ({"diameter": 10.0, "count": 1}, -6.7892 + 3.129665 + 3 * 0.0824),
    ],
)
def test_brock_by_hand(given, log_odds):
    assert chances(**given) == pytest.approx(expit(log_odds), rel=1e-5)


def test_brock_refuses_a_diameter_that_is_none():
    with pytest.raises(DataError, match="mm and must be positive"):
        chances(0.0)


def test_malignancy_is_drawn_with_its_probability(body):
    rng = np.random.default_rng(5)
    facts = AVERAGE | {"age": 75.0, "female": 1.0, "emphysema": 1.0}
    nodules = [screening._nodule(rng, body, facts) for _ in range(500)]
    odds = np.array([n.brock for n in nodules])
    ill = np.array([n.malignant for n in nodules])
    assert ill.sum() == pytest.approx(odds.sum(), abs=3 * np.sqrt((odds * (1 - odds)).sum()))
    high = odds > np.quantile(odds, 0.8)
    expected = odds[high]
    spread = np.sqrt((expected * (1 - expected)).sum())
    assert ill[high].sum() == pytest.approx(expected.sum(), abs=3 * spread)
    for n in nodules[:100]:
        upper = int(body.sheet(*n.centre)[1]) in (0, 3)
        told = chances(n.diameter, n.kind, n.spiculated, upper, **facts)
        assert n.brock == pytest.approx(told) or (n.brock == 0 and n.hu >= 250)


def test_screening_nodules_are_mostly_small(body):
    rng = np.random.default_rng(1)
    nodules = [screening._nodule(rng, body, AVERAGE) for _ in range(300)]
    sizes = np.array([n.diameter for n in nodules])
    assert sizes.min() >= 3 and sizes.max() <= 30
    assert 0.6 < (sizes < 10).mean() < 0.95
    kinds = np.bincount([n.kind for n in nodules], minlength=3) / 300
    assert kinds == pytest.approx([0.72, 0.10, 0.18], abs=0.07)


# --------------------------------------------------------------------------------------- anatomy


@pytest.fixture(scope="module")
def body():
    return _lungs.build(np.random.default_rng(3), female=True, age=64.0, emphysema=0.1)


def test_murray(body):
    """Where two daughters begin, their cubed radii add up to the parent's."""
    tree = body.arteries
    radius = _lungs.LEAF * np.cbrt(tree.supplied)
    children: dict[bytes, list[int]] = {}
    for i, start in enumerate(tree.start):
        children.setdefault(start.tobytes(), []).append(i)
    pairs = [(i, children.get(end.tobytes(), [])) for i, end in enumerate(tree.end)]
    pairs = [(i, found) for i, found in pairs if found]
    assert len(pairs) > 500
    for i, found in pairs:
        assert len(found) == 2
        assert (radius[found] ** 3).sum() == pytest.approx(radius[i] ** 3)
    tube = _trees.tube(tree, _lungs.LEAF)
    assert tube.ra.max() == pytest.approx(radius.max())
    assert (tube.rb <= tube.ra + 1e-9).all()  # it tapers


def test_vessels_reach_every_part_of_the_lung_and_near_the_pleura(body):
    leaves = body.arteries.supplied == 1
    assert leaves.sum() == len(body.points)
    depth = body.depth
    assert (depth < 8).mean() > 0.15 and len(np.unique(body.lobe)) == 5


def test_hounsfield_units_of_tissues(body):
    grid = Grid(-150.0, -130.0, 1.5, 200)
    x, y = grid.axes()
    depth = body.depths(x, y, -60.0)
    hu = _lungs.paint(body, grid, -60.0, depth)
    d = dict(zip(_lungs.NAMES, depth, strict=True))
    assert np.median(hu[d["heart"] > 5]) == pytest.approx(45, abs=3)
    assert -910 < np.median(hu[d["lung"] > 5]) < -780
    assert np.median(hu[(d["skin"] > 3) & (d["cage"] < -9 - d["muscle"] - 3)]) == -100
    assert (hu[d["skin"] < -2] == -1000).all()
    assert hu.max() > 800  # cortex
    assert hu[(hu > 100)].min() < 400  # marrow


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.0])
def test_cover_of_a_tube_is_its_section(radius):
    """A tube across the plane covers π r², however thin."""
    upright = Pieces(*(np.array(v, float) for v in ([[0, 0, -9]], [[0, 0, 9]], [radius], [radius])))
    shifts = np.linspace(0, 0.7, 7)[:-1]
    grids = [Grid(-20 + dx, -20 + dy, 0.7, 60) for dx in shifts for dy in shifts]
    area = np.mean([_trees.cover({"": upright}, g, 0.0)[""].sum() * g.step**2 for g in grids])
    assert area == pytest.approx(np.pi * radius**2, rel=0.03)


# --------------------------------------------------------------------------------------- nodules


def ball(diameter, centre=(0.0, 0.0, 0.0), **changes):
    given = {
        "centre": np.array(centre), "diameter": diameter, "kind": 0, "axes": np.eye(3),
        "furrows": np.ones((4, 4)), "lobed": 0.0, "hu": 40.0, "core": 1.0, "soft": 0.5,
        "spicules": None, "brock": 0.0, "malignant": False,
    }  # fmt: skip
    return screening.Nodule(**given | changes)


def test_smooth_nodule_has_the_area_and_volume_of_a_sphere():
    grid = Grid(-15.0, -15.0, 0.2, 151)
    areas = []
    heights = np.arange(-10.0, 10.1, 0.5)
    for z in heights:
        areas.append((ball(18.0).depth(*grid.axes(), z) > 0).sum() * 0.04)
    expected = np.pi * (81 - heights**2).clip(0)
    assert np.abs(np.array(areas) - expected).max() < 2.0
    assert sum(areas) * 0.5 == pytest.approx(np.pi * 18**3 / 6, rel=0.01)


def test_diameter_is_the_longest(body):
    rng = np.random.default_rng(2)
    for _ in range(10):
        n = screening._nodule(rng, body, AVERAGE)._replace(lobed=0.0)
        u = np.random.default_rng(0).standard_normal((3, 4000))
        u = n.diameter * 0.6 * u / np.linalg.norm(u, axis=0)
        grid = np.linspace(0, 1, 80)[:, None]
        far = [n.centre[i] + grid * u[i] for i in range(3)]
        inside = n.depth(*far) > 0
        assert 2 * (inside * grid).max() * 0.6 == pytest.approx(1.0, abs=0.05)


# ------------------------------------------------------------------------------------- the scanner

KERNEL = {"sigma": 0.5, "edge": 0.4}


def noise(seed, level=0.0, size=128, step=0.8, photons=1e6, thickness=1.0):
    lines = np.full((screening.SECTORS, size, size), level)
    return screening.reconstruct(
        np.zeros((size, size)), lines, step, np.random.default_rng(seed),
        photons=photons, thickness=thickness, **KERNEL,
    )  # fmt: skip


def test_noise_power_spectrum_is_the_theory():
    """Periodogram, averaged over rings, against π f G(f)² / (photons · mm); G written out here."""
    step, size = 0.8, 128
    images = np.stack([noise(k, size=size, step=step) for k in range(16)])
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(0) * step**2 / size**2
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(size, step)] * 2))
    g = np.exp(-2 * np.pi**2 * 0.25 * f**2) * (1 + 0.4 * f**2 / 0.35**2)
    expected = np.pi * f * g**2 / 1e6 * (1000 / 0.0206) ** 2
    for low in np.arange(0.1, 0.6, 0.1):
        ring = (f >= low) & (f < low + 0.1)
        assert power[ring].mean() == pytest.approx(expected[ring].mean(), rel=0.08)
    left = (f > 0.1) & (f < 0.6)
    for angle in range(0, 180, 30):  # no direction is favoured
        theta = np.rad2deg(np.arctan2(*np.meshgrid(*[np.fft.fftfreq(size, step)] * 2)[::-1])) % 180
        wedge = left & (np.abs(theta - angle) < 12)
        assert power[wedge].sum() == pytest.approx(expected[wedge].sum(), rel=0.1)


@pytest.mark.parametrize(
    ("change", "factor"),
    [({"photons": 4e6}, 0.25), ({"thickness": 2.5}, 0.4), ({"level": 3.0}, np.exp(3.0))],
)
def test_noise_variance_follows_dose_slice_and_body(change, factor):
    assert noise(1, **change).var() / noise(1).var() == pytest.approx(factor, rel=1e-6)


def test_streaks_lie_along_the_rays_that_hardly_pass():
    """Weak rays along x (s = y, sector 3 of 6, at 90°) make noise that varies along y only."""
    lines = np.zeros((screening.SECTORS, 128, 128))
    lines[screening.SECTORS // 2] = 6.0
    image = screening.reconstruct(
        np.zeros((128, 128)), lines, 0.8, np.random.default_rng(0),
        photons=1e6, thickness=1.0, **KERNEL,
    )  # fmt: skip
    assert np.diff(image, axis=0).std() > 2 * np.diff(image, axis=1).std()


def test_attenuation_of_a_disc_of_water():
    x, y = screening.WHOLE.axes()
    lines = screening.attenuation((np.hypot(x, y - 20) < 100).astype(np.float32))
    for k, line in enumerate(lines[:, screening.INNER, screening.INNER]):
        u, v = screening._field(64).axes()
        angle = np.pi * k / screening.SECTORS
        s = u * np.cos(angle) + (v - 20) * np.sin(angle)
        chord = 2 * np.sqrt((100**2 - s**2).clip(0))
        clear = np.abs(np.abs(s) - 100) > 15
        assert np.abs(line - 0.0206 * chord)[clear].max() < 0.12


# -------------------------------------------------------------------------------------- the cohorts


@pytest.fixture(scope="module")
def cohort():
    return simulate.COHORTS["lung_ct"].make(n=80, seed=2, size=96)


def test_cohort_is_what_its_card_says(cohort):
    assert cohort.images.shape == (80, 1, 96, 96) and cohort.images.dtype == torch.int16
    assert cohort.spacing == (320 / 96, 320 / 96)
    assert cohort.card.task == "detection" and cohort.classes == ("nodule",)
    counts = torch.tensor([len(b) for b in cohort.boxes])
    assert 0.1 <= (counts > 0).float().mean() <= 0.6
    told = cohort.extras
    for key in ("diameter", "brock"):
        assert torch.equal((~told[key].isnan()).sum(1), counts)
    for key in ("kind", "malignant", "spiculated"):
        assert torch.equal((told[key] >= 0).sum(1), counts)
    _, per_patient = np.unique(cohort.patients, return_counts=True)
    assert (per_patient[:-1] >= 4).all() and (per_patient <= 8).all()
    for patient in np.unique(cohort.patients):
        mine = cohort.patients == patient
        assert len(np.unique(cohort.sites[mine])) == 1
        assert len(told["age"][mine].unique()) == 1


def test_boxes_are_tight_around_the_masks(cohort):
    for boxes, mask in zip(cohort.boxes, cohort.masks, strict=True):
        covered = torch.zeros_like(mask)
        for x0, y0, x1, y1 in boxes.long().tolist():
            part = mask[y0:y1, x0:x1]
            assert part.any(0).all() or part.any(1).all()
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            area = part.sum() * (320 / 96) ** 2
            assert area >= screening.VISIBLE
            covered[y0:y1, x0:x1] = 1
        assert not (mask & ~covered).any()


def test_masks_are_the_pixel_centres_in_the_nodule_and_in_the_lung(body):
    n = ball(16.0, centre=body.points[np.argmax(body.depth)])
    patient = screening._Participant("", {}, AVERAGE, body, [n])
    grid, z = screening._field(256), float(n.centre[2]) + 3.0
    ((_, mask),) = screening._cuts(patient, grid, z)
    x, y = grid.axes()
    r2 = (x - n.centre[0]) ** 2 + (y - n.centre[1]) ** 2 + 9
    assert np.array_equal(mask, r2 < 64)
    assert screening._cuts(patient, grid, z + 4.8) == []  # 9 mm² left


def test_nodule_is_bright_where_its_mask_is(body):
    n = ball(20.0, centre=body.points[np.argmax(body.depth)])
    scanner = {"photons": 1e9, "thickness": 1.0, "sigma": 0.4, "edge": 0.0}
    patient = screening._Participant("", scanner, AVERAGE, body, [n])
    grid, z = screening._field(256), float(n.centre[2])
    (hu,) = screening._scan(patient, 256, z, np.random.default_rng(0))
    ((_, mask),) = screening._cuts(patient, grid, z)
    assert np.median(hu[mask]) == pytest.approx(40, abs=12)
    bare = patient._replace(nodules=[])
    (without,) = screening._scan(bare, 256, z, np.random.default_rng(0))
    changed = np.abs(hu - without) > 300
    assert not (changed & ~binary_dilation(mask)).any()
    assert (changed & mask).sum() > 0.8 * mask.sum()  # the rest was vessel before


def test_a_stack_holds_the_single_slice_in_its_middle():
    one = screening.lung_ct(n=2, seed=2, size=64)
    three = screening.lung_ct(n=2, seed=2, size=64, stack=3)
    assert three.images.shape == (2, 3, 64, 64)
    assert torch.equal(one.masks, three.masks)
    assert all(torch.equal(a, b) for a, b in zip(one.boxes, three.boxes, strict=True))
    middle = (one.images[:, 0] - three.images[:, 1]).float()
    assert middle.abs().median() < 25  # the same anatomy, other noise
    assert (one.images[:, 0] - three.images[:, 0]).float().abs().mean() > middle.abs().mean()


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(cohort):
    few = screening.lung_ct(n=7, seed=2, size=96)
    assert torch.equal(few.images, cohort.images[:7])
    assert torch.equal(few.masks, cohort.masks[:7])
    assert list(few.patients) == list(cohort.patients[:7])
    assert torch.equal(few.extras["kind"], cohort.extras["kind"][:7])


def test_bytes_do_not_depend_on_threads(cohort):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        again = screening.lung_ct(n=10, seed=2, size=96)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again.images, cohort.images[:10])
    assert not torch.equal(screening.lung_ct(n=1, seed=3, size=96).images, cohort.images[:1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "number of images"),
        ({"n": 2.5}, "number of images"),
        ({"seed": -1}, "seed must be"),
        ({"size": 63}, "even number from 64"),
        ({"size": 1024}, "even number from 64"),
        ({"stack": 2}, "odd number"),
        ({"stack": 17}, "odd number"),
    ],
)
def test_errors(options, said):
    with pytest.raises(DataError, match=said):
        screening.lung_ct(**{"n": 2} | options)


def test_no_patient_depends_on_the_sign_that_a_processor_finds(monkeypatch):
    """An eigenvector may point either way, and LAPACK's kernels for two processors differ in it."""
    before = screening.lung_ct(n=6, size=64)

    def other(matrices):
        values, vectors = eigh(matrices)
        return values, vectors * np.where(np.arange(len(vectors)) % 3, 1, -1)[:, None, None]

    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", other)
    after = screening.lung_ct(n=6, size=64)
    assert torch.equal(before.images, after.images)
    assert all(torch.equal(a, b) for a, b in zip(before.boxes, after.boxes, strict=True))


def test_slices_without_noise_lie_beside_the_same_slices():
    plain, both = (screening.lung_ct(n=5, seed=2, size=64, stack=3, clean=c) for c in (False, True))
    assert torch.equal(plain.images, both.images) and "target" not in plain.extras
    target = both.extras["target"]
    assert target.shape == both.images.shape and target.dtype == torch.int16
    noise = (both.images - target).float()
    assert noise.mean().abs() < 1 and 5 < noise.std() < 60
    # What is left is noise: it does not know the anatomy, and no two slices share it.
    flat = torch.stack([noise[0].flatten(), target[0].float().flatten(), noise[1].flatten()])
    assert torch.corrcoef(flat)[0, 1:].abs().max() < 0.05
    steps = [(x[..., 1:] - x[..., :-1]).float().abs().median() for x in (target, both.images)]
    assert 2 * steps[0] < steps[1]


# ---------------------------------------------------------------------------- lungs and studies


def test_lungs_lie_beside_the_same_slices():
    plain, both = (screening.lung_ct(n=9, seed=2, size=96, lungs=x) for x in (False, True))
    assert torch.equal(plain.images, both.images) and "lungs" not in plain.extras
    lungs = both.extras["lungs"]
    assert lungs.shape == (9, 96, 96) and lungs.dtype == torch.uint8
    assert set(lungs.unique().tolist()) == {0, 1, 2}
    assert not (both.masks.bool() & (lungs == 0)).any()  # a nodule in a lung is part of it
    hu = both.images[:, 0].float()
    assert hu[lungs > 0].median() < -750
    dark = (hu < -500) & (torch.arange(96) > 15) & (torch.arange(96) < 80)
    assert (dark & (lungs > 0)).sum() / (lungs > 0).sum() > 0.8
    column = torch.arange(96).expand_as(lungs).float()
    assert column[lungs == 1].mean() < 40 < 56 < column[lungs == 2].mean()


@pytest.fixture(scope="module")
def study():
    return simulate.screening_study(6, seed=2, size=96, slice_mm=2.5)


def test_study_is_the_participant_of_the_slices(study):
    cohort = screening.lung_ct(n=40, seed=2, size=64)
    mine = cohort.patients == "P00006"
    for key, value in study.facts.items():
        assert cohort.extras[key][mine].unique().item() == pytest.approx(value)
    told = cohort.extras["diameter"][mine]
    seen = told[~told.isnan()].unique().numpy()
    assert np.isin(seen.round(4), study.nodules["diameter"].astype(np.float32).round(4)).all()
    odds = screening.brock(
        study.nodules["diameter"], study.nodules["kind"], spiculated=study.nodules["spiculated"],
        upper=study.nodules["upper"], **study.facts,
    )  # fmt: skip
    calcified = study.nodules["brock"] == 0
    assert study.nodules["brock"] == pytest.approx(odds * ~calcified)
    assert not study.nodules["malignant"][calcified].any()
    assert len(study.nodules["centre"]) == study.facts["count"]


def test_slices_of_a_study_are_those_of_the_body(study):
    """Against a slice made by `_scan` at the same height, without noise on either side."""
    quiet = simulate.screening_study(6, seed=2, size=96, slice_mm=2.5, photons=1e15)
    patient = screening._participant(2, 6)
    volume = quiet.volume
    assert volume.spacing == (2.5, 320 / 96, 320 / 96)
    for i in (30, 55, 80):
        z = volume.origin[2] + 2.5 * i
        scan = patient.scanner | {"thickness": 5.0, "photons": 1e15}  # planes at z ± 1.25 mm
        thick = patient._replace(scanner=scan)
        (hu,) = screening._scan(thick, 96, z, np.random.default_rng(0))
        assert np.abs(volume.voxels[i].numpy() - hu.clip(-1024, 3071)).max() < 2
        grid = screening._field(96)
        lung = patient.body.depths(*grid.axes(), z)[0]
        clear = np.abs(lung) > 1.5
        assert ((quiet.lungs[i].numpy() > 0) == (lung > 0))[clear].all()
    # The noise is the hospital's, and of a slice of this thickness.
    noise = (study.volume.voxels - volume.voxels)[40:60, 20:40, 40:56].std().item()
    thick = simulate.screening_study(6, seed=2, size=96, slice_mm=5.0)
    calm = simulate.screening_study(6, seed=2, size=96, slice_mm=5.0, photons=1e15)
    half = (thick.volume.voxels - calm.volume.voxels)[20:30, 20:40, 40:56].std().item()
    assert half / noise == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_nodules_of_a_study_are_where_the_table_says(study):
    quiet = simulate.screening_study(6, seed=2, size=96, slice_mm=2.5, photons=1e15)
    inverse = torch.linalg.inv(study.volume.affine)
    for centre, diameter in zip(study.nodules["centre"], study.nodules["diameter"], strict=True):
        place = inverse @ torch.tensor([*centre, 1.0], dtype=torch.float64)
        i, j, k = place[:3].round().int().tolist()
        assert study.lungs[i, j, k] == 1 + (centre[0] > 0)
        near = quiet.volume.voxels[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2]
        if diameter > 5:
            assert near.max() > -700


def test_study_covers_the_lungs_and_depends_on_nothing_else(study):
    area = (study.lungs > 0).flatten(1).sum(1)
    assert max(area[0], area[-1]) < 0.02 * area.max()
    assert study.lungs.flatten(1).any(1)[4:-8].all()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        again = simulate.screening_study(6, seed=2, size=96, slice_mm=2.5)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again.volume.voxels, study.volume.voxels)
    other = simulate.screening_study(2, seed=3, size=96, slice_mm=2.5)
    assert other.volume.voxels.shape != study.volume.voxels.shape or not torch.equal(
        other.volume.voxels, study.volume.voxels
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": -1}, "k must be a whole number"),
        ({"k": 1.5}, "k must be a whole number"),
        ({"k": 0, "dose": 3.0}, "photons, sigma or edge"),
        ({"k": 0, "slice_mm": 0.0}, "slice_mm must be positive"),
        ({"k": 0, "photons": 0.0}, "photons must be positive"),
        ({"k": 0, "size": 63}, "even number from 64"),
        ({"k": 0, "seed": -1}, "seed must be"),
    ],
)
def test_study_errors(options, said):
    with pytest.raises(DataError, match=said):
        simulate.screening_study(**options)
