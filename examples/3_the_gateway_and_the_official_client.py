"""The gateway in front of an engine, asked with OpenAI's own client; the receipt says what it cost.

The engine plays recorded answers; put the address of your vLLM in its place.
"""

import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

from openai import OpenAI

from suffice.demo.engine import RecordedEngine
from suffice.demo.recorded import LARGE_MODEL, recorded_questions

QUESTION = recorded_questions("gsm")[0]

with RecordedEngine(LARGE_MODEL, [QUESTION]) as engine, socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    serve = [sys.executable, "-m", "suffice", "serve", "--upstream", engine.url, "--quiet"]
    gateway = subprocess.Popen([*serve, "--port", str(port), "--ledger", "none"])
    try:
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/ready")
                break
            except URLError:
                time.sleep(0.1)
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        answer = client.chat.completions.create(
            model="suffice/adaptive_consistency",
            messages=[{"role": "user", "content": QUESTION.prompt}],
            temperature=1.0,
            extra_body={"suffice": {"answer_format": "number"}},
        )
        receipt = answer.model_extra["suffice"]
        print(answer.choices[0].message.content, "| right:", QUESTION.reference)
        print(f"{receipt['samples_run']} samples, saved {receipt['saved']}: {receipt['why']}")
        print(f"the engine counted {engine.counted.completion_tokens} completion tokens")
    finally:
        gateway.terminate()
        gateway.wait()
