"""Every error has a status on every front end, chosen on purpose."""

import pytest

from runtime.errors import TruecopyError
from runtime.server import errors
from runtime.server.grpc import app as grpc_front
from runtime.server.http import app as http_front


def all_errors(kind=TruecopyError):
    found = {kind}
    for child in kind.__subclasses__():
        if child.__module__.startswith("runtime."):
            found |= all_errors(child)
    return found


@pytest.mark.parametrize("front", [http_front, grpc_front])
def test_the_table_is_total(front):
    """LateError's and QueueFullError's kinds may share their base's status; every other class is listed itself."""
    by_base = {errors.DeadlineError, errors.QueueFullError}

    assert len(all_errors()) > 12
    assert all_errors() - set(front.STATUSES) == by_base
    for kind in all_errors():
        error = kind("reason", retry_after_s=1) if kind is errors.QueueFullError else kind("reason")
        assert front.status_of(error) is not None


def test_only_faults_of_ours_are_500():
    blamed = {kind.__name__ for kind, status in http_front.STATUSES.items() if status == 500}

    assert blamed == {"ModelError", "ArtifactError", "DeviceError", "TruecopyError"}
