"""What a store refuses is said with what to change, whichever of its answers it gives."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.s3_server import forget_stores

from cosmosaic.storage import store
from tasks.runtime.retries import is_transient

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{said}</Message>{more}</Error>"
REGION = "the region 'us-east-1' is wrong; expecting 'eu-west-1'"
REGION_CURE = (r"bucket survey ", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL = http://127.0.0.1")
TOKEN_CURE = ("AWS_SESSION_TOKEN", "s3://survey")
CLOCK_CURE = ("clock of this machine", "keys may be right")
ANSWERS = [
    (400, "AuthorizationHeaderMalformed", REGION, "<Region>eu-west-1</Region>",
     (*REGION_CURE, "set AWS_DEFAULT_REGION=eu-west-1")),
    (301, "PermanentRedirect", "address it at another endpoint",
     "<Endpoint>survey.s3.eu-west-1.amazonaws.com</Endpoint>", (*REGION_CURE, "survey.s3.eu-west-1.amazonaws.com")),
    (400, "IllegalLocationConstraintException", "incompatible location constraint", "", REGION_CURE),
    (400, "ExpiredToken", "The provided token has expired.", "", TOKEN_CURE),
    (400, "InvalidToken", "The provided token is malformed", "", TOKEN_CURE),
    (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "",
     CLOCK_CURE),
    (403, "AccessDenied", "Access Denied", "", ("AWS_SECRET_ACCESS_KEY",)),
]  # fmt: skip

Answering = Callable[[int, str], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """A server that gives every request one answer, and what it is."""
    given = {}

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            status, body = given["answer"]
            # AWS tells the region of a bucket to those who may know it; s3fs then goes there.
            status = 403 if self.command == "HEAD" and body else status
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    def answer(status: int, body: str) -> None:
        given["answer"] = status, body.encode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    forget_stores()
    yield answer
    server.shutdown()
    forget_stores()


@pytest.mark.parametrize(("status", "code", "said", "more", "words"), ANSWERS, ids=[one[1] for one in ANSWERS])
def test_a_refusal_says_what_to_change(
    answering: Answering, status: int, code: str, said: str, more: str, words: tuple[str, ...]
) -> None:
    answering(status, ERROR.format(code=code, said=said, more=more))
    for ask in (store.check_access, lambda uri: list(store.list_objects(uri))):
        with pytest.raises(PermissionError) as raised:
            ask("s3://survey/raw/x.fits")
        message = str(raised.value)
        assert all(word in message for word in words), message
        assert "very-secret" not in message
        assert not is_transient(raised.value)
        if words == CLOCK_CURE:
            assert "AWS_SECRET_ACCESS_KEY" not in message


@pytest.mark.parametrize("status", [301, 400, 403])
def test_a_refusal_without_words_names_all_that_may_be_wrong(answering: Answering, status: int) -> None:
    answering(status, "")
    with pytest.raises(PermissionError) as raised:
        store.stat("s3://survey/raw/x.fits")
    named = REGION_CURE if status == 301 else ("s3://survey", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "clock")
    assert all(word in str(raised.value) for word in named), str(raised.value)
