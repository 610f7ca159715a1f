"""The picture of a plan: steps in layers, edges as curves. Pure geometry; the templates turn it into accessible SVG.

Positions are numbers for SVG presentation attributes, because the pages allow no inline styles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NODE_WIDTH: Final = 216
NODE_HEIGHT: Final = 100
GAP_ALONG: Final = 64  # between layers
GAP_ACROSS: Final = 20  # between steps of one layer
MARGIN: Final = 8
SWEEPS: Final = 4


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    layer: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Edge:
    """From `source` to `target`; `path` is the ``d`` of an SVG path."""

    source: str
    target: str
    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, step_id: str) -> Node:
        return next(node for node in self.nodes if node.id == step_id)


def draw(depends_on: Mapping[str, Sequence[str]], *, down: bool = False, node_width: int = NODE_WIDTH) -> Drawing:
    """Lay out steps (id → ids it waits for), left to right, or top to bottom when `down`.

    Unknown dependencies are left out and an edge that would close a cycle is not followed, so any input is drawn.
    """
    parents = _acyclic(depends_on)
    layers = _ordered(_layers(parents), parents)
    if not layers:
        return Drawing(0, 0, (), ())
    nodes = _placed(layers, down=down, node_width=node_width)
    edges = tuple(
        Edge(parent, child, _curve(nodes[parent], nodes[child], down=down))
        for child, listed in parents.items()
        for parent in listed
    )
    width = max(node.x + node.width for node in nodes.values()) + MARGIN
    height = max(node.y + node.height for node in nodes.values()) + MARGIN
    return Drawing(width, height, tuple(nodes.values()), edges)


def _acyclic(depends_on: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The same graph with unknown ids, repeats and the edges that close a cycle dropped (depth first, no recursion)."""
    parents: dict[str, list[str]] = {step: [] for step in depends_on}
    state: dict[str, str] = {}
    for start in depends_on:
        stack = [(start, iter(dict.fromkeys(depends_on[start])))] if start not in state else []
        state.setdefault(start, "open")
        while stack:
            step, rest = stack[-1]
            parent = next(rest, None)
            if parent is None:
                state[step] = "done"
                stack.pop()
            elif parent in parents and state.get(parent) != "open":
                parents[step].append(parent)
                if parent not in state:
                    state[parent] = "open"
                    stack.append((parent, iter(dict.fromkeys(depends_on[parent]))))
    return parents


def _layers(parents: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Each step one layer after the last of its parents."""
    children: dict[str, list[str]] = {step: [] for step in parents}
    waiting = {step: len(listed) for step, listed in parents.items()}
    for step, listed in parents.items():
        for parent in listed:
            children[parent].append(step)
    layers: list[list[str]] = []
    ready = [step for step, count in waiting.items() if count == 0]
    while ready:
        layers.append(ready)
        following: list[str] = []
        for step in ready:
            for child in children[step]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    following.append(child)
        ready = following
    return layers


def _ordered(layers: list[list[str]], parents: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Fewer crossings: sort each layer by the middle of its neighbours, forth and back a few times."""
    children: dict[str, list[str]] = {step: [] for step in parents}
    for step, listed in parents.items():
        for parent in listed:
            children[parent].append(step)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        neighbours = parents if forth else children
        place = {step: at / max(1, len(layer) - 1) for layer in layers for at, step in enumerate(layer)}
        for layer in layers if forth else reversed(layers):
            layer.sort(key=lambda step: _middle([place[other] for other in neighbours[step]], place[step]))
            place.update({step: at / max(1, len(layer) - 1) for at, step in enumerate(layer)})
    return layers


def _middle(places: Sequence[float], default: float) -> float:
    return sum(places) / len(places) if places else default


def _placed(layers: Sequence[Sequence[str]], *, down: bool, node_width: int) -> dict[str, Node]:
    along_size, across_size = (NODE_HEIGHT, node_width) if down else (node_width, NODE_HEIGHT)
    along_gap, across_gap = (GAP_ALONG * 5 // 8, GAP_ACROSS * 5 // 8) if down else (GAP_ALONG, GAP_ACROSS)
    widest = max(len(layer) for layer in layers)
    nodes: dict[str, Node] = {}
    for depth, layer in enumerate(layers):
        indent = (widest - len(layer)) * (across_size + across_gap) // 2
        for at, step in enumerate(layer):
            along = MARGIN + depth * (along_size + along_gap)
            across = MARGIN + indent + at * (across_size + across_gap)
            x, y = (across, along) if down else (along, across)
            nodes[step] = Node(step, depth, x, y, node_width, NODE_HEIGHT)
    return nodes


def _curve(start: Node, end: Node, *, down: bool) -> str:
    if down:
        x1, y1 = start.x + start.width // 2, start.y + start.height
        x2, y2 = end.x + end.width // 2, end.y
        bend = max(12, (y2 - y1) // 2)
        return f"M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
    x1, y1 = start.x + start.width, start.y + start.height // 2
    x2, y2 = end.x, end.y + end.height // 2
    bend = max(12, (x2 - x1) // 2)
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
