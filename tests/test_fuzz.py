"""A few of the random command lines of tests/benchmarks/fuzz.py, which runs a thousand."""

import fuzz
import pytest


@pytest.fixture(autouse=True)
def planted_secret(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", fuzz.SECRET)


def test_random_command_lines_end_in_a_run_or_one_sentence(tmp_path):
    fuzz.load()
    lines = [[*fuzz.RING, "seed=2"], *fuzz.command_lines(12, seed=7)]
    outcomes = fuzz.fuzz(lines, tmp_path)
    violations = [(words, message) for words, (kind, message) in zip(lines, outcomes, strict=True) if kind == "violation"]
    assert not violations
    assert outcomes[0] == ("run", "") and [kind for kind, _ in outcomes].count("sentence") >= 5


@pytest.mark.parametrize(
    "planted, complaint",
    [
        ("import os; os.system('true')", "executed os.system"),
        ("open('../../elsewhere', 'w').close()", "wrote"),
        ("raise BaseException('no sentence')", "traceback"),
        ("import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", "hangs"),
        ("import os; open('dump', 'w').write(os.environ['WANDB_API_KEY'])", "the secret was written"),
        ("import sys; sys.exit('ganlab: one\\nganlab: two')", "exit code 1"),
    ],
)
def test_violations_are_detected(tmp_path, monkeypatch, planted, complaint):
    monkeypatch.setattr(fuzz, "main", lambda: exec(planted))
    kind, message = fuzz.outcome(["seed=1"], tmp_path, seconds=0.5)
    assert kind == "violation" and complaint in message
