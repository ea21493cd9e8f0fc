"""`make fuzz`: see the package's text."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx
import jwt

from fuzz.passes import Knowledge, Pass
from fuzz.record import Record
from infra.local.issuer import ALGORITHM, SCOPES, issuer_of
from local_stack import fresh_local_stack
from scripted_workbench import ScriptedWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.issuer import LocalIssuer

TENANTS: Final = ("fuzz-a", "fuzz-b")
STRANGER: Final = "fuzz-c"
AN_HOUR_SECONDS: Final = 3_600
POSITIVE: Final = ("--mode", "positive")


def main() -> int:
    """Fuzzes a stack of its own.

    Returns:
        The exit code: 0 if nothing was found.
    """
    arguments = _arguments()
    say(f"seed {arguments.seed}: {arguments.minutes} minutes")
    with ScriptedWorkbench() as workbench, fresh_local_stack("fuzz") as local:
        stack = local.up(WORKBENCH_API_URL=workbench.url)
        fuzz = Fuzz(stack.api_url, issuer_of(local.layout))
        folder = local.layout.state / "fuzz"
        everything, found = Record(), []
        for number, one in enumerate(fuzz.passes()):
            seconds = round(one.share * 60 * arguments.minutes)
            say(f"pass {one.name}: {seconds} s")
            place = folder / one.name.replace(" ", "-")
            is_clean = one.run(
                place, url=stack.api_url, seed=arguments.seed + number, seconds=seconds
            )
            own = Record()
            for record in (own, everything):
                record.add(place / "calls.ndjson")
            say(f"pass {one.name}: {'clean' if is_clean else 'FAILED'}; {own.line()}")
            if not is_clean:
                found.append(one.name)
    _tell(everything, fuzz.document, found, arguments.seed)
    return 1 if found else 0


class Fuzz:
    """The passes over one stack.

    Args:
        url: the API's.
        issuer: of the stack.
    """

    def __init__(self, url: str, issuer: LocalIssuer) -> None:
        self.url = url
        self.issuer = issuer
        self.document: dict[str, Any] = self._get("/openapi.json", token="")

    def passes(self) -> Iterator[Pass]:
        """Each is made when its turn comes: the stranger's needs what the others left."""
        first, second = TENANTS
        tokens = {tenant: self.issuer.token(tenant=tenant) for tenant in TENANTS}
        yield Pass(name=f"signed in as {first}", share=0.45, signed_in=tokens)
        swapped = {second: tokens[second], first: tokens[first]}
        yield Pass(name=f"signed in as {second}", share=0.25, signed_in=swapped)
        locked = [name for name, told in self._operations() if "security" in told]
        yield Pass(
            name="without a token",
            share=0.05,
            operations=locked,
            knowledge=Knowledge(expected_status=401),
        )
        yield Pass(
            name="with an expired token",
            share=0.05,
            token=self._expired(first),
            operations=locked,
            knowledge=Knowledge(expected_status=401),
        )
        yield Pass(
            name="with too few scopes",
            share=0.05,
            operations=locked,
            knowledge=Knowledge(expected_status=403, tokens_without=self._tokens_without(first)),
        )
        by_id = [name for name, told in self._operations() if _takes_an_id(told)]
        yield Pass(
            name="as a stranger",
            share=0.15,
            token=self.issuer.token(tenant=STRANGER),
            operations=[*by_id, "create_pipeline_run"],
            knowledge=Knowledge(
                expected_status=404,
                foreign_ids={
                    "pipeline_id": self._ids("/pipeline", tokens[first]),
                    "pipeline_run_id": self._ids("/pipeline-run", tokens[first]),
                },
            ),
            options=POSITIVE,
        )

    def _operations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for methods in self.document["paths"].values():
            for told in methods.values():
                yield told["operationId"], told

    def _ids(self, path: str, token: str) -> list[int]:
        """Of a tenant's newest."""
        page = self._get(f"{path}?page_size=20", token=token)
        ids = [item["id"] for item in page["items"]]
        assert ids, f"nothing was made at {path}"
        return ids

    def _get(self, path: str, *, token: str) -> Any:
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        answer = httpx.get(f"{self.url}{path}", headers=shown, timeout=60, trust_env=False)
        return answer.raise_for_status().json()

    def _tokens_without(self, tenant: str) -> dict[str, str]:
        """By a scope a token with all others, but not with the one that stands for all."""
        scopes = [scope for scope in SCOPES if scope != "admin"]
        return {
            missing: self.issuer.token(
                tenant=tenant, scopes=[scope for scope in scopes if scope != missing]
            )
            for missing in scopes
        }

    def _expired(self, tenant: str) -> str:
        """A good token, but for its time."""
        token = self.issuer.token(tenant=tenant)
        claims = jwt.decode(token, options={"verify_signature": False})
        now = int(time.time())
        claims |= {"iat": now - 2 * AN_HOUR_SECONDS, "exp": now - AN_HOUR_SECONDS}
        return jwt.encode(
            claims, self.issuer.private_key, ALGORITHM, headers={"kid": self.issuer.kid}
        )


def _takes_an_id(told: dict[str, Any]) -> bool:
    return any(one["in"] == "path" and one["name"].endswith("_id") for one in told["parameters"])


def _tell(record: Record, document: dict[str, Any], found: list[str], seed: int) -> None:
    """The figures of all."""
    say(record.line())
    for path, methods in document["paths"].items():
        if path == "/openapi.json":
            continue  # Schemathesis reads it for every pass, and doesn't test it.
        for method in methods:
            name = f"{method.upper()} {path}"
            say(f"  {record.by_operation[name]:6d} {name}")
    say(f"seed {seed}: " + (f"FOUND something {', '.join(found)}" if found else "found nothing"))


def say(text: str) -> None:
    """A line, with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)  # noqa: T201 - a program for the console


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
