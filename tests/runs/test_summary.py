"""The cause of a run's end in its summary."""

import json
from types import SimpleNamespace

import pytest

from ganlab.callbacks import ProgressBar
from ganlab.diagnostics import Monitor
from ganlab.runs.summary import ended_by

LIMITS = {"max_steps": -1, "max_time": None}


@pytest.mark.parametrize(
    ("images", "limits", "verdict", "cause"),
    [
        (640, {"max_steps": 7}, "EXPLODING", None),  # all of max_images
        (639, {"max_steps": 7}, "EXPLODING", "EXPLODING"),
        (639, {"max_steps": 7}, None, "trainer.max_steps=7"),
        (639, {"max_steps": 2, "max_time": "00:00:05"}, None, "trainer.max_steps=2 or trainer.max_time=00:00:05"),
        (639, {}, None, "a callback"),
    ],
)
def test_ended_by_names_the_cause(images, limits, verdict, cause):
    config = {"max_images": 640, "trainer": LIMITS | limits}
    monitor = Monitor(100, 1000)
    monitor.stopped_by = verdict
    assert ended_by(config, SimpleNamespace(images_seen=images), [ProgressBar(1), monitor]) == cause
    if verdict is None:
        assert ended_by(config, SimpleNamespace(images_seen=images), []) == cause


def test_ended_by_is_written_and_printed(cli, tmp_path):
    small = ["data=ring", "metrics=none", "monitor=[]", "callbacks.sample_grid=null", "logger=csv", "trainer=cpu"]
    code, printed = cli(*small, "+trainer.max_steps=20", "hydra.run.dir=run")
    assert code == 0 and json.loads((tmp_path / "run" / "summary.json").read_text())["ended_by"] == "trainer.max_steps=20"
    assert "images (ended by trainer.max_steps=20), 10 D and 10 G updates" in printed, printed
    assert "samples.png" not in printed  # there is no picture
