"""Where tests find things outside the package."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["NOTEBOOKS", "REAL_DATA", "ROOT", "WHY_NO_DATA"]

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# The reader's MEDLAB_DATA, which conftest.py hides from the tests, or the folder beside the
# repository.
_named = os.environ.get("MEDLAB_TEST_DATA")
_folder = Path(_named) if _named else ROOT.parent / "shared" / "data"
REAL_DATA: Path | None = _folder.resolve() if _folder.is_dir() else None
WHY_NO_DATA = f"no real data: MEDLAB_DATA is not set and {_folder} does not exist"
