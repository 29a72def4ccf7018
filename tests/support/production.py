"""A production as a team runs it: what can be asked of its Prefect server and of its store."""

import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import s3fs
from conftest import is_product

from support.programs import require_program
from support.s3_server import S3Server
from support.services import POSTGRESQL, ROOT, wait_for
from tasks.watch import ARRIVED

FINISHED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
RUN_LIMIT_S = 300.0
POOL = "cosmosaic"


@dataclass(frozen=True)
class Production:
    """Server, worker and store of one survey of three small exposures, two of which have arrived."""

    api: str
    database: str
    environment: dict[str, str]
    """Of the one who deploys; the worker has the keys of the store besides."""
    worker_environment: dict[str, str]
    s3: S3Server
    bucket: str
    frames: tuple[Path, ...]
    """All exposures of the survey, on the local disk."""
    folder: Path

    @property
    def store(self) -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(
            key=self.s3.access_key, secret=self.s3.secret_key, endpoint_url=self.s3.endpoint, use_listings_cache=False
        )

    def ask(self, method: str, path: str, content: Any = None, **body: Any) -> Any:
        """Ask the server, which is to agree; the body is given by its keys, or whole."""
        answer = self.answer(method, path, content, **body)
        answer.raise_for_status()
        return answer.json()

    def answer(self, method: str, path: str, content: Any = None, **body: Any) -> httpx.Response:
        return httpx.request(method, f"{self.api}/{path}", json=content or body or None, timeout=60)

    def prefect(self, *arguments: str) -> str:
        """Call Prefect's command line as the one who deploys does."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, file: Path) -> None:
        self.prefect("deploy", "--prefect-file", str(file), "--all")

    def deployment(self, name: str) -> dict[str, Any]:
        return self.ask("GET", f"deployments/name/{name}")

    def start(self, deployment: str, **parameters: Any) -> str:
        """Trigger a run through the API; returns its id."""
        created = self.ask("POST", f"deployments/{self.deployment(deployment)['id']}/create_flow_run",
                           parameters=parameters)  # fmt: skip
        return created["id"]

    def finish(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended."""

        def ended():
            described = self.ask("GET", f"flow_runs/{run}")
            return described if described["state"]["type"] in FINISHED else None

        return wait_for(ended, limit_s=RUN_LIMIT_S)

    def runs(self, deployment: str, since: datetime) -> list[dict[str, Any]]:
        """The runs of a deployment that were asked for since a moment, but not those that lie in the future."""
        found = self.ask(
            "POST", "flow_runs/filter",
            deployments={"id": {"any_": [self.deployment(deployment)["id"]]}},
            flow_runs={"expected_start_time": {"before_": (datetime.now(UTC)).isoformat()}},
            sort="EXPECTED_START_TIME_ASC",
        )  # fmt: skip
        return [run for run in found if datetime.fromisoformat(run["created"]) >= since]

    def settle(self, deployment: str, since: datetime, expected: int) -> list[dict[str, Any]]:
        """Wait until a number of runs have come and all have ended."""

        def settled():
            runs = self.runs(deployment, since)
            done = len(runs) >= expected and all(run["state"]["type"] in FINISHED for run in runs)
            return runs if done else None

        return wait_for(settled, limit_s=RUN_LIMIT_S)

    def task_runs(self, run: str) -> dict[str, str]:
        """State of each task of a run, by its name."""
        # The server writes task runs down a little later than it is told of them.
        time.sleep(2.0)
        found = self.ask("POST", "task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=200)
        return {task["name"]: task["state"]["name"] for task in found}

    def artifacts(self, run: str) -> dict[str, dict[str, Any]]:
        found = self.ask("POST", "artifacts/filter", flow_runs={"id": {"any_": [run]}}, limit=200)
        return {artifact["key"]: artifact for artifact in found}

    def logs(self, run: str) -> list[str]:
        found = self.ask("POST", "logs/filter", logs={"flow_run_id": {"any_": [run]}}, limit=200)
        return [log["message"] for log in found]

    def dump(self) -> str:
        """All that is in the server's database, as text."""
        pg_dump = require_program("pg_dump", *POSTGRESQL)
        url = self.database.replace("+asyncpg", "")
        return subprocess.run([pg_dump, "--data-only", url], capture_output=True, text=True, check=True).stdout

    def arrive(self, frame: Path) -> str:
        """Put an exposure where the telescope's exposures arrive; returns its URI."""
        uri = f"{self.bucket}/raw/{frame.name}"
        self.store.put_file(str(frame), uri)
        return uri

    def notify(self, *uris: str) -> None:
        """Tell the server of new objects as a bucket's notification does."""
        now = datetime.now(UTC).isoformat()
        events = [
            {"event": ARRIVED, "occurred": now, "resource": {"prefect.resource.id": uri}, "id": str(uuid4())}
            for uri in uris
        ]
        self.answer("POST", "events", events).raise_for_status()

    def products(self, survey: str = "small") -> dict[str, str]:
        """sha256 of each product of a survey, by its name below products/."""
        root = f"{self.bucket.removeprefix('s3://')}/{survey}/products/"
        names = [path.removeprefix(root) for path in self.store.find(root)]
        return {
            name: hashlib.sha256(self.store.cat_file(root + name)).hexdigest() for name in names if is_product(name)
        }
