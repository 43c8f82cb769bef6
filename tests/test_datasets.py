"""Sets by name: cards, the MedMNIST reader on sound and broken files, the simulated sets' cache."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import io
import multiprocessing
import os
import pickle
import re
import struct
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import medlab
from medlab.cohort import Cohort, DataCard
from medlab.datasets import cache, medmnist
from medlab.datasets.medmnist import SETS
from medlab.errors import DataError, DownloadError, HashMismatch

PARTS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch, tmp_path):
    for name in ("MEDLAB_VERIFY", "MEDLAB_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MEDLAB_PROGRESS", "0")


# Cards


def test_cards_agree_with_the_makers_table():
    info = pytest.importorskip("medmnist.info", reason="medmnist is not installed").INFO
    tasks = {
        "binary-class": "binary",
        "multi-class": "multiclass",
        "ordinal-regression": "ordinal",
        "multi-label, binary-class": "multilabel",
    }
    assert set(info) == set(SETS)
    for name, theirs in info.items():
        ours = SETS[name]
        card = ours["card"]
        for size in map(int, ours["md5"]):
            end = "" if size == 28 else f"_{size}"
            sized = medmnist.card(name, size=size)
            assert sized.md5 == theirs[f"MD5{end}"]
            assert sized.url == theirs[f"url{end}"]
        assert {f"MD5_{s}" for s in ours["md5"] if s != "28"} == {
            key for key in theirs if key.startswith("MD5_")
        }
        assert card["task"] == tasks[theirs["task"]]
        assert ours["samples"] == [theirs["n_samples"][part] for part in PARTS]
        assert ours["channels"] == theirs["n_channels"]
        assert card["licence"] == theirs["license"]
        labels = tuple(theirs["label"][str(i)] for i in range(len(theirs["label"])))
        if name == "retinamnist":  # there only "0" to "4"
            assert len(card["classes"]) == len(labels)
        else:
            assert tuple(card["classes"]) == labels


def test_every_card_is_complete():
    assert len(SETS) == 18
    for card in map(medlab.datasets.card, medlab.datasets.cards()["name"]):
        assert card.title
        assert card.licence
        if card.simulated:
            continue
        assert card.source
        assert "doi" in card.source or "arXiv" in card.source
        assert card.faults, f"{card.name}: no set is without fault"
        home = "https://zenodo.org/records/10519652/files/"
        assert card.url.startswith(home) == (card.name in SETS)
        # Either it is fetched, against a hash, or the card says how to get it and where to put it.
        assert bool(re.fullmatch("[0-9a-f]{32}", card.md5)) != (
            f"folder {card.name} " in card.obtain
        )


def test_cards_show_as_a_table():
    table = medlab.datasets.cards()
    assert len(table) == 18 + 5 + len(medlab.simulate.COHORTS)
    octmnist = table.set_index("name").loc["octmnist"]
    assert (octmnist.classes, octmnist.licence) == (4, "CC BY 4.0")
    assert "pneumoniamnist" in table.to_string()
    assert "OCTMNIST" in table._repr_html_()


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(
        DataError, match=r"no set is called 'pneumonamnist'; there are .*octmnist.*pneumoniamnist"
    ):
        medlab.load("pneumonamnist")
    with pytest.raises(DataError, match="from_folder"):
        medlab.datasets.card("zzzzzz")


def test_options_a_real_set_does_not_have():
    with pytest.raises(TypeError, match="unexpected keyword argument 'n'"):
        medlab.load("breastmnist", n=5)
    with pytest.raises(DataError, match="28, 64, 128, 224; got 32"):
        medlab.load("breastmnist", size=32)
    with pytest.raises(DataError, match="28, 64; got 224"):
        medlab.load("vesselmnist3d", size=224)


# Reading


@functools.cache
def sound(name: str, size: int = 28) -> dict[str, np.ndarray]:
    """Arrays as an official file has them, filled with noise."""
    facts, rng = SETS[name], np.random.default_rng(0)
    shape = (size,) * (3 if facts["volume"] else 2) + ((3,) if facts["channels"] == 3 else ())
    arrays = {}
    for part, n in zip(PARTS, facts["samples"], strict=True):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        classes = len(facts["card"]["classes"])
        top, k = (2, classes) if facts["card"]["task"] == "multilabel" else (classes, 1)
        arrays[f"{part}_labels"] = rng.integers(0, top, (n, k), dtype=np.uint8)
    return arrays


def put(folder: Path, name: str, arrays=None, *, size: int = 28, compress=False) -> Path:
    path = folder / "medmnist" / medmnist.filename(name, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if compress else np.savez
    save(path, **(sound(name, size) if arrays is None else arrays))
    return path


def trust(monkeypatch, path: Path, name: str, size: int = 28) -> str:
    """Make the file at `path` the official one."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    facts = SETS[name] | {"md5": SETS[name]["md5"] | {str(size): md5}}
    monkeypatch.setitem(SETS, name, facts)
    return md5


@pytest.mark.parametrize(
    ("name", "size"),
    [("breastmnist", 28), ("breastmnist", 64), ("retinamnist", 28), ("vesselmnist3d", 28)],
)
def test_the_three_layouts(tmp_path, monkeypatch, name, size):
    path = put(tmp_path, name, size=size, compress=size == 64)
    trust(monkeypatch, path, name, size)
    cohort = medlab.load(name, root=tmp_path, download=False, size=size)
    arrays, facts = sound(name, size), SETS[name]
    assert cohort.images.dtype == torch.uint8
    assert cohort.labels.dtype == torch.int64
    assert cohort.patients is None
    for part, cut in zip(PARTS, cohort.split(), strict=True):
        want = arrays[f"{part}_images"]  # oracle: what was written
        want = want.transpose(0, 3, 1, 2) if facts["channels"] == 3 else want[:, None]
        assert np.array_equal(cut.images.numpy(), want)
        assert np.array_equal(cut.labels.numpy(), arrays[f"{part}_labels"][:, 0])
    assert not any("not the official" in fault for fault in cohort.card.faults)


def test_multilabel_and_odd_but_sound_arrays(tmp_path, monkeypatch):
    facts = SETS["chestmnist"] | {"samples": [6, 3, 2]}
    monkeypatch.setitem(SETS, "chestmnist", facts)
    sound.cache_clear()
    arrays = dict(sound("chestmnist"))
    sound.cache_clear()
    arrays["val_images"] = np.asfortranarray(arrays["val_images"])
    arrays["test_images"] = arrays["test_images"].astype(">i4")
    trust(monkeypatch, put(tmp_path, "chestmnist", arrays), "chestmnist")
    cohort = medlab.load("ChestMNIST ", root=tmp_path, download=False)
    assert cohort.labels.shape == (11, 14)
    assert cohort.labels.dtype == torch.float32
    assert np.array_equal(cohort.images[6:9, 0].numpy(), arrays["val_images"])
    assert np.array_equal(cohort.images[9:, 0].numpy(), arrays["test_images"])


@pytest.mark.parametrize("name", SETS)
def test_every_set_loads_by_its_name(tmp_path, monkeypatch, name):
    facts = SETS[name] | {"samples": [9, 4, 5]}
    monkeypatch.setitem(SETS, name, facts)
    arrays = sound.__wrapped__(name)  # not remembered: the numbers of samples are not the real ones
    put(tmp_path, name, arrays)
    with pytest.warns(UserWarning, match="not the official"):
        cohort = medlab.load(name, root=tmp_path, download=False, verify=False)
    assert cohort.images.shape == (18, facts["channels"], *(28,) * (3 if facts["volume"] else 2))
    assert [len(part) for part in cohort.split()] == [9, 4, 5]
    assert cohort.num_classes == len(cohort.classes)
    assert cohort.labels.shape == ((18, 14) if name == "chestmnist" else (18,))
    assert cohort.labels[9:13].tolist() == arrays["val_labels"].squeeze().tolist()


def changed(**arrays):
    return lambda: sound("breastmnist") | arrays


def without(name):
    return lambda: {k: v for k, v in sound("breastmnist").items() if k != name}


A = sound("breastmnist")
BAD_ARRAYS = {
    "missing key": (
        without("val_labels"),
        "array 'val_labels' cannot be read; .*no item named",
    ),
    "other set": (lambda: sound("vesselmnist3d"), "train_images must hold .*Is it the file of"),
    "colour": (
        changed(train_images=np.zeros((546, 28, 28, 3), np.uint8)),
        "train_images must hold",
    ),
    "split size": (changed(test_images=A["test_images"][:-1]), r"in shape \(156, 28, 28\)"),
    "flat": (changed(train_images=np.zeros(546, np.uint8)), r"shape \(546,\)"),
    "wide": (
        lambda: {
            k: np.zeros((len(v), 64, 64), np.uint8) if "images" in k else v
            for k, v in sound("breastmnist").items()
        },
        r"in shape \(546, 28, 28\)",
    ),
    "unheard-of size": (
        lambda: {
            k: np.zeros((len(v), 9, 9), np.uint8) if "images" in k else v
            for k, v in sound("breastmnist").items()
        },
        r"in shape \(546, 28, 28\)",
    ),
    "label range": (changed(val_labels=A["val_labels"] + 2), "whole numbers 0…1"),
    "negative": (changed(val_labels=-A["val_labels"].astype(int) - 1), "whole numbers 0…1"),
    "label shape": (changed(val_labels=np.zeros((78, 2), np.uint8)), r"shape \(78, 1\); got"),
    "label count": (changed(val_labels=np.zeros((77, 1), np.uint8)), r"shape \(78, 1\); got"),
    "label type": (changed(val_labels=np.zeros((78, 1))), "whole numbers .*got type float64"),
    "floats": (changed(val_images=np.zeros((78, 28, 28))), "whole numbers .*got type float64"),
    "grey range": (changed(val_images=np.full((78, 28, 28), 256)), "whole numbers 0…255"),
    "text": (changed(val_labels=np.full((78, 1), "a")), "whole numbers .*got type <U1"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit_the_card(tmp_path, monkeypatch, case):
    arrays, message = BAD_ARRAYS[case]
    path = put(tmp_path, "breastmnist", arrays())
    trust(monkeypatch, path, "breastmnist")
    with pytest.raises(DataError, match=message) as caught:
        medlab.load("breastmnist", root=tmp_path, download=False)
    assert str(path) in str(caught.value)


class Evil:
    """Leaves a trace when unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["MEDLAB_EVIL"],)


def test_pickled_objects_never_run(tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    monkeypatch.setenv("MEDLAB_EVIL", str(trace))
    objects = np.empty((546, 28, 28), dtype=object)
    objects[0, 0, 0] = Evil()
    path = put(tmp_path, "breastmnist", sound("breastmnist") | {"train_images": objects})
    with (
        pytest.warns(UserWarning, match="not the official"),
        pytest.raises(DataError, match="Object arrays cannot be loaded"),
    ):
        medlab.load("breastmnist", root=tmp_path, download=False, verify=False)
    with zipfile.ZipFile(path, "w") as zip_:  # a bare pickle under an array's name
        zip_.writestr("train_images.npy", pickle.dumps(Evil()))
    with pytest.raises(DataError, match="train_images.*magic"):
        medmnist.array_in(path, "train_images")
    assert not trace.exists()


def npy(array, header: dict | None = None, version: int = 1, length: int | None = None) -> bytes:
    """An .npy file whose header says what we like."""
    if header is None:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()
    text = repr(header).encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + array.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(A["val_labels"])[:-5], "EOF|cut|end"),
        (npy(A["val_labels"]) + b"more", "more bytes are stored"),
        (npy(A["val_labels"], {"descr": "|u1", "fortran_order": False, "shape": (10**14,)}), ""),
        (npy(A["val_labels"], {"descr": "|u1", "fortran_order": False, "shape": (-1, -78)}), ""),
        (npy(A["val_labels"], {"descr": "|V0", "fortran_order": False, "shape": (10**9,)}), ""),
        (npy(A["val_labels"], {"descr": "|O", "fortran_order": False, "shape": (3,)}), "Object"),
        (npy(A["val_labels"], {"descr": "|u1", "shape": (78, 1)}), ""),
        (npy(A["val_labels"], {"x": "y" * 9000}), ""),
        (npy(A["val_labels"], {"descr": "|u1"}, 2, 1 << 31), ""),
        (b"", ""),
        (b"\x93NUMPY", ""),
        (b"hello", "magic"),
    ],
)
def test_array_headers_are_distrusted(tmp_path, content, message):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as zip_:
        zip_.writestr("val_labels.npy", content)
    with pytest.raises(DataError, match=f"x.npz: array 'val_labels' cannot be read.*{message}"):
        medmnist.array_in(path, "val_labels")


def test_not_a_zip_truncated_and_damaged(tmp_path):
    path = put(tmp_path, "breastmnist", compress=True)
    whole = path.read_bytes()
    for broken in (b"", b"hello", b"<html>", whole[: len(whole) // 2], whole[1000:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=re.escape(str(path))):
            medmnist.read(path, medlab.datasets.card("breastmnist"))


def test_random_damage_is_always_named(tmp_path):
    """Flipped bytes anywhere give the same pixels or a DataError, never something else."""
    arrays = {k: v[:12] for k, v in sound("breastmnist").items()}
    path, rng = tmp_path / "x.npz", np.random.default_rng(0)
    messages = []
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        whole = bytearray(path.read_bytes())
        for _ in range(150):
            broken = whole.copy()
            for _ in range(rng.integers(1, 6)):
                broken[rng.integers(len(broken))] = rng.integers(256)
            path.write_bytes(broken)
            try:
                found = {name: medmnist.array_in(path, name) for name in arrays}
            except DataError as error:
                messages.append(str(error))
            else:
                assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert len(messages) > 150
    assert all("x.npz" in message for message in messages)


# Where the file comes from


def test_absent_and_not_to_be_fetched(tmp_path):
    with pytest.raises(DataError, match=r"medmnist/breastmnist\.npz, and download=False.*zenodo"):
        medlab.load("breastmnist", root=tmp_path, download=False)


def test_a_wrong_local_file_is_refused_unless_told(tmp_path, monkeypatch):
    path = put(tmp_path, "breastmnist")
    got = hashlib.md5(path.read_bytes()).hexdigest()
    both = f"{got}.*{SETS['breastmnist']['md5']['28']}"
    with pytest.raises(HashMismatch, match=both):
        medlab.load("breastmnist", root=tmp_path)
    with pytest.warns(UserWarning, match=both) as caught:
        cohort = medlab.load("breastmnist", root=tmp_path, verify=False)
    assert caught[0].filename == __file__
    assert "not the official file" in cohort.card.faults[0]
    monkeypatch.setenv("MEDLAB_VERIFY", "0")
    with pytest.warns(UserWarning, match=both):
        medlab.load("breastmnist", root=tmp_path)
    with pytest.raises(HashMismatch):
        medlab.load("breastmnist", root=tmp_path, verify=True)


def test_a_mirror_serves_the_class(tmp_path, monkeypatch):
    desk = put(tmp_path / "teacher", "breastmnist").parent
    handler = type(
        "Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}
    )
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(desk))
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("MEDLAB_MIRROR", f"http://127.0.0.1:{server.server_port}/")
    try:
        with pytest.raises(HashMismatch):  # the mirror is not trusted more than anyone
            medlab.load("breastmnist")
        with pytest.raises(DownloadError, match=r"404.*MEDLAB_MIRROR"):
            medlab.load("octmnist")
        trust(monkeypatch, desk / "breastmnist.npz", "breastmnist")
        first = medlab.load("breastmnist")
    finally:
        server.shutdown()
        server.server_close()
    again = medlab.load("breastmnist", download=False)  # from the folder, the server is gone
    assert torch.equal(first.images, again.images)


def test_real_files(real_data):
    retina = medlab.load("retinamnist", root=real_data, download=False)
    assert [len(part) for part in retina.split()] == [1080, 120, 400]
    with np.load(real_data / "medmnist" / "retinamnist.npz") as npz:
        assert np.array_equal(retina.images[:1080].permute(0, 2, 3, 1), npz["train_images"])
    with pytest.raises(HashMismatch, match=r"2905d1da.*28209eda"):
        medlab.load("pneumoniamnist", root=real_data, download=False)
    with pytest.warns(UserWarning, match="not the official"):
        lungs = medlab.load("pneumoniamnist", root=real_data, download=False, verify=False)
    assert [len(part) for part in lungs.split()] == [4708, 524, 624]
    parts = [{image.numpy().tobytes() for image in part.images} for part in lungs.split()]
    assert len(parts[0] & parts[1]) == 8  # as the card says
    assert any("Eight images" in fault for fault in lungs.card.faults)


# Simulated sets


def make_toy(n: int = 8, seed: int = 0, size: int = 16, *, kind: str = "plain") -> Cohort:
    rng = np.random.default_rng(seed)
    boxes = [torch.from_numpy(rng.random((i % 3, 4)).cumsum(1, dtype=np.float32)) for i in range(n)]
    return Cohort(
        images=torch.from_numpy(rng.integers(0, 256, (n, 1, size, size), dtype=np.uint8)),
        labels=torch.arange(n) % 2,
        masks=torch.from_numpy(rng.integers(0, 3, (n, size, size), dtype=np.uint8)),
        boxes=boxes,
        patients=np.array([f"Pät-{i // 2}" for i in range(n)]),
        sites=np.array(["A", "B"] * (n // 2)),
        spacing=(0.5, 0.25),
        extras={
            "dose": torch.rand(n, generator=torch.Generator().manual_seed(seed)),
            "who": torch.arange(n),
        },
        card=dataclasses.replace(TOY_CARD, description=kind),
    )


TOY_CARD = DataCard(
    name="toy",
    title="Toy",
    task="binary",
    classes=("no", "yes"),
    simulated=True,
    value_range=(0, 255),
)


@dataclasses.dataclass
class Toy:
    make: object = make_toy
    card: DataCard = TOY_CARD


@pytest.fixture
def toy(monkeypatch):
    """The registry holds one cheap set; `calls` counts how often it is made."""
    made = Toy()
    made.calls = []

    @functools.wraps(make_toy)
    def make(**options):
        made.calls.append(options)
        return make_toy(**options)

    made.make = make
    monkeypatch.setattr(medlab.datasets, "_simulated", lambda: {"toy": made})
    return made


def assert_same(a: Cohort, b: Cohort):
    for field in ("images", "labels", "masks"):
        left, right = getattr(a, field), getattr(b, field)
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    assert all(torch.equal(x, y) for x, y in zip(a.boxes, b.boxes, strict=True))
    for field in ("patients", "sites"):
        assert getattr(a, field).tolist() == getattr(b, field).tolist()
    assert a.spacing == b.spacing
    assert a.card == b.card
    assert a.files is b.files is None
    assert torch.equal(a.extras["dose"], b.extras["dose"])
    assert torch.equal(a.extras["who"], b.extras["who"])


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "simulated").iterdir())


def test_a_simulated_set_is_made_once_and_read_back(toy, tmp_path):
    first = medlab.load("toy", root=tmp_path)
    second = medlab.load("toy", root=tmp_path)
    assert len(toy.calls) == 1
    assert_same(make_toy(), first)
    assert_same(first, second)
    assert [name.rsplit("-", 1)[0] for name in folders(tmp_path)] == ["toy-v1-n8-seed0"]
    assert medlab.datasets.cards()["name"][0] == "toy"
    assert medlab.datasets.card("toy") is toy.card


def test_changes_to_a_cohort_stay_in_memory(toy, tmp_path):
    medlab.load("toy", root=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that cannot be written
        read = medlab.load("toy", root=tmp_path)
        read.images += 1
        assert_same(make_toy(), medlab.load("toy", root=tmp_path))


def test_every_option_version_and_source_has_its_own_place(toy, tmp_path, monkeypatch):
    variants = [{}, {"n": 10}, {"seed": 1}, {"size": 8}, {"kind": "1"}]
    for options in variants:
        assert_same(make_toy(**options), medlab.load("toy", root=tmp_path, **options))
    assert len(folders(tmp_path)) == 5
    assert_same(make_toy(), medlab.load("toy", root=tmp_path, n=8))  # a default said aloud
    assert len(toy.calls) == 5
    toy.card = dataclasses.replace(TOY_CARD, version="2")
    medlab.load("toy", root=tmp_path)
    monkeypatch.setattr(cache, "_source_hash", lambda: "changed")
    medlab.load("toy", root=tmp_path)
    assert len(toy.calls) == 7
    with pytest.raises(DataError, match="toy has no option 'N'; it has n, seed, size, kind"):
        medlab.load("toy", root=tmp_path, N=3)


def test_where_nothing_can_be_written_it_is_made_in_memory(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="toy is not kept and will be made again: cannot write"):
        assert_same(make_toy(), medlab.load("toy", root=tmp_path / "file"))

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.torch, "save", refuse)
    with pytest.warns(UserWarning, match="toy is not kept .*No space left"):
        assert_same(make_toy(), medlab.load("toy", root=tmp_path))
    assert folders(tmp_path) == []


def damage_flip(data):
    at = data.index(make_toy().images.numpy().tobytes()[:32]) + 200
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def damage_cut(data):
    return data[:-40]


def damage_cut_short(data):
    return data[: len(data) // 2]


def damage_card(data):
    return data.replace(b"yes", b"no!")


def damage_all(data):
    return b"\xff\xfe\x00"


def damage_empty(data):
    return b""


def damage_other(data):
    """A sound archive that is no cohort."""
    file = io.BytesIO()
    np.savez(file, x=np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("damage", [v for k, v in list(globals().items()) if k[:7] == "damage_"])
def test_a_damaged_cache_is_named(toy, tmp_path, damage):
    medlab.load("toy", root=tmp_path)
    path = tmp_path / "simulated" / folders(tmp_path)[0]
    assert damage(path.read_bytes()) != path.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"simulated/toy-v1.* is damaged: delete it and load again"):
        medlab.load("toy", root=tmp_path)
    path.unlink()
    assert_same(make_toy(), medlab.load("toy", root=tmp_path))
    assert len(folders(tmp_path)) == 1


def test_the_folder_name_tells_alike_values_apart():
    keys = {cache._key("toy", "1", {"a": a}) for a in (1, "1", True, "True", 1.0, None, "None")}
    assert len(keys) == 7


def _race(root, gate, answers):
    gate.wait()
    cohort = cache.load_simulated("toy", Toy(), root, {"n": 400})
    answers.put(hashlib.sha256(cohort.images.numpy().tobytes()).hexdigest())


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_race, args=(tmp_path, gate, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = {answers.get(timeout=20) for _ in workers}
    for worker in workers:
        worker.join(20)
    assert found == {hashlib.sha256(make_toy(n=400).images.numpy().tobytes()).hexdigest()}
    assert len(folders(tmp_path)) == 1  # and no draft left behind


def test_the_real_simulators_are_cached_unchanged(tmp_path):
    for name, simulated in medlab.simulate.COHORTS.items():
        stored = medlab.load(name, root=tmp_path, n=6, seed=3)
        again = medlab.load(name, root=tmp_path, n=6, seed=3)
        made = simulated.make(n=6, seed=3)
        for cohort in (stored, again):
            assert torch.equal(cohort.images, made.images)
            assert cohort.card == made.card
            assert cohort.patients.tolist() == made.patients.tolist()
