"""Radiography against closed forms, a fine voxel sum, SciPy's Poisson law and Abel's sphere."""

import time

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation

from medlab.errors import DataError
from medlab.simulate import _rays as rays
from medlab.simulate import _thorax as thorax
from medlab.simulate import xray
from medlab.simulate._streams import side_by_side


def beam(size=48, pitch=2.0, source=1650.0, distance=1800.0, batch=1):
    return rays.Beam(torch.full((batch,), source), torch.full((batch,), distance), pitch, size)


def marched(beam, inside, depths):
    """Oracle: length inside along each ray, by small steps."""
    step = float(depths[1] - depths[0])
    x = beam.across[0] * depths[:, None, None]
    z = beam.along[0] * depths[:, None, None]
    y = beam.source[0] - depths[:, None, None]
    points = torch.stack(torch.broadcast_tensors(x, y, z), -1)
    return inside(points).sum(0) * step * beam.slant()[0]


def ball(centre, radius):
    return rays.Ellipsoid(
        torch.tensor([centre]), torch.full((1, 3), float(radius)), torch.eye(3)[None]
    )


@pytest.mark.parametrize("line", [0.0, 1.0, 3.0])
def test_photon_noise_is_poisson(line):
    counts = xray.expose(torch.full((300, 300), line), 800, seed=3)
    mean = 800 * np.exp(-line)
    assert counts.mean() == pytest.approx(mean, rel=0.01)
    assert counts.var() == pytest.approx(mean, rel=0.02)
    low, high = int(mean * 0.6), int(mean * 1.4)
    expected = stats.poisson(mean).pmf(np.arange(low, high)) * counts.numel()
    keep = expected > 20
    observed = np.bincount(counts.flatten().int().numpy(), minlength=high)[low:high][keep]
    chi2 = ((observed - expected[keep]) ** 2 / expected[keep]).sum() / keep.sum()
    assert chi2 < 1.6


def test_variance_grows_in_proportion_to_the_mean():
    doses = np.array([50, 100, 400, 1600, 6400])
    flat = torch.zeros(400, 400)
    variances = [float(xray.expose(flat, float(dose), seed=int(dose)).var()) for dose in doses]
    slope = np.polyfit(np.log(doses), np.log(variances), 1)[0]
    assert slope == pytest.approx(1, abs=0.01)


def test_the_same_seed_exposes_alike_and_another_does_not():
    lines = torch.rand(20, 20)
    assert torch.equal(xray.expose(lines, 100, seed=1), xray.expose(lines, 100, seed=1))
    assert not torch.equal(xray.expose(lines, 100, seed=1), xray.expose(lines, 100, seed=2))


@pytest.mark.parametrize("photons", [0, -5, float("nan")])
def test_a_dose_must_be_positive(photons):
    with pytest.raises(DataError, match="photons must be positive"):
        xray.expose(torch.zeros(2, 2), photons, seed=0)


def test_chord_of_a_ball_is_the_closed_form():
    """2 √(R² − d²), d the distance of the ray from the centre."""
    rig, centre, radius = beam(), torch.tensor([12.0, -30.0, 8.0]), 20.0
    enter, leave = rays.crossing(ball(centre.tolist(), radius), rig)
    source = torch.tensor([0.0, 1650.0, 0.0])
    direction = torch.stack(
        torch.broadcast_tensors(rig.across[0], torch.tensor(-1.0), rig.along[0]), -1
    )
    direction = direction / direction.norm(dim=-1, keepdim=True)
    away = torch.linalg.cross((centre - source).expand_as(direction), direction).norm(dim=-1)
    chord = 2 * (radius**2 - away**2).clamp_min(0).sqrt()
    assert torch.allclose((leave - enter)[0] * rig.slant()[0], chord, atol=0.15)


@pytest.mark.parametrize("source", [1650.0, 160.0])  # from so near, rays are steep
@pytest.mark.parametrize("seed", range(4))
def test_chord_of_a_turned_ellipsoid_is_the_marched_length(seed, source):
    rng = np.random.default_rng(seed)
    turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix()).float()
    centre = torch.from_numpy(rng.uniform(-20, 20, 3)).float()
    semi = torch.from_numpy(rng.uniform(8, 40, 3)).float()
    rig = beam(size=32, pitch=3.0, source=source, distance=source + 60)
    enter, leave = rays.crossing(rays.Ellipsoid(centre[None], semi[None], turn[None]), rig)

    def inside(points):
        local = (points - centre) @ turn / semi
        return (local**2).sum(-1) <= 1

    truth = marched(rig, inside, torch.arange(source - 80, source + 80, 0.1))
    assert ((leave - enter)[0] * rig.slant()[0] - truth).abs().max() < 0.4


def test_gaps_are_what_no_body_covers():
    rng = np.random.default_rng(0)
    begins = rng.uniform(0, 80, (5, 2000))
    ends = begins + rng.uniform(0, 40, (5, 2000)) * (rng.random((5, 2000)) < 0.7)
    depth = np.arange(0, 130, 0.05)
    bodies = [(torch.tensor(b), torch.tensor(e)) for b, e in zip(begins, ends, strict=True)]
    within = torch.full((2000,), 20.0), torch.full((2000,), 100.0)
    found = sum((b - a).clamp_min(0) for a, b in rays.gaps(within, bodies))
    for i in range(0, 2000, 40):
        free = (depth > 20) & (depth < 100)
        for b, e in zip(begins[:, i], ends[:, i], strict=True):
            free &= ~((depth > b) & (depth < e))
        assert float(found[i]) == pytest.approx(free.sum() * 0.05, abs=0.6)


def test_a_tube_is_crossed_over_its_full_width():
    """Straight tube across the beam: the chord 2 √(R² − d²), and at 45° √2 times as much."""
    rig = beam(size=64, pitch=1.0, source=1e5, distance=1e5)
    for slope in (0.0, 1.0):
        t = torch.linspace(-60, 60, 2001)
        points = torch.stack([t, slope * t, torch.zeros_like(t)], -1)[None]
        step = torch.full((1, 2001), 0.06 * (1 + slope**2) ** 0.5)
        kernel = rays.disc(torch.tensor([7.0]), reach=8) * np.pi * 49
        path = rays.spread(rays.splat(rig, points, step), kernel)[0, :, 32]
        z = (31.5 - torch.arange(64)).numpy()
        chord = 2 * np.sqrt(np.clip(49 - z**2, 0, None)) * (1 + slope**2) ** 0.5
        assert np.abs(path.numpy() - chord)[np.abs(np.abs(z) - 7) > 1].max() < 0.5
        assert path.sum() == pytest.approx(chord.sum(), rel=0.01)


def test_a_cloud_keeps_its_mass_and_is_magnified():
    rig = beam(size=96, pitch=1.0)
    points = torch.tensor([[[5.0, -40.0, 10.0]]])
    spot = rays.soften(
        rays.splat(rig, points, torch.tensor([[500.0]])), torch.tensor([4.0]), widest=4
    )
    zoom = 1800 / 1690
    assert spot.sum() == pytest.approx(500 * zoom**2, rel=1e-3)
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    assert (spot[0] * columns).sum() / spot.sum() == pytest.approx(47.5 + 5 * zoom, abs=0.01)
    assert (spot[0] * rows).sum() / spot.sum() == pytest.approx(47.5 - 10 * zoom, abs=0.01)


def chest(seed=0, batch=1):
    rng = np.random.default_rng(seed)
    return thorax.build(*(rng.random((batch, n)) for n in thorax.DRAWS))[0]


def density(body, points):
    """Oracle: density at points (1, …, 3), organ by organ."""
    solids, bone = body.solids, float(body.bone)

    def any_of(*names):
        return sum(solids[name].inside(points).float() for name in names).clamp(max=1)

    def all_of(*names):
        return torch.stack([solids[name].inside(points) for name in names]).all(0)

    lungs = sum(thorax.aerated(solids, points, side).float() for side in "rl")
    found = 0.91 * any_of("skin", "shoulders", "neck", "breast_r", "breast_l")
    found += 0.14 * any_of("trunk", "shoulders", "neck") + (float(body.lung) - 1.05) * lungs
    found -= 1.05 * all_of("trachea") + 1.05 * all_of("stomach", "dome_l")
    height = 2 * np.pi * (points[..., 2] - solids["spine"].centre[0, 2]) / body.vertebra
    share = 0.25 + 0.75 * (3 * (torch.cos(height) + 0.75)).clamp(0, 1)
    found += 0.23 * bone * share * all_of("spine") + 0.15 * bone * all_of("sternum")
    for side in "rl":
        found += 0.45 * bone * all_of(f"scapula_{side}", "skin")
    return found


@pytest.mark.parametrize("seed", range(2))
def test_the_whole_chest_is_the_sum_over_fine_steps(seed):
    """The radiograph of the ellipsoids equals a march through their densities."""
    body = chest(seed)
    none = {"opacity": body.clouds["opacity"]}  # of no mass
    body = thorax.Thorax(body.solids, {}, none, body.lung, body.bone, body.vertebra)
    rig = beam(size=16, pitch=13.0)
    truth = marched(rig, lambda points: density(body, points[None])[0], torch.arange(1400.0, 1900))
    path = thorax.water_path(body, rig)["total"][0]
    # Rays that graze a border miss it by up to a step.
    close = (path - truth).abs()
    assert close.median() < 1.0
    assert close.max() < 8.0


def test_the_film_shows_dense_bright_and_fills_the_grey_scale():
    thick = torch.linspace(0, 6, 64).expand(2, 64, 64)
    two = torch.ones(2)
    image = xray.film(
        1e5 * torch.exp(-thick), contrast=two, equalise=0 * two, latitude=0 * two, width=10
    )
    assert image.dtype == torch.uint8
    assert (image[0, 30].int().diff() >= 0).all()
    assert image.min() == 0
    assert image.max() == 255


def test_work_of_more_than_a_second_shows_a_bar(monkeypatch, capsys):
    def slowly(i):
        time.sleep(0.5)
        return i

    for setting, shown in (("1", True), ("0", False)):
        monkeypatch.setenv("MEDLAB_PROGRESS", setting)
        threads = torch.get_num_threads()
        assert side_by_side(slowly, range(4 * threads)) == list(range(4 * threads))
        assert ("simulating" in capsys.readouterr().err) == shown
    assert side_by_side(abs, range(3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
