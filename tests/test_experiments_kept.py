"""Rows that were computed before come from the store, and only if nothing that they depend on has changed."""

import contextlib
import logging
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from kdlab import data, models, store
from kdlab.errors import KdlabError
from kdlab.experiments import run
from kdlab.models.registry import NETWORKS

PRELUDE = """
import logging
import numpy as np, torch
from torch import nn
from kdlab import data, measure, models
from kdlab.training import evaluate
log = logging.getLogger("lesson")
"""


def notebook(source: str, **names) -> dict:
    """Run source as a notebook's cells would be run."""
    names["__name__"] = "__main__"
    exec(PRELUDE + source, names)
    return names


@pytest.fixture
def computed(caplog):
    """Run an experiment here; return how many rows were computed, and the table."""
    caplog.set_level(logging.INFO, "lesson")

    def compute(function, *arguments, over=(0, 1), **more):
        caplog.clear()
        table = run(function, *arguments, over=over, jobs=1, progress=False, **more)
        assert table.attrs["recalled"] == len(table) - len(caplog.records)
        return len(caplog.records), table

    return compute


SIMPLE = """
def row(seed, factor=1):
    log.info("called")
    torch.manual_seed(seed)
    return {"value": factor * torch.rand(()).item(), "count": seed, "name": "a", "sure": True, "all": [1, [2.5, None]]}
"""


def test_the_second_time_nothing_is_computed_and_the_table_is_the_same(computed):
    first, table = computed(notebook(SIMPLE)["row"], {"factor": [1, 2]})
    second, again = computed(notebook(SIMPLE)["row"], {"factor": [1, 2]})
    assert (first, second) == (4, 0)
    pd.testing.assert_frame_equal(table, again)
    assert [type(v) for v in table.iloc[0]] == [type(v) for v in again.iloc[0]]


def test_seeds_and_settings_are_rows_of_their_own(computed):
    row = notebook(SIMPLE)["row"]
    assert computed(row, {"factor": [1]})[0] == 2
    count, table = computed(row, {"factor": [2, 1]}, over=[1, 2])
    assert count == 3 and table.seed.tolist() == [1, 2, 1, 2]
    assert table["value"][0] == 2 * table["value"][2]


def test_what_was_computed_before_the_stop_is_not_computed_again(computed):
    broken = SIMPLE + "\ndef stops(seed):\n    log.info('called')\n    raise KeyboardInterrupt if seed == 2 else 0"
    stopping = broken.replace("raise KeyboardInterrupt if seed == 2 else 0", "return row(seed) if seed < 2 else halt()")
    cells = notebook(stopping + "\ndef halt():\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        run(cells["stops"], over=3, jobs=1, progress=False)
    assert run(cells["stops"], over=2, jobs=1, progress=False).attrs["recalled"] == 2


def test_asked_not_to_keep_it_computes(computed):
    row = notebook(SIMPLE)["row"]
    assert [computed(row, keep=False)[0] for _ in range(2)] == [2, 2]
    assert computed(row)[0] == 2, "nothing was kept either"


USES = """
EPOCHS = 3
weights = torch.ones(4)
net = models.build("cnn", width=2)
few = data.load().train.sample(20)
settings = {"alpha": [0.5, 0.9]}

def inner(x): return x + 1
def outer(x): return inner(x)

class Rule:
    scale = 2
    def __call__(self, x): return self.scale * x
    @property
    def half(self): return 0.5

rule = Rule()
def made(offset):
    def shifted(x): return x + offset
    return shifted
shift = made(5)
registered = models.build("own")

def row(seed, times=1):
    log.info("called")
    total = outer(EPOCHS) + weights.sum().item() + len(few) + settings["alpha"][1] + rule(1) + rule.half + shift(times)
    total += sum(inner(x) for x in range(3)) + np.random.default_rng(seed).random() + (lambda x: x * 2)(seed)
    return {"value": total + evaluate(net, few) + models.build("own").a}
"""


def own_network(answer: int) -> type[nn.Module]:
    cells = notebook(
        f"class Own(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = {answer}"
    )
    return cells["Own"]


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", own_network(1))


def test_what_has_not_changed_is_recalled(computed, own):
    assert computed(notebook(USES)["row"])[0] == 2
    assert computed(notebook(USES.replace("\ndef outer", "\n\n# a comment\n\ndef outer"))["row"])[0] == 0


@pytest.mark.parametrize(
    "before, after",
    [
        ("EPOCHS = 3", "EPOCHS = 4"),
        ("EPOCHS = 3", "EPOCHS = 3.0"),
        ("torch.ones(4)", "torch.ones(5)"),
        ("width=2)", "width=3)"),
        ("width=2)", "width=2, seed=1)"),
        ("sample(20)", "sample(20, seed=1)"),
        ('"alpha": [0.5, 0.9]', '"alpha": [0.5, 0.8]'),
        ("return x + 1", "return x + 2"),
        ("return inner(x)", "return inner(x) * 1"),
        ("scale = 2", "scale = 3"),
        ("self.scale * x", "self.scale + x"),
        ("return 0.5", "return 0.25"),
        ("return x + offset", "return x - offset"),
        ("made(5)", "made(6)"),
        ("times=1", "times=2"),
        ("inner(x) for x", "inner(2 * x) for x"),
        ("default_rng(seed).random", "default_rng(seed).normal"),
        ("x * 2)(seed)", "x * 3)(seed)"),
        ("outer(EPOCHS)", "inner(EPOCHS)"),
    ],
)
def test_what_has_changed_is_computed_again(computed, own, before, after):
    assert before in USES
    assert computed(notebook(USES)["row"])[0] == 2
    assert computed(notebook(USES.replace(before, after))["row"])[0] == 2


def test_a_value_that_was_changed_in_place_counts(computed, own):
    cells = notebook(USES)
    assert computed(cells["row"])[0] == 2
    for change in ("weights[0] = 7", "next(net.parameters()).data += 1", "settings['alpha'].append(1)", "net.eval()"):
        exec(change, cells)
        assert computed(cells["row"])[0] == 2, change


def test_the_code_of_a_registered_network_counts(computed, own, monkeypatch):
    assert computed(notebook(USES)["row"])[0] == 2
    monkeypatch.setitem(NETWORKS, "own", own_network(2))
    assert computed(notebook(USES)["row"])[0] == 2


def test_the_scale_counts(computed, monkeypatch):
    assert computed(notebook(SIMPLE)["row"])[0] == 2
    monkeypatch.setenv("KDLAB_SCALE", "full")
    assert computed(notebook(SIMPLE)["row"])[0] == 2


def test_functions_that_call_each_other(computed):
    mutual = """
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def row(seed):
    log.info("called")
    return {"even": even(seed)}
"""
    assert computed(notebook(mutual)["row"])[0] == 2
    assert computed(notebook(mutual)["row"])[0] == 0
    assert computed(notebook(mutual.replace("n != 0", "n > 0"))["row"])[0] == 2


@pytest.mark.parametrize(
    "cell",
    [
        "import time\ndef value(seed): return time.perf_counter()",
        "from time import perf_counter\ndef value(seed): return perf_counter()",
        "def value(seed): return getattr(measure, 'macs')(models.build('mlp'), torch.ones(1, 1, 28, 28))",
        "def value(seed):\n    import math\n    return math.pi",
        "def value(seed): return len(torch.load(__file__))",
        "def value(seed): return np.loadtxt(__file__).sum()",
        "from kdlab import exhibits\ndef value(seed): return len(exhibits.collected())",
        "from os.path import getsize\ndef value(seed): return getsize(__file__)",
        "from functools import lru_cache\n@lru_cache\ndef value(seed): return seed",
        "seen = {}\ndef value(seed):\n    seen[seed] = 1\n    return len(seen)",
        "net = nn.Linear(1, 1)\ndef value(seed):\n    net.weight.data += 1\n    return net.weight.item()",
        "def value(seed):\n    value.calls = getattr(value, 'calls', 0) + 1\n    return value.calls",
        "torch.set_default_dtype(torch.float64)\ndef value(seed): return torch.ones(1).nbytes",
        "sparse = torch.eye(2).to_sparse()\ndef value(seed): return sparse.sum().item()",
        "class Attributes(dict):\n    __getattr__ = lambda s, name: s[name]\nof = Attributes(file=open(__file__))\n"
        "def value(seed): return of.file.tell()",
        "def value(seed):\n    import time\n    return time.time()",
        "import os\ndef value(seed): return len(os.listdir())",
        "def value(seed): return len(open(__file__).read())",
        "from pathlib import Path\nfile = Path('x')\ndef value(seed): return file.exists()",
        "from datetime import datetime\ndef value(seed): return datetime.now().second",
        "def value(seed): return measure.latency(models.build('mlp'), torch.ones(1, 1, 28, 28)).median",
        "from kdlab.measure import latency\nnet, one = models.build('mlp'), torch.ones(1, 1, 28, 28)\n"
        "def value(seed): return latency(net, one).median",
        "generator = torch.Generator()\ndef value(seed): return torch.rand((), generator=generator).item()",
        "rng = np.random.default_rng(0)\ndef value(seed): return rng.random()",
        "def value(seed):\n    global last\n    last = seed\n    return seed",
        "numbers = iter(range(9))\ndef value(seed): return next(numbers)",
        "def value(seed): return not_there_yet()",
        "def value(seed): return torch.tensor([1.0, 2.0])",
        "def value(seed): return (1, 2)",
        "def value(seed): return {'b': 1, 'a': 2}",
        "def value(seed): return {1: 'a number as a key'}",
    ],
)
def test_what_may_differ_the_next_time_is_not_kept(cell):
    cells = notebook(cell + "\ndef row(seed): return {'value': value(seed)}", __file__=__file__)
    with contextlib.suppress(KdlabError):  # one of them fails
        run(cells["row"], over=1, jobs=1, progress=False)
    assert not store.names("row-")


@pytest.fixture(autouse=True)
def usual_numbers():
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "drawn", ["torch.rand(()).item()", "np.random.rand()", "random.random()", "nn.Linear(1, 1).bias.item()"]
)
def test_who_forgets_the_seed_gets_the_same_row_twice_all_the_same(drawn):
    cells = notebook(f"import random\ndef row(seed): return {{'value': {drawn}}}")
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    tables = [run(cells["row"], over=3, jobs=jobs, progress=False, keep=False) for jobs in (1, 1, 2)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    assert tables[0].value.nunique() == 3
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert torch.equal(states[0], torch.get_rng_state())


@pytest.mark.parametrize(
    "defined",
    [
        "from dataclasses import dataclass\n@dataclass\nclass Own:\n    x: int = 1",
        "from abc import ABC\nclass Own(ABC):\n    x = 1",
        "from enum import Enum\nclass Colour(Enum):\n    RED = 1\n@property\ndef x(s): return Colour.RED.value\n"
        "class Own:\n    x = x",
        "class Base(dict):\n    __getattr__ = lambda s, name: s[name]\ndef Own(): return Base(x=1)",
        "from functools import partial\nclass Pair(tuple):\n    x = 1\nOwn = partial(Pair, (1, 2))",
        "import re\npattern = re.compile('1')\nclass Own:\n    x = int(pattern.pattern)",
    ],
)
def test_ones_own_classes_are_no_reason_to_compute_again(computed, defined):
    cell = f"{defined}\nown = Own()\ndef row(seed):\n    log.info('called')\n    return {{'x': own.x + Own().x}}"
    assert computed(notebook(cell)["row"])[0] == 2
    assert computed(notebook(cell)["row"])[0] == 0
    changed = cell.replace("1", "2")
    assert computed(notebook(changed)["row"])[0] == 2


@pytest.mark.parametrize(
    "before, after",
    [
        ("teacher = student", "teacher = copy.deepcopy(student)"),
        ("class Own(str, Enum):\n    A = 'a'\n    n = 1", "class Own(str, Enum):\n    A = 'a'\n    n = 2"),
        ("pairs = defaultdict(lambda: 1)", "pairs = defaultdict(lambda: 2)"),
        ("def loss(): return 1", "def loss(): return 1\nloss.rate = 2"),
        ("loss = named('a')", "loss = named('b')"),
        ("Own = make_dataclass('Own', [('x', int, 1)])", "Own = make_dataclass('Own', [('x', int, 2)])"),
        ("weight = torch.ones(1)", "weight = torch.ones(1)\nweight.scale = 2"),
    ],
)
def test_what_lies_beside_the_content_counts(computed, before, after):
    cells = """
import copy
from collections import defaultdict
from dataclasses import make_dataclass
from enum import Enum
def named(name):
    def f(): return 1
    f.__qualname__ = name
    return f
student = nn.Linear(1, 1)
student.weight.data.fill_(1.0)
student.bias.data.fill_(1.0)
teacher = student
pairs = Own = loss = weight = None
CHANGE
def row(seed):
    log.info("called")
    seen = [student, teacher, pairs, Own, loss, weight]
    return {"count": len(seen)}
"""
    assert computed(notebook(cells.replace("CHANGE", before))["row"])[0] == 2
    assert computed(notebook(cells.replace("CHANGE", before))["row"])[0] == 0
    assert computed(notebook(cells.replace("CHANGE", after))["row"])[0] == 2


def test_a_module_of_ones_own_is_read_anew(tmp_path, monkeypatch, computed):
    (tmp_path / "profile.py").write_text("def f(): return 1\n")  # named like one of Python's
    (tmp_path / "helpers.py").write_text("def f(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("profile", "helpers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        cells = notebook(f"import {name}\ndef row(seed):\n    log.info('called')\n    return {{'x': {name}.f()}}")
        assert [computed(cells["row"])[0] for _ in range(2)] == [2, 2]
        monkeypatch.delitem(sys.modules, name)


def test_side_by_side_the_rows_are_kept_as_well(computed):
    cells = notebook(SIMPLE)
    beside = run(cells["row"], over=3, jobs=2, progress=False)
    count, table = computed(cells["row"], over=3)
    assert count == 0
    pd.testing.assert_frame_equal(table, beside)


def test_another_process_recalls_them(tmp_path):
    script = tmp_path / "cells.py"
    call = "\nfrom kdlab.experiments import run\nprint(run(row, over=2, jobs=1, progress=False).attrs['recalled'])"
    own = "models.register('own', type('Own', (nn.Module,), {'a': 1}))\n"
    script.write_text(PRELUDE + own + USES + call)
    printed = [
        subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    assert [p.strip() for p in printed] == ["0", "2"]


def test_a_full_disk_costs_nothing_but_the_memory(computed, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "write_whole", full)
    with pytest.warns(UserWarning, match="could not keep a result"):
        count, table = computed(notebook(SIMPLE)["row"])
    assert count == 2 and len(table) == 2


def test_the_split_that_is_loaded_again_is_the_same(computed):
    cells = "fashion = data.load()\ndef row(seed):\n    log.info('called')\n    return {'n': len(fashion.train)}"
    assert computed(notebook(cells)["row"])[0] == 2
    assert computed(notebook(cells)["row"])[0] == 0
    assert isinstance(data.load().train.images, torch.Tensor) and models.build("cnn", width=2)
