"""The rooms of the package: their order, their doors, their names and their size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import room_rules
from tests.room_rules import MAX_LINES, RULES, House
from tests.where import ROOT

# Public names that no notebook, exercise, script, benchmark or page uses, and who needs them.
CAUGHT = "a user's program catches it"
GIVEN = "what a public function gives, for a user's type hints"
SHARED = "rooms below build on it"
NEEDS = {
    "errors.CheckpointError": CAUGHT,
    "errors.DownloadError": CAUGHT,
    "errors.HashMismatch": CAUGHT,
    "errors.Interrupted": CAUGHT,
    "cohort.Leaks": GIVEN,
    "cohort.images_of": SHARED,
    "dicom.DicomImage": GIVEN,
    "dicom.Identifier": GIVEN,
    "dicom.read_cine": "ultrasound and cardiac MRI come as cines",
    "simulate.Simulated": SHARED,
    "training.Detection": "a user predicts from images without a card",
    "models.undisturbed": SHARED,
    "deploy.Found": GIVEN,
    "deploy.Packed": GIVEN,
    "deploy.Study": GIVEN,
    "metrics.UndefinedMetric": CAUGHT,
    "metrics.binary_pairs": SHARED,
    "training.Classification": "a user makes a task of their own from it",
    "training.History": GIVEN,
    "training.Multilabel": "a user predicts from images without a card",
    "training.Task": "a user writes a task of their own",
    "training.average_into": "a user writes the loop by hand",
    "training.load_model": "a user takes a trained model elsewhere",
    "training.one_cycle": "a user writes the loop by hand",
    "training.save_weights": "a user takes a trained model elsewhere",
}


COURSE = House(ROOT, NEEDS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rooms(rule):
    assert sorted(set(rule(COURSE))) == []


# ------------------------------------------------------------------------------ the rules see

FILES = {
    "medlab/__init__.py": '_NAMES = {"fit": "training"}\n__all__ = [*_NAMES]\n',
    "medlab/errors.py": '__all__ = ["MedlabError"]\nclass MedlabError(ValueError): ...\n',
    "medlab/cohort/__init__.py": "from medlab.cohort.container import Cohort\n"
    '__all__ = ["Cohort"]\n',
    "medlab/cohort/container.py": "from medlab.errors import MedlabError\n"
    "from medlab.cohort._ids import text_of\nclass Cohort: ...\n",
    "medlab/cohort/_ids.py": "def text_of(): ...\n",
    "medlab/training/__init__.py": "from medlab.training.loop import fit\n"
    "from medlab.training.state import Run\n"
    '__all__ = ["Run", "fit"]\n',
    "medlab/training/loop.py": "import numpy\nfrom .state import Run\n"
    "from ..cohort import Cohort\ndef fit(): ...\n",
    "medlab/training/state.py": "from medlab import cohort\nclass Run: ...\n",
    "medlab/exercises/__init__.py": "from medlab.training import fit\n"
    '__all__ = ["check"]\ndef check(): ...\n',
    "data_scripts/make.py": "from medlab.errors import MedlabError\n",
    "benchmarks/run.py": "from medlab import cohort as c\nc.Cohort\n",
    "README.md": "`medlab.fit(model)`\n```python\nimport medlab\nmedlab.fit()\n```\n",
}
CELL = "%matplotlib inline\nimport medlab\nfrom medlab.exercises import check\ncheck(medlab.fit)"
SMALL_NEEDS = {"training.Run": "what fit gives"}


def notebook(code: str, text: str = "# Title") -> str:
    cells = [
        {"cell_type": "markdown", "source": [text]},
        {"cell_type": "code", "source": code.splitlines(keepends=True)},
    ]
    return json.dumps({"cells": cells})


def build(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def small(tmp_path) -> Path:
    """A sound course in small."""
    return build(tmp_path, {**FILES, "notebooks/00_start.ipynb": notebook(CELL)})


def test_a_sound_course_draws_no_complaint(small):
    assert room_rules.complaints(House(small, SMALL_NEEDS)) == []


ADDITIONS = [
    # order
    ("medlab/cohort/_ids.py", "from medlab.training import fit", "order", "training, a room below"),
    ("medlab/cohort/_ids.py", "from ..training.loop import fit", "order", "training.loop"),
    ("medlab/cohort/_ids.py", "def f():\n    import medlab.training", "order", "a room below it"),
    (
        "medlab/cohort/_ids.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from medlab import training",
        "order",
        "a room below it",
    ),
    ("medlab/errors.py", "def f():\n    from . import cohort", "order", "medlab.cohort"),
    ("medlab/errors.py", "import_module('medlab.training')", "order", "medlab.training"),
    ("medlab/errors.py", "importlib.import_module('medlab.training')", "order", "medlab.training"),
    ("medlab/cohort/_ids.py", "from medlab import fit", "order", "imports medlab.fit, not a room"),
    ("medlab/cohort/_ids.py", "import medlab", "order", "imports medlab, not a room"),
    ("medlab/training/state.py", "from medlab import exercises", "order", "exercises"),
    ("medlab/sealed.py", "__all__ = []", "order", "sealed is no room"),
    ("medlab/fork/__init__.py", "__all__ = []", "order", "fork is no room"),
    # circles
    ("medlab/training/state.py", "from medlab.training.loop import fit", "circles", "state"),
    ("medlab/training/state.py", "def f():\n    from .loop import fit", "circles", "loop"),
    ("medlab/training/state.py", "from . import fit", "circles", "medlab.training ←"),
    ("medlab/training/state.py", "from . import loop", "circles", "loop"),
    (
        "medlab/cohort/_ids.py",
        "if TYPE_CHECKING:\n    from medlab.cohort.container import Cohort",
        "circles",
        "container",
    ),
    # private names
    ("medlab/training/loop.py", "from .state import _x", "private_names", "takes _x from"),
    ("medlab/training/loop.py", "from medlab.cohort import _ids", "private_names", "reaches into"),
    (
        "medlab/training/loop.py",
        "from medlab.cohort._ids import text_of",
        "private_names",
        "reaches into medlab.cohort._ids",
    ),
    # public lists
    (
        "medlab/training/loop.py",
        "__all__ = ['fit']",
        "public_lists",
        "training.loop has an __all__",
    ),
    ("medlab/training/loop.py", "__all__: list[str] = []", "public_lists", "training.loop has"),
    ("medlab/plotting.py", "x = 1", "public_lists", "plotting has no __all__"),
    ("medlab/metrics/__init__.py", "x = 1", "public_lists", "metrics has no __all__"),
    # file names
    ("medlab/training/loop.py", "def loop(): ...", "file_names", "holds a loop"),
    ("medlab/training/loop.py", "class loop: ...", "file_names", "holds a loop"),
    ("medlab/training/fit.py", "x = 1", "file_names", "called as the room's fit"),
    ("medlab/exercises/check.py", "x = 1", "file_names", "called as the room's check"),
    (
        "medlab/training/container.py",
        "x = 1",
        "file_names",
        "2 files or rooms are called container",
    ),
    ("medlab/exercises/_ids.py", "x = 1", "file_names", "2 files or rooms are called _ids"),
    ("medlab/training/cohort.py", "x = 1", "file_names", "2 files or rooms are called cohort"),
    # used
    ("medlab/plotting.py", "__all__ = ['show']", "used", "nothing uses plotting.show"),
    ("medlab/plotting.py", "__all__: list[str] = ['show']", "used", "nothing uses plotting.show"),
    ("benchmarks/run.py", "from medlab.training import Run", "used", "Run, which the course uses"),
    (
        "medlab/plotting.py",
        "_MORE = ('show',)\n__all__ = ['look', *_MORE]",
        "used",
        "nothing uses plotting.show",
    ),
    ("medlab/plotting.py", "__all__ = 'look show'.split()", "used", "nothing uses plotting.show"),
    # doors
    ("benchmarks/run.py", "from medlab.training.loop import fit", "doors", "training.loop"),
    ("data_scripts/make.py", "import medlab.training.loop as l", "doors", "training.loop"),
    ("data_scripts/make.py", "from medlab.training import loop", "doors", "training.loop"),
    ("data_scripts/make.py", "import medlab\nmedlab.training.loop.fit", "doors", "training.loop"),
    # lines
    ("medlab/training/loop.py", "\n" * MAX_LINES, "lines", f"at most {MAX_LINES}"),
]


@pytest.mark.parametrize(("path", "text", "rule", "said"), ADDITIONS)
def test_a_rule_sees_what_was_added(small, path, text, rule, said):
    path = small / path
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + text + "\n")
    found = [line for line in room_rules.complaints(House(small, SMALL_NEEDS)) if said in line]
    assert rule in {line.split(":")[0] for line in found}


def see(rule: Callable, house: House) -> str:
    return "\n".join(dict.fromkeys(rule(house)))


@pytest.mark.parametrize(
    "code",
    [
        "from medlab.training.loop import fit",
        "from medlab.training import loop",
        "import medlab.training.loop",
        "import medlab as m\nm.training.loop.fit()",
        "from medlab import training as t\nt.loop.fit()",
        "def f():\n    from medlab.training import loop",
    ],
)
def test_a_notebook_enters_by_the_door(small, code):
    build(small, {"notebooks/01_next.ipynb": notebook(code)})
    said = "01_next.ipynb uses medlab.training.loop, a file in a room"
    assert see(room_rules.doors, House(small, SMALL_NEEDS)) == said
    solution = f"<details>\n\n```python\n{code}\n```\n</details>"
    build(small, {"notebooks/01_next.ipynb": notebook("1", solution)})
    assert see(room_rules.doors, House(small, SMALL_NEEDS)) == said


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("from medlab.training import Run", True),
        ("from medlab import training\ntraining.Run", True),
        ("import medlab as m\nm.training.Run()", True),
        ("import medlab.training\nmedlab.training.Run", True),
        ("class Run: ...\nRun()", False),
        ("import other as training\ntraining.Run", False),
        ("'medlab.training.Run'", False),
        ("# medlab.training.Run", False),
    ],
)
def test_what_counts_as_use(small, code, counts):
    build(small, {"notebooks/01_next.ipynb": notebook(code)})
    assert see(room_rules.used, House(small, {})) == ("" if counts else "nothing uses training.Run")


def test_a_room_may_hand_out_files_of_its_own_as_rooms_in_it(small):
    """As `medlab.simulate.ct`, where four modalities have functions of the same names."""
    path = small / "medlab/training/__init__.py"
    path.write_text(path.read_text().replace('["Run", "fit"]', '["Run", "fit", *_PARTS]'))
    path.write_text("_PARTS = ('loop',)\n" + path.read_text())
    build(small, {"notebooks/01_next.ipynb": notebook("from medlab.training import loop")})
    assert room_rules.complaints(House(small, SMALL_NEEDS)) == []


def test_a_public_list_that_cannot_be_read_is_refused(small):
    (small / "medlab/plotting.py").write_text("__all__ = sorted(globals())\n")
    with pytest.raises(ValueError, match="malformed"):
        room_rules.complaints(House(small, SMALL_NEEDS))


def test_what_medlab_lends_counts_for_its_room(small):
    for name in ("notebooks/00_start.ipynb", "README.md", "medlab/exercises/__init__.py"):
        house = House(small, SMALL_NEEDS)
        assert "training.fit" not in see(room_rules.used, house)
        (small / name).write_text(notebook("1") if name.endswith("ipynb") else "__all__ = []")
    assert "nothing uses training.fit" in see(room_rules.used, House(small, SMALL_NEEDS))


def test_a_need_that_is_none_is_told(small):
    needs = {**SMALL_NEEDS, "training.gone": "no more", "cohort.Cohort": "used meanwhile"}
    said = see(room_rules.used, House(small, needs)).splitlines()
    assert said == [
        "the list of needs has training.gone, which is not there",
        "the list of needs has cohort.Cohort, which the course uses",
    ]


def test_lines_of_exercises_are_not_counted(small):
    (small / "medlab/exercises/nb00.py").write_text("\n" * MAX_LINES)
    assert see(room_rules.lines, House(small, SMALL_NEEDS)) == ""
