"""Claims that a lesson makes about its own measurements, and that break the build when they do not hold."""

import html
import os
from dataclasses import dataclass

from kdlab import scale
from kdlab.errors import KdlabError
from kdlab.experiments import Difference

MIME = "application/vnd.kdlab.claim+json"


class ClaimFailed(AssertionError):
    """A lesson's claim is not borne out by the lesson's own measurement."""

    def _render_traceback_(self) -> list[str]:
        return [f"This claim does not hold: {self}"]


@dataclass(frozen=True)
class Claim:
    """What was said, what was measured, and whether the one follows from the other.

    Attributes
    ----------
    text, evidence : str
    holds : bool
    judged : bool
        False at smoke scale, which trains too little to judge anything.
    said_by : str
        Who says so, where it is not the lesson itself.
    """

    text: str
    evidence: str
    holds: bool | None
    judged: bool
    said_by: str = ""

    @property
    def verdict(self) -> str:
        """A word or two: holds, does not hold, cannot tell, not judged."""
        if not self.judged:
            return "not judged at smoke scale"
        return {True: "holds", False: "does not hold", None: "cannot tell"}[self.holds]

    def __repr__(self) -> str:
        who = f"\nSaid by: {self.said_by}" if self.said_by else ""
        return f"Claim: {self.text}{who}\nMeasured: {self.evidence}\nVerdict: {self.verdict}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Let programs read what people see."""
        return {MIME: {"text": self.text, "said_by": self.said_by, "evidence": self.evidence, "verdict": self.verdict}}

    def _repr_html_(self) -> str:
        colour = {"holds": "#009E73", "does not hold": "#D55E00"}.get(self.verdict, "#888888")
        who = f" <i>({html.escape(self.said_by)})</i>" if self.said_by else ""
        return (
            f'<div style="border-left:4px solid {colour};padding:2px 12px">{html.escape(self.text)}{who}<br>'
            f"<b>Measured:</b> {html.escape(self.evidence)}<br>"
            f'<b style="color:{colour}">{self.verdict}</b></div>'
        )


def claim(
    text: str,
    evidence: Difference | str,
    *,
    above: float | None = None,
    below: float | None = None,
    within: float | None = None,
    holds: bool | None = None,
) -> Claim:
    """State a claim and check it.

    Parameters
    ----------
    text
        The claim, in words.
    evidence
        A mean with its interval, or (with `holds`) words.
    above, below
        The whole interval must lie above (below) this value: 0.01 is one percentage point.
    within
        The whole interval must lie between minus and plus this value: "about equal" with a number to it.
    holds
        For evidence that is not an interval: the verdict itself.

    Returns
    -------
    Claim
        To be shown as the cell's last value.

    Raises
    ------
    ClaimFailed
        At laptop and full scale, if the claim does not hold; with ``KDLAB_CLAIMS=report`` it is only shown.
    """
    if holds is None:
        holds = _judge(evidence, above, below, within)
    words = evidence.text() if isinstance(evidence, Difference) else evidence
    made = Claim(text, words, bool(holds), judged=scale.current() != "smoke")
    if made.judged and not made.holds and os.environ.get("KDLAB_CLAIMS") != "report":
        raise ClaimFailed(f"{text} Measured: {words}.")
    return made


def finding(text: str, evidence: Difference, *, said_by: str = "", above: float = 0.0) -> Claim:
    """Hold what somebody says against a measurement, and show what comes of it: it may well not hold.

    Parameters
    ----------
    text
        What is said: that a difference lies above `above`.
    evidence
        The measured difference with its interval.
    said_by
        Who says so: authors and year.
    above
        The value that the difference is said to exceed.

    Returns
    -------
    Claim
        ``holds`` if the whole interval lies above the value, ``does not hold`` if all of it lies below, ``cannot tell``
        otherwise. Nothing is raised.
    """
    if not isinstance(evidence, Difference):
        raise KdlabError(f"A finding needs a mean with its interval, from paired or interval, got {evidence!r}.")
    holds = True if evidence.low > above else False if evidence.high < above else None
    return Claim(text, evidence.text(), holds, scale.current() != "smoke", said_by)


def _judge(evidence, above, below, within) -> bool:
    if not isinstance(evidence, Difference) or (above is None and below is None and within is None):
        raise KdlabError("A claim needs an interval with above=, below= or within=, or else holds=True or False.")
    checks = []
    if above is not None:
        checks.append(evidence.low > above)
    if below is not None:
        checks.append(evidence.high < below)
    if within is not None:
        checks.append(-within < evidence.low and evidence.high < within)
    return all(checks)
