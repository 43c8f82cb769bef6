"""The generator of wrong answers: it leaves no operation out, and a blind check is found."""

import ast

import nbformat
import pytest

from tests import mutants as maker
from tests.mutants import mutants, ticked

SOURCE = """
from math import pi

def area(x, w, n=2):
    \"\"\"Text.\"\"\"
    total = 0.5
    for i in range(n):
        total += x[i] * w[1:, n]
        if i < n and (not n):
            continue
    good = [v for v in x if v > 0]
    return x.mean(dim=(0, 2), keepdim=True) - min(total, -w) if n == 3 else f(x, n)

check("toy.1", area)
"""
EXPECTED = [
    "total = 0.5 → total = 1.5",
    "total = 0.5 → pass",
    "total += x[i] * w[1:, n] → total -= x[i] * w[1:, n]",
    "total += x[i] * w[1:, n] → total = x[i] * w[1:, n]",
    "total += x[i] * w[1:, n] → total += x[i] / w[1:, n]",
    "total += x[i] * w[1:, n] → total += w[1:, n]",
    "total += x[i] * w[1:, n] → total += x[i + 1] * w[1:, n]",
    "total += x[i] * w[1:, n] → total += x[i] * w[2:, n]",
    "total += x[i] * w[1:, n] → total += x[i] * w[:, n]",
    "total += x[i] * w[1:, n] → total += x[i] * w[n, 1:]",
    "for i in range(n): → for i in range(n - 1):",
    "for i in range(n): → for i in range(1, n):",
    "def area(x, w, n=2): → def area(x, w, n=3):",
    "if i < n and (not n): → if i <= n and (not n):",
    "if i < n and (not n): → if i < n or not n:",
    "if i < n and (not n): → if i < n and n:",
    "continue → break",
    "good = [v for v in x if v > 0] → good = [v for v in x if v >= 0]",
    "good = [v for v in x if v > 0] → good = [v for v in x if True]",
]
RETURNS = [
    "x.sum(dim=(0, 2), keepdim=True) - min(total, -w) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 3), keepdim=True) - min(total, -w) if n == 3 else f(x, n)",
    "x.mean(dim=(0,), keepdim=True) - min(total, -w) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 2), keepdim=False) - min(total, -w) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 2)) - min(total, -w) if n == 3 else f(x, n)",
    "x.mean(keepdim=True) - min(total, -w) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 2), keepdim=True) + min(total, -w) if n == 3 else f(x, n)",
    "min(total, -w) - x.mean(dim=(0, 2), keepdim=True) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 2), keepdim=True) - max(total, -w) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 2), keepdim=True) - min(total, w) if n == 3 else f(x, n)",
    "x.mean(dim=(0, 2), keepdim=True) - min(total, -w) if n != 3 else f(x, n)",
    "x.mean(dim=(0, 2), keepdim=True) - min(total, -w) if n == 3 else f(n, x)",
    "x.mean(dim=(0, 2), keepdim=True) - min(total, -w) if n == 3 else f(x)",
]


def test_every_kind_of_operation_is_changed():
    names = {name for name, _ in mutants(SOURCE)}
    assert set(EXPECTED) <= names
    after = {name.split(" → return ")[-1] for name in names if name.startswith("return")}
    assert set(RETURNS) <= after


def test_variants_parse_differ_and_keep_check_imports_and_texts():
    found = list(mutants(SOURCE))
    assert len({name for name, _ in found}) == len({code for _, code in found}) == len(found)
    assert ast.unparse(ast.parse(SOURCE)) not in {code for _, code in found}
    for _, code in found:
        ast.parse(code)
        assert code.startswith("from math import pi")
        assert code.endswith("check('toy.1', area)")


def test_what_is_written_once_changes_once_each_time():
    assert [name for name, _ in mutants("y = x")] == ["y = x → pass"]
    assert [code for _, code in mutants("y = a\ny = a\ncheck('t.1', y)")] == [
        "pass\ny = a\ncheck('t.1', y)",
        "y = a\npass\ncheck('t.1', y)",
    ]


def notebook(tmp_path, monkeypatch, solution, imports="from medlab import check"):
    cells = [
        nbformat.v4.new_code_cell(imports, id="imports"),
        nbformat.v4.new_markdown_cell(
            f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>",
            id="answer",
            metadata={"tags": ["solution"]},
        ),
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "toy.ipynb")
    monkeypatch.setattr(maker, "ROOT", tmp_path)


BLIND = "def check(id, value):\n    print('✓' if value {test} else '✗')"


def test_a_blind_check_is_told_and_a_seeing_one_is_not(tmp_path, monkeypatch):
    notebook(tmp_path, monkeypatch, 'y = 3 - 2\ncheck("toy.1", y)', BLIND.format(test="< 2"))
    assert ticked("toy", "toy") == [
        "toy.1: y = 3 - 2 → y = 2 - 2",
        "toy.1: y = 3 - 2 → y = 2 - 3",
        "toy.1: y = 3 - 2 → y = 3 - 3",
    ]


def test_a_check_that_sees_lets_nothing_pass(tmp_path, monkeypatch, capsys):
    notebook(tmp_path, monkeypatch, 'y = 3 - 2\ncheck("toy.1", y)', BLIND.format(test="== 1"))
    assert ticked("toy", "toy") == []
    assert capsys.readouterr() == ("", "")


def test_endless_answers_and_exits_are_wrong(tmp_path, monkeypatch):
    code = "n = 3\nwhile n > 0:\n    n -= 1\nif n == 1:\n    raise SystemExit\n"
    notebook(tmp_path, monkeypatch, f'{code}check("toy.1", n)', BLIND.format(test="== 0"))
    names = ticked("toy", "toy", seconds=0.1)
    assert "toy.1: n -= 1 → n += 1" not in names
    assert "toy.1: n = 3 → n = 4" in names  # no difference: the list is for such


def test_a_solution_that_is_wrong_itself_is_told(tmp_path, monkeypatch):
    notebook(tmp_path, monkeypatch, 'y = 3\ncheck("toy.1", y)', BLIND.format(test="== 1"))
    with pytest.raises(AssertionError, match="toy.1 gets no ✓"):
        ticked("toy", "toy")
    with pytest.raises(AssertionError, match="no solutions"):
        ticked("toy", "toy", without=["toy.1"])
