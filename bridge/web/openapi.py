"""The OpenAPI document, as data. A test compares it with the routes; schemathesis checks what it promises."""

from __future__ import annotations

from typing import Any

from bridge import __version__
from bridge.config import AT_LEAST, CHOICES
from bridge.web.api import CORRELATED, CORRELATED_KEY, LONGEST_MS, RECENT_MAX
from bridge.web.contract import VERBS
from rtpcodecs import CODECS

Json = dict[str, Any]

STRING: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
INTEGER: Json = {"type": "integer"}
CODEC: Json = {"type": "string", "enum": list(CODECS)}
NAME: Json = {"type": "string", "maxLength": 256}
PAYLOAD_TYPE: Json = {"type": "integer", "minimum": 0, "maximum": 127}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(required: list[str] | None = None, *, closed: bool = False, **properties: Json) -> Json:
    schema: Json = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema | ({"additionalProperties": False} if closed else {})


def listed(items: Json, **limits: int) -> Json:
    return {"type": "array", "items": items, **limits}


def _limited(key: str) -> Json:
    return {"type": "integer", "minimum": int(AT_LEAST[f"gate.{key}"]), "maximum": LONGEST_MS}


CAUSES = ["paused", "hold", "mute", "music", "tone", "silence"]
SCHEMAS: dict[str, Json] = {
    "Problem": obj(["title", "status"], type=STRING, title=STRING, status=INTEGER, detail=STRING),
    "Gate": obj(
        ["state"],
        state={"type": "string", "enum": ["open", "closed"]},
        cause={"type": ["string", "null"], "enum": [*CAUSES, None]},
        since=NUMBER | {"description": "Call time, seconds."},
    ),
    "Leg": obj(
        ["leg", "role"],
        leg=STRING,
        role=STRING,
        codec=STRING,
        participant=STRING,
        gate=ref("Gate"),
        gate_settings=ref("GateWish"),
        ledger=obj(),
    ),
    "Call": obj(
        ["id", "ingress", "legs"],
        id=STRING,
        ingress=STRING,
        since=STRING | {"format": "date-time"},
        call_s=NUMBER | {"description": "Call time now, seconds."},
        legs=listed(ref("Leg")),
    )
    | {"additionalProperties": True},
    "Calls": obj(["calls"], calls=listed(obj(["id"], id=STRING) | {"additionalProperties": True})),
    "CallWish": obj(
        ["legs"],
        closed=True,
        legs=listed(ref("LegWish"), minItems=1, maxItems=16),
        to=NAME,
        correlation={
            "type": "object",
            "additionalProperties": NAME,
            "maxProperties": CORRELATED,
            "propertyNames": {"maxLength": CORRELATED_KEY},
        },
        **{"from": NAME},
    ),
    "LegWish": obj(
        closed=True,
        role=NAME,
        participant=NAME,
        codec=CODEC,
        codecs=listed(CODEC, minItems=1, maxItems=8),
        payload_type=PAYLOAD_TYPE | {"type": ["integer", "null"]},
        telephone_event=PAYLOAD_TYPE | {"type": ["integer", "null"]},
        remote=obj(
            ["address", "port"], closed=True, address=NAME, port={"type": "integer", "minimum": 1, "maximum": 65535}
        ),
    ),
    "GateWish": obj(
        closed=True,
        mode={"type": "string", "enum": list(CHOICES["gate.mode"])},
        music={"type": "boolean"},
        preroll_ms=_limited("preroll_ms"),
        hangover_ms=_limited("hangover_ms"),
        turn_end_ms=_limited("turn_end_ms"),
        mute_after_ms=_limited("mute_after_ms"),
    ),
    "ExternalCall": obj(
        ["id", "legs"],
        id=STRING,
        legs=listed(obj(["leg", "role", "address", "port"], leg=STRING, role=STRING, address=STRING, port=INTEGER)),
    ),
    "Event": obj(
        ["type", "call", "seq", "at", "data"],
        type=STRING,
        call=STRING,
        seq=INTEGER,
        at=STRING | {"format": "date-time"},
        leg=STRING,
        role=STRING,
        text=STRING,
        start=NUMBER,
        end=NUMBER,
        data=obj(),
    ),
}


def reply(description: str, content: str = "", schema: Json | None = None) -> Json:
    body: Json = {"description": description}
    if content:
        body["content"] = {content: {"schema": schema or STRING}}
    return body


def as_json(description: str, name: str) -> Json:
    return reply(description, "application/json", ref(name))


PROBLEMS = {
    "400": "What is wrong with the request.",
    "401": "A bearer token is needed.",
    "403": "Another origin, and no token is configured.",
    "404": "No such call, leg or session.",
    "408": "The body did not come.",
    "412": "If-Match is not met.",
    "413": "Too long.",
    "415": "Not the media type that is taken here.",
    "421": "Not our host name, and no token is configured.",
    "422": "Understood, but cannot be done.",
    "429": "Too many new calls from one address; Retry-After says when.",
    "503": "Full, draining, or the store is away; Retry-After says when.",
}
ALWAYS = ("400", "401", "403", "421", "429")


def operation(summary: str, replies: dict[str, Json], *problems: str, **more: Any) -> Json:
    refused = {
        code: reply(PROBLEMS[code], "application/problem+json", ref("Problem")) for code in sorted({*problems, *ALWAYS})
    }
    return {"summary": summary, "responses": replies | refused, **more}


def parameter(name: str, place: str, description: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": place,
        "description": description,
        "required": place == "path",
        "schema": schema or STRING,
    }


CALL = parameter("call", "path", "Call id.", STRING | {"minLength": 1})
LEG = parameter("leg", "path", "Leg id.", STRING | {"minLength": 1})
VERB = parameter("verb", "path", "What to do.", {"type": "string", "enum": list(VERBS)})
SESSION = parameter("session", "path", "From the Location header.", STRING | {"minLength": 1})


def one_of(*values: str) -> Json:
    return {"type": "string", "enum": list(values), "title": " or ".join(values)}


def matching(pattern: str, title: str) -> Json:
    return {"type": "string", "pattern": pattern, "title": title}


ROLE_NAME = matching("^[A-Za-z0-9_-]{0,64}$", "a word of at most 64 letters and digits")
MOMENT = matching("^[0-9]{0,15}$", "a number of at most 15 digits")
COUNT = {"type": "integer", "minimum": 1, "maximum": RECENT_MAX, "title": f"a number from 1 to {RECENT_MAX}"}
ROLE = parameter("role", "query", "Role of the leg.", ROLE_NAME)
AFTER = parameter("after", "query", "As Last-Event-ID.", MOMENT)
LAST_ID = parameter(
    "Last-Event-ID", "header", "Send what came after it; of all calls, what came about then may come again.", MOMENT
)
INTERIM = parameter("interim", "query", "0: no interims.", one_of("0", "1"))
FOLLOW = parameter("follow", "query", "0: end with what is stored now.", one_of("0", "1"))
FROM = parameter("from", "query", "Where to begin.", one_of("start", "now"))
STATE = parameter("state", "query", "Which calls.", one_of("live", "ended"))
LIMIT = parameter("limit", "query", "At most so many, the latest; of ended calls 50 where nothing is said.", COUNT)
EMPTY = {"204": reply("Done. Idempotent.")}
SSE = {"200": reply("Server-sent events; `data` is an Event.", "text/event-stream")}


def body(content: str, schema: Json) -> Json:
    return {"required": True, "content": {content: {"schema": schema}}}


def _offer() -> Json:
    answered = reply("The answer. Location is the session.", "application/sdp")
    return operation(
        "Open a WebRTC session (RFC 9725)",
        {"201": answered},
        *("404", "408", "413", "415", "422", "503"),
        requestBody=body("application/sdp", STRING),
        parameters=[ROLE],
    )


def _show() -> Json:
    return operation("Nothing to show (RFC 9725 section 4.1)", {"204": reply("There is one.")}, "404")


def _session() -> Json:
    trickle = operation(
        "Add ICE candidates",
        EMPTY,
        *("404", "408", "412", "413", "415", "422"),
        requestBody=body("application/trickle-ice-sdpfrag", STRING),
    )
    end = operation("End the session", {"200": reply("Ended.")}, "404")
    return {"parameters": [SESSION], "get": _show(), "patch": trickle, "delete": end}


def _calls_paths() -> dict[str, Json]:
    create = operation(
        "Open a call whose RTP is sent to us",
        {"201": as_json("Where to send RTP.", "ExternalCall")},
        *("404", "408", "413", "503"),
        requestBody=body("application/json", ref("CallWish")),
    )
    return {
        "/v1/calls": {
            "get": operation("Calls", {"200": as_json("Calls.", "Calls")}, "503", parameters=[STATE, LIMIT]),
            "post": create,
        },
        "/v1/calls/{call}": {
            "parameters": [CALL],
            "get": operation("One live call", {"200": as_json("The call.", "Call")}, "404"),
            "delete": operation("End it", EMPTY, "404"),
        },
        "/v1/calls/{call}/legs/{leg}": {
            "parameters": [CALL, LEG],
            "patch": operation(
                "Change a leg's gate settings, from the next tick on",
                EMPTY,
                *("404", "408", "413"),
                requestBody=body("application/json", ref("GateWish")),
            ),
        },
        "/v1/calls/{call}/legs/{leg}/{verb}": {
            "parameters": [CALL, LEG, VERB],
            "post": operation("Hold, resume, mute, unmute or pause a leg", EMPTY, "404"),
        },
        "/v1/calls/{call}/events": {
            "parameters": [CALL],
            "get": operation(
                "Events of one call; ends with call.ended",
                SSE,
                *("404", "503"),
                parameters=[FROM, AFTER, LAST_ID, INTERIM, FOLLOW],
            ),
        },
        "/v1/events": {
            "get": operation("Events of all calls", SSE, "503", parameters=[AFTER, LAST_ID, INTERIM, FOLLOW])
        },
        "/v1/status": {"get": operation("This process", {"200": reply("Status.", "application/json", obj())})},
    }


def _other_paths() -> dict[str, Json]:
    alive = {"200": reply("Yes.", "application/json", obj())}
    ready = alive | {"503": reply("No, and why.", "application/json", obj())}
    return {
        "/healthz": {"get": {"summary": "Alive", "responses": alive, "security": []}},
        "/readyz": {"get": {"summary": "Ready for new calls", "responses": ready, "security": []}},
        "/metrics": {"get": operation("Prometheus metrics", {"200": reply("Numbers.", "text/plain")})},
        "/openapi.json": {"get": operation("This document", {"200": reply("It.", "application/json", obj())})},
        "/whip": {"get": _show(), "post": _offer()},
        "/whip/{call}": {"parameters": [CALL], "get": _show(), "post": _offer()},
        "/whip/sessions/{session}": _session(),
    }


def document(*, needs_token: bool) -> Json:
    """OpenAPI 3.1."""
    security = {"bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "callbridge",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _calls_paths() | _other_paths(),
        "components": {"schemas": SCHEMAS} | ({"securitySchemes": security} if needs_token else {}),
        "security": [{"bearer": []}] if needs_token else [],
    }
