"""Checks of training well, fed with right, untouched and typically wrong answers."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medlab.errors import MedlabError
from medlab.exercises import check, material
from medlab.exercises.training_well import BUGS, ITEMS, MESSAGES, RESUMED, RUNS
from tests.learners import broken, gap, is_told, stub, unheard
from tests.mutants import ticked

FOUND = {letter: BUGS[fault] for letter, fault in RUNS.items()}
MISSING = {letter: ITEMS[item] for letter, item in RESUMED.items()}


def blamed(right, letter, word):
    return right | {letter: word}


# ----------------------------------------------------------------------------- 2: the script


def run(model, optimiser, train, val, epochs, rng, left=(), how=""):
    losses, seen = [], []
    model.train()
    for _ in range(epochs):
        if "back" not in left:
            model.train(how != "frozen")
        if how == "rarely":
            optimiser.zero_grad()
        order = torch.randperm(len(train[0]), generator=rng)
        if how == "unshuffled":
            order = order.sort().values
        x = train[0][order]
        y = train[1] if "labels" in left else train[1][order]
        for a, b in zip(x.split(16), y.split(16), strict=True):
            z = model(a)
            loss = F.cross_entropy(z.softmax(1) if "softmax" in left else z, b)
            if "zero" not in left and how != "rarely":
                optimiser.zero_grad()
            loss.backward()
            if how == "cleared":
                optimiser.zero_grad()
            optimiser.step()
            if how == "twice":
                optimiser.step()
        seen.append(loss.item())
        if "mode" not in left:
            model.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(model(val[0]), val[1]).item())
    return {"training": seen, "last": losses[-1:], "number": losses[-1]}.get(how, losses)


def leaves(*left, how=""):
    return lambda *given: run(*given, left=left, how=how)


def by_function(model, optimiser, train, val, epochs, rng):
    """NLL of log-probabilities, gradients cleared behind the step, a tensor of losses."""
    losses = []
    for _ in range(epochs):
        model.train()
        for part in torch.randperm(len(train[0]), generator=rng).split(16):
            F.nll_loss(model(train[0][part]).log_softmax(1), train[1][part]).backward()
            optimiser.step()
            optimiser.zero_grad()
        model.eval()
        losses.append(F.cross_entropy(model(val[0]), val[1]).detach())
    return torch.stack(losses)


# -------------------------------------------------------------------------- 3: the range test


def search(model, optimiser, images, labels, rates, batch_size, rng, how=""):
    losses, start = [], copy.deepcopy(model.state_dict())
    model.train(how != "eval")
    previous = optimiser.param_groups[0]["lr"]
    for rate in rates:
        if how == "restarted":
            model.load_state_dict(start)
        groups = optimiser.param_groups[: 1 if how == "first" else None]
        for group in [] if how == "one rate" else groups:
            group["lr"] = previous if how == "late" else rate
        previous = rate
        batch = torch.randint(len(images), (batch_size,), generator=rng)
        if how == "global":
            batch = torch.randperm(len(images))[:batch_size]
        target = labels[:batch_size] if how == "labels" else labels[batch]
        loss = F.cross_entropy(model(images[batch]), target)
        if how == "softmax":
            loss = F.cross_entropy(model(images[batch]).softmax(1), target)
        if how == "sum":
            loss = loss * batch_size
        if how == "double":
            loss = 2 * loss
        if how not in ("endless", "keeps nan") and not torch.isfinite(loss):
            break
        if how != "kept":
            optimiser.zero_grad()
        loss.backward()
        if how != "no step":
            optimiser.step()
        if how == "after":
            loss = F.cross_entropy(model(images[batch]), target)
        losses.append(loss if how == "graphs" else loss.item())
        if how == "keeps nan" and not np.isfinite(losses[-1]):
            break
    return {"short": losses[1:], "last": losses[-1]}.get(how, losses)


# ------------------------------------------------------------------------------ 4: the schedule


def rate_at(t, steps, peak, warm):
    if t < warm:
        return peak * (t + 1) / warm
    return peak / 2 + peak / 2 * np.cos(np.pi * (t - warm) / (steps - warm))


def later(shape, ramp=lambda t, warm: (t + 1) / warm):
    """A schedule with a wrong second half, or another ramp."""

    def answer(t, steps, peak, warm):
        return peak * (ramp(t, warm) if t < warm else shape(t, steps, warm))

    return answer


def half(x):
    return (1 + np.cos(np.pi * x)) / 2


def falls(t, steps, warm):
    return half((t - warm) / (steps - warm))


# ------------------------------------------------------------------------- 6: stop and resume


def state(run, how=""):
    model = run["model"]
    saved = {
        "model": model.state_dict(),
        "optimiser": run["optimiser"].state_dict(),
        "draws": run["draws"].get_state(),
        "step": run["step"],
    }
    if how == "parameters":
        saved["model"] = dict(model.named_parameters())
    if how == "objects":
        saved["model"] = model
    if how == "advances":
        run["step"] += 1
    return saved


def restore(run, saved, without=(), how=""):
    if "model" not in without:
        run["model"].load_state_dict(saved["model"], strict=how != "loose")
    if "optimiser" not in without:
        run["optimiser"].load_state_dict(saved["optimiser"])
    if "draws" not in without:
        run["draws"].set_state(saved["draws"])
    if "step" not in without:
        run["step"] = saved["step"]
    if how == "other optimiser":
        run["optimiser"] = copy.deepcopy(run["optimiser"])
    return run if how == "returns" else None


def pair(saving="", without=(), how=""):
    return lambda r: state(r, saving), lambda r, saved: restore(r, saved, without, how)


# ----------------------------------------------------------------------------- 7: the clock


def timed(step, wait, clock, warm, repeats, how=""):
    for _ in range(0 if how == "cold" else warm):
        step()
    if how != "late":
        wait()
    begin = clock()
    for _ in range(repeats + (warm if how == "cold" else 0)):
        step()
        if how == "each":
            wait()
    if how != "no wait":
        wait()
    seconds = clock() - begin
    if how == "all":
        repeats += warm
    return {"seconds": seconds / repeats, "total": seconds, "half": repeats / seconds / 2}.get(
        how, repeats / seconds
    )


def clock_first(step, wait, clock, warm, repeats):
    begin = clock()
    for _ in range(warm + repeats):
        step()
    wait()
    return repeats / (clock() - begin)


# ------------------------------------------------------------------------------ 8: the limit


def power(product, start, steps, how=""):
    v = start / start.norm() if how == "first only" else start
    for _ in range(1 if how == "once" else steps):
        if how not in ("grows", "first only"):
            v = v / v.norm()
        v = product(start if how == "fixed" else v)
    return v / v.norm() if how == "direction" else v


def largest(product, start, steps, how=""):
    return 2 / power(product, start, steps, how).norm()


def quotient(product, start, steps):
    """Rayleigh's quotient, in NumPy."""
    v = start.numpy()
    for _ in range(steps):
        v = product(torch.from_numpy(v)).numpy()
        v = v / np.linalg.norm(v)
    return 2 / (v @ product(torch.from_numpy(v)).numpy())


def where(name, answers):
    return [(f"training_well.{name}", answer, reply) for answer, reply in answers]


def how(function, *names):
    return [(lambda *given, name=name: function(*given, how=name), said) for name, said in names]


CASES = [
    *where(
        1,
        [
            (FOUND, "✓"),
            (blamed(FOUND, "F", "no evaluation mode"), "F: without evaluation mode"),
            (blamed(FOUND, "C", "labels of other images"), "C: with labels of other images"),
            (blamed(FOUND, "E", "no zero_grad"), "E: without zero_grad"),
            (blamed(FOUND, "B", "validation patients in training"), "B: patients who were"),
            (blamed(FOUND, "A", "learning rate too high"), "A: if the rate is too high"),
            (blamed(FOUND, "D", "softmax before the loss"), "D: a softmax inside the loss"),
            (blamed(FOUND, "A", "learning rate too low"), "A: choose one of labels of other"),
            (blamed(FOUND, "A", "no optimiser.step"), "A: without a step"),
            (blamed(FOUND, "A", "labels"), "A: choose one of labels of other images, no ev"),
            (blamed(FOUND, "A", 4), "I got 4"),
            ({"A": "no zero_grad"}, "one answer for each of A, B, C, D, E and F"),
            (list(FOUND.values()), "and got list"),
        ],
    ),
    *where(
        2,
        [
            (run, "✓"),
            (by_function, "✓"),
            (lambda *given: np.array(run(*given)), "✓"),
            (
                leaves("softmax", "labels", "zero", "mode"),
                "more than one bug is left. First, the loss still",
            ),
            (leaves("softmax"), "still gets probabilities"),
            (leaves("labels"), "still part ways"),
            (leaves("zero"), "gradients still pile up"),
            (leaves("mode"), "still runs in training mode"),
            (leaves("back"), "never left again"),
            (leaves("labels", "back"), "more than one bug is left. First, images and labels"),
            (leaves(how="unshuffled"), "nothing is shuffled"),
            (leaves(how="rarely"), "cleared once an epoch"),
            (leaves(how="frozen"), "in evaluation mode while it trains"),
            (leaves(how="cleared"), "the weights do not change"),
            (leaves(how="twice"), "are not those of the mended script"),
            (leaves(how="training"), "is not the validation loss"),
            (leaves(how="last"), "expected as many losses; got 1"),
            (leaves(how="number"), "got a float"),
        ],
    ),
    *where(
        3,
        [
            (search, "✓"),
            (lambda *given: torch.tensor(search(*given)), "✓"),
            *how(
                search,
                ("one rate", "taken at the same rate"),
                ("first", "only the first group"),
                ("late", "at the rate of the step before"),
                ("after", "noted the loss after the step"),
                ("short", "expected 7 losses and got 6"),
                ("endless", "ends the test: I expected 3 losses"),
                ("keeps nan", "and got 4"),
                ("graphs", "tensors with their graphs"),
                ("global", "are not those that torch.randint"),
                ("labels", "the labels are not"),
                ("kept", "gradients pile up"),
                ("softmax", "gave probabilities to the loss"),
                ("sum", "the sum of the losses"),
                ("no step", "that of the first weights"),
                ("eval", "was in evaluation mode"),
                ("restarted", "back to the start between"),
                ("last", "one number for each rate; got float"),
            ),
            (lambda *given: [x + (k == 3) for k, x in enumerate(search(*given))], "at rate 0.24"),
        ],
    ),
    *where(
        4,
        [
            (rate_at, "✓"),
            (lambda *given: torch.tensor(rate_at(*given), dtype=torch.float64), "✓"),
            (later(falls, lambda t, warm: t / warm), "the first step has the rate 0"),
            (later(falls, lambda t, warm: 1), "no warm-up"),
            (lambda t, steps, peak, warm: peak * half(t / steps), "no warm-up"),
            (later(lambda t, steps, warm: 1), "stays at its peak"),
            (later(lambda t, steps, warm: half(t / steps)), "the rate jumps where the ramp ends"),
            (later(lambda t, steps, warm: half((t - warm) / steps)), "is too long"),
            (
                later(lambda t, steps, warm: half((t - warm) / (steps - warm - 1))),
                "your last step has the rate 0",
            ),
            (later(lambda t, steps, warm: half(2 * (t - warm) / (steps - warm))), "comes back up"),
            (later(lambda t, steps, warm: 2 * falls(t, steps, warm) - 1), "falls below 0"),
            (
                later(lambda t, steps, warm: np.cos(np.pi * (t - warm) / (steps - warm) / 2)),
                "a quarter of a wave",
            ),
            (later(lambda t, steps, warm: (steps - t) / (steps - warm)), "a straight line"),
            (later(lambda t, steps, warm: 1 - falls(t, steps, warm)), "it climbs where"),
            (
                lambda t, steps, peak, warm: min(1, (t + 1) / warm) * peak * half(t / steps),
                "multiply ramp and cosine",
            ),
            (lambda t, steps, peak, warm: rate_at(t, steps, 1, warm), "the peak is missing"),
            (
                lambda t, steps, peak, warm: (
                    peak * (t + 1) / warm if t <= warm else rate_at(t, steps, peak, warm)
                ),
                "compare with <, not",
            ),
            (
                later(lambda t, steps, warm: half(180 / np.pi * (t - warm) / (steps - warm))),
                "in degrees",
            ),
            (lambda *given: 2 * rate_at(*given), "at t=0 I expected 0.10000 and got 0.20000"),
            (lambda *given: [1, 2], "expected a number"),
        ],
    ),
    *where(
        5,
        [
            (MISSING, "✓"),
            (blamed(MISSING, "C", ITEMS["optimiser"]), "C: without Adam's m and v"),
            (blamed(MISSING, "A", ITEMS["step"]), "A: a schedule that starts again"),
            (blamed(MISSING, "D", ITEMS["draws"]), "D: without the state of the generator"),
            (blamed(MISSING, "B", ITEMS["buffers"]), "B: the running means"),
            (blamed(MISSING, "B", "weights"), "B: choose one of the optimiser's m, v and t, the"),
            (MISSING | {"E": "step"}, "one answer for each of A, B, C and D"),
            ("A", "and got str"),
        ],
    ),
    *where(
        6,
        [
            (pair(), "✓"),
            (pair(how="returns"), "✓"),
            (list(pair()), "✓"),
            (pair(without=["model"]), "are those of a new run"),
            (pair("parameters", how="loose"), "the running means of batch normalisation are not"),
            (pair(without=["optimiser"]), "the optimiser's memory is lost"),
            (pair(without=["draws"]), "the generator starts anew"),
            (pair(without=["step"]), "the schedule starts again"),
            (pair("objects"), "refuses your file"),
            ((state, lambda r, saved: r.update(saved)), "run['model'] is a OrderedDict"),
            ((state, lambda r, saved: restore(r, saved) or saved), "✓"),
            ((state, lambda r, saved: saved), "are those of a new run"),
            (pair("advances"), "saving changed the run"),
            (pair(how="other optimiser"), "five steps later the weights differ"),
            ((lambda r: [1], restore), "state returned list"),
            (state, "your two functions"),
        ],
    ),
    *where(
        7,
        [
            (timed, "✓"),
            (clock_first, "while the device warms up"),
            *how(
                timed,
                ("each", "✓"),
                ("cold", "while the device warms up"),
                ("late", "the warm-up still stands in the queue"),
                ("no wait", "while the steps still stand in the queue"),
                ("seconds", "those are seconds a step"),
                ("total", "that is the time of all steps"),
                ("all", "the warm-up does not count"),
                ("half", "I expected 2.000 and got 1.000"),
            ),
            (lambda *given: timed(*given[:4], given[4] + 1), "took 24 steps and I asked for 23"),
        ],
    ),
    *where(
        8,
        [
            (largest, "✓"),
            (quotient, "✓"),
            (lambda *given: largest(*given) / 2, "you returned 1/λ_max"),
            (lambda *given: 2 / largest(*given), "not the rate"),
            (lambda *given: 1 / largest(*given), "the other way round"),
            *how(
                largest,
                ("grows", "grows with every product"),
                ("first only", "grows with every product"),
                ("once", "one product with the vector"),
                ("fixed", "one product with the vector"),
                ("direction", "lost the eigenvalue"),
            ),
            (lambda *given: 1.5 * largest(*given), "I expected 0.25 and got 0.375"),
        ],
    ),
]


@pytest.mark.parametrize(("id", "answer", "reply"), CASES)
def test_the_check_answers(id, answer, reply, capsys):
    is_told(id, answer, reply, capsys)


UNTOUCHED = {
    "training_well.1": dict.fromkeys("ABCDEF", ...),
    "training_well.5": dict.fromkeys("ABCD", ...),
    "training_well.6": (stub, stub),
}


@pytest.mark.parametrize("id", sorted(MESSAGES))
def test_untouched_is_not_attempted_and_an_error_is_told(id, capsys):
    for untouched in (UNTOUCHED.get(id, stub), ...):
        check(id, untouched)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    if id not in UNTOUCHED:
        check(id, gap)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
        check(id, broken)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_a_checkpoint_that_breaks_is_told(capsys):
    for answer in ((state, broken), (broken, restore)):
        check("training_well.6", answer)
        assert "your code stopped with IndexError" in capsys.readouterr().out


def test_every_message_is_said(capsys):
    assert unheard(MESSAGES, CASES, capsys) == []


# The cosine does not see a sign, and the last of forty products changes nothing any more.
EQUIVALENT = [
    "training_well.2: order = torch.randperm(len(train[0]), generator=rng) → "
    "order = torch.randperm(len(train[1]), generator=rng)",
    "training_well.4: share = (t - warm) / (steps - warm) → share = (t - warm) / (warm - steps)",
    "training_well.4: share = (t - warm) / (steps - warm) → share = (warm - t) / (steps - warm)",
    "training_well.8: for _ in range(steps): → for _ in range(1, steps):",
    "training_well.8: for _ in range(steps): → for _ in range(steps + 1):",
    "training_well.8: for _ in range(steps): → for _ in range(steps - 1):",
]


def test_no_changed_solution_is_called_right():
    assert ticked("10_training_well", "training_well") == EQUIVALENT


# ------------------------------------------------------------------------------- the material


def _squares(n, seed):
    """Images whose class is where the bright square lies."""
    draws = torch.Generator().manual_seed(seed)
    images, labels = torch.rand(n, 1, 16, 16, generator=draws), torch.arange(n) % 2
    images[labels == 0, :, 2:7, 2:7] += 1
    images[labels == 1, :, 9:14, 9:14] += 1
    return images, labels


def test_each_broken_run_shows_its_own_symptom():
    train, val, new = (_squares(n, seed) for n, seed in ((48, 0), (32, 1), (32, 2)))
    noise = train[0], train[1][torch.randperm(48, generator=torch.Generator().manual_seed(3))]
    scripts = material("training_well", part="runs")
    final = {}
    for letter, script in scripts.items():
        predict, history = script(train, val, epochs=6)
        final[RUNS[letter]] = history["train"][-1]
        alone = predict(val[0])[:9] - predict(val[0][:9])  # in less company
        assert (alone.abs().max() > 1e-3) == (RUNS[letter] == "mode")
        assert (predict(new[0]).sum(1) - 1).abs().max() < 1e-5 or RUNS[letter] != "softmax"
        _, history = script(noise, val, epochs=30)
        if RUNS[letter] == "leak":  # only who trains on validation knows it from wrong labels
            assert history["val"][-1] < 0.4
    assert final["labels"] > 0.6 > 0.45 > final["softmax"] > np.log1p(np.exp(-1)) - 1e-3
    assert final["mode"] < 0.3
    healthy, high, kept = (scripts[letter] for letter in "BEC")
    few = train[0][:16], train[1][:16]  # one step an epoch
    losses = [
        f(few, few, epochs=3, **o)[1]["train"]
        for f, o in ((healthy, {}), (high, {"rate": 0.01}), (high, {}), (kept, {}))
    ]
    assert losses[0] == losses[1]
    assert losses[0][0] == losses[2][0]
    assert losses[0][1] != losses[2][1]
    assert losses[0][:2] == losses[3][:2]  # the first step has no old gradients to add
    assert losses[0][2] != losses[3][2]


def test_what_was_resumed_differs_only_by_what_was_lost():
    draws = torch.Generator().manual_seed(0)
    X, y = 3 + torch.randn(300, 4, generator=draws), torch.arange(300) % 2
    runs = material("training_well", part="resumed")(X, y)
    assert list(runs) == ["never stopped", *RESUMED]
    whole = runs["never stopped"]
    for letter, item in RESUMED.items():
        assert runs[letter]["same bits"] == (item == "buffers")
        assert (runs[letter]["on loading"] == whole["on loading"]) == (item != "buffers")
    assert runs["D"]["loss"] == whole["loss"]


def test_there_is_no_other_material():
    with pytest.raises(MedlabError, match="range_test"):
        material("training_well", part="loss")
