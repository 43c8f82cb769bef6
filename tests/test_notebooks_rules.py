"""Each rule for notebooks passes a model notebook and sees the damage that it is there for."""

from __future__ import annotations

import base64
import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import medlab.exercises
from medlab import plotting
from notebooks.execute import COVER
from notebooks.fork import badge, edition, repository, setup_cell
from tests import notebook_rules
from tests.notebook_rules import RULES, Page
from tests.where import ROOT

NAME = "03_convolution.ipynb"
ALT = "A grey square on a white ground, brighter towards its lower edge."
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(200)).decode()


TRAIN = """DATASET = "chest_xray"
DATASET = os.environ.get("MEDLAB_DATASET", DATASET)
history = medlab.fit(x)"""


def code(source, output="", **metadata):
    outputs = [new_output("stream", name="stdout", text=output)] if output else []
    return new_code_cell(source, outputs=outputs, metadata=metadata)


def figure(alt=ALT):
    """A figure and its caption, as `plotting.show` has them stored."""
    metadata = {"image/png": {"alt": alt, "width": 520}}
    data = {"image/png": PNG, "text/plain": "<Figure>"}
    caption = plotting.caption(alt)
    return [
        new_output("display_data", data, metadata=metadata),
        new_output("display_data", caption),
    ]


def folded(title, text):
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def exercise(k):
    name = f"convolution.{k}"
    solution = f'answer{k} = 1\nanswer{k} += 1\n\ncheck("{name}", answer{k})'
    hint = folded("Hint", "What is one and one, and how would you know?")
    return [
        new_markdown_cell(f"**Exercise {k}.** Write it."),
        code(f'answer{k} = ...\n\ncheck("{name}", answer{k})', f"○ {name} not attempted yet: …\n"),
        new_markdown_cell(
            hint + "\n\n" + folded("Solution", f"```python\n{solution}\n```"),
            metadata={"tags": ["solution"]},
        ),
    ]


HIDDEN = {"tags": ["hide-output"], "jupyter": {"outputs_hidden": True}}


def model() -> nbformat.NotebookNode:
    """The smallest notebook that keeps every rule."""
    address = repository(ROOT)
    head = (
        f"# Start here\n\nTrain something.\n\n{badge(address, NAME)}\n\n"
        "| Time | Needs | Before this | Data |\n|---|---|---|---|\n"
        "| about 45 minutes | 2 GB | - | - |\n\n"
        "## You will be able to\n\n- load\n- look\n- train\n"
    )
    cells = [new_markdown_cell(head), new_code_cell(setup_cell(address, edition(ROOT)), id="setup")]
    cells += [new_markdown_cell(f"## Words {k}\n\n" + "word " * 280) for k in range(5)]
    cells += [code(f"x{k} = {k}\nprint(x{k})", f"{k}\n") for k in range(8)]
    cells += [new_code_cell(TRAIN, outputs=figure())]
    cells += [new_markdown_cell("## Write\n\n**Predict.** What is 1 + 1?")]
    cells += [code("y = 1 + 1\nprint(y)", "2\n", **copy.deepcopy(HIDDEN))]
    cells[-1].outputs.insert(0, nbformat.from_dict(COVER))
    for k in (1, 2, 3, 4):
        cells += exercise(k)
    cells += [
        new_markdown_cell("## Common mistakes\n\nForgetting."),
        new_markdown_cell("## Summary\n\n| idea | code |\n|---|---|\n| a | b |"),
        new_markdown_cell("## Quiz\n\nWhat?\n\n" + folded("Answer", "That.")),
        new_markdown_cell("## Open questions\n\nWhy?\n\n" + folded("Outline", "So.")),
        new_markdown_cell(
            "## Further reading\n\n- A color title, https://doi.org/10.1000/a\n- 10.1000/b\n"
            "- 10.1000/c\n\nNext: more."
        ),
    ]
    notebook = new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = count
    return notebook


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """The model's exercises stand in for those of the real notebook."""
    known = {f"convolution.{k}": None for k in (1, 2, 3, 4)}
    monkeypatch.setattr(medlab.exercises, "_CHECKS", known)
    monkeypatch.setattr(notebook_rules, "find_spec", lambda name: name.endswith(".convolution"))
    monkeypatch.setattr(notebook_rules, "import_module", lambda name: None)


@pytest.mark.parametrize("rule", RULES)
def test_the_model_keeps_every_rule(rule):
    assert RULES[rule](Page(NAME, model())) == []


def cell_of(notebook, part):
    return next(cell for cell in notebook.cells if part in cell.source)


def replaced(old, new):
    def damage(notebook):
        cell = cell_of(notebook, old)
        cell.source = cell.source.replace(old, new)

    return damage


def said(part, text, name="stdout"):
    def damage(notebook):
        cell_of(notebook, part).outputs = [new_output("stream", name=name, text=text)]

    return damage


def tagged(part, *tags):
    def damage(notebook):
        cell_of(notebook, part).metadata["tags"] = list(tags)

    return damage


def figure_of(notebook):
    return cell_of(notebook, "DATASET").outputs[0]


def drop(part):
    def damage(notebook):
        notebook.cells.remove(cell_of(notebook, part))

    return damage


def ignore_many(notebook):
    for k in range(4):
        cell_of(notebook, f"x{k} =").metadata["tags"] = ["nbval-ignore-output"]


DAMAGE = {
    ("format_is_valid", "two cells of one id"): lambda n: n.cells[3].update(id="setup"),
    ("format_is_valid", "old format"): lambda n: n.update(nbformat_minor=4),
    ("size_is_bounded", "a huge figure"): lambda n: figure_of(n).data.update(
        {"image/png": "A" * 600_000}
    ),
    ("size_is_bounded", "a huge output"): said("x1 =", "a" * 2_100_000),
    ("metadata_is_clean", "widget states"): lambda n: n.metadata.update(widgets={}),
    ("metadata_is_clean", "timing"): lambda n: n.cells[3].metadata.update(execution={}),
    ("metadata_is_clean", "a kernel of one's own"): lambda n: n.metadata.kernelspec.update(
        name="mine"
    ),
    ("one_clean_run", "out of order"): lambda n: cell_of(n, "x1 =").update(execution_count=99),
    ("one_clean_run", "a warning"): said("x1 =", "UserWarning: no", name="stderr"),
    ("one_clean_run", "an empty cell"): lambda n: cell_of(n, "x1 =").update(source=" "),
    ("one_clean_run", "an error"): lambda n: cell_of(n, "x1 =").update(
        outputs=[new_output("error", ename="ValueError", evalue="", traceback=[])]
    ),
    ("few_outputs_are_ignored", "too many"): ignore_many,
    ("few_outputs_are_ignored", "skipped"): tagged("x1 =", "nbval-skip"),
    ("few_outputs_are_ignored", "raises"): tagged("x1 =", "raises-exception"),
    ("few_outputs_are_ignored", "by comment"): replaced("x1 = 1", "# NBVAL_IGNORE_OUTPUT\nx1 = 1"),
    ("badge_points_here", "another notebook's"): replaced(NAME, "01_how_images_are_made.ipynb"),
    ("setup_is_the_same", "edited"): replaced("import subprocess", "import subprocess, os"),
    ("setup_is_the_same", "no id"): lambda n: n.cells[1].update(id="other"),
    ("head_is_whole", "no table"): replaced("| Time |", "| Tempo |"),
    ("head_is_whole", "two things to learn"): replaced("- look\n- train\n", ""),
    ("head_is_whole", "no title"): replaced("# Start here", "Start here"),
    ("exercises_are_whole", "three left"): lambda n: [
        drop(part)(n) for part in ("answer4 = ...", "answer4 = 1", "**Exercise 4")
    ],
    ("exercises_are_whole", "no solution"): drop("answer2 = 1"),
    ("exercises_are_whole", "no hint"): replaced("What is one and one, and how", "How"),
    ("exercises_are_whole", "a solution in sight"): replaced(
        "<details><summary>Solution", "Solution"
    ),
    ("exercises_are_whole", "a solution without its check"): replaced(
        '1\nanswer2 += 1\n\ncheck("convolution.2"', '1\nanswer2 += 1\n\ncheck("convolution.3"'
    ),
    ("exercises_are_whole", "a solution to run"): lambda n: n.cells.append(
        code("answer1 = 2", tags=["solution"])
    ),
    ("exercises_are_whole", "a failed check"): said("x1 =", "✗ convolution.2: no"),
    ("exercises_are_whole", "stub is solved"): said("answer2 = ...", "✓ convolution.2: yes"),
    ("exercises_are_whole", "no stub"): replaced("answer2 = ...", "answer2 = 3"),
    ("exercises_are_whole", "no statement"): replaced("**Exercise 2.** Write it.", "Write it."),
    ("exercises_are_whole", "another topic"): lambda n: [
        replaced(f'check("convolution.{k}"', f'check("other.{k}"')(n) for k in (1, 2, 3, 4)
    ],
    ("exercises_are_registered", "an unknown one"): replaced(
        '...\n\ncheck("convolution.2"', '...\n\ncheck("convolution.9"'
    ),
    ("nothing_needs_an_answer", "a later cell does"): lambda n: n.cells.append(
        code("print(answer3 + 1)", "3\n")
    ),
    ("predictions_stay_open", "told in sight"): lambda n: cell_of(n, "y = 1").metadata.clear(),
    ("predictions_stay_open", "first line shown"): lambda n: cell_of(n, "y = 1").outputs.pop(0),
    ("predictions_stay_open", "tagged, not folded"): lambda n: cell_of(n, "y = 1").metadata.pop(
        "jupyter"
    ),
    ("predictions_stay_open", "folded without a question"): lambda n: cell_of(
        n, "x2 ="
    ).metadata.update(HIDDEN),
    ("one_sitting", "a long section"): replaced("## Words 2", "Words"),
    ("one_sitting", "two sittings"): replaced("about 45 minutes", "about 76 minutes"),
    ("one_sitting", "no time of its own"): replaced("about 45 minutes", "45 min to read"),
    ("one_sitting", "no quiz"): replaced("## Quiz", "## Other"),
    ("one_sitting", "questions without answers"): replaced("<details><summary>Outline", "Outline"),
    ("one_sitting", "the learner watches"): lambda n: [
        n.cells.append(code("z = 1\n" * 20 + "z")) for _ in range(2)
    ],
    ("measure_is_kept", "too short"): lambda n: [drop(f"## Words {k}")(n) for k in (1, 2)],
    ("measure_is_kept", "too long"): lambda n: [
        n.cells.insert(2, new_markdown_cell("word " * 280)) for _ in range(4)
    ],
    ("measure_is_kept", "a long cell"): replaced("x1 = 1", "x1 = 1\n" * 31),
    ("measure_is_kept", "a long line"): replaced("x1 = 1", "x1 = 1  # " + "a" * 90),
    ("measure_is_kept", "a wide drawing"): replaced(
        "## Words 2", "## Words 2\n\n```\n" + "─" * 89 + "\n```"
    ),
    ("measure_is_kept", "a hidden value"): replaced("x1 = 1", "x1;"),
    ("measure_is_kept", "a shell line"): replaced("x1 = 1", "!pip install medlab"),
    ("measure_is_kept", "few cells"): lambda n: [drop(f"x{k} =")(n) for k in range(5)],
    ("one_dataset_line", "none"): replaced('DATASET = "', 'data = "'),
    ("one_dataset_line", "two"): replaced("history", 'DATASET = "b"\nhistory'),
    ("one_dataset_line", "fixed"): replaced("MEDLAB_DATASET", "OTHER"),
    ("head_is_whole", "nothing listed"): replaced("- load\n- look\n- train\n", "Learn.\n"),
    ("figures_have_alt_text", "none"): lambda n: figure_of(n).metadata.clear(),
    ("figures_have_alt_text", "a text that tells"): lambda n: figure_of(n).data.update(
        {"text/plain": f"<Figure: {ALT}>"}
    ),
    ("figures_have_alt_text", "no caption"): lambda n: cell_of(n, "DATASET").outputs.pop(),
    ("figures_have_alt_text", "another caption"): lambda n: cell_of(n, "DATASET").outputs.append(
        cell_of(n, "DATASET").outputs.pop() | {"data": {"text/html": "<p>Other</p>"}}
    ),
    ("figures_have_alt_text", "a width of its own"): lambda n: (
        figure_of(n).metadata["image/png"].update(width=333)
    ),
    ("one_dataset_line", "silent"): replaced("medlab.fit(x)", "medlab.fit(x, progress=False)"),
    ("outputs_are_portable", "a macro of no use"): replaced("Forgetting.", r"$\operatorname{Var}$"),
    ("outputs_are_portable", "a duration"): said("x1 =", "trained, took 12 s"),
    ("outputs_are_portable", "a time of day"): said("x1 =", "12:30:59"),
    ("outputs_are_portable", "a path"): said("x1 =", "saved to /home/ada/weights"),
    ("outputs_are_portable", "an object"): said("x1 =", "<Thing object at 0x7f3b12345678>"),
    ("outputs_are_portable", "a path in the text"): replaced(
        "Forgetting.", "Look in /tmp/weights."
    ),
    ("spelling_is_british", "color"): replaced("Forgetting.", "The color."),
    ("spelling_is_british", "normalize"): replaced("Forgetting.", "Forgetting to normalize."),
    ("links_lead_somewhere", "nowhere"): replaced("Forgetting.", "See [there](99_nothing.ipynb)."),
    ("formulas_are_whole", "cut at its %"): replaced("Forgetting.", r"By $n = \text{95 % of } N$."),
    ("sections_are_there", "no mistakes"): replaced("## Common mistakes", "## Other"),
    ("sections_are_there", "no DOI"): replaced("10.1000/c", "c"),
    ("sections_are_there", "no table"): replaced("| idea | code |\n|---|---|\n| a | b |", "a"),
    ("sections_are_there", "nothing to predict"): replaced("**Predict.** ", ""),
    ("sections_are_there", "no next"): replaced("Next: more.", ""),
    ("sections_are_there", "a heading too deep"): replaced("## Summary", "#### Summary"),
}


@pytest.mark.parametrize(("rule", "name"), DAMAGE)
def test_the_rule_sees_the_damage(rule, name):
    notebook = copy.deepcopy(model())
    DAMAGE[rule, name](notebook)
    assert RULES[rule](Page(NAME, notebook)), f"{rule} is blind to: {name}"


def test_every_rule_is_tried():
    assert {rule for rule, _ in DAMAGE} == set(RULES)


@pytest.mark.parametrize(
    "text",
    ["The grey of one gray (1 Gy), colour, centre, `normalize`, $\\text{color}$", "prized, sized"],
)
def test_british_words_pass(text):
    notebook = model()
    replaced("Forgetting.", text)(notebook)
    assert RULES["spelling_is_british"](Page(NAME, notebook)) == []


def double() -> nbformat.NotebookNode:
    """Twice the model's measure, and the heading that parts it."""
    notebook = model()
    replaced("about 45 minutes", "about 60 and 75 minutes")(notebook)
    half = [new_markdown_cell("## Half-time\n\nA break.")]
    half += [new_markdown_cell(f"## More {k}\n\n" + "word " * 280) for k in range(5)]
    notebook.cells[2:2] = [code(f"v{k} = {k}\nprint(v{k})", f"{k}\n") for k in range(8)]
    notebook.cells[2:2] = [*half[1:], half[0]]
    notebook.cells[2:2] = [code(f"u{k} = {k}\nprint(u{k})", f"{k}\n") for k in range(13)]
    return notebook


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("measure_is_kept", None),
        ("one_sitting", None),
        ("measure_is_kept", replaced("## Half-time", "## Time")),
        ("measure_is_kept", drop("## More 1")),
        ("measure_is_kept", lambda n: [
            n.cells.insert(3, new_markdown_cell("word " * 280)) for _ in range(4)
        ]),
        ("measure_is_kept", lambda n: [n.cells.insert(3, code("w = 1")) for _ in range(12)]),
        ("one_sitting", replaced("60 and 75", "60 and 76")),
        ("one_sitting", replaced("60 and 75", "76 and 60")),
        ("one_sitting", replaced("60 and 75", "75")),
    ],
)  # fmt: skip
def test_a_double_sitting_keeps_the_measure_in_each_half(rule, damage):
    notebook = double()
    if damage:
        damage(notebook)
    found = RULES[rule](Page("33_" + NAME[3:], notebook))
    minutes = [line for line in found if "learner writes" not in line]
    assert bool(minutes) == bool(damage), found
    if not damage:
        assert RULES[rule](Page(NAME, notebook)), "only a double sitting may be as long"
