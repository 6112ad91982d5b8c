from __future__ import annotations

from tests.web.conftest import Site

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
OFFER = "v=0\r\nm=audio 9 x 0\r\n"


async def test_an_offer_is_answered_201_with_sdp_and_the_sessions_location(site: Site) -> None:
    async with site.client.post(site.url + "/whip?role=agent", data=OFFER, headers=SDP) as response:
        assert response.status == 201
        assert response.headers["Content-Type"] == "application/sdp", "without parameters: it has none (RFC 8866)"
        assert response.headers["Location"] == "/whip/sessions/secret"
        assert (response.headers["Callbridge-Call"], response.headers["Callbridge-Leg"]) == ("new", "b")
    assert site.whip.sessions == {"secret": ("", "agent")}


async def test_a_second_leg_joins_the_call_in_the_path(site: Site) -> None:
    assert (await site.ask("POST", "/whip/one?role=agent", data=OFFER, headers=SDP))[0] == 201
    assert site.whip.sessions == {"secret": ("one", "agent")}
    assert (await site.ask("POST", "/whip/gone", data=OFFER, headers=SDP))[0] == 404


async def test_what_is_no_offer_is_refused_by_what_is_wrong_with_it(site: Site) -> None:
    assert (await site.ask("POST", "/whip", data=OFFER, headers={"Content-Type": "text/plain"}))[0] == 415
    assert (await site.ask("POST", "/whip", data=b"\xff\xfe", headers=SDP))[0] == 400
    assert (await site.ask("POST", "/whip", data="v=0\r\nm=video", headers=SDP))[0] == 422
    assert (await site.ask("POST", "/whip", data=OFFER + "a" * 70_000, headers=SDP))[0] == 413
    assert (await site.ask("POST", "/whip?role=a%20b", data=OFFER, headers=SDP))[0] == 400
    assert (await site.ask("PUT", "/whip", data=OFFER, headers=SDP))[0] == 405


async def test_options_name_what_may_be_posted(site: Site) -> None:
    async with site.client.options(site.url + "/whip") as response:
        assert (response.status, response.headers["Accept-Post"]) == (200, "application/sdp")
    async with site.client.options(site.url + "/whip/sessions/x") as response:
        assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"


async def test_a_session_takes_candidates_refuses_restarts_and_ends_once(site: Site) -> None:
    async with site.client.post(site.url + "/whip", data=OFFER, headers=SDP) as response:
        session = response.headers["Location"]
    assert (await site.ask("GET", session))[0] == 204
    async with site.client.patch(site.url + session, data="a=candidate:1", headers=FRAGMENT) as response:
        assert (response.status, "ETag" in response.headers) == (204, False)
    assert (await site.ask("PATCH", session, data="a=ice-ufrag:new", headers=FRAGMENT))[0] == 422
    for tag, status in (('"stale"', 412), ("*", 204)):
        patched = await site.ask("PATCH", session, data="a=candidate:1", headers=FRAGMENT | {"If-Match": tag})
        assert patched[0] == status
    assert (await site.ask("PATCH", session, data="a=candidate:1", headers=SDP))[0] == 415
    assert (await site.ask("DELETE", session, headers={"If-Match": '"stale"'}))[0] == 200
    for method in ("DELETE", "PATCH", "GET"):
        assert (await site.ask(method, session, headers=FRAGMENT))[0] == 404


async def test_endpoints_have_nothing_to_show_and_say_so(site: Site) -> None:
    assert (await site.ask("GET", "/whip"))[0] == 204
    assert (await site.ask("GET", "/whip/one"))[0] == 204
