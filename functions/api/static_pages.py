"""Pages that the API itself serves to browsers, each a folder of files beside this one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from chalice import Response

from api import catalogue, requests
from api.answers import unchanged
from api.problems import HEADERS, RequestInvalid

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
    """One page: `page.html`, and what it loads."""

    folder: Path

    @classmethod
    def beside_the_api(cls, folder: str) -> StaticPage:
        """That of a folder of the `api` package."""
        return cls(Path(__file__).parent / folder)

    def assets(self) -> frozenset[str]:
        """The names of the files that the page may load."""
        return frozenset(one.name for one in self.folder.iterdir() if one.suffix in MEDIA_TYPES)

    def page(self) -> Response:
        """The page itself, which may load what comes from here and nothing else."""
        text = (self.folder / "page.html").read_text(encoding="utf-8")
        policy = {"Content-Security-Policy": PAGE_POLICY}
        return file_answer(text, "text/html; charset=utf-8", policy)

    def asset(self, name: str, request: Request) -> Response:
        """A file of the page, or that the browser has it already.

        Raises:
            RequestInvalid: there is none of this name.
        """
        if name not in self.assets():
            raise RequestInvalid(catalogue.NOT_FOUND, "There is no such file")
        content = (self.folder / name).read_bytes()
        tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"Cache-Control": KEPT, "ETag": tag}
        if requests.matches(request, tag):
            return unchanged(headers)
        return file_answer(content.decode(), MEDIA_TYPES[Path(name).suffix], headers)


def file_answer(
    text: str, media_type: str, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """An answer that is no JSON of the API's."""
    return Response(text, headers={**HEADERS, "Content-Type": media_type, **headers})
