"""Which shape of a model's size serves fastest at no higher loss? Predicted, not trained."""

from suffice import DesignConfig, design

for hardware in ("a100-40gb", "h100"):
    result = design(
        DesignConfig(
            like="meta-llama/Llama-3.2-1B",
            tokens=100e9,
            hardware=hardware,
            input_tokens=8192,
            output_tokens=1024,
        )
    )
    print(f"{hardware}: {result.headline()}")
    print(result.recommended.config())
