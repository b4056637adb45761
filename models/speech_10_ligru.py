"""Ten keywords with a LiGRU in the place of the GRU."""

from onnxgru.models.speech import KEYWORDS, make_task

TASK = make_task("speech-10-ligru", tuple(KEYWORDS), cell="ligru")
