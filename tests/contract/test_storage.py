"""The user's storage: what the port promises, in memory, on rclone and on moto; then its links."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import boto3
import httpx
import pytest
from botocore.config import Config
from moto import mock_aws

from memory_storage import MemoryStorage
from real_parts import free_port
from reference_workbench import BUCKET, KEY_ID, SECRET, UserStorage, serve_user_storage, wait_until
from runs.adapters.storage import S3Storage
from runs.errors import StorageRefused, StorageUnavailable
from runs.prefixes import Location
from runs.wiring import Wiring
from wired import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from runs.ports import Storage, StoredObject, StoredPage

MANY: Final = 2_500
OTHER_KEY: Final = "other-key"
ODD_NAMES: Final = (
    "a b",
    " leading and trailing ",
    "täglich/\N{CJK UNIFIED IDEOGRAPH-4E2D}\N{GRINNING FACE}.csv",
    "e\N{COMBINING ACUTE ACCENT}",
    "100%",
    "a%2fb",
    "%41",
    'it\'s "quoted"',
    "a+b",
    "a&b=c;d",
    "a#b?c=d",
    "<x>",
    "~(1)!*",
    "$x{y}@:,",
    "back\\slash",
)


def client(endpoint_url: str | None, *, secret: str = SECRET) -> S3Client:
    """As `runs.wiring` makes it."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=secret,
        region_name="eu-central-1",
        config=Config(
            connect_timeout=2,
            read_timeout=4,
            retries={"mode": "standard", "total_max_attempts": 2},
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint_url else "virtual"},
        ),
    )


def putting(s3: S3Client) -> Callable[[str, bytes], object]:
    return lambda key, content: s3.put_object(Bucket=BUCKET, Key=key, Body=content)


@dataclass(frozen=True)
class Bench:
    """A storage, how a user puts objects into it, and a folder for the test alone."""

    storage: Storage
    put: Callable[[str, bytes], object]
    folder: str

    def wrote(self, *names: str) -> None:
        for name in names:
            self.put(self.folder + name, name.encode())

    def page(
        self, *, page_size: int = 100, after: str = "", inline: bool = False, below: str = ""
    ) -> tuple[list[StoredObject], str | None]:
        place = Location(BUCKET, self.folder + below)
        found = self.storage.objects(place, page_size=page_size, after=after, inline=inline)
        return list(found.objects), found.next_after

    def pages(self, page_size: int, below: str = "") -> Iterator[list[StoredObject]]:
        after: str | None = ""
        while after is not None:
            begin = after
            objects, after = self.page(page_size=page_size, after=begin, below=below)
            assert after is None or after > begin  # Else it has no end.
            yield objects

    def names(self, page_size: int = 100, below: str = "") -> list[str]:
        return [found.name for page in self.pages(page_size, below) for found in page]


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserStorage]:
    """With one large folder in it."""
    folder = tmp_path_factory.mktemp("storage")
    many = folder / "storage" / BUCKET / "many"
    many.mkdir(parents=True)
    for number in range(MANY):
        (many / f"part-{number:05}.csv").write_bytes(b"x")
    with serve_user_storage(folder) as served:
        yield served


@pytest.fixture(scope="module")
def s3(rclone: UserStorage) -> S3Client:
    return client(rclone.endpoint_url)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12] + "/"


@pytest.fixture
def real(s3: S3Client, folder: str) -> Bench:
    return Bench(S3Storage(lambda: s3), putting(s3), folder)


@pytest.fixture
def moto(folder: str) -> Iterator[Bench]:
    with mock_aws():
        s3 = client(None)
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        yield Bench(S3Storage(lambda: s3), putting(s3), folder)


@pytest.fixture
def memory(folder: str) -> Bench:
    storage = MemoryStorage(buckets={BUCKET: {}})
    return Bench(storage, lambda key, content: storage.put(BUCKET, key, content), folder)


@pytest.fixture(params=["memory", "moto", "real"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


# -- what the port promises -----------------------------------------------------------------------


def test_a_folder_holds_what_is_below_it_and_nothing_beside_it(bench: Bench) -> None:
    bench.wrote("out/b", "out/a/deep/c", "out2/x", "out.txt", "out-1/x", "ou/x")

    assert bench.names(below="out/") == ["a/deep/c", "b"]


def test_objects_come_in_the_order_of_their_keys_whatever_the_page(bench: Bench) -> None:
    names = ["b", "a/c", "a-c", "a.c", "a", "B", "Z/1", "é", "\N{GRINNING FACE}", "\ufffd", "10"]
    names.remove("a")  # On a file system it can't be both a folder and a file.
    bench.wrote(*names)

    ordered = sorted(names, key=str.encode)
    for page_size in (1, 2, 3, len(names), len(names) + 1):
        assert bench.names(page_size) == ordered


def test_a_page_tells_where_the_next_begins_only_if_there_is_more(bench: Bench) -> None:
    bench.wrote("a", "b", "c")

    first, after = bench.page(page_size=2)
    assert [found.name for found in first] == ["a", "b"]
    assert after == bench.folder + "b"
    rest, end = bench.page(page_size=2, after=after)
    assert ([found.name for found in rest], end) == (["c"], None)
    assert bench.page(page_size=3)[1] is None


def test_a_page_begins_after_a_key_that_is_not_there_or_no_longer(bench: Bench) -> None:
    bench.wrote("a", "c")

    objects, _ = bench.page(after=bench.folder + "b")
    assert [found.name for found in objects] == ["c"]


def test_a_key_beside_the_folder_makes_no_page_show_more(bench: Bench) -> None:
    bench.wrote("in/x", "out/a", "out/b", "zoo/x")

    first, _ = bench.page(below="out/", after=bench.folder + "in/x")
    assert [found.name for found in first] == ["a", "b"]
    assert bench.page(below="out/", after=bench.folder + "zoo/") == ([], None)


def test_an_empty_folder_is_an_empty_last_page(bench: Bench) -> None:
    bench.wrote("elsewhere/a")

    assert bench.page(below="empty/") == ([], None)


def test_an_object_tells_its_key_and_size(bench: Bench) -> None:
    bench.put(f"{bench.folder}sub/a.csv", b"12345")

    ((found,), _) = bench.page()
    assert (found.bucket, found.key) == (BUCKET, f"{bench.folder}sub/a.csv")
    assert (found.name, found.size_bytes) == ("sub/a.csv", 5)
    assert found.modified_at.tzinfo is not None


@pytest.mark.parametrize("kind", ["memory", "moto"])
def test_what_stands_for_a_folder_itself_is_not_shown(
    kind: str, request: pytest.FixtureRequest
) -> None:
    bench: Bench = request.getfixturevalue(kind)
    bench.wrote("", "a/", "a/1", "b/")

    assert bench.names() == ["a/1"]
    assert bench.page(page_size=2) == ([], f"{bench.folder}a/")
    assert bench.names(1) == ["a/1"]


def test_a_bucket_that_is_not_there_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(StorageRefused, match="There is no bucket 'no-bucket'"):
        bench.storage.objects(Location("no-bucket", "a/"), page_size=1, after="", inline=False)


# -- on a real storage ----------------------------------------------------------------------------


def test_a_folder_of_2500_objects_is_paged_through_without_gap_or_repeat(real: Bench) -> None:
    many = Bench(real.storage, real.put, "many/")

    pages = list(many.pages(1_000))

    assert [len(page) for page in pages] == [1_000, 1_000, 500]
    found = [entry.name for page in pages for entry in page]
    assert found == [f"part-{number:05}.csv" for number in range(MANY)]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_link_gives_the_object_whatever_its_name(real: Bench, name: str) -> None:
    real.wrote(name, "~~~")

    (found, other), _ = real.page()
    assert found.name == name
    answer = httpx.get(found.url)
    assert (answer.status_code, answer.content) == (200, name.encode())
    file_name = quote(name.rpartition("/")[2], safe="")
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{file_name}"
    rest, _ = real.page(after=found.key)
    assert [one.key for one in rest] == [other.key]


def test_browsers_save_a_result_and_show_a_report(s3: S3Client, real: Bench) -> None:
    key = f"{real.folder}report.html"
    html = "text/html; charset=utf-8"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"<p>", ContentType=html)

    for inline, disposition in ((False, "attachment"), (True, "inline")):
        ((found,), _) = real.page(inline=inline)
        answer = httpx.get(found.url)
        assert answer.content == b"<p>"
        assert answer.headers["content-disposition"].split(";")[0] == disposition
        assert answer.headers["content-type"].startswith("text/html")


def test_a_link_is_good_for_15_minutes_and_for_reading_alone(real: Bench) -> None:
    real.wrote("a")
    ((found,), _) = real.page()

    signed = parse_qs(urlsplit(found.url).query)
    assert signed["X-Amz-Expires"] == ["900"]
    assert signed["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert SECRET not in found.url
    assert httpx.put(found.url, content=b"other").status_code == 403
    assert httpx.delete(found.url).status_code == 403
    assert httpx.get(found.url).content == b"a"


def test_links_are_signed_without_asking_the_storage(rclone: UserStorage, real: Bench) -> None:
    real.wrote("a", "b", "c")
    counted = client(rclone.endpoint_url)
    asked_for: list[str] = []
    counted.meta.events.register("before-send", lambda request, **_: asked_for.append(request.url))

    objects, _ = Bench(S3Storage(lambda: counted), real.put, real.folder).page()

    assert len(objects) == 3
    assert len(asked_for) == 1


def test_on_aws_a_link_leads_to_the_buckets_own_region(moto: Bench) -> None:
    moto.wrote("a")

    ((found,), _) = moto.page()

    assert urlsplit(found.url).netloc == f"{BUCKET}.s3.eu-central-1.amazonaws.com"


def test_a_link_that_was_changed_is_refused(real: Bench) -> None:
    real.wrote("a", "b")
    (first, second), _ = real.page()

    path = urlsplit(first.url).path
    forged = (
        first.url.replace(path, urlsplit(second.url).path),
        first.url.replace("attachment", "inline"),
        first.url.replace("X-Amz-Expires=900", "X-Amz-Expires=90000"),
        re.sub(r"(X-Amz-Signature=)(.)", lambda at: at[1] + "01"[at[2] == "0"], first.url),
        re.sub(r"&X-Amz-Signature=\w+", "", first.url),
        first.url.partition("?")[0],
    )
    assert len({first.url, *forged}) == 7
    for url in forged:
        answer = httpx.get(url)
        assert answer.status_code >= 400
        assert answer.content != b"b"


def test_a_link_that_has_expired_is_refused(s3: S3Client, real: Bench) -> None:
    real.wrote("a")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": f"{real.folder}a"}, ExpiresIn=1
    )

    wait_until(lambda: httpx.get(url).status_code >= 400, "the link expires", within_seconds=20)


def test_a_wrong_key_is_refused_and_never_shown(
    rclone: UserStorage, caplog: pytest.LogCaptureFixture
) -> None:
    s3 = client(rclone.endpoint_url, secret=OTHER_KEY)

    with pytest.raises(StorageRefused, match="doesn't let this service into the bucket") as error:
        asked(S3Storage(lambda: s3))
    assert OTHER_KEY not in str(error.value) + caplog.text


class RotatingWiring(Wiring):
    """As on AWS, where Secrets Manager keeps the storage's keys."""

    def __init__(self, endpoint_url: str, *secrets: str) -> None:
        there = {
            "STORAGE_ENDPOINT_URL": endpoint_url,
            "STORAGE_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:000000000000:secret:s",
        }
        super().__init__({**ENVIRONMENT, **there})
        self.secrets = list(secrets)
        self.readings = 0
        self.now = 0.0

    def aws(self, service: str) -> Any:
        assert service == "secretsmanager"
        return self

    def get_secret_value(self, **_: str) -> dict[str, str]:
        self.readings += 1
        secret = self.secrets.pop(0) if self.secrets[1:] else self.secrets[0]
        return {"SecretString": json.dumps({"access_key_id": KEY_ID, "secret_access_key": secret})}

    def clock(self) -> float:
        """Each look at it is a minute later: nobody reads a refused secret within one."""
        self.now += 60
        return self.now


def test_s15_keys_that_are_refused_are_read_anew(
    rclone: UserStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    wiring = RotatingWiring(rclone.endpoint_url, OTHER_KEY, SECRET)
    assert asked(wiring.storage).next_after is None
    assert wiring.readings == 2


def test_s15_keys_that_are_refused_for_good_are_read_once_more_and_told(
    rclone: UserStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    wiring = RotatingWiring(rclone.endpoint_url, OTHER_KEY)
    with pytest.raises(StorageRefused, match="doesn't let this service into the bucket"):
        asked(wiring.storage)
    assert wiring.readings == 2


# -- trouble --------------------------------------------------------------------------------------


def asked(storage: Storage) -> StoredPage:
    return storage.objects(Location(BUCKET, "a/"), page_size=1, after="", inline=False)


def test_a_storage_that_is_not_there_is_unavailable() -> None:
    s3 = client(f"http://127.0.0.1:{free_port()}")

    with pytest.raises(StorageUnavailable, match="can't be reached at the moment"):
        asked(S3Storage(lambda: s3))


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


def listed(entry: str) -> str:
    """An answer that tells of more."""
    contents = f"<Contents>{entry}</Contents>" if entry else ""
    more = "<IsTruncated>true</IsTruncated>"
    return f"<ListBucketResult>{more}{contents}</ListBucketResult>"


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], Storage]]:
    """Makes storages that answer whatever they are asked alike."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def serve(answer: Answer) -> Storage:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body.encode())

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        s3 = client(f"http://127.0.0.1:{server.server_port}")
        return S3Storage(lambda: s3)

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def told(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>"


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (Answer(503, told("SlowDown")), StorageUnavailable, r"trouble of its own \(SlowDown\)"),
        (Answer(500, told("InternalError")), StorageUnavailable, "trouble of its own"),
        (Answer(502, "<html>"), StorageUnavailable, "trouble of its own"),
        (Answer(429, told("TooMany")), StorageUnavailable, "trouble of its own"),
        (Answer(200, "<html>hello"), StorageUnavailable, "trouble of its own"),
        (Answer(200, "<html>hello</html>"), StorageUnavailable, "gave no valid list"),
        (Answer(200, listed("<Key>a/b</Key>")), StorageUnavailable, "gave no valid list"),
        (Answer(200, listed("<Size>big</Size>")), StorageUnavailable, "gave no valid list"),
        (Answer(403, told("AccessDenied")), StorageRefused, "doesn't let this service into"),
        (Answer(401, told("Unauthorized")), StorageRefused, "doesn't let this service into"),
        (Answer(404, told("NoSuchBucket")), StorageRefused, "There is no bucket 'user-data'"),
        (Answer(400, told("BadRegion")), StorageRefused, r"refuses the request .*\(BadRegion\)"),
    ],
)
def test_every_failure_is_told_in_the_domains_words(
    answering: Callable[[Answer], Storage], answer: Answer, kind: type[Exception], text: str
) -> None:
    storage = answering(answer)

    with pytest.raises(kind, match=text):
        asked(storage)


def test_a_list_that_tells_of_more_and_holds_nothing_has_ended(
    answering: Callable[[Answer], Storage],
) -> None:
    page = asked(answering(Answer(200, listed(""))))

    assert (page.objects, page.next_after) == ([], None)
