"""Writes the lock files from pyproject.toml: `make lock`."""

from __future__ import annotations

import subprocess
import sys

from infra.local.environments import CACHE, ENVIRONMENTS, LOCKS, ROOT

RUNTIME = ROOT / "functions" / "requirements.txt"
# uv locks itself too: it is what the first environment is made with.
UV_VERSION = "0.13.9"


def compile_lock(output: str, *arguments: str, stdin: str | None = None) -> None:
    """One lock for all platforms and Pythons, with hashes and without index addresses."""
    print(output, flush=True)
    uv = str(ENVIRONMENTS / "uv" / "bin" / "uv")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
    command += ["--cache-dir", str(CACHE / "uv"), "-o", output, *sys.argv[1:], *arguments]
    subprocess.run(command, cwd=ROOT, check=True, input=stdin, text=True)


def main() -> None:
    """Writes every lock."""
    compile_lock("locks/uv.txt", "-", stdin=f"uv=={UV_VERSION}\n")
    runtime = str(RUNTIME.relative_to(ROOT))
    compile_lock(runtime, "pyproject.toml")
    for group in ("functions", "dev"):
        compile_lock(f"locks/{group}.txt", "pyproject.toml", "--group", group, "-c", runtime)
    for group in ("stack", "workbench"):
        compile_lock(f"locks/{group}.txt", "--group", group, "-c", runtime)
    for group in ("audit", "localstack", "sam"):
        compile_lock(f"locks/{group}.txt", "--group", group)
    print(f"Locks below {LOCKS.name}/ and {runtime} are up to date.")


if __name__ == "__main__":
    main()
