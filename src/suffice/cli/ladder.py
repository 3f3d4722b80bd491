"""`suffice ladder`: train small shapes, and fit a law of your own to what they reach."""

from __future__ import annotations

from suffice.cli.lazy_group import lazy_app

ladder = lazy_app(
    {
        "data": ("ladder_plan:data", "Turn text into packed token shards, some held out."),
        "plan": ("ladder_plan:plan", "Choose the shapes that tell most, and say what they cost."),
        "run": ("ladder_run:run", "Train what the plan asks for and the store does not hold."),
        "fit": ("ladder_law:fit", "Fit a law of shape to the runs."),
        "judge": ("ladder_law:judge", "Whether the law kept its word, by criteria set before."),
        "report": ("ladder_law:report", "Draw what the runs say."),
        "train-pick": (
            "ladder_pick:train_pick",
            "Train a law's pick and a reference of equal size; compare them.",
        ),
    },
    help="Train small shapes, and fit a law of your own to what they reach.",
)
