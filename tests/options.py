"""Options of both test trees (a plugin: pytest reads no option of a conftest that it has not come to yet)."""

import random
import shutil
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

# Machines that are shared stop for a second now and then: no test judges time.
settings.register_profile("p2vd", deadline=None)
settings.load_profile("p2vd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="fault campaigns in full, not as a sample")
    parser.addoption("--seed", type=int, default=None, help="repeat the random moments of an earlier run")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        given: dict[str, int] = getattr(config, "workerinput", {})
        config.option.seed = given.get("seed", random.SystemRandom().randrange(1 << 32))


@pytest.hookimpl(optionalhook=True)  # type: ignore[untyped-decorator]  # pluggy 1.0 has no types
def pytest_configure_node(node: Any) -> None:
    """Have the processes of pytest-xdist choose the same: of the options they get what was typed alone."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_report_header(config: pytest.Config) -> str:
    how = "in full" if config.option.full else "as a sample"
    return f"campaigns: {how}, --seed {config.option.seed}"


# First: the lab chooses among what is left.
@pytest.hookimpl(tryfirst=True)  # type: ignore[untyped-decorator]  # pluggy 1.0 has no types
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave campaigns that have no seeded sample to --full."""
    if config.option.full:
        return
    for item in items:
        if item.get_closest_marker("campaign") and "campaign_seed" not in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="a campaign without a sample: runs with --full"))


@pytest.fixture
def campaign_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run's random moments; the header of the run shows it."""
    return int(request.config.option.seed)


_FAILED = pytest.StashKey[bool]()


def failed(item: pytest.Item) -> bool:
    """Return whether the test failed so far, for the fixtures that clean up after it."""
    return item.stash.get(_FAILED, False)


@pytest.hookimpl(hookwrapper=True)  # type: ignore[untyped-decorator]  # pluggy 1.0 has no types
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, "pytest.CallInfo[None]", None]:
    """Delete the files of a test that did not fail, which pytest keeps: 15 GiB a run, of three runs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result object
    item.stash[_FAILED] = failed(item) or report.failed
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "teardown" and directory is not None and not failed(item):
        shutil.rmtree(directory, ignore_errors=True)
