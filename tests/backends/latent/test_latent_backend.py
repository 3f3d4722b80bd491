"""The latent backend: batch invariance, cancellation, policies in the ordinary session."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from suffice.backends.latent.backend import Depth, LatentBackend  # noqa: E402
from suffice.backends.latent.flops import block_flops, step_flops  # noqa: E402
from suffice.backends.latent.folder import load_latent, save_latent  # noqa: E402
from suffice.backends.latent.network import LatentNetwork  # noqa: E402
from suffice.backends.latent.scores import halting, solves  # noqa: E402
from suffice.backends.latent.shape import LatentShape  # noqa: E402
from suffice.backends.latent.trajectories import (  # noqa: E402
    Exploration,
    roll_out,
    trajectory_generator,
)
from suffice.backends.protocol import Chunk  # noqa: E402
from suffice.core.completions import Completion, TokenLogprob, Usage  # noqa: E402
from suffice.core.draw import Draw  # noqa: E402
from suffice.core.errors import (  # noqa: E402
    ConfigError,
    CorruptData,
    InputError,
    LacksCapability,
    UpstreamRejected,
)
from suffice.core.requests import Message, Request, Sampling, Tool  # noqa: E402
from suffice.evals.extract import extractor  # noqa: E402
from suffice.executors.live import run  # noqa: E402
from suffice.policies.registry import parse_policy  # noqa: E402
from suffice.tasks.grids.queens import Queens  # noqa: E402

pytestmark = pytest.mark.torch
TASK = Queens(5)
PROMPT = "queens-5 1...."
FORMAT = r"regex:^\d+$"
PRIOR = Exploration(source="prior")


def network(noise: str = "learned") -> LatentNetwork:
    shape = LatentShape(width=16, heads=2, mlp_width=16, noise=noise)  # type: ignore[arg-type]
    made = LatentNetwork(shape, TASK.shape)
    made.initialise(0)
    with torch.no_grad():
        made.halt.weight.normal_(generator=torch.Generator().manual_seed(1))
    return made.eval().requires_grad_(False)


def backend(noise: str = "learned", **options: object) -> LatentBackend:
    exploration = PRIOR if noise != "none" else Exploration(source="gaussian", sigma=1.0)
    return LatentBackend(network(noise), TASK, exploration=exploration, **options)  # type: ignore[arg-type]


def asked(prompt: str = PROMPT, *, seed: int | None = 0, **sampling: int) -> Draw:
    how = Sampling(seed=seed, **sampling)  # type: ignore[arg-type]
    request = Request(
        messages=(Message(role="user", content=prompt),), model="latent", sampling=how,
        answer_format=FORMAT,
    )  # fmt: skip
    return Draw(request, how, model="latent")


async def drawn(made: LatentBackend, draw: Draw) -> list[Chunk]:
    return [chunk async for chunk in made.stream(draw)]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize("noise", ["learned", "none"])
def test_a_trajectory_does_not_depend_on_what_runs_beside_it(noise: str) -> None:
    """Answers, readings of every step and lengths, alone and among thirteen others."""

    async def both() -> None:
        alone = await drawn(backend(noise), asked(seed=3, top_logprobs=1))
        crowd = backend(noise)
        prompts = ["queens-5 1....", "queens-5 .2...", "queens-5 ....."]
        many = await asyncio.gather(
            *(drawn(crowd, asked(prompts[i % 3], seed=i, top_logprobs=1)) for i in range(14))
        )
        beside = many[3]  # the same puzzle and seed
        assert crowd.largest_batch == 14
        assert [c.text for c in beside] == [c.text for c in alone]
        assert [c.reasoning_text for c in beside] == [c.reasoning_text for c in alone]
        for one, other in zip(alone[:-1], beside[:-1], strict=True):
            assert one.logprobs[0].logprob == pytest.approx(other.logprobs[0].logprob, abs=1e-5)

    asyncio.run(both())


def test_the_backend_draws_what_the_batched_roll_out_does() -> None:
    made, given = network(), TASK.parse(PROMPT)
    seeds = range(6)
    rolled = roll_out(
        made, np.stack([given] * 6), [trajectory_generator(PROMPT, s) for s in seeds],
        steps=4, exploration=PRIOR, batch=4,
    )  # fmt: skip

    async def answers() -> list[str]:
        serving = backend()
        return [
            text(c) for c in await asyncio.gather(*(drawn(serving, asked(seed=s)) for s in seeds))
        ]

    found = asyncio.run(answers())
    assert found == ["".join(str(v + 1) for v in answer) for answer in rolled.answers[-1]]


def test_a_step_is_a_token_and_the_last_one_answers() -> None:
    chunks = asyncio.run(drawn(backend(depth=Depth(steps=3)), asked(top_logprobs=1)))
    assert [c.token_count for c in chunks] == [1, 1, 1, 0]
    assert [bool(c.reasoning_text) for c in chunks] == [True, True, False, False]
    assert len(text(chunks)) == 5
    assert chunks[-1].usage == Usage(completion_tokens=3, reasoning_tokens=2)
    for chunk in chunks[:-1]:
        (entry,) = chunk.logprobs
        assert np.exp(entry.logprob) + np.exp(entry.top[0][1]) == pytest.approx(1.0)


def test_max_tokens_is_a_depth() -> None:
    chunks = asyncio.run(drawn(backend(depth=Depth(steps=5)), asked(max_tokens=2)))
    assert chunks[-1].usage == Usage(completion_tokens=2, reasoning_tokens=1)


def test_a_closed_stream_stops_iterating() -> None:
    async def cancelled() -> tuple[int, int]:
        made = backend(depth=Depth(steps=50))
        async with aclosing(made.stream(asked())) as chunks:
            async for _ in chunks:
                if made.steps_run == 3:
                    break
        after = made.steps_run
        await asyncio.sleep(0.01)
        return after, made.steps_run

    assert asyncio.run(cancelled()) == (3, 3)


def test_it_halts_when_the_head_is_sure() -> None:
    made = network()
    with torch.no_grad():
        made.halt.bias.fill_(100.0)
    serving = LatentBackend(made, TASK, exploration=PRIOR, depth=Depth(steps=9, halts=True))
    chunks = asyncio.run(drawn(serving, asked()))
    assert chunks[-1].usage == Usage(completion_tokens=1, reasoning_tokens=0)


def test_seeds_decide_and_unseeded_samples_differ() -> None:
    async def several(seed: int | None) -> list[str]:
        made = backend("none")
        return [
            "".join(c.reasoning_text + c.text for c in await drawn(made, asked(seed=seed)))
            for _ in range(4)
        ]

    assert len(set(asyncio.run(several(1)))) == 1
    assert len(set(asyncio.run(several(None)))) > 1


@pytest.mark.parametrize(
    "policy",
    ["single", "self_consistency:samples=6", "adaptive_consistency:max_samples=9",
     "two_sided:max_samples=9", "esc", "deepconf:max_samples=12,warmup=4",
     "deepconf_offline:samples=6", "best_of_n:samples=6,enough=1,wave=2"],
)  # fmt: skip
def test_policies_run_unchanged(policy: str) -> None:
    request = replace(asked().request, sampling=Sampling(seed=0))
    made = backend()
    outcome = asyncio.run(
        run(parse_policy(policy), request, made, extract=extractor(FORMAT), score=solves)
    )
    assert outcome.completion.text
    assert outcome.samples_run >= 1
    assert outcome.usage.completion_tokens == made.steps_run


def test_the_verifier_knows_the_rules() -> None:
    request = asked("queens-4 ..1.").request

    def score(answer: str) -> float:
        return solves(request, Completion(text=answer, finish_reason="stop", usage=Usage()))

    assert score("2413") == 1.0
    assert score("3142") == 0.0  # a solution, but not of this board
    assert score("2411") == score("hello") == score("24134") == 0.0


def test_the_halting_score_is_a_probability() -> None:
    entries = tuple(TokenLogprob(token="right", logprob=p) for p in (-3.0, -0.5))
    completion = Completion(text="1", finish_reason="stop", usage=Usage(), logprobs=entries)
    assert halting(asked().request, completion) == pytest.approx(np.exp(-0.5))
    with pytest.raises(InputError, match="top_logprobs"):
        halting(asked().request, replace(completion, logprobs=()))


def test_what_is_no_puzzle_is_refused_as_a_server_would() -> None:
    made = backend()
    for prompt in ("hello", "queens-4 ....", "queens-5 9...."):
        with pytest.raises(UpstreamRejected):
            asyncio.run(drawn(made, asked(prompt)))
    with pytest.raises(UpstreamRejected, match="single user message"):
        asyncio.run(drawn(made, replace(asked(), prefill="1")))
    tool = Tool(name="f", description="", parameters_json="{}")
    asking = asked()
    with pytest.raises(LacksCapability):
        asyncio.run(drawn(made, replace(asking, request=replace(asking.request, tools=(tool,)))))


def test_a_network_without_prior_cannot_be_sampled_from_it() -> None:
    with pytest.raises(InputError, match="no prior"):
        LatentBackend(network("none"), TASK, exploration=PRIOR)
    with pytest.raises(ConfigError, match="no prior"):
        roll_out(network("none"), TASK.parse(PROMPT)[None], [torch.Generator()], steps=1,
                 exploration=PRIOR)  # fmt: skip


def test_a_folder_reads_back_and_vouches_for_its_weights(tmp_path: Path) -> None:
    made = network()
    save_latent(made, TASK, tmp_path, {"steps": 0})
    read, task = load_latent(tmp_path)
    assert task == TASK
    for name, value in made.state_dict().items():
        assert torch.equal(read.state_dict()[name], value)
    served = LatentBackend.of_folder(tmp_path)
    assert text(asyncio.run(drawn(served, asked()))) == text(asyncio.run(drawn(backend(), asked())))
    weights = (tmp_path / "latent.pt").read_bytes()
    (tmp_path / "latent.pt").write_bytes(weights[:-1] + b"x")
    with pytest.raises(CorruptData, match="vouches"):
        load_latent(tmp_path)
    with pytest.raises(InputError, match=r"no latent\.json"):
        load_latent(tmp_path / "elsewhere")


def test_flops_are_the_multiply_adds_of_the_matrices() -> None:
    """Against torch's own counter of matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    made = network()
    cloud = torch.zeros(1, 5, 16)
    with FlopCounterMode(display=False) as counted:
        made.outer(cloud)
    # Its attention is counted where the kernel is one that it knows.
    attention = 4 * 5 * 5 * 16
    found = counted.get_total_flops()
    assert found in (block_flops(made.shape, 5), block_flops(made.shape, 5) - attention)
    with FlopCounterMode(display=False) as counted:
        roll_out(made, TASK.parse(PROMPT)[None], [torch.Generator()], steps=1, exploration=PRIOR)
    blocks = made.shape.transitions * (made.shape.inner_updates + 1)
    expected = step_flops(made.shape, TASK.shape)
    assert counted.get_total_flops() in (expected, expected - blocks * attention)


def test_a_folder_is_asked_like_any_other_model(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from suffice.cli.main import app

    save_latent(network(), TASK, tmp_path / "gram", {"steps": 0})
    asked = ["ask", PROMPT, "--embedded", str(tmp_path / "gram"), "--policy",
             "self_consistency:samples=3", "--answer-format", FORMAT, "--json"]  # fmt: skip
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert len(told["answer"]) == 5
    assert told["suffice"]["usage"]["completion_tokens"] == 3 * 4
