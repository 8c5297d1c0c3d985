"""What is said about a network that was handed in: a verdict, and a table of its prices."""

import html
from dataclasses import dataclass, field

from kdlab.check.rendering import Outcome, as_html, as_text

HEAD = ("price", "limit", "yours", "ok")
Line = tuple[str, str, str, str]


@dataclass(frozen=True)
class Verdict(Outcome):
    """The outcome of `check.challenge`.

    Attributes
    ----------
    row : dict
        What was measured of the file's network: ``name``, ``bytes``, ``MACs``, ``latency µs``, ``latency ratio``,
        ``val accuracy``, and once the test set was opened ``accuracy`` with ``low`` and ``high`` (95 %).
    table : tuple
        The same to be read: (price, limit, yours, ok).
    """

    row: dict = field(default_factory=dict)
    table: tuple[Line, ...] = ()

    @property
    def reason(self) -> str:
        """Why it did not pass; empty if it did."""
        return "" if self.passed else self.says

    def __repr__(self) -> str:
        return "\n".join([as_text(self), *_text_lines(self.table)])

    def _repr_html_(self) -> str:
        return as_html(self) + _html_table(self.table)


def _text_lines(table: tuple[Line, ...]) -> list[str]:
    lines = [HEAD, *table] if table else []
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))] if lines else []
    return ["    " + "  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def _html_table(table: tuple[Line, ...]) -> str:
    if not table:
        return ""
    rows = [_html_row(HEAD, "th"), *(_html_row(line, "td") for line in table)]
    return f'<table style="margin:0.4em 0 0;color:inherit">{"".join(rows)}</table>'


def _html_row(line: Line, tag: str) -> str:
    cells = (f'<{tag} style="text-align:left">{html.escape(text)}</{tag}>' for text in line)
    return f"<tr>{''.join(cells)}</tr>"
