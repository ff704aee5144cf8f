"""Checks and questions: whatever a user's code raises becomes the answer, so that one failure cannot stop the others."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganlab.utils.errors import is_user_code, line_in_user_code

PASS, FAIL, NOTICE, NOT_APPLICABLE = "pass", "fail", "notice", "not applicable"
REQUIRED = ("can be built", "finite scalar", "uses its logits", "penalty takes every shape", "training step runs")


@dataclass(frozen=True)
class Check:
    """The answer to one question about a family.

    Attributes:
        name: what was checked.
        state: "pass"; "fail"; "notice": unusual, right or wrong depending on what is meant, which nothing claims; "not
            applicable" where the question does not apply or could not be asked.
        where: the loss, regularizer or step that was checked.
        message: what is wrong or unusual, the value found and the value expected; or why the question does not apply.
            Empty for "pass".
        paper: what the literature says.
    """

    name: str
    state: str
    where: str
    message: str
    paper: str


class CheckFailed(Exception):
    """The check failed; the message says why."""


class Noticed(Exception):
    """Something unusual, of which only the author knows whether it is meant; the message says what."""


class NotApplicable(Exception):
    """The question does not apply; the message says why."""


def run_checks(questions: Mapping[str, Callable], where: str, subject: object) -> list[Check]:
    """Ask named questions about a loss, a regularizer or a family; once a required one has failed, the rest are not asked.

    A question returns if all is well, and raises CheckFailed, Noticed or NotApplicable if not. Its docstring is the check's
    paper.
    """
    checks: list[Check] = []
    for name, question in questions.items():
        failed = failed_requirement(checks)
        not_asked = NOT_APPLICABLE, f"not asked: the check {failed!r} failed"
        state, message = not_asked if failed else _ask(question, subject)
        paper = " ".join((getattr(question, "func", question).__doc__ or "").split())
        checks.append(Check(name, state, where, message, paper))
    return checks


def failed_requirement(checks: Sequence[Check]) -> str | None:
    """The name of a check that failed and without which others mean nothing."""
    return next((check.name for check in checks if check.state == FAIL and check.name in REQUIRED), None)


def _ask(question: Callable, subject: object) -> tuple[str, str]:
    try:
        question(subject)
    except NotApplicable as reason:
        return NOT_APPLICABLE, str(reason)
    except Noticed as notice:
        return NOTICE, str(notice)
    except CheckFailed as failure:
        return FAIL, str(failure)
    except Exception as error:  # noqa: BLE001 - a user's code may raise anything
        return FAIL, f"raises {error_and_line(error)}"
    return PASS, ""


def error_and_line(error: Exception) -> str:
    """The error's type, the first line of its message, and the user's line that raised it."""
    first = str(error).strip().split("\n")[0]
    line = line_in_user_code(error)
    return type(error).__name__ + (f": {first}" if first else "") + (f" in line {line.lineno}" if line else "")


def user_location(method: Callable | property) -> str | None:
    """Where a method of the user is defined, as "my_gan.py, line 12"; None for code of ganlab and of libraries."""
    if isinstance(method, property):
        return user_location(method.fget) if method.fget else None
    code = getattr(inspect.unwrap(method), "__code__", None)
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}" if code and is_user_code(code.co_filename) else None
