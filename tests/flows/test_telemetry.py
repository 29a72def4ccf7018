"""The traces of a run, sent with OpenTelemetry as the operations guide says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.services import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.server]

SMALL = [
    "--simulation.detectors", "NRCBLONG", "--simulation.subarray", "SUB160", "--simulation.groups", "3",
]  # fmt: skip


@contextmanager
def receiver(spans: list[Span]) -> Iterator[str]:
    """Receive traces by OTLP over HTTP; gives the address."""

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def _settings_of_the_guide() -> dict[str, str]:
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    exported = [line.split("#")[0].removeprefix("export ").strip() for line in lines if line.startswith("export OTEL_")]
    return dict(line.split("=", 1) for line in exported)


def test_a_receiver_gets_the_flow_and_each_step_as_its_child(tmp_path):
    spans: list[Span] = []
    with receiver(spans) as address:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OTEL_"))}
        told = _settings_of_the_guide() | {"OTEL_EXPORTER_OTLP_ENDPOINT": address}
        environment = {**kept, **told, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(ROOT)}
        program = str(Path(sys.executable).with_name("opentelemetry-instrument"))
        command = [program, sys.executable, "-m", "cosmosaic", "simulate", "--store", "mock", *SMALL]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (flow,) = [span for span in spans if _says(span, "prefect.run.type", "flow")]
    steps = [span for span in spans if _says(span, "prefect.run.type", "task")]
    assert {span.trace_id for span in steps} == {flow.trace_id}
    frames = {path.stem.removesuffix("_uncal") for path in (tmp_path / "mock" / "raw").glob("*.fits")}
    assert len(frames) == 6
    assert all(sum(frame in span.name for span in steps) == 1 for frame in frames)
    assert all(span.parent_span_id == flow.span_id for span in steps)


def _says(span: Span, key: str, value: str) -> bool:
    return any(each.key == key and each.value.string_value == value for each in span.attributes)
