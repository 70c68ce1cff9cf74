"""Pictures of results, small and without decoration; needs matplotlib (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.figure import Figure
from core.run import Results

_COLOURS = {
    "ours": "#1f5fa8", "ipyparallel": "#d1495b", "concurrent.futures": "#6b8f3a", "router": "#7a7a7a",
    "parsl": "#c98b1b", "dask": "#8357a6", "ray": "#2a9d8f",
}


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 8}
    from matplotlib import pyplot

    return pyplot


def beside_ours(path: Path, figures: Sequence[Figure], results: Results, peers: Sequence[str]) -> None:
    """One line for each row, one dot for each peer: how many times better than ours."""
    lines: list[tuple[str, dict[str, float]]] = []
    for figure in figures:
        for row in figure.rows:
            medians = results.medians(row)
            ours = medians.get("ours", 0.0)
            others = {peer: value for peer, value in medians.items() if peer != "ours" and value > 0}
            if row.compared and ours > 0 and others:
                ratios = {peer: value / ours if row.more else ours / value for peer, value in others.items()}
                lines.append((row.title, ratios))
    pyplot = _pyplot()
    picture, axes = pyplot.subplots(figsize=(8, 0.8 + 0.2 * len(lines)))
    for number, (_, ratios) in enumerate(lines):
        axes.hlines(number, min(1.0, *ratios.values()), max(1.0, *ratios.values()), color="#dddddd", zorder=1)
    for peer in peers:
        if peer == "ours":
            continue
        found = [(ratios[peer], number) for number, (_, ratios) in enumerate(lines) if peer in ratios]
        axes.scatter([x for x, _ in found], [y for _, y in found], s=18, color=_COLOURS.get(peer), label=peer, zorder=2)
    axes.axvline(1.0, color=_COLOURS["ours"], label="ours")
    axes.set_xscale("log")
    axes.set_yticks(range(len(lines)), [title for title, _ in lines])
    axes.invert_yaxis()
    axes.set_xlabel("times as good as ours (left: worse, right: better)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    picture.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(picture)


@dataclass(frozen=True)
class Curve:
    """One panel: y against x, several lines."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    log_y: bool = True
    tick: Callable[[float], str] | None = None


def curves(path: Path, panels: Sequence[Curve]) -> None:
    """Panels, two in a row, logarithmic."""
    pyplot = _pyplot()
    rows = (len(panels) + 1) // 2
    picture, grid = pyplot.subplots(rows, 2, figsize=(9, 3 * rows), squeeze=False)
    for panel, axes in zip(panels, grid.flat, strict=False):
        for name, points in panel.lines.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, label=name)
        axes.set_xscale("symlog" if any(x == 0 for points in panel.lines.values() for x, _ in points) else "log")
        if panel.log_y:
            axes.set_yscale("log")
        axes.set_title(panel.title)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.grid(color="#eeeeee")
        if len(panel.lines) > 1:
            axes.legend(frameon=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.axis("off")
    picture.tight_layout()
    picture.savefig(path, metadata={"Date": None})
    pyplot.close(picture)
