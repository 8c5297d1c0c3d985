"""What lessons keep, and the plot of it."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from kdlab import exhibits, measure, models, plots, store
from kdlab.errors import KdlabError


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    monkeypatch.setenv("KDLAB_SCALE", "smoke")


def table(*names: str, **more) -> pd.DataFrame:
    numbers = range(1, len(names) + 1)
    rows = [
        {"name": name, "bytes": 1000 * n, "MACs": n, "latency µs": 10.0 * n, "accuracy": n / 10, **more}
        for name, n in zip(names, numbers, strict=True)
    ]
    return pd.DataFrame(rows, columns=[*exhibits.COLUMNS, *more])


def test_nothing_kept_is_an_empty_table_with_the_columns():
    found = exhibits.collected()
    assert found.empty and list(found.columns) == ["lesson", *exhibits.COLUMNS]


def test_lessons_are_collected_in_order_with_whatever_else_they_kept():
    exhibits.keep("04_structured", table("pruned", channels=np.int64(7)))
    exhibits.keep("01_distillation", table("teacher", "student"))
    found = exhibits.collected()
    assert found["name"].tolist() == ["teacher", "student", "pruned"]
    assert list(found.columns) == ["lesson", *exhibits.COLUMNS, "channels"]
    assert found["channels"].isna().tolist() == [True, True, False] and found["bytes"].tolist() == [1000, 2000, 1000]


def test_a_lesson_that_runs_again_replaces_what_it_kept_at_this_scale(monkeypatch):
    exhibits.keep("a", table("old", "older"))
    exhibits.keep("a", table("new"))
    assert exhibits.collected()["name"].tolist() == ["new"]
    monkeypatch.setenv("KDLAB_SCALE", "laptop")
    assert exhibits.collected().empty
    exhibits.keep("a", table())
    assert exhibits.collected().empty


def test_a_damaged_record_is_passed_over():
    exhibits.keep("a", table("lost"))
    exhibits.keep("b", table("kept"))
    path = store.path(exhibits._record("a"))
    path.write_bytes(path.read_bytes()[:20])
    assert exhibits.collected()["name"].tolist() == ["kept"]


@pytest.mark.parametrize(
    ("lesson", "bad", "why"),
    [
        ("", table("x"), "lesson is ''"),
        ("a", [{"name": "x"}], "expected a pandas DataFrame"),
        ("a", table("x").drop(columns="MACs"), "no column 'MACs'"),
        ("a", table("x").assign(accuracy=88.0), "fraction from 0 to 1"),
        ("a", table("x").assign(accuracy=float("nan")), "fraction from 0 to 1"),
        ("a", table("x").assign(bytes="many"), "expected numbers"),
        ("a", table("x").assign(more=[object()]), "cannot be kept"),
    ],
)
def test_bad_tables_are_refused(lesson, bad, why):
    with pytest.raises(KdlabError, match=why):
        exhibits.keep(lesson, bad)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_nothing_beats(points):
    rows = pd.DataFrame([{"bytes": b, "accuracy": a / 6} for b, a in points], columns=["bytes", "accuracy"])
    best = list(exhibits.front(rows).itertuples(index=False, name=None))
    beats = {
        (p, q)
        for p, q in itertools.product(rows.itertuples(index=False, name=None), repeat=2)
        if p != q and p[0] <= q[0] and p[1] >= q[1]
    }
    beaten = {q for _, q in beats}
    assert best == sorted({p for p in rows.itertuples(index=False, name=None) if p not in beaten})


def test_the_plot_has_the_lessons_the_stars_with_names_and_the_front():
    exhibits.keep("01", table("teacher", "student"))
    exhibits.keep(exhibits.YOURS, table("mine", "worse").assign(accuracy=[0.9, 0.5]))
    for cost in ("bytes", "MACs", "latency µs"):
        figure = plots.pareto(exhibits.collected(), cost)
        (ax,) = figure.axes
        assert isinstance(figure, Figure) and ax.get_xscale() == "log" and ax.get_xlabel() == cost
        assert [line.get_label() for line in ax.lines] == ["01", "your networks", "front"]
        assert [text.get_text() for text in ax.texts] == ["mine", "worse"]
        figure.canvas.draw()


def test_the_plot_of_nothing_is_empty_and_other_columns_are_refused():
    assert plots.pareto(exhibits.collected()).axes[0].lines[:] == []
    with pytest.raises(KdlabError, match="no column 'watts'"):
        plots.pareto(exhibits.collected(), "watts")


def test_a_row_has_what_keep_asks_for():
    network, image = models.build("cnn", width=2), torch.zeros(1, 1, 28, 28)
    row = exhibits.row("tiny", network, image, 0.5)
    exhibits.keep("01", pd.DataFrame([row]))
    assert row["bytes"] == len(measure.pack(network, bits=8)) and row["MACs"] == measure.macs(network, image)
    assert row["latency µs"] > 0
    assert exhibits.collected().iloc[0][["name", "accuracy"]].tolist() == ["tiny", 0.5]
