"""Conformance: is a family implemented right? Checks of its losses, regularizers and training step, without training."""

import warnings

import torch

from ganlab.analysis.checks import declarations, losses, named_loss, penalties, training_step
from ganlab.analysis.checks.base import Check, failed_requirement, run_checks
from ganlab.analysis.checks.loss_functions import Loss
from ganlab.analysis.minimal import Family, minimal_gan
from ganlab.analysis.optimal_discriminator import OptimalDiscriminator


def conformance(family: Family, optimum: OptimalDiscriminator | None = None) -> list[Check]:
    """Check a family: what it declares, both losses, its name, each regularizer with its settings, the training step.

    Never raises, whatever the family's code does: the check that it breaks fails. Torch's random state, thread count
    and gradient mode are left unchanged.

    Args:
        family: a subclass of GAN, or `functools.partial` of one with settings and regularizers.
        optimum: of the family, where `optimal_discriminator` was called already.
    """
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)  # the tensors are tiny: more threads would only wait for each other
        try:
            return _checks(family, optimum)
        finally:
            torch.set_num_threads(threads)


def assert_conforms(family: Family) -> None:
    """Raise AssertionError if a check of the family fails, with what is wrong, where, and the paper: for your own tests."""
    __tracebackhide__ = True
    failed = [check for check in conformance(family) if check.state == "fail"]
    if failed:
        lines = [f"{c.where}: {c.name}: {c.message}\n    {c.paper}" for c in failed]
        raise AssertionError(f"{len(failed)} check{'s' if len(failed) > 1 else ''} failed\n" + "\n".join(lines))


def _checks(family: Family, optimum: OptimalDiscriminator | None) -> list[Check]:
    checks = run_checks({"can be built": _can_be_built}, "__init__", family)
    if failed_requirement(checks):
        return checks
    gan = minimal_gan(family)
    for loss in (Loss(gan, "discriminator"), Loss(gan, "generator")):
        of_loss = run_checks(losses.QUESTIONS | named_loss.QUESTIONS, loss.name, loss)
        if loss.player == "discriminator" and not failed_requirement(of_loss):
            of_loss += run_checks(declarations.QUESTIONS, loss.name, declarations.Theory(family, optimum))
        checks += of_loss
    for name, regularizer in gan.regularizers.items():
        checks += run_checks(penalties.QUESTIONS, f"regularizers.{name} ({type(regularizer).__name__})", regularizer)
    checks += run_checks({"the training step is ganlab's": training_step.step_is_ganlabs}, "training_step", family)
    if not failed_requirement(checks):  # else the step would fail, too
        checks += run_checks(training_step.QUESTIONS, "training_step", family)
    return checks


def _can_be_built(family: Family) -> None:
    """A family is a subclass of ganlab.GAN with both losses; its settings are keyword arguments."""
    minimal_gan(family)
