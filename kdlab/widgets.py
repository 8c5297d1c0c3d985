"""Things to move with the mouse. Each also carries a still picture of its first state, for viewers without a kernel."""

import base64
import html
import io

import ipywidgets
import numpy as np
import torch
from torch import Tensor

from kdlab.data import Split
from kdlab.distillation import soften
from kdlab.errors import KdlabError

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
