"""Train the seeds of a setting as an ensemble, and record the probes and the facts that the verdicts are compared with."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor

from calibration.settings import BATCH, SEEDS, Setting
from ganlab.callbacks.counterfactual import isolated_rng
from ganlab.callbacks.periodic import MaxImages, Periodic
from ganlab.diagnostics.functional import FunctionalGAN
from ganlab.diagnostics.held_out import HeldOut
from ganlab.diagnostics.probes import probe, probe_memorization, probe_movement
from ganlab.metrics import ClassifierQuality
from ganlab.metrics.classifier import load_classifier
from ganlab.metrics.mode_coverage import count_modes
from ganlab.models.ensemble import Ensemble
from ganlab.utils.files import write_json

EVERY = 100  # updates of D between two checks, as in conf/monitor/verdicts.yaml
TRUTH_SAMPLES = 1000  # for the truth, independent of the probes' samples
TRUTH_FROM = 0.6  # share of the run after which the truth is measured


class ProbeRecorder(Periodic):
    """Record a row of probes every 100 updates of D, and in the last part of the run the truth, on independent samples."""

    def __init__(self, steps: int, device: torch.device):
        super().__init__(EVERY * BATCH)
        self.steps, self.device = steps, device
        self.rows, self.truth, self.samples = [], [], None

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        self.held_out, data = HeldOut(gan, trainer.datamodule), trainer.datamodule
        self.classifier = load_classifier(data, self.device)[0] if len(data.shape) == 3 else None

    def run(self, trainer, gan):
        numbers, samples = probe(gan, self.held_out)
        if self.samples is not None:
            numbers |= probe_movement(self.held_out, self.samples, samples)
        self.samples = samples
        if gan.d_updates >= self.steps * TRUTH_FROM:
            if len(self.truth) % 4 == 0 or gan.d_updates >= self.steps:
                numbers["memorization"] = probe_memorization(self.held_out, gan)
            with isolated_rng(1000 + gan.d_updates, gan.device), torch.no_grad():
                self.truth.append(self.measure_truth(gan, trainer.datamodule))
        self.rows.append(numbers | {"g_updates": torch.full((len(gan.seeds),), gan.g_updates)})

    def measure_truth(self, gan, data) -> dict[str, Tensor]:
        """Counts of the modes (of classes: by an independent classifier), loss slopes and logits on new samples."""
        functional, template = FunctionalGAN(gan), gan.template
        z = torch.randn(TRUTH_SAMPLES, template.generator.latent_dim)
        y = template.conditioning.sample_labels(None, TRUTH_SAMPLES) if template.conditioning.num_classes else None
        truth = {}
        for which, average in (("averaged", True), ("current", False)):
            samples = functional.generate(z, y, average=average)
            truth[which] = torch.stack([self.count_modes(x, data) for x in samples])
        chosen = torch.randint(len(data.train.x), (TRUTH_SAMPLES,))
        real = data.on_after_batch_transfer((data.train.x[chosen], None), 0)[0]
        seen = functional.forward_pass(real, data.train.y[chosen] if y is not None else None, z)
        with torch.enable_grad():
            fake_logits = seen["fake_logits"].detach().requires_grad_()
            g_loss = functional.losses(seen["real_logits"].detach(), fake_logits)[1]
            (slope,) = torch.autograd.grad(g_loss.sum(), fake_logits)
        truth["loss_slope"] = slope.abs().sum(1)
        truth["logit_max"] = torch.maximum(seen["real_logits"].abs().amax(1), seen["fake_logits"].abs().amax(1))
        truth["sample_max"] = seen["fake"].flatten(1).abs().amax(1) / real.abs().max()
        return truth

    def count_modes(self, samples: Tensor, data) -> Tensor:
        """The number of samples in each mode, and last the number of high-quality samples (0 for images): [modes + 1]."""
        if self.classifier is not None:
            classes = self.classifier(samples)[1].argmax(1)
            return torch.cat([torch.bincount(classes, minlength=data.num_classes), torch.tensor([0])]).float()
        nearest = (samples[:, None] - data.centers).norm(dim=-1).nan_to_num(torch.inf).argmin(1)
        quality = count_modes(samples, data.centers, data.std)[:-1].sum()[None]
        return torch.cat([torch.bincount(nearest, minlength=len(data.centers)), quality]).float()


def collect(setting: Setting, folder: Path, data_dir: str) -> None:
    """Write `result_file`: the rows of every seed, and the facts."""
    data, seeds = setting.data(data_dir), list(SEEDS[setting.half])
    data.setup()
    data.seeds = seeds
    ensemble = Ensemble([setting.gan(data, seed) for seed in seeds], seeds)
    torch.manual_seed(seeds[0])
    recorder = ProbeRecorder(setting.steps, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False, callbacks=[recorder,
            MaxImages(setting.steps * BATCH)], enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        try:
            trainer.fit(ensemble, data)
        except FloatingPointError:
            pass  # every seed failed, which is the planted failure
    result = {
        "setting": setting.name,
        "half": setting.half,
        "planted": setting.planted,
        "lipschitz": ensemble.template.requires_lipschitz,
        "constrained": any(r.lipschitz for r in ensemble.template.regularizers.values()),
        "labels": setting.labels,
        "images": recorder.classifier is not None,
        "seeds": seeds,
        "failed": ensemble.failed.tolist(),
        "rows": [{name: value.tolist() for name, value in row.items()} for row in recorder.rows],
        "truth": [{name: value.tolist() for name, value in row.items()} for row in recorder.truth],
        "frechet": frechet(ensemble, data) if recorder.classifier is not None else None,
    }
    write_json(result_file(setting, folder), result)


def result_file(setting: Setting, folder: Path) -> Path:
    return folder / f"{setting.half}_{setting.name.replace(' ', '_').replace('/', '_')}.json"


def frechet(ensemble: Ensemble, data) -> list[float | None]:
    """Fréchet distance of each seed's samples (None: failed), and last that of real images."""
    metric = ClassifierQuality(1000)
    metric.setup(data, torch.device("cpu"))
    values = []
    for member in ensemble.members():
        if member is None:
            values.append(None)
            continue
        y = member.conditioning.sample_labels(None, metric.samples) if member.conditioning.num_classes else None
        metric.reset()
        metric.update(member.sample(metric.samples, y, seed=7), None)
        values.append(float(metric.compute()[metric.objective]))
    return [*values, metric.real_scores[metric.objective]]
