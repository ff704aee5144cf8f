"""Rules, patience, actions, messages and suggestions."""

import shlex
from functools import cache

import pytest
import torch
from calibration.collect import EVERY
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.diagnostics.history import VerdictHistory
from ganlab.diagnostics.messages import MESSAGES, applied_suggestions, new_suggestions, verdict_text
from ganlab.diagnostics.monitor import parse_actions
from ganlab.diagnostics.rules import (
    FIRST_CHECK,
    NO_PATIENCE,
    PATIENCE,
    RULES,
    VERDICTS,
    WARM_UP,
    evaluate_rules,
    evidence,
    load_thresholds,
)

HEALTHY_NUMBERS = {
    "loss_slope": 0.5, "g_grad_norm": 1.0, "d_grad_norm": 1.0, "auc": 0.6, "effective_modes": 1.0, "spacing": 0.9, "rarest_mode": 0.8, "drift": 0.005, "mode_turnover": 0.05,
    "energy_distance": 0.001, "d_slope": 1.0, "logit_max": 2.0, "sample_max": 1.0, "memorization": 0.5,
}  # fmt: skip
FAILING = {
    "VANISHING_GRADIENT": {"loss_slope": 1e-6, "auc": 1.0},
    "MODE_COLLAPSE": {"effective_modes": 0.12},
    "MODE_DROPPING": {"rarest_mode": 0.0},
    "OSCILLATION": {"mode_turnover": 0.9},
    "DISCRIMINATOR_WON": {"auc": 1.0, "energy_distance": 0.6},
    "GENERATOR_WON": {"auc": 0.5, "energy_distance": 0.6},
    "CRITIC_NOT_LIPSCHITZ": {"d_slope": 1e6},
    "EXPLODING": {"logit_max": 1e7},
    "MEMORIZING": {"memorization": 1.0},
}


def rows(count=10, **numbers):
    return [{name: torch.tensor([value]).double() for name, value in (HEALTHY_NUMBERS | numbers).items()} for _ in range(count)]


def holding(lipschitz=True, **numbers):
    return {
        name for name, held in evaluate_rules(evidence(rows(**numbers)), lipschitz, load_thresholds()).items() if held.any()
    }


def test_healthy_numbers_hold_no_rule():
    assert holding() == set()


@pytest.mark.parametrize("name", RULES)
def test_each_rule_holds_for_its_own_numbers(name):
    assert name in holding(**FAILING[name])
    assert holding(**FAILING[name]) <= {name, "DISCRIMINATOR_WON"}


def test_the_slope_rule_applies_to_lipschitz_losses_only():
    assert "CRITIC_NOT_LIPSCHITZ" not in holding(lipschitz=False, **FAILING["CRITIC_NOT_LIPSCHITZ"])


def test_mode_collapse_hides_mode_dropping():
    assert holding(effective_modes=0.1, rarest_mode=0.0) == {"MODE_COLLAPSE"}


def test_every_rule_has_thresholds_and_a_message():
    assert load_thresholds().keys() == RULES.keys() and MESSAGES.keys() == set(VERDICTS)
    for name, alternatives in RULES.items():
        assert load_thresholds()[name].keys() == {number for part in alternatives for number, _ in part}
    assert all(
        message.suggestions and message.meaning.count(".") >= 2 for name, message in MESSAGES.items() if name != "HEALTHY"
    )


def test_one_outlier_in_five_checks_is_ignored():
    result = rows(4) + rows(1, effective_modes=0.0, logit_max=1e9)
    assert float(evidence(result)["effective_modes"]) == 1 and float(evidence(result)["logit_max"]) == 2
    missing = [dict(row) for row in result]
    del missing[0]["drift"]
    assert float(evidence(missing)["drift"]) == pytest.approx(0.005)


def test_distance_ratio_compares_with_five_checks_before():
    assert float(evidence(rows(5, energy_distance=0.4) + rows(5, energy_distance=0.1))["distance_ratio"]) == pytest.approx(0.25)
    assert torch.isnan(evidence(rows(5))["distance_ratio"])


def check(history, images, *names, checks=20, failed=False):
    holds = {name: torch.tensor([name in names]) for name in RULES}
    return history.update(holds, torch.tensor([failed]), checks, images)


def test_patience_before_a_verdict_is_given_and_withdrawn():
    history = VerdictHistory()
    assert check(history, 100, "MODE_COLLAPSE") == []
    assert check(history, 200, "MODE_COLLAPSE") == ["MODE_COLLAPSE"] and history.current() == ["MODE_COLLAPSE"]
    assert int(history.first_seen["MODE_COLLAPSE"]) == 100
    assert check(history, 300) == [] and history.current() == ["MODE_COLLAPSE"]
    assert check(history, 400, "MODE_COLLAPSE") == []
    assert check(history, 500) == [] and check(history, 600) == ["MODE_COLLAPSE", "HEALTHY"]
    assert history.current() == ["HEALTHY"]
    assert check(history, 700, "EXPLODING") == ["EXPLODING", "HEALTHY"]  # at once


def test_exploding_waits_for_the_second_check():
    history = VerdictHistory()
    assert check(history, 100, "EXPLODING", checks=1) == []
    assert check(history, 200, "EXPLODING", checks=2) == ["EXPLODING"] and int(history.first_seen["EXPLODING"]) == 100
    assert check(VerdictHistory(), 0, failed=True, checks=0) == ["NON_FINITE"], "no check needed"


@pytest.mark.parametrize("name", [*RULES, "NON_FINITE"])
def test_a_failure_ends_healthy(name):
    history = VerdictHistory([7, 8])
    for images in (100, 200):
        history.update({}, torch.tensor([False, False]), 20, images)
    assert history.current() == ["HEALTHY"]
    for images in (300, 400)[: 1 if name in NO_PATIENCE else PATIENCE]:
        history.update({name: torch.tensor([True, False])}, torch.tensor([name == "NON_FINITE", False]), 20, images)
    assert history.active[name].tolist() == [True, False] and history.active["HEALTHY"].tolist() == [False, True]


def test_memorizing_needs_no_patience():
    history = VerdictHistory()
    assert check(history, 100, "MEMORIZING") == ["MEMORIZING"]
    assert check(history, 200) == ["MEMORIZING"] and history.current() == []


def test_first_seen_survives_a_disagreeing_check():
    history, none = VerdictHistory([7, 8]), torch.zeros(2, dtype=torch.bool)
    for images, holds in ((100, (1, 0)), (200, (1, 0)), (300, (0, 1)), (400, (1, 1))):
        changed = history.update({"MODE_COLLAPSE": torch.tensor(holds).bool()}, none, 20, images)
    assert "MODE_COLLAPSE" in changed and history.active["MODE_COLLAPSE"].tolist() == [True, True]
    assert history.first_seen["MODE_COLLAPSE"].tolist() == [100, 300]


@pytest.mark.parametrize("name", RULES)
def test_verdicts_wait_for_the_warm_up(name):
    history = VerdictHistory()
    for checks in range(1, WARM_UP):
        check(history, 100 * checks, name, checks=checks)
        assert history.current() == ([name] if checks >= FIRST_CHECK.get(name, WARM_UP) else [])
    check(history, 100 * WARM_UP, name, checks=WARM_UP)
    assert history.current() == [name] and int(history.first_seen[name]) == 100


def test_a_failed_member_is_non_finite_and_nothing_else():
    history = VerdictHistory([7, 8])
    holds = {name: torch.tensor([True, True]) for name in RULES}
    for images in (100, 200):
        history.update(holds, torch.tensor([True, False]), 20, images)
    assert history.active["NON_FINITE"].tolist() == [True, False]
    assert history.active["MODE_COLLAPSE"].tolist() == [False, True]
    assert history.numbers()["verdict/non_finite"] == 0.5
    summary = history.summary()
    assert summary["seeds"]["MODE_COLLAPSE"] == [8] and summary["seeds"]["NON_FINITE"] == [7]


def test_parse_actions():
    assert set(parse_actions("stop").values()) == {"stop"}
    chosen = parse_actions({"default": "log", "mode_collapse": "stop", "exploding": None})
    assert (chosen["MODE_COLLAPSE"], chosen["EXPLODING"], chosen["OSCILLATION"]) == ("stop", "log", "log")
    assert parse_actions({"mode_collapse": "stop"})["OSCILLATION"] == "warn"
    with pytest.raises(ValueError, match="monitor.on_verdict.oscillation must be log, warn or stop, got 'halt'"):
        parse_actions({"oscillation": "halt"})
    with pytest.raises(ValueError, match="monitor.on_verdict has no verdict collapse; choose from vanishing_gradient"):
        parse_actions({"collapse": "stop"})


def test_verdict_text_has_evidence_meaning_and_suggestions():
    history = VerdictHistory()
    numbers = evidence(rows(effective_modes=0.12))
    for images in (1000, 2000):
        check(history, images, "MODE_COLLAPSE")
    entry = history.record("MODE_COLLAPSE", 2000, numbers) | {"suggestions": ["gan.pack=2"]}
    text = verdict_text("MODE_COLLAPSE", entry)
    assert text.startswith("MODE_COLLAPSE, since 1,000 images: effective_modes 0.12")
    assert MESSAGES["MODE_COLLAPSE"].meaning in text and text.count("try ") == text.count("try gan.pack=2") == 1
    many = verdict_text("MODE_COLLAPSE", {"active": True, "since": 5, "evidence": {}, "suggestions": [], "seeds": [2, 9]}, 20)
    assert many.startswith("MODE_COLLAPSE in 2 of 20 seeds (2, 9), since 5 images")
    assert verdict_text("MODE_COLLAPSE", {"active": False}) == "no longer MODE_COLLAPSE"


@cache
def composed(*overrides: str):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", [*overrides, "name=test", "run_dir=somewhere"])


@cache
def applied(*overrides: str):
    gan = instantiate(composed(*overrides).gan, _convert_="all")
    return applied_suggestions(gan, gan.configure_optimizers()[0], images="data=digits" in overrides)


BRINGS_ALONG = {
    "loss=r3gan": {"loss=rpgan", "'regularizer=[r1]'", "optimizer=adam", "optimizer=adam_no_momentum"},
    "loss=wgan_gp": {  # the paper's five critic steps and Adam 1e-4 (0, 0.9)
        "gan.n_critic=5",
        "optimizer=adam",
        "optimizer=adam_no_momentum",
        "optimizer.generator.lr=1e-4",
        "optimizer.discriminator.lr=1e-4",
    },
    "optimizer=adam_no_momentum": {"optimizer=adam"},
}


@pytest.mark.parametrize("override", sorted({override for message in MESSAGES.values() for _, override in message.suggestions}))
@pytest.mark.parametrize("data", [("data=digits", "networks.width=2"), ("data=ring",)], ids=["digits", "ring"])
def test_suggestions_can_be_typed_and_are_not_repeated(override, data):
    start = ("loss=minimax", *data)
    assert composed(*start, *shlex.split(override)) != composed(*start)
    before, after = applied(*start), applied(*start, *shlex.split(override))
    only_for_images = "data=ring" in data and "diffaugment" in override
    assert before[override] == only_for_images
    shows = not only_for_images and "max_images" not in override  # a run's length says nothing about the next
    changed = {name for name, held in after.items() if held != before[name]}
    assert changed == {override} | BRINGS_ALONG.get(override, set()) if shows else not changed


def test_new_suggestions_leave_out_applied_ones():
    gan = instantiate(composed("data=ring", "loss=rpgan", "gan.pack=2").gan, _convert_="all")
    optimizers = gan.configure_optimizers()[0]
    assert new_suggestions("MODE_DROPPING", gan, optimizers, images=False) == ["'regularizer=[r1]'"]
    assert new_suggestions("DISCRIMINATOR_WON", gan, optimizers, images=False) == [
        "'regularizer=[r1]'",
        "optimizer.discriminator.lr=1e-4",
    ]
    assert new_suggestions("HEALTHY", gan, optimizers, images=False) == []


def test_monitor_overrides_compose():
    def monitor(*overrides):
        return composed(*overrides).callbacks.verdicts

    assert set(parse_actions(monitor().on_verdict).values()) == {"warn"}
    assert set(parse_actions(monitor("monitor.on_verdict=stop").on_verdict).values()) == {"stop"}
    chosen = parse_actions(monitor("monitor.on_verdict.mode_collapse=stop", "monitor.on_verdict.default=log").on_verdict)
    assert chosen["MODE_COLLAPSE"] == "stop" and chosen["EXPLODING"] == "log"
    assert monitor("monitor=[]") is None and monitor("monitor=[counterfactual]") is None
    both = composed("monitor=[verdicts,counterfactual]", "monitor.on_verdict=log").callbacks
    assert both.verdicts and both.counterfactual
    assert composed().monitor.every == EVERY  # at which the thresholds were calibrated
    order = list(composed().callbacks)
    assert order.index("verdicts") < order.index("checkpoints")
