"""The figures of a report: every curve can be seen, and every label can be read."""

from itertools import pairwise

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from run_factory import scores, write_run

from ganlab.report import Ranking, figures
from ganlab.report.groups import group_runs
from ganlab.report.runs import find_runs

LOSSES = ("minimax", "ns", "ls", "wgan", "hinge", "rpgan", "r3gan", "alpha")


def draw(monkeypatch, folder, plot, *arguments):
    """The figure that a plot function draws of the runs in a folder."""
    drawn = []
    monkeypatch.setattr(figures, "_to_png", lambda figure: drawn.append(figure) or b"png")
    (groups,) = group_runs(find_runs([folder]))
    assert plot(Ranking(groups), *arguments) == b"png"
    figure = drawn[0]
    figure.set_dpi(150)
    FigureCanvasAgg(figure).draw()
    return figure


def test_eight_equal_curves_are_all_visible(tmp_path, monkeypatch):
    for loss in LOSSES:
        write_run(tmp_path / loss, [scores(modes, 0.5) for modes in (2, 5, 8)], loss=loss)
    figure = draw(monkeypatch, tmp_path, figures.plot_curves, "modes_2500", "images")
    figure.legends[0].remove()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    for color in figures.COLORS:
        rgb = np.array(matplotlib.colors.to_rgb(color)) * 255
        assert (np.abs(pixels - rgb).sum(-1) < 60).sum() > 100, color


@pytest.mark.parametrize("scale", [1e-7, 3e-3, 1, 37.0, 6e5])
@pytest.mark.parametrize("steepness", [0.02, 1, 4])
def test_tick_labels_do_not_overlap_and_nothing_is_clipped(tmp_path, monkeypatch, scale, steepness):
    for loss in LOSSES[:3]:
        for seed in (1, 2, 3):
            history = [scores(8, scale * (1 + seed / 10) * (k + 1.0) ** -steepness) for k in range(7)]
            write_run(tmp_path / f"{loss}{seed}", history, loss=loss, seed=seed)
    for plot, *arguments in (
        (figures.plot_curves, "kl_with_off_mode_2500", "images"),
        (figures.plot_curves, "kl_with_off_mode_2500", "seconds"),
        (figures.plot_seeds, "kl_with_off_mode_2500"),
        (figures.plot_seeds, "modes_2500"),
    ):
        figure = draw(monkeypatch, tmp_path, plot, *arguments)
        (axes,) = figure.axes
        for axis, start, end in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            labels = [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]
            low, high = sorted(axis.get_view_interval())
            shown = [label for label in labels if label.get_text() and low <= label.get_position()[start == "y0"] <= high]
            boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: getattr(box, start))
            assert all(getattr(a, end) < getattr(b, start) for a, b in pairwise(boxes)), [label.get_text() for label in shown]
            assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
            assert shown
