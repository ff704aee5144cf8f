"""The picture of an inspected loss: saturation, Dirac-GAN, what D measures, conformance."""

from __future__ import annotations

from collections.abc import Sequence
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


def draw(path: Path, inspection, others: Sequence[Saturation]) -> None:
    """Write a PNG of 1600 x 1000 pixels. Texts of the user are not parsed: LaTeX may be more than matplotlib knows.

    Args:
        inspection: has title, summary, checks; saturation, dirac_gan and optimal_discriminator, or None for what failed.
        others: other families' saturation, drawn in gray.
    """
    with matplotlib.rc_context({"font.size": 9.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT}):
        figure = Figure(figsize=(12.8, 8), dpi=125, layout="constrained")
        figure.suptitle(inspection.title, fontsize=17, fontweight="bold", x=0.012, ha="left")
        figure.text(0.99, 0.985, inspection.summary, ha="right", va="top", color="#6b7280", fontsize=9, parse_math=False)
        axes = figure.subplots(2, 2).flat
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
        _draw_saturation(axes[0], inspection.saturation, others)
        _draw_dirac_gan(axes[1], inspection.dirac_gan)
        _draw_optimal_discriminator(axes[2], inspection.optimal_discriminator)
        _draw_checks(axes[3], inspection.checks)
        save_figure(path, figure)


def _heading(axis: Axes, text: str, verdict: str = "") -> None:
    axis.set_title(text, loc="left", fontsize=11.5, fontweight="bold", pad=22)
    axis.text(0, 1.025, verdict, transform=axis.transAxes, fontsize=9.5, color=BLUE, va="bottom", parse_math=False)


def _placeholder(axis: Axes, text: str) -> None:
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=GRAY, wrap=True, parse_math=False)


def _draw_saturation(axis: Axes, own: Saturation | None, others: Sequence[Saturation]) -> None:
    if own is None:
        _heading(axis, "Saturation")
        return _placeholder(axis, "the generator's loss could not be evaluated")
    _heading(axis, "Does G's gradient survive where D recognizes the fakes?", own.verdict)
    axis.set_yscale("log")
    axis.set_ylim(1e-8, 1e3)
    axis.set_xlim(-30, 30)
    for other in others:
        axis.plot(other.logits, other.gradient.clamp(min=1e-12), color=FAINT, lw=0.9)
    axis.plot(own.logits, own.gradient.clamp(min=1e-12), color=BLUE, lw=2.4)
    if 1e-8 < own.at_minus_10 < 1e3:
        axis.plot([-10], [own.at_minus_10], "o", color=BLUE, ms=6)
        above = own.at_minus_10 < 1e-3
        axis.annotate(
            f"{own.at_minus_10:.3g} at -10", (-10, own.at_minus_10), (-11 if above else -29, own.at_minus_10 * (3 if above else 3.5)),
            color=BLUE, ha="right" if above else "left",
        )  # fmt: skip
    axis.axvspan(-30, 0, color="#f4f6fa", zorder=0, lw=0)
    axis.text(-29.3, 2.2e-8, "D recognizes the fake", color="#8a92a0")
    axis.text(29.3, 2.2e-8, "D is fooled", color="#8a92a0", ha="right")
    axis.set_xlabel("logit f of a fake  (other families in gray)")
    axis.set_ylabel("|dL_G / df|")


def _draw_dirac_gan(axis: Axes, own: DiracGAN | None) -> None:
    if own is None or own.simultaneous is None or own.alternating is None:
        _heading(axis, "Dirac-GAN")
        return _placeholder(axis, own.reason if own else "the Dirac-GAN could not be computed")
    _heading(
        axis,
        f"Does the game converge?  (Dirac-GAN, 500 steps of {own.lr:g})",
        own.verdict + (f"; eigenvalues {own.spectrum}" if own.eigenvalues else ""),
    )
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
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="θ, where the generator puts its point (real: 0)")
    axis.set_ylabel("ψ, the critic's slope")
    axis.legend(frameon=False, loc="upper right", fontsize=8.5)


def _draw_optimal_discriminator(axis: Axes, own: OptimalDiscriminator | None) -> None:
    if own is None:
        _heading(axis, "What D measures")
        return _placeholder(axis, "the discriminator's loss could not be minimized")
    _heading(axis, "What does the optimal D measure?", own.name or "the class declares no divergence")
    if not own.attained or own.declared_logits is None:
        positions = torch.arange(len(own.value))
        offset = 0 if own.declared_value is None else 0.18
        axis.bar(positions - offset, own.value, 0.34, color=BLUE, label="-min of D's loss")
        if own.declared_value is not None:
            axis.bar(positions + offset, own.declared_value, 0.34, color=FAINT, label="declared divergence")
        axis.set_xticks(positions, [f"p, q no. {i + 1}" for i in positions])
        axis.legend(frameon=False, fontsize=8.5)
        return None
    ratio = (own.p / own.q).log().flatten()
    order = ratio.argsort()
    axis.plot(ratio[order], own.declared_logits.flatten()[order], "-", color=FAINT, lw=5, label="declared optimal logit")
    axis.plot(ratio, own.logits.flatten(), "o", color=BLUE, ms=6, label="at the minimum of D's loss")
    axis.axhline(0, color=FAINT, lw=0.8, zorder=0)
    axis.axvline(0, color=FAINT, lw=0.8, zorder=0)
    axis.set(xlabel="log p/q at a point (real over fake density)", ylabel="D's optimal logit there")
    axis.legend(frameon=False, loc="upper left", fontsize=8.5)
    return None


def _draw_checks(axis: Axes, checks: Sequence[Check]) -> None:
    failed = sum(check.ok is False for check in checks)
    passed = sum(check.ok is True for check in checks)
    _heading(axis, "Is it implemented right?", f"{passed} checks passed, {failed} failed")
    axis.set_axis_off()
    answers: dict[str, list[bool | None]] = {}  # the same check is made of several parts
    for check in checks:
        answers.setdefault(check.name, []).append(check.ok)
    rows = max((len(answers) + 1) // 2, 1)
    for i, (name, oks) in enumerate(answers.items()):
        column, row = divmod(i, rows)
        mark, mark_color, color = ("✗", RED, RED) if False in oks else ("✓", GREEN, INK) if True in oks else ("–", GRAY, GRAY)
        x, y = 0.52 * column, 0.97 - row * min(0.075, 0.97 / rows)
        axis.text(x, y, mark, color=mark_color, fontweight="bold", va="center", transform=axis.transAxes)
        axis.text(x + 0.035, y, name, color=color, fontsize=9, va="center", transform=axis.transAxes)
