"""The capstone's notebook on a real chest CT: it runs to the end, and says what it cannot claim."""

from __future__ import annotations

import tarfile

import nbformat
import pytest

from notebooks import edition, execute
from tests.notebook_rules import output_text
from tests.where import NOTEBOOKS

LIMITS = (
    "refused (pixel spacing)",
    "networks and intervals come from simulated scans",
    "81 mm of lung were scanned",
    "family history and emphysema were not told",
    "scanner, kernel and contrast medium are none that the networks met",
    "a real scan: nobody has told us",
)


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.real
def test_the_capstone_writes_a_report_on_a_real_series(real_data, tmp_path):
    archive = real_data / "dicom" / "chest_ct_series.tar.xz"
    if not archive.exists():
        pytest.skip(f"{archive} does not exist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    [path] = [path for path in NOTEBOOKS if path.name.startswith("33_")]
    notebook = edition.learners(nbformat.read(path, as_version=4), solutions="none")
    with execute.clean_environment(MEDLAB_STUDY=str(tmp_path)):
        execute.run(notebook)
    told = {cell.id: output_text(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert "28×512×512" in told["elsewhere"] and "(Lung-RADS-style)" in told["page"]
    report = told["page"] + told["truth"]
    assert [words for words in LIMITS if words not in report] == []
    assert str(tmp_path) not in "".join(told.values())
