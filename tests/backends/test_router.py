from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.backends.engine_metrics import engine_load
from suffice.backends.router import (
    REPORT_S,
    WARM_FACTOR,
    WARM_FLOOR,
    Affinity,
    EngineLoad,
    Lease,
    Router,
    RoutingConfig,
)
from suffice.core.errors import InputError

NAMES = ("a", "b", "c")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def router(
    names: Sequence[str] = NAMES, clock: Clock | None = None, **weights: float
) -> tuple[Router, Clock]:
    clock = clock or Clock()
    return Router({name: weights.get(name, 1.0) for name in names}, clock=clock), clock


def key(text: str | int) -> Affinity:
    return Affinity(key=str(text).encode())


def send(where: Router, affinity: Affinity, names: Sequence[str] = NAMES) -> Lease:
    return where.begin(affinity, where.order(affinity, names)[0], names)


def answer(lease: Lease) -> None:
    lease.first_byte()
    lease.end()


def homed(where: Router, name: str) -> Affinity:
    """A conversation that belongs to `name` while nothing is in flight."""
    return next(key(n) for n in range(1000) if where.order(key(n), NAMES)[0] == name)


def test_a_conversation_stays_and_conversations_spread() -> None:
    where, _ = router()
    homes: dict[int, set[str]] = {number: set() for number in range(60)}
    for _ in range(6):
        for number, seen in homes.items():
            lease = send(where, key(number))
            seen.add(lease.name)
            answer(lease)
    assert all(len(seen) == 1 for seen in homes.values())
    shares = Counter(name for seen in homes.values() for name in seen)
    assert min(shares[name] for name in NAMES) >= 10


def test_conversations_that_run_together_keep_their_replicas() -> None:
    # Twenty conversations of six turns, all in flight at once, in an order that changes.
    where, _ = router()
    seen: dict[int, list[str]] = {number: [] for number in range(20)}
    for turn in range(6):
        leases = []
        for number in sorted(seen, key=lambda n: hash((n, turn))):
            affinity = Affinity(key=str(number).encode(), later=turn > 0)
            lease = send(where, affinity)
            seen[number].append(lease.name)
            leases.append(lease)
        for lease in leases:
            answer(lease)
    most = sum(Counter(names).most_common(1)[0][1] for names in seen.values())
    assert most >= 0.95 * 120


@given(st.integers(1, 6), st.integers(1, 60))
def test_equal_prompts_are_bounded_by_the_mean(upstreams: int, together: int) -> None:
    names = tuple(f"u{number}" for number in range(upstreams))
    where, _ = router(names)
    loads = Counter(send(where, key("hot"), names).name for _ in range(together))
    assert max(loads.values()) <= math.ceil(1.25 * together / upstreams)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=80), st.data())
def test_no_placement_of_a_new_conversation_passes_its_share(
    keys: list[int], data: st.DataObject
) -> None:
    weights = {name: data.draw(st.sampled_from([0.25, 1.0, 3.0]), name) for name in NAMES}
    where, _ = router(**weights)
    running: list[Lease] = []
    seen: set[int] = set()
    for number in keys:
        lease = send(where, key(number))
        running.append(lease)
        total = sum(map(where.in_flight, NAMES))
        fair = total * weights[lease.name] / sum(weights.values())
        warm = number in seen and sum(each.affinity == lease.affinity for each in running) == 1
        most = math.ceil(1.25 * fair - 1e-9)
        if warm:
            most = max(most, WARM_FLOOR, math.ceil(WARM_FACTOR * fair))
        assert where.in_flight(lease.name) <= most
        seen.add(number)
        if running and data.draw(st.booleans()):
            answer(running.pop(data.draw(st.integers(0, len(running) - 1))))
    for lease in running:
        answer(lease)
    assert [where.in_flight(name) for name in NAMES] == [0, 0, 0]
    assert not where._in_flight  # nothing is kept of what is over


@given(st.sets(st.sampled_from("abcdefgh"), min_size=2), st.integers(0, 200))
def test_losing_an_upstream_moves_only_its_own_conversations(names: set[str], number: int) -> None:
    known = tuple(sorted(names))
    where, _ = router(known)
    ranked = where.order(key(number), known)
    lost = ranked[-1]
    left = tuple(name for name in known if name != lost)
    assert where.order(key(number), left) == [name for name in ranked if name != lost]


def test_weights_are_shares_of_conversations_and_of_load() -> None:
    where, _ = router(a=8.0, b=1.0, c=1.0)
    first = Counter(where.order(key(number), NAMES)[0] for number in range(2000))
    assert first["a"] == pytest.approx(1600, abs=80)
    assert first["b"] == pytest.approx(200, abs=60)
    loads = Counter(send(where, key("hot")).name for _ in range(100))
    assert loads["a"] <= math.ceil(1.25 * 80)
    assert max(loads["b"], loads["c"]) <= math.ceil(1.25 * 10)


def test_weight_zero_is_the_last_resort() -> None:
    where, _ = router(a=1.0, b=1.0, c=0.0)
    for number in range(50):
        assert where.order(key(number), NAMES)[-1] == "c"
    where.failed("a")
    where.failed("b")
    assert where.order(key(1), NAMES)[0] == "c"


def test_a_failed_upstream_is_left_alone_at_once_and_longer_each_time() -> None:
    where, clock = router()
    conversation = homed(where, "a")
    waits = []
    for _ in range(3):
        where.failed("a")
        assert where.order(conversation, NAMES)[-1] == "a"
        began_s = clock.now_s
        while where.avoided("a"):
            clock.now_s += 0.5
        waits.append(clock.now_s - began_s)
    assert waits == [5.0, 10.0, 20.0]
    # It gets one request, and no second one before that was answered.
    trial = send(where, conversation)
    assert trial.name == "a"
    assert where.order(conversation, NAMES)[0] != "a"
    answer(trial)
    assert where.order(conversation, NAMES)[0] == "a"


def test_failures_that_come_together_count_once() -> None:
    where, clock = router()
    for _ in range(50):
        where.failed("a")
    clock.now_s += 5.0
    assert not where.avoided("a")


def test_a_replica_that_hangs_is_avoided_within_a_second() -> None:
    where, clock = router()
    for number in range(30):  # the usual wait is 20 ms
        lease = send(where, key(number))
        clock.now_s += 0.02
        answer(lease)
    stuck = send(where, homed(where, "a"))
    assert stuck.name == "a"
    hung_s = clock.now_s
    after = []
    for number in range(200):
        clock.now_s += 0.01
        lease = send(where, key(f"new {number}"))
        after.append((clock.now_s - hung_s, lease.name))
        if lease.name != "a":
            lease.first_byte()  # and runs on: so a's share of what is in flight is not zero
    assert [name for at_s, name in after if at_s > 1.0 and name == "a"] == []
    assert "a" in {name for at_s, name in after if at_s < 0.5}


def test_a_replica_that_answers_slowly_is_avoided_and_tried_again() -> None:
    where, clock = router()
    for name in NAMES:
        answer(send(where, homed(where, name)))
    slow = send(where, homed(where, "a"))
    clock.now_s += 0.1
    answer(send(where, homed(where, "b")))
    clock.now_s += 2.0
    answer(slow)
    assert where.avoided("a")
    clock.now_s += 2.1  # as long as it took
    assert not where.avoided("a")


def test_long_answers_are_not_slow_where_others_take_as_long() -> None:
    where, clock = router()
    for _ in range(3):
        leases = [send(where, homed(where, name)) for name in NAMES]
        clock.now_s += 20.0
        for lease in leases:
            answer(lease)
    waiting = send(where, homed(where, "a"))
    clock.now_s += 0.1
    answer(send(where, homed(where, "b")))
    clock.now_s += 25.0
    assert not where.avoided("a")  # 25 s are less than twice the 20 s of late
    answer(waiting)


def test_a_replica_that_waits_alone_is_not_called_slow() -> None:
    # Nobody else answered meanwhile: there is nothing to compare with.
    where, clock = router()
    answer(send(where, homed(where, "b")))
    clock.now_s += 1.0
    send(where, homed(where, "a"))
    clock.now_s += 100.0
    assert not where.avoided("a")


def test_long_prompts_may_wait_longer() -> None:
    def slow(size_bytes: int) -> bool:
        where, clock = router()
        answer(send(where, homed(where, "b")))
        long = Affinity(key=homed(where, "a").key, size_bytes=size_bytes)
        send(where, long)
        clock.now_s += 0.1
        answer(send(where, homed(where, "b")))
        clock.now_s += 1.0
        return where.avoided("a")

    assert slow(1000)
    assert not slow(100_000)


def test_upstreams_of_other_models_are_no_measure() -> None:
    where, clock = router(("small", "large 1", "large 2"))
    large = ("large 1", "large 2")
    waiting = [send(where, key(number), large) for number in range(4)]
    for _ in range(20):
        clock.now_s += 0.5
        answer(send(where, key("x"), ("small",)))
    assert not any(map(where.avoided, large))
    assert {lease.name for lease in waiting} == set(large)


def test_an_engine_whose_requests_wait_is_passed_over() -> None:
    where, clock = router()
    conversation = homed(where, "a")
    where.reported("a", EngineLoad(running=40, waiting=3))
    assert where.order(conversation, NAMES)[0] != "a"
    where.reported("a", EngineLoad(running=0, waiting=0, kv_usage=0.97))
    assert where.order(conversation, NAMES)[0] != "a"
    for name in NAMES:  # all are full: the conversation's own is as good as any
        where.reported(name, EngineLoad(running=40, waiting=3))
    assert where.order(conversation, NAMES)[0] == "a"
    where.reported("b", EngineLoad(running=1, waiting=0))
    clock.now_s += REPORT_S  # too old to be believed
    assert where.order(conversation, NAMES)[0] == "a"


def test_what_others_run_on_an_engine_counts_as_load() -> None:
    where, _ = router()
    where.reported("a", EngineLoad(running=20, waiting=0))
    loads = Counter(send(where, key("hot")).name for _ in range(10))
    assert loads["a"] == 0


def test_everything_down_leaves_an_order() -> None:
    where, _ = router()
    for name in NAMES:
        where.failed(name)
    assert sorted(where.order(key(1), NAMES)) == list(NAMES)


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match="weight must be 0 or more, got -1"):
        Router({"a": -1.0})
    with pytest.raises(InputError, match="spill_factor must be 1 or more"):
        RoutingConfig(spill_factor=0.5)
    with pytest.raises(InputError, match="slow_s must be positive"):
        RoutingConfig(slow_s=0)


def test_engines_pages_are_read() -> None:
    vllm = (
        "# HELP vllm:num_requests_running Number\n# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="x y"} 3.0\n'
        'vllm:num_requests_running{engine="1",model_name="x"} 4.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="x"} 1.0\n'
        'vllm:num_requests_waiting_by_reason{reason="deferred"} 9.0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.5\n'
    )
    assert engine_load(vllm) == EngineLoad(running=7, waiting=1, kv_usage=0.5)
    sglang = "sglang:num_running_reqs 2\nsglang:num_queue_reqs 5\nsglang:token_usage 0.1\n"
    assert engine_load(sglang) == EngineLoad(running=2, waiting=5, kv_usage=0.1)
    llama = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"
    assert engine_load(llama) == EngineLoad(running=1, waiting=0)
    assert engine_load("process_cpu_seconds_total 3\n") is None
    assert engine_load("vllm:num_requests_running NaN\n") == EngineLoad(running=0, waiting=0)


@given(st.text())
def test_any_page_can_be_read(text: str) -> None:
    found = engine_load(text + "\nvllm:num_requests_running " + text)
    assert found is None or found.running >= 0
