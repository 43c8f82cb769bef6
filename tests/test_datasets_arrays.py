"""Boxes from tables and Pascal VOC files, and arrays from memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from medlab import from_arrays, from_folder
from medlab.datasets._tables import _voc
from medlab.errors import DataError

RNG = np.random.default_rng(0)
HEAD = '<?xml version="1.0"?>'


@pytest.fixture
def smears(tmp_path):
    """Three pictures, 20 high and 30 wide, with a bright rectangle at each known box."""
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    rows = []
    for i, boxes in enumerate(
        [[(2, 3, 10, 9, "RBC"), (20, 1, 28, 7, "WBC")], [], [(0, 0, 30, 20, "RBC")]]
    ):
        pixels = np.zeros((20, 30), np.uint8)
        pixels[0, 0] = i  # no two alike
        for x0, y0, x1, y1, kind in boxes:
            pixels[y0:y1, x0:x1] = 200
            box = {"x0": x0, "y0": y0, "x1": x1, "y1": y1}
            rows.append({"file": f"smear_{i}.png", **box, "label": kind})
        Image.fromarray(pixels).save(folder / f"smear_{i}.png")
    return folder, rows


def voc(boxes, kind="object") -> str:
    """VOC counts from 1 and includes the last pixel."""
    items = "".join(
        f"<{kind}><name>{label}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></{kind}>"
        for x0, y0, x1, y1, label in boxes
    )
    return f"{HEAD}<annotation><size><width>30</width></size>{items}</annotation>"


def annotate(folder, rows):
    folder.mkdir(exist_ok=True)
    for i in range(3):
        boxes = [
            (r["x0"], r["y0"], r["x1"], r["y1"], r["label"])
            for r in rows
            if r["file"] == f"smear_{i}.png"
        ]
        (folder / f"smear_{i}.xml").write_text(voc(boxes))
    return folder


def check(cohort, scale=1.0):
    """The boxes hold the bright pixels, all of them and no others."""
    assert cohort.card.task == "detection"
    assert cohort.classes == ("RBC", "WBC")
    assert [len(boxes) for boxes in cohort.boxes] == [2, 0, 1]
    assert [kinds.tolist() for kinds in cohort.extras["box_labels"]] == [[0, 1], [], [0]]
    assert all(boxes.dtype == torch.float32 for boxes in cohort.boxes)
    for image, boxes in zip(cohort.images[:, 0], cohort.boxes, strict=True):
        inside = torch.zeros_like(image, dtype=torch.bool)
        for x0, y0, x1, y1 in boxes.round().int().tolist():
            inside[y0:y1, x0:x1] = True
        assert (image[inside] > 90).all()
        assert (image[~inside] < 110).all()


def test_a_table_of_boxes(smears, tmp_path):
    folder, rows = smears
    named = [
        {
            {"x0": "xmin", "y0": "ymin", "x1": "xmax", "y1": "ymax", "label": "class"}.get(k, k): v
            for k, v in row.items()
        }
        for row in rows
    ]
    empty = dict.fromkeys(rows[0], "") | {"file": "smear_1.png"}
    pandas.DataFrame(rows).to_csv(tmp_path / "boxes.csv", index=False)
    for table in (
        rows,
        named,
        pandas.DataFrame(rows),
        pandas.DataFrame(rows).set_index("file"),
        [*rows, empty],
        tmp_path / "boxes.csv",
        [row | {"file": f"JPEGImages/{row['file'][:-4]}"} for row in rows],
    ):
        check(from_folder(folder, labels=None, boxes=table, patient="file"))


def test_boxes_move_with_the_picture(smears):
    folder, rows = smears
    for size in ((40, 60), (60, 60), (40, 90)):
        cohort = from_folder(folder, labels=None, boxes=rows, patient="file", size=size)
        check(cohort)
    square = from_folder(folder, labels=None, boxes=rows, patient="file", size=30)
    assert square.boxes[2].tolist() == [[0.0, 5.0, 30.0, 25.0]]  # 5 rows of margin above


def test_voc_files_among_the_images_and_beside_them(smears, tmp_path):
    folder, rows = smears
    beside = annotate(tmp_path / "Annotations", rows)
    check(from_folder(folder, labels=None, boxes=beside, patient="file"))
    annotate(folder, rows)
    check(from_folder(folder, labels=None, boxes=str(folder), patient="file"))
    (beside / "smear_1.xml").unlink()
    with pytest.raises(DataError, match=r"1 images have no XML file in .*smear_1\.png"):
        from_folder(folder, labels=None, boxes=beside, patient="file")


def test_boxes_beside_labels_and_in_parts(smears):
    folder, rows = smears
    labels = {f"smear_{i}.png": kind for i, kind in enumerate(["ill", "well", "ill"])}
    cohort = from_folder(folder, labels=labels, boxes=rows, patient="file")
    assert cohort.card.task == "binary"
    assert cohort.classes == ("ill", "well")
    assert "Boxes have their own classes: RBC, WBC." in cohort.card.faults
    part = cohort[[2, 0]]
    assert [len(boxes) for boxes in part.boxes] == [1, 2]
    assert part.extras["box_labels"][1].tolist() == [0, 1]
    plain = [{k: v for k, v in row.items() if k != "label"} for row in rows]
    found = from_folder(folder, labels=None, boxes=plain, patient="file")
    assert found.classes == ("finding",)
    named = from_folder(folder, labels=None, boxes=rows, patient="file", classes=["WBC", "RBC"])
    assert named.extras["box_labels"][0].tolist() == [1, 0]
    nothing = rows[:1] and [dict.fromkeys(rows[0], "") | {"file": "smear_1.png"}]
    assert sum(map(len, from_folder(folder, labels=None, boxes=nothing, patient="file").boxes)) == 0


BAD = {
    "no area": ({"x1": 2}, r"1 boxes have no area or .*smear_0\.png \(2\.0, 3\.0, 2\.0, 9\.0\)"),
    "turned round": ({"x0": 10, "x1": 2}, "no area"),
    "outside": ({"x1": 45}, "outside their picture"),
    "negative": ({"y0": -7}, "outside their picture"),
    "no number": ({"y0": "three"}, "coordinate that is no number"),
    "half a row": ({"y0": ""}, "coordinate that is no number"),
    "not a number": ({"y0": "nan"}, "no area"),
    "no image": ({"file": "gone.png"}, r"1 rows of .* no image of .*: gone\.png"),
}


@pytest.mark.parametrize("case", BAD)
def test_boxes_that_do_not_fit(smears, case):
    folder, rows = smears
    cells, message = BAD[case]
    with pytest.raises(DataError, match=message):
        from_folder(folder, labels=None, boxes=[rows[0] | cells, *rows[1:]], patient="file")


def test_tables_without_corners_and_classes_unheard_of(smears):
    folder, rows = smears
    with pytest.raises(DataError, match="one column 'x0'; it has file, label"):
        from_folder(
            folder, labels=None, boxes=[{"file": "smear_0.png", "label": "RBC"}], patient="file"
        )
    with pytest.raises(DataError, match=r"not among the classes RBC: 'WBC'"):
        from_folder(folder, labels=None, boxes=rows, patient="file", classes=["RBC"])


# XML


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))
GROWS = f"<!DOCTYPE a [{LAUGHS}]><annotation><object><name>&l9;</name></object></annotation>"
STRANGER = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


def found_in(folder: Path, data: bytes) -> list[tuple]:
    (folder / "xml").mkdir(exist_ok=True)
    (folder / "xml" / "a.xml").write_bytes(data)
    rows = _voc(folder / "xml", ["a.png"])
    return [(*corners, label) for _, *corners, label in rows.itertuples(index=False)]


@pytest.mark.parametrize(
    "data",
    [
        GROWS.encode(),  # entities of entities: expat stops them
        STRANGER.encode(),
        b"",
        b"\x00\x01",
        b"<annotation>",
        f"{HEAD}<a>&unknown;</a>".encode(),
        voc([(1, 2, 3, 4, "x")]).replace("<xmax>3</xmax>", "").encode(),
        voc([(1, 2, 3, 4, "x")]).replace("<xmax>3</xmax>", "<xmax>wide</xmax>").encode(),
        b'<?xml version="1.0" encoding="klingon"?><a/>',
        b"<a>" * 200_000,
    ],
)
def test_xml_that_cannot_be_read_is_named(tmp_path, data):
    with pytest.raises(DataError, match=r"a\.xml is no VOC annotation"):
        found_in(tmp_path, data)


def test_files_of_one_name_are_not_guessed(smears, tmp_path):
    folder, rows = smears
    (folder / "more").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "more" / "smear_0.png")
    beside = annotate(tmp_path / "Annotations", rows)
    with pytest.raises(DataError, match="two have one name"):
        from_folder(folder, labels=None, boxes=beside, patient="file")


def test_voc_as_it_is_found(tmp_path):
    def objects(data):
        return found_in(tmp_path, data)

    text = voc([(1, 2, 3, 4, " RBC ")])
    assert objects(text.encode()) == [(1, 2, 3, 4, "RBC")]
    assert objects(text.replace(HEAD, "").encode("utf-8-sig")) == [(1, 2, 3, 4, "RBC")]
    assert objects(voc([]).encode()) == []
    assert objects(text.replace("<xmax>3<", "<xmax>3.0<").encode()) == [(1, 2, 3, 4, "RBC")]


# Arrays


def test_arrays_of_an_npz_file_become_a_cohort(tmp_path):
    images = RNG.integers(0, 256, (6, 8, 9), dtype=np.uint8)
    labels = np.array([[0], [1], [0], [1], [1], [0]])
    np.savez(tmp_path / "cells.npz", x=images, y=labels, who=np.arange(6) // 2)
    with np.load(tmp_path / "cells.npz") as npz:
        cohort = from_arrays(npz["x"], labels=npz["y"], patient=npz["who"], classes=["fit", "ill"])
    assert np.array_equal(cohort.images[:, 0].numpy(), images)
    assert cohort.labels.tolist() == labels[:, 0].tolist()
    assert cohort.patients.tolist() == ["0", "0", "1", "1", "2", "2"]
    assert cohort.classes == ("fit", "ill")
    assert cohort.card.task == "binary"
    assert cohort.card.value_range == (0, 255)
    assert len(cohort.split()) == 3


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((4, 8, 9), (4, 1, 8, 9)),
        ((4, 8, 9, 3), (4, 3, 8, 9)),
        ((4, 8, 9, 1), (4, 1, 8, 9)),
        ((4, 3, 8, 9), (4, 3, 8, 9)),
        ((4, 1, 5, 8, 9), (4, 1, 5, 8, 9)),
        ((4, 5, 8, 9, 1), (4, 1, 5, 8, 9)),
        ((4, 5, 8, 9), None),
        ((4, 3, 8, 3), None),
        ((4, 8), None),
        ((4, 2, 2, 2, 2, 2), None),
    ],
)
def test_shapes(shape, want):
    images = RNG.random(shape).astype(np.float32)
    if want is None:
        with pytest.raises(DataError, match="one axis C of 1 or 3 colours"):
            from_arrays(images, labels=None, patient=range(4))
        return
    cohort = from_arrays(images, labels=None, patient=range(4))
    assert cohort.images.shape == want
    moved = images.reshape(want) if want[1] == 1 or shape == want else np.moveaxis(images, -1, 1)
    assert np.array_equal(cohort.images.numpy(), moved)


def test_types_of_grey_level():
    levels = RNG.integers(0, 4000, (3, 4, 4))
    for given, want in (
        (levels.astype(np.uint16), torch.float32),
        (levels * 10, torch.float32),
        (levels / 4000, torch.float32),
        (torch.from_numpy(levels), torch.float32),
    ):
        cohort = from_arrays(given, labels=None, patient="abc")
        assert cohort.images.dtype == want
        assert np.allclose(cohort.images[:, 0].numpy(), np.asarray(given))
    odd = (1 << 30) + 1
    for bad in (np.full((3, 4, 4), np.nan), np.full((3, 4, 4), "x"), np.full((3, 4, 4), odd)):
        with pytest.raises(DataError, match="grey levels"):
            from_arrays(bad, labels=None, patient="abc")


def test_labels_of_every_form():
    images, who = (
        np.zeros((4, 5, 5), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None],
        "abcd",
    )

    def read(labels, **options):
        return from_arrays(images, labels=labels, patient=who, **options)

    assert read(["ill", "fit", "ill", "fit"]).labels.tolist() == [1, 0, 1, 0]
    assert read(np.array([2.0, 0.0, 1.0, 2.0])).classes == ("0", "1", "2")
    assert read([0, 0, 1, 1], classes=("a", "b", "c")).num_classes == 3  # one has no image
    assert read([True, False, True, True], classes=("no", "yes")).labels.tolist() == [1, 0, 1, 1]
    assert read([5, 7, 5, 7], classes={5: "five", 7: "seven"}).classes == ("five", "seven")
    many = read([[0, 1], [1, 1], [0, 0], [1, 0]], classes=("mass", "cyst"))
    assert many.card.task == "multilabel"
    assert many.labels.dtype == torch.float32
    with pytest.warns(UserWarning, match="Patients are unknown"):
        from_arrays(images, labels=[0, 1, 0, 1], patient=None)
    for labels, message in (
        ([0, 1, 2, 3], "not among the classes"),
        ([0, 1, 0], "labels has 3 entries for 4 images"),
        ([0, None, 1, 0], "1 images have no label"),
        ([0, 0, 0, 0], "needs two classes|b"),
        (np.zeros((4, 1, 1)), r"must be \(N,\)"),
        (5, r"must be \(N,\)"),
    ):
        if message == "needs two classes|b":
            assert read(labels, classes=("a", "b")).labels.tolist() == labels
            continue
        with pytest.raises(DataError, match=message):
            read(labels, classes=("a", "b"))
    with pytest.raises(DataError, match="1 of 4 entries of patients are missing"):
        from_arrays(images, labels=None, patient=["a", "b", None, "c"])
    masks = np.zeros((4, 5, 5), np.uint8)
    cut = from_arrays(images, labels=None, patient=who, masks=masks, classes=("none", "mass"))
    assert cut.card.task == "segmentation"
    assert cut.num_classes == 2
