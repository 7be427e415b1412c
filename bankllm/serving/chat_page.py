"""The chat page at `/`: three static files without a build step and without third-party resources."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

PAGE_FOLDER = Path(__file__).with_name("page")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The browser runs only the page's own script, whatever text a reply contains."""


def page_routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> FileResponse:
        return FileResponse(PAGE_FOLDER / "index.html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    @router.get("/page/{name}")
    async def asset(name: Literal["chat.css", "chat.js"]) -> FileResponse:
        return FileResponse(PAGE_FOLDER / name)

    return router
