"""Archives of all kinds are unpacked whole or refused, and nothing else on the disk changes."""

from __future__ import annotations

import pytest

from medlab.datasets import unpack
from medlab.errors import DataError
from tests.hostile_archives import KINDS, sandbox, surroundings, verdict

REFUSED = 40  # kinds at least


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_is_refused_or_comes_out_as_listed(kind, tmp_path):
    target = sandbox(tmp_path)
    archive = tmp_path / f"archive{kind.suffix}"
    archive.write_bytes(kind.build(tmp_path))
    before, error = surroundings(tmp_path), None
    try:
        unpack(archive, target)
    except DataError as reason:
        error = reason
    print(str(error)[:300])
    assert verdict(tmp_path, before, kind, raised=error is not None) in ("refused", "as listed")
