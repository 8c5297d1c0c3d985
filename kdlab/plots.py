"""The course's figures: one look, colours that survive greyscale and colour-blind eyes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito's palette, ordered so that neighbours also differ in lightness
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STAR = "#F0E442"  # the palette's yellow: no line has it


def use_style() -> None:
    """Set the course's look for every figure that follows."""
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "figure.figsize": (6.4, 3.4),
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "legend.frameon": False,
        }
    )


def gallery(pictures: np.ndarray, titles: Sequence[str], columns: int = 10, title: str = "") -> None:
    """Show grey-scale pictures, shape (N, H, W) in [0, 1], in rows, each with a title."""
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(0.85 * columns, 1.05 * rows + 0.3), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, name in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(name, fontsize=8, loc="center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def dots(
    groups: Mapping[str, Sequence[float]], *, xlabel: str, title: str, percent: bool = True, ax: Axes | None = None
) -> None:
    """Draw one row of dots a group, one dot a seed, with the mean and its 95 % interval.

    Parameters
    ----------
    groups
        Values, one a seed, by the name of the group; drawn from top to bottom.
    percent
        Values are fractions, to be shown as percentages.
    """
    from kdlab.experiments import interval

    show = ax is None
    if show:
        _, ax = plt.subplots(figsize=(6.4, 0.5 * len(groups) + 1.1))
    factor = 100 if percent else 1
    for row, group in enumerate(groups.values()):
        values = factor * np.asarray(group, float)
        colour = COLOURS[row % len(COLOURS)]
        ax.plot(values, np.full(len(values), row), MARKERS[row % len(MARKERS)], color=colour, alpha=0.45, ms=5)
        if len(values) > 1:
            found = interval(values)
            ax.plot([found.low, found.high], [row, row], color=colour, lw=2.5, solid_capstyle="butt")
            ax.plot([found.mean] * 2, [row - 0.22, row + 0.22], color=colour, lw=2.5)
        ax.annotate(
            f"{values.mean():.1f} %" if percent else f"{values.mean():.3g}",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
        )
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    ax.set_title(title)
    if show:
        plt.show()


def curve(ax: Axes, x: Sequence[float], runs: Sequence[Sequence[float]], label: str, number: int = 0) -> None:
    """Draw the mean of several runs against `x` with the band between the smallest and the largest run.

    Parameters
    ----------
    runs
        Shape (runs, len(x)).
    number
        Which colour and marker of the palette.
    """
    runs = np.atleast_2d(np.asarray(runs, float))
    colour = COLOURS[number % len(COLOURS)]
    ax.plot(x, runs.mean(0), marker=MARKERS[number % len(MARKERS)], ms=4, color=colour, label=label)
    ax.fill_between(x, runs.min(0), runs.max(0), color=colour, alpha=0.18, lw=0)


def scatter(
    points: Mapping[str, tuple[float, float]], *, xlabel: str, ylabel: str, title: str, log: bool = True
) -> None:
    """Draw named points, (x, y) each."""
    _, ax = plt.subplots()
    for number, (name, (x, y)) in enumerate(points.items()):
        ax.plot(x, y, MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)], ms=8)
        ax.annotate(name, (x, y), textcoords="offset points", xytext=(7, 5), fontsize=9)
    if log:
        ax.set_xscale("log")
    ax.margins(x=0.35, y=0.2)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    plt.show()


def pareto(
    table, cost: str = "bytes", highlight: str = "your networks", title: str = "", ax: Axes | None = None
) -> Figure:
    """Draw accuracy against cost, with the front that no network beats: a step at each that does better for more.

    Parameters
    ----------
    table : pandas.DataFrame
        As `kdlab.exhibits.collected` returns it: columns ``lesson``, ``name``, `cost` and ``accuracy``.
    cost
        ``"bytes"``, ``"MACs"`` or ``"latency µs"``: the logarithmic axis.
    highlight
        The lesson whose networks are drawn as stars, with their names.
    ax
        Where to draw; a figure of its own if None.

    Returns
    -------
    Figure
        To be the last line of a cell.
    """
    from kdlab.exhibits import front

    best = front(table, cost)
    alone = ax is None
    ax = plt.subplots(figsize=(7.5, 4.2))[1] if alone else ax
    lessons = [lesson for lesson in dict.fromkeys(table["lesson"]) if lesson != highlight]
    for number, lesson in enumerate(lessons):
        rows = table[table["lesson"] == lesson]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        ax.plot(rows[cost], 100 * rows["accuracy"], marker, color=colour, alpha=0.75, ms=6, label=lesson)
    _stars(ax, table[table["lesson"] == highlight], cost, highlight)
    if len(best):
        end = max(best[cost].iloc[-1], table[cost].max())
        x, y = [*best[cost], end], [*(100 * best["accuracy"]), 100 * best["accuracy"].iloc[-1]]
        ax.step(x, y, where="post", color="#888888", lw=1.2, zorder=0, label="front")
        ax.legend(fontsize=8)
        ax.set_xscale("log")
    ax.set(xlabel=cost, ylabel="accuracy (%)")
    ax.set_title(title)
    if alone:
        plt.close(ax.figure)  # or a notebook would show it twice
    return ax.figure


def _stars(ax: Axes, rows, cost: str, label: str) -> None:
    if not len(rows):
        return
    ax.plot(rows[cost], 100 * rows["accuracy"], "*", color=_STAR, mec="black", ms=14, zorder=3, label=label)
    ordered = rows.sort_values(cost)
    for number, (name, x, y) in enumerate(zip(ordered["name"], ordered[cost], 100 * ordered["accuracy"], strict=True)):
        above = {"xytext": (-8, 7), "ha": "right"}
        beside = above if number % 2 == 0 else {"xytext": (8, -13)}  # neighbours apart
        ax.annotate(name, (x, y), textcoords="offset points", fontsize=9, **beside)


def table(rows: Sequence[Mapping[str, Any]], index: str, formats: Mapping[str, str]):
    """Return rows as a styled table: chosen columns, in the order of `formats`.

    Parameters
    ----------
    index
        The column that names the rows.
    formats
        A format a column, ``{"accuracy": "{:.1%}"}``; columns without one are left out.
    """
    import pandas as pd

    frame = pd.DataFrame(rows).set_index(index)[list(formats)]
    return frame.style.format(dict(formats))
