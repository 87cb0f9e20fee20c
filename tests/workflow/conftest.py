"""One copy of the small campaign for the tests of the workflow."""

import pytest

from tests.campaign import Campaign


@pytest.fixture(scope="session")
def campaign(tmp_path_factory, finished) -> Campaign:
    """Shared: a test that edits a file of it puts the file back."""
    return finished.copy(tmp_path_factory.mktemp("campaign"))
