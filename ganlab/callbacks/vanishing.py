"""The vanishing-gradient experiment of Arjovsky & Bottou (2017): G's gradient as the critic is trained to optimality."""

import copy
import logging
import math
from itertools import islice
from pathlib import Path

from ganlab.analysis.generator_gradients import generator_gradient_norms
from ganlab.callbacks.counterfactual import isolated_rng, require_single_gan, shipped_and_own_families, training_batches
from ganlab.callbacks.periodic import MaxImages, Periodic, find_callback
from ganlab.utils.files import save_figure, write_csv
from ganlab.utils.validation import validate_int

log = logging.getLogger(__name__)

AGE_COLUMNS = ("age", "images_seen", "epochs", "critic_step", "critic_loss")  # of the table, before the families'


class Vanishing(Periodic):
    """At each age of G, freeze a copy of it, train a new critic against it, and measure every family's gradient for G.

    The protocol of Arjovsky & Bottou 2017, who take G after 1, 10 and 25 epochs. The critic minimizes the run's objective
    with the run's optimizer, without schedule and clipping, in the networks' full precision. The norms are those of
    `Counterfactual`, of all families at the same weights and on the same batch and latents. Training is not affected;
    `seconds` is the time that the experiment took.

    Writes `vanishing.csv` after each age and `vanishing.png` at the end, both atomically. Columns: `age` (requested, in
    images), `images_seen` (actual), `epochs` (the same in passes over the data), `critic_step`, `critic_loss` (the
    critic's objective on that step's batch), and one per family.

    Args:
        ages: in real images seen. One that has passed when a resumed run starts is measured then.
        critic_steps: updates of each new critic.
        every: critic steps between two measurements; the first and the last step are always measured.
        seed: of the experiment's batches and latents, the same for all ages.

    Raises:
        ValueError: there is no age, or it is not a positive integer; it exceeds max_images; the critic was trained before;
            the run trains an ensemble.
    """

    extra = True
    saved = (*Periodic.saved, "rows")

    def __init__(self, ages: list[int], critic_steps: int, every: int, run_dir: str, seed: int = 0):
        super().__init__(validate_int("callbacks.vanishing.every", every))
        if not ages:
            raise ValueError("callbacks.vanishing.ages must hold at least one age of G in images, got none")
        self.ages = sorted(validate_int("callbacks.vanishing.ages", age) for age in ages)
        self.critic_steps = validate_int("callbacks.vanishing.critic_steps", critic_steps)
        self.run_dir, self.seed = Path(run_dir), seed
        self.rows: list[dict[str, float]] = []

    def setup(self, trainer, gan, stage):
        require_single_gan(gan)
        if gan.d_updates:
            raise ValueError(
                f"monitor=vanishing needs an untrained critic, this one has {gan.d_updates} updates; start from a new GAN, "
                "or resume from its checkpoint"
            )
        budget = find_callback(trainer, MaxImages)
        if budget is not None and self.ages[-1] > budget.images:
            raise ValueError(f"max_images={budget.images} ends before G is {self.ages[-1]} images old; raise it to that")
        # The new critic is the run's own before its first step, with regularizers and counters. `reset_parameters` would
        # not do: spectral norm ignores it, and it knows only torch's initialization, not the networks' own.
        self._untrained = copy.deepcopy(gan)

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        measured = {row["age"] for row in self.rows}
        self._due = [age for age in self.ages if age not in measured]

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        while self._due and gan.images_seen >= self._due[0]:
            self._timed_run(trainer, gan)

    def on_train_end(self, trainer, gan):
        if self.rows and trainer.is_global_zero:
            save_figure(self.run_dir / "vanishing.png", draw_figure(self.rows))

    def run(self, trainer, gan):
        age = self._due.pop(0)
        time = {"age": age, "images_seen": gan.images_seen, "epochs": gan.images_seen / len(trainer.datamodule.train.x)}
        rows = [time | row for row in self._train_critic(trainer, gan)]
        self.rows += rows
        if trainer.is_global_zero:
            table = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows]
            write_csv(self.run_dir / "vanishing.csv", table)
            change = decades(rows, "MinimaxGAN")
            log.info(f"{gan.images_seen:>11,} images   a new critic changes minimax's gradient by {change:+.1f} decades")

    def _train_critic(self, trainer, gan) -> list[dict[str, float]]:
        """Train the initial critic against the current generator, and return a row per measurement."""
        clone = copy.deepcopy(self._untrained).to(gan.device)
        clone.generator.load_state_dict(gan.generator.state_dict())
        clone.conditioning.load_state_dict(gan.conditioning.state_dict())
        families = shipped_and_own_families(clone)
        optimizer = clone.discriminator_optimizer(clone.discriminator.parameters())
        rows = []
        with isolated_rng(self.seed, gan.device):
            batches = training_batches(trainer, clone)
            real, y = next(batches)
            probe_batch = real, y, clone.sample_latents(len(real))
            for step, (real, y) in enumerate(islice(batches, self.critic_steps + 1)):
                clone.on_step_start()
                outputs = clone.forward_pass(real, y, with_real=True, grad_to_generator=False)
                terms = clone.discriminator_terms(outputs)
                clone.queue_finite_check(terms)
                objective = sum(terms.values())
                if step % self.every == 0 or step == self.critic_steps:
                    check_critic(clone)
                    with isolated_rng(self.seed, gan.device):  # the same labels and augmentation each time
                        norms = generator_gradient_norms(clone, families, *probe_batch)
                    norms = {name: float(norm) for name, norm in norms.items()}
                    rows.append({"critic_step": step, "critic_loss": float(objective.detach())} | norms)
                optimizer.zero_grad()
                objective.backward()
                optimizer.step()
                clone.project_discriminator()
                clone.d_updates += 1
        return rows


def check_critic(clone) -> None:
    """
    Raises:
        RuntimeError: a loss of the new critic is not finite. (A FloatingPointError would end the run.)
    """
    try:
        clone.check_finite()
    except FloatingPointError as error:
        raise RuntimeError(f"the new critic failed: {error}") from error


# line styles of the highlighted families, the widest drawn first: three of them nearly coincide
HIGHLIGHTED = {
    "LSGAN": {"label": "LSGAN", "color": "#E69F00", "lw": 2},
    "WGAN": {"label": "WGAN", "color": "#8FD3BC", "lw": 6},
    "NonSaturatingGAN": {"label": "non-saturating, -log D(G(z))", "color": "#0072B2", "lw": 2.5},
    "RpGAN": {"label": "RpGAN", "color": "#1B1B1B", "lw": 1.5, "ls": (0, (1, 2))},
    "MinimaxGAN": {"label": "minimax, log(1 - D(G(z)))", "color": "#D1261B", "lw": 3},
}
OTHERS_STYLE = {"color": "0.78", "lw": 1, "zorder": 1}


def decades(rows: list[dict[str, float]], family: str) -> float:
    """log10 of a family's gradient norm in the last row over that in the first; nan where one of them is 0."""
    first, last = rows[0][family], rows[-1][family]
    return math.log10(last / first) if first > 0 and last > 0 else math.nan


def draw_figure(rows: list[dict[str, float]]):
    """Draw the rows of `vanishing.csv` as a matplotlib Figure: a panel per age, all families on one log scale."""
    from matplotlib.figure import Figure

    ages = {age: [row for row in rows if row["age"] == age] for age in dict.fromkeys(row["age"] for row in rows)}
    others = [name for name in list(rows[0])[len(AGE_COLUMNS) :] if name not in HIGHLIGHTED]
    figure = Figure(figsize=(1.5 + 3.5 * len(ages), 5.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(ages), sharey=True, squeeze=False)[0]
    for panel, part in zip(panels, ages.values()):
        steps = [row["critic_step"] for row in part]
        for name, style in (dict.fromkeys(others, OTHERS_STYLE) | HIGHLIGHTED).items():
            panel.plot(steps, [row[name] for row in part], **style)
        first = part[0]
        panel.set_title(f"G after {first['images_seen']:,} images ({round(first['epochs'], 2):g} epochs)", fontsize=10)
        change = f"{decades(part, 'MinimaxGAN'):+.1f} decades from its start".replace("-", "\N{MINUS SIGN}")
        end = steps[-1], min(row["MinimaxGAN"] for row in part)
        color = HIGHLIGHTED["MinimaxGAN"]["color"]
        panel.annotate(change, end, (-2, -16), textcoords="offset points", ha="right", color=color, weight="bold")
        panel.set(yscale="log", xlim=(0, steps[-1]), xlabel="updates of a new critic, G frozen")
        panel.locator_params(axis="x", nbins=4, prune="upper")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.92")
    shown = [row[name] for row in rows for name in HIGHLIGHTED if row[name] > 0 and math.isfinite(row[name])]
    low, high = min(shown, default=1) / 10, max(shown, default=1) * 10  # else exponential losses would take the whole axis
    panels[0].set(ylim=(low, high), ylabel=r"gradient for the generator  $\Vert\partial L_G/\partial\theta_G\Vert_2$")
    off_axis = sum(not all(low < row[name] < high for row in rows) for name in others)
    others_label = f"{len(others)} other families" + (f", {off_axis} off the axis" if off_axis else "")
    figure.suptitle("One generator, one new critic, every loss", weight="bold")
    panels[0].plot([], [], label=others_label, **OTHERS_STYLE)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ages), frameon=False)
    return figure
