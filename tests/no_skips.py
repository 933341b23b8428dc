"""In CI (CI=true) a skipped test is a failure: what is said to be tested has been."""

import os

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if skipped and _strict():
        terminalreporter.section("skipped in CI", red=True, bold=True)
        for report in skipped:
            terminalreporter.line("%s: %s" % (report.nodeid, report.longreprtext.strip() or report.longrepr))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        reporter is not None
        and reporter.stats.get("skipped")
        and _strict()
        and exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _strict() -> bool:
    return os.environ.get("CI") == "true"
