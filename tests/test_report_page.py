"""A model card shows what the run computed, and refuses gaps and numbers typed by hand."""

import dataclasses
import doctest
import re

import numpy as np
import pytest
import torch

from medlab.cohort import Cohort, DataCard
from medlab.errors import MedlabError
from medlab.metrics import Interval
from medlab.report import ModelCard, Sealed, fill
from medlab.report import envelope as sealing
from medlab.report import page as page_module
from medlab.report.page import SIMULATED, versions

REAL = DataCard(
    name="toy",
    title="Toy set",
    task="binary",
    classes=("well", "ill"),
    description="Ten pictures.",
    source="Somebody (2020)",
    faults=("Two are alike.", "One is upside down."),
)


def opened(card=REAL):
    images = torch.randint(0, 256, (10, 1, 16, 16), dtype=torch.uint8)
    test = Sealed(Cohort(images=images, labels=torch.arange(10) % 2, card=card))
    test.open("final evaluation")
    return test


def parts(**changes):
    sections = {
        "title": "toy detector",
        "details": {"architecture": "SmallCNN", "weights": 4242},
        "intended_use": ["Puts urgent images on top of the pile within 30 minutes."],
        "out_of_scope": ["Children under 2 years."],
        "factors": ["Hospital."],
        "protocol": {"success": "AUC of at least 0.85"},
        "data": REAL,
        "test": opened(),
        "results": {"AUC": Interval(0.91234, 0.85, 0.95, 0.95, 2000), "images": 10},
        "subgroups": {"women": Interval(0.9, 0.8, 0.97, 0.95)},
        "calibration": {"ECE": 0.043219},
        "threshold": {"threshold": 0.25, "rule": "chosen on validation"},
        "figures": {"small": Interval(0.61, 0.5, 0.72, 0.95), "missed": 17, "cost": 0.12345},
        "ethics": ["A miss waits longer."],
        "limits": ["Of small consolidations it finds {small}.", "It missed {missed} images."],
        "seed": 8,
    }
    return sections | changes


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(sealing, "_OPENED", [])


def test_the_card_shows_every_figure_as_the_run_gave_it():
    page = ModelCard(**parts()).to_markdown()
    assert "| AUC | 0.912 (95 % CI 0.850 to 0.950) |" in page
    assert "| images | 10 |" in page and "| ECE | 0.043 |" in page
    assert "- **weights**: 4242" in page and "- **seed**: 8" in page
    assert "- Of small consolidations it finds 0.610 (95 % CI 0.500 to 0.720)." in page
    assert "- It missed 17 images." in page
    assert "test set: opened once\n1. final evaluation (10 images)" in page
    assert "known fault: Two are alike." in page and "Somebody (2020)" in page
    assert "known fault: One is upside down." in page
    assert "| subgroup | value |\n|---|---|\n| women | 0.900 (95 % CI 0.800 to 0.970) |" in page


def test_its_sections_come_in_the_order_of_mitchell():
    headings = re.findall(r"^## (.+)$", ModelCard(**parts()).to_markdown(), re.M)
    assert headings[0] == "Model details" and headings[1] == "Intended use"
    assert headings[-1] == "Limits" and len(headings) == len(set(headings)) == 13


def test_versions_are_of_what_runs_here():
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    page = ModelCard(**parts()).to_markdown()
    assert all(f"- **{name}**: {v}" in page for name, v in versions().items())


def test_simulated_data_are_called_so_unasked():
    card = dataclasses.replace(REAL, simulated=True)
    page = ModelCard(**parts(data=card)).to_markdown()
    assert SIMULATED in page and "imulated, not clinical evidence" in page
    assert SIMULATED not in ModelCard(**parts()).to_markdown()


SECTIONS = [
    *("title", "details", "intended_use", "out_of_scope", "factors", "protocol", "results"),
    *("subgroups", "calibration", "threshold", "ethics", "limits"),
]


@pytest.mark.parametrize("name", SECTIONS)
def test_an_empty_section_is_refused_by_name(name):
    empty = type(parts()[name])()
    with pytest.raises(MedlabError, match=f"nothing under: {name.replace('_', ' ')}"):
        ModelCard(**parts(**{name: empty}))


def test_a_title_of_blanks_is_empty():
    with pytest.raises(MedlabError, match="nothing under: title"):
        ModelCard(**parts(title="  "))


@pytest.mark.parametrize("value", [[...], ["", "fine"], None, ...])
def test_a_section_left_open_is_empty_too(value):
    with pytest.raises(MedlabError, match="limits"):
        ModelCard(**parts(limits=value))


def test_all_gaps_are_named_at_once():
    with pytest.raises(MedlabError, match="factors, ethics, limits"):
        ModelCard(**parts(factors=[], ethics=[], limits=[]))


@pytest.mark.parametrize(
    "sentence",
    [
        "The AUC was 0.93.",
        "It finds 93 % of the ill.",
        "It finds 93% of the ill.",
        "It finds 93.5 per cent.",
        "It misses 4 percent.",
        "It found 47 of 50.",
        "It found 47 out of 50.",
        "An AUC of .93 was reached.",
    ],
)
@pytest.mark.parametrize("name", ["limits", "intended_use", "ethics", "factors", "out_of_scope"])
def test_a_result_typed_by_hand_is_refused(name, sentence):
    with pytest.raises(MedlabError, match="typed by hand"):
        ModelCard(**parts(**{name: [sentence]}))


@pytest.mark.parametrize(
    "sentence",
    [
        "Images of 28 pixels; read within 30 minutes; patients of 18 years and more.",
        "See Mitchell et al. (2019), doi 10.1145/3287560.3287596.",
        "See https://doi.org/10.1145/3287560.3287596 for more.",
        "Weights lie at https://example.org/release/0.93 for now.",
        "Of {missed} missed images, {small} were found by nobody.",
        "One of 3 hospitals.",
        "Made for 1.5 T scanners.",
        "Slices of 0.5 mm, voxels of 0.5 × 0.5 × 1.5 mm, exposures of .8 ms.",
        "From 3 of 5 sites; read by 2 of 3 readers.",
        "Tried with versions 1.1 and version 0.9.",
    ],
)
def test_other_numbers_may_stand(sentence):
    page = ModelCard(**parts(limits=[sentence])).to_markdown()
    if "{" not in sentence:
        assert f"- {sentence}" in page


@pytest.mark.parametrize(
    "sentence",
    [
        "It found 47 of 50 patients.",
        "At 1.5 T the AUC was 0.93.",
        "In 3 of 5 sites it found 93 % of them.",
        "It missed 3 of 5 at one of 3 sites.",
        "Of slices of 0.5 mm it misses 0.12 more.",
    ],
)
def test_a_size_or_a_number_of_sites_hides_no_result(sentence):
    with pytest.raises(MedlabError, match="typed by hand"):
        ModelCard(**parts(limits=[sentence]))


@pytest.mark.parametrize("inside", ["small.low", "small.nothing", "small[0]", "", "0", "large"])
def test_what_is_no_figure_gets_a_typed_error(inside):
    with pytest.raises(MedlabError, match="no figure.*passed are: small"):
        fill(f"It finds {{{inside}}} of them.", {"small": Interval(0.9, 0.8, 0.95, 0.95)})
    with pytest.raises(MedlabError, match="no figure"):
        fill("It finds {small:.2f}.", {"small": Interval(0.9, 0.8, 0.95, 0.95)})


@pytest.mark.parametrize("name", ["Siemens|3T", "a|b|c", "two\nlines", "ends in |"])
@pytest.mark.parametrize("section", ["results", "subgroups", "calibration", "threshold"])
def test_a_name_stays_in_its_cell(section, name):
    value = Interval(0.9, 0.8, 0.95, 0.95)
    page = ModelCard(**parts(**{section: {name: value}})).to_markdown()
    row = next(line for line in page.splitlines() if name.split()[0][:5] in line.replace("\\", ""))
    assert row.replace("\\|", "").count("|") == 3
    assert row.endswith(f"| {value} |")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.int64(5), "5"),
        (np.uint8(5), "5"),
        (torch.tensor(5), "5"),
        (torch.tensor(0.9), "0.900"),
        (torch.tensor([0.25]), "0.250"),
        (np.float32(0.9), "0.900"),
        (np.array(0.9), "0.900"),
        (3e-5, "3e-05"),
        (-3e-5, "-3e-05"),
        (0.0, "0.000"),
        (0.0005, "0.001"),
        (True, "True"),
        (np.bool_(True), "True"),
        (float("nan"), "nan"),
        ("a|b", "a\\|b"),
    ],
)
def test_numbers_of_any_kind_are_shown_as_numbers(value, shown):
    page = ModelCard(**parts(results={"it": value})).to_markdown()
    assert f"| it | {shown} |" in page
    if value != "a|b":
        assert fill("It is {it}.", {"it": value}) == f"It is {shown}."


def test_the_licence_of_the_data_is_told():
    card = dataclasses.replace(REAL, licence="CC-BY-NC-4.0")
    assert "Licence: CC-BY-NC-4.0." in ModelCard(**parts(data=card)).to_markdown()
    assert "Licence: not stated." in ModelCard(**parts()).to_markdown()


@pytest.mark.parametrize("name", ["limits", "intended_use", "ethics", "factors", "out_of_scope"])
def test_sentences_may_come_in_any_collection(name):
    for kind in (list, tuple, iter, dict.fromkeys, lambda found: (one for one in found)):
        card = ModelCard(**parts(**{name: kind(["A sentence.", "Another one."])}))
        for _ in range(2):
            assert "- A sentence.\n- Another one." in card.to_markdown()
    for empty in (iter([]), (one for one in ())):
        with pytest.raises(MedlabError, match="nothing under"):
            ModelCard(**parts(**{name: empty}))
    with pytest.raises(MedlabError, match="list of sentences"):
        ModelCard(**parts(**{name: ["A sentence.", 3]}))


def test_the_example_runs():
    found = doctest.testmod(page_module)
    assert found.attempted > 5 and not found.failed


def test_a_figure_that_was_not_passed_is_named():
    with pytest.raises(MedlabError, match=r"'large'.*passed are: small, missed, cost"):
        ModelCard(**parts(limits=["It finds {large}."]))
    with pytest.raises(MedlabError, match="figure"):
        ModelCard(**parts(limits=["It finds {}."]))
    with pytest.raises(MedlabError, match="figure"):
        ModelCard(**parts(limits=["It finds {small."]))


def test_one_string_is_not_a_list_of_sentences():
    with pytest.raises(MedlabError, match="list of sentences"):
        ModelCard(**parts(limits="It is small."))


def test_a_test_set_that_was_never_opened_has_no_results():
    images = torch.randint(0, 256, (10, 1, 16, 16), dtype=torch.uint8)
    closed = Sealed(Cohort(images=images, card=REAL))
    with pytest.raises(MedlabError, match="never opened"):
        ModelCard(**parts(test=closed))


def test_a_second_opening_stands_on_the_card(capsys):
    test = opened()
    test.open("one more idea")
    assert "opened twice" in ModelCard(**parts(test=test)).to_markdown()
