"""Oracles: the DICOM standard's examples, pydicom, NumPy, SciPy, closed forms in millimetres."""

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut
from scipy import ndimage

from medlab import preprocess
from medlab.errors import DataError


def phantom(shape=(64, 64), seed=0):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32)


# --- window -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "width", "black", "white"), [(2048, 4096, 0, 4095), (2048, 1, 2047.5, 2047.5),
                                          (0, 100, -50, 49), (0, 1, -0.5, -0.5)],
)  # fmt: skip
def test_window_follows_the_examples_of_the_standard(level, width, black, white):
    """The notes of PS3.3 C.11.2.1.2.1: x ≤ black gives y_min, x > white gives y_max."""
    x = torch.tensor([black - 100.0, black - 0.25, black, white, white + 0.25, white + 100])
    y = preprocess.window(x, level=level, width=width)
    assert y[:3].tolist() == [0, 0, 0]
    assert y[4:].tolist() == [1, 1]
    if width > 1:
        assert y[3] == 1
        middle = torch.tensor([(black + white) / 2])
        assert preprocess.window(middle, level=level, width=width).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("level", "width"), [(40, 400), (-600, 1500), (40.5, 2), (0, 1)])
def test_window_equals_pydicom(level, width):
    header = Dataset()
    header.PhotometricInterpretation, header.VOILUTFunction = "MONOCHROME2", "LINEAR"
    header.WindowCenter, header.WindowWidth = level, width
    header.BitsStored, header.PixelRepresentation = 12, 1
    stored = np.arange(-2048, 2048, dtype=np.int16)
    expected = (apply_voi_lut(stored, header) + 2048) / 4095  # pydicom keeps the stored range
    ours = preprocess.window(stored, level=level, width=width)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert ours.dtype == np.float32


def test_window_keeps_kind_shape_and_precision():
    x = torch.randn(2, 1, 4, 5)
    assert preprocess.window(x, level=0, width=2).shape == x.shape
    assert preprocess.window(x.double(), level=0, width=2).dtype == torch.float64
    big_endian = np.array([[-1000, 3000]], dtype=">i2")
    assert preprocess.window(big_endian, level=40, width=400).tolist() == [[0, 1]]
    wide = np.array([[0, 65535]], dtype=np.uint16)
    shown = preprocess.window(wide, level=100, width=400)
    assert shown[0] == pytest.approx([0.5 - 99.5 / 399, 1])
    assert preprocess.window(wide[:, ::-1], level=100, width=400).tolist() == [
        shown[0, ::-1].tolist()
    ]
    assert preprocess.window(np.array(0.0), level=0, width=2).shape == ()


def test_window_refuses():
    for width in (0, -400, 0.5, float("nan")):
        with pytest.raises(DataError, match=f"width of at least 1, got 40, {width}"):
            preprocess.window(torch.zeros(2), level=40, width=width)
    with pytest.raises(DataError, match="got uint8 from 3 to 9"):
        preprocess.window(np.array([3, 9], np.uint8), level=40, width=400)
    with pytest.raises(DataError, match="an image is numbers"):
        preprocess.window(np.array(["a"]), level=40, width=400)
    with pytest.raises(DataError, match=r"real numbers, got torch\.complex64: take its magnitude"):
        preprocess.window(torch.zeros(2, dtype=torch.complex64), level=40, width=400)
    with pytest.raises(DataError, match="a level and a width"):
        preprocess.window(torch.zeros(2), level=float("nan"), width=400)


# --- normalise --------------------------------------------------------------------------------


def test_normalise_equals_numpy():
    x = np.random.default_rng(0).gamma(2, 50, size=(3, 2, 16, 20)) + 1000
    z = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(preprocess.normalise(x), z, atol=1e-9)
    low, high = np.percentile(x, [1, 99], axis=(1, 2, 3), keepdims=True)
    clipped = np.clip((x - low) / (high - low), 0, 1)
    found = preprocess.normalise(x, method="percentile")
    np.testing.assert_allclose(found, clipped, atol=1e-9)
    single = preprocess.normalise(torch.tensor(x).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, z, atol=1e-3)


@pytest.mark.parametrize("method", ["zscore", "percentile"])
@pytest.mark.parametrize("value", [0.0, 7.0, -1000.1, 1e-20])
def test_a_constant_image_becomes_zero(method, value):
    x = torch.full((2, 1, 8, 8), value)
    x[1, 0, 2:4] += 5 + abs(value)
    y = preprocess.normalise(x, method=method)
    assert (y[0] == 0).all()
    assert y[1].max() >= 1
    assert y.isfinite().all()


def test_what_counts_as_one_image():
    x = np.random.default_rng(0).normal(size=(3, 8, 8))
    whole = preprocess.normalise(x)
    assert whole.mean() == pytest.approx(0, abs=1e-12)
    assert abs(whole[0].mean()) > 1e-3
    each = preprocess.normalise(x[:, None])[:, 0]
    np.testing.assert_allclose(each.mean((1, 2)), 0, atol=1e-12)
    volume = preprocess.normalise(np.stack([x, 3 * x + 1])[:, None])
    np.testing.assert_allclose(volume[0], volume[1], atol=1e-12)
    np.testing.assert_allclose(preprocess.normalise(x[0]), each[0], atol=1e-12)


def test_normalise_survives_large_volumes_and_large_offsets():
    x = torch.zeros(17, 1000, 1000)  # torch.quantile would refuse 17 million values
    x[:, :20] = 1
    assert preprocess.normalise(x, method="percentile").max() == 1
    offset = torch.randn(1, 1, 512, 512) + 1e4
    z = preprocess.normalise(offset)
    assert z.mean().abs() < 1e-2
    assert z.std() == pytest.approx(1, abs=1e-3)


def test_normalise_refuses():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(DataError, match="'percentile'; got 'max'"):
        preprocess.normalise(x, method="max")
    broken = x.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="1 of 16 values are NaN"):
        preprocess.normalise(broken)
    with pytest.raises(DataError, match="empty"):
        preprocess.normalise(x[:0])


# --- resample ---------------------------------------------------------------------------------


def test_a_ramp_in_millimetres_stays_the_same_ramp():
    """The value at a place does not depend on the grid: f(y, x) = 2y − 3x, both in mm."""
    y, x = np.mgrid[:20, :30]
    image = 2 * (y * 1.5) - 3 * (x * 0.8)
    out = preprocess.resample(image, spacing=(1.5, 0.8), to=(0.7, 1.1), antialias=False)
    assert out.shape == (int(19 * 1.5 / 0.7) + 1, int(29 * 0.8 / 1.1) + 1)
    y, x = np.mgrid[: out.shape[0], : out.shape[1]]
    np.testing.assert_allclose(out, 2 * y * 0.7 - 3 * x * 1.1, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("to", [(1.3, 0.6, 0.9), 1.0])
def test_resample_equals_map_coordinates(order, to):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(9, 14, 17))
    spacing = (2.0, 1.0, 0.75)
    out = preprocess.resample(image, spacing=spacing, to=to, order=order, antialias=False)
    wanted = np.broadcast_to(to, 3)
    grid = np.indices(out.shape) * (wanted / spacing).reshape(3, 1, 1, 1)
    expected = ndimage.map_coordinates(image, grid, order=order, mode="nearest")
    np.testing.assert_allclose(out, expected, atol=1e-9)


def test_linear_resample_of_a_signal_equals_interp():
    signal = np.random.default_rng(1).normal(size=(3, 40))
    out = preprocess.resample(signal, spacing=[0.5], to=0.3)
    at = np.arange(out.shape[1]) * 0.3
    assert at[-1] <= 39 * 0.5 < at[-1] + 0.3
    for row, expected in zip(out, signal, strict=True):
        np.testing.assert_allclose(row, np.interp(at, np.arange(40) * 0.5, expected), atol=1e-9)


def test_smoothing_keeps_what_the_new_grid_can_hold_and_removes_the_rest():
    """2 mm pixels hold periods above 4 mm: 2.5 mm must vanish, not return as a false 10 mm."""
    x = np.arange(400) * 0.5
    coarse, fine = np.sin(2 * np.pi * x / 40), np.sin(2 * np.pi * x / 2.5)
    middle = np.s_[10:-10]
    kept = preprocess.resample(coarse, spacing=[0.5], to=2)[middle]
    np.testing.assert_allclose(kept, coarse[::4][middle], atol=0.02)
    sigma = np.sqrt(2**2 - 0.5**2) / np.sqrt(8 * np.log(2))  # a Gaussian's response to a sine
    gain = np.exp(-2 * (np.pi * sigma / 2.5) ** 2)
    smooth = preprocess.resample(fine, spacing=[0.5], to=2)[middle]
    np.testing.assert_allclose(smooth, gain * fine[::4][middle], atol=2e-3)
    assert gain < 0.13
    raw = preprocess.resample(fine, spacing=[0.5], to=2, antialias=False)[middle]
    np.testing.assert_allclose(raw, fine[::4][middle], atol=1e-9)
    assert np.abs(raw).max() > 0.5


def test_smoothing_is_the_documented_gaussian_on_the_coarser_axes_only():
    image = phantom((40, 40)).astype(float)
    out = preprocess.resample(image, spacing=(1, 1), to=(3, 1))
    sigma = np.sqrt(3**2 - 1**2) / np.sqrt(8 * np.log(2))
    blurred = ndimage.gaussian_filter1d(image, sigma, axis=0, mode="nearest")
    np.testing.assert_allclose(out, blurred[::3], atol=1e-9)


def test_batches_and_channels_are_resampled_one_by_one():
    x = torch.randn(2, 3, 12, 16)
    out = preprocess.resample(x, spacing=(1, 1), to=(0.5, 2))
    assert out.shape == (2, 3, 23, 8)
    assert out.dtype == torch.float32
    alone = preprocess.resample(x[1, 2], spacing=(1, 1), to=(0.5, 2))
    torch.testing.assert_close(out[1, 2], alone)


def test_labels_keep_their_names_and_their_type():
    labels = np.random.default_rng(0).choice([0, 3, 7], size=(20, 20)).astype(np.uint8)
    out = preprocess.resample(labels, spacing=(1, 1), to=0.4, order=0)
    assert out.dtype == np.uint8
    assert set(np.unique(out)) <= {0, 3, 7}
    back = preprocess.resample(out, spacing=(0.4, 0.4), to=1, order=0)
    at = np.floor(np.arange(19) / 0.4 + 0.5).astype(int)
    assert (back == out[np.ix_(at, at)]).all()
    whole = torch.ones(4, 4, dtype=torch.bool)
    assert preprocess.resample(whole, spacing=(1, 1), to=0.5, order=0).all()


def test_an_anisotropic_volume_and_its_mask_meet_on_the_new_grid():
    """A ball of 24 mm in slices 4 mm apart: its volume in ml stays, and mask fits image."""
    spacing, radius = (4.0, 1.0, 1.5), 12.0
    axes = np.indices((15, 50, 40)) * np.reshape(spacing, (3, 1, 1, 1))
    away = np.sqrt(((axes - np.reshape([28.0, 25.0, 30.0], (3, 1, 1, 1))) ** 2).sum(0))
    mask, image = (away < radius).astype(np.uint8), np.clip(100 - 10 * (away - radius), 0, 200)
    for to in (1.0, (2.0, 2.0, 2.0)):
        fine = preprocess.resample(image[None], spacing=spacing, to=to, antialias=False)[0]
        labels = preprocess.resample(mask, spacing=spacing, to=to, order=0)
        assert fine.shape == labels.shape
        assert set(np.unique(labels)) == {0, 1}
        millilitres = labels.sum() * np.prod(np.broadcast_to(to, 3))
        assert millilitres == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06)
        assert fine[labels == 1].min() > 60  # 100 on the ball's surface, 10 a millimetre
        assert fine[labels == 0].max() < 140


def test_the_same_spacing_changes_nothing():
    x = phantom()
    for order in (0, 1):
        out = preprocess.resample(x, spacing=(0.7, 0.7), to=0.7, order=order)
        np.testing.assert_allclose(out, x, atol=1e-5)
    halved = preprocess.resample(x, spacing=(0.7, 0.7), to=0.35)
    np.testing.assert_allclose(halved[::2, ::2], x, atol=1e-6)
    assert halved.shape == (127, 127)
    eighths = preprocess.resample(np.zeros(9), spacing=[0.7], to=0.8)  # 5.6 / 0.8 < 7 in floats
    assert eighths.shape == (8,)


def test_resample_refuses():
    x = torch.zeros(4, 4)
    with pytest.raises(DataError, match="order must be 0"):
        preprocess.resample(x, spacing=(1, 1), to=1, order=3)
    with pytest.raises(DataError, match="one number per axis"):
        preprocess.resample(x, spacing=(1, 1, 1), to=1)
    with pytest.raises(ValueError, match="broadcast"):
        preprocess.resample(x, spacing=(1, 1), to=(1, 1, 1))
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="above 0"):
            preprocess.resample(x, spacing=(1, 1), to=bad)
    with pytest.raises(DataError, match="order must be 0"):
        preprocess.resample(x, spacing=(1, 1), to=1, order=2)
    with pytest.raises(DataError, match="one number per axis, such as"):
        preprocess.resample(x, spacing=1.0, to=2)
    with pytest.raises(DataError, match=r"empty: its shape is \(0, 4\)"):
        preprocess.resample(x[:0], spacing=(1, 1), to=2)
    with pytest.raises(DataError, match=r"empty: its shape is \(0, 4\)"):
        preprocess.resample(x[:0], spacing=(1, 1), to=2, order=0)


# --- crop and pad -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 4, 5, 8])
@pytest.mark.parametrize("wanted", [1, 4, 5, 8, 9])
def test_crop_pad_keeps_the_centre(n, wanted):
    x = np.arange(1.0, n + 1)
    out = preprocess.crop_pad(x, [wanted], value=-1)
    assert out.shape == (wanted,)
    if wanted >= n:
        lead = (wanted - n) // 2
        expected = np.pad(x, (lead, wanted - n - lead), constant_values=-1)
        assert (preprocess.crop_pad(out, [n]) == x).all()
    else:
        cut = (n - wanted) // 2
        expected = x[cut : cut + wanted]
    assert (out == expected).all()


def test_crop_pad_leaves_other_axes_and_the_type():
    x = torch.full((2, 3, 10, 4), 7, dtype=torch.int16)
    out = preprocess.crop_pad(x, (6, 6), value=-1000)
    assert out.shape == (2, 3, 6, 6)
    assert out.dtype == torch.int16
    assert (out[..., 1:5] == 7).all()
    assert (out[..., [0, 5]] == -1000).all()


def test_new_voxels_are_0_unless_another_value_is_given():
    assert preprocess.crop_pad(np.ones(2), [4]).tolist() == [0, 1, 1, 0]
    tenth = preprocess.crop_pad(np.ones(2, np.float32), [4], value=0.1)  # rounded, not refused
    assert tenth[0] == np.float32(0.1)


def test_crop_pad_refuses():
    x = np.zeros((4, 4), np.uint8)
    with pytest.raises(DataError, match="whole numbers above 0"):
        preprocess.crop_pad(x, (0, 4))
    with pytest.raises(DataError, match="whole numbers above 0"):
        preprocess.crop_pad(x, (1, 2, 3))
    for size in (4, (2.5, 2), ("4", "4")):
        with pytest.raises(TypeError):
            preprocess.crop_pad(x, size)
    for value in (-1000, 0.5, 256):
        with pytest.raises(DataError, match="cannot be stored as torch"):
            preprocess.crop_pad(x, (8, 8), value=value)
    with pytest.raises(DataError, match="value 40000 cannot be stored as torch.int16"):
        preprocess.crop_pad(x.astype(np.int16), (8, 8), value=40_000)


def test_rounding_noise_on_a_constant_image_is_not_blown_up_to_a_picture():
    image = torch.full((1, 8, 8), 1000.0)
    image[0, 0, 0] = torch.nextafter(torch.tensor(1000.0), torch.tensor(2000.0))
    for method in ("zscore", "percentile"):
        assert not preprocess.normalise(image, method=method).any(), method


# --- what every step does with what is odd ------------------------------------------------------

STEPS = {
    "window": lambda x: preprocess.window(x, level=0.9, width=2),
    **{
        method: lambda x, method=method: preprocess.normalise(x, method=method)
        for method in ("zscore", "percentile")
    },
    "resample": lambda x: preprocess.resample(x, spacing=(1, 1), to=1.5),
    "nearest": lambda x: preprocess.resample(x, spacing=(1, 1), to=0.6, order=0),
    "crop_pad": lambda x: preprocess.crop_pad(x, (20, 40), value=1),
}
COPIED = ("nearest", "crop_pad")  # moves values, and computes with none of them


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", STEPS)
def test_a_constant_image_stays_constant(name, value, dtype):
    """No step makes contrast where there is none; crop_pad's margin has the value it was given."""
    out = STEPS[name](np.full((32, 32), value, dtype))
    inner = out[:, 4:36] if name == "crop_pad" else out
    known = {"window": value + 0.1, "zscore": 0, "percentile": 0}
    np.testing.assert_allclose(inner, np.clip(known.get(name, value), 0, 1), atol=1e-6)
    assert np.ptp(inner) == 0
    assert out.dtype == dtype


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", STEPS)
def test_one_value_and_nothing_else_but_nan(name, odd):
    image = np.full((32, 32), odd)
    image[16, 16] = 0.5
    if name in COPIED:
        assert np.count_nonzero(STEPS[name](image) == 0.5) > 0
    else:
        with pytest.raises(DataError, match="1023 of 1024 values are NaN or infinite"):
            STEPS[name](image)


@pytest.mark.parametrize("kind", ["?", "i1", "<i2", ">i2", "<u2", ">u2", "<u4", "<i8", ">f4", "g"])
@pytest.mark.parametrize("name", STEPS)
def test_every_type_of_number_is_taken_for_its_value(name, kind):
    zeros_and_ones = np.random.default_rng(0).random((40, 40)) < 0.5
    image, reference = zeros_and_ones.astype(kind), STEPS[name](zeros_and_ones.astype(np.float64))
    out = STEPS[name](image)
    np.testing.assert_allclose(out, reference, atol=1e-5)
    if name in COPIED and kind != "g":
        assert out.dtype == np.dtype(kind).newbyteorder("=")
    flipped = STEPS[name](image[::-1].copy())
    np.testing.assert_array_equal(STEPS[name](image[::-1]), flipped)


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (0, 1, 8, 8)])
@pytest.mark.parametrize("name", STEPS)
def test_an_empty_image_is_refused_by_all(name, shape):
    for dtype in (np.float32, np.uint8, np.int16):
        with pytest.raises(DataError, match="the image is empty"):
            STEPS[name](np.zeros(shape, dtype))
