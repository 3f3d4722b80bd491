"""Generated questions: their plans are right under every policy, and held-out ones stay out."""

from __future__ import annotations

import pytest
from small_planner.data import FORMS
from small_planner.oracle import play_rightly, written
from small_planner.questions import KINDS, Country, questions, split_of

from suffice.policies.registry import parse_policy
from suffice.policies.tool_plan.notations import NOTATIONS, parse_plan
from suffice.policies.tool_plan.plan import check_plan
from suffice.tools.servers import python
from suffice.tools.toolbox import Toolbox

COUNTRY = Country()
BOX = Toolbox([COUNTRY.server()])
WITH_SANDBOX = Toolbox([COUNTRY.server(), python.server()])
ASKED = questions(16, seed=3, split="held_out", country=COUNTRY)


@pytest.mark.parametrize("form", FORMS, ids=[form.policy for form in FORMS])
def test_a_model_that_knows_is_right_under_every_policy(form) -> None:
    for question in ASKED:
        box = BOX if form.writes != "program" else WITH_SANDBOX
        played = play_rightly(question, form.build(), form.writes, box)
        assert played.answer == question.answer, question.text


@pytest.mark.parametrize("notation", NOTATIONS)
def test_plans_are_the_same_in_every_notation(notation) -> None:
    for question in ASKED:
        plan = parse_plan(written(question, notation), notation, BOX.tools)
        check_plan(plan, BOX.tools)
        assert len(plan.waves()) == len(question.plan.waves())
        assert [step.tool for step in plan.steps] == [step.tool for step in question.plan.steps]


def test_questions_take_none_to_eight_calls_and_are_held_out() -> None:
    train = questions(500, seed=0, split="train", country=COUNTRY)
    held = questions(120, seed=0, split="held_out", country=COUNTRY)
    assert {len(each.plan.steps) for each in train} == {0, 1, 2, 3, 4, 5, 6, 7, 8}
    assert {each.kind for each in train} == set(KINDS)
    assert {each.text for each in train}.isdisjoint(each.text for each in held)
    assert len({each.text for each in held}) == 120
    assert {split_of(each.text) for each in held} == {"held_out"}
    assert questions(50, seed=1, split="train") == questions(50, seed=1, split="train")


def test_dag_asks_as_rewoo_does() -> None:
    for question in ASKED[:8]:
        played = play_rightly(question, parse_policy("dag"), "numbered", BOX)
        assert played.answer == question.answer


@pytest.mark.torch
def test_training_goes_on_where_it_stopped_and_its_model_is_served(tmp_path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import asyncio
    import json

    from small_planner.train import PlannerTraining, train_planner
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from suffice.backends.transformers_backend import TransformersBackend
    from suffice.core.requests import Message, Request, Sampling
    from suffice.executors.live import run

    said: list[str] = []
    config = PlannerTraining(
        hidden_size=32, layers=1, heads=2, questions=40, steps=3, more_steps=(1,), batch_tokens=300,
        held_out=4,
        checkpoint_every=2,
    )  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_planner(config, whole, said.append)
    train_planner(config, parts, said.append)
    (parts / "record.json").unlink()
    train_planner(config, parts, said.append)
    assert "going on at step 4" in said
    losses = [json.loads((each / "record.json").read_text())["loss"] for each in (whole, parts)]
    assert losses[0] == losses[1]
    backend = TransformersBackend(
        AutoModelForCausalLM.from_pretrained(whole), AutoTokenizer.from_pretrained(whole), name="p"
    )
    request = Request(messages=(Message(role="user", content=ASKED[0].text),), model="p",
                      sampling=Sampling(max_tokens=8, temperature=0.0))  # fmt: skip
    for policy in ("react", "rewoo"):
        outcome = asyncio.run(run(parse_policy(policy), request, backend, toolbox=BOX))
        assert outcome.records[0].usage.prompt_tokens > 5
    asyncio.run(backend.aclose())
