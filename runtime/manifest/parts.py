"""Base classes of manifest structs: frozen, keyword-only, unknown fields rejected."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

# Bounds of the manifest's numbers and texts, far beyond what an export writes: a file that says more is damaged or
# hostile, and nothing is allocated for it. JSON itself has no infinity.
MAX_SIDE = 2**20

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]
Text: TypeAlias = Annotated[str, Meta(max_length=10_000)]
FileName: TypeAlias = Annotated[str, Meta(max_length=255)]
Digest: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Side: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Margin: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SIDE)]
Channels: TypeAlias = Annotated[int, Meta(ge=1, le=2**16)]
Level: TypeAlias = Annotated[int, Meta(ge=0, le=2**16 - 1)]
Length: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Size: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Limit: TypeAlias = Annotated[float, Meta(ge=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Dimensions: TypeAlias = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)] | Name, ...], Meta(max_length=32)]
PerChannel: TypeAlias = Annotated[tuple[float, ...], Meta(min_length=1, max_length=2**16)]
Fill: TypeAlias = Annotated[tuple[Level, ...], Meta(min_length=1, max_length=2**16)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, keyword-only part of the manifest."""


class TaggedPart(Part, frozen=True, kw_only=True):
    """A part of the manifest that is one of several kinds, told apart by a tag."""

    @property
    def kind(self) -> str:
        """The tag of this kind."""
        return str(self.__struct_config__.tag)

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the artifact that this part reads."""
        return ()
