"""Four keywords: yes, no, up and down."""

from onnxgru.models.speech import make_task

TASK = make_task("speech-4", ("yes", "no", "up", "down"))
