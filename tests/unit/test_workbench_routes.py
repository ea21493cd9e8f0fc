"""The reference Workbench has exactly the calls of its contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from starlette.routing import Route

from infra.workbench.app import make_app
from infra.workbench.settings import Settings

if TYPE_CHECKING:
    from infra.workbench.runner import Processor

CONTRACT = Path(__file__).parents[2] / "infra" / "workbench" / "openapi.yaml"


def test_routes_and_methods_are_those_of_the_contract() -> None:
    def no_processor() -> Processor:
        raise AssertionError("nothing is processed here")

    app = make_app(Settings(data_path=Path("unused")), no_processor, clock=lambda: 0.0)
    routes = {
        (route.path, method)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))["paths"]
    assert routes == {
        (path, method.upper()) for path, methods in paths.items() for method in methods
    }
