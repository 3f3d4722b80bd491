"""Anyone's samples become traces: what each kind of file says is kept, and nothing is made up.

`examples/own_samples` was written by lm_eval and inspect_ai themselves (scripts/make_eval_logs.py);
where a tool is installed, a fresh log of its own is read too.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from typer.testing import CliRunner  # noqa: E402

from suffice.cli.main import app  # noqa: E402
from suffice.core.errors import InputError, UnknownName  # noqa: E402
from suffice.evals.checker_guess import guess_checker  # noqa: E402
from suffice.evals.imports.columns import guess_columns, parse_columns  # noqa: E402
from suffice.evals.imports.detect import import_files  # noqa: E402
from suffice.evals.imports.found import ImportOptions  # noqa: E402
from suffice.evals.traces.files import read_traces, trace_set, write_traces  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "examples" / "own_samples"


def imported(*paths, kind=None, **options):
    found = import_files([Path(path) for path in paths], ImportOptions(**options), kind=kind)
    return trace_set(found.traces, found.information), list(found.notes)


def written(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        columns = {name: [row.get(name) for row in rows] for name in names}
        pa.parquet.write_table(pa.table(columns), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


ROWS = [
    {
        "qid": number,
        "question": f"What is {number} + 1?",
        "model": model,
        "response": f"It is {number + (model == 'large')}.",
        "target": str(number + 1),
        "input_tokens": 9,
        "output_tokens": 4 + number,
        "cost": 0.1,
    }
    for number in range(6)
    for model in ("small", "large")
]


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet", ".json", ".jsonl.gz"])
def test_a_table_is_read_whatever_its_file(tmp_path, ending):
    found, notes = imported(written(tmp_path / f"mine{ending}", ROWS))
    assert (len(found), len(found.questions), found.models) == (12, 6, ("small", "large"))
    assert found.datasets == ("mine",)
    large = found.arm == found.arm_index("large")
    assert (found.correct[large] == 1.0).all() and (found.correct[~large] == 0.0).all()
    assert found.questions[2].prompt == "What is 2 + 1?" and found.questions[2].reference == "3"
    assert found.questions[2].answer_format == "number"
    assert found.completion_tokens.tolist() == [4 + n for n in range(6) for _ in range(2)]
    assert found.information.token_counts == "unknown"  # who counted, the file does not say
    assert any("prompt = question" in line and "text = response" in line for line in notes)
    assert "not used: cost" in notes
    assert "checker: number (all 6 answers are numbers)" in notes


def test_columns_and_checker_can_be_told(tmp_path):
    rows = [
        {"a": "x", "b": "which?", "c": "(B) is it", "d": "b", "e": "m"},
        {"a": "y", "b": "who?", "c": "A", "d": "b", "e": "m"},
    ]
    path = written(tmp_path / "odd.csv", rows)
    told = parse_columns("question=a, prompt=b, text=c, reference=d, model=e")
    found, notes = imported(path, columns=told, checker="choice", dataset="odd one")
    assert found.correct.tolist() == [1.0, 0.0]
    assert found.questions[0].key == ("odd one", "x")
    assert "checker: choice, as told" in notes
    with pytest.raises(UnknownName, match="did you mean prompt"):
        parse_columns("promt=a")
    with pytest.raises(InputError, match="write FIELD=COLUMN"):
        parse_columns("prompt")
    with pytest.raises(InputError, match="has no column 'z' for text; it has a, b, c, d, e"):
        imported(path, columns={"text": "z"})


@pytest.mark.parametrize(
    ("names", "is_"),
    [
        (["prompt", "answer", "response", "model"], "reference"),  # beside what was said
        (["prompt", "answer", "correct", "model"], "answer"),
        (["prompt", "answer", "response", "correct", "model"], "answer"),
        (["prompt", "answer", "target", "model"], "answer"),
    ],
)
def test_a_column_named_answer_is_told_by_its_neighbours(names, is_):
    assert guess_columns(names, {}, "here")[is_] == "answer"


def test_samples_are_numbered_and_prompts_name_questions(tmp_path):
    rows = [{"prompt": p, "model": "m", "correct": c} for p in ("a", "b") for c in (1, 0, 1)]
    found, notes = imported(written(tmp_path / "t.csv", rows))
    assert found.count.tolist() == [[3], [3]] and found.correct.tolist() == [1, 0, 1] * 2
    assert [q.name for q in found.questions] == ["1", "2"]
    assert found.information.token_counts == "absent"
    assert np.isnan(found.completion_tokens).all()
    assert not any("no column holds the prompts" in line for line in notes)


def test_verdicts_of_a_file_stand_and_disagreement_is_not_hidden(tmp_path):
    rows = [
        {"id": 1, "prompt": "1+1?", "model": "m", "response": "2", "target": "2", "correct": "no"},
        {"id": 2, "prompt": "2+2?", "model": "m", "response": "4", "target": "4", "correct": "yes"},
    ]
    found, _ = imported(written(tmp_path / "t.csv", rows))
    assert found.correct.tolist() == [0.0, 1.0]
    assert [found.answer_of(row) for row in range(2)] == ["2", "4"]


def test_scores_between_right_and_wrong(tmp_path):
    rows = [{"id": n, "prompt": "q" * n, "model": "m", "score": s} for n, s in ((1, 0.4), (2, 1))]
    path = written(tmp_path / "t.jsonl", rows)
    assert imported(path)[0].correct.tolist() == [0.0, 1.0]
    found, _ = imported(path, right_from=0.4)
    assert found.correct.tolist() == [1.0, 1.0] and found.score[0] == 0.4
    with pytest.raises(InputError, match="from above 0 to 1"):
        ImportOptions(right_from=0.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a", "response": "b"}], "names no model: say --columns model=COLUMN"),
        ([{"prompt": "a", "model": "b"}], "neither answers nor verdicts"),
        (
            [{"prompt": "a", "model": "m", "correct": "perhaps"}],
            r"line 1: verdict 'perhaps' is no verdict",
        ),
        (
            [{"id": 1, "prompt": p, "model": "m", "correct": 1} for p in "ab"],
            "line 2: question '1' was there before with another prompt",
        ),
        (
            [{"prompt": "a", "model": "m", "response": "x", "tokens": "many"}],
            "line 1: completion_tokens 'many' is no number of tokens",
        ),
    ],
)
def test_wrong_rows_are_named_by_their_line(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        imported(written(tmp_path / "t.jsonl", rows))


def test_a_reference_that_is_not_one_number_is_refused_by_line(tmp_path):
    rows = [
        {"id": n, "prompt": f"{n}?", "model": "m", "response": "1", "target": target}
        for n, target in enumerate(("1", "12:30"))
    ]
    path = written(tmp_path / "t.jsonl", rows)
    with pytest.raises(InputError, match="line 2: answer '12:30' is not one number"):
        imported(path, checker="number")


def test_wrong_files_say_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        imported(tmp_path / "no.csv")
    odd = tmp_path / "t.xlsx"
    odd.write_bytes(b"x")
    with pytest.raises(InputError, match=r"give one of .*\.csv"):
        imported(odd)
    ragged = tmp_path / "t.csv"
    ragged.write_text("prompt,model,correct\na,m,1\nb,m\n")
    with pytest.raises(InputError, match="line 3: 2 cells, the head has 3"):
        imported(ragged)
    broken = tmp_path / "t.jsonl"
    broken.write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(InputError, match="line 2: not JSON"):
        imported(broken)
    with pytest.raises(InputError, match="holds no logs"):
        imported(tmp_path)
    with pytest.raises(UnknownName, match="did you mean table"):
        imported(broken, kind="tabel")
    (tmp_path / "e.eval").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"no \.eval log"):
        imported(tmp_path / "e.eval")


# --- matrices -----------------------------------------------------------------------------------


def matrix(tmp_path, questions=90, **more):
    rng = np.random.default_rng(3)
    rows = [
        {
            "sample_id": f"grade.{n}",
            "prompt": f"Question {n} about {'abc'[n % 3]}?",
            "eval_name": "grade",
            "mistral-7b": float(rng.random() < 0.7),
            "gpt-4": float(rng.random() < 0.98),
            "mistral-7b|total_cost": 0.0001,
            "gpt-4|total_cost": 0.01,
            "oracle_model_to_route_to": "mistral-7b",
        }
        | {name: value(n) for name, value in more.items()}
        for n in range(questions)
    ]
    return written(tmp_path / "matrix.csv", rows), rows


def test_a_matrix_of_verdicts_is_one_sample_a_model(tmp_path):
    path, rows = matrix(tmp_path)
    found, notes = imported(path)
    assert found.models == ("mistral-7b", "gpt-4") and len(found) == 2 * len(rows)
    assert found.questions[0].key == ("grade", "grade.0")
    for model in found.models:
        mine = found.correct[found.arm == found.arm_index(model)]
        assert mine.tolist() == [row[model] for row in rows]
    assert (found.answer == -1).all() and found.information.token_counts == "absent"
    assert any("verdicts of 2 models, one column each: mistral-7b, gpt-4" in n for n in notes)
    assert any("votes) cannot use these samples" in note for note in notes)


def test_a_matrix_may_bring_texts_and_leave_models_out(tmp_path):
    path, _ = matrix(
        tmp_path,
        questions=4,
        **{
            "gpt-4": lambda n: "" if n == 2 else 1,
            "gpt-4|model_response": lambda n: "" if n == 2 else f"it is {n}",
        },
    )
    found, _ = imported(path, checker="number")
    large = found.arm_index("gpt-4")
    assert found.count[:, large].tolist() == [1, 1, 0, 1]
    assert found.answer_of(found.rows(3, large).start) == "3"


# --- logs of other tools ------------------------------------------------------------------------


def lm_eval_logs(folder):
    found, notes = imported(*sorted(folder.rglob("samples_sums*.jsonl")))
    assert set(found.models) == {"made-up/large", "made-up/small"} and len(found) == 200
    assert found.datasets == ("sums",)
    for model, share in (("made-up/large", 0.97), ("made-up/small", 0.93)):
        rows = found.arm == found.arm_index(model)
        assert found.correct[rows].mean() == pytest.approx(share)
    first = found.trace(found.rows(0, found.arm_index("made-up/large")).start)
    assert first.question.prompt == "What is 10 + 3?" and first.question.reference == "13"
    assert first.text == "10 + 3 makes 14. The answer is 14." and first.answer == "14"
    assert first.completion_tokens is None and found.information.token_counts == "absent"
    assert any("verdict: exact_match of sums" in note for note in notes)
    choices, notes = imported(*sorted(folder.rglob("samples_nearby*.jsonl")))
    assert choices.questions[0].reference == "B"
    for row in range(len(choices)):
        assert (choices.answer_of(row) == "B") == (choices.correct[row] == 1.0)
    return found


def inspect_logs(folder):
    found, notes = imported(folder)
    assert set(found.models) == {"mockllm/large", "mockllm/small"} and len(found) == 200
    for model, share in (("mockllm/large", 0.97), ("mockllm/small", 0.93)):
        rows = found.arm == found.arm_index(model)
        assert found.correct[rows].mean() == pytest.approx(share)
    first = found.trace(found.rows(0, found.arm_index("mockllm/large")).start)
    assert first.question.key == ("sums", "sum-0") and first.question.prompt == "What is 10 + 3?"
    assert first.text == "10 + 3 makes 14. The answer is 14." and first.answer == "14"
    assert (first.prompt_tokens, first.completion_tokens) == (7, 9)
    assert found.information.token_counts == "engine"
    assert "verdict: scorer match" in notes
    return found


def test_lm_eval_logs():
    lm_eval_logs(LOGS / "lm_eval")


def test_inspect_logs():
    inspect_logs(LOGS / "inspect")


@pytest.mark.parametrize("tool", ["lm_eval", "inspect"])
def test_fresh_logs_of_the_installed_tools(tmp_path, tool):
    if find_spec({"inspect": "inspect_ai"}.get(tool, tool)) is None:
        pytest.skip(f"{tool} is not installed")
    script = ROOT / "scripts" / "make_eval_logs.py"
    subprocess.run([sys.executable, script, tmp_path, "--only", tool], check=True, timeout=240)
    {"lm_eval": lm_eval_logs, "inspect": inspect_logs}[tool](tmp_path / tool)


def test_lm_eval_prompts_of_chat_templates_filters_and_repeats(tmp_path):
    turns = json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "2+2?"}])
    base = {
        "doc_id": 0,
        "doc": {},
        "target": "worked out\n#### 4",
        "arguments": [[turns, {"until": []}]],  # as releases before 0.4.4 wrote them
        "resps": [["it is 4", "it is 5"]],
        "filtered_resps": ["4"],
        "exact_match": 1.0,
    }
    rows = [base | {"filter": "strict-match"}, base | {"filter": "flexible-extract"}]
    folder = tmp_path / "org__model-7b"
    folder.mkdir()
    path = written(folder / "samples_gsm8k_2026-01-02T03-04-05.123456.jsonl", rows)
    found, notes = imported(path)
    assert found.models == ("org/model-7b",) and found.datasets == ("gsm8k",)
    assert [turn.role for turn in found.questions[0].messages] == ["system", "user"]
    assert found.questions[0].reference == "4"
    # One verdict for two samples is nobody's own: the checker judges each.
    assert found.correct.tolist() == [1.0, 0.0]
    assert "filter of gsm8k: flexible-extract (also there: strict-match; --pick)" in notes


def test_inspect_logs_as_json_with_epochs_errors_attachments_and_reasoning(tmp_path):
    sample = {
        "id": 1,
        "epoch": 1,
        "input": "2+2?",
        "target": ["4"],
        "messages": [{"role": "user", "content": "attachment://abc"}],
        "attachments": {"abc": "a long prompt"},
        "output": {
            "model": "m",
            "choices": [
                {
                    "stop_reason": "max_tokens",
                    "message": {
                        "role": "assistant",
                        "content": [
                            {"type": "reasoning", "reasoning": "hm"},
                            {"type": "text", "text": "4"},
                        ],
                    },
                }
            ],
            "usage": {"input_tokens": 3, "input_tokens_cache_read": 5, "output_tokens": 2},
        },
        "scores": {"judge": {"value": 0.5}, "exact": {"value": "C", "answer": "4"}},
    }
    log = {
        "version": 2,
        "eval": {"task": "org/sums", "model": "a/b"},
        "samples": [sample, sample | {"epoch": 2}, sample | {"id": 2, "error": {"message": "x"}}],
    }
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    found, notes = imported(path, pick="exact")
    assert found.count.tolist() == [[2]] and found.datasets == ("sums",)
    trace = found.trace(0)
    assert trace.question.prompt == "a long prompt" and trace.reasoning_text == "hm"
    assert (trace.prompt_tokens, trace.completion_tokens) == (8, 2)
    assert trace.finish_reason == "length" and trace.correct is True
    assert "left out: 1 sample with an error" in notes
    graded, _ = imported(path, pick="judge")
    assert graded.correct.tolist() == [0.0, 0.0] and graded.score.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="no scorer is named 'x'"):
        imported(path, pick="x")


def test_files_of_several_kinds_are_imported_apart(tmp_path):
    table = written(tmp_path / "t.csv", ROWS)
    log = next((LOGS / "inspect").glob("*.eval"))
    with pytest.raises(InputError, match="several kinds"):
        imported(table, log)


# --- the guess of the checker -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("references", "checker"),
    [
        (["4", "1,000", "$3.50", "3/4"], "number"),
        (["A", "b", "(C)"], "choice"),
        (["A", "AC"], "choice"),
        (["A cat", "B"], "text"),
        (["4", "four o'clock"], "text"),
        (['{"a": 1}', "[1]"], "json"),
        (["Paris", "Rome"], "text"),
    ],
)
def test_the_checker_is_guessed_from_the_answers(references, checker):
    guess = guess_checker(references)
    assert guess is not None and guess.checker == checker


def test_a_guess_says_what_spoils_it():
    guess = guess_checker(["1"] * 9 + ["n/a"])
    assert guess is not None and "9 of 10 answers are a number, 'n/a' is not" in guess.why
    assert guess_checker([]) is None
    formulas = guess_checker(["x^2", "\\frac{1}{x}", "y"])
    assert formulas is not None and "--checker math" in formulas.why


def test_what_was_imported_is_written_and_read_back(tmp_path):
    path = written(tmp_path / "t.csv", ROWS)
    found = import_files([path], ImportOptions())
    out = tmp_path / "t.parquet"
    write_traces(out, found.traces, found.information)
    assert len(read_traces(out)) == len(ROWS)


# --- imported, then calibrated ------------------------------------------------------------------


def certified(tmp_path, monkeypatch, sources, models, *more):
    """The commands of docs/import.md: import, then calibrate; the policy file's text."""
    monkeypatch.chdir(tmp_path)
    small, large = models
    runner = CliRunner()
    done = runner.invoke(app, ["traces", "import", *map(str, sources), "--out", "t.parquet", *more])
    assert done.exit_code == 0, done.output
    words = ["--baseline", f"single@{large}", "--price", f"{small}=1/1", "--price", f"{large}=4/4"]
    words += ["--max-drop", "12%", "--confidence", "0.9", "--out", "policy.json"]
    done = runner.invoke(app, ["calibrate", "t.parquet", *words])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(Path("policy.json").read_text())


@pytest.mark.parametrize("tool", ["lm_eval", "inspect", "csv", "matrix"])
def test_what_was_imported_can_be_calibrated(tmp_path, monkeypatch, tool):
    more = []
    if tool == "lm_eval":
        sources = sorted((LOGS / "lm_eval").rglob("samples_sums*.jsonl"))
        models = ("made-up/small", "made-up/large")
    elif tool == "inspect":
        sources, models = [LOGS / "inspect"], ("mockllm/small", "mockllm/large")
    elif tool == "csv":
        sources, models = [LOGS / "answers.csv"], ("small", "large")
    else:
        sources, models = [LOGS / "verdicts.csv"], ("small", "large")
    policy = certified(tmp_path, monkeypatch, sources, models, *more)
    assert set(models) <= set(json.dumps(policy).replace('"', " ").replace("@", " ").split())
