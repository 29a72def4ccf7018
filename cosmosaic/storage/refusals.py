"""Errors of a store, translated into messages that name the remedy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from fsspec.exceptions import FSTimeoutError

OTHER_REGION = {
    "301", "307", "PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException", "InvalidRegion",
}  # fmt: skip
TOKEN = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "RequestExpired"}
CLOCK = {"RequestTimeTooSkewed", "RequestInTheFuture"}
WITHOUT_REASON = {"400", "403"}
"""The answer to a request for headers alone has no text."""


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Translate the many errors of the libraries into the three that matter to a user.

    Raises
    ------
    FileNotFoundError
        There is no such object or bucket.
    PermissionError
        The store refuses access: keys, session token, region or this machine's clock are wrong; retries do not help.
    ConnectionError
        The store does not answer.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{uri} does not exist, or these keys do not give access to it") from error
    except (HTTPClientError, HttpError, FSTimeoutError) as error:
        raise ConnectionError(f"the store of {uri} does not answer ({error}); check AWS_ENDPOINT_URL") from error
    except RecursionError as error:
        # botocore follows a redirect without a region by repeating the request.
        raise PermissionError(_other_region(uri, {}, "the store redirects without end")) from error
    except (OSError, ClientError, BotoCoreError) as error:
        explained = _explained(error, uri)
        if explained is None:
            raise
        raise explained from error


def code_of(error: BaseException) -> str:
    """Return the code with which a store described an error; empty if it did not."""
    return str(_answer(error).get("Code", ""))


def _explained(error: Exception, uri: str) -> OSError | None:
    """Return an error with a remedy; None for errors that a retry may solve, or that are clear already."""
    answer = _answer(error)
    code, said = str(answer.get("Code", "")), str(answer.get("Message", "") or error).rstrip(".")
    if code in OTHER_REGION:
        return PermissionError(_other_region(uri, answer, said))
    if code in TOKEN:
        return PermissionError(
            f"the store refuses access to {uri}: {said}. The session token has expired or belongs to other keys: get "
            "new keys, and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN together (or log in "
            "again with AWS_PROFILE)"
        )
    if code in CLOCK:
        return PermissionError(
            f"the store refuses access to {uri}: {said}. The keys may be right: the clock of this machine differs from "
            "the store's by more than it allows (15 minutes on AWS); set it, e.g. by NTP"
        )
    if code in WITHOUT_REASON:
        return PermissionError(
            f"the store refuses access to {uri} and gives no reason ({said}): check AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY (with temporary keys AWS_SESSION_TOKEN), AWS_DEFAULT_REGION, {_address()} and the "
            "clock of this machine"
        )
    if isinstance(error, PermissionError | NoCredentialsError):
        return PermissionError(
            f"the store refuses access to {uri}: {said}. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_ENDPOINT_URL (or AWS_PROFILE) in the environment; without keys only public buckets can be read"
        )
    if isinstance(error, BotoCoreError):
        return ConnectionError(f"the store of {uri} does not answer ({error}); check AWS_ENDPOINT_URL")
    return None


def _other_region(uri: str, answer: dict[str, Any], said: str) -> str:
    bucket = uri.removeprefix("s3://").split("/", 1)[0]
    region, right = os.environ.get("AWS_DEFAULT_REGION"), answer.get("Region")
    asked = f"AWS_DEFAULT_REGION = {region}" if region else "AWS_DEFAULT_REGION is not set"
    cure = f"set AWS_DEFAULT_REGION={right}" if right else "set AWS_DEFAULT_REGION to the bucket's region"
    there = f" (the store names {answer['Endpoint']})" if answer.get("Endpoint") else ""
    return (
        f"the bucket {bucket} is in another region than the one requested: {said}. {asked}, {_address()}: {cure}, "
        f"and AWS_ENDPOINT_URL, if you use it, to that region's address{there}"
    )


def _address() -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f"AWS_ENDPOINT_URL = {endpoint}" if endpoint else "AWS_ENDPOINT_URL (not set: AWS's own address)"


def _answer(error: BaseException) -> dict[str, Any]:
    """The store's own description of an error, which s3fs keeps as the cause of its exception."""
    found: BaseException | None = error
    while found is not None:
        response = getattr(found, "response", None)
        if isinstance(response, dict) and isinstance(response.get("Error"), dict):
            return response["Error"]
        found = found.__cause__
    return {}
