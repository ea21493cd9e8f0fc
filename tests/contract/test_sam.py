"""`make deploy`, whole, with the real SAM: onto LocalStack, a real Postgres and a toy Conductor."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pg8000.dbapi
import pytest

from infra.local.deployment import Cloud
from infra.local.down import down
from infra.local.environments import ROOT, ensure, python_of
from infra.local.keys import Login, keys_of
from infra.local.layout import FUNCTIONS, TEMPLATE, Layout
from infra.local.logins import make_logins
from infra.local.parts.localstack import ACCESS_KEY_ID, SECRET_ACCESS_KEY, LocalStack
from infra.local.parts.postgres import DATABASE, OWNER, Postgres
from infra.local.ports import LOOPBACK
from infra.local.steps import Halt
from infra.local.supervisor import bring_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.prove

REGION = "eu-west-2"
PASSWORD = "righthorse"  # noqa: S105 - of database users that live for these tests
LARGEST_ARTIFACT_MEGABYTES = 100
"""Lambda takes 262 MB unzipped; ours is to stay far from it."""
FUNCTIONS_BUILT = (
    "ApiFunction",
    "CheckFunction",
    "HuntFunction",
    "PurgeFunction",
    "RelayFunction",
    "SurveyFunction",
    "TickFunction",
)
OURS = {"api", "poller", "runs"}
NEEDLESS = {"awslambdaric", "click", "inquirer", "pip", "pytest", "setuptools", "tests", "wheel"}


@dataclass
class Registered:
    """A Conductor that takes everything and remembers it."""

    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    url: str = ""


@dataclass(frozen=True)
class Deployed:
    """What a deployment said, and where it went."""

    said: str
    work: Path
    cloud: Cloud
    database: Postgres
    conductor: Registered
    environment: dict[str, str]

    def again(self) -> subprocess.CompletedProcess[str]:
        return deploy(self.environment)

    def ask(self, statement: str) -> Any:
        """The first value that a statement gives."""
        connection = pg8000.dbapi.connect(
            OWNER,
            host=LOOPBACK,
            port=self.database.port,
            database=DATABASE,
            password=self.database.owner_password,
        )
        with closing(connection):
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchone()[0]

    def artifact(self, function: str) -> Path:
        return self.work / "build" / function


def deploy(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As `make deploy` does."""
    inherited = {
        name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ
    }
    return subprocess.run(
        [str(python_of("stack")), "-m", "infra.deploy"],
        cwd=ROOT,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    ensure("stack", "functions", "localstack", "sam")
    layout = Layout(tmp_path_factory.mktemp("sam") / "state")
    yield layout
    assert down(layout) == 0


@pytest.fixture(scope="module")
def conductor() -> Iterator[Registered]:
    registered = Registered()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            registered.requests.append((self.command, self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        do_POST = do_PUT = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        registered.url = f"http://{LOOPBACK}:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield registered
        server.shutdown()


@pytest.fixture(scope="module")
def deployed(layout: Layout, conductor: Registered) -> Deployed:
    """A deployment to an empty LocalStack and an empty database."""
    localstack = LocalStack(layout=layout, environment=os.environ, port=free_port(), region=REGION)
    keys = keys_of(layout)
    postgres = Postgres(
        layout=layout,
        environment=os.environ,
        port=free_port(),
        password=keys.postgres_password,
        owner_password=keys.migrator_password,
    )
    for part in (localstack, postgres):
        bring_up(part, layout, Halt(), lambda _: None)
    logins = [
        Login(user=f"{role}_of_tests", password=PASSWORD, role=role) for role in ("api", "poller")
    ]
    environment = {
        "PIPELINE_RUNS_LOCAL": str(layout.state),
        "AWS_ENDPOINT_URL": localstack.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
        "DATABASE_URL": postgres.url,
        "API_DATABASE_URL": logins[0].url(postgres.url),
        "POLLER_DATABASE_URL": logins[1].url(postgres.url),
        "CONDUCTOR_URL": conductor.url,
        "WORKBENCH_API_URL": f"http://{LOOPBACK}:1",
        "STORAGE_BUCKET": "user-data",
        "OIDC_ISSUER": f"http://{LOOPBACK}:1",
        "OIDC_JWKS_URL": f"http://{LOOPBACK}:1/jwks.json",
        "STAGE": "test",
        "POLL_INTERVAL_SECONDS": "60",
    }
    done = deploy(environment)
    assert done.returncode == 0, done.stdout
    make_logins(postgres.url, logins)
    return Deployed(
        said=done.stdout,
        work=layout.state / "deploy",
        cloud=Cloud(localstack.url, REGION),
        database=postgres,
        conductor=conductor,
        environment=environment,
    )


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


def locked() -> set[str]:
    """What the lock of the functions names."""
    lines = (FUNCTIONS / "requirements.txt").read_text().splitlines()
    return {match[1] for line in lines if (match := re.match(r"([a-z0-9._-]+)==", line))}


def test_the_template_is_valid_and_sam_finds_nothing_to_blame(layout: Layout) -> None:
    done = subprocess.run(
        [str(python_of("sam").with_name("sam")), "validate", "--lint", "--template", str(TEMPLATE)],
        env=os.environ
        | {
            "AWS_DEFAULT_REGION": REGION,
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(layout.state / "sam-cli"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "is a valid SAM Template" in done.stdout


def test_the_steps_come_in_their_order(deployed: Deployed) -> None:
    steps = ["Building", "Migrating", "Deploying", "Registering", "Done."]
    at = [deployed.said.index(f"\n{step}") for step in steps]
    assert at == sorted(at), deployed.said


@pytest.mark.parametrize("function", FUNCTIONS_BUILT)
def test_an_artifact_holds_what_runs_and_nothing_else(deployed: Deployed, function: str) -> None:
    artifact = deployed.artifact(function)
    top = {path.name for path in artifact.iterdir()}
    assert top >= OURS
    assert not top & NEEDLESS
    assert not {"Makefile", "requirements.txt", "template.yaml"} & top
    distributions = {path.name.split("-")[0] for path in artifact.glob("*.dist-info")}
    assert {name.lower().replace("_", "-") for name in distributions} == locked()
    files = [path for path in artifact.rglob("*") if path.is_file()]
    assert not [path for path in files if "__pycache__" in path.parts]


def test_an_artifact_is_small_and_its_size_is_told(deployed: Deployed) -> None:
    told = re.search(r"^Built: (\d+) MB each", deployed.said, re.MULTILINE)
    assert told
    assert int(told[1]) < LARGEST_ARTIFACT_MEGABYTES


def test_an_artifact_is_built_for_lambda_whatever_machine_builds_it(deployed: Deployed) -> None:
    compiled = list(deployed.artifact("ApiFunction").rglob("*.so"))
    assert compiled
    foreign = [
        path.name
        for path in compiled
        if not path.name.endswith((".cpython-313-x86_64-linux-gnu.so", ".abi3.so"))
    ]
    assert foreign == []


def test_an_artifact_has_the_code_as_it_stands(deployed: Deployed) -> None:
    for package in OURS:
        for path in (FUNCTIONS / package).rglob("*.py"):
            built = deployed.artifact("TickFunction") / path.relative_to(FUNCTIONS)
            assert built.read_bytes() == path.read_bytes()


def test_cloudformation_gets_no_aliases_which_it_does_not_know(deployed: Deployed) -> None:
    built = (deployed.work / "build" / "template.yaml").read_text()
    assert not re.search(r"[:-] [&*]\w", built)


def test_the_database_is_migrated(deployed: Deployed) -> None:
    assert deployed.ask("SELECT count(*) FROM poll_shards") == 256


def test_the_workflows_are_registered(deployed: Deployed) -> None:
    methods = [(method, path) for method, path, _ in deployed.conductor.requests[:2]]
    assert methods == [("POST", "/api/metadata/taskdefs"), ("PUT", "/api/metadata/workflow")]
    names = {workflow["name"] for workflow in deployed.conductor.requests[1][2]}
    assert names == {"batch_pipeline_workflow", "realtime_pipeline_workflow"}


def test_a_deployed_function_works_from_its_artifact(deployed: Deployed) -> None:
    functions = deployed.cloud.client("lambda").list_functions()["Functions"]
    (tick,) = [one for one in functions if "TickFunction" in one["FunctionName"]]
    assert tick["Environment"]["Variables"]["POLL_INTERVAL_SECONDS"] == "60"
    event = {"time": deployed.ask('SELECT to_char(now(), \'YYYY-MM-DD"T"HH24:MI:SS"Z"\')')}
    answer = deployed.cloud.client("lambda").invoke(
        FunctionName=tick["FunctionName"], Payload=json.dumps(event)
    )
    assert "FunctionError" not in answer, answer["Payload"].read().decode()
    swept = "SELECT count(*) FROM poll_shards WHERE last_polled_at > now() - interval '5 minutes'"
    assert deployed.ask(swept) == 256


def test_parameters_lie_where_their_owner_alone_reads_them(deployed: Deployed) -> None:
    parameters = deployed.work / "parameters.yaml"
    assert PASSWORD in parameters.read_text()
    assert parameters.stat().st_mode & 0o077 == 0
    assert deployed.database.password not in deployed.said


def test_a_second_deployment_is_harmless(deployed: Deployed) -> None:
    queues = deployed.cloud.client("sqs").list_queues()["QueueUrls"]
    done = deployed.again()
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("Done.\n")
    assert deployed.cloud.client("sqs").list_queues()["QueueUrls"] == queues
    assert deployed.ask("SELECT count(*) FROM poll_shards") == 256
