"""Kidneys on ultrasound: their volumes, masks and physics, and bytes that stay the same."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gamma

import medlab
from medlab.errors import DataError
from medlab.simulate import _flank as flank
from medlab.simulate import renal
from medlab.simulate._streams import stream


def numbers(patient, seed=0):
    return renal._patient(stream("kidney_us", renal.KIDNEY_US.version, seed, patient))


@pytest.fixture(scope="module")
def cohort():
    return renal.kidney_us(n=32, seed=3)


@pytest.fixture(scope="module")
def many():
    """Numbers and facts of 300 patients, without pictures."""
    return [numbers(k, seed=5) for k in range(300)]


# ---------------------------------------------------------------------------------- the cohort


def test_what_the_cohort_holds(cohort):
    assert cohort.images.shape == (32, 1, 96, 96)
    assert cohort.images.dtype == torch.uint8
    assert cohort.masks.shape == (32, 96, 96)
    assert cohort.classes == ("background", "kidney", "sinus", "cyst")
    assert cohort.spacing == pytest.approx((160 / 96, 160 / 96))
    assert set(np.unique(cohort.patients, return_counts=True)[1]) == {4}
    assert set(cohort.sites) <= set(renal.SITES)
    assert cohort.extras["view"].tolist() == [0, 1, 0, 1] * 8
    assert cohort.extras["central"].tolist() == [True, True, False, False] * 8
    for name, values in cohort.extras.items():
        if name not in ("view", "central"):
            assert (values.view(8, 4) == values.view(8, 4)[:, :1]).all(), name
    assert (cohort.masks.flatten(1) > 0).any(1).all()


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(cohort):
    for n in (1, 6):
        small = renal.kidney_us(n=n, seed=3)
        assert torch.equal(small.images, cohort.images[:n])
        assert torch.equal(small.masks, cohort.masks[:n])
        assert small.sites.tolist() == cohort.sites[:n].tolist()
        for name, values in small.extras.items():
            assert torch.equal(values, cohort.extras[name][:n]), name


def test_the_number_of_threads_changes_nothing(cohort):
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert torch.equal(renal.kidney_us(n=12, seed=3).images, cohort.images[:12])
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)


def test_another_seed_gives_other_patients(cohort):
    other = renal.kidney_us(n=8, seed=4)
    assert not any(torch.equal(a, b) for a in other.images for b in cohort.images)


def test_other_sizes_show_the_same_patients(cohort):
    other = renal.kidney_us(n=4, seed=3, size=192)
    small = torch.nn.functional.avg_pool2d(other.images.float(), 2)
    for a, b in zip(small, cohort.images[:4].float(), strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.9
    assert (other.masks[:, ::2, ::2] == cohort.masks[:4]).float().mean() > 0.97


def test_it_is_loaded_by_name(tmp_path):
    loaded = medlab.load("kidney_us", n=4, seed=3, root=tmp_path)
    assert torch.equal(loaded.images, renal.kidney_us(n=4, seed=3).images)
    assert loaded.card.simulated


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is the number"),
        ({"n": 2.5}, "n is the number"),
        ({"n": 4, "size": 16}, "size is the side"),
        ({"n": 4, "size": 600}, "size is the side"),
        ({"n": 4, "seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(DataError, match=words):
        renal.kidney_us(**options)


# -------------------------------------------------------------------------------- distributions


def test_kidneys_are_as_long_as_the_card_and_the_literature_say(many):
    facts = {name: np.array([f[name] for _, f in many]) for name in many[0][1]}
    assert 90 <= facts["length"].min() < facts["length"].max() <= 130
    young = facts["age"] < 55
    man, woman = young & ~facts["female"], young & facts["female"]
    assert 108 < facts["length"][young].mean() < 114
    assert 2 < facts["length"][man].mean() - facts["length"][woman].mean() < 8
    assert facts["length"][facts["age"] > 75].mean() < facts["length"][young].mean() - 2
    assert facts["length"][~facts["right"]].mean() > facts["length"][facts["right"]].mean()
    assert 120 < np.median(facts["kidney_ml"]) < 175


def test_lesions_and_dilatation_are_as_frequent_as_the_tables_say(many):
    grade = np.bincount([f["grade"] for _, f in many], minlength=5) / len(many)
    assert np.allclose(grade, renal._FACTS["grades"]["share"], atol=0.09)
    cysts = np.array([f["cysts"] for _, f in many])
    old = np.array([f["age"] for _, f in many]) > 55
    assert set(cysts) == {0, 1, 2, 3}
    assert (cysts[old] > 0).mean() > (cysts[~old] > 0).mean()
    assert {f["stones"] for _, f in many} == {0, 1, 2}
    site = np.bincount([f["site"] for _, f in many]) / len(many)
    assert np.allclose(site, [s["share"] for s in renal.SITES.values()], atol=0.09)


def test_no_cyst_touches_another_and_no_stone_lies_in_one(many):
    for p, facts in many:
        at, mm = p["cyst_at"], p["cyst_mm"]
        for i in range(facts["cysts"]):
            assert 4 < mm[i] < 25
            for j in range(i):
                assert np.linalg.norm(at[i] - at[j]) > mm[i] + mm[j] + 1.9
            for stone, radius in zip(p["stone_at"], p["stone_mm"], strict=True):
                assert np.linalg.norm(at[i] - stone) > mm[i] + radius


# -------------------------------------------------------------------------------------- volumes


def superellipsoid_ml(half, power):
    """8 a b c Γ(1 + 1/p)³ / Γ(1 + 3/p), Dirichlet's integral."""
    return 8 * np.prod(half) * gamma(1 + 1 / power) ** 3 / gamma(1 + 3 / power) / 1000


@pytest.mark.parametrize("patient", range(4))
def test_the_volume_of_a_bean_without_notch_is_the_closed_form(patient):
    p = numbers(patient)[0] | {"notch": 0.0, "furrow": 0.0}
    assert flank.kidney_ml(p) == pytest.approx(superellipsoid_ml(p["half"], p["power"]), rel=4e-3)


@pytest.mark.parametrize("patient", [1, 7, 14])
def test_the_volume_is_that_of_monte_carlo_points(patient):
    p, facts = numbers(patient)
    p["furrow"] = 0.05
    half = p["half"] + [p["bend"] + 2, 2, 0]
    points = np.random.default_rng(patient).uniform(-half, half, (400_000, 3))
    inside = flank.beneath_capsule(p, tuple(torch.from_numpy(points).T))[0] > 0
    share = float(inside.double().mean())
    want = 8 * np.prod(half) / 1000 * share
    error = 8 * np.prod(half) / 1000 * math.sqrt(share * (1 - share) / 400_000)
    assert flank.kidney_ml(p) == pytest.approx(want, abs=4 * error + 0.002 * want)
    assert facts["cyst_ml"] == pytest.approx(
        sum(4.18879 * r**3 for r in p["cyst_mm"]) / 1000, rel=1e-5
    )


def test_the_ellipsoid_formula_is_low_by_the_known_part(many):
    """π/6 · length · width · thickness leaves out the corners of the superellipsoid."""
    for p, _ in many[:8]:
        p = p | {"notch": 0.0, "furrow": 0.0}
        formula = math.pi / 6 * np.prod(2 * p["half"]) / 1000
        power = p["power"]
        known = 6 / math.pi * gamma(1 + 1 / power) ** 3 / gamma(1 + 3 / power)
        assert flank.kidney_ml(p) / formula == pytest.approx(known, rel=4e-3)
        assert 1.04 < known < 1.22


def test_masks_of_the_central_planes_give_the_volume():
    """Length from the longitudinal mask, width and thickness from the transverse one."""
    size, n = 160, 32
    cohort = renal.kidney_us(n=n, seed=1, size=size)
    ratio = []
    for first in range(0, n, 4):
        long, across = (np.argwhere(np.isin(m, (1, 2, 3))) for m in cohort.masks[first : first + 2])
        if cohort.extras["cysts"][first] > 0:
            continue  # some stand out of the kidney
        spans = []
        for points in (long, across):
            turned = [
                points @ [math.cos(t), math.sin(t)] for t in np.linspace(0, math.pi, 90, False)
            ]
            spans.append([np.ptp(t) + 1 for t in turned])
        length, width, thick = max(spans[0]), max(spans[1]), min(spans[1])
        ml = math.pi / 6 * length * width * thick * (160 / size) ** 3 / 1000
        ratio.append(ml / float(cohort.extras["kidney_ml"][first]))
    assert len(ratio) > 3
    assert 0.75 < np.mean(ratio) < 1.0
    assert max(np.abs(np.array(ratio) - np.mean(ratio))) < 0.2


# ---------------------------------------------------------------------------- masks and pictures


def test_masks_lie_in_the_sector_and_follow_the_anatomy(cohort):
    dark = cohort.images[:, 0] == 0
    assert (cohort.masks[:, :2] == 0).all()  # above the face
    assert dark[:, -1].float().mean() > 0.5  # below the deepest samples
    rows = torch.arange(32)
    cysts = cohort.extras["cysts"] > 0
    assert not (cohort.masks[~cysts] == 3).any()
    aimed = (~cohort.extras["central"]) & cysts
    assert ((cohort.masks[aimed] == 3).flatten(1).any(1)).float().mean() > 0.9
    longer = [
        np.ptp(np.argwhere(cohort.masks[i].numpy() > 0)[:, 1])
        for i in rows[cohort.extras["central"]].tolist()
    ]
    assert np.mean(longer[::2]) > 1.3 * np.mean(longer[1::2])


def test_sinus_is_bright_and_fluid_is_dark(cohort):
    healthy = cohort.extras["grade"] == 0
    image, masks = cohort.images[:, 0].float(), cohort.masks
    parenchyma = image[healthy][masks[healthy] == 1].mean()
    assert image[healthy][masks[healthy] == 2].mean() > parenchyma + 25
    assert image[masks == 3].mean() < parenchyma - 20
    dilated = cohort.extras["grade"] >= 3
    assert image[dilated][masks[dilated] == 2].mean() < image[healthy][masks[healthy] == 2].mean()


def test_the_mask_holds_what_lies_in_a_shadow():
    p, _ = numbers(2)
    rng = np.random.default_rng(0)
    s = renal._image(rng, p, 0)
    clear = renal._picture(s | {"ribs": [500.0], "gas_x": 500.0}, np.random.default_rng(1), 96)
    hidden = renal._picture(s | {"ribs": [-10.0], "gas_x": 20.0}, np.random.default_rng(1), 96)
    assert torch.equal(clear[1], hidden[1])
    assert (clear[0][clear[1] > 0].float() - hidden[0][clear[1] > 0].float()).mean() > 15


def scene(**changes):
    """Numbers of a longitudinal image with nothing in front, and the same white noise for each."""
    p, _ = numbers(0)
    plain = {"cyst_at": np.zeros((0, 3)), "cyst_mm": [], "stone_at": np.zeros((0, 3))}
    plain |= {"stone_mm": [], "furrow": 0.0, "spaces": [-9.0] * 3}
    s = renal._image(np.random.default_rng(7), p | plain, 0)
    s |= {"ribs": [500.0], "gas_x": 500.0, "noise": -140.0, "smooth": 0.0, **changes}
    return renal._scan(s, np.random.default_rng(8)), s


def test_behind_a_cyst_the_missing_attenuation_comes_back():
    (probe, without), s = scene()
    at = np.array([0.0, 0.0, 0.0])
    (_, with_cyst), changed = scene(cyst_at=at[None], cyst_mm=[11.0])
    d, angle = probe.grid()
    x, y = probe.point(d, angle)
    attenuation = []
    for numbers_of in (s, changed):
        given = numbers_of | {"sway": torch.sin(x / 15 + numbers_of["sway"])}
        kidney = flank.kidney(given, renal._in_kidney(given, x, y))
        tissue = renal._tissues(given, kidney, x, y, d).numpy()
        attenuation.append(np.array([t[1] for t in renal.TISSUES.values()])[tissue])
    step_cm = probe.depth / renal.SAMPLES / 10
    missing = 2 * s["frequency"] * step_cm * (attenuation[0] - attenuation[1]).sum(0)
    lines = missing > 0.9 * missing.max()
    assert lines.sum() >= 5
    assert 5 < missing.max() < 20
    rows = y[:, renal.LINES // 2] > s["at_y"] + 20
    gain = 20 * torch.log10(with_cyst[rows][:, lines] / without[rows][:, lines])
    assert float(gain.mean()) == pytest.approx(missing[lines].mean(), abs=0.7)
    ratio = with_cyst[rows].log10().mean(0) - without[rows].log10().mean(0)
    assert abs(float(ratio[:20].mean())) < 0.01  # beside it nothing has changed
    assert 20 * ratio.min() < -2  # where the beam grazes its wall


def test_behind_a_stone_there_is_shadow_and_in_front_nothing_changes():
    (probe, without), s = scene()
    (_, stone), _ = scene(stone_at=np.zeros((1, 3)), stone_mm=[4.0])
    x, y = probe.point(*probe.grid())
    beam = (x - s["at_x"]).abs().min(1).indices[len(x) // 2]
    behind = y[:, beam] > s["at_y"] + 8
    before = y[:, beam] < s["at_y"] - 8
    lost = 20 * torch.log10(stone[behind, beam] / without[behind, beam])
    assert float(lost.median()) < -20
    assert torch.equal(stone[before][:, beam], without[before][:, beam])


def test_liver_is_rayleigh_before_compression():
    """Free of gain and attenuation, which depend on depth alone, mean over sd is 1.91."""
    ratios = []
    for patient in [k for k in range(12) if numbers(k)[0]["right"]]:
        s = renal._image(np.random.default_rng(patient), numbers(patient)[0], 0)
        s |= {"ribs": [500.0], "gas_x": 500.0, "noise": -140.0, "smooth": 0.0}
        probe, beams = renal._scan(s, np.random.default_rng(patient))
        d, angle = probe.grid()
        x, y = probe.point(d, angle)
        given = s | {"sway": torch.sin(x / 15 + s["sway"])}
        tissue = renal._tissues(given, flank.kidney(given, renal._in_kidney(given, x, y)), x, y, d)
        liver = (tissue == list(renal.TISSUES).index("liver")) & (d > s["fat"] + s["wall"] + 8)
        liver[:, 100:] = False
        for row, where in zip(beams, liver, strict=True):
            if where.sum() > 30:
                ratios.append(row[where] / row[where].mean())
    pooled = torch.cat(ratios)
    assert len(pooled) > 10_000
    assert 1 / float(pooled.std()) == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.06)


def test_echoes_are_the_first_image_before_decibels():
    echoes = medlab.simulate.kidney_echoes(seed=3, size=96)
    image = renal.kidney_us(n=1, seed=3).images[0, 0]
    assert echoes.shape == (96, 96)
    assert (echoes >= 0).all()
    shown = (echoes > 0) & (image > 0)
    level = 20 * torch.log10(echoes[shown])
    assert np.corrcoef(level, image[shown].float())[0, 1] > 0.8


def test_a_simulated_cohort_goes_to_disk(tmp_path):
    from tests.test_datasets_commands import command

    write = command("simulate_cohort").main
    out = tmp_path / "kidneys"
    assert write(["kidney_us", "--n", "5", "--size", "64", "--out", str(out)]) == 0
    assert len(list((out / "images").glob("*.png"))) == 5
    assert len(list((out / "masks").glob("*.png"))) == 5
    header = (out / "labels.csv").read_text().splitlines()[0].split(",")
    assert {"file", "patient", "site", "view", "kidney_ml", "cyst_ml", "grade"} <= set(header)
