"""What every part of the manifest is: frozen, named, and nothing else than it says."""

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, keyword-only part of the manifest."""


class TaggedPart(Part, frozen=True, kw_only=True):
    """A part that is one of several kinds."""

    @property
    def kind(self) -> str:
        """The word that the manifest has for this kind."""
        return str(self.__struct_config__.tag)
