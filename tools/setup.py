"""Make the environment `.venv`, or leave it alone when it is up to date.

    python3 tools/setup.py

Needs Python 3.11 or later with venv, and nothing else: standard library only, no root. Which packages come in is said
by pyproject.toml, which versions by constraints.txt. A stamp in `.venv` holds a digest of both, of the interpreter and
of the place, so a second run costs milliseconds, and a checkout that was moved gets a new environment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "sluicegate-setup"
EXTRAS = "server,evaluation,tracing,dev"
OLDEST = (3, 11)


def main() -> int:
    """Bring `.venv` up to date. Returns the process's exit status."""
    if problem := unusable():
        print(f"setup: {problem}", file=sys.stderr)
        return 1
    wanted = stamp()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return 0
    print("setup: installing into .venv; the first time takes some minutes", file=sys.stderr)
    STAMP.unlink(missing_ok=True)
    try:
        install()
    except subprocess.CalledProcessError as error:
        print(f"setup: failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    STAMP.write_text(wanted)
    return 0


def unusable() -> str | None:
    """Why this interpreter cannot make the environment, and what to do; None if it can."""
    if sys.version_info < OLDEST:
        return f"Python 3.11 or later is needed, this is {sys.version.split()[0]}; try: make PYTHON=python3.11 setup"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return "this Python comes without venv; on Debian and Ubuntu: apt install python3-venv"
    return None


def stamp() -> str:
    """What `.venv` depends on, as a digest."""
    digest = hashlib.sha256()
    for part in (sys.version, str(ROOT), *(read(name) for name in ("pyproject.toml", "constraints.txt"))):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def install() -> None:
    """Install into `.venv`, made anew unless it is a working one of this interpreter. Raises CalledProcessError."""
    python = VENV / "bin/python"
    if not belongs_here(python):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "-c", "constraints.txt", "-e", f".[{EXTRAS}]"], check=True, cwd=ROOT)


def belongs_here(python: Path) -> bool:
    """Whether `.venv` exists, was made in this place, and by the interpreter that runs now."""
    question = "import sys; print(sys.version, sys.prefix)"
    try:
        answer = subprocess.run([python, "-c", question], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    scripts = VENV / "bin/pip"  # its first line has the path that the environment was made at
    return answer.strip() == f"{sys.version} {VENV}" and scripts.exists() and str(VENV) in scripts.read_text()


if __name__ == "__main__":
    sys.exit(main())
