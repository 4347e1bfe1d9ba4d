"""The serving half: gRPC services around Triton. It never imports torch or the training half."""
