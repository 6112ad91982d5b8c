"""Errors as `application/problem+json` (RFC 9457), whoever raised them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.errors import BridgeError, CapacityError, PeerError, SdpError, SinkError

log = structlog.get_logger()

OUR_FAULT = "This is our fault; the log says more."
KEPT_HEADERS = ("Allow", "Location", "Retry-After", "WWW-Authenticate")


def problem(status: int, detail: str = "", *, headers: Mapping[str, str] | None = None) -> web.Response:
    """A response that says what went wrong; `detail` is for the caller and never holds secrets."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),  # not as text: JSON has no charset parameter (RFC 8259 section 11)
        content_type="application/problem+json",
        headers=dict(headers or {}),
    )


def too_many(retry_after: float) -> web.Response:
    return problem(429, "Too many requests of this kind from your address.", headers=_retry(retry_after))


def _retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}


def from_error(error: BridgeError | LookupError) -> web.Response:
    """Whose fault it is decides the status."""
    if isinstance(error, CapacityError):
        return problem(503, str(error), headers=_retry(error.retry_after))
    if isinstance(error, SinkError):
        return problem(503, "The event store cannot be reached now.", headers=_retry(5))
    if isinstance(error, SdpError):
        return problem(422, str(error))
    if isinstance(error, PeerError):
        return problem(400, str(error))
    if isinstance(error, LookupError):
        return problem(404, "No such call, leg or session.")
    raise error


def _from_http(error: web.HTTPException) -> web.Response:
    headers = {name: error.headers[name] for name in KEPT_HEADERS if name in error.headers}
    return problem(error.status, error.text if error.status in (400, 413, 422) and error.text else "", headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The boundary of one request: nothing that goes wrong in it reaches another."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _from_http(error)
    except (PeerError, CapacityError, SinkError) as error:
        return from_error(error)
    except web.RequestPayloadError:
        return problem(400, "The body cannot be read as its headers say.")
    except ConnectionError:
        raise
    except Exception:
        log.exception("http request failed", method=request.method, reason="bug")
        return problem(500, OUR_FAULT)
