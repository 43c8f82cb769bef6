"""Damaged DICOM files by the thousand: what medlab makes of them, and pydicom beside it.

    python -m tests.dicom_fuzz --n 20000 --seed 0

Every case mutates one file that pydicom carries, or one of the real corpus where it is at hand, and
gives it to `medlab.dicom.read_image` and to `pydicom.dcmread(...).pixel_array`, in a worker process
with an address-space limit. Case k depends on the seed and k alone, so a finding can be repeated:
`--only k` keeps its file.

What counts as wrong without an exception ("wrong pixels"): an array of another size than the header
declares; pixel bytes left over that are not padding; compressed data cut short; compressed frames
beyond NumberOfFrames; or, where the pixels are not compressed, values other than a plain numpy
reading of the same bytes.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import resource
import struct
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np

from tests.where import REAL_DATA

HANG_S = 2.0  # processor time
STALL_S = 120.0  # wall time after which a worker is killed; a busy machine may need a while
MEMORY = 2**30  # bytes above what the libraries take
LARGEST = 600_000  # bytes of a file to mutate
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UN", b"UT", b"UC", b"UR")
SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.8.1",
    "1.2.3.4",
)
PHOTOMETRIC = (
    b"MONOCHROME1",
    b"MONOCHROME2",
    b"RGB",
    b"YBR_FULL",
    b"YBR_FULL_422",
    b"PALETTE COLOR",
)
TAGS = {  # the elements on whose value the pixels hang
    "Rows": (0x28, 0x10), "Columns": (0x28, 0x11), "NumberOfFrames": (0x28, 0x08),
    "SamplesPerPixel": (0x28, 0x02), "PhotometricInterpretation": (0x28, 0x04),
    "PlanarConfiguration": (0x28, 0x06), "BitsAllocated": (0x28, 0x100),
    "BitsStored": (0x28, 0x101), "HighBit": (0x28, 0x102), "PixelRepresentation": (0x28, 0x103),
    "RescaleSlope": (0x28, 0x1053), "RescaleIntercept": (0x28, 0x1052),
    "PixelSpacing": (0x28, 0x30), "WindowWidth": (0x28, 0x1051),
    "SpecificCharacterSet": (0x08, 0x05), "ImagePositionPatient": (0x20, 0x32),
}  # fmt: skip
NATIVE = SYNTAXES[:4]


@dataclass(frozen=True)
class Seed:
    """A file to mutate: its bytes, and where its top-level elements lie."""

    name: str
    data: bytes
    elements: tuple[tuple[int, int, int, int, bytes], ...]  # group, element, value, length, VR


@dataclass(frozen=True)
class Outcome:
    """What one reader made of one case."""

    case: int
    reader: str
    verdict: str
    detail: str
    kind: str
    seconds: float


@cache
def seeds() -> list[Seed]:
    """Every DICOM file that pydicom's wheel carries, and the real files where they are at hand."""
    from pydicom.data.data_manager import DATA_ROOT

    found = []
    for path in sorted(Path(DATA_ROOT, "test_files").rglob("*")):
        if path.is_file() and path.suffix in ("", ".dcm") and "TINY_ALPHA" not in path.parts:
            found.append((path.name, path.read_bytes()))
    if REAL_DATA is not None:
        for path in sorted((REAL_DATA / "dicom" / "corpus").rglob("*")):
            if path.is_file():
                found.append((path.name, path.read_bytes()))
        for path in sorted((REAL_DATA / "dicom").glob("*_series.tar.xz")):
            with tarfile.open(path) as archive:
                member = next(m for m in archive if m.isfile())
                found.append((path.name, archive.extractfile(member).read()))
    files = [Seed(n, d, tuple(_elements(d))) for n, d in found if 132 < len(d) <= LARGEST]
    # Files with pixels first, so that few cases are spent on those without.
    return sorted(files, key=lambda file: b"\xe0\x7f\x10\x00" not in file.data)


def _elements(data: bytes):
    """Top-level elements by a walk of our own, as far as it gets; not pydicom's parser."""
    position, explicit, order, meta = 132 if data[128:132] == b"DICM" else 0, True, "<", True
    while position + 8 <= len(data):
        group, element = struct.unpack_from(order + "HH", data, position)
        if meta and group != 2:
            meta = False
            syntax = _syntax(data)
            explicit, order = syntax != SYNTAXES[0], ">" if syntax == SYNTAXES[2] else "<"
            if syntax == SYNTAXES[3]:
                return
            continue
        vr = data[position + 4 : position + 6]
        if (explicit or group == 2) and vr.isalpha() and vr.isupper():
            if vr in LONG_VRS:
                if position + 12 > len(data):
                    return
                (length,) = struct.unpack_from(order + "L", data, position + 8)
                start = position + 12
            else:
                (length,) = struct.unpack_from(order + "H", data, position + 6)
                start = position + 8
        else:
            vr = b""
            (length,) = struct.unpack_from(order + "L", data, position + 4)
            start = position + 8
        yield group, element, start, length, vr
        if length == 0xFFFFFFFF or start + length > len(data):
            return
        position = start + length


def _syntax(data: bytes) -> str:
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return ""
    (length,) = struct.unpack_from("<H", data, at + 6)
    return data[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")


def mutant(case: int, seed: int) -> tuple[Seed, str, bytes]:
    """The mutated file of one case, and how it was mutated."""
    rng = np.random.default_rng([seed, case])
    files = seeds()
    images = sum(b"\xe0\x7f\x10\x00" in file.data for file in files)
    source = files[int(rng.integers(images if rng.random() < 0.9 else len(files)))]
    kind = str(rng.choice(list(_MUTATIONS)))
    return source, kind, bytes(_MUTATIONS[kind](rng, source))


def _flip(rng: np.random.Generator, source: Seed) -> bytearray:
    data = bytearray(source.data)
    last = len(data) if rng.random() < 0.4 else min(len(data), 2500)
    for at in rng.integers(128, last, size=int(rng.integers(1, 17))):
        data[at] = int(rng.integers(256))
    return data


def _truncate(rng: np.random.Generator, source: Seed) -> bytes:
    return source.data[: int(rng.integers(len(source.data)))]


def _insert(rng: np.random.Generator, source: Seed) -> bytes:
    at, count = int(rng.integers(132, len(source.data))), int(rng.integers(1, 40))
    return source.data[:at] + rng.bytes(count) + source.data[at:]


def _delete(rng: np.random.Generator, source: Seed) -> bytes:
    at, count = int(rng.integers(132, len(source.data))), int(rng.integers(1, 400))
    return source.data[:at] + source.data[at + count :]


def _repeat(rng: np.random.Generator, source: Seed) -> bytes:
    at, count = int(rng.integers(132, len(source.data))), int(rng.integers(1, 4000))
    return source.data[: at + count] + source.data[at:]


def _wipe(rng: np.random.Generator, source: Seed) -> bytearray:
    data = bytearray(source.data)
    at, count = int(rng.integers(132, len(data))), int(rng.integers(1, 400))
    stop = min(len(data), at + count)
    data[at:stop] = bytes([int(rng.choice([0, 255, 32]))]) * (stop - at)
    return data


def _length(rng: np.random.Generator, source: Seed) -> bytearray:
    data = bytearray(source.data)
    if not source.elements:
        return _flip(rng, source)
    _, _, start, length, vr = source.elements[int(rng.integers(len(source.elements)))]
    choices = [
        0,
        1,
        2,
        length - 2,
        length + 2,
        length + 1,
        length * 2,
        0x7FFFFFFF,
        0xFFFFFFFE,
        0xFFFFFFFF,
    ]
    value = int(rng.choice(choices)) & 0xFFFFFFFF
    if vr and vr not in LONG_VRS:
        struct.pack_into("<H", data, start - 2, value & 0xFFFF)
    else:
        struct.pack_into("<L", data, start - 4, value)
    return data


def _value(rng: np.random.Generator, source: Seed) -> bytearray:
    data = bytearray(source.data)
    at = {(g, e): (s, n, vr) for g, e, s, n, vr in source.elements}
    here = [name for name, tag in TAGS.items() if tag in at]
    if not here:
        return _flip(rng, source)
    for name in rng.choice(here, size=int(rng.integers(1, 3))):
        start, length, _ = at[TAGS[str(name)]]
        if not 0 < length < 200:
            continue
        if name == "PhotometricInterpretation":
            new = PHOTOMETRIC[int(rng.integers(len(PHOTOMETRIC)))]
            data[start : start + length] = new[:length].ljust(length)
        elif length == 2 and name != "NumberOfFrames":
            old = struct.unpack_from("<H", data, start)[0]
            choices = [0, 1, 2, 3, 7, 8, 12, 16, 24, 32, old - 1, old + 1, old * 2, old // 2, 65535]
            struct.pack_into("<H", data, start, int(rng.choice(choices)) & 0xFFFF)
        else:
            texts = (
                b"0",
                b"1",
                b"2",
                b"-1",
                b"1e999",
                b"nan",
                b"99999999",
                b"\\\\",
                b"abc",
                b"ISO 2022 IR 87",
            )
            new = texts[int(rng.integers(len(texts)))]
            data[start : start + length] = new[:length].ljust(length)
    return data


def _swap_syntax(rng: np.random.Generator, source: Seed) -> bytes:
    data = source.data
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return bytes(_flip(rng, source))
    (length,) = struct.unpack_from("<H", data, at + 6)
    new = SYNTAXES[int(rng.integers(len(SYNTAXES)))].encode()
    new += b"\0" * (len(new) % 2)
    data = data[: at + 6] + struct.pack("<H", len(new)) + new + data[at + 8 + length :]
    group = data.find(b"\x02\x00\x00\x00UL\x04\x00")
    if group >= 0:
        old = struct.unpack_from("<L", data, group + 8)[0]
        size = struct.pack("<L", (old + len(new) - length) & 0xFFFFFFFF)
        data = data[: group + 8] + size + data[group + 12 :]
    return data


def _stream(rng: np.random.Generator, source: Seed) -> bytearray:
    """Damage inside the pixel data, most of it near the start, where a stream keeps its headers."""
    data = bytearray(source.data)
    pixels = [(s, n) for g, e, s, n, _ in source.elements if (g, e) == (0x7FE0, 0x10)]
    if not pixels:
        return _flip(rng, source)
    start = pixels[0][0]
    stop = len(data) if rng.random() < 0.4 else min(len(data), start + 200)
    for at in rng.integers(start, stop, size=int(rng.integers(1, 5))) if stop > start else ():
        data[at] = int(rng.choice([0, 0xFF, 0xD9, int(rng.integers(256))]))
    return data


def _splice(rng: np.random.Generator, source: Seed) -> bytes:
    files = seeds()
    other = files[int(rng.integers(len(files)))].data
    a = int(rng.integers(132, len(source.data)))
    b = int(rng.integers(min(132, len(other) - 1), len(other)))
    return (source.data[:a] + other[b:])[:LARGEST]


_MUTATIONS = {
    "byte flips": _flip,
    "truncation": _truncate,
    "insertion": _insert,
    "deletion": _delete,
    "repetition": _repeat,
    "wiped range": _wipe,
    "length field": _length,
    "pixel attribute": _value,
    "transfer syntax": _swap_syntax,
    "pixel stream": _stream,
    "splice": _splice,
}


def read_ours(path: Path) -> tuple[np.ndarray, str]:
    """(F, H, W[, 3]) by medlab, and its units."""
    from medlab.dicom import read_image

    image = read_image(path)
    return np.moveaxis(image.frames.numpy(), 1, -1), "mirrored" if image.inverted else image.units


def read_raw(path: Path) -> tuple[np.ndarray, str]:
    """The same by pydicom alone."""
    import pydicom

    data = pydicom.dcmread(path)
    array = data.pixel_array
    return array, "raw"


def read_headers(path: Path) -> None:
    """The other doors through which a file comes in."""
    from medlab.dicom import deidentify, identifiers, read_series
    from medlab.errors import DicomError

    def cleaned(path: Path) -> None:
        with patch("medlab.dicom.privacy._doubts", lambda *_: []):  # all pixels are cleaned
            deidentify(path, key="k")

    for door in (
        identifiers,
        cleaned,
        lambda p: read_series([p]),
    ):
        try:
            door(path)
        except DicomError as error:
            if path.name not in str(error):
                raise AssertionError(f"an error that does not name the file: {error}") from error


def pixels_lost(path: Path, array: np.ndarray, units: str) -> str:
    """Why the array is not what the file holds, "" where it is; header by pydicom, rest numpy."""
    import pydicom

    data = pydicom.dcmread(path, force=True)
    frames = int(data.get("NumberOfFrames") or 1)
    rows, columns = int(data.Rows), int(data.Columns)
    palette = data.PhotometricInterpretation == "PALETTE COLOR"
    samples = 3 if palette and units != "raw" else int(data.get("SamplesPerPixel") or 1)
    if array.size != frames * rows * columns * samples:
        return f"size {array.shape} for {frames}×{rows}×{columns}×{samples}"
    keyword = next(k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in data)
    value = data[keyword].value
    if str(data.file_meta.get("TransferSyntaxUID")) not in NATIVE:
        return _fragments_lost(value, frames) if keyword == "PixelData" else ""
    bits = int(data.BitsAllocated)
    stored_samples = int(data.get("SamplesPerPixel") or 1)
    size = frames * rows * columns * stored_samples * bits
    if data.PhotometricInterpretation == "YBR_FULL_422":
        size = size // 3 * 2
    needed = -(-size // 8)
    if len(value) < needed:
        return f"{len(value)} bytes of {needed}"
    left = value[needed + needed % 2 :]
    if left.strip(b"\0") or len(left) * frames >= needed:
        return f"{len(left)} bytes left over"
    if keyword != "PixelData" or bits not in (8, 16, 32) or stored_samples != 1 or palette:
        return ""
    return _values_differ(data, value[:needed], array, units)


def _fragments_lost(value: bytes, frames: int) -> str:
    """Items that run past the end, and streams (JPEG, JPEG-LS, JPEG 2000) beyond NumberOfFrames."""
    starts, position = 0, 0
    while position + 8 <= len(value):
        if value[position : position + 4] != b"\xfe\xff\x00\xe0":
            break
        (length,) = struct.unpack_from("<L", value, position + 4)
        starts += value[position + 8 : position + 11] in (b"\xff\xd8\xff", b"\xff\x4f\xff")
        position += 8 + length
    if position > len(value):
        return f"{position - len(value)} bytes of compressed data missing"
    return f"{starts} compressed frames for NumberOfFrames {frames}" if starts > frames else ""


def _values_differ(data, value: bytes, array: np.ndarray, units: str) -> str:
    syntax = str(data.file_meta.TransferSyntaxUID)
    bits, stored = int(data.BitsAllocated), int(data.BitsStored)
    order = ">" if syntax == SYNTAXES[2] else "<"
    if order == ">" and bits == 8:
        if data["PixelData"].VR == "OW":
            return ""
        order = "<"
    plain = np.frombuffer(value, f"{order}u{bits // 8}").astype(np.int64) & ((1 << stored) - 1)
    if int(data.PixelRepresentation) == 1:
        plain = np.where(plain >> (stored - 1), plain - (1 << stored), plain)
    if units == "mirrored" or "ModalityLUTSequence" in data:
        return ""
    if units != "raw" and "DoseGridScaling" in data:
        plain = plain * float(data.DoseGridScaling)
    elif units != "raw" and "RescaleSlope" in data and "RescaleIntercept" in data:
        plain = plain * float(data.RescaleSlope) + float(data.RescaleIntercept)
    same = np.allclose(array.ravel(), plain, rtol=1e-6, atol=1e-6)
    return "" if same else "values differ from the bytes"


def judge(path: Path, reader: str) -> tuple[str, str]:
    """("image" | "refusal" | "wrong pixels" | "other exception" | "memory", what was said)."""
    from medlab.errors import DicomError

    try:
        if reader == "headers":
            read_headers(path)
            return "image", ""
        array, units = (read_ours if reader == "medlab" else read_raw)(path)
    except MemoryError:
        return "memory", "MemoryError"
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # noqa: BLE001  the very question is which ones come
        if isinstance(error, DicomError):
            named = path.name in str(error)
            return ("refusal" if named else "other exception"), str(error).replace(str(path), "…")
        kind = "exception" if reader == "pydicom" else "other exception"
        return kind, f"{type(error).__name__}: {error}"
    try:
        lost = pixels_lost(path, array, units)
    except Exception as error:  # noqa: BLE001  an array came out of a file whose header is unreadable
        lost = f"cannot be judged: {type(error).__name__}: {error}"
    return ("wrong pixels", lost) if lost else ("image", "")


READERS = ("medlab", "headers", "pydicom")


def _work(pipe, seed: int, folder: str, readers: tuple[str, ...]) -> None:
    """Worker: judge the cases that come down the pipe, one answer a reader."""
    import logging

    if os.environ.get("MEDLAB_FUZZ_PLAIN"):  # as if the extra decoders were not installed
        for name in ("pylibjpeg", "openjpeg", "libjpeg", "rle", "gdcm", "jpeg_ls"):
            sys.modules[name] = None
    import medlab.dicom  # noqa: F401  before the memory limit is measured

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    seeds()
    with open("/proc/self/statm") as stream:
        now = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders written in C and Rust print there
    path = Path(folder) / f"case-{os.getpid()}.dcm"
    pipe.send("ready")
    while (case := pipe.recv()) is not None:
        _, kind, data = mutant(case, seed)
        path.write_bytes(data)
        for reader in readers:
            pipe.send((case, reader, kind))
            begin = time.process_time()
            verdict, detail = judge(path, reader)
            seconds = time.process_time() - begin
            if seconds > HANG_S:
                verdict = "hang"
            pipe.send(Outcome(case, reader, verdict, detail[:300], kind, seconds))
        pipe.send("next")
    path.unlink(missing_ok=True)


class _Worker:
    """One process that is replaced when it dies or stalls."""

    def __init__(self, context, seed: int, folder: str, readers: tuple[str, ...]):
        self.arguments = (seed, folder, readers)
        self.context = context
        self.start()

    def start(self) -> None:
        self.pipe, other = self.context.Pipe()
        self.process = self.context.Process(
            target=_work, args=(other, *self.arguments), daemon=True
        )
        self.process.start()
        other.close()
        if not self.pipe.poll(600) or self.pipe.recv() != "ready":
            raise RuntimeError("a fuzzing worker did not start")
        self.case, self.running, self.since = None, None, time.monotonic()

    def outcomes(self) -> tuple[list[Outcome], bool]:
        """What has come since, and whether the worker waits for a case."""
        found = []
        try:
            while self.pipe.poll(0):
                message = self.pipe.recv()
                self.since = time.monotonic()
                if message == "next":
                    return found, True
                if isinstance(message, Outcome):
                    found.append(message)
                else:
                    self.running = message
            if time.monotonic() - self.since < STALL_S:
                return found, False
            verdict = "hang"
        except (EOFError, ConnectionError):
            verdict = "crash"
        self.process.kill()
        self.process.join()
        lost, running = self.case, self.running
        self.start()
        if running is None:  # it ended before it gave the file to a reader: the same case again
            self.give(lost)
            return found, False
        case, reader, kind = running
        found.append(Outcome(case, reader, verdict, "worker ended", kind, STALL_S))
        return found, True

    def give(self, case: int | None) -> None:
        self.case, self.running = case, None
        self.since = time.monotonic()
        self.pipe.send(case)


def run(
    n: int, seed: int, *, workers: int = 2, readers: tuple[str, ...] = READERS, first: int = 0
) -> list[Outcome]:
    """Judge cases first … first + n − 1; the outcomes do not depend on the number of workers.

    Raw pydicom works in processes of its own: the memory that it loses to one damaged file must not
    be charged to the next reader.
    """
    ours = tuple(name for name in readers if name != "pydicom")
    groups = [group for group in (ours, ("pydicom",) * ("pydicom" in readers)) if group]
    found = [o for group in groups for o in _run(n, seed, workers, group, first)]
    return sorted(found, key=lambda o: (o.case, o.reader))


def _run(n: int, seed: int, workers: int, readers: tuple[str, ...], first: int) -> list[Outcome]:
    context = mp.get_context("spawn")
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        pool = [_Worker(context, seed, folder, readers) for _ in range(workers)]
        queue, idle, left = iter(range(first, first + n)), list(pool), len(pool)
        while left:
            for worker in idle:
                case = next(queue, None)
                left -= case is None
                worker.give(case)
            idle = []
            for worker in pool:
                if worker.process.is_alive() or worker.pipe.poll(0):
                    new, free = worker.outcomes()
                    found += new
                    idle += [worker] if free else []
            time.sleep(0.001)
        for worker in pool:
            worker.process.join(10)
    return found


VERDICTS = (
    "image",
    "refusal",
    "exception",
    "other exception",
    "wrong pixels",
    "hang",
    "crash",
    "memory",
)


def table(outcomes: list[Outcome]) -> str:
    """Counts by reader, and by mutation for medlab."""
    counts = defaultdict(Counter)
    for outcome in outcomes:
        counts[outcome.reader][outcome.verdict] += 1
    lines = [f"{'':<18}" + "".join(f"{name:>12}" for name in counts)]
    for verdict in VERDICTS:
        lines.append(f"{verdict:<18}" + "".join(f"{c[verdict]:>12,}" for c in counts.values()))
    slow = {name: max(o.seconds for o in outcomes if o.reader == name) for name in counts}
    lines.append(f"{'longest, s':<18}" + "".join(f"{slow[name]:>12.2f}" for name in counts))
    raw = Counter(
        o.detail.split(":")[0]
        for o in outcomes
        if o.reader == "pydicom" and o.verdict == "exception"
    )
    lines.append("\npydicom's exceptions: " + ", ".join(f"{k} {v:,}" for k, v in raw.most_common()))
    kinds = defaultdict(Counter)
    for outcome in outcomes:
        if outcome.reader == "medlab":
            kinds[outcome.kind][outcome.verdict] += 1
    lines.append("\nmedlab by mutation")
    for kind, counter in sorted(kinds.items()):
        lines.append(
            f"  {kind:<18}" + ", ".join(f"{v} {counter[v]:,}" for v in VERDICTS if counter[v])
        )
    return "\n".join(lines)


def faults(outcomes: list[Outcome]) -> list[Outcome]:
    """What medlab must not do."""
    good = ("image", "refusal")
    return [o for o in outcomes if o.reader != "pydicom" and o.verdict not in good]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=20_000, help="how many mutated files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int, help="write this one case to a file and read it here")
    options = parser.parse_args()
    if options.only is not None:
        source, kind, data = mutant(options.only, options.seed)
        path = Path(tempfile.gettempdir()) / f"case{options.only}.dcm"
        path.write_bytes(data)
        print(f"{source.name}, {kind}: {path}")
        for reader in READERS:
            print(reader, *judge(path, reader))
        return 0
    begin = time.monotonic()
    outcomes = run(options.n, options.seed, workers=options.workers, first=options.first)
    print(f"{options.n:,} mutated files of {len(seeds())}, {time.monotonic() - begin:.0f} s\n")
    print(table(outcomes))
    judged = Counter(outcome.reader for outcome in outcomes)
    if len(set(judged.values())) > 1:
        print(f"\na reader that ended its process left the later ones out: {dict(judged)}")
    bad = faults(outcomes)
    for outcome in bad[:40]:
        where = f"case {outcome.case} ({outcome.kind}, {outcome.reader})"
        print(f"{where}: {outcome.verdict}: {outcome.detail}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
