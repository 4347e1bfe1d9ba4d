"""From torch modules to a release that Triton serves.

    graphs            the seven models of the tensor contract as torch modules
    tensor_contract   config.pbtxt: names, types and shapes of each ONNX graph
    write_contracts   config.pbtxt for a family of other sizes
    samples           inputs to compare torch and ONNX Runtime on
    float64           runs a torch module in float64
    onnx_file         exports one graph and checks it against contract and float64
    preflight         what is refused before the first graph is made
    pool              worker processes that end with the export
    manifest          a release's manifest and the texts beside it
    release           files, hard links, and which release is in service

`training.exporting.export` puts them together. Nothing here knows training.
"""
