"""What every test and every notebook's kernel starts from, before anything of medlab is imported.

No network but loopback, no progress bars, none of the reader's own settings, an empty cache, so
that a cohort is always made by the code under test, and the instructions of `execute.PORTABLE`.
"""

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parent / "tests" / "offline"


def pytest_configure(config):
    del config
    environment = os.environ
    _block_network(environment)
    for name in ("MEDLAB_DATASET", "MEDLAB_MIRROR", "MEDLAB_VERIFY"):
        environment.pop(name, None)
    from notebooks.execute import PORTABLE

    environment.update(PORTABLE)
    environment["MEDLAB_PROGRESS"] = "0"
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # a reader's own "python3" kernel must not answer
    if "MEDLAB_TEST_CACHE" not in environment:  # a worker of pytest-xdist inherits what is set here
        if "MEDLAB_DATA" in environment:
            environment["MEDLAB_TEST_DATA"] = environment["MEDLAB_DATA"]
        cache = tempfile.mkdtemp(prefix="medlab-test-")
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
        environment["MEDLAB_TEST_CACHE"] = environment["MEDLAB_DATA"] = cache
        environment["IPYTHONDIR"] = f"{cache}/ipython"


def _block_network(environment) -> None:
    """In this process by running the file, in kernels and other child processes by PYTHONPATH."""
    spec = importlib.util.spec_from_file_location("medlab_offline", OFFLINE / "sitecustomize.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    if str(OFFLINE) not in paths:
        environment["PYTHONPATH"] = os.pathsep.join([str(OFFLINE), *filter(None, paths)])


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Where nbval collects a notebook of the course, its folded solutions run too."""
    found = yield
    if file_path.parent.name != "notebooks" or not parent.config.getoption("nbval", False):
        return found
    from nbval.plugin import IPyNbFile

    from tests.solutions import Course

    return [
        Course.from_parent(parent, path=file_path) if isinstance(one, IPyNbFile) else one
        for one in found
    ]
