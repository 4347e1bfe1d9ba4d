"""The small models of training's tests, which the laboratory's need as well."""

from tests.training.conftest import _logs_without_curves, _one_thread_and_no_progress_bars, family, schema

__all__ = ["_logs_without_curves", "_one_thread_and_no_progress_bars", "family", "schema"]
