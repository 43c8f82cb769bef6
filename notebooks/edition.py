"""Write a copy of the course to work in: nothing is answered in sight, and nothing is overwritten.

    python notebooks/edition.py my_notebooks               # what `make lab` opens
    python notebooks/edition.py class --solutions none     # for a class: hints, and no solutions
    python notebooks/edition.py pages --html               # to read in a browser, with all outputs

Copies have no stored outputs, and links and badges that would lead to the solved course are gone.
Run again after an update of the course, it renews what was not touched and keeps what was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import nbformat
from nbformat import NotebookNode

from medlab.errors import MedlabError, atomic_write

__all__ = ["course", "is_solution", "learners", "page", "publish", "solution_code"]

FOLDER = Path(__file__).resolve().parent
RECORD = ".edition.json"  # name of a file -> what it was when it was written
Solutions = Literal["folded", "none"]

_BADGE = re.compile(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)[ ]*\n?")
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_SOLUTION = re.compile(r"<details><summary>Solution</summary>\n(.*?)</details>\n?", re.S)
_FENCE = re.compile(r"```python\n(.*?)\n```", re.S)
_PREDICT = "hide-output"  # tag of cells whose stored output would answer a prediction


def is_solution(cell: NotebookNode) -> bool:
    """Whether a cell holds an exercise's hint and solution, folded."""
    return cell.cell_type == "markdown" and "solution" in cell.metadata.get("tags", [])


def solution_code(cell: NotebookNode) -> str:
    """Python of a solution cell; "" if it has none."""
    folded = _SOLUTION.search(cell.source)
    code = _FENCE.search(folded[1]) if folded else None
    return code[1] if code else ""


def learners(
    notebook: NotebookNode, *, solutions: Solutions = "folded", files: frozenset[str] = frozenset()
) -> NotebookNode:
    """A notebook as a learner opens it: no outputs, no badge, links to `files` of the copy only."""
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            _unfold(cell)
    _adapt(copy, solutions, files)
    return copy


def page(
    notebook: NotebookNode,
    *,
    solutions: Solutions = "folded",
    files: frozenset[str] = frozenset(),
    title: str = "",
) -> str:
    """A notebook as a web page: stored outputs, those that answer a prediction folded."""
    from nbconvert import HTMLExporter

    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    _adapt(copy, solutions, files)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            text = cell.source
            cell.source = re.sub(r"\]\(([^)\s:]+)\.(?:ipynb|md)(#[^)]*)?\)", r"](\1.html\2)", text)
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(FOLDER)])
    return exporter.from_notebook_node(copy, resources={"metadata": {"name": title}})[0]


def course(
    source: Path = FOLDER, *, solutions: Solutions = "folded", html: bool = False
) -> Iterator[tuple[str, str]]:
    """Name and text of every file of a copy; marking guides are no part of it."""
    paths = sorted([*source.glob("*.ipynb"), *source.glob("*.md"), *source.glob("*/*.md")])
    paths = [path for path in paths if not path.stem.endswith("_marking")]
    names = {path: path.relative_to(source).as_posix() for path in paths}
    for path, name in names.items():
        # As a link in this file would write them
        up = "../" * name.count("/")
        files = frozenset(up + other for other in names.values())
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(text, as_version=4)
        elif html:
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
        else:
            yield name, _own_links(text, files)
            continue
        if html:
            text = page(notebook, solutions=solutions, files=files, title=path.stem)
            yield str(Path(name).with_suffix(".html")), text
        else:
            copy = learners(notebook, solutions=solutions, files=files)
            yield name, nbformat.writes(copy).rstrip("\n") + "\n"


def publish(
    target: Path, source: Path = FOLDER, *, solutions: Solutions = "folded", html: bool = False
) -> dict[str, list[str]]:
    """Write the course into a folder, and keep every file there that somebody has changed.

    A notebook counts as changed when the text of a cell is; having been run is no change.

    Returns:
        "written", "kept" (changed, or not from here), and "outdated": those kept of which the
        course has a newer version.

    Raises:
        MedlabError: the folder is, holds or lies in the course's own notebooks, or is a file.
    """
    target, source = target.resolve(), source.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise MedlabError(f"{target} holds the course's own notebooks: name another folder")
    if target.exists() and not target.is_dir():
        raise MedlabError(f"{target} is a file: name a folder, new or from an earlier call")
    target.mkdir(parents=True, exist_ok=True)
    record = _record(target / RECORD)
    told: dict[str, list[str]] = {"written": [], "kept": [], "outdated": []}
    for name, text in course(source, solutions=solutions, html=html):
        path, new = target / name, _fingerprint(name, text)
        old = _fingerprint(name, path.read_text(encoding="utf-8")) if path.is_file() else None
        if old is None or old == record.get(name):
            if old != new:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path, error=MedlabError) as part:
                    part.write_text(text, encoding="utf-8")
                told["written"].append(name)
            record[name] = new
        elif old != new:
            told["kept"].append(name)
            if record.get(name) != new:
                told["outdated"].append(name)
    with atomic_write(target / RECORD, error=MedlabError) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return told


def _adapt(copy: NotebookNode, solutions: Solutions, files: frozenset[str]) -> None:
    """Take badges, links that lead out of the copy and, if so asked, solutions out of its text."""
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            if is_solution(cell) and solutions == "none":
                cell.source = _SOLUTION.sub("", cell.source).strip()
            cell.source = _own_links(cell.source, files)
    copy.cells = [cell for cell in copy.cells if cell.source.strip()]


def _unfold(cell: NotebookNode) -> None:
    """Undo what hides the stored output: what the learner's own run shows, they have asked for."""
    tags = [tag for tag in cell.metadata.get("tags", []) if tag != _PREDICT]
    cell.metadata.pop("tags", None)
    cell.metadata.pop("jupyter", None)
    if tags:
        cell.metadata["tags"] = tags


def _own_links(text: str, files: frozenset[str]) -> str:
    """Text without badges, and without links to files that the copy has not."""

    def link(found: re.Match) -> str:
        path = found[2].partition("#")[0]
        outside = re.match(r"https?:", path) and not re.search(r"/blob/\w+/notebooks/", path)
        return found[0] if outside or not path or path in files else found[1]

    return _LINK.sub(link, _BADGE.sub("", text))


def _fingerprint(name: str, text: str) -> str:
    """Hash of what a person writes in a file: of a notebook, the text of its cells."""
    if name.endswith(".ipynb"):
        try:
            cells = json.loads(text)["cells"]
            text = json.dumps([[c["cell_type"], "".join(c["source"])] for c in cells])
        except (ValueError, KeyError, TypeError):  # not a notebook any more: somebody's work
            pass
    return hashlib.sha256(text.encode()).hexdigest()


def _record(path: Path) -> dict[str, str]:
    """What an earlier call noted; nothing if there was none."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise MedlabError(
            f"{path} is damaged ({error}), so nothing tells your work from the course's: rename "
            "the folder, or delete that file to keep all that is there"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0, or 1 with one line that says why nothing could be written."""
    parser = argparse.ArgumentParser(
        prog="python notebooks/edition.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="where to; what you changed there stays")
    parser.add_argument("--solutions", choices=("folded", "none"), default="folded")
    parser.add_argument("--html", action="store_true", help="web pages with the stored outputs")
    options = parser.parse_args(arguments)
    try:
        told = publish(options.folder, solutions=options.solutions, html=options.html)
    except (MedlabError, OSError) as error:
        print(f"edition: {error}", file=sys.stderr)
        return 1
    print(f"{options.folder}: {len(told['written'])} files written")
    if told["kept"]:
        print(f"kept as you left them: {', '.join(told['kept'])}")
    if told["outdated"]:
        print(
            f"newer in the course: {', '.join(told['outdated'])}. Rename yours to get the new ones"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
