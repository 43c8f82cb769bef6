"""Write what can be looked up in the notebooks once more: glossary, matrix, syllabi.

    python notebooks/handbook.py            # after any change of a notebook or an assignment
    python notebooks/handbook.py --check    # write nothing, and return 1 if a page is out of date

`glossary.md` holds each term that stands in bold, with the sentence of its first use; bold words
that name nothing stand in `teaching/stressed.txt`, one a line. `teaching/matrix.md` says which
exercise and which task of an assignment examines which objective: objectives and exercises come
from the notebooks, what belongs together from `teaching/objectives.toml`. In `teaching/syllabi.md`
the rows are chosen by hand, and names, minutes, homework and sums filled in from the notebooks.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from medlab.errors import MedlabError

__all__ = ["Notebook", "glossary", "matrix", "notebooks", "pages", "syllabi", "tasks"]

FOLDER = Path(__file__).resolve().parent
WORDS_A_MINUTE, MINUTES_AN_EXERCISE = 150, 7
PARTS = {
    "I": "Images and the mathematics of a CNN",
    "II": "Classification",
    "III": "Beyond one label per image",
    "IV": "From score to clinic",
    "V": "The frontier",
}
FIRST = {"I": 0, "II": 8, "III": 15, "IV": 25, "V": 34}  # notebook that opens a part

# What the end of a notebook repeats
_POINTS_BACK = re.compile(r"(This|That|These|Those|It|Its|They|Such|So|There|Then|Here)\b")
_REPEATS = ("common mistakes", "summary", "quiz", "open questions", "further reading", "what comes")


@dataclass(frozen=True)
class Exercise:
    """One exercise: its number, whether it is for home, and the function that it asks for."""

    number: str
    extra: bool
    gist: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.number, self.gist, "(extra)" * self.extra)))


@dataclass(frozen=True)
class Notebook:
    """A notebook as a teacher sees it: what it promises, asks and takes."""

    path: Path

    @property
    def number(self) -> str:
        """ "03", "21b" or "primer"."""
        return self.path.stem.split("_")[0]

    @cached_property
    def cells(self) -> list[dict]:
        """Cells with their text, without hints and solutions."""
        found = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        return [
            {**cell, "source": "".join(cell["source"])}
            for cell in found
            if "solution" not in cell["metadata"].get("tags", [])
        ]

    @cached_property
    def head(self) -> str:
        """Text before the first code."""
        texts = []
        for cell in self.cells:
            if cell["cell_type"] == "code":
                break
            texts.append(cell["source"])
        return "\n\n".join(texts)

    @property
    def title(self) -> str:
        found = re.match(r"# (?:\d\d\w? · )?([^:\n]+)", self.head)
        if not found:
            raise MedlabError(f"{self.path.name} opens with no title")
        return found[1].strip()

    @property
    def minutes(self) -> list[int]:
        """Of each sitting, as the table at the top says."""
        found = re.search(r"\| (?:about )?(\d+)(?: and (\d+))? min", self.head)
        if not found:
            raise MedlabError(f"the table of {self.path.name} does not say 'about … minutes'")
        return [int(n) for n in found.groups() if n]

    @property
    def minutes_at_home(self) -> int:
        """What is marked as extra, as the table at the top says; 0 if nothing is."""
        found = re.search(r"\| (?:about )?\d[^|]*?\banother (?:about )?(\d+)", self.head)
        return int(found[1]) if found else 0

    @property
    def objectives(self) -> dict[str, str]:
        """Verb -> sentence of the list "You will be able to"; a second verb is "write 2"."""
        after = re.split("you will be able to", self.head, maxsplit=1, flags=re.I)[-1]
        listed = re.search(r"(?:^[-*] .*\n(?:[ ]+\S.*\n)*)+", after + "\n", re.M)
        items = re.split(r"^[-*] ", listed[0], flags=re.M)[1:] if listed else []
        found: dict[str, str] = {}
        for item in items:
            text = " ".join(item.split()).rstrip(".;")
            bold = re.search(r"\*\*(\w+)", text)
            verb = (bold[1] if bold else text.split()[0]).lower()
            count = sum(key.split()[0] == verb for key in found)
            found[f"{verb} {count + 1}" if count else verb] = text
        return found

    @property
    def exercises(self) -> list[Exercise]:
        found, home = [], False
        for cell in self.cells:
            for stated in re.findall(r"\*\*Exercise \d+([^*]*)", cell["source"]):
                home = "(extra" in stated
            if cell["cell_type"] == "markdown":
                continue
            for number in re.findall(r"""\bcheck\(\s*["'][a-z_]+\.(\d+)["']""", cell["source"]):
                asked = re.search(r"(?:def|class) (\w+)", cell["source"])
                found.append(Exercise(number, home, f"`{asked[1]}`" if asked else ""))
        return found

    def share(self, sections: set[int]) -> float:
        """Part of the sitting that numbered sections take: their words, and their exercises."""
        took: dict[int, float] = {}
        place, extra, asked = 0, False, False
        for cell in self.cells:
            if cell.get("id") in ("setup", "imports"):
                continue
            own = cell["source"]
            for part in _sections(own) if cell["cell_type"] == "markdown" else [own]:
                if title := re.match(r"## (?:(\d+))?", part):
                    place = int(title[1] or 0)
                if cell["cell_type"] == "markdown":
                    extra = _is_extra(part, extra)
                    if stated := re.search(r"\*\*Exercise \d+[^*]*", part):
                        asked = "(extra" in stated[0]
                checks = len(re.findall(r"\bcheck\(\s*[\"']", part))
                if not extra and not (asked and checks):
                    time = len(part.split()) / WORDS_A_MINUTE + checks * MINUTES_AN_EXERCISE
                    took[place] = took.get(place, 0) + time
        if lacking := sections - set(took):
            raise MedlabError(f"{self.path.name} has no section {min(lacking)}")
        return sum(took[k] for k in sections) / sum(took.values())


def _sections(text: str) -> list[str]:
    return re.split(r"^(?=#{2,3} )", text, flags=re.M)


def _is_extra(part: str, before: bool) -> bool:
    """Whether a text stands in a section that is marked as extra, given that of the text before."""
    title = re.match(r"(#+) (.*)", part)
    if not title:
        return before
    return "(extra)" in title[2] or (before and title[1] == "###")


def notebooks(folder: Path = FOLDER) -> list[Notebook]:
    """All notebooks in the order of the course."""
    paths = sorted(folder.glob("*.ipynb"), key=lambda p: (p.stem[0].isdigit(), p.stem))
    return [Notebook(path) for path in paths]


# ------------------------------------------------------------------------------------ glossary


def glossary(course: list[Notebook], stressed: frozenset[str] = frozenset()) -> str:
    """Page of all terms in bold but the `stressed`: sentence and place of the first use, more."""
    first: dict[str, tuple[str, str, Notebook, str]] = {}
    again: dict[str, list[str]] = {}
    for notebook in course:
        for term, sentence, heading in _terms(notebook):
            key = re.sub(r"[^a-z0-9]", "", term.lower())
            if term.lower() in stressed:
                continue
            if key not in first:
                first[key] = term, sentence, notebook, heading
            elif notebook.number not in {first[key][2].number, *again.get(key, [])}:
                again.setdefault(key, []).append(notebook.number)
    rows = ["# Glossary", "", GLOSSARY_HEAD]
    letter = ""
    for key in sorted(first):
        term, sentence, notebook, heading = first[key]
        if key[:1].upper() != letter:
            letter = key[:1].upper()
            rows += ["", f"## {letter}", ""]
        place = f"[{notebook.number}, {heading}]({notebook.path.name}#{_anchor(heading)})"
        more = f", again in {', '.join(again[key])}" if key in again else ""
        rows.append(f"- **{term}**: {sentence} ({place}{more})")
    return "\n".join(rows) + "\n"


GLOSSARY_HEAD = """\
Terms that stand in bold in the notebooks, each with the sentence in which it is first used and the
place of that sentence. Symbols stand in [notation.md](notation.md). This page is written by
`notebooks/handbook.py`."""


def _terms(notebook: Notebook) -> Iterator[tuple[str, str, str]]:
    """Term, sentence, heading of each bold term in the text of a notebook."""
    heading, inside = "", False
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            inside = True
            continue
        for part in _sections(cell["source"]):
            if title := re.match(r"#{2,3} (.*)", part):
                heading = title[1].strip()
            plain = re.sub(r"^[\d. ·]+", "", heading).lower()
            if not inside or plain.startswith(_REPEATS):
                continue
            text = re.sub(r"```.*?```|<details>.*?</details>", "", part, flags=re.S)
            blocks = re.split(r"\n\s*\n|\n(?=[-*|\d] ?\S)", text)
            for block, after in zip(blocks, [*blocks[1:], ""], strict=True):
                goes_on = after.startswith("$$") and not re.search(r"[.?!]\s*$", block)
                whole = f"{block} {after}" if goes_on else block
                yield from ((term, sentence, heading) for term, sentence in _bold(whole))


def _bold(block: str) -> Iterator[tuple[str, str]]:
    """Term and sentence of each bold term in a paragraph."""
    block = re.sub(r"\$\$\s*(.+?)\s*\$\$", r"$\1$", " ".join(block.split()))
    if block.startswith(("|", "#")):
        return
    block = re.sub(r"^([-*]|\d+\.) ", "", block)
    sentences = re.split(r"(?<=[.?!])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z*`$\[(\"])", block)
    for k, sentence in enumerate(sentences):
        for term in re.findall(r"\*\*([^*]+)\*\*", sentence):
            if not _is_term(term):
                continue
            plain = sentence
            if k and re.match(
                r"(This|That|These|Those|It|Its|They|Such|So|There|Then|Here)\b", plain
            ):
                plain = f"{sentences[k - 1]} {plain}"
            yield term, plain.replace("**", "").strip().rstrip(":")


def _is_term(term: str) -> bool:
    words = term.strip("`").split()
    return (
        not re.search(r"[.:?!,]$|\$|^\d|^(?:Exercise|Predict)\b", term)
        and len(words) <= 5
        and len(term) > 1
    )


def _anchor(heading: str) -> str:
    """Fragment of a heading in JupyterLab, nbviewer and HTML pages."""
    return quote(heading.replace("`", "").replace(" ", "-"), safe="-.,·'!?;:=+")


# ------------------------------------------------------------------------------------ matrix


def tasks(page: Path) -> list[str]:
    """Tasks of an assignment in order: "2a", or "5" where a task has no parts."""
    found = []
    parts = r"^## (\d) · [^\n]*\n(.*?)(?=^## |\Z)"
    for number, body in re.findall(parts, page.read_text(encoding="utf-8"), re.M | re.S):
        letters = re.findall(r"^- (\w)\. \(\d+\)", body, re.M)
        found += [number + letter for letter in letters] or [number]
    return found


def matrix(course: list[Notebook], folder: Path = FOLDER) -> str:
    """Page of all objectives with the exercises and tasks that examine them, and the reverse.

    Raises:
        MedlabError: `teaching/objectives.toml` names an objective, an exercise or a task that is
            not there, or leaves one out.
    """
    table = tomllib.loads((folder / "teaching" / "objectives.toml").read_text(encoding="utf-8"))
    rows = ["# Matrix of objectives", "", MATRIX_HEAD]
    examined: dict[str, list[str]] = {}
    part = ""
    for notebook in course:
        if (now := part_of(notebook)) != part:
            part = now
            rows += ["", f"## Part {part} · {PARTS[part]}", "", *MATRIX_COLUMNS]
        link = f"[{notebook.number} · {notebook.title}](../{notebook.path.name})"
        for objectives, exercises, asked in _linked(notebook, table.get(notebook.number, {})):
            rows.append(
                f"| {link} | {objectives} | {exercises or '—'} | {_grouped(asked) or '—'} |"
            )
            link = ""
            for task in asked:
                examined.setdefault(task, []).append(notebook.number)
    rows += ["", "## What each task examines", ""]
    for page in sorted((folder / "assignments").glob("part_*.md")):
        name, known = assignment_name(page), tasks(page)
        given = {task: sorted(set(examined.pop(f"{name} {task}", []))) for task in known}
        if unknown := [task for task in examined if task.rsplit(" ", 1)[0] == name]:
            raise MedlabError(f"objectives.toml: {page.name} has no task {unknown[0]}")
        rows += [f"### [Assignment {name}](../assignments/{page.name})", ""]
        rows += ["| task | notebooks |", "|---|---|"]
        rows += [f"| {task} | {', '.join(given[task]) or '—'} |" for task in known] + [""]
    if examined:
        raise MedlabError(f"objectives.toml: there is no assignment with a task {min(examined)}")
    return "\n".join(rows).rstrip("\n") + "\n"


MATRIX_HEAD = """\
What the notebooks promise, and where it is examined: by the exercises of the notebook itself (those
marked *extra* are for home), and by tasks of the assignments (I to IV; "I light" is the lighter
variant). Where a notebook has one row, all its exercises serve all its objectives. This page is
written by `notebooks/handbook.py` from the notebooks and `objectives.toml`."""
MATRIX_COLUMNS = ("| notebook | afterwards you can | exercises | tasks |", "|---|---|---|---|")


def part_of(notebook: Notebook) -> str:
    digits = re.match(r"\d\d", notebook.number)
    number = int(digits[0]) if digits else 0
    return [part for part, opens in FIRST.items() if opens <= number][-1]


def assignment_name(page: Path) -> str:
    """ "III light" of part_3_light.md."""
    number, _, light = page.stem.removeprefix("part_").partition("_")
    return " ".join(filter(None, (list(PARTS)[int(number) - 1], light)))


def _grouped(asked: list[str]) -> str:
    """ "II 1a, 1b; II light 3" of the tasks II 1a, II 1b and II light 3."""
    groups: dict[str, list[str]] = {}
    for name, task in (one.rsplit(" ", 1) for one in asked):
        groups.setdefault(name, []).append(task)
    return "; ".join(f"{name} {', '.join(some)}" for name, some in groups.items())


def _linked(notebook: Notebook, links: dict) -> Iterator[tuple[str, str, list[str]]]:
    """Rows of a notebook: its objectives, exercises and tasks, linked where the table does so."""
    exercises = {one.number: one for one in notebook.exercises}
    objectives = notebook.objectives
    verbs = {verb: links[verb] for verb in links if verb != "*"}
    if not verbs:
        every = ", ".join(str(one) for one in exercises.values())
        yield "<br>".join(objectives.values()), every, links.get("*", [])
        return
    where = f"objectives.toml, [{notebook.number}]"
    if list(verbs) != list(objectives):
        raise MedlabError(
            f"{where} names the objectives {list(verbs)}, the notebook {list(objectives)}"
        )
    named = {item for items in verbs.values() for item in items if item.isdigit()}
    if named != set(exercises):
        raise MedlabError(
            f"{where} names the exercises {sorted(named)}, the notebook has {sorted(exercises)}"
        )
    for verb, text in objectives.items():
        own = [str(exercises[item]) for item in verbs[verb] if item.isdigit()]
        yield text, ", ".join(own), [item for item in verbs[verb] if not item.isdigit()]


# ------------------------------------------------------------------------------------ syllabi


def syllabi(text: str, course: list[Notebook]) -> str:
    """The page with names, minutes, homework and sums of its tables filled in.

    A row is | when | notebook | sections | minutes | homework | minutes |. Sections are "all", or
    numbers ("1–3, 5"), or "sitting 2" of a double one; a row with another text than a notebook's
    number keeps its minutes; "together" sums since the last such row, "in all" the whole table.
    """
    known = {notebook.number: notebook for notebook in course}
    done, since, whole = [], [0, 0], [0, 0]
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 6:
            since, whole = [0, 0], [0, 0]
        elif re.match(r"-+$", cells[0]) or cells[1] == "notebook":
            pass
        elif (sums := {"*together*": since, "*in all*": whole}.get(cells[1])) is not None:
            line = _row(cells[0], cells[1], "", str(sums[0]), "", str(sums[1]))
            since = [0, 0]
        else:
            number = re.match(r"\[?(\d\d\w?|primer)\b", cells[1])
            if number and number[1] in known:
                cells = _filled(known[number[1]], cells)
            line = _row(*cells)
            since, whole = (
                [total[0] + int(cells[3] or 0), total[1] + int(cells[5] or 0)]
                for total in (since, whole)
            )
        done.append(line)
    return "\n".join(done)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _filled(notebook: Notebook, cells: list[str]) -> list[str]:
    when, _, sections, *_ = cells
    link = f"[{notebook.number} · {notebook.title}](../{notebook.path.name})"
    extra = [one.number for one in notebook.exercises if one.extra]
    minutes, home = sum(notebook.minutes), notebook.minutes_at_home
    homework = f"what is extra{', with ' + _numbers(extra) if extra else ''}" if home else ""
    if sitting := re.match(r"sitting (\d)$", sections):
        minutes = notebook.minutes[int(sitting[1]) - 1]
        if int(sitting[1]) < len(notebook.minutes):
            home, homework = 0, ""
    elif sections != "all":
        part = 5 * round(notebook.share(_range(sections)) * minutes / 5)
        home, homework, minutes = minutes - part, "the other sections", part
    return [when, link, sections, str(minutes), homework, str(home)]


def _numbers(some: list[str]) -> str:
    return f"exercise{'s' * (len(some) > 1)} {', '.join(some)}"


def _range(sections: str) -> set[int]:
    found: set[int] = set()
    for part in sections.split(","):
        ends = [int(n) for n in re.findall(r"\d+", part)]
        if not ends:
            raise MedlabError(f"a syllabus names the sections {sections!r}: write all, 1–3 or 5, 6")
        found |= set(range(ends[0], ends[-1] + 1))
    return found


# ------------------------------------------------------------------------------------ writing


def pages(folder: Path | None = None) -> dict[Path, str]:
    """File -> text that it should hold."""
    folder = folder or FOLDER
    course = notebooks(folder)
    plan = folder / "teaching" / "syllabi.md"
    stressed = (folder / "teaching" / "stressed.txt").read_text(encoding="utf-8").split("\n")
    return {
        folder / "glossary.md": glossary(course, frozenset(stressed)),
        folder / "teaching" / "matrix.md": matrix(course, folder),
        plan: syllabi(plan.read_text(encoding="utf-8"), course),
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0, or 1 if a page is out of date and was only to be checked."""
    parser = argparse.ArgumentParser(prog="python notebooks/handbook.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    try:
        made = pages()
    except (MedlabError, OSError, ValueError) as error:
        print(f"handbook: {error}", file=sys.stderr)
        return 1
    old = [p for p, text in made.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path in old:
        if not check:
            path.write_text(made[path], encoding="utf-8")
        print(f"{path.relative_to(FOLDER)}: {'out of date' if check else 'written'}")
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
