"""TensorRT plans of a release's models, built and checked where the GPU is; docs/kubernetes.md says how they are used.

    half        a graph in float32 → mixed float16, for strong typing
    operators   what TensorRT's parser supports, by its published list
    engine      TensorRT's Python API: a graph → a plan → outputs
    samples     inputs of a release, on which a plan is checked
    plans       one model → the fastest plan that gives ONNX Runtime's numbers

`python -m deploy.tensorrt` puts them together. deploy.releases serves what is found; nothing here runs in its pods.
"""
