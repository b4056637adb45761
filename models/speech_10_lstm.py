"""Ten keywords with an LSTM in the place of the GRU."""

from onnxgru.models.speech import KEYWORDS, make_task

TASK = make_task("speech-10-lstm", tuple(KEYWORDS), cell="lstm")
