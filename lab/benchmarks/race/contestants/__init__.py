"""The contestants: programs that the runner starts, each with its tuned configuration; nothing here is imported by it.

All but `worker` and `loop` need build/race/venv, where the peers are installed (requirements.lock).
"""
