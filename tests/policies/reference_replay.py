"""The same session, driven without a loop or a clock: over recorded samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from suffice.backends.protocol import Chunk
from suffice.core.completions import Budget, Completion, CostModel, Outcome, count_tokens_only
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.executors.running_sample import Launch
from suffice.executors.session import Command, Session, Stop

# The chunks that a launch plays back; the last one carries the finish reason.
Recording = Callable[[Launch], Sequence[Chunk]]
# The comparable key of a recorded completion, None where there is none.
RecordedAnswer = Callable[[Completion], str | None]
# The score of a recorded sample, by its launch; None where the recording has none.
RecordedScore = Callable[[Launch], float | None]


def replay(
    policy: AnyPolicy,
    request: Request,
    recording: Recording,
    *,
    budget: Budget | None = None,
    extract: RecordedAnswer | None = None,
    score: RecordedScore | None = None,
    cost_model: CostModel = count_tokens_only,
    token_s: float = 0.0,
) -> Outcome:
    """The outcome of `request` had its samples been `recording`'s.

    Running samples advance in turn, one chunk each, all at the same speed; `token_s` seconds pass
    with every round, so that time budgets hold too.
    """
    session = Session(policy, request, budget=budget, cost_model=cost_model)
    launches: dict[int, Launch] = {}
    streams: dict[int, Iterator[Chunk]] = {}
    order: deque[int] = deque()

    def obey(commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Launch):
                launches[command.sample] = command
                streams[command.sample] = iter(recording(command))
                order.append(command.sample)
            elif isinstance(command, Stop):
                streams.pop(command.sample, None)

    now_s = 0.0
    obey(session.start(now_s))
    while order and not session.decided:
        now_s += token_s
        for _ in range(len(order)):
            sample = order.popleft()
            if sample not in streams or session.decided:
                continue
            chunk = next(streams[sample], None)
            if chunk is None:
                raise InputError(f"recorded sample {sample} ends without a finish reason")
            obey(session.chunk(sample, chunk, now_s))
            if not session.is_complete(sample):
                order.append(sample)
                continue
            streams.pop(sample, None)
            completion = session.completion_of(sample)
            answer = None if extract is None else extract(completion)
            value = None if score is None else score(launches[sample])
            obey(session.finish(sample, now_s, answer=answer, score=value))
        if token_s and not session.decided:
            obey(session.tick(now_s))
    return session.outcome(now_s)
