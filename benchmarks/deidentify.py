"""De-identification: what is left of planted identifiers, by medlab and by three other tools.

    python benchmarks/deidentify.py [--files 600] [--captures 24] [--only TOOL …]

The files are those of the tests (tests/deid_corpus.py): identifiers in every place that the
standard lists, and what must become of each by the table of the basic profile (PS3.15, 2026c) as
dicom-anonymizer has it. Every tool works as its makers document it, from a file to a file, in the
same run; a tool that is not installed says so in its row. They are made for different things:

- medlab: the basic profile, and whatever no table lists.
- dicom-anonymizer: the basic profile's table, and private elements.
- dicognito: names, identifiers, dates and UIDs replaced by plausible ones, so that studies still
  belong together; not the profile.
- deid: recipes that a site writes for itself; here the one that comes with it, without private
  elements, and, for pictures with text, its list of devices that burn text in.

Each file goes in alone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medlab.dicom import deidentify
from medlab.errors import DicomError
from tests import deid_corpus
from tests.dicom_files import image, save

Tool = Callable[[Path, Path], None]
READABLE = ("same", "in the bytes", "in the pixels' unused bits")


def medlab() -> Tool:
    return lambda source, target: deidentify(source, key="k").save_as(
        target, enforce_file_format=True
    )


def dicom_anonymizer() -> Tool:
    simple = importlib.import_module("dicomanonymizer.simpledicomanonymizer")

    def rules() -> dict:
        return simple.initialize_actions("dicomfields_2026c")

    return lambda source, target: simple.anonymize_dicom_file(
        str(source), str(target), base_rules_gen=rules
    )


def dicognito() -> Tool:
    anonymizer = importlib.import_module("dicognito.anonymizer").Anonymizer(seed="k")

    def run(source: Path, target: Path) -> None:
        with pydicom.dcmread(source) as data:
            anonymizer.anonymize(data)
            data.save_as(target)

    return run


def deid(*, look: bool = False) -> Tool:
    header = importlib.import_module("deid.dicom")
    importlib.import_module("deid.logger").bot.level = -5  # it prints every step

    def run(source: Path, target: Path) -> None:
        if look and header.has_burned_pixels(str(source))["flagged"]:
            raise RuntimeError("flagged: text in the pixels")
        (data,) = header.replace_identifiers([str(source)], remove_private=True, save=False)
        data.save_as(target)

    return run


TOOLS = {
    "medlab": medlab,
    "dicom-anonymizer": dicom_anonymizer,
    "dicognito": dicognito,
    "deid": deid,
}


def place(planted: deid_corpus.Planted) -> str:
    """The column of a planted item."""
    if planted.place.startswith("attribute"):
        return "in sequences" if "deep" in planted.place else "root"
    if planted.place.startswith("private"):
        return "private"
    for word in ("overlay, 60xx", "curve, 50xx", "high bits", "meta", "preamble", "compressed"):
        if word in planted.place:
            return word
    return "texts, padding"


def headers(tool: Tool, files: Iterable[deid_corpus.File], folder: Path) -> tuple[Counter, Counter]:
    """Items planted and actions done by place; and seconds, files written, items still readable."""
    done, told = Counter(), Counter()
    for file in files:
        source, target = folder / "in.dcm", folder / "out.dcm"
        before = deid_corpus.written(file.data)
        source.write_bytes(before)
        target.unlink(missing_ok=True)
        start = time.perf_counter()
        try:
            tool(source, target)
            told["seconds"] += time.perf_counter() - start
            left = deid_corpus.judge(file, before, target.read_bytes())
        except Exception as error:  # noqa: BLE001  (any tool may fail in its own way)
            told[f"not written: {type(error).__name__} {str(error)[:60]}"] += 1
            continue
        told["written"] += 1
        told["readable"] += sum(state in READABLE for _, state in left)
        for planted in file.planted:
            done[place(planted), "planted"] += 1
        for planted, _ in left:
            done[place(planted), "left"] += 1
    return done, told


def studies(tool: Tool, folder: Path, count: int = 50) -> int:
    """Of pairs of files: how many get new UIDs, and still belong to one study and series."""
    good = 0
    for k in range(count):
        uids = []
        for name in "ab":
            data = image(
                np.full((4, 4), k, np.uint16), SOPInstanceUID=f"1.2.826.0.1.{k}.{ord(name)}"
            )
            data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.826.0.2.{k}", f"1.2.826.0.3.{k}"
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            with contextlib.suppress(Exception):
                tool(save(data, folder / "in.dcm"), folder / f"{name}.dcm")
                new = pydicom.dcmread(folder / f"{name}.dcm")
                same = new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
                links = new.StudyInstanceUID, new.SeriesInstanceUID
                old = {data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID}
                if same and not old & {new.SOPInstanceUID, *links}:
                    uids.append((links, new.SOPInstanceUID))
        good += len(uids) == 2 and uids[0][0] == uids[1][0] and uids[0][1] != uids[1][1]
    return good


def captured(tool: Tool, count: int, folder: Path) -> Counter:
    """Pictures with a name burnt in: refused, blanked, or let through."""
    told: Counter = Counter()
    for file in deid_corpus.captures(count):
        source, target = save(file.data, folder / "in.dcm"), folder / "out.dcm"
        target.unlink(missing_ok=True)
        try:
            tool(source, target)
        except Exception as error:  # noqa: BLE001
            stopped = isinstance(error, DicomError) or "flagged" in str(error)
            told["refused" if stopped else "failed"] += 1
            continue
        through = deid_corpus.still_drawn(file, target.read_bytes())
        told["let through" if through else "blanked"] += 1
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--captures", type=int, default=24)
    parser.add_argument("--only", nargs="*", choices=TOOLS, default=list(TOOLS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = None
        for tool in options.only:
            try:
                run = TOOLS[tool]()
            except ImportError as error:
                print(f"{tool}: not installed ({error})")
                continue
            with contextlib.redirect_stdout(None):
                done, told = headers(run, deid_corpus.files(options.files), folder)
                linked = studies(run, folder)
                looking = deid(look=True) if tool == "deid" else run
                burnt = captured(looking, options.captures, folder)
            each = told.pop("seconds", 0) / max(told["written"], 1)
            base = base or each
            planted = sum(v for (_, what), v in done.items() if what == "planted")
            left = sum(v for (_, what), v in done.items() if what == "left")
            print(f"\n## {tool}\nfiles written {told.pop('written', 0)} of {options.files}")
            print(f"actions done {planted - left} of {planted}; readable {told.pop('readable', 0)}")
            print(f"seconds a file {each:.4f}, {each / base:.2f} times medlab's")
            for column in sorted({column for column, _ in done}):
                of = done[column, "planted"]
                print(f"  {column}: {of - done[column, 'left']} of {of}")
            print(f"  studies that still belong together: {linked} of 50")
            print(f"  text burnt in, of {options.captures}: {dict(burnt)}")
            for reason, count in told.items():
                print(f"  {reason}: {count}")


if __name__ == "__main__":
    main()
