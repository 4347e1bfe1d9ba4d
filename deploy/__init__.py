"""How the parts are started and shown: the local cluster, the images, the demonstration."""
