"""The local cluster: real Triton, real Kafka and the services as processes of this machine, without Docker.

`python -m deploy.local up|down|restart|logs|status`; start reading at parts.py, which lists the parts.
"""
