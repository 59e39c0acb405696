"""Base classes of manifest structs: frozen, keyword-only, unknown fields rejected."""

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, keyword-only part of the manifest."""


class TaggedPart(Part, frozen=True, kw_only=True):
    """A part of the manifest that is one of several kinds, told apart by a tag."""

    @property
    def kind(self) -> str:
        """The tag of this kind."""
        return str(self.__struct_config__.tag)
