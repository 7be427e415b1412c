"""The chat page at `/`: three files, no build step, nothing loaded from elsewhere."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

FOLDER = Path(__file__).with_name("page")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""A browser then runs no script but the page's own, whatever a reply holds."""


def page_routes() -> APIRouter:
    """`/`, and its style and script under `/page`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": POLICY})

    @router.get("/page/{name}")
    async def part(name: Literal["chat.css", "chat.js"]) -> FileResponse:
        return FileResponse(FOLDER / name)

    return router
