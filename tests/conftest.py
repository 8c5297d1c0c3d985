"""Every test has a store of its own, and one thread; the kill rates are told in the end."""

import pytest
import torch


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KDLAB_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter):
    """What was recorded as "kill rate", by whichever of several processes."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    recorded = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    lines = sorted({value for name, value in recorded if name == "kill rate"})
    if lines:
        terminalreporter.section("mutants of the right answers")
    for line in lines:
        terminalreporter.write_line(line)
