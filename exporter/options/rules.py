"""Rules of options: which input kind, task and companion each one is for."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from importlib import import_module
from typing import Any, Literal, TypeAlias

from exporter.errors import ExportError

# The input kinds by their tags in the manifest: what a message calls them, and the option that describes such inputs.
Kind: TypeAlias = Literal["image", "tabular", "tensor", "text", "tokens"]
NOUNS: Mapping[str, str] = {
    "image": "images",
    "tabular": "rows of a table",
    "tensor": "arrays",
    "text": "texts",
    "tokens": "token sequences",
}
_DESCRIBED_BY: Mapping[str, str] = {
    "tabular": "--preprocess FILE.skops",
    "tensor": "--input 'x=float32[batch,3]'",
    "text": "--tokenizer PATH",
    "tokens": "--input 'x=tokens[batch,length]'",
}

# The tasks whose outputs are classes, which have names.
CLASS_TASKS = ("classify", "binary", "multilabel", "segment", "words")
DEFAULT_TASK = "classify"

# Kinds whose task is classify where the user names none; texts and tokens take theirs from the network.
KINDS_WITH_DEFAULT_TASK = frozenset({"image", "tabular", "tensor"})

# Panels of the help.
IMAGES = "Images"
OTHER_INPUTS = "Rows, arrays, texts and token sequences"
OUTPUTS = "Outputs"
PROOF = "Proof"
WRITING = "Writing"


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a field is given on the command line, and what it is for.

    ``kind`` is the type of the command line's value, which ``read`` turns into the field's; it raises ValueError with
    the reason where it cannot. ``flag`` differs from the field's name where that reads better. ``choices`` may name a
    registry, as 'module:NAME', whose keys they are. ``recheck`` says that ``truecopy parity`` takes the option too,
    because an artifact does not hold all of it. ``input_kinds`` and ``tasks`` are those that the option is for, none
    where it is for all; ``needs`` are fields of which one has to be given as well.
    """

    help: str
    kind: Any = str
    flag: str = ""
    metavar: str | None = None
    panel: str | None = None
    choices: tuple[str, ...] | str = ()
    minimum: float | None = None
    read: Callable[[Any], Any] | None = None
    recheck: bool = False
    input_kinds: tuple[Kind, ...] = ()
    tasks: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def option_field(default: Any = None, **about: Any) -> Any:
    """Return a dataclass field that is an option; ``about`` are the fields of Option."""
    metadata = {"option": Option(**about)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def option_fields(owner: Any) -> Iterator[Field[Any]]:
    """Yield the fields of a dataclass that are options, in the order of the help; those of a field that has some.

    Fields that it inherits come last.
    """
    inherited = {about.name for base in owner.__mro__[1:] if is_dataclass(base) for about in fields(base)}
    for about in sorted(fields(owner), key=lambda about: about.name in inherited):
        inner: Any = about.default_factory
        if "option" in about.metadata:
            yield about
        elif is_dataclass(inner):
            yield from option_fields(inner)


def is_given(about: Field[Any], value: Any) -> bool:
    """Return whether ``value`` is not the default of the field ``about``."""
    default = about.default_factory() if about.default_factory is not MISSING else about.default
    return value is not default and not (type(value) is type(default) and bool(value == default))


def flag_of(name: str, option: Option) -> str:
    """Return how the option in field ``name`` is written on the command line."""
    return option.flag or f"--{name.replace('_', '-')}"


def choices_of(option: Option) -> tuple[str, ...]:
    """Return the values that an option may have; none where it may have any."""
    if isinstance(option.choices, tuple):
        return option.choices
    module, _, registry = option.choices.partition(":")
    return tuple(getattr(import_module(module), registry))


def check_use(
    given: Collection[str], options: Mapping[str, Option], *, kinds: Collection[str] = (), task: str | None = None
) -> None:
    """Raise ExportError for a given option that would have no effect, or that contradicts another one.

    ``given`` are the names of the fields that the user set, ``options`` all fields that are options. ``kinds`` are the
    input kinds that the model may have, none where that is not known; ``task`` is None where it is not known.
    """
    for name in given:
        option = options[name]
        flag = flag_of(name, option)
        problem = _wrong_company(option, given, options) or _wrong_kind(option, kinds) or _wrong_task(option, task)
        if problem:
            raise ExportError(f"{flag}: {problem}")


def _wrong_company(option: Option, given: Collection[str], options: Mapping[str, Option]) -> str:
    if option.needs and not set(option.needs) & set(given):
        needed = " or ".join(flag_of(name, options[name]) for name in option.needs)
        return f"has no effect without {needed}. Pass that as well, or leave this out."
    return ""


def _wrong_kind(option: Option, kinds: Collection[str]) -> str:
    # A kind that is not in the table is an extension's, which checks its options itself.
    known = [kind for kind in kinds if kind in NOUNS]
    if not option.input_kinds or not known or len(known) < len(kinds) or set(known) & set(option.input_kinds):
        return ""
    ways = [f"for {NOUNS[kind]} {_DESCRIBED_BY[kind]}" for kind in option.input_kinds if kind in _DESCRIBED_BY]
    remedy = f"Leave it out, or describe the input: {', '.join(ways)}." if ways else "Leave it out."
    return f"is for {_either(option.input_kinds)}, and this model takes {_either(known)}. {remedy}"


def _wrong_task(option: Option, task: str | None) -> str:
    if not option.tasks or task is None or task in option.tasks:
        return ""
    return (
        f"is for --task {' or '.join(option.tasks)}, and the task is {task}. Leave it out, or name the task that it is "
        "for."
    )


def _either(kinds: Collection[str]) -> str:
    return " or ".join(NOUNS[kind] for kind in kinds)
