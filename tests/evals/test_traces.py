"""Trace files: what goes in comes out, a kill loses one group, wrong files say what is wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from suffice.core.errors import CorruptData, InputError, UnknownName  # noqa: E402
from suffice.evals.traces.columns import METADATA_KEY, TraceInformation, table_of  # noqa: E402
from suffice.evals.traces.files import (  # noqa: E402
    TraceWriter,
    of_questions,
    parts_folder,
    read_information,
    read_traces,
    subset,
    trace_set,
    write_traces,
)
from suffice.evals.traces.summary import summarise  # noqa: E402
from suffice.evals.traces.trace_set import Arm, Question, Trace, messages_json  # noqa: E402
from tests.calls import calls  # noqa: E402


def question(name="q", **rest):
    return Question(dataset="d", name=name, messages_json=messages_json(f"ask {name}"), **rest)


def some(questions=3, models=("a", "b"), samples=4):
    """Traces with every field, some of them absent."""
    rng = np.random.default_rng(1)
    for q in range(questions):
        asked = question(f"q{q}", reference=str(q), answer_format="number", category=None)
        for model in models:
            for sample in range(samples):
                length = sample * 3
                yield Trace(
                    question=asked,
                    model=model,
                    mode="think" if model == "b" else "answer",
                    sample=sample,
                    text=f"é{q} {sample}",
                    reasoning_text="hm" if model == "b" else None,
                    finish_reason="length" if sample == 1 else "stop",
                    prompt_tokens=None if model == "b" else 7,
                    completion_tokens=length,
                    answer=None if sample == 1 else str(q + sample % 2),
                    correct=None if sample == 2 else sample % 2 == 0,
                    score=0.25 * sample if model == "a" else None,
                    tokens=tuple("é x"[i % 3] for i in range(length)),
                    logprobs=-rng.random(length).astype(np.float16),
                    confidences=rng.random(length).astype(np.float16),
                    ttft_s=0.5,
                    sampling_json='{"temperature":0.8}',
                )


def same(a: Trace, b: Trace) -> bool:
    halves = ("logprobs", "confidences")
    plain = [name for name in Trace.__dataclass_fields__ if name not in halves]
    return all(getattr(a, name) == getattr(b, name) for name in plain) and all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in halves
    )


def test_a_file_gives_back_what_was_written_in_any_order(tmp_path):
    written = list(some())
    shuffled = random.Random(0).sample(written, len(written))
    path = tmp_path / "t.parquet"
    write_traces(path, shuffled, TraceInformation(licence="CC0-1.0", server="fake 1"))
    found = read_traces(path)
    assert len(found) == len(written)
    by_key = {trace.key: trace for trace in written}
    assert all(same(trace, by_key[trace.key]) for trace in found)
    assert found.information.licence == "CC0-1.0"
    assert found.digest == read_information(path).digest
    rows = [(found.question[i], found.arm[i], found.sample[i]) for i in range(len(found))]
    assert rows == sorted(rows)


def test_rows_of_a_question_under_an_arm_are_one_slice():
    found = trace_set(some())
    assert found.arms == (Arm("a", "answer"), Arm("b", "think"))
    assert found.count.tolist() == [[4, 4]] * 3
    arm = found.arm_index("b")
    for q in range(3):
        rows = found.rows(q, arm)
        assert found.sample[rows].tolist() == [0, 1, 2, 3]
        assert [found.answer_of(row) for row in range(rows.start, rows.stop)] == [
            str(q),
            None,
            str(q),
            str(q + 1),
        ]
    assert np.isnan(found.correct[2]) and np.isnan(found.prompt_tokens[4])
    assert found.confidences.lengths[:4].tolist() == [0, 3, 6, 9]
    with pytest.raises(UnknownName, match="recorded: a, b/think"):
        found.arm_index("c")


def test_unequal_counts_and_holes_are_kept():
    kept = [t for t in some() if not (t.question.name == "q1" and t.model == "a")]
    found = trace_set(kept[2:])
    assert found.count.tolist() == [[2, 4], [0, 4], [4, 4]]
    assert found.rows(1, 0).start == found.rows(1, 0).stop
    assert found.complete_questions([0, 1]).tolist() == [0, 2]
    assert found.complete_questions([0], least=4).tolist() == [2]


def test_subsets_are_sets():
    found = trace_set(some())
    half = of_questions(found, [2, 0])
    assert [q.name for q in half.questions] == ["q0", "q2"]
    assert len(subset(found, found.arm == 0)) == 12
    assert half.digest != found.digest
    with pytest.raises(InputError, match="not one trace"):
        subset(found, found.arm == 9)


def test_digest_depends_on_content_not_on_groups(tmp_path):
    written = list(some())
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    write_traces(one, sorted(written, key=lambda t: t.key))
    with TraceWriter(many, TraceInformation(), group_rows=5) as writer:
        for trace in sorted(written, key=lambda t: t.key):
            writer.add(trace)
    assert pa.parquet.ParquetFile(many).num_row_groups > 1
    assert read_traces(one).digest == read_traces(many).digest
    other = [*written[:-1], replace(written[-1], correct=True)]
    write_traces(one, sorted(other, key=lambda t: t.key))
    assert read_traces(one).digest != read_traces(many).digest


def test_a_writer_goes_on_where_another_stopped(tmp_path):
    path = tmp_path / "t.parquet"
    written = list(some())
    with pytest.raises(KeyboardInterrupt), TraceWriter(path, TraceInformation()) as writer:
        for trace in written[:7]:
            writer.add(trace)
        raise KeyboardInterrupt
    assert not path.exists()
    with pytest.raises(InputError, match="unfinished recording"):
        read_traces(path)
    with TraceWriter(path, TraceInformation()) as writer:
        assert writer.known == {trace.key for trace in written[:7]}
        for trace in written[7:12]:
            writer.add(trace)
    assert len(read_traces(path)) == 12
    with TraceWriter(path, TraceInformation()) as writer:  # and goes on with a finished file
        with pytest.raises(InputError, match="in the set already"):
            writer.add(written[0])
        for trace in written[12:]:
            writer.add(trace)
    assert len(read_traces(path)) == len(written)
    assert not parts_folder(path).exists()
    before = path.read_bytes()
    with TraceWriter(path, TraceInformation()):
        pass
    assert path.read_bytes() == before


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_traces import some
from suffice.evals.traces.files import TraceWriter
from suffice.evals.traces.columns import TraceInformation
with TraceWriter(Path({path!r}), TraceInformation(), group_rows=10) as writer:
    for n, trace in enumerate(some(questions=5)):
        writer.add(trace)
        if n == 24:
            print("there", flush=True)
            import time
            time.sleep(60)
"""


def test_a_kill_loses_the_current_group_only(tmp_path):
    path = tmp_path / "t.parquet"
    code = KILLED.format(tests=os.path.dirname(__file__), path=str(path))  # noqa: PTH120
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with TraceWriter(path, TraceInformation(), group_rows=10) as writer:
        assert len(writer.known) == 20
        for trace in some(questions=5):
            if trace.key not in writer.known:
                writer.add(trace)
    assert len(read_traces(path)) == 40


def test_wrong_files_say_what_is_wrong(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(InputError, match="does not exist"):
        read_traces(path)
    with pytest.raises(InputError, match="is a folder"):
        read_traces(tmp_path)
    mine = tmp_path / "mine.jsonl"
    mine.write_text("{}\n")
    with pytest.raises(InputError, match=r"import it first: suffice traces import .*mine"):
        read_traces(mine)
    path.write_text("question,answer\n")
    with pytest.raises(InputError, match="no Parquet file or is cut short"):
        read_traces(path)
    table = table_of(list(some()))
    pa.parquet.write_table(table, path)
    with pytest.raises(InputError, match="Parquet but no trace file"):
        read_traces(path)
    described = TraceInformation().model_dump_json().encode()
    later = described.replace(b'"schema_version":1', b'"schema_version":2')
    pa.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: later}), path)
    with pytest.raises(InputError, match=r"schema_version.*reads schema version 1"):
        read_traces(path)
    ours = table.replace_schema_metadata({METADATA_KEY: described})
    pa.parquet.write_table(ours.drop_columns(["correct", "text"]), path)
    with pytest.raises(InputError, match="lacks the columns text, correct"):
        read_traces(path)
    at = ours.schema.get_field_index("sample")
    pa.parquet.write_table(ours.set_column(at, "sample", ours["sample"].cast("string")), path)
    with pytest.raises(InputError, match="string in column sample, int32 is needed"):
        read_traces(path)
    pa.parquet.write_table(ours.slice(0, 0), path)
    with pytest.raises(InputError, match="not one trace"):
        read_traces(path)
    pa.parquet.write_table(ours, path)
    assert len(read_traces(path)) == len(table)  # written by others, without a digest


def test_truncated_and_altered_files_are_found_out(tmp_path):
    path = tmp_path / "t.parquet"
    write_traces(path, some())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_traces(path)
    path.write_bytes(whole)
    table = pa.parquet.read_table(path)
    altered = table.set_column(
        table.schema.get_field_index("correct"), "correct", pa.array([True] * len(table))
    )
    footer = {METADATA_KEY: read_information(path).model_dump_json()}
    pa.parquet.write_table(altered.replace_schema_metadata(footer), path)
    with pytest.raises(CorruptData, match="differs from the digest"):
        read_traces(path)
    assert read_traces(path, check=False).correct.all()


def test_contradicting_sets_are_refused(tmp_path):
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    asked = question(reference="4")
    write_traces(one, [Trace(question=asked, model="m", sample=0)])
    write_traces(two, [Trace(question=replace(asked, reference="5"), model="m", sample=1)])
    with pytest.raises(InputError, match="two different values of reference"):
        read_traces([one, two])
    with pytest.raises(InputError, match="has sample 0 twice"):
        read_traces([one, one])
    write_traces(two, [Trace(question=asked, model="m", sample=1)])
    both = read_traces([two, one])
    assert both.sample.tolist() == [0, 1]
    assert both.digest == read_traces([one, two]).digest != read_traces(one).digest


def test_what_is_no_trace_file_says_what_to_do(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "2+2?", "answer": "4"}\n')
    with pytest.raises(InputError, match=r"record or import it first: suffice traces import"):
        read_traces(file)


def test_rows_are_read_by_columns(tmp_path):
    """Ten times the rows of as many questions take less than a call for each."""
    asked = [question(f"q{q}") for q in range(30)]
    counts = []
    for samples in (10, 100):
        path = tmp_path / f"{samples}.parquet"
        rows = (
            Trace(question=each, model="m", sample=n, answer=str(n % 7), correct=True)
            for each in asked
            for n in range(samples)
        )
        write_traces(path, rows)
        with calls() as made:
            found = read_traces(path)
        assert found.count.tolist() == [[samples]] * 30
        counts.append(len(made))
    assert counts[1] - counts[0] < 30 * 90


def test_texts_stay_in_the_file_until_they_are_asked_for(tmp_path):
    """Bytes are counted, not time: under 200 a row, whatever the length of texts and prompts."""
    path = tmp_path / "t.parquet"
    asked = [
        Question(dataset="d", name=f"q{q}", messages_json=messages_json("why? " * 400))
        for q in range(20)
    ]
    rows = (
        Trace(
            question=asked[n % 20],
            model="m",
            sample=n // 20,
            text="because " * 500,
            answer=str(n % 7),
            correct=True,
            confidences=np.ones(50, np.float16),
        )
        for n in range(4000)
    )
    write_traces(path, rows)
    found = read_traces(path)
    summarise(found)
    arrays = [getattr(found, name) for name in found.__slots__]
    arrays += [found.logprobs.offsets, found.confidences.offsets]
    kept = sum(array.nbytes for array in arrays if hasattr(array, "nbytes"))
    assert kept / len(found) < 200
    assert found._rows._columns == {}  # nothing was read but numbers and names
    assert found.text_of(7).startswith("because") and set(found._rows._columns) == {"text"}
    assert found.confidences.row(3).tolist() == [1.0] * 50


def test_a_file_that_is_written_anew_while_it_is_open_changes_nothing(tmp_path):
    path = tmp_path / "t.parquet"
    write_traces(path, some())
    found = read_traces(path)
    write_traces(path, [replace(next(iter(some())), text="another")])
    assert [found.text_of(row) for row in range(len(found))] == [
        trace.text for trace in sorted(some(), key=lambda trace: trace.key)
    ]


def test_what_is_recorded_is_its_owners_alone(tmp_path):
    """Prompts and answers are in it, in the parts of an unfinished recording too."""
    old = os.umask(0o022)
    try:
        path = tmp_path / "t.parquet"
        with pytest.raises(KeyboardInterrupt), TraceWriter(path, TraceInformation()) as writer:
            writer.add(next(some()))
            writer.flush()
            parts = parts_folder(path)
            assert parts.stat().st_mode & 0o777 == 0o700
            assert {part.stat().st_mode & 0o777 for part in parts.iterdir()} == {0o600}
            raise KeyboardInterrupt
        path = tmp_path / "whole.parquet"
        write_traces(path, some(), TraceInformation())
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o640)  # someone wants it so
        with TraceWriter(path, TraceInformation()) as writer:
            writer.add(next(some(questions=9, models=("c",))))
        assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)
