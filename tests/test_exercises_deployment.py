"""The checks of deployment, fed with right, untouched and typically wrong answers."""

import hashlib
import hmac
import os
import random
import shutil
import tempfile
import uuid
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from medlab.exercises import check, material
from medlab.exercises.deployment import MESSAGES, REASONS
from tests.learners import broken, gap, hasty, is_told, stub, unheard
from tests.mutants import ticked

done = material("deployment")

# ------------------------------------------------------------------------ 1: voxels in place


def placed(
    mask, A, hu, B, *, voxels=None, to_study=None, turn=torch.round, outside="miss", below=-500
):
    """In steps, each of which a learner may get wrong."""
    voxels = (mask > 0).nonzero() if voxels is None else voxels(mask)
    ones = torch.ones(len(voxels), 1, dtype=torch.float64)
    matrix = torch.linalg.solve(B, A) if to_study is None else to_study(A, B)
    k = turn((torch.cat([voxels.double(), ones], 1) @ matrix.T)[:, :3]).long()
    size = torch.tensor(hu.shape)
    if outside == "edge":
        k = k.clamp_min(0).minimum(size - 1)
    inside = (k < size).all(1) & ((k >= 0) | (outside == "wrap")).all(1)
    values = hu[tuple(k[inside].T)]
    of = inside.sum() if outside == "drop" else len(k)
    return ((values < below).sum() / of).item()


def by_loop(mask, A, hu, B):
    way, hits, count = (torch.linalg.inv(B) @ A).tolist(), 0, 0
    for d, h, w in mask.nonzero().tolist():
        i, j, k = (round(sum(a * b for a, b in zip(r, (d, h, w, 1), strict=True))) for r in way[:3])
        count += 1
        inside = all(0 <= n < s for n, s in zip((i, j, k), hu.shape, strict=True))
        hits += inside and hu[i, j, k].item() < -500
    return np.float64(hits / count)


def flipped(mask, A, hu, B):
    """Looks at hu[column, row, slice]."""
    return placed(mask, A, hu, B[:, [2, 1, 0, 3]])


def columns_first(mask, A, hu, B):
    i, j, k = (mask.nonzero().double() @ torch.linalg.solve(B, A)[:3, :3].T).long().T
    return (hu[k, j, i] < -500).double().mean()


def covered(mask, A, hu, B):
    return placed(mask, A, hu, B) * int((mask > 0).sum()) / int((hu < -500).sum())


def in_place(mask, A, hu, B):
    share = done.on_air(mask, A, hu, B)
    hu -= 1
    return share


# ------------------------------------------------------------------------ 2: a guard


def strict(study):
    found = done.guard(study)
    if (study.header or {}).get("BodyPartExamined") != "CHEST" and "body part" not in found:
        found.append("body part")
    return found


def without(*reasons):
    return lambda study: [r for r in done.guard(study) if r not in reasons]


def upwards(study):
    """Only slices from feet to head count as axial."""
    more = ["orientation"] if study.direction[0][2] < 0.9 else []
    return done.guard(study) + more


def by_modality_alone(study):
    return ["modality"] if done.guard(study) else []


def by_mean(study):
    """A right answer of another kind: the mean of the middle lies between lung and tissue."""
    found = done.header_only(study)
    h, w = (side // 3 for side in study.voxels.shape[1:])
    if study.units != "HU" or not -600 < study.voxels[:, h:-h, w:-w].mean() < -100:
        found.append("intensities")
    return tuple(found)


def all_or_none(study):
    return list(REASONS) if done.guard(study) else []


def thick(study):
    """Slices may be as thin as they like."""
    between, *pixel = study.spacing
    wrong = between > 12 or not all(0.3 <= side <= 8 for side in pixel)
    return [*without("spacing")(study), *["spacing"][: int(wrong)]]


def xyz(study):
    across, down, between = study.spacing
    wrong = not 0.5 <= between <= 12 or not 0.3 <= min(across, down) <= max(across, down) <= 8
    return [*without("spacing")(study), *["spacing"][: int(wrong)]]


def fails(study):
    yield from done.guard(study)
    raise ValueError("no")


def relabels(study):
    study.header.BodyPartExamined = "CHEST"
    return done.guard(study)


def bends(study):
    study.voxels.clamp_(min=-1000)
    return done.guard(study)


# ------------------------------------------------------------------------ 3: whole files


def whole(path, parts, *, beside=True, name=None, clean=True, old=False, move=os.replace):
    path = Path(path)
    folder = path.parent if beside else Path(tempfile.mkdtemp())
    part = folder / (name or f"{path.name}.{uuid.uuid4().hex}")
    if old:
        path.unlink(missing_ok=True)
    try:
        with part.open("wb") as file:
            for piece in parts:
                file.write(piece)
        move(part, path)
    finally:
        if clean:
            part.unlink(missing_ok=True)


def named_temporary(path, parts):
    """Right: the library's temporary file, in the folder of the result."""
    with tempfile.NamedTemporaryFile(dir=Path(path).parent, delete=False) as file:
        try:
            file.writelines(parts)
        except BaseException:
            os.unlink(file.name)
            raise
    Path(file.name).replace(path)


def directly(path, parts):
    with open(path, "wb") as file:
        for piece in parts:
            file.write(piece)


def tidied(path, parts):
    """Cleans up after what an Exception is, which Ctrl-C is not."""
    part = Path(path).with_name(uuid.uuid4().hex)
    try:
        with part.open("wb") as file:
            file.writelines(parts)
    except Exception:
        part.unlink()
        raise
    part.replace(path)


def joined(path, parts):
    part, content = Path(path).with_name(uuid.uuid4().hex), b"".join(parts)
    part.write_bytes(content)
    part.replace(path)


def swallowing(path, parts):
    try:
        done.write_whole(path, parts)
    except (OSError, KeyboardInterrupt):
        return


def publishing(path, parts):
    """Whatever came is renamed."""
    part = Path(path).with_name(uuid.uuid4().hex)
    try:
        with part.open("wb") as file:
            file.writelines(parts)
    finally:
        part.replace(path)


def too_early(path, parts):
    """The name is given while bytes still wait in the open file's buffer."""
    part = Path(path).with_name(uuid.uuid4().hex)
    try:
        with part.open("wb") as file:
            for piece in parts:
                file.write(piece)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def copied(source, target):
    shutil.copyfile(source, target)
    os.unlink(source)


def removed_first(source, target):
    target.unlink(missing_ok=True)
    os.replace(source, target)


def at_the_end(path, parts):
    """The file is opened in time, and filled when all parts are in memory."""
    part = Path(path).with_name(uuid.uuid4().hex)
    try:
        with part.open("wb") as file:
            file.write(b"".join(parts))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def beside_it(path, parts):
    done.write_whole(path, parts)
    Path(path).with_suffix(".done").touch()


def told(path, parts):
    done.write_whole(path, parts)
    return path


# ------------------------------------------------------------------------ 4: logs


def line(run, header, error, *, more="", modality=None, outcome=None):
    known = header.get("Modality", "") in ("CT", "MR", "US", "PT", "CR", "DX")
    modality = (header.Modality if known else "?") if modality is None else modality(header)
    outcome = (type(error).__name__ if error else "ok") if outcome is None else outcome(error)
    return f"{run};{modality};{outcome}{more}"


def adding(what):
    return lambda run, header, error: line(run, header, error, more=str(what(header)))


def mammograms(header):
    return (
        header.get("Modality") if header.get("Modality") in "CT MR US PT CR DX MG".split() else "?"
    )


def digested(header):
    kind = header.get("Modality")
    return kind if kind in "CT MR US PT CR DX".split() else digest(kind or "")


def known_only(otherwise):
    """A line of its own for a modality that is none of the list."""

    def answer(run, header, error):
        known = header.get("Modality") in "CT MR US PT CR DX".split()
        return line(run, header, error) if known else otherwise

    return answer


def digest(text, name="sha256", length=None):
    return hashlib.new(name, text.encode()).hexdigest()[:length]


# ------------------------------------------------------------------------ 5: dates


def moved(day, patient, key, *, days=None, sign=-1):
    days = 1 + int(digest(key + patient), 16) % 365 if days is None else days(day, patient, key)
    return (datetime.strptime(day, "%Y%m%d") + sign * timedelta(days)).strftime("%Y%m%d")


def seeded(day, patient, key):
    return moved(day, patient, key, days=lambda *_: random.Random(key + patient).randint(1, 365))


def remembered(day, patient, key, table={}):  # noqa: B006 - what the check is to see
    back = table.setdefault((patient, key), random.randint(1, 365))
    return moved(day, patient, key, days=lambda *_: back)


TABLE: dict = {}


def tabled(day, patient, key):
    """Counts its patients; the tests' order is not another process's."""
    back = TABLE.setdefault((patient, key), 1 + hash((len(TABLE), 7)) % 365)
    return moved(day, patient, key, days=lambda *_: back)


def year_only(day, patient, key):
    """Keeps month and day, which no calendar needs to allow."""
    back = 1 + int(digest(key + patient), 16) % 3
    return f"{int(day[:4]) - back}{day[4:]}"


def keyed(day, patient, key):
    code = hmac.new(key.encode(), patient.encode(), "sha1").digest()
    return 1 + code[0] % 100


CASES = [
    ("deployment.1", placed, "✓"),
    ("deployment.1", by_loop, "✓"),
    ("deployment.1", lambda *a: torch.tensor(done.on_air(*a)), "✓"),
    ("deployment.1", partial(placed, to_study=lambda A, B: torch.eye(4).double()), "same *index*"),
    (
        "deployment.1",
        partial(placed, to_study=lambda A, B: torch.linalg.inv(A) @ B),
        "you went from the study's index",
    ),
    (
        "deployment.1",
        lambda m, A, hu, B: placed(m, A, hu, B) * float((m > 0).double().mean()),
        "the whole mask array",
    ),
    ("deployment.1", partial(placed, outside="drop"), "Do not leave them out"),
    ("deployment.1", partial(placed, outside="wrap"), "takes it from the other end"),
    ("deployment.1", partial(placed, outside="edge"), "moved to its edge"),
    ("deployment.1", partial(placed, turn=torch.floor), "rounded to the nearest voxel"),
    ("deployment.1", lambda *a: 1 - placed(*a), "voxels *not* on air"),
    ("deployment.1", lambda m, A, hu, B: 3.0, "between 0 and 1"),
    ("deployment.1", in_place, "changed its arguments"),
    ("deployment.1", partial(placed, below=100), "I expected"),
    ("deployment.1", partial(placed, to_study=lambda A, B: (torch.linalg.inv(B) @ A).T), "M.T"),
    ("deployment.1", partial(placed, to_study=lambda A, B: B @ torch.linalg.inv(A)), "wrong order"),
    ("deployment.1", partial(placed, to_study=lambda A, B: A), "not one voxel"),
    ("deployment.1", partial(placed, voxels=lambda m: m.nonzero().flip(1)), "x, y, z"),
    ("deployment.1", flipped, "x, y, z"),
    ("deployment.1", columns_first, "in the order (slice, row, column)"),
    ("deployment.1", partial(placed, voxels=lambda m: (m == 0).nonzero()), "that are 0 in the"),
    ("deployment.1", partial(placed, below=-499.99), "exactly −500 HU"),
    ("deployment.1", partial(placed, turn=torch.ceil), "rounded to the nearest voxel"),
    ("deployment.1", covered, "the study's air that the mask covers"),
    ("deployment.2", done.guard, "✓"),
    ("deployment.2", all_or_none, "a head MRI is refused for orientation and spacing among"),
    ("deployment.2", thick, "slices lie less than 0.5 mm apart"),
    ("deployment.2", xyz, "spacing (slice, row, column) (10.0, 7.0, 7.0) mm"),
    ("deployment.2", lambda s: (r for r in done.guard(s)), "✓"),
    ("deployment.2", fails, "stopped with ValueError"),
    ("deployment.2", lambda s: dict.fromkeys(REASONS, False), "got {'modality'"),
    ("deployment.2", relabels, "changed the study"),
    ("deployment.2", by_mean, "✓"),
    ("deployment.2", lambda s: set(done.guard(s)), "✓"),
    ("deployment.2", lambda s: "modality", "got 'modality'"),
    ("deployment.2", lambda s: bool(done.guard(s)), "out of modality, orientation"),
    ("deployment.2", lambda s: ["age"], "got 'age'"),
    ("deployment.2", lambda s: list(REASONS), "A guard that says no to all"),
    ("deployment.2", lambda s: [], "no wrong study is refused"),
    ("deployment.2", strict, "a right study is refused for body part"),
    ("deployment.2", upwards, "slices from head to feet"),
    ("deployment.2", without("modality", "intensities", "body part"), "accepted: a head MRI"),
    ("deployment.2", without("orientation"), "accepted: a coronal CT"),
    ("deployment.2", without("spacing"), "more than 12 mm apart"),
    ("deployment.2", done.header_only, "accepted: stored values"),
    ("deployment.2", done.pixels_only, "accepted: a coronal CT"),
    ("deployment.2", by_modality_alone, "needs the true reason: orientation"),
    ("deployment.2", without("modality"), "needs the true reason: modality"),
    ("deployment.2", without("body part"), "needs the true reason: body part"),
    ("deployment.2", bends, "changed the study"),
    ("deployment.3", whole, "✓"),
    ("deployment.3", named_temporary, "✓"),
    ("deployment.3", partial(whole, move=os.rename), "✓"),
    ("deployment.3", lambda p, parts: list(parts) and None, "it holds the old result"),
    ("deployment.3", lambda p, parts: whole(p, list(parts)[::2]), "it holds"),
    ("deployment.3", directly, "held 0 of"),
    ("deployment.3", partial(whole, old=True), "the old one was gone"),
    ("deployment.3", partial(whole, move=removed_first), "the old one was gone"),
    ("deployment.3", at_the_end, "in memory until"),
    ("deployment.3", lambda p, parts: whole(p, [*parts][:-1]), "bytes for"),
    ("deployment.3", partial(whole, beside=False), "beside the result, since"),
    ("deployment.3", partial(whole, clean=False), "is left behind"),
    ("deployment.3", tidied, "after KeyboardInterrupt half-way"),
    ("deployment.3", partial(whole, name="lungs.part"), "used the same temporary file"),
    ("deployment.3", joined, "Write each part as it comes"),
    ("deployment.3", swallowing, "must reach the caller"),
    ("deployment.3", publishing, "the old result is lost"),
    ("deployment.3", partial(whole, move=copied), "rename, do not copy"),
    ("deployment.3", too_early, "the rest still waited"),
    ("deployment.3", beside_it, "besides lungs.dcm the folder now holds lungs.done"),
    ("deployment.3", told, "the function returns nothing"),
    ("deployment.4", line, "✓"),
    ("deployment.4", lambda r, h, e: (r, h.Modality, e), "got tuple"),
    ("deployment.4", adding(lambda h: "\nrun 9"), "the line breaks"),
    ("deployment.4", adding(lambda h: h.PatientName), "holds PatientName"),
    ("deployment.4", adding(lambda h: h.SeriesDescription.lower()), "holds"),
    ("deployment.4", adding(lambda h: h.StudyInstanceUID), "holds StudyInstanceUID"),
    ("deployment.4", partial(line, outcome=repr), "the line holds PatientName"),
    ("deployment.4", adding(lambda h: digest(h.PatientID)), "a hash of PatientID"),
    ("deployment.4", adding(lambda h: digest(h.PatientID, "md5", 12)), "a hash of PatientID"),
    ("deployment.4", adding(lambda h: abs(hash(h.PatientID))), "a hash of PatientID"),
    ("deployment.4", adding(lambda h: h.StudyDate[-4:]), "something of StudyDate"),
    ("deployment.4", adding(lambda h: len(str(h.PatientName))), "something of PatientName"),
    ("deployment.4", partial(line, outcome=lambda e: len(str(e))), "something of the error's"),
    ("deployment.4", lambda r, h, e: line("", h, e), "the number of the run"),
    ("deployment.4", partial(line, outcome=lambda e: "ok"), "no error and a DicomError"),
    ("deployment.4", partial(line, outcome=bool), "a DicomError and a MemoryError"),
    ("deployment.4", partial(line, modality=lambda h: ""), "the modality is not in the line"),
    ("deployment.4", partial(line, modality=lambda h: h.Modality), "Log it only if"),
    (
        "deployment.4",
        partial(line, modality=lambda h: str(h.get("Modality"))[:2]),
        "Log it only if",
    ),
    ("deployment.4", lambda r, h, e: done.log_line(r, h, e).lower(), "✓"),
    (
        "deployment.4",
        lambda r, h, e: f"{r} of CT MR US PT CR DX {type(e)}",
        "the modality is not in",
    ),
    ("deployment.4", partial(line, modality=mammograms), "here 'MG'"),
    ("deployment.4", partial(line, modality=digested), "here 'INVENTED'"),
    (
        "deployment.4",
        known_only(""),
        "the run, by which the hospital finds the study (Modality: 'S",
    ),
    ("deployment.4", known_only("7f3a91c2 ?"), "gave the same (Modality: 'SIMULATED ONE')"),
    ("deployment.4", adding(lambda h: uuid.uuid4().hex), "the same call gave another line"),
    ("deployment.4", adding(lambda h: " 09:30"), "The logger adds the time"),
    ("deployment.4", adding(lambda h: h.get("BodyPartExamined")), "something of BodyPartExamined"),
    ("deployment.4", adding(lambda h: h.get("PatientSex")), "something of PatientSex"),
    ("deployment.4", adding(lambda h: h.StationName), "holds StationName"),
    (
        "deployment.4",
        partial(line, outcome=lambda e: isinstance(e, ValueError) + 2 * (not e)),
        "a MemoryError and an OSError",
    ),
    ("deployment.5", moved, "✓"),
    ("deployment.5", seeded, "✓"),
    ("deployment.5", lambda d, p, k: int(moved(d, p, k)), "YYYYMMDD, as in"),
    ("deployment.5", lambda d, p, k: "20260230", "YYYYMMDD, as in"),
    ("deployment.5", lambda d, p, k: d, "came back as it was"),
    ("deployment.5", partial(moved, sign=1), "moved into the future"),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: 300 + int(digest(k + p), 16) % 365),
        "1 to 365 were asked for",
    ),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: 1 + int(digest(k + p + d), 16) % 365),
        "are now",
    ),
    ("deployment.5", partial(moved, days=lambda d, p, k: len(k) + 90), "all patients are shifted"),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: 1 + int(digest(p), 16) % 365),
        "another key gave the same",
    ),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: random.randint(1, 365)),
        "the same call gave another",
    ),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: 1 + hash(k + p) % 365),
        "another process would shift",
    ),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: 1 + int(digest(f"{len(k)} {p}"), 16) % 365),
        "another key gave the same",
    ),
    (
        "deployment.5",
        partial(moved, days=lambda d, p, k: 1 + (int(digest(p), 16) + int(digest(k), 16)) % 365),
        "the same number of days more",
    ),
    ("deployment.5", cache(lambda d, p, k: seeded(d, p, k)), "✓"),
    ("deployment.5", remembered, "what this one remembers"),
    ("deployment.5", tabled, "what this one remembers"),
    ("deployment.5", partial(moved, days=keyed), "only 100 different"),
    ("deployment.6", done.factors, "✓"),
    ("deployment.6", lambda n: np.array(n) / np.mean(n), "✓"),
    ("deployment.6", lambda n: torch.tensor(n) / torch.tensor(n).double().mean(), "✓"),
    ("deployment.6", lambda n: [1] * len(n), "the same factor"),
    ("deployment.6", lambda n: [k / sum(n) for k in n], "these are shares"),
    ("deployment.6", lambda n: n, "numbers of images"),
    ("deployment.6", lambda n: [sum(n) / k for k in n], "fewer images got the larger"),
    ("deployment.6", lambda n: sum(n), "I expected 2 numbers"),
    ("deployment.6", lambda n: (len(n) * k / sum(n) for k in n), "✓"),
    ("deployment.6", lambda n: {k: len(n) * m / sum(n) for k, m in enumerate(n)}.values(), "✓"),
    ("deployment.6", lambda n: (k / 0 for k in n), "stopped with ZeroDivisionError"),
    ("deployment.6", lambda n: str(n), "I expected 2 numbers"),
    ("deployment.6", lambda n: [len(n)] * len(n), "the same factor"),
    ("deployment.6", lambda n: [k / max(n) for k in n], "Yours add up to 1.33"),
    ("deployment.6", lambda n: [k / 4 for k in n], "processes, 4. Yours add up to 4.25"),
    ("deployment.6", lambda n: [k / float(np.median(n)) for k in n], "Yours add up to 4.25"),
    ("deployment.6", lambda n: [k - np.mean(n) for k in n], "for parts of 6, 2 images"),
]


@pytest.mark.parametrize(("id", "answer", "said"), CASES)
def test_answers(id, answer, said, capsys):
    is_told(id, answer, said, capsys)


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_and_broken_answers(id, capsys):
    for untouched in (stub, gap, ...):
        check(id, untouched)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    for answer, said in ((broken, "stopped with IndexError"), (3, "expected a function")):
        check(id, answer)
        assert said in capsys.readouterr().out


def test_an_answer_that_changes_its_arguments_afterwards(capsys):
    check("deployment.1", hasty(done.on_air))
    assert "changed its arguments" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# Thresholds that no drawn study is near, slices of nearly the same middle, another order
EQUIVALENT = [
    "deployment.1: inside = ((index >= 0) & (index < torch.tensor(hu.shape))).all(1) → inside = ((index < torch.tensor(hu.shape)) & (index >= 0)).all(1)",
    "deployment.1: return (hu[i, j, k] < -500).sum().item() / len(voxels) → return (hu[i, j, k] < -501).sum().item() / len(voxels)",
    "deployment.2: h, w = (side // 3 for side in study.voxels.shape[1:]) → w, h = (side // 3 for side in study.voxels.shape[1:])",
    "deployment.2: if abs(study.direction[0][2]) < 0.906: → if abs(study.direction[0][2]) <= 0.906:",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 < between <= 12 and all((0.3 <= side <= 8 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between < 12 and all((0.3 <= side <= 8 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between <= 11 and all((0.3 <= side <= 8 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between <= 12 and all((0.3 < side <= 8 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between <= 12 and all((0.3 <= side < 8 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between <= 12 and all((0.3 <= side <= 7 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between <= 12 and all((0.3 <= side <= 9 for side in pixel))):",
    "deployment.2: if not (0.5 <= between <= 12 and all((0.3 <= side <= 8 for side in pixel))): → if not (0.5 <= between <= 13 and all((0.3 <= side <= 8 for side in pixel))):",
    "deployment.2: if study.units != 'HU' or not -600 < middle < -100: → if study.units != 'HU' or not -599 < middle < -100:",
    "deployment.2: if study.units != 'HU' or not -600 < middle < -100: → if study.units != 'HU' or not -600 < middle < -101:",
    "deployment.2: if study.units != 'HU' or not -600 < middle < -100: → if study.units != 'HU' or not -600 < middle < -99:",
    "deployment.2: if study.units != 'HU' or not -600 < middle < -100: → if study.units != 'HU' or not -600 < middle <= -100:",
    "deployment.2: if study.units != 'HU' or not -600 < middle < -100: → if study.units != 'HU' or not -600 <= middle < -100:",
    "deployment.2: if study.units != 'HU' or not -600 < middle < -100: → if study.units != 'HU' or not -601 < middle < -100:",
    "deployment.2: if word and (not any((part in word for part in ('CHEST', 'THORAX', 'LUNG')))): → if word and (not any((part in word for part in ('THORAX', 'CHEST', 'LUNG')))):",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[1:, h:-h, w:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h + 1:-h, w:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h - 1:-h, w:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h:-h + 1, w:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h:-h - 1, w:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h:-h, w + 1:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h:-h, w - 1:-w].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h:-h, w:-w + 1].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:, h:-h, w:-w - 1].mean()",
    "deployment.2: middle = study.voxels[:, h:-h, w:-w].mean() → middle = study.voxels[:-1, h:-h, w:-w].mean()",
    "deployment.4: if modality not in ('CT', 'MR', 'US', 'PT', 'CR', 'DX'): → if modality not in ('MR', 'CT', 'US', 'PT', 'CR', 'DX'):",
    "deployment.5: days = 1 + int(digest, 16) % 365 → days = 1 + int(digest, 16) % 364",
    "deployment.5: days = 1 + int(digest, 16) % 365 → days = 1 + int(digest, 17) % 365",
    "deployment.5: digest = hmac.new(key.encode(), patient.encode(), 'sha256').hexdigest() → digest = hmac.new(patient.encode(), key.encode(), 'sha256').hexdigest()",
]


def test_no_changed_solution_is_called_right():
    assert ticked("32_deployment", "deployment") == EQUIVALENT
