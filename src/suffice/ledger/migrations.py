"""The ledger's schema as numbered migrations, for SQLite and PostgreSQL alike.

A migration is never edited once released: a change is a new one at the end. `{int}`, `{real}` and
`{text}` stand for the dialect's types.
"""

from __future__ import annotations

# Columns of `traffic` that are sums; the key is (bucket_s, arm).
TRAFFIC = (
    "requests",
    "failed",
    "left_early",
    "prompt_tokens",
    "completion_tokens",
    "samples",
    "samples_cancelled",
    "usd",
    "elapsed_s",
    # Answers that were compared with the baseline: how many did something else than it would have,
    # for how many of those its cost was estimated, and both costs in either unit.
    "compared",
    "estimated",
    "compared_cost_usd",
    "baseline_cost_usd",
    "compared_cost_tokens",
    "baseline_cost_tokens",
)
# Columns of `traffic` that earlier versions still write: this one leaves them at 0.
RETIRED = ("baseline_tokens", "baselined_tokens")
BUCKET_S = 10

_FIRST = (
    """CREATE TABLE requests (
        id {text} PRIMARY KEY, started_s {real} NOT NULL, endpoint {text} NOT NULL, model {text},
        served_model {text}, arm {text}, key_id {text}, ending {text} NOT NULL, status {int},
        error_code {text}, stream {int} NOT NULL, choices {int} NOT NULL, prompt_tokens {int},
        completion_tokens {int}, cached_tokens {int}, reasoning_tokens {int}, usage_source {text},
        samples {int}, samples_cancelled {int}, baseline_tokens {real}, confidence {real},
        escalated {int}, accepted_sample {int}, why {text}, usd {real}, flops {real}, gpu_s {real},
        first_byte_s {real}, elapsed_s {real} NOT NULL, overhead_s {real}, lambda_price {real},
        trace_id {text})""",
    "CREATE INDEX requests_started ON requests (started_s)",
    """CREATE TABLE samples (
        request_id {text} NOT NULL, choice {int} NOT NULL, sample {int} NOT NULL,
        model {text} NOT NULL, purpose {text} NOT NULL, status {text} NOT NULL,
        prompt_tokens {int} NOT NULL, completion_tokens {int} NOT NULL, score {real},
        confidence {real}, reason {text}, answer {text}, ttft_s {real}, elapsed_s {real} NOT NULL,
        PRIMARY KEY (request_id, choice, sample))""",
    "CREATE TABLE texts (request_id {text} PRIMARY KEY, prompt {text}, output {text})",
    """CREATE TABLE feedback (
        id {text} PRIMARY KEY, request_id {text} NOT NULL, at_s {real} NOT NULL,
        score {real} NOT NULL, key_id {text}, source {text}, comment {text})""",
    "CREATE INDEX feedback_request ON feedback (request_id)",
    "CREATE INDEX feedback_at ON feedback (at_s)",
    "CREATE TABLE batches (id {text} PRIMARY KEY, at_s {real} NOT NULL)",
    "CREATE INDEX batches_at ON batches (at_s)",
    """CREATE TABLE traffic (
        bucket_s {int} NOT NULL, arm {text} NOT NULL, requests {real} NOT NULL,
        failed {real} NOT NULL, left_early {real} NOT NULL, prompt_tokens {real} NOT NULL,
        completion_tokens {real} NOT NULL, baseline_tokens {real} NOT NULL,
        baselined_tokens {real} NOT NULL, samples {real} NOT NULL,
        samples_cancelled {real} NOT NULL, usd {real} NOT NULL, elapsed_s {real} NOT NULL,
        PRIMARY KEY (bucket_s, arm))""",
    """CREATE TABLE latency (
        bucket_s {int} NOT NULL, phase {text} NOT NULL, bin {int} NOT NULL, count {int} NOT NULL,
        PRIMARY KEY (bucket_s, phase, bin))""",
    """CREATE TABLE keys (
        id {text} PRIMARY KEY, name {text} NOT NULL, digest {text} NOT NULL, admin {int} NOT NULL,
        created_s {real} NOT NULL, revoked_s {real}, requests_per_minute {int},
        tokens_per_minute {int}, budget_tokens {int}, budget_usd {real}, budget_window {text})""",
    """CREATE TABLE used (
        key_id {text} NOT NULL, kind {text} NOT NULL, start_s {int} NOT NULL,
        requests {int} NOT NULL, tokens {int} NOT NULL, usd {real} NOT NULL,
        PRIMARY KEY (key_id, kind, start_s))""",
    "CREATE TABLE shared (name {text} PRIMARY KEY, value {real} NOT NULL)",
    "INSERT INTO shared (name, value) VALUES ('keys_version', 0)",
    """CREATE TABLE processes (
        name {text} PRIMARY KEY, seen_s {real} NOT NULL, state {text} NOT NULL)""",
)

_WATCHES = (
    """CREATE TABLE watches (
        certificate {text} NOT NULL, cell {int} NOT NULL, value {real} NOT NULL,
        PRIMARY KEY (certificate, cell))""",
    """CREATE TABLE voided (
        certificate {text} PRIMARY KEY, at_s {real} NOT NULL, why {text} NOT NULL)""",
)

# How a request was answered, in columns of its own.
_EXITS = tuple(
    f"ALTER TABLE requests ADD COLUMN {name} {{text}}"
    for name in ("exit", "certificate", "certificate_status")
)

# Both costs of a comparison with the baseline. `baseline_tokens` of requests and the retired
# columns of traffic told what was held against a policy's own maximum, which nobody would have run:
# they stay for processes of an earlier version, and nothing reads them.
_SAVINGS = (
    *(
        f"ALTER TABLE requests ADD COLUMN {name}"
        for name in (
            "baseline {text}",
            "compared_cost {real}",
            "baseline_cost {real}",
            "cost_unit {text}",
            "saving_basis {text}",
            "saving_method {text}",
        )
    ),
    *(
        f"ALTER TABLE traffic ADD COLUMN {name} {{real}} NOT NULL DEFAULT 0"
        for name in (
            "compared", "estimated", "compared_cost_usd", "baseline_cost_usd",
            "compared_cost_tokens", "baseline_cost_tokens",
        )
    ),
)  # fmt: skip

# What a policy file promises to save, so that it stands beside what was seen without the file.
_PROMISES = (
    """CREATE TABLE promises (
        certificate {text} PRIMARY KEY, baseline {text} NOT NULL, saved {real} NOT NULL,
        low {real} NOT NULL, high {real} NOT NULL, confidence {real} NOT NULL, unit {text} NOT NULL)
    """,
)

# What monitors saw before read its exits from sentences and counted another way: it is dropped.
_AUDITS = (
    "DROP TABLE watches",
    "DROP TABLE voided",
    # Sums of a certificate's monitors by cell (certificates.monitors).
    """CREATE TABLE monitors (
        certificate {text} NOT NULL, cell {int} NOT NULL, value {real} NOT NULL,
        PRIMARY KEY (certificate, cell))""",
    """CREATE TABLE alarms (
        certificate {text} PRIMARY KEY, at_s {real} NOT NULL, why {text} NOT NULL)""",
    """CREATE TABLE audits (
        request_id {text} PRIMARY KEY, at_s {real} NOT NULL, certificate {text} NOT NULL,
        zeros {int} NOT NULL, differs {int}, harmed {int}, helped {int}, judged_s {real},
        judge {text}, samples {int} NOT NULL, prompt_tokens {int} NOT NULL,
        completion_tokens {int} NOT NULL, usd {real}, elapsed_s {real} NOT NULL,
        error_code {text})""",
    "CREATE INDEX audits_at ON audits (at_s)",
    "ALTER TABLE requests ADD COLUMN zeros {int}",
    "ALTER TABLE keys ADD COLUMN audit {int} NOT NULL DEFAULT 0",
)

# What a key may ask for, until when, and its secret before the last rotation.
_KEYS = tuple(
    f"ALTER TABLE keys ADD COLUMN {column}"
    for column in (
        "parallel_requests {int}",
        "models {text}",
        "expires_s {real}",
        "previous_digest {text}",
        "previous_until_s {real}",
    )
)

# A client's own name for its request, which need not be unique.
_REQUEST_IDS = (
    "ALTER TABLE requests ADD COLUMN request_id {text}",
    "CREATE INDEX requests_request_id ON requests (request_id)",
)

# Live certificates: what every shadowed request showed, numbered in the order of commits, so that
# all processes fold the same rows in the same order.
_SHADOWS = (
    """CREATE TABLE shadow_heads (certificate {text} PRIMARY KEY, n {int} NOT NULL)""",
    """CREATE TABLE shadows (
        certificate {text} NOT NULL, number {int} NOT NULL, request_id {text} NOT NULL,
        at_s {real} NOT NULL, share {real} NOT NULL, differs {text} NOT NULL,
        PRIMARY KEY (certificate, number))""",
    "CREATE UNIQUE INDEX shadows_request ON shadows (certificate, request_id)",
)

# Monitors bet other sizes than before, so what was summed in `monitors` means something else: it
# stays for processes of an earlier version, and nothing reads it. Whoever changes what a cell means
# takes another table again.
_BETS = (
    """CREATE TABLE monitor_sums (
        certificate {text} NOT NULL, cell {int} NOT NULL, value {real} NOT NULL,
        PRIMARY KEY (certificate, cell))""",
)

# What the safe policy and the candidate in turn cost for a shadowed request, in one unit.
_SHADOW_COSTS = (
    "ALTER TABLE shadows ADD COLUMN safe_cost {real}",
    "ALTER TABLE shadows ADD COLUMN cheap_cost {real}",
)

# Calls of tools that the gateway ran.
_TOOL_CALLS = (
    """CREATE TABLE tool_calls (
        request_id {text} NOT NULL, choice {int} NOT NULL, number {int} NOT NULL,
        tool {text} NOT NULL, status {text} NOT NULL, step {text} NOT NULL, version {int} NOT NULL,
        cites {text} NOT NULL, reason {text}, attempts {int} NOT NULL,
        argument_chars {int} NOT NULL, result_chars {int} NOT NULL, cut_from {int},
        began_s {real} NOT NULL, elapsed_s {real} NOT NULL,
        PRIMARY KEY (request_id, choice, number))""",
)

# Which way gave a shadowed request's answer (0: the safe policy), what engines worked on either,
# and labels: which of the answers were right. A label is numbered when its request is shadowed, in
# the same order of commits: `shadows_before` rows of `shadows` come before it.
_LABELS = (
    "ALTER TABLE shadows ADD COLUMN answered {int}",
    "ALTER TABLE shadows ADD COLUMN safe_engine_s {real}",
    "ALTER TABLE shadows ADD COLUMN cheap_engine_s {real}",
    "ALTER TABLE requests ADD COLUMN engine_s {real}",
    "ALTER TABLE audits ADD COLUMN engine_s {real}",
    "ALTER TABLE shadow_heads ADD COLUMN labels {int} NOT NULL DEFAULT 0",
    """CREATE TABLE live_labels (
        certificate {text} NOT NULL, request_id {text} NOT NULL, number {int},
        shadows_before {int}, at_s {real} NOT NULL, shown {int}, told {text} NOT NULL,
        judge {text}, PRIMARY KEY (certificate, request_id))""",
    "CREATE UNIQUE INDEX live_labels_number ON live_labels (certificate, number)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _WATCHES,
    _EXITS,
    _SAVINGS,
    _PROMISES,
    _AUDITS,
    _KEYS,
    _REQUEST_IDS,
    _SHADOWS,
    _BETS,
    _SHADOW_COSTS,
    _TOOL_CALLS,
    _LABELS,
)
VERSION = len(MIGRATIONS)
