"""The learner's copy and the web pages: nothing is answered in sight, lost, or left out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from medlab.errors import MedlabError
from notebooks import edition, execute
from tests.notebook_rules import checks, output_text
from tests.where import NOTEBOOKS, ROOT

SOLUTION = """<details><summary>Hint</summary>

What is one half?

</details>

<details><summary>Solution</summary>

```python
answer = 0.5
check("toy.1", answer)
```

</details>"""
HEAD = """# 00 · Toy

[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)

See [the next](01_next.ipynb), [the notation](notation.md#signs),
[the guide](teaching/part_marking.md), [a paper](https://doi.org/10.1000/a),
[the solved one](https://github.com/a/b/blob/main/notebooks/00_toy.ipynb) and [here](#toy)."""


def toy() -> nbformat.NotebookNode:
    ask = {"tags": ["hide-output"], "jupyter": {"outputs_hidden": True}}
    cells = [
        new_markdown_cell(HEAD, id="title"),
        new_markdown_cell("**Predict.** What is 1 + 1?", id="ask"),
        new_code_cell("print(1 + 1)", id="told", metadata=ask, outputs=[said("two, as ever")]),
        new_code_cell('answer = ...\ncheck("toy.1", answer)', id="ex1", outputs=[said("○ toy.1")]),
        new_markdown_cell(SOLUTION, id="ex1-solution", metadata={"tags": ["solution"]}),
    ]
    return new_notebook(cells=cells, metadata=execute.METADATA)


def said(text):
    return new_output("stream", name="stdout", text=text)


@pytest.fixture
def source(tmp_path) -> Path:
    """A course of two notebooks, a page, an assignment, and its guide and a table for teachers."""
    folder = tmp_path / "course" / "notebooks"
    (folder / "assignments").mkdir(parents=True)
    nbformat.write(toy(), folder / "00_toy.ipynb")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# 01")]), folder / "01_next.ipynb")
    (folder / "notation.md").write_text("# Notation\n\nOf [00](00_toy.ipynb).\n")
    (folder / "assignments" / "part.md").write_text(
        "[00](../00_toy.ipynb), [guide](../teaching/part_marking.md)\n"
    )
    (folder / "teaching").mkdir()
    (folder / "teaching" / "part_marking.md").write_text("The answers.\n")
    (folder / "teaching" / "matrix.md").write_text("Who examines what.\n")
    return folder


def cells_of(path: Path) -> dict:
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


# ---------------------------------------------------------------------------------- the copy


def test_a_copy_has_no_outputs_and_leads_nowhere_else(source, tmp_path):
    told = edition.publish(tmp_path / "mine", source)
    files = {"00_toy.ipynb", "01_next.ipynb", "notation.md", "assignments/part.md"}
    assert set(told["written"]) == files
    assert not (tmp_path / "mine" / "teaching").exists()
    cells = cells_of(tmp_path / "mine" / "00_toy.ipynb")
    head = cells["title"].source
    assert "badge" not in head and "colab" not in head and "the solved one" in head
    links = re.findall(r"\]\(([^)]+)\)", head)
    assert links == ["01_next.ipynb", "notation.md#signs", "https://doi.org/10.1000/a", "#toy"]
    assert "the guide" in head
    assert (tmp_path / "mine/assignments/part.md").read_text() == "[00](../00_toy.ipynb), guide\n"
    for cell in cells.values():
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count, dict(cell.metadata)) == ([], None, {})
    assert cells["ex1-solution"].source == SOLUTION


def test_it_knows_what_covers_a_folded_text():
    assert edition.COVER == execute.COVER


def test_a_copy_without_solutions_keeps_the_hints(source, tmp_path):
    edition.publish(tmp_path / "class", source, solutions="none")
    text = (tmp_path / "class" / "00_toy.ipynb").read_text()
    assert "What is one half?" in text and "0.5" not in text and "Solution" not in text


@pytest.mark.parametrize(
    "text",
    [
        "<details open><summary>Solution</summary>\n\n0.5\n\n</details>",
        "<details>\n<summary>Solutions</summary>\n\n0.5\n\n</details>",
        SOLUTION.replace("answer = 0.5", "print('</details>')\nanswer = 0.5"),
        SOLUTION + "\n\nOr simply 0.5.",
        SOLUTION.replace("\n", "\r\n"),
    ],
)
def test_a_solution_written_otherwise_goes_too(text):
    notebook = toy()
    notebook.cells[4].source = text
    copy = edition.learners(notebook, solutions="none")
    assert "0.5" not in "".join(cell.source for cell in copy.cells)


LINKS = {
    '[a](01_next.ipynb "title")': '[a](01_next.ipynb "title")',
    "[a]( <01_next.ipynb> )": "[a]( <01_next.ipynb> )",
    "[a](./01_next.ipynb?x=1#y)": "[a](./01_next.ipynb?x=1#y)",
    "[a](assignments/part.md)": "[a](assignments/part.md)",
    '[a](teaching/part_marking.md "guide")': "a",
    "[a](../README.md)": "a",
    "[a](mailto:someone@example.org)": "[a](mailto:someone@example.org)",
    "[a](https://github.com/a/b/blob/v1.2/notebooks/00_toy.ipynb)": "a",
    "[a](https://github.com/a/b/tree/main/notebooks)": "a",
    "[a](https://raw.githubusercontent.com/a/b/main/x.ipynb)": "a",
    "[a](https://github.com/a/b)": "[a](https://github.com/a/b)",
    "`layers[-1](x)` and $f[n](t)$": "`layers[-1](x)` and $f[n](t)$",
    "```python\nreturn layers[-1](x)\n```": "```python\nreturn layers[-1](x)\n```",
}


@pytest.mark.parametrize("text", LINKS)
def test_links(source, text):
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    names = [name for name, _ in edition.course(source)]
    copy = edition.learners(notebook, name="00_toy.ipynb", files=names)
    assert copy.cells[0].source == LINKS[text]


@pytest.mark.parametrize(
    "text",
    [
        "<https://github.com/a/b/blob/main/notebooks/00_toy.ipynb>",
        "[a][b]\n\n[b]: https://github.com/a/b/blob/main/notebooks/00_toy.ipynb",
        '<a href="https://mybinder.org/v2/gh/a/b">run</a>',
    ],
)
def test_a_link_to_the_solved_course_that_cannot_be_taken_out_stops(text):
    with pytest.raises(MedlabError, match="links to the solved course"):
        edition.learners(new_notebook(cells=[new_markdown_cell(text)]))


def test_what_was_written_is_never_overwritten_and_the_rest_is_renewed(source, tmp_path):
    mine = tmp_path / "my notebooks"
    edition.publish(mine, source)
    ours = mine / "00_toy.ipynb"
    ours.write_text(ours.read_text().replace("answer = ...", "answer = 7"))
    (mine / "own.ipynb").write_text("{}")
    told = edition.publish(mine, source)
    assert told == {"written": [], "kept": ["00_toy.ipynb"], "outdated": [], "gone": []}
    for name in ("00_toy.ipynb", "01_next.ipynb"):
        path = source / name
        path.write_text(path.read_text().replace("# 0", "# New 0"))
    told = edition.publish(mine, source)
    assert told == {
        "written": ["01_next.ipynb"],
        "kept": ["00_toy.ipynb"],
        "outdated": ["00_toy.ipynb"],
        "gone": [],
    }
    assert "answer = 7" in ours.read_text()
    assert "# New 01" in (mine / "01_next.ipynb").read_text()
    assert (mine / "own.ipynb").read_text() == "{}"
    # What was renamed makes room for the new one
    ours.rename(mine / "00_mine.ipynb")
    assert edition.publish(mine, source)["written"] == ["00_toy.ipynb"]
    assert "answer = 7" in (mine / "00_mine.ipynb").read_text()


def test_having_been_run_is_no_change(source, tmp_path):
    edition.publish(tmp_path / "mine", source)
    path = tmp_path / "mine" / "00_toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [said("2")]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    nbformat.write(notebook, path)
    assert edition.publish(tmp_path / "mine", source)["kept"] == []
    assert cells_of(path)["told"].outputs


BROKEN = {
    "empty": b"",
    "half": b"half a {",
    "a number": b'{"cells": 3}',
    "a list": b"[]",
    "another encoding": b"caf\xe9",
    "UTF-16": "{}".encode("utf-16"),
    "deep": b"[" * 200_000,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_notebook_is_somebodys_work(source, tmp_path, data):
    edition.publish(tmp_path / "mine", source)
    path = tmp_path / "mine" / "00_toy.ipynb"
    path.write_bytes(data)
    assert edition.publish(tmp_path / "mine", source)["kept"] == ["00_toy.ipynb"]
    assert path.read_bytes() == data


def changed(change):
    def edit(path):
        notebook = nbformat.read(path, as_version=4)
        change(notebook)
        nbformat.write(notebook, path)

    return edit


def as_bytes(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


# What a learner or a program does to a notebook, and whether it must then be kept.
TOUCHES = {
    "an answer": (changed(lambda n: n.cells[3].update(source="answer = 0.5")), True),
    "a prediction": (changed(lambda n: n.cells[1].update(source="**Predict.** 2")), True),
    "a cell more": (changed(lambda n: n.cells.append(new_code_cell("1 + 1"))), True),
    "a cell less": (changed(lambda n: n.cells.pop(2)), True),
    "cells exchanged": (changed(lambda n: n.cells.reverse()), True),
    "a tag": (changed(lambda n: n.cells[3].metadata.update(tags=["mine"])), True),
    "a picture": (
        changed(lambda n: n.cells[1].update(attachments={"a.png": {"image/png": "AAAA"}})),
        True,
    ),
    "an empty cell at the end": (changed(lambda n: n.cells.append(new_code_cell(" "))), False),
    "a fold": (changed(lambda n: n.cells[3].metadata.update(collapsed=True)), False),
    "another indent": (as_bytes(lambda b: json.dumps(json.loads(b), indent=3).encode()), False),
    "line ends": (as_bytes(lambda b: b.replace(b"\n", b"\r\n")), False),
    "a byte order mark": (as_bytes(lambda b: b"\xef\xbb\xbf" + b), False),
}


@pytest.mark.parametrize("name", TOUCHES)
def test_what_counts_as_somebodys_work(source, tmp_path, name):
    touch, kept = TOUCHES[name]
    edition.publish(tmp_path / "mine", source)
    path = tmp_path / "mine" / "00_toy.ipynb"
    touch(path)
    before = path.read_bytes()
    newer = source / "00_toy.ipynb"
    newer.write_text(newer.read_text().replace("# 00", "# New 00"))
    told = edition.publish(tmp_path / "mine", source)
    assert told["kept"] == (["00_toy.ipynb"] if kept else [])
    assert (path.read_bytes() == before) == kept


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_is_repaired_by_another_call(source, tmp_path, monkeypatch, when):
    mine, write, calls = tmp_path / "mine", edition._renew, []

    def stopped(path, *rest):
        calls.append(path)
        if len(calls) == 2 and when == "before":
            raise KeyboardInterrupt
        write(path, *rest)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(edition, "_renew", stopped)
    with pytest.raises(KeyboardInterrupt):
        edition.publish(mine, source)
    monkeypatch.undo()
    assert edition.publish(mine, source)["kept"] == []
    (mine / edition.RECORD).unlink()  # as if killed before it was written
    assert not any(edition.publish(mine, source).values())
    for path in source.glob("*.ipynb"):
        path.write_text(path.read_text().replace("# 0", "# New 0"))
    assert len(edition.publish(mine, source)["written"]) == 2


def test_what_the_course_has_no_more_is_left_and_named(source, tmp_path, capsys):
    edition.publish(tmp_path / "mine", source)
    (source / "01_next.ipynb").rename(source / "02_next.ipynb")
    told = edition.publish(tmp_path / "mine", source)
    assert (told["written"], told["gone"]) == (
        ["00_toy.ipynb", "02_next.ipynb"],
        ["01_next.ipynb"],
    )
    assert (tmp_path / "mine" / "01_next.ipynb").is_file()


def test_folders_and_links_in_the_way_are_somebodys(source, tmp_path):
    mine = tmp_path / "mine"
    (mine / "01_next.ipynb").mkdir(parents=True)
    (tmp_path / "elsewhere.ipynb").write_text("{}")
    (mine / "00_toy.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
    assert edition.publish(mine, source)["kept"] == ["00_toy.ipynb", "01_next.ipynb"]
    assert (tmp_path / "elsewhere.ipynb").read_text() == "{}"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "assignments").write_text("a file")
    with pytest.raises(MedlabError, match="assignments is a file, and a folder is needed"):
        edition.publish(tmp_path / "other", source)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "assignments").symlink_to(source / "assignments")
    with pytest.raises(MedlabError, match="holds the course's own"):
        edition.publish(tmp_path / "linked", source, html=True)


def test_files_of_an_unknown_folder_are_kept(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notation.md").write_text("my own")
    assert edition.publish(tmp_path / "mine", source)["kept"] == ["notation.md"]
    assert (tmp_path / "mine" / "notation.md").read_text() == "my own"


@pytest.mark.parametrize("where", [".", "..", "deeper/down", "../.."])
def test_the_course_itself_is_refused(source, where):
    before = sorted(source.rglob("*"))
    with pytest.raises(MedlabError, match="holds the course's own notebooks"):
        edition.publish(source / where, source)
    assert sorted(source.rglob("*")) == before


def test_a_file_and_a_damaged_record_are_refused(source, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert edition.main([str(tmp_path / "file")]) == 1
    assert "is a file, and a folder is needed" in capsys.readouterr().err
    edition.publish(tmp_path / "mine", source)
    (tmp_path / "mine" / edition.RECORD).write_text("{")
    with pytest.raises(MedlabError, match="is damaged"):
        edition.publish(tmp_path / "mine", source)


def test_the_command_says_what_it_did(tmp_path):
    command = [sys.executable, str(ROOT / "notebooks" / "edition.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.fullmatch(r".*/out: \d+ files written\n", done.stdout)
    again = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert again.stdout.endswith("/out: 0 files written\n")


# ---------------------------------------------------------------------------------- the pages


def test_a_page_folds_solutions_and_what_answers_a_prediction(source, tmp_path):
    edition.publish(tmp_path / "pages", source, html=True)
    page = (tmp_path / "pages" / "00_toy.html").read_text()
    folded = "".join(re.findall(r"<details.*?</details>", page, re.S))
    assert "two, as ever" in folded and "What is one half?" in folded
    assert "two, as ever" not in re.sub(r"<details.*?</details>", "", page, flags=re.S)
    assert 'href="01_next.html"' in page and 'href="notation.html#signs"' in page
    assert (tmp_path / "pages" / "notation.html").is_file()
    assert 'href="../00_toy.html"' in (tmp_path / "pages/assignments/part.html").read_text()
    assert edition.publish(tmp_path / "pages", source, html=True)["written"] == []


# ---------------------------------------------------------------------------------- the course


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("edition")
    edition.publish(folder)
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_copy_of_a_notebook_answers_nothing_in_sight(copy, path):
    text = (copy / path.name).read_text(encoding="utf-8")
    assert "✓ " not in "".join(
        output_text(c) for c in cells_of(copy / path.name).values() if c.cell_type == "code"
    )
    assert "colab-badge" not in text and "/blob/" not in text
    code, ours = (
        [cell.source for cell in cells_of(folder / path.name).values() if cell.cell_type == "code"]
        for folder in (path.parent, copy)
    )
    assert code == ours
    cells = cells_of(copy / path.name)
    for cell in cells.values():
        if cell.cell_type == "code":
            assert not cell.outputs
            continue
        shown = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.S)
        assert not ("solution" in cell.metadata.get("tags", []) and shown.strip())
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", shown):
            assert re.match(r"https?:", target) or (copy / target).exists(), target


def unanswered(notebook) -> bool:
    """Whether each check of a notebook that was run says that nothing was attempted."""
    asked = [cell for cell in notebook.cells if cell.cell_type == "code" and checks(cell)]
    return bool(asked) and all("○" in output_text(cell) for cell in asked)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_untouched_page_answers_no_exercise(path):
    # The copy has this page's code (above), and nbval runs that code and compares these outputs.
    assert unanswered(nbformat.read(path, as_version=4))


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.real
def test_an_untouched_copy_runs_from_top_to_bottom(copy):
    notebook = nbformat.read(copy / "03_convolution.ipynb", as_version=4)
    with execute.clean_environment():
        execute.run(notebook, folder=copy)  # raises with the cell's traceback if one fails
    assert unanswered(notebook)


def test_a_copy_holds_and_names_nothing_that_is_for_teachers(copy):
    assert (copy / "glossary.md").exists() and not (copy / "teaching").exists()
    named = [p.name for p in copy.rglob("*.*") if re.search("_marking|teaching/", p.read_text())]
    assert named == []


def test_the_record_is_no_secret(copy):
    record = json.loads((copy / edition.RECORD).read_text())
    assert set(record) == {
        p.relative_to(copy).as_posix() for p in copy.rglob("*.*") if p.suffix in (".ipynb", ".md")
    }
    shutil.rmtree(copy / "assignments")
    parts = [f"part_{k}{variant}" for k in (1, 2, 3, 4) for variant in ("", "_light")]
    assert edition.publish(copy)["written"] == [f"assignments/{part}.md" for part in parts]
