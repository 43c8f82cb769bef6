import re
import sys
import types

import numpy as np
import pytest
import torch

from medlab import exercises
from medlab.errors import MedlabError
from medlab.exercises import call, check, claim, exercise, first_match, near

MESSAGES = {
    "right": "yes, {value} it is",
    "halved": "you halved it: I got {got}",
    "other": "expected {expected}, got {got}",
}


@pytest.fixture
def toy():
    @exercise("98.1", MESSAGES)
    def double(answer):
        got = call(answer, 3)
        if near(got, 6):
            return "right", {"value": 6}
        return ("halved" if near(got, 1.5) else "other"), {"got": got, "expected": 6}

    @exercise("98.2", MESSAGES)
    def number(answer):
        return (
            ("right", {"value": 2})
            if near(answer, 2)
            else ("other", {"got": answer, "expected": 2})
        )

    yield
    del exercises._CHECKS["98.1"], exercises._CHECKS["98.2"]


def said(capsys, id, answer):
    check(id, answer)
    return capsys.readouterr().out.strip()


def stub(x): ...


def documented_stub(x):
    """Double a number."""
    ...


def half_done(x):
    y = ...
    return y


@pytest.mark.parametrize("answer", [stub, documented_stub, half_done, ..., lambda x: ...])
def test_untouched_answers_are_not_attempted(toy, capsys, answer):
    assert said(capsys, "98.1", answer) == "○ 98.1 not attempted yet: replace the `...`"


@pytest.mark.parametrize(
    "answer, text",
    [
        (lambda x: 2 * x, "✓ 98.1: yes, 6 it is"),
        (lambda x: x / 2, "✗ 98.1: you halved it: I got 1.5"),
        (lambda x: x, "✗ 98.1: expected 6, got 3"),
        (
            lambda x: print(end=""),
            "✗ 98.1: your function returned None. Does it end in `return …`?",
        ),
        (lambda x: x + unknown, "✗ 98.1: your code stopped with NameError"),  # noqa: F821
        (lambda x: [1, 2], "✗ 98.1: expected 6, got [1, 2]"),
        (lambda x: "six", "✗ 98.1: I expected a number here, and got str."),
        (6, "✗ 98.1: I expected a function here, and got int."),
    ],
)
def test_every_answer_is_answered(toy, capsys, answer, text):
    assert said(capsys, "98.1", answer).startswith(text)


def test_an_answer_that_a_check_stumbles_over_is_told_and_not_raised(toy, capsys):
    class Odd:
        def __array__(self, *args, **kwargs):
            raise RuntimeError("no numbers here")

    told = "✗ 98.2: I cannot read your answer, a Odd: checking it stopped with RuntimeError: no"
    assert " ".join(said(capsys, "98.2", Odd()).split()).startswith(told)


def test_values_can_be_numbers_arrays_and_tensors(toy, capsys):
    assert said(capsys, "98.2", torch.tensor(2.0)).startswith("✓")
    assert said(capsys, "98.2", 3).startswith("✗")
    assert near(np.array([1, 2]), torch.tensor([1.0, 2.0]))
    assert not near(np.array([1, 2]), [1, 2, 3]) and not near(float("nan"), 1.0)


def test_the_first_diagnosis_that_fits_is_told():
    wrong = {"negative": -2.0, "twice": 4.0, "also twice": 4.0}
    assert first_match(4, wrong) == "twice"
    assert first_match(4.01, wrong) == "other"
    assert first_match(4.01, wrong, rel=0.01) == "twice"


def test_unknown_and_doubled_exercises_are_errors(toy):
    with pytest.raises(MedlabError, match="no exercise '97.1'"):
        check("97.1", 1)
    with pytest.raises(MedlabError, match="twice"):
        exercise("98.1", MESSAGES)(lambda answer: "right")
    with pytest.raises(MedlabError, match="two diagnoses"):
        exercise("98.3", {"right": "yes"})


def test_a_false_claim_stops_the_notebook(capsys):
    claim("two is even", torch.tensor(2) % 2 == 0)
    assert capsys.readouterr().out == "✓ two is even\n"
    with pytest.raises(AssertionError, match="three is even"):
        claim("three is even", 3 % 2 == 0)


# ------------------------------------------------------------------------- what the reader sees


@pytest.mark.parametrize("sign", "✓✗○")
def test_lines_end_between_words_and_only_a_sign_has_a_colour(monkeypatch, capsys, sign):
    text = f"{sign} toy: " + "a longish-word, " * 30 + "x" * 120 + "\nsecond line"
    exercises._say(text)
    plain = capsys.readouterr().out
    assert plain.split() == text.split() and "\x1b" not in plain
    assert all(len(line) <= 88 for line in plain.splitlines() if "x" * 120 not in line)
    monkeypatch.setattr(exercises, "_in_colour", lambda: True)
    exercises._say(text)
    coloured = capsys.readouterr().out
    codes = re.findall(r"\x1b\[[\d;]+m", coloured)
    assert len(codes) == 2 and re.sub(r"\x1b\[[\d;]+m", "", coloured) == plain
    assert coloured.startswith(f"{codes[0]}{sign}{codes[1]} ")


def test_colours_go_to_notebooks_and_terminals_and_to_nobody_who_refuses_them(monkeypatch):
    kernel = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not exercises._in_colour()
    monkeypatch.setattr("sys.stdout", types.SimpleNamespace(isatty=lambda: True))
    assert exercises._in_colour()
    monkeypatch.setattr("sys.stdout", types.SimpleNamespace(isatty=lambda: False))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    assert exercises._in_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not exercises._in_colour()


def test_material_of_a_topic(capsys):
    test = exercises.material("training_well", part="range_test")
    torch.manual_seed(0)
    model, X = torch.nn.Linear(3, 2), torch.rand(5, 3)
    optimiser, draws = torch.optim.SGD(model.parameters()), torch.Generator()
    losses = test(model, optimiser, X, torch.arange(5) % 2, [0.1, 0.2], 4, draws)
    assert len(losses) == 2
    with pytest.raises(MedlabError, match="the parts are runs, .* and not 'run'"):
        exercises.material("training_well", part="run")
    for topic in ("training", "nothing", "../x"):
        with pytest.raises(MedlabError, match="have no material"):
            exercises.material(topic)


def test_a_topic_tells_its_exercises():
    with pytest.raises(MedlabError, match=r"those of cnn: cnn\.1, cnn\.2"):
        check("cnn.99", 1)
