"""Sets that a user puts on disk: both layouts of each, what does not fit, and the real files."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse.csgraph import connected_components
from skimage.measure import regionprops

import medlab
from medlab.cohort import DataCard
from medlab.errors import DataError
from tests.where import ROOT

# ------------------------------------------------------------------------------ nuclei

FIELD = np.zeros((256, 256), np.uint16)  # numbered with gaps; some touch, two lie at the border
FIELD[0:9, 0:12] = 3
FIELD[0:9, 12:20] = 4
FIELD[250:256, 100:256] = 11
FIELD[40:60, 40:60] = 7
FIELD[45:50, 45:50] = 0
NAMES = ["00ff" + "0" * 12, "a1b2" + "0" * 12]


def grey(seed: int, size=(256, 256)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, size, dtype=np.uint8)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def converted(root):
    """Numbered instances beside the pictures."""
    for seed, name in enumerate(NAMES):
        save(root / "nuclei" / "images" / f"{name}.png", grey(seed), "RGB")
        save(root / "nuclei" / "labels" / f"{name}.png", np.roll(FIELD, 30 * seed, axis=0))
    return root


def published(root, inner="stage1_train"):
    """A folder an image, one mask a nucleus, as the archive has them; one image of another size."""
    for seed, name in enumerate(NAMES):
        home = root / "nuclei" / inner / (name + "f" * 48)
        save(home / "images" / f"{name}{'f' * 48}.png", grey(seed), "RGBA")
        (home / "images" / "._hidden.png").write_bytes(b"what macOS leaves")
        drawn = np.roll(FIELD, 30 * seed, axis=0)
        for k in np.unique(drawn[drawn > 0]):
            save(home / "masks" / f"{k:064x}.png", (255 * (drawn == k)).astype(np.uint8))
    other = root / "nuclei" / inner / ("c" * 64)
    save(other / "images" / f"{'c' * 64}.png", grey(9, (256, 320)), "RGBA")
    save(other / "masks" / f"{'d' * 64}.png", np.full((256, 320), 255, np.uint8))
    return root


@pytest.mark.parametrize("inner", ["", "stage1_train"])
def test_both_layouts_give_the_same_nuclei(tmp_path, inner):
    first = medlab.load("nuclei", root=converted(tmp_path / "a"), download=False)
    second = medlab.load("nuclei", root=published(tmp_path / "b", inner))
    for cohort in (first, second):
        assert cohort.images.shape == (2, 1, 256, 256)
        assert torch.equal(cohort.images[1, 0], torch.from_numpy(grey(1)))
        assert cohort.files.tolist() == [f"{name}.png" for name in NAMES]
        assert cohort.patients.tolist() == NAMES  # no known field holds them
        assert cohort.extras["instances"].dtype == torch.int32
        assert cohort.masks.unique().tolist() == [0, 1]
        assert torch.equal(cohort.masks > 0, cohort.extras["instances"] > 0)
        assert cohort.classes == ("nucleus",)
        assert cohort.card.task == "detection"
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.extras["instances"], second.extras["instances"])
    assert all(map(torch.equal, first.boxes, second.boxes))


def test_boxes_enclose_their_instances_and_reach_the_border(tmp_path):
    cohort = medlab.load("nuclei", root=converted(tmp_path))
    assert cohort.boxes[0].tolist()[0] == [0, 0, 12, 9]
    assert cohort.boxes[0].tolist()[-1] == [100, 250, 256, 256]
    for drawn, boxes in zip(cohort.extras["instances"].numpy(), cohort.boxes, strict=True):
        found = regionprops(drawn)
        assert [one.label for one in found] == list(range(1, len(boxes) + 1))
        for one, box in zip(found, boxes.tolist(), strict=True):
            y0, x0, y1, x1 = one.bbox
            assert box == [x0, y0, x1, y1]
    assert cohort[[1]].extras["instances"].shape == (1, 256, 256)


def test_of_overlapping_nuclei_the_later_has_the_pixels(tmp_path):
    home = published(tmp_path) / "nuclei" / "stage1_train" / (NAMES[0] + "f" * 48) / "masks"
    over = np.zeros((256, 256), np.uint8)
    over[0:9, 0:20] = 1  # all of 3 and 4; a mask may be 1 as well as 255
    save(home / f"{'e' * 64}.png", over)
    cohort = medlab.load("nuclei", root=tmp_path)
    assert cohort.boxes[0].tolist()[-1] == [0, 0, 20, 9]
    assert len(cohort.boxes[0]) == 3  # nothing is left of the two below


def first_folder(root):
    return root / "nuclei" / "stage1_train" / (NAMES[0] + "f" * 48)


def spoil_masks(root):
    for path in (first_folder(root) / "masks").iterdir():
        path.unlink()


def spoil_mask_size(root):
    save(first_folder(root) / "masks" / "x.png", np.full((255, 256), 255, np.uint8))


def spoil_mask_colour(root):
    save(first_folder(root) / "masks" / "x.png", np.zeros((256, 256, 3), np.uint8))


def spoil_image(root):
    (path,) = (first_folder(root) / "images").glob("[!.]*")
    path.write_bytes(path.read_bytes()[:2000])


def spoil_mask(root):
    (first_folder(root) / "masks" / "x.png").write_bytes(b"<html>")


def spoil_colour(root):
    (path,) = (first_folder(root) / "images").glob("[!.]*")
    save(path, np.stack([grey(1), grey(2), grey(3)], -1), "RGBA")


def spoil_edition(root):
    converted(root)


def spoil_all(root):
    for name in NAMES:
        (path,) = (root / "nuclei" / "stage1_train" / (name + "f" * 48) / "images").glob("[!.]*")
        path.unlink()


WRONG = {
    spoil_masks: "has no nuclei beside it. Unpack",
    spoil_mask_size: r"x.png must be grey, 256 × 256 as its image; got \(1, 255, 256\)",
    spoil_mask_colour: r"x.png must be grey.*got \(3, 256, 256\)",
    spoil_image: "png cannot be read as an image",
    spoil_mask: "x.png cannot be read as an image",
    spoil_colour: "is coloured or there twice",
    spoil_edition: "there twice: keep one edition",
    spoil_all: "holds no image of 256 × 256 pixels. Unpack",
}


@pytest.mark.parametrize("spoil", WRONG)
def test_nuclei_that_do_not_fit_are_named(tmp_path, spoil):
    spoil(published(tmp_path))
    with pytest.raises(DataError, match=WRONG[spoil]):
        medlab.load("nuclei", root=tmp_path)


# ------------------------------------------------------------------------------ lung nodules


def jpeg(seed: int, size=(50, 50)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey(seed, size)).save(file, "jpeg", quality=90)
    return file.getvalue()


ROWS = {  # row -> label; 450,003 is beyond the set
    7: 0, 90: 1, 800: 1, 1500: 0, 2000: 0, 2100: 1, 3000: 0, 3300: 1, 3301: 0, 4600: 1, 450_003: 1
}  # fmt: skip
BLOCKS = [
    0,
    0,
    0,
    1,
    1,
    1,
    1,
    1,
    1,
    2,
]  # by hand: cut between 800 and 2100, 3300 and 4600, and not before 3300


def zipped(root, rows=ROWS, table=None, patches=None):
    """A table beside an archive of patches."""
    home = root / "lung_nodules"
    home.mkdir(parents=True)
    with zipfile.ZipFile(home / "patches.zip", "w") as archive:
        for row in rows:
            archive.writestr(f"image_{row}.jpg", (patches or {}).get(row) or jpeg(row))
    lines = [f"image_{row}.jpg,{row},{label}" for row, label in rows.items()]
    (home / "labels.csv").write_text(table or "\n".join(["file,candidate_row,label", *lines]))
    return root


def loose(root, rows=ROWS):
    """Folders and lists of three parts, as the repository has them, turned pictures included."""
    home = root / "lung_nodules"
    for k, part in enumerate(("train", "val", "test")):
        (home / part).mkdir(parents=True)
        mine = [row for row in rows if row % 3 == k]
        for row in [*mine, 1_000_007]:
            (home / part / f"image_{row}.jpg").write_bytes(jpeg(row))
        lines = [f"{part}/image_{row}.jpg {rows[row]}" for row in reversed(mine)]
        (home / f"{part}datalabels.txt").write_text("\n".join(["", *lines, ""]))
    return root


def test_both_layouts_give_the_same_patches_in_the_order_of_rows(tmp_path):
    want = [row for row in sorted(ROWS) if row < 450_000]
    for cohort in (
        medlab.load("lung_nodules", root=zipped(tmp_path / "a"), download=False),
        medlab.load("lung_nodules", root=loose(tmp_path / "b")),
    ):
        assert cohort.extras["candidate_row"].tolist() == want
        assert cohort.labels.tolist() == [ROWS[row] for row in want]
        for image, row in zip(cohort.images[:, 0].numpy(), want, strict=True):
            assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(jpeg(row)))))
        assert cohort.classes == ("no nodule", "nodule")
        assert cohort.images.dtype == torch.uint8


def test_a_block_ends_where_there_is_no_nodule_for_long(tmp_path):
    cohort = medlab.load("lung_nodules", root=zipped(tmp_path))
    assert cohort.patients.tolist() == [f"block {k}" for k in BLOCKS]
    # The two nodules 1,260 rows apart are parted, those 1,239 apart would not be.
    near = {100: 1, 700: 0, 1339: 1}
    assert len(set(medlab.load("lung_nodules", root=zipped(tmp_path / "n", near)).patients)) == 1
    far = {100: 1, 700: 0, 730: 0, 1340: 1}
    parted = medlab.load("lung_nodules", root=zipped(tmp_path / "f", far)).patients.tolist()
    assert parted == ["block 0", "block 0", "block 1", "block 1"]


def test_a_patch_cut_off_at_the_edge_keeps_its_place(tmp_path):
    cut = {800: jpeg(800, (47, 50))}
    image = medlab.load("lung_nodules", root=zipped(tmp_path, patches=cut)).images[2, 0]
    assert not image[47:].any()
    assert np.array_equal(image[:47], np.asarray(Image.open(io.BytesIO(cut[800]))))


HEAD = "file,candidate_row,label\n"
TABLES = {
    HEAD + "image_7.jpg,7,2": "one label 0 or 1 a row; not so: image_7.jpg",
    HEAD + "image_7.jpg,7,": "one label 0 or 1 a row; not so: image_7.jpg",
    HEAD + "image_7.jpg,7,0\nimage_7.jpg,7,1": "one label 0 or 1 a row; not so: image_7.jpg",
    HEAD + "image_x.jpg,7,0": "must hold labels.csv and patches.zip, or",
    "file,candidate_row\nimage_7.jpg,7": "must hold labels.csv and patches.zip, or",
    HEAD + "image_8.jpg,8,0": "image_8.jpg must be grey, of 50 × 50 pixels at most",
    HEAD: "must hold labels.csv and patches.zip, or",
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_that_do_not_fit_are_named(tmp_path, table):
    with pytest.raises(DataError, match=TABLES[table]):
        medlab.load("lung_nodules", root=zipped(tmp_path, table=table))


@pytest.mark.parametrize(
    "patch", [jpeg(0, (51, 50)), jpeg(0, (50, 51)), jpeg(0, (50, 50, 3)), jpeg(0)[:700], b"<html>"]
)
def test_patches_that_do_not_fit_are_named(tmp_path, patch):
    with pytest.raises(DataError, match="image_800.jpg must be grey, of 50 × 50 pixels at most"):
        medlab.load("lung_nodules", root=zipped(tmp_path, patches={800: patch}))


def test_a_damaged_archive_is_named(tmp_path):
    path = zipped(tmp_path) / "lung_nodules" / "patches.zip"
    whole = path.read_bytes()
    at = whole.index(jpeg(2000)[-60:-40])
    path.write_bytes(whole[:at] + bytes(20) + whole[at + 20 :])
    with pytest.raises(DataError, match="image_2000.jpg must be grey"):
        medlab.load("lung_nodules", root=tmp_path)
    for data in (whole[:-100], b"<html>"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"must hold labels.csv and patches.zip, or .*zip"):
            medlab.load("lung_nodules", root=tmp_path)


# ------------------------------------------------------------------------------ hearts

RADIUS = np.array([[0, 0, 0, 0, 0, 0], [0, 5, 0, 0, 3, 0], [0, 6, 0, 0, 4, 0], [0, 0, 0, 0, 2, 0]])
# Of four slices and six frames: end-diastole is 1, end-systole 4; the last slice has only that.


def heart(root, name="SCD1", radius=RADIUS, **changes):
    """One patient with round cavities, in a file that holds more than is read."""
    y, x = np.indices((20, 24))
    endo = (y - 9) ** 2 + (x - 12) ** 2 < (radius**2)[..., None, None]
    fields = {
        "cine": np.random.default_rng(len(name)).integers(0, 900, (4, 6, 20, 24), np.uint16),
        "endo": endo.astype(np.uint8),
        "endo_known": (radius > 0).astype(np.uint8),
        "trigger_ms": 40.0 * np.arange(6) + np.arange(4)[:, None],
        "slice_loc": -8.0 * np.arange(4),
    } | changes
    (root / "cardiac_cine").mkdir(parents=True, exist_ok=True)
    stored = {key: value for key, value in fields.items() if value is not None}
    np.savez_compressed(root / "cardiac_cine" / f"{name}.npz", **stored)
    return fields


def test_hearts_come_slice_by_slice_with_their_end_systolic_frame(tmp_path):
    later = heart(tmp_path, "SCD22", np.roll(RADIUS, 1, axis=1))
    first = heart(tmp_path)
    cohort = medlab.load("cardiac_cine", root=tmp_path)
    assert cohort.images.shape == (8, 1, 6, 20, 24)
    assert cohort.images.dtype == torch.float32
    assert np.array_equal(cohort.images[:4, 0], first["cine"])
    assert np.array_equal(cohort.images[4:, 0], later["cine"])
    assert cohort.patients.tolist() == ["SCD1"] * 4 + ["SCD22"] * 4
    assert cohort.labels.tolist() == [4] * 4 + [5] * 4
    assert cohort.extras["end_diastole"].tolist() == [1] * 4 + [2] * 4
    assert np.array_equal(cohort.masks[:4], first["endo"])
    assert np.array_equal(cohort.extras["outlined"][:4], RADIUS > 0)
    assert np.allclose(cohort.extras["trigger_ms"][4:], later["trigger_ms"])
    assert cohort.card.task == "sequence"
    assert cohort[[5]].extras["trigger_ms"].shape == (1, 6)


UNFIT = {
    "endo": (None, "endo is not a file|endo"),
    "cine": (np.zeros((4, 6, 20, 23), np.uint16), "do not fit together|broadcast"),
    "trigger_ms": (np.zeros((4, 5)), "do not fit together"),
    "endo_known": (np.eye(4, 6), "outlined in two frames"),
}


@pytest.mark.parametrize("field", UNFIT)
def test_hearts_that_do_not_fit_are_named(tmp_path, field):
    value, words = UNFIT[field]
    heart(tmp_path, **{field: value})
    with pytest.raises(DataError, match=f"SCD1.npz must hold one patient as the card.*({words})"):
        medlab.load("cardiac_cine", root=tmp_path)


def test_hearts_of_other_shapes_and_damaged_ones_are_named(tmp_path):
    heart(tmp_path)
    fields = heart(tmp_path / "b", "SCD2")
    cut = {k: fields[k][..., :18] for k in ("cine", "endo")}
    heart(tmp_path, "SCD2", **cut)
    with pytest.raises(DataError, match=r"one shape \(T, H, W\); got"):
        medlab.load("cardiac_cine", root=tmp_path)
    path = tmp_path / "cardiac_cine" / "SCD2.npz"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match="SCD2.npz must hold one patient"):
        medlab.load("cardiac_cine", root=tmp_path)
    for path in (tmp_path / "cardiac_cine").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no .npz file. Put"):
        medlab.load("cardiac_cine", root=tmp_path)


# ------------------------------------------------------------------------------ radiographs

ENTRIES = [  # file, findings, patient
    ("00000002_000.png", "No Finding", "2"),
    ("00000001_001.png", "Cardiomegaly|Effusion", "1"),
    ("00000001_002.png", "Edema|Pneumonia", "1"),
    ("00000009_000.png", "No Finding", "9"),  # its picture is in an archive that nobody fetched
    ("00000004_000.png", "Pneumonia", "4"),
]


def chosen(root):
    """A choice of one's own: labels.csv and images.zip."""
    home = root / "chest_xray_nih"
    home.mkdir(parents=True)
    rows = [ENTRIES[0], (ENTRIES[2][0], "Pneumonia", "1"), ENTRIES[4]]
    lines = [
        f"{file},{patient},{said.replace(' Finding', '_findings')}" for file, said, patient in rows
    ]
    (home / "labels.csv").write_text("\n".join(["file,patient_id,label", *lines]))
    with zipfile.ZipFile(home / "images.zip", "w") as archive:
        for seed, (name, *_) in enumerate(rows):
            file = io.BytesIO()
            Image.fromarray(grey(seed, (64, 64))).save(file, "PNG")
            archive.writestr(name, file.getvalue())
    return root


def of_the_publisher(root):
    """The publisher's table and some of the pictures, one of them RGBA as a few of his are."""
    home = root / "chest_xray_nih"
    lines = [
        f"{file},{said},0,{patient},58,M,PA,2682,2749,0.143,0.143"
        for file, said, patient in ENTRIES
    ]
    head = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    )
    seeds = {ENTRIES[0][0]: 0, ENTRIES[2][0]: 1, ENTRIES[4][0]: 2, ENTRIES[1][0]: 3}
    for name, seed in seeds.items():
        save(home / "images" / name, grey(seed, (64, 64)), "RGBA" if seed == 1 else None)
    tail = ",OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    (home / "Data_Entry_2017_v2020.csv").write_text("\n".join([head + tail, *lines]))
    return root


@pytest.mark.parametrize("laid_out", [chosen, of_the_publisher])
def test_radiographs_are_healthy_or_ill_and_nothing_else(tmp_path, laid_out):
    cohort = medlab.load("chest_xray_nih", root=laid_out(tmp_path), size=64)
    assert cohort.labels.tolist() == [0, 1, 1]
    assert cohort.patients.tolist() == ["2", "1", "4"]
    assert cohort.files.tolist() == [ENTRIES[k][0] for k in (0, 2, 4)]
    for seed, image in enumerate(cohort.images[:, 0]):
        assert torch.equal(image, torch.from_numpy(grey(seed, (64, 64))))
    assert medlab.load("chest_xray_nih", root=tmp_path).images.shape == (3, 1, 128, 128)
    smaller = medlab.load("chest_xray_nih", root=tmp_path, size=16).images.float()
    means = cohort.images.float().unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    assert np.corrcoef(smaller.flatten(), means.flatten())[0, 1] > 0.8  # scaled, and not cut


def test_radiographs_that_do_not_fit_their_table(tmp_path):
    home = chosen(tmp_path) / "chest_xray_nih"
    table = home / "labels.csv"
    right = table.read_text()
    with pytest.raises(DataError, match="16 to 1024; got 8"):
        medlab.load("chest_xray_nih", root=tmp_path, size=8)
    table.write_text(right + "\n00000007_000.png,7,Infiltration")
    with pytest.raises(DataError, match="as pneumonia or no finding; not so: 00000007_000.png"):
        medlab.load("chest_xray_nih", root=tmp_path)
    table.write_text(right + "\n00000002_000.png,2,Pneumonia")
    with pytest.raises(DataError, match="each picture once.*00000002_000.png"):
        medlab.load("chest_xray_nih", root=tmp_path)
    table.write_text(right + "\n00000008_000.png,8,Pneumonia")
    with pytest.raises(DataError, match="00000008_000.png must be a grey picture"):
        medlab.load("chest_xray_nih", root=tmp_path)
    table.write_text(right.replace("patient_id", "who"))
    with pytest.raises(DataError, match="must hold a table and pictures.*patient_id"):
        medlab.load("chest_xray_nih", root=tmp_path)
    table.write_text(right.splitlines()[0])
    with pytest.raises(DataError, match="no picture of the table is there"):
        medlab.load("chest_xray_nih", root=tmp_path)
    table.unlink()
    with pytest.raises(DataError, match="must hold a table and pictures. Get Data_Entry_2017"):
        medlab.load("chest_xray_nih", root=tmp_path)


def test_a_coloured_radiograph_is_refused(tmp_path):
    home = of_the_publisher(tmp_path) / "chest_xray_nih"
    colours = np.stack([grey(k, (64, 64)) for k in range(3)], -1)
    save(home / "images" / ENTRIES[0][0], colours)
    with pytest.raises(DataError, match="00000002_000.png must be a grey picture: it is coloured"):
        medlab.load("chest_xray_nih", root=tmp_path)


# ------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", ["nuclei", "lung_nodules", "cardiac_cine", "chest_xray_nih"])
def test_without_its_folder_a_set_says_how_to_get_it(tmp_path, name):
    card = medlab.datasets.card(name)
    with pytest.raises(DataError) as told:
        medlab.load(name, root=tmp_path)
    assert str(told.value) == f"{name} is not at {tmp_path / name}. {card.obtain}"
    assert f"folder {name} of your data folder" in card.obtain
    assert card.url in card.obtain
    assert card.obtain.split()[0] in str(card)
    (tmp_path / name).mkdir()
    with pytest.raises(TypeError, match="unexpected keyword argument 'n'"):
        medlab.load(name, root=tmp_path, n=32)


def test_a_card_prints_what_was_measured_only_where_something_was():
    plain = DataCard(name="x", title="X", task="binary", source="Somebody")
    assert "measured" not in str(plain)
    assert "to get it" not in str(plain)
    rows = ("AUC 0.9", "Dice 0.8")
    told = str(DataCard(name="x", title="X", task="binary", obtain="Ask.", measured=rows))
    assert [line[:15].strip() for line in told.splitlines()[2:]] == ["to get it", *2 * ["measured"]]
    for card in map(medlab.datasets.card, medlab.datasets.cards()["name"]):
        assert isinstance(card.measured, tuple)
        assert not (card.simulated and card.measured)
        for row in card.measured:
            assert "python benchmarks/" in row, "by which command?"
            assert row.rstrip(".)")[-10:-6] >= "2026", "when?"
            named = row.partition("python benchmarks/")[2].split()[0]
            assert (ROOT / "benchmarks" / named).is_file()


# ------------------------------------------------------------------------------ the real sets


def test_the_real_nuclei(real_data):
    cohort = medlab.load("nuclei", root=real_data, download=False)
    assert cohort.images.shape == (334, 1, 256, 256)
    counts = np.array(list(map(len, cohort.boxes)))
    assert (counts.sum(), counts.min(), counts.max(), np.median(counts)) == (9543, 1, 101, 22)
    at_border = sum(((b[:, :2] == 0) | (b[:, 2:] == 256)).any(1).sum().item() for b in cohort.boxes)
    assert at_border > 1000
    # Fields of view, found once more: the edge of one image continues in that of another.
    images = cohort.images[:, 0].numpy().astype(float)
    ground = np.array([np.bincount(x.ravel().astype(int), minlength=256).argmax() for x in images])
    joined = np.zeros((334, 334), bool)
    for last, first in ((images[:, :, -1], images[:, :, 0]), (images[:, -1], images[:, 0])):
        alike = np.corrcoef(last, first)[:334, 334:]
        alike[np.abs(ground[:, None] - ground) > 1] = -1
        np.fill_diagonal(alike, -1)
        best = (alike == alike.max(1, keepdims=True)) & (alike == alike.max(0)) & (alike > 0.85)
        joined |= best
    number, field = connected_components(joined, directed=False)
    assert number == len(set(cohort.patients)) == 120
    assert len(set(zip(field, cohort.patients, strict=True))) == number
    stored = json.loads((ROOT / "medlab" / "datasets" / "nuclei.json").read_text())["fields"]
    assert sum(map(len, stored)) == 287
    assert len(stored) == 73
    parts = cohort.split()
    assert not set(parts[0].patients) & set(parts[2].patients)


def test_the_real_lung_nodules(real_data):
    cohort = medlab.load("lung_nodules", root=real_data, download=False)
    assert cohort.images.shape == (6615, 1, 50, 50)
    assert cohort.labels.sum() == 1115
    rows = cohort.extras["candidate_row"]
    assert (rows.diff() > 0).all()
    assert (cohort.images[:, 0, 47:].flatten(1) == 0).all(1).sum() == 1
    assert len(set(cohort.patients)) == 93
    blocks = [int(name.split()[1]) for name in cohort.patients]
    assert (np.diff(blocks) >= 0).all()
    ends = np.nonzero(np.diff(blocks))[0]
    nodules = rows[cohort.labels == 1]
    for end in ends:  # around every cut there is no nodule for 1,240 rows
        between = (rows[end].item() + rows[end + 1].item()) / 2
        gap = nodules[nodules > between].min() - nodules[nodules < between].max()
        assert gap >= 1240
    assert len({image.tobytes() for image in cohort.images.numpy()}) == 6615  # none stands twice


def test_the_real_radiographs(real_data):
    cohort = medlab.load("chest_xray_nih", root=real_data)
    assert cohort.images.shape == (743, 1, 128, 128)
    assert cohort.labels.bincount().tolist() == [400, 343]
    assert len(set(cohort.patients)) == 591
    ill, well = (set(cohort.patients[cohort.labels.numpy() == k]) for k in (1, 0))
    assert len(ill & well) == 21  # some patients stand in both classes
    parts = cohort.split()
    assert not set(parts[0].patients) & set(parts[2].patients)


def test_the_real_hearts(real_data):
    cohort = medlab.load("cardiac_cine", root=real_data, download=False)
    assert cohort.images.shape == (35, 1, 20, 96, 96)
    _, counts = np.unique(cohort.patients, return_counts=True)
    assert counts.tolist() == [12, 13, 10]
    assert cohort.labels.tolist() == [7] * 12 + [6] * 23
    assert cohort.extras["end_diastole"].tolist() == [18] * 12 + [19] * 23
    outlined = cohort.extras["outlined"]
    assert (outlined.sum(1) > 0).sum() == 28  # the card: 7 of 35 have none
    area = (cohort.masks == 1).sum((2, 3))
    for i in outlined.any(1).nonzero()[:, 0].tolist():
        assert outlined[i].nonzero()[:, 0].tolist() == [
            cohort.labels[i], cohort.extras["end_diastole"][i]
        ]  # fmt: skip
        assert area[i, cohort.labels[i]] < area[i, cohort.extras["end_diastole"][i]]
    assert (area[~outlined] == 0).all()
    times = cohort.extras["trigger_ms"]
    steps = times.diff(dim=1)
    assert (steps - steps.median(1, keepdim=True).values).abs().max() < 1.01  # even, to rounding
    assert 10 <= times[:, 0].min() <= times[:, 0].max() <= 20
    lasting = steps[cohort.patients == "SCD0000101"].mean(1)
    assert (float(lasting.min()), float(lasting.max())) == pytest.approx((36.6, 40.0), abs=0.1)
