"""From numbers to verdicts: rules, patience, actions, words."""

import shlex
from functools import cache

import pytest
import torch
from calibration.collect import EVERY
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import ganlab.cli.job  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.diagnostics.history import VerdictHistory, merged
from ganlab.diagnostics.messages import WORDS
from ganlab.diagnostics.monitor import actions, told
from ganlab.diagnostics.rules import AT_ONCE, EARLIEST, FORMS, PATIENCE, VERDICTS, WARM_UP, evaluate_rules, evidence, thresholds
from ganlab.diagnostics.suggestions import in_force, news

CALM = {
    "signal": 0.5, "g_gradient": 1.0, "d_gradient": 1.0, "pairs": 0.6, "effective": 1.0, "spacing": 0.9, "rarest": 0.8, "drift": 0.005, "turnover": 0.05,
    "distance": 0.001, "slope": 1.0, "logit_size": 2.0, "size": 1.0, "nearer": 0.5,
}  # fmt: skip
SICK = {
    "VANISHING_GRADIENT": {"signal": 1e-6, "pairs": 1.0},
    "MODE_COLLAPSE": {"effective": 0.12},
    "MODE_DROPPING": {"rarest": 0.0},
    "OSCILLATION": {"turnover": 0.9},
    "DISCRIMINATOR_WON": {"pairs": 1.0, "distance": 0.6},
    "GENERATOR_WON": {"pairs": 0.5, "distance": 0.6},
    "CRITIC_NOT_LIPSCHITZ": {"slope": 1e6},
    "EXPLODING": {"logit_size": 1e7},
    "MEMORIZING": {"nearer": 1.0},
}


def rows(count=10, **numbers):
    return [{name: torch.tensor([value]).double() for name, value in (CALM | numbers).items()} for _ in range(count)]


def said(lipschitz=True, **numbers):
    return {name for name, held in evaluate_rules(evidence(rows(**numbers)), lipschitz, thresholds()).items() if held.any()}


def test_a_calm_game_has_no_verdict():
    assert said() == set()


@pytest.mark.parametrize("name", FORMS)
def test_each_failure_is_named_by_its_own_numbers(name):
    assert name in said(**SICK[name])
    assert said(**SICK[name]) <= {name, "DISCRIMINATOR_WON"}


def test_only_losses_that_need_it_are_held_to_a_slope():
    assert "CRITIC_NOT_LIPSCHITZ" not in said(lipschitz=False, **SICK["CRITIC_NOT_LIPSCHITZ"])


def test_the_broader_verdict_hides_the_narrower():
    assert said(effective=0.1, rarest=0.0) == {"MODE_COLLAPSE"}


def test_every_rule_has_thresholds_and_words():
    assert thresholds().keys() == FORMS.keys() and WORDS.keys() == set(VERDICTS)
    for name, alternatives in FORMS.items():
        assert thresholds()[name].keys() == {number for part in alternatives for number, _ in part}
    assert all(words.tries and words.meaning.count(".") >= 2 for name, words in WORDS.items() if name != "HEALTHY")


def test_one_outlier_among_five_looks_counts_for_nothing():
    found = rows(4) + rows(1, effective=0.0, logit_size=1e9)
    assert float(evidence(found)["effective"]) == 1 and float(evidence(found)["logit_size"]) == 2
    missing = [dict(row) for row in found]
    del missing[0]["drift"]
    assert float(evidence(missing)["drift"]) == pytest.approx(0.005)


def test_progress_is_the_distance_over_what_it_was():
    assert float(evidence(rows(5, distance=0.4) + rows(5, distance=0.1))["progress"]) == pytest.approx(0.25)
    assert torch.isnan(evidence(rows(5))["progress"])


def look(history, images, *names, looks=20, failed=False):
    found = {name: torch.tensor([name in names]) for name in FORMS}
    return history.update(found, torch.tensor([failed]), looks, images)


def test_patience_before_a_verdict_and_before_it_goes():
    history = VerdictHistory(1)
    assert look(history, 100, "MODE_COLLAPSE") == []
    assert look(history, 200, "MODE_COLLAPSE") == ["MODE_COLLAPSE"] and history.current() == ["MODE_COLLAPSE"]
    assert int(history.first["MODE_COLLAPSE"]) == 100  # since when
    assert look(history, 300) == [] and history.current() == ["MODE_COLLAPSE"]
    assert look(history, 400, "MODE_COLLAPSE") == []
    assert look(history, 500) == [] and look(history, 600) == ["MODE_COLLAPSE", "HEALTHY"]
    assert history.current() == ["HEALTHY"]
    assert look(history, 700, "EXPLODING") == ["EXPLODING", "HEALTHY"]  # at once


def test_one_look_at_a_young_game_is_no_explosion():
    history = VerdictHistory(1)
    assert look(history, 100, "EXPLODING", looks=1) == []
    assert look(history, 200, "EXPLODING", looks=2) == ["EXPLODING"] and int(history.first["EXPLODING"]) == 100
    assert look(VerdictHistory(1), 0, failed=True, looks=0) == ["NON_FINITE"], "not even one look"


@pytest.mark.parametrize("name", [*FORMS, "NON_FINITE"])
def test_what_fails_is_healthy_no_more(name):
    """Not even at the last look of a run, where a verdict of one look is given."""
    history = VerdictHistory(2)
    for images in (100, 200):
        history.update({}, torch.tensor([False, False]), 20, images)
    assert history.current() == ["HEALTHY"]
    for images in (300, 400)[: 1 if name in AT_ONCE else PATIENCE]:
        history.update({name: torch.tensor([True, False])}, torch.tensor([name == "NON_FINITE", False]), 20, images)
    assert history.active[name].tolist() == [True, False] and history.active["HEALTHY"].tolist() == [False, True]


def test_what_is_measured_seldom_is_said_at_once():
    """A second look would repeat what the first found."""
    history = VerdictHistory(1)
    assert look(history, 100, "MEMORIZING") == ["MEMORIZING"]
    assert look(history, 200) == ["MEMORIZING"] and history.current() == []


def test_since_when_is_not_forgotten_by_a_look_that_disagrees():
    history, none = VerdictHistory(2), torch.zeros(2, dtype=torch.bool)
    for images, found in ((100, (1, 0)), (200, (1, 0)), (300, (0, 1)), (400, (1, 1))):
        changed = history.update({"MODE_COLLAPSE": torch.tensor(found).bool()}, none, 20, images)
    assert "MODE_COLLAPSE" in changed and history.active["MODE_COLLAPSE"].tolist() == [True, True]
    assert history.first["MODE_COLLAPSE"].tolist() == [100, 300]


@pytest.mark.parametrize("name", FORMS)
def test_a_young_game_is_given_time_but_what_was_seen_counts(name):
    history = VerdictHistory(1)
    for looks in range(1, WARM_UP):
        look(history, 100 * looks, name, looks=looks)
        assert history.current() == ([name] if looks >= EARLIEST.get(name, WARM_UP) else [])
    look(history, 100 * WARM_UP, name, looks=WARM_UP)
    assert history.current() == [name] and int(history.first[name]) == 100


def test_a_copy_that_failed_is_non_finite_and_nothing_else():
    history = VerdictHistory(2)
    found = {name: torch.tensor([True, True]) for name in FORMS}
    for images in (100, 200):
        history.update(found, torch.tensor([True, False]), 20, images)
    assert history.active["NON_FINITE"].tolist() == [True, False]
    assert history.active["MODE_COLLAPSE"].tolist() == [False, True]
    assert history.numbers()["verdict/non_finite"] == 0.5
    summary = history.summary([7, 8])
    assert summary["seeds"]["MODE_COLLAPSE"] == [8] and summary["seeds"]["NON_FINITE"] == [7]


def test_parts_of_an_ensemble_are_put_together():
    one = {
        "current": ["MODE_COLLAPSE"],
        "history": [{"images_seen": 5}],
        "seeds": {"MODE_COLLAPSE": [1], "HEALTHY": [2]},
    }
    two = {"current": ["HEALTHY"], "history": [{"images_seen": 3}], "seeds": {"HEALTHY": [3, 4]}}
    whole = merged([one, None, two])
    assert whole["current"] == ["MODE_COLLAPSE", "HEALTHY"] and whole["seeds"]["HEALTHY"] == [2, 3, 4]
    assert [entry["images_seen"] for entry in whole["history"]] == [3, 5]
    assert merged([None]) is None


def test_actions():
    assert set(actions("stop").values()) == {"stop"}
    chosen = actions({"default": "log", "mode_collapse": "stop", "exploding": None})
    assert (chosen["MODE_COLLAPSE"], chosen["EXPLODING"], chosen["OSCILLATION"]) == ("stop", "log", "log")
    assert actions({"mode_collapse": "stop"})["OSCILLATION"] == "warn"
    with pytest.raises(ValueError, match="monitor.on_verdict.oscillation must be log, warn or stop, got 'halt'"):
        actions({"oscillation": "halt"})
    with pytest.raises(ValueError, match="monitor.on_verdict knows no collapse; choose from vanishing_gradient"):
        actions({"collapse": "stop"})


def test_a_verdict_is_told_with_evidence_meaning_and_what_to_type():
    history = VerdictHistory(1)
    numbers = evidence(rows(effective=0.12))
    for images in (1000, 2000):
        look(history, images, "MODE_COLLAPSE")
    entry = history.note("MODE_COLLAPSE", 2000, numbers, None) | {"tries": ["gan.pack=2"]}
    text = told("MODE_COLLAPSE", entry)
    assert text.startswith("MODE_COLLAPSE, since 1,000 images: effective 0.12")
    assert WORDS["MODE_COLLAPSE"].meaning in text and text.count("try ") == text.count("try gan.pack=2") == 1
    many = told("MODE_COLLAPSE", {"active": True, "since": 5, "evidence": {}, "tries": [], "seeds": [2, 9]}, 20)
    assert many.startswith("MODE_COLLAPSE in 2 of 20 seeds (2, 9), since 5 images")
    assert told("MODE_COLLAPSE", {"active": False}) == "no longer MODE_COLLAPSE"


@cache
def composed(*overrides: str):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", [*overrides, "name=test", "run_dir=somewhere"])


@cache
def done(*overrides: str):
    gan = instantiate(composed(*overrides).gan, _convert_="all")
    return in_force(gan, gan.configure_optimizers()[0], images="data=digits" in overrides)


BRINGS_ALONG = {
    "loss=r3gan": {"loss=rpgan", "'regularizer=[r1]'", "optimizer=adam", "optimizer=adam_no_momentum"},
    "loss=wgan_gp": {  # the paper's five turns of the critic and Adam 1e-4 (0, 0.9)
        "gan.n_critic=5",
        "optimizer=adam",
        "optimizer=adam_no_momentum",
        "optimizer.generator.lr=1e-4",
        "optimizer.discriminator.lr=1e-4",
    },
    "optimizer=adam_no_momentum": {"optimizer=adam"},
}


@pytest.mark.parametrize("override", sorted({override for words in WORDS.values() for _, override in words.tries}))
@pytest.mark.parametrize("data", [("data=digits", "networks.width=2"), ("data=ring",)], ids=["digits", "ring"])
def test_what_to_try_can_be_typed_and_is_not_suggested_again(override, data):
    start = ("loss=minimax", *data)
    assert composed(*start, *shlex.split(override)) != composed(*start)
    before, after = done(*start), done(*start, *shlex.split(override))
    only_for_images = "data=ring" in data and "diffaugment" in override
    assert before[override] == only_for_images
    shows = not only_for_images and "max_images" not in override  # a run's length says nothing about the next
    changed = {name for name, held in after.items() if held != before[name]}
    assert changed == {override} | BRINGS_ALONG.get(override, set()) if shows else not changed


def test_news_is_what_is_left_of_the_suggestions():
    gan = instantiate(composed("data=ring", "loss=rpgan", "gan.pack=2").gan, _convert_="all")
    optimizers = gan.configure_optimizers()[0]
    assert news("MODE_DROPPING", gan, optimizers, images=False) == ["'regularizer=[r1]'"]
    assert news("DISCRIMINATOR_WON", gan, optimizers, images=False) == ["'regularizer=[r1]'", "optimizer.discriminator.lr=1e-4"]
    assert news("HEALTHY", gan, optimizers, images=False) == []


def test_the_issue_s_command_lines_compose():
    def monitor(*overrides):
        return composed(*overrides).callbacks.verdicts

    assert set(actions(monitor().on_verdict).values()) == {"warn"}
    assert set(actions(monitor("monitor.on_verdict=stop").on_verdict).values()) == {"stop"}
    chosen = actions(monitor("monitor.on_verdict.mode_collapse=stop", "monitor.on_verdict.default=log").on_verdict)
    assert chosen["MODE_COLLAPSE"] == "stop" and chosen["EXPLODING"] == "log"
    assert monitor("monitor=[]") is None and monitor("monitor=[counterfactual]") is None
    both = composed("monitor=[verdicts,counterfactual]", "monitor.on_verdict=log").callbacks
    assert both.verdicts and both.counterfactual
    assert composed().monitor.every == EVERY  # the thresholds were chosen at this cadence
    order = list(composed().callbacks)
    assert order.index("verdicts") < order.index("checkpoints")  # which hold what the others did at the same look
