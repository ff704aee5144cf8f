"""Trains a setting's seeds at once and writes down what the probes saw, and what really happened."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor

from calibration.suite import BATCH, SEEDS, Setting
from ganlab.callbacks.counterfactual import isolated_rng
from ganlab.callbacks.periodic import MaxImages, Periodic
from ganlab.diagnostics.held_out import held_out
from ganlab.diagnostics.players import Players
from ganlab.diagnostics.probes import of_the_memory, of_the_movement, probe
from ganlab.metrics import ClassifierQuality
from ganlab.metrics.classifier import load_classifier
from ganlab.metrics.mode_coverage import count_modes
from ganlab.models.ensemble import Ensemble
from ganlab.utils.files import write_json

EVERY = 100  # D's updates between two looks, the monitor's own cadence
FRESH = 1000  # samples for the truth, other than the probes' own
LAST = 0.6  # of the run, after which the truth is measured


class Watch(Periodic):
    """A row of probes every 100 updates of D; and in the last part of the run the truth, on samples of its own."""

    def __init__(self, steps: int, device: torch.device):
        super().__init__(EVERY * BATCH)
        self.steps, self.device = steps, device
        self.rows, self.truth, self.moving = [], [], None

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        self.held, data = held_out(gan, trainer.datamodule), trainer.datamodule
        self.classifier = load_classifier(data, self.device)[0] if len(data.shape) == 3 else None

    def run(self, trainer, gan):
        numbers, moving = probe(gan, self.held)
        if self.moving is not None:
            numbers |= of_the_movement(self.held, self.moving, moving)
        self.moving = moving
        last = gan.d_updates >= self.steps
        if gan.d_updates >= self.steps * LAST:
            if len(self.truth) % 4 == 0 or last:
                numbers["nearer"] = of_the_memory(self.held, gan)
            with isolated_rng(1000 + gan.d_updates, gan.device), torch.no_grad():
                self.truth.append(self.measured(gan, trainer.datamodule))
        self.rows.append(numbers | {"g_updates": torch.full((len(gan.seeds),), gan.g_updates)})

    def measured(self, gan, data) -> dict[str, Tensor]:
        """Exact shares of the modes (of classes: by an independent classifier), and logits, on fresh samples."""
        players, one = Players(gan), gan.template
        z = torch.randn(FRESH, one.generator.latent_dim)
        y = one.conditioning.sample_labels(None, FRESH) if one.conditioning.num_classes else None
        found = {}
        for which, average in (("averaged", True), ("current", False)):
            samples = players.generate(z, y, average=average)
            found[which] = torch.stack([self.counts(x, data) for x in samples])
        chosen = torch.randint(len(data.train.x), (FRESH,))
        real = data.on_after_batch_transfer((data.train.x[chosen], None), 0)[0]
        seen = players.forward_pass(real, data.train.y[chosen] if y is not None else None, z)
        with torch.enable_grad():
            fake_logits = seen["fake_logits"].detach().requires_grad_()
            pull = torch.autograd.grad(players.losses(seen["real_logits"].detach(), fake_logits)[1].sum(), fake_logits)[0]
        found["signal"] = pull.abs().sum(1)
        found["logits"] = torch.maximum(seen["real_logits"].abs().amax(1), seen["fake_logits"].abs().amax(1))
        found["size"] = seen["fake"].flatten(1).abs().amax(1) / real.abs().max()
        return found

    def counts(self, samples: Tensor, data) -> Tensor:
        """How many of the samples are in each mode [K], and last how many are of high quality (toys)."""
        if self.classifier is not None:
            classes = self.classifier(samples)[1].argmax(1)
            return torch.cat([torch.bincount(classes, minlength=data.num_classes), torch.tensor([0])]).float()
        nearest = (samples[:, None] - data.centers).norm(dim=-1).nan_to_num(torch.inf).argmin(1)
        quality = count_modes(samples, data.centers, data.std)[:-1].sum()[None]
        return torch.cat([torch.bincount(nearest, minlength=len(data.centers)), quality]).float()


def collect(setting: Setting, folder: Path, data_dir: str) -> None:
    """`<folder>/<setting>.json`: the rows of every seed, and the facts."""
    data, seeds = setting.data(data_dir), list(SEEDS[setting.half])
    data.setup()
    data.seeds = seeds
    game = Ensemble([setting.gan(data, seed) for seed in seeds], seeds)
    torch.manual_seed(seeds[0])
    watch = Watch(setting.steps, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False, callbacks=[watch,
            MaxImages(setting.steps * BATCH)], enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        try:
            trainer.fit(game, data)
        except FloatingPointError:
            pass  # every seed failed: that is what was planted
    found = {
        "setting": setting.name,
        "half": setting.half,
        "planted": setting.planted,
        "lipschitz": game.template.requires_lipschitz,
        "constrained": any(r.lipschitz for r in game.template.regularizers.values()),
        "labels": setting.labels,
        "images": watch.classifier is not None,
        "seeds": seeds,
        "failed": game.failed.tolist(),
        "rows": [{name: value.tolist() for name, value in row.items()} for row in watch.rows],
        "truth": [{name: value.tolist() for name, value in row.items()} for row in watch.truth],
        "frechet": frechet(game, data) if watch.classifier is not None else None,
    }
    write_json(file_of(setting, folder), found)


def file_of(setting: Setting, folder: Path) -> Path:
    return folder / f"{setting.half}_{setting.name.replace(' ', '_').replace('/', '_')}.json"


def frechet(game: Ensemble, data) -> list[float | None]:
    """Fréchet distance of each seed's samples, and last that of real images."""
    metric = ClassifierQuality(1000)
    metric.setup(data, torch.device("cpu"))
    values = []
    for copy in game.members():
        if copy is None:
            values.append(None)
            continue
        y = copy.conditioning.sample_labels(None, metric.samples) if copy.conditioning.num_classes else None
        metric.reset()
        metric.update(copy.sample(metric.samples, y, seed=7), None)
        values.append(float(metric.compute()[metric.objective]))
    return [*values, metric.real_scores[metric.objective]]
