"""Anyone's samples as traces: tables, matrices of verdicts, logs of lm-eval and inspect_ai."""
