"""Who calls and what happened: keys, ledger rows, counters, logs, traces, admin routes."""
