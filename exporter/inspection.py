"""What ``truecopy inspect`` says about a checkpoint or artifact, as a page for people and as JSON with stable keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.architectures.heads import LinearHead, UnknownHead
from exporter.architectures.identify import Fit, cannot_tell, identify, identify_part
from exporter.checkpoint import Checkpoint, read_checkpoint
from exporter.checkpoint.ignored_keys import ignore_options
from exporter.progress import megabytes
from runtime.artifact.open import open_artifact
from runtime.errors import listed
from runtime.manifest import DEFERRING, FULL_PRECISION, LAYOUT, Manifest, Variant

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_LISTED = 8

_FORMATS = {
    "state_dict": "a bare state dict",
    "checkpoint": "a training checkpoint",
    "lightning": "a Lightning checkpoint",
    "huggingface": "a Hugging Face folder",
    "torchscript": "a TorchScript archive",
    "module": "a whole pickled module",
}
_CONTAINERS = {
    "zip": "torch.save",
    "legacy": "torch.save, before PyTorch 1.6",
    "safetensors": "safetensors",
    "sharded": "shards with an index",
}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A checkpoint and the architectures that fit it, or else come near.

    ``part_fits`` fit all tensors exactly but ``left_out``, where none fits all of them. ``num_classes``,
    ``in_channels`` and ``head`` are what fits say, and otherwise what the last and first tensors look
    like; None where they look like nothing.
    """

    checkpoint: Checkpoint
    fits: tuple[Fit, ...]
    num_classes: int | None
    in_channels: int | None
    head: str | None
    part_fits: tuple[Fit, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def exact(self) -> list[Fit]:
        """The architectures that can be rebuilt from these weights."""
        return [fit for fit in self.fits if fit.exact]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows; the names of the keys stay."""
        checkpoint = self.checkpoint
        return {
            "format": checkpoint.format,
            "container": checkpoint.container,
            "sha256": checkpoint.sha256,
            "size_bytes": checkpoint.size_bytes,
            "parameters": checkpoint.parameters,
            "tensors": len(checkpoint.tensors),
            "dtypes": checkpoint.dtypes,
            "weights": checkpoint.entry,
            "weights_found": [candidate.entry for candidate in checkpoint.candidates],
            "leftovers": dict(checkpoint.leftovers),
            "skipped": list(checkpoint.skipped),
            "non_finite": list(checkpoint.non_finite),
            "shared": [list(keys) for keys in checkpoint.shared()],
            "head": self.head,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            "candidates": [
                {
                    "arch": fit.architecture,
                    "arguments": dict(fit.arguments),
                    "matched": fit.matched,
                    "total": fit.total,
                    "exact": fit.exact,
                    "num_classes": fit.num_classes,
                }
                for fit in self.fits
            ],
            "cannot_tell": list(cannot_tell(self.exact)),
        }

    def to_page(self) -> "RenderableType":
        """Return the page that people see."""
        from rich.console import Group
        from rich.text import Text

        return Group(self._facts(), Text(""), *self._architectures(), Text(""), self._next())

    def _facts(self) -> "Table":
        from rich.markup import escape
        from rich.table import Table

        checkpoint = self.checkpoint
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column(overflow="fold")

        def row(name: str, text: str) -> None:
            table.add_row(name, text)

        row("", f"[bold]{escape(checkpoint.path.name)}[/], {_FORMATS[checkpoint.format]}")
        row("stored as", f"{_CONTAINERS[checkpoint.container]}, {_size(checkpoint.size_bytes)}")
        row("sha256", checkpoint.sha256)
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in checkpoint.dtypes.items())
        row(
            "weights",
            f"[bold]{_count(checkpoint.parameters)}[/] parameters in {len(checkpoint.tensors)} tensors: {dtypes}",
        )
        if checkpoint.entry or len(checkpoint.candidates) > 1:
            why = f" ({checkpoint.choice})" if checkpoint.choice else ""
            row("found under", f"'{escape(checkpoint.entry)}'{escape(why)}")
        others = [
            f"'{one.entry}' ({len(one.tensors)} tensors)"
            for one in checkpoint.candidates
            if one.entry != checkpoint.entry
        ]
        leftovers = [f"{key} {value}" for key, value in checkpoint.leftovers.items()]
        skipped = [f"objects of '{name}'" for name in checkpoint.skipped]
        for name, texts, advice in (
            ("also there", others, "; take one with --weights NAME"),
            ("left over", leftovers, ""),
            ("skipped", skipped, ""),
        ):
            if texts:
                row(name, escape(listed(texts, _LISTED)) + advice)
        if self.head:
            row("head", escape(self.head))
        if self.num_classes is not None:
            row("classes", f"[bold]{self.num_classes}[/]")
        if self.in_channels is not None:
            row("input", f"{self.in_channels} channels")
        if shared := [" = ".join(keys) for keys in checkpoint.shared()]:
            row("shared", escape(listed(shared, _LISTED)))
        if checkpoint.non_finite:
            row("[red]not finite[/]", f"[red]NaN or infinity in {escape(listed(checkpoint.non_finite, _LISTED))}[/]")
        return table

    def _architectures(self) -> list["RenderableType"]:
        from rich.table import Table
        from rich.text import Text

        exact = self.exact
        if self.part_fits:
            names = listed([fit.architecture for fit in self.part_fits], _LISTED)
            others = listed([repr(key) for key in self.left_out], _LISTED)
            return [Text(f"No known architecture fits all tensors; without {others} these fit: {names}", "bold yellow")]
        shown = exact or list(self.fits)
        if not shown:
            return [Text("No known architecture is similar: this is a custom network.", style="yellow")]
        title = (
            "One architecture fits"
            if len(exact) == 1
            else f"{len(exact)} architectures fit equally"
            if exact
            else "No known architecture fits; the nearest are"
        )
        table = Table(box=None, header_style="dim", pad_edge=False)
        table.add_column("  architecture", overflow="fold")
        table.add_column("tensors", justify="right")
        table.add_column("classes", justify="right")
        for fit in shown[:_LISTED]:
            mark, style = ("✓", "green") if fit.exact else ("·", "yellow")
            arguments = "".join(f" {key}={value}" for key, value in fit.arguments.items())
            table.add_row(
                Text(f"{mark} {fit.architecture}{arguments}", style=style),
                f"{fit.matched} of {fit.total}",
                str(fit.num_classes or ""),
            )
        parts: list[RenderableType] = [Text(title, style="bold green" if exact else "bold yellow"), table]
        if len(shown) > _LISTED:
            parts.append(Text(f"  and {len(shown) - _LISTED} more", style="dim"))
        if len(exact) > 1:
            unknown = cannot_tell(exact)
            parts.append(
                Text(f"The weights cannot tell their {', '.join(unknown)}.", style="yellow")
                if unknown
                else Text("They do not differ in stride, padding, eps or activation.", style="dim")
            )
        unclear = next((fit.head for fit in shown if isinstance(fit.head, UnknownHead)), None)
        if unclear is not None and not exact:
            parts.append(
                Text(
                    f"Its head has {len(unclear.layers)} layers ({', '.join(unclear.layers)}), and the weights cannot "
                    "tell what is between them: pass your own class with --arch FILE.py:NAME.",
                    style="yellow",
                )
            )
        return parts

    def _next(self) -> "RenderableType":
        from rich.text import Text

        path = self.checkpoint.path
        exact = self.exact
        if len(exact) == 1:
            return Text(f"truecopy export {path}", style="bold")
        if exact:
            return Text(f"truecopy export {path} --arch {exact[0].architecture}", style="bold")
        if self.part_fits:
            ignoring = ignore_options(self.left_out, self.checkpoint.shapes)
            return Text(f"truecopy export {path} --arch {self.part_fits[0].architecture} {ignoring}", style="bold")
        return Text(f"truecopy export {path} --arch FILE.py:NAME", style="bold")


@dataclass(frozen=True, kw_only=True)
class ArtifactInspection:
    """What an artifact promises: its inputs, its task, and the range of each dimension that was compared."""

    manifest: Manifest

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows; the names of the keys stay."""
        manifest = self.manifest
        summary: dict[str, Any] = msgspec.to_builtins(manifest.parity)
        return {
            "format": "artifact",
            "name": manifest.name,
            "architecture": manifest.source.architecture,
            "task": manifest.task.kind,
            "inputs": msgspec.to_builtins(manifest.inputs),
            "outputs": msgspec.to_builtins(manifest.outputs),
            "onnx_exporter": manifest.source.onnx_exporter,
            "onnx": msgspec.to_builtins(manifest.onnx),
            "compared": msgspec.to_builtins(manifest.compared),
            "parity": summary,
            "variants": msgspec.to_builtins(manifest.variants),
            "files": sorted(manifest.files),
        }

    def to_page(self) -> "RenderableType":
        """Return the page that people see."""
        from rich.markup import escape
        from rich.table import Table

        manifest, summary = self.manifest, self.manifest.parity
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column(overflow="fold")
        table.add_row("", f"[bold]{escape(manifest.name)}[/], an artifact of {escape(manifest.source.architecture)}")
        table.add_row("task", manifest.task.kind)
        for spec in manifest.inputs:
            table.add_row("input", f"{escape(spec.name)}: {spec.kind}")
        for output in manifest.outputs:
            table.add_row("output", escape(f"{output.name}: {output.dtype} [{', '.join(map(str, output.shape))}]"))
        for variant in manifest.variants:
            size_bytes = sum(manifest.files[name].size_bytes for name in variant.files)
            table.add_row(variant.precision, f"{megabytes(size_bytes)}, {_describe_variant(variant)}")
        if manifest.onnx is not None:
            table.add_row("runs on", manifest.onnx.describe())
        if summary is not None:
            table.add_row("compared", f"{summary.inputs} inputs with the eager model")
        for name, lengths in manifest.compared.items():
            table.add_row("", f"{escape(name)} {lengths.lowest} to {lengths.highest}")
        if not manifest.compared:
            table.add_row("", "lengths: not recorded, by an earlier release")
        return table


def _describe_variant(variant: Variant) -> str:
    measured = variant.approximation
    if measured is None:
        return "[green]proven equal[/]"
    agreement, deferral = measured.agreement, measured.deferral
    pair = ""
    if deferral is not None and deferral.offered:
        pair = (
            f"; {variant.precision}{DEFERRING} runs {deferral.share:.1%} again in {FULL_PRECISION}, no label flips, at "
            f"most {deferral.risk:.2%} do at 95%"
        )
    return (
        f"[yellow]{measured.verdict}[/]: labels equal on {agreement.equal} of {agreement.inputs} inputs, at 95% "
        f"between {agreement.low:.2%} and {agreement.high:.2%}; scores differ by {agreement.score_difference:.2g} at "
        f"most{pair}"
    )


def inspect_artifact(path: Path) -> ArtifactInspection:
    """Return what the artifact in folder ``path`` promises. Raises ArtifactError where it is damaged."""
    return ArtifactInspection(manifest=open_artifact(path).manifest)


def is_artifact(path: Path) -> bool:
    """Return whether a path is the folder of an artifact, and no checkpoint."""
    return (path / LAYOUT.manifest).is_file()


def inspect_checkpoint(
    path: str | Path, *, weights: str | None = None, trust: bool = False, imports: Sequence[Path] = ()
) -> Inspection:
    """Return what checkpoint ``path`` is; its arguments and errors are those of ``read_checkpoint``."""
    checkpoint = read_checkpoint(path, weights=weights, trust=trust, imports=imports)
    fits = tuple(identify(checkpoint.shapes))
    exact = [fit for fit in fits if fit.exact]
    part, left_out = ([], ()) if exact else identify_part(checkpoint.shapes)
    head = _likely_head(checkpoint)
    if exact and isinstance(exact[0].head, LinearHead):
        head = f"{exact[0].head.source}.weight", [exact[0].head.out_features, exact[0].head.in_features]
    channels = exact[0].in_channels if exact else None
    classes = exact[0].num_classes if exact else None
    return Inspection(
        checkpoint=checkpoint,
        fits=fits,
        num_classes=classes if exact else head[1][0] if head else None,
        in_channels=channels or _likely_channels(checkpoint),
        head=f"{head[0]} {head[1]}" if head else None,
        part_fits=tuple(part),
        left_out=left_out,
    )


def _likely_head(checkpoint: Checkpoint) -> tuple[str, list[int]] | None:
    """Return the last matrix of the network: in every classifier that keeps to the usual order, its head."""
    matrices = [
        (key, list(shape)) for key, shape in checkpoint.shapes.items() if len(shape) == 2 and key.endswith("weight")
    ]
    return matrices[-1] if matrices else None


def _likely_channels(checkpoint: Checkpoint) -> int | None:
    return next((shape[1] for shape in checkpoint.shapes.values() if len(shape) in (4, 5)), None)


def _count(number: int) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
