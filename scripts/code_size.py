"""Print how large and how entangled the product's code is.

    python scripts/code_size.py [FOLDER] [--details]

Counted are lines of epsgrid/**/*.py, files, public names at the top of
modules, private functions that are called in one place as a share of all functions, import cycles (imports for types
alone included), modules under 60 lines with one importer, and function bodies over 60 lines.
"""

from __future__ import annotations

import argparse
import ast
import collections
from pathlib import Path


def module_name(path: Path, top: Path) -> str:
    parts = path.relative_to(top).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module, name: str, is_package: bool, modules: set[str]) -> set[str]:
    """Return the modules of the project that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".") if is_package else name.split(".")[:-1]
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{source}.{a.name}" if f"{source}.{a.name}" in modules else source for a in node.names}
    return {each for each in found if each in modules and each != name}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected groups of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack[at:]) > 1:
                groups.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="a checkout; default: the current one")
    parser.add_argument("--details", action="store_true", help="also name cycles, small modules and long functions")
    options = parser.parse_args()
    top, details = options.folder, options.details
    paths = sorted((top / "epsgrid").rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    names = {path: module_name(path, top) for path in paths}
    modules = set(names.values())
    graph = {names[p]: imported(t, names[p], p.name == "__init__.py", modules) for p, t in trees.items()}

    public = 0
    functions: list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]] = []
    used: collections.Counter[tuple[Path, str]] = collections.Counter()
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                public += not node.name.startswith("_")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                public += sum(isinstance(t, ast.Name) and not t.id.startswith("_") for t in targets)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append((path, node))
            elif isinstance(node, ast.Name):
                used[path, node.id] += 1
            elif isinstance(node, ast.Attribute):
                used[path, node.attr] += 1
    private = [(path, f.name) for path, f in functions if f.name.startswith("_") and not f.name.startswith("__")]
    once = [each for each in private if used[each] == 1]
    importers: collections.Counter[str] = collections.Counter(m for found in graph.values() for m in found)
    lines = {names[p]: texts[p].count("\n") for p in paths}
    small = [m for m in modules if lines[m] < 60 and importers[m] == 1 and not (top / m.replace(".", "/")).is_dir()]
    long = []
    for path, f in functions:
        body = f.body[1:] if ast.get_docstring(f) else f.body
        if body and (f.end_lineno or 0) - body[0].lineno + 1 > 60:
            long.append(f"{path}:{f.lineno} {f.name}")
    print(f"lines {sum(lines.values())}  files {len(paths)}  public names {public}")
    print(f"functions {len(functions)}, private and called once {len(once)} = {len(once) / len(functions):.1%}")
    found = cycles(graph)
    print(f"import cycles {len(found)}  small modules with one importer {len(small)}  bodies over 60 lines {len(long)}")
    dataclasses = sum(t.count("@dataclass") for t in texts.values())
    print(f"dataclasses {dataclasses}")
    if details:
        for group in found:
            print("cycle:", " ".join(group))
        for module in sorted(small):
            print("small:", module, lines[module])
        for each in long:
            print("long:", each)
    by = collections.Counter[str]()
    for module, count in lines.items():
        by[module.split(".")[1] if "." in module else ""] += count
    print("  ".join(f"{package or 'top'} {count}" for package, count in sorted(by.items())))


if __name__ == "__main__":
    main()
