"""How many GPUs does a model need for a load and its limits, and what do they cost?"""

from suffice import SizeConfig, size

LOAD = {
    "rate_per_s": 10,
    "input_tokens": 2000,
    "output_tokens": 400,
    "cached_prompt": 0.3,
    "max_ttft_s": 1.0,
    "max_tpot_s": 0.04,
}

# One machine: what fits, how fast it is, how many replicas keep the limits for 95 % of requests.
best = size(SizeConfig(model="meta-llama/Llama-3.1-70B", hardware="h200", **LOAD)).best
confirmed = best.confirmed
assert confirmed is not None
print(f"{best.devices} x h200, {best.replicas} replicas")
print(f"  a replica holds {best.largest_batch} requests, {best.batch:.0f} run on average")
print(f"  95 % of requests: first token within {best.ttft_within_s:.2f} s")
print(f"  95 % of requests: a token every {best.tpot_within_s * 1e3:.1f} ms")
print(f"  simulated: {confirmed.share_within_ttft:.1%} in time for the first token")
print(f"  ${best.usd_per_million_tokens:.2f} per million output tokens")
print(f"  {best.command}")

# The same question over every embedded machine: those that keep the limits, the cheapest first.
print()
for answer in size(SizeConfig(model="gpt-oss-120b", **LOAD)).answers:
    if answer.meets:
        name = answer.serving.hardware.name
        print(
            f"{name:14} {answer.devices:2} GPUs  ${answer.usd_per_million_tokens:.2f} per million"
        )

# Weights that are stored in fewer bits leave room for more requests, and stream faster.
print()
for weights in ("bf16", "fp8", "fp4"):
    fewer = size(
        SizeConfig(model="meta-llama/Llama-3.1-70B", hardware="b200", weight_dtype=weights, **LOAD)
    ).best
    print(f"b200, {weights}: {fewer.devices} GPUs")
