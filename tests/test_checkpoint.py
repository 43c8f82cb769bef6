"""Checkpoints: whole or not at all, never code, and a resumed run equal to the last bit."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from medlab.augment import Augment
from medlab.errors import CheckpointError
from medlab.models import SmallCNN, UNet
from medlab.training import fit, load_model, save_weights
from medlab.training.checkpoint import read_file, write_file

# --- weights ---


def small(seed=0, **kw):
    torch.manual_seed(seed)
    return SmallCNN(**({"width": 4} | kw))


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def facts_of(path):
    return json.loads(read_file(path)[1]["facts"])


def test_weights_round_trip_and_are_plain_safetensors(tmp_path):
    model = small(0)
    model.features[0].mean.fill_(0.4)
    path = tmp_path / "new" / "w.safetensors"
    save_weights(model, path)
    assert same(model, load_model(path)[0])
    assert set(load_file(path)) == set(model.state_dict())  # the reference reader agrees


def test_tied_and_channels_last_weights_can_be_saved(tmp_path):
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    tied = nn.Sequential(first, second, nn.Conv2d(2, 2, 3)).to(memory_format=torch.channels_last)
    save_weights(tied, tmp_path / "w")
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Conv2d(2, 2, 3))
    other.load_state_dict(load_file(tmp_path / "w"))
    assert same(tied, other)


def test_weights_that_do_not_fit_are_named(tmp_path):
    save_weights(small(0), tmp_path / "w")
    tensors, about = read_file(tmp_path / "w")
    tensors["extra"] = tensors.pop("classifier.bias")
    tensors["features.0.mean"] = torch.zeros(3)
    write_file(tmp_path / "w", tensors, about)
    for word in ("classifier.bias", "extra", r"features\.0\.mean.*\[3\]"):
        with pytest.raises(CheckpointError, match=f"(?s)w does not fit: .*{word}"):
            load_model(tmp_path / "w")


@pytest.mark.parametrize(
    "make",
    [
        lambda: SmallCNN(3, 4, 8),
        lambda: SmallCNN(width=4, dims=3),
        lambda: UNet(1, 3, 4, depth=2, dims=3),
    ],
)
def test_a_model_is_built_again_from_its_file_with_its_classes(tmp_path, make):
    model = make()
    save_weights(model, tmp_path / "m.safetensors", classes=("none", "mild"))
    again, classes = load_model(tmp_path / "m.safetensors")
    assert type(again) is type(model)
    assert again.arguments == model.arguments
    assert same(again, model)
    assert classes == ("none", "mild")
    assert not again.training


def test_a_file_that_names_no_network_of_the_course_is_refused(tmp_path):
    save_weights(nn.Linear(2, 2), tmp_path / "w")
    with pytest.raises(CheckpointError, match="build the model"):
        load_model(tmp_path / "w")
    write_file(tmp_path / "w", {}, {"model": "__import__", "arguments": "{}"})
    with pytest.raises(CheckpointError, match="build the model"):
        load_model(tmp_path / "w")


def test_a_checkpoint_that_could_not_be_written_is_told_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "c", tmp_path / "folder"):
        with pytest.raises(CheckpointError, match="cannot write"):
            fit(small(), DATA, augment=StopsAfter(0), checkpoint=place, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


# --- files ---


def test_texts_and_tensors_come_back_to_the_bit(tmp_path):
    tensors = {
        "a": torch.randn(3, 4),
        "empty": torch.zeros(0, 2),
        "scalar": torch.tensor(3.5),
        "long": torch.tensor([2**62 + 1]),
        "bool": torch.tensor([True, False]),
        "half": torch.randn(5).bfloat16(),
    }
    texts = {"name": "lung – café", "facts": json.dumps([0.1 + 0.2, 1e-300])}
    write_file(tmp_path / "c", tensors, texts)
    back, told = read_file(tmp_path / "c")
    assert told == texts
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], v) for k, v in tensors.items())
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_weights_are_not_a_checkpoint(tmp_path):
    save_weights(small(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of fit"):
        fit(small(), DATA, checkpoint=tmp_path / "w.safetensors", resume=True, progress=False)


class Bomb:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("extension", ["safetensors", "pt", "ckpt", ""])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_never_runs(tmp_path, extension, zipped):
    bait, mark = tmp_path / f"weights.{extension}", tmp_path / "ran"
    torch.save({"w": Bomb(mark)}, bait, _use_new_zipfile_serialization=zipped)
    with open(bait, "rb") as file:
        torch.load(file, weights_only=False)["w"].close()
    assert mark.exists(), "the bait must be real"
    mark.unlink()
    for read in (
        read_file,
        load_model,
        lambda p: fit(small(), DATA, epochs=1, checkpoint=p, resume=True, progress=False),
    ):
        with pytest.raises(CheckpointError, match="pickle"):
            read(bait)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_pickles_of_every_protocol_never_run(tmp_path, protocol):
    bait, mark = tmp_path / "weights.safetensors", tmp_path / "ran"
    bait.write_bytes(pickle.dumps(Bomb(mark), protocol=protocol))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load_model(bait)
    assert not mark.exists()


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "c.safetensors"
    write_file(path, {"a": torch.arange(64.0)}, {"facts": "{}"})
    whole = path.read_bytes()
    draw = random.Random(0)
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"c\.safetensors"):
            read_file(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        read_file(path)
    for _ in range(300):  # one wrong bit anywhere
        position = draw.randrange(len(whole))
        broken = bytearray(whole)
        broken[position] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"c\.safetensors"):
            read_file(path)


@pytest.mark.parametrize("content", [b"", b"hello", b'{"a": 1}', b"\x89PNG\r\n", os.urandom(500)])
def test_other_files_are_named(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        read_file(path)


def test_absent_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match="not there or not a file"):
            read_file(path)


def test_an_unwritable_place_is_named_and_the_old_file_kept(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(CheckpointError, match="cannot write"):
        write_file(tmp_path / "c", {}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_what_killed_writers_left_is_swept_but_not_what_is_being_written(tmp_path):
    old, fresh, foreign = tmp_path / ".c.1.part", tmp_path / ".c.2.part", tmp_path / ".d.1.part"
    for path in (old, fresh, foreign):
        path.write_text("half")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    write_file(tmp_path / "c", {}, {})
    assert not old.exists()
    assert fresh.exists()
    assert foreign.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_hundred_kills_leave_a_readable_checkpoint(tmp_path):
    """A child writes without pause and is killed at a random moment; the file must stay whole."""
    path = tmp_path / "c.safetensors"
    draw = random.Random(0)
    write_file(path, {"a": torch.zeros(20_000)}, {"facts": "0"})
    highest = killed_halfway = 0
    for kill in range(200):
        listen, tell = os.pipe()
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)  # a forked process has no worker threads
            count = 1000 * (kill + 1)
            while True:
                write_file(path, {"a": torch.full((20_000,), float(count))}, {"facts": f"{count}"})
                if count == 1000 * (kill + 1):
                    os.write(tell, b"!")
                count += 1
        os.read(listen, 1)  # the child writes now, however long it took to start
        os.close(listen)
        os.close(tell)
        time.sleep(draw.uniform(0, 0.008))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        tensors, count = read_file(path)[0], facts_of(path)
        assert (tensors["a"] == count).all()
        assert count >= highest
        highest = count
        for left in tmp_path.glob(".*.part"):
            killed_halfway += 1
            left.unlink()
    assert killed_halfway > 20, "the kills must really have met half-written files"
    assert highest > 100_000


# --- resume ---

DRAW = torch.Generator().manual_seed(0)
DATA = (torch.rand(60, 1, 16, 16, generator=DRAW), torch.arange(60) % 2)
VAL = (torch.rand(30, 1, 16, 16, generator=DRAW), torch.arange(30) % 2)


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn, self.drop, self.last = (
            SmallCNN(width=4, num_classes=8),
            nn.Dropout(),
            nn.Linear(8, 2),
        )

    def forward(self, images):
        return self.last(self.drop(self.cnn(images)))


def with_dropout():
    torch.manual_seed(0)
    return WithDropout()


class Stop(Exception):
    """Stands for whatever ends a process."""


class StopsAfter:
    """An augmentation that raises at a given batch."""

    def __init__(self, batches):
        self.left = batches

    def __call__(self, images, *, generator):
        self.left -= 1
        if self.left < 0:
            raise Stop
        return Augment(noise=0.1)(images, generator=generator)


OPTIONS = [
    {},
    {"average": 0},
    {"keep": "best"},
    {"precision": "bfloat16+channels_last"},
    {"precision": "float16"},
    {"class_weights": "balanced"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("stop_after", [13, 27])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, options, stop_after):
    recipe = {"epochs": 6, "batch_size": 6, "lr": 0.01, "precision": "float32", "progress": False}
    recipe |= options
    whole = with_dropout()
    expected = fit(whole, DATA, VAL, augment=StopsAfter(10**9), **recipe)

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        fit(with_dropout(), DATA, VAL, augment=StopsAfter(stop_after), checkpoint=path, **recipe)
    torch.manual_seed(99)  # another process would have other weights and another random state
    resumed = WithDropout()
    history = fit(
        resumed, DATA, VAL, augment=StopsAfter(10**9), checkpoint=path, resume=True, **recipe
    )
    assert same(whole, resumed)
    assert history.rows == expected.rows
    assert history.kept == expected.kept
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]


def test_the_loss_scale_of_float16_survives(tmp_path):
    path = tmp_path / "c"
    recipe = {"epochs": 2, "batch_size": 6, "precision": "float16", "progress": False}
    with pytest.raises(Stop):
        fit(small(), DATA, augment=StopsAfter(13), checkpoint=path, **recipe)
    facts = facts_of(path)
    facts["scaler"]["scale"] = 4.0
    write_file(path, read_file(path)[0], {"facts": json.dumps(facts)})
    fit(small(), DATA, augment=StopsAfter(10**9), checkpoint=path, resume=True, **recipe)
    assert facts_of(path)["scaler"]["scale"] == 4.0


def test_resuming_a_finished_run_only_loads_it(tmp_path):
    recipe = {"epochs": 2, "precision": "float32", "progress": False, "checkpoint": tmp_path / "c"}
    model, again = small(0), small(1)
    expected = fit(model, DATA, **recipe)
    written = (tmp_path / "c").read_bytes()
    history = fit(again, DATA, resume=True, **recipe)
    assert same(model, again)
    assert history == expected
    assert (tmp_path / "c").read_bytes() == written


def test_whole_numbers_of_numpy_are_options_like_any(tmp_path):
    recipe = {"precision": "float32", "progress": False, "checkpoint": tmp_path / "c"}
    of_numpy = {"epochs": np.int64(2), "batch_size": np.int32(8), "seed": np.uint8(3)}
    fit(small(), DATA, **of_numpy, lr=np.float32(0.01), **recipe)
    plain = {"epochs": 2, "batch_size": 8, "seed": 3, "lr": float(np.float32(0.01))}
    assert len(fit(small(), DATA, **plain, resume=True, **recipe)) == 2


def test_a_run_stopped_in_its_first_epoch_resumes_to_the_same_bits(tmp_path):
    recipe = {"epochs": 2, "batch_size": 6, "progress": False}
    whole, resumed = with_dropout(), WithDropout()
    fit(whole, DATA, augment=StopsAfter(10**9), **recipe)
    with pytest.raises(Stop):
        fit(with_dropout(), DATA, augment=StopsAfter(3), checkpoint=tmp_path / "c", **recipe)
    fit(resumed, DATA, augment=StopsAfter(99), checkpoint=tmp_path / "c", resume=True, **recipe)
    assert same(whole, resumed)


def test_resume_without_a_file_starts_afresh(tmp_path):
    recipe = {"epochs": 1, "precision": "float32", "progress": False}
    model, again = small(0), small(0)
    fit(model, DATA, **recipe)
    fit(again, DATA, checkpoint=tmp_path / "c", resume=True, **recipe)
    assert same(model, again)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 3}, "epochs: checkpoint 2, now 3"),
        ({"lr": 0.1}, "lr"),
        ({"seed": 1}, "seed: checkpoint 0, now 1"),
        ({"batch_size": 4}, "batch_size"),
        ({"augment": None}, "augment"),
        ({"average": 0}, "average"),
        ({"class_weights": None}, "class_weights: checkpoint 'balanced', now None"),
        ({"precision": "bfloat16"}, "precision"),
        ({"model": {"width": 8}}, "model: checkpoint 'SmallCNN"),
        ({"train": (DATA[0] + 1, DATA[1])}, "train: checkpoint '60 images"),
        ({"train": (DATA[0], 1 - DATA[1])}, "train"),
        ({"val": (VAL[0][:20], VAL[1][:20])}, "val: .*now '20 images"),
    ],
)
def test_another_recipe_is_refused_with_the_difference(tmp_path, change, named):
    recipe = {"train": DATA, "val": VAL, "epochs": 2, "precision": "float32", "progress": False}
    fit(small(), checkpoint=tmp_path / "c", **recipe)
    model = small(1, **change.pop("model", {}))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=named):
        fit(model, checkpoint=tmp_path / "c", resume=True, **(recipe | change))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one_or_the_new(tmp_path, monkeypatch):
    """As a training does to its checkpoint: what is read is never half of each."""
    path, other = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    for place, value in ((path, 0.0), (other, 1.0)):
        write_file(place, {"w": torch.full((3,), value)}, {"facts": str(value)})
    storage, reads = torch.UntypedStorage.from_file, Path.read_bytes

    def replaced():
        if other.exists():
            other.replace(path)

    def again(*args, **kw):  # safe_open's second opening
        replaced()
        return storage(*args, **kw)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", again)
    monkeypatch.setattr(Path, "read_bytes", lambda p: (reads(p), replaced())[0])
    tensors, texts = read_file(path)
    assert not other.exists(), "it was replaced meanwhile"
    assert texts["facts"] == str(float(tensors["w"][0]))


def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    """SIGKILL in the middle of a real training process, then resume here."""
    path = tmp_path / "c.safetensors"
    script = textwrap.dedent(
        f"""
        import torch
        torch.set_num_threads({torch.get_num_threads()})
        from tests.test_checkpoint import DATA, VAL, RECIPE, with_dropout
        from medlab.training import fit
        fit(with_dropout(), DATA, VAL, checkpoint={str(path)!r}, **RECIPE)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=os.path.dirname(os.path.dirname(__file__))
    )
    try:
        limit = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < limit:
            if path.exists() and facts_of(path)["rows"]:
                break
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    done = len(facts_of(path)["rows"])
    assert 1 <= done < RECIPE["epochs"], "the kill must have met a run under way"
    resumed, whole = with_dropout(), with_dropout()
    history = fit(resumed, DATA, VAL, checkpoint=path, resume=True, **RECIPE)
    expected = fit(whole, DATA, VAL, **RECIPE)
    assert same(whole, resumed)
    assert history.rows == expected.rows


RECIPE = {"epochs": 40, "batch_size": 6, "precision": "float32", "progress": False}
