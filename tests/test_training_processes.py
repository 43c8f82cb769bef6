"""`fit` under torchrun: two processes give what one gives.

Run as a module by torchrun, this file is what each process does; the tests read what they left.
"""

import contextlib
import copy
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from medlab.augment import Augment
from medlab.cohort import Cohort, DataCard
from medlab.errors import CheckpointError, DataError
from medlab.models import Detector, SmallCNN, UNet
from medlab.training import fit
from medlab.training.processes import Team

ROOT = Path(__file__).parent.parent
RANK = int(os.environ.get("RANK", 0))
QUIET = {"progress": False, "precision": "float32"}
RECIPE = {"epochs": 2, "lr": 1e-3, **QUIET}


def images_of(n, *size, seed=0):
    return torch.rand(n, 1, *size, generator=torch.Generator().manual_seed(seed))


def card(task):
    return DataCard(name="toy", title="Toy", task=task)


class Odd(nn.Module):
    """A frozen normalisation, a frozen kernel, and a layer that is never called.

    The other normalisation has neither weights nor a horizon for its running statistics.
    """

    def __init__(self):
        super().__init__()
        self.first, self.still = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, bias=False)  # Adam would step along its rounding errors
        self.norm = nn.BatchNorm2d(4, affine=False, momentum=None)
        self.last, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)
        self.train()
        self.still.eval()
        self.second.weight.requires_grad_(False)

    def forward(self, images):
        maps = self.norm(self.second(self.still(self.first(images)).sin()))
        return self.last(maps.tanh().mean((2, 3)))


class Plain(nn.Module):
    """No normalisation, so that DistributedDataParallel needs none of medlab's."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Dropout(dropout),
            nn.Linear(196, 3),
        )  # fmt: skip

    def forward(self, images):
        return self.net(images)


def classes(n, *size, seed=0):
    return images_of(n, *size, seed=seed), torch.arange(n) ** 2 // 2 % 3


def cases():
    """name → model, train, val and options; the batches have odd sizes, 3 images the smallest."""
    masks = (images_of(7, 16, 16)[:, 0] * 3).long()
    boxes = [torch.tensor([[2.0, 3.0, 13.0, 12.0], [18, 17, 30, 29.0]])[: k % 3] for k in range(7)]
    found = Cohort(images=images_of(7, 32, 32), boxes=boxes, card=card("detection"))
    several = (images_of(11, 16, 16), (images_of(11, 4)[:, 0] > 0.6).float())
    return {
        "balanced": (lambda: SmallCNN(1, 3, width=4), classes(37, 16, 16), classes(9, 16, 16),
                     {"batch_size": 9, "keep": "best"}),
        "dice": (lambda: UNet(1, 3, width=4, depth=2), (images_of(7, 16, 16), masks),
                 (images_of(7, 16, 16), masks), {"batch_size": 3}),
        "focal": (lambda: Detector(1, width=4), found, found, {"batch_size": 3}),
        "several": (lambda: SmallCNN(1, 4, width=4), several, several,
                    {"batch_size": 5, "class_weights": "balanced", "average": 0}),
        "volumes": (lambda: SmallCNN(1, 3, width=4, dims=3), classes(3, 16, 16, 16),
                    classes(1, 16, 16, 16), {"batch_size": 3}),
        "odd": (Odd, classes(13, 16, 16), None, {"batch_size": 4}),
        "bfloat16": (lambda: SmallCNN(1, 3, width=4), classes(10, 16, 16), classes(5, 16, 16),
                     {"batch_size": 5, "precision": "bfloat16+channels_last"}),
    }  # fmt: skip


def train(name, **options):
    make, data, val, recipe = cases()[name]
    torch.manual_seed(RANK)  # the first process's weights are those of one process alone
    model = make()
    history = fit(model, data, val, **(RECIPE | recipe | options))
    return model, history


def plain_of(model):
    return {name: value.contiguous().clone() for name, value in model.state_dict().items()}


# --- what each process does ---


def main(folder):
    for name in cases():
        model, history = train(name, checkpoint=folder / f"{name}.checkpoint")
        save_file(plain_of(model), folder / f"{name}.{RANK}")
        (folder / f"{name}.{RANK}.json").write_text(json.dumps(history.rows))
    resumed(folder)
    told(folder)
    random_layers(folder)
    beside_torch(folder)
    exact_gradients()
    assert dist.is_initialized(), "the group stays"


def resumed(folder):
    """Stopped in its second epoch; each process has a disk of its own, the first's is written."""
    path = f"checkpoint.{RANK}"
    (folder / f"disk.{RANK}").mkdir()
    os.chdir(folder / f"disk.{RANK}")

    class Stop(Exception):
        pass

    def augment(images, *, generator):
        augment.left -= 1
        if augment.left < 0:
            raise Stop
        return Augment(noise=0.1)(images, generator=generator)

    options = {"augment": augment, "checkpoint": path, "epochs": 3}
    augment.left = 6
    with contextlib.suppress(Stop):
        train("balanced", **options)
    dist.barrier()
    assert os.listdir() == ["checkpoint.0"] * (RANK == 0)
    augment.left, shown = 99, io.StringIO()
    with contextlib.redirect_stderr(shown):
        model, history = train("balanced", **options, resume=RANK == 0, progress=True)
    assert augment.left == 99 - 8, "two epochs were left"
    assert bool(shown.getvalue()) == (RANK == 0), "the first alone shows a bar"
    augment.left = 99
    whole, expected = train("balanced", **options | {"checkpoint": None})
    assert history.rows == expected.rows
    assert all(torch.equal(a, b) for a, b in zip(*map(tensors, (model, whole)), strict=True))


def tensors(model):
    return model.state_dict().values()


def told(folder):
    """What is wrong with one process ends all of them with the same words."""
    images, labels = classes(20, 16, 16)

    def of_its_own(images, *, generator):
        return images + RANK

    def mirrored(images, *, generator):  # the same grey levels in other places
        return images.flip(-1) if RANK else images

    (folder / "file").write_text("")
    place = folder / "file" / "c" if RANK == 0 else folder / "elsewhere"
    for options, error, words in (
        ({"train": (images + RANK, labels)}, DataError, "differ in train"),
        ({"lr": 1e-3 * (1 + RANK)}, DataError, "differ in lr"),
        ({"augment": of_its_own}, DataError, "let it draw from the generator"),
        ({"augment": mirrored}, DataError, "let it draw from the generator"),
        ({"checkpoint": place}, CheckpointError, "cannot write .*file"),
    ):
        with pytest.raises(error, match=words):
            fit(**{"model": Plain(), "train": (images, labels), **RECIPE, **options})


def random_layers(folder):
    """Each process draws its own dropout, and yet all have the same weights at the end."""
    seen = []

    class Watched(nn.Dropout):
        def forward(self, images):
            dropped = super().forward(images)
            seen.append(dropped == 0)
            return dropped

    torch.manual_seed(0)
    model = Plain()
    model.net[3] = Watched(0.5)
    fit(model, classes(8, 16, 16), epochs=1, batch_size=8, augment=None, **QUIET)
    masks = [mask for mask in seen if mask.any()]
    assert [mask.shape for mask in masks] == [(4, 196)]
    save_file({"mask": masks[0]} | plain_of(model), folder / f"dropout.{RANK}")


def beside_torch(folder):
    """A plain loop over DistributedDataParallel on the batches that fit saw."""
    images, labels = classes(32, 16, 16)
    batches = []

    def record(batch, *, generator):
        batches.append(batch)
        return batch

    torch.manual_seed(0)
    model = Plain()
    recipe = {"epochs": 3, "batch_size": 8, "average": 0, "class_weights": None, "lr": 1e-3}
    fit(model, (images, labels), augment=record, **QUIET, **recipe)
    torch.manual_seed(0)
    expected = Plain()
    ddp = nn.parallel.DistributedDataParallel(expected)
    kernels, biases = ([p for p in ddp.parameters() if (p.ndim > 1) == wide] for wide in (1, 0))
    groups = [{"params": kernels}, {"params": biases, "weight_decay": 0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1e-3, total_steps=len(batches), cycle_momentum=False
    )
    assert [len(batch) for batch in batches] == [8] * 12
    for batch in batches:
        index = (batch[:, None] == images).flatten(2).all(2).int().argmax(1)[RANK::2]
        optimiser.zero_grad()
        F.cross_entropy(ddp(images[index]), labels[index]).backward()
        optimiser.step()
        schedule.step()
    save_file(plain_of(model), folder / f"fit.{RANK}")
    save_file(plain_of(expected), folder / f"ddp.{RANK}")


def exact_gradients():
    """In double: gradients and running statistics of PyTorch's own layers in one process."""
    team = Team.join()
    assert (team.rank, team.size) == (RANK, 2)
    for dims in (1, 2, 3):
        mix = (nn.Linear, nn.Conv2d, nn.Conv3d)[dims - 1](3, 3, *[1] * (dims > 1))
        for options in ({}, {"affine": False, "momentum": None}, {"track_running_stats": False}):
            norm = getattr(nn, f"BatchNorm{dims}d")(3, **options)
            alone = nn.Sequential(mix, norm, nn.Tanh()).double()
            alone.load_state_dict(team.by_first(alone.state_dict))
            together = copy.deepcopy(alone)
            for count in (5, 3, 2, 1)[: 3 if dims == 1 else 4]:  # with 1 a process has none
                draw = torch.Generator().manual_seed(count)
                images, pull = torch.randn(2, count, 3, *[4] * (dims > 1) * dims, generator=draw)
                ((alone(images.double() + 2)) * pull).square().sum().backward()
                with team.synchronised(together):
                    outputs = team.share(together, images.double() + 2)
                (outputs * pull).square().sum().backward()
                team.add_gradients(together)
                pairs = [*zip(*map(tensors, (alone, together)), strict=True)]
                both = zip(alone.parameters(), together.parameters(), strict=True)
                for one, two in pairs + [(a.grad, b.grad) for a, b in both]:
                    assert torch.allclose(one.double(), two.double(), 1e-10, 1e-10), (norm, count)
                alone.zero_grad()
                together.zero_grad()


def raise_on_one():
    """What one process alone runs into."""

    def augment(images, *, generator):
        if RANK == 1:
            raise RuntimeError("the second process met something")
        return images

    fit(Plain(), classes(20, 16, 16), epochs=1, augment=augment, **QUIET)


# --- what they left ---


def launch(*arguments):
    """Two processes of one thread each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MEDLAB_PROGRESS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--local-addr", "127.0.0.1", "--nproc-per-node", "2",
               "-m", "tests.test_training_processes", *map(str, arguments)]  # fmt: skip
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    done = launch(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def close(one, two, within):
    """Two sets of weights, their distance beside the length of the second."""
    one, two = (torch.cat([w[key].double().flatten() for key in sorted(w)]) for w in (one, two))
    return (one - two).norm() <= within * two.norm()


@pytest.mark.parametrize("name", cases())
def test_two_processes_give_the_result_of_one(left, name):
    both = [load_file(left / f"{name}.{rank}") for rank in (0, 1)]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[0])
    told = [(left / f"{name}.{rank}.json").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    model, history = train(name)
    within = 1e-2 if name == "bfloat16" else 1e-5
    assert close(both[0], model.state_dict(), within)
    for key in [key for key in both[0] if "unused" in key]:  # nor does it decay
        assert torch.equal(both[0][key], model.state_dict()[key])
    for row, expected in zip(json.loads(told[0]), history.rows, strict=True):
        assert row == pytest.approx(expected, rel=within, nan_ok=True)


def test_a_plain_loop_over_torchs_own_wrapper_agrees(left):
    fits, wrapped = (load_file(left / f"{name}.0") for name in ("fit", "ddp"))
    assert close(fits, wrapped, 1e-5)


def test_one_process_reads_the_checkpoint_of_two(left):
    model, history = train("balanced", checkpoint=left / "balanced.checkpoint", resume=True)
    expected = load_file(left / "balanced.0")
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert history.rows == json.loads((left / "balanced.0.json").read_text())


def test_each_process_drops_other_units_and_ends_with_the_same_weights(left):
    one, two = (load_file(left / f"dropout.{rank}") for rank in (0, 1))
    assert not torch.equal(one.pop("mask"), two.pop("mask"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_what_one_process_raises_ends_the_run():
    done = launch("raise")
    assert done.returncode != 0
    assert "the second process met something" in done.stderr


def test_one_process_alone_starts_no_group():
    train("several")
    assert not dist.is_initialized()


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise_on_one() if sys.argv[1] == "raise" else main(Path(sys.argv[1]))
