"""`make audit`: doubtful code (bandit), known holes of the locked dependencies (pip-audit), and an SBOM in CycloneDX.

In: the repository. Out: one JSON line per part on standard output, and build/sbom.cdx.json; exit status 1 when
something was found. Invariant: a part that could not be done is reported as "not done" with the tool's own words, never
as passed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
CODE = ("workers", "model", "streams", "storage")
LIMIT_S = 300


def main() -> int:
    """All parts, whatever the others say."""
    BUILD.mkdir(exist_ok=True)
    reports = [doubtful_code(), known_holes(), sbom()]
    for report in reports:
        print(json.dumps(report))
    return 1 if any(report["state"] == "found" for report in reports) else 0


def doubtful_code() -> dict[str, Any]:
    """What is not reported, and why, stands in pyproject.toml, `[tool.bandit]`."""
    done = _run("bandit", "-q", "-r", *CODE, "-c", "pyproject.toml", "-f", "json")
    try:
        results = json.loads(done.stdout)
    except ValueError:
        return _not_done("bandit", done)
    found = [
        "%s:%d %s %s" % (r["filename"], r["line_number"], r["test_id"], r["issue_text"])
        for r in results["results"]
    ]
    lines = results["metrics"]["_totals"]["loc"]
    return {"part": "bandit", "state": _state(found), "lines": lines, "found": found}


def known_holes() -> dict[str, Any]:
    """Asks OSV, not a package registry."""
    options = [
        "--require-hashes",
        "--disable-pip",
        "--vulnerability-service",
        "osv",
        "--progress-spinner",
        "off",
    ]
    done = _run("pip_audit", "-r", "requirements.lock", *options, "-f", "json")
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return _not_done("pip-audit", done)
    found = [
        "%s %s %s" % (d["name"], d["version"], v["id"]) for d in dependencies for v in d.get("vulns", [])
    ]
    return {"part": "pip-audit", "state": _state(found), "packages": len(dependencies), "found": found}


def sbom() -> dict[str, Any]:
    """From the lock file: the versions that are installed, with their hashes."""
    target = BUILD / "sbom.cdx.json"
    target.unlink(missing_ok=True)
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "-o", str(target)]
    done = _run("cyclonedx_py", "requirements", "requirements.lock", *options)
    if done.returncode or not target.exists():
        return _not_done("sbom", done)
    components = json.loads(target.read_text())["components"]
    return {
        "part": "sbom",
        "state": "ok",
        "file": str(target.relative_to(ROOT)),
        "components": len(components),
    }


def _state(found: list[str]) -> str:
    return "found" if found else "ok"


def _not_done(part: str, done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    said = (done.stderr.strip() or done.stdout.strip() or "status %d" % done.returncode).splitlines()
    return {"part": part, "state": "not done", "because": said[-1][:500]}


def _run(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "no answer within %d s" % LIMIT_S)


if __name__ == "__main__":
    raise SystemExit(main())
