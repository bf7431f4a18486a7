"""Generate the Python stubs and the descriptor images from the protos, or check that the committed ones are fresh.

    python protos/generate.py             write protos/gen, protos/image.binpb and the one that Envoy reads
    python protos/generate.py --check     change nothing; exit 1 if they differ, or if buf lint or breaking complains
    python protos/generate.py --baseline  make the present protos what buf breaking compares with (at a release)

Runs in a venv of its own, `.venv-protos`, made at the first run from protos/requirements.txt.

The protos carry protovalidate rules. Stubs that import `buf.validate` would need another project's module in our users'
site-packages, so the import is taken out of the descriptors before stubs are made, while the rules stay in the options
as fields the plain runtime does not know. protovalidate reads the serialized descriptors and finds them there.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
VENV = PROTOS.parent / ".venv-protos"
IMAGE = PROTOS / "image.binpb"
BASELINE = PROTOS / "baseline.binpb"
ENVOY_IMAGE = PROTOS.parent / "helm/sluicegate/files/envoy/descriptors.binpb"
SOURCES = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.glob("sluicegate/v*/*.proto"))
DETAILS = "google/rpc/error_details.proto"
"""What no proto of ours imports, and every refusal carries."""


def enter_venv() -> None:
    """Run this script again inside its venv, made first if it is missing or its requirements changed."""
    if Path(sys.prefix) == VENV:
        return
    requirements = (PROTOS / "requirements.txt").read_text()
    stamp = VENV / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        pip = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", PROTOS / "requirements.txt"], check=True)
        stamp.write_text(requirements)
    python = str(VENV / "bin/python")
    os.execv(python, [python, *sys.argv])


def protoc(*arguments: str) -> None:
    plugins = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, cwd=PROTOS, env=plugins)


def write_image(image: Path) -> None:
    """One descriptor set of our protos, the details of refusals, and all they import, for buf and grpcurl -protoset."""
    import grpc_tools
    from google.rpc import error_details_pb2

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    googleapis = Path(error_details_pb2.__file__).parents[2]
    protoc(
        f"-I{PROTOS}",
        f"-I{well_known}",
        f"-I{googleapis}",
        "--descriptor_set_in=third_party/validate.binpb",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={image}",
        *SOURCES,
        DETAILS,
    )


def write_envoy_image(image: Path, out: Path) -> None:
    """The same without comments, for Envoy's transcoder: a ConfigMap has to hold it."""
    from google.protobuf import descriptor_pb2

    bare = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    for file in bare.file:
        file.ClearField("source_code_info")
    out.write_bytes(bare.SerializeToString())


def write_stubs(image: Path, out: Path) -> None:
    """Stubs of our protos from the image, less the import of buf.validate."""
    from google.protobuf import descriptor_pb2

    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    kept = [file for file in files if not file.name.startswith("buf/")]
    for file in kept:
        imports = [name for name in file.dependency if not name.startswith("buf/")]
        del file.dependency[:]
        file.dependency.extend(imports)
    stripped = out / "stripped.binpb"
    stripped.write_bytes(descriptor_pb2.FileDescriptorSet(file=kept).SerializeToString())
    protoc(
        f"--descriptor_set_in={stripped}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        *SOURCES,
    )
    stripped.unlink()
    package = out / "sluicegate/v1"
    for stub in package.glob("*_pb2_grpc.py"):
        if "class " not in stub.read_text():  # a file without a service
            stub.unlink()
            stub.with_suffix(".pyi").unlink()
    (package / "__init__.py").write_text('"""Generated stubs of package sluicegate.v1."""\n')
    (package / "py.typed").touch()


def buf(*arguments: str) -> bool:
    return subprocess.run([VENV / "bin/buf", *arguments], check=False, cwd=PROTOS).returncode == 0


def same_files(left: Path, right: Path) -> list[str]:
    """Names that differ between two trees, or exist in one only."""
    names = {path.relative_to(root) for root in (left, right) for path in root.rglob("*") if path.is_file()}
    names = {name for name in names if "__pycache__" not in name.parts}
    return sorted(
        str(name)
        for name in names
        if not ((left / name).is_file() and (right / name).is_file() and filecmp.cmp(left / name, right / name, False))
    )


def check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        write_image(fresh / "image.binpb")
        (fresh / "gen").mkdir()
        write_stubs(fresh / "image.binpb", fresh / "gen")
        stale = same_files(fresh / "gen", PROTOS / "gen")
        write_envoy_image(fresh / "image.binpb", fresh / "envoy.binpb")
        for made, committed in (("image.binpb", IMAGE), ("envoy.binpb", ENVOY_IMAGE)):
            if (fresh / made).read_bytes() != committed.read_bytes():
                stale.append(committed.name)
        linted = buf("lint", str(fresh / "image.binpb"))
        compatible = buf("breaking", str(fresh / "image.binpb"), "--against", str(BASELINE))
    for name in stale:
        print(f"protos: {name} is not what the protos generate; run: make protos", file=sys.stderr)
    return 0 if linted and compatible and not stale else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, report what is stale")
    parser.add_argument("--baseline", action="store_true", help="make the present protos the baseline of buf breaking")
    arguments = parser.parse_args()
    enter_venv()
    if arguments.check:
        return check()
    write_image(IMAGE)
    if arguments.baseline:
        BASELINE.write_bytes(IMAGE.read_bytes())
    gen = PROTOS / "gen"
    gen.mkdir(exist_ok=True)
    write_stubs(IMAGE, gen)
    write_envoy_image(IMAGE, ENVOY_IMAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
