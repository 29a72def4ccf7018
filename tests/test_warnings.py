"""Facts of steps that a user must know are told at the end of the run."""

from types import SimpleNamespace

import pytest

from tasks.runtime.report import _warnings


def ledger(label: str, **facts: float) -> SimpleNamespace:
    return SimpleNamespace(records=[SimpleNamespace(label=label, result=SimpleNamespace(facts=facts, warnings=()))])


@pytest.mark.parametrize(
    ("label", "fact", "told"),
    [
        ("Ids: small", "ids_moved", "warning small: 40 sources with ids have nothing within 0.3 arcsec any more"),
        ("Calibrate: jw1_nrcb1", "errors_unmeasured", "warning jw1_nrcb1: errors of its one group cannot be measured"),
    ],
)
def test_facts_that_need_attention_are_told_and_others_not(label: str, fact: str, told: str) -> None:
    (line,) = _warnings(ledger(label, **{fact: 40.0, "read_noise_ratio": 1.3}))
    assert line.startswith(told)
    assert _warnings(ledger(label, **{fact: 0.0})) == []


def test_what_steps_warned_of_is_told_once() -> None:
    both = [
        SimpleNamespace(label=label, result=SimpleNamespace(facts={}, warnings=("gaia.ecsv has no epoch",)))
        for label in ("Network: a", "Network: b")
    ]
    assert _warnings(SimpleNamespace(records=both)) == ["warning gaia.ecsv has no epoch"]


def test_of_many_warnings_the_first_are_told_and_the_others_counted() -> None:
    texts = tuple(f"exposure {number} has no VA_SCALE" for number in range(100))
    told = _warnings(
        SimpleNamespace(records=[SimpleNamespace(label="x", result=SimpleNamespace(facts={}, warnings=texts))])
    )
    assert told[0] == "warning exposure 0 has no VA_SCALE"
    assert told[-1] == "70 more warnings of steps"
    assert len(told) == 31
