"""Execute notebooks from a clean kernel and store their outputs.

    python notebooks/execute.py                 # all of them, what `make notebooks` does
    python notebooks/execute.py 00 01           # those whose file names start so

What is stored is what `pytest --nbval` compares with: text, figures and their alternative text,
without clock times, widget states, kernel versions or machine paths. Two runs of an unchanged
notebook store the same text.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
OFFLINE = FOLDER.parent / "tests" / "offline"
MAX_IMAGE_BYTES = 400_000
# Sums are rounded in the order of the widest instructions that a processor has, and a network that
# is trained makes a visible difference of that. What is stored comes from instructions that every
# x86 processor of the last ten years has.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# A widget's state is never stored, so its view would be an empty frame; picture and text stay.
UNSTORED = ("application/vnd.jupyter.widget-view+json",)
# Stands before a folded text, so that its first line is not told.
COVER = {"output_type": "display_data", "data": {"text/plain": "…"}, "metadata": {}}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


class Client(NotebookClient):
    """Collects a cell's outputs as nbval does, so that the stored ones can be compared strictly.

    nbval follows neither widgets nor messages that clear or replace an output: each output stays,
    in order.
    """

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"].startswith("comm") or msg["msg_type"] in (
            "clear_output",
            "update_display_data",
        ):
            return None
        return super().process_message(msg, cell, cell_index)


@contextlib.contextmanager
def clean_environment(*, online: bool = False, **settings: str) -> Iterator[None]:
    """Environment for a kernel: empty cache, no progress bars, no network, no user's settings.

    Args:
        online: leave the network open.
        settings: further variables, as MEDLAB_DATASET="pneumoniamnist".
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="medlab-notebook-") as folder:
        for name in ("DATASET", "STUDY", "MIRROR", "VERIFY"):
            os.environ.pop(f"MEDLAB_{name}", None)
        os.environ.pop("MPLBACKEND", None)
        os.environ |= {
            "MEDLAB_PROGRESS": "0",
            "MEDLAB_DATA": folder,
            "IPYTHONDIR": f"{folder}/ipython",
            "JUPYTER_PREFER_ENV_PATH": "1",  # a user's own "python3" kernel must not answer
        }
        if not online and OFFLINE.is_dir():
            paths = [str(OFFLINE), *filter(None, [before.get("PYTHONPATH")])]
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        os.environ |= PORTABLE | settings
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def run(notebook: nbformat.NotebookNode, *, folder: Path = FOLDER, timeout: int = 300) -> None:
    """Execute all cells in place, in a new kernel whose working folder is `folder`.

    Raises:
        CellExecutionError: a cell raised; the message holds its source and traceback.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    Client(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # it warns of its own open loopback port
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    ).execute()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Remove from an executed notebook, in place, what differs from run to run."""
    notebook.metadata = nbformat.from_dict(
        {**{k: v for k, v in notebook.metadata.items() if k != "widgets"}, **METADATA}
    )
    for cell in notebook.cells:
        for name in ("execution", "ExecuteTime", "collapsed"):
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", []):
            for mime in UNSTORED:
                output.get("data", {}).pop(mime, None)
        outputs = cell.get("outputs", [])
        if "hide-output" in cell.metadata.get("tags", []) and tells(outputs):
            outputs.insert(0, nbformat.from_dict(COVER))


def tells(outputs: list) -> bool:
    """Whether JupyterLab would tell something in place of these outputs, folded: the first line."""
    first = outputs[0].get("data", {}).get("text/plain") if outputs else "…"
    return first not in ("<Figure>", "…")


def without_cover(outputs: list) -> list:
    """Outputs as the cell gave them, without what `tidy` put before those that are folded."""
    return [output for output in outputs if output != COVER]


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not be stored: images too large, or without alternative text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            image = output.get("data", {}).get("image/png")
            if image is None:
                continue
            if len(image) * 3 // 4 > MAX_IMAGE_BYTES:
                found.append(f"cell {cell.id}: a figure of {len(image) * 3 // 4000} kB; draw less")
            if not output.metadata.get("image/png", {}).get("alt"):
                found.append(f"cell {cell.id}: a figure without alternative text (plotting.show)")
    return found


def store(path: Path, *, online: bool = False) -> list[str]:
    """Execute the notebook at `path`; if every cell ran, write it back. Returns what to mend."""
    notebook = nbformat.read(path, as_version=4)
    with clean_environment(online=online):
        run(notebook, folder=path.parent)
    tidy(notebook)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
    show_in_readme(notebook, path.parent / "overview.png")
    return complaints(notebook)


def show_in_readme(notebook: nbformat.NotebookNode, file: Path) -> None:
    """Write the figure of the cell tagged `readme`, if there is one, to `file`."""
    for cell in notebook.cells:
        if "readme" in cell.metadata.get("tags", []):
            (png,) = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            file.write_bytes(base64.b64decode(png))


def choose(names: list[str]) -> list[Path]:
    """Notebooks by path or by the start of their file name; all of them where none is named."""
    every = sorted(FOLDER.glob("*.ipynb"))
    chosen = []
    for name in names:
        found = [Path(name).resolve()] if name.endswith(".ipynb") else []
        found = found or [path for path in every if path.name.startswith(name)]
        if not found or not found[0].is_file():
            raise SystemExit(f"execute.py: there is no notebook {name!r} in {FOLDER}")
        chosen += found
    return chosen or every


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 if every notebook ran and none needs mending."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "notebooks", nargs="*", help="files, or starts of file names (default: all)"
    )
    parser.add_argument("--online", action="store_true", help="leave the network open")
    options = parser.parse_args(arguments)
    failed = 0
    for path in choose(options.notebooks):
        start = time.perf_counter()
        try:
            problems = store(path, online=options.online)
        except CellExecutionError as error:
            problems = [f"not stored: {error}"]
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)
        for problem in problems:
            print(f"  {problem}", flush=True)
        failed += bool(problems)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
