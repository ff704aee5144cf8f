"""The picture of an inspected loss: saturation, Dirac-GAN, what D measures, conformance."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganlab.analysis.checks import Check
from ganlab.analysis.dirac_gan import DiracGAN
from ganlab.analysis.optimal_discriminator import OptimalDiscriminator
from ganlab.analysis.saturation import Saturation
from ganlab.utils.files import save_figure

INK, FAINT, BLUE, ORANGE, GREEN, RED = "#1f2430", "#c9ced8", "#2563c9", "#e07b1a", "#2a9d5c", "#cc3333"
GRAY = "#9aa1ad"
MARKS = {"fail": ("✗", RED, RED), "notice": ("!", ORANGE, INK), "pass": ("✓", GREEN, INK)}  # worst first


def draw(path: Path, inspection, others: Sequence[Saturation]) -> None:
    """Write a PNG of 1600 x 1000 pixels. Texts of the user are not parsed: LaTeX may be more than matplotlib knows.

    Args:
        inspection: has title, summary, checks; saturation, dirac_gan and optimal_discriminator, or None for what failed.
        others: other families' saturation, drawn in gray.
    """
    panels: tuple[tuple[str, Callable, object], ...] = (  # title, how to draw the result (returns a verdict), result
        ("Does G's gradient survive where D recognizes the fakes?", partial(_draw_saturation, others), inspection.saturation),
        ("Does the game converge?", _draw_dirac_gan, inspection.dirac_gan),
        ("What does the optimal D measure?", _draw_optimal_discriminator, inspection.optimal_discriminator),
        ("Is it implemented right?", _draw_checks, inspection.checks),
    )
    with matplotlib.rc_context({"font.size": 9.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT}):
        figure = Figure(figsize=(12.8, 8), dpi=125, layout="constrained")
        figure.suptitle(inspection.title, fontsize=17, fontweight="bold", x=0.012, ha="left")
        figure.text(0.99, 0.985, inspection.summary, ha="right", va="top", color="#6b7280", fontsize=9, parse_math=False)
        for axis, (title, draw_result, result) in zip(figure.subplots(2, 2).flat, panels):
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_title(title, loc="left", fontsize=11.5, fontweight="bold", pad=22)
            verdict = _placeholder(axis, "could not be computed") if result is None else draw_result(axis, result)
            axis.text(0, 1.025, verdict, transform=axis.transAxes, color=BLUE, va="bottom", parse_math=False)
        save_figure(path, figure)


def _placeholder(axis: Axes, text: str) -> str:
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=GRAY, wrap=True, parse_math=False)
    return ""


def _draw_saturation(others: Sequence[Saturation], axis: Axes, own: Saturation) -> str:
    for other in others:
        axis.plot(other.logits, other.gradient.clamp(min=1e-12), color=FAINT, lw=0.9)
    axis.plot(own.logits, own.gradient.clamp(min=1e-12), color=BLUE, lw=2.4)
    if 1e-8 < own.at_minus_10 < 1e3:
        axis.plot([-10], [own.at_minus_10], "o", color=BLUE, ms=6)
        x, factor, side = (-11, 3, "right") if own.at_minus_10 < 1e-3 else (-29, 3.5, "left")
        axis.text(x, own.at_minus_10 * factor, f"{own.at_minus_10:.3g} at -10", color=BLUE, ha=side)
    axis.axvspan(-30, 0, color="#f4f6fa", zorder=0, lw=0)
    axis.text(-29.3, 2.2e-8, "D recognizes the fake", color="#8a92a0")
    axis.text(29.3, 2.2e-8, "D is fooled", color="#8a92a0", ha="right")
    axis.set(xlim=(-30, 30), yscale="log", ylim=(1e-8, 1e3))
    axis.set(xlabel="logit f of a fake  (other families in gray)", ylabel="|dL_G / df|")
    return own.verdict


def _draw_dirac_gan(axis: Axes, own: DiracGAN) -> str:
    if own.simultaneous is None or own.alternating is None:
        return _placeholder(axis, own.reason)
    for points, radius, color, name in (
        (own.simultaneous, own.radius_simultaneous, BLUE, "simultaneous"),
        (own.alternating, own.radius_alternating, ORANGE, "alternating"),
    ):
        visible = points.clamp(-1e3, 1e3)
        axis.plot(visible[:, 0], visible[:, 1], color=color, lw=0.9, alpha=0.85, label=f"{name}: ends at radius {radius:.2g}")
        axis.plot(*visible[-1], "o", color=color, ms=6)
    axis.plot(*own.simultaneous[0], "o", color="white", mec=INK, ms=7)
    axis.annotate("start", own.simultaneous[0].tolist(), xytext=(7, -4), textcoords="offset points")
    axis.plot(0, 0, "+", color=INK, ms=13, mew=1.8)
    distances = torch.cat([own.simultaneous, own.alternating]).abs()
    limit = min(max(1.3, 1.1 * distances[distances.isfinite()].max().item()), 8)
    axis.set(xlim=(-limit, limit), xlabel="θ, where the generator puts its point (real: 0)")
    axis.set(ylim=(-limit, limit), ylabel="ψ, the critic's slope")
    axis.legend(frameon=False, loc="upper right", fontsize=8.5)
    spectrum = f"; eigenvalues {own.spectrum}" if own.eigenvalues else ""
    return f"{own.verdict}{spectrum}  (Dirac-GAN, {len(own.simultaneous) - 1} steps of {own.lr:g})"


def _draw_optimal_discriminator(axis: Axes, own: OptimalDiscriminator) -> str:
    if own.attained and own.declared_logits is not None:
        ratio = (own.p / own.q).log().flatten()
        order = ratio.argsort()
        axis.plot(ratio[order], own.declared_logits.flatten()[order], "-", color=FAINT, lw=5, label="declared optimal logit")
        axis.plot(ratio, own.logits.flatten(), "o", color=BLUE, ms=6, label="at the minimum of D's loss")
        axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
        axis.axvline(0, color=FAINT, lw=0.8, zorder=0)
        axis.set(xlabel="log p/q at a point (real over fake density)", ylabel="D's optimal logit there")
    else:
        positions = torch.arange(len(own.value))
        offset = 0 if own.declared_value is None else 0.18
        axis.bar(positions - offset, own.value, 0.34, color=BLUE, label="-min of D's loss")
        if own.declared_value is not None:
            axis.bar(positions + offset, own.declared_value, 0.34, color=FAINT, label="declared divergence")
        axis.set_xticks(positions, [f"p, q no. {i + 1}" for i in positions])
    axis.legend(frameon=False, fontsize=8.5)
    return own.name or "the class declares no divergence"


def _draw_checks(axis: Axes, checks: Sequence[Check]) -> str:
    axis.set_axis_off()
    answers: dict[str, set[str]] = {}  # the same check is made of several parts
    for check in checks:
        answers.setdefault(check.name, set()).add(check.state)
    rows = max((len(answers) + 1) // 2, 1)
    for i, (name, states) in enumerate(answers.items()):
        column, row = divmod(i, rows)
        state = next((state for state in MARKS if state in states), "not applicable")
        mark, mark_color, color = MARKS.get(state, ("–", GRAY, GRAY))
        x, y = 0.52 * column, 0.97 - row * min(0.075, 0.97 / rows)
        axis.text(x, y, mark, color=mark_color, fontweight="bold", va="center", transform=axis.transAxes)
        axis.text(x + 0.035, y, name, color=color, fontsize=9, va="center", transform=axis.transAxes)
    passed, noticed, failed = (sum(check.state == state for check in checks) for state in ("pass", "notice", "fail"))
    return f"{passed} checks passed, {noticed} noticed, {failed} failed"
