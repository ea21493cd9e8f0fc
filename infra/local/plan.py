"""What one `make up` is to bring up: our own parts, and those given from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.conductor_server import ConductorServer
from infra.local.external import External
from infra.local.keys import Keys, Login, keys_of
from infra.local.parts.conductor import Conductor
from infra.local.parts.keeper import Keeper
from infra.local.parts.localstack import LocalStack
from infra.local.parts.postgres import Postgres
from infra.local.parts.storage import BUCKET, Storage
from infra.local.parts.workbench import StorageAccess, Workbench
from infra.local.ports import choose_ports
from infra.local.processes import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.layout import Layout
    from infra.local.parts.part import Part

REGION = "us-east-1"
SERVERS = ("postgres", "conductor", "localstack", "storage", "workbench")
"""The names of all parts that can listen on a port of ours."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parts and their addresses; a part that is given from outside has no server here."""

    external: External
    localstack: LocalStack
    keeper: Keeper
    postgres: Postgres | None
    conductor: Conductor | None
    storage_server: Storage | None
    workbench: Workbench | None
    storage: StorageAccess
    api_login: Login
    poller_login: Login

    @property
    def own(self) -> list[Part]:
        """The parts to start, side by side."""
        optional = (self.postgres, self.conductor, self.storage_server, self.workbench)
        return [self.localstack, *(part for part in optional if part), self.keeper]

    @property
    def database_url(self) -> str:
        """The owner's, for SQLAlchemy; holds the password."""
        return self.postgres.url if self.postgres else self.external.urls["postgres"]

    @property
    def conductor_url(self) -> str:
        """Without `/api`."""
        return self.conductor.url if self.conductor else self.external.urls["conductor"]

    @property
    def workbench_url(self) -> str:
        """As Conductor and the functions reach it."""
        return self.workbench.url if self.workbench else self.external.urls["workbench"]


def make_plan(layout: Layout, environment: Mapping[str, str]) -> Plan:
    """Reads the environment, chooses ports, makes keys; starts nothing.

    Raises:
        StackTrouble: a setting makes no sense, or a port that is set is in use.
    """
    external = External.from_environment(environment, region=REGION)
    ports = choose_ports(
        [name for name in SERVERS if name not in external.urls],
        layout,
        environment,
        held={r.part: r.port for r in read_records(layout) if r.port and r.process},
    )
    return plan_on(layout, environment, external, ports)


def plan_on(
    layout: Layout, environment: Mapping[str, str], external: External, ports: Mapping[str, int]
) -> Plan:
    """The plan with a server of ours on each of the given ports."""
    keys = keys_of(layout)
    storage_server = None
    if "storage" in ports:
        storage_server = Storage(
            layout=layout, environment=environment, port=ports["storage"], keys=keys
        )
    storage = external.storage or StorageAccess(
        endpoint_url=storage_server.url if storage_server else "",
        bucket=BUCKET,
        region=REGION,
        access_key_id=keys.storage_access_key_id,
        secret_access_key=keys.storage_secret_access_key,
    )
    token = environment.get("WORKBENCH_TOKEN", "")
    postgres = conductor = workbench = None
    if "postgres" in ports:
        postgres = Postgres(
            layout=layout,
            environment=environment,
            port=ports["postgres"],
            password=keys.postgres_password,
            owner_password=keys.migrator_password,
        )
    if "conductor" in ports:
        conductor = Conductor(
            layout=layout,
            environment=environment,
            port=ports["conductor"],
            server=ConductorServer.in_cache(),
            workbench_token=token,
        )
    if "workbench" in ports:
        workbench = Workbench(
            layout=layout,
            environment=environment,
            port=ports["workbench"],
            storage=storage,
            token=token,
        )
    return Plan(
        external=external,
        localstack=LocalStack(
            layout=layout, environment=environment, port=ports.get("localstack", 0), region=REGION
        ),
        keeper=Keeper(layout=layout, environment=environment),
        postgres=postgres,
        conductor=conductor,
        storage_server=storage_server,
        workbench=workbench,
        storage=storage,
        api_login=_login("api", keys.api_database_password, keys),
        poller_login=_login("poller", keys.poller_database_password, keys),
    )


def _login(role: str, password: str, keys: Keys) -> Login:
    return Login(user=f"{role}_{keys.clone_id}", password=password, role=role)
