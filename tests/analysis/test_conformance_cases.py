"""A quick part of tests/benchmarks/conformance, from its development half: wrong cases by kind, and sound ones once refused."""

import importlib
from functools import cache

import pytest
from bench_common import fresh

from ganlab.analysis import conformance

# case: the check that fails, and a part of its message
WRONG = {
    "wrong_losses.SafeLog": ("no epsilon, no clamp", "gradient by fake logits is 0.0045"),
    "wrong_losses.PearsonChi2GAN": ("no epsilon, no clamp", "gradient by fake logits is -49 at -100"),
    "wrong_losses.SmoothNonSaturating": ("the loss its name says", "real logits' gradient is 0.9 times"),
    "wrong_losses.TotalVariationGAN": ("the loss its name says", "is named like totalvariation"),
    "wrong_losses.DeclaredJS": ("declared optimal_logit", "declared"),
    "wrong_losses.ColdDiscriminator": ("declared optimal_logit", "declared"),
    "wrong_losses.SmoothOnce": ("the same at each call", "its call no. 5"),
    "wrong_losses.NoisyLabels": ("the same at each call", "sets torch's random state"),
    "wrong_losses.InPlaceHinge": ("the same at each call", "in place"),
    "wrong_losses.LossSensitiveGAN": ("uses its logits", "no gradient where real and fake logits are equal"),
    "wrong_losses.RootMeanSquare": ("finite scalar", "at logits of exactly 0"),
    "wrong_losses.MMDGAN": ("sign and order", "expected the value 0 for equal ones"),
    "wrong_losses.SoftTopK": ("sign and order", "the wrong way"),
    "wrong_losses.FixedLatents": ("latents are fresh", "the same latents"),
    "wrong_losses.ClippedWGAN": ("terms have no side effects", "changes D's weights"),
    "wrong_penalties.AbsoluteGP": ("penalty on a linear critic", "expected GradientPenalty's closed form"),
    "wrong_penalties.PackAwareR1": ("penalty on a linear critic", "packs of 2"),
    "wrong_penalties.FastLeCam": ("penalty on a linear critic", "it remembers real_average"),
    "wrong_penalties.MeanConsistency": ("penalty on a linear critic", "descends from Consistency"),
    "wrong_penalties.HalfBatchR1": ("penalty is a mean over samples", "order"),
    "wrong_penalties.ForgetfulLeCam": ("state is saved with checkpoints", "buffers"),
    "wrong_penalties.BoundWeights": ("critic's slope is bounded", "nested layers"),
    "wrong_penalties.EvalSlope": ("terms have no side effects", "evaluation mode"),
    "wrong_penalties.BatchNoise": ("augmentation treats both sides alike", "draws once per batch"),
    "wrong_penalties.Shuffler": ("augmentation treats both sides alike", "order of samples"),
}
SOUND = (
    "sound_losses.QuadraticPotential", "sound_losses.KLWGAN", "sound_losses.MMDGAN", "sound_losses.DetachedBaseline",
    "sound_losses.WeightedGAN", "sound_losses.DensityRatioLS", "sound_losses.SeparateTerms", "sound_losses.WideHinge",
    "sound_penalties.MaxGP", "sound_penalties.SpectralPenalty", "sound_penalties.OffDiagonal",
)  # fmt: skip


@cache
def checks(name):
    module, _, case = name.partition(".")
    return conformance(fresh({c.name: c for c in importlib.import_module(module).CASES}[case].factory))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_case_fails_the_check_that_names_it(name):
    failed = {check.name: check.message for check in checks(name) if check.state == "fail"}
    check, message = WRONG[name]
    assert message in failed.get(check, ""), failed


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_case_fails_no_check(name):
    assert not [check for check in checks(name) if check.state == "fail"]


def test_what_nothing_claims_is_noticed():
    noticed = {check.name: check.message for check in checks("sound_losses.MMDGAN") if check.state == "notice"}
    assert "a high logit need not say real" in noticed["sign and order"]
    (penalty,) = [c for c in checks("wrong_penalties.MeanPoint") if c.name == "penalty on a linear critic"]
    assert penalty.state == "notice"
    assert "On linear critics of slope 0.5, 1, 2, 4 it is 0.25, 1, 4, 16; on the Dirac-GAN" in penalty.message
