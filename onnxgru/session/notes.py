"""What onnxgru noted in the metadata of a graph that it wrote, about inputs and outputs."""

import json
from collections.abc import Mapping

from onnxgru.core import metadata
from onnxgru.runtime.declared import Declared


def noted(properties: Mapping[str, str]) -> Declared | None:
    """Batch axes and states of a graph, as `onnxgru.session.emission` noted them.

    Parameters
    ----------
    properties : mapping of str to str
        The graph's metadata.

    Returns
    -------
    Declared or None
        None for a graph that onnxgru did not write.
    """
    axes = properties.get(metadata.BATCH_AXES)
    if axes is None:
        return None
    states = properties.get(metadata.HANDED_ON)
    return Declared(json.loads(axes), None if states is None else json.loads(states))
