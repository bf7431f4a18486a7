"""GPT-2 in torch: weights, network, KV cache, sampler, runner. The only home of torch and transformers."""

from sluicegate.server.gpt2.cache import slots_that_fit
from sluicegate.server.gpt2.errors import NonFiniteError
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.gpt2.runner import TorchRunner

__all__ = ["NonFiniteError", "TorchRunner", "load_runner", "slots_that_fit"]
