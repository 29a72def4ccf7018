"""Number of child processes of a run, and their limits."""

import os
from dataclasses import dataclass

import psutil

from cosmosaic.storage.scratch import require_space, scratch_place

EXPOSURE_GB = 3.0
"""Least share of the memory of a step, except for a single one: what most steps need for full frames at their peak."""
LEAST_GB = 1.5
"""Least memory per child: what calibration of a full frame needs, which tells its needs."""
SCRATCH_GB = 2.0
"""Disk space that one full-frame exposure needs in the scratch folder, with a reserve."""


class ResourceError(RuntimeError):
    """The machine has less memory than the run may use; the message says how much is missing."""


@dataclass(frozen=True)
class WorkerPlan:
    """Number of child processes, and the limits of each."""

    processes: int
    """Steps that can be at work with an equal share of the memory."""
    children: int
    """Child processes: more than shares, if memory is short, for steps that tell that they need less."""
    memory_gb: float
    """Memory for all children together."""
    time_limit_s: float
    scratch: str | None
    environment: tuple[tuple[str, str], ...]
    """Environment variables of the children, e.g. CRDS_PATH; CRDS reads them once per process."""

    @property
    def share_gb(self) -> float:
        """Memory of a step that does not tell its needs."""
        return self.memory_gb / self.processes

    def reserved_gb(self, needed_gb: float | None) -> float:
        """Memory reserved for a call: a share, or what it needs if it tells, up to all of the memory."""
        if needed_gb is None:
            return self.share_gb
        return min(max(needed_gb, self.memory_gb / self.children), self.memory_gb)

    def allowed_gb(self, needed_gb: float | None) -> float:
        """Memory at which a call fails: a share at least, so that none fails for a need that was told too low."""
        return max(self.reserved_gb(needed_gb), self.share_gb)


def plan_workers(
    processes: int | None,
    memory_gb: float | None,
    time_limit_s: float,
    scratch: str | None,
    environment: dict[str, str],
) -> WorkerPlan:
    """Bound the number of children, and of steps with a share each, by cores and by memory; at least one."""
    memory_gb = memory_gb or 0.75 * psutil.virtual_memory().total / 1e9
    wanted = processes or len(os.sched_getaffinity(0))
    shares, children = (min(wanted, max(1, int(memory_gb / least_gb))) for least_gb in (EXPOSURE_GB, LEAST_GB))
    return WorkerPlan(shares, children, memory_gb, time_limit_s, scratch, tuple(sorted(environment.items())))


def check_resources(plan: WorkerPlan) -> None:
    """Check before the work starts that memory and scratch space suffice.

    Raises
    ------
    ResourceError
        The children may use more memory than the machine has.
    cosmosaic.storage.scratch.ScratchError
        The scratch folder cannot be written to or its disk has too little room.
    """
    total = psutil.virtual_memory().total / 1e9
    if plan.memory_gb > total:
        raise ResourceError(
            f"resources.memory_gb is {plan.memory_gb:.1f} GB and this machine has {total:.1f} GB: "
            f"{plan.memory_gb - total:.1f} GB are missing; lower resources.memory_gb"
        )
    require_space(scratch_place(plan.scratch), plan.processes * SCRATCH_GB * 1e9, f"{plan.processes} child processes")
