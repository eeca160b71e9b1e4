"""The checked-in protobuf modules are what their .proto files generate."""

import subprocess
import sys
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "agent"
PROTO = "edgewise_agent/volumes/proto"


@pytest.mark.parametrize("name", ["csi", "registration"])
def test_generated_modules_are_up_to_date(tmp_path: Path, name: str) -> None:
    arguments = [f"--proto_path={AGENT}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"{PROTO}/{name}.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, timeout=60)
    for generated in (f"{name}_pb2.py", f"{name}_pb2.pyi"):
        assert (AGENT / PROTO / generated).read_text() == (tmp_path / PROTO / generated).read_text(), (
            f"{generated} is stale: {AGENT / PROTO}/README.md says how to regenerate"
        )
