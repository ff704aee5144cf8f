"""Every planted defect is flagged by the checks that should name it, and by no others."""

import importlib.util
from pathlib import Path

import pytest

from ganlab.theory.conformance import conformance

spec = importlib.util.spec_from_file_location("planted", Path(__file__).parent / "planted.py")
planted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(planted)


@pytest.mark.parametrize("name", planted.PLANTED)
def test_a_planted_defect_is_flagged_under_its_name(name):
    defect = planted.PLANTED[name]
    failed = [check for check in conformance(defect.family) if check.ok is False]
    told = "\n".join(f"{c.where}: {c.name}: {c.message}" for c in failed)
    assert {check.name for check in failed} == defect.failed, told
    assert any(c.where.startswith(defect.where) and defect.says in c.message for c in failed), told
