"""Brains in MR: signal equations, maps that do not fold, lesions where they belong, fair labels."""

import json
import math
from pathlib import Path
from zlib import crc32

import numpy as np
import pydicom
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

import medlab
from medlab.errors import DataError
from medlab.simulate import cerebral, mri
from medlab.simulate._streams import stream
from tests.test_datasets_commands import command


def numbers(patient, seed=0):
    return cerebral._patient(stream("brain_mri", cerebral.BRAIN_MRI.version, seed, patient))


@pytest.fixture(scope="module")
def cohort():
    return cerebral.brain_mri(n=200, seed=3)


@pytest.fixture(scope="module")
def ill():
    """The first patient of each kind: numbers, lattice and the signal of FLAIR."""
    found = {}
    for k in range(200):
        p, facts = numbers(k)
        if p["kind"] not in found:
            found[p["kind"]] = (k, p, facts)
    assert sorted(found) == list(range(8))
    return found


# ------------------------------------------------------------------------------------- the physics


def test_inversion_recovery_of_hand_computed_tissue():
    tissue = mri.Tissue(1000.0, 80.0, 0.8)
    signal = mri.spin_echo(tissue, tr=3000, te=40, ti=500)
    want = 0.8 * (1 - 2 * np.exp(-0.5) + np.exp(-3)) * np.exp(-0.5)
    assert float(signal) == pytest.approx(want, rel=1e-6)
    assert float(signal) < 0  # not yet through zero
    after = mri.spin_echo(tissue, tr=1e6, te=40, ti=5e5)
    assert float(after) == pytest.approx(float(mri.spin_echo(tissue, tr=1e6, te=40)))


@pytest.mark.parametrize("site", cerebral.SITES)
def test_flair_nulls_fluid_and_the_contrasts_order_the_tissues(site):
    facts = cerebral.SITES[site]
    fluid = mri.RELAXATION[facts["tesla"]]["csf"]
    tr = facts["flair"]["tr"]
    null = fluid.t1 * math.log(2 / (1 + math.exp(-tr / fluid.t1)))
    gone = mri.spin_echo(fluid, tr=tr, te=100, ti=null)
    assert abs(float(gone)) < 1e-6
    signal = {c: cerebral._signals(facts["tesla"], facts[c]) for c in cerebral.CONTRASTS}
    flair, t1, t2 = (
        [float(signal[c][k]) for k in ("white matter", "grey matter", "csf")] for c in signal
    )
    assert 0 <= flair[2] < 0.35 * flair[0]
    assert 1.1 < flair[1] / flair[0] < 1.5
    assert t1[0] > 1.15 * t1[1] > 1.15 * t1[2]
    assert t2[0] < t2[1] < t2[2]
    for lesion in ("plaque", "gliosis", "infarct", "oedema"):
        assert float(signal["flair"][lesion]) > 1.25 * flair[0]
        assert float(signal["t1"][lesion]) < t1[0]
    assert float(signal["flair"]["blood"]) < flair[0]


@pytest.mark.parametrize(
    "times",
    [{"tr": 100, "te": 50, "ti": 60}, {"tr": 100, "te": -1, "ti": 5}, {"tr": 9, "te": 1, "ti": -1}],
)
def test_times_out_of_order_are_named(times):
    with pytest.raises(DataError, match="ti \\+ te < tr"):
        mri.spin_echo(mri.Tissue(1000.0, 80.0, 1.0), **times)


def test_noise_of_the_shown_slices_is_rician(monkeypatch):
    """Background: Rayleigh; where the signal is A: the mean and deviation of Rice's law."""
    size, level = 128, 0.02
    flat = torch.zeros(3, size, size)
    flat[0, :, size // 2 :] = level
    flat[2, :, size // 2 :] = 1.0
    monkeypatch.setattr(cerebral, "_slice", lambda *_: flat)
    monkeypatch.setattr(mri, "keep_kspace", lambda image, _: (None, image.double().numpy()))
    monkeypatch.setitem(cerebral._FACTS["white_level"], "flair", 2.0)
    k = next(k for k in range(9) if numbers(k)[1]["kind"] == 0)
    p = numbers(k)[0]
    images = cerebral._scans(0, size, "flair", k)["images"].double()
    signal = cerebral._signals(p["tesla"], p["flair"])
    sigma = p["noise"] * float(signal["white matter"])
    law, zero = stats.rice(level / sigma, scale=sigma), stats.rayleigh(scale=sigma)
    grey = 255 / (2 * law.median())
    left, right = images[..., : size // 2], images[..., size // 2 :]
    assert float(right.mean()) == pytest.approx(grey * law.mean(), rel=0.01)
    assert float(right.std()) == pytest.approx(grey * law.std(), rel=0.03)
    assert float(left.mean()) == pytest.approx(grey * zero.mean(), rel=0.02)


def test_the_coil_multiplies_and_leaves_the_middle(ill, monkeypatch):
    _, p, _ = ill[0]
    smooth, signal = cerebral._lattice(p), cerebral._signals(p["tesla"], p["flair"])
    with_coil = cerebral._slice(p, smooth, signal, 10.0, 48)
    without = cerebral._slice(p | {"coil": np.zeros(7)}, smooth, signal, 10.0, 48)
    axis = 100 - 200 / 96 * (np.arange(48) * 2 + 1)
    x, y = np.meshgrid(axis / 100, axis / 100)
    terms = [x, y, 0 * x, x * x - 0.2, y * y - 0.2, x * y, 0 * x]
    want = np.exp(sum(p["bias"] * c * t for c, t in zip(p["coil"], terms, strict=True)))
    seen = without[0] > 0.05 * without[0].max()
    np.testing.assert_allclose((with_coil[0] / without[0])[seen], want[seen], rtol=0.01)
    assert torch.equal(with_coil[1:], without[1:])


# ----------------------------------------------------------------------------------- the anatomy


def test_the_map_to_the_average_brain_folds_nowhere_and_has_an_inverse(ill):
    for _, p, _ in ill.values():
        assert float(p["sway"].norm(dim=1).double() @ p["waves"].norm(dim=1)) < 1
        lattice = cerebral._lattice(p)
        y = lattice.values[:3].movedim(0, -1).double()
        slopes = [torch.gradient(y, spacing=4.0, dim=d)[0] for d in (2, 1, 0)]
        jacobian = torch.linalg.det(torch.stack(slopes, -1))
        assert float(jacobian[lattice.values[3] > 0].min()) > 0
        there = torch.rand(200, 3, generator=torch.manual_seed(0)) * 100 - torch.tensor(
            [50, 70, 40]
        )
        back = cerebral._to_template(p, cerebral._in_patient(p, there.double()))
        assert float((back - there).norm(dim=1).median()) < 0.01
        assert float((back - there).norm(dim=1).max()) < 0.5


def test_a_mass_pushes_without_folding():
    """r' = r (1 − s exp(−q)) rises with r for every s < 1: dr'/dr = 1 − s (1 − 2q) exp(−q) > 0."""
    assert max(kind.get("push", 0) for kind in cerebral.KINDS) < 1
    kind = next(k for k, facts in enumerate(cerebral.KINDS) if facts.get("push") == 0.8)
    blob = cerebral._Blob(kind, torch.zeros(3), torch.eye(3) / 20, 20.0, 40.0, [], 1.0)
    x = torch.linspace(0.5, 120, 300)[:, None] * torch.tensor([[0.6, 0.8, 0.0]])
    r = cerebral._undisplaced({"blobs": [blob]}, x).norm(dim=1).numpy()
    far = x.norm(dim=1).numpy()
    assert (np.diff(r) > 0).all()
    np.testing.assert_allclose(r, far * (1 - 0.8 * np.exp(-((far / 30) ** 2))), rtol=1e-4)


def only(tissue, p, height, size=64):
    """One tissue shines, in a slice without coil: its share of each pixel."""
    signal = dict.fromkeys(cerebral._signals(3.0, {"tr": 600, "te": 10}), torch.tensor(0.0))
    smooth, p = cerebral._lattice(p), p | {"coil": np.zeros(7)}
    return cerebral._slice(p, smooth, signal | {tissue: torch.tensor(1.0)}, height, size)[0]


def test_the_patients_left_is_on_the_right_and_the_front_on_top(ill):
    p, size = ill[0][1], 64
    for at, rows, columns in (
        ((40.0, -18.0, 20.0), (16, 48), (0, 32)),  # MNI x is positive on the patient's right
        ((-40.0, -18.0, 20.0), (16, 48), (32, 64)),
        ((0.0, 20.0, 20.0), (0, 32), (16, 48)),
    ):
        rings = [[1, "plaque", 1, "head"]]
        blob = cerebral._Blob(1, torch.tensor(at), torch.eye(3) / 8, 8.0, 15.0, rings, 1.0)
        shown = only("plaque", p | {"blobs": [blob]}, 20.0, size)
        found = shown > 0.5
        assert found.sum() > 5
        assert torch.equal(
            found.nonzero(),
            found[slice(*rows), slice(*columns)].nonzero() + torch.tensor([rows[0], columns[0]]),
        )


def test_fissures_lie_in_the_cerebellum_and_plexus_in_the_ventricles(ill, monkeypatch):
    p = ill[0][1] | {"blobs": [], "kind": 0}
    with_fissures = {height: only("csf", p, height) for height in (-30.0, 40.0)}
    plexus = {height: only("plexus", p, height) for height in (-30.0, 10.0, 50.0)}
    assert plexus[10.0].max() > 0.5
    assert plexus[-30.0].max() < 0.01 > plexus[50.0].max()
    rows, columns = (plexus[10.0] > 0.2).nonzero().T
    y = -18 + 100 - 200 / 64 * (rows + 0.5)
    assert -70 < float(y.min()) < float(y.max()) < 0
    assert (columns < 30).any() and (columns > 33).any()
    monkeypatch.setattr(cerebral, "_folia", lambda y: torch.zeros(y.shape[:-1]))
    more = with_fissures[-30.0] - only("csf", p, -30.0)
    assert float(more[36:].sum()) > 20  # behind the brain stem
    assert float(more[:30].abs().max()) < 0.01
    assert float((with_fissures[40.0] - only("csf", p, 40.0)).abs().max()) < 0.01


def test_womens_heads_are_smaller():
    told = [numbers(k, seed=5) for k in range(160)]
    size = {
        sex: [float(p["scale"].mean()) for p, facts in told if facts["female"] == sex]
        for sex in (False, True)
    }
    ratio = np.mean(size[True]) / np.mean(size[False])  # of template millimetres in one of the head
    assert ratio == pytest.approx(1.035, abs=0.012)


def test_fluid_grows_with_age():
    share, age = [], []
    for k in range(60):
        p, facts = numbers(k, seed=8)
        p = p | {"blobs": [], "kind": 0, "halo": 0.0}
        smooth = cerebral._lattice(p)
        signal = dict.fromkeys(cerebral._signals(3.0, {"tr": 600, "te": 10}), torch.tensor(0.0))
        fluid, _, head = cerebral._slice(
            p | {"coil": np.zeros(7)}, smooth, signal | {"csf": torch.tensor(1.0)}, 15.0, 64
        )
        share.append(float(fluid.sum() / head.sum()))
        age.append(facts["age"])
    assert stats.spearmanr(age, share).statistic > 0.8
    assert 0.03 < min(share) < max(share) < 0.4


# ----------------------------------------------------------------------------------- the lesions


def test_no_lesion_lies_outside_the_brain(cohort, ill):
    assert not cohort.masks[cohort.extras["kind"] == 0].any()
    for k, p, _ in ill.values():
        smooth, signal = cerebral._lattice(p), cerebral._signals(p["tesla"], p["flair"])
        heights = cerebral._scans(0, 32, "flair", k)["height_mm"]
        for height in heights.tolist():
            _, lesion, head = cerebral._slice(p, smooth, signal, height, 64)
            assert (lesion <= head + 1e-6).all()


def test_the_mask_holds_the_patients_kind_and_one_slice_is_aimed(cohort):
    kind, label = cohort.extras["kind"].view(-1, 4), cohort.labels.view(-1, 4)
    assert (kind == kind[:, :1]).all()
    assert torch.equal(label.any(1), kind[:, 0] > 0)
    for mask, k in zip(cohort.masks, cohort.extras["kind"].tolist(), strict=True):
        assert set(mask.unique().tolist()) <= {0, k}
    assert 0.35 < float((kind[:, 0] > 0).float().mean()) < 0.65
    assert torch.equal(cohort.labels > 0, cohort.masks.flatten(1).any(1))


def test_a_slice_goes_through_the_largest_lesion_in_reach(ill):
    low, high = cerebral.HEIGHTS
    patients = {k: numbers(k)[0] for k in range(60)} | {k: p for k, p, _ in ill.values()}
    several = 0
    for k, p in patients.items():
        blobs = [blob for blob in p["blobs"] if blob.kind and low < blob.at[2] < high]
        if blobs:
            aim = float(max(blobs, key=lambda blob: blob.mm).at[2])
            heights = cerebral._scans(0, 32, "flair", k)["height_mm"]
            assert float((heights - aim).abs().min()) < 1e-4
            several += len(blobs) > 3
    assert several > 5


# ------------------------------------------------------------------------------------ the cohort


def test_what_the_cohort_holds(cohort):
    assert cohort.images.shape == (200, 1, 96, 96)
    assert cohort.images.dtype == torch.uint8
    assert cohort.classes[0] == "background"
    assert [*cohort.classes[1:]] == list(cerebral._FACTS["kinds"])[1:]
    assert cohort.spacing == pytest.approx((200 / 96, 200 / 96))
    assert set(np.unique(cohort.patients, return_counts=True)[1]) == {4}
    assert set(cohort.sites) == set(cerebral.SITES)
    height = cohort.extras["height_mm"].view(-1, 4)
    assert float(height.min()) > -39
    assert float(height.max()) < 59
    assert float(cohort.images[:, 0, :6, :6].float().mean()) < 25
    assert 110 < float(cohort.images[cohort.images > 60].float().median()) < 150


@pytest.mark.parametrize(
    ("contrast", "pixels", "masks"),
    [
        ("flair", 2894418034, 3492374503),
        ("t1", 3527345809, 3492374503),
        ("t2", 2285494979, 3492374503),
    ],
)
def test_the_same_name_version_and_seed_make_the_same_bytes(contrast, pixels, masks):
    """Whatever changes these changes the cohort's version."""
    cohort = cerebral.brain_mri(n=24, size=32, contrast=contrast)
    assert (crc32(cohort.images.numpy()), crc32(cohort.masks.numpy())) == (pixels, masks)


def test_a_smaller_cohort_is_the_beginning_and_contrasts_share_the_patients(cohort):
    for n in (1, 6):
        small = cerebral.brain_mri(n=n, seed=3)
        assert torch.equal(small.images, cohort.images[:n])
        assert torch.equal(small.masks, cohort.masks[:n])
    for contrast in ("t1", "t2"):
        other = cerebral.brain_mri(n=6, seed=3, contrast=contrast)
        assert torch.equal(other.masks, cohort.masks[:6])
        assert not torch.equal(other.images, cohort.images[:6])
        for name in set(other.extras) - {"tr", "te", "ti"}:
            assert torch.equal(other.extras[name], cohort.extras[name][:6]), name
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 3)
        assert torch.equal(cerebral.brain_mri(n=8, seed=3).images, cohort.images[:8])
    finally:
        torch.set_num_threads(threads)


def test_another_seed_gives_other_patients_and_other_sizes_the_same(cohort):
    other = cerebral.brain_mri(n=4, seed=4)
    assert not any(torch.equal(a, b) for a in other.images for b in cohort.images)
    large = cerebral.brain_mri(n=4, seed=3, size=192)
    small = torch.nn.functional.avg_pool2d(large.images.float(), 2)
    for a, b in zip(small, cohort.images[:4].float(), strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.95
    assert torch.equal(large.extras["height_mm"], cohort.extras["height_mm"][:4])


def test_healthy_tissue_does_not_tell_the_label(cohort):
    means = [
        float(image[(image > 50) & (mask == 0)].float().mean())
        for image, mask in zip(cohort.images[:, 0], cohort.masks, strict=True)
    ]
    assert 0.38 < roc_auc_score(cohort.labels, means) < 0.62


def best_dice(images, masks):
    """Of the threshold that is best on these very pixels."""
    truth, found = masks.flatten() > 0, []
    for threshold in range(20, 256, 5):
        above = images.flatten() >= threshold
        found.append(2 * float((above & truth).sum()) / float(above.sum() + truth.sum()))
    return max(found)


def test_a_threshold_finds_what_is_bright_and_cannot_find_what_is_dark(cohort):
    kinds, ill = cohort.extras["kind"], cohort.labels == 1
    dice = {}
    for k, name in enumerate(cohort.classes):
        rows = ill & (kinds == k)
        if rows.any():
            dice[name] = best_dice(cohort.images[rows, 0], cohort.masks[rows])
    print({name: round(value, 2) for name, value in dice.items()})
    assert min(dice[name] for name in ("plaque", "small vessel", "infarct")) > 0.3
    assert max(dice[name] for name in ("cavity", "cyst")) < 0.2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is the number"),
        ({"n": 4, "size": 16}, "size is the side"),
        ({"n": 4, "seed": -1}, "seed"),
        ({"n": 4, "contrast": "pd"}, "flair, t1, t2; got 'pd'"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(DataError, match=words):
        cerebral.brain_mri(**options)


def test_it_is_loaded_by_name_and_goes_to_disk_with_its_tags(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "data_scripts")

    loaded = medlab.load("brain_mri", n=4, seed=3, root=tmp_path, contrast="t2")
    assert torch.equal(loaded.images, cerebral.brain_mri(n=4, seed=3, contrast="t2").images)
    write = command("simulate_cohort").main
    for form in ("pictures", "nifti", "dicom"):
        said = ["brain_mri", "--n", "4", "--size", "64", "--format", form]
        assert write([*said, "--out", str(tmp_path / form)]) == 0
        card = json.loads((tmp_path / form / "card.json").read_text())
        assert card["mask_values"]["5"] == "tumour"
    made = cerebral.brain_mri(n=4, size=64)
    for i in range(4):
        data = pydicom.dcmread(tmp_path / "dicom" / "P00000" / "MR_1" / f"IM{i + 1:05d}.dcm")
        assert np.array_equal(data.pixel_array, made.images[i, 0])
        assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        for keyword, name in [
            ("EchoTime", "te"),
            ("RepetitionTime", "tr"),
            ("InversionTime", "ti"),
            ("MagneticFieldStrength", "tesla"),
            ("SliceThickness", "thickness"),
        ]:
            assert float(data[keyword].value) == pytest.approx(float(made.extras[name][i])), name
        assert float(data.ImagePositionPatient[2]) == pytest.approx(
            float(made.extras["height_mm"][i])
        )
