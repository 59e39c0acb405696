"""Every error has a status on every front end, chosen on purpose."""

import pytest

from runtime.errors import TruecopyError
from runtime.server import errors
from runtime.server.grpc.statuses import STATUSES as GRPC_STATUSES
from runtime.server.http.statuses import STATUSES as HTTP_STATUSES


def all_errors(kind=TruecopyError):
    kinds = {kind}
    for child in kind.__subclasses__():
        if child.__module__.startswith("runtime."):
            kinds |= all_errors(child)
    return kinds


@pytest.mark.parametrize("statuses", [HTTP_STATUSES, GRPC_STATUSES], ids=["http", "grpc"])
def test_the_table_is_total(statuses):
    """DeadlineError and QueueFullError share the status of their base; every other class is listed itself."""
    by_base = {errors.DeadlineError, errors.QueueFullError}

    assert len(all_errors()) > 12
    assert all_errors() - set(statuses) == by_base
    for kind in all_errors():
        error = kind("reason", retry_after_s=1) if kind is errors.QueueFullError else kind("reason")
        assert errors.find_status(error, statuses) is not None


def test_only_faults_of_ours_are_500():
    blamed = {kind.__name__ for kind, status in HTTP_STATUSES.items() if status == 500}

    assert blamed == {"ModelError", "ArtifactError", "DeviceError", "TruecopyError"}
