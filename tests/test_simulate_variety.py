"""Radiographs of wide variety: the usual are what they were, children have their proportions."""

import json
from importlib.resources import files
from zlib import crc32

import numpy as np
import pytest
import torch

import medlab
from medlab import simulate
from medlab.errors import DataError
from medlab.simulate import _thorax as thorax
from medlab.simulate import cohorts

RANGES = json.loads((files("medlab.simulate") / "chest_xray.json").read_text("utf-8"))["wide"]


@pytest.fixture(scope="module")
def wide():
    return simulate.chest_xray(n=300, seed=3, size=32, variety="wide")


@pytest.mark.parametrize(
    ("options", "pixels", "masks"),
    [
        ({"n": 8, "seed": 0}, 2433205055, 884147399),
        ({"n": 5, "seed": 3, "size": 32}, 1258796674, 4020182676),
        ({"n": 3, "seed": 5, "size": 144}, 506334347, 427304924),
    ],
)
def test_the_usual_cohort_has_the_bytes_it_had_before_there_was_another(options, pixels, masks):
    """Checksums taken before `variety` came: nine notebooks print numbers of these images."""
    cohort = simulate.chest_xray(**options)
    assert (crc32(cohort.images.numpy()), crc32(cohort.masks.numpy())) == (pixels, masks)
    named = simulate.chest_xray(**options, variety="usual")
    assert torch.equal(named.images, cohort.images)
    assert cohort.spacing == pytest.approx((344 / cohort.images.shape[-1],) * 2)


def test_a_smaller_wide_cohort_is_the_beginning_of_a_larger_one(wide):
    small = simulate.chest_xray(n=13, seed=3, size=32, variety="wide")
    assert torch.equal(small.images, wide.images[:13])
    assert torch.equal(small.masks, wide.masks[:13])
    assert (small.sites == wide.sites[:13]).all()
    for name, values in small.extras.items():
        assert torch.equal(values, wide.extras[name][:13]), name
    again = simulate.chest_xray(n=13, seed=4, size=32, variety="wide")
    assert not any(torch.equal(a, b) for a in again.images for b in small.images)


def test_an_unknown_variety_is_named():
    with pytest.raises(DataError, match="'usual', 'many' or 'wide'; got 'broad'"):
        simulate.chest_xray(n=2, variety="broad")


def test_it_is_loaded_by_name_and_kept_apart_from_the_usual_one(tmp_path):
    made = medlab.load("chest_xray", n=3, size=32, variety="wide", root=tmp_path)
    read = medlab.load("chest_xray", n=3, size=32, variety="wide", root=tmp_path)
    assert torch.equal(made.images, read.images)
    assert "infancy" in read.card.description
    usual = medlab.load("chest_xray", n=3, size=32, root=tmp_path)
    assert not torch.equal(made.images, usual.images)
    assert "infancy" not in usual.card.description


def test_hospitals_are_many_and_keep_their_habits_from_seed_to_seed(wide):
    assert len(np.unique(wide.sites)) > 80
    exposures = [
        e for seed in (0, 1) for p in range(150) for e in cohorts._exposures(seed, p, "wide")
    ]
    habits = {}
    for e in exposures:
        own = tuple(e.habits[name] for name in RANGES["hospital"])
        assert habits.setdefault(e.site, own) == own
    assert len(set(habits.values())) == len(habits) > 100
    for part in ("hospital", "patient", "image"):
        for name, (low, high) in RANGES[part].items():
            drawn = np.array([e.habits[name] for e in exposures])
            assert low <= drawn.min() < low + 0.1 * (high - low), name
            assert high >= drawn.max() > high - 0.1 * (high - low), name


@pytest.mark.parametrize("fact", ["age", "field", "heart", "breath", "dose", "portable", "kind"])
def test_no_fact_of_the_variety_tells_the_label(fact, wide):
    _, first = np.unique(wide.patients, return_index=True)
    r = np.corrcoef(wide.extras[fact][first].float(), wide.labels[first])[0, 1]
    assert abs(r) < 3.5 / np.sqrt(len(first))


def test_masks_are_the_opacity_on_the_picture(wide):
    ill = wide.labels == 1
    assert 0.35 < ill.float().mean() < 0.65
    assert not wide.masks[~ill].any()
    assert (wide.extras["severity"][~ill] == 0).all()
    shown = wide.masks[ill].float().mean((1, 2))
    assert (shown > 0).float().mean() > 0.93  # an infant's may add less than 4 mm anywhere
    inside = (wide.masks[ill] * wide.extras["lungs"][ill]).sum() / wide.masks[ill].sum()
    assert inside > 0.85
    kinds = wide.extras["kind"][ill]
    lobar, diffuse = (shown[kinds == kind].mean() for kind in (0, 3))
    assert diffuse > 1.3 * lobar


def test_outside_a_narrow_beam_there_is_one_grey_and_no_mask():
    rows = [r for p in range(40) for r in cohorts._exposures(0, p, "wide")[:1] if r.ill][:8]
    for i, row in enumerate(rows):
        row.habits.update({"open": 0.4, "x": 0.0, "y": 0.0, "outside": i / 8})
    pictures = cohorts._radiographs(rows, 32)
    beyond = torch.ones(32, 32, dtype=torch.bool)
    beyond[10:22, 10:22] = False  # 0.4 of the half side, to the pixel
    for i in range(8):
        assert set(pictures["image"][i][beyond].tolist()) == {255 if i / 8 > 0.8 else 0}
        assert not pictures["mask"][i][beyond].any()
    assert pictures["mask"].any()
    assert len(pictures["image"][0][~beyond].unique()) > 20


def people(count=700):
    """One exposure of each of many patients of the wide variety: chests, facts."""
    rows = [cohorts._exposures(0, patient, "wide")[0] for patient in range(count)]
    numbers = {k: torch.tensor([float(r.habits[k]) for r in rows]) for k in rows[0].habits}
    draws = (np.stack([getattr(r, name) for r in rows]) for name in ("anatomy", "moment"))
    return thorax.build(*draws, opacity=torch.ones(count), variety=numbers)


@pytest.fixture(scope="module")
def chests():
    return people()


def span(body, axis):
    """Lowest and highest coordinate of an ellipsoid, from the support function of its axes."""
    half = ((body.turn[:, axis] * body.semi) ** 2).sum(1).sqrt()
    return body.centre[:, axis] - half, body.centre[:, axis] + half


def shape_of(chests):
    """Cardiothoracic ratio, depth by width of the trunk, height by width of the lungs."""
    solids = chests.solids
    right = torch.minimum(span(solids["heart"], 0)[0], span(solids["atrium"], 0)[0])
    width = span(solids["lung_l"], 0)[1] - span(solids["lung_r"], 0)[0]
    across, deep = (torch.stack(span(solids["trunk"], axis)) for axis in (0, 1))
    height = span(solids["lung_r"], 2)[1] - span(solids["dome_r"], 2)[1]
    ratio = (span(solids["heart"], 0)[1] - right) / width
    return ratio, (deep[1] - deep[0]) / (across[1] - across[0]), height / width


def test_infants_are_round_and_low_and_have_a_broad_heart(chests):
    body, facts = chests
    ratio, round_, low = shape_of(body)
    infant, small, adult = (
        facts["age"] < 1,
        (facts["age"] >= 2) & (facts["age"] < 6),
        facts["age"] > 20,
    )
    assert min(infant.sum(), small.sum(), adult.sum()) > 60
    # Up to 0.6 in infants and 0.5 in adults counts as normal; a shallow breath makes it more.
    assert 0.49 < ratio[infant].mean() < 0.58
    assert 0.43 < ratio[adult].mean() < 0.50
    assert ratio[infant].mean() > ratio[adult].mean() + 0.03
    assert (ratio < 0.75).all()
    # Depth by width falls from nearly 1 at birth, and little after the second year.
    assert round_[infant].mean() > 0.85
    assert (
        round_[infant].mean() - round_[small].mean()
        > 3 * (round_[small].mean() - round_[adult].mean()) / 2
    )
    assert low[infant].mean() < 0.85 * low[adult].mean()


def test_a_childs_ribs_lie_flatter(chests):
    body, facts = chests
    ribs = body.tubes["ribs"].points.unflatten(1, (20, -1))
    drop = ribs[:, 2, 0, 2] - ribs[:, 2].amin(1)[:, 2]  # the third, from the spine to its lowest
    reach = ribs[:, 2, :, 1].amax(1) - ribs[:, 2, :, 1].amin(1)
    slope = drop / reach
    assert slope[facts["age"] < 1].mean() < 0.8 * slope[facts["age"] > 20].mean()


def test_a_small_chest_stops_fewer_photons():
    """Beer-Lambert: a body half as large, drawn twice as large, has half the mm in every ray."""
    rows = [cohorts._exposures(0, 1, "wide")[0] for _ in range(2)]
    for row, mm in zip(rows, (1.0, 0.5), strict=True):
        row.habits.update({"mm": mm, "leads": 0.0})
    assert rows[0].habits is not rows[1].habits
    pictures = cohorts._radiographs(rows * 4, 32)
    assert pictures["field"][1] == pytest.approx(pictures["field"][0] / 2)
    assert pictures["severity"][1] == pytest.approx(float(pictures["severity"][0]), rel=1e-4)
    assert pictures["mask"][1].sum() <= pictures["mask"][0].sum()
    assert pictures["dose"][1] < pictures["dose"][0]  # the same exposure behind it needs less


def test_stretching_moves_surfaces_points_and_masses_alike():
    """Each point of a stretched ellipsoid is the image of one of the old; lengths are measured."""
    rng = np.random.default_rng(1)
    body = thorax.build(*(rng.random((3, n)) for n in thorax.DRAWS))[0]
    by = torch.tensor([[1.0, 1.3, 0.7]]).expand(3, 3)
    solids, tubes, clouds = (dict(getattr(body, k)) for k in ("solids", "tubes", "clouds"))
    thorax._stretch(solids, tubes, clouds, by)
    points = torch.from_numpy(rng.uniform(-150, 150, (3, 4000, 3))).float()
    for name in ("heart", "lung_r", "scapula_l"):
        before, after = body.solids[name].inside(points), solids[name].inside(points * by[:, None])
        assert (before == after).float().mean() > 0.999
    curve = tubes["ribs"].points.unflatten(1, (20, -1))
    length = (curve[..., 1:, :] - curve[..., :-1, :]).norm(dim=-1).sum((1, 2))
    assert torch.allclose(tubes["ribs"].step.sum(1), length, rtol=1e-4)
    mass = clouds["vessels"].mass.sum(1) / body.clouds["vessels"].mass.sum(1)
    assert torch.allclose(mass, torch.full((3,), 1.3 * 0.7), rtol=1e-4)


def test_everybodys_lungs_lie_in_the_trunk_and_every_pneumonia_in_lungs(chests):
    body, _ = chests
    directions = torch.from_numpy(np.random.default_rng(0).standard_normal((200, 3))).float()
    directions /= directions.norm(dim=1, keepdim=True)
    for side in "rl":
        lung = body.solids[f"lung_{side}"]
        surface = lung.centre[:, None] + torch.einsum(
            "bij,bmj->bmi", lung.turn, directions * lung.semi[:, None]
        )
        outside = ~body.solids["trunk"].inside(surface)
        outside &= ~body.solids[f"dome_{side}"].inside(surface)
        assert outside.float().mean() < 0.03
    assert (body.clouds["opacity"].mass.sum(1) > 0).all()


def test_perihilar_foci_lie_nearer_the_hila_than_lobar_ones(chests):
    body, _ = chests
    kinds = torch.tensor(
        [cohorts._exposures(0, patient, "wide")[0].habits["kind"] for patient in range(700)]
    )
    cloud = body.clouds["opacity"]
    weight = cloud.mass / cloud.mass.sum(1, keepdim=True)
    middle = (body.solids["lung_r"].centre[:, None] + body.solids["lung_l"].centre[:, None]) / 2
    away = ((cloud.points - middle)[..., 0].abs() * weight).sum(1)
    assert away[kinds == 2].mean() < 0.9 * away[kinds == 0].mean()


@pytest.fixture(scope="module")
def many():
    return simulate.chest_xray(n=900, seed=5, size=32, variety="many")


def test_six_hospitals_have_the_shares_of_patients_and_of_pneumonia_that_are_told(many):
    told = cohorts._MANY["sites"]
    assert sum(site["share"] for site in told.values()) == pytest.approx(1)
    assert many.spacing is None and "six hospitals" in many.card.description
    _, first = np.unique(many.patients, return_index=True)
    sites, ill = many.sites[first], many.labels[first].numpy()
    assert set(sites) == set(told)
    for name, site in told.items():
        for found, share in (
            (sites == name, site["share"]),
            (ill[sites == name], site["prevalence"]),
        ):
            assert abs(found.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(found)), name


def test_a_smaller_field_of_view_shows_larger_lungs(many):
    """An area on the picture goes with the square of the zoom, 344 mm over the field."""
    for name, site in cohorts._MANY["sites"].items():
        here = many.sites == name
        assert many.extras["field"][here].numpy() == pytest.approx(344 / site["zoom"], abs=1e-3)
    zoom = 344 / many.extras["field"]
    pixels = many.extras["lungs"].float().mean((1, 2))
    healthy = (many.labels == 0) & ~many.extras["portable"] & (zoom < 1.1)  # all of the lungs seen
    slope = np.polyfit(zoom[healthy].log(), pixels[healthy].log(), 1)[0]
    assert 1.5 < slope < 2.5


def test_the_hospitals_differ_in_dose_as_their_habits_say(many):
    photons = {name: site["photons"] for name, site in cohorts._MANY["sites"].items()}
    mean = {name: many.extras["dose"][many.sites == name].log().mean() for name in photons}
    assert sorted(mean, key=mean.get) == sorted(photons, key=photons.get)
