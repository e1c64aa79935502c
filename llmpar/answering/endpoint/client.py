"""One server over the network, through the `openai` package, whose errors end here. Decides nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmpar.answering.endpoint.address import Address
from llmpar.answering.endpoint.failures import Failure, Kind, RequestFailed, failure_of
from llmpar.answering.endpoint.keys import Key
from llmpar.errors import ModelUnavailable
from llmpar.visible import one_line

if TYPE_CHECKING:
    import httpx2

CONNECT = 10.0  # seconds
NO_JSON = "answered with what is no JSON"
LONGEST_ANSWER = 600.0  # seconds, where the user gives no time
_MOST_CONNECTIONS = 4096
_KEPT_ALIVE = 2.0  # seconds; servers close idle connections after 5, and a request must not meet that
_NO_KEY = "none"  # the package wants one; it is not sent


def require_client() -> None:
    """Import what talks to servers.

    Raises:
        ModelUnavailable: it is not installed.
    """
    try:
        import openai  # noqa: F401
    except ImportError as error:
        raise ModelUnavailable(
            f"what talks to servers cannot be imported ({one_line(error)}); install it: pip install 'llmpar[endpoint]'"
        ) from error


class Client:
    """Asks one server. To be made, used and closed in one event loop.

    Args:
        address: where it is.
        key: what it knows us by; None for nothing.
    """

    def __init__(self, address: Address, key: Key | None) -> None:
        require_client()
        import httpx2
        import openai

        from llmpar.answering.endpoint.reading import prepare

        self.address = address
        self._key = key
        limits = httpx2.Limits(
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=_MOST_CONNECTIONS,
            keepalive_expiry=_KEPT_ALIVE,
        )
        # Texts go where the user said: to no other server that this one names, and, on this machine, by no proxy.
        is_plain = address.is_here and address.url.startswith("http://")
        http = openai.DefaultAsyncHttpxClient(
            limits=limits,
            follow_redirects=False,
            trust_env=not address.is_here,
            event_hooks={"response": [prepare]},
            verify=not is_plain,  # there is nothing to verify, and to read all certificates takes a tenth of a second
        )
        # Without a key, none is sent: a server might answer 401 to what is none.
        self._options: Any = {} if key else {"headers": {"Authorization": openai.Omit()}}
        self._openai = openai.AsyncOpenAI(
            base_url=address.url,
            api_key=key.secret if key else _NO_KEY,
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=CONNECT),  # how long an answer may take, is looked at here
            http_client=http,
        )

    async def ask(self, path: str, body: Mapping[str, object], timeout: float | None) -> object:
        """Return what the server says to a request, parsed.

        Args:
            path: below the address.
            body: what it is asked.
            timeout: seconds that all of it may take; None for LONGEST_ANSWER.

        Raises:
            RequestFailed: it says nothing, or an error.
        """
        import httpx2

        post = self._openai.post(path, cast_to=httpx2.Response, body=body, options=self._options)
        return await self._answered(post, LONGEST_ANSWER if timeout is None else timeout)

    async def look(self, path: str, timeout: float = CONNECT) -> object:
        """Return what the server says of itself, parsed; as `ask`.

        Args:
            path: below the address, or a URL.
            timeout: seconds.
        """
        import httpx2

        get = self._openai.get(path, cast_to=httpx2.Response, options=self._options)
        return await self._answered(get, timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def _answered(self, request: Any, timeout: float) -> object:
        import openai

        try:
            response: httpx2.Response = await asyncio.wait_for(request, timeout)
            return _parsed(response)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise RequestFailed(Failure(Kind.BROKEN, f"took longer than {timeout:g} s")) from error
        except openai.APIStatusError as error:
            raise self._failed(error.response) from error
        except openai.APIConnectionError as error:
            raise self._unconnected(error.__cause__ or error) from error
        except openai.OpenAIError as error:
            raise RequestFailed(Failure(Kind.BROKEN, self._told(error))) from error

    def _failed(self, response: httpx2.Response) -> RequestFailed:
        headers = {name.lower(): value for name, value in response.headers.items()}
        text = self._hidden(response.text)
        try:
            body: object = json.loads(text)
        except (ValueError, RecursionError):
            body = text
        return RequestFailed(failure_of(response.status_code, headers, body))

    def _unconnected(self, cause: BaseException) -> RequestFailed:
        import httpx2

        if isinstance(cause, RequestFailed):  # while it was read
            return cause
        if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
            return RequestFailed(Failure(Kind.UNREACHABLE, f"cannot be reached: {self._told(cause)}"))
        if isinstance(cause, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
            return RequestFailed(Failure(Kind.FATAL, self._told(cause)))
        return RequestFailed(Failure(Kind.BROKEN, f"broke off: {self._told(cause)}"))

    def _told(self, error: BaseException) -> str:
        return self._hidden(one_line(error) or type(error).__name__)

    def _hidden(self, text: str) -> str:
        return self._key.hidden_in(text) if self._key else text


def _parsed(response: httpx2.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise RequestFailed(Failure(Kind.BROKEN, NO_JSON)) from error
