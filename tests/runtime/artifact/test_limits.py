"""Runs of golden inputs: within a limit of time, and without memory that they keep."""

from runtime.artifact.limits import run_within_limit
from runtime.artifact.open import open_artifact
from runtime.engine.interruption import current_interruption


def test_a_run_of_golden_inputs_keeps_no_memory(tiny):
    """A server kept what a batch of them takes, 40 MB of EfficientNet-Lite0, for as long as it ran."""

    def run():
        return current_interruption().options.get_run_config_entry("memory.enable_memory_arena_shrinkage")

    assert run_within_limit(open_artifact(tiny), run) == "cpu:0"
