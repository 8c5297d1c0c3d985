"""What every pytest run shares, the one over the notebooks included."""

NEVER_COMPARED = {"stderr", "image/svg+xml"}  # warnings and drawings differ between machines


def pytest_collectstart(collector) -> None:
    """Tell nbval, whose collectors alone have the attribute, which kinds of output are never compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = tuple({*collector.skip_compare, *NEVER_COMPARED})
