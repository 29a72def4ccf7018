"""What a run cost: what its steps used and wrote, and the user's prices."""

import pytest

from cosmosaic.records import StoredObject
from cosmosaic.steps.result import StepResult
from cosmosaic.survey import CostSettings
from tasks.runtime.cost import Cost, cost_columns, cost_of, told
from tasks.runtime.run import Ledger, StepRecord

RAW, CAL, MOSAIC = (
    StoredObject(uri=f"/{name}", sha256=name, size=size) for name, size in (("raw", 1000), ("cal", 300), ("i2d", 50))
)


def _record(made: StoredObject, inputs: tuple[StoredObject, ...], cpu_s: float, cached: bool) -> StepRecord:
    result = StepResult(step="step", key="", files={"made": made}, cpu_s=cpu_s, wall_s=1.0, peak_mb=1.0)
    return StepRecord("label", result, cached, None, "m:f", inputs)


def test_what_was_looked_up_costs_nothing_but_is_kept_and_each_file_counts_once():
    records = [
        _record(CAL, (RAW,), 100.0, True),
        _record(MOSAIC, (CAL, CAL), 3600.0, False),
        _record(MOSAIC, (CAL,), 1800.0, False),
        StepRecord("failed", None, False, "error", "m:f", (RAW,)),
    ]
    assert cost_of(Ledger(records)) == Cost(cpu_s=5400.0, read=600, written=100, kept=350)


@pytest.mark.parametrize(
    ("prices", "cpu", "kept", "currency"),
    [
        (CostSettings(), None, None, ""),
        (CostSettings(per_cpu_hour=2.0), 3.0, None, "USD"),
        (CostSettings(per_cpu_hour=2.0, per_gb_month=0.5, currency="EUR"), 3.0, 1.0, "EUR"),
    ],
)
def test_money_is_told_by_the_prices_that_are_set_and_only_then(prices, cpu, kept, currency):
    cost = Cost(cpu_s=5400.0, read=600, written=100, kept=2_000_000_000)
    row = cost_columns(cost, prices)
    assert (row["cost_cpu"], row["cost_kept_month"], row["cost_currency"]) == (cpu, kept, currency)
    lines = told(cost, prices)
    assert lines[0] == "1.5 CPU hours; 6e-07 GB read, 1e-07 GB written, 2 GB kept"
    assert len(lines) == (2 if currency else 1)
    assert all(f"{money:.2f} {currency}" in lines[1] for money in (cpu, kept) if money is not None)
