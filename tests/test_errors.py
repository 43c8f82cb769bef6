"""One atomic write for checkpoints, caches and downloads."""

from __future__ import annotations

import os
import stat

import pytest

from medlab.errors import CheckpointError, DataError, atomic_write


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with atomic_write(path) as part:
        part.write_bytes(b"whole")
        assert part.parent == path.parent and not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("before", [None, b"old"])
def test_an_error_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "file.bin"
    if before:
        path.write_bytes(before)
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_bytes(b"half") / 0
    assert (path.read_bytes() if path.exists() else None) == before
    assert os.listdir(tmp_path) == (["file.bin"] if before else [])


def test_two_writers_never_mix(tmp_path):
    path = tmp_path / "file.bin"
    with atomic_write(path) as one, atomic_write(path) as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert path.read_bytes() == b"one"  # the outer block ends last
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("error", [DataError, CheckpointError])
def test_a_folder_that_is_a_file_is_told(tmp_path, error):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(error, match="cannot write .*file.*: "),
        atomic_write(tmp_path / "file" / "x", error=error),
    ):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_are_those_of_a_plain_file(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_text("")
    with atomic_write(ours) as part:
        part.write_text("")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    ours.chmod(0o600)
    with atomic_write(ours) as part:
        part.write_text("again")
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
