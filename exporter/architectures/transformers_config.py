"""Facts of a transformers configuration: the names of its classes, and its task."""

from typing import Any

from torch import nn

from exporter.architectures.registry import Logits, inner_model


def config_of(network: nn.Module) -> Any:
    """Return the configuration of a transformers model; None for any other network."""
    return getattr(inner_model(network), "config", None) if isinstance(network, Logits) else None


def labels_of(config: Any) -> tuple[str, ...]:
    """Return the class names of a configuration, unless they are its placeholders."""
    names = getattr(config, "id2label", None) or {}
    labels = tuple(str(names[index]) for index in sorted(names, key=int))
    return () if labels == tuple(f"LABEL_{index}" for index in range(len(labels))) else labels


def task_of(config: Any) -> str | None:
    """Return the task of a configuration's head; one class is a regression there."""
    if any(str(name).endswith("ForTokenClassification") for name in getattr(config, "architectures", None) or ()):
        return "words"
    kind = getattr(config, "problem_type", None)
    if kind == "multi_label_classification":
        return "multilabel"
    return "regress" if kind == "regression" or getattr(config, "num_labels", None) == 1 else None
