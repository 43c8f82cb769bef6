"""Your own images: every way a folder and a table can go wrong, and what comes out when not."""

from __future__ import annotations

import csv
import io
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from medlab import from_folder
from medlab.datasets import _pictures
from medlab.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch):
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")


def grey(height=12, width=10, top=256, dtype=np.uint8):
    return RNG.integers(0, top, (height, width), dtype=dtype)


def encoded(pixels, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def decode(data: bytes, name: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return _pictures.decode(path)


def table(path: Path, rows: list[dict], *, delimiter=",", encoding="utf-8") -> Path:
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def lungs(tmp_path):
    """Six grey PNGs of three patients, and their table."""
    folder = tmp_path / "images"
    folder.mkdir()
    rows, pixels = [], []
    for i in range(6):
        pixels.append(grey())
        (folder / f"im{i}.png").write_bytes(encoded(pixels[-1]))
        rows.append(
            {
                "file": f"im{i}.png",
                "patient": f"00{i // 2}",
                "label": ["sick", "fit"][i // 3],
                "ward": "W",
            }
        )
    return folder, rows, np.stack(pixels)


# What comes out


def test_the_plain_case(lungs, tmp_path):
    folder, rows, pixels = lungs
    order = [4, 0, 5, 2, 1, 3]
    path = table(tmp_path / "t.csv", [rows[i] for i in order])
    cohort = from_folder(folder, labels=path, patient="patient", site="ward")
    assert cohort.images.dtype == torch.uint8
    assert np.array_equal(cohort.images[:, 0].numpy(), pixels[order])  # order of the table
    assert cohort.classes == ("fit", "sick")  # sorted
    assert cohort.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert cohort.patients.tolist() == ["002", "000", "002", "001", "000", "001"]  # zeros kept
    assert cohort.files.tolist() == [f"im{i}.png" for i in order]
    assert set(cohort.sites) == {"W"}
    assert cohort.card.task == "binary"
    assert len(cohort.split()) == 3
    assert cohort.card.faults == ()


def test_all_forms_of_a_table_agree(lungs, tmp_path):
    folder, rows, _ = lungs
    short = {row["file"]: row["label"] for row in rows}
    stems = [row | {"file": row["file"][:-4]} for row in rows]
    forms = [
        table(tmp_path / "a.csv", rows),
        str(table(tmp_path / "b.csv", rows, delimiter=";", encoding="utf-8-sig")),
        table(tmp_path / "c.csv", rows, delimiter="\t"),
        rows,
        stems,
        [row | {"file": f".\\{row['file']}"} for row in rows],
    ]
    forms.append(pandas.DataFrame(rows))
    first = from_folder(folder, labels=forms[0], patient="patient")
    for form in forms[1:]:
        other = from_folder(folder, labels=form, patient="patient")
        assert torch.equal(first.images, other.images)
        assert torch.equal(first.labels, other.labels)
        assert first.patients.tolist() == other.patients.tolist()
    by_name = from_folder(folder, labels=short, patient=lambda row: row["file"][2])
    assert torch.equal(first.labels, by_name.labels)


def test_pandas_gaps_do_not_change_numbers(lungs):
    folder, rows, _ = lungs
    frame = pandas.DataFrame(rows)
    frame["patient"] = [1.0, 1.0, 2.0, 2.0, float("nan"), 3.0]
    with pytest.raises(DataError, match="1 of 6 entries of patients are missing .*at image 4"):
        from_folder(folder, labels=frame, patient="patient")
    cohort = from_folder(folder, labels=frame, patient=lambda row: row["patient"] or row["file"])
    assert cohort.patients.tolist() == ["1", "1", "2", "2", "im4.png", "3"]


def test_a_folder_for_each_class(lungs, tmp_path):
    folder, rows, _ = lungs
    for row in rows:
        part = "train" if row["patient"] == "000" else "test" if row["patient"] == "001" else "val"
        home = tmp_path / "tree" / part / row["label"]
        home.mkdir(parents=True, exist_ok=True)
        (home / row["file"]).write_bytes((folder / row["file"]).read_bytes())
    cohort = from_folder(
        tmp_path / "tree",
        labels="folder",
        patient=lambda row: row["file"].split("/")[-1][2],
    )
    assert cohort.classes == ("fit", "sick")
    with pytest.raises(DataError, match="6 images have no label"):
        from_folder(folder, labels="folder", patient=None)


def test_classes_ordered_mapped_merged_and_ordinal(lungs):
    folder, rows, _ = lungs
    read = lambda **o: from_folder(folder, labels=rows, patient="patient", **o)  # noqa: E731
    assert read(classes=["sick", "fit"]).labels.tolist() == [0, 0, 0, 1, 1, 1]
    merged = read(classes={"fit": "well", "sick": "pneumonia", "ill": "pneumonia"})
    assert merged.classes == ("well", "pneumonia")
    assert merged.labels.tolist() == [1, 1, 1, 0, 0, 0]
    numbers = [row | {"label": str(i + 8)} for i, row in enumerate(rows)]
    counted = from_folder(folder, labels=numbers, patient="patient")
    assert counted.classes == ("8", "9", "10", "11", "12", "13")  # by value, not by text
    assert counted.card.task == "multiclass"
    assert read(classes=["fit", "so-so", "sick"]).labels.max() == 2  # one class has no image
    none = from_folder(folder, labels=None, patient=lambda row: row["file"])
    assert none.labels is None
    assert none.card.task == "none"


def test_several_columns_make_a_multilabel_task(lungs):
    folder, rows, _ = lungs
    rows = [row | {"mass": i % 2, "oedema": int(i > 3)} for i, row in enumerate(rows)]
    cohort = from_folder(folder, labels=rows, label=["mass", "oedema"], patient="patient")
    assert cohort.card.task == "multilabel"
    assert cohort.classes == ("mass", "oedema")
    assert cohort.labels.dtype == torch.float32
    assert cohort.labels.tolist() == [[i % 2, float(i > 3)] for i in range(6)]
    rows[2]["mass"] = 7
    with pytest.raises(DataError, match="must be 0 or 1 each.*; found .*'7'"):
        from_folder(folder, labels=rows, label=["mass", "oedema"], patient="patient")


# Tables that do not fit


def change(rows, i, **cells):
    return [row | cells if k == i else row for k, row in enumerate(rows)]


TABLES = {
    "file missing": (
        lambda r: [*r, r[0] | {"file": "gone.png"}],
        r"1 rows of the table fit no image of .*images, or several: gone\.png",
    ),
    "label empty": (
        lambda r: change(r, 1, label=" "),
        "1 images have no label",
    ),
    "label None": (lambda r: change(r, 1, label=None), "1 images have no label"),
    "twice": (
        lambda r: [*r, r[0] | {"label": "fit"}],
        r"several rows, which differ: im0\.png",
    ),
    "no name": (lambda r: change(r, 0, file=""), "row without a name in column 'file'"),
    "one class": (
        lambda r: [row | {"label": "fit"} for row in r],
        "all images have the label",
    ),
    "no label column": (
        lambda r: [{"file": row["file"], "patient": "1"} for row in r],
        "one column 'label'; it has file, patient",
    ),
    "no file column": (lambda r: [{"name": "x", "label": "fit"}], "one column 'file'; it has name"),
    "no rows": (lambda r: [], "one column 'file'; it has $"),
    "no table": (lambda r: 5, "labels must be a CSV file, .*a DataFrame, or 'folder'"),
    "no csv": (lambda r: "nowhere.csv", "nowhere.csv cannot be read as a table"),
    "patient empty": (
        lambda r: change(r, 5, patient=""),
        "1 of 6 entries of patients are missing .*at image 5",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_do_not_fit(lungs, case):
    folder, rows, _ = lungs
    spoil, message = TABLES[case]
    with pytest.raises(DataError, match=message):
        from_folder(folder, labels=spoil(rows), patient="patient")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"file,label\nim0.png,a,b\n", "cannot be read as a table.*line 2"),
        (b"file,label,label\nim0.png,a,b\n", "one column 'label'; it has file, label, label"),
        (b"file,label\nim0.png,M\xfcnchen\n", "save it as 'CSV UTF-8'"),
        (b'file,label\nim0.png,"open\n', "cannot be read as a table"),
        (b"file,label\n", "has no rows"),
    ],
)
def test_csv_files_that_cannot_be_read(lungs, tmp_path, text, message):
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        from_folder(lungs[0], labels=tmp_path / "t.csv", patient=None)


def test_unknown_labels_are_counted(lungs):
    folder, rows, _ = lungs
    rows = change(rows, 0, label="unclear")
    with pytest.raises(DataError, match=r"not among the classes fit, sick: 'unclear' \(1 images\)"):
        from_folder(folder, labels=rows, patient="patient", classes=["fit", "sick"])


def test_many_names_are_cut_short(lungs):
    folder, rows, _ = lungs
    more = [rows[0] | {"file": f"gone{i}.png"} for i in range(9)]
    with pytest.raises(DataError, match=r"^9 rows .*: gone0\.png.*gone4\.png and 4 more\. Correct"):
        from_folder(folder, labels=[*rows, *more], patient="patient")


def test_same_name_in_two_folders_needs_the_path(lungs, tmp_path):
    pixels = lungs[2]
    for home, image in (("a", 0), ("b", 1)):
        (tmp_path / "two" / home).mkdir(parents=True)
        (tmp_path / "two" / home / "im.png").write_bytes(encoded(pixels[image]))
    with pytest.raises(DataError, match=r"or several: im\.png"):
        from_folder(tmp_path / "two", labels={"im.png": "x"}, patient=None)
    with pytest.warns(UserWarning, match="Patients are unknown"):
        cohort = from_folder(
            tmp_path / "two", labels={"b/im.png": "x", "a/im.png": "y"}, patient=None
        )
    assert np.array_equal(cohort.images[:, 0].numpy(), pixels[[1, 0]])


def test_names_from_further_up_without_ending_and_in_the_index(lungs, tmp_path):
    folder, rows, _ = lungs
    want = from_folder(folder, labels=rows, patient="patient")

    def read(change, **options):
        return from_folder(
            folder, labels=[row | {"file": change(row["file"])} for row in rows], patient="patient"
        )

    for change in (
        lambda name: f"images/{name}",
        lambda name: f"./images/{name}",
        lambda name: f"{tmp_path.name}/images/{name[:-4]}",
        lambda name: f"images\\{name}",
        lambda name: str(folder / name),
    ):
        assert torch.equal(read(change).images, want.images)
    with pytest.raises(DataError, match=r"fit no image of .*: pictures/im0\.png"):
        read(lambda name: f"pictures/{name}")  # another folder's image of the same name
    frame = pandas.DataFrame(rows).set_index("file")
    for index in (frame, frame.rename_axis(None), frame.rename_axis("name")):
        found = from_folder(folder, labels=index, patient="patient")
        assert found.labels.tolist() == want.labels.tolist()
    series = from_folder(folder, labels=frame["label"], patient=lambda row: row["file"][2])
    assert series.labels.tolist() == want.labels.tolist()


def test_letters_that_are_written_in_two_ways(tmp_path):
    """ "ü" is one sign on Windows and two on macOS; they print alike."""
    one, two = (normalize(form, "rücken") for form in ("NFC", "NFD"))
    assert one != two
    for home, name in ((one, "a"), (two, "b"), ("brust", one)):
        (tmp_path / "in" / home).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / home / f"{name}.png").write_bytes(encoded(grey()))
    by_folder = from_folder(tmp_path / "in", labels="folder", patient="file")
    assert by_folder.classes == ("brust", one)
    assert by_folder.labels.tolist() == [0, 1, 1]
    table = {"a": one, "b": two, f"{two}.png": "brust"}
    assert from_folder(tmp_path / "in", labels=table, patient="file").labels.tolist() == [1, 1, 0]
    people = zip(table.items(), (one, two, "x"), strict=True)
    rows = [{"file": name, "label": kind, "patient": who} for (name, kind), who in people]
    assert len(set(from_folder(tmp_path / "in", labels=rows, patient="patient").patients)) == 2
    (tmp_path / "in" / one / "b.png").write_bytes(encoded(grey()))
    with pytest.raises(DataError, match="two files called"):
        from_folder(tmp_path / "in", labels="folder", patient="file")


def test_images_that_no_row_names_are_told(lungs):
    folder, rows, _ = lungs
    with pytest.warns(UserWarning, match=r"2 images that no row names: im0\.png, im1") as caught:
        cohort = from_folder(folder, labels=rows[2:] + rows[-1:], patient="patient")
    assert caught[0].filename == __file__
    assert cohort.files.tolist() == [f"im{i}.png" for i in range(2, 6)]  # a row said twice is one
    assert "2 images that no row names" in cohort.card.faults[0]


# Patients


def test_patients_must_be_spoken_of(lungs):
    folder, rows, _ = lungs
    with pytest.raises(TypeError, match="patient"):
        from_folder(folder, labels=rows)
    with pytest.raises(DataError, match=r"one column 'pat'; it has .*patient, label"):
        from_folder(folder, labels=rows, patient="pat")
    with pytest.warns(UserWarning, match="cannot be excluded") as caught:
        cohort = from_folder(folder, labels=rows, patient=None)
    assert caught[0].filename == __file__
    assert len(set(cohort.patients)) == 6
    assert any("cannot be excluded" in fault for fault in cohort.card.faults)
    by_folder = from_folder(folder.parent, labels=None, patient="folder")
    assert set(by_folder.patients) == {"images"}


# Pictures


def one(tmp_path, *files: bytes, suffix=".png", **options):
    folder = tmp_path / "pictures"
    folder.mkdir(exist_ok=True)
    for i, data in enumerate(files):
        (folder / f"{i}{suffix}").write_bytes(data)
    return from_folder(folder, labels=None, patient=lambda row: row["file"], **options)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_values(tmp_path, kind):
    suffix = {"PNG": ".png", "TIFF": ".tif"}[kind]
    high = grey(top=65536, dtype=np.uint16)
    cohort = one(tmp_path, encoded(high, kind), suffix=suffix)
    assert cohort.images.dtype == torch.float32
    assert np.array_equal(cohort.images[0, 0].numpy(), high)
    low = (high // 4).astype(np.uint16)
    cohort = one(tmp_path, encoded(low, kind), suffix=suffix)
    assert np.array_equal(cohort.images[0, 0].numpy(), low)


def test_tiffs_of_other_types(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile comes with scikit-image")

    def tiff(pixels, **options):
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, **options)
        return file.getvalue()

    signed = grey(top=3000, dtype=np.int16) - 1024
    assert np.array_equal(decode(tiff(signed), "a.tif")[0], signed)
    real = RNG.random((5, 4), dtype=np.float32)
    assert np.array_equal(decode(tiff(real), "a.tif")[0], real)
    dark = grey(top=65536, dtype=np.uint16)
    for pixels in (dark, (dark >> 8).astype(np.uint8)):  # film: 0 is white
        white = decode(tiff(pixels, photometric="miniswhite"), "a.tif")[0]
        assert np.array_equal(white, np.iinfo(pixels.dtype).max - pixels)
    real[0, 0] = np.nan
    with pytest.raises(DataError, match="must be finite"):
        decode(tiff(real), "a.tif")
    with pytest.raises(DataError, match="2 pages"):
        decode(tiff(np.zeros((2, 9, 8), np.uint8), photometric="minisblack"), "a.tif")
    colour = RNG.integers(0, 65536, (5, 4, 3), dtype=np.uint16)
    with pytest.raises(DataError, match=r"a\.tif"):
        decode(tiff(colour, photometric="rgb"), "a.tif")


def png16(colour_type: int, channels: int) -> bytes:
    """A 16-bit PNG of colour or with alpha, made by hand."""
    rows = b"".join(b"\0" + RNG.bytes(4 * channels * 2) for _ in range(5))

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 4, 5, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_is_refused_rather_than_halved(colour_type, channels):
    with pytest.raises(DataError, match="16 bits a channel"):
        decode(png16(colour_type, channels), "a.png")


def test_colour_modes():
    rgb = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    assert np.array_equal(decode(encoded(image), "a.png"), rgb.transpose(2, 0, 1))
    plain = grey()
    for mode in ("LA", "RGBA"):  # opaque
        pixels = decode(encoded(Image.fromarray(plain).convert(mode)), "a.png")
        assert pixels.shape[0] == {"LA": 1, "RGBA": 3}[mode]
        assert (pixels == plain).all()
    glass = image.convert("RGBA")
    glass.putpixel((0, 0), (1, 2, 3, 40))
    with pytest.raises(DataError, match="partly transparent"):
        decode(encoded(glass), "a.png")
    indexed = Image.fromarray(plain % 7).convert("P")
    assert (decode(encoded(indexed), "a.png") == plain % 7).all()
    few = image.quantize(4)
    want = np.asarray(few.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode(encoded(few), "a.png"), want)
    with pytest.raises(DataError, match="partly transparent"):
        decode(encoded(few, transparency=0), "a.png")
    black = Image.fromarray(plain > 99)
    assert np.array_equal(decode(encoded(black), "a.png")[0], (plain > 99) * np.uint8(255))


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation(turn):
    """The eight orientations of EXIF 2.32, table of tag 274."""
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255  # a bright corner, top left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[274] = turn
    data = encoded(np.ascontiguousarray(stored), "JPEG", exif=exif, quality=95)
    seen = decode(data, "a.jpg")[0]
    assert np.abs(seen.astype(int) - upright).max() < 30


def test_pictures_of_every_ending_are_read_or_counted(tmp_path):
    pixels = {}
    for name, kind, options in (
        ("a.png", "PNG", {}),
        ("b.bmp", "BMP", {}),
        ("c.JFIF", "JPEG", {"quality": 95}),
        ("d.jpe", "JPEG", {"quality": 95}),
        ("e", "PNG", {}),  # no ending, but it begins like a picture
        ("f.7", "BMP", {}),
        ("g.tiff", "TIFF", {}),
    ):
        pixels[name] = np.full((8, 8), len(pixels) * 30, np.uint8)
        (tmp_path / name).write_bytes(encoded(pixels[name], kind, **options))
    for name in ("LICENCE", "readme.md", "labels.csv"):  # companions are not worth a word
        (tmp_path / name).write_text("not a picture")
    cohort = from_folder(tmp_path, labels=None, patient="file")
    assert cohort.files.tolist() == list(pixels)
    assert (
        np.abs(cohort.images[:, 0].numpy().astype(int) - np.stack(list(pixels.values()))).max() < 3
    )
    assert cohort.card.faults == ()
    # Refused, never left out unseen.
    for name in ("x.heic", "z.gif", "scan.nii.gz", "film.mp4", "1.2.3", "IM01"):
        (tmp_path / name).write_bytes(b"a kind that is not read")
        with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
            from_folder(tmp_path, labels=None, patient="file")
        (tmp_path / name).unlink()
    colour = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    webp = decode(encoded(colour, "WEBP", lossless=True), "a.webp")
    assert np.array_equal(webp, colour.transpose(2, 0, 1))
    moving = [Image.fromarray(colour), Image.fromarray(255 - colour)]
    with pytest.raises(DataError, match="2 pages"):
        decode(encoded(moving[0], "WEBP", save_all=True, append_images=moving[1:]), "a.webp")


@pytest.mark.parametrize("data", [b"", b"hello", encoded(grey())[:-40], encoded(grey(), "GIF")])
def test_unreadable_files_are_named(tmp_path, data):
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        one(tmp_path, encoded(grey()), data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused():
    huge = encoded(Image.new("1", (20000, 20000)))
    with pytest.raises(DataError, match=r"a\.png"):
        decode(huge, "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_damage_is_an_image_or_a_named_error():
    whole = [
        (encoded(grey()), "a.png"),
        (encoded(grey(top=60000, dtype=np.uint16)), "a.png"),
        (encoded(RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8), "JPEG"), "a.jpg"),
        (encoded(grey(), "TIFF", compression="tiff_lzw"), "a.tif"),
    ]
    rng, refused = np.random.default_rng(1), 0
    for i in range(1200):
        data, name = whole[i % len(whole)]
        data = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(min(len(data), 250))] = rng.integers(256)
        try:
            pixels = decode(bytes(data), name)
        except DataError as error:
            refused += name in str(error)
        else:
            assert pixels.ndim == 3
    assert refused > 300


# Sizes and kinds


def test_mixed_kinds_are_told_apart(tmp_path):
    a, b = encoded(grey(12, 10)), encoded(grey(8, 30))
    with pytest.raises(DataError, match=r"differ .*1×12×10 uint8.*: 2, such as 0\.png, 1×8×30"):
        one(tmp_path, a, a, b)
    colour = encoded(RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"1×12×10 .*: 2, .*3×12×10 .*: 1, such as 2\.png"):
        one(tmp_path, a, a, colour)
    with pytest.raises(DataError, match=r"uint8: 2, .*float32: 1"):
        one(tmp_path, a, a, encoded(grey(top=9999, dtype=np.uint16)))


def test_resizing_keeps_proportions_and_does_not_alias(tmp_path):
    wide = np.full((20, 40), 200, np.uint8)
    cohort = one(tmp_path, encoded(wide), encoded(wide.T.copy()), encoded(wide[:20, :20]), size=10)
    assert cohort.images.shape == (3, 1, 10, 10)
    rows = cohort.images[0, 0].float().mean(1).tolist()
    assert rows == [0, 0] + [200] * 5 + [0, 0, 0]
    assert cohort.images[1, 0].float().mean(0).tolist() == rows
    assert (cohort.images[2] == 200).all()
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = _pictures.fit(checks[None], 16)
    assert np.abs(small.astype(int) - 127).max() <= 2  # every fourth pixel would be all black
    deep = _pictures.fit(np.full((1, 4, 8), -1000, np.int16), 8)
    assert (deep == -1000).all()
    assert deep.dtype == np.int16
    for size in (0, -1, 8.5, (20, 40), "8"):
        with pytest.raises(DataError, match="size must be"):
            one(tmp_path, encoded(wide), size=size)


def test_folders_without_images(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("not a picture")
    with pytest.raises(DataError, match="holds no image"):
        from_folder(tmp_path / "texts", labels=None, patient=None)
    with pytest.raises(DataError, match="none is not a folder"):
        from_folder(tmp_path / "none", labels=None, patient=None)
    (tmp_path / "a.gif").write_bytes(encoded(grey(), "GIF"))  # animated ones are films
    with pytest.raises(DataError, match=r"a\.gif cannot be read as an image"):
        from_folder(tmp_path, labels=None, patient=None)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", encoded(grey()))
    with pytest.raises(DataError, match=r"x\.zip is not a folder\. Unpack archives first"):
        from_folder(tmp_path / "x.zip", labels=None, patient=None)


# Real images


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def test_nih_chest_x_rays(real_data, tmp_path):
    home = real_data / "chest_xray_nih"
    images = unpacked(home / "images.zip", tmp_path)
    cohort = from_folder(images, labels=home / "labels.csv", patient="patient_id")
    assert cohort.images.shape == (743, 1, 128, 128)
    assert cohort.classes == ("No_findings", "Pneumonia")
    assert cohort.labels.sum() == 343
    parts = [set(part.patients) for part in cohort.split()]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_lung_nodules_by_blocks_of_rows(real_data, tmp_path):
    home = real_data / "lung_nodules"
    patches = unpacked(home / "patches.zip", tmp_path)
    options = {
        "labels": home / "labels.csv",
        "classes": {"0": "no nodule", "1": "nodule"},
        # Rows are sorted by scan, so a block of neighbours never mixes far-apart patients.
        "patient": lambda row: int(row["candidate_row"]) // 500,
    }
    with pytest.raises(DataError, match=r"50×50 .*: 6614, .*47×50 .*: 1, such as image_3937"):
        from_folder(patches, **options)
    cohort = from_folder(patches, **options, size=50)
    assert cohort.images.shape == (6615, 1, 50, 50)
    assert cohort.labels.sum() == 1115
    odd = cohort[np.flatnonzero(cohort.files == "image_393762.jpg")].images[0, 0]
    assert (odd[0] == 0).all()
    assert (odd[-2:] == 0).all()
    train, val, test = cohort.split()
    assert not set(train.patients) & (set(val.patients) | set(test.patients))
