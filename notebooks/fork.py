"""Point the whole course at another repository.

``python notebooks/fork.py https://github.com/someone/course`` moves everything to a teacher's fork.
``[project.urls]`` in pyproject.toml is the one place for the address and its version the one for
the edition; the Colab badge and the set-up cell of every notebook are written here from them.
Without an address, the course stays where it is and its set-up cells follow the version.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

from medlab.errors import MedlabError

# Notebooks that need one of the package's extras on Colab too, by number.
EXTRAS = dict.fromkeys(("31", "32", "33"), "deploy")
# Files besides the notebooks that name the address.
PAGES = ("README.md", "CITATION.cff", "CONTRIBUTING.md")

SETUP_CELL = """\
# Set-up: installs medlab where it is missing on Colab, and changes nothing elsewhere
import importlib.util
import subprocess
import sys

REPOSITORY = "{repository}"
EDITION = "{edition}"
if importlib.util.find_spec("medlab") is None:
    if "google.colab" not in sys.modules:
        raise ModuleNotFoundError(
            "this kernel has no medlab: in the course's folder run `make lab`, "
            f"or `pip install git+{{REPOSITORY}}@{{EDITION}}`, then restart the kernel"
        )
    print("Installing medlab on Colab, about a minute …")
    source = f"{package}git+{{REPOSITORY}}@{{EDITION}}"
    pip = [sys.executable, "-m", "pip", "install", "-q", source]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("pip could not install medlab:\\n" + done.stderr[-2000:])
    importlib.invalidate_caches()

import medlab
"""


def repository(root: Path | str = ".") -> str:
    """The course's address as pyproject.toml gives it, without a closing slash.

    Raises:
        MedlabError: `root` holds no pyproject.toml of this course.
    """
    return _project(root)[0]


def edition(root: Path | str = ".") -> str:
    """The tag that set-up cells install, "v" and the version in pyproject.toml.

    Raises:
        MedlabError: `root` holds no pyproject.toml of this course.
    """
    return f"v{_project(root)[1]}"


def _project(root: Path | str) -> tuple[str, str]:
    """Address and version."""
    path = Path(root) / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        return project["urls"]["Repository"], project["version"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise MedlabError(
            f"{path} does not name the repository and the version: run this in the course's folder "
            f"({error})"
        ) from error


def setup_cell(address: str, tag: str, notebook: str = "") -> str:
    """Source of the set-up cell, the same in every notebook but for the extra that it installs.

    Args:
        address: the repository's.
        tag: the edition that it installs on Colab, as `edition` gives it.
        notebook: a file name in notebooks/.
    """
    extra = EXTRAS.get(notebook.partition("_")[0])
    package = f"medlab[{extra}] @ " if extra else ""
    return SETUP_CELL.format(repository=address, edition=tag, package=package).rstrip("\n")


def badge(address: str, notebook: str) -> str:
    """Markdown of the badge that opens `notebook` (a file name in notebooks/) on Colab."""
    path = address.removeprefix("https://github.com/")
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{path}/blob/main/notebooks/{notebook})"
    )


def valid_address(text: str) -> str:
    """`text` as https://github.com/owner/name, without a closing slash or ".git".

    Raises:
        MedlabError: anything else; Colab opens notebooks from GitHub only.
    """
    address = text.strip().removesuffix("/").removesuffix(".git")
    owner, name = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})", r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}"
    if not re.fullmatch(rf"https://github\.com/{owner}/{name}", address):
        raise MedlabError(
            f"expected an address like https://github.com/someone/course, got {text!r}; "
            "Colab and the badges need a public GitHub repository"
        )
    return address


def rewrite(new: str, *, root: Path | str = ".") -> list[Path]:
    """Move pyproject.toml, the pages and all notebooks under `root` to the address `new`.

    Set-up cells then install the edition that pyproject.toml names. Every file is computed before
    the first is written, pyproject.toml is written last, and running it twice changes nothing more,
    so an interrupted run is repaired by another.

    Returns:
        The files changed.

    Raises:
        MedlabError: the address is no GitHub repository, or `root` is not the course's folder.
    """
    root = Path(root)
    new, old = valid_address(new), repository(root)
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    changed: dict[Path, str] = {}
    for path in [*notebooks, *(root / page for page in PAGES), root / "pyproject.toml"]:
        if not path.is_file():
            continue
        before = path.read_text(encoding="utf-8")
        after = _moved(before, old.removeprefix("https://"), new.removeprefix("https://"))
        if path.suffix == ".ipynb":
            after = re.sub(r'(?<="EDITION = \\")v[^"\\]+', edition(root), after)
            json.loads(after)  # a damaged notebook must stop the run before anything is written
        if after != before:
            changed[path] = after
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    return list(changed)


def _moved(text: str, old: str, new: str) -> str:
    """`text` with github.com/owner/name replaced, also as Colab, Binder and raw links write it."""
    end = r"(?![\w-]|\.(?!git\b)\w)"  # "…/medlab" must not match inside "…/medlab-data"
    old_path, new_path = (address.removeprefix("github.com/") for address in (old, new))
    text = re.sub(re.escape(old) + end, new, text)
    for prefix in (
        "colab.research.google.com/github/",
        "mybinder.org/v2/gh/",
        "raw.githubusercontent.com/",
    ):
        text = re.sub(re.escape(prefix + old_path) + end, prefix + new_path, text)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Command line: prints what was changed; 1 with one line if it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python notebooks/fork.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("address", nargs="?", help="https://github.com/someone/course")
    parser.add_argument("--root", default=".", help="the course's folder (default: here)")
    options = parser.parse_args(arguments)
    try:
        here = repository(options.root)
        changed = rewrite(here if options.address is None else options.address, root=options.root)
    except MedlabError as error:
        print(f"fork: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(path)
    print(
        f"{len(changed)} files changed"
        if changed
        else "nothing to change: all files already say so"
    )
    tag = edition(options.root)
    print(f"Colab installs {tag} from there: when all is committed, tag it and push the tag {tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
