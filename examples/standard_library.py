"""Parse every module of Python's own standard library on all cores.

    python examples/standard_library.py [--quick]

The same job as `secure-ipp demo`, as a program of one's own would do it: a function, a list, a load-balanced map, and
results in the order in which they come. Files that do not parse (the library keeps some, as test data) are counted.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

from tqdm import tqdm

import secure_ipp as ipp


def survey(path: str) -> tuple[str, int, int, str]:
    """(path, lines, functions, problem) of one file."""
    import ast
    import tokenize
    import warnings

    warnings.simplefilter("ignore")
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text, path)
    except (SyntaxError, ValueError, RecursionError) as error:
        return path, 0, 0, str(error)
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))
    return path, len(text.splitlines()), functions, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every twentieth file only, for tests")
    arguments = parser.parse_args()

    library = Path(sysconfig.get_path("stdlib"))
    paths = sorted(str(path) for path in library.rglob("*.py") if "site-packages" not in path.parts)
    paths = paths[:: 20 if arguments.quick else 1]

    with ipp.Cluster() as client:  # throw-away keys; with keys of your own it would be ipp.Client()
        view = client.load_balanced_view()
        results = view.map_async(survey, paths, ordered=False)
        found = list(tqdm(results, total=len(paths), unit="file"))

    parsed = [entry for entry in found if not entry[3]]
    print(f"{len(found):,} files, {len(found) - len(parsed)} of them not parsable")
    print(f"{sum(lines for _, lines, _, _ in parsed):,} lines, {sum(entry[2] for entry in parsed):,} functions")
    for path, lines, functions, _ in sorted(parsed, key=lambda entry: -entry[1])[:10]:
        print(f"{lines:8,} lines {functions:6,} functions  {Path(path).relative_to(library)}")


if __name__ == "__main__":
    main()
