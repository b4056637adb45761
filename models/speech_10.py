"""Ten keywords: all of Speech Commands' test set."""

from onnxgru.models.speech import KEYWORDS, make_task

TASK = make_task("speech-10", tuple(KEYWORDS))
