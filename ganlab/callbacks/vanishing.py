"""Arjovsky and Bottou's experiment: what is left of G's gradient when the critic has learned all it can."""

from __future__ import annotations

import copy
import logging
import math
from itertools import islice
from pathlib import Path

from ganlab.analysis.generator_gradients import generator_gradient_norms
from ganlab.callbacks.counterfactual import families_beside, own_randomness, require_one_gan, training_batches
from ganlab.callbacks.periodic import MaxImages, Periodic, find_callback, validate_count
from ganlab.utils.files import save_figure, write_csv

log = logging.getLogger(__name__)

WHEN = ("age", "images_seen", "epochs", "critic_step", "critic_loss")  # the table's columns before the families'


class Vanishing(Periodic):
    """At each age of G: freezes a copy, trains a fresh critic against it, and measures every family's gradient for G.

    The protocol of Arjovsky & Bottou 2017 (theirs: G after 1, 10 and 25 epochs). The critic minimizes the run's own
    objective with the run's own optimizer, without schedule and clipping, in the networks' full precision. Every family's
    norm is that of `Counterfactual`, at the same weights, on the same batch and latents. The run goes on as if nothing
    had been there; `seconds` adds up what it cost.

    Writes `vanishing.csv` after each age and `vanishing.png` at the end, each whole or not at all. Columns: `age` (asked
    for, in images), `images_seen` (when it was taken), `epochs` (the same in passes over the data), `critic_step`,
    `critic_loss` (the critic's objective on that step's batch), and one per family.

    Args:
        ages: in real images seen. One that has passed when a resumed run starts is measured then.
        critic_steps: updates of each fresh critic.
        every: critic steps between two measurements; the first and the last step are always measured.
        folder: the run's.
        seed: of the laboratory's batches and latents, the same for all ages.

    Raises:
        ValueError: there is no age, or it is no count; it lies beyond the run's budget; the GAN was trained before.
    """

    def __init__(self, ages: list[int], critic_steps: int, every: int, folder: str, seed: int = 0):
        super().__init__(validate_count("callbacks.vanishing.every", every))
        if not ages:
            raise ValueError("callbacks.vanishing.ages must hold at least one age of G in images, got none")
        self.ages = sorted(validate_count("an age of G", age) for age in ages)
        self.critic_steps = validate_count("critic_steps", critic_steps)
        self.folder, self.seed = Path(folder), seed
        self.rows: list[dict[str, float]] = []

    def setup(self, trainer, gan, stage):
        require_one_gan(gan)
        if gan.d_updates:
            raise ValueError(
                f"the vanishing-gradient laboratory needs an untrained critic, this one has {gan.d_updates} updates; "
                "start from a new GAN, or resume from its checkpoint"
            )
        budget = find_callback(trainer, MaxImages)
        if budget is not None and self.ages[-1] > budget.images:
            raise ValueError(f"max_images={budget.images} ends before G is {self.ages[-1]} images old; raise it to that")
        # A fresh critic is the run's own from before its first step, together with regularizers and clocks. Drawing it
        # anew by `reset_parameters` would not do: spectrally normalized layers ignore the call, and layers that their
        # network starts in its own way would start in torch's.
        self._untrained = copy.deepcopy(gan)

    def state_dict(self):
        return super().state_dict() | {"rows": self.rows}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.rows = state["rows"]

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        measured = {row["age"] for row in self.rows}
        self._due = [age for age in self.ages if age not in measured]

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        while self._due and gan.images_seen >= self._due[0]:
            self._timed_run(trainer, gan)

    def on_train_end(self, trainer, gan):
        if self.rows and trainer.is_global_zero:
            save_figure(self.folder / "vanishing.png", draw(self.rows))

    def run(self, trainer, gan):
        age = self._due.pop(0)
        when = {"age": age, "images_seen": gan.images_seen, "epochs": gan.images_seen / len(trainer.datamodule.train.x)}
        rows = [when | row for row in self._measure(trainer, gan)]
        self.rows += rows
        if trainer.is_global_zero:
            self._write_table()
            fall = decades(rows, "MinimaxGAN")
            log.info(f"{gan.images_seen:>11,} images   a fresh critic moves minimax's gradient by {fall:+.1f} decades")

    def _measure(self, trainer, gan) -> list[dict[str, float]]:
        """The run's beginning with today's generator in it, and then only the critic learns."""
        lab = copy.deepcopy(self._untrained).to(gan.device)
        lab.generator.load_state_dict(gan.generator.state_dict())
        lab.conditioning.load_state_dict(gan.conditioning.state_dict())
        families, optimizer = families_beside(lab), lab.discriminator_optimizer(lab.discriminator.parameters())
        rows = []
        with own_randomness(self.seed, gan.device):
            batches = training_batches(trainer, lab)
            real, y = next(batches)
            probe = real, y, lab.sample_latents(len(real))
            for step, (real, y) in enumerate(islice(batches, self.critic_steps + 1)):
                lab.on_step_start()
                outputs = lab.forward_pass(real, y, with_real=True, grad_to_generator=False)
                terms = lab.discriminator_terms(outputs)
                lab.queue_finite_check(terms)
                objective = sum(terms.values())
                if step % self.every == 0 or step == self.critic_steps:
                    lab.check_finite()
                    with own_randomness(self.seed, gan.device):  # the same labels and augmentation each time
                        norms = generator_gradient_norms(lab, families, *probe)
                    norms = {name: float(norm) for name, norm in norms.items()}
                    rows.append({"critic_step": step, "critic_loss": float(objective.detach())} | norms)
                optimizer.zero_grad()
                objective.backward()
                optimizer.step()
                for regularizer in lab.regularizers.values():
                    regularizer.project(lab.discriminator)
                lab.d_updates += 1
        return rows

    def _write_table(self):
        rows = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows]
        write_csv(self.folder / "vanishing.csv", rows)


# how the figure shows the families that the argument is about, widest below: three of them nearly coincide
SHOWN = {
    "LSGAN": {"label": "LSGAN", "color": "#E69F00", "lw": 2},
    "WGAN": {"label": "WGAN", "color": "#8FD3BC", "lw": 6},
    "NonSaturatingGAN": {"label": "non-saturating, -log D(G(z))", "color": "#0072B2", "lw": 2.5},
    "RpGAN": {"label": "RpGAN", "color": "#1B1B1B", "lw": 1.5, "ls": (0, (1, 2))},
    "MinimaxGAN": {"label": "minimax, log(1 - D(G(z)))", "color": "#D1261B", "lw": 3},
}
FAINT = {"color": "0.78", "lw": 1, "zorder": 1}


def decades(rows: list[dict[str, float]], family: str) -> float:
    """log10 of a family's gradient under the last critic over that under the first; nan where one of them is 0."""
    first, last = rows[0][family], rows[-1][family]
    return math.log10(last / first) if first > 0 and last > 0 else math.nan


def draw(rows: list[dict[str, float]]):
    """The rows of a laboratory as a matplotlib Figure: a panel per age, all families on one log scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ages = {age: [row for row in rows if row["age"] == age] for age in dict.fromkeys(row["age"] for row in rows)}
    others = [name for name in list(rows[0])[len(WHEN) :] if name not in SHOWN]
    figure = Figure(figsize=(1.5 + 3.5 * len(ages), 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(ages), sharey=True, squeeze=False)[0]
    for panel, part in zip(panels, ages.values()):
        steps = [row["critic_step"] for row in part]
        for name in others:
            panel.plot(steps, [row[name] for row in part], **FAINT)
        for name, style in SHOWN.items():
            panel.plot(steps, [row[name] for row in part], **style)
        when = part[0]
        panel.set_title(f"G after {when['images_seen']:,} images ({round(when['epochs'], 2):g} epochs)", fontsize=10)
        panel.annotate(
            f"{decades(part, 'MinimaxGAN'):+.1f} decades from its start".replace("-", "\N{MINUS SIGN}"),
            (steps[-1], min(row["MinimaxGAN"] for row in part)),
            (-2, -16),
            textcoords="offset points",
            ha="right",
            color=SHOWN["MinimaxGAN"]["color"],
            weight="bold",
        )
        panel.set(yscale="log", xlim=(0, steps[-1]), xlabel="updates of a fresh critic, G frozen")
        panel.locator_params(axis="x", nbins=4, prune="upper")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.92")
    shown = [row[name] for row in rows for name in SHOWN if row[name] > 0 and math.isfinite(row[name])]
    low, high = min(shown, default=1) / 10, max(shown, default=1) * 10  # exponential losses would take the whole axis
    panels[0].set(ylim=(low, high), ylabel=r"gradient for the generator  $\Vert\partial L_G/\partial\theta_G\Vert_2$")
    beyond = sum(not all(low < row[name] < high for row in rows) for name in others)
    others_label = f"{len(others)} other families" + (f", {beyond} beyond the axis" if beyond else "")
    figure.suptitle("One generator, one fresh critic, every loss", weight="bold")
    handles, labels = panels[0].get_legend_handles_labels()
    handles, labels = [*handles, *panels[0].plot([], [], **FAINT)], [*labels, others_label]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(ages), frameon=False)
    return figure
