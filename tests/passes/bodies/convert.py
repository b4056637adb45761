"""Makes the files in ``keras/``: small random Keras layers as tf2onnx writes them.

TensorFlow and tf2onnx need an environment of their own; the files were made with tensorflow-cpu
2.21, keras 3.15 and tf2onnx 1.17::

    pip install tensorflow-cpu tf2onnx && python tests/passes/bodies/convert.py
"""

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "keras"
T, I, H = 7, 3, 4  # noqa: E741 - the letters of the project


def main() -> None:
    """Write one file a model."""
    import tensorflow as tf

    layers = tf.keras.layers
    hard = {"recurrent_activation": "hard_sigmoid"}
    models: dict[str, tuple[list[Any], int | None]] = {
        "gru": ([layers.GRU(H, return_sequences=True)], T),
        "gru_before": ([layers.GRU(H, reset_after=False)], T),
        "gru_any_length": ([layers.GRU(H, return_sequences=True)], None),
        "gru_hard": ([layers.GRU(H, activation="relu", return_sequences=True, **hard)], T),
        "lstm_hard": ([layers.LSTM(H, return_sequences=True, **hard)], T),
        "bidirectional": ([layers.Bidirectional(layers.GRU(H, return_sequences=True))], T),
        "masked": ([layers.Masking(), layers.GRU(H)], T),
    }
    for name, (stack, steps) in models.items():
        model = tf.keras.Sequential([layers.Input((steps, I)), *stack])
        generator = np.random.default_rng(len(name))
        weights = [generator.normal(0, 0.5, w.shape) for w in model.get_weights()]
        model.set_weights([array.astype(np.float32) for array in weights])
        signature = (tf.TensorSpec((None, steps, I), tf.float32, name="x"),)
        write(name, model.call, signature)
    for name, layer in {
        "gru_lengths": layers.GRU(H, return_sequences=True),
        "lstm_lengths": layers.LSTM(H),
    }.items():
        layer.build((None, None, I))
        generator = np.random.default_rng(len(name))
        layer.set_weights([generator.normal(0, 0.5, w.shape) for w in layer.get_weights()])
        signature = (
            tf.TensorSpec((None, None, I), tf.float32, name="x"),
            tf.TensorSpec((None,), tf.int32, name="lengths"),
        )

        def call(x: Any, lengths: Any, layer: Any = layer) -> Any:
            return layer(x, mask=tf.sequence_mask(lengths, tf.shape(x)[1]))

        write(name, call, signature)


def write(name: str, call: Any, signature: Any) -> None:
    """Convert a function of tensors."""
    import tensorflow as tf
    import tf2onnx

    tf2onnx.convert.from_function(
        tf.function(call, input_signature=signature),
        input_signature=signature,
        opset=18,
        output_path=str(FOLDER / f"{name}.onnx"),
    )


if __name__ == "__main__":
    main()
