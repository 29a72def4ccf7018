"""Flags are decoded by one registry."""

import numpy as np
import pytest

from cosmosaic.catalog import CatalogFlag, decode_flags
from cosmosaic.catalog.measure import is_seen_once


def test_values_are_decoded_to_names() -> None:
    assert decode_flags([0, CatalogFlag.EDGE | CatalogFlag.SINGLE_EXPOSURE]) == [(), ("EDGE", "SINGLE_EXPOSURE")]
    assert decode_flags(2) == [("BLENDED",)]


def test_a_value_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="1048576 is not a value"):
        decode_flags([1048576])


def test_each_flag_has_a_bit_of_its_own_and_a_meaning() -> None:
    assert sum(CatalogFlag) == 2 ** len(CatalogFlag) - 1


@pytest.mark.parametrize(
    ("covered", "detected", "exposures", "is_once"),
    [
        ((True, True), (True, True), (1, 1), True),
        ((True, True), (True, True), (1, 3), False),
        # A cosmic ray of the first filter: that the second one's exposures do not show it is no witness for it.
        ((True, True), (True, False), (1, 3), True),
        ((True, True), (False, True), (1, 3), False),
        ((True, False), (True, False), (1, 0), True),
        ((True, True), (False, False), (1, 3), False),
        ((False, False), (False, False), (0, 0), False),
    ],
)
def test_one_exposure_is_enough_in_the_filters_that_show_a_source(covered, detected, exposures, is_once) -> None:
    columns = (np.array(each)[:, np.newaxis] for each in (covered, detected, exposures))
    assert is_seen_once(*columns).tolist() == [is_once]
