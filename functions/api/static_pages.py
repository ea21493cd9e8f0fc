"""Pages that the API itself serves to browsers, each a folder of files beside this one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from chalice import Response

from api import catalogue, requests
from api.answers import unchanged
from api.problems import HEADERS, RequestInvalid
from api.script_modules import one_script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalice.app import Request

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MEDIA_TYPES: Final = MappingProxyType(
    {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
)
"""What a page may load; whatever else lies in its folder isn't given."""
KEPT: Final = "max-age=300"
"""A page's files are fetched together, so they are asked for anew together."""


@dataclass(frozen=True, slots=True)
class StaticPage:
    """One page: `page.html`, and what it loads.

    Attributes:
        folder: Where its files are.
        start: The module that its script begins with, in whose name all of them are given;
            empty: its scripts are given one by one.
    """

    folder: Path
    start: str = ""

    @classmethod
    def beside_the_api(cls, folder: str, *, start: str = "") -> StaticPage:
        """That of a folder of the `api` package."""
        return cls(Path(__file__).parent / folder, start)

    def assets(self) -> frozenset[str]:
        """The names of what the page may load."""
        files = {one.name for one in self.folder.iterdir() if one.suffix in MEDIA_TYPES}
        parts = {name for name in files if self.start and name.endswith(".js")} - {self.start}
        return frozenset(files - parts)

    def page(self) -> Response:
        """The page itself, which may load what comes from here and nothing else."""
        policy = {"Content-Security-Policy": PAGE_POLICY}
        return file_answer(_text(self.folder / "page.html"), "text/html; charset=utf-8", policy)

    def asset(self, name: str, request: Request) -> Response:
        """A file of the page, or that the browser has it already.

        Raises:
            RequestInvalid: there is none of this name.
        """
        if name not in self.assets():
            raise RequestInvalid(catalogue.NOT_FOUND, "There is no such file")
        text = _script(self.folder, name) if name == self.start else _text(self.folder / name)
        tag = f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        headers = {"Cache-Control": KEPT, "ETag": tag}
        if requests.matches(request, tag):
            return unchanged(headers)
        return file_answer(text, MEDIA_TYPES[Path(name).suffix], headers)


@cache
def _script(folder: Path, start: str) -> str:
    return one_script(folder, start)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def file_answer(
    text: str, media_type: str, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """An answer that is no JSON of the API's."""
    return Response(text, headers={**HEADERS, "Content-Type": media_type, **headers})
