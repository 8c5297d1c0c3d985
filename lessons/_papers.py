"""What papers say about that which a lesson claims, for the page of results.

Each entry names a lesson, the beginning of one of its claims, the paper with what it says, and whether the lesson's claim
says the same: where it says the opposite, the paper does not hold here when the claim does.
"""

from typing import NamedTuple


class Said(NamedTuple):
    """A paper's statement beside a claim."""

    lesson: str
    claim: str
    paper: str
    same: bool = True


PAPERS = [
    Said("01", "With T²", "Hinton 2015, section 2: T² keeps the sizes of the gradients"),
    Said(
        "01", "At T = 256", "Hinton 2015, section 2.1: at high T, matching centred logits"
    ),
    Said(
        "01", "With 1,000 labels", "Hinton 2015, section 6: soft targets with little data"
    ),
    Said("01", "A student that never saw", "Hinton 2015, section 3: a digit never seen"),
    Said(
        "02",
        "A stranger of the same kind",
        "Stanton 2021: students agree little with their teachers",
    ),
    Said(
        "02",
        "At T = 4, the smoothed",
        "Müller 2019: smoothing erases information from logits",
    ),
    Said(
        "03",
        "At 50 %, before any training, global",
        "Han 2015; Blalock 2020: global is better",
    ),
    Said("03", "80 % of the weights", "Han 2015: most weights go for nothing"),
    Said(
        "04",
        "With a quarter of the channels",
        "Li 2020 (EagleEye): recalibrate before judging",
    ),
    Said(
        "04",
        "Against a small network that gets",
        "Li 2017, at unequal budgets: pruned beats trained from scratch",
    ),
    Said(
        "04",
        "At equal budgets, with half",
        "Liu 2019: from scratch is as good, at equal budgets",
    ),
    Said("05", "At 95% sparsity, gradual", "Zhu & Gupta 2017; Gale 2019: gradual pruning"),
    Said("05", "With 1 % of the weights", "Frankle & Carbin 2019: winning tickets"),
    Said(
        "05",
        "At 90% sparsity, large",
        "Zhu & Gupta 2017: large and sparse beats small and dense",
    ),
]


def paper_of(lesson: str, claim: str) -> Said | None:
    """Return what a paper says about a claim, None if no paper is named for it."""
    found = [
        said for said in PAPERS if said.lesson == lesson and claim.startswith(said.claim)
    ]
    return found[0] if found else None
