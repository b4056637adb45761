"""Ten keywords with an SRU in the place of the GRU."""

from onnxgru.models.speech import KEYWORDS, make_task

TASK = make_task("speech-10-sru", tuple(KEYWORDS), cell="sru")
