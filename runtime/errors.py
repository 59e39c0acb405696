"""What can go wrong at run time, by who can mend it.

::

    TruecopyError
    ├── ModelError
    │   ├── ArtifactError   export again: the artifact is damaged, foreign or too new
    │   ├── InputError      the caller's input is wrong
    │   ├── DeviceError     this machine cannot do what was asked
    │   └── BusyError       there is too much to do: try again later
    └── exporter.ExportError, for everything that needs PyTorch

Every message reads ``<subject>: <what is wrong>: expected X, got Y. <what to do>.``
"""


class TruecopyError(Exception):
    """Any error that this project raises on purpose; its message is one sentence for a person."""


class ModelError(TruecopyError):
    """Loading or running an artifact failed."""


class ArtifactError(ModelError):
    """The artifact is damaged, foreign or newer than this runtime: export it again."""


class InputError(ModelError):
    """The caller's input cannot be used; other inputs are not affected."""


class DeviceError(ModelError):
    """This machine cannot run the artifact on the device that was asked for."""


class BusyError(ModelError):
    """There is more to do than is taken on at once: try again later."""
