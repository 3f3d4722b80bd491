"""vLLM replicas under Ray Serve, scaled by load, behind one OpenAI address.

pip install 'ray[serve,llm]', then on the head node: python ray_serve_vllm.py
In front of it: suffice serve --config suffice-ray.toml
"""

from __future__ import annotations

from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

CONFIG = LLMConfig(
    model_loading_config={"model_id": "qwen3-8b", "model_source": "Qwen/Qwen3-8B"},
    deployment_config={
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 64},
        # Samples of one conversation share their prompt: they belong where its cache is.
        "request_router_config": {
            "request_router_class": ("ray.serve.llm.request_router.PrefixCacheAffinityRouter"),
        },
    },
    engine_kwargs={"enable_prefix_caching": True, "max_model_len": 32768},
)

if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": 8000})
    serve.run(build_openai_app({"llm_configs": [CONFIG]}), blocking=True)
