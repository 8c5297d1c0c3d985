"""Write RESULTS.md: what the course claims, what it measured, and under which conditions.

python lessons/results.py               run every lesson with this machine's store, then write the page
python lessons/results.py --stored      take the claims from solutions/ as they are, run no lesson
python lessons/results.py --again 1200  run every lesson once more, with seeds from 1200

Every run that the store already holds is recalled, so that a second call takes as long as the lessons' timings do.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from nbformat import NotebookNode

import build
import headline
from _execution import ExecutionError, execute
from _notebooks import solution_notebook
from _papers import paper_of
from kdlab import claims, exhibits, plots

PACKAGES = ("torch", "torchvision", "numpy", "pandas")
PARTS = ("text", "evidence", "verdict", "said_by")  # of a claim, in the order of a row
HEADLINE = "the table above"
FIGURE = "results_pareto.png"


@dataclass(frozen=True)
class Row:
    """A claim of a lesson, as its notebook shows it."""

    lesson: str
    text: str
    evidence: str
    verdict: str
    said_by: str = ""
    again: str = ""  # the verdict with other seeds

    def paper(self) -> str:
        """Return what a paper says about it, and how that fares."""
        if self.said_by:
            return f"{self.said_by}: {self.verdict}"
        said = paper_of(self.lesson, self.text)
        if said is None:
            return ""
        agrees = said.same == (self.verdict == "holds")
        return f"{said.paper}: {'holds' if agrees else 'does not hold'}"


def claims_in(notebook: NotebookNode, lesson: str) -> list[Row]:
    """Return the claims that an executed notebook shows, in order."""
    shown = (
        output.get("data", {}).get(claims.MIME)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    return [
        Row(lesson, *(" ".join(claim[part].split()) for part in PARTS))
        for claim in shown
        if claim
    ]


def with_fresh_seeds(rows: list[Row], others: list[Row]) -> list[Row]:
    """Return the rows with the verdicts that the same claims got with other seeds, in the same order."""
    if [row.lesson for row in rows] != [row.lesson for row in others]:
        raise ValueError("the two runs of the lessons do not show the same claims")
    return [
        replace(row, again=other.verdict) for row, other in zip(rows, others, strict=True)
    ]


def shown_by(notebooks: Iterable[tuple[str, NotebookNode]]) -> list[Row]:
    """Return the claims of all lessons, in order."""
    return [row for name, notebook in notebooks for row in claims_in(notebook, name)]


def executed(course: build.Course) -> Iterable[tuple[str, NotebookNode]]:
    """Run every lesson with this machine's store; a claim that does not hold is shown, not raised."""
    os.environ["KDLAB_CLAIMS"] = "report"  # the kernels inherit it
    for lesson in course.lessons():
        notebook = solution_notebook(lesson)
        seconds = execute(notebook, course.solutions, "laptop", warm=True)
        print(f"{lesson.name}: {seconds:.0f} s", flush=True)
        yield lesson.name[:2], notebook


def repeated(course: build.Course, first: int) -> Iterable[tuple[str, NotebookNode]]:
    """Run every lesson with seeds that are counted from another number."""
    os.environ["KDLAB_FIRST_SEED"] = str(first)
    try:
        yield from executed(course)
    finally:
        del os.environ["KDLAB_FIRST_SEED"]


def stored(course: build.Course) -> Iterable[tuple[str, NotebookNode]]:
    """Read every solution as it is."""
    for lesson in course.lessons():
        path = course.solutions / f"{lesson.name}.ipynb"
        yield lesson.name[:2], nbformat.read(path, as_version=4)


def page(rows: list[Row], ways: Mapping[str, Mapping], fresh: int | None = None) -> str:
    """Return the whole page as Markdown; `fresh` is the first of the other seeds, if the lessons were run with them."""
    parts = [
        "# Results",
        "What the lessons claim, and what they measured. All measurements on this page are written by `make results`, from "
        "runs at laptop scale that anybody can repeat.",
        "## How small?",
        _headline(ways),
        f"![Accuracy against bytes and against arithmetic, of what the lessons trained and of the two networks above](assets/{FIGURE})",
        "*What lessons 01 to 07 have put on show, and the two networks of the table above (stars; means of their seeds, in their "
        "own few bits). The lessons' files are packed in eight bits a weight, except those of lesson 07, which are single "
        "networks in the bits that they were handed in with; the others are means over seeds. The line is the front: no network "
        "on it is beaten by one that is cheaper and better.*",
        "## Claims",
        "Every claim of the lessons, with its measurement: a mean over seeds with the 95 % interval (Student's t), and where "
        "there is no interval a count or a single run. Two kinds stand here. A lesson's **own claims** are asserted: one that "
        "did not hold would stop the build, so it would have been reworded or dropped, and these rows describe more than they "
        "test. What **others say** (the last column names them) is only looked at, and stands here however it comes out. "
        "*Here* means small networks, small pictures, minutes of training: what does not hold here may hold elsewhere.",
        _again(rows, fresh),
        _claims(rows),
        "## Conditions",
        _conditions(),
    ]
    return "\n\n".join(parts) + "\n"


def _again(rows: list[Row], fresh: int | None) -> str:
    """Return in a sentence how the claims fared with seeds that nobody had seen."""
    if fresh is None:
        return "The lessons were not repeated with other seeds for this page (`make results AGAIN=1200` does it)."
    own = [row for row in rows if not row.said_by]
    held = sum(row.again == "holds" for row in own if row.verdict == "holds")
    same = sum(row.again == row.verdict for row in rows if row.said_by)
    return (
        f"**Repeated with fresh seeds** (from {fresh}), {held} of the {sum(row.verdict == 'holds' for row in own)} own claims "
        f"that hold here held again, and {same} of {len(rows) - len(own)} verdicts on what others say were the same."
    )


def _headline(ways: Mapping[str, Mapping]) -> str:
    first = next(iter(ways.values()))
    lines = [
        "The goal: 100 times fewer bytes and 25 times fewer multiply-accumulate operations (MACs) than a teacher of at least "
        "90 %, for at most 1.5 points of its accuracy on test, in the mean.",
        "",
        "The teacher is a residual network of width 24 with two blocks a stage, trained for "
        f"{headline.TEACHER_EPOCHS} epochs on augmented images. It has {first['teacher bytes']:,.0f} bytes in float32 and "
        f"{first['teacher MACs']:,.0f} MACs, and gets {first['teacher'].text()} of the test images right. Two ways to a small "
        f"network, over {first['difference'].seeds} seeds (teacher and student trained anew for each), both trained for "
        f"{headline.STUDENT_EPOCHS} epochs with the teacher's answers to the same augmented images: a residual network of "
        "width 7, and the teacher with 80 % of its channels cut out. The weights are then rounded to the fewest bits that "
        "cost at most 0.2 points on *val*. The recipe is [`lessons/headline.py`](lessons/headline.py).",
        "",
        "| | " + " | ".join(ways) + " |",
        "|---|" + "---|" * len(ways),
    ]
    for name, show in {
        "times fewer bytes": lambda w: (
            f"{w['times fewer bytes']:.0f} ({w['bytes']:,.0f} bytes)"
        ),
        "times fewer bytes than the teacher in 8 bits": lambda w: (
            f"{w['times fewer than in 8 bits']:.0f}"
        ),
        "times fewer MACs": lambda w: (
            f"{w['times fewer MACs']:.1f} ({w['MACs']:,.0f} MACs)"
        ),
        "weights rounded to": lambda w: f"{w['bits']} bits",
        "accuracy on test": lambda w: w["student"].text(),
        "against the teacher": lambda w: w["difference"].text(),
        "the same before rounding": lambda w: w["before rounding"].text(),
        "what the teacher adds: against the same network, trained as long on labels only": (
            lambda w: w["taught minus labels only"].text()
        ),
    }.items():
        lines.append(f"| {name} | " + " | ".join(show(way) for way in ways.values()) + " |")
    return "\n".join([*lines, "", *(_goal(name, way) for name, way in ways.items())])


def _goal(name: str, way: Mapping) -> str:
    """Return whether a way reached the goal: 100 times fewer bytes, 25 times fewer MACs, at most 1.5 points lost."""
    reached = {
        "100 times fewer bytes": bool(way["times fewer bytes"] >= 100),
        "25 times fewer MACs": bool(way["times fewer MACs"] >= 25),
        "within 1.5 points in the mean": bool(way["difference"].mean >= -0.015),
        "a teacher of at least 90 %": bool(way["teacher"].mean >= 0.9),
    }
    verdicts = [
        f"{word} {', '.join(goals)}"
        for word, wanted in (("reaches", True), ("misses", False))
        if (goals := [goal for goal, fine in reached.items() if fine is wanted])
    ]
    low = 100 * way["difference"].low
    adds = {
        "higher": "Its teacher added to that.",
        "lower": "Its teacher took something from that.",
        "cannot tell": "That its teacher added anything does not show: the same network gets as far on labels only.",
    }[way["taught minus labels only"].verdict]
    return f"- **{name}** {'; '.join(verdicts)}. (The interval of the loss reaches {low:.2f} points.) {adds}"


def _claims(rows: list[Row]) -> str:
    names = ("lesson", "claim", "measured", "verdict", "fresh seeds", "said by")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        again = row.again or "-"
        cells = (row.lesson, row.text, row.evidence, row.verdict, again, row.paper())
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _conditions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    first = os.environ.get("KDLAB_FIRST_SEED") or "0"
    return "\n".join(
        [
            f"- Date: {date.today().isoformat()}",
            f"- Machine: {_processor()}, {os.cpu_count()} cores, no GPU used, {platform.system()}",
            f"- Versions: Python {platform.python_version()}, {packages}",
            f"- Seeds: five a claim unless it says otherwise, counted from {first}",
            "- Budget: laptop scale, 10,000 training images of Fashion-MNIST (bundled), 2,000 for choosing, 5,000 for the "
            "final report",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [
        line.partition(":")[2].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def draw(path: Path, ways: Mapping[str, Mapping]) -> None:
    """Draw what the lessons have put on show on this machine, and the networks of the headline."""
    plots.use_style()
    stars = pd.DataFrame(
        [
            {
                "lesson": HEADLINE,
                "name": name,
                "bytes": way["bytes"],
                "MACs": way["MACs"],
                "accuracy": way["student"].mean,
            }
            for name, way in ways.items()
        ]
    )
    shown = exhibits.collected().replace({"lesson": {exhibits.YOURS: "07 challenge"}})
    shown = pd.concat([shown, stars], ignore_index=True)
    figure, axes = plt.subplots(2, 1, figsize=(7.5, 8))
    for ax, cost in zip(axes, ("bytes", "MACs"), strict=True):
        title = f"Accuracy on test against {cost}"
        plots.pareto(shown, cost=cost, highlight=HEADLINE, title=title, ax=ax)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None, course: build.Course = build.HERE) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--stored", action="store_true", help="take the claims from solutions/, run nothing"
    )
    chosen.add_argument(
        "--again",
        type=int,
        metavar="SEED",
        help="run every lesson once more, with seeds from SEED, for the column of fresh seeds",
    )
    options = parser.parse_args(arguments)
    try:
        # other seeds first: what the lessons put on show in the end is what they always do
        others = [] if options.again is None else shown_by(repeated(course, options.again))
        rows = shown_by(stored(course) if options.stored else executed(course))
        rows = with_fresh_seeds(rows, others) if others else rows
    except ExecutionError as error:
        print(f"cell {error.index + 1} failed: {error}", file=sys.stderr)
        return 1
    ways = headline.headline()
    draw(course.root / "assets" / FIGURE, ways)
    text = page(rows, ways, options.again)
    (course.root / "RESULTS.md").write_text(text, encoding="utf-8")
    failed = [row for row in rows if row.verdict == "does not hold" and not row.said_by]
    print(f"RESULTS.md: {len(rows)} claims, {len(failed)} of them do not hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
