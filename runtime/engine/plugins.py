"""Registration of execution providers that come as plugins, in packages of their own."""

import threading
from importlib import import_module
from typing import Any

from runtime.engine.devices import DEVICES, split_device, unsupported_processor
from runtime.errors import DeviceError

_lock = threading.Lock()
_registered: set[str] = set()


def plugin_devices(device: str, onnxruntime: Any) -> list[Any]:
    """Return the processor as the plugin of ``device`` offers it, for ``SessionOptions.add_provider_for_devices``.

    ``onnxruntime`` is the module. The plugin's library is loaded at its first use in a process. Raises DeviceError
    where it does not load, and where it does not support this processor.
    """
    entry = DEVICES[split_device(device)[0]]
    assert entry.plugin is not None
    with _lock:
        if entry.plugin not in _registered:
            try:
                path = import_module(entry.plugin).get_library_path()
                onnxruntime.register_execution_provider_library(entry.provider, path)
            except Exception as error:  # onnxruntime raises a class of its own for every status code
                raise DeviceError(
                    f"device '{device}': its plugin does not load: {' '.join(str(error).split())}. "
                    f"Run: pip install --force-reinstall '{entry.package}', or pass --device cpu."
                ) from error
            _registered.add(entry.plugin)
    processors = [offer for offer in onnxruntime.get_ep_devices() if _is_processor(offer, onnxruntime)]
    offers = [offer for offer in processors if offer.ep_name == entry.provider]
    if not offers:
        vendors = [offer.device.vendor for offer in processors]
        raise DeviceError(f"device '{device}': {unsupported_processor(device, vendors)}")
    return offers[:1]


def _is_processor(offer: Any, onnxruntime: Any) -> bool:
    return bool(offer.device.type == onnxruntime.OrtHardwareDeviceType.CPU)
