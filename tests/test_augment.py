"""Augmentation against SciPy, scikit-image and torch.rot90."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import AffineTransform
from skimage.transform import warp as skimage_warp

from medlab.augment import Augment, _affine, _blur, _grid, _move_boxes, warp
from medlab.errors import DataError

STILL = Augment(rotate=0, translate=0, scale=0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def matrices(
    height, width, *, n=1, angle=0.0, shift=(0.0, 0.0), scale=1.0, shear=(0, 0), signs=(1, 1)
):
    return _affine(
        size=(width, height),
        angles=torch.full((n, 1), angle),
        shift=torch.tensor([shift] * n),
        scale=torch.full((n,), scale),
        shear=torch.tensor([shear] * n, dtype=torch.float32),
        signs=torch.tensor([signs] * n),
    )


def smooth(n=1, channels=1, height=32, width=48, seed=0):
    """Random images without detail finer than interpolation can follow, dark at the edge."""
    noise = torch.randn(n, channels, height, width, generator=rng(seed)).numpy()
    image = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 2, 2)))
    return torch.nn.functional.pad(image[..., 4:-4, 4:-4], [4] * 4)


def scipy_warp(image, matrix, order, mode):
    """The same map by scipy.ndimage, which works in (row, column) of pixel centres."""
    linear, offset = matrix[:, :2].numpy(), matrix[:, 2].numpy()
    inverse = np.linalg.inv(linear)
    # x = column + 1/2, so input = inverse @ (output + 1/2 − offset) − 1/2
    shift = inverse @ (0.5 - offset) - 0.5
    swap = [1, 0]
    return ndimage.affine_transform(
        image.numpy(), inverse[np.ix_(swap, swap)], shift[swap], order=order, mode=mode
    )


MAPS = [
    {"angle": 17.0},
    {"shift": (3.3, -2.6)},
    {"scale": 0.8},
    {"shear": (8.0, -4.0)},
    {"angle": -33.0, "shift": (-2.2, 1.4), "scale": 1.2, "shear": (5.0, 0.0)},
]


@pytest.mark.parametrize("options", MAPS)
@pytest.mark.parametrize(("padding", "mode"), [("border", "nearest"), ("zeros", "grid-constant")])
def test_warp_equals_scipy(options, padding, mode):
    image = smooth()
    matrix = matrices(32, 48, **options)
    ours = warp(image, matrix, padding=padding)[0, 0]
    theirs = scipy_warp(image[0, 0], matrix[0], 1, mode)
    assert np.abs(ours.numpy() - theirs).max() < 2e-5


@pytest.mark.parametrize("options", MAPS)
def test_warp_equals_skimage(options):
    image = smooth().double()
    matrix = matrices(32, 48, **options)
    ours = warp(image, matrix, padding="border")[0, 0]
    full = np.eye(3)
    full[:2] = matrix[0].numpy()
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    inverse = AffineTransform(np.linalg.inv(np.linalg.inv(half) @ full @ half))
    theirs = skimage_warp(image[0, 0].numpy(), inverse, order=1, mode="edge")
    assert np.abs(ours.numpy() - theirs).max() < 1e-9


@pytest.mark.parametrize("options", MAPS)
def test_nearest_equals_scipy_and_invents_no_label(options):
    mask = (torch.arange(32 * 48).view(1, 1, 32, 48) // 7 % 5).double()
    matrix = matrices(32, 48, **options)
    ours = warp(mask, matrix, mode="nearest", padding="border")[0, 0].numpy()
    theirs = scipy_warp(mask[0, 0], matrix[0], 0, "nearest")
    assert (ours == theirs).mean() > 0.999  # a tie between two pixels may fall either way
    assert set(np.unique(ours)) <= set(range(5))


def test_zero_magnitudes_change_nothing_at_all():
    images, masks = torch.randn(3, 2, 17, 23), torch.randint(0, 4, (3, 17, 23))
    boxes = [
        torch.tensor([[1.0, 2.0, 9.5, 7.25]]),
        torch.zeros(0, 4),
        torch.tensor([[0, 0, 23, 17.0]]),
    ]
    out, out_masks, out_boxes = STILL(images, masks, boxes, generator=rng())
    assert torch.equal(out, images)
    assert torch.equal(out_masks, masks)
    assert all(torch.equal(a, b) for a, b in zip(out_boxes, boxes, strict=True))


def test_identity_map_is_exact_to_rounding():
    images = torch.rand(2, 3, 21, 34)
    assert (warp(images, matrices(21, 34, n=2)) - images).abs().max() < 1e-5


def test_grid_equals_torchs_own():
    theta = torch.randn(3, 2, 3, dtype=torch.float64, generator=rng())
    ours = _grid(theta, (12, 7), dtype=torch.float64)
    theirs = torch.nn.functional.affine_grid(theta, [3, 1, 7, 12], align_corners=False)
    assert (ours - theirs).abs().max() < 1e-14


def test_ninety_degrees_is_rot90():
    images = torch.rand(2, 1, 24, 24, dtype=torch.float64)
    turned = warp(images, matrices(24, 24, n=2, angle=90.0))
    assert torch.allclose(turned, torch.rot90(images, 1, (2, 3)), atol=1e-12)


def test_rotation_of_an_oblong_image_is_a_rotation_in_pixels():
    """A bar of 20 × 4 pixels turned by 90° is a bar of 4 × 20, whatever the image's shape."""
    image = torch.zeros(1, 1, 32, 64)
    image[..., 14:18, 22:42] = 1
    turned = warp(image, matrices(32, 64, angle=90.0))
    expected = torch.zeros(1, 1, 32, 64)
    expected[..., 6:26, 30:34] = 1
    assert torch.allclose(turned, expected, atol=1e-5)


def test_shift_moves_right_and_down():
    images = torch.rand(1, 1, 20, 30)
    moved = warp(images, matrices(20, 30, shift=(3.0, 2.0)))
    assert torch.allclose(moved[..., 2:, 3:], images[..., :-2, :-3], atol=1e-5)


def test_mirrors_are_flips():
    images = torch.rand(1, 1, 20, 30, dtype=torch.float64)
    assert torch.allclose(warp(images, matrices(20, 30, signs=(-1, 1))), images.flip(3))
    assert torch.allclose(warp(images, matrices(20, 30, signs=(1, -1))), images.flip(2))


@pytest.mark.parametrize("seed", range(6))
def test_box_of_the_moved_mask_is_the_moved_box(seed):
    n, height, width = 24, 96, 128
    draw = np.random.default_rng(seed)
    x0, y0 = draw.integers(40, 56, n), draw.integers(32, 42, n)
    w, h = draw.integers(8, 32, n), draw.integers(6, 20, n)
    masks, boxes = torch.zeros(n, height, width, dtype=torch.uint8), []
    for i in range(n):
        masks[i, y0[i] : y0[i] + h[i], x0[i] : x0[i] + w[i]] = 1
        boxes.append(torch.tensor([[x0[i], y0[i], x0[i] + w[i], y0[i] + h[i]]]).float())
    augment = Augment(
        rotate=30, translate=0.1, scale=0.2, shear=10, flip=("horizontal", "vertical")
    )
    images = masks[:, None].float()
    out, out_masks, out_boxes = augment(images, masks, boxes, generator=rng(seed))
    for i in range(n):
        rows, columns = np.nonzero(out_masks[i].numpy())
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(seen) - out_boxes[i][0].numpy()).max() <= 1.0
    # The image went the same way: where it is bright there is mask.
    assert (((out[:, 0] > 0.5) == out_masks.bool()).float().mean()) > 0.995


def test_corners_move_by_the_map_and_boxes_are_cut_and_dropped():
    matrix = matrices(20, 30, shift=(20.0, 0.0))
    boxes = [torch.tensor([[2.0, 3.0, 14.0, 9.0], [15.0, 3.0, 25.0, 9.0]])]
    moved = _move_boxes(boxes, matrix, (30, 20))[0]
    assert moved.tolist() == [[22.0, 3.0, 30.0, 9.0]]
    box = torch.tensor([[15.0, 10.0, 25.0, 12.0]])
    turned = _move_boxes([box], matrices(20, 30, angle=45.0), (40, 40))[0][0]
    s = math.sqrt(0.5)
    expected = [15.0, 10 - 10 * s, 15 + 12 * s, 10 + 2 * s]
    assert turned.tolist() == pytest.approx(expected, abs=1e-5)


def test_same_generator_same_result_and_global_state_untouched():
    images = torch.rand(8, 1, 32, 32)
    augment = Augment(shear=5, flip="horizontal", brightness=0.3, contrast=0.3, gamma=0.3,
                      noise=0.2, blur=1)  # fmt: skip
    before = torch.get_rng_state()
    first, second = (augment(images, generator=rng(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(images, generator=rng(4)))
    assert torch.equal(before, torch.get_rng_state())


def test_every_image_is_moved_differently():
    out = Augment()(smooth().expand(16, 1, 32, 48), generator=rng())
    assert len({tuple(image.flatten().tolist()) for image in out}) == 16


def test_magnitudes_stay_in_their_limits_and_reach_them():
    augment = Augment(rotate=20, translate=0.1, scale=0.25)
    from medlab.augment import _Draw

    maps = augment._matrices(_Draw(4000, torch.device("cpu"), rng()), (80, 50))
    scale = torch.linalg.det(maps[:, :, :2]).sqrt()
    angle = torch.rad2deg(torch.atan2(maps[:, 0, 1], maps[:, 0, 0]))
    centre = torch.tensor([40.0, 25.0], dtype=torch.float64)
    shift = (maps[:, :, :2] @ centre + maps[:, :, 2] - centre).abs().amax(0)
    assert 1.24 < scale.max() <= 1.25 + 1e-6
    assert 0.8 - 1e-6 <= scale.min() < 0.81
    assert 19.5 < angle.abs().max() <= 20 + 1e-4
    assert 7.8 < shift[0] <= 8 + 1e-4
    assert 4.9 < shift[1] <= 5 + 1e-4


def test_flips_only_when_asked_and_half_of_the_time():
    ramp = torch.linspace(0, 1, 32).expand(400, 1, 16, 32).contiguous()
    flip = Augment(rotate=0, translate=0, scale=0, flip="horizontal")
    turned = (flip(ramp, generator=rng())[:, 0, 8, 0] > 0.5).float().mean()
    assert 0.4 < turned < 0.6
    default = Augment()(ramp, generator=rng())
    assert (default[:, 0, 8, 4] < default[:, 0, 8, 28]).all()


def test_brightness_contrast_gamma_by_closed_form():
    images = torch.rand(500, 1, 8, 8) * 100 - 30
    mean, spread = images.mean((1, 2, 3)), images.std((1, 2, 3), correction=0)

    def only(**kw):
        return Augment(rotate=0, translate=0, scale=0, **kw)(images, generator=rng())

    shift = (only(brightness=0.5) - images).flatten(1)
    assert shift.std(1).max() < 1e-4
    assert 0.48 < (shift.mean(1) / spread).abs().max() <= 0.5001
    out = only(contrast=0.5)
    factor = out.std((1, 2, 3), correction=0) / spread
    assert torch.allclose(out.mean((1, 2, 3)), mean, atol=1e-3)
    assert 1.47 < factor.max() < 1.501
    assert 0.666 < factor.min() < 0.69
    out = only(gamma=0.5)
    low, high = images.amin((1, 2, 3)), images.amax((1, 2, 3))
    assert torch.allclose(out.amin((1, 2, 3)), low, atol=1e-3)
    assert torch.allclose(out.amax((1, 2, 3)), high, atol=1e-3)
    unit = ((images - low.view(-1, 1, 1, 1)) / (high - low).view(-1, 1, 1, 1)).clamp(0.05, 0.95)
    unit_out = (out - low.view(-1, 1, 1, 1)) / (high - low).view(-1, 1, 1, 1)
    inside = (unit > 0.05) & (unit < 0.95)
    exponent = (unit_out.log() / unit.log())[0][inside[0]]
    assert (exponent - exponent.mean()).abs().max() < 1e-3
    assert 1 / 1.5 - 1e-3 <= exponent.mean() <= 1.5 + 1e-3


def test_noise_has_the_promised_spread_and_is_white():
    images = torch.randn(300, 1, 32, 32)
    noise = Augment(rotate=0, translate=0, scale=0, noise=0.5)(images, generator=rng()) - images
    sigma = noise.flatten(1).std(1) / images.flatten(1).std(1)
    assert sigma.max() < 0.55
    assert sigma.mean() == pytest.approx(0.25, abs=0.03)  # uniform in 0 … 0.5
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()
    assert abs(neighbours) < 0.01


def test_blur_is_scipys_gaussian():
    from medlab.augment import _blur

    images = torch.rand(2, 2, 24, 20)
    sigma = torch.tensor([0.7, 1.6])
    ours = _blur(images, sigma)
    for i in range(2):
        s = float(sigma[i])
        theirs = ndimage.gaussian_filter(
            images[i].numpy(), (0, s, s), mode="nearest", radius=(0, 5, 5)
        )
        assert np.abs(ours[i].numpy() - theirs).max() < 1e-5


def test_constant_images_stay_finite():
    out = Augment(brightness=0.5, contrast=0.5, gamma=0.5, noise=0.5, blur=1)(
        torch.full((4, 1, 16, 16), 3.0), generator=rng()
    )
    assert torch.allclose(out, torch.full_like(out, 3.0), atol=1e-5)


def test_masks_keep_type_and_every_integer():
    masks = torch.tensor([2**31 + 1, 7]).view(1, 1, 2).expand(1, 16, 2).repeat_interleave(8, 2)
    _, moved = Augment()(torch.rand(1, 1, 16, 16), masks, generator=rng())
    assert moved.dtype == masks.dtype
    assert set(moved.unique().tolist()) <= {2**31 + 1, 7}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)}, "to_float"),
        ({"images": torch.zeros(1, 16, 16)}, r"\(N, C, H, W\)"),
        ({"masks": torch.zeros(2, 16, 15)}, "masks must be"),
        ({"boxes": [torch.zeros(0, 4)]}, "one tensor an image"),
        ({"boxes": [torch.zeros(0, 4), torch.zeros(3, 5)]}, "boxes must be one"),
    ],
)
def test_wrong_input_is_named(change, message):
    given = {"images": torch.zeros(2, 1, 16, 16)} | change
    with pytest.raises(DataError, match=message):
        Augment()(**given, generator=rng())


@pytest.mark.parametrize(
    "options",
    [{"rotate": -1}, {"scale": math.nan}, {"flip": "diagonal"}, {"shear": 90}],
)
def test_wrong_options_are_named(options):
    with pytest.raises(DataError, match=next(iter(options))):
        Augment(**options)


def test_the_share_that_is_not_chosen_stays_untouched_with_its_mask_and_boxes():
    images = torch.rand(400, 1, 16, 16, generator=rng())
    masks = (images[:, 0] > 0.5).to(torch.uint8)
    boxes = [torch.tensor([[3.0, 4.0, 9.0, 12.0]])] * 400
    moved, moved_masks, moved_boxes = Augment(share=0.3, brightness=0.2)(
        images, masks, boxes, generator=rng()
    )
    same = (moved == images).flatten(1).all(1)
    assert 0.2 < 1 - same.float().mean() < 0.4
    assert torch.equal(moved_masks[same], masks[same])
    assert all(torch.equal(moved_boxes[i], boxes[i]) for i in same.nonzero()[:, 0])
    assert not any(torch.equal(moved_boxes[i], boxes[i]) for i in (~same).nonzero()[:, 0])
    with pytest.raises(DataError, match="share"):
        Augment(share=1.5)


# --- volumes ---


def volume_maps(size, *, angles=(0.0, 0.0, 0.0), shift=(0.0, 0.0, 0.0), scale=1.0):
    """One affine map for volumes of (width, height, depth)."""
    return _affine(
        size=size,
        angles=torch.tensor([angles]),
        shift=torch.tensor([shift]),
        scale=torch.tensor([scale]),
        shear=torch.zeros(1, 2),
        signs=torch.ones(1, 3),
    )


VOLUME_MAPS = [
    {"angles": (20.0, 0.0, 0.0)},
    {"angles": (0.0, -15.0, 0.0)},
    {"angles": (0.0, 0.0, 25.0)},
    {"angles": (9.0, -7.0, 12.0), "shift": (1.5, -2.25, 0.75), "scale": 1.15},
]


@pytest.mark.parametrize("options", VOLUME_MAPS)
def test_volumes_move_as_scipy_moves_them(options):
    noise = torch.randn(1, 1, 16, 20, 24, generator=rng()).numpy()
    volume = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 2, 2, 2)))
    matrix = volume_maps((24, 20, 16), **options)
    ours = warp(volume, matrix)[0, 0]
    inverse = np.linalg.inv(matrix[0, :, :3].numpy())
    shift = inverse @ (0.5 - matrix[0, :, 3].numpy()) - 0.5
    swap = [2, 1, 0]
    theirs = ndimage.affine_transform(
        volume[0, 0].numpy(), inverse[np.ix_(swap, swap)], shift[swap], order=1, mode="nearest"
    )
    assert np.abs(ours.numpy() - theirs).max() < 2e-5


def test_turns_of_a_volume_are_rotations():
    linear = volume_maps((9, 9, 9), angles=(31.0, -47.0, 12.0))[0, :, :3]
    assert torch.allclose(linear @ linear.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(linear).item() == pytest.approx(1)


@pytest.mark.parametrize(("name", "axis"), [("horizontal", 4), ("vertical", 3), ("depth", 2)])
def test_mirrors_of_a_volume_are_flips_of_its_axes(name, axis):
    volumes = torch.rand(64, 1, 5, 6, 7, dtype=torch.float64)
    moved = Augment(rotate=0, translate=0, scale=0, flip=name)(volumes, generator=rng())
    pairs = list(zip(moved, volumes, strict=True))
    flipped = [torch.allclose(m, v.flip(axis - 1), atol=1e-9) for m, v in pairs]
    same = [torch.allclose(m, v, atol=1e-9) for m, v in pairs]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 16 < sum(flipped) < 48


def test_masks_move_with_their_volumes():
    mask = torch.zeros(6, 16, 20, 24, dtype=torch.uint8)
    mask[:, 4:12, 5:15, 6:18] = 2
    augment = Augment(rotate=15, translate=0.1, scale=0.2, share=1.0)
    images, moved = augment(mask[:, None].float(), mask, generator=rng())
    assert moved.dtype == torch.uint8
    assert set(moved.unique().tolist()) == {0, 2}
    agree = ((images[:, 0] > 1) == (moved == 2)).float().mean()
    assert agree > 0.97
    assert not torch.equal(moved, mask)


def test_everything_at_once_keeps_the_shape_of_volumes():
    volumes = torch.rand(3, 2, 12, 14, 16)
    augment = Augment(brightness=0.3, contrast=0.3, gamma=0.3, noise=0.1, blur=1.0)
    out = augment(volumes, generator=rng())
    assert out.shape == volumes.shape
    assert torch.isfinite(out).all()
    assert torch.equal(out, augment(volumes, generator=rng()))


def test_blur_of_a_volume_equals_scipy():
    volume = torch.rand(1, 1, 11, 12, 13, dtype=torch.float64)
    ours = _blur(volume, torch.tensor([1.2], dtype=torch.float64))[0, 0]
    theirs = ndimage.gaussian_filter(volume[0, 0].numpy(), 1.2, mode="nearest", radius=4)
    assert np.abs(ours.numpy() - theirs).max() < 1e-9


@pytest.mark.parametrize(
    ("options", "boxes", "message"),
    [
        ({"shear": 3}, None, "shear and boxes"),
        ({}, [torch.zeros(0, 4)], "shear and boxes"),
    ],
)
def test_what_volumes_cannot_have_is_named(options, boxes, message):
    with pytest.raises(DataError, match=message):
        Augment(**options)(torch.rand(1, 1, 8, 8, 8), boxes=boxes, generator=rng())


def test_images_have_no_slices_to_mirror():
    with pytest.raises(DataError, match="have no slices"):
        Augment(flip="depth")(torch.rand(1, 1, 8, 8), generator=rng())
