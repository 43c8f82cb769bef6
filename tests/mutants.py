"""Wrong answers made from right ones: one operation of a solution is changed at a time.

A check that calls a changed answer right is blind to that operation, unless the change makes no
difference. A test of a topic lists those that make none, by name:

    assert ticked("15_deeper_networks", "deeper") == ["deeper.2: eps=1e-05 → eps=1.00001"]
"""

from __future__ import annotations

import ast
import contextlib
import io
import signal
import warnings
from collections.abc import Collection, Iterator
from copy import copy

import nbformat
import torch

from notebooks.edition import is_solution, solution_code
from tests.where import ROOT

__all__ = ["mutants", "ticked"]

OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
PAIRS = (
    "min max, amin amax, argmin argmax, minimum maximum, fmin fmax, cummin cummax, mean sum, "
    "mean median, any all, floor ceil, std var, zeros ones, zeros_like ones_like, train eval, "
    "append extend, rand randn, sin cos, exp log, cumsum cumprod, nanmean nansum, real imag, "
    "union intersection, floor round, argsort sort, conv2d conv_transpose2d, BatchNorm2d Identity"
)
RENAMED: dict[str, list[str]] = {}
for _pair in PAIRS.split(", "):
    _one, _other = _pair.split()
    RENAMED.setdefault(_one, []).append(_other)
    RENAMED.setdefault(_other, []).append(_one)
# Methods that leave the values as they are
HARMLESS = frozenset("clone contiguous copy cpu detach double float item long numpy tolist".split())
# What is no operation of the answer, or no place to look for one
LEFT_ALONE = ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Pass
UNREAD = frozenset(("annotation", "returns", "decorator_list", "ctx", "type_params"))


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Every variant of some code in which one operation is another.

    Changed are operators and comparisons, numbers (±1), True and False, signs, `not`, `and`, names
    such as min/max and mean/sum, the order of arguments, operands and indices, bounds of ranges and
    slices, conditions and branches; left out are, one at a time, statements, keyword arguments, the
    last argument, methods without arguments, and one of the entries of a tuple of numbers.
    The call of `check`, imports, annotations and texts stay.

    Args:
        source: Python code that can be parsed.

    Yields:
        (name, code): a name such as "n = a + b → n = a - b", unique, and the whole variant. No
        two variants are equal, and none equals the source.
    """
    tree = ast.parse(source)
    before = ast.unparse(tree)
    seen, names = {before}, set()
    for parent, field, place, child in list(_slots(tree)):
        for changed in _changes(child, parent, field):
            _put(parent, field, place, changed)
            after = ast.unparse(ast.fix_missing_locations(tree))
            _put(parent, field, place, child)
            if after in seen:
                continue
            seen.add(after)
            name, count = _difference(before, after), 1
            while (told := name if count == 1 else f"{name} ({count})") in names:
                count += 1
            names.add(told)
            yield told, after


def ticked(
    notebook: str,
    topic: str,
    *,
    cells: Collection[str] = ("imports",),
    without: Collection[str] = (),
    seconds: float = 5.0,
) -> list[str]:
    """The changed solutions of a notebook that their check still calls right.

    Each runs in a namespace of its own in which the notebook's `cells` have run, and counts as
    wrong if it raises or takes longer than it may.

    Args:
        notebook: name of a file in notebooks/, without its ending.
        topic: of its exercises.
        cells: ids of the code cells on which the solutions rest, in their order.
        without: ids of exercises left out, such as "deeper.6".
        seconds: what one variant may take.

    Returns:
        "topic.k: name of the variant", sorted.

    Raises:
        AssertionError: no solutions, or one that is not called right as it stands.
    """
    page = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    sources = {cell.id: cell.source for cell in page.cells if cell.cell_type == "code"}
    given = "\n".join(sources[name] for name in cells)
    found, tried = [], 0
    for cell in filter(is_solution, page.cells):
        code = solution_code(cell)
        numbers = [n for n in range(1, 20) if f'check("{topic}.{n}"' in code]
        assert len(numbers) == 1, f"{cell.id} holds no solution of {topic}"
        exercise = f"{topic}.{numbers[0]}"
        if exercise in without:
            continue
        said = _said(given, code, 12 * seconds)
        assert "✓" in said, f"the solution of {exercise} gets no ✓: {said}"
        tried += 1
        found += [
            f"{exercise}: {name}"
            for name, changed in mutants(code)
            if "✓" in _said(given, changed, seconds)
        ]
    assert tried, f"{notebook} has no solutions of {topic}"
    return sorted(found)


class _TooLong(BaseException):
    """Not caught by what reports a learner's errors."""


def _said(given: str, code: str, seconds: float) -> str:
    """What code prints, run after what is given, or the name of the error that ended it."""

    def stop(*_):
        raise _TooLong

    said, errors = io.StringIO(), io.StringIO()
    names: dict = {"__name__": "answer"}
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(errors),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            exec(compile(given, "given", "exec"), names)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            exec(compile(code, "answer", "exec"), names)
    except (Exception, SystemExit, _TooLong) as error:  # noqa: BLE001 - any fault is wrong
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return said.getvalue()


# ------------------------------------------------------------------------------------ the changes


def _slots(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every place below a node that holds a node: its parent, field, index and what is there."""
    for field, value in ast.iter_fields(node):
        if field in UNREAD:
            continue
        several = isinstance(value, list)
        for place, child in enumerate(value if several else [value]):
            if isinstance(child, ast.AST) and not _is_check(child):
                yield node, field, place if several else None, child
                yield from _slots(child)


def _is_check(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check"


def _put(parent: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[place] = node


def _changes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """What could stand in place of a node by mistake; the node itself is not changed."""
    for kind in OPERATORS.get(type(node), ()):
        yield kind()
    if isinstance(node, ast.stmt) and not isinstance(node, LEFT_ALONE):
        yield ast.Pass()
    if isinstance(node, ast.Continue):
        yield ast.Break()
    if isinstance(node, ast.AugAssign):
        yield ast.Assign(targets=[node.target], value=node.value)
    if field == "test" and not isinstance(parent, ast.Assert):
        yield ast.UnaryOp(ast.Not(), node)
    if field == "ifs":
        yield ast.Constant(value=True)
    if field == "slice" and isinstance(node, ast.Name):
        yield from _shifted(node)
    if isinstance(node, ast.expr):
        yield from _expressions(node)


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield from (ast.Constant(value=value + by) for by in (1, -1) if value + by >= 0)
        case ast.UnaryOp(operand=operand):  # a sign, `not` or `~`
            yield operand
        case ast.BinOp(left=left, op=op, right=right):
            if not isinstance(op, ast.Add | ast.Mult):
                yield ast.BinOp(right, op, left)
            yield from (left, right)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Name(id=name, ctx=ast.Load()):
            yield from (ast.Name(other, ast.Load()) for other in RENAMED.get(name, ()))
        case ast.Attribute(value=value, attr=name):
            yield from (_with(node, attr=other) for other in RENAMED.get(name, ()))
            if name in ("T", "mT"):
                yield value
        case ast.Tuple(elts=[first, second, *rest]) | ast.List(elts=[first, second, *rest]):
            yield _with(node, elts=[second, first, *rest])
            if all(isinstance(e, ast.Constant) for e in node.elts):
                for k in range(len(node.elts)):
                    yield _with(node, elts=node.elts[:k] + node.elts[k + 1 :])
        case ast.Slice(lower=lower, upper=upper):
            for name, bound, other in (("lower", lower, 1), ("upper", upper, -1)):
                if bound is None:
                    yield _with(node, **{name: ast.Constant(value=other)})
                else:
                    yield _with(node, **{name: None})
                    yield from (_with(node, **{name: moved}) for moved in _shifted(bound))
        case ast.Call():
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    args, function = node.args, node.func
    for k in range(len(args) - 1):
        yield _with(node, args=[*args[:k], args[k + 1], args[k], *args[k + 2 :]])
    for k in range(len(node.keywords)):
        yield _with(node, keywords=node.keywords[:k] + node.keywords[k + 1 :])
    if args:
        yield _with(node, args=args[:-1])
    if isinstance(function, ast.Name) and function.id == "range":
        for k, bound in enumerate(args):
            for moved in _shifted(bound):
                yield _with(node, args=[*args[:k], moved, *args[k + 1 :]])
        if len(args) == 1:
            yield _with(node, args=[ast.Constant(value=1), *args])
    if isinstance(function, ast.Attribute) and not args and function.attr not in HARMLESS:
        yield function.value


def _shifted(node: ast.expr) -> Iterator[ast.expr]:
    """One more and one less; of a plain number, `_expressions` makes both."""
    if not isinstance(node, ast.Constant):
        yield ast.BinOp(node, ast.Add(), ast.Constant(value=1))
        yield ast.BinOp(node, ast.Sub(), ast.Constant(value=1))


def _with(node: ast.expr, **fields: object) -> ast.expr:
    """A copy of a node with other fields."""
    other = copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _difference(before: str, after: str) -> str:
    """The first and the last line that differ, before and after."""
    old, new = before.split("\n"), after.split("\n")
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return f"{_short(old)} → {_short(new)}"


def _short(lines: list[str]) -> str:
    return " … ".join(dict.fromkeys(line.strip() for line in (*lines[:1], *lines[-1:])))
