"""Running a solved notebook, and keeping of its outputs what is worth storing."""

import base64
import io
import os
import re
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

from _notebooks import METADATA

SECONDS_A_CELL = 900
_WIDGET = "application/vnd.jupyter.widget-view+json"
_COLOURS = 128
_ADDRESS = re.compile(r"\b(at )0x[0-9a-f]{6,}")
_KERNEL_FILE = re.compile(r"\S*ipykernel_\d+[/\\]\d+\.py")


class ExecutionError(Exception):
    """A cell that failed; `index` is its position in the notebook."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def execute(
    notebook: NotebookNode, folder: Path, scale: str = "laptop", warm: bool = False
) -> float:
    """Run every cell with `folder` as the working directory, in place; returns the seconds it took.

    Parameters
    ----------
    scale
        ``KDLAB_SCALE`` of the kernel.
    warm
        Use this machine's own store of trained models. Without it the store is a fresh folder: what is stored in the
        notebook is then what a learner's first run gives, and the seconds are honest.

    Raises
    ------
    ExecutionError
        If a cell raises, runs into the time limit or takes the kernel with it.
    """
    began = time.perf_counter()
    with (
        nullcontext()
        if warm
        else tempfile.TemporaryDirectory(prefix="kdlab-build-") as home
    ):
        environment = {
            **os.environ,
            "KDLAB_SCALE": scale,
            **({} if warm else {"KDLAB_HOME": home}),
        }
        _run(notebook, folder, environment)
        _tidy(
            notebook,
            [
                *([(home, "$KDLAB_HOME")] if home else []),
                (str(folder.resolve().parent), "$KDLAB"),
            ],
        )
    return time.perf_counter() - began


def _run(notebook: NotebookNode, folder: Path, environment: dict[str, str]) -> None:
    running = [0]
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=[
            "--IPKernelApp.log_level=40"
        ],  # not its remark on unencrypted local connections
        store_widget_state=False,
        on_cell_start=lambda cell, cell_index: running.__setitem__(0, cell_index),
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise ExecutionError(running[0], f"{error.ename}: {error.evalue}") from None
    except CellTimeoutError:
        raise ExecutionError(running[0], f"ran longer than {SECONDS_A_CELL} s") from None
    except DeadKernelError:
        raise ExecutionError(running[0], "the kernel died (out of memory?)") from None


def _tidy(notebook: NotebookNode, places: list[tuple[str, str]]) -> None:
    places = [(sys.prefix, "$PREFIX"), *places, (str(Path.home()), "~")]
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [
                kept for output in cell.outputs if (kept := _kept(output, places))
            ]


def _kept(output: NotebookNode, places: list[tuple[str, str]]) -> NotebookNode | None:
    if output.output_type == "stream":
        output.text = _anonymous(output.text, places)
        return None if output.name == "stderr" or not output.text else output
    if output.output_type == "error":
        output.traceback = [_anonymous(line, places) for line in output.traceback]
        output.evalue = _anonymous(output.evalue, places)
        return output
    if _WIDGET in output.data:
        del output.data[_WIDGET]
        output.data.pop("text/plain", None)  # the widget's repr, useless without it
    for kind, content in output.data.items():
        if kind == "image/png":
            output.data[kind] = light_png(content)
        elif isinstance(content, str):
            output.data[kind] = _anonymous(content, places)
    return output if output.data else None


def _anonymous(text: str, places: list[tuple[str, str]]) -> str:
    text = _KERNEL_FILE.sub("<cell>", text)
    for place, name in places:
        text = re.sub(re.escape(place) + r"(?![\w.-])", lambda _, name=name: name, text)
    return _ADDRESS.sub(r"\g<1>0x0", text)


def light_png(encoded: str) -> str:
    """Return a base64 PNG with a palette instead of full colour, if that is smaller."""
    raw = base64.b64decode(encoded)
    with Image.open(io.BytesIO(raw)) as image:
        flat = Image.new("RGB", image.size, "white")
        rgba = image.convert("RGBA")
        flat.paste(rgba, mask=rgba.getchannel("A"))
    light = io.BytesIO()
    flat.quantize(_COLOURS, dither=Image.Dither.NONE).save(light, "PNG", optimize=True)
    return (
        base64.b64encode(light.getvalue()).decode()
        if len(light.getvalue()) < len(raw)
        else encoded.strip()
    )
