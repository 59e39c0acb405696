"""The table of devices, asked about machines that are described and not had."""

import msgspec
import pytest

import runtime
from runtime.engine.devices import (
    AUTO,
    DEVICES,
    DeviceOptions,
    MachineInfo,
    candidates,
    conflict,
    installed_packages,
    is_device_failure,
    missing_number,
    missing_piece,
    unsupported_processor,
)

GPU = MachineInfo(
    system="Linux",
    nvidia=True,
    packages={"onnxruntime-gpu": "1.31.1"},
    providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
)
CPU = MachineInfo(system="Linux", nvidia=False, packages={"onnxruntime": "1.31.1"}, providers=("CPUExecutionProvider",))


def test_auto_tries_cuda_where_there_is_a_driver_and_the_cpu_last():
    assert candidates("auto", GPU) == ("cuda", "cpu")
    assert candidates("auto", msgspec.structs.replace(GPU, nvidia=False)) == ("cpu",)
    assert candidates("auto", msgspec.structs.replace(CPU, nvidia=True)) == ("cpu",)


def test_auto_means_only_devices_that_keep_the_arithmetic():
    assert set(AUTO) <= {"cuda"}


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "tensorrt", "tensorrt:3"])
def test_a_named_device_is_the_only_one_tried(device):
    assert candidates(device, GPU) == (device,)


@pytest.mark.parametrize(
    ("device", "machine", "expected"),
    [
        (
            "cuda",
            CPU,
            (
                "device 'cuda': this onnxruntime (onnxruntime 1.31.1) has no CUDAExecutionProvider. "
                "Run: pip uninstall -y onnxruntime && pip install 'truecopy[cuda]'"
            ),
        ),
        (
            "openvino",
            GPU,
            (
                "device 'openvino': its plugin for onnxruntime is not installed. "
                "Run: pip install 'onnxruntime-ep-openvino'"
            ),
        ),
        (
            "openvino",
            msgspec.structs.replace(GPU, system="Darwin"),
            "device 'openvino': needs another system: expected Linux or Windows, got Darwin. Pass --device cpu.",
        ),
        ("coreml", GPU, "device 'coreml': needs another system: expected Darwin, got Linux. Pass --device cpu."),
    ],
)
def test_a_device_that_is_not_installed_is_an_error_with_the_exact_command(device, machine, expected):
    with pytest.raises(runtime.DeviceError) as caught:
        candidates(device, machine)

    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("device", "complaint", "expected"),
    [
        (
            "cuda",
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            "the library 'libcublasLt.so.13' is missing. Remedy: pip install 'onnxruntime-gpu[cuda,cudnn]'",
        ),
        (
            "tensorrt",
            "libnvinfer.so.10: cannot open shared object file: No such file or directory",
            "the library 'libnvinfer.so.10' is missing. Remedy: pip install 'tensorrt==10.*'",
        ),
        (
            "cuda",
            "libcuda.so.1: cannot open shared object file: No such file or directory",
            "the library 'libcuda.so.1' is missing. Remedy: install the NVIDIA driver",
        ),
        ("cuda", "libz.so.1: version too old", "the library 'libz.so.1' does not load"),
        ("cuda", "", "Check that 'nvidia-smi' works"),
        ("openvino", "", "no usable device responds. Pass --device cpu."),
    ],
)
def test_what_keeps_a_provider_from_starting_is_named_with_its_remedy(device, complaint, expected):
    assert expected in missing_piece(device, GPU, complaint)


def test_a_plugin_goes_with_every_package_of_onnxruntime():
    """It is registered with the onnxruntime that is installed, which has no such provider of its own."""
    for machine in (CPU, GPU):
        assert candidates("openvino", msgspec.structs.replace(machine, plugins=("onnxruntime_ep_openvino",))) == (
            "openvino",
        )


def test_a_processor_that_a_plugin_does_not_support_is_named_with_what_to_do():
    assert unsupported_processor("openvino", ["AMD", ""]) == (
        "the plugin 'onnxruntime-ep-openvino' does not support this processor (AMD). "
        "Run: pip install --upgrade 'onnxruntime-ep-openvino', or pass --device cpu."
    )


def test_every_package_with_the_module_onnxruntime_counts_whatever_its_name(tmp_path, monkeypatch):
    for name, module in (("onnxruntime-anything", "onnxruntime"), ("onnxruntime-extras", "onnxruntime_extras")):
        metadata = tmp_path / f"{name.replace('-', '_')}-9.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
        (metadata / "top_level.txt").write_text(f"{module}\n")
    monkeypatch.syspath_prepend(tmp_path)

    packages = installed_packages()

    assert packages.pop("onnxruntime-anything") == "9"
    assert "onnxruntime-extras" not in packages
    assert packages, "onnxruntime itself"


def test_without_a_driver_no_library_is_blamed():
    assert "no NVIDIA driver is loaded" in missing_piece("cuda", msgspec.structs.replace(GPU, nvidia=False), "")


def test_cuda_keeps_pytorchs_arithmetic_unless_told_otherwise():
    build = DEVICES["cuda"].options

    assert build(1, DeviceOptions()) == {
        "device_id": "1",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    chosen = build(0, DeviceOptions(tf32=True, memory_limit_bytes=2**30))
    assert (chosen["use_tf32"], chosen["gpu_mem_limit"]) == ("1", str(2**30))


def test_a_session_that_may_use_tf32_is_not_kept_from_it_by_others_of_the_process():
    """A variable is for the whole process: only TensorRT, which has no option for it, sets one."""
    assert DEVICES["cuda"].environment(DeviceOptions()) == {}
    assert DEVICES["tensorrt"].environment(DeviceOptions()) == {"NVIDIA_TF32_OVERRIDE": "0"}
    assert DEVICES["tensorrt"].environment(DeviceOptions(tf32=True)) == {}


def test_a_number_that_no_device_has_is_named_with_those_that_are_here():
    """The words are onnxruntime 1.31's, on a machine with one GPU."""
    said = (
        '[ONNXRuntimeError] : 1 : FAIL : Parse Failed to parse provider option "device_id": '
        "Invalid device ID: 7, must be between 0 (inclusive) and 1 (exclusive)."
    )

    assert missing_number("cuda:7", "CUDA failure 999: unknown error") is None
    assert missing_number("cuda:7", said) == (
        "there is no such device: expected a number below 1, as this process sees one device, got 7. Use another, "
        "such as 'cuda:0'; 'nvidia-smi -L' lists them, and CUDA_VISIBLE_DEVICES hides them."
    )


def test_a_failed_device_is_told_from_a_bad_input():
    assert is_device_failure("cuda:0", "CUDA failure 999: unknown error ; GPU=0")
    assert not is_device_failure("cuda:0", "The input tensor cannot be reshaped to the requested shape")
    assert not is_device_failure("cpu", "CUDA failure 999")


def test_packages_that_overwrite_each_other_are_a_conflict_with_the_exact_command():
    both = msgspec.structs.replace(GPU, packages={"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.31.1"})

    assert conflict(GPU) is None
    assert conflict(both) == (
        "several packages have installed onnxruntime over each other: onnxruntime 1.31.0, onnxruntime-gpu 1.31.1. "
        "Run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'truecopy[cuda]'"
    )
