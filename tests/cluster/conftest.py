"""What tests of many machines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.network import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of its own for the test; skipped where none can be made."""
    with Network() as network:
        yield network
