"""One small workspace with trained results for all tests of this folder that only read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.store import Workspace
from engines.store.run_queries import experiments
from tests.reports.trained import trained_workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = trained_workspace(tmp_path_factory.mktemp("reports"))
    yield workspace
    workspace.close()


@pytest.fixture(scope="session")
def keys(trained: Workspace) -> dict[str, str]:
    """Keys of the results by method."""
    return {each.method: each.key for each in experiments(trained)}
