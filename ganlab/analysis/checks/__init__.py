"""Is a family implemented right? Questions to any loss, penalty and training step, before anything is trained."""

from __future__ import annotations

import warnings

import torch

from ganlab.analysis.checks.check import Check, run_check
from ganlab.analysis.checks.claims import claim_checks
from ganlab.analysis.checks.game import game_checks
from ganlab.analysis.checks.losses import loss_checks
from ganlab.analysis.checks.penalties import penalty_checks
from ganlab.analysis.checks.players import HOOKS
from ganlab.analysis.checks.recording import own_regularizers
from ganlab.analysis.minimal import Family, LinearCritic, Point, minimal_gan
from ganlab.models.gan import GAN

__all__ = ["Check", "assert_conforms", "conformance"]


def conformance(family: Family) -> list[Check]:
    """Every check of a family: both losses, its name, each regularizer in its settings, the training step.

    Never raises, whatever the family's code does: the check that it fails says so. Torch's random state, thread
    count and gradient mode stay as they were.

    Args:
        family: a subclass of GAN, or `functools.partial` of one with settings and regularizers.
    """
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)  # a handful of numbers at a time: threads would only wait for each other
        try:
            return _checks(family)
        finally:
            torch.set_num_threads(threads)


def assert_conforms(family: Family) -> None:
    """For tests of a family of one's own: passes, or raises AssertionError with what is wrong, where, and the paper."""
    __tracebackhide__ = True
    failed = [check for check in conformance(family) if check.ok is False]
    if failed:
        lines = [f"{c.where}: {c.name}: {c.message}\n    {c.paper}" for c in failed]
        raise AssertionError(f"{len(failed)} checks failed\n" + "\n".join(lines))


def _checks(family: Family) -> list[Check]:
    built: list[GAN] = []
    checks = [
        run_check(
            "can be built",
            "__init__",
            "A family is a subclass of ganlab.GAN with both losses; its settings are keyword arguments.",
            lambda: built.append(minimal_gan(family, Point(), LinearCritic(torch.zeros(1)))),
        )
    ]
    if not built:
        return checks
    (gan,) = built
    for hook in HOOKS:
        checks += loss_checks(gan, hook)
    if not _failed(checks, "finite scalar", "uses its logits"):
        checks += claim_checks(gan)
    for name, regularizer in own_regularizers(family).items():
        checks += penalty_checks(regularizer, name)
    if not _failed(checks, "finite scalar", "uses its logits", "penalty takes every shape"):
        checks += game_checks(family)
    return checks


def _failed(checks: list[Check], *names: str) -> bool:
    """Whether one of these failed, so that later questions would only repeat it."""
    return any(check.ok is False for check in checks if check.name in names)
