"""Several processes share the suite (`make test`): the longest files begin, so that all processes end together.

In: what was collected, the variables that pytest-xdist sets. Out: the same tests in another order, one thread each for
the products of matrices. Knows no test. Invariant: within a file no test changes its place; one process alone is left
as it is.
"""

import os

import pytest

# By measured time, waiting included; what is not named takes less than ten seconds.
LONGEST = (
    "tests/workers/test_app.py",
    "tests/model/test_engine.py",
    "tests/workers/test_service.py",
    "tests/security/test_kafka.py",
    "tests/faults/test_faults.py",
    "tests/workers/test_pool.py",
    "tests/sim/test_crash.py",
    "tests/test_cli.py",
    "tests/streams/test_windows.py",
    "tests/workers/test_erase.py",
    "tests/workers/test_bench_e2e.py",
    "tests/test_demo.py",
    "tests/faults/test_checker.py",
    "tests/workers/test_replay.py",
    "tests/model/test_generate.py",
    "tests/security/test_postgres.py",
    "tests/workers/test_deadletters.py",
    "tests/workers/test_pipeline.py",
    "tests/workers/test_worker_role.py",
    "tests/security/test_canary.py",
    "tests/security/test_secrets.py",
)
SHARED = "PYTEST_XDIST_WORKER" in os.environ

if SHARED:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # or each process would take every core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED:
        ranks = {path: rank for rank, path in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(LONGEST)))
