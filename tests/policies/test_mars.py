"""MARS as a policy: what it asks of engines, when it stops, and that it stays honest."""

from __future__ import annotations

import pytest

from suffice.core.errors import InputError
from suffice.policies.mars import MarginStop
from tests.policies.scripted import FREE_FORM, Said, play

POLICY = MarginStop(max_samples=12, warmup=5, chunk=10, keep=1.0, parallel=12, consensus=1.0)


def all_but_the_first(n):
    """One of the warm-up dissents, so that the vote does not end with it."""
    return "5" if n == 0 else "4"


def world(probe, final, tokens=60):
    """Traces of `tokens` tokens that end at `final(n)`, and whose probes say `probe(n)`."""

    def said(launch):
        if launch.purpose == "probe":
            return Said(probe(launch))
        return Said(final(launch.sample), tokens=tokens)

    return said


def test_traces_that_never_switch_are_stopped_early():
    result = play(POLICY, world(lambda _: "4", all_but_the_first))
    outcome = result.outcome
    traces = [record for record in outcome.records if record.purpose == "answer"]
    assert len(traces) == 12
    assert {record.status for record in traces[5:]} == {"cancelled"}
    assert max(record.usage.completion_tokens for record in traces[5:]) < 60
    assert (outcome.exit, outcome.completion.text.split()[-1]) == ("accepted", "4")
    assert 0.8 < outcome.measure < 1.0  # of what has an answer, the dissenter's too


def test_probes_continue_what_was_said_and_are_paid_for():
    result = play(POLICY, world(lambda _: "4", all_but_the_first))
    probes = [launch for launch in result.launches if launch.purpose == "probe"]
    assert probes[0].draw.prefill.startswith("so so")
    assert probes[0].shown == "\n\nFinal answer: "
    assert probes[0].draw.sampling.temperature == 0.0
    drawn = sum(record.usage.completion_tokens for record in result.outcome.records)
    assert result.outcome.usage.completion_tokens == drawn


def test_traces_that_switch_are_waited_for_as_long_as_they_could_overturn_it():
    """Warm-up probes say another thing than their traces end with: q is near 1."""
    finals = ["4", "5", "4", "5", "5"]
    result = play(POLICY, world(lambda _: "9", lambda n: finals[n] if n < 5 else "5"))
    traces = [record for record in result.outcome.records if record.purpose == "answer"]
    finished = [record for record in traces if record.status == "finished"]
    leading = sum(record.answer == "5" for record in finished)
    left = len(traces) - len(finished)
    assert leading - 2 > left - 1  # the last that was waited for made it safe
    assert result.answer == "5"


def test_on_votes_it_needs_no_log_probabilities():
    assert MarginStop(on="votes").needs == {"prefill"}
    assert MarginStop().needs == {"prefill", "logprobs"}


def test_below_it_deepconf_cancels_as_it_would_alone():
    """A trace whose confidence falls below the warm-up's is stopped by that, and does not vote."""

    def said(launch):
        if launch.purpose == "probe":
            return Said("-")
        low = launch.sample >= 4
        final = "9" if low else all_but_the_first(launch.sample)
        return Said(final, tokens=60, confidences=(0.1 if low else 2.0,) * 60)

    result = play(MarginStop(max_samples=8, warmup=4, chunk=10, consensus=1.0), said)
    cancelled = [r for r in result.outcome.records if r.status == "cancelled"]
    assert len([r for r in cancelled if r.purpose == "answer"]) == 4
    assert result.outcome.completion.text.split()[-1] == "4"


def test_a_refused_probe_ends_the_probing_and_not_the_vote():
    from suffice.core.completions import Budget

    result = play(POLICY, world(lambda _: "4", all_but_the_first), budget=Budget(samples=13))
    assert result.outcome.completion.text.split()[-1] == "4"
    assert result.outcome.samples_run <= 13


def test_free_form_text_is_one_sample():
    assert play(POLICY, lambda _: Said("x"), request=FREE_FORM).outcome.samples_run == 1


@pytest.mark.parametrize(
    "options",
    [{"on": "hope"}, {"gamma": 0.0}, {"chunk": 0}, {"warmup": 9, "max_samples": 4}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        MarginStop(**options)
