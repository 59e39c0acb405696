"""Reference of the Python API, from signatures and docstrings in the source; nothing is imported for it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from exporter.options.export import ExportOptions
from exporter.options.rules import Option, flag_of, option_fields
from maintenance.reference.markdown import code, first_sentence, to_prose, to_table

ROOT = Path(__file__).parents[3]

_ABOUT = """# Python

    import truecopy

Names are imported at first use: `import truecopy` loads neither NumPy nor PyTorch. Only `truecopy.export` and its
options need the extra `export`. `runtime` and `exporter` export the same names; everything else is internal.

"""
_KEYWORDS = """
### Keywords of export

`truecopy.export(checkpoint, arch, **keywords)` takes the options of [`truecopy export`](command-line.md#export) as
keywords; these are the fields of `ExportOptions`. Values are Python's: a path, a list of names, a transform, a
module.

"""

Definition = ast.FunctionDef | ast.ClassDef | ast.AnnAssign


def python_api() -> str:
    """Return the page: one section per public name, in the order of calls, types and errors."""
    definitions = {name: _find("truecopy", name) for name in _public("truecopy") if name != "__version__"}
    groups = {
        "Functions": [name for name, found in definitions.items() if isinstance(found, ast.FunctionDef)],
        "Classes": [
            name for name, found in definitions.items() if isinstance(found, ast.ClassDef) and not _is_error(name)
        ],
        "Types": [name for name, found in definitions.items() if isinstance(found, ast.AnnAssign)],
        "Errors": [name for name in definitions if _is_error(name)],
    }
    parts = [
        _ABOUT,
        to_table(
            ["", "names"],
            [[group, ", ".join(f"[{name}](#{name.lower()})" for name in names)] for group, names in groups.items()],
        ),
    ]
    for group, names in groups.items():
        parts.append(f"\n## {group}\n")
        parts += [f"\n### {name}\n\n{_section(name, definitions[name])}\n" for name in names]
    return "".join([*parts, _KEYWORDS, _keywords()])


def _section(name: str, definition: Definition) -> str:
    if isinstance(definition, ast.AnnAssign):
        return _block(ast.unparse(definition))
    if isinstance(definition, ast.FunctionDef):
        return _block(_signature(definition)) + f"\n{to_prose(ast.get_docstring(definition))}"
    bases = ", ".join(ast.unparse(base) for base in definition.bases if not isinstance(base, ast.Subscript))
    parts = [
        f"Base: {code(bases)}\n" if bases and _is_error(name) else "",
        to_prose(ast.get_docstring(definition)),
        "\n",
    ]
    methods = [each for each in definition.body if isinstance(each, ast.FunctionDef) and _is_public(each)]
    constructor = [each for each in definition.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    if constructor and not _is_error(name):
        parts.append("\n" + _block(_signature(constructor[0], name)))
    fields = [each for each in definition.body if isinstance(each, ast.AnnAssign) and not _name(each).startswith("_")]
    if fields and name != "ExportOptions":
        rows = [[code(_name(each)), code(_annotation(each)), _default(each)] for each in fields]
        parts.append("\n" + to_table(["field", "type", "default"], rows))
    for method in methods:
        if any(ast.unparse(each) == "property" for each in method.decorator_list):
            parts.append(f"\n`{name}.{method.name}`: {first_sentence(ast.get_docstring(method))}\n")
        else:
            parts.append(
                f"\n#### {name}.{method.name}\n\n{_block(_signature(method))}\n{to_prose(ast.get_docstring(method))}\n"
            )
    return "".join(parts)


def _keywords() -> str:
    rows = []
    for about in option_fields(ExportOptions):
        option: Option = about.metadata["option"]
        rows.append([code(about.name), code(flag_of(about.name, option)), option.help])
    return to_table(["keyword", "option", ""], rows)


def _annotation(field: ast.AnnAssign) -> str:
    """Return the type of a field, without what Annotated says to a reader of JSON."""
    text = ast.unparse(field.annotation)
    return next(_split(text[len("Annotated[") : -1])) if text.startswith("Annotated[") else text


def _default(field: ast.AnnAssign) -> str:
    if field.value is None:
        return "required"
    return "" if isinstance(field.value, ast.Call) else code(ast.unparse(field.value))


def _signature(function: ast.FunctionDef, name: str = "") -> str:
    returns = f" -> {ast.unparse(function.returns)}" if function.returns is not None and not name else ""
    bound = function.args.args[:1] and function.args.args[0].arg in {"self", "cls"}
    arguments = ast.unparse(function.args)
    if bound:
        arguments = arguments.partition(", ")[2] if ", " in arguments else ""
    text = f"{name or function.name}({', '.join(_split(arguments))}){returns}"
    if len(text) <= 100:
        return text
    inner = "".join(f"    {each},\n" for each in _split(arguments))
    return f"{name or function.name}(\n{inner}){returns}"


def _split(arguments: str) -> Iterator[str]:
    """Return the arguments one by one: at commas that no bracket encloses."""
    depth, begin = 0, 0
    for index, character in enumerate(arguments):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            yield _spaced(arguments[begin:index])
            begin = index + 1
    yield _spaced(arguments[begin:])


def _spaced(argument: str) -> str:
    """Return an argument with the spaces that it has in source."""
    return re.sub(r"(:[^=]+[^=\s])=(?=[^=])", r"\1 = ", argument.strip(), count=1)


def _is_public(function: ast.FunctionDef) -> bool:
    overload = any(ast.unparse(each).endswith("overload") for each in function.decorator_list)
    return not function.name.startswith("_") and not overload and ast.get_docstring(function) is not None


def _is_error(name: str) -> bool:
    return name.endswith("Error")


def _name(field: ast.AnnAssign) -> str:
    assert isinstance(field.target, ast.Name)
    return field.target.id


def _block(text: str) -> str:
    return f"```py\n{text}\n```\n"


def _public(module: str) -> list[str]:
    (found,) = (
        node.value
        for node in _parse(module).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(found)
    return names


def _find(module: str, name: str) -> Definition:
    """Return the definition of a public name, through the modules that import it."""
    tree = _parse(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        if (
            isinstance(node, ast.FunctionDef)
            and node.name == name
            and not any(ast.unparse(each).endswith("overload") for each in node.decorator_list)
        ):
            return node
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return _find(node.module, name)
    raise LookupError(f"'{module}' neither defines nor imports '{name}'")


def _parse(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
