"""Exercises that answer: `check` tells a learner what went wrong, `claim` proves a sentence.

One file a topic (`convolution.py` …) holds the checks of its exercises and, in a table, every
sentence that they can say. A check gets the learner's answer and returns a key of that table, or a
key and the values that the sentence mentions. It never raises: an error inside the learner's own
function is reported as such.
"""

from __future__ import annotations

import dis
import os
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from medlab.errors import MedlabError

__all__ = [
    "NotAttempted",
    "Wrong",
    "array_of",
    "as_array",
    "call",
    "check",
    "claim",
    "exercise",
    "first_match",
    "material",
    "near",
    "number",
    "numbers",
    "shape_or_type",
]

# Narrower than a page of JupyterLab, which would break a longer line inside a word.
_WIDTH = 88
# Escape codes of bold green, red and yellow: notebooks, their HTML and terminals show them.
_INK = {"✓": "\x1b[1;32m{}\x1b[0m", "✗": "\x1b[1;31m{}\x1b[0m", "○": "\x1b[1;33m{}\x1b[0m"}
_IDLE = {"RESUME", "NOP", "COPY_FREE_VARS"}
_RETURN = {"LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "LOAD_COMMON_CONSTANT"}
Verdict = str | tuple[str, dict[str, Any]]
_CHECKS: dict[str, tuple[Callable[..., Verdict], dict[str, str]]] = {}

GENERIC = {
    "not attempted": "○ {id} not attempted yet: replace the `...`",
    "right": "✓ {id}: {text}",
    "wrong": "✗ {id}: {text}",
    "raised": "your code stopped with {kind}: {error}",
    "returned nothing": "your function returned None. Does it end in `return …`?",
    "not a function": "I expected a function here, and got {kind}.",
    "not a number": "I expected a number here, and got {kind}.",
    "not understood": "I cannot read your answer, a {kind}: checking it stopped with {error}. Is "
    "it of the kind that the exercise asks for?",
}


class NotAttempted(Exception):
    """The learner's answer still holds a `...`."""


class Wrong(Exception):
    """Ends a check early with a key of the message table (or of `GENERIC`) and its values."""

    def __init__(self, key: str, **values):
        super().__init__(key)
        self.key, self.values = key, values


def exercise(id: str, messages: dict[str, str]):
    """Register a check: `@exercise("images.2", MESSAGES["images.2"])` above its function."""
    if "right" not in messages or len(messages) < 3:
        raise MedlabError(f"exercise {id} needs the message 'right' and at least two diagnoses")

    def register(function):
        if id in _CHECKS:
            raise MedlabError(f"exercise {id} is registered twice")
        _CHECKS[id] = function, messages
        return function

    return register


def check(id: str, answer: Any, **given) -> None:
    """Say whether an answer is right and, if not, what probably went wrong. Raises nothing.

    Args:
        id: topic and number of the exercise, as in "images.2".
        answer: a value or a function, as the exercise asks; `...` while it is not attempted.
        given: values of the notebook that the exercise refers to.

    Raises:
        MedlabError: an id that no exercise has.
    """
    topic = id.partition(".")[0]
    _module(topic)
    if id not in _CHECKS:
        known = sorted(name for name in _CHECKS if name.startswith(f"{topic}."))
        topics = sorted({name.partition(".")[0] for name in _CHECKS})
        said = f"those of {topic}" if known else "topics known so far"
        raise MedlabError(
            f"there is no exercise {id!r}; {said}: {', '.join(known or topics) or 'none'}"
        )
    function, messages = _CHECKS[id]
    try:
        if _is_stub(answer):
            raise NotAttempted
        verdict = _verdict(function, answer, given)
        key, values = (verdict, {}) if isinstance(verdict, str) else verdict
    except NotAttempted:
        _say(GENERIC["not attempted"].format(id=id))
        return
    except Wrong as wrong:
        key, values = wrong.key, wrong.values
    text = (messages[key] if key in messages else GENERIC[key]).format(**values)
    _say(GENERIC["right" if key == "right" else "wrong"].format(id=id, text=text))


def _verdict(function: Callable[..., Verdict], answer: Any, given: dict[str, Any]) -> Verdict:
    """What a check says of an answer, also of one of a kind that it never thought of."""
    try:
        return function(answer, **given)
    except (NotAttempted, Wrong):
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise Wrong("not understood", kind=type(answer).__name__, error=told) from error


def material(topic: str, **which: Any) -> Any:
    """What a topic's exercises work on, where the page would give an answer away if it held it.

    Args:
        topic: as in the ids of its exercises.
        which: what that topic's `material` asks for, as `version=2`.

    Raises:
        MedlabError: a topic without material.
    """
    found = getattr(_module(topic), "material", None)
    if found is None:
        raise MedlabError(f"the exercises of {topic!r} have no material")
    return found(**which)


def _module(topic: str) -> ModuleType | None:
    """The file of a topic, whose import registers its exercises; None if there is none."""
    if topic.isidentifier() and find_spec(f"medlab.exercises.{topic}"):
        return import_module(f"medlab.exercises.{topic}")
    return None


def claim(text: str, condition: Any) -> None:
    """Print "✓ text" if the condition holds; otherwise raise, so that no false sentence is stored.

    Raises:
        AssertionError: the condition is false.
    """
    if not bool(condition):
        raise AssertionError(
            f"✗ {text}: not so in this run. If you changed the experiment, or stopped a cell above "
            "before its end, the sentence need not hold, and why is worth understanding. If you "
            "changed nothing, please report it."
        )
    _say(f"✓ {text}")


def _say(text: str) -> None:
    """Print lines that end between words, their sign in colour where colours can be shown."""
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(
            line, _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="  "
        )
        or [""]
    ]
    sign, rest = lines[0][0], lines[0][1:]
    ink = _INK[sign] if _in_colour() else "{}"
    print("\n".join([ink.format(sign) + rest, *lines[1:]]))


def _in_colour() -> bool:
    """Whether output goes to a notebook or a terminal, and nobody asked for none."""
    if os.environ.get("NO_COLOR"):
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel") or sys.stdout.isatty()


def call(function: Any, *args, **kwargs) -> Any:
    """The learner's function applied to arguments, its faults turned into sentences.

    Raises:
        NotAttempted: it returned `...`.
        Wrong: it is no function, raised, or returned None.
    """
    if not callable(function):
        raise Wrong("not a function", kind=type(function).__name__)
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # whatever a learner's code raises is told, never passed over
        raise Wrong("raised", kind=type(error).__name__, error=error) from error
    if result is ...:
        raise NotAttempted
    if result is None:
        raise Wrong("returned nothing")
    return result


def near(answer: Any, expected: Any, *, rel: float = 1e-3, absolute: float = 1e-6) -> bool:
    """True if a number, array or tensor has the expected shape and values."""
    got, want = array_of(answer), array_of(expected)
    return got.shape == want.shape and np.allclose(got, want, rtol=rel, atol=absolute)


def first_match(answer: Any, wrong: dict[str, Any], **tolerance: float) -> str:
    """The first diagnosis in `wrong` whose result is `near` the learner's, else "other"."""
    return next((key for key, value in wrong.items() if near(answer, value, **tolerance)), "other")


def number(answer: Any) -> float:
    """The answer as one number; `Wrong` if it is anything else."""
    array = array_of(answer)
    if array.size != 1:
        raise Wrong("not a number", kind=f"{type(answer).__name__} of shape {array.shape}")
    return array.item()


def numbers(answer: Any) -> torch.Tensor:
    """The answer's numbers as a tensor of its shape; `NotAttempted` if one of a list is a `...`.

    What holds no numbers is `Wrong` with the exercise's own message "format".
    """
    if torch.is_tensor(answer):
        return answer
    if isinstance(answer, (list, tuple)):
        if any(entry is ... for entry in answer):
            raise NotAttempted
        answer = [number(entry) for entry in answer]
    try:
        return torch.as_tensor(np.asarray(answer, float))
    except (TypeError, ValueError):
        raise Wrong("format", got=type(answer).__name__) from None


def as_array(answer: Any) -> np.ndarray:
    """The answer as numbers of its shape; what holds none is an empty array (0, 0, 0)."""
    if torch.is_tensor(answer):
        answer = answer.detach().cpu()
    try:
        return np.asarray(answer, float)
    except (TypeError, ValueError):
        return np.full((0, 0, 0), np.nan)


def shape_or_type(answer: Any) -> str:
    """What came, for a message: the shape of its numbers, or its type if it holds none."""
    found = as_array(answer).shape
    return type(answer).__name__ if found == (0, 0, 0) else f"shape {found}"


def array_of(answer: Any) -> np.ndarray:
    """The answer's numbers, of their shape; `Wrong` if it holds none."""
    try:
        return np.asarray(answer.detach().cpu() if torch.is_tensor(answer) else answer, float)
    except (TypeError, ValueError):
        raise Wrong("not a number", kind=type(answer).__name__) from None


def _is_stub(answer: Any) -> bool:
    if isinstance(answer, FunctionType):
        steps = [step for step in dis.get_instructions(answer) if step.opname not in _IDLE]
        return all(step.opname in _RETURN and step.argval in (None, ...) for step in steps)
    if isinstance(answer, type):
        methods = [v for v in vars(answer).values() if isinstance(v, FunctionType)]
        return bool(methods) and all(map(_is_stub, methods))
    if isinstance(answer, (tuple, list)):
        return any(_is_stub(a) for a in answer)
    return answer is ...
