"""Sorting of graphs, and the reason where a graph cannot be sorted.

``onnx.checker`` refuses every graph whose nodes are not sorted, although runtimes accept some of
them. A graph that can be sorted is sorted here; `fault` says why another one cannot.
"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from onnxgru.passes.graph.segment import graphs, reads, subgraphs


def fault(graph: onnx.GraphProto, outside: frozenset[str] = frozenset()) -> str | None:
    """The reason why a graph cannot be sorted.

    Parameters
    ----------
    graph : GraphProto
        With its subgraphs.
    outside : frozenset of str
        Names of values of the graphs around it.

    Returns
    -------
    str or None
        None where it can be sorted.
    """
    given = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    given |= {t.values.name for t in graph.sparse_initializer}
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers or name in given or name in outside:
                return f"value {name!r} is made twice, the second time by {_named(node)}"
            makers[name] = index
    known = given | makers.keys() | outside
    order: TopologicalSorter[int] = TopologicalSorter()
    for index, node in enumerate(graph.node):
        order.add(index, *(makers[name] for name in reads(node) if name in makers))
        for name in filter(None, node.input):
            if name not in known:
                return f"{_named(node)} reads {name!r}, which nothing makes"
        for inner in subgraphs(node):
            if found := fault(inner, frozenset(known)):
                return found
    for name in (value.name for value in graph.output):
        if name not in known:
            return f"nothing makes the output {name!r}"
    return _circle(graph, order)


def names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """All names of a graph and its subgraphs; bytes for a name that is not UTF-8."""
    for scope in graphs(graph):
        for value in (*scope.input, *scope.output, *scope.initializer, *scope.value_info):
            yield value.name
        for node in scope.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


def sort(graph: onnx.GraphProto) -> None:
    """Sort the nodes of a graph that has no `fault`; subgraphs stay as they are."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    makers.pop("", None)
    order = TopologicalSorter(
        {
            index: [makers[name] for name in reads(node) if name in makers]
            for index, node in enumerate(graph.node)
        }
    )
    nodes = [graph.node[index] for index in order.static_order()]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _circle(graph: onnx.GraphProto, order: TopologicalSorter[int]) -> str | None:
    try:
        order.prepare()
    except CycleError as error:
        names = [_named(graph.node[index]) for index in dict.fromkeys(error.args[1])]
        return f"nodes read each other's outputs in a circle: {', '.join(names[:4])}"
    return None


def _named(node: onnx.NodeProto) -> str:
    return f"node {node.name!r} ({node.op_type})" if node.name else f"a node {node.op_type}"
