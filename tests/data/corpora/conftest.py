from pathlib import Path

import pytest

from tests.data.corpora.covost import write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """French of a Common Voice release, and ``covost/`` with its translations."""
    return write_corpus(tmp_path)
