"""Archives of all kinds are unpacked whole or refused, and nothing else on the disk changes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tracemalloc
import zipfile

import pytest

import medlab
from data_scripts import unpack as command
from data_scripts.unpack import unpack
from medlab.errors import DataError
from tests.hostile_archives import (
    EVIL,
    KINDS,
    block,
    content,
    entry,
    folder,
    ordinary_zip,
    packed,
    pax,
    record,
    sandbox,
    surroundings,
    tar,
    verdict,
    zipped,
)

HOSTILE = [kind for kind in KINDS if kind.safe is None]
FILES = {"a.txt": EVIL, "d/b.bin": bytes(range(256)) * 999, "d/empty": b""}
REAL = [
    ("dicom/chest_ct_series.tar.xz", "tar"),
    ("dicom/cine_series.tar.xz", "tar"),
    ("dicom/t1_series.tar.xz", "tar"),
    ("chest_xray_nih/images.zip", "unzip"),
    ("lung_nodules/patches.zip", "unzip"),
]


def test_there_are_many_kinds():
    assert len(HOSTILE) >= 60
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("empty", [False, True], ids=["new", "empty"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_is_refused_or_comes_out_as_listed(kind, empty, tmp_path):
    target = sandbox(tmp_path)
    if empty:
        target.mkdir(mode=0o750)
    archive = tmp_path / f"archive{kind.suffix}"
    archive.write_bytes(kind.build(tmp_path))
    before, error = surroundings(tmp_path), None
    try:
        unpack(archive, target)
    except DataError as reason:
        error = str(reason)
    assert verdict(tmp_path, before, kind, raised=error is not None) in ("refused", "as listed")
    assert error is None or f"{archive} cannot be unpacked" in error
    assert target.exists() == (empty or error is None)
    assert not empty or target.stat().st_mode & 0o777 == 0o750


def made(tmp_path, data, suffix=".tar"):
    path = tmp_path / f"made{suffix}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["w:", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("pax", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_good_archives(form, pax, tmp_path):
    if form == "zip":
        path = made(tmp_path, ordinary_zip({"e/": b"", **FILES}), ".zip")
    else:
        path = tmp_path / "good.bin"  # the name does not matter
        with tarfile.open(path, form, format=pax) as archive:
            for info, data in (
                folder("./"),
                folder("./e"),
                *(entry(f"./{k}", v) for k, v in FILES.items()),
            ):
                archive.addfile(info, io.BytesIO(data))
    out = unpack(path, tmp_path / "new" / "out")
    assert content(out) == FILES
    assert (out / "e").is_dir()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["out"]


@pytest.mark.real
@pytest.mark.parametrize("name, tool", REAL)
def test_real_archives_are_as_the_system_unpacks_them(name, tool, real_data, tmp_path):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    other = tmp_path / "other"
    other.mkdir()
    command = (
        ["tar", "xf", real_data / name] if tool == "tar" else ["unzip", "-q", real_data / name]
    )
    subprocess.run(command, cwd=other, check=True)
    want = {p.relative_to(other): p.read_bytes() for p in other.rglob("*") if p.is_file()}
    out = unpack(real_data / name, tmp_path / "ours")
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == want
    assert len(want) > 5


# Messages


@pytest.mark.parametrize(
    "data, words",
    [
        (tar(entry("fine"), entry("../up")), r"'\.\./up' leads outside"),
        (tar(entry("d/x", type=tarfile.SYMTYPE)), "'d/x' is a link"),
        (zipped(packed("x", attributes=0o120777 << 16)), "'x' is a link"),
        (tar(entry("a/b"), entry("A/c")), "'A/c' and 'a' are one file on some systems"),
        (tar(entry("a", mtime=1e300)), "'a': timestamp"),
        (zipped(packed("x"), packed("y", crc=1)), "'y': Bad CRC-32"),
        (zipped(packed("x", size=99)), "'x': it has not the 99 bytes"),
        (tar(entry("x", b"", size=2**40)), "at 'x' it takes more than 268,435,456 .*max_bytes"),
        (tar(entry("d/" * 32 + "x")), "more than 32 parts"),
        (tar(entry("/".join(["é" * 99] * 6))), "1000 bytes"),
        (tar(entry("a"))[:1024], "ends without a mark"),
        (tar(entry("a")) + b"x" * 512, "after byte 1,024 it is damaged, or something follows"),
        (pax(b"".join(record(f"{k}", "") for k in range(65))) + tar(entry("a")), "has 65 fields"),
        (b"hello", "zip or .tar: truncated header"),
    ],
)  # fmt: skip
def test_the_error_names_archive_and_member(data, words, tmp_path):
    path = made(tmp_path, data)
    with pytest.raises(DataError, match=rf"made\.tar cannot be unpacked as .*{words}"):
        unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["made.tar"]


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="none.zip cannot be unpacked .*No such file"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_python_without_filters_is_refused(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DataError, match=r"Python 3\.11\.4"):
        unpack(made(tmp_path, tar(entry("a"))), tmp_path / "out")


# The folder


def test_what_the_user_made_is_left_alone(tmp_path):
    path = made(tmp_path, tar(entry("a.txt")))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".hidden").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in (mine, tmp_path / "file"):
        with pytest.raises(DataError, match="is there already: name a new folder or an empty one"):
            unpack(path, target)
    assert (mine / ".hidden").read_text() == (tmp_path / "file").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "made.tar", "mine"]


def test_an_empty_folder_stays_the_same_folder(tmp_path, monkeypatch):
    path = made(tmp_path, tar(entry("d/a.txt"), entry("b.txt")))
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to("real")
    number = real.stat().st_ino
    monkeypatch.chdir(real)
    assert unpack(path, link) == real
    assert sorted(os.listdir(".")) == ["b.txt", "d"]
    assert real.stat().st_ino == number and link.is_symlink()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("what", ["file in a folder", "file"])
def test_someone_else_fills_the_folder_meanwhile(what, there, tmp_path, monkeypatch):
    path, out = made(tmp_path, tar(entry("a.txt"))), tmp_path / "out"
    if there:
        out.mkdir()
    whole = command._extract

    def slow(*given):
        whole(*given)
        if what == "file":
            if there:
                out.rmdir()
            out.write_text("theirs")
        else:
            out.mkdir(exist_ok=True)
            (out / "a.txt").write_text("theirs")

    monkeypatch.setattr(command, "_extract", slow)
    with pytest.raises(DataError, match="is there already"):
        unpack(path, out)
    assert (out if what == "file" else out / "a.txt").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == ["made.tar", "out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_run_leaves_nothing(error, tmp_path, monkeypatch):
    path = made(tmp_path, tar(entry("a.txt"), entry("b.txt")))
    original = tarfile.TarFile.extract

    def broken(self, member, *args, **options):
        if member.name == "b.txt":
            raise error
        return original(self, member, *args, **options)

    monkeypatch.setattr(tarfile.TarFile, "extract", broken)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError):
        unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["made.tar"]


# Limits


def test_the_limit_is_exact_and_counts_short_members_as_a_block(tmp_path):
    files = {"a": bytes(5000), "b": b"x"}
    for data, suffix in (
        (tar(*(entry(k, v) for k, v in files.items())), ".tar"),
        (zipped(*(packed(k, v) for k, v in files.items())), ".zip"),
    ):
        path = made(tmp_path, data, suffix)
        assert content(unpack(path, tmp_path / f"out{suffix}", max_bytes=5000 + 4096)) == files
        with pytest.raises(DataError, match="at 'b' it takes more than 9,095 bytes"):
            unpack(path, tmp_path / "no", max_bytes=5000 + 4095)


def test_the_limit_grows_with_the_archive_and_ends_with_the_disk(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "_extract", lambda members, whole, limit: seen.append(limit))
    small = made(tmp_path, tar(entry("a")))
    large = tmp_path / "large.tar"
    with large.open("wb") as file:
        file.truncate(2**30)
    full = shutil.disk_usage(tmp_path)
    for free in (2**60, 1000):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: full._replace(free=free))
        for path, most in ((small, None), (large, None), (small, 2**50)):
            unpack(path, tmp_path / f"{free}-{path.name}-{most}", max_bytes=most)
    assert seen == [2**28, 200 * 2**30, 2**50, 1000, 1000, 1000]


def test_the_number_of_members_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_MEMBERS", 3)
    unpack(made(tmp_path, tar(*(entry(str(k)) for k in range(3)))), tmp_path / "out")
    with pytest.raises(DataError, match="at '3' it .* has more than 3 members"):
        unpack(made(tmp_path, tar(*(entry(str(k)) for k in range(4)))), tmp_path / "no")


def test_members_do_not_pile_up_in_memory(tmp_path):
    fields = b"".join(record(f"k{k}", "v" * 40) for k in range(60))
    path = made(
        tmp_path, b"".join(pax(fields) + block(folder("d")[0]) for _ in range(400)) + bytes(1024)
    )
    tracemalloc.start()
    unpack(path, tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_short_headers_do_not_save_up_for_a_long_one(tmp_path):
    short = b"".join(block(folder("d")[0]) for _ in range(100))
    for size, fine in ((50_000, True), (80_000, False)):
        path = made(tmp_path, short + pax(record("comment", "x" * size)) + tar(entry("a.txt")))
        if fine:
            assert content(unpack(path, tmp_path / "out")) == {"a.txt": EVIL}
            continue
        with pytest.raises(DataError, match="headers are damaged or endless at byte 51,712"):
            unpack(path, tmp_path / "no")


def test_headers_of_the_usual_size_are_read(tmp_path):
    """Long names and a kilobyte of attributes with every file, as macOS writes them."""
    names = [f"{k}/{'n' * 90}/{'m' * 90}" for k in range(500)]
    xattr = {"LIBARCHIVE.xattr.com.apple.metadata": "A" * 1500}
    path = made(tmp_path, tar(*(entry(name, pax_headers=xattr) for name in names)))
    assert content(unpack(path, tmp_path / "out")).keys() >= set(names)


def test_no_header_reads_all_that_is_left():
    with pytest.raises(ValueError, match="damaged or endless at byte 0"):
        command._Watched(io.BytesIO(EVIL)).read(-512)


def test_blank_blocks_at_the_end_are_not_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_LEAST", 2**20)
    whole = tar(entry("a.txt"))
    unpack(made(tmp_path, whole[:-1024] + bytes(2**20)), tmp_path / "out")
    with pytest.raises(DataError, match="after byte 1,024 it is damaged, or something follows"):
        unpack(made(tmp_path, whole[:-1024] + bytes(2**20 + 512)), tmp_path / "no")


# Those who call it


def test_from_folder_says_what_unpacks(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    with pytest.raises(DataError, match=r"Unpack archives first \(data_scripts/unpack\.py\)"):
        medlab.from_folder(tmp_path / "x.zip", labels=None, patient=None)


def test_the_command(tmp_path, capsys, monkeypatch):
    good, bad = tmp_path / "a.b.tar.gz", tmp_path / "bad.zip"
    with tarfile.open(good, "w:gz") as archive:
        archive.addfile(entry("x")[0], io.BytesIO(EVIL))
    bad.write_bytes(zipped(packed("../x")))
    assert command.main([str(bad), str(good), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "'../x' leads outside" in said.err and "1 files in" in said.out
    assert content(tmp_path / "out") == {"a.b/x": EVIL}
    monkeypatch.chdir(tmp_path)
    assert command.main(["a.b.tar.gz", "--max-gb", "0.000001"]) == 1
    assert "more than 1,000 bytes" in capsys.readouterr().err
    assert command.main(["a.b.tar.gz", "--max-gb", "0.00001"]) == 0
