"""Django, with async views. It has no lifespan: its application raises when it is asked for one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.apps.frameworks import common

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=[f"{__name__}.Mark"],
    SECRET_KEY="of a test",
)


class Mark:
    """Put a field into every response."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        response = await self._get_response(request)
        response.headers[common.MARK] = "django"
        return response


async def item(request: HttpRequest, item_id: int) -> HttpResponse:
    return JsonResponse({"item": item_id, "query": request.GET.get("q")})


async def echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse(json.loads(request.body))


async def stream(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(common.lines(), content_type="text/plain")


async def download(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(common.download(), content_type="application/octet-stream")


async def events(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(common.events(), content_type="text/event-stream")


async def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return JsonResponse(common.description(file.name, file.read()))


async def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


def file(request: HttpRequest) -> HttpResponse:
    """A plain function: Django calls it in a thread."""
    return FileResponse(common.SERVED.open("rb"))


async def cookies(request: HttpRequest) -> HttpResponse:
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
    path("file", file),
    path("cookies", cookies),
]

app = get_asgi_application()
