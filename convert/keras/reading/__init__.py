"""From a path to the configuration of a Keras model and the arrays of its layers, as data and nothing else."""
