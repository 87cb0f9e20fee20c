"""An HTTP session that asks again until a whole answer comes, and goes to no other host than was asked."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from pipeline.text import visible

if TYPE_CHECKING:
    import requests

# An answer that fails is asked for again, after a wait that doubles: for a little over four minutes in all.
TRIES = 8
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 600.0  # a server that wants us away for longer ends the fetch, which can go on later
PASSING = {408, 425, 429, 500, 502, 503, 504}
MAX_ANSWER_BYTES = 1 << 28  # 1,000 structures of 50 sites take 10 MB
MAX_SHOWN = 300


def patient_session(base: str, flaw: Callable[[dict], str | None]) -> "type[requests.Session]":
    """A class of sessions whose ``get`` returns whole JSON objects only.

    Asked again is after time-outs, resets, cut bodies, what is no JSON object, HTTP 429 and 5xx (no sooner than
    ``Retry-After`` says) and whatever ``flaw`` finds. Then, or if the server refuses or redirects to another host than
    that of ``base``, ``get`` raises a ``ValueError`` that says what was asked and what came.

    Args:
        base: URL of the host.
        flaw: Says what is wrong with an answer of status 200 and may pass, None if it is whole.
    """
    import requests

    class Session(requests.Session):
        def get(self, url: str, **kwargs) -> requests.Response:
            wait = FIRST_WAIT_S
            for attempt in range(1, TRIES + 1):
                pause = wait
                try:
                    response = super().get(url, stream=True, **kwargs)
                    fault = _fault(response, flaw)
                    pause = max(wait, _retry_after(response))
                except (
                    requests.ConnectionError,
                    requests.Timeout,
                    requests.exceptions.ChunkedEncodingError,
                    requests.exceptions.ContentDecodingError,
                ) as error:
                    fault = str(getattr(error.args[0], "reason", error)) if error.args else type(error).__name__
                if fault is None:
                    return response
                if attempt == TRIES or pause > LONGEST_WAIT_S:
                    break
                print(f"{shown(url)}: {shown(fault)}; asking again in {pause:.3g} s", file=sys.stderr)
                time.sleep(pause)
                wait *= 2
            later = f"; it asks to come back in {pause:.0f} s" if pause > LONGEST_WAIT_S else ""
            raise ValueError(
                f"{shown(url)}: {shown(fault)}{later}; given up at try {attempt}, a new run goes on from here"
            )

        def get_redirect_target(self, response: requests.Response) -> str | None:
            target = super().get_redirect_target(response)
            if target and not same_host(base, urljoin(response.url, target)):
                raise ValueError(
                    f"{shown(response.url)}: sends us to another host, {shown(target)}; if that is right, ask there"
                )
            return target

    return Session


def same_host(one: str, other: str) -> bool:
    """Whether two web addresses are of one server; http and https at their usual ports are."""

    def place(url: str) -> tuple:
        parts = urlsplit(url)
        return parts.hostname, parts.port if parts.port not in {80, 443} else None, parts.username

    try:
        return urlsplit(other).scheme in {"http", "https"} and place(one) == place(other)
    except ValueError:  # a port that is no number
        return False


def shown(text: str) -> str:
    """Text from outside in one line that fits a message."""
    return visible(" ".join(text.split())[:MAX_SHOWN])


def _fault(response: "requests.Response", flaw: Callable[[dict], str | None]) -> str | None:
    """Read the answer to its end; what is wrong with it and may pass, None if it is whole."""
    body = bytearray()
    for chunk in response.iter_content(1 << 16):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise ValueError(
                f"{shown(response.url)}: answers more than {MAX_ANSWER_BYTES} bytes; ask for smaller pages"
            )
    response._content = bytes(body)  # where requests puts it when it reads without a limit
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if response.status_code != 200:
        errors = answer.get("errors") if isinstance(answer, dict) else None
        fault = f"HTTP {response.status_code} {response.reason or ''} {json.dumps(errors) if errors else ''}".rstrip()
        if response.status_code in PASSING:
            return fault
        raise ValueError(f"{shown(response.url)}: {shown(fault)}")
    if not isinstance(answer, dict):
        return f"the answer is no JSON object but {body[:60].decode(errors='replace')!r}"
    return flaw(answer)


def _retry_after(response: "requests.Response") -> float:
    """Seconds that the server asks us to wait, 0 if it does not."""
    text = response.headers.get("Retry-After", "")
    try:
        return float(text) if text.isdecimal() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
