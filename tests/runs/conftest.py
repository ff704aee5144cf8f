import pytest
import wandb
from small_runs import FakeRun

from ganlab.runs import train


@pytest.fixture
def own(monkeypatch):
    """Makes a part of a config of a class or an instance of the test's own."""
    build, parts = train.build, {}

    def build_own(part):
        settings = {key: value for key, value in part.items() if key != "_target_"}
        return parts[part["_target_"]](**settings) if part.get("_target_") in parts else build(part)

    monkeypatch.setattr(train, "build", build_own)

    def own(part, **settings):
        target = f"own.part{len(parts)}"
        parts[target] = part if isinstance(part, type) else lambda: part
        return {"_target_": target, **settings}

    return own


@pytest.fixture
def fake_wandb(monkeypatch):
    run = FakeRun()
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    return run
