"""LoRA: low-rank adapters of weights, by PEFT where it can put them in, else by ours."""
