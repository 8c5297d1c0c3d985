"""The stop button, pressed in a real kernel."""

import os
import re
import subprocess
import sys
import time

import pytest
from jupyter_client.manager import KernelManager

from kdlab import store

SETUP = """
import os
os.environ["KDLAB_SCALE"] = "laptop"
from kdlab import data, models
from kdlab.experiments import run
from kdlab.training import fit
part = data.load().train.sample(4000)
def train(seed, epochs=40):
    model = models.build("cnn", width=8, seed=seed)
    print("started", flush=True)
    return model, fit(model, part, epochs=epochs, seed=seed)
def row(seed):
    model, history = train(seed)
    return {"resumed": history.resumed_at, "epochs": len(history.rows)}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    home = tmp_path_factory.mktemp("kernel")
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "KDLAB_HOME": str(home)})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    execute(client, SETUP)
    yield manager, client, home
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client, code, *, when=None, then=None, timeout=120):
    """Run a cell and return its output; when the text `when` has been printed, call `then`."""
    message, output = client.execute(code), []
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        reply = client.get_iopub_msg(timeout=timeout)
        if reply["parent_header"].get("msg_id") != message:
            continue
        content = reply["content"]
        if reply["msg_type"] == "stream":
            output.append(content["text"])
        elif reply["msg_type"] == "error":
            output += content["traceback"]
        elif reply["msg_type"] == "execute_result":
            output.append(content["data"]["text/plain"])
        elif reply["msg_type"] == "status" and content["execution_state"] == "idle":
            return "\n".join(output)
        if when and when in "\n".join(output):
            when = None
            then()
    raise TimeoutError(code)


def press_stop(manager, home):
    """Press it as soon as a run is kept: a fixed time is too late on one machine and too early on another."""

    def kept():
        return set((home / "store").glob("fit-*.safetensors"))

    before = kept()

    def act():
        deadline = time.monotonic() + 60
        while kept() == before and time.monotonic() < deadline:
            time.sleep(0.02)
        manager.interrupt_kernel()

    return act


def test_a_stopped_cell_says_one_line_and_resumes_when_run_again(kernel):
    manager, client, home = kernel
    cell = "model, history = train(0); history"
    stopped = execute(client, cell, when="started", then=press_stop(manager, home))
    assert re.search(r"Stopped after \d+ of 40 epochs. Run the cell again to go on from there", stopped)
    assert "Traceback" not in stopped and "Warning" not in stopped
    done = int(re.search(r"Stopped after (\d+)", stopped)[1])
    again = execute(client, cell)
    assert f"(resumed after epoch {done})" in again if done else "40 epochs" in again
    assert "Warning" not in again
    assert "found in the store" in execute(client, cell)


def test_a_stopped_experiment_goes_on_from_what_its_workers_had_done(kernel):
    manager, client, home = kernel
    cell = "run(row, over=[11, 12], jobs=2)"
    execute(client, "run(lambda seed: {'x': 1}, over=2, jobs=2)")  # the workers are there
    code = f"import threading; print('started', flush=True); table = {cell}; table"
    stopped = execute(client, code, when="started", then=press_stop(manager, home))
    assert "Interrupt" in stopped or "Stopped" in stopped
    again = execute(client, cell)
    epochs = [int(line.split()[-1]) for line in again.splitlines() if re.match(r"^\d+\s+1[12]\s", line)]
    assert epochs == [40, 40] and "Warning" not in again, again


KILLED = """
from kdlab import data, models
from kdlab.training import fit
model = models.build("cnn", width=8)
fit(model, data.load(scale="laptop").train.sample(1000), epochs=400, progress=False)
"""


def test_a_killed_process_is_resumed_by_the_next_one():
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list((store.home() / "store").glob("fit-*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    (record,) = (store.home() / "store").glob("fit-*.safetensors")
    done = len(store.load(record.stem).facts["rows"])
    assert 0 < done < 400
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        while len(store.load(record.stem).facts["rows"]) == done and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    later = store.load(record.stem).facts
    assert len(later["rows"]) > done and [row["epoch"] for row in later["rows"]] == [*range(1, len(later["rows"]) + 1)]
