"""`python -m ganlab evaluate`, as a user types it."""

import json

import pytest
import torch

from ganlab.cli import evaluate
from ganlab.metrics import classifier as classifier_module

TINY = ["logger=csv", "networks.generator.hidden=[8]", "networks.discriminator.hidden=[8]"]
SHORT = ["max_images=1280", "eval_every=1280"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 20)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    monkeypatch.setattr(classifier_module, "BATCH_SIZE", 32)


@pytest.fixture
def ring(cli, tmp_path):
    """A short run on the ring; returns its folder."""

    def train(*overrides, metric="metrics.samples=200"):
        folder = tmp_path / "outputs" / "r"
        splits = ["data.train_size=1500", "data.test_size=700", metric]
        code, said = cli("data=ring", "loss=ns", *SHORT, *TINY, *splits, f"hydra.run.dir={folder}", *overrides)
        assert code == 0, said
        return folder

    return train


def test_a_conditional_run_on_images(cli, tmp_path):
    folder = tmp_path / "outputs" / "d"
    code, said = cli("logger=csv", "networks.width=4", *SHORT, f"hydra.run.dir={folder}")
    assert code == 0, said
    code, said = cli("evaluate", "n=5000", "seed=0")
    assert code == 0, said
    assert "n = 360: the test split has no more, and 5,000 samples would have no real counterpart" in said
    assert f"every number's protocol: {folder.relative_to(tmp_path)}/evaluation.json" in said.replace("\n", "")
    found, summary = (json.loads((folder / name).read_text()) for name in ("evaluation.json", "summary.json"))
    names = ["kid", "precision", "recall", "density", "coverage", "vendi", "gan_test", "gan_train"]
    assert {f"{name}_classifier_360" for name in names} < found["numbers"].keys()
    assert {"nearest_train_pixels_360", "nearest_train_auc_pixels_360", "copies_pixels_360"} < found["numbers"].keys()
    # training's last look used seed 0 and as many samples: the same numbers
    for name in ("frechet_classifier_360", "classes_360", "class_kl_360"):
        assert found["numbers"][name]["value"] == pytest.approx(summary["quality"][f"quality/{name}"], rel=1e-5)
        assert found["numbers"][name]["real"] == pytest.approx(summary["real"][f"quality/{name}"], rel=1e-5)
    agreement = found["numbers"]["gan_test_classifier_360"]
    assert agreement["value"] == pytest.approx(summary["quality"]["quality/label_agreement_360"])
    assert agreement["interval"][0] < agreement["value"] < agreement["interval"][1]
    protocol = found["numbers"]["recall_classifier_360"]["protocol"]
    assert protocol["extractor"] == summary["protocol"]["extractor"] and (protocol["k"], protocol["seed"]) == (3, 0)
    assert found["not_measured"].keys() == {"frechet_infinity"} and found["images_seen"] == 1280
    assert len(found["closest_to_training_data"]) == 10


def test_a_run_on_points(cli, ring):
    folder = ring()
    code, said = cli("evaluate", f"run={folder}", "n=300", "out=mine[a].json")
    assert code == 0 and said.endswith("protocol: mine[a].json\n"), "no markup of the terminal's"
    assert not (folder / "evaluation.json").exists()
    with open("mine[a].json") as file:
        found = json.load(file)
    assert {"modes_300", "kid_points_300", "frechet_infinity_points_300", "copies_points_300"} < found["numbers"].keys()
    assert found["not_measured"]["gan_test"] == "the GAN is unconditional"
    assert cli("evaluate", f"run={folder}", "n=300", "out=again.json")[0] == 0
    with open("again.json") as file:
        assert json.load(file)["numbers"] == found["numbers"]


def test_copies_of_an_ensemble_are_evaluated_one_by_one(cli, ring):
    folder = ring("seeds=2")
    for seed in (1, 2):
        code, said = cli("evaluate", f"run={folder}", "n=50", f"run_seed={seed}")
        assert code == 0, said
    first, second = (json.loads((folder / f"evaluation_seed{seed}.json").read_text()) for seed in (1, 2))
    assert (first["run_seed"], second["run_seed"]) == (1, 2)
    assert first["numbers"]["kid_points_50"]["value"] != second["numbers"]["kid_points_50"]["value"]
    code, said = cli("evaluate", f"run={folder}", "n=50", "run_seed=3")
    assert code == 1 and "this ensemble has the seeds 1 … 2, got" in said


def test_without_a_metric_the_data_says_which(cli, ring):
    folder = ring(metric="metrics=none")
    assert cli("evaluate", "n=50")[0] == 0
    assert "modes_50" in json.loads((folder / "evaluation.json").read_text())["numbers"]


WRONG = [
    (["n=0"], "ganlab: n must be at least 20 (neighbors and classifiers need some), got 0"),
    (["n=many"], "ganlab: n= must be an integer, got 'many'"),
    (["n=50", "features=classifier"], "ganlab: features= must be points for Ring, got 'classifier'"),
    (["sead=3"], "ganlab: evaluate has no option sead=, perhaps seed"),
    (["n=50", "out=r/summary.json/x.json"], "x.json cannot be written,"),
]


def test_what_cannot_be_is_one_sentence_and_no_file(cli, ring, monkeypatch, tmp_path):
    folder = ring()
    monkeypatch.chdir(tmp_path / "outputs")
    for words, sentence in WRONG:
        code, said = cli("evaluate", f"run={folder}", *words)
        assert code == 1 and sentence in said and "Traceback" not in said, said
    assert not (folder / "evaluation.json").exists() and not list(tmp_path.rglob("*.partial"))


def test_an_interruption_leaves_the_old_numbers(cli, ring, monkeypatch):
    folder = ring()
    (folder / "evaluation.json").write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate.EvaluationSuite, "_manifolds", interrupt)
    code, said = cli("evaluate", f"run={folder}", "n=50")
    assert code == 1 and "interrupted" in said
    assert (folder / "evaluation.json").read_text() == "old"


def test_the_random_state_stays(ring):
    folder = ring()
    state = torch.get_rng_state()
    evaluate.main([f"run={folder}", "n=50"])
    assert torch.equal(torch.get_rng_state(), state)
