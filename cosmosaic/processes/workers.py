"""Child processes for the work with jwst: reused, killable, each with its own environment and memory allowance.

The calling thread waits. A child is killed when it exceeds its time limit, which a thread could not
be while C code runs; and failures of a child (CRDS calls ``sys.exit``, the kernel kills it for memory)
reach the caller as exceptions. The room's face.
"""

from cosmosaic.processes.child import Outcome, WorkerError, shared_folder
from cosmosaic.processes.plan import ResourceError, WorkerPlan, check_resources, plan_workers
from cosmosaic.processes.pool import STOPPED, LostChildError, run, start, stop_workers

__all__ = [
    "STOPPED",
    "LostChildError",
    "Outcome",
    "ResourceError",
    "WorkerError",
    "WorkerPlan",
    "check_resources",
    "plan_workers",
    "run",
    "shared_folder",
    "start",
    "stop_workers",
]
