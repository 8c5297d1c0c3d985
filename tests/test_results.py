"""The page of results: taken from what notebooks show, with what papers say beside it."""

import os

import nbformat
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell, new_notebook, new_output

import _papers
import build
import headline
import results
from kdlab.claims import Claim
from kdlab.experiments import interval


def shown(*claims):
    data = [DisplayFormatter().format(claim)[0] for claim in claims]
    outputs = [new_output("execute_result", shown, execution_count=1) for shown in data]
    return new_notebook(cells=[new_code_cell("…", outputs=outputs, execution_count=1)])


def solutions():
    for path in sorted(build.HERE.solutions.glob("*.ipynb")):
        yield path.name[:2], nbformat.read(path, as_version=4)


def test_claims_are_read_as_they_are_shown():
    made = [
        Claim("It helps, by a lot:\nreally.", "+2.00 points (95 % …)", True, True),
        Claim("A beats B.", "-1 points", False, True, said_by="Somebody 2020"),
        Claim("C beats D.", "0 points", None, True),
    ]
    rows = results.claims_in(shown(*made), "09")
    assert [(r.text, r.evidence, r.verdict, r.said_by) for r in rows] == [
        ("It helps, by a lot: really.", "+2.00 points (95 % …)", "holds", ""),
        ("A beats B.", "-1 points", "does not hold", "Somebody 2020"),
        ("C beats D.", "0 points", "cannot tell", ""),
    ]
    assert rows[1].paper() == "Somebody 2020: does not hold"


def test_every_lesson_with_claims_is_on_the_page():
    counts = {name: len(results.claims_in(notebook, name)) for name, notebook in solutions()}
    assert min(counts.values()) >= 1, counts


@pytest.mark.parametrize("said", _papers.PAPERS, ids=lambda said: f"{said.lesson} {said.claim[:20]}")
def test_every_paper_stands_beside_one_claim(said):
    of_lesson = [
        row for name, notebook in solutions() if name == said.lesson for row in results.claims_in(notebook, name)
    ]
    assert sum(row.text.startswith(said.claim) for row in of_lesson) == 1


def headline_rows(seeds=3, bits_that_cost=5):
    rows = []
    for seed in range(seeds):
        row = {
            "seed": seed,
            "teacher test": 0.905 + 0.001 * seed,
            "teacher bytes": 1_600_000,
            "teacher bytes 8": 400_000,
            "teacher MACs": 12_500_000,
        }
        row |= {"MACs": 495_000, "parameters": 15_000, "val": 0.9, "test": 0.894 + 0.001 * seed}
        for bits in headline.BITS:
            loss = 0.05 if bits < bits_that_cost else 0.001
            row |= {f"bytes {bits}": 2_000 * bits, f"val {bits}": 0.9 - loss, f"test {bits}": row["test"] - loss}
        rows.append(row)
    return pd.DataFrame(rows)


def one_way(rows=None, gains=(0.01, 0.02, 0.03)):
    gain = interval(gains, unit="points", signed=True)
    return headline.reached(headline_rows() if rows is None else rows) | {"taught minus labels only": gain}


def test_the_headline_takes_the_fewest_bits_that_cost_little_on_val():
    assert [headline.chosen_bits(headline_rows(bits_that_cost=b)) for b in (4, 5, 6, 9)] == [4, 5, 6, 8]


def test_the_page_says_what_was_reached_and_what_was_missed():
    text = results.page([], {"one way": one_way()})
    assert "**one way** reaches 100 times fewer bytes, 25 times fewer MACs" in text
    assert "160 (10,000 bytes)" in text and "| 40 |" in text and "+2.00 points" in text
    assert "Its teacher added to that." not in text, "three seeds from one to three points tell nothing"
    assert "Its teacher added to that." in results.page([], {"one way": one_way(gains=(0.019, 0.02, 0.021))})
    worse = headline_rows()
    worse["test 5"] -= 0.02
    assert "; misses within 1.5 points in the mean." in results.page([], {"one way": one_way(worse)})


def test_a_claim_may_hold_a_bar():
    row = results.Row("01", "a | b", "1", "holds")
    assert r"| 01 | a \| b | 1 | holds | - |  |" in results.page([row], {"one way": one_way()})


MINI = """# %% [markdown]
# # A lesson

# %%
import pandas as pd
from kdlab import exhibits
from kdlab.claims import claim
exhibits.keep("01", pd.DataFrame([{"name": "a", "bytes": 9, "MACs": 9, "latency µs": 9.0, "accuracy": 0.5}]))
claim("Two is larger than three.", "it is not", holds=2 > 3)

# %%
claim("Three is larger than two.", "it is", holds=3 > 2)
"""


def test_the_whole_page_from_running_the_lessons(tmp_path, monkeypatch, capsys):
    """A claim that does not hold stands on the page; nothing stops."""
    for folder in ("lessons", "assets", "solutions"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lessons" / "01_mini.py").write_text(MINI)
    monkeypatch.setenv("KDLAB_CLAIMS", "report")  # so that what main sets is taken back
    monkeypatch.setattr(headline, "headline", lambda: {"one way": one_way()})
    assert results.main([], build.Course(tmp_path)) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| 01 | Two is larger than three. | it is not | does not hold | - |  |" in text
    assert "| 01 | Three is larger than two. | it is | holds | - |  |" in text
    assert (tmp_path / "assets" / results.FIGURE).stat().st_size > 1000
    assert "2 claims, 1 of them do not hold" in capsys.readouterr().out


SEEDED = """# %% [markdown]
# # A lesson

# %%
from kdlab.claims import claim, finding
from kdlab.experiments import interval, seeds
first = seeds(1)[0]
claim("The first seed is small.", f"{first}", holds=first < 100)

# %%
finding("More is more.", interval([0.01, 0.02]), said_by="Somebody 2020")
"""


def test_the_claims_again_with_fresh_seeds(tmp_path, monkeypatch, capsys):
    for folder in ("lessons", "assets", "solutions"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lessons" / "01_seeded.py").write_text(SEEDED)
    monkeypatch.setenv("KDLAB_CLAIMS", "report")
    monkeypatch.setattr(headline, "headline", lambda: {"one way": one_way()})
    assert results.main(["--again", "1200"], build.Course(tmp_path)) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| 01 | The first seed is small. | 0 | holds | does not hold |  |" in text
    assert (
        "Repeated with fresh seeds** (from 1200), 0 of the 1 own claims that hold here held again, and 1 of 1" in text
    )
    assert "KDLAB_FIRST_SEED" not in os.environ


def test_two_runs_that_do_not_show_the_same_claims_are_not_compared():
    rows = [results.Row("01", "a", "1", "holds"), results.Row("02", "b", "1", "holds")]
    with pytest.raises(ValueError, match="not show the same claims"):
        results.with_fresh_seeds(rows, rows[:1])
