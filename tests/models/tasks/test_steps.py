"""Steps of a model of states: when its graphs are made anew. The graphs themselves are tried in tests/gpu."""

from __future__ import annotations

import torch

from compresskit.models.mamba.adapters import put_adapters
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.tasks import steps
from compresskit.models.tasks.causal_memory import read
from tests.models.mamba.small import ids, small


def test_what_a_graph_takes_for_granted() -> None:
    """It changes with where weights lie, with adapters that are off or merged, and with the numbers; else it stays."""
    model = small()
    use_own_mixers(model)
    seen = [list(steps.told(model))]
    lora = put_adapters(model, rank=2, alpha=4.0)
    seen.append(list(steps.told(model)))
    lora.disable_adapter_layers()
    seen.append(list(steps.told(model)))
    lora.enable_adapter_layers()
    assert list(steps.told(model)) == seen[1]
    lora.merge_adapter()
    seen.append(list(steps.told(model)))
    with torch.no_grad():
        model.backbone.norm_f.weight.mul_(2)  # in place
    assert list(steps.told(model)) == seen[-1]
    with torch.autocast("cpu", torch.bfloat16):
        seen.append(list(steps.told(model)))
    assert list(steps.told(model)) == seen[-2]
    assert all(one != two for number, one in enumerate(seen) for two in seen[:number])


def test_on_a_cpu_a_step_is_a_pass() -> None:
    model = small()
    use_own_mixers(model)
    tokens = ids(3, 7)
    with torch.no_grad():
        caches = [model(tokens, use_cache=True).cache_params for _ in range(2)]
        for _ in range(2 * steps.WORTH):
            more = ids(3, 1)
            found = steps.steps_of(model, read).step(caches[0], more[:, 0])
            assert torch.equal(found, read(model, caches[1], more))
