"""What a run has written: which objects are shown, to whom, and page by page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_runs import at, make_pipeline, record
from memory_storage import MODIFIED_AT, MemoryStorage
from runs.errors import NoReport, RunNotFound, StorageRefused, StorageUnavailable
from runs.prefixes import StorageRules
from runs.results import Results
from runs.status import PipelineRunStatus
from runs_stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runs.model import PipelineRun

BUCKET: Final = "user-data"
RULES: Final = StorageRules(bucket=BUCKET)
TENANTS: Final = StorageRules(bucket=BUCKET, tenant_prefix="tenants/{tenant}/")


@dataclass
class Bench:
    """Runs and what they wrote."""

    store: MemoryStore = field(default_factory=MemoryStore)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    rules: StorageRules = RULES

    @property
    def results(self) -> Results:
        return Results(runs=self.store.runs, storage=self.storage, rules=self.rules)

    def run(self, *, tenant_id: str = "t1", **prefixes: Any) -> PipelineRun:
        name = f"of-{len(self.store.database.pipelines)}"
        pipeline = make_pipeline(self.store, tenant_id=tenant_id, name=name)
        return record(self.store, pipeline, **{"output_path_prefix": "out/1"} | prefixes)

    def wrote(self, *keys: str, bucket: str = BUCKET) -> None:
        for key in keys:
            self.storage.put(bucket, key, key.encode())

    def outputs(self, run: PipelineRun, *, page_size: int = 100, after: str = "") -> list[str]:
        page = self.results.outputs(
            run.id, tenant_id=run.tenant_id, page_size=page_size, after=after
        )
        return [found.name for found in page.objects]

    def pages(self, run: PipelineRun, page_size: int) -> Iterator[list[str]]:
        after: str | None = ""
        while after is not None:
            page = self.results.outputs(
                run.id, tenant_id=run.tenant_id, page_size=page_size, after=after
            )
            yield [found.name for found in page.objects]
            assert page.next_after is None or page.next_after > after  # Else it has no end.
            after = page.next_after


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("prefix", ["out/1", "out/1/", "s3://user-data/out/1"])
def test_outputs_are_what_lies_below_the_prefix_and_not_beside_it(
    bench: Bench, prefix: str
) -> None:
    bench.wrote("out/1/b.csv", "out/1/a/deep.csv", "out/10/x", "out/1.txt", "out/1-b/x", "in/y")

    assert bench.outputs(bench.run(output_path_prefix=prefix)) == ["a/deep.csv", "b.csv"]


def test_an_output_tells_all_that_is_needed_to_fetch_it(bench: Bench) -> None:
    bench.wrote("out/1/a.csv")
    run = bench.run()

    (found,) = bench.results.outputs(run.id, tenant_id="t1", page_size=9).objects

    assert (found.bucket, found.key, found.name) == (BUCKET, "out/1/a.csv", "a.csv")
    assert found.size_bytes == len("out/1/a.csv")
    assert found.modified_at == MODIFIED_AT


def test_browsers_save_outputs_and_show_reports(bench: Bench) -> None:
    bench.wrote("out/1/page.html", "report/1/report.html")
    run = bench.run(report_path_prefix="report/1")

    outputs = bench.results.outputs(run.id, tenant_id="t1", page_size=9)
    report = bench.results.report(run.id, tenant_id="t1", page_size=9)

    assert [found.url for found in outputs.objects] == [
        "memory://user-data/out/1/page.html#attachment"
    ]
    assert [found.url for found in report.objects] == [
        "memory://user-data/report/1/report.html#inline"
    ]


def test_a_report_is_what_lies_below_its_own_prefix(bench: Bench) -> None:
    bench.wrote("out/1/a.csv", "elsewhere/report.html", "elsewhere/report.json")
    run = bench.run(report_path_prefix="elsewhere/")

    page = bench.results.report(run.id, tenant_id="t1", page_size=1)

    assert [found.name for found in page.objects] == ["report.html"]
    assert page.next_after == "report.html"


def test_a_run_without_a_report_prefix_has_no_report(bench: Bench) -> None:
    run = bench.run(report_path_prefix=None)

    with pytest.raises(NoReport, match=rf"Run {run.id} was made without report_path_prefix"):
        bench.results.report(run.id, tenant_id="t1", page_size=9)


def test_a_report_that_is_not_written_yet_is_an_empty_page(bench: Bench) -> None:
    bench.wrote("in/a")
    run = bench.run(report_path_prefix="report/1")

    page = bench.results.report(run.id, tenant_id="t1", page_size=9)

    assert (page.objects, page.next_after) == ((), None)


def test_s4_the_results_of_another_tenants_run_are_not_found(bench: Bench) -> None:
    bench.wrote("out/1/a.csv", "report/1/report.html")
    run = bench.run(tenant_id="t2", report_path_prefix="report/1")

    with pytest.raises(RunNotFound):
        bench.results.outputs(run.id, tenant_id="t1", page_size=9)
    with pytest.raises(RunNotFound):
        bench.results.report(run.id, tenant_id="t1", page_size=9)


@pytest.mark.parametrize("status", list(PipelineRunStatus))
def test_a_run_of_any_status_shows_what_it_has_written_so_far(
    bench: Bench, status: PipelineRunStatus
) -> None:
    bench.wrote("out/1/part.csv")
    run = at(bench.store, bench.run(), status)

    assert bench.outputs(run) == ["part.csv"]


# -- pages ----------------------------------------------------------------------------------------


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)


@given(names=st.sets(NAMES, max_size=12), page_size=st.integers(1, 5))
def test_pages_hold_each_object_once_in_the_order_of_the_names(
    names: set[str], page_size: int
) -> None:
    bench = Bench()
    bench.wrote("elsewhere", *(f"out/1/{name}" for name in names))
    shown = sorted((name for name in names if not name.endswith("/")), key=str.encode)

    pages = list(bench.pages(bench.run(), page_size))

    assert [name for page in pages for name in page] == shown
    assert all(len(page) <= page_size for page in pages)


def test_objects_that_come_between_two_pages_repeat_and_hide_nothing(bench: Bench) -> None:
    bench.wrote("out/1/b", "out/1/d", "out/1/f")
    pages = bench.pages(bench.run(), 2)

    assert next(pages) == ["b", "d"]
    bench.wrote("out/1/a", "out/1/e")
    assert list(pages) == [["e", "f"]]


def test_a_place_in_one_runs_list_leads_nowhere_else_in_another(bench: Bench) -> None:
    bench.wrote("out/1/a", "out/1/c", "out/2/b", "out/2/d")
    bench.run()
    second = bench.run(output_path_prefix="out/2")

    for after in ("a", "../1/a", "out/1/a", "/"):
        assert set(bench.outputs(second, after=after)) <= {"b", "d"}


# -- what may not be looked into ------------------------------------------------------------------


def test_s7_a_prefix_that_is_no_longer_allowed_gives_no_links(bench: Bench) -> None:
    bench.wrote("out/1/a")
    bench.wrote("out/1/a", bucket="other")
    relative, other = bench.run(), bench.run(output_path_prefix="s3://other/out/1")
    bench.rules = StorageRules(bucket=BUCKET, allowed_buckets=frozenset({"other"}))
    assert bench.outputs(other) == ["a"]

    bench.rules = RULES
    with pytest.raises(StorageRefused, match=rf"of run {other.id} must not be in the bucket"):
        bench.outputs(other)

    bench.rules = TENANTS
    with pytest.raises(StorageRefused, match=rf"of run {relative.id} must begin with"):
        bench.outputs(relative)


def test_s7_links_stay_below_the_tenants_own_prefix(bench: Bench) -> None:
    bench.rules = TENANTS
    bench.wrote("tenants/t1/out/a", "tenants/t10/out/b")

    assert bench.outputs(bench.run(output_path_prefix="tenants/t1/out")) == ["a"]
    assert bench.outputs(bench.run(output_path_prefix="tenants/t1")) == ["out/a"]
    with pytest.raises(StorageRefused):
        bench.outputs(bench.run(output_path_prefix="tenants/t10/out"))


def test_what_the_storage_does_not_answer_is_told_and_not_taken_for_nothing(bench: Bench) -> None:
    run = bench.run()

    with pytest.raises(StorageRefused):
        bench.outputs(run)
    bench.wrote("out/1/a")
    bench.storage.forbidden.add(BUCKET)
    with pytest.raises(StorageRefused):
        bench.outputs(run)
    bench.storage.down = True
    with pytest.raises(StorageUnavailable):
        bench.outputs(run)


def test_p27_a_folder_that_is_an_object_itself_ends_no_walk_and_none_is_endless() -> None:
    """S3's console makes one: a key that ends in the slash of the prefix."""
    bench = Bench()
    run = bench.run()
    bench.wrote("out/1/", "out/1/a", "out/1/b")
    seen: list[str] = []
    after: str | None = None
    for _ in range(9):
        page = bench.results.outputs(run.id, tenant_id="t1", page_size=1, after=after)
        seen += [one.name for one in page.objects]
        after = page.next_after
        if after is None:
            break
    assert seen == ["a", "b"]
