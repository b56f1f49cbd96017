"""Request heads and what becomes of them: one table, read by the tests of the head and by the comparison with others.

The order is the RFCs'. ``S`` numbers name the security record that a case comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ACCEPTED: Final = 200
HOST: Final = b"Host: a.example\r\n"


@dataclass(frozen=True)
class Case:
    """A head, and the status it gets; 200 says that it is read."""

    name: str
    data: bytes
    status: int


def line(name: str, request_line: bytes, status: int = ACCEPTED) -> Case:
    """Return a case about the request line; Host is there and right."""
    return Case(name, request_line + b"\r\n" + HOST + b"\r\n", status)


def field(name: str, block: bytes, status: int = ACCEPTED) -> Case:
    """Return a case about header fields, after a right Host; ``block`` comes without its last CRLF."""
    return Case(name, b"POST /p HTTP/1.1\r\n" + HOST + block + b"\r\n\r\n", status)


def old(name: str, block: bytes, status: int = ACCEPTED) -> Case:
    """Return a case of HTTP/1.0 with nothing but ``block``."""
    return Case(name, b"POST /p HTTP/1.0\r\n" + block + b"\r\n\r\n", status)


def host(name: str, value: bytes, status: int = ACCEPTED) -> Case:
    """Return a case whose only field is Host."""
    return Case(name, b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n", status)


def raw(name: str, data: bytes, status: int = ACCEPTED) -> Case:
    """Return a case as it stands."""
    return Case(name, data, status)


BROWSER: Final = (
    b"GET /index.html?lang=en HTTP/1.1\r\n"
    b"Host: www.example.com\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: max-age=0\r\n"
    b'sec-ch-ua: "Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
    b"(KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: none\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: session=3f6a8bb1c7a24e6f8d0b9c5e1f2a3b4c; csrftoken=Zx81kq2mVb5n7Lr0; theme=dark\r\n"
    b"\r\n"
)

RFC_9112_2_MESSAGE: Final = (
    raw("9112-2.2 browser", BROWSER),
    raw("9112-2.2 one empty line before", b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n"),
    raw("9112-2.2 two empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    raw("9112-2.2 LF before", b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    raw("9112-2.2 CR before", b"\rGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    raw("9112-2.2 S3 LF ends the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    raw("9112-2.2 S3 LF ends a field", b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", 400),
    raw("9112-2.2 S3 LF ends every line", b"GET / HTTP/1.1\nHost: a.example\n\n", 400),
    raw("9112-2.2 S3 LF LF ends the head", b"GET / HTTP/1.1\r\nHost: a.example\n\n\r\n\r\n", 400),
    raw("9112-2.2 S3 LF CR LF ends the head", b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y\n\r\n\r\n", 400),
    raw("9112-2.2 S3 CR ends the request line", b"GET / HTTP/1.1\r" + HOST + b"\r\n", 400),
    raw("9112-2.2 S3 CR CR LF ends the request line", b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n", 400),
    raw("9112-2.2 S3 CR, and nothing after the next byte", b"GET / HTTP/1.1\rX", 400),
    field("9112-2.2 S3 CR in a value", b"X: a\rb", 400),
    field("9112-2.2 S3 CR ends a value", b"X: a\rTransfer-Encoding: chunked", 400),
    field("9112-2.2 S3 CR in a name", b"X\r: a", 400),
    field("9112-2.2 S3 CR before CR LF", b"X: a\r", 400),
    raw("9112-2.2 S3 blank line of a blank", b"GET / HTTP/1.1\r\nHost: a.example\r\n \r\n\r\n", 400),
    raw("9112-2.2 blank before the first field", b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", 400),
    raw("9112-2.2 TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    raw("9112-2.2 NUL", b"\x00GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
)

RFC_9112_2_3_VERSION: Final = (
    line("9112-2.3 1.1", b"GET / HTTP/1.1"),
    line("9112-2.3 1.0", b"GET / HTTP/1.0"),
    line("9112-2.3 1.2 is read as 1.1", b"GET / HTTP/1.2"),
    line("9112-2.3 1.9 is read as 1.1", b"GET / HTTP/1.9"),
    line("9112-2.3 2.0", b"GET / HTTP/2.0", 505),
    line("9112-2.3 0.9 spelled out", b"GET / HTTP/0.9", 505),
    line("9112-2.3 3.0", b"GET / HTTP/3.0", 505),
    raw("9112-2.3 h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    line("9112-2.3 two digits", b"GET / HTTP/1.10", 400),
    line("9112-2.3 no minor", b"GET / HTTP/1", 400),
    line("9112-2.3 no digits", b"GET / HTTP/x.y", 400),
    line("9112-2.3 lower case", b"GET / http/1.1", 400),
    line("9112-2.3 another protocol", b"GET / ICE/1.0", 400),
    line("9112-2.3 other blank", b"GET / HTTP/1.1\t", 400),
    line("9112-2.3 0.9", b"GET /", 400),
)

RFC_9112_3_REQUEST_LINE: Final = (
    line("9112-3 two blanks after the method", b"GET  / HTTP/1.1", 400),
    line("9112-3 two blanks after the target", b"GET /  HTTP/1.1", 400),
    line("9112-3 blank before", b" GET / HTTP/1.1", 400),
    line("9112-3 blank after", b"GET / HTTP/1.1 ", 400),
    line("9112-3 HTAB between", b"GET\t/ HTTP/1.1", 400),
    line("9112-3 VT between", b"GET\x0b/ HTTP/1.1", 400),
    line("9112-3 blank in the target", b"GET /a b HTTP/1.1", 400),
    line("9112-3 no target", b"GET HTTP/1.1", 400),
    line("9112-3 empty", b"", 400),
    line("9112-3.1 lower-case method", b"get / HTTP/1.1"),
    line("9112-3.1 odd method", b"M!#$%&'*+-.^_`|~9 / HTTP/1.1"),
    line("9112-3.1 PROPFIND", b"PROPFIND / HTTP/1.1"),
    line("9112-3.1 HEAD", b"HEAD / HTTP/1.1"),
    line("9112-3.1 DELETE", b"DELETE /a/1 HTTP/1.1"),
    line("9112-3.1 method with a slash", b"GE/T / HTTP/1.1", 400),
    line("9112-3.1 method with a colon", b"GET: / HTTP/1.1", 400),
    line("9112-3.1 method with obs-text", b"G\xc9T / HTTP/1.1", 400),
    line("9112-3.1 method with DEL", b"GE\x7fT / HTTP/1.1", 400),
    line("9112-3.1 method in brackets", b"<GET> / HTTP/1.1", 400),
)

RFC_9112_3_2_TARGET: Final = (
    line("9112-3.2.1 query", b"GET /a/b?x=1&y=%202 HTTP/1.1"),
    line("9112-3.2.1 two question marks", b"GET /?a?b HTTP/1.1"),
    line("9112-3.2.1 escapes", b"GET /%C3%A9%2F%00 HTTP/1.1"),
    line("9112-3.2.1 broken escape", b"GET /%zz%4 HTTP/1.1"),
    line("9112-3.2.1 two slashes", b"GET //b.example/x HTTP/1.1"),
    line("9112-3.2.1 what browsers do not escape", b'GET /?q="<>[]{}|^`\\ HTTP/1.1'),
    line("9112-3.2.1 dots", b"GET /../etc/passwd HTTP/1.1"),
    line("9112-3.2.1 fragment", b"GET /a#b HTTP/1.1", 400),
    line("9112-3.2.1 fragment after a query", b"GET /a?b#c HTTP/1.1", 400),
    line("9112-3.2.1 raw UTF-8", b"GET /\xc3\xa9 HTTP/1.1", 400),
    line("9112-3.2.1 NUL", b"GET /\x00 HTTP/1.1", 400),
    line("9112-3.2.1 DEL", b"GET /\x7f HTTP/1.1", 400),
    line("9112-3.2.1 HTAB", b"GET /\t HTTP/1.1", 400),
    line("9112-3.2.1 FF", b"GET /\x0c HTTP/1.1", 400),
    line("9112-3.2.1 no slash", b"GET a HTTP/1.1", 400),
    line("9112-3.2.1 only a query", b"GET ?a HTTP/1.1", 400),
    line("9112-3.2.2 absolute", b"GET http://a.example/x?y HTTP/1.1"),
    line("9112-3.2.2 absolute without a path", b"GET http://a.example HTTP/1.1"),
    line("9112-3.2.2 absolute with a query only", b"GET http://a.example?q HTTP/1.1"),
    line("9112-3.2.2 scheme and host in capitals", b"GET HTTP://A.EXAMPLE/x HTTP/1.1"),
    line("9112-3.2.2 the scheme's own port", b"GET https://a.example:443/x HTTP/1.1"),
    line("9112-3.2.2 S9 another host", b"GET http://b.example/x HTTP/1.1", 400),
    line("9112-3.2.2 S9 another port", b"GET http://a.example:81/x HTTP/1.1", 400),
    line("9112-3.2.2 S9 userinfo", b"GET http://u:p@a.example/x HTTP/1.1", 400),
    line("9112-3.2.2 S9 no authority", b"GET http:///x HTTP/1.1", 400),
    line("9112-3.2.2 S9 another scheme", b"GET ftp://a.example/x HTTP/1.1", 400),
    line("9112-3.2.2 S9 no slashes", b"GET http:x HTTP/1.1", 400),
    raw("9112-3.2.2 1.0 without Host", b"GET http://a.example/x HTTP/1.0\r\n\r\n"),
    raw("9112-3.2.2 S9 1.1 without Host", b"GET http://a.example/x HTTP/1.1\r\n\r\n", 400),
    line("9112-3.2.3 S9 CONNECT", b"CONNECT a.example:443 HTTP/1.1", 501),
    line("9112-3.2.3 S9 CONNECT without a port", b"CONNECT a.example HTTP/1.1", 400),
    line("9112-3.2.3 S9 CONNECT to a path", b"CONNECT /x HTTP/1.1", 400),
    line("9112-3.2.3 S9 CONNECT to a URI", b"CONNECT http://a.example/ HTTP/1.1", 400),
    line("9112-3.2.3 S9 authority-form without CONNECT", b"GET a.example:80 HTTP/1.1", 400),
    line("9112-3.2.4 S9 OPTIONS *", b"OPTIONS * HTTP/1.1"),
    line("9112-3.2.4 S9 GET *", b"GET * HTTP/1.1", 400),
    line("9112-3.2.4 S9 OPTIONS *?", b"OPTIONS *?a HTTP/1.1", 400),
)

RFC_9110_7_2_HOST: Final = (
    host("9110-7.2 name and port", b"localhost:8000"),
    host("9110-7.2 empty", b""),
    host("9110-7.2 empty port", b"a.example:"),
    host("9110-7.2 IPv4", b"127.0.0.1:80"),
    host("9110-7.2 IPv6", b"[::1]:8000"),
    host("9110-7.2 escape and underscore", b"a_b%2d.example"),
    raw("9112-3.2 S9 no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    raw("9112-3.2 S9 no Host in 1.2", b"GET / HTTP/1.2\r\nX: y\r\n\r\n", 400),
    raw("9112-3.2 no Host in 1.0", b"GET / HTTP/1.0\r\n\r\n"),
    field("9112-3.2 S9 two Hosts", b"Host: b.example", 400),
    field("9112-3.2 S9 the same Host twice", b"Host: a.example", 400),
    old("9112-3.2 S9 two Hosts in 1.0", b"Host: a\r\nHost: b", 400),
    host("9112-3.2 S9 list", b"a.example, b.example", 400),
    host("9112-3.2 S9 list without a blank", b"a.example,b.example", 400),
    host("9112-3.2 S9 userinfo", b"u@a.example", 400),
    host("9112-3.2 S9 path", b"a.example/x", 400),
    host("9112-3.2 S9 URI", b"http://a.example", 400),
    host("9112-3.2 S9 no port number", b"a.example:http", 400),
    host("9112-3.2 S9 long port", b"a.example:123456", 400),
    host("9112-3.2 S9 port only", b":80", 400),
    host("9112-3.2 S9 blank", b"a example", 400),
    host("9112-3.2 S9 obs-text", b"\xe9.example", 400),
    host("9112-3.2 S9 IPv6 without brackets", b"::1", 400),
    host("9112-3.2 S9 open bracket", b"[::1", 400),
    host("9112-3.2 S9 backslash", b"a.example\\b", 400),
    host("9112-3.2 S9 broken escape", b"a%zz", 400),
)

RFC_9112_5_FIELDS: Final = (
    field("9110-5.1 odd name", b"!#$%&'*+-.^_`|~9: x"),
    field("9110-5.1 S11 underscore stays itself", b"Content_Length: 5"),
    field("9110-5.5 empty value", b"X:"),
    field("9110-5.5 value of blanks", b"X: \t "),
    field("9110-5.5 blanks around", b"X: \t a b\t "),
    field("9110-5.5 no blank", b"X:a"),
    field("9110-5.5 HTAB inside", b"X: a\tb"),
    field("9110-5.5 obs-text", b"X: \xc3\xa9\x80\x85\xff"),
    field("9110-5.5 colons", b"X: a:b: c"),
    field("9110-5.2 same name twice", b"X: a\r\nx: b"),
    field("9112-5.1 S3 blank before the colon", b"X : a", 400),
    field("9112-5.1 S3 HTAB before the colon", b"X\t: a", 400),
    field("9112-5.1 S3 length with a blank before the colon", b"Content-Length : 5", 400),
    field("9112-5.1 blank before the name", b" X: a", 400),
    field("9112-5 S11 empty name", b": a", 400),
    field("9112-5 S11 no colon", b"X", 400),
    field("9112-5 common name, no colon", b"Accept", 400),
    field("9112-5 S11 bracket in a name", b"X(y): a", 400),
    field("9112-5 S11 obs-text in a name", b"X\xe9: a", 400),
    field("9112-5 S11 NUL in a name", b"X\x00: a", 400),
    field("9112-5 S11 blank in a name", b"X Y: a", 400),
    field("9112-5.2 S3 obs-fold", b"X: a\r\n b", 400),
    field("9112-5.2 S3 obs-fold by HTAB", b"X: a\r\n\tb", 400),
    field("9112-5.2 S3 obs-fold of a coding", b"Transfer-Encoding:\r\n chunked", 400),
    *(
        field(f"9110-5.5 S12 byte {byte:#04x} in a value", b"X: a" + bytes([byte]) + b"b", 400)
        for byte in (0x00, 0x01, 0x08, 0x0B, 0x0C, 0x0E, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F)
    ),
)

RFC_9112_6_FRAMING: Final = (
    field("9110-8.6 length", b"Content-Length: 5"),
    field("9110-8.6 length of zero", b"Content-Length: 0"),
    field("9110-8.6 leading zeros", b"Content-Length: 0005"),
    field("9110-8.6 19 digits", b"Content-Length: 1000000000000000000"),
    field("9110-8.6 S2 20 digits", b"Content-Length: 10000000000000000000", 400),
    field("9110-8.6 S2 huge", b"Content-Length: " + b"9" * 400, 400),
    field("9110-8.6 S2 empty", b"Content-Length:", 400),
    field("9110-8.6 S2 plus", b"Content-Length: +5", 400),
    field("9110-8.6 S2 minus", b"Content-Length: -5", 400),
    field("9110-8.6 S2 underscore", b"Content-Length: 1_0", 400),
    field("9110-8.6 S2 hex", b"Content-Length: 0x5", 400),
    field("9110-8.6 S2 blank inside", b"Content-Length: 1 0", 400),
    field("9110-8.6 S2 fraction", b"Content-Length: 5.0", 400),
    field("9110-8.6 S2 superscript", b"Content-Length: \xb2", 400),
    field("9110-8.6 S2 twice, alike", b"Content-Length: 5\r\nContent-Length: 5", 400),
    field("9110-8.6 S2 twice, different", b"Content-Length: 5\r\ncontent-length: 6", 400),
    field("9110-8.6 S2 list, alike", b"Content-Length: 5, 5", 400),
    field("9110-8.6 S2 list, different", b"Content-Length: 5,6", 400),
    field("9110-8.6 S2 ends in a comma", b"Content-Length: 5,", 400),
    field("9112-6.1 chunked", b"Transfer-Encoding: chunked"),
    field("9112-6.1 CHUNKED", b"Transfer-Encoding: CHUNKED"),
    field("9112-6.1 HTAB after chunked", b"Transfer-Encoding: chunked\t"),
    field("9112-6.1 S1 with a length", b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    field("9112-6.1 S1 after a length", b"Content-Length: 0\r\nTransfer-Encoding: chunked", 400),
    field("9112-6.1 S1 empty with a length", b"Content-Length: 5\r\nTransfer-Encoding:", 400),
    old("9112-6.1 S1 in 1.0", b"Transfer-Encoding: chunked", 400),
    field("9112-6.3 S1 chunked twice", b"Transfer-Encoding: chunked, chunked", 400),
    field("9112-6.3 S1 chunked in two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    field("9112-6.3 S1 chunked not last", b"Transfer-Encoding: chunked, gzip", 400),
    field("9112-6.3 S1 chunked not last, two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
    field("9112-6.1 S1 gzip, chunked", b"Transfer-Encoding: gzip, chunked", 501),
    field("9112-6.1 S1 gzip", b"Transfer-Encoding: gzip", 501),
    field("9112-6.1 S1 identity", b"Transfer-Encoding: identity", 501),
    field("9112-6.1 S1 xchunked", b"Transfer-Encoding: xchunked", 501),
    field("9112-6.1 S1 empty", b"Transfer-Encoding:", 400),
    field("9112-6.1 S1 chunked and a comma", b"Transfer-Encoding: chunked,", 400),
    field("9112-6.1 S1 a comma and chunked", b"Transfer-Encoding: ,chunked", 400),
    field("9112-6.1 S1 quoted", b'Transfer-Encoding: "chunked"', 400),
    field("9112-7 S1 chunked with a parameter", b"Transfer-Encoding: chunked;a=b", 400),
    field("9112-6.1 S3 VT before chunked", b"Transfer-Encoding: \x0bchunked", 400),
    field("9112-6.1 S3 FF after chunked", b"Transfer-Encoding: chunked\x0c", 400),
    field("9112-6.1 S3 blank inside chunked", b"Transfer-Encoding: chun ked", 400),
    field("9112-6.1 S12 obs-text after chunked", b"Transfer-Encoding: chunked\xa0", 400),
)

RFC_9110_10_EXPECT_AND_CONNECTION: Final = (
    field("9110-10.1.1 100-continue", b"Expect: 100-continue\r\nContent-Length: 5"),
    field("9110-10.1.1 capitals", b"Expect: 100-Continue\r\nContent-Length: 5"),
    old("9110-10.1.1 ignored in 1.0", b"Expect: 100-continue\r\nContent-Length: 5"),
    field("9110-10.1.1 another", b"Expect: 200-ok", 417),
    field("9110-10.1.1 one more", b"Expect: 100-continue\r\nExpect: x", 417),
    field("9110-10.1.1 empty", b"Expect:", 417),
    field("9110-7.6.1 close", b"Connection: close\r\nContent-Length: 0"),
    field("9110-7.6.1 Close in a list", b"Connection: x, Close ,\r\nContent-Length: 0"),
    field("9110-7.6.1 two lines", b"Connection: keep-alive\r\nConnection: close\r\nContent-Length: 0"),
    old("9112-9.3 1.0 keep-alive", b"Connection: Keep-Alive\r\nContent-Length: 0"),
    old("9112-9.3 1.0 both", b"Connection: keep-alive, close\r\nContent-Length: 0"),
    old("9112-9.3 1.0 alone", b"Content-Length: 0"),
    field("9110-7.8 websocket", b"Connection: Upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 0"),
    field("9110-7.8 with a body", b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 9"),
    field("9110-7.8 with a coding", b"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: x", 501),
    field("9110-7.8 not in Connection", b"Upgrade: websocket\r\nContent-Length: 0"),
    field("9110-7.8 nothing offered", b"Connection: upgrade\r\nContent-Length: 0"),
    old("9110-7.8 ignored in 1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0"),
)

RFC_6585_LIMITS: Final = (
    line("9110-15.5.15 S20 longest line", b"GET /" + b"a" * 8176 + b" HTTP/1.1"),
    line("9110-15.5.15 S20 line too long", b"GET /" + b"a" * 8177 + b" HTTP/1.1", 414),
    field("6585-5 S20 most fields", b"\r\n".join([b"X: y"] * 99)),
    field("6585-5 S20 a field too many", b"\r\n".join([b"X: y"] * 100), 431),
    field("6585-5 S20 a long field", b"X: " + b"y" * 60_000),
    field("6585-5 S20 a field too long", b"X: " + b"y" * 66_000, 431),
)

CORPUS: Final = (
    *RFC_9112_2_MESSAGE,
    *RFC_9112_2_3_VERSION,
    *RFC_9112_3_REQUEST_LINE,
    *RFC_9112_3_2_TARGET,
    *RFC_9110_7_2_HOST,
    *RFC_9112_5_FIELDS,
    *RFC_9112_6_FRAMING,
    *RFC_9110_10_EXPECT_AND_CONNECTION,
    *RFC_6585_LIMITS,
)

SECTIONS: Final[dict[str, list[Case]]] = {
    section: [case for case in CORPUS if case.name.split()[0] == section]
    for section in dict.fromkeys(case.name.split()[0] for case in CORPUS)
}
"""The corpus by the RFC's section, in its order: a test takes one of them, not one of two hundred cases."""
