"""From torch modules to a release that Triton serves.

    graphs      the seven models of the tensor contract as torch modules
    contract    config.pbtxt: what each ONNX graph must look like
    samples     inputs to compare torch and ONNX Runtime on
    onnx_file   export one graph, check it against both
    release     manifest, hard links, and which release is in service

`training.exporting.export` puts them together. Nothing here knows training.
"""
