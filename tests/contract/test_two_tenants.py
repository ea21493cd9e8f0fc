"""P29: whatever a tenant asks, by whatever ids and filters, of another it sees and changes nothing.

Every route, on the twin and on a real Postgres as the user of the API, behind row-level security.
What is another's is answered word for word as what isn't there.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.operations import OPERATIONS
from api_client import Answer, ApiClient
from fakes import World
from runs.adapters.postgres import PostgresOverviews, PostgresPipelines, PostgresRuns
from runs.wiring import using
from runs_stores import PostgresStore
from wired import WorldWiring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from api.operations import Operation
    from runs.adapters.postgres import Database
    from runs_stores import Store

TENANTS: Final = ("alpha", "beta")
RUNS: Final = 3
MISSING: Final = 10**9
LOCKED: Final = [operation for operation in OPERATIONS if operation.scope]
FILTERS: Final = ("pipeline_id", "tag", "workbench_job_id", "status", "page_size", "created_after")


class FencedWiring(WorldWiring):
    """The API's stores on its own connection to a real database."""

    def __init__(self, world: World, database: Database) -> None:
        super().__init__(world)
        self._fenced = database
        self.runs: Any = PostgresRuns(database)
        self.pipelines: Any = PostgresPipelines(database)
        self.overviews: Any = PostgresOverviews(database)

    def acting_for(self, tenant_id: str) -> AbstractContextManager[None]:
        return self._fenced.acting_for(tenant_id)


@dataclass(frozen=True)
class Belongings:
    """What a tenant has: ids, and what it wrote."""

    tenant: str
    pipelines: list[int]
    runs: list[int]
    job: str

    @property
    def api(self) -> ApiClient:
        return ApiClient(bearer=self.tenant)

    def seen(self) -> list[Any]:
        """All that the tenant can see of it, but for how long ago that was."""
        lists = [self.api.get(path).json for path in ("/pipeline", "/pipeline-run")]
        for run in lists[1]["items"]:
            del run["observation"]
        events = [self.api.get(f"/pipeline-run/{run}/events").json for run in self.runs]
        return [*lists, *events]


@dataclass(frozen=True)
class Asked:
    """A call; whose ids it names is decided by `owner`."""

    operation: Operation
    owner: str
    index: int
    filters: frozenset[str]
    status: str
    key: str | None

    def send(self, caller: Belongings, named: Belongings) -> Answer:
        """By the caller, with the ids of somebody."""
        operation = self.operation
        ids = {"pipeline_id": named.pipelines, "pipeline_run_id": named.runs}
        path = re.sub(
            r"{(\w+)}",
            lambda step: str(ids[step[1]][self.index % len(ids[step[1]])]),
            operation.path,
        )
        query = urlencode(
            {
                name: value
                for name, value in self._values(named).items()
                if name in operation.query.model_fields
            }
        )
        body = self._body(named) if operation.body else None
        return caller.api.send(
            operation.method,
            f"{path}?{query}" if query else path,
            text=None if body is None else json.dumps(body),
            headers={"Idempotency-Key": self.key},
        )

    def _values(self, named: Belongings) -> dict[str, object]:
        values = {
            "pipeline_id": named.pipelines[self.index % len(named.pipelines)],
            "tag": f"owner:{named.tenant}",
            "workbench_job_id": named.job,
            "status": self.status,
            "page_size": 1 + self.index,
            "created_after": "2000-01-01T00:00:00Z",
        }
        return {name: value for name, value in values.items() if name in self.filters}

    def _body(self, named: Belongings) -> dict[str, object]:
        """A good one for the operation."""
        match self.operation.name:
            case "create_pipeline":
                return {"name": "of both", "mode": "BATCH", "workflow_name": "w"}
            case "change_pipeline":
                return {"disabled_reason": "changed"}
            case "create_pipeline_run":
                pipeline = named.pipelines[self.index % len(named.pipelines)]
                prefixes = {"input_path_prefix": "in", "output_path_prefix": "out"}
                return {"pipeline_id": pipeline, **prefixes}
        return {}

    @property
    def finds_what_belongs(self) -> bool:
        """Whether it lists runs by what only those of its owner have."""
        told = self.filters & {"pipeline_id", "tag", "workbench_job_id"}
        return self.operation.name == "list_pipeline_runs" and bool(told)

    @property
    def names_an_id(self) -> bool:
        """Whether it is about one thing, which is there or isn't."""
        return "_id}" in self.operation.path or self.operation.name == "create_pipeline_run"


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    return Asked(
        operation=draw(st.sampled_from(LOCKED)),
        owner=draw(st.sampled_from([*TENANTS, "nobody"])),
        index=draw(st.integers(0, RUNS - 1)),
        filters=draw(st.frozensets(st.sampled_from(FILTERS))),
        status=draw(st.sampled_from(["SUBMITTED", "CREATED", "CANCELLED"])),
        key=draw(st.sampled_from([None, "of-both", "key-0", "key-1"])),
    )


@contextmanager
def served(store: Store) -> Iterator[None]:
    """The API over a store."""
    world = World()
    fenced = store.as_user_of("api") if isinstance(store, PostgresStore) else nullcontext()
    with fenced as database:
        wiring = FencedWiring(world, database) if database else WorldWiring(world)
        with using(wiring):
            yield


def belongings(tenant: str) -> Belongings:
    """Makes a tenant its pipelines and runs, told by its name; keys are the same for each."""
    api = ApiClient(bearer=tenant)
    pipelines = [
        api.post("/pipeline", {"name": f"{tenant} {n}", "mode": "BATCH", "workflow_name": tenant})
        for n in range(2)
    ]
    ids = [made.json["id"] for made in pipelines]
    runs = [
        api.post(
            "/pipeline-run",
            {
                "pipeline_id": ids[n % 2],
                "input_path_prefix": f"in/{tenant}",
                "output_path_prefix": f"out/{tenant}",
                "report_path_prefix": f"report/{tenant}",
                "tags": {"owner": tenant},
                "parameters": {"of": tenant},
            },
            Idempotency_Key=f"key-{n}",
        ).json
        for n in range(RUNS)
    ]
    return Belongings(tenant, ids, [run["id"] for run in runs], runs[0]["workbench_job_id"])


@pytest.mark.parametrize("caller", TENANTS)
def test_p29_s4_no_tenant_sees_or_changes_what_is_anothers(store: Store, caller: str) -> None:
    with served(store):
        have = {tenant: belongings(tenant) for tenant in TENANTS}
        have["nobody"] = Belongings("nobody", [MISSING], [MISSING], "no-such-job")
        [other] = (have[tenant] for tenant in TENANTS if tenant != caller)
        before = other.seen()

        @settings(
            max_examples=150,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(call=asked())
        def ask(call: Asked) -> None:
            answer = call.send(have[caller], have[call.owner])
            assert other.tenant not in answer.text
            if call.owner != caller and call.names_an_id:
                missing = call.send(have[caller], have["nobody"])
                assert (answer.status, answer.text) == (missing.status, missing.text)
                assert answer.status == 404 or answer.json["code"] == "idempotency_key_reused"
            elif call.owner != caller and call.finds_what_belongs:
                assert (answer.status, answer.json["items"]) == (200, [])

        ask()
        assert other.seen() == before


def test_p29_how_many_runs_there_are_tells_of_ones_own_alone(store: Store) -> None:
    with served(store):
        counted = []
        for tenant in TENANTS:
            belongings(tenant)
            overview = ApiClient(bearer=tenant).get("/service-info").json
            counted.append(sum(overview["runs"]["active"].values()))
        assert counted == [RUNS, RUNS]


def test_p29_a_key_of_anothers_is_free(store: Store) -> None:
    with served(store):
        alpha, beta = (belongings(tenant) for tenant in TENANTS)
        assert set(alpha.runs).isdisjoint(beta.runs)


def test_p29_a_page_token_of_anothers_leads_to_ones_own(store: Store) -> None:
    with served(store):
        alpha, beta = (belongings(tenant) for tenant in TENANTS)
        token = beta.api.get("/pipeline-run?page_size=1").json["next_page_token"]
        page = alpha.api.get(f"/pipeline-run?page_size=1&page_token={token}").json
        assert [run["id"] for run in page["items"]] == [max(alpha.runs)]
