"""What a run cost: CPU time, bytes read, written and kept, and money by the user's prices."""

from typing import Any, NamedTuple

from cosmosaic.records import StoredObject
from cosmosaic.survey import CostSettings
from tasks.runtime.run import Ledger

GB, HOUR_S = 1e9, 3600.0


class Cost(NamedTuple):
    """The cost of a run's steps."""

    cpu_s: float
    """Of the steps that were executed in this run, in their child processes."""
    read: int
    """Bytes of these steps' inputs; reference files are not counted."""
    written: int
    """Bytes that these steps wrote to cache and products."""
    kept: int
    """Bytes of all files that the run's steps made or looked up, each counted once."""


def cost_of(ledger: Ledger) -> Cost:
    """Add up what the steps of a run cost."""
    results = [record.result for record in ledger.records if record.result]
    executed = [record.result for record in ledger.executed if record.result]
    return Cost(
        cpu_s=sum(result.cpu_s for result in executed),
        read=sum(_size(record.inputs) for record in ledger.executed),
        written=sum(_size(result.objects) for result in executed),
        kept=_size(tuple(stored for result in results for stored in result.objects)),
    )


def cost_columns(cost: Cost, prices: CostSettings) -> dict[str, Any]:
    """Return the columns of the run table that show a cost; those of money are empty where no price is set."""
    cpu, kept = money_of(cost, prices)
    return {
        "cpu_s": round(cost.cpu_s, 3),
        "bytes_read": cost.read,
        "bytes_written": cost.written,
        "bytes_kept": cost.kept,
        "cost_cpu": cpu,
        "cost_kept_month": kept,
        "cost_currency": "" if cpu is None and kept is None else prices.currency,
    }


def money_of(cost: Cost, prices: CostSettings) -> tuple[float | None, float | None]:
    """Return the price of the CPU time, and of keeping the files for a month; None where no price is set."""
    cpu = None if prices.per_cpu_hour is None else cost.cpu_s / HOUR_S * prices.per_cpu_hour
    kept = None if prices.per_gb_month is None else cost.kept / GB * prices.per_gb_month
    return cpu, kept


def told(cost: Cost, prices: CostSettings) -> list[str]:
    """Tell a cost in lines for the end of a run."""
    lines = [
        f"{cost.cpu_s / HOUR_S:.3g} CPU hours; {cost.read / GB:.3g} GB read, {cost.written / GB:.3g} GB written, "
        f"{cost.kept / GB:.3g} GB kept"
    ]
    cpu, kept = money_of(cost, prices)
    money = [] if cpu is None else [f"{cpu:.2f} {prices.currency} for CPU time"]
    money += [] if kept is None else [f"{kept:.2f} {prices.currency} a month for what is kept"]
    return [*lines, f"cost: {', '.join(money)}"] if money else lines


def _size(stored: tuple[StoredObject, ...]) -> int:
    return sum({one.uri: one.size for one in stored}.values())
