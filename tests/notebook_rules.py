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

from notebooks.fork import badge, edition, repository, setup_cell
from tests.where import ROOT

__all__ = ["RULES", "Page"]

MAX_BYTES = 1_500_000
MAX_IMAGE_BYTES = 400_000
WORDS = (1500, 3000)
CELLS = (15, 35)
MAX_LINES, MAX_COLUMNS, MEDIAN_LINES = 30, 88, 12
MAX_IGNORED = 0.1


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
        text = self.text
        if reading := self.section("Further reading"):
            text = text.replace(reading, "")
        text = re.sub(r"```.*?```", " ", text, flags=re.S)
        text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
        text = re.sub(r"(?<!\\)\$[^$\n]+\$", " x ", text)
        text = re.sub(r"`[^`\n]*`", " x ", text)
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
        text = re.sub(r"https?://\S+|<[^>\n]+>", " ", text)
        return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("|"))


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_solution(cell) -> bool:
    return "solution" in tags(cell)


def output_text(cell) -> str:
    """All text that the stored outputs of a code cell hold."""
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(texts)


def images(cell) -> list:
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


def checks(cell) -> list[str]:
    return re.findall(r"""\bcheck\(\s*["'](\d\d\.\d+)["']""", cell.source)


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
    if first.source != setup_cell(repository(ROOT), edition(ROOT)):
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
    stubs = [cell for cell in page.code if checks(cell) and not is_solution(cell)]
    names = [checks(cell)[0] for cell in stubs]
    if len(names) < 3:
        found.append(f"{len(names)} exercises, at least 3 are asked for")
    if names != [f"{page.number}.{k + 1}" for k in range(len(names))]:
        found.append(f"exercises are numbered {names}")
    for stub in stubs:
        name = checks(stub)[0]
        place = page.code.index(stub) + 1
        answer = page.code[place] if place < len(page.code) else None
        constants = [
            n.value for n in ast.walk(ast.parse(stub.source)) if isinstance(n, ast.Constant)
        ]
        if ... not in constants:
            found.append(f"{name}: the stub has no `...` to replace")
        if f"○ {name}" not in output_text(stub):
            found.append(f"{name}: the stub's stored output does not say '○ {name} not attempted'")
        if answer is None or not is_solution(answer) or checks(answer) != [name]:
            found.append(f"{name}: no solution cell with the same check follows")
            continue
        if not answer.metadata.get("jupyter", {}).get("source_hidden"):
            found.append(f"{name}: the solution's source is not hidden")
        if f"✓ {name}" not in output_text(answer):
            found.append(f"{name}: the solution's stored output does not say '✓ {name}'")
    for cell in page.code:
        if "✗" in output_text(cell):
            found.append(f"cell {cell.id} stores a failed check")
        if is_solution(cell) and not checks(cell):
            found.append(f"cell {cell.id} is tagged as a solution and checks nothing")
    if len(re.findall(r"\*\*Exercise \d", page.text)) < len(names):
        found.append("an exercise has no statement that opens with '**Exercise k'")
    return found


def exercises_are_registered(page: Page) -> list[str]:
    module = f"medlab.exercises.nb{page.number}"
    if not find_spec(module):
        return [f"there is no {module}"]
    import_module(module)
    from medlab.exercises import _CHECKS

    known = {name for name in _CHECKS if name.startswith(f"{page.number}.")}
    used = {name for cell in page.code for name in checks(cell)}
    return [f"{name} is not registered in {module}" for name in sorted(used - known)] + [
        f"{name} is registered and not asked" for name in sorted(known - used)
    ]


# ------------------------------------------------------------------------------------ measure


def measure_is_kept(page: Page) -> list[str]:
    found = []
    words = len(page.prose.split())
    if not WORDS[0] <= words <= WORDS[1]:
        found.append(f"{words} words of prose, not {WORDS[0]}–{WORDS[1]}")
    own = [cell for cell in page.code if not is_solution(cell) and cell.id != "setup"]
    if not CELLS[0] <= len(own) <= CELLS[1]:
        found.append(f"{len(own)} code cells of its own, not {CELLS[0]}–{CELLS[1]}")
    lengths = {cell.id: cell.source.count("\n") + 1 for cell in page.code}
    found += [f"cell {name}: {n} lines" for name, n in lengths.items() if n > MAX_LINES]
    if own and (median := statistics.median(lengths[cell.id] for cell in own)) > MEDIAN_LINES:
        found.append(f"half of the cells are longer than {median} lines")
    for cell in page.code:
        for line in cell.source.split("\n"):
            if len(line) > MAX_COLUMNS:
                found.append(f"cell {cell.id}: a line of {len(line)} characters: {line[:40]}…")
            if line.rstrip().endswith(";"):  # nbval shows the value that ";" hides elsewhere
                found.append(f"cell {cell.id}: a line ends in ';': {line[:40]}")
            if re.match(r"\s*[!%]", line):
                found.append(f"cell {cell.id}: a magic or shell line: {line[:40]}")
    return found


def one_dataset_line(page: Page) -> list[str]:
    source = "\n".join(cell.source for cell in page.code if not is_solution(cell))
    if not re.search(r"\bmedlab\.fit\(", source):
        return []
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
            elif output.data.get("text/plain") != f"<Figure: {alt}>":
                found.append(f"cell {cell.id}: the text of a figure is not its alternative text")
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
    for target in re.findall(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)", page.text):
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
        measure_is_kept,
        one_dataset_line,
        figures_have_alt_text,
        outputs_are_portable,
        spelling_is_british,
        links_lead_somewhere,
        sections_are_there,
    )
}
