"""What teachers look up is what stands in the notebooks, and the syllabi add up."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from medlab.errors import MedlabError
from notebooks import handbook
from tests.notebook_rules import Page, checks
from tests.where import ROOT

FOLDER = ROOT / "notebooks"
TEACHING = FOLDER / "teaching"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MADE = ("glossary.md", "teaching/matrix.md", "teaching/syllabi.md")


@pytest.fixture(scope="module")
def made():
    return handbook.pages()


@pytest.mark.parametrize("name", MADE)
def test_the_page_is_up_to_date(made, name):
    path = FOLDER / name
    assert path.read_text(encoding="utf-8") == made[path], "run python notebooks/handbook.py"


def number(path: Path) -> str:
    return path.stem.partition("_")[0]


def table_rows(text: str, columns: int) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.split("\n") if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if len(row) == columns]


# ------------------------------------------------------------------------------------ matrix


@pytest.mark.parametrize("path", NOTEBOOKS, ids=number)
def test_matrix_names_each_objective_and_each_exercise(path):
    page = Page.read(path)
    text = (TEACHING / "matrix.md").read_text(encoding="utf-8")
    after = text.partition(f"](../{path.name})")[2]
    own = re.split(r"^\| \[|^## ", after, maxsplit=1, flags=re.M)[0]
    promise = re.split("you will be able to", page.head, maxsplit=1, flags=re.I)[1]
    listed = re.search(r"(?:^[-*] .*\n(?:  .*\n)*)+", promise + "\n", re.M)[0]
    for objective in re.findall(r"^[-*] (.*)$", listed, re.M):
        assert objective.strip(" .;") in own
    rows = ["", *(line.split(" | ") for line in own.split("\n") if " | " in line)]
    named = {n for row in rows[1:] for n in re.findall(r"(?:^|, )(\d+)\b", row[-2])}
    asked = {name.partition(".")[2] for cell in page.code for name in checks(cell)}
    assert named == asked


@pytest.mark.parametrize("page", sorted(FOLDER.glob("assignments/*.md")), ids=lambda p: p.stem)
def test_each_task_of_an_assignment_examines_something(page):
    table = (TEACHING / "objectives.toml").read_text(encoding="utf-8")
    tasks = handbook.tasks(page)
    assert len(tasks) > 8
    name = handbook.assignment_name(page)
    assert [task for task in tasks if f'"{name} {task}"' not in table] == []


def test_tasks_and_names_of_an_assignment(tmp_path):
    page = tmp_path / "part_3_light.md"
    page.write_text(
        "# A\n\n## 1 · B (9 points)\n\n- a. (4) C\n- b. (5) D\n\n## 2 · E (1 points)\n\nF"
    )
    assert handbook.tasks(page) == ["1a", "1b", "2"]
    assert handbook.assignment_name(page) == "III light"
    assert handbook.assignment_name(tmp_path / "part_1.md") == "I"


# ------------------------------------------------------------------------------------ glossary


ENTRY = re.compile(r"^- \*\*(.+?)\*\*: (.*) \(\[\w+, (.*)\]\(([^()#]+)#([^()]+)\)(.*)\)$")


def test_glossary_holds_terms_where_they_stand():
    text = (FOLDER / "glossary.md").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line.startswith("- ")]
    assert len(lines) > 200
    sources = {path.name: Page.read(path).text for path in NOTEBOOKS}
    terms = []
    for line in lines:
        term, sentence, heading, name, anchor, _ = ENTRY.match(line).groups()
        assert re.search(rf"\*\*{re.escape(term)}\*\*", " ".join(sources[name].split())), term
        assert term in sentence
        assert unquote(anchor) == heading.replace("`", "").replace(" ", "-")
        assert re.search(rf"^##+ {re.escape(heading)}$", sources[name], re.M), heading
        terms.append(re.sub(r"[^a-z0-9]", "", term.lower()))
    assert terms == sorted(terms)
    assert len(set(terms)) == len(terms)


def test_words_that_are_no_terms_are_in_order_and_in_no_entry():
    stressed = (TEACHING / "stressed.txt").read_text(encoding="utf-8").splitlines()
    assert stressed == sorted(set(stressed))
    entries = (FOLDER / "glossary.md").read_text(encoding="utf-8").lower()
    assert [
        word for word in stressed if f"\n- **{word}**:" in entries or word != word.lower()
    ] == []


# ------------------------------------------------------------------------------------ syllabi

SYLLABI = (TEACHING / "syllabi.md").read_text(encoding="utf-8")
TABLES = dict(re.findall(r"^## (One \w+)\n(.*?)(?=^## |\Z)", SYLLABI, re.M | re.S))


def minutes(path: Path) -> tuple[int, int]:
    """In the sitting and at home, as the notebook's table says."""
    row = re.search(r"^\| (about )?\d.*? \|", Page.read(path).head, re.M)[0]
    sitting = sum(int(n) for n in re.match(r"\D*(\d+)(?: and (\d+))?", row).groups() if n)
    more = re.search(r"another (\d+)", row)
    return sitting, int(more[1]) if more else 0


@pytest.mark.parametrize("name", TABLES)
def test_minutes_of_a_syllabus_are_the_notebooks_own_and_add_up(name):
    known = {number(path): minutes(path) for path in NOTEBOOKS}
    block, whole, seen = [0, 0], [0, 0], []
    for _, what, sections, in_class, _, at_home in table_rows(TABLES[name], 6):
        if what == "notebook":
            block, whole = [0, 0], [0, 0]
            continue
        own = [int(in_class), int(at_home)]
        if what in ("*together*", "*in all*"):
            assert own == (block if what == "*together*" else whole)
            limit = {"One day": 120, "One week": 330, "One semester": 180}[name]
            assert what != "*together*" or own[0] <= limit
            block = [0, 0]
            continue
        if found := re.match(r"\[(\w+) · ", what):
            seen.append(found[1])
            if sections == "all":
                assert tuple(own) == known[found[1]]
            elif not sections.startswith("sitting"):
                assert 0 < own[0] < known[found[1]][0] and sum(own) == known[found[1]][0]
        block, whole = ([a + b for a, b in zip(c, own, strict=True)] for c in (block, whole))
    assert len(seen) > 5


def test_the_semester_holds_the_whole_course():
    rows = [what for _, what, *_ in table_rows(TABLES["One semester"], 6)]
    taught = [found[1] for what in rows if (found := re.match(r"\[?(\d\d\w?) · ", what))]
    course = [number(path) for path in NOTEBOOKS if number(path) != "primer"]
    assert set(course) <= set(taught)
    assert len(taught) == len(set(taught)) + 1  # the capstone has two sittings
    weeks = [when for when, *_ in table_rows(TABLES["One semester"], 6) if when.startswith("week")]
    assert weeks == [f"week {k}" for k in range(1, 16)]


@pytest.mark.parametrize("page", sorted(TEACHING.glob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


# ------------------------------------------------------------------------------------ a toy course

HEAD = """# 03 · Toys: what are they?

| Time | Needs | Before this | Data |
|---|---|---|---|
| about 40 minutes; what is *extra* is another 15, for home | **nothing** | 00 | none |

**You will be able to**

- **write** a toy;
- as an extra, **write** another."""
BODY = """## 1. Wood

A **toy** is small. It is a **plaything** of `wood`,

$$a = b$$

and **never** more. A line about toys that fills this section, so that it takes a while to read.

**Exercise 1.** Write `a`."""
MORE = """## 2. Tin (extra)

The **toy** again, and **tin**. **Predict.** What is it?

**Exercise 2 (extra).** Write `B`."""
END = (
    "## Common mistakes\n\n- **Losing** it.\n\n## 3. Paper\n\nA sheet of **paper**: thin."
    + " So." * 300
)


def toy(cells=(HEAD, "x = 1", BODY, 'def a():\n    ...\n\n\ncheck("toys.1", a)', MORE,
               'class B:\n    ...\n\n\ncheck("toys.2", B)', END)):  # fmt: skip
    kinds = [new_code_cell if re.match(r"x =|def|class", c) else new_markdown_cell for c in cells]
    return new_notebook(cells=[make(c) for make, c in zip(kinds, cells, strict=True)])


@pytest.fixture
def course(tmp_path) -> Path:
    folder = tmp_path / "notebooks"
    (folder / "teaching").mkdir(parents=True)
    (folder / "assignments").mkdir()
    nbformat.write(toy(), folder / "03_toys.ipynb")
    (folder / "assignments" / "part_1.md").write_text("## 1 · A (100 points)\n\nB\n")
    (folder / "teaching" / "objectives.toml").write_text(
        '[03]\nwrite = ["1", "I 1"]\n"write 2" = ["2"]\n'
    )
    (folder / "teaching" / "stressed.txt").write_text("never\n")
    (folder / "teaching" / "syllabi.md").write_text(
        "| when | notebook | sections | minutes | for home | minutes |\n|---|---|---|---|---|---|\n"
        "| now | 03 | all | | | |\n| | 03 | 1 | | | |\n| | Talk | | 10 | | 0 |\n"
        "| | *together* | | | | |\n| | 04 · Not there | all | 70 | | 5 |\n| | *in all* | | | | |\n"
    )
    return folder


def test_a_notebook_as_a_teacher_sees_it(course):
    (notebook,) = handbook.notebooks(course)
    assert (notebook.number, notebook.title) == ("03", "Toys")
    assert (notebook.minutes, notebook.minutes_at_home) == ([40], 15)
    assert notebook.objectives == {
        "write": "**write** a toy",
        "write 2": "as an extra, **write** another",
    }
    assert [str(one) for one in notebook.exercises] == ["1 `a`", "2 `B` (extra)"]
    assert 0.5 < notebook.share({1}) < 0.95
    whole = notebook.share({0, 1, 3})
    assert whole == pytest.approx(1)  # what is extra takes nothing of the sitting
    with pytest.raises(MedlabError, match="no section 7"):
        notebook.share({1, 7})


def test_glossary_of_a_toy(course):
    text = handbook.pages(course)[course / "glossary.md"]
    entries = [line for line in text.split("\n") if line.startswith("- ")]
    assert entries == [
        "- **paper**: A sheet of paper: thin. ([03, 3. Paper](03_toys.ipynb#3.-Paper))",
        "- **plaything**: A toy is small. It is a plaything of `wood`, $a = b$ "
        "([03, 1. Wood](03_toys.ipynb#1.-Wood))",
        "- **tin**: The toy again, and tin. "
        "([03, 2. Tin (extra)](03_toys.ipynb#2.-Tin-%28extra%29))",
        "- **toy**: A toy is small. ([03, 1. Wood](03_toys.ipynb#1.-Wood))",
    ]


def test_glossary_says_where_a_term_comes_again(course):
    later = toy((HEAD.replace("03", "04"), "x = 1", "## 1. Tin\n\nOf **Tin** and of **glass**."))
    nbformat.write(later, course / "04_tin.ipynb")
    text = handbook.glossary(handbook.notebooks(course))
    assert "#2.-Tin-%28extra%29), again in 04)" in text and "**glass**" in text


def test_matrix_of_a_toy(course):
    text = handbook.pages(course)[course / "teaching" / "matrix.md"]
    assert "| [03 · Toys](../03_toys.ipynb) | **write** a toy | 1 `a` | I 1 |\n" in text
    assert "|  | as an extra, **write** another | 2 `B` (extra) | — |\n" in text
    assert text.endswith("| 1 | 03 |\n")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('[03]\nwrite = ["1", "2"]\n', "names the objectives"),
        ('[03]\nwrite = ["1"]\n"write 2" = []\n', "names the exercises"),
        ('[03]\nwrite = ["1"]\n"write 2" = ["2", "3"]\n', "names the exercises"),
        ('[03]\nwrite = ["1", "I 2"]\n"write 2" = ["2"]\n', "has no task I 2"),
        ('[03]\nwrite = ["1", "V 2"]\n"write 2" = ["2"]\n', "no assignment .*V 2"),
    ],
)
def test_a_table_that_does_not_fit_the_notebooks_is_refused(course, table, told):
    (course / "teaching" / "objectives.toml").write_text(table)
    with pytest.raises(MedlabError, match=told):
        handbook.pages(course)


def test_a_notebook_without_a_table_has_one_row(course):
    (course / "teaching" / "objectives.toml").write_text('[03]\n"*" = ["I 1"]\n')
    text = handbook.pages(course)[course / "teaching" / "matrix.md"]
    assert (
        "| **write** a toy<br>as an extra, **write** another | 1 `a`, 2 `B` (extra) | I 1 |" in text
    )


def test_syllabus_of_a_toy(course):
    text = handbook.pages(course)[course / "teaching" / "syllabi.md"]
    rows = table_rows(text, 6)[1:]
    link = "[03 · Toys](../03_toys.ipynb)"
    assert rows[0] == ["now", link, "all", "40", "what is extra, with exercise 2", "15"]
    part = int(rows[1][3])
    assert rows[1] == ["", link, "1", str(part), "the other sections", str(40 - part)]
    assert part % 5 == 0 and 20 <= part < 40
    assert rows[2] == ["", "Talk", "", "10", "", "0"]
    assert rows[3] == ["", "*together*", "", str(50 + part), "", str(55 - part)]
    assert rows[4] == ["", "04 · Not there", "all", "70", "", "5"]
    assert rows[5] == ["", "*in all*", "", str(120 + part), "", str(60 - part)]
    assert handbook.syllabi(text, handbook.notebooks(course)) == text


def test_sittings_and_sections_of_a_syllabus(course):
    double = HEAD.replace("about 40 minutes", "about 40 and 50 minutes")
    nbformat.write(toy((double, "x = 1", BODY)), course / "03_toys.ipynb")
    lines = "| | 03 | sitting 1 | | | |\n| | 03 | sitting 2 | | | |\n| | 03 | all | | | |"
    rows = table_rows(handbook.syllabi(lines, handbook.notebooks(course)), 6)
    assert [row[3::2] for row in rows] == [["40", "0"], ["50", "15"], ["90", "15"]]
    with pytest.raises(MedlabError, match="names the sections 'most'"):
        handbook.syllabi("| | 03 | most | | | |", handbook.notebooks(course))


def test_a_head_that_cannot_be_read_is_named(course):
    bad = HEAD.replace("about 40 minutes", "an hour").replace("# 03 · Toys", "03 Toys")
    nbformat.write(toy((bad, "x = 1", BODY)), course / "03_toys.ipynb")
    (notebook,) = handbook.notebooks(course)
    with pytest.raises(MedlabError, match="does not say 'about … minutes'"):
        print(notebook.minutes)
    with pytest.raises(MedlabError, match="03_toys.ipynb opens with no title"):
        handbook.pages(course)


def test_the_command_writes_or_checks(course, monkeypatch, capsys):
    monkeypatch.setattr(handbook, "FOLDER", course)
    assert handbook.main(["--check"]) == 1
    assert "glossary.md: out of date" in capsys.readouterr().out
    assert not (course / "glossary.md").exists()
    assert handbook.main([]) == 0
    assert handbook.main(["--check"]) == 0
    (course / "teaching" / "objectives.toml").unlink()
    assert handbook.main([]) == 1
    assert capsys.readouterr().err.startswith("handbook: ")
