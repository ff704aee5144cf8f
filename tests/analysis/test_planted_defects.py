"""Every planted defect fails the checks that name it and no others; unusual but right code fails none."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest

from ganlab.analysis import conformance

spec = importlib.util.spec_from_file_location("planted", Path(__file__).parent / "planted.py")
planted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(planted)
PLANTED, RIGHT = planted.PLANTED, planted.RIGHT


@cache
def checks(name):
    return conformance(RIGHT[name] if name in RIGHT else PLANTED[name].family)


# Facts, section 1: defects seen in well-known libraries
IN_THE_WILD = {
    "minimax that is the non-saturating loss",
    "epsilon inside the log",
    "the norm over dim 1 only",
    "the norm over the whole batch",
    "one epsilon for the whole batch",
    "the penalty in an Adam step of its own",
    "lambda counted twice",
    "LSGAN on sigmoid outputs",
    "crashes on grayscale",
    "a critic loss that is never back-propagated",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_fails_the_checks_that_name_it(name):
    defect = PLANTED[name]
    failed = [check for check in checks(name) if check.state == "fail"]
    found = "\n".join(f"{c.where}: {c.name}: {c.message}" for c in failed)
    assert {check.name for check in failed} == defect.failed, found
    assert any(c.where.startswith(defect.where) and defect.message in c.message for c in failed), found


def test_defects_of_well_known_libraries_are_planted():
    assert IN_THE_WILD <= {name for name, defect in PLANTED.items() if defect.in_the_wild}


def test_every_check_fails_on_some_defect():
    names = {check.name for check in checks("ByTorchsNorm")}  # all, since it has a regularizer
    noticed = {"within float32 up to 100", "every sample counts", "one temperature for both players"}  # these only notice
    assert names - noticed == set().union(*(defect.failed for defect in PLANTED.values()))


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_fails_no_check(name):
    assert not [check for check in checks(name) if check.state == "fail"]
