import pytest

pytest_plugins = ["oip_table.plugin"]

# Each starts a cluster; two at once want the cores and the memory of both.
RAY = {"test_ray_job", "test_ray_predictor", "test_ray_serve", "test_same_rows"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests, keep those of a file together, and the clusters'; begin with the longest."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.path.stem in RAY else item.path.stem))
    items.sort(key=lambda item: "deploy" not in item.path.parts)
