"""A sealed cohort shows nothing unasked, counts every look, and knows its pictures again."""

import copy
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import medlab
from medlab.cohort import Cohort, DataCard
from medlab.errors import DataError, MedlabError
from medlab.report import Sealed
from medlab.report import envelope as module

CARD = DataCard(name="toy", title="Toy", task="binary", classes=("well", "ill"))


def cohort(n=6, seed=0):
    images = torch.randint(0, 256, (n, 1, 16, 16), generator=torch.Generator().manual_seed(seed))
    return Cohort(
        images=images.to(torch.uint8),
        labels=torch.arange(n) % 2,
        patients=np.arange(n),
        card=CARD,
        extras={"dose": torch.arange(n)},
    )


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(module, "_OPENED", [])


@pytest.mark.parametrize(
    "look",
    [
        lambda t: t.images,
        lambda t: t.labels,
        lambda t: t.extras,
        lambda t: t.patients,
        lambda t: t.summary(),
        lambda t: t[0],
        lambda t: list(t),
        lambda t: np.asarray(t),
        lambda t: t.split(),
        lambda t: medlab.predict(medlab.models.SmallCNN(width=4), t),
    ],
)
def test_no_look_without_opening(look):
    test = Sealed(cohort())
    with pytest.raises(MedlabError, match="sealed.*open"):
        look(test)
    assert test.openings == ()


def test_a_model_cannot_train_with_it():
    test, model = Sealed(cohort()), medlab.models.SmallCNN(width=4)
    with pytest.raises(MedlabError, match="must be a Cohort"):
        medlab.fit(model, cohort(), test, epochs=1, progress=False)
    assert test.openings == ()


def test_size_and_card_are_no_secret(capsys):
    test = Sealed(cohort())
    assert len(test) == 6 and test.card is CARD
    assert repr(test) == "<test set, sealed: 6 images, never opened>"
    assert test.log() == "test set: never opened"
    assert not hasattr(test, "_repr_html_") and not hasattr(test, "shape")
    assert capsys.readouterr().out == ""


def test_the_first_opening_gives_the_cohort_and_is_written_down(capsys):
    inside = cohort()
    test = Sealed(inside)
    assert test.open("final   evaluation") is inside
    assert capsys.readouterr().out == (
        "test set opened for the first time: final evaluation (6 images)\n"
    )
    assert [(one.number, one.reason, one.images, one.seen) for one in test.openings] == [
        (1, "final evaluation", 6, 0)
    ]
    assert test.log() == "test set: opened once\n1. final evaluation (6 images)"


def test_the_second_opening_is_said_plainly(capsys):
    test = Sealed(cohort())
    test.open("final evaluation")
    capsys.readouterr()
    test.open("one more idea")
    said = capsys.readouterr().out
    assert said.startswith("⚠ test set opened again, 2 times now: one more idea")
    assert "6 of its 6 images" in said and "the first time for: final evaluation" in said
    assert "opened twice" in test.log() and "opened twice" in repr(test)
    test.open("a third idea")
    assert "3 times now" in capsys.readouterr().out and "opened 3 times" in test.log()


def test_sealing_again_does_not_forget(capsys):
    Sealed(cohort()).open("final evaluation")
    again = Sealed(copy.deepcopy(cohort()))
    assert len(again.openings) == 1 and "opened once" in repr(again)
    again.open("surely untouched")
    assert "2 times now" in capsys.readouterr().out


def test_another_split_that_shares_pictures_tells_how_many(capsys):
    whole = cohort(10)
    Sealed(whole[:6]).open("final evaluation")
    other = Sealed(whole[[5, 4, 8, 9]])
    other.open("a luckier split")
    assert "2 of its 4 images have been looked at before" in capsys.readouterr().out
    assert other.openings[1].seen == 2
    assert "(4 images, 2 of them seen before)" in other.log()


def test_other_pictures_are_another_matter(capsys):
    Sealed(cohort(seed=0)).open("final evaluation")
    Sealed(cohort(seed=1)).open("another project")
    assert "again" not in capsys.readouterr().out


def test_one_changed_pixel_elsewhere_hides_nothing():
    first, second = cohort(), cohort()
    second.images[0, 0, 0, 0] ^= 1
    Sealed(first).open("final evaluation")
    assert Sealed(second).openings[0].images == 6
    opened = Sealed(second)
    opened.open("after a change")
    assert opened.openings[1].seen == 5


def test_mirrored_pictures_and_a_change_in_the_last_pixel_make_others():
    Sealed(cohort()).open("final evaluation")
    mirrored, changed = cohort(), cohort()
    mirrored.images[:] = mirrored.images.flip(-1)
    changed.images[:, 0, -1, -1] ^= 1
    for other in (mirrored, changed):
        assert Sealed(other).openings == ()


def test_the_first_reason_and_the_number_are_said(capsys):
    test = Sealed(cohort())
    for k in range(3):
        test.open(f"look {k}")
    told = capsys.readouterr().out.splitlines()
    assert "opened again, 3 times now: look 2" in told[-5]
    assert told[-4].endswith("images have been looked at before; the first time for: look 0")


def test_a_twin_inside_is_counted_as_an_image():
    whole = cohort()
    double = whole[[0, 0, 1]]
    test = Sealed(double)
    test.open("first look")
    test.open("second look")
    assert test.openings[1].seen == 3


def test_a_record_survives_a_restart(tmp_path, monkeypatch, capsys):
    file = tmp_path / "openings.jsonl"
    Sealed(cohort(), record=file).open("final evaluation")
    monkeypatch.setattr(module, "_OPENED", [])  # what a restart does
    assert Sealed(cohort()).openings == ()
    test = Sealed(cohort(), record=file)
    assert [one.reason for one in test.openings] == ["final evaluation"]
    test.open("next morning")
    assert "2 times now" in capsys.readouterr().out
    assert [json.loads(line)["number"] for line in file.read_text().splitlines()] == [1, 2]
    # Within one session record and memory tell the same story once.
    assert [one.number for one in Sealed(cohort(), record=file).openings] == [1, 2]


@pytest.mark.parametrize("text", ["no json", '{"number": 1}', "[1, 2]", '{"pictures": 3}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    file = tmp_path / "openings.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match="no record of openings"):
        Sealed(cohort(), record=file)


def test_nothing_is_opened_when_it_cannot_be_recorded(tmp_path):
    test = Sealed(cohort(), record=tmp_path / "missing" / "openings.jsonl")
    with pytest.raises(DataError, match="nothing was opened"):
        test.open("final evaluation")
    assert test.openings == ()


@pytest.mark.parametrize("reason", ["", "  ", "test", None, 3])
def test_a_reason_is_asked_for(reason):
    with pytest.raises(DataError, match="reason"):
        Sealed(cohort()).open(reason)


@pytest.mark.parametrize("wrong", [cohort().images, (cohort().images, cohort().labels), None])
def test_only_a_cohort_can_be_sealed(wrong):
    with pytest.raises(DataError, match="only a Cohort"):
        Sealed(wrong)


def test_nothing_is_no_test_set():
    with pytest.raises(DataError, match="only a Cohort with images"):
        Sealed(cohort()[[]])


def test_pictures_seen_at_any_earlier_opening_count_as_seen():
    both = cohort()
    for part in ([0, 1], [2, 3]):
        Sealed(both[torch.tensor(part)]).open("a first look")
    test = Sealed(both)
    test.open("the whole set")
    assert test.openings[-1].seen == 4


IN_ANOTHER_KERNEL = """
import sys, torch
from medlab.cohort import Cohort, DataCard
from medlab.report import Sealed
card = DataCard(name="toy", title="Toy", task="binary", classes=("well", "ill"))
test = Sealed(Cohort(images=torch.load(sys.argv[1]), card=card), record=sys.argv[2])
for look in range(int(sys.argv[3])):
    test.open(f"look {look} of {sys.argv[4]}")
"""


def another_kernel(tmp_path, looks, name):
    images = tmp_path / "images.pt"
    if not images.exists():
        torch.save(cohort().images, images)
    command = [sys.executable, "-c", IN_ANOTHER_KERNEL, images, tmp_path / "o.jsonl", looks, name]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)


def test_a_look_in_another_kernel_is_known_at_once(tmp_path, capsys):
    test = Sealed(cohort(), record=tmp_path / "o.jsonl")
    assert another_kernel(tmp_path, 1, "the other").wait() == 0
    assert [one.reason for one in test.openings] == ["look 0 of the other"]
    assert "opened once" in repr(test)
    test.open("final evaluation")
    assert "opened again, 2 times now" in capsys.readouterr().out
    assert [(one.number, one.seen) for one in test.openings] == [(1, 0), (2, 6)]


def test_kernels_that_open_at_the_same_time_get_numbers_of_their_own(tmp_path):
    kernels = [another_kernel(tmp_path, 20, name) for name in ("one", "two", "three")]
    said = "".join(kernel.communicate()[0] for kernel in kernels)
    assert [kernel.returncode for kernel in kernels] == [0, 0, 0]
    openings = Sealed(cohort(), record=tmp_path / "o.jsonl").openings
    assert [one.number for one in openings] == list(range(1, 61))
    assert [one.seen for one in openings] == [0] + [6] * 59
    assert said.count("opened for the first time") == 1


def test_threads_and_seals_of_one_session_share_the_count(tmp_path):
    seals = [Sealed(cohort(), record=tmp_path / "o.jsonl") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seal: seal.open("at the same time"), seals))
    assert [one.number for one in seals[0].openings] == list(range(1, 9))


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: text.rstrip("\n") + "  ",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
    ],
    ids=["no last newline", "empty lines", "blanks", "CRLF", "byte order mark"],
)
def test_an_editor_that_touched_the_record_loses_nothing(tmp_path, monkeypatch, edit):
    file = tmp_path / "o.jsonl"
    for reason in ("a first look", "a second look"):
        Sealed(cohort(), record=file).open(reason)
    file.write_bytes(edit(file.read_text()).encode())
    monkeypatch.setattr(module, "_OPENED", [])
    Sealed(cohort(), record=file).open("a third look")
    monkeypatch.setattr(module, "_OPENED", [])
    openings = Sealed(cohort(), record=file).openings
    assert [one.reason.split()[1] for one in openings] == ["first", "second", "third"]
    assert [one.number for one in openings] == [1, 2, 3]


def test_a_record_damaged_meanwhile_opens_nothing(tmp_path):
    file = tmp_path / "o.jsonl"
    test = Sealed(cohort(), record=file)
    file.write_text('{"number": 1, "reason"')
    with pytest.raises(DataError, match="no record of openings"):
        test.open("final evaluation")
    assert file.read_text() == '{"number": 1, "reason"'
