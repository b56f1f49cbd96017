"""Django, with views that block. A body in chunks it takes for none: it asks for CONTENT_LENGTH."""

from __future__ import annotations

import json
from collections.abc import Callable

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.apps.frameworks import common, wsgi_common

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=[f"{__name__}.mark"],
    SECRET_KEY="of a test",
)


def mark(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Put a field into every response."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers[common.MARK] = "django_wsgi"
        return response

    return middleware


def item(request: HttpRequest, item_id: int) -> HttpResponse:
    return JsonResponse({"item": item_id, "query": request.GET.get("q")})


def echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse(json.loads(request.body))


def stream(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(common.LINES, content_type="text/plain")


def download(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(wsgi_common.download(), content_type="application/octet-stream")


def events(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(wsgi_common.events(), content_type="text/event-stream")


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return JsonResponse(common.description(file.name, file.read()))


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


def state(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.META["hybrid.state"])


def file(request: HttpRequest) -> HttpResponse:
    return FileResponse(common.SERVED.open("rb"))


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.COOKIES.get("given", ""))
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


urlpatterns = [
    path("items/<int:item_id>", item),
    path("echo", echo),
    path("stream", stream),
    path("download", download),
    path("events", events),
    path("upload", upload),
    path("fail", fail),
    path("state", state),
    path("file", file),
    path("cookies", cookies),
]

app = get_wsgi_application()
