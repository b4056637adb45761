"""Objects that users name: what is said where the name has another form."""

import pytest

from onnxgru.core.entrypoint import load_entrypoint
from onnxgru.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("net.py:make", r"net\.py:make: must name a module, not its file; give net:make"),
        ("./net:make", r"'\./net:make': must have the form package\.module:name, such as net:make"),
        ("json:nothing", "module 'json' has no 'nothing'; it has: "),
        ("json:decoder", "json:decoder: must be callable, it is of type module"),
        ("nomodule:make", "module 'nomodule' must be importable from the current folder"),
    ],
)
def test_other_forms_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_entrypoint(text)


def test_a_callable_is_found() -> None:
    assert load_entrypoint("json:dumps")([1]) == "[1]"
