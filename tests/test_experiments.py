"""Seeds x settings -> a table; intervals against scipy; claims that can fail."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from kdlab import experiments
from kdlab.claims import Claim, ClaimFailed, claim, finding
from kdlab.errors import KdlabError
from kdlab.experiments import Difference, RunFailed, interval, paired, run


def row(seed, factor=1):
    torch.manual_seed(seed)
    return {"value": factor * torch.rand(()).item(), "threads": torch.get_num_threads(), "process": os.getpid()}


def test_every_seed_and_setting_in_order():
    table = run(row, {"factor": [1, 2]}, over=3, jobs=1, progress=False)
    assert table[["factor", "seed"]].values.tolist() == [[f, s] for f in (1, 2) for s in (0, 1, 2)]
    assert np.allclose(table.value[table.factor == 2], 2 * table.value[table.factor == 1].to_numpy())


def test_side_by_side_in_single_threaded_workers_gives_the_same_table():
    offset = 10

    def local(seed, factor):  # as in a notebook: not importable, with a closure
        return {**row(seed, factor), "shifted": offset + seed}

    alone = run(local, {"factor": [1, 3]}, over=4, jobs=1, progress=False)
    beside = run(local, {"factor": [1, 3]}, over=4, jobs=2, progress=False)
    assert alone.drop(columns="process").equals(beside.drop(columns="process"))
    assert os.getpid() not in set(beside.process) and set(beside.threads) == {1}


def test_threads_are_given_back():
    before = torch.get_num_threads()
    run(row, over=1, jobs=1, progress=False)
    assert torch.get_num_threads() == before


def test_first_seed_can_be_moved(monkeypatch):
    monkeypatch.setenv("KDLAB_FIRST_SEED", "40")
    assert run(row, over=2, jobs=1, progress=False).seed.tolist() == [40, 41]
    monkeypatch.setenv("KDLAB_FIRST_SEED", "x")
    with pytest.raises(KdlabError, match="KDLAB_FIRST_SEED is 'x'"):
        experiments.seeds(2)


def test_an_error_in_a_worker_arrives_whole():
    def bad(seed):
        raise KdlabError("temperature is 0; expected a number above 0.")

    with pytest.raises(RunFailed, match=r"bad\(seed=0\) failed. temperature is 0; .* In line \d+: raise KdlabError"):
        run(bad, over=[0], jobs=2, progress=False)


def test_a_failing_function_is_told_in_one_line_with_its_call_and_line():
    def bad(seed, width):
        return {"x": undefined_name}  # noqa: F821

    with pytest.raises(RunFailed) as caught:
        run(bad, {"width": [8]}, over=[3], jobs=1, progress=False)
    assert str(caught.value).startswith("bad(seed=3, width=8) failed. NameError: name 'undefined_name' is not defined")
    assert "In line" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(RunFailed, match="returned float; expected a dictionary"):
        run(lambda seed: 0.5, over=1, jobs=1, progress=False)


def test_interval_is_scipys():
    values = [0.81, 0.83, 0.80, 0.85, 0.82]
    found = interval(values)
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected) and found.mean == pytest.approx(np.mean(values))
    for bad in ([0.8], [0.8, float("nan")], []):
        with pytest.raises(KdlabError, match="Run more seeds"):
            interval(bad)


def test_paired_difference_is_scipys_and_ignores_row_order():
    random = np.random.default_rng(0)
    a, b = random.normal(1, 1, 6), random.normal(0, 1, 6)
    table = pd.DataFrame({"m": ["a"] * 6 + ["b"] * 6, "seed": [*range(6)] * 2, "y": [*a, *b]}).sample(
        frac=1, random_state=1
    )
    found = paired(table, "y", better={"m": "a"}, than={"m": "b"})
    expected = stats.ttest_rel(a, b)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_paired_refuses_what_cannot_be_paired():
    table = pd.DataFrame({"m": ["a", "a", "b"], "seed": [0, 1, 0], "y": [1.0, 2.0, 3.0]})
    with pytest.raises(KdlabError, match="same values of 'seed'"):
        paired(table, "y", better={"m": "a"}, than={"m": "b"})
    with pytest.raises(KdlabError, match="no column 'accuracy'"):
        paired(table, "accuracy", better={"m": "a"}, than={"m": "b"})
    with pytest.raises(KdlabError, match="selects 0 rows"):
        paired(table, "y", better={"m": "c"}, than={"m": "b"})
    with pytest.raises(KdlabError, match="nothing to run"):
        run(row, over=[])


FIRM = Difference(0.03, 0.02, 0.04, 5)


@pytest.mark.parametrize(
    ("bounds", "holds"),
    [
        ({"above": 0}, True), ({"above": 0.025}, False), ({"below": 0.05}, True), ({"below": 0.03}, False),
        ({"within": 0.05}, True), ({"within": 0.03}, False), ({"holds": False}, False),
    ],
)  # fmt: skip
def test_a_claim_is_judged_by_its_whole_interval(monkeypatch, bounds, holds):
    monkeypatch.setenv("KDLAB_SCALE", "laptop")
    if holds:
        made = claim("It helps.", FIRM, **bounds)
        assert made.verdict == "holds" and "+3.00 points (95 % interval +2.00 to +4.00, 5 seeds)" in repr(made)
    else:
        with pytest.raises(ClaimFailed, match=r"It helps\. Measured") as caught:
            claim("It helps.", FIRM, **bounds)
        assert len(caught.value._render_traceback_()) == 1


def test_smoke_scale_judges_nothing_and_says_so(monkeypatch):
    monkeypatch.setenv("KDLAB_SCALE", "smoke")
    made = claim("It <helps>.", FIRM, above=1)
    assert isinstance(made, Claim) and made.verdict == "not judged at smoke scale"
    assert "&lt;helps&gt;" in made._repr_html_()
    with pytest.raises(KdlabError, match="above=, below= or within="):
        claim("No bounds.", FIRM)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([0.02, 0.021, 0.022], "holds"), ([-0.02, -0.021, -0.022], "does not hold"), ([-0.03, 0.03, 0.01], "cannot tell")],
)
def test_a_finding_says_whether_what_a_paper_says_shows(monkeypatch, values, verdict):
    monkeypatch.setenv("KDLAB_SCALE", "laptop")
    found = finding("A beats B.", interval(values), said_by="Somebody 2020")
    assert found.verdict == verdict
    assert "Somebody 2020" in repr(found)
    assert "Somebody 2020" in found._repr_html_()


def test_a_finding_needs_an_interval():
    with pytest.raises(KdlabError, match="interval"):
        finding("A beats B.", "words")


def test_claims_can_be_reported_instead_of_enforced(monkeypatch):
    monkeypatch.setenv("KDLAB_SCALE", "laptop")
    monkeypatch.setenv("KDLAB_CLAIMS", "report")
    assert claim("It helps.", "it does not", holds=False).verdict == "does not hold"
