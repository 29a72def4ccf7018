"""A cache of limited size: what was removed is made again when it is needed, and the products are the same."""

import hashlib

import pytest
from support.small_survey import new_survey

pytestmark = [pytest.mark.slow, pytest.mark.server]

LIMIT_GB = 0.01


def test_a_run_keeps_its_cache_within_the_limit_and_the_next_makes_what_it_needs(simulated, tmp_path):
    small = new_survey(simulated, tmp_path)
    first = small.run(resources={"cache_gb": LIMIT_GB})
    assert (first.state, first.failed) == ("Completed", {})
    held = sum(path.stat().st_size for path in small.cache.rglob("[!.]*") if path.is_file())
    assert 0.2 * LIMIT_GB < held / 1e9 <= LIMIT_GB
    products = digests(small)
    second = small.run()
    assert (second.state, second.failed) == ("Completed", {})
    assert second.executed < first.executed
    assert second.executed
    assert digests(small) == products


def digests(small):
    files = (path for path in small.products.rglob("*.fits"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
