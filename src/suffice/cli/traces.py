"""`suffice traces`: recorded samples, one's own and published ones."""

from __future__ import annotations

from suffice.cli.lazy_group import lazy_app

traces = lazy_app(
    {
        "import": (
            "traces_import:import_",
            "Make a trace file of tables, logs or published sets.",
        ),
        "sets": ("traces_import:sets", "List the published sets that can be imported."),
        "show": ("traces_show:show", "Show what trace files hold."),
        "join": ("traces_show:join", "Join trace files into one."),
        "rejudge": ("traces_again:rejudge", "Grade the recorded answers again; nothing is drawn."),
        "from-ledger": ("traces_again:from_ledger", "Make a trace file of the ledger's texts."),
    },
    help="Recorded samples: import your own or published ones, show, join, grade again.",
)
