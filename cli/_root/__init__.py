"""dense2conv: patch classifiers as fully convolutional ONNX graphs, with a proof."""

__version__ = "0.1.0"
