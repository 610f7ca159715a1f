"""The geometry of a drawn plan: layers in order, nothing overlaps, any graph is drawn."""

from __future__ import annotations

import re
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.web.dag import Drawing, Node, draw

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def _overlaps(drawing: Drawing) -> bool:
    def apart(one: Node, two: Node) -> bool:
        beside = one.x + one.width <= two.x or two.x + two.width <= one.x
        return beside or one.y + one.height <= two.y or two.y + two.height <= one.y

    return not all(apart(one, two) for one, two in combinations(drawing.nodes, 2))


def test_a_step_stands_right_of_everything_it_waits_for() -> None:
    drawing = draw(DIAMOND)
    assert [drawing.node(step).layer for step in "abcd"] == [0, 1, 1, 2]
    assert drawing.node("a").x < drawing.node("b").x == drawing.node("c").x < drawing.node("d").x
    assert {(edge.source, edge.target) for edge in drawing.edges} == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}


def test_drawn_downwards_a_step_stands_below() -> None:
    drawing = draw(DIAMOND, down=True, node_width=148)
    assert drawing.node("a").y < drawing.node("b").y == drawing.node("c").y < drawing.node("d").y
    assert drawing.width <= 358 - 24, "two steps side by side fit a phone"


def test_edges_begin_and_end_at_their_steps() -> None:
    drawing = draw({"a": [], "b": ["a"]})
    (edge,) = drawing.edges
    start, end = drawing.node("a"), drawing.node("b")
    numbers = [int(number) for number in re.findall(r"-?\d+", edge.path)]
    assert numbers[:2] == [start.x + start.width, start.y + start.height // 2]
    assert numbers[-2:] == [end.x, end.y + end.height // 2]


def test_parallel_chains_do_not_cross() -> None:
    drawing = draw({"a1": [], "b1": [], "b2": ["b1"], "a2": ["a1"], "a3": ["a2"], "b3": ["b2"]})
    above = drawing.node("a1").y < drawing.node("b1").y
    assert all((drawing.node(f"a{n}").y < drawing.node(f"b{n}").y) == above for n in (2, 3))


def test_cycles_unknown_steps_and_repeats_are_left_out() -> None:
    drawing = draw({"a": ["b", "ghost", "a"], "b": ["a", "a"]})
    assert {node.id for node in drawing.nodes} == {"a", "b"}
    assert len(drawing.edges) == 1
    assert draw({}).nodes == ()


def test_a_thousand_steps_in_a_row_are_no_trouble() -> None:
    chain = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(1000)}
    assert draw(chain).node("s999").layer == 999


graphs = st.dictionaries(
    st.sampled_from("abcdefghij"), st.lists(st.sampled_from("abcdefghijk"), max_size=4), max_size=10
)


@settings(max_examples=200, deadline=None)
@given(graph=graphs, down=st.booleans())
def test_any_graph_is_drawn_whole_without_overlap_and_forward_only(graph: dict[str, list[str]], down: bool) -> None:
    drawing = draw(graph, down=down)
    assert {node.id for node in drawing.nodes} == set(graph)
    assert not _overlaps(drawing)
    for edge in drawing.edges:
        assert edge.source in graph[edge.target]
        assert drawing.node(edge.source).layer < drawing.node(edge.target).layer
    for node in drawing.nodes:
        assert node.x >= 0
        assert node.x + node.width <= drawing.width
        assert node.y + node.height <= drawing.height
