"""`python -m ganlab evaluate`, as a user types it."""

import csv
import json
from pathlib import Path

import pytest
import torch

from ganlab.cli import evaluate
from ganlab.metrics import classifier as classifier_module
from ganlab.utils.statistics import percent

TINY = ["logger=csv", "networks.generator.hidden=[8]", "networks.discriminator.hidden=[8]"]
SHORT = ["max_images=1280", "eval_every=1280"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 20)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    monkeypatch.setattr(classifier_module, "BATCH_SIZE", 32)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def ring(cli, tmp_path):
    """A short run on the ring; returns its directory."""

    def train(*overrides, metric="metrics.samples=200"):
        folder = tmp_path / "outputs" / "r"
        settings = ["data.train_size=1500", "data.test_size=700", metric]
        code, printed = cli("data=ring", "loss=ns", *SHORT, *TINY, *settings, f"hydra.run.dir={folder}", *overrides)
        assert code == 0, printed
        return folder

    return train


def test_evaluates_a_conditional_run_on_images(cli, tmp_path):
    folder = tmp_path / "outputs" / "d"
    code, printed = cli("logger=csv", "networks.width=4", *SHORT, f"hydra.run.dir={folder}")
    assert code == 0, printed
    code, printed = cli("evaluate", "draws=1")
    assert code == 0, printed
    assert "n = 360 instead of 10,000: the test split has no more real samples" in printed
    assert f"every number's protocol: {folder.relative_to(tmp_path)}/evaluation.json" in printed.replace("\n", "")
    assert "On the test split; training measured on the validation split (split=val repeats its numbers)" in printed
    evaluation, summary = (json.loads((folder / name).read_text()) for name in ("evaluation.json", "summary.json"))
    names = ["kid", "precision", "recall", "density", "coverage", "vendi", "gan_test", "gan_train"]
    assert {f"{name}_classifier_360" for name in names} < evaluation["metrics"].keys()
    assert {"nearest_train_pixels_360", "nearest_train_auc_pixels_360", "copies_pixels_360"} < evaluation["metrics"].keys()
    agreement = evaluation["metrics"]["gan_test_classifier_360"]
    assert agreement["interval"][0] < agreement["value"] < agreement["interval"][1]
    protocol, card = evaluation["metrics"]["recall_classifier_360"]["protocol"], summary["protocol"]
    assert protocol["extractor"]["sha256"] == card["extractor"]["sha256"] and (protocol["k"], protocol["seed"]) == (3, 0)
    assert (protocol["reference"], card["reference"]) == ("test split", "validation split")
    assert protocol["reference_fingerprint"] != card["reference_fingerprint"] and protocol["labels"] == card["labels"]
    assert evaluation["not_measured"].keys() == {"frechet_infinity"} and evaluation["images_seen"] == 1280
    assert len(evaluation["closest_to_training_data"]) == 10


def test_validation_split_repeats_the_numbers_of_training(cli, tmp_path):
    """Of the last and of the best checkpoint; here they differ. With as many samples, draws and labels as in training."""
    folder = tmp_path / "outputs" / "d"
    fast = ["networks.width=4", "gan.ema_decay=0"]
    code, printed = cli("logger=csv", *fast, "max_images=3840", "eval_every=1280", f"hydra.run.dir={folder}")
    assert code == 0 and "on the validation" in printed, printed
    summary = json.loads((folder / "summary.json").read_text())
    objective, rows = summary["objective"]["name"], read_csv(folder / "metrics.csv")
    best = min((row for row in rows if row[objective]), key=lambda row: float(row[objective]))
    assert float(best[objective]) == pytest.approx(summary["objective"]["best"])
    for checkpoint, logged, digits in (("last", summary["quality"], 1e-7), ("best", best, 1e-5)):  # metrics.csv has 6 digits
        options = [f"run={folder}/checkpoints/{checkpoint}.ckpt", "split=val", "draws=1", f"out={checkpoint}.json"]
        code, printed = cli("evaluate", *options)
        assert code == 0, printed
        metrics = json.loads(Path(f"{checkpoint}.json").read_text())["metrics"]
        for name in ("frechet_classifier_360", "classes_360", "class_kl_360"):
            assert metrics[name]["value"] == pytest.approx(float(logged[f"quality/{name}"]), rel=digits), name
            assert metrics[name]["real"] == pytest.approx(summary["real"][f"quality/{name}"], rel=1e-7), name
        agreement = float(logged["quality/label_agreement_360"])
        assert metrics["gan_test_classifier_360"]["value"] == pytest.approx(agreement, rel=digits)


def test_evaluates_a_run_on_points(cli, ring):
    folder = ring()
    code, printed = cli("evaluate", f"run={folder}", "n=300", "out=mine[a].json")
    assert code == 0 and printed.endswith("protocol: mine[a].json\n"), "the path is not read as markup"
    assert not (folder / "evaluation.json").exists()
    evaluation = json.loads(Path("mine[a].json").read_text())
    copies = evaluation["metrics"]["copies_points_300"]
    assert (
        f"{percent(copies['value'])} % of the samples and {percent(copies['real'])} % of held-out real data lie so close"
        in printed
    )
    assert {"modes_300", "kid_points_300", "frechet_infinity_points_300", "copies_points_300"} < evaluation["metrics"].keys()
    assert evaluation["not_measured"]["gan_test"] == "the GAN is unconditional"
    assert cli("evaluate", f"run={folder}", "n=300", "out=repeated.json")[0] == 0
    assert json.loads(Path("repeated.json").read_text())["metrics"] == evaluation["metrics"]


def test_members_of_an_ensemble_are_evaluated_one_by_one(cli, ring):
    folder = ring("seeds=2")
    for seed in (1, 2):
        code, printed = cli("evaluate", f"run={folder}", "n=50", f"run_seed={seed}")
        assert code == 0, printed
    first, second = (json.loads((folder / f"evaluation_seed{seed}.json").read_text()) for seed in (1, 2))
    assert (first["run_seed"], second["run_seed"]) == (1, 2)
    assert first["metrics"]["kid_points_50"]["value"] != second["metrics"]["kid_points_50"]["value"]
    code, printed = cli("evaluate", f"run={folder}", "n=50", "run_seed=3")
    assert code == 1 and "this ensemble has the seeds 1 … 2, got" in printed


def test_data_chooses_the_metric_of_a_run_without_one(cli, ring):
    folder = ring(metric="metrics=none")
    assert cli("evaluate", "n=50")[0] == 0
    assert "modes_50" in json.loads((folder / "evaluation.json").read_text())["metrics"]


WRONG = [
    (["split=train"], "ganlab: split must be test or val, got 'train'"),
    (["draws=0"], "ganlab: draws must be an integer of at least 1, got 0"),
    (["n=0"], "ganlab: n must be an integer of at least 20, got 0"),
    (["n=many"], "ganlab: n= must be an integer, got 'many'"),
    (["n=50", "features=classifier"], "ganlab: features= must be points for Ring, got 'classifier'"),
    (["sead=3"], "ganlab: evaluate has no option sead=, perhaps seed"),
    (["n=50", "out=r/summary.json/x.json"], "x.json cannot be written,"),
]


def test_errors_are_one_sentence_and_leave_no_file(cli, ring, monkeypatch, tmp_path):
    folder = ring()
    monkeypatch.chdir(tmp_path / "outputs")
    for options, sentence in WRONG:
        code, printed = cli("evaluate", f"run={folder}", *options)
        assert code == 1 and sentence in printed and "Traceback" not in printed, printed
    assert not (folder / "evaluation.json").exists() and not list(tmp_path.rglob("*.partial"))


def test_interruption_keeps_the_old_file(cli, ring, monkeypatch):
    folder = ring()
    (folder / "evaluation.json").write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate.EvaluationSuite, "run", interrupt)
    code, printed = cli("evaluate", f"run={folder}", "n=50")
    assert code == 1 and "interrupted" in printed
    assert (folder / "evaluation.json").read_text() == "old"


def test_random_state_is_unchanged(ring):
    folder = ring()
    state = torch.get_rng_state()
    evaluate.main([f"run={folder}", "n=50"])
    assert torch.equal(torch.get_rng_state(), state)
