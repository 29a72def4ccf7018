"""Flags are decoded by one registry."""

import pytest

from cosmosaic.catalog import CatalogFlag, decode_flags


def test_values_are_decoded_to_names() -> None:
    assert decode_flags([0, CatalogFlag.EDGE | CatalogFlag.SINGLE_EXPOSURE]) == [(), ("EDGE", "SINGLE_EXPOSURE")]
    assert decode_flags(2) == [("BLENDED",)]


def test_a_value_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="1048576 is not a value"):
        decode_flags([1048576])


def test_each_flag_has_a_bit_of_its_own_and_a_meaning() -> None:
    assert sum(CatalogFlag) == 2 ** len(CatalogFlag) - 1
