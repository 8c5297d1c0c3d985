"""A verdict and how it looks: as text, as HTML for a notebook, as one line for a grader."""

import html
from dataclasses import dataclass

_MARKS = {"pass": "✓", "untouched": "○"}
_COLOURS = {"pass": "#2e9e5b", "untouched": "#8a8f98"}
_WRONG_MARK, _WRONG_COLOUR = "✗", "#d9822b"
_PRINTED_LINES = 6


@dataclass(frozen=True)
class Outcome:
    """The verdict on one answer, ready to be shown.

    Attributes
    ----------
    kind
        'pass', 'untouched', 'known', 'unknown', 'raised', 'unusable', 'nothing' (None came back) or 'side effect'.
    mistakes
        Names of the known mistakes that were recognised.
    case
        The smallest failing input and what came of it, as (name, text).
    earned, points
        Points under grading.
    """

    exercise: str
    kind: str
    says: str
    hint: str = ""
    mistakes: tuple[str, ...] = ()
    case: tuple[tuple[str, str], ...] = ()
    printed: str = ""
    earned: float = 0.0
    points: float = 1.0

    @property
    def passed(self) -> bool:
        return self.kind == "pass"

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def as_text(outcome: Outcome) -> str:
    """Several lines of plain text."""
    lines = [f"{_mark(outcome)} {outcome.exercise}: {outcome.says}"]
    if outcome.hint:
        lines.append(f"  {outcome.hint}")
    lines += [f"    {name} = {text}" for name, text in outcome.case]
    printed = _printed(outcome)
    if printed:
        lines += ["  Your code printed:", *(f"    {line}" for line in printed)]
    return "\n".join(lines)


def as_html(outcome: Outcome) -> str:
    """A small block in the notebook's own text colour, so that it reads on light and dark backgrounds."""
    colour = _COLOURS.get(outcome.kind, _WRONG_COLOUR)
    parts = [
        f'<div><span style="color:{colour};font-weight:bold">{_mark(outcome)}</span> '
        f"<b>{html.escape(outcome.exercise)}</b>: {html.escape(outcome.says)}</div>"
    ]
    if outcome.hint:
        parts.append(f'<div style="margin-top:0.3em">{html.escape(outcome.hint)}</div>')
    if outcome.case:
        parts.append(_block("\n".join(f"{name} = {text}" for name, text in outcome.case)))
    printed = _printed(outcome)
    if printed:
        parts += ["<div>Your code printed:</div>", _block("\n".join(printed))]
    return f'<div style="border-left:4px solid {colour};padding:0.3em 0.8em">{"".join(parts)}</div>'


def as_line(outcome: Outcome) -> str:
    """One line: what a grader's report shows."""
    case = ", ".join(f"{name} = {text}" for name, text in outcome.case)
    parts = [f"{outcome.exercise}: {outcome.says}", outcome.hint, f"({case})" if case else ""]
    return " ".join(" ".join(part.split()) for part in parts if part)


def _mark(outcome: Outcome) -> str:
    return _MARKS.get(outcome.kind, _WRONG_MARK)


def _printed(outcome: Outcome) -> list[str]:
    if outcome.passed:
        return []
    lines = outcome.printed.splitlines()
    return lines if len(lines) <= _PRINTED_LINES else [*lines[:_PRINTED_LINES], "…"]


def _block(text: str) -> str:
    style = "margin:0.3em 0 0;padding:0;background:transparent;color:inherit;white-space:pre-wrap"
    return f'<pre style="{style}">{html.escape(text)}</pre>'
