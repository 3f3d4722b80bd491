"""Recorded samples: columns in memory, files on disk, and the way between them."""

from suffice.core.lazy import exported

__getattr__ = exported(
    __name__, {"suffice.evals.traces.trace_set": ("Question", "Trace", "messages_json")}
)
