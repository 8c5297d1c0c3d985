"""Write RESULTS.md: what the course claims, what it measured, and under which conditions.

python lessons/results.py           run every lesson with this machine's store, then write the page
python lessons/results.py --stored  take the claims from solutions/ as they are, run no lesson

Every run that the store already holds is recalled, so that a second call takes as long as the lessons' timings do.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import build
import headline
from _execution import ExecutionError, execute
from _notebooks import solution_notebook
from _papers import paper_of
from kdlab import claims, exhibits, plots

PACKAGES = ("torch", "torchvision", "numpy", "pandas")
PARTS = ("text", "evidence", "verdict", "said_by")  # of a claim, in the order of a row
FIGURE = "results_pareto.png"


@dataclass(frozen=True)
class Row:
    """A claim of a lesson, as its notebook shows it."""

    lesson: str
    text: str
    evidence: str
    verdict: str
    said_by: str = ""

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


def executed(course: build.Course) -> Iterable[tuple[str, NotebookNode]]:
    """Run every lesson with this machine's store; a claim that does not hold is shown, not raised."""
    os.environ["KDLAB_CLAIMS"] = "report"  # the kernels inherit it
    for lesson in course.lessons():
        notebook = solution_notebook(lesson)
        seconds = execute(notebook, course.solutions, "laptop", warm=True)
        print(f"{lesson.name}: {seconds:.0f} s", flush=True)
        yield lesson.name[:2], notebook


def stored(course: build.Course) -> Iterable[tuple[str, NotebookNode]]:
    """Read every solution as it is."""
    for lesson in course.lessons():
        path = course.solutions / f"{lesson.name}.ipynb"
        yield lesson.name[:2], nbformat.read(path, as_version=4)


def page(rows: list[Row], ways: Mapping[str, Mapping]) -> str:
    """Return the whole page as Markdown."""
    parts = [
        "# Results",
        "What the lessons claim, and what they measured. This page is written by `make results`, from runs at laptop "
        "scale that anybody can repeat; nothing here is typed by hand.",
        "## How small?",
        _headline(ways),
        f"![Accuracy against cost of what the lessons trained](assets/{FIGURE})",
        "## Claims",
        "Every claim of the lessons, with its measurement: a mean over seeds with the 95 % interval (Student's t). Where a "
        "paper says something about it, the last column tells how that fares *here*: small networks, small pictures, minutes "
        "of training. A finding that does not hold here may hold elsewhere.",
        _claims(rows),
        "## Conditions",
        _conditions(),
    ]
    return "\n\n".join(parts) + "\n"


def _headline(ways: Mapping[str, Mapping]) -> str:
    first = next(iter(ways.values()))
    lines = [
        f"The teacher is a residual network of width 24 with two blocks a stage. It gets {first['teacher'].text()} of the "
        f"test images right. Two ways to a small network, over {first['difference'].seeds} seeds (teacher and student "
        "trained anew for each):",
        "",
        "| | " + " | ".join(ways) + " |",
        "|---|" + "---|" * len(ways),
    ]
    for name, show in {
        "times fewer bytes": lambda w: (
            f"{w['times fewer bytes']:.0f} ({w['bytes']:,.0f} bytes)"
        ),
        "times fewer MACs": lambda w: f"{w['times fewer MACs']:.1f}",
        "weights rounded to": lambda w: f"{w['bits']} bits",
        "accuracy on test": lambda w: w["student"].text(),
        "against the teacher": lambda w: w["difference"].text(),
        "the same before rounding": lambda w: w["before rounding"].text(),
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
    return f"- **{name}** {'; '.join(verdicts)}."


def _claims(rows: list[Row]) -> str:
    lines = ["| lesson | claim | measured | verdict | papers |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.lesson, row.text, row.evidence, row.verdict, row.paper())
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
            "final report; each lesson takes a few minutes on two cores, the table above about half an hour",
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


def draw(path: Path) -> None:
    """Draw everything that the lessons have trained on this machine."""
    plots.use_style()
    figure = plots.pareto(
        exhibits.collected(), cost="bytes", title="Everything that the lessons have trained"
    )
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main(arguments: list[str] | None = None, course: build.Course = build.HERE) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stored", action="store_true", help="take the claims from solutions/, run nothing"
    )
    options = parser.parse_args(arguments)
    source = stored if options.stored else executed
    try:
        rows = [
            row for name, notebook in source(course) for row in claims_in(notebook, name)
        ]
    except ExecutionError as error:
        print(f"cell {error.index + 1} failed: {error}", file=sys.stderr)
        return 1
    ways = headline.headline()
    (course.root / "RESULTS.md").write_text(page(rows, ways), encoding="utf-8")
    draw(course.root / "assets" / FIGURE)
    failed = [row for row in rows if row.verdict == "does not hold" and not row.said_by]
    print(f"RESULTS.md: {len(rows)} claims, {len(failed)} of them do not hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
