"""What the code keeps to as a whole, whoever adds to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chalice import Chalice, Response

from api.app import app
from api.problems import answers_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTIONS = Path(__file__).parents[2] / "functions"

POWERTOOLS = {"aws_lambda_powertools", "botocore", "jmespath", "typing_extensions"}
"""Its logger. Of botocore only the front door, to which Powertools ties its name; see below."""
PYDANTIC = {"annotated_types", "pydantic", "pydantic_core", "typing_inspection"}
LOADED = {
    "poller.tick": POWERTOOLS,
    "poller.check": POWERTOOLS,
    "poller.relay": POWERTOOLS,
    "poller.hunt": POWERTOOLS,
    "poller.survey": POWERTOOLS,
    "poller.purge": POWERTOOLS,
    "api.app": POWERTOOLS | PYDANTIC | {"chalice"},
    "api.authorizer": POWERTOOLS,
}
"""What each handler loads of others' code before its first call: all of it costs cold starts."""
OF_NOBODY = ("_sysconfigdata", "_cython_", "cython_runtime")
"""How Python was built, and what compiled modules share: no packages."""
SETTINGS = {
    "STAGE": "test",
    "DATABASE_URL": "postgresql+pg8000://nobody@127.0.0.1:1/none",
    "CONDUCTOR_URL": "http://127.0.0.1:1",
    "WORKBENCH_API_URL": "http://127.0.0.1:1",
    "CHECK_QUEUE_URL": "http://127.0.0.1:1/0/checks",
    "RETRY_QUEUE_URL": "http://127.0.0.1:1/0/retries",
    "TICK_QUEUE_URL": "http://127.0.0.1:1/0/ticks",
    "EVENT_BUS_NAME": "events",
    "STORAGE_BUCKET": "user-data",
    "OIDC_ISSUER": "https://issuer.test",
    "OIDC_JWKS_URL": "https://issuer.test/jwks.json",
}
LIST_MODULES = """
import json, sys
before = set(sys.modules)
{program}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


# -- views ----------------------------------------------------------------------------------------


def bare_views(app: Chalice) -> Iterator[str]:
    """The views whose errors would not be problems."""
    for path, methods in app.routes.items():
        for method, entry in methods.items():
            if not getattr(entry.view_function, "answers_problems", False):
                yield f"{method} {path}"


def test_p30_every_view_wears_the_problem_decorator() -> None:
    assert list(app.routes)
    assert list(bare_views(app)) == []


def test_p30_a_view_that_does_not_is_found() -> None:
    other = Chalice(app_name="other")

    def view() -> Response:
        return Response("")

    other.route("/bare", methods=["GET"])(view)
    clothed = answers_problems(request_id=str, base=str)(view)
    other.route("/clothed", methods=["POST"])(clothed)
    assert list(bare_views(other)) == ["GET /bare"]


# -- cold starts ----------------------------------------------------------------------------------


def modules_after(program: str) -> set[str]:
    """What a fresh interpreter has loaded after a program, beside what it begins with."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES.format(program=program)],
        env={"PYTHONPATH": str(FUNCTIONS), "PYTHONDONTWRITEBYTECODE": "1", **SETTINGS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    """Other people's, by name."""
    ours = {"api", "poller", "runs"}
    names = {name.partition(".")[0] for name in modules if not name.startswith(OF_NOBODY)}
    return names - ours - sys.stdlib_module_names


@pytest.mark.parametrize("module", LOADED)
def test_a_handler_loads_exactly_what_it_needs_at_once(module: str) -> None:
    modules = modules_after(f"import {module}")
    assert packages(modules) == LOADED[module]
    assert not {name for name in modules if name.startswith("botocore.")}


@pytest.mark.parametrize("module", LOADED)
def test_loading_a_handler_reads_no_setting(module: str) -> None:
    environment = f"import os; [os.environ.pop(name) for name in {list(SETTINGS)}]"
    assert modules_after(f"{environment}\nimport {module}")


def test_a_read_loads_the_database_and_nothing_else_that_is_heavy() -> None:
    modules = modules_after("import api.app; from runs.wiring import wired; wired().runs")
    assert packages(modules) == LOADED["api.app"] | {"sqlalchemy"}


def test_a_tick_loads_no_http_client_and_aws_only_to_send() -> None:
    modules = modules_after("import poller.tick; from runs.wiring import wired; wired().sweeping")
    assert packages(modules) == LOADED["poller.tick"] | {"sqlalchemy"}


def test_a_relay_loads_no_http_client_and_aws_only_to_send() -> None:
    modules = modules_after(
        "import poller.relay; from runs.wiring import wired; wired().publishing"
    )
    assert packages(modules) == LOADED["poller.relay"] | {"sqlalchemy"}


def test_what_is_heavy_would_be_found() -> None:
    modules = modules_after("import poller.check; from runs.wiring import wired; wired().checking")
    assert packages(modules) >= {"httpx", "sqlalchemy"}
