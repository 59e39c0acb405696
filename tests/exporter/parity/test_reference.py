"""The eager network on its cases: which of them it takes, and which dimension of its outputs is the batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from exporter.errors import ConversionError, PreprocessingError
from exporter.inputs.image.cases import transform_errors_named
from exporter.parity.cases import SAMPLES, Case, PreparedInput
from exporter.parity.reference import Reference


class TimeFirst(nn.Module):
    """Outputs as nn.CTCLoss wants them, and one that no input changes."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"steps": x.transpose(0, 1), "mean": x.mean(dim=1), "anchors": torch.ones(4)}


class OneAtATime(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, -1)


class Wide(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] < 3:
            raise ValueError("too narrow")
        return x[:, :3]


def prepare(case: Case) -> PreparedInput:
    array = np.arange(2 * len(case.data), dtype=np.float32).reshape(1, -1, 2)
    return PreparedInput(arrays={"x": array}, tensors={"x": torch.from_numpy(array)})


def reference_of(network: nn.Module) -> Reference:
    return Reference(network, prepare)


def cases(*lengths: int, group: str = "generated") -> list[Case]:
    return [Case(name=f"of {length}", data=bytes(length), group=group) for length in lengths]


def test_the_batch_is_found_wherever_it_is():
    reference = reference_of(TimeFirst())

    form = reference.batch_form(reference.run(cases(5)))

    assert (dict(form.axes), form.obstacle) == ({"steps": 1}, "")


def test_a_network_of_one_input_at_a_time_is_found_out():
    reference = reference_of(OneAtATime())

    assert "for two inputs it gives 'output' [1, 20]" in reference.batch_form(reference.run(cases(5))).obstacle


def test_our_own_inputs_that_the_network_does_not_take_are_dropped_with_the_reason():
    run = reference_of(Wide()).run([*cases(2, 5, 1), *cases(6, group=SAMPLES)])

    assert [case.name for case in run.cases] == ["of 5", "of 6"]
    assert len(run.prepared) == len(run.values) == 2
    (sentence,) = run.dropped
    assert sentence.startswith("2 of 4 inputs: the eager model does not take them, such as 'of 2': ")
    assert "too narrow" in sentence


@pytest.mark.parametrize("inputs", [cases(1, 2), [*cases(5), *cases(2, group=SAMPLES)]], ids=["all", "a sample"])
def test_a_sample_of_the_users_that_the_network_does_not_take_is_an_error_and_so_are_all_inputs(inputs):
    with pytest.raises(ConversionError, match="too narrow"):
        reference_of(Wide()).run(inputs)


@pytest.mark.parametrize("group", ["generated", SAMPLES])
def test_what_the_transform_fails_on_is_dropped_where_it_is_our_own_and_an_error_where_it_is_the_users(group):
    strip = Case(name="strip", data=bytes(3), group=group)

    def prepare_or_fail(case: Case) -> PreparedInput:
        with transform_errors_named(case):
            if case is strip:
                transforms.Resize(64, max_size=96)(Image.new("RGB", (700, 3)))
        return prepare(case)

    reference = Reference(Wide(), prepare_or_fail)

    if group == SAMPLES:
        with pytest.raises(PreprocessingError, match=r"'strip'.*height and width must be > 0.* out of --samples"):
            reference.run([*cases(5), strip])
    else:
        (sentence,) = reference.run([*cases(5), strip]).dropped
        assert sentence.startswith("1 of 2 inputs: the eager model does not take them, such as 'strip': ")
