"""Dependencies do nothing by themselves: no file of theirs, no connection, no look-up of a name."""

import os
import shutil
import subprocess
import sys

import pytest


def run(code: str, home, *prefix: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with an empty home, and the variables that the tests' own process has set removed."""
    plain = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name and "XDG" not in name}
    command = [*prefix, sys.executable, "-c", code]
    environment = {**plain, "HOME": str(home), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)


def predict(package: str, tiny, photos) -> str:
    return f"""
import os, {package}
print({package}.load({str(tiny)!r}).predict({str(photos["cat"])!r}).label)
paths = ["/proc/self/fd/" + fd for fd in os.listdir("/proc/self/fd")]
print([path for path in paths if os.path.islink(path) and os.readlink(path).startswith("socket:")])
"""


@pytest.mark.parametrize("package", ["runtime", "truecopy"])
def test_a_prediction_writes_no_file_and_opens_no_socket(tiny, photos, tmp_path, package):
    done = run(predict(package, tiny, photos), tmp_path)

    assert done.stdout.splitlines() == ["cat", "[]"]
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_written_is_not_complained_about(tiny, photos):
    assert run(predict("runtime", tiny, photos), "/dev/null").stderr == ""


def test_a_variable_that_the_user_set_stays(tmp_path):
    code = "import os, runtime; print(os.environ['ORT_DISABLE_TELEMETRY'])"

    assert run(code, tmp_path, ORT_DISABLE_TELEMETRY="0").stdout == "0\n"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_name_is_looked_up(tiny, photos, tmp_path):
    log = tmp_path / "calls"
    probe = subprocess.run([shutil.which("strace"), "-o", log, "/bin/true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    run(
        predict("runtime", tiny, photos) + "import time; time.sleep(2)",
        tmp_path,
        *("strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(log)),
    )

    assert "AF_INET" not in log.read_text()
