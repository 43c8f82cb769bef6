"""What tests of exercises share: learners who wrote nothing, whose code breaks, who are hasty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from medlab.exercises import check

__all__ = [
    "broken",
    "gap",
    "hasty",
    "is_told",
    "is_told_what_is_no_answer",
    "prints",
    "stub",
    "unheard",
]


def stub(*args, **kwargs): ...


def gap(*args, **kwargs):
    return ...
    return args[9]


def broken(*args, **kwargs):
    return args[9]


def prints(*args, **kwargs):
    print(end="")


def hasty(answer: Callable) -> Callable:
    """The same answer, and afterwards zeros in whatever it was given."""

    def spoils(*args):
        result = answer(*args)
        for arg in args:
            if hasattr(arg, "shape"):
                arg[...] = 0
        return result

    return spoils


def is_told(id: str, answer: Any, said: str, capsys: Any) -> None:
    """The check of an answer says so, with a ✓ only where that is what it should say."""
    check(id, answer)
    out = " ".join(capsys.readouterr().out.split())
    assert said in out
    assert out.startswith(f"✓ {id}:" if said == "✓" else f"✗ {id}:")


def is_told_what_is_no_answer(id: str, capsys: Any) -> None:
    """Nothing written is not attempted; code that breaks or prints, and a number, are wrong."""
    for untouched in (stub, gap, ...):
        check(id, untouched)
        assert capsys.readouterr().out.startswith(f"○ {id} not attempted yet")
    for answer, said in (
        (broken, "your code stopped with IndexError"),
        (prints, "your function returned None"),
        (3, "expected a function"),
    ):
        check(id, answer)
        assert said in capsys.readouterr().out


def unheard(
    messages: Mapping[str, Mapping[str, str]],
    cases: Iterable[tuple],
    capsys: Any,
    given: Callable[[str], dict] = lambda id: {},
) -> list[str]:
    """Messages that no case of (id, answer, …) brings up, "id key" each."""
    capsys.readouterr()
    for id, answer, *_ in cases:
        check(id, answer, **given(id))
    said = " ".join(capsys.readouterr().out.split())
    return [
        f"{id} {key}"
        for id, table in messages.items()
        for key, text in table.items()
        if max((part.split("{")[0] for part in text.split("}")), key=len).strip() not in said
    ]
