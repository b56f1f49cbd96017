"""Header names to variables, addresses to variables."""

from __future__ import annotations

import pytest

from hybrid.connection.addresses import UNKNOWN
from hybrid.handlers.wsgi_environ import Environ, add_fields, add_line, client_variables, key_of, server_variables
from hybrid.http.fields import parse_fields
from hybrid.http.head import HeadLimits, HeadReader

KEYS = [
    (b"host", "HTTP_HOST"),
    (b"x-one-two", "HTTP_X_ONE_TWO"),
    (b"content-type", "CONTENT_TYPE"),
    (b"content-length", "CONTENT_LENGTH"),
    (b"content-encoding", "HTTP_CONTENT_ENCODING"),
    (b"x_one", ""),
    (b"content_length", ""),
    (b"proxy", ""),
    (b"script-name", "HTTP_SCRIPT_NAME"),
    (b"x!y", "HTTP_X!Y"),
    (b"x" * 1000, "HTTP_" + "X" * 1000),
]


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_key_of_a_field(name: bytes, key: str) -> None:
    """The same when it is asked for again."""
    assert key_of(name) == key == key_of(name)


def test_fields_of_one_name_are_one_list() -> None:
    """Cookies with a semicolon (RFC 9113 §8.2.3); what has no variable leaves no trace."""
    environ: Environ = {"wsgi.version": (1, 0)}
    add_fields(environ, parse_fields(b"a: 1\r\nA: \xfc\r\nCookie: x\r\ncookie: y\r\na_b: 2\r\nproxy: z", 100))
    assert environ == {"wsgi.version": (1, 0), "HTTP_A": "1,ü", "HTTP_COOKIE": "x; y"}


LINES = [
    (b"GET /a%20b%2F%C3%BC?q=%20 HTTP/1.1", "/a b/Ã¼", "q=%20", "/a%20b%2F%C3%BC?q=%20"),
    (b"GET http://h/x HTTP/1.1", "/x", "", "http://h/x"),
    (b"GET http://h HTTP/1.1", "/", "", "http://h"),
    (b"GET //x HTTP/1.1", "//x", "", "//x"),
    (b"OPTIONS * HTTP/1.1", "*", "", "*"),
]


@pytest.mark.parametrize(("line", "path", "query", "uri"), LINES)
def test_request_line(line: bytes, path: str, query: str, uri: str) -> None:
    """Bytes as characters; what was sent is there, too."""
    head = HeadReader(HeadLimits()).read(line + b"\r\nHost: h\r\n\r\n", 0)
    assert head is not None
    environ: Environ = {}
    add_line(environ, head)
    assert [environ[key] for key in ("PATH_INFO", "QUERY_STRING", "RAW_URI")] == [path, query, uri]
    assert environ["REQUEST_URI"] == uri and environ["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_addresses() -> None:
    """Never an empty SERVER_NAME or SERVER_PORT; an IPv6 address in brackets (RFC 3875 §4.1.14), without a zone."""
    assert server_variables(("127.0.0.1", 8000), "http") == {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000"}
    assert server_variables(("fe80::1%eth0", 1), "http") == {"SERVER_NAME": "[fe80::1]", "SERVER_PORT": "1"}
    assert server_variables("/run/s", "https") == {"SERVER_NAME": "localhost", "SERVER_PORT": "443"}
    assert server_variables(UNKNOWN, "http") == {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}
    assert client_variables(("::1", 5)) == {"REMOTE_ADDR": "::1", "REMOTE_PORT": "5"}
    assert client_variables("") == client_variables("/run/c") == client_variables(UNKNOWN) == {"REMOTE_ADDR": ""}
