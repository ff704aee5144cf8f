"""Questions to the training step: a few recorded turns, against what they should have led to."""

from __future__ import annotations

import copy
from functools import partial

import torch

from ganlab.analysis.checks.check import Check, CheckFailed, NotApplicable, run_check
from ganlab.analysis.checks.critics import LATE
from ganlab.analysis.checks.penalties import in_settings
from ganlab.analysis.checks.players import clone_for_eval
from ganlab.analysis.checks.recording import Pull, Turn, batch, build, own_regularizers, recorded
from ganlab.analysis.minimal import Family
from ganlab.regularizers import Regularizer

LAZY = 3
PLAYERS = {"d": "discriminator", "g": "generator"}
PAPERS = {
    "training step runs": "Goodfellow et al. 2014, alg. 1: D's turns on fresh fakes, then G's.",
    "one step per turn": "Gulrajani et al. 2017, alg. 1: loss and penalty are one sum and one step. Adam divides by "
    "the gradient's size: with a step of its own for the penalty, lambda nearly cancels.",
    "D's update is its objective's gradient": "Gulrajani et al. 2017, alg. 1: the loss plus lambda times the penalty, "
    "back-propagated once.",
    "G's update is its objective's gradient": "Goodfellow et al. 2014, alg. 1: G's own loss on fresh fakes, through D.",
    "a turn leaves the other player alone": "Goodfellow et al. 2014, alg. 1: one player moves while the other stands.",
    "projection follows D's step": "Arjovsky et al. 2017, alg. 1: weights are clipped after each step of the critic.",
    "lambda scales the update": "Gulrajani et al. 2017, alg. 1: the penalty's share of D's step is lambda times its gradient.",
    "lazy penalty is unbiased": "Karras et al. 2020 (StyleGAN2): a penalty computed on every k-th step counts k times.",
}


def game_checks(family: Family) -> list[Check]:
    """All questions to the training step; where it does not run, the first says so and the others are not asked."""
    turns: list[Turn] = []
    runs = "training step runs"
    checks = [
        run_check(runs, "training_step", PAPERS[runs], lambda: turns.extend(recorded(build(family, {"pull": Pull(2.0)}))))
    ]
    questions = {
        "one step per turn": partial(one_step_per_turn, turns),
        "D's update is its objective's gradient": partial(update_is_the_gradient, turns, "d"),
        "G's update is its objective's gradient": partial(update_is_the_gradient, turns, "g"),
        "a turn leaves the other player alone": partial(other_player_is_left_alone, turns),
        "projection follows D's step": partial(projection_follows, turns, family),
        "lambda scales the update": partial(lambda_scales_the_update, family),
    }
    for name, question in questions.items():
        if turns:
            checks.append(run_check(name, "training_step", PAPERS[name], question))
        else:
            checks.append(Check(name, None, "training_step", f"not asked: {runs}", PAPERS[name]))
    lazy = "lazy penalty is unbiased"
    for name, regularizer in own_regularizers(family).items():
        where = in_settings(name, regularizer)
        checks.append(run_check(lazy, where, PAPERS[lazy], partial(lazy_is_unbiased, family, name, regularizer)))
    checks.append(run_check(lazy, "training_step", PAPERS[lazy], partial(lazy_is_unbiased, family, "pull", Pull(2.0))))
    return checks


def one_step_per_turn(turns: list[Turn]) -> None:
    for turn in turns:
        who = [player for player, _ in turn.steps]
        if not who:
            raise CheckFailed("plays a turn in which no optimizer steps")
        if len(who) > 1:
            names = " and ".join(f"{PLAYERS[p]}'s {who.count(p)} times" for p in dict.fromkeys(who))
            raise CheckFailed(f"steps the {names} in one turn; add loss and penalty, and step once")
    for player, name in PLAYERS.items():
        if all(turn.player != player for turn in turns):
            raise CheckFailed(f"never steps the {name}'s optimizer")


def update_is_the_gradient(turns: list[Turn], player: str) -> None:
    mine = [turn for turn in turns if turn.player == player]
    if not mine:
        raise NotApplicable(f"the {PLAYERS[player]}'s optimizer never steps")
    for turn in mine:
        if player not in turn.expected:
            raise CheckFailed(f"plays the {PLAYERS[player]}'s turn without what its loss needs")
        expected = torch.cat([g.flatten() for g in turn.expected[player]])
        found = turn.change(player, turn.steps[-1][1])
        if (found - expected).norm() <= 1e-3 * expected.norm() + 1e-5:
            continue
        if not found.any():
            raise CheckFailed(f"the {PLAYERS[player]} does not move: its loss is never back-propagated")
        cosine = torch.nn.functional.cosine_similarity(found, expected, 0).item()
        raise CheckFailed(
            f"moves the {PLAYERS[player]} by {found.norm():.4g} times the learning rate, where the gradient of its "
            f"objective is {expected.norm():.4g} long; the cosine between them is {cosine:.3f}"
        )


def other_player_is_left_alone(turns: list[Turn]) -> None:
    for turn in turns:
        if turn.player is None:
            continue
        other = "g" if turn.player == "d" else "d"
        who = f"in the {PLAYERS[turn.player]}'s turn the {PLAYERS[other]}"
        if not all(torch.equal(a, b) for a, b in zip(turn.before.weights[other], turn.after.weights[other])):
            raise CheckFailed(f"{who}'s weights move")
        for before, after in zip(turn.before.gradients[other], turn.after.gradients[other]):
            if after is not None and after.any() and (before is None or not torch.equal(before, after)):
                raise CheckFailed(f"{who} is given gradients; detach the fakes, or freeze D")


def projection_follows(turns: list[Turn], family: Family) -> None:
    projecting = [r for r in own_regularizers(family).values() if type(r).project is not Regularizer.project]
    if not projecting:
        raise NotApplicable("no regularizer projects D's weights")
    for turn in turns:
        if turn.stepped_critic is None:
            continue
        for regularizer in projecting:
            copy.deepcopy(regularizer).project(turn.stepped_critic)
        for found, expected in zip(turn.after.weights["d"], turn.stepped_critic.parameters()):
            if not torch.allclose(found, expected, rtol=1e-5, atol=1e-7):
                raise CheckFailed(
                    f"leaves D's weights up to {found.abs().max():.4g} after its turn, where the projection gives "
                    f"{expected.abs().max():.4g}"
                )


def lambda_scales_the_update(family: Family) -> None:
    """D's first turn with lambda = 1 and 3, all else equal: the difference is 2 w, whatever the loss."""
    moves = []
    for weight in (1.0, 3.0):
        turn = recorded(build(family, regularizers={"pull": Pull(weight)}), batches=1)[0]
        moves.append(turn.change("d", turn.after))
    expected = 2 * torch.cat([w.flatten() for w in turn.before.weights["d"]])
    share = float((moves[1] - moves[0]) @ expected / (expected @ expected))
    if abs(share - 1) > 0.05:
        raise CheckFailed(
            f"lambda does not scale the penalty's share of D's step: from lambda = 1 to 3 it grows by {share:.2f} "
            "times what it should"
        )


def lazy_is_unbiased(family: Family, name: str, regularizer: Regularizer) -> None:
    """The penalty's mean over `every` turns, all else equal, for every = 1 and 3."""
    means = []
    for every in (1, LAZY):
        lazy = copy.deepcopy(regularizer)
        lazy.every = every
        start = LATE - LATE % LAZY
        means.append(sum(penalty_at(turn, family, {name: lazy}) for turn in range(start, start + every)) / every)
    if abs(means[0]) + abs(means[1]) < 1e-6:
        raise NotApplicable("it adds no term to D's loss, or one of 0")
    if abs(means[0] - means[1]) > 1e-3 * abs(means[0]) + 1e-5:
        ratio = means[1] / means[0] if means[0] else float("inf")
        raise CheckFailed(
            f"with every = {LAZY} its mean over {LAZY} turns is {means[1]:.5g}, {ratio:.3g} times the {means[0]:.5g} "
            "of every = 1; computed on every k-th turn, it must count k times"
        )


def penalty_at(turn: int, family: Family, regularizers: dict[str, Regularizer]) -> float:
    """What the regularizers, and copies of them at each call, add to D's objective on a fixed batch."""
    gan = build(family, regularizers=regularizers)
    gan.d_updates = turn
    torch.default_generator.manual_seed(0)
    outputs = gan.forward_pass(*batch(gan), with_real=True, grad_to_generator=False)
    torch.default_generator.manual_seed(1)
    objective = float(clone_for_eval(gan).discriminator_objective(outputs))
    torch.default_generator.manual_seed(1)  # a loss that draws random numbers draws them first
    return objective - float(gan.discriminator_loss(outputs.real_logits, outputs.fake_logits))
