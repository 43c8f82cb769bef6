"""What every notebook of the course keeps to, as pure functions: a notebook in, a list of
complaints out.

A rule is tested twice: over the course (test_notebooks.py), and on a model notebook damaged on
purpose, so that none of them is blind (test_notebooks_rules.py).
"""

from __future__ import annotations

import ast
import copy
import itertools
import json
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import nbformat

from medlab import plotting
from notebooks.edition import is_solution, solution_code
from notebooks.execute import tells
from notebooks.fork import badge, edition, repository, setup_cell
from tests.where import ROOT

__all__ = ["RULES", "Page"]

MAX_BYTES = 2_000_000
MAX_IMAGE_BYTES = 400_000
# Words of prose and code cells: one sitting.
WORDS, CELLS = (1200, 2200), (12, 25)
# The capstone alone is two sittings, which part at the heading "Half-time" and keep to the measure
# of one each; it takes a study where others take a data set.
DOUBLE = ("33",)
# The best that anybody could do is known of simulated patients only.
KNOWN = ("13",)
SECTION_WORDS = 300
MAX_MINUTES = 75
MAX_LINES, MAX_COLUMNS, MEDIAN_LINES = 30, 88, 13
# Of the code, what the learner writes: lines of the solutions that the exercise does not give.
LEARNERS = 0.25
MAX_IGNORED = 0.1
FIGURE_WIDTHS = {round(plotting.PIXELS * inches) for inches in plotting.WIDTHS}


@dataclass(frozen=True)
class Page:
    """A notebook and the name that its badge, its number and its links are checked against."""

    name: str
    notebook: nbformat.NotebookNode
    folder: Path = field(default=ROOT / "notebooks")

    @classmethod
    def read(cls, path: Path) -> Page:
        # nbformat.read would mend what format_is_valid is to find
        return cls(path.name, nbformat.v4.reads(path.read_text(encoding="utf-8")), path.parent)

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def cells(self) -> list:
        return self.notebook.cells

    @property
    def code(self) -> list:
        return [cell for cell in self.cells if cell.cell_type == "code"]

    @property
    def markdown(self) -> list[str]:
        return [cell.source for cell in self.cells if cell.cell_type == "markdown"]

    @cached_property
    def text(self) -> str:
        return "\n\n".join(self.markdown)

    @property
    def head(self) -> str:
        """Markdown before the first code cell."""
        sources = []
        for cell in self.cells:
            if cell.cell_type == "code":
                break
            sources.append(cell.source)
        return "\n\n".join(sources)

    def section(self, title: str) -> str:
        """Text under a heading, to the next one of its level or above; "" if there is none."""
        found = re.search(rf"^(#+) [^\n]*{title}[^\n]*$", self.text, re.M | re.I)
        if not found:
            return ""
        rest = self.text[found.end() :]
        return re.split(rf"^#{{1,{len(found[1])}}} ", rest, maxsplit=1, flags=re.M)[0]

    @property
    def prose(self) -> str:
        """What a learner reads as sentences: no code, formulas, addresses, tables, references."""
        text = "\n\n".join(
            cell.source
            for cell in self.cells
            if cell.cell_type == "markdown" and not is_solution(cell)
        )
        if reading := self.section("Further reading"):
            text = text.replace(reading, "")
        return prose_of(text)


def prose_of(text: str) -> str:
    """Sentences of a markdown text, without what is folded."""
    text = re.sub(r"<details>.*?</details>", " ", text, flags=re.S)
    text = re.sub(r"```.*?```", " ", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(r"(?<!\\)\$[^$\n]+\$", " x ", text)
    text = re.sub(r"`[^`\n]*`", " x ", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+|<[^>\n]+>|\*Your answer:\*", " ", text)
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("|"))


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def output_text(cell) -> str:
    """All text that the stored outputs of a code cell hold."""
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return INK.sub("", "\n".join(texts))


INK = re.compile(r"\x1b\[[\d;]*m")  # escape codes of colours


def images(cell) -> list:
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


def checks(cell) -> list[str]:
    return checks_in(cell.source)


def checks_in(code: str) -> list[str]:
    return re.findall(r"""\bcheck\(\s*["']([a-z_]+\.\d+)["']""", code)


# ------------------------------------------------------------------------------------ the file


def format_is_valid(page: Page) -> list[str]:
    if (page.notebook.nbformat, page.notebook.nbformat_minor) != (4, 5):
        return [f"nbformat {page.notebook.nbformat}.{page.notebook.nbformat_minor} is not 4.5"]
    ids = [cell.get("id", "") for cell in page.cells]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        return [f"cell id {name!r} stands twice" for name in twice]
    try:
        nbformat.validate(copy.deepcopy(page.notebook))
    except nbformat.ValidationError as error:
        return [f"not valid: {error.message}"]
    return []


def size_is_bounded(page: Page) -> list[str]:
    found = []
    size = len(json.dumps(page.notebook, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        found.append(f"{size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6} are allowed")
    for cell in page.code:
        for output in images(cell):
            size = len(output.data["image/png"]) * 3 // 4
            if size > MAX_IMAGE_BYTES:
                found.append(f"cell {cell.id}: a figure of {size // 1000} kB")
    return found


def metadata_is_clean(page: Page) -> list[str]:
    found = []
    if "widgets" in page.notebook.metadata:
        found.append("metadata.widgets is stored, which breaks rendering on GitHub")
    if page.notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not python3")
    for cell in page.cells:
        for name in {"execution", "ExecuteTime", "collapsed", "id"} & set(cell.metadata):
            found.append(f"cell {cell.id}: metadata {name!r} is stored")
        for output in cell.get("outputs", []):
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                found.append(f"cell {cell.id}: a widget's view is stored, without its state")
    return found


def one_clean_run(page: Page) -> list[str]:
    counts = [cell.execution_count for cell in page.code]
    found = []
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"outputs are not from one clean run, top to bottom: {counts}")
    for cell in page.code:
        if not cell.source.strip():
            found.append(f"cell {cell.id} is empty")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"cell {cell.id} stores an error: {output.ename}")
            if output.get("name") == "stderr":
                found.append(f"cell {cell.id} stores a warning: {output.text[:80]!r}")
    return found


def few_outputs_are_ignored(page: Page) -> list[str]:
    found, ignored = [], 0
    for cell in page.code:
        if re.search(r"#\s*(NBVAL_|PYTEST_VALIDATE_)", cell.source):
            found.append(f"cell {cell.id}: a comparison is steered by a comment; use a tag")
        if {"nbval-skip", "raises-exception", "nbval-raises-exception"} & set(tags(cell)):
            found.append(f"cell {cell.id}: a cell may neither be skipped nor raise")
        ignored += "nbval-ignore-output" in tags(cell)
    if ignored > MAX_IGNORED * len(page.code):
        found.append(f"{ignored} of {len(page.code)} outputs are not compared")
    return found


# ------------------------------------------------------------------------------------ the head


def badge_points_here(page: Page) -> list[str]:
    expected = badge(repository(ROOT), page.name)
    return [] if expected in page.cells[0].source else [f"the first cell has no badge {expected}"]


def setup_is_the_same(page: Page) -> list[str]:
    first = page.code[0]
    found = [] if first.id == "setup" else [f"the first code cell is {first.id!r}, not 'setup'"]
    if first.source != setup_cell(repository(ROOT), edition(ROOT), page.name):
        found.append("the set-up cell differs from setup_cell of notebooks/fork.py")
    return found


def head_is_whole(page: Page) -> list[str]:
    found = []
    if len(re.findall(r"^# ", page.head, re.M)) != 1 or not page.head.startswith("# "):
        found.append("the notebook does not open with its one title")
    rows = "\n".join(re.findall(r"^\|.*\|\s*$", page.head, re.M)).lower()
    for word in ("time", "needs", "before this", "data"):
        if word not in rows:
            found.append(f"the table at the top does not say {word!r}")
    if "you will be able to" not in page.head.lower():
        found.append("no 'You will be able to'")
    else:
        after = re.split("you will be able to", page.head, maxsplit=1, flags=re.I)[1]
        item = r"[ ]*(?:[-*]|\d\.) [^\n]*\n(?:[ ]{2,}\S[^\n]*\n)*"
        first_list = re.search(rf"(?:{item})+", after + "\n")
        verbs = len(re.findall(item, first_list[0])) if first_list else 0
        if not 3 <= verbs <= 5:
            found.append(f"'You will be able to' lists {verbs} things, not three to five")
    return found


# ------------------------------------------------------------------------------------ exercises


def exercises_are_whole(page: Page) -> list[str]:
    found = []
    stubs = [cell for cell in page.code if checks(cell)]
    names = [checks(cell)[0] for cell in stubs]
    if len(names) < 4:
        found.append(f"{len(names)} exercises, more are asked for")
    topic = names[0].partition(".")[0] if names else ""
    if names != [f"{topic}.{k + 1}" for k in range(len(names))]:
        found.append(f"exercises are named {names}")
    if topic not in page.name:
        found.append(f"the exercises' topic, {topic!r}, is not that of the file's name")
    for stub, name in zip(stubs, names, strict=True):
        place = page.cells.index(stub) + 1
        answer = page.cells[place] if place < len(page.cells) else None
        constants = [
            n.value for n in ast.walk(ast.parse(stub.source)) if isinstance(n, ast.Constant)
        ]
        if ... not in constants:
            found.append(f"{name}: the stub has no `...` to replace")
        said = output_text(stub)
        if f"○ {name}" not in said or "✓" in said:
            found.append(f"{name}: the stub's stored output does not say '○ {name} not attempted'")
        if answer is None or not is_solution(answer):
            found.append(f"{name}: no cell with hint and solution follows")
            continue
        if checks_in(solution_code(answer)) != [name]:
            found.append(f"{name}: the solution holds no Python that ends in the same check")
        for title in ("Hint", "Solution"):
            folded = rf"<details><summary>{title}</summary>\n\n(.*?)\n\n</details>"
            text = re.search(folded, answer.source, re.S)
            if not text or len(text[1]) < 20:
                found.append(f"{name}: no folded {title.lower()}")
    for cell in page.code:
        if "✗" in output_text(cell):
            found.append(f"cell {cell.id} stores a failed check")
        if "solution" in tags(cell):
            found.append(f"cell {cell.id} holds a solution that Shift+Enter would run")
    if len(re.findall(r"\*\*Exercise \d", page.text)) < len(names):
        found.append("an exercise has no statement that opens with '**Exercise k'")
    return found


def nothing_needs_an_answer(page: Page) -> list[str]:
    """No later cell reads a name that an exercise's cell leaves for the learner to fill."""
    found: list[str] = []
    owed: dict[str, str] = {}
    for cell in page.code:
        tree = ast.parse(cell.source)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        defined = {
            node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        assigned = {
            node.id
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        read = {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound - defined
        if not checks(cell):
            found += [
                f"cell {cell.id} needs {name}, the answer to {owed[name]}"
                for name in sorted(read & set(owed))
            ]
        for name in defined | assigned:
            owed.pop(name, None)
        if named := checks(cell):
            owed |= dict.fromkeys(defined | assigned, named[0])
    return found


def predictions_stay_open(page: Page) -> list[str]:
    """Outputs between a Predict and the text that reads them are folded, and no others."""
    found, asked = [], False
    for cell in page.cells:
        if cell.cell_type == "markdown":
            asked = bool(re.search(r"^(?!- ).*\*\*Predict", cell.source, re.M))
            continue
        tagged = "hide-output" in tags(cell)
        folded = bool(cell.metadata.get("jupyter", {}).get("outputs_hidden"))
        if tagged != folded:
            found.append(f"cell {cell.id}: tag hide-output and outputs_hidden go together")
        if tagged and tells(cell.outputs):
            found.append(f"cell {cell.id}: JupyterLab shows the first line of its folded output")
        if asked and cell.outputs and not checks(cell) and not tagged:
            found.append(f"cell {cell.id} answers the prediction above it in sight")
        if tagged and not asked:
            found.append(f"cell {cell.id}: its output is folded, and nothing is asked above it")
    return found


def exercises_are_registered(page: Page) -> list[str]:
    used = {name for cell in page.code for name in checks(cell)}
    topic = min(used, default="none").partition(".")[0]
    module = f"medlab.exercises.{topic}"
    if not find_spec(module):
        return [f"there is no {module}"]
    import_module(module)
    from medlab.exercises import _CHECKS

    known = {name for name in _CHECKS if name.startswith(f"{topic}.")}
    return [f"{name} is not registered in {module}" for name in sorted(used - known)] + [
        f"{name} is registered and not asked" for name in sorted(known - used)
    ]


# ------------------------------------------------------------------------------------ measure


def measure_is_kept(page: Page) -> list[str]:
    found = []
    for words, own in sittings(page):
        least, most = WORDS
        if not least <= words <= most:
            found.append(f"{words} words of prose, not {least}–{most}")
        least, most = CELLS
        if not least <= own <= most:
            found.append(f"{own} code cells, not {least}–{most}")
    lengths = {cell.id: cell.source.count("\n") + 1 for cell in page.code}
    found += [f"cell {name}: {n} lines" for name, n in lengths.items() if n > MAX_LINES]
    if lengths and (median := statistics.median(lengths.values())) > MEDIAN_LINES:
        found.append(f"half of the cells are longer than {median} lines")
    for cell in page.code:
        for line in cell.source.split("\n"):
            if len(line) > MAX_COLUMNS:
                found.append(f"cell {cell.id}: a line of {len(line)} characters: {line[:40]}…")
            if line.rstrip().endswith(";"):  # nbval shows the value that ";" hides elsewhere
                found.append(f"cell {cell.id}: a line ends in ';': {line[:40]}")
            if re.match(r"\s*[!%]", line):
                found.append(f"cell {cell.id}: a magic or shell line: {line[:40]}")
    # In a drawing JupyterLab breaks a longer line.
    for block in re.findall(r"```\w*\n(.*?)```", page.text, re.S):
        for line in block.split("\n"):
            if len(line) > MAX_COLUMNS:
                found.append(f"a drawing has a line of {len(line)} characters: {line[:40]}…")
    return found


def sittings(page: Page) -> list[tuple[int, int]]:
    """Words of prose and code cells of each: one sitting, or the halves of a double one."""
    cells, middle = page.cells, len(page.cells)
    if page.number in DOUBLE:
        breaks = [k for k, c in enumerate(cells) if re.search("^## Half-time$", c.source, re.M)]
        middle = breaks[0] if breaks else 0
    found = []
    for part in filter(None, (cells[:middle], cells[middle:])):
        half = Page(page.name, nbformat.from_dict({**page.notebook, "cells": part}), page.folder)
        found.append((len(half.prose.split()), len(half.code)))
    return found


def statements(code: str) -> list[str]:
    """Lines of code, however it is laid out: a text over three lines is one."""
    return [line.strip() for line in ast.unparse(ast.parse(code)).split("\n") if line.strip()]


def one_sitting(page: Page) -> list[str]:
    """What a notebook keeps to beyond its length."""
    found = []
    told = re.search(r"^\| about (\d+)(?: and (\d+))? minutes\b", page.head, re.M)
    minutes = [int(n) for n in told.groups() if n] if told else []
    if len(minutes) != 1 + (page.number in DOUBLE) or max(minutes) > MAX_MINUTES:
        found.append(
            f"the table does not open with 'about … minutes', {MAX_MINUTES} at most; mark what is "
            "beyond as *extra*"
        )
    for section in re.split(r"^(?=#{2,} )", page.text, flags=re.M)[1:]:
        title = section.split("\n", 1)[0]
        words = len(prose_of(section).split())
        if words > SECTION_WORDS and "reading" not in title.lower():
            found.append(f"section {title!r} has {words} words, at most {SECTION_WORDS}")
    frame = ("setup", "imports")
    learners = 0
    for k, cell in enumerate(page.cells):
        if is_solution(cell) and k and page.cells[k - 1].cell_type == "code":
            given = statements(page.cells[k - 1].source)
            learners += sum(line not in given for line in statements(solution_code(cell)))
    shown = sum(len(statements(c.source)) for c in page.code if not checks(c) and c.id not in frame)
    if learners < LEARNERS * (learners + shown):
        found.append(f"the learner writes {learners} lines, and {shown} are shown")
    for title in ("Quiz", "Open questions"):
        if "<details>" not in page.section(title):
            found.append(f"no section {title!r} with folded answers")
    return found


def one_dataset_line(page: Page) -> list[str]:
    source = "\n".join(cell.source for cell in page.code)
    if "progress=False" in source:
        return ["a training hides its progress: nothing may be silent for seconds"]
    if not re.search(r"\bmedlab\.fit\(", source) or page.number in KNOWN:
        return []
    if page.number in DOUBLE:
        study = 'STUDY = os.environ.get("MEDLAB_STUDY")' in source
        return [] if study else ["the environment variable MEDLAB_STUDY does not choose the study"]
    count = len(re.findall(r"^DATASET = [\"']", source, re.M))
    found = [] if count == 1 else [f"a notebook that trains names its set once, not {count} times"]
    if 'os.environ.get("MEDLAB_DATASET", ' not in source:
        found.append("the environment variable MEDLAB_DATASET does not override DATASET")
    return found


# ------------------------------------------------------------------------------------ figures


def figures_have_alt_text(page: Page) -> list[str]:
    found = []
    for cell in page.code:
        for output in images(cell):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            if len(alt) < 20:
                found.append(f"cell {cell.id}: a figure without alternative text")
            elif output.data.get("text/plain") != "<Figure>":
                found.append(f"cell {cell.id}: a figure's text shows where its output is folded")
            # The alternative text reaches no page: the caption below the figure does
            place = cell.outputs.index(output) + 1
            below = cell.outputs[place].get("data", {}) if place < len(cell.outputs) else {}
            if below.get("text/html") != plotting.caption(alt)["text/html"]:
                found.append(f"cell {cell.id}: no caption under a figure")
            if output.metadata.get("image/png", {}).get("width") not in FIGURE_WIDTHS:
                found.append(f"cell {cell.id}: a figure of none of the course's widths")
    for text in re.findall(r"!\[([^\]]*)\]\(", page.text):
        if len(text) < 10:
            found.append(f"a picture in the text has the alternative text {text!r}")
    return found


# ------------------------------------------------------------------------------------ text

CLOCK = re.compile(
    r"\b\d{1,2}:\d\d:\d\d\b|\bwall time\b|\bcpu times\b|\belapsed\b|\btook \d|\d ?it/s|\ds/it", re.I
)
MACHINE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|Users|work|mnt|srv|builds)/\w|[A-Z]:\\\w|\bipykernel_\d+"
)
OBJECT = re.compile(r"<[\w.]+ object at|<Figure size|0x[0-9a-f]{8}")
# American spellings that the course writes the British way. Titles in the reading list keep theirs.
AMERICAN = re.compile(
    r"\b("
    r"color\w*|behavior\w*|center(?:s|ed|ing)?|fiber\w*|tumors?|gray(?: ?scale| level| value)s?|"
    r"label(?:ed|ing)|model(?:ed|ing)|travel(?:ed|ing)|cancel(?:ed|ing)|signal(?:ed|ing)|"
    r"artifacts?|neighbor\w*|favor\w*|honor\w*|catalogs?|dialogs?|defense|hemorrhag\w*|edema|"
    r"anesthe\w*|pediatric\w*|esophag\w*|analyz\w+|"
    r"(?:normal|standard|regular|optim|visual|general|random|summar|recogn|organ|initial|"
    r"minim|maxim|emphas|special|categor|character|util|real|quant|discret|binar|local|"
    r"penal|harmon|memor|synchron|vector|token|equal)iz(?:e[sd]?|ing|ations?)"
    r")\b",
    re.I,
)


def outputs_are_portable(page: Page) -> list[str]:
    found = []
    for cell in page.code:
        text = output_text(cell)
        for name, pattern in (
            ("clock time", CLOCK),
            ("machine path", MACHINE),
            ("address", OBJECT),
        ):
            if hit := pattern.search(text):
                found.append(f"cell {cell.id}: a {name} in its output: {hit[0]!r}")
        if hit := MACHINE.search(cell.source):
            found.append(f"cell {cell.id}: a machine path in its source: {hit[0]!r}")
    if "\\operatorname" in page.text:
        found.append(r"\operatorname is not rendered everywhere: write \mathrm")
    if hit := MACHINE.search(page.text):
        found.append(f"a machine path in the text: {hit[0]!r}")
    return found


def spelling_is_british(page: Page) -> list[str]:
    alts = [
        output.metadata.get("image/png", {}).get("alt", "")
        for cell in page.code
        for output in images(cell)
    ]
    text = "\n".join([page.prose, *alts])
    return [
        f"American spelling: {word}" for word in sorted({m[0] for m in AMERICAN.finditer(text)})
    ]


def links_lead_somewhere(page: Page) -> list[str]:
    found = []
    own = repository(ROOT)
    text = re.sub(r"```.*?```", "", page.text, flags=re.S)
    for target in re.findall(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)", text):
        path = target.split("#")[0].split("?")[0]
        if target.startswith(own + "/blob/main/"):
            exists = (ROOT / path.removeprefix(own + "/blob/main/")).exists()
        elif re.match(r"[a-z][a-z0-9+.-]*:", target) or not path:
            continue
        else:
            exists = (page.folder / path).exists()
        if not exists:
            found.append(f"a link leads nowhere: {target}")
    return found


def formulas_are_whole(page: Page) -> list[str]:
    """To MathJax what follows a % is a comment, in a text of a formula too."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.text, flags=re.S)
    formulas = re.findall(r"\$\$.+?\$\$|(?<!\\)\$[^$\n]+\$", text, flags=re.S)
    return [f"a formula is cut at its %: {one}" for one in formulas if re.search(r"(?<!\\)%", one)]


def sections_are_there(page: Page) -> list[str]:
    found = [
        f"no section {title!r}"
        for title in ("Common mistakes", "Summary", "Further reading")
        if not page.section(title).strip()
    ]
    if not re.search(r"^\|.*\|\s*$", page.section("Summary"), re.M):
        found.append("the summary is no table of ideas, code and formula")
    if len(set(re.findall(r"\b10\.\d{4,9}/[^\s)>\]]+", page.section("Further reading")))) < 3:
        found.append("the reading list has fewer than three DOIs")
    if "**Predict" not in page.text:
        found.append("no prediction is asked for (**Predict.**)")
    if not re.search(r"\bnext\b", "\n".join(page.markdown[-2:]), re.I):
        found.append("the end does not say what comes next")
    text = re.sub(r"```.*?```", "", page.text, flags=re.S)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]
    if levels.count(1) != 1 or any(b > a + 1 for a, b in itertools.pairwise(levels)):
        found.append("headings: one of level 1, and no level left out")
    return found


RULES: dict[str, Callable[[Page], list[str]]] = {
    rule.__name__: rule
    for rule in (
        format_is_valid,
        size_is_bounded,
        metadata_is_clean,
        one_clean_run,
        few_outputs_are_ignored,
        badge_points_here,
        setup_is_the_same,
        head_is_whole,
        exercises_are_whole,
        exercises_are_registered,
        nothing_needs_an_answer,
        predictions_stay_open,
        measure_is_kept,
        one_sitting,
        one_dataset_line,
        figures_have_alt_text,
        outputs_are_portable,
        spelling_is_british,
        links_lead_somewhere,
        formulas_are_whole,
        sections_are_there,
    )
}
