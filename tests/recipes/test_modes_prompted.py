"""A gate on a frozen pretrained model: its answers are transformers' own, the run resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import ConfigError, InputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.recipes.modes.prompted import PromptedMode, PromptedTraining  # noqa: E402
from suffice.training.modes.prompted import continue_prompts  # noqa: E402

pytestmark = pytest.mark.torch
TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% if enable_thinking is defined and "
    "enable_thinking %}{{ 'think ' }}{% endif %}{% endif %}"
)
WORDS = ["<unk>", "<end>", "user", "assistant", "system", "think", "=", "+", *map(str, range(24))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama with a chat template, as transformers writes it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", unk_token="<unk>", pad_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, vocab_size=len(WORDS), max_position_embeddings=128,
            bos_token_id=None, eos_token_id=1, pad_token_id=0, initializer_range=0.5,
        )
    )  # fmt: skip
    out = tmp_path_factory.mktemp("model")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def test_responses_states_and_surprise_are_those_of_single_prompts(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = [[2, 9, 9, 4], [2, 9, 9, 4, 7, 8], [2, 9, 9, 12, 13], [2, 9, 9, 4]]
    found = continue_prompts(
        model, prompts, ends=frozenset({1, 20}), max_tokens=12, temperature=0.0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert found.ids[0] == found.ids[3]
    for n, prompt in enumerate(prompts):
        said = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=12, eos_token_id=[1, 20]
        )[0, len(prompt) :].tolist()
        assert found.ids[n] == (said[:-1] if found.ended[n] else said)
        assert found.tokens[n] == len(said)
        with torch.no_grad():
            out = model(torch.tensor([prompt + said]), output_hidden_states=True)
        state = out.hidden_states[-1][0, len(prompt) - 1]
        torch.testing.assert_close(found.state_BD[n], state, atol=1e-4, rtol=1e-4)
        logprob = out.logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        surprise = -sum(float(logprob[t, token]) for t, token in enumerate(said))
        assert found.surprise[n] == pytest.approx(surprise, abs=1e-3)


def test_a_run_writes_its_table_asks_once_and_goes_on(folder: Path, tmp_path: Path) -> None:
    # What the random model says at once is made right for odd questions, its thought for even ones.
    from suffice.recipes.modes.prompted import _Model
    from suffice.tasks.puzzles import Problem

    short = PromptedMode(examples=(("1 + 1 =", "2"),), max_tokens=4)
    think = PromptedMode(instruction="think", examples=(("1 + 1 =", "+ 2"),), max_tokens=8)
    config = PromptedTraining(
        model=str(folder), problems="p", short=short, think=think, answer_format="text"
    )
    asked = [
        Problem(task="t", difficulty=1, prompt=f"{n % 20} + {n // 20} =", answer="?")
        for n in range(400)
    ]
    said = zip(asked, _Model(config, "cpu").answers(asked, 0), strict=True)
    whole = [
        (p, r["short"]["text"], r["think"]["text"])
        for p, r in said
        if 0 < r["short"]["tokens"] < 4 and 0 < r["think"]["tokens"] < 8
    ]
    lines = [
        {"prompt": p.prompt, "answer": once if n % 2 else thought}
        for n, (p, once, thought) in enumerate(
            row for row in whole if row[1] and row[2] and row[1] != row[2]
        )
    ]
    assert len(lines) >= 24
    problems, toml, out = tmp_path / "p.jsonl", tmp_path / "gate.toml", tmp_path / "gate"
    problems.write_text("".join(json.dumps(line) + "\n" for line in lines))
    toml.write_text(
        f"model = {str(folder)!r}\nproblems = {str(problems)!r}\nanswer_format = 'text'\n"
        "batch = 8\nprices = [0.02]\n"
        "[short]\nmax_tokens = 4\nexamples = [['1 + 1 =', '2']]\n"
        "[think]\nmax_tokens = 8\ninstruction = 'think'\nexamples = [['1 + 1 =', '+ 2']]\n"
    )
    verb = ["train", "modes", "--config", str(toml), "--out", str(out)]
    done = CliRunner().invoke(app, verb)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "always-think" in done.output
    found = json.loads((out / "modes.json").read_text())
    assert found["comparison"]["lead"] == "gate"
    assert len(found["at_prices"]) == 1
    assert len(json.loads((out / "gate.json").read_text())["weight"]) == 32
    assert len((out / "answers.jsonl").read_text().splitlines()) == len(lines)
    # A lost batch is asked again and nothing else; the result is the same.
    (out / "work" / "answers-00008.json").unlink()
    again = CliRunner().invoke(app, verb)
    assert again.output.count("answers ·") == 1
    assert json.loads((out / "modes.json").read_text()) == found
    # Another price takes the answers that are there, without the model.
    toml.write_text(toml.read_text().replace("prices = [0.02]", "prices = [0.02, 0.05]"))
    (folder / "config.json").rename(folder / "away.json")
    priced = CliRunner().invoke(app, verb)
    (folder / "away.json").rename(folder / "config.json")
    assert priced.exit_code == 0, (priced.output, priced.exception)
    more = json.loads((out / "modes.json").read_text())
    assert len(more["at_prices"]) == 2
    assert more["comparison"] == found["comparison"]
    refused = CliRunner().invoke(app, [*verb, "--method", "grpo"])
    assert isinstance(refused.exception, InputError)
    assert "--method: not of a gate" in str(refused.exception)
    other = CliRunner().invoke(app, [*verb, "--seed", "5"])
    assert isinstance(other.exception, ConfigError)


def test_ways_of_asking_that_cannot_work(folder: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to choose"):
        PromptedTraining(model="m", problems="p", short=PromptedMode(), think=PromptedMode())
    from suffice.recipes.modes.prompted import _Model

    both = {
        "short": PromptedMode(enable_thinking=False),
        "think": PromptedMode(enable_thinking=True),
    }
    model = _Model(PromptedTraining(model=str(folder), problems="p", **both), "cpu")
    assert model._text(both["think"], "1").endswith("think ")
    model.tokenizer.chat_template = TEMPLATE.replace("enable_thinking is defined and", "false and")
    with pytest.raises(ConfigError, match="enable_thinking changes nothing"):
        model._check_switch()
    with pytest.raises(InputError, match="no model folder"):
        _Model(PromptedTraining(model="/nowhere", problems="p", **both), "cpu")
