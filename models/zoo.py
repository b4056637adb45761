"""The models that can be made, by their names on the command line."""

from typing import Any

from onnxgru.models import (
    digits,
    mnist_pixel,
    mnist_row,
    speech_4,
    speech_10,
    speech_10_ligru,
    speech_10_lstm,
    speech_10_sru,
)
from onnxgru.models.task import Task

TASKS: dict[str, Task[Any]] = {
    recipe.TASK.name: recipe.TASK
    for recipe in (
        digits,
        mnist_row,
        mnist_pixel,
        speech_4,
        speech_10,
        speech_10_lstm,
        speech_10_ligru,
        speech_10_sru,
    )
}
