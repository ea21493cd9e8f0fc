"""The service itself."""

from __future__ import annotations

from typing import Literal

from chalice import Blueprint, Response
from pydantic import BaseModel

from api.answers import answered, problems
from runs.wiring import wired

routes = Blueprint(__name__)


class HealthBody(BaseModel):
    """The service can do its work."""

    status: Literal["ok"] = "ok"


@routes.route("/health", methods=["GET"])
@problems(routes)
def get_health() -> Response:
    """Whether the database can be reached."""
    wired().runs.ping()
    return answered(200, HealthBody())
