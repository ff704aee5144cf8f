"""What a check is, and how one is held so that nothing a user wrote can stop the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ganlab.utils.tracebacks import line_in_user_code


@dataclass(frozen=True)
class Check:
    """One question put to a family, and its answer.

    Attributes:
        name: what is asked.
        ok: True; False; None where the question does not apply, or could not be put.
        where: the hook, regularizer or step that was asked.
        message: what is wrong, with the value found and the one expected; for None, why it does not apply.
        paper: what the literature says.
    """

    name: str
    ok: bool | None
    where: str
    message: str
    paper: str


class CheckFailed(Exception):
    """The check failed; the message says why."""


class NotApplicable(Exception):
    """The question does not arise; the message says why."""


def run_check(name: str, where: str, paper: str, question: Callable[[], object]) -> Check:
    """The answer to one question. Whatever it raises becomes the answer."""
    try:
        question()
    except NotApplicable as reason:
        return Check(name, None, where, str(reason), paper)
    except CheckFailed as wrong:
        return Check(name, False, where, str(wrong), paper)
    except Exception as error:  # noqa: BLE001 - a user's code may raise anything
        return Check(name, False, where, f"raises {in_words(error)}", paper)
    return Check(name, True, where, "", paper)


def in_words(error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    line = line_in_user_code(error)
    return type(error).__name__ + (f": {first}" if first else "") + (f" in line {line.lineno}" if line else "")
