"""Write a copy of the course to work in: nothing is answered in sight, and nothing is overwritten.

    python notebooks/edition.py my_notebooks               # what `make lab` opens
    python notebooks/edition.py class --solutions none     # for a class: hints, and no solutions
    python notebooks/edition.py pages --html               # to read in a browser, with all outputs

Copies have no stored outputs, and links and badges that would lead to the solved course are gone.
Run again after an update of the course, it renews what was not touched and keeps what was. A
notebook is touched when the text, tags or attachments of a cell are; running it is no touch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import posixpath
import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode

from medlab.errors import MedlabError, atomic_write

__all__ = ["course", "is_solution", "learners", "page", "publish", "solution_code"]

FOLDER = Path(__file__).resolve().parent
TEACHERS = "teaching/"  # guides with solutions, matrix, syllabi: in no copy
RECORD = ".edition.json"  # name of a file -> what it was when it was written
Solutions = Literal["folded", "none"]
Names = Collection[str]  # files of a copy, from its folder on

# Code and formulas, in which brackets are no links
_VERBATIM = re.compile(r"(^```.*?^```|``.+?``|`[^`\n]+`|\$\$.+?\$\$|\$[^$\n]+\$)", re.S | re.M)
_BADGE = re.compile(r"\[!\[[^\]]*\]\([^()\s]*\)\]\([^()\s]*\)[ ]*\n?")
_LINK = re.compile(
    r"""(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^)\s>"]+)>?(?:\s+"[^"]*")?\s*\)"""
)
# Places that show the course with its solutions, whoever hosts it
_SOLVED = re.compile(
    r"(?:/(?:blob|tree|raw)/\S*notebooks)|raw\.githubusercontent|mybinder\.org|"
    r"colab\.research\.google|nbviewer",
    re.I,
)
_HINT = re.compile(r"<details><summary>Hint</summary>\n.*?\n</details>", re.S)
_SOLUTION = re.compile(r"<details><summary>Solution</summary>\n(.*?)</details>\n?", re.S)
_FENCE = re.compile(r"```python\n(.*?)\n```", re.S)
# What execute.py stores before a text that is folded
COVER = {"output_type": "display_data", "data": {"text/plain": "…"}, "metadata": {}}
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
    notebook: NotebookNode, *, solutions: Solutions = "folded", name: str = "", files: Names = ()
) -> NotebookNode:
    """A notebook as a learner opens it: no outputs, no badge, links to `files` of the copy only.

    Raises:
        MedlabError: a link to the solved course is written in a way that this does not know.
    """
    copy = _adapted(notebook, solutions, name, files)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            # What the learner's own run shows, they have asked for
            tags = [tag for tag in cell.metadata.pop("tags", []) if tag != _PREDICT]
            cell.metadata.pop("jupyter", None)
            if tags:
                cell.metadata["tags"] = tags
    return copy


def page(
    notebook: NotebookNode, *, solutions: Solutions = "folded", name: str = "", files: Names = ()
) -> str:
    """A notebook as a web page: stored outputs, those that answer a prediction folded."""
    from nbconvert import HTMLExporter

    copy = _adapted(notebook, solutions, name, files)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output != COVER]
        elif cell.cell_type == "markdown":
            cell.source = _outside_code(
                lambda text: re.sub(r"(\]\(<?[^)\s:>]+)\.(?:ipynb|md)(?=[#>) ])", r"\1.html", text),
                cell.source,
            )
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(FOLDER)])
    resources = {"metadata": {"name": Path(name).stem}}
    return exporter.from_notebook_node(copy, resources=resources)[0]


def course(
    source: Path = FOLDER, *, solutions: Solutions = "folded", html: bool = False
) -> Iterator[tuple[str, str]]:
    """Name and text of every file of a copy; what is for teachers is no part of it."""
    paths = sorted([*source.glob("*.ipynb"), *source.glob("*.md"), *source.glob("*/*.md")])
    names = [path.relative_to(source).as_posix() for path in paths]
    names = [n for n in names if not n.startswith(TEACHERS) and "/." not in f"/{n}"]
    for name in names:
        text = (source / name).read_text(encoding="utf-8")
        if name.endswith(".md"):
            cells = [nbformat.v4.new_markdown_cell(text, id="page")]
            notebook = nbformat.v4.new_notebook(cells=cells)
        else:
            try:
                notebook = nbformat.reads(text, as_version=4)
            except ValueError as error:
                raise MedlabError(f"{source / name} is no notebook: {error}") from error
        how: dict = {"solutions": solutions, "name": name, "files": names}
        if html:
            yield name.rsplit(".", 1)[0] + ".html", page(notebook, **how)
        elif name.endswith(".md"):
            yield name, learners(notebook, **how).cells[0].source
        else:
            yield name, nbformat.writes(learners(notebook, **how)).rstrip("\n") + "\n"


def publish(
    target: Path, source: Path = FOLDER, *, solutions: Solutions = "folded", html: bool = False
) -> dict[str, list[str]]:
    """Write the course into a folder, and keep every file there that somebody has changed.

    A notebook counts as changed when text, tags or attachments of a cell are; having been run is no
    change.

    Returns:
        "written", "kept" (changed, or not from here), "outdated": those kept of which the course
        has another version, and "gone": those from an earlier call that the course has no more.

    Raises:
        MedlabError: the folder is, holds or lies in the course's own notebooks, or a file stands
            where a folder is needed.
    """
    target, source = target.resolve(), source.resolve()
    files = dict(course(source, solutions=solutions, html=html))
    for folder in {target, *((target / name).parent for name in files)}:
        real = folder.resolve()
        if real == source or real in source.parents or source in real.parents:
            raise MedlabError(f"{folder} holds the course's own notebooks: name another folder")
        if folder.exists() and not folder.is_dir():
            raise MedlabError(f"{folder} is a file, and a folder is needed: name another folder")
    target.mkdir(parents=True, exist_ok=True)
    record = _record(target / RECORD)
    told: dict[str, list[str]] = {"written": [], "kept": [], "outdated": [], "gone": []}
    told["gone"] = sorted(name for name in set(record) - set(files) if (target / name).exists())
    try:
        for name, text in files.items():
            _renew(target / name, name, text, record, told)
    finally:  # what an interrupt leaves is on the record too
        with atomic_write(target / RECORD, error=MedlabError) as part:
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return told


def _renew(path: Path, name: str, text: str, record: dict, told: dict[str, list[str]]) -> None:
    """Write one file unless it is somebody's, and note what was done."""
    new, old = _fingerprint(name, text.encode()), None
    somebodys = path.is_symlink() or (path.exists() and not path.is_file())
    if not somebodys and path.exists():
        old = _fingerprint(name, path.read_bytes())
    if old == new:
        record[name] = new
    elif not somebodys and old in (None, record.get(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, error=MedlabError) as part:
            part.write_text(text, encoding="utf-8")
        record[name] = new
        told["written"].append(name)
    else:
        told["kept"].append(name)
        if record.get(name) != new:
            told["outdated"].append(name)


def _adapted(notebook: NotebookNode, solutions: Solutions, name: str, files: Names) -> NotebookNode:
    """A copy without badges, links that lead out of it and, if so asked, solutions."""
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            if solutions == "none" and "solution" in cell.metadata.get("tags", []):
                cell.source = "\n\n".join(_HINT.findall(cell.source))  # hints, and nothing else
            cell.source = _outside_code(lambda text: _own_links(text, name, files), cell.source)
    copy.cells = [c for c in copy.cells if c.cell_type != "markdown" or c.source.strip()]
    return copy


def _outside_code(change: Callable[[str], str], text: str) -> str:
    """`change` applied to what is neither code nor formula."""
    parts = _VERBATIM.split(text)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


def _own_links(text: str, name: str, files: Names) -> str:
    """Text of the file `name` without badges, and without links to what the copy has not."""

    def link(found: re.Match) -> str:
        path = found[2].partition("#")[0].partition("?")[0]
        if re.match(r"[a-z][a-z0-9+.-]*:", path, re.I):
            return found[1] if _SOLVED.search(path) else found[0]
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(path)))
        return found[0] if not path or inside in files else found[1]

    text = _LINK.sub(link, _BADGE.sub("", text))
    if left := _SOLVED.search(text):
        raise MedlabError(
            f"{name or 'a notebook'} links to the solved course in a way that no copy can take out "
            f"({left[0]!r}): write it as [text](address)"
        )
    return text


def _fingerprint(name: str, data: bytes) -> str:
    """Hash of what a person makes in a file: of a notebook, text, tags and attachments of cells."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        if name.endswith(".ipynb"):
            made = [
                [
                    cell["cell_type"],
                    "".join(cell["source"]).replace("\r\n", "\n"),
                    cell.get("attachments", {}),
                    [cell["metadata"].get(key) for key in ("tags", "slideshow")],
                ]
                for cell in json.loads(text)["cells"]
            ]
            while made and not made[-1][1].strip():  # running the last cell adds an empty one
                made.pop()
            text = json.dumps(made)
        data = text.encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # no text or no notebook any more: somebody's work, byte for byte
    return hashlib.sha256(data).hexdigest()


def _record(path: Path) -> dict[str, str]:
    """What an earlier call noted; nothing if there was none."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
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
    if told["gone"]:
        print(f"no longer in the course, left as they are: {', '.join(told['gone'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
