"""The compiled descriptor of the gRPC service is that of its .proto."""

import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from runtime.server.grpc.messages import POOL, SERVICE, message_class, read_descriptor_set

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"


@pytest.mark.skipif(
    not PYTHON.exists(), reason="the .proto was not compiled: run 'scripts/setup clients' for a compiler"
)
def test_the_descriptor_is_compiled_from_the_proto(tmp_path):
    command = [str(ROOT / "scripts" / "make-descriptor"), str(tmp_path / "compiled.binpb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    compiled = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "compiled.binpb").read_bytes())
    assert read_descriptor_set() == compiled


def test_every_message_of_a_method_is_in_the_pool():
    methods = {method.name: (method.input_type.name, method.output_type.name) for method in SERVICE.methods}

    assert methods.pop("ModelStreamInfer") == ("ModelInferRequest", "ModelStreamInferResponse")
    assert len(methods) == 9
    for name, messages in methods.items():
        assert messages == (f"{name}Request", f"{name}Response")
        for message in messages:
            assert message_class(message).DESCRIPTOR.full_name == f"inference.{message}"


def test_other_peoples_stubs_can_register_the_same_names():
    """In protobuf's default pool, which ours is not, a second file with these names would be refused."""
    assert POOL is not descriptor_pool.Default()
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
