"""Things to move with the mouse. Each also carries a still picture of its first state, for viewers without a kernel."""

import base64
import html
import io
import math
from collections.abc import Mapping

import ipywidgets
import numpy as np
import torch
from torch import Tensor, nn

from kdlab.data import Split
from kdlab.distillation import soften
from kdlab.errors import KdlabError
from kdlab.measure import macs, parameters
from kdlab.pruning import Gradual, Iterative, OneShot, Scheduled, channels, weights

_BAR = "#0072B2"
_TRUE_BAR = "#E69F00"


class Explorer(ipywidgets.VBox):
    """Controls above a picture made of HTML; where no kernel answers, the picture of the first state is shown."""

    def __init__(self, controls: dict[str, ipywidgets.Widget], draw):
        self._controls, self._draw = controls, draw
        self.view = ipywidgets.HTML()
        super().__init__([*controls.values(), self.view])
        for control in controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()
        self._still = self.view.value

    def _redraw(self, _change=None) -> None:
        self.view.value = self._draw(**{name: control.value for name, control in self._controls.items()})

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        return {**data, "text/html": self._still}


def temperature_explorer(logits: Tensor, data: Split, *, image: int = 0, temperature: float = 4.0) -> Explorer:
    """Move the temperature over a teacher's logits and watch the soft target of one image.

    Parameters
    ----------
    logits
        The teacher's logits of the images in `data`, shape (N, classes).
    data
        The images themselves.
    image, temperature
        Where to start.
    """
    if logits.shape != (len(data), len(data.classes)):
        raise KdlabError(
            f"logits have shape {tuple(logits.shape)}; expected ({len(data)}, {len(data.classes)}), one row for every "
            "image. Make them with predict(teacher, data)."
        )
    logits = logits.detach().cpu()

    def draw(temperature: float, image: int) -> str:
        return soft_target_html(
            logits[image], temperature, data.show([image])[0], int(data.labels[image]), data.classes
        )

    controls = {
        "temperature": ipywidgets.FloatLogSlider(
            value=temperature, base=10, min=-0.5, max=2, step=0.05, description="temperature T", readout_format=".2f",
            style={"description_width": "110px"}, layout={"width": "460px"},
        ),
        "image": ipywidgets.IntSlider(
            value=image, min=0, max=len(data) - 1, description="image",
            style={"description_width": "110px"}, layout={"width": "460px"},
        ),
    }  # fmt: skip
    return Explorer(controls, draw)


def soft_target_html(logits: Tensor, temperature: float, picture: np.ndarray, label: int, classes) -> str:
    """Draw one image, its softened distribution as bars, and the distribution's entropy.

    Parameters
    ----------
    logits
        Shape (classes,).
    picture
        Shape (H, W) in [0, 1].
    """
    probabilities = soften(logits[None], temperature)[0]
    entropy = -(probabilities * torch.log2(probabilities.clamp(min=1e-30))).sum().item()
    bars = "".join(
        _bar(name, p, _TRUE_BAR if number == label else _BAR)
        for number, (name, p) in enumerate(zip(classes, probabilities.tolist(), strict=True))
    )
    caption = (
        f"T = {temperature:.2f}: entropy {entropy:.2f} bits of at most {np.log2(len(classes)):.2f}; largest "
        f"probability {probabilities.max().item():.3f}. The true class, {html.escape(classes[label])}, is the "
        "orange bar."
    )
    return (
        '<div style="display:flex;gap:24px;align-items:center;max-width:640px">'
        f'<img alt="the image" src="{_png(picture)}" style="width:140px;image-rendering:pixelated">'
        f'<div style="flex:1">{bars}</div></div><div style="max-width:640px">{caption}</div>'
    )


def _bar(name: str, probability: float, colour: str) -> str:
    return (
        '<div style="display:flex;align-items:center;line-height:1.35">'
        f'<span style="width:70px;text-align:right;padding-right:8px">{html.escape(name)}</span>'
        f'<span style="flex:1"><span style="display:inline-block;height:11px;background:{colour};'
        f'width:{100 * probability:.2f}%"></span></span>'
        f'<span style="width:52px;text-align:right">{probability:.3f}</span></div>'
    )


def _png(picture: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((255 * (1 - picture)).astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def attention_explorer(maps: Mapping[str, Tensor], data: Split, *, image: int = 0) -> Explorer:
    """Step through images and see where several networks look.

    Parameters
    ----------
    maps
        Attention maps by name, shape (N, H * W) each with H = W, as `kdlab.distillation.attention_map` makes them.
    data
        The N images themselves.
    image
        Where to start.
    """
    maps = {name: rows.detach().cpu() for name, rows in maps.items()}
    for name, rows in maps.items():
        side = math.isqrt(rows.shape[-1])
        if rows.shape != (len(data), side * side):
            raise KdlabError(
                f"The maps of {name!r} have shape {tuple(rows.shape)}; expected ({len(data)}, H * W), one square map "
                "for every image. Make them with attention_map(look(network, data.images, [layer]).features[layer])."
            )

    def draw(image: int) -> str:
        return attention_html(
            {name: rows[image] for name, rows in maps.items()}, data.show([image])[0], data.classes[data.labels[image]]
        )

    control = ipywidgets.IntSlider(
        value=image, min=0, max=len(data) - 1, description="image",
        style={"description_width": "110px"}, layout={"width": "460px"},
    )  # fmt: skip
    return Explorer({"image": control}, draw)


def attention_html(maps: Mapping[str, Tensor], picture: np.ndarray, label: str) -> str:
    """Draw one image beside square maps of it; the brightest field of each map is its largest entry.

    Parameters
    ----------
    maps
        Shape (H * W,) each.
    picture
        Shape (H, W) in [0, 1].
    """
    panels = [(label, _png(picture))]
    for name, row in maps.items():
        side = math.isqrt(len(row))
        panels.append((name, _heat(row.reshape(side, side).numpy())))
    figures = "".join(
        '<div style="text-align:center">'
        f'<img alt="{html.escape(name)}" src="{source}" style="width:130px;height:130px;image-rendering:pixelated">'
        f"<div>{html.escape(name)}</div></div>"
        for name, source in panels
    )
    return f'<div style="display:flex;gap:18px;flex-wrap:wrap">{figures}</div>'


def _heat(values: np.ndarray) -> str:
    from matplotlib import colormaps
    from PIL import Image

    largest = values.max() or 1.0
    file = io.BytesIO()
    Image.fromarray((255 * colormaps["cividis"](values / largest)[..., :3]).astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def sparsity_explorer(
    model: nn.Module, curves: Mapping[str, Mapping[float, float]], *, sparsity: float = 0.8
) -> Explorer:
    """Move the sparsity and watch which weights go, and what was measured there. Nothing is computed but the picture.

    Parameters
    ----------
    model
        The dense network, whose weights are drawn and ranked by magnitude over all layers.
    curves
        Measured accuracies (fractions) by sparsity, ``{"as pruned": {0.0: 0.9, 0.5: 0.88}}``. The slider stops where
        something was measured.
    sparsity
        Where to start: one of the measured sparsities.
    """
    stops = _stops(curves, "sparsity", sparsity)
    parts = {name: weight.detach().cpu().flatten().numpy() for name, weight in weights(model).items()}
    parts = {"all layers": np.concatenate(list(parts.values())), **parts}
    sizes = np.sort(np.abs(parts["all layers"]))

    def draw(sparsity: float, layer: str) -> str:
        count = round(sparsity * len(sizes))
        return sparsity_html(parts[layer], sizes[count - 1] if count else 0.0, sparsity, curves)

    controls = {
        "sparsity": ipywidgets.SelectionSlider(
            options=[(f"{stop:.0%}", stop) for stop in stops], value=sparsity, description="sparsity",
            style={"description_width": "110px"}, layout={"width": "460px"},
        ),
        "layer": ipywidgets.Dropdown(
            options=list(parts), description="weights of",
            style={"description_width": "110px"}, layout={"width": "460px"},
        ),
    }  # fmt: skip
    return Explorer(controls, draw)


def sparsity_html(
    part: np.ndarray, threshold: float, sparsity: float, curves: Mapping[str, Mapping[float, float]]
) -> str:
    """Draw a histogram of weights with those up to the threshold in grey, and the measured curves beside it.

    Parameters
    ----------
    part
        Weights, shape (n,).
    threshold
        The largest magnitude that is removed; 0 removes nothing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 2.7), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    gone = part[np.abs(part) <= threshold] if threshold else part[:0]
    bins = np.linspace(-np.abs(part).max(), np.abs(part).max(), 81)
    left.hist(part, bins, color=_BAR)
    left.hist(gone, bins, color="#BBBBBB")
    for edge in (-threshold, threshold) if threshold else ():
        left.axvline(edge, color="black", lw=0.8)
    left.set(title="grey: becomes zero", xlabel="weight", ylabel="weights in a bin")
    _draw_measured(right, curves, sparsity, "sparsity (%)")
    caption = (
        f"Sparsity {sparsity:.0%}: every weight with a size of at most {threshold:.3f} becomes zero, here "
        f"{len(gone):,} of {len(part):,} ({len(gone) / len(part):.0%}). Accuracy: {_measured(curves, sparsity)}."
    )
    return _captioned(figure, "histogram of the weights, and accuracy against sparsity", caption)


def channels_explorer(
    model: nn.Module, example, curves: Mapping[str, Mapping[float, float]], *, ratio: float = 0.25
) -> Explorer:
    """Move the ratio of channels that go, and watch the widths, the prices and the accuracy measured there.

    The smaller networks are made once, when the explorer is; moving the slider computes nothing but the picture.

    Parameters
    ----------
    model
        The network before pruning.
    example
        A batch that it accepts.
    curves
        Measured accuracies (fractions) by ratio, ``{"as cut": {0.0: 0.9, 0.5: 0.3}}``. The slider stops where something
        was measured.
    ratio
        Where to start: one of the measured ratios.
    """
    stops = _stops(curves, "ratio", ratio)
    cut = {stop: channels.remove(model, example, stop) if stop else model for stop in stops}
    whole = _widths(model, example)
    widths = {stop: _widths(net, example) for stop, net in cut.items()}
    sizes = {stop: (parameters(net), macs(net, example)) for stop, net in cut.items()}
    full = parameters(model), macs(model, example)

    def draw(ratio: float) -> str:
        left = {name: (widths[ratio][name], width) for name, width in whole.items()}
        return channels_html(left, tuple(zip(sizes[ratio], full, strict=True)), ratio, curves)

    control = ipywidgets.SelectionSlider(
        options=[(f"{stop:.1%}", stop) for stop in stops], value=ratio, description="channels removed",
        style={"description_width": "130px"}, layout={"width": "460px"},
    )  # fmt: skip
    return Explorer({"ratio": control}, draw)


def _widths(model: nn.Module, example) -> dict[str, int]:
    """The widths of the groups that do not end in the network's output, by name."""
    found = channels.groups(model, example)
    return {group.name: group.width for group in found if group.readers}


def channels_html(
    widths: Mapping[str, tuple[int, int]],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    ratio: float,
    curves: Mapping[str, Mapping[float, float]],
) -> str:
    """Draw what is left of every group's channels, and the measured curves beside it.

    Parameters
    ----------
    widths
        By group: channels left, and channels before.
    sizes
        Parameters left and before, MACs left and before.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, max(2.7, 0.26 * len(widths) + 0.8)), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = range(len(widths))
    left.barh(rows, [before for _, before in widths.values()], color="#DDDDDD")
    left.barh(rows, [now for now, _ in widths.values()], color=_BAR)
    for row, (now, before) in enumerate(widths.values()):
        left.annotate(f"{now} of {before}", (before, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    left.set_yticks(rows, list(widths), fontsize=8)
    left.invert_yaxis()
    widest = max(before for _, before in widths.values())
    left.set(title="left of each group", xlabel="channels", xlim=(0, 1.35 * widest))
    _draw_measured(right, curves, ratio, "channels removed (%)")
    prices = " and ".join(
        f"{now:,} of {before:,} {what} ({now / before:.0%})"
        for what, (now, before) in zip(("parameters", "MACs"), sizes, strict=True)
    )
    caption = (
        f"With {ratio:.1%} of the channels removed from every group, {prices} are left. "
        f"Accuracy: {_measured(curves, ratio)}."
    )
    return _captioned(figure, "channels left in each group, and accuracy against the ratio removed", caption)


def _stops(curves: Mapping[str, Mapping[float, float]], name: str, start: float) -> list[float]:
    """Return where something was measured; refuse another start."""
    stops = sorted({stop for curve in curves.values() for stop in curve})
    if start not in stops:
        raise KdlabError(f"Nothing was measured at {name}={start!r}; expected one of {stops}.")
    return stops


def _draw_measured(axes, curves: Mapping[str, Mapping[float, float]], now: float, xlabel: str) -> None:
    for number, (name, curve) in enumerate(curves.items()):
        stops = sorted(curve)
        colour, marker = (_BAR, _TRUE_BAR, "#009E73")[number % 3], "os^"[number % 3]
        axes.plot(
            [100 * s for s in stops], [100 * curve[s] for s in stops], marker=marker, ms=4, color=colour, label=name
        )
    axes.axvline(100 * now, color="black", lw=0.8)
    axes.set(title="measured", xlabel=xlabel, ylabel="accuracy (%)")
    axes.legend(fontsize=8, loc="lower left")


def _measured(curves: Mapping[str, Mapping[float, float]], now: float) -> str:
    """Say what was measured at one stop."""
    return "; ".join(
        f"{html.escape(name)} {curve[now]:.1%}" if now in curve else f"{html.escape(name)}: not measured here"
        for name, curve in curves.items()
    )


def _captioned(figure, alt: str, caption: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    picture = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{alt}" src="{picture}"><div style="max-width:640px">{caption}</div>'


def schedule_explorer(
    steps: int = 480, *, target: float = 0.95, span: tuple[float, float] = (0.2, 0.75), prunings: int = 40
) -> Explorer:
    """Shape the cubic schedule and compare it with one-shot and iterative pruning. Nothing is trained.

    Parameters
    ----------
    steps
        Length of training, in steps of the optimiser.
    target
        Sparsity in the end, in [0.5, 0.99].
    span
        First and last pruning, as fractions of training.
    prunings
        How often the cubic schedule prunes in between.
    """
    if steps < 2:
        raise KdlabError(f"steps is {steps!r}; expected at least 2 steps of training.")

    def draw(target: float, span: tuple[float, float], prunings: int) -> str:
        return schedule_html(target, span, prunings, steps)

    style, layout = {"description_width": "110px"}, {"width": "460px"}
    controls = {
        "target": ipywidgets.FloatSlider(
            value=target, min=0.5, max=0.99, step=0.01, description="final sparsity", readout_format=".0%",
            style=style, layout=layout,
        ),
        "span": ipywidgets.FloatRangeSlider(
            value=span, min=0.0, max=1.0, step=0.05, description="first and last", readout_format=".0%",
            style=style, layout=layout,
        ),
        "prunings": ipywidgets.IntSlider(
            value=prunings, min=2, max=100, description="prunings", style=style, layout=layout,
        ),
    }  # fmt: skip
    return Explorer(controls, draw)


def schedule_html(target: float, span: tuple[float, float], prunings: int, steps: int) -> str:
    """Draw three schedules with one target, and which part of the living weights each pruning removes."""
    from matplotlib.figure import Figure

    start, end = span
    every = max(1, round((end - start) * (steps - 1) / (prunings - 1)))
    schedules: dict[str, Scheduled] = {
        "cubic": Gradual(target, start=start, end=end, every=every),
        "iterative, 5 rounds": Iterative(target, rounds=5, start=start, end=end),
        "one-shot": OneShot(target, at=min(start, 0.99)),
    }
    figure = Figure(figsize=(7.4, 2.8), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = {}
    for number, (name, schedule) in enumerate(schedules.items()):
        colour, line = (_BAR, _TRUE_BAR, "#009E73")[number], ("-", "--", ":")[number]
        when, losses[name] = _losses(schedule, steps)
        percent = [100 * step / steps for step in when]
        left.plot(np.linspace(0, 100, steps), [100 * s for s in schedule.curve(steps)], line, color=colour, label=name)
        right.plot(percent, [100 * part for part in losses[name]], "os^"[number], color=colour, ms=4, ls="")
    left.set(xlabel="training (%)", ylabel="sparsity (%)", ylim=(-3, 103))
    left.set_title("how sparse", fontsize=10)
    left.legend(fontsize=8, loc="lower right")
    right.set(xlabel="training (%)", ylabel="of the living weights (%)", xlim=left.get_xlim(), ylim=(-3, 103))
    right.set_title("what each pruning removes", fontsize=10)
    count = len(losses["cubic"])
    caption = (
        f"The cubic schedule reaches {target:.0%} in {count} pruning{'s' if count > 1 else ''}. Half-way it is at "
        f"{schedules['cubic'].curve(steps)[round((start + end) / 2 * (steps - 1))]:.0%} already. Its hardest pruning "
        f"takes {max(losses['cubic']):.0%} of the weights that then live; a round of the iterative one "
        f"{max(losses['iterative, 5 rounds']):.0%}; one-shot {max(losses['one-shot']):.0%}. "
        f"{1 - end:.0%} of training are left for fine-tuning after the last pruning."
    )
    return _captioned(figure, "sparsity during training, and what each pruning removes, for three schedules", caption)


def _losses(schedule: Scheduled, steps: int) -> tuple[list[int], list[float]]:
    """Return the steps at which a schedule prunes, and which part of the living weights goes each time."""
    when, parts, living = [], [], 1.0
    for step, sparsity in sorted(schedule.milestones(steps).items()):
        if 1 - sparsity < living:
            when.append(step)
            parts.append(1 - (1 - sparsity) / living)
            living = 1 - sparsity
    return when, parts
